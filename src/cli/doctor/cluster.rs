//! The cluster as our client sees it: reachable, allowed, with a place for volumes, and images that
//! this host's mapper can carry.

use super::{failed, ok, warning};
use crate::ceph::{
    Cluster, ClusterError, ClusterErrorKind, ClusterStatus, PlacementGroups, PoolUsage,
    Result as ClusterResult,
};
use crate::config::{CephAccess, Home, Settings};
use crate::service::Finding;
use crate::volume::{Location, SubvolumeSpec};

/// More images than this are not opened one by one.
const MOST_IMAGES: usize = 200;

/// Asks one question after the other; the first that shows the cluster away is the last.
pub(super) fn examine(
    cluster: &dyn Cluster,
    settings: &Settings,
    carried: Option<&[String]>,
) -> Vec<Finding> {
    let status = cluster.status();
    let reached = status.is_ok();
    let mut findings = vec![check_status(&status, &settings.ceph)];
    if !reached {
        return findings;
    }
    let home = Location::from(&settings.home);
    findings.extend(check_caps(&cluster.own_caps(), &settings.ceph.client_id, &settings.home));
    findings.extend(check_groups(&cluster.placement_groups()));
    findings.push(check_pool(&cluster.pool_usage(&home.pool), &home.pool));
    findings.push(check_home(&cluster.image_list(&home), &settings.home));
    findings.extend(examine_images(cluster, &home, carried));
    let file_systems = cluster.file_systems().unwrap_or_default();
    findings.extend(file_systems.iter().filter_map(|fs| {
        check_subvolumes(&cluster.groups(&fs.name), &fs.name, &settings.ceph.client_id)
    }));
    findings.extend(file_systems.iter().filter_map(|fs| {
        // Nothing is called so: whether the question is allowed is what is asked.
        let nobody = SubvolumeSpec {
            fs: fs.name.clone(),
            group: "docker".to_owned(),
            subvolume: "docker-volume-ceph.doctor".to_owned(),
        };
        check_folder_snapshots(&cluster.subvolume_snapshot_list(&nobody), &settings.ceph.client_id)
    }));
    findings
}

fn check_status(status: &ClusterResult<ClusterStatus>, ceph: &CephAccess) -> Finding {
    let check = "cluster";
    match status {
        Ok(ClusterStatus { fsid, health, release }) => {
            let detail = format!("{fsid} answers: {health}, Ceph {release}");
            match &health[..] {
                "HEALTH_ERR" => warning(check, detail, "see ceph health detail"),
                _ => ok(check, detail),
            }
        }
        Err(error) => failed(check, error.to_string(), advice_for(error, ceph)),
    }
}

fn advice_for(error: &ClusterError, ceph: &CephAccess) -> String {
    match error.kind {
        ClusterErrorKind::Unreachable => format!(
            "see that the monitors of {} run and that this host reaches their ports 3300 and 6789",
            ceph.conf.display()
        ),
        ClusterErrorKind::Denied => format!(
            "compare the keyring with ceph auth get client.{} on a host of the cluster; a clock \
             that is wrong by hours is denied as well",
            ceph.client_id
        ),
        ClusterErrorKind::Fenced => "this client is on the blocklist; ask again".to_owned(),
        _ => "see the findings above; a key or a configuration that is damaged shows like this"
            .to_owned(),
    }
}

/// What the client may do, where it may know: `profile rbd` does not let it look.
fn check_caps(
    caps: &ClusterResult<Vec<(String, String)>>,
    client_id: &str,
    home: &Home,
) -> Option<Finding> {
    let caps = caps.as_ref().ok()?;
    let of = |daemon: &str| caps.iter().find(|(of, _)| of == daemon).map(|(_, caps)| &caps[..]);
    let allowed = |caps: &str| {
        caps.contains("profile rbd") || caps.contains("allow *") || caps == "allow rwx"
    };
    let missing: Vec<_> = ["mon", "osd"]
        .into_iter()
        .filter(|daemon| !of(daemon).is_some_and(allowed))
        .map(|daemon| format!("{daemon}: {:?}", of(daemon).unwrap_or_default()))
        .collect();
    if missing.is_empty() {
        return Some(ok("capabilities", format!("client.{client_id} may do what is needed")));
    }
    let detail = format!("client.{client_id} has too few: {}", missing.join(", "));
    Some(failed("capabilities", detail, caps_command(client_id, home)))
}

fn caps_command(client_id: &str, Home { pool, namespace }: &Home) -> String {
    let namespace = match &namespace[..] {
        "" => String::new(),
        name => format!(" namespace={name}"),
    };
    format!(
        "ceph auth caps client.{client_id} mon 'profile rbd' osd 'profile rbd pool={pool}{namespace}'"
    )
}

/// Whether every part of the data is served, where the client may ask the manager: `profile rbd`
/// does not let it.
fn check_groups(groups: &ClusterResult<PlacementGroups>) -> Option<Finding> {
    let check = "placement groups";
    match groups {
        Ok(PlacementGroups { total, active }) if active < total => {
            let detail = format!("{active} of {total} are active: IO to the others waits");
            Some(failed(check, detail, "see ceph pg dump_stuck and ceph osd tree"))
        }
        Ok(PlacementGroups { total, .. }) => Some(ok(check, format!("all {total} are active"))),
        Err(error) if error.kind == ClusterErrorKind::Denied => None,
        Err(error) => Some(warning(check, error.to_string(), "see ceph -s")),
    }
}

fn check_pool(usage: &ClusterResult<PoolUsage>, pool: &str) -> Finding {
    let check = "pool";
    match usage {
        Ok(PoolUsage { full: true, .. }) => {
            let advice = "add OSDs, remove data, or raise the quota: all writes wait until then";
            failed(check, format!("{pool} is full"), advice)
        }
        Ok(PoolUsage { free, used, .. }) => {
            ok(check, format!("{pool} has {free} free, {used} in use"))
        }
        Err(error) if error.kind == ClusterErrorKind::NotFound => {
            let advice = format!("ceph osd pool create {pool} && rbd pool init {pool}");
            failed(check, format!("there is no pool {pool}"), advice)
        }
        Err(error) => warning(check, error.to_string(), "ask again, or see ceph df"),
    }
}

fn check_home(images: &ClusterResult<Vec<String>>, home: &Home) -> Finding {
    let (check, at) = ("home", Location::from(home).to_string());
    match images {
        Ok(images) => ok(check, format!("{at} can be read: {} images", images.len())),
        Err(error) if error.kind == ClusterErrorKind::NotFound => {
            failed(check, format!("there is no {at}"), format!("rbd namespace create {at}"))
        }
        Err(error) if error.kind == ClusterErrorKind::Denied => {
            let advice = "the client's capabilities name another pool or namespace: ceph auth get \
                          shows them";
            failed(check, error.to_string(), advice)
        }
        Err(error) => failed(check, error.to_string(), "see ceph -s"),
    }
}

/// Opens the images of the home one by one, and finds those that have more features than this
/// host's mapper carries; `None`: it carries all.
fn examine_images(
    cluster: &dyn Cluster,
    home: &Location,
    carried: Option<&[String]>,
) -> Option<Finding> {
    let names = cluster.image_list(home).ok()?;
    let features = names.iter().take(MOST_IMAGES).filter_map(|name| {
        let image = home.image(name);
        let info = cluster.image_info(&image).ok()?;
        Some((image.to_string(), info.features))
    });
    check_features(&features.collect::<Vec<_>>(), carried?)
}

fn check_features(images: &[(String, Vec<String>)], carried: &[String]) -> Option<Finding> {
    let mut commands = images.iter().filter_map(|(image, features)| {
        let odd: Vec<_> =
            features.iter().filter(|of| !carried.contains(of)).map(String::as_str).collect();
        (!odd.is_empty()).then(|| format!("rbd feature disable {image} {}", odd.join(" ")))
    });
    let first = commands.next()?;
    let commands: Vec<_> = std::iter::once(first).chain(commands).collect();
    let detail = format!("{} images have features that krbd does not map", commands.len());
    let advice = format!("use the mapper nbd, or:\n{}", commands.join("\n"));
    Some(warning("image features", detail, advice))
}

/// Whether subvolumes of a file system can be managed: volumes of the type `cephfs` need it, and no
/// others. None of a file system that was removed and whose pools are still there.
fn check_subvolumes(
    groups: &ClusterResult<Vec<String>>,
    fs: &str,
    client_id: &str,
) -> Option<Finding> {
    let check = "cephfs";
    match groups {
        Ok(_) => Some(ok(check, format!("client.{client_id} may manage subvolumes of {fs}"))),
        Err(error) if error.kind == ClusterErrorKind::NotFound => None,
        Err(error) if error.kind == ClusterErrorKind::Denied => {
            let detail = format!("client.{client_id} may not manage subvolumes of {fs}");
            let advice = "only volumes of the type cephfs need it: docs/operations.md, \
                          \"Capabilities for CephFS\", has the command";
            Some(warning(check, detail, advice))
        }
        Err(error) => {
            Some(warning(check, error.to_string(), format!("see ceph fs status {fs} and ceph -s")))
        }
    }
}

/// Only what is wrong: a key that manages subvolumes may be from before there were snapshots.
fn check_folder_snapshots<T>(asked: &ClusterResult<T>, client_id: &str) -> Option<Finding> {
    let denied = asked.as_ref().is_err_and(|error| error.kind == ClusterErrorKind::Denied);
    let advice = "only snapshots and clones of volumes of the type cephfs need it: \
                  docs/operations.md, \"Capabilities for CephFS\", has the command";
    let detail = format!("client.{client_id} may not make snapshots of subvolumes");
    denied.then(|| warning("cephfs snapshots", detail, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Verdict;
    use crate::volume::ByteSize;

    fn error(kind: ClusterErrorKind) -> ClusterError {
        let (call, subject, message) = ("connect", String::new(), "no".to_owned());
        ClusterError { kind, call, subject, errno: 0, message }
    }

    fn home() -> Home {
        Home { pool: "rbd".into(), namespace: "docker".into() }
    }

    #[test]
    fn a_key_from_before_there_were_snapshots_is_told_of() {
        let denied = check_folder_snapshots::<()>(&Err(error(ClusterErrorKind::Denied)), "docker");
        let denied = denied.expect("a finding");
        assert_eq!(denied.verdict, Verdict::Warning);
        assert!(denied.advice.is_some_and(|advice| advice.contains("Capabilities for CephFS")));
        for allowed in [Ok(()), Err(error(ClusterErrorKind::NotFound))] {
            assert_eq!(check_folder_snapshots(&allowed, "docker"), None);
        }
    }

    #[test]
    fn each_way_of_not_being_let_in_has_its_own_advice() {
        let access = CephAccess { client_id: "docker".into(), ..CephAccess::default() };
        for (kind, said) in [
            (ClusterErrorKind::Unreachable, "3300"),
            (ClusterErrorKind::Denied, "ceph auth get client.docker"),
            (ClusterErrorKind::Fenced, "blocklist"),
            (ClusterErrorKind::Other, "damaged"),
        ] {
            let finding = check_status(&Err(error(kind)), &access);
            assert_eq!(finding.verdict, Verdict::Failed);
            assert!(finding.advice.is_some_and(|advice| advice.contains(said)), "{kind:?}");
        }
    }

    #[test]
    fn capabilities_are_judged_only_where_they_can_be_seen() {
        let caps = |mon: &str, osd: &str| {
            Ok(vec![("mon".to_owned(), mon.to_owned()), ("osd".to_owned(), osd.to_owned())])
        };
        for (caps, verdict) in [
            (Err(error(ClusterErrorKind::Denied)), None),
            (caps("profile rbd", "profile rbd pool=rbd namespace=docker"), Some(Verdict::Ok)),
            (caps("allow *", "allow *"), Some(Verdict::Ok)),
            (caps("allow r", "profile rbd pool=rbd"), Some(Verdict::Failed)),
            (Ok(Vec::new()), Some(Verdict::Failed)),
        ] {
            let finding = check_caps(&caps, "docker", &home());
            assert_eq!(finding.map(|finding| finding.verdict), verdict, "{caps:?}");
        }
        let finding = check_caps(&Ok(Vec::new()), "docker", &home()).expect("a finding");
        let command = "ceph auth caps client.docker mon 'profile rbd' \
                       osd 'profile rbd pool=rbd namespace=docker'";
        assert_eq!(finding.advice.as_deref(), Some(command));
    }

    #[test]
    fn data_that_nobody_serves_is_told() {
        let groups = |active| Ok(PlacementGroups { total: 33, active });
        for (groups, verdict) in [
            (groups(33), Some(Verdict::Ok)),
            (groups(30), Some(Verdict::Failed)),
            (Err(error(ClusterErrorKind::Denied)), None),
            (Err(error(ClusterErrorKind::Unreachable)), Some(Verdict::Warning)),
        ] {
            let finding = check_groups(&groups);
            assert_eq!(finding.map(|finding| finding.verdict), verdict, "{groups:?}");
        }
    }

    #[test]
    fn a_file_system_that_is_there_can_be_used_or_is_warned_of() {
        for (groups, verdict) in [
            (Ok(Vec::new()), Some(Verdict::Ok)),
            (Err(error(ClusterErrorKind::NotFound)), None),
            (Err(error(ClusterErrorKind::Denied)), Some(Verdict::Warning)),
            (Err(error(ClusterErrorKind::Unreachable)), Some(Verdict::Warning)),
        ] {
            let finding = check_subvolumes(&groups, "cephfs", "docker");
            assert_eq!(finding.map(|finding| finding.verdict), verdict, "{groups:?}");
        }
    }

    #[test]
    fn a_place_for_volumes_is_there_or_can_be_made() {
        let usage = |full| Ok(PoolUsage { free: ByteSize::gib(1), used: ByteSize(0), full });
        assert_eq!(check_pool(&usage(false), "rbd").verdict, Verdict::Ok);
        assert_eq!(check_pool(&usage(true), "rbd").verdict, Verdict::Failed);
        let missing = check_pool(&Err(error(ClusterErrorKind::NotFound)), "rbd");
        assert!(missing.advice.is_some_and(|advice| advice.contains("pool create rbd")));
        let missing = check_home(&Err(error(ClusterErrorKind::NotFound)), &home());
        assert_eq!(missing.advice.as_deref(), Some("rbd namespace create rbd/docker"));
        assert_eq!(check_home(&Ok(Vec::new()), &home()).verdict, Verdict::Ok);
    }

    #[test]
    fn features_that_krbd_cannot_carry_come_with_their_command() {
        let image = |features: &[&str]| {
            vec![("rbd/docker/a".to_owned(), features.iter().map(|f| (*f).to_owned()).collect())]
        };
        let carried = ["layering", "exclusive-lock"].map(str::to_owned);
        assert_eq!(check_features(&image(&["layering", "exclusive-lock"]), &carried), None);
        let journaled = image(&["layering", "journaling"]);
        let finding = check_features(&journaled, &carried).expect("krbd has no journaling");
        let command = "rbd feature disable rbd/docker/a journaling";
        assert!(finding.advice.is_some_and(|advice| advice.ends_with(command)));
    }
}

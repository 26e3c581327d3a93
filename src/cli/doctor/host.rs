//! What mappers, file systems and mounts of CephFS need of this host: kernel, devices and programs.

use std::collections::BTreeSet;

use super::{failed, ok, warning};
use crate::service::Finding;
use crate::system::{CephFsSupport, FolderMounts, LinuxSystem, MapperSupport, Mappers};
use crate::volume::MapperKind;

/// Programs that every mapper's volumes need.
const PROGRAMS: [&str; 5] = ["blkid", "dumpe2fs", "e2fsck", "mkfs.ext4", "resize2fs"];

/// Programs for XFS, without which ext4 still works.
const XFS_PROGRAMS: [&str; 2] = ["mkfs.xfs", "xfs_growfs"];

/// A program, and the package that brings it.
type Missing = (&'static str, &'static str);

/// What this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) mappers: Vec<MapperSupport>,
    pub(super) cephfs_clients: Vec<CephFsSupport>,
    pub(super) missing: Vec<Missing>,
    pub(super) missing_for_xfs: Vec<Missing>,
}

impl Facts {
    pub(super) fn gather(system: &LinuxSystem) -> Self {
        Self {
            mappers: system.supported(),
            cephfs_clients: system.cephfs_clients(),
            missing: system.missing_programs(&PROGRAMS),
            missing_for_xfs: system.missing_programs(&XFS_PROGRAMS),
        }
    }
}

/// Checks the mapper of the settings (`None`: krbd, else nbd) and the programs.
pub(super) fn check(facts: &Facts, chosen: Option<MapperKind>) -> Vec<Finding> {
    let mut findings = vec![check_mapper(&facts.mappers, chosen)];
    findings.extend(check_programs(facts));
    findings.push(check_cephfs(&facts.cephfs_clients));
    findings
}

/// A host that mounts no folder needs no client for it.
fn check_cephfs(clients: &[CephFsSupport]) -> Finding {
    if let Some(usable) = clients.iter().find(|of| of.missing.is_none()) {
        return ok("cephfs client", format!("{} can be used", usable.client));
    }
    let lack = |of: &CephFsSupport| {
        format!("{}: {}", of.client, of.missing.as_deref().unwrap_or_default())
    };
    let detail: Vec<_> = clients.iter().map(lack).collect();
    warning(
        "cephfs client",
        detail.join("\n"),
        "for volumes of type=cephfs, do one of these".to_owned(),
    )
}

fn check_mapper(mappers: &[MapperSupport], chosen: Option<MapperKind>) -> Finding {
    let is_candidate = |of: &&MapperSupport| match chosen {
        Some(chosen) => of.mapper == chosen,
        None => of.mapper != MapperKind::Fuse,
    };
    let (candidates, others): (Vec<_>, Vec<_>) = mappers.iter().partition(is_candidate);
    if let Some(usable) = candidates.iter().find(|of| of.missing.is_none()) {
        return ok("mapper", format!("{} can be used", usable.mapper));
    }
    let lack = |of: &&MapperSupport| {
        format!("{}: {}", of.mapper, of.missing.as_deref().unwrap_or_default())
    };
    let detail: Vec<_> = candidates.iter().map(lack).collect();
    let advice = match others.iter().find(|of| of.missing.is_none()) {
        Some(of) => {
            format!("do one of these, or set mapper = \"{}\", which works here", of.mapper)
        }
        None => "do one of these".to_owned(),
    };
    failed("mapper", detail.join("\n"), advice)
}

fn check_programs(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match names_and_packages(&facts.missing) {
        (names, _) if names.is_empty() => findings.push(ok("programs", "all are there")),
        (names, packages) => {
            let advice = format!("apt install {packages}");
            findings.push(failed("programs", format!("missing: {names}"), advice));
        }
    }
    let (names, packages) = names_and_packages(&facts.missing_for_xfs);
    if !names.is_empty() {
        let detail = format!("missing: {names}; volumes with fs-type=xfs cannot be mounted here");
        findings.push(warning("programs for xfs", detail, format!("apt install {packages}")));
    }
    findings
}

fn names_and_packages(missing: &[Missing]) -> (String, String) {
    let (names, packages): (Vec<_>, BTreeSet<_>) = missing.iter().copied().unzip();
    (names.join(", "), packages.into_iter().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Verdict;
    use crate::volume::CephFsClient;

    fn mappers(missing: [Option<&str>; 3]) -> Vec<MapperSupport> {
        let all = MapperKind::ALL.iter().zip(missing);
        let support = |(mapper, missing): (&MapperKind, Option<&str>)| MapperSupport {
            mapper: *mapper,
            missing: missing.map(str::to_owned),
        };
        all.map(support).collect()
    }

    #[test]
    fn the_mapper_of_the_settings_is_the_one_that_counts() {
        let (no_rbd, no_nbd, no_fuse) = (Some("no rbd"), Some("no nbd"), Some("no rbd-fuse"));
        let (nbd, fuse) = (Some(MapperKind::Nbd), Some(MapperKind::Fuse));
        for (missing, chosen, verdict, said) in [
            ([None, no_nbd, no_fuse], None, Verdict::Ok, "krbd can be used"),
            ([no_rbd, None, no_fuse], None, Verdict::Ok, "nbd can be used"),
            ([no_rbd, no_nbd, None], None, Verdict::Failed, "mapper = \"fuse\""),
            ([no_rbd, no_nbd, no_fuse], None, Verdict::Failed, "krbd: no rbd\nnbd: no nbd"),
            ([no_rbd, no_nbd, None], fuse, Verdict::Ok, "fuse can be used"),
            ([None, no_nbd, None], nbd, Verdict::Failed, "\"krbd\""),
        ] {
            let finding = check_mapper(&mappers(missing), chosen);
            let text = format!("{} {}", finding.detail, finding.advice.unwrap_or_default());
            assert_eq!(finding.verdict, verdict, "{text}");
            assert!(text.contains(said), "{said:?} is not in {text:?}");
        }
    }

    #[test]
    fn any_client_of_cephfs_will_do_and_none_is_only_a_warning() {
        let clients = |missing: [Option<&str>; 2]| {
            let all = CephFsClient::ALL.iter().zip(missing);
            let support = |(client, missing): (&CephFsClient, Option<&str>)| CephFsSupport {
                client: *client,
                missing: missing.map(str::to_owned),
            };
            all.map(support).collect::<Vec<_>>()
        };
        let found = |missing| check_cephfs(&clients(missing));
        assert_eq!(found([Some("no module"), None]).detail, "fuse can be used");
        let none = found([Some("no module"), Some("no ceph-fuse")]);
        assert_eq!(none.verdict, Verdict::Warning);
        assert_eq!(none.detail, "kernel: no module\nfuse: no ceph-fuse");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let facts = Facts {
            mappers: mappers([None, None, None]),
            cephfs_clients: Vec::new(),
            missing: vec![("mkfs.ext4", "e2fsprogs"), ("e2fsck", "e2fsprogs")],
            missing_for_xfs: vec![("mkfs.xfs", "xfsprogs")],
        };
        let [ext4, xfs] = &check_programs(&facts)[..] else { panic!("two findings") };
        assert_eq!((ext4.verdict, xfs.verdict), (Verdict::Failed, Verdict::Warning));
        assert_eq!(ext4.detail, "missing: mkfs.ext4, e2fsck");
        assert_eq!(ext4.advice.as_deref(), Some("apt install e2fsprogs"));
    }
}

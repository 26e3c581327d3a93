//! What the kernel is told to map, and what its answer means.
//!
//! The kernel splits what it is told at blanks, and options at commas, with no way to write either
//! as itself. A pool `a b` would be pool `a` with an image `b`; so what cannot be said is refused
//! here. Of two options that contradict each other the later one counts: the driver's own are the
//! last.

use std::path::PathBuf;

use super::super::KindResult;
use crate::system::kernel::{AddRbd, ClientKey, errno};
use crate::system::{MapRequest, SystemErrorKind, monitors};
use crate::volume::{ClientAccess, ImageSpec};

/// What is longer than a page would be taken for two maps. The least page, less a key.
const LONGEST: usize = 4096 - 128;
/// The image itself, and none of its snapshots.
const NO_SNAPSHOT: &str = "-";

/// The map of this request, by that file of sysfs.
pub(super) fn of(request: &MapRequest, path: PathBuf) -> KindResult<AddRbd> {
    let client = request.client.as_ref().ok_or_else(|| {
        SystemErrorKind::Refused("the cluster's monitors were not asked for".to_owned())
    })?;
    let ImageSpec { location, image } = &request.image;
    check("client", &client.client_id, true)?;
    check("pool", &location.pool, false)?;
    check("namespace", &location.namespace, true)?;
    check("image", image, false)?;
    let options = options(request, client);
    for option in &options {
        check("map option", option, true)?;
    }
    let add = AddRbd {
        path,
        monitors: monitors::addresses(client, &options, "map-options")?,
        client: ClientKey::of(client)?,
        options,
        image: format!("{} {image} {NO_SNAPSHOT}", location.pool),
    };
    if add.line(Some(add.client.name())).len() > LONGEST {
        return Err(SystemErrorKind::Refused(format!(
            "the kernel takes at most {LONGEST} bytes of monitors, map options and names; use \
             fewer map-options, or the mapper nbd"
        )));
    }
    Ok(add)
}

/// Refuses what the kernel would split, or take for an option of its own.
fn check(what: &str, text: &str, in_options: bool) -> KindResult<()> {
    let instead = "use the mapper nbd or fuse";
    if in_options {
        monitors::check_option(what, text, instead)
    } else {
        monitors::check_word(what, text, instead)
    }
}

/// Ceph's defaults, the volume's, and the driver's own: `exclusive`, or else the lock goes back and
/// forth between two writing hosts; `noshare`, or else two maps share a client, and fencing one
/// fences both.
fn options(request: &MapRequest, client: &ClientAccess) -> Vec<String> {
    // `rbd` takes these for itself.
    let for_kernel = |option: &&String| !matches!(option.as_str(), "udev" | "noudev");
    let given = client.default_map_options.iter().chain(&request.map_options).filter(for_kernel);
    let own = [if request.read_only { "ro" } else { "exclusive" }, "noshare"];
    let namespace = Some(&request.image.location.namespace).filter(|name| !name.is_empty());
    let namespace = namespace.map(|name| format!("_pool_ns={name}"));
    given.cloned().chain(own.map(str::to_owned)).chain(namespace).collect()
}

/// What a failed map means.
pub(super) fn explained(kind: SystemErrorKind, add: &AddRbd) -> SystemErrorKind {
    let Some(number) = errno(&kind) else { return kind };
    let why = match number {
        // The owner of the image's lock keeps it.
        libc::EROFS => return SystemErrorKind::Held,
        libc::EINVAL | libc::EACCES | libc::EPERM if add.client.key.is_none() => format!(
            "most likely the cluster wants the key of {}, and there is none where ceph.conf or the \
             setting keyring says",
            add.client.name()
        ),
        libc::EINVAL => format!(
            "the kernel does not take one of the options {}, or the image lacks the feature \
             exclusive-lock",
            add.options.join(",")
        ),
        libc::ENOENT => "there is no such pool or image".to_owned(),
        libc::ENXIO => "the image has features that this kernel does not carry; turn them off \
                        with rbd feature disable, or use the mapper nbd"
            .to_owned(),
        libc::EACCES | libc::EPERM => format!(
            "the cluster does not let {} in, or not to this image: compare its key and \
             capabilities with ceph auth get; or this process lacks the capability SYS_ADMIN",
            add.client.name()
        ),
        libc::ETIMEDOUT | libc::EIO => format!(
            "the kernel got no answer from the cluster with the monitors {}; see ceph -s, and the \
             network to monitors and OSDs",
            add.monitors
        ),
        libc::ESHUTDOWN => "this host's address is on the cluster's blocklist; see ceph osd \
                            blocklist ls"
            .to_owned(),
        _ => "the kernel cannot map it".to_owned(),
    };
    let error = std::io::Error::from_raw_os_error(number);
    SystemErrorKind::Refused(format!("{why} ({error}); dmesg has the kernel's own words"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{MapperKind, Messenger, MonitorAddress, Secret};

    fn client() -> ClientAccess {
        let monitor =
            |messenger, address: &str| MonitorAddress { messenger, address: address.to_owned() };
        ClientAccess {
            monitors: vec![
                monitor(Messenger::V2, "10.77.0.1:3300"),
                monitor(Messenger::V1, "10.77.0.1:6789"),
                monitor(Messenger::V2, "[fd00::1]:3300"),
                monitor(Messenger::V1, "[fd00::1]:6789"),
            ],
            client_id: "docker".to_owned(),
            key: Some(Secret::new("AQCaRidp+6moERAALnq+dcTOPwHZO9rK8ZsSiw==")),
            default_map_options: Vec::new(),
        }
    }

    fn request(image: &str, options: &[&str]) -> MapRequest {
        MapRequest {
            mapper: MapperKind::Krbd,
            image: image.parse().expect("a spec"),
            read_only: false,
            map_options: options.iter().map(ToString::to_string).collect(),
            client: Some(client()),
        }
    }

    fn line(request: &MapRequest) -> String {
        match of(request, "/sys/bus/rbd/add".into()) {
            Ok(add) => add.line(Some(format!("key={}", add.client.name()))),
            Err(kind) => kind.to_string(),
        }
    }

    #[test]
    fn every_map_is_exclusive_with_a_client_of_its_own() {
        let writer = request("rbd/docker/v1", &["queue_depth=64", "noudev"]);
        assert_eq!(
            line(&writer),
            "10.77.0.1:6789,[fd00::1]:6789 name=docker,key=client.docker,queue_depth=64,exclusive,\
             noshare,_pool_ns=docker rbd v1 -"
        );
        let reader = MapRequest { read_only: true, ..request("rbd/plain", &[]) };
        assert_eq!(
            line(&reader),
            "10.77.0.1:6789,[fd00::1]:6789 name=docker,key=client.docker,ro,noshare rbd plain -"
        );
    }

    #[test]
    fn the_option_ms_mode_chooses_the_monitors_addresses() {
        let (old, new) = ("10.77.0.1:6789,[fd00::1]:6789 ", "10.77.0.1:3300,[fd00::1]:3300 ");
        for (default, given, addresses) in [
            ("", "ms_mode=legacy", old),
            ("", "ms_mode=crc", new),
            ("", "ms_mode=prefer-secure", new),
            ("ms_mode=secure", "queue_depth=8", new),
            ("ms_mode=secure", "ms_mode=legacy", old),
        ] {
            let mut request = request("rbd/v1", &[given]);
            let defaults = Some(default.to_owned()).filter(|text| !text.is_empty());
            request.client.as_mut().expect("it").default_map_options = Vec::from_iter(defaults);
            assert!(line(&request).starts_with(addresses), "{}", line(&request));
        }
    }

    #[test]
    fn what_cannot_be_said_to_the_kernel_is_refused() {
        let mut bad_key = request("rbd/v1", &[]);
        bad_key.client.as_mut().expect("it").key = Some(Secret::new("garbage"));
        let mut of_client = request("rbd/v1", &[]);
        of_client.client.as_mut().expect("it").client_id = "a,b".to_owned();
        let long = "x".repeat(LONGEST);
        for (request, said) in [
            (request("my pool/v1", &[]), "the pool \"my pool\", which has a blank in it;"),
            (request("rbd/my image", &[]), "the image \"my image\""),
            (request("rbd/a,b/v1", &[]), "the namespace \"a,b\", which has a blank or a comma"),
            (request("rbd/v1", &["a b"]), "the map option \"a b\""),
            (bad_key, "the key of client.docker in its keyring is malformed"),
            (of_client, "the client \"a,b\""),
            (request("rbd/v1", &[&long]), "at most 3968 bytes"),
        ] {
            assert!(line(&request).contains(said), "{}", line(&request));
        }
        assert!(line(&request("rbd/a,b", &[])).ends_with(" rbd a,b -"), "a comma in a name is one");
    }

    #[test]
    fn a_failed_map_says_why_and_what_to_do() {
        let request = request("rbd/v1", &["colour=blue"]);
        let add = of(&request, "/sys/bus/rbd/add".into()).expect("a map");
        let said = |number| {
            let source = std::io::Error::from_raw_os_error(number);
            explained(SystemErrorKind::Io { path: add.path.clone(), source }, &add)
        };
        assert!(matches!(said(libc::EROFS), SystemErrorKind::Held));
        for (number, words) in [
            (libc::EINVAL, "colour=blue,exclusive,noshare, or the image lacks the feature"),
            (libc::ENOENT, "no such pool or image (No such file or directory (os error 2))"),
            (libc::ENXIO, "rbd feature disable"),
            (libc::EPERM, "let client.docker in"),
            (libc::ETIMEDOUT, "monitors 10.77.0.1:6789"),
            (libc::ENOMEM, "cannot map it (Cannot allocate memory (os error 12)); dmesg"),
        ] {
            assert!(said(number).to_string().contains(words), "{}", said(number));
        }
        let mut keyless = add.clone();
        keyless.client.key = None;
        let source = std::io::Error::from_raw_os_error(libc::EINVAL);
        let kind = explained(SystemErrorKind::Io { path: add.path.clone(), source }, &keyless);
        assert!(kind.to_string().contains("wants the key of client.docker"), "{kind}");
    }
}

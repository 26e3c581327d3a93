//! A folder mounted by the kernel's client.
//!
//! No program is run but `modprobe`: `mount.ceph` would do no more than look up the monitors, which
//! the caller has done. The key goes by the child's keyring (see `kernel::key`).
//!
//! Of two options that contradict each other the later one counts, so the driver's own are the last:
//! `mds_namespace` (which old and new kernels know, `fs` only those since 5.9) and `noshare`,
//! without which two mounts of a file system would be one client.
//!
//! **A fenced or evicted client stays so**, as the kernel has it by default: every call fails until
//! it is mounted anew. An fsync may still succeed though what was written before is lost (seen on
//! 6.1; the next write fails), so that it must not go on as if nothing had been. With the option
//! `recover_session=clean` it does: within seconds the kernel starts a new client under the same
//! mount, with another nonce, and new files can be written beside those that were lost.

use std::path::Path;
use std::time::Duration;

use super::options::Options;
use super::record::Found;
use super::{KindResult, why_not};
use crate::deadline::Deadline;
use crate::system::kernel::{Call, ClientKey, MountCephFs, errno};
use crate::system::linux::LinuxSystem;
use crate::system::mapper::has_module;
use crate::system::{FolderMountRequest, SystemErrorKind, monitors};

/// Where the kernel shows its clients of Ceph.
const CLIENTS: &str = "/sys/kernel/debug/ceph";
/// The kernel copies a page of options and cuts off the rest. The least page, less a key.
const LONGEST: usize = 4096 - 128;
/// How long the kernel may take to abort what is under way; it aborts in a moment.
const ABORT: Duration = Duration::from_secs(5);
/// Where what cannot be said to the kernel is said.
const INSTEAD: &str = "use the client fuse";

/// What is missing here for the kernel's client.
pub(super) fn missing() -> Option<String> {
    let there = is_registered() || has_module("ceph");
    (!there).then(|| {
        "the kernel module ceph is missing; install a kernel that has it (Debian's \
         linux-image-amd64, not -cloud-) or use the client fuse"
            .to_owned()
    })
}

fn is_registered() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().next_back() == Some("ceph"))
}

impl LinuxSystem {
    /// Mounts, and gives the kernel's name of the client (`client4123`), where the kernel tells.
    pub(super) fn mount_by_kernel(
        &self,
        request: &FolderMountRequest,
        options: Options,
        deadline: &Deadline,
    ) -> KindResult<Option<String>> {
        // The kernel takes no key before it knows of Ceph. Where it can load the module by itself,
        // it does at the mount.
        if !is_registered()
            && let Ok(modprobe) = self.programs().find("modprobe")
        {
            modprobe.arg("ceph").run(deadline)?;
        }
        let mount = mount_of(request, options)?;
        let client = self.kernel().call(&Call::MountCephFs(mount.clone()), deadline);
        client.map_err(|kind| explained(kind, request, &mount))
    }

    /// Makes every call on the mount fail, also of those who have it elsewhere.
    pub(super) fn abort_kernel_mount(&self, found: &Found, deadline: &Deadline) -> KindResult<()> {
        if found.number.is_none() {
            return Ok(());
        }
        let call = Call::ForceUnmount { target: found.recorded.target.clone() };
        self.kernel().call(&call, &deadline.at_most(ABORT))
    }
}

/// What the kernel is told.
fn mount_of(request: &FolderMountRequest, options: Options) -> KindResult<MountCephFs> {
    let FolderMountRequest { fs, path, access, .. } = request;
    let modes = access.default_map_options.iter().filter(|it| it.starts_with(monitors::MODE));
    let own = ["noshare".to_owned(), format!("mds_namespace={fs}")];
    let all: Vec<String> = modes.cloned().chain(options.of_client).chain(own).collect();
    monitors::check_option("client", &access.client_id, INSTEAD)?;
    for option in &all {
        monitors::check_option("mount option", option, INSTEAD)?;
    }
    let mount = MountCephFs {
        source: format!("{}:{path}", monitors::addresses(access, &all, "the mount options")?),
        target: request.target.clone(),
        flags: options.flags,
        client: ClientKey::of(access)?,
        options: all,
    };
    if mount.source.len().max(mount.data(Some(mount.client.name())).len()) > LONGEST {
        let said = format!(
            "the kernel takes at most {LONGEST} bytes of monitors and path, and as many of \
             options; {INSTEAD}"
        );
        return Err(SystemErrorKind::Refused(said));
    }
    Ok(mount)
}

/// What a failed mount means.
fn explained(
    kind: SystemErrorKind,
    request: &FolderMountRequest,
    mount: &MountCephFs,
) -> SystemErrorKind {
    let Some(number) = errno(&kind) else { return kind };
    let name = mount.client.name();
    let why = match number {
        libc::ENODEV => "the kernel has no CephFS; load the module ceph (modprobe ceph)".to_owned(),
        libc::EINVAL if mount.client.key.is_none() => {
            format!("most likely the cluster wants the key of {name}, and there is none")
        }
        libc::EINVAL => format!(
            "the kernel does not take one of the options {}, or the key of {name}",
            mount.options.join(",")
        ),
        // It says so also where the monitors have refused the key.
        libc::EHOSTUNREACH => format!(
            "no metadata server of the file system {} answers: there is none of that name, or none \
             is up, or the cluster does not let {name} in; see ceph fs status and ceph auth get \
             {name}",
            request.fs
        ),
        libc::ETIMEDOUT | libc::EIO => format!(
            "the kernel got no answer from the cluster by {}; see ceph -s and ceph fs status, and \
             the network to monitors and metadata servers",
            mount.source
        ),
        libc::ESHUTDOWN => "this host's address is on the cluster's blocklist; see ceph osd \
                            blocklist ls"
            .to_owned(),
        _ => why_not(number, request).unwrap_or_else(|| "the kernel cannot mount it".to_owned()),
    };
    let error = std::io::Error::from_raw_os_error(number);
    SystemErrorKind::Refused(format!("{why} ({error}); dmesg has the kernel's own words"))
}

/// The address that the kernel's client of that name has now.
pub(super) fn client_address(client: &str) -> Option<String> {
    address_of(Path::new(CLIENTS), client)
}

/// By what the kernel shows of it: `instance: client.4123 (3)10.77.0.11:0/318`.
fn address_of(clients: &Path, client: &str) -> Option<String> {
    let entries = std::fs::read_dir(clients).ok()?.flatten();
    let suffix = format!(".{client}");
    let mut named = entries.filter(|it| it.file_name().to_string_lossy().ends_with(&suffix));
    let status = std::fs::read_to_string(named.next()?.path().join("status")).ok()?;
    let instance = status.lines().find_map(|line| line.strip_prefix("instance:"))?;
    let address = instance.split_whitespace().next_back()?;
    let address = address.split_once(')').map_or(address, |(_, address)| address);
    address.contains('/').then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{CephFsClient, ClientAccess, Messenger, MonitorAddress, Secret};

    fn request() -> FolderMountRequest {
        let monitor =
            |messenger, address: &str| MonitorAddress { messenger, address: address.to_owned() };
        FolderMountRequest {
            client: CephFsClient::Kernel,
            fs: "cephfs".to_owned(),
            path: "/volumes/v, 1".to_owned(),
            target: "/mnt/v".into(),
            read_only: false,
            options: Vec::new(),
            access: ClientAccess {
                monitors: vec![
                    monitor(Messenger::V2, "10.77.0.1:3300"),
                    monitor(Messenger::V1, "10.77.0.1:6789"),
                    monitor(Messenger::V1, "[fd00::1]:6789"),
                ],
                client_id: "v".to_owned(),
                key: Some(Secret::new("AQCaRidp+6moERAALnq+dcTOPwHZO9rK8ZsSiw==")),
                default_map_options: vec!["queue_depth=8".to_owned()],
            },
            id: "v".to_owned(),
        }
    }

    fn mount(of_client: &[&str]) -> KindResult<MountCephFs> {
        let of_client = of_client.iter().map(ToString::to_string).collect();
        mount_of(&request(), Options { flags: 0, of_client })
    }

    #[test]
    fn every_mount_has_a_client_of_its_own_and_the_key_by_its_name() {
        let new = mount(&["recover_session=clean", "rasize=8"]).expect("a mount");
        assert_eq!(new.source, "10.77.0.1:6789,[fd00::1]:6789:/volumes/v, 1");
        assert_eq!(
            new.data(Some("key=client.v".to_owned())),
            "name=v,key=client.v,recover_session=clean,rasize=8,noshare,mds_namespace=cephfs"
        );
        let old = mount(&["ms_mode=crc"]).expect("a mount");
        assert_eq!(old.source, "10.77.0.1:3300:/volumes/v, 1");
        assert_eq!(old.data(None), "name=v,ms_mode=crc,noshare,mds_namespace=cephfs");
        assert!(!format!("{new:?}").contains("AQCaRidp"));
    }

    #[test]
    fn what_cannot_be_said_to_the_kernel_is_refused() {
        let said = |kind: KindResult<MountCephFs>| kind.expect_err("refused").to_string();
        let blank = said(mount(&["a b"]));
        assert!(blank.contains("the mount option \"a b\""), "{blank}");
        let long = said(mount(&[&"x".repeat(LONGEST)]));
        assert!(long.contains("at most 3968 bytes"), "{long}");
        let fs = FolderMountRequest { fs: "a,b".to_owned(), ..request() };
        let options = Options { flags: 0, of_client: Vec::new() };
        let fs = said(mount_of(&fs, options));
        assert!(fs.contains("\"mds_namespace=a,b\""), "{fs}");
    }

    #[test]
    fn a_failed_mount_says_why_and_what_to_do() {
        let mount = mount(&["colour=blue"]).expect("a mount");
        for (number, words) in [
            (libc::ENOENT, "no file system cephfs, no folder /volumes/v, 1 in it"),
            (libc::EINVAL, "colour=blue,noshare"),
            (libc::EACCES, "see ceph auth get client.v"),
            (libc::EIO, "by 10.77.0.1:6789"),
            (libc::EHOSTUNREACH, "system cephfs answers: there is none of that name, or none is"),
            (libc::ENOMEM, "cannot mount it (Cannot allocate memory"),
        ] {
            let source = std::io::Error::from_raw_os_error(number);
            let kind = SystemErrorKind::Io { path: "/mnt/v".into(), source };
            let said = explained(kind, &request(), &mount).to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a fixture")]
    fn a_clients_address_is_as_the_kernel_shows_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for (client, address) in [("client412", "10.77.0.11:0/1"), ("client4123", "[fd00::1]:0/2")]
        {
            let shown = folder.path().join(format!("0-0.{client}"));
            std::fs::create_dir(&shown).expect("a folder");
            let id = client.trim_start_matches("client");
            let status = format!("instance: client.{id} (3){address}\nblocklisted: false\n");
            std::fs::write(shown.join("status"), status).expect("written");
        }
        let of = |client: &str| address_of(folder.path(), client);
        assert_eq!(of("client4123").as_deref(), Some("[fd00::1]:0/2"));
        assert_eq!(of("client412").as_deref(), Some("10.77.0.11:0/1"));
        assert_eq!(of("client41"), None);
    }
}

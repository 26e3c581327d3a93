//! Mount options of a folder: which are whose, and which are refused.
//!
//! Words that every file system knows become bits of mount(2), or words of libfuse. The others go to
//! the client: to the kernel as they are, to `ceph-fuse` as the settings of Ceph that its client
//! has. What the driver says itself (who the client is, its key, where and what to mount) is
//! refused, because the later of two would count.

use super::KindResult;
use crate::system::mounts::split_options;
use crate::system::{FolderMountRequest, SystemErrorKind};
use crate::volume::CephFsClient;

/// The driver's own words, in both clients.
const OWN: &[&str] = &[
    "name",
    "secret",
    "secretfile",
    "key",
    "fs",
    "mds_namespace",
    "mon_addr",
    "fsid",
    "share",
    "noshare",
    "conf",
    "id",
    "keyring",
    "client_fs",
    "client_mds_namespace",
    "client_mountpoint",
    "client_mount_timeout",
    "admin_socket",
    "log_file",
];

/// Settings of Ceph that are for a mount: those of its client begin so.
const SETTINGS: &[&str] = &["client_", "fuse_"];

/// Options by whom they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Bits of mount(2).
    pub(super) flags: u64,
    /// For the client, each without a comma.
    pub(super) of_client: Vec<String>,
}

/// The request's options; `Refused` for what is not to be said.
pub(super) fn of(request: &FolderMountRequest) -> KindResult<Options> {
    let (flags, data) = split_options(&request.options, request.read_only)?;
    let words = data.split(',').filter(|word| !word.is_empty());
    let of_client: Vec<String> = words.map(str::to_owned).collect();
    for option in &of_client {
        refuse(option, request.client)?;
    }
    Ok(Options { flags, of_client })
}

fn refuse(option: &str, client: CephFsClient) -> KindResult<()> {
    let name = option.split('=').next().unwrap_or_default().replace('-', "_");
    let why = if OWN.contains(&name.as_str()) {
        "it is the driver's own to say"
    } else if client == CephFsClient::Fuse && !is_setting(option) {
        "ceph-fuse takes settings of its client only, such as client_oc=true"
    } else {
        return Ok(());
    };
    Err(SystemErrorKind::Refused(format!("the mount option {option:?}: {why}")))
}

fn is_setting(option: &str) -> bool {
    option.contains('=') && SETTINGS.iter().any(|start| option.starts_with(start))
}

impl Options {
    /// The flags as words of libfuse.
    pub(super) fn words(&self) -> Vec<&'static str> {
        const WORDS: &[(u64, &str, &str)] = &[
            (libc::MS_RDONLY, "ro", "rw"),
            (libc::MS_NOSUID, "nosuid", "suid"),
            (libc::MS_NODEV, "nodev", "dev"),
            (libc::MS_NOEXEC, "noexec", "exec"),
            (libc::MS_NOATIME, "noatime", "atime"),
            (libc::MS_SYNCHRONOUS, "sync", "async"),
            (libc::MS_DIRSYNC, "dirsync", ""),
        ];
        let said = |(bit, set, clear): &(u64, &'static str, &'static str)| {
            if self.flags & bit == 0 { *clear } else { *set }
        };
        WORDS.iter().map(said).filter(|word| !word.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::ClientAccess;

    fn options(client: CephFsClient, options: &[&str]) -> Result<Options, String> {
        let access = ClientAccess {
            monitors: Vec::new(),
            client_id: "v".to_owned(),
            key: None,
            default_map_options: Vec::new(),
        };
        let request = FolderMountRequest {
            client,
            fs: "cephfs".to_owned(),
            path: "/v".to_owned(),
            target: "/mnt/v".into(),
            read_only: false,
            options: options.iter().map(ToString::to_string).collect(),
            access,
            id: "v".to_owned(),
        };
        of(&request).map_err(|kind| kind.to_string())
    }

    #[test]
    fn flags_and_the_clients_own_are_told_apart() {
        let kernel = options(CephFsClient::Kernel, &["noatime,rasize=1048576", "_netdev"]);
        let kernel = kernel.expect("allowed");
        assert_eq!(kernel.flags, libc::MS_NOATIME);
        assert_eq!(kernel.of_client, ["rasize=1048576"]);
        let fuse = options(CephFsClient::Fuse, &["ro", "nodev", "client_oc=true"]);
        let fuse = fuse.expect("allowed");
        assert_eq!(fuse.words().join(","), "ro,suid,nodev,exec,atime,async");
        assert_eq!(fuse.of_client, ["client_oc=true"]);
    }

    #[test]
    fn what_is_the_drivers_is_refused_and_what_a_client_does_not_know() {
        for client in CephFsClient::ALL {
            for option in ["name=x", "secret=AQ", "fs=other", "client-mountpoint=/", "noshare"] {
                let said = options(*client, &[option]).expect_err(option);
                assert!(said.contains("the driver's own"), "{said}");
            }
            options(*client, &["bind"]).expect_err("no mount of a folder");
        }
        let said = options(CephFsClient::Fuse, &["rasize=1"]).expect_err("the kernel's");
        assert!(said.contains("settings of its client only"), "{said}");
        options(CephFsClient::Fuse, &["log_file=/x"]).expect_err("no setting of the client");
    }
}

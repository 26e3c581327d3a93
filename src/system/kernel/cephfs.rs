//! Calls on a mounted folder of CephFS, in the child: each can hang for as long as the cluster is
//! away, or as a `ceph-fuse` stands still.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};
use sys_mount::MountFlags;

use super::calls::usage;
use super::{ClientKey, Failure, xattr};
use crate::system::FsUsage;
use crate::volume::ByteSize;

/// What the files below a folder take, as the cluster keeps count of it.
const USED: &str = "ceph.dir.rbytes";
/// A folder's quota in bytes; there is none, or 0, where it has none.
const QUOTA: &str = "ceph.quota.max_bytes";
/// The kernel's client of a mount, as `client4123` (since 5.10).
const CLIENT: &str = "ceph.client_id";

/// What a mount answers whose client will never serve again: dead, fenced, evicted; or where the
/// folder is gone, or is no folder of CephFS.
const DEAD: &[i32] = &[
    libc::ENOTCONN,
    libc::ECONNABORTED,
    libc::ESHUTDOWN,
    libc::ESTALE,
    libc::EIO,
    libc::EACCES,
    libc::EPERM,
    libc::ENOENT,
    libc::ENODATA,
    libc::EOPNOTSUPP,
];

/// A mount by the kernel's client that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountCephFs {
    /// `10.0.0.1:6789,10.0.0.2:6789:/folder`.
    pub(crate) source: String,
    /// Where; made where it is missing.
    pub(crate) target: PathBuf,
    /// Bits of mount(2).
    pub(crate) flags: u64,
    /// The client.
    pub(crate) client: ClientKey,
    /// Further options, each without a comma.
    pub(crate) options: Vec<String>,
}

impl MountCephFs {
    /// What mount(2) is told, with the option that gives the key.
    pub(crate) fn data(&self, key: Option<String>) -> String {
        let name = format!("name={}", self.client.client_id);
        let options = std::iter::once(name).chain(key).chain(self.options.iter().cloned());
        options.collect::<Vec<_>>().join(",")
    }

    /// Mounts it; the number of the kernel's client, where the kernel tells.
    pub(super) fn run(&self) -> Result<Option<String>, Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.target);
        made.map_err(Failure::of(&self.target))?;
        let data = self.data(self.client.option());
        let flags = MountFlags::from_bits_retain(self.flags);
        let builder = sys_mount::Mount::builder().fstype("ceph").flags(flags).data(&data);
        builder.mount(&self.source, &self.target).map_err(|error| {
            let _ = std::fs::remove_dir(&self.target);
            Failure::of(&self.target)(error)
        })?;
        let folder = File::open(&self.target).ok();
        Ok(folder.and_then(|folder| text(&folder, CLIENT).ok()))
    }
}

/// Makes every call on the mount fail, and takes it out of our namespace. Who still has it goes on
/// failing.
pub(super) fn force_unmount(target: &Path) -> Result<(), Failure> {
    // Where it is in use the first fails, and has done what it is for.
    let _ = umount2(target, MntFlags::MNT_FORCE | MntFlags::UMOUNT_NOFOLLOW);
    super::calls::unmount(target, true)
}

/// Writes out what this host has not written yet.
pub(super) fn sync(target: &Path) -> Result<(), Failure> {
    let folder = File::open(target).map_err(Failure::of(target))?;
    nix::unistd::syncfs(folder.as_fd()).map_err(Failure::of(target))
}

/// A fenced `ceph-fuse` still answers statfs: so the folder is read, and the cluster's count of it.
pub(super) fn is_alive(target: &Path) -> Result<bool, Failure> {
    let asked = File::open(target).and_then(|folder| {
        std::fs::read_dir(target)?.next().transpose()?;
        text(&folder, USED)
    });
    match asked {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|errno| DEAD.contains(&errno)) => Ok(false),
        Err(error) => Err(Failure::of(target)(error)),
    }
}

pub(super) fn folder_usage(target: &Path) -> Result<FsUsage, Failure> {
    let folder = File::open(target).map_err(Failure::of(target))?;
    let used = ByteSize(number(&folder, USED).map_err(Failure::of(target))?.unwrap_or(0));
    // statfs tells a quota in blocks of 4 MiB, and that of a small volume as none.
    if let Some(size @ 1..) = number(&folder, QUOTA).map_err(Failure::of(target))? {
        let free = ByteSize(size.saturating_sub(used.bytes()));
        return Ok(FsUsage { size: ByteSize(size), used, free });
    }
    Ok(FsUsage { used, ..usage(target)? })
}

fn number(folder: &File, name: &str) -> io::Result<Option<u64>> {
    match text(folder, name) {
        Ok(text) => Ok(text.parse().ok()),
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(folder: &File, name: &str) -> io::Result<String> {
    let value = xattr::get(folder.as_fd(), name)?;
    Ok(String::from_utf8_lossy(&value).trim_end_matches('\0').to_owned())
}

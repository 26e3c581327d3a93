//! Makes a folder at the root of a mounted file system, in the child.
//!
//! It is made under another name, given its owner, and then renamed: a crash in between never
//! leaves one of the wrong owner that a later attempt would take for done.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, Flock, FlockArg, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat,
    renameat2,
};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::Failure;
use crate::system::Ownership;

/// Cannot be a name that is asked for: see [`is_plain`].
const UNFINISHED: &str = ".docker-ceph.unfinished";

pub(super) fn make(mountpoint: &Path, name: &str, owner: Ownership) -> Result<(), Failure> {
    let path = mountpoint.join(name);
    if !is_plain(name) {
        return Err(Failure { errno: libc::EINVAL, path });
    }
    let root = open_folder(AT_FDCWD, mountpoint).map_err(Failure::of(mountpoint))?;
    match open_folder(&root, Path::new(name)) {
        Ok(_) => Ok(()),
        Err(Errno::ENOENT) => make_owned(&root, name, owner).map_err(Failure::of(&path)),
        Err(errno) => Err(Failure::of(&path)(errno)),
    }
}

fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | ".." | UNFINISHED) && !name.contains(['/', '\0'])
}

fn open_folder(at: impl std::os::fd::AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(at, path, how)
}

fn make_owned(root: &OwnedFd, name: &str, owner: Ownership) -> Result<(), Errno> {
    // Another that makes one at the same time uses the same unfinished name.
    let locked = root.try_clone().map_err(|_| Errno::EMFILE)?;
    let _lock = Flock::lock(locked, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    match unlinkat(root, UNFINISHED, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    mkdirat(root, UNFINISHED, Mode::from_bits_truncate(0o755))?;
    let folder = open_folder(root, Path::new(UNFINISHED))?;
    fchown(&folder, owner.uid.map(Uid::from_raw), owner.gid.map(Gid::from_raw))?;
    fchmod(&folder, Mode::from_bits_truncate(owner.mode.unwrap_or(0o755)))?;
    match renameat2(root, UNFINISHED, root, name, RenameFlags::RENAME_NOREPLACE) {
        // CephFS does not know the flag. Without it, what somebody else has made meanwhile is
        // replaced only while it is empty.
        Err(Errno::EINVAL) => renameat(root, UNFINISHED, root, name)?,
        renamed => renamed?,
    }
    sync(folder)?;
    sync(root.try_clone().map_err(|_| Errno::EMFILE)?)
}

fn sync(folder: OwnedFd) -> Result<(), Errno> {
    let synced = File::from(folder).sync_all();
    synced.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

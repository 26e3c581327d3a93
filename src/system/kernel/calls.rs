//! The calls themselves, in the child.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use serde::Serialize;
use sys_mount::MountFlags;

use super::{Answer, Call, Failure, cephfs, detach, folder, freeze, ioctl, loop_device, snapshot};
use crate::system::{FsUsage, superblock};
use crate::volume::ByteSize;

/// How much of a device has to be zero for it to be blank.
const BLANK: u64 = 1 << 20;

pub(super) fn run(call: &Call, connection: &UnixStream) -> Answer {
    match call {
        Call::Mount { device, target, fs_type, flags, data } => {
            value(mount(device, target, fs_type, *flags, data))
        }
        Call::Unmount { target, lazy } => value(unmount(target, *lazy)),
        Call::MountCephFs(folder) => value(folder.run()),
        Call::ForceUnmount { target } => value(cephfs::force_unmount(target)),
        Call::SyncFs { target } => value(cephfs::sync(target)),
        Call::IsAlive { target } => value(cephfs::is_alive(target)),
        Call::Names { folder } => value(names(folder)),
        Call::FolderUsage { target } => value(cephfs::folder_usage(target)),
        Call::Usage { mountpoint } => value(usage(mountpoint)),
        Call::Trim { mountpoint } => value(trim(mountpoint)),
        Call::MakeFolder { mountpoint, name, owner } => {
            value(folder::make(mountpoint, name, *owner))
        }
        Call::IsBlank { device } => value(is_blank(device)),
        Call::IsSoundExt4 { device } => value(is_sound_ext4(device)),
        Call::NeedsReplayExt4 { device } => value(needs_replay_ext4(device)),
        Call::ReplayXfs { device, at } => value(replay_xfs(device, at)),
        Call::Size { device } => value(size(device)),
        Call::AttachLoop { file, read_only } => value(loop_device::attach(file, *read_only)),
        Call::DetachLoop { device, file } => value(loop_device::detach(device, file)),
        Call::ResizeLoop { device, file } => value(loop_device::resize(device, file)),
        Call::WriteSysfs { path, text } => value(write_sysfs(path, text)),
        Call::AddRbd(device) => value(device.run()),
        Call::Freeze(freeze) => freeze.serve(connection),
        Call::ThawLeftOver { mountpoint } => value(freeze::thaw_left_over(mountpoint)),
        Call::OldFiles(find) => value(find.run()),
        Call::FindSnapshot { folder, name } => value(snapshot::find(folder, name)),
        Call::Detach(program) => value(detach::start(program)),
    }
}

/// Names that are no text are nobody's here.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(Failure::of(folder))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    let names: std::io::Result<Vec<_>> = names.collect();
    Ok(names.map_err(Failure::of(folder))?.into_iter().flatten().collect())
}

#[expect(clippy::disallowed_methods, reason = "sysfs: there is nothing to replace")]
pub(super) fn write_sysfs(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(Failure::of(path))
}

pub(super) fn value<T: Serialize>(result: Result<T, Failure>) -> Answer {
    let unsayable = |_| Failure { errno: libc::EPROTO, path: "/".into() };
    serde_json::to_value(result?).map_err(unsayable)
}

fn mount(
    device: &Path,
    target: &Path,
    fs_type: &str,
    flags: u64,
    data: &str,
) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(target);
    made.map_err(Failure::of(target))?;
    let flags = MountFlags::from_bits_retain(flags);
    let builder = sys_mount::Mount::builder().fstype(fs_type).flags(flags).data(data);
    builder.mount(device, target).map(drop).map_err(|error| {
        let _ = std::fs::remove_dir(target);
        Failure::of(target)(error)
    })
}

/// Nothing mounted there is success: what was asked for is so.
pub(super) fn unmount(target: &Path, lazy: bool) -> Result<(), Failure> {
    let detach = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match umount2(target, MntFlags::UMOUNT_NOFOLLOW | detach) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(errno) => return Err(Failure::of(target)(errno)),
    }
    // Something below or in it is for whoever put it there.
    let _ = std::fs::remove_dir(target);
    Ok(())
}

pub(super) fn usage(mountpoint: &Path) -> Result<FsUsage, Failure> {
    let stat = statfs(mountpoint).map_err(Failure::of(mountpoint))?;
    let block = u64::try_from(stat.block_size()).unwrap_or(0);
    let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(block));
    Ok(FsUsage {
        size: bytes(stat.blocks()),
        used: bytes(stat.blocks().saturating_sub(stat.blocks_free())),
        free: bytes(stat.blocks_available()),
    })
}

fn trim(mountpoint: &Path) -> Result<u64, Failure> {
    let folder = File::open(mountpoint).map_err(Failure::of(mountpoint))?;
    ioctl::trim(&folder).map_err(Failure::of(mountpoint))
}

/// An error of the device is an error here: `blkid` takes what it cannot read for nothing.
fn is_blank(device: &Path) -> Result<bool, Failure> {
    let size = size(device)?;
    let file = File::open(device).map_err(Failure::of(device))?;
    let mut start = Vec::new();
    file.take(BLANK).read_to_end(&mut start).map_err(Failure::of(device))?;
    if start.len() as u64 != size.min(BLANK) {
        return Err(Failure { errno: libc::EIO, path: device.to_owned() });
    }
    Ok(start.iter().all(|byte| *byte == 0))
}

fn is_sound_ext4(device: &Path) -> Result<bool, Failure> {
    let file = File::open(device).map_err(Failure::of(device))?;
    let size = ioctl::device_size(&file).map_err(Failure::of(device))?;
    Ok(superblock::is_sound_ext4(&start_of(device)?, size))
}

fn needs_replay_ext4(device: &Path) -> Result<bool, Failure> {
    Ok(superblock::needs_replay(&start_of(device)?))
}

fn start_of(device: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(device).map_err(Failure::of(device))?;
    let mut start = Vec::new();
    let read = file.take(superblock::LENGTH as u64).read_to_end(&mut start);
    read.map_err(Failure::of(device))?;
    Ok(start)
}

/// The mount ends with this child at the latest, and with it the namespace.
fn replay_xfs(device: &Path, at: &Path) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Failure::of(at))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let nothing = None::<&str>;
    nix::mount::mount(nothing, "/", nothing, private, nothing).map_err(Failure::of(at))?;
    let mounted =
        nix::mount::mount(Some(device), at, Some("xfs"), MsFlags::empty(), Some("nouuid"));
    mounted.map_err(Failure::of(device))?;
    umount2(at, MntFlags::empty()).map_err(Failure::of(device))
}

fn size(device: &Path) -> Result<u64, Failure> {
    let file = File::open(device).map_err(Failure::of(device))?;
    ioctl::device_size(&file).map_err(Failure::of(device))
}

//! Mounts in our own namespace, made and undone in children.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::command::io;
use super::filesystem::is_read_only;
use super::kernel::{Call, errno};
use super::linux::LinuxSystem;
use super::mountinfo::{self, Entry};
use super::{
    DeviceNumber, Holder, Mount, MountRequest, Mounts, OldFiles, ProcessId, Result,
    SystemErrorKind, holders,
};
use crate::deadline::Deadline;
use crate::volume::FsType;

/// Options of mount(8) that are bits of mount(2), and whether they set or clear the bit.
const FLAGS: &[(&str, u64, bool)] = &[
    ("ro", libc::MS_RDONLY, true),
    ("rw", libc::MS_RDONLY, false),
    ("nosuid", libc::MS_NOSUID, true),
    ("suid", libc::MS_NOSUID, false),
    ("nodev", libc::MS_NODEV, true),
    ("dev", libc::MS_NODEV, false),
    ("noexec", libc::MS_NOEXEC, true),
    ("exec", libc::MS_NOEXEC, false),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("dirsync", libc::MS_DIRSYNC, true),
    ("noatime", libc::MS_NOATIME, true),
    ("atime", libc::MS_NOATIME, false),
    ("nodiratime", libc::MS_NODIRATIME, true),
    ("diratime", libc::MS_NODIRATIME, false),
    ("relatime", libc::MS_RELATIME, true),
    ("strictatime", libc::MS_STRICTATIME, true),
    ("lazytime", libc::MS_LAZYTIME, true),
    ("silent", libc::MS_SILENT, true),
];

/// Options that mean something to mount(8), systemd or fstab, and nothing to the kernel.
const IGNORED: &[&str] = &["defaults", "_netdev", "nofail", "auto", "noauto", "user", "nouser"];

/// Options that would make another thing of it than a mount of the device.
const REFUSED: &[&str] = &["bind", "rbind", "move", "remount", "loop"];

impl Mounts for LinuxSystem {
    fn mount(&self, request: &MountRequest, deadline: &Deadline) -> Result<()> {
        let (device, target) = (&request.device, &request.target);
        let step = || format!("mount {} at {}", device.display(), target.display());
        let mount = || -> std::result::Result<(), SystemErrorKind> {
            let (flags, data) = split_options(&request.options, request.read_only)?;
            let data = joined(&data, self.without_writing(request, deadline)?);
            if own()?.iter().any(|entry| entry.mount.target == *target) {
                return Err(SystemErrorKind::Refused("something is mounted there".to_owned()));
            }
            let call = |data: String| Call::Mount {
                device: device.clone(),
                target: target.clone(),
                fs_type: request.fs_type.to_string(),
                flags,
                data,
            };
            match self.kernel().call(&call(data.clone()), deadline) {
                Err(kind) if cannot_replay(request, &kind) => {
                    self.kernel().call(&call(joined(&data, "norecovery")), deadline)
                }
                done => done,
            }
        };
        mount().map_err(|kind| kind.during(step()))
    }

    fn unmount(&self, target: &Path, deadline: &Deadline) -> Result<()> {
        let call = Call::Unmount { target: target.to_owned(), lazy: false };
        let done: std::result::Result<(), _> = self.kernel().call(&call, deadline);
        done.map_err(|kind| {
            let kind = match errno(&kind) {
                Some(libc::EBUSY) => SystemErrorKind::Busy(busy_with(target)),
                _ => kind,
            };
            kind.during(format!("unmount {}", target.display()))
        })
    }

    fn unmount_lazily(&self, target: &Path, deadline: &Deadline) -> Result<()> {
        let call = Call::Unmount { target: target.to_owned(), lazy: true };
        let done: std::result::Result<(), _> = self.kernel().call(&call, deadline);
        done.map_err(|kind| kind.during(format!("unmount {} lazily", target.display())))
    }

    fn old_files(
        &self,
        folder: &Path,
        older_than: Timestamp,
        remove: bool,
        deadline: &Deadline,
    ) -> Result<OldFiles> {
        self.find_old_files(folder, older_than, remove, deadline)
    }

    fn mounts(&self) -> Result<Vec<Mount>> {
        let entries = own().map_err(|kind| kind.during("list the mounts"))?;
        Ok(entries.into_iter().map(|entry| entry.mount).collect())
    }

    fn holders(&self, number: DeviceNumber, ours: &Path) -> Result<Vec<Holder>> {
        let found = holders::find(number, ours);
        found.map_err(|kind| kind.during(format!("look who holds {}", ours.display())))
    }
}

impl LinuxSystem {
    /// What the file system is to be told so that it can be mounted for reading only.
    fn without_writing(
        &self,
        request: &MountRequest,
        deadline: &Deadline,
    ) -> std::result::Result<&'static str, SystemErrorKind> {
        let device = request.device.clone();
        let to_replay = || self.kernel().call(&Call::NeedsReplayExt4 { device }, deadline);
        Ok(match request.fs_type {
            _ if !request.read_only => "",
            FsType::Xfs => "nouuid",
            // Told so without need, it would not see what a journal on a writable device holds.
            FsType::Ext4 if is_read_only(&request.device) && to_replay()? => "noload",
            FsType::Ext4 => "",
        })
    }
}

/// XFS says so where its log is to be replayed and the device cannot be written. That its log needs
/// it is told by nothing that is quicker to read.
fn cannot_replay(request: &MountRequest, kind: &SystemErrorKind) -> bool {
    request.fs_type == FsType::Xfs && request.read_only && errno(kind) == Some(libc::EROFS)
}

fn joined(data: &str, more: &str) -> String {
    [data, more].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
}

/// The mounts of our own namespace.
pub(super) fn own() -> std::result::Result<Vec<Entry>, SystemErrorKind> {
    let path = Path::new("/proc/self/mountinfo");
    Ok(mountinfo::parse(&std::fs::read(path).map_err(io(path))?))
}

/// How often it is looked whether a process that does not mount still lives.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until a process has mounted something there; false where it ended before.
pub(super) fn wait_for_mount(
    target: &Path,
    process: ProcessId,
    deadline: &Deadline,
) -> std::result::Result<bool, SystemErrorKind> {
    let started = Instant::now();
    let table = Table::open()?;
    while !own()?.iter().any(|entry| entry.mount.target == target) {
        if !process.is_alive() {
            return Ok(false);
        }
        if deadline.is_over() {
            return Err(SystemErrorKind::Timeout { after: started.elapsed() });
        }
        table.wait_for_change(LOOK.min(deadline.left()));
    }
    Ok(true)
}

/// The mount table of our own namespace, to be waited on.
struct Table(File);

impl Table {
    /// Changes from now on are seen, so the table is to be read after this.
    fn open() -> std::result::Result<Self, SystemErrorKind> {
        let path = Path::new("/proc/self/mountinfo");
        File::open(path).map(Self).map_err(io(path))
    }

    /// Waits until something is mounted or unmounted, or for that long.
    fn wait_for_change(&self, limit: Duration) {
        let mut table = [PollFd::new(self.0.as_fd(), PollFlags::POLLPRI)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        // Where it cannot be waited for, the caller just looks again.
        let _ = poll(&mut table, limit);
    }
}

/// Who keeps a mount of ours busy: open files below it, and mounts on folders in it.
pub(super) fn busy_with(target: &Path) -> Vec<Holder> {
    let below = own().unwrap_or_default().into_iter().map(|entry| entry.mount.target);
    let below = below.filter(|mounted| mounted != target && mounted.starts_with(target));
    let mounted = below.map(|target| Holder { pid: 1, command: "a mount".to_owned(), target });
    holders::with_open_files(target).into_iter().chain(mounted).collect()
}

pub(super) fn split_options(
    options: &[String],
    read_only: bool,
) -> std::result::Result<(u64, String), SystemErrorKind> {
    let mut flags = 0;
    let mut data = Vec::new();
    let options = options.iter().flat_map(|option| option.split(','));
    for option in options.map(str::trim).filter(|option| !option.is_empty()) {
        if REFUSED.contains(&option) {
            let text = format!("the mount option {option:?} is not for a volume");
            return Err(SystemErrorKind::Refused(text));
        }
        match FLAGS.iter().find(|(name, ..)| *name == option) {
            Some((_, bit, true)) => flags |= bit,
            Some((_, bit, false)) => flags &= !bit,
            None if IGNORED.contains(&option) || option.starts_with("x-") => {}
            None => data.push(option),
        }
    }
    let flags = if read_only { flags | libc::MS_RDONLY } else { flags };
    Ok((flags, data.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(options: &[&str], read_only: bool) -> (u64, String) {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        split_options(&options, read_only).expect("allowed options")
    }

    #[test]
    fn words_become_bits_and_the_rest_is_for_the_file_system() {
        let noatime_nodev = libc::MS_NOATIME | libc::MS_NODEV;
        let cases: &[(&[&str], bool, (u64, &str))] = &[
            (&[], false, (0, "")),
            (&["noatime", "discard,nodev"], false, (noatime_nodev, "discard")),
            (&["defaults", "_netdev", "x-systemd.automount", "nofail"], false, (0, "")),
            (&["rw"], true, (libc::MS_RDONLY, "")),
            (&["ro,rw"], false, (0, "")),
            (&["data=ordered", "nouuid"], false, (0, "data=ordered,nouuid")),
        ];
        for (options, read_only, (flags, data)) in cases {
            assert_eq!(split(options, *read_only), (*flags, (*data).to_owned()), "{options:?}");
        }
    }

    #[test]
    fn what_is_no_mount_of_the_device_is_refused() {
        for option in REFUSED {
            assert!(split_options(&[(*option).to_owned()], false).is_err(), "{option}");
        }
    }
}

//! `rbd-fuse` shows an image as a file, and a loop device makes a block device of the file.
//!
//! ```text
//!   folder made, image recorded          STATE/fuse/NAME/{image,process,log,loop,mnt}
//!        │ rbd-fuse started, outlives us      process, recorded by itself
//!        ▼
//!   mnt mounted ──▶ loop device on mnt/IMAGE, direct I/O ──▶ MAPPED
//!                                                              │ unmap: is anything mounted? Busy
//!   folder removed ◀── process gone ◀── mnt unmounted ◀── loop device off
//!
//!   rbd-fuse dead, or a map that missed its deadline: rbd-fuse killed first, then the same way
//!   back. One that is killed cannot give the image's lock and watch back: the cluster lets them go
//!   half a minute later, and the next map waits for that. So nothing else is killed at once.
//! ```
//!
//! **No acknowledged byte is lost**, whenever `rbd-fuse` ends, because it never holds one. Its fsync
//! drops the error of the flush, so librbd's cache must be off: each write is then in the cluster,
//! or has failed, when it is answered. And it answers a read that failed with no bytes, which only
//! direct I/O of the loop device takes for the error that it is (see `kernel::loop_device`).
//!
//! **Nobody else looks into the folder**: `rbd-fuse` lists its namespace whenever it is asked for
//! attributes, without end if that fails (a fenced client, a key without the right to), walks the
//! list unlocked, and whoever waits for it cannot be killed until it is. So the image has to be
//! known to exist before it is mapped, and we look only from children.
//!
//! The image is opened for writing also for a read-only map; the loop device refuses writes. The
//! flush that comes with making the loop device would take the image's lock, also from a writer
//! elsewhere: a read-only map is told never to ask for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{KindResult, file_name, is_read_only, missing, number_of, unless_busy};
use crate::deadline::Deadline;
use crate::system::command::{io, last_lines};
use crate::system::kernel::{AttachedLoop, Call, Detach, backing_file, errno, path_in};
use crate::system::linux::{LinuxSystem, Reserved};
use crate::system::{
    DeviceNumber, MapRequest, MappedDevice, ProcessId, SystemErrorKind, mounts, state,
};
use crate::volume::{ImageSpec, MapperKind};

/// librbd's write-back cache: several times faster, because `rbd-fuse` writes one request after the
/// other. Off unless asked for: `rbd-fuse` drops the error of a flush, so that a host that was
/// fenced could still be told that an fsync had succeeded.
const WRITE_BACK: &str = "rbd_cache=true";
/// How long an undo may take when the deadline of what it undoes is over.
const UNDO: Duration = Duration::from_secs(10);
/// How long `rbd-fuse` may take to close the image and end, before it is told to.
const CLOSING: Duration = Duration::from_secs(3);
/// How much of a log is kept.
const LONGEST_LOG: u64 = 256 * 1024;

/// What a folder says of its map.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    image: ImageSpec,
    read_only: bool,
}

/// The loop device that was made, told from a later one of its number by the kernel's sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedLoop {
    device: PathBuf,
    sequence: String,
}

/// The folder of one map.
#[derive(Debug, Clone)]
struct Folder(PathBuf);

/// A map as it is found, whole or not.
#[derive(Debug)]
struct Found {
    folder: Folder,
    recorded: Recorded,
    process: Option<ProcessId>,
    loop_device: Option<PathBuf>,
}

impl Folder {
    fn mountpoint(&self) -> PathBuf {
        self.0.join("mnt")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn image_file(&self) -> PathBuf {
        self.0.join("image")
    }

    fn process_file(&self) -> PathBuf {
        self.0.join("process")
    }

    fn loop_file(&self) -> PathBuf {
        self.0.join("loop")
    }

    fn process(&self) -> Option<ProcessId> {
        state::read(&self.process_file()).filter(|process: &ProcessId| process.is_alive())
    }

    /// The end of the log; and the log is cut where it has grown too long.
    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        last_lines(&log)
    }

    fn cut_log(&self) {
        let long = std::fs::metadata(self.log()).is_ok_and(|log| log.len() > LONGEST_LOG);
        if long && let Ok(log) = std::fs::OpenOptions::new().write(true).open(self.log()) {
            let _ = log.set_len(0);
        }
    }

    /// The folder `mnt` went with the unmount; whatever is mounted there stays.
    fn remove(&self) -> KindResult<()> {
        let files = [self.image_file(), self.process_file(), self.loop_file(), self.log()];
        if self.mountpoint().symlink_metadata().is_ok() {
            std::fs::remove_dir(self.mountpoint()).map_err(io(&self.mountpoint()))?;
        }
        for file in files {
            let _ = std::fs::remove_file(file);
        }
        match std::fs::remove_dir(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&self.0)(error)),
            _ => Ok(()),
        }
    }
}

impl LinuxSystem {
    pub(super) fn fuse_missing(&self) -> Option<String> {
        let nodes = [("/dev/fuse", "fuse"), ("/dev/loop-control", "loop")];
        let absent = nodes.iter().find(|(node, _)| !Path::new(node).exists());
        let kernel = absent.map(|(node, module)| {
            format!("{node} is missing; load the kernel module {module} (modprobe {module})")
        });
        missing(self, &["rbd-fuse"], kernel)
    }

    pub(super) fn map_fuse(
        &self,
        request: &MapRequest,
        deadline: &Deadline,
    ) -> KindResult<MappedDevice> {
        if let Some(option) = request.map_options.iter().find(|option| *option != WRITE_BACK) {
            let text =
                format!("the map option {option:?}: the fuse mapper takes {WRITE_BACK} only");
            return Err(SystemErrorKind::Refused(text));
        }
        let (folder, _reserved) = self.new_folder(&request.image)?;
        let made = self.make_map(&folder, request, deadline);
        made.inspect_err(|kind| {
            let stuck = matches!(kind, SystemErrorKind::Timeout { .. });
            if let Err(error) = self.take_down(&folder, stuck, &deadline.for_undo(UNDO)) {
                tracing::warn!(%error, image = %request.image, "a failed map was not undone");
            }
        })
    }

    fn make_map(
        &self,
        folder: &Folder,
        request: &MapRequest,
        deadline: &Deadline,
    ) -> KindResult<MappedDevice> {
        let recorded = Recorded { image: request.image.clone(), read_only: request.read_only };
        state::replace(&folder.image_file(), &recorded).map_err(io(&folder.0))?;
        state::make_folder(&folder.mountpoint()).map_err(io(&folder.0))?;
        let process = self.start_rbd_fuse(folder, request, deadline)?;
        if !mounts::wait_for_mount(&folder.mountpoint(), process, deadline)? {
            return Err(ended(folder, "ended at once"));
        }
        let attached = self.attach_loop(folder, request, deadline)?;
        let sequence = sequence_of(&attached.device).unwrap_or_default();
        let recorded = RecordedLoop { device: attached.device.clone(), sequence };
        state::replace(&folder.loop_file(), &recorded).map_err(io(&folder.0))?;
        let number = number_of(&attached.device)
            .ok_or_else(|| SystemErrorKind::Refused("the loop device is gone".to_owned()))?;
        Ok(MappedDevice {
            mapper: MapperKind::Fuse,
            image: request.image.clone(),
            device: attached.device,
            number,
            read_only: request.read_only,
            client_address: None,
            process: Some(process),
        })
    }

    fn start_rbd_fuse(
        &self,
        folder: &Folder,
        request: &MapRequest,
        deadline: &Deadline,
    ) -> KindResult<ProcessId> {
        let command = self.programs().find("rbd-fuse")?;
        let command = command.arg("-f").args(self.ceph_args()).args(arguments(request));
        // It closes its standard error once it runs.
        let command = command.arg(format!("--log-file={}", folder.log().display()));
        let line = command.arg(folder.mountpoint()).line().into_iter();
        let detach = Detach {
            line: line.map(|arg| arg.to_string_lossy().into_owned()).collect(),
            log: folder.log(),
            process_file: folder.process_file(),
        };
        self.kernel().call(&Call::Detach(detach), deadline)
    }

    fn attach_loop(
        &self,
        folder: &Folder,
        request: &MapRequest,
        deadline: &Deadline,
    ) -> KindResult<AttachedLoop> {
        let file = folder.mountpoint().join(&request.image.image);
        let call = Call::AttachLoop { file, read_only: request.read_only };
        self.kernel().call(&call, deadline).map_err(|kind| match errno(&kind) {
            // rbd-fuse says so of every image that it cannot open, for whatever reason.
            Some(libc::ENOENT | libc::ENOTCONN | libc::EIO) => ended(folder, "cannot open it"),
            Some(libc::ENODATA) => SystemErrorKind::Refused("its size is 0".to_owned()),
            _ => kind,
        })
    }

    /// A folder that no other map has; one of which nothing is left is taken away first.
    fn new_folder(&self, image: &ImageSpec) -> KindResult<(Folder, Reserved<'_>)> {
        let all = self.fuse_folder();
        state::make_folder(&all).map_err(io(&all))?;
        let name = file_name(image);
        let names = (1..1000).map(|copy| format!("{name}+{copy}"));
        for name in std::iter::once(name.clone()).chain(names) {
            let folder = Folder(all.join(name));
            let Some(reserved) = self.reserve(&folder.0) else { continue };
            if folder.0.exists() && !self.found()?.iter().any(|it| it.folder.0 == folder.0) {
                let _ = folder.remove();
            }
            match std::fs::create_dir(&folder.0) {
                Ok(()) => return Ok((folder, reserved)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io(&folder.0)(error)),
            }
        }
        Err(SystemErrorKind::Refused("it is mapped a thousand times".to_owned()))
    }

    pub(super) fn unmap_fuse(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let Some(found) = self.found()?.into_iter().find(|found| found.is(device)) else {
            return Ok(());
        };
        let Some(_reserved) = self.reserve(&found.folder.0) else {
            return Err(SystemErrorKind::Refused("it is being unmapped already".to_owned()));
        };
        self.take_down(&found.folder, false, deadline)
    }

    /// The way back, from wherever the map had got to. `stuck`: nothing was written yet, and
    /// `rbd-fuse` is killed first, because a child of ours may wait for it.
    fn take_down(&self, folder: &Folder, stuck: bool, deadline: &Deadline) -> KindResult<()> {
        let process = folder.process();
        if let Some(process) = process.filter(|_| stuck) {
            process.signal(Signal::SIGKILL);
            let _ = process.wait_for_end(&deadline.at_most(CLOSING));
        }
        if let Some(device) = loop_of(folder, &loop_devices()?) {
            self.detach_loop(&device, deadline)?;
        }
        let call = Call::Unmount { target: folder.mountpoint(), lazy: true };
        self.kernel().call::<()>(&call, deadline)?;
        if let Some(process) = process {
            end(process, deadline)?;
        }
        folder.remove()
    }

    fn detach_loop(&self, device: &Path, deadline: &Deadline) -> KindResult<()> {
        let Some(file) = backing_file(device) else { return Ok(()) };
        let call = Call::DetachLoop { device: device.to_owned(), file };
        self.until_free(device, None, deadline, || unless_busy(self.kernel().call(&call, deadline)))
    }

    pub(super) fn mapped_fuse(&self) -> KindResult<Vec<MappedDevice>> {
        let found = self.found()?.into_iter();
        let settled = found.filter(|found| !self.is_reserved(&found.folder.0));
        Ok(settled.inspect(|found| found.folder.cut_log()).map(Found::into_device).collect())
    }

    /// The file's size comes from the image each time that the file is looked at, and the loop
    /// device takes it from there.
    pub(super) fn refresh_fuse(
        &self,
        device: &MappedDevice,
        deadline: &Deadline,
    ) -> KindResult<()> {
        let file = backing_file(&device.device)
            .ok_or_else(|| SystemErrorKind::Refused("it is not mapped".to_owned()))?;
        let call = Call::ResizeLoop { device: device.device.clone(), file };
        self.kernel().call::<u64>(&call, deadline).map(drop)
    }

    fn fuse_folder(&self) -> PathBuf {
        self.settings().state_folder.join("fuse")
    }

    /// All maps of which something is left: a loop device, a process or a mount.
    fn found(&self) -> KindResult<Vec<Found>> {
        let all = self.fuse_folder();
        let entries = match std::fs::read_dir(&all) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(&all)(error)),
        };
        let loops = loop_devices()?;
        let mounted = mounts::own()?;
        let folders = entries.filter_map(|entry| Some(Folder(entry.ok()?.path())));
        let found = folders.filter_map(|folder| {
            let recorded = state::read(&folder.image_file())?;
            let loop_device = loop_of(&folder, &loops);
            let process = folder.process();
            let is_mounted = mounted.iter().any(|it| it.mount.target == folder.mountpoint());
            let left = loop_device.is_some() || process.is_some() || is_mounted;
            left.then_some(Found { folder, recorded, process, loop_device })
        });
        Ok(found.collect())
    }
}

impl Found {
    /// One without a loop device is named by its folder, and has the number 0:0.
    fn into_device(self) -> MappedDevice {
        let device = self.loop_device.unwrap_or(self.folder.0);
        MappedDevice {
            mapper: MapperKind::Fuse,
            image: self.recorded.image,
            number: number_of(&device).unwrap_or(DeviceNumber { major: 0, minor: 0 }),
            read_only: self.recorded.read_only || is_read_only(&device),
            device,
            client_address: None,
            process: self.process,
        }
    }

    /// Is it what the device was made from? A loop device's number may be another's by now.
    fn is(&self, device: &MappedDevice) -> bool {
        let same_process = device.process.is_some() && self.process == device.process;
        let same_device = self.loop_device.as_ref() == Some(&device.device);
        let same_image = self.recorded.image == device.image;
        same_image && (same_process || same_device || self.folder.0 == device.device)
    }
}

fn arguments(request: &MapRequest) -> Vec<String> {
    let image = &request.image;
    let cached = request.map_options.iter().any(|option| option == WRITE_BACK);
    let mut args = vec![format!("--rbd_cache={cached}")];
    if request.read_only {
        args.push("--rbd_auto_exclusive_lock_until_manual_request=false".to_owned());
    }
    args.extend(["-p".to_owned(), image.location.pool.clone()]);
    if !image.location.namespace.is_empty() {
        args.extend(["-s".to_owned(), image.location.namespace.clone()]);
    }
    args.extend(["-r".to_owned(), image.image.clone()]);
    args
}

fn ended(folder: &Folder, how: &str) -> SystemErrorKind {
    SystemErrorKind::Command {
        program: "rbd-fuse".to_owned(),
        status: how.to_owned(),
        output: folder.log_tail(),
    }
}

/// It ends by itself when its last file is closed and it is unmounted; where another mount
/// namespace has a copy of the mount it does not, and is told to.
fn end(process: ProcessId, deadline: &Deadline) -> KindResult<()> {
    let started = Instant::now();
    if process.wait_for_end(&deadline.at_most(CLOSING)) {
        return Ok(());
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        process.signal(signal);
        if process.wait_for_end(&deadline.for_undo(CLOSING).at_most(CLOSING)) {
            return Ok(());
        }
    }
    Err(SystemErrorKind::Timeout { after: started.elapsed() })
}

/// Every loop device with its file, by sysfs. Asking the devices would look at their files.
pub(crate) fn loop_devices() -> KindResult<HashMap<PathBuf, PathBuf>> {
    let path = Path::new("/sys/block");
    let names = std::fs::read_dir(path).map_err(io(path))?.flatten().map(|it| it.file_name());
    let loops = names.filter(|name| name.to_string_lossy().starts_with("loop"));
    let backed = loops.filter_map(|name| {
        let text = std::fs::read(path.join(&name).join("loop/backing_file")).ok()?;
        Some((Path::new("/dev").join(name), path_in(&text)))
    });
    Ok(backed.collect())
}

/// The loop device of a folder: by its file's path, or, where the mount was taken away from under
/// it and the kernel shows no more than the image's name, by the record.
fn loop_of(folder: &Folder, loops: &HashMap<PathBuf, PathBuf>) -> Option<PathBuf> {
    let below = folder.mountpoint();
    let by_path = loops.iter().find(|(_, file)| file.starts_with(&below));
    if let Some((device, _)) = by_path {
        return Some(device.clone());
    }
    let recorded: RecordedLoop = state::read(&folder.loop_file())?;
    let same = sequence_of(&recorded.device)? == recorded.sequence;
    (same && loops.contains_key(&recorded.device)).then_some(recorded.device)
}

/// A number that the kernel never gives twice in a boot (since 5.15).
fn sequence_of(device: &Path) -> Option<String> {
    let path = Path::new("/sys/block").join(device.file_name()?).join("diskseq");
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_off_and_a_reader_never_asks_for_the_lock() {
        let line = |text: &str, read_only| {
            let (mapper, image) = (MapperKind::Fuse, text.parse().expect("a spec"));
            let request =
                MapRequest { mapper, image, read_only, map_options: Vec::new(), client: None };
            arguments(&request).join(" ")
        };
        assert_eq!(line("rbd/docker/v1", false), "--rbd_cache=false -p rbd -s docker -r v1");
        let (mapper, image) = (MapperKind::Fuse, "rbd/v1".parse().expect("a spec"));
        let map_options = vec![WRITE_BACK.to_owned()];
        let cached = MapRequest { mapper, image, read_only: false, map_options, client: None };
        assert_eq!(arguments(&cached).join(" "), "--rbd_cache=true -p rbd -r v1");
        assert_eq!(
            line("rbd/v1", true),
            "--rbd_cache=false --rbd_auto_exclusive_lock_until_manual_request=false -p rbd -r v1"
        );
    }

    #[test]
    fn a_loop_device_is_known_by_its_file_below_the_folder() {
        let loops = HashMap::from([
            (PathBuf::from("/dev/loop0"), PathBuf::from("/s/fuse/a+1/mnt/x")),
            (PathBuf::from("/dev/loop1"), PathBuf::from("/s/fuse/a/mnt/x")),
        ]);
        let of = |path: &str| loop_of(&Folder(PathBuf::from(path)), &loops);
        assert_eq!(of("/s/fuse/a"), Some(PathBuf::from("/dev/loop1")));
        assert_eq!(of("/s/fuse/b"), None);
    }
}

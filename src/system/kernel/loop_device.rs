//! Loop devices, in the child.
//!
//! Always with direct I/O, and never without: on the buffered path the loop driver answers a read
//! that the file below could not do with zeros, and says that all went well. With direct I/O it is
//! an error, as it has to be.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Failure, ioctl};

const READ_ONLY: u32 = 1;
const DIRECT_IO: u32 = 16;
/// A free device may be taken by somebody else between being found and being set up.
const ATTEMPTS: usize = 64;

/// A loop device that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachedLoop {
    pub(crate) device: PathBuf,
    /// Never 0: an empty image is refused.
    pub(crate) size: u64,
}

/// Makes a loop device of a file.
pub(super) fn attach(file: &Path, read_only: bool) -> Result<AttachedLoop, Failure> {
    let backing = OpenOptions::new().read(true).write(!read_only).open(file);
    let backing = backing.map_err(Failure::of(file))?;
    let control = Path::new("/dev/loop-control");
    let control_file = File::options().read(true).write(true).open(control);
    let control_file = control_file.map_err(Failure::of(control))?;
    for _ in 0..ATTEMPTS {
        let number = ioctl::free_loop(&control_file).map_err(Failure::of(control))?;
        match attach_to(number, &backing, read_only) {
            Err(Failure { errno: libc::EBUSY, .. }) => {}
            result => return result,
        }
    }
    Err(Failure { errno: libc::EBUSY, path: control.to_owned() })
}

fn attach_to(number: u32, backing: &File, read_only: bool) -> Result<AttachedLoop, Failure> {
    let device = PathBuf::from(format!("/dev/loop{number}"));
    let opened = open_node(&device)?;
    let flags = if read_only { DIRECT_IO | READ_ONLY } else { DIRECT_IO };
    ioctl::configure_loop(&opened, backing, flags).map_err(Failure::of(&device))?;
    let size = ioctl::device_size(&opened).unwrap_or(0);
    if size > 0 && has_direct_io(number) {
        return Ok(AttachedLoop { device, size });
    }
    let _ = ioctl::clear_loop(&opened);
    let errno = if size == 0 { libc::ENODATA } else { libc::EOPNOTSUPP };
    Err(Failure { errno, path: device })
}

/// The node of a new device comes a moment after the device.
fn open_node(device: &Path) -> Result<File, Failure> {
    let mut opened = OpenOptions::new().read(true).write(true).open(device);
    for _ in 0..100 {
        if !matches!(&opened, Err(error) if error.raw_os_error() == Some(libc::ENOENT)) {
            break;
        }
        thread::sleep(Duration::from_millis(10));
        opened = OpenOptions::new().read(true).write(true).open(device);
    }
    opened.map_err(Failure::of(device))
}

fn has_direct_io(number: u32) -> bool {
    let dio = std::fs::read_to_string(format!("/sys/block/loop{number}/loop/dio"));
    dio.is_ok_and(|dio| dio.trim() == "1")
}

/// Takes a loop device off its file, now or not at all.
///
/// The kernel would say yes to a busy one and do it later, when nobody expects it any more. So it
/// is opened for ourselves alone first, which fails while it is mounted in any namespace; and if
/// somebody has it open besides, the order is taken back.
pub(super) fn detach(device: &Path, file: &Path) -> Result<(), Failure> {
    if backing_file(device).as_deref() != Some(file) {
        return Ok(());
    }
    let mut alone = OpenOptions::new();
    let opened = alone.read(true).custom_flags(libc::O_EXCL).open(device);
    let opened = opened.map_err(Failure::of(device))?;
    // What was written to the device past a file system. An error tells of data that can never
    // be written any more; it was reported to whoever wrote it.
    let _ = opened.sync_all();
    match ioctl::clear_loop(&opened) {
        Ok(()) | Err(Errno::ENXIO) => {}
        Err(errno) => return Err(Failure::of(device)(errno)),
    }
    drop(opened);
    wait_until_off(device, file)
}

fn wait_until_off(device: &Path, file: &Path) -> Result<(), Failure> {
    for _ in 0..50 {
        if backing_file(device).as_deref() != Some(file) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    if let Ok(opened) = File::open(device) {
        let _ = ioctl::set_loop_flags(&opened, 0);
    }
    Err(Failure { errno: libc::EBUSY, path: device.to_owned() })
}

/// The file behind a loop device, by sysfs: the ioctl that tells it looks at the file, and hangs.
pub(crate) fn backing_file(device: &Path) -> Option<PathBuf> {
    let name = device.file_name()?.to_str()?;
    let text = std::fs::read(format!("/sys/block/{name}/loop/backing_file")).ok()?;
    Some(path_in(&text))
}

/// The path that sysfs shows, with a newline behind it.
pub(crate) fn path_in(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    PathBuf::from(std::ffi::OsStr::from_bytes(text))
}

/// Lets a loop device see the size of its file, and gives the size.
///
/// The file's size as the kernel remembers it is brought up to date first, by looking at it.
pub(super) fn resize(device: &Path, file: &Path) -> Result<u64, Failure> {
    let size = std::fs::metadata(file).map_err(Failure::of(file))?.len();
    let opened = OpenOptions::new().read(true).write(true).open(device);
    let opened = opened.or_else(|_| File::open(device)).map_err(Failure::of(device))?;
    let now = ioctl::device_size(&opened).map_err(Failure::of(device))?;
    if now != size {
        ioctl::refresh_loop(&opened).map_err(Failure::of(device))?;
    }
    ioctl::device_size(&opened).map_err(Failure::of(device))
}

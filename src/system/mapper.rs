//! Images as block devices: which mappers there are, and which of the devices here are ours.
//!
//! What is mapped is read from the kernel and from `/proc`, never remembered. The files below the
//! state folder only say which of those devices are ours, and stand with the boot ID, because the
//! numbers of devices and clients start again with each boot.

mod cut;
mod fuse;
mod krbd;
mod nbd;
mod numbered;
mod record;

pub(crate) use fuse::loop_devices;

use std::path::Path;
use std::time::Duration;

use krbd::Krbd;
use nbd::Nbd;
use numbered::Numbered;

use super::filesystem::is_read_only;
use super::kernel::{Call, errno};
use super::linux::LinuxSystem;
use super::{
    DeviceNumber, Holder, MapRequest, MappedDevice, MapperSupport, Mappers, ProcessId, Result,
    SystemErrorKind, holders,
};
use crate::deadline::Deadline;
use crate::volume::{ImageSpec, MapperKind};

/// How long an unmap waits for who has the device open: udev, `blkid`, a child of ours that was
/// stuck. Who has it mounted stays longer, and is named.
const BUSY: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

type KindResult<T> = std::result::Result<T, SystemErrorKind>;

impl Mappers for LinuxSystem {
    fn supported(&self) -> Vec<MapperSupport> {
        let missing = |mapper| match mapper {
            MapperKind::Krbd => Krbd(self).missing(),
            MapperKind::Nbd => Nbd(self).missing(),
            MapperKind::Fuse => self.fuse_missing(),
        };
        let all = MapperKind::ALL.iter().copied();
        all.map(|mapper| MapperSupport { mapper, missing: missing(mapper) }).collect()
    }

    fn carried_features(&self, mapper: MapperKind) -> Option<Vec<String>> {
        match mapper {
            MapperKind::Krbd => Some(krbd::features()),
            MapperKind::Nbd | MapperKind::Fuse => None,
        }
    }

    fn map(&self, request: &MapRequest, deadline: &Deadline) -> Result<MappedDevice> {
        let mapped = match request.mapper {
            MapperKind::Krbd => Krbd(self).map(request, deadline),
            MapperKind::Nbd => Nbd(self).map(request, deadline),
            MapperKind::Fuse => self.map_fuse(request, deadline),
        };
        let step = || format!("map {} by {}", request.image, request.mapper);
        mapped.map_err(|kind| kind.during(step()))
    }

    fn unmap(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()> {
        let unmapped = match device.mapper {
            MapperKind::Krbd => Krbd(self).unmap(device, deadline),
            MapperKind::Nbd => Nbd(self).unmap(device, deadline),
            MapperKind::Fuse => self.unmap_fuse(device, deadline),
        };
        let step = || format!("unmap {} ({})", device.image, device.device.display());
        unmapped.map_err(|kind| kind.during(step()))
    }

    fn mapped(&self) -> Result<Vec<MappedDevice>> {
        let all = || -> KindResult<Vec<MappedDevice>> {
            let mut all = Krbd(self).mapped()?;
            all.extend(Nbd(self).mapped()?);
            all.extend(self.mapped_fuse()?);
            Ok(all)
        };
        all().map_err(|kind| kind.during("list the mapped devices"))
    }

    fn cut_off(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()> {
        let step = || format!("cut off {} ({})", device.image, device.device.display());
        self.cut(device, deadline).map_err(|kind| kind.during(step()))
    }

    fn is_client_gone(&self, address: &str) -> Result<bool> {
        let gone = self.client_is_gone(address);
        gone.map_err(|kind| kind.during(format!("look for client {address}")))
    }

    fn refresh_size(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()> {
        let refreshed = match device.mapper {
            MapperKind::Krbd => Krbd(self).refresh(device, deadline),
            // rbd-nbd watches the image and sets the device's size itself.
            MapperKind::Nbd => Ok(()),
            MapperKind::Fuse => self.refresh_fuse(device, deadline),
        };
        let step = || format!("refresh the size of {}", device.device.display());
        refreshed.map_err(|kind| kind.during(step()))
    }

    fn refresh(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()> {
        let refreshed = match device.mapper {
            MapperKind::Krbd => Krbd(self).refresh(device, deadline),
            MapperKind::Nbd | MapperKind::Fuse => Ok(()),
        };
        let step = || format!("read the header of {} again", device.image);
        refreshed.map_err(|kind| kind.during(step()))
    }
}

impl LinuxSystem {
    /// Waits for the node of a new device, and for it to have a size.
    fn wait_for_device(&self, device: &Path, deadline: &Deadline) -> KindResult<()> {
        let step = Duration::from_millis(10);
        while !device.exists() {
            if !deadline.wait(step) {
                return Err(SystemErrorKind::Missing {
                    what: format!("the node {}", device.display()),
                    advice: "mount devtmpfs on /dev, or run udev".to_owned(),
                });
            }
        }
        let size: u64 = self.kernel().call(&Call::Size { device: device.to_owned() }, deadline)?;
        if size > 0 { Ok(()) } else { Err(SystemErrorKind::Refused("its size is 0".to_owned())) }
    }

    /// Repeats what fails while somebody has the device open, for a moment; then says who it is.
    /// An attempt answers whether it was done. The process that serves the device holds nothing.
    fn until_free(
        &self,
        device: &Path,
        server: Option<ProcessId>,
        deadline: &Deadline,
        mut attempt: impl FnMut() -> KindResult<bool>,
    ) -> KindResult<()> {
        let patience = deadline.at_most(BUSY);
        while !attempt()? {
            if !patience.wait(PAUSE) {
                return Err(SystemErrorKind::Busy(self.device_holders(device, server)));
            }
        }
        Ok(())
    }

    /// Who holds a device: mounts in any namespace, devices on top of it, and open files.
    fn device_holders(&self, device: &Path, server: Option<ProcessId>) -> Vec<Holder> {
        let mounts = number_of(device).map(|number| holders::find(number, Path::new("/nowhere")));
        let mut found = mounts.and_then(std::result::Result::ok).unwrap_or_default();
        let name = device.file_name().unwrap_or_default();
        let above = Path::new("/sys/class/block").join(name).join("holders");
        let above = std::fs::read_dir(above).into_iter().flatten().flatten();
        found.extend(above.map(|entry| Holder {
            pid: 0,
            command: "a device on top of it".to_owned(),
            target: Path::new("/dev").join(entry.file_name()),
        }));
        let serves = |holder: &Holder| server.is_some_and(|server| server.pid == holder.pid);
        let open = holders::with_open_files(device).into_iter();
        found.extend(open.filter(|holder| !serves(holder)));
        found
    }
}

/// `EBUSY` is no failure but a "not yet", as [`LinuxSystem::until_free`] wants it.
fn unless_busy(result: KindResult<()>) -> KindResult<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(kind) if errno(&kind) == Some(libc::EBUSY) => Ok(false),
        Err(kind) => Err(kind),
    }
}

/// The number of a block device, by sysfs.
fn number_of(device: &Path) -> Option<DeviceNumber> {
    let path = Path::new("/sys/class/block").join(device.file_name()?).join("dev");
    let text = std::fs::read_to_string(path).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Can the kernel load the module, or has it already?
pub(super) fn has_module(name: &str) -> bool {
    if Path::new("/sys/module").join(name).is_dir() {
        return true;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = Path::new("/lib/modules").join(release.trim());
    let lists = ["modules.dep", "modules.builtin"].map(|list| folder.join(list));
    let texts = lists.iter().filter_map(|list| std::fs::read_to_string(list).ok());
    let file = format!("/{name}.ko");
    texts.into_iter().any(|text| text.lines().any(|line| names_module(line, &file)))
}

fn names_module(line: &str, file: &str) -> bool {
    line.split(':').next().is_some_and(|module| module.contains(file))
}

/// What a mapper lacks: the first of the programs, then the kernel's part.
fn missing(system: &LinuxSystem, programs: &[&str], kernel: Option<String>) -> Option<String> {
    let found = programs.iter().map(|program| system.programs().find(program));
    let absent = found.filter_map(|result| result.err().map(|kind| kind.to_string())).next();
    absent.or(kernel)
}

/// `pool/namespace/image` as a file's name, for people to recognise.
fn file_name(image: &ImageSpec) -> String {
    const LONGEST: usize = 160;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text = image.to_string().replace('/', ":");
    let escaped: String =
        text.chars().map(|c| if plain(c) || c == ':' { c } else { '%' }).collect();
    escaped.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_in_the_lists_of_the_kernel() {
        let dep = "kernel/drivers/block/rbd.ko.xz: kernel/net/ceph/libceph.ko.xz";
        assert!(names_module(dep, "/rbd.ko"));
        assert!(!names_module(dep, "/libceph.ko"));
        assert!(!names_module("kernel/drivers/block/xrbd.ko:", "/rbd.ko"));
    }

    #[test]
    fn a_file_name_has_no_slash_and_an_end() {
        let long = "x".repeat(300);
        let name = |text: &str| file_name(&text.parse().expect("a spec"));
        assert_eq!(name("rbd/docker/pg data"), "rbd:docker:pg%data");
        assert_eq!(name(&format!("rbd/{long}")).len(), 160);
    }
}

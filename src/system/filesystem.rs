//! File systems on block devices, by the programs that belong to them.
//!
//! Formatting is refused unless the device is blank: `blkid` knows nothing on it *and* its first
//! MiB can be read and is zero. `blkid` alone is not enough, because it takes a device that it
//! cannot read for one with nothing on it, and knows nothing of data without a signature.

use std::path::Path;

use super::command::{Command, Output};
use super::kernel::{Call, errno};
use super::linux::LinuxSystem;
use super::{
    Filesystems, FormatRequest, FsUsage, Ownership, Probe, Result, SystemErrorKind, mounts,
};
use crate::deadline::Deadline;
use crate::volume::{ByteSize, FsType};

type KindResult<T> = std::result::Result<T, SystemErrorKind>;

/// `blkid` exits so when it has found nothing, and also when it could not read.
const NOTHING_FOUND: i32 = 2;
/// `blkid` exits so when what it found contradicts itself.
const AMBIVALENT: i32 = 8;
/// In blocks: what is less than this may be too little for another block group.
const SMALLEST_GROWTH: u64 = 1024;
/// What a device holds that has no signature and is not zero.
const UNKNOWN_DATA: &str = "data of an unknown kind";

impl Filesystems for LinuxSystem {
    fn probe(&self, device: &Path, deadline: &Deadline) -> Result<Probe> {
        let probed = self.probe_device(device, deadline);
        probed.map_err(|kind| kind.during(format!("probe {}", device.display())))
    }

    fn is_sound(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> Result<bool> {
        let call = Call::IsSoundExt4 { device: device.to_owned() };
        let sound = match fs_type {
            FsType::Ext4 => self.kernel().call(&call, deadline),
            FsType::Xfs => Ok(false),
        };
        sound.map_err(|kind| kind.during(format!("read the superblock of {}", device.display())))
    }

    fn format(&self, device: &Path, request: &FormatRequest, deadline: &Deadline) -> Result<Probe> {
        let format = || -> KindResult<Probe> {
            let found = self.probe_device(device, deadline)?;
            if found == Probe::Empty {
                self.mkfs(device, request)?.run(deadline)?;
            }
            Ok(found)
        };
        let step = || format!("make {} on {}", request.fs_type, device.display());
        format().map_err(|kind| kind.during(step()))
    }

    fn check(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> Result<()> {
        let check = || match fs_type {
            FsType::Ext4 if !is_read_only(device) => self.e2fsck(device, &["-p"], deadline),
            FsType::Ext4 | FsType::Xfs => Ok(()),
        };
        check().map_err(|kind| kind.during(format!("check {fs_type} on {}", device.display())))
    }

    fn grow(
        &self,
        device: &Path,
        mountpoint: &Path,
        fs_type: FsType,
        deadline: &Deadline,
    ) -> Result<()> {
        let grow = || -> KindResult<()> {
            let mounted = mounts::own()?.iter().any(|entry| entry.mount.target == mountpoint);
            match fs_type {
                FsType::Ext4 if mounted => self.grow_mounted_ext4(device, deadline),
                FsType::Ext4 if !has_sys_resource() => self.grow_unmounted_ext4(device, deadline),
                // Mounted it grows in a moment, without the full check of one that is not.
                FsType::Ext4 => Ok(()),
                FsType::Xfs if !mounted => Ok(()),
                FsType::Xfs => {
                    self.programs().find("xfs_growfs")?.arg(mountpoint).run(deadline).map(drop)
                }
            }
        };
        grow().map_err(|kind| kind.during(format!("grow {fs_type} on {}", device.display())))
    }

    fn usage(&self, mountpoint: &Path, deadline: &Deadline) -> Result<FsUsage> {
        let call = Call::Usage { mountpoint: mountpoint.to_owned() };
        let usage = self.kernel().call(&call, deadline);
        usage.map_err(|kind| kind.during(format!("read the usage of {}", mountpoint.display())))
    }

    fn trim(&self, mountpoint: &Path, deadline: &Deadline) -> Result<ByteSize> {
        let call = Call::Trim { mountpoint: mountpoint.to_owned() };
        let trimmed = self.kernel().call(&call, deadline).map_err(|kind| match errno(&kind) {
            Some(libc::EOPNOTSUPP) => SystemErrorKind::Refused(
                "the device cannot give blocks back; volumes of the fuse mapper never can".into(),
            ),
            _ => kind,
        });
        let trimmed = trimmed.map(ByteSize);
        trimmed.map_err(|kind| kind.during(format!("trim {}", mountpoint.display())))
    }

    fn make_folder(
        &self,
        mountpoint: &Path,
        name: &str,
        owner: Ownership,
        deadline: &Deadline,
    ) -> Result<()> {
        let (mountpoint, name) = (mountpoint.to_owned(), name.to_owned());
        let step = format!("make the folder {name} in {}", mountpoint.display());
        let call = Call::MakeFolder { mountpoint, name, owner };
        self.kernel().call(&call, deadline).map_err(|kind| kind.during(step))
    }

    fn new_uuid(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> Result<()> {
        let step = || format!("give {fs_type} on {} a new UUID", device.display());
        self.renew_uuid(device, fs_type, deadline).map_err(|kind| kind.during(step()))
    }
}

impl LinuxSystem {
    fn probe_device(&self, device: &Path, deadline: &Deadline) -> KindResult<Probe> {
        let blkid = self.programs().find("blkid")?.args(["-p", "-o", "export"]).arg(device);
        let output = blkid.run_to_any_end(deadline)?;
        match output.code() {
            Some(0) => Ok(found(&String::from_utf8_lossy(&output.stdout))),
            Some(AMBIVALENT) => Ok(Probe::Other("several contradicting signatures".to_owned())),
            Some(NOTHING_FOUND) => self.blank_or_not(device, deadline),
            _ => Err(blkid.failed(&output)),
        }
    }

    fn blank_or_not(&self, device: &Path, deadline: &Deadline) -> KindResult<Probe> {
        let call = Call::IsBlank { device: device.to_owned() };
        let blank: bool = self.kernel().call(&call, deadline)?;
        Ok(if blank { Probe::Empty } else { Probe::Other(UNKNOWN_DATA.to_owned()) })
    }

    /// New images are zero, so nothing is discarded, and what can be initialised later is. No
    /// blocks are kept back for root: a full volume does not stop a host.
    fn mkfs(&self, device: &Path, request: &FormatRequest) -> KindResult<Command> {
        let mkfs = match request.fs_type {
            FsType::Ext4 => {
                let lazy = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
                self.programs().find("mkfs.ext4")?.args(["-q", "-m", "0", "-E", lazy])
            }
            FsType::Xfs => self.programs().find("mkfs.xfs")?.args(["-q", "-K"]),
        };
        Ok(mkfs.args(&request.mkfs_options).arg(device))
    }

    fn grow_mounted_ext4(&self, device: &Path, deadline: &Deadline) -> KindResult<()> {
        let resize2fs = self.programs().find("resize2fs")?.arg(device);
        let output = resize2fs.run_to_any_end(deadline)?;
        match output.code() {
            Some(0) => Ok(()),
            _ if !has_sys_resource() => Err(SystemErrorKind::Refused(
                "ext4 grows while mounted only for a process with the capability SYS_RESOURCE, \
                 which this one has not; it grows when it is mounted the next time"
                    .to_owned(),
            )),
            _ => Err(resize2fs.failed(&output)),
        }
    }

    /// resize2fs wants a full check first, which takes its time: only where there is room.
    fn grow_unmounted_ext4(&self, device: &Path, deadline: &Deadline) -> KindResult<()> {
        let header = self.programs().find("dumpe2fs")?.arg("-h").arg(device).run(deadline)?;
        let size: u64 = self.kernel().call(&Call::Size { device: device.to_owned() }, deadline)?;
        let header = String::from_utf8_lossy(&header.stdout).into_owned();
        let (blocks, block) = ext4_size(&header)
            .ok_or_else(|| SystemErrorKind::Refused("dumpe2fs tells no size".to_owned()))?;
        if size / block.max(1) < blocks + SMALLEST_GROWTH {
            return Ok(());
        }
        self.e2fsck(device, &["-f", "-p"], deadline)?;
        self.programs().find("resize2fs")?.arg(device).run(deadline).map(drop)
    }

    pub(super) fn e2fsck(
        &self,
        device: &Path,
        how: &[&str],
        deadline: &Deadline,
    ) -> KindResult<()> {
        let e2fsck = self.programs().find("e2fsck")?.args(how).arg(device);
        let output = e2fsck.run_to_any_end(deadline)?;
        match output.code() {
            Some(0) => Ok(()),
            Some(1) => {
                tracing::info!(device = %device.display(), output = output.tail(), "repaired");
                Ok(())
            }
            Some(code) if code & 4 != 0 => Err(SystemErrorKind::Refused(unsafe_repair(&output))),
            _ => Err(e2fsck.failed(&output)),
        }
    }
}

/// Has this process the capability? The kernel asks for it where a file system grows.
fn has_sys_resource() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_SYS_RESOURCE & 1 == 1)
}

/// The size in blocks and the size of a block, as `dumpe2fs -h` prints them.
fn ext4_size(header: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((value("Block count:")?, value("Block size:")?))
}

fn unsafe_repair(output: &Output) -> String {
    format!(
        "the file system has errors that e2fsck does not repair without being asked; run \
         `e2fsck DEVICE` by hand on the mapped image: {}",
        output.tail()
    )
}

/// What `blkid -o export` says: lines of `KEY=value`.
fn found(export: &str) -> Probe {
    let value = |key: &str| {
        let lines = export.lines().filter_map(|line| line.split_once('='));
        lines.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let fs_type = value("TYPE").map(str::parse::<FsType>);
    match (fs_type, value("TYPE"), value("PTTYPE")) {
        (Some(Ok(fs_type)), ..) => Probe::Filesystem(fs_type),
        (_, Some(other), _) => Probe::Other(other.to_owned()),
        (_, None, Some(table)) => Probe::Other(format!("a partition table ({table})")),
        (_, None, None) => Probe::Other(UNKNOWN_DATA.to_owned()),
    }
}

/// Is the device for reading only, by sysfs?
pub(super) fn is_read_only(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let path = Path::new("/sys/class/block").join(name).join("ro");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_ext4_is_read() {
        let header = "Filesystem volume name:   <none>\nBlock count:              102400\n\
                      Reserved block count:     0\nBlock size:               4096\n";
        assert_eq!(ext4_size(header), Some((102_400, 4096)));
        assert_eq!(ext4_size("Block size: x"), None);
    }

    #[test]
    fn blkid_is_understood() {
        let cases = [
            (
                "DEVNAME=/dev/x\nUUID=1\nTYPE=ext4\nUSAGE=filesystem\n",
                Probe::Filesystem(FsType::Ext4),
            ),
            ("TYPE=xfs\n", Probe::Filesystem(FsType::Xfs)),
            ("TYPE=crypto_LUKS\nUSAGE=crypto\n", Probe::Other("crypto_LUKS".to_owned())),
            ("PTUUID=1\nPTTYPE=gpt\n", Probe::Other("a partition table (gpt)".to_owned())),
            ("", Probe::Other(UNKNOWN_DATA.to_owned())),
        ];
        for (text, probe) in cases {
            assert_eq!(found(text), probe, "{text:?}");
        }
    }
}

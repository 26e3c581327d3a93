//! The kernel's own RBD client: mapped, found and unmapped by sysfs.
//!
//! No program of Ceph's is run: `rbd` would load librados and find the monitors anew for each map,
//! and wait for a udev that may not run. Devices are found in `/sys/bus/rbd`, never by the links
//! below `/dev/rbd`, which are udev's.

mod add;

use std::path::{Path, PathBuf};

use super::numbered::{Numbered, name_of};
use super::record::{Record, Records};
use super::{KindResult, has_module, is_read_only, number_of, unless_busy};
use crate::deadline::Deadline;
use crate::system::command::io;
use crate::system::kernel::{Call, errno};
use crate::system::linux::LinuxSystem;
use crate::system::{DeviceNumber, MapRequest, MappedDevice, System, SystemErrorKind};
use crate::volume::{ImageSpec, Location, MapperKind};

/// The kernel's RBD in sysfs.
pub(super) const BUS: &str = "/sys/bus/rbd";
const DEVICES: &str = "/sys/bus/rbd/devices";
/// Where a device is made, and taken away by its number. The first of each is there, and the only
/// one that works, unless the module was loaded with `single_major=0`.
const ADD: [&str; 2] = ["/sys/bus/rbd/add_single_major", "/sys/bus/rbd/add"];
pub(super) const REMOVE: [&str; 2] = ["/sys/bus/rbd/remove_single_major", "/sys/bus/rbd/remove"];

/// A feature's bit, its name, and the kernel that first carries it.
const FEATURES: &[(u64, &str, (u32, u32))] = &[
    (1 << 0, "layering", (3, 10)),
    (1 << 1, "striping", (4, 17)),
    (1 << 2, "exclusive-lock", (4, 9)),
    (1 << 3, "object-map", (5, 3)),
    (1 << 4, "fast-diff", (5, 3)),
    (1 << 5, "deep-flatten", (5, 1)),
    (1 << 7, "data-pool", (4, 11)),
    (1 << 8, "operations", (4, 16)),
];

/// The features that the kernel carries: as the module says, or as its release is known to.
pub(super) fn features() -> Vec<String> {
    let said = std::fs::read_to_string("/sys/bus/rbd/supported_features").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    features_of(said.trim(), release.trim())
}

fn features_of(said: &str, release: &str) -> Vec<String> {
    let bits = u64::from_str_radix(said.trim_start_matches("0x"), 16).ok();
    let release = parse_release(release);
    let carried = FEATURES.iter().filter(|(bit, _, since)| match bits {
        Some(bits) => bits & bit != 0,
        None => release >= *since,
    });
    carried.map(|(_, name, _)| (*name).to_owned()).collect()
}

fn parse_release(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

/// A device as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// `rbd0`.
    name: String,
    image: ImageSpec,
    client_id: String,
    client_address: String,
}

/// Every device below that folder that maps an image, not a snapshot.
fn devices(folder: &Path) -> KindResult<Vec<Seen>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(folder)(error)),
    };
    Ok(entries.flatten().filter_map(|entry| device(&entry.path())).collect())
}

fn device(folder: &Path) -> Option<Seen> {
    let value = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(text.trim_end_matches('\n').to_owned())
    };
    let number: u32 = folder.file_name()?.to_str()?.parse().ok()?;
    // Kernels before 4.19 have no namespaces and no such file.
    let namespace = value("pool_ns").unwrap_or_default();
    Some(Seen {
        name: format!("rbd{number}"),
        image: Location::new(value("pool")?, namespace).image(value("name")?),
        client_id: value("client_id")?,
        client_address: value("client_addr").unwrap_or_default(),
    })
}

/// The addresses of the clients of all devices.
pub(super) fn clients() -> KindResult<Vec<String>> {
    Ok(devices(Path::new(DEVICES))?.into_iter().map(|seen| seen.client_address).collect())
}

/// The number by which sysfs knows a device, while it still is that client's.
pub(super) fn number_of_client(device: &MappedDevice) -> KindResult<Option<String>> {
    let name = name_of(device);
    let same = |seen: &Seen| {
        seen.name == name && Some(&seen.client_address) == device.client_address.as_ref()
    };
    let seen = devices(Path::new(DEVICES))?.into_iter().find(same);
    Ok(seen.map(|seen| seen.name.trim_start_matches("rbd").to_owned()))
}

/// The one of two files of sysfs that works here.
pub(super) fn one_of([single, other]: [&str; 2]) -> PathBuf {
    PathBuf::from(if Path::new(single).exists() { single } else { other })
}

/// The mapper, on this host.
#[derive(Debug)]
pub(super) struct Krbd<'a>(pub(super) &'a LinuxSystem);

impl Krbd<'_> {
    pub(super) fn missing(&self) -> Option<String> {
        let absent = !has_module("rbd");
        absent.then(|| {
            "the kernel module rbd is missing; install a kernel that has it (Debian's \
             linux-image-amd64, not -cloud-) or use the mapper nbd or fuse"
                .to_owned()
        })
    }

    /// The kernel watches the image and sees its size and its snapshots by itself; this makes sure
    /// of it, and fails where the header cannot be read.
    pub(super) fn refresh(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let path = Path::new(DEVICES).join(number(device)).join("refresh");
        self.0.kernel().call(&Call::WriteSysfs { path, text: "1".to_owned() }, deadline)
    }

    fn record(&self, seen: &Seen) -> Record {
        Record {
            boot_id: self.0.host().boot_id.clone(),
            image: seen.image.clone(),
            client: Some(seen.client_id.clone()),
            process: None,
        }
    }
}

impl Numbered for Krbd<'_> {
    fn records(&self) -> Records {
        Records::of(self.0.settings().state_folder.join("krbd"), &self.0.host().boot_id)
    }

    fn all(&self) -> KindResult<Vec<(MappedDevice, Record)>> {
        let all = devices(Path::new(DEVICES))?.into_iter();
        Ok(all.map(|seen| (mapped(&seen), self.record(&seen))).collect())
    }

    fn map_new(
        &self,
        request: &MapRequest,
        before: &[String],
        deadline: &Deadline,
    ) -> KindResult<MappedDevice> {
        if !Path::new(DEVICES).is_dir() {
            self.0.programs().find("modprobe")?.arg("rbd").run(deadline)?;
        }
        let add = add::of(request, one_of(ADD))?;
        let added: KindResult<()> = self.0.kernel().call(&Call::AddRbd(add.clone()), deadline);
        added.map_err(|kind| add::explained(kind, &add))?;
        let mut new = devices(Path::new(DEVICES))?
            .into_iter()
            .filter(|seen| seen.image == request.image && !before.contains(&seen.name));
        let seen = new.next().ok_or_else(|| {
            SystemErrorKind::Refused(
                "the kernel says that it is mapped, and shows no device".to_owned(),
            )
        })?;
        self.records().add(&seen.name, &self.record(&seen))?;
        self.0.wait_for_device(&Path::new("/dev").join(&seen.name), deadline)?;
        Ok(mapped(&seen))
    }

    fn remove(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let call = Call::WriteSysfs { path: one_of(REMOVE), text: number(device) };
        self.0.until_free(&device.device, None, deadline, || {
            match self.0.kernel().call(&call, deadline) {
                Err(kind) if errno(&kind) == Some(libc::ENOENT) => Ok(true),
                result => unless_busy(result),
            }
        })
    }
}

fn mapped(seen: &Seen) -> MappedDevice {
    let device = PathBuf::from("/dev").join(&seen.name);
    MappedDevice {
        mapper: MapperKind::Krbd,
        image: seen.image.clone(),
        number: number_of(&device).unwrap_or(DeviceNumber { major: 0, minor: 0 }),
        read_only: is_read_only(&device),
        device,
        client_address: Some(seen.client_address.clone()).filter(|address| !address.is_empty()),
        process: None,
    }
}

/// `0` of `/dev/rbd0`.
fn number(device: &MappedDevice) -> String {
    name_of(device).trim_start_matches("rbd").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/krbd/devices")
    }

    /// Captured on Linux 6.1.
    #[test]
    fn devices_are_read_from_sysfs() {
        let mut seen = devices(&fixtures()).expect("the fixtures");
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        let images: Vec<_> = seen.iter().map(|seen| seen.image.to_string()).collect();
        assert_eq!(images, ["rbd/docker/pgdata", "rbd/plain"]);
        assert_eq!(seen[0].name, "rbd0");
        assert_eq!(seen[0].client_id, "client4190");
        assert_eq!(seen[0].client_address, "10.77.0.12:0/3471333831");
    }

    #[test]
    fn no_module_is_no_device() {
        assert_eq!(devices(Path::new("/nowhere/devices")).expect("none"), []);
    }

    #[test]
    fn features_are_as_the_module_says_or_as_its_release_is_known_for() {
        let all = "layering striping exclusive-lock object-map fast-diff deep-flatten data-pool \
                   operations";
        let before_5_1 = "layering striping exclusive-lock data-pool operations";
        let cases = [
            ("0x1bf", "5.4.0", all),
            ("", "6.1.0-18-amd64", all),
            ("", "5.0.21", before_5_1),
            ("", "4.9.0", "layering exclusive-lock"),
            ("", "", ""),
        ];
        for (said, release, names) in cases {
            assert_eq!(features_of(said, release).join(" "), names, "{said} {release}");
        }
    }
}

//! The kernel's own RBD client, by `rbd device map` and sysfs.
//!
//! Every map has `exclusive` (or else the lock goes back and forth between two writing hosts),
//! `noshare` (or else two maps share a client, and fencing one fences both) and `noudev` (or else
//! `rbd` waits for a udev that may not run, for ever). Devices are found in `/sys/bus/rbd`, never
//! by the links below `/dev/rbd`, which are udev's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::{Record, Records};
use super::{BUSY, KindResult, PAUSE, has_module, is_read_only, missing, number_of};
use crate::deadline::Deadline;
use crate::system::command::io;
use crate::system::kernel::Call;
use crate::system::linux::LinuxSystem;
use crate::system::{DeviceNumber, MapRequest, MappedDevice, SystemErrorKind};
use crate::volume::{ImageSpec, Location, MapperKind};

/// The kernel's RBD in sysfs.
pub(super) const BUS: &str = "/sys/bus/rbd";
const DEVICES: &str = "/sys/bus/rbd/devices";
/// How long an undo may take when the deadline of what it undoes is over.
const UNDO: Duration = Duration::from_secs(10);

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
    let name = name_of(&device.device);
    let same = |seen: &Seen| {
        seen.name == name && Some(&seen.client_address) == device.client_address.as_ref()
    };
    let seen = devices(Path::new(DEVICES))?.into_iter().find(same);
    Ok(seen.map(|seen| seen.name.trim_start_matches("rbd").to_owned()))
}

fn options(request: &MapRequest) -> String {
    let first = if request.read_only { "ro" } else { "exclusive" };
    let own = [first, "noshare", "noudev"].map(str::to_owned);
    own.into_iter().chain(request.map_options.clone()).collect::<Vec<_>>().join(",")
}

fn map_arguments(request: &MapRequest) -> Vec<String> {
    let mut args = ["device", "map", "--device-type", "krbd"].map(str::to_owned).to_vec();
    if request.read_only {
        args.push("--read-only".to_owned());
    }
    args.extend(["--options".to_owned(), options(request), request.image.to_string()]);
    args
}

impl LinuxSystem {
    pub(super) fn krbd_missing(&self) -> Option<String> {
        let absent = !has_module("rbd");
        let kernel = absent.then(|| {
            "the kernel module rbd is missing; install a kernel that has it (Debian's \
             linux-image-amd64, not -cloud-) or use the mapper nbd or fuse"
                .to_owned()
        });
        missing(self, &["rbd"], kernel)
    }

    fn krbd_records(&self) -> Records {
        let folder = self.settings().state_folder.join("krbd");
        Records::of(folder, &crate::system::System::host(self).boot_id)
    }

    pub(super) fn map_krbd(
        &self,
        request: &MapRequest,
        deadline: &Deadline,
    ) -> KindResult<MappedDevice> {
        if !Path::new(DEVICES).is_dir() {
            self.programs().find("modprobe")?.arg("rbd").run(deadline)?;
        }
        let records = self.krbd_records();
        let before = self.krbd_of(&request.image)?;
        let intent = records.begin(&request.image, before.clone())?;
        let mapped = self.map_new_krbd(request, &before, deadline);
        if mapped.is_err() {
            self.undo_krbd(request, &before, &deadline.for_undo(UNDO));
        }
        Records::done(&intent);
        mapped
    }

    fn map_new_krbd(
        &self,
        request: &MapRequest,
        before: &[String],
        deadline: &Deadline,
    ) -> KindResult<MappedDevice> {
        let rbd = self.programs().find("rbd")?.args(self.ceph_args());
        rbd.args(map_arguments(request)).run(deadline)?;
        let all = devices(Path::new(DEVICES))?.into_iter();
        let mut new = all.filter(|seen| seen.image == request.image);
        let seen = new.find(|seen| !before.contains(&seen.name)).ok_or_else(|| {
            SystemErrorKind::Refused("rbd says that it is mapped, and sysfs does not".to_owned())
        })?;
        let record = Record {
            boot_id: crate::system::System::host(self).boot_id.clone(),
            image: seen.image.clone(),
            client: Some(seen.client_id.clone()),
            process: None,
        };
        self.krbd_records().add(&seen.name, &record)?;
        self.wait_for_device(&Path::new("/dev").join(&seen.name), deadline)?;
        Ok(mapped(seen))
    }

    /// A map that was killed may still have gone through in the kernel.
    fn undo_krbd(&self, request: &MapRequest, before: &[String], deadline: &Deadline) {
        let now = self.krbd_of(&request.image).unwrap_or_default();
        for name in now.iter().filter(|name| !before.contains(name)) {
            if let Err(error) = self.unmap_krbd_name(name, deadline) {
                tracing::warn!(%error, device = name, "a failed map was not undone");
            }
        }
    }

    fn krbd_of(&self, image: &ImageSpec) -> KindResult<Vec<String>> {
        let all = devices(Path::new(DEVICES))?.into_iter();
        Ok(all.filter(|seen| seen.image == *image).map(|seen| seen.name).collect())
    }

    pub(super) fn unmap_krbd(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let ours = self.mapped_krbd()?;
        let same = |it: &&MappedDevice| {
            it.device == device.device && it.client_address == device.client_address
        };
        match ours.iter().find(same) {
            Some(found) => self.unmap_krbd_name(&name_of(&found.device), deadline),
            None => Ok(()),
        }
    }

    fn unmap_krbd_name(&self, name: &str, deadline: &Deadline) -> KindResult<()> {
        let device = Path::new("/dev").join(name);
        let rbd = self.programs().find("rbd")?.args(["device", "unmap", "--options", "noudev"]);
        let rbd = rbd.arg(&device);
        let patience = deadline.at_most(BUSY);
        loop {
            let output = rbd.run_to_any_end(deadline)?;
            let gone = !devices(Path::new(DEVICES))?.iter().any(|seen| seen.name == name);
            match output.code() {
                _ if gone => break,
                // `rbd` exits with the errno.
                Some(libc::EBUSY) if patience.wait(PAUSE) => {}
                Some(libc::EBUSY) => {
                    let number = number_of(&device).unwrap_or(DeviceNumber { major: 0, minor: 0 });
                    let holders = self.device_holders(number, &device);
                    return Err(SystemErrorKind::Busy(holders));
                }
                _ => return Err(rbd.failed(&output)),
            }
        }
        self.krbd_records().remove(name);
        Ok(())
    }

    pub(super) fn mapped_krbd(&self) -> KindResult<Vec<MappedDevice>> {
        let records = self.krbd_records();
        let ours = devices(Path::new(DEVICES))?.into_iter().filter(|seen| {
            let recorded = records.get(&seen.name);
            let same = recorded.is_some_and(|record| {
                record.image == seen.image && record.client.as_ref() == Some(&seen.client_id)
            });
            same || records.is_begun(&seen.image, &seen.name)
        });
        Ok(ours.map(mapped).collect())
    }

    /// The kernel watches the image and sees the size by itself; this makes sure of it.
    pub(super) fn refresh_krbd(
        &self,
        device: &MappedDevice,
        deadline: &Deadline,
    ) -> KindResult<()> {
        let name = name_of(&device.device);
        let number = name.trim_start_matches("rbd");
        let path = Path::new(DEVICES).join(number).join("refresh");
        self.kernel().call(&Call::WriteSysfs { path, text: "1".to_owned() }, deadline)
    }
}

fn mapped(seen: Seen) -> MappedDevice {
    let device = PathBuf::from("/dev").join(&seen.name);
    MappedDevice {
        mapper: MapperKind::Krbd,
        image: seen.image,
        number: number_of(&device).unwrap_or(DeviceNumber { major: 0, minor: 0 }),
        read_only: is_read_only(&device),
        device,
        client_address: Some(seen.client_address).filter(|address| !address.is_empty()),
        process: None,
    }
}

fn name_of(device: &Path) -> String {
    device.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/krbd/devices")
    }

    #[test]
    fn devices_are_read_from_sysfs() {
        let mut seen = devices(&fixtures()).expect("the fixtures");
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        let images: Vec<_> = seen.iter().map(|seen| seen.image.to_string()).collect();
        assert_eq!(images, ["rbd/docker/pgdata", "rbd/plain"]);
        assert_eq!(seen[0].name, "rbd0");
        assert_eq!(seen[0].client_id, "client4175");
        assert_eq!(seen[0].client_address, "10.77.0.11:0/3276143183");
    }

    #[test]
    fn no_module_is_no_device() {
        assert_eq!(devices(Path::new("/nowhere/devices")).expect("none"), []);
    }

    #[test]
    fn every_map_is_exclusive_with_a_client_of_its_own_and_no_udev() {
        let request = |read_only, options: &[&str]| MapRequest {
            mapper: MapperKind::Krbd,
            image: "rbd/docker/v1".parse().expect("a spec"),
            read_only,
            map_options: options.iter().map(ToString::to_string).collect(),
        };
        let line =
            |read_only, options: &[&str]| map_arguments(&request(read_only, options)).join(" ");
        assert_eq!(
            line(false, &["queue_depth=64"]),
            "device map --device-type krbd --options \
             exclusive,noshare,noudev,queue_depth=64 rbd/docker/v1"
        );
        assert_eq!(
            line(true, &[]),
            "device map --device-type krbd --read-only --options ro,noshare,noudev rbd/docker/v1"
        );
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

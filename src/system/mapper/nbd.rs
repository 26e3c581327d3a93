//! `rbd-nbd`: librbd in a process of its own, behind the kernel's network block device.
//!
//! `rbd-nbd map` ends when the device is there and leaves the process that serves it, which has to
//! outlive the daemon: the command runs in a cgroup of its own from the start. Its devices are found
//! by `/sys/block/nbd*/pid` and the arguments of that process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::numbered::Numbered;
use super::record::{Record, Records};
use super::{KindResult, has_module, is_read_only, missing, number_of};
use crate::deadline::Deadline;
use crate::system::command::io;
use crate::system::linux::LinuxSystem;
use crate::system::{DeviceNumber, MapRequest, MappedDevice, ProcessId, System};
use crate::volume::{ImageSpec, MapperKind};

/// A device that some `rbd-nbd` serves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// `nbd0`.
    name: String,
    image: ImageSpec,
    process: Option<ProcessId>,
}

/// The processes that serve devices, below that folder (`/sys/block`): name and process number.
fn served(folder: &Path) -> KindResult<Vec<(String, u32)>> {
    let entries = std::fs::read_dir(folder).map_err(io(folder))?.flatten();
    let named = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let nbd = named.filter(|name| name.starts_with("nbd"));
    Ok(nbd.filter_map(|name| Some((pid_of(folder, &name)?, name))).map(|(p, n)| (n, p)).collect())
}

/// The file is there only while the device is connected.
fn pid_of(folder: &Path, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join(name).join("pid")).ok()?;
    text.trim().parse().ok()
}

/// The image in the arguments of an `rbd-nbd map`: the first that is no option's value.
fn image_of(line: &[OsString]) -> Option<ImageSpec> {
    let args: Vec<&str> = line.iter().filter_map(|arg| arg.to_str()).collect();
    if !args.first()?.ends_with("rbd-nbd") || !args.contains(&"map") {
        return None;
    }
    args.last()?.parse().ok()
}

fn map_arguments(request: &MapRequest) -> Vec<String> {
    let mut args = vec!["map".to_owned()];
    args.push(if request.read_only { "--read-only" } else { "--exclusive" }.to_owned());
    if !request.map_options.is_empty() {
        args.extend(["--options".to_owned(), request.map_options.join(",")]);
    }
    // The last, so that it can be told from the options' values.
    args.push(request.image.to_string());
    args
}

/// The mapper, on this host.
#[derive(Debug)]
pub(super) struct Nbd<'a>(pub(super) &'a LinuxSystem);

impl Nbd<'_> {
    pub(super) fn missing(&self) -> Option<String> {
        let absent = !has_module("nbd");
        let kernel = absent.then(|| {
            "the kernel module nbd is missing; install a kernel that has it (Debian's \
             linux-image-amd64) or use the mapper fuse"
                .to_owned()
        });
        missing(self.0, &["rbd-nbd"], kernel)
    }

    fn record(&self, seen: &Seen) -> Record {
        Record {
            boot_id: self.0.host().boot_id.clone(),
            image: seen.image.clone(),
            client: None,
            process: seen.process,
        }
    }
}

impl Numbered for Nbd<'_> {
    fn records(&self) -> Records {
        Records::of(self.0.settings().state_folder.join("nbd"), &self.0.host().boot_id)
    }

    fn all(&self) -> KindResult<Vec<(MappedDevice, Record)>> {
        let all = nbd_devices()?.into_iter();
        Ok(all.map(|seen| (mapped(&seen), self.record(&seen))).collect())
    }

    fn map_new(
        &self,
        request: &MapRequest,
        _before: &[String],
        deadline: &Deadline,
    ) -> KindResult<MappedDevice> {
        if !Path::new("/sys/module/nbd").is_dir() {
            self.0.programs().find("modprobe")?.arg("nbd").run(deadline)?;
        }
        let rbd_nbd = self.0.programs().find("rbd-nbd")?.args(self.0.ceph_args());
        let command = self.0.kernel().isolated(&rbd_nbd.args(map_arguments(request)));
        let output = command.run(deadline)?;
        let name = printed_device(&output.stdout).ok_or_else(|| command.failed(&output))?;
        self.0.wait_for_device(&Path::new("/dev").join(&name), deadline)?;
        let process = pid_of(Path::new("/sys/block"), &name).and_then(ProcessId::of);
        let seen = Seen { name, image: request.image.clone(), process };
        self.records().add(&seen.name, &self.record(&seen))?;
        Ok(mapped(&seen))
    }

    /// `rbd-nbd unmap` takes the device from under whoever has it mounted: that is looked at first.
    fn remove(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let unmap = self.0.programs().find("rbd-nbd")?.arg("unmap").arg(&device.device);
        self.0.until_free(&device.device, device.process, deadline, || {
            let free = self.0.device_holders(&device.device, device.process).is_empty();
            if free {
                unmap.run(deadline)?;
            }
            Ok(free)
        })
    }
}

fn nbd_devices() -> KindResult<Vec<Seen>> {
    let served = served(Path::new("/sys/block"))?.into_iter();
    let seen = served.filter_map(|(name, pid)| {
        let process = ProcessId::of(pid)?;
        let image = image_of(&process.command_line())?;
        Some(Seen { name, image, process: Some(process) })
    });
    Ok(seen.collect())
}

/// `rbd-nbd map` prints the device that it got.
fn printed_device(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("/dev/"));
    names.find(|name| name.starts_with("nbd")).map(str::to_owned)
}

fn mapped(seen: &Seen) -> MappedDevice {
    let device = PathBuf::from("/dev").join(&seen.name);
    MappedDevice {
        mapper: MapperKind::Nbd,
        image: seen.image.clone(),
        number: number_of(&device).unwrap_or(DeviceNumber { major: 0, minor: 0 }),
        read_only: is_read_only(&device),
        device,
        client_address: None,
        process: seen.process,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured on Linux 6.1.
    #[test]
    fn connected_devices_are_those_with_a_process() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nbd/block");
        assert_eq!(served(&folder).expect("the fixtures"), [("nbd0".to_owned(), 389)]);
    }

    #[test]
    fn the_image_is_read_from_the_arguments() {
        let image = |line: &str| {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            image_of(&line).map(|image| image.to_string())
        };
        let ours =
            "/usr/bin/rbd-nbd -c /etc/ceph/ceph.conf --id docker map --exclusive rbd/docker/v1";
        assert_eq!(image(ours).as_deref(), Some("rbd/docker/v1"));
        assert_eq!(image("/usr/bin/nbd-client host 10809 /dev/nbd0"), None);
        assert_eq!(image("/usr/bin/rbd-nbd list-mapped"), None);
    }

    #[test]
    fn a_map_for_writing_is_exclusive() {
        let mut request = MapRequest {
            mapper: MapperKind::Nbd,
            image: "rbd/docker/v1".parse().expect("a spec"),
            read_only: false,
            map_options: vec!["try-netlink".to_owned()],
            client: None,
        };
        let line = map_arguments(&request).join(" ");
        assert_eq!(line, "map --exclusive --options try-netlink rbd/docker/v1");
        request.read_only = true;
        request.map_options.clear();
        assert_eq!(map_arguments(&request).join(" "), "map --read-only rbd/docker/v1");
    }

    #[test]
    fn the_printed_device_is_found_among_warnings() {
        assert_eq!(printed_device(b"warning: x\n/dev/nbd3\n").as_deref(), Some("nbd3"));
        assert_eq!(printed_device(b"rbd-nbd: failed\n"), None);
    }
}

//! The simulated host as the driver sees it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::system::{
    DeviceNumber, Filesystems, FormatRequest, FsUsage, Holder, Host, MapRequest, MappedDevice,
    MapperSupport, Mappers, Mount, MountRequest, Mounts, OldFiles, Ownership, Probe, ProcessId,
    Result, System, SystemError, SystemErrorKind,
};
use docker_volume_ceph::volume::{ByteSize, FsType, MapperKind};
use jiff::Timestamp;

use super::cluster::ClusterState;
use super::content::{Content, Folder, FsContent};
use super::host::{Device, Kernel, SimHost, Superblock};

/// The major number of all devices.
const MAJOR: u32 = 252;

/// What krbd carries; the other mappers carry everything.
const KRBD_FEATURES: [&str; 7] = [
    "layering",
    "striping",
    "exclusive-lock",
    "object-map",
    "fast-diff",
    "deep-flatten",
    "data-pool",
];

pub(super) fn failed(step: impl Into<String>, program: &str, output: &str) -> SystemError {
    SystemErrorKind::Command {
        program: program.to_owned(),
        status: "exit status: 1".to_owned(),
        output: output.to_owned(),
    }
    .during(step)
}

/// What a call that waits for a cluster that is away ends with.
pub(super) fn timed_out(step: impl Into<String>) -> SystemError {
    SystemErrorKind::Timeout { after: Duration::ZERO }.during(step)
}

impl ClusterState {
    /// A device changes its image: no other device may be doing so, here or elsewhere.
    pub(super) fn touch(&mut self, device: &Device) {
        let Some(image) = self.images.get_mut(&device.image_id) else { return };
        let other = image.writer.replace(device.address.clone());
        let other = other.filter(|other| *other != device.address);
        if let Some(other) = other.filter(|other| !self.is_fenced(other)) {
            let image = &device.mapped.image;
            self.violation(format!("{} writes {image}, and so does {other}", device.address));
        }
    }
}

impl SimHost {
    /// The kernel, for a call of the driver.
    pub(super) fn running(&self, step: &str) -> Result<std::sync::MutexGuard<'_, Kernel>> {
        let kernel = self.kernel();
        if kernel.off {
            return Err(SystemErrorKind::Refused("the host is off".to_owned()).during(step));
        }
        Ok(kernel)
    }

    /// Does something with what a device holds; `what` names it in errors.
    fn on_device<T>(
        &self,
        path: &Path,
        what: &str,
        act: impl FnOnce(&Kernel, &mut ClusterState, &Device) -> Result<T>,
    ) -> Result<T> {
        let step = format!("{what} {}", path.display());
        let kernel = self.running(&step)?;
        let device = kernel.devices.values().find(|device| device.mapped.device == path);
        let device = device.ok_or_else(|| failed(&step, what, "No such file or directory"))?;
        let mut cluster = self.cluster.state();
        if !cluster.reachable {
            return Err(timed_out(&step));
        }
        if cluster.is_fenced(&device.address) {
            return Err(failed(&step, what, "Cannot send after transport endpoint shutdown"));
        }
        act(&kernel, &mut cluster, device)
    }

    /// Does something with the file system that is mounted there.
    fn on_mount<T>(
        &self,
        target: &Path,
        what: &str,
        act: impl FnOnce(&mut FsContent, &Device, &mut ClusterState) -> T,
    ) -> Result<T> {
        let step = format!("{what} {}", target.display());
        let kernel = self.running(&step)?;
        let mount = kernel.mounts.iter().find(|mount| mount.target == target);
        let mount = mount.ok_or_else(|| failed(&step, what, "not mounted"))?;
        let device = kernel.devices.get(&mount.number.minor).expect("a mounted device stays");
        let mut cluster = self.cluster.state();
        if !cluster.reachable {
            return Err(timed_out(&step));
        }
        let image = cluster.images.get_mut(&device.image_id);
        let mut content = image.map(|image| std::mem::take(&mut image.content));
        let fs = content.as_mut().and_then(Content::filesystem_mut);
        let answer = fs.map(|fs| act(fs, device, &mut cluster));
        if let (Some(image), Some(content)) = (cluster.images.get_mut(&device.image_id), content) {
            image.content = content;
        }
        answer.ok_or_else(|| failed(&step, what, "Input/output error"))
    }
}

impl System for SimHost {
    fn host(&self) -> &Host {
        &self.host
    }
}

impl Mappers for SimHost {
    fn supported(&self) -> Vec<MapperSupport> {
        let missing = |mapper: MapperKind| {
            let there = self.mappers.contains(&mapper);
            (!there).then(|| format!("the kernel module of {mapper} is missing"))
        };
        let all = MapperKind::ALL.iter().copied();
        all.map(|mapper| MapperSupport { mapper, missing: missing(mapper) }).collect()
    }

    fn carried_features(&self, mapper: MapperKind) -> Option<Vec<String>> {
        match mapper {
            MapperKind::Krbd => Some(KRBD_FEATURES.map(str::to_owned).to_vec()),
            MapperKind::Nbd | MapperKind::Fuse => None,
        }
    }

    fn map(&self, request: &MapRequest, _: &Deadline) -> Result<MappedDevice> {
        let step = format!("map {}", request.image);
        let mut kernel = self.running(&step)?;
        let mut cluster = self.cluster.state();
        if !cluster.reachable {
            return Err(timed_out(&step));
        }
        if !self.mappers.contains(&request.mapper) {
            return Err(failed(&step, "rbd", "the mapper is not there"));
        }
        let Some((id, image)) = cluster.live(&request.image) else {
            return Err(failed(&step, "rbd", "No such file or directory"));
        };
        let (image_id, size) = (id.clone(), image.size);
        let pinned = request.mapper != MapperKind::Fuse;
        if pinned && !request.read_only && !image.watches.is_empty() {
            return Err(failed(&step, "rbd", "Read-only file system"));
        }
        let address = format!("10.0.0.9:0/{}", cluster.number());
        if !request.read_only {
            cluster.watch(&image_id, &address);
        }
        let twice = kernel.devices.values().any(|device| device.image_id == image_id);
        if twice && !request.read_only {
            cluster.violation(format!("{} became a second device", request.image));
        }
        let minor = (0..).find(|minor| !kernel.devices.contains_key(minor)).expect("a free number");
        let mapped = describe(request, minor, &address);
        let cut = false;
        let device = Device { mapped: mapped.clone(), image_id, address, size, cut };
        kernel.devices.insert(minor, device);
        Ok(mapped)
    }

    fn unmap(&self, device: &MappedDevice, _: &Deadline) -> Result<()> {
        let step = format!("unmap {}", device.device.display());
        let mut kernel = self.running(&step)?;
        let minor = device.number.minor;
        let same = |found: &&Device| found.mapped.image == device.image;
        let Some(found) = kernel.devices.get(&minor).filter(same) else {
            return Ok(());
        };
        let (id, address) = (found.image_id.clone(), found.address.clone());
        // What the last container could not write out while the cluster was away goes out now.
        kernel.let_go(minor, &self.cluster);
        if kernel.filesystems.contains_key(&minor) {
            return Err(SystemErrorKind::Busy(kernel.holders(device.number, None)).during(step));
        }
        self.cluster.state().unwatch(&id, &address, true);
        kernel.devices.remove(&minor);
        Ok(())
    }

    fn mapped(&self) -> Result<Vec<MappedDevice>> {
        let kernel = self.running("list devices")?;
        let seen = |device: &Device| {
            let mapped = device.mapped.clone();
            // The kernel's device is gone, or the process behind it.
            if device.cut {
                MappedDevice { client_address: None, process: None, ..mapped }
            } else {
                mapped
            }
        };
        Ok(kernel.devices.values().map(seen).collect())
    }

    fn cut_off(&self, device: &MappedDevice, _: &Deadline) -> Result<()> {
        let mut kernel = self.running("cut off")?;
        let found = kernel.devices.get_mut(&device.number.minor);
        if let Some(found) = found.filter(|found| found.mapped == *device) {
            found.cut = true;
            let (id, address) = (found.image_id.clone(), found.address.clone());
            self.cluster.state().unwatch(&id, &address, true);
        }
        Ok(())
    }

    fn is_client_gone(&self, address: &str) -> Result<bool> {
        let kernel = self.running("look for a client")?;
        Ok(kernel.devices.values().all(|device| device.address != address)
            && kernel.folders.values().all(|client| !client.is(address)))
    }

    fn refresh_size(&self, device: &MappedDevice, _: &Deadline) -> Result<()> {
        let step = format!("refresh {}", device.device.display());
        let mut kernel = self.running(&step)?;
        let found = kernel.devices.get_mut(&device.number.minor);
        let found = found.ok_or_else(|| failed(&step, "refresh", "No such device"))?;
        let cluster = self.cluster.state();
        if !cluster.reachable {
            return Err(timed_out(&step));
        }
        found.size = cluster.images.get(&found.image_id).map_or(found.size, |image| image.size);
        Ok(())
    }

    fn refresh(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()> {
        match device.mapper {
            MapperKind::Krbd => self.refresh_size(device, deadline),
            MapperKind::Nbd | MapperKind::Fuse => Ok(()),
        }
    }
}

fn describe(request: &MapRequest, minor: u32, address: &str) -> MappedDevice {
    let krbd = request.mapper == MapperKind::Krbd;
    let prefix = match request.mapper {
        MapperKind::Krbd => "rbd",
        MapperKind::Nbd => "nbd",
        MapperKind::Fuse => "loop",
    };
    MappedDevice {
        mapper: request.mapper,
        image: request.image.clone(),
        device: PathBuf::from(format!("/dev/{prefix}{minor}")),
        number: DeviceNumber { major: MAJOR, minor },
        read_only: request.read_only,
        client_address: krbd.then(|| address.to_owned()),
        process: (!krbd).then_some(ProcessId { pid: 5000 + minor, started: 1 }),
    }
}

impl Filesystems for SimHost {
    fn probe(&self, device: &Path, _: &Deadline) -> Result<Probe> {
        self.on_device(device, "probe", |_, cluster, device| {
            let image = cluster.images.get(&device.image_id);
            Ok(image.map_or(Probe::Empty, |image| image.content.probe()))
        })
    }

    fn is_sound(&self, device: &Path, fs_type: FsType, _: &Deadline) -> Result<bool> {
        self.on_device(device, "read the superblock of", |_, cluster, device| {
            let image = cluster.images.get(&device.image_id);
            let fs = image.and_then(|image| image.content.filesystem());
            Ok(fs_type == FsType::Ext4
                && fs.is_some_and(|fs| {
                    fs.fs_type == fs_type && !fs.needs_replay && fs.size == device.size
                }))
        })
    }

    fn format(&self, device: &Path, request: &FormatRequest, _: &Deadline) -> Result<Probe> {
        self.on_device(device, "format", |kernel, cluster, device| {
            let name = &device.mapped.image;
            if device.mapped.read_only {
                return Err(failed(format!("format {name}"), "mkfs", "Read-only file system"));
            }
            if kernel.filesystems.contains_key(&device.mapped.number.minor) {
                cluster.violation(format!("{name} was formatted while it was mounted"));
            }
            cluster.touch(device);
            let Some(image) = cluster.images.get_mut(&device.image_id) else {
                return Ok(Probe::Empty);
            };
            let found = image.content.probe();
            if found == Probe::Empty {
                image.content = Content::formatted(request.fs_type, device.size);
            }
            // It is left alone, but nobody should have asked: a container has had it.
            if !image.content.records().is_empty() {
                cluster.violation(format!("{name} was to be formatted, and it held data"));
            }
            Ok(found)
        })
    }

    fn check(&self, device: &Path, fs_type: FsType, _: &Deadline) -> Result<()> {
        self.on_device(device, "check", |kernel, cluster, device| {
            let name = device.mapped.image.to_string();
            if kernel.filesystems.contains_key(&device.mapped.number.minor) {
                cluster.violation(format!("{name} was checked while it was mounted"));
            }
            if !device.mapped.read_only {
                cluster.touch(device);
            }
            let image = cluster.images.get_mut(&device.image_id);
            let fs = image.and_then(|image| image.content.filesystem_mut());
            let fs = fs.filter(|fs| fs.fs_type == fs_type);
            let step = format!("check {name}");
            fs.ok_or_else(|| failed(step, "fsck", "Bad magic number"))?.needs_replay = false;
            Ok(())
        })
    }

    fn grow(&self, path: &Path, mountpoint: &Path, fs_type: FsType, _: &Deadline) -> Result<()> {
        if fs_type == FsType::Xfs {
            if !self.mounts()?.iter().any(|mount| mount.target == mountpoint) {
                return Ok(());
            }
            return self.on_mount(mountpoint, "grow", |fs, device, _| fs.size = device.size);
        }
        self.on_device(path, "grow", |_, cluster, device| {
            let image = cluster.images.get_mut(&device.image_id);
            let fs = image.and_then(|image| image.content.filesystem_mut());
            let step = format!("grow {}", device.mapped.image);
            fs.ok_or_else(|| failed(step, "resize2fs", "Bad magic number"))?.size = device.size;
            Ok(())
        })
    }

    fn usage(&self, mountpoint: &Path, _: &Deadline) -> Result<FsUsage> {
        self.on_mount(mountpoint, "measure", |fs, _, _| {
            let records: usize = fs.folders.values().map(|folder| folder.records.len()).sum();
            let used = ByteSize(records as u64 * 4096);
            FsUsage { size: fs.size, used, free: ByteSize(fs.size.bytes() - used.bytes()) }
        })
    }

    fn trim(&self, mountpoint: &Path, _: &Deadline) -> Result<ByteSize> {
        self.on_mount(mountpoint, "trim", |_, _, _| ByteSize::mib(1))
    }

    fn make_folder(&self, at: &Path, name: &str, owner: Ownership, _: &Deadline) -> Result<()> {
        self.on_mount(at, "make folder in", |fs, device, cluster| {
            if fs.folders.contains_key(name) {
                return;
            }
            if device.mapped.read_only {
                cluster.violation(format!("a folder was made in read-only {}", at.display()));
            }
            fs.folders.insert(name.to_owned(), Folder { owner, ..Folder::default() });
        })
    }

    fn new_uuid(&self, device: &Path, fs_type: FsType, _: &Deadline) -> Result<()> {
        self.on_device(device, "renew the UUID on", |kernel, cluster, device| {
            let name = device.mapped.image.to_string();
            let step = format!("renew the UUID of {name}");
            if kernel.filesystems.contains_key(&device.mapped.number.minor) {
                cluster.violation(format!("{name} got another UUID while it was mounted"));
            }
            if device.mapped.read_only {
                return Err(failed(step, "tune2fs", "Read-only file system"));
            }
            cluster.touch(device);
            let image = cluster.images.get_mut(&device.image_id);
            let fs = image.and_then(|image| image.content.filesystem_mut());
            let fs = fs.filter(|fs| fs.fs_type == fs_type);
            fs.ok_or_else(|| failed(step, "tune2fs", "Bad magic number"))?.needs_replay = false;
            Ok(())
        })
    }
}

impl Mounts for SimHost {
    fn mount(&self, request: &MountRequest, _: &Deadline) -> Result<()> {
        let step = format!("mount {} at {}", request.device.display(), request.target.display());
        let mount = self.on_device(&request.device, "mount", |kernel, cluster, device| {
            if kernel.mounts.iter().any(|mount| mount.target == request.target) {
                return Err(SystemErrorKind::Refused("already mounted".to_owned()).during(&step));
            }
            if device.mapped.read_only && !request.read_only {
                return Err(failed(&step, "mount", "write-protected"));
            }
            if !request.read_only {
                cluster.touch(device);
            }
            let image = cluster.images.get_mut(&device.image_id);
            let fs = image.and_then(|image| image.content.filesystem_mut());
            let fs = fs.filter(|fs| fs.fs_type == request.fs_type);
            let fs = fs.ok_or_else(|| failed(&step, "mount", "wrong fs type, bad superblock"))?;
            // The kernel replays the journal itself where no check has.
            fs.needs_replay = false;
            Ok(Mount {
                number: device.mapped.number,
                root: PathBuf::from("/"),
                target: request.target.clone(),
                fs_type: request.fs_type.to_string(),
                source: request.device.display().to_string(),
                read_only: request.read_only,
            })
        })?;
        let mut kernel = self.running(&step)?;
        let fresh = Superblock { read_only: request.read_only, ..Superblock::default() };
        kernel.filesystems.entry(mount.number.minor).or_insert(fresh);
        kernel.mounts.push(mount);
        Ok(())
    }

    fn unmount(&self, target: &Path, _: &Deadline) -> Result<()> {
        let step = format!("unmount {}", target.display());
        let mut kernel = self.running(&step)?;
        let Some(at) = kernel.mounts.iter().rposition(|mount| mount.target == target) else {
            return Ok(());
        };
        let open = kernel.open_files.iter().any(|open| open.starts_with(target));
        if open {
            let holder = Holder { pid: 77, command: "tar".to_owned(), target: target.to_owned() };
            return Err(SystemErrorKind::Busy(vec![holder]).during(step));
        }
        let superblock = kernel.filesystems.get(&kernel.mounts[at].number.minor);
        if superblock.is_some_and(|found| found.frozen.is_some()) {
            let command = "docker-ceph".to_owned();
            let holder = Holder { pid: 78, command, target: target.to_owned() };
            return Err(SystemErrorKind::Busy(vec![holder]).during(step));
        }
        // A file system writes its superblock when it is unmounted: that waits for the cluster.
        if !self.cluster.state().reachable {
            return Err(timed_out(step));
        }
        let mount = kernel.mounts.remove(at);
        if !kernel.let_go(mount.number.minor, &self.cluster) {
            kernel.filesystems.remove(&mount.number.minor);
        }
        Ok(())
    }

    fn unmount_lazily(&self, target: &Path, _: &Deadline) -> Result<()> {
        let mut kernel = self.running("unmount lazily")?;
        let Some(at) = kernel.mounts.iter().rposition(|mount| mount.target == target) else {
            return Ok(());
        };
        let mount = kernel.mounts.remove(at);
        kernel.let_go(mount.number.minor, &self.cluster);
        Ok(())
    }

    fn old_files(
        &self,
        folder: &Path,
        _: Timestamp,
        remove: bool,
        _: &Deadline,
    ) -> Result<OldFiles> {
        self.look_for_old_files(folder, remove)
    }

    fn mounts(&self) -> Result<Vec<Mount>> {
        Ok(self.running("list mounts")?.mounts.clone())
    }

    fn holders(&self, number: DeviceNumber, ours: &Path) -> Result<Vec<Holder>> {
        Ok(self.running("list holders")?.holders(number, Some(ours)))
    }
}

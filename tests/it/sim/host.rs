//! A simulated host: its kernel's state, and what tests do on it from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use docker_volume_ceph::system::{DeviceNumber, Holder, Host, MappedDevice, Mount};
use docker_volume_ceph::volume::{ByteSize, MapperKind};

use super::folders::FolderClient;
use super::{Record, SimCluster};

/// A host, from one boot to the next.
#[derive(Debug)]
pub(crate) struct SimHost {
    pub(super) host: Host,
    pub(super) cluster: Arc<SimCluster>,
    pub(super) mappers: Vec<MapperKind>,
    kernel: Arc<Mutex<Kernel>>,
}

/// What a kernel knows. Locked before the cluster's state, never after.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// The host is off: a daemon of that boot reaches nothing any more.
    pub(super) off: bool,
    /// By minor number; the lowest free one is given to the next map.
    pub(super) devices: BTreeMap<u32, Device>,
    /// The file systems that are mounted somewhere, by the device's minor number.
    pub(super) filesystems: BTreeMap<u32, Superblock>,
    /// The folders of CephFS that are mounted somewhere, by their minor number.
    pub(super) folders: BTreeMap<u32, FolderClient>,
    pub(super) mounts: Vec<Mount>,
    pub(super) containers: BTreeMap<String, Container>,
    /// Targets in which a process of our own namespace has files open.
    pub(super) open_files: BTreeSet<PathBuf>,
    /// The folders of hooks that were run, each with what its hooks were told.
    pub(super) hooks_run: Vec<(PathBuf, Vec<(String, String)>)>,
    /// The folders of hooks of which one fails.
    pub(super) failing_hooks: BTreeSet<PathBuf>,
    pub(super) next_pid: u32,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) mapped: MappedDevice,
    pub(super) image_id: String,
    /// The client by which it reaches the cluster.
    pub(super) address: String,
    /// The image's size as the kernel has last seen it.
    pub(super) size: ByteSize,
    /// It was taken from under its users.
    pub(super) cut: bool,
}

/// A mounted file system: what was written and not yet synced dies with the host.
#[derive(Debug, Default)]
pub(super) struct Superblock {
    pub(super) read_only: bool,
    pub(super) unsynced: Vec<(String, Record)>,
    /// It stands still, by the freeze of that number.
    pub(super) frozen: Option<u32>,
}

/// A process in a mount namespace of its own, with a volume bound into it.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) pid: u32,
    pub(super) minor: u32,
    /// The folder of the file system that is its volume; "" is the root.
    pub(super) folder: String,
}

impl SimHost {
    /// A host that has just been started, with these mappers.
    pub(crate) fn boot(name: &str, cluster: &Arc<SimCluster>, mappers: &[MapperKind]) -> Arc<Self> {
        let boot_id = format!("boot-{}", cluster.state().number());
        let kernel = Kernel { next_pid: 1000, ..Kernel::default() };
        Arc::new(Self {
            host: Host { name: name.to_owned(), boot_id },
            cluster: Arc::clone(cluster),
            mappers: mappers.to_vec(),
            kernel: Arc::new(Mutex::new(kernel)),
        })
    }

    /// The power is cut and comes back: another boot of the same host, with nothing of this one.
    /// What was synced is in the cluster; the watches linger.
    pub(crate) fn reboot(&self) -> Arc<Self> {
        let mut kernel = self.kernel();
        let mut cluster = self.cluster.state();
        for (minor, device) in &kernel.devices {
            cluster.unwatch(&device.image_id, &device.address, false);
            let mounted_to_write =
                kernel.filesystems.get(minor).is_some_and(|found| !found.read_only);
            let image = cluster.images.get_mut(&device.image_id);
            let filesystem = image.and_then(|image| image.content.filesystem_mut());
            if let Some(fs) = filesystem.filter(|_| mounted_to_write) {
                fs.needs_replay = true;
            }
        }
        for client in kernel.folders.values() {
            client.leave(&mut cluster);
        }
        drop(cluster);
        *kernel = Kernel { off: true, ..Kernel::default() };
        drop(kernel);
        Self::boot(&self.host.name, &self.cluster, &self.mappers)
    }

    /// Starts a container with the volume at `mountpoint` bound into it. On a folder that is no
    /// volume it would start too, and write to the host's own disk: that is a violation.
    pub(crate) fn start_container(&self, id: &str, mountpoint: &Path) -> bool {
        let mut kernel = self.kernel();
        let Some((minor, folder)) = kernel.resolve(mountpoint) else {
            let place = mountpoint.display();
            self.cluster.state().violation(format!("container {id} started on bare {place}"));
            return false;
        };
        kernel.next_pid += 1;
        let pid = kernel.next_pid;
        kernel.containers.insert(id.to_owned(), Container { pid, minor, folder });
        true
    }

    /// Ends a container: what it had mounted in its namespace is gone.
    pub(crate) fn stop_container(&self, id: &str) {
        let mut kernel = self.kernel();
        if let Some(container) = kernel.containers.remove(id) {
            kernel.let_go(container.minor, &self.cluster);
        }
    }

    /// A container writes a record and syncs it. False where the write failed.
    pub(crate) fn write_in(&self, id: &str, record: Record) -> bool {
        let kernel = self.kernel();
        let place = kernel.containers.get(id).map(|found| (found.minor, found.folder.clone()));
        let (minor, folder) = place.expect("a container that runs");
        kernel.write_synced(minor, &folder, record, &self.cluster)
    }

    /// What a container reads in its volume; `None` where it reads an error.
    pub(crate) fn read_in(&self, id: &str) -> Option<BTreeSet<Record>> {
        let kernel = self.kernel();
        let found = kernel.containers.get(id).expect("a container that runs");
        kernel.read(found.minor, &found.folder, &self.cluster)
    }

    /// The engine writes through a mountpoint, and syncs. False where the write failed.
    pub(crate) fn write_at(&self, mountpoint: &Path, record: Record) -> bool {
        let kernel = self.kernel();
        match kernel.resolve(mountpoint) {
            Some((minor, folder)) => kernel.write_synced(minor, &folder, record, &self.cluster),
            None => {
                let place = mountpoint.display();
                self.cluster.state().violation(format!("record {record} went to bare {place}"));
                false
            }
        }
    }

    /// The engine writes through a mountpoint, and syncs nothing.
    pub(crate) fn write_unsynced_at(&self, mountpoint: &Path, record: Record) {
        let mut kernel = self.kernel();
        let (minor, folder) = kernel.resolve(mountpoint).expect("a mounted volume");
        // In a folder of CephFS it is seen everywhere at once.
        if kernel.write_folder(minor, record, &self.cluster).is_some() {
            return;
        }
        let superblock = kernel.filesystems.get_mut(&minor).expect("it is mounted");
        superblock.unsynced.push((folder, record));
    }

    /// What the engine reads through a mountpoint; `None` where nothing is mounted there.
    pub(crate) fn read_at(&self, mountpoint: &Path) -> Option<BTreeSet<Record>> {
        let kernel = self.kernel();
        let (minor, folder) = kernel.resolve(mountpoint)?;
        kernel.read(minor, &folder, &self.cluster)
    }

    /// A process of the host's own has a file open below a target, or closes it.
    pub(crate) fn set_open_files(&self, target: &Path, open: bool) {
        let mut kernel = self.kernel();
        if open {
            kernel.open_files.insert(target.to_owned());
        } else {
            kernel.open_files.remove(target);
        }
    }

    /// A hook of a folder fails from now on, or no longer.
    #[allow(dead_code, reason = "for the tests of snapshots")]
    pub(crate) fn set_failing_hook(&self, folder: &Path, fails: bool) {
        let mut kernel = self.kernel();
        if fails {
            kernel.failing_hooks.insert(folder.to_owned());
        } else {
            kernel.failing_hooks.remove(folder);
        }
    }

    /// The folders of hooks that were run, in order, each with what its hooks were told.
    #[allow(dead_code, reason = "for the tests of snapshots")]
    pub(crate) fn hooks_run(&self) -> Vec<(PathBuf, Vec<(String, String)>)> {
        self.kernel().hooks_run.clone()
    }

    /// The host stands still, or goes on: what it has open keeps its watches, and answers nobody.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        let kernel = self.kernel();
        let mut cluster = self.cluster.state();
        for device in kernel.devices.values() {
            if frozen {
                cluster.silent.insert(device.address.clone());
            } else {
                cluster.silent.remove(&device.address);
            }
        }
    }

    /// The images that are mapped here, by name; one that is mapped twice is there twice.
    pub(crate) fn mapped_images(&self) -> Vec<String> {
        let kernel = self.kernel();
        kernel.devices.values().map(|device| device.mapped.image.image.clone()).collect()
    }

    /// The images whose file systems are mounted in the host's own namespace, by name.
    pub(crate) fn mounted_images(&self) -> Vec<String> {
        let kernel = self.kernel();
        let device = |mount: &Mount| kernel.devices.get(&mount.number.minor);
        let mapped = kernel.mounts.iter().filter_map(device);
        mapped.map(|device| device.mapped.image.image.clone()).collect()
    }

    pub(super) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel, for what outlives a call of the driver.
    pub(super) fn shared_kernel(&self) -> Arc<Mutex<Kernel>> {
        Arc::clone(&self.kernel)
    }
}

impl Kernel {
    /// The file system and the folder in it that a path leads to.
    pub(super) fn resolve(&self, path: &Path) -> Option<(u32, String)> {
        let covering = self.mounts.iter().filter(|mount| path.starts_with(&mount.target));
        let mount = covering.max_by_key(|mount| mount.target.as_os_str().len())?;
        let below = path.strip_prefix(&mount.target).ok()?;
        let folder = below.to_str().expect("paths of the simulation are text");
        Some((mount.number.minor, folder.to_owned()))
    }

    /// Who holds a device's file system, other than the mount at `ours`.
    pub(super) fn holders(&self, number: DeviceNumber, ours: Option<&Path>) -> Vec<Holder> {
        let containers = self.containers.iter().filter(|(_, found)| found.minor == number.minor);
        let containers = containers.map(|(id, found)| Holder {
            pid: found.pid,
            command: format!("container {id}"),
            target: PathBuf::from("/data"),
        });
        let here = |mount: &&Mount| mount.number == number && Some(mount.target.as_path()) != ours;
        let mounts = self.mounts.iter().filter(here).map(|mount| Holder {
            pid: 1,
            command: "init".to_owned(),
            target: mount.target.clone(),
        });
        containers.chain(mounts).collect()
    }

    /// A mount of the file system went away; the last one writes out what is unsynced. False
    /// where that has to wait for the cluster.
    pub(super) fn let_go(&mut self, minor: u32, cluster: &SimCluster) -> bool {
        self.let_folder_go(minor, cluster);
        let number_used = self.mounts.iter().any(|mount| mount.number.minor == minor)
            || self.containers.values().any(|container| container.minor == minor);
        if number_used {
            return true;
        }
        let gone = self.devices.get(&minor).is_none_or(|device| device.cut);
        if !gone && !self.write_out(minor, cluster) {
            return false;
        }
        self.filesystems.remove(&minor);
        true
    }

    /// Writes out what is unsynced. False where that has to wait for the cluster.
    pub(super) fn write_out(&mut self, minor: u32, cluster: &SimCluster) -> bool {
        let unsynced = self.filesystems.get(&minor).map(|found| found.unsynced.clone());
        for (folder, record) in unsynced.unwrap_or_default() {
            if !self.write_synced(minor, &folder, record, cluster) {
                return false;
            }
        }
        if let Some(superblock) = self.filesystems.get_mut(&minor) {
            superblock.unsynced.clear();
        }
        true
    }

    /// A write to a file system that stands still would wait: here it does not get through.
    fn write_synced(&self, minor: u32, folder: &str, record: Record, cluster: &SimCluster) -> bool {
        if let Some(written) = self.write_folder(minor, record, cluster) {
            return written;
        }
        let Some(device) = self.devices.get(&minor) else { return false };
        if self.filesystems.get(&minor).is_some_and(|found| found.frozen.is_some()) {
            return false;
        }
        let mut state = cluster.state();
        let fenced = state.is_fenced(&device.address);
        if !state.reachable || device.cut || fenced || device.mapped.read_only {
            return false;
        }
        state.touch(device);
        let image = state.images.get_mut(&device.image_id);
        let filesystem = image.and_then(|image| image.content.filesystem_mut());
        let Some(folder) = filesystem.and_then(|fs| fs.folders.get_mut(folder)) else {
            return false;
        };
        folder.records.insert(record);
        true
    }

    fn read(&self, minor: u32, folder: &str, cluster: &SimCluster) -> Option<BTreeSet<Record>> {
        if self.folders.contains_key(&minor) {
            return self.read_folder(minor, cluster);
        }
        let device = self.devices.get(&minor)?;
        let state = cluster.state();
        let filesystem = state.images.get(&device.image_id)?.content.filesystem()?;
        let mut records = filesystem.folders.get(folder)?.records.clone();
        let superblock = self.filesystems.get(&minor)?;
        let unsynced = superblock.unsynced.iter().filter(|(place, _)| place == folder);
        records.extend(unsynced.map(|(_, record)| *record));
        Some(records)
    }
}

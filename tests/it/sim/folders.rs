//! Folders of CephFS in the simulation: their content lies in the cluster, and what one host writes
//! every other one reads at once. A fenced client's mount serves nobody any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::progress::Progress;
use docker_volume_ceph::system::{
    CephFsSupport, DeviceNumber, FolderMount, FolderMountRequest, FolderMounts, FsUsage, Holder,
    Mount, ProcessId, Result, SystemErrorKind,
};
use docker_volume_ceph::volume::{ByteSize, CephFsClient, PathSpec};

use super::cluster::ClusterState;
use super::host::{Kernel, SimHost};
use super::kernel::{failed, timed_out};
use super::{Record, SimCluster};

/// The first minor number of a folder's file system, far from those of devices.
const FIRST: u32 = 100_000;
/// What the quota of every folder is.
const QUOTA: ByteSize = ByteSize::gib(1);

/// A file system of a mounted folder: it lives on in the containers that have it.
#[derive(Debug)]
pub(super) struct FolderClient {
    mount: FolderMount,
    /// The client by which it reaches the cluster.
    address: String,
    /// It was taken from under its users, or its process has died.
    cut: bool,
}

impl SimCluster {
    /// Makes a folder of CephFS with these records; in one that is there they are added.
    pub(crate) fn put_folder(&self, folder: &PathSpec, records: &[Record]) {
        self.state().folders.entry(folder.clone()).or_default().extend(records);
    }

    /// From now on, two clients that write one folder are a violation.
    pub(crate) fn forbid_second_writer(&self) {
        self.state().folder_writers = Some(BTreeMap::new());
    }

    /// What lies in a folder of CephFS; `None` where there is none.
    pub(crate) fn folder(&self, folder: &PathSpec) -> Option<BTreeSet<Record>> {
        self.state().folders.get(folder).cloned()
    }
}

impl SimHost {
    /// The client of a mounted folder dies, as a killed `ceph-fuse`: its mount stays, and is dead.
    pub(crate) fn kill_folder_client(&self, target: &Path) {
        for client in self.kernel().folders.values_mut() {
            client.cut |= client.mount.target == target;
        }
    }

    /// The addresses of the clients of all folders that are mounted here.
    pub(crate) fn folder_clients(&self) -> Vec<String> {
        self.kernel().folders.values().map(|client| client.address.clone()).collect()
    }

    /// The folders that are mounted in the host's own namespace.
    pub(crate) fn mounted_folders(&self) -> Vec<PathSpec> {
        let kernel = self.kernel();
        let client = |mount: &Mount| kernel.folders.get(&mount.number.minor);
        kernel.mounts.iter().filter_map(client).map(FolderClient::place).collect()
    }

    /// The folders that a client here has open, for a mount or for a container.
    pub(crate) fn used_folders(&self) -> Vec<PathSpec> {
        self.kernel().folders.values().map(FolderClient::place).collect()
    }

    /// Those who hold the mount, other than the mount itself.
    fn refuse_busy(kernel: &Kernel, mount: &FolderMount, step: &str) -> Result<()> {
        let mut holders = kernel.holders(mount.number, Some(&mount.target));
        if kernel.open_files.iter().any(|open| open.starts_with(&mount.target)) {
            let (command, target) = ("tar".to_owned(), mount.target.clone());
            holders.push(Holder { pid: 77, command, target });
        }
        if holders.is_empty() {
            return Ok(());
        }
        Err(SystemErrorKind::Busy(holders).during(step))
    }
}

impl Kernel {
    /// A record goes to a mounted folder, synced; `None` where the number is no folder's.
    pub(super) fn write_folder(
        &self,
        minor: u32,
        record: Record,
        cluster: &SimCluster,
    ) -> Option<bool> {
        let client = self.folders.get(&minor)?;
        let mut state = cluster.state();
        if !state.reachable || client.is_stale(&state) || client.mount.read_only {
            return Some(false);
        }
        let place = client.place();
        let before = state.folder_writers.as_mut();
        let before = before.and_then(|all| all.insert(place.clone(), client.address.clone()));
        if let Some(other) = before.filter(|it| *it != client.address && !state.is_fenced(it)) {
            state.violation(format!("{} writes {place}, and so does {other}", client.address));
        }
        let folder = state.folders.get_mut(&place);
        Some(folder.map(|folder| folder.insert(record)).is_some())
    }

    /// What a mounted folder shows; `None` where the number is no folder's, or where reading fails.
    pub(super) fn read_folder(&self, minor: u32, cluster: &SimCluster) -> Option<BTreeSet<Record>> {
        let client = self.folders.get(&minor)?;
        let state = cluster.state();
        let serves = state.reachable && !client.is_stale(&state);
        serves.then(|| state.folders.get(&client.place()).cloned()).flatten()
    }

    /// The client of a folder that nobody has mounted any more is gone.
    pub(super) fn let_folder_go(&mut self, minor: u32, cluster: &SimCluster) {
        let used = self.mounts.iter().any(|mount| mount.number.minor == minor)
            || self.containers.values().any(|container| container.minor == minor);
        let gone = if used { None } else { self.folders.remove(&minor) };
        if let Some(client) = gone {
            cluster.state().leave_folder(&client.address);
        }
    }

    fn unmount_folder_at(&mut self, target: &Path, cluster: &SimCluster) {
        if let Some(at) = self.mounts.iter().rposition(|mount| mount.target == target) {
            let mount = self.mounts.remove(at);
            self.let_folder_go(mount.number.minor, cluster);
        }
    }
}

impl FolderClient {
    /// Is it that client?
    pub(super) fn is(&self, address: &str) -> bool {
        self.address == address
    }

    /// Its host is gone.
    pub(super) fn leave(&self, cluster: &mut ClusterState) {
        cluster.leave_folder(&self.address);
    }

    pub(super) fn place(&self) -> PathSpec {
        PathSpec { fs: self.mount.fs.clone(), path: self.mount.path.clone() }
    }

    fn is_stale(&self, state: &ClusterState) -> bool {
        self.cut || state.is_fenced(&self.address)
    }
}

impl FolderMounts for SimHost {
    fn cephfs_clients(&self) -> Vec<CephFsSupport> {
        let all = CephFsClient::ALL.iter().copied();
        all.map(|client| CephFsSupport { client, missing: None }).collect()
    }

    fn mount_folder(&self, request: &FolderMountRequest, _: &Deadline) -> Result<FolderMount> {
        let step = format!("mount {}:{}", request.fs, request.path);
        let mut kernel = self.running(&step)?;
        let mut cluster = self.cluster.state();
        if !cluster.reachable {
            return Err(timed_out(&step));
        }
        if kernel.mounts.iter().any(|mount| mount.target == request.target) {
            let said = "something is mounted there".to_owned();
            return Err(SystemErrorKind::Refused(said).during(step));
        }
        let place = PathSpec { fs: request.fs.clone(), path: request.path.clone() };
        if !cluster.folders.contains_key(&place) {
            return Err(failed(&step, "mount", "No such file or directory"));
        }
        if !cluster.lets_in(&request.access, &place, request.read_only) {
            return Err(failed(&step, "mount", "Permission denied"));
        }
        let address = format!("10.0.0.9:0/{}", cluster.number());
        let minor = (FIRST..).find(|minor| !kernel.folders.contains_key(minor));
        let mount = describe(request, minor.expect("a free number"), &address);
        kernel.mounts.push(in_mount_table(&mount));
        cluster.enter_folder(&address, &request.access.client_id, &place.path);
        let client = FolderClient { mount: mount.clone(), address, cut: false };
        kernel.folders.insert(mount.number.minor, client);
        Ok(mount)
    }

    fn unmount_folder(&self, mount: &FolderMount, _: &Deadline) -> Result<()> {
        let step = format!("unmount {}", mount.target.display());
        let mut kernel = self.running(&step)?;
        let cluster = self.cluster.state();
        let Some(client) = kernel.folders.get(&mount.number.minor) else { return Ok(()) };
        if client.mount.target != mount.target {
            return Ok(());
        }
        if !client.is_stale(&cluster) {
            Self::refuse_busy(&kernel, mount, &step)?;
            if !cluster.reachable {
                return Err(timed_out(step));
            }
        }
        drop(cluster);
        kernel.unmount_folder_at(&mount.target, &self.cluster);
        Ok(())
    }

    fn cut_off_folder(&self, mount: &FolderMount, _: &Deadline) -> Result<()> {
        let mut kernel = self.running("cut off")?;
        if let Some(client) = kernel.folders.get_mut(&mount.number.minor) {
            client.cut = true;
            kernel.unmount_folder_at(&mount.target, &self.cluster);
        }
        Ok(())
    }

    fn folder_mounts(&self) -> Result<Vec<FolderMount>> {
        let kernel = self.running("list folders")?;
        let mounted = |client: &&FolderClient| {
            kernel.mounts.iter().any(|mount| mount.number == client.mount.number)
        };
        let seen = |client: &FolderClient| {
            let process = client.mount.process.filter(|_| !client.cut);
            FolderMount { process, ..client.mount.clone() }
        };
        Ok(kernel.folders.values().filter(mounted).map(seen).collect())
    }

    fn is_alive(&self, target: &Path, _: &Deadline) -> Result<bool> {
        let step = format!("look at {}", target.display());
        let kernel = self.running(&step)?;
        let cluster = self.cluster.state();
        let client = kernel.folders.values().find(|client| client.mount.target == target);
        let stale = client.is_none_or(|client| client.is_stale(&cluster));
        if stale || cluster.reachable { Ok(!stale) } else { Err(timed_out(step)) }
    }

    fn can_restore_folder(&self) -> Result<()> {
        Ok(())
    }

    fn restore_folder(
        &self,
        mounted: &Path,
        snapshot: &str,
        progress: Progress<'_>,
        _: &Deadline,
    ) -> Result<()> {
        let step = format!("copy back {snapshot}");
        let kernel = self.running(&step)?;
        let client = kernel.folders.values().find(|client| client.mount.target == mounted);
        let place = client.map(FolderClient::place);
        let mut cluster = self.cluster.state();
        let found = place.filter(|_| cluster.reachable).and_then(|place| {
            let records = cluster.snapshot_at(&place, snapshot)?;
            Some((place, records))
        });
        let (place, records) = found.ok_or_else(|| failed(&step, "rsync", "Input/output error"))?;
        progress(1, 1);
        cluster.folders.insert(place, records);
        Ok(())
    }

    fn names_in(&self, folder: &Path, _: &Deadline) -> Result<Vec<String>> {
        let kernel = self.running("list")?;
        let mut mounted = kernel.folders.values().filter(|of| folder.starts_with(&of.mount.target));
        let place = mounted.next().map(FolderClient::place);
        drop(kernel);
        Ok(place.map(|place| self.cluster.snapshots_below(&place)).unwrap_or_default())
    }

    fn folder_usage(&self, target: &Path, _: &Deadline) -> Result<FsUsage> {
        let step = format!("measure {}", target.display());
        let kernel = self.running(&step)?;
        let minor = kernel.resolve(target).map_or(0, |(minor, _)| minor);
        let records = kernel.read_folder(minor, &self.cluster);
        let records = records.ok_or_else(|| failed(&step, "measure", "Input/output error"))?;
        let used = ByteSize(records.len() as u64 * 4096);
        Ok(FsUsage { size: QUOTA, used, free: ByteSize(QUOTA.bytes() - used.bytes()) })
    }
}

fn describe(request: &FolderMountRequest, minor: u32, address: &str) -> FolderMount {
    let fuse = request.client == CephFsClient::Fuse;
    FolderMount {
        client: request.client,
        id: request.id.clone(),
        fs: request.fs.clone(),
        path: request.path.clone(),
        target: request.target.clone(),
        number: DeviceNumber { major: 0, minor },
        read_only: request.read_only,
        client_address: Some(address.to_owned()),
        process: fuse.then_some(ProcessId { pid: minor, started: 1 }),
    }
}

fn in_mount_table(mount: &FolderMount) -> Mount {
    let (fs_type, source) = match mount.client {
        CephFsClient::Kernel => ("ceph", format!("10.0.0.1:6789:{}", mount.path)),
        CephFsClient::Fuse => ("fuse.ceph-fuse", "ceph-fuse".to_owned()),
    };
    Mount {
        number: mount.number,
        root: PathBuf::from("/"),
        target: mount.target.clone(),
        fs_type: fs_type.to_owned(),
        source,
        read_only: mount.read_only,
    }
}

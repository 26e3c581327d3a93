//! Files by their age: the simulation's records have none but what a test gives them.

use std::collections::BTreeSet;
use std::path::Path;

use docker_volume_ceph::system::{OldFiles, Result};
use docker_volume_ceph::volume::ByteSize;

use super::cluster::ClusterState;
use super::host::{Kernel, SimHost};
use super::kernel::{failed, timed_out};
use super::{Record, SimCluster};

impl SimCluster {
    /// From now on these records are old, wherever they lie.
    #[allow(dead_code, reason = "for the tests of what removes them")]
    pub(crate) fn age(&self, records: &[Record]) {
        self.state().old.extend(records);
    }
}

impl SimHost {
    pub(super) fn look_for_old_files(&self, at: &Path, remove: bool) -> Result<OldFiles> {
        let step = format!("look for old files in {}", at.display());
        let kernel = self.running(&step)?;
        let (minor, folder) =
            kernel.resolve(at).ok_or_else(|| failed(&step, "open", "not mounted"))?;
        let mut cluster = self.cluster.state();
        if !cluster.reachable {
            return Err(timed_out(step));
        }
        let read_only = kernel.mounts.iter().any(|it| it.number.minor == minor && it.read_only);
        if remove && read_only {
            return Err(failed(step, "unlink", "Read-only file system"));
        }
        let aged = cluster.old.clone();
        let records = records(&kernel, &mut cluster, minor, &folder);
        let records = records.ok_or_else(|| failed(step, "read", "Input/output error"))?;
        let old: BTreeSet<Record> = records.intersection(&aged).copied().collect();
        if remove {
            records.retain(|record| !old.contains(record));
        }
        let names = old.iter().map(ToString::to_string).collect();
        let count = old.len() as u64;
        Ok(OldFiles { count, bytes: ByteSize(count * 4096), names, kept: 0, whole: true })
    }
}

/// What lies in a folder, synced: `None` where its device or client serves nobody.
fn records<'a>(
    kernel: &Kernel,
    cluster: &'a mut ClusterState,
    minor: u32,
    folder: &str,
) -> Option<&'a mut BTreeSet<Record>> {
    if let Some(client) = kernel.folders.get(&minor) {
        return cluster.folders.get_mut(&client.place());
    }
    let device = kernel.devices.get(&minor).filter(|device| !device.cut)?;
    if cluster.is_fenced(&device.address) {
        return None;
    }
    let fs = cluster.images.get_mut(&device.image_id)?.content.filesystem_mut()?;
    Some(&mut fs.folders.get_mut(folder)?.records)
}

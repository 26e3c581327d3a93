//! Copies of subvolumes, which the manager makes, and snapshots that are seen where they lie.
//!
//! A snapshot for reading only needs no copy: below the mounted folder of the volume it is at
//! `.snap/_NAME_INODE`. The inode is that of a folder above, which only a mount tells.

use std::path::Path;

use super::super::{Attachment, BackendError, Cloning, Copied, Result};
use super::snapshots::subvolume;
use super::{CephFsBackend, Folder};
use crate::ceph::{CloneState, ClusterError, ClusterErrorKind, Going};
use crate::deadline::Deadline;
use crate::volume::{FolderSpec, SnapshotName, SubvolumeSpec, VolumeOptions};

/// Where the snapshots of a mounted folder are.
const SNAPSHOTS: &str = ".snap";

impl Cloning<FolderSpec> for CephFsBackend {
    fn clone_of(
        &self,
        origin: &FolderSpec,
        snapshot: &SnapshotName,
        to: &FolderSpec,
        options: &VolumeOptions,
    ) -> Result<()> {
        let (from, to) = (subvolume(origin)?, subvolume(to)?);
        self.cluster.group_create(&to.fs, &to.group)?;
        let pool = options.data_pool.as_deref();
        match self.cluster.subvolume_clone(from, snapshot.as_str(), to, pool) {
            // Nothing was there when it was planned.
            Err(error) if error.kind == ClusterErrorKind::Exists => Ok(()),
            other => Ok(other?),
        }
    }

    fn copied(&self, location: &FolderSpec) -> Result<Copied> {
        match self.cluster.subvolume_clone_state(subvolume(location)?) {
            Ok(CloneState::Complete) => Ok(Copied::Whole),
            Ok(CloneState::UnderWay(percent)) => Ok(Copied::UnderWay(percent)),
            Ok(CloneState::Failed(why)) => Ok(Copied::Failed(why)),
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(Copied::Absent),
            Err(error) => Err(error.into()),
        }
    }

    fn abandon(&self, location: &FolderSpec) -> Result<()> {
        let FolderSpec::Subvolume(at) = location else { return Ok(()) };
        let gone = |done: crate::ceph::Result<()>| match done {
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => other.map_err(BackendError::from),
        };
        match self.cluster.subvolume_clone_state(at) {
            Err(error) if error.kind == ClusterErrorKind::NotFound => return Ok(()),
            Ok(CloneState::Complete) => return Ok(()),
            Ok(CloneState::UnderWay(_)) => gone(self.cluster.subvolume_clone_cancel(at))?,
            Ok(CloneState::Failed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        gone(self.cluster.subvolume_remove(at))
    }

    fn depth(&self, _: &FolderSpec) -> Result<usize> {
        Ok(0)
    }

    fn flatten(&self, _: &FolderSpec, _: Going<'_>) -> Result<()> {
        Ok(())
    }
}

impl CephFsBackend {
    /// Refuses where the subvolume has no such snapshot.
    pub(super) fn check_snapshot(&self, at: &SubvolumeSpec, name: &SnapshotName) -> Result<()> {
        let there = self.cluster.subvolume_snapshot_list(at)?;
        match there.iter().any(|of| of.name == name.as_str()) {
            true => Ok(()),
            false => Err(missing(at, name)),
        }
    }

    /// Adds, for a snapshot that is mounted with the whole of its volume, the folder of it.
    pub(super) fn with_snapshot(
        &self,
        mounted: Attachment<Folder>,
        deadline: &Deadline,
    ) -> Result<Attachment<Folder>> {
        let FolderSpec::Snapshot { subvolume, snapshot } = &mounted.attached.place else {
            return Ok(mounted);
        };
        let at = mounted.attached.mount.target.join(SNAPSHOTS);
        let names = self.system.names_in(&at, deadline)?;
        let name = names.into_iter().find(|name| is_of(name, snapshot));
        let name = name.ok_or_else(|| missing(subvolume, snapshot))?;
        let folder = Path::new(SNAPSHOTS).join(name).to_string_lossy().into_owned();
        Ok(Attachment { part: Some(folder), ..mounted })
    }
}

/// Is it `_NAME_INODE`?
fn is_of(file: &str, snapshot: &SnapshotName) -> bool {
    let parts = file.strip_prefix('_').and_then(|rest| rest.rsplit_once('_'));
    parts.is_some_and(|(name, inode)| name == snapshot.as_str() && inode.parse::<u64>().is_ok())
}

fn missing(at: &SubvolumeSpec, name: &SnapshotName) -> BackendError {
    BackendError::Cluster(ClusterError {
        kind: ClusterErrorKind::NotFound,
        call: "find a snapshot of subvolume",
        subject: at.to_string(),
        errno: libc::ENOENT,
        message: format!("there is no snapshot {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_known_below_its_folder() {
        let name: SnapshotName = "a_7".parse().expect("a name");
        assert!(is_of("_a_7_1099511627776", &name));
        for other in ["a_7", "_a_7", "_a_7_x", "_a_1099511627776", "_a_7_8_9", "_b_a_7_9"] {
            assert!(!is_of(other, &name), "{other}");
        }
    }
}

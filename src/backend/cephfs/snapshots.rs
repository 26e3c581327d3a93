//! Snapshots of subvolumes, and having what is written reach the cluster.
//!
//! CephFS cannot hold writers back: a host writes out what it has, and what its writers are to leave
//! out only hooks can tell them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::rbd::NOTE_PREFIX;
use super::super::{BackendError, Freezing, Result, RollBack, Snapshotting, Still, StoredSnapshot};
use super::{CephFsBackend, Folder};
use crate::ceph::{ClusterErrorKind, SubvolumeSnapshot};
use crate::deadline::Deadline;
use crate::system::{FolderMountRequest, Stood};
use crate::volume::{ByteSize, FolderSpec, SnapshotName, SubvolumeSpec};

impl Snapshotting<FolderSpec> for CephFsBackend {
    fn snapshot(&self, location: &FolderSpec, name: &SnapshotName, note: &str) -> Result<()> {
        self.note_snapshot(location, name, note)?;
        Ok(self.cluster.subvolume_snapshot_create(subvolume(location)?, name.as_str())?)
    }

    fn snapshots(&self, location: &FolderSpec) -> Result<Vec<StoredSnapshot>> {
        let FolderSpec::Subvolume(at) = location else { return Ok(Vec::new()) };
        let there = self.cluster.subvolume_snapshot_list(at)?;
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let notes = self.cluster.subvolume_metadata_list(at, NOTE_PREFIX)?;
        let note_of = |name: &str| notes.get(&note_key(name)).cloned();
        let stored = |snapshot: SubvolumeSnapshot| StoredSnapshot {
            // Nothing else tells it from a later one.
            id: snapshot.created.map(|at| at.to_string()).unwrap_or_default(),
            created: snapshot.created,
            size: None,
            note: note_of(&snapshot.name),
            name: snapshot.name,
        };
        let mut all: Vec<StoredSnapshot> = there.into_iter().map(stored).collect();
        all.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        Ok(all)
    }

    fn note_snapshot(&self, location: &FolderSpec, name: &SnapshotName, note: &str) -> Result<()> {
        let key = note_key(name.as_str());
        Ok(self.cluster.subvolume_metadata_set(subvolume(location)?, &key, note)?)
    }

    fn remove_snapshot(&self, location: &FolderSpec, name: &SnapshotName) -> Result<()> {
        let at = subvolume(location)?;
        let gone = |removed: crate::ceph::Result<()>| match removed {
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => other.map_err(BackendError::from),
        };
        gone(self.cluster.subvolume_snapshot_remove(at, name.as_str()))?;
        gone(self.cluster.subvolume_metadata_remove(at, &note_key(name.as_str())))
    }

    /// A clone is a copy, which needs its origin only until it is made; the cluster refuses to
    /// remove that meanwhile.
    fn children(&self, _: &FolderSpec, _: &SnapshotName) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn changed(
        &self,
        _: &FolderSpec,
        _: Option<&SnapshotName>,
        _: Option<&SnapshotName>,
    ) -> Result<Option<ByteSize>> {
        Ok(None)
    }

    fn can_roll_back(&self, location: &FolderSpec) -> Result<()> {
        subvolume(location)?;
        Ok(self.system.can_restore_folder()?)
    }

    fn roll_back(
        &self,
        location: &FolderSpec,
        order: &RollBack<'_>,
        deadline: &Deadline,
    ) -> Result<()> {
        let at = subvolume(location)?;
        self.clear(order.aside, deadline)?;
        let access = self.access(location, false)?;
        if order.again {
            // Whoever was at it must not come back to it.
            self.cluster.subvolume_evict(at, &access.client_id)?;
        }
        let info = self.cluster.subvolume_info(at)?;
        let request = FolderMountRequest {
            client: self.choose_client(None)?,
            fs: at.fs.clone(),
            path: info.path,
            target: order.aside.to_owned(),
            read_only: false,
            options: Vec::new(),
            access,
            id: serde_json::to_string(location).expect("a place is plain data"),
        };
        let mount = self.system.mount_folder(&request, &deadline.at_most(MOUNT))?;
        order.begun.set(true);
        let restored = self
            .system
            .restore_folder(&mount.target, order.snapshot.as_str(), order.progress, deadline)
            .map_err(BackendError::from);
        let unmounted = self.system.unmount_folder(&mount, &deadline.for_undo(MOUNT));
        match restored {
            Ok(()) => Ok(unmounted?),
            Err(error) => Err(error.with_undo(unmounted.map_err(BackendError::from))),
        }
    }
}

impl CephFsBackend {
    /// Takes down what an earlier daemon has left mounted there.
    fn clear(&self, target: &Path, deadline: &Deadline) -> Result<()> {
        let left = self.system.folder_mounts()?.into_iter().find(|mount| mount.target == target);
        left.map_or(Ok(()), |mount| {
            Ok(self.system.unmount_folder(&mount, &deadline.at_most(MOUNT))?)
        })
    }
}

/// How long a mount or an unmount may take that nobody waits for.
const MOUNT: Duration = Duration::from_secs(60);

/// The manager keeps no capitals in a key: `A` becomes `_a`, and `_` becomes `__`.
fn note_key(name: &str) -> String {
    let mut key = NOTE_PREFIX.to_owned();
    for letter in name.chars() {
        if letter == '_' || letter.is_ascii_uppercase() {
            key.push('_');
        }
        key.push(letter.to_ascii_lowercase());
    }
    key
}

pub(super) fn subvolume(location: &FolderSpec) -> Result<&SubvolumeSpec> {
    match location {
        FolderSpec::Subvolume(at) => Ok(at),
        FolderSpec::Snapshot { .. } => Err(BackendError::Invalid(format!(
            "{location} is itself a snapshot, and never changes"
        ))),
        FolderSpec::Within { .. } | FolderSpec::Path(_) => Err(BackendError::Invalid(format!(
            "{location} was adopted as it is, and is no subvolume: snapshots of it are the business \
             of whoever made it"
        ))),
    }
}

impl Freezing<Folder> for CephFsBackend {
    fn hold_still(
        &self,
        _: &Folder,
        target: &Path,
        _: Duration,
        deadline: &Deadline,
    ) -> Result<Box<dyn Still>> {
        let begun = Instant::now();
        self.system.sync(target, deadline)?;
        Ok(Box::new(Synced { took: begun.elapsed() }))
    }
}

/// A folder of which all was written out.
struct Synced {
    took: Duration,
}

impl Still for Synced {
    /// Nobody stood still for longer than the writing out took.
    fn release(self: Box<Self>, _: &Deadline) -> Result<Stood> {
        Ok(Stood { whole: true, time: self.took })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_have_keys_that_differ() {
        assert_eq!(note_key("a_B.1"), format!("{NOTE_PREFIX}a___b.1"));
        let names = ["a", "A", "_a", "_A", "__a", "aB", "a_b", "a_B"];
        let keys: std::collections::BTreeSet<String> = names.iter().map(|n| note_key(n)).collect();
        assert_eq!(keys.len(), names.len());
    }
}

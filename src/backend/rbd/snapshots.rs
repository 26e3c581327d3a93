//! Snapshots of images, and holding still what is mounted of one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::{BackendError, Freezing, Result, RollBack, Snapshotting, Still, StoredSnapshot};
use super::RbdBackend;
use crate::ceph::{ClusterError, ClusterErrorKind};
use crate::deadline::Deadline;
use crate::system::{Frozen, MappedDevice, Stood, System};
use crate::volume::{ByteSize, ImageSpec, SnapshotName};

/// What the metadata keys of notes begin with; the snapshot's name follows.
pub(in crate::backend) const NOTE_PREFIX: &str = "docker-volume-ceph.snapshot.";

impl Snapshotting<ImageSpec> for RbdBackend {
    fn snapshot(&self, location: &ImageSpec, name: &SnapshotName, note: &str) -> Result<()> {
        self.note_snapshot(location, name, note)?;
        Ok(self.cluster.snapshot_create(location, name.as_str())?)
    }

    fn snapshots(&self, location: &ImageSpec) -> Result<Vec<StoredSnapshot>> {
        let there = self.cluster.snapshot_list(location)?;
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let notes = self.cluster.metadata_list(location, NOTE_PREFIX)?;
        let note_of = |name: &str| {
            let is_its = |key: &String| key.strip_prefix(NOTE_PREFIX) == Some(name);
            notes.iter().find(|(key, _)| is_its(key)).map(|(_, note)| note.clone())
        };
        let stored = |snapshot: crate::ceph::ImageSnapshot| StoredSnapshot {
            id: snapshot.id.to_string(),
            created: snapshot.created,
            size: Some(snapshot.size),
            note: note_of(&snapshot.name),
            name: snapshot.name,
        };
        Ok(there.into_iter().map(stored).collect())
    }

    fn note_snapshot(&self, location: &ImageSpec, name: &SnapshotName, note: &str) -> Result<()> {
        Ok(self.cluster.metadata_set(location, &format!("{NOTE_PREFIX}{name}"), note)?)
    }

    fn remove_snapshot(&self, location: &ImageSpec, name: &SnapshotName) -> Result<()> {
        let gone = |removed: crate::ceph::Result<()>| match removed {
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => other.map_err(BackendError::from),
        };
        gone(self.cluster.snapshot_remove(location, name.as_str()))?;
        gone(self.cluster.metadata_remove(location, &format!("{NOTE_PREFIX}{name}")))
    }

    fn children(&self, location: &ImageSpec, name: &SnapshotName) -> Result<Vec<String>> {
        match self.cluster.snapshot_children(location, name.as_str()) {
            Ok(children) => Ok(children.iter().map(ToString::to_string).collect()),
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn changed(
        &self,
        location: &ImageSpec,
        from: Option<&SnapshotName>,
        to: Option<&SnapshotName>,
    ) -> Result<Option<ByteSize>> {
        let (from, to) = (from.map(SnapshotName::as_str), to.map(SnapshotName::as_str));
        Ok(Some(self.cluster.snapshot_changed(location, from, to)?))
    }

    fn can_roll_back(&self, _: &ImageSpec) -> Result<()> {
        Ok(())
    }

    fn roll_back(&self, location: &ImageSpec, order: &RollBack<'_>, _: &Deadline) -> Result<()> {
        let name = order.snapshot.as_str();
        let done = self.cluster.snapshot_rollback(location, name, order.progress);
        let untouched = |error: &ClusterError| {
            matches!(error.kind, ClusterErrorKind::Busy | ClusterErrorKind::NotFound)
        };
        order.begun.set(order.begun.get() || !done.as_ref().err().is_some_and(untouched));
        Ok(done?)
    }
}

impl Freezing<MappedDevice> for RbdBackend {
    fn hold_still(
        &self,
        attached: &MappedDevice,
        target: &Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> Result<Box<dyn Still>> {
        let frozen = self.system.freeze(target, limit, deadline)?;
        let (system, device) = (Arc::clone(&self.system), attached.clone());
        Ok(Box::new(StillDevice { system, device, frozen }))
    }
}

/// A mounted image that stands still.
struct StillDevice {
    system: Arc<dyn System>,
    device: MappedDevice,
    frozen: Box<dyn Frozen>,
}

impl Still for StillDevice {
    /// A kernel that does not know of the snapshot would write into it: where it cannot be told, the
    /// snapshot does not count.
    fn release(self: Box<Self>, deadline: &Deadline) -> Result<Stood> {
        let told = self.system.refresh(&self.device, deadline);
        let stood = self.frozen.thaw()?;
        told?;
        Ok(stood)
    }
}

//! [`SubvolumeSnapshots`] by commands to the manager.
//!
//! The manager takes the making of a snapshot that is there for success, so it is looked for first:
//! of two who make one at once both are told so, and what keeps them apart is the caller's.
//!
//! Whoever has the subvolume's folder mounted reads a snapshot of it below that, at
//! `.snap/_NAME_INODE`: it is made on the folder above, and so has that one's inode in its name,
//! which is not to be seen from below. A copy has the content, owner, mode and quota of what was
//! copied, and none of its metadata. Until it is complete it says EAGAIN to everything.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::cluster::RadosCluster;
use super::command::fs::{
    CloneCancel, CloneStatus, MetadataLs, SnapshotClone, SnapshotCreate, SnapshotInfo, SnapshotLs,
    SnapshotRm,
};
use super::failure::Failure;
use super::subvolumes::{check_spec, check_word, time};
use super::{ClusterError, ClusterErrorKind, Result};
use crate::volume::SubvolumeSpec;

/// A snapshot of a subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubvolumeSnapshot {
    /// Its name.
    pub name: String,
    /// When it was made; nothing else tells it from a later one of the same name.
    pub created: Option<Timestamp>,
    /// Something is being copied from it: it cannot be removed.
    pub is_copied: bool,
}

/// How far a copy of a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloneState {
    /// It waits, or is being copied: so much of it, in percent, where the cluster tells.
    UnderWay(Option<u8>),
    /// It is a subvolume like any other.
    Complete,
    /// It came to nothing: the manager's word for it.
    Failed(String),
}

/// Snapshots of subvolumes, and copies of them.
pub trait SubvolumeSnapshots: Send + Sync {
    /// Makes a snapshot. `Exists`.
    fn subvolume_snapshot_create(&self, subvolume: &SubvolumeSpec, name: &str) -> Result<()>;

    /// The snapshots, in no order.
    fn subvolume_snapshot_list(&self, subvolume: &SubvolumeSpec) -> Result<Vec<SubvolumeSnapshot>>;

    /// Removes a snapshot. `NotFound`; `Busy` while it is being copied.
    fn subvolume_snapshot_remove(&self, subvolume: &SubvolumeSpec, name: &str) -> Result<()>;

    /// The metadata whose keys begin with `prefix`.
    fn subvolume_metadata_list(
        &self,
        subvolume: &SubvolumeSpec,
        prefix: &str,
    ) -> Result<BTreeMap<String, String>>;

    /// Begins to copy a snapshot to a new subvolume of the same file system. `Exists`.
    fn subvolume_clone(
        &self,
        from: &SubvolumeSpec,
        snapshot: &str,
        to: &SubvolumeSpec,
        data_pool: Option<&str>,
    ) -> Result<()>;

    /// How far a copy is. `Complete` for a subvolume that is none.
    fn subvolume_clone_state(&self, subvolume: &SubvolumeSpec) -> Result<CloneState>;

    /// Ends a copy that is under way; what there is of it can be removed then. Success where it is
    /// complete.
    fn subvolume_clone_cancel(&self, subvolume: &SubvolumeSpec) -> Result<()>;
}

impl SubvolumeSnapshots for RadosCluster {
    fn subvolume_snapshot_create(&self, subvolume: &SubvolumeSpec, name: &str) -> Result<()> {
        let call = "make a snapshot of subvolume";
        check_snapshot(call, subvolume, name)?;
        let list = SnapshotLs { of: subvolume.into() };
        let there = self.on_subvolume(call, subvolume, &list)?;
        if there.iter().any(|other| other.name == name) {
            return Err(ClusterError {
                kind: ClusterErrorKind::Exists,
                call,
                subject: subvolume.to_string(),
                errno: libc::EEXIST,
                message: format!("there is a snapshot {name} already"),
            });
        }
        let command = SnapshotCreate { of: subvolume.into(), snap_name: name.to_owned() };
        self.on_subvolume(call, subvolume, &command)
    }

    fn subvolume_snapshot_list(&self, subvolume: &SubvolumeSpec) -> Result<Vec<SubvolumeSnapshot>> {
        let call = "list the snapshots of subvolume";
        let mut all = Vec::new();
        for named in self.on_subvolume(call, subvolume, &SnapshotLs { of: subvolume.into() })? {
            let command = SnapshotInfo { of: subvolume.into(), snap_name: named.name.clone() };
            match self.on_subvolume(call, subvolume, &command) {
                Ok(info) => all.push(SubvolumeSnapshot {
                    name: named.name,
                    created: time(&info.created_at),
                    is_copied: info.has_pending_clones == "yes",
                }),
                // Removed since.
                Err(error) if error.kind == ClusterErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn subvolume_snapshot_remove(&self, subvolume: &SubvolumeSpec, name: &str) -> Result<()> {
        let call = "remove a snapshot of subvolume";
        check_snapshot(call, subvolume, name)?;
        let command = SnapshotRm { of: subvolume.into(), snap_name: name.to_owned() };
        let removed = self.on_subvolume(call, subvolume, &command);
        removed.map_err(|error| match error.errno {
            libc::EAGAIN => {
                ClusterError { message: format!("snapshot {name} is being copied"), ..error }
            }
            // The manager's words have Python's quotes in them.
            libc::ENOENT if error.message.starts_with("snapshot ") => {
                ClusterError { message: format!("there is no snapshot {name}"), ..error }
            }
            _ => error,
        })
    }

    fn subvolume_metadata_list(
        &self,
        subvolume: &SubvolumeSpec,
        prefix: &str,
    ) -> Result<BTreeMap<String, String>> {
        let command = MetadataLs { of: subvolume.into() };
        let mut all = self.on_subvolume("read the metadata of subvolume", subvolume, &command)?;
        all.retain(|key, _| key.starts_with(prefix));
        Ok(all)
    }

    fn subvolume_clone(
        &self,
        from: &SubvolumeSpec,
        snapshot: &str,
        to: &SubvolumeSpec,
        data_pool: Option<&str>,
    ) -> Result<()> {
        let call = "copy a snapshot of subvolume";
        check_snapshot(call, from, snapshot)?;
        check_spec(to).map_err(|failure| failure.during(call, to.to_string()))?;
        let command = SnapshotClone {
            of: from.into(),
            snap_name: snapshot.to_owned(),
            target_sub_name: to.subvolume.clone(),
            target_group_name: to.group.clone(),
            pool_layout: data_pool.map(str::to_owned),
        };
        self.on_subvolume(call, from, &command)
    }

    fn subvolume_clone_state(&self, subvolume: &SubvolumeSpec) -> Result<CloneState> {
        let command = CloneStatus::new(subvolume);
        match self.on_subvolume("look at the copy", subvolume, &command) {
            Ok(reply) => Ok(match reply.status.state.as_str() {
                "complete" => CloneState::Complete,
                "pending" | "in-progress" => CloneState::UnderWay(reply.status.percent()),
                other => CloneState::Failed(match reply.status.failure {
                    Some(failure) => format!("{other}: {}", failure.error_msg),
                    None => other.to_owned(),
                }),
            }),
            Err(error) if error.errno == libc::EOPNOTSUPP => Ok(CloneState::Complete),
            Err(error) => Err(error),
        }
    }

    fn subvolume_clone_cancel(&self, subvolume: &SubvolumeSpec) -> Result<()> {
        let command = CloneCancel::new(subvolume);
        match self.on_subvolume("end the copy", subvolume, &command) {
            // The manager's words for one that is complete, and for one that never was a copy.
            Err(error) if matches!(error.errno, libc::EINVAL | libc::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }
}

/// A name with a slash would be a path, and one that begins with `_` that of a folder above.
fn check_snapshot(call: &'static str, of: &SubvolumeSpec, name: &str) -> Result<()> {
    let checked = check_word("snapshot", name).and_then(|()| match name.starts_with('_') {
        false => Ok(()),
        true => Err(Failure::invalid(format!("snapshot {name:?} begins with '_'"))),
    });
    checked.map_err(|failure| failure.during(call, of.to_string()))
}

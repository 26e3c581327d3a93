//! Volumes made of snapshots of others.
//!
//! A clone of an image shares its data with the snapshot until it is flattened; one of a folder is a
//! copy, which the cluster makes by itself and in its own time.

use super::Result;
use crate::ceph::Going;
use crate::volume::{Place, SnapshotName, VolumeOptions};

/// How far the copy of a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// Nothing is there.
    Absent,
    /// It is whole, or was never a copy.
    Whole,
    /// The cluster copies it: so much, in percent, where it tells.
    UnderWay(Option<u8>),
    /// It came to nothing: why.
    Failed(String),
}

/// Making the stored thing of a snapshot of another.
pub trait Cloning<L = Place>: Send + Sync {
    /// Makes it, or begins to copy it. What an earlier attempt has made of the same snapshot is taken
    /// for it.
    fn clone_of(
        &self,
        origin: &L,
        snapshot: &SnapshotName,
        to: &L,
        options: &VolumeOptions,
    ) -> Result<()>;

    /// How far the copy is. Never waits for it.
    fn copied(&self, location: &L) -> Result<Copied>;

    /// Ends and removes a copy that is not whole. Success where there is none.
    fn abandon(&self, location: &L) -> Result<()>;

    /// How many others it needs to be read: what it was made of, what that was made of, and so on.
    fn depth(&self, location: &L) -> Result<usize>;

    /// Copies what it still shares with its origin. Takes as long as that.
    fn flatten(&self, location: &L, progress: Going<'_>) -> Result<()>;
}

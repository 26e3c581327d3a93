//! Snapshots of what is stored, whatever its kind, and holding still what is mounted while one is
//! made.
//!
//! Beside each snapshot stands a note, under a metadata key of the volume. It is written first, and
//! again when the snapshot is whole: one whose note does not name it was cut off, or is another's.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;

use super::{Attached, Result};
use crate::deadline::Deadline;
use crate::progress::Progress;
use crate::system::Stood;
use crate::volume::{ByteSize, Place, SnapshotName};

/// A snapshot as what is stored has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// What tells it from a later one of the same name.
    pub id: String,
    /// Its name, which need not be one that we would give.
    pub name: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The size that the volume had, where it is known.
    pub size: Option<ByteSize>,
    /// What is noted of it.
    pub note: Option<String>,
}

/// Snapshots of the stored thing.
pub trait Snapshotting<L = Place>: Send + Sync {
    /// Makes a snapshot, also while the volume is in use. It is whole when this returns, or gone.
    fn snapshot(&self, location: &L, name: &SnapshotName, note: &str) -> Result<()>;

    /// All snapshots, ours or not, the oldest first.
    fn snapshots(&self, location: &L) -> Result<Vec<StoredSnapshot>>;

    /// Writes the note of a snapshot.
    fn note_snapshot(&self, location: &L, name: &SnapshotName, note: &str) -> Result<()>;

    /// Removes a snapshot and its note. Success where it is gone.
    fn remove_snapshot(&self, location: &L, name: &SnapshotName) -> Result<()>;

    /// What was made of a snapshot, and needs it. Nothing where it is gone: snapshots that are listed
    /// may be removed meanwhile.
    fn children(&self, location: &L, name: &SnapshotName) -> Result<Vec<String>>;

    /// The bytes that changed from a snapshot (`None`: nothing) to another (`None`: now); `None`
    /// where the kind cannot tell.
    fn changed(
        &self,
        location: &L,
        from: Option<&SnapshotName>,
        to: Option<&SnapshotName>,
    ) -> Result<Option<ByteSize>>;

    /// Says why this host cannot roll back what lies there, where it cannot.
    fn can_roll_back(&self, location: &L) -> Result<()>;

    /// Gives the stored thing the content that a snapshot has, and of an image its size too; nothing
    /// else of it is lost. `Busy` where somebody has it open, and then nothing has changed. Can be
    /// repeated where it was cut off.
    fn roll_back(&self, location: &L, order: &RollBack<'_>, deadline: &Deadline) -> Result<()>;
}

/// How something is rolled back.
pub struct RollBack<'a> {
    /// The snapshot whose content it gets.
    pub snapshot: &'a SnapshotName,
    /// Where it may be mounted for that, out of everybody's sight; nothing else ever is.
    pub aside: &'a std::path::Path,
    /// It goes on with what somebody began who is gone, and may not have noticed.
    pub again: bool,
    /// Set once something may have changed: what fails before that has done nothing.
    pub begun: &'a Cell<bool>,
    /// Hears how far it is.
    pub progress: Progress<'a>,
}

impl std::fmt::Debug for RollBack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { snapshot, aside, again, .. } = self;
        write!(f, "RollBack({snapshot}, at {}, again: {again})", aside.display())
    }
}

/// What stands still for a snapshot, until this is let go.
pub trait Still: Send {
    /// Lets it go on, once all writers know of the snapshot, and says whether it stood still until
    /// now. An error says the same as "no".
    fn release(self: Box<Self>, deadline: &Deadline) -> Result<Stood>;
}

/// Holding still what is mounted here.
pub trait Freezing<A = Attached>: Send + Sync {
    /// Has everything that was written reach the cluster, and holds back what is to be written for
    /// `limit` at most, however this process ends. A folder of CephFS is not held back: what its
    /// writers are to leave out, only hooks can tell them.
    fn hold_still(
        &self,
        attached: &A,
        target: &std::path::Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> Result<Box<dyn Still>>;
}

//! What is noted of snapshots in a volume's record: those that there are, and the one that is being
//! made, which is taken over from whoever is gone.
//!
//! ```text
//!  none ──its maker──▶ taking ──its maker, when it is whole or abandoned──▶ none
//!                        └──another, once its maker is gone──▶ the other's taking ──▶ none
//! ```
//!
//! Each step is one change of the record, and only from what stood there. So a maker that was only slow
//! finds that its word is gone, and what it made last counts for nothing; and whoever takes over
//! removes nothing before that is so.

use std::cell::Cell;

use jiff::Timestamp;

use super::{ErrorKind, Result, Service, Verb};
use crate::audit::audit;
use crate::backend::{Snapshotting, StoredSnapshot};
use crate::volume::{Record, SnapshotBrief, SnapshotName, SnapshotNote, SnapshotState, Taking};

/// How many snapshots the catalog names of a volume.
const NAMED: usize = 20;

impl Service {
    /// Removes what was cut off of an earlier snapshot, where nobody can be at it any more.
    ///
    /// # Errors
    /// `InUse` where somebody is.
    pub(super) fn settle_alone(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let busy = || verb.error(ErrorKind::InUse, "a snapshot of it is being made here");
        let _alone = self.takes.try_lock(verb.name).ok_or_else(busy)?;
        self.settle_taking(verb, record)
    }

    /// The same for whoever makes sure that this daemon makes no snapshot of it.
    pub(super) fn settle_taking(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let Some(taking) = &record.snapshots.taking else { return Ok(()) };
        if taking.work.by != self.work().by && self.is_there(verb, &taking.work.by)? {
            let Taking { snapshot, work } = taking;
            let cause = format!("host {} makes its snapshot {snapshot}", work.host);
            return Err(verb.error(ErrorKind::InUse, cause).advise("try again in a moment"));
        }
        // It may only be slow: from here on nothing that it says of the snapshot counts.
        let ours = Taking { snapshot: taking.snapshot.clone(), work: self.work() };
        let record = self.change(verb, |record| {
            let mut record = record.clone();
            let stands = record.snapshots.taking.as_ref() == Some(taking);
            record.snapshots.taking = Some(ours.clone());
            stands.then_some(record)
        })?;
        if record.snapshots.taking.as_ref() != Some(&ours) {
            return Ok(());
        }
        let mut there = self.stored_snapshots(verb, &record)?;
        let cut_off = |of: &StoredSnapshot| of.name == taking.snapshot.as_str() && !is_whole(of);
        if there.iter().any(cut_off) {
            audit!(volume = %verb.name, snapshot = %taking.snapshot, "snapshot was cut off: removed");
            self.remove_stored(verb, &record, &taking.snapshot)?;
            there.retain(|of| !cut_off(of));
        }
        self.end_taking(verb, &ours, None, &there).map(drop)
    }

    /// Takes `taking` out of the record, and notes there what snapshots there are. Says whether it was
    /// there: else somebody took it for given up, and nothing is noted.
    pub(super) fn end_taking(
        &self,
        verb: Verb<'_>,
        taking: &Taking,
        served: Option<Timestamp>,
        there: &[StoredSnapshot],
    ) -> Result<bool> {
        let stood = Cell::new(false);
        self.note_snapshots(verb, there, |snapshots| {
            stood.set(snapshots.taking.as_ref() == Some(taking));
            if stood.get() {
                snapshots.taking = None;
                if served.is_some() {
                    (snapshots.served, snapshots.trouble) = (served, None);
                }
            }
            stood.get()
        })?;
        Ok(stood.get())
    }

    /// Looks what snapshots there are, after one was changed or removed, and notes it in the record.
    pub(super) fn note_those_left(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        self.note_snapshots(verb, &self.stored_snapshots(verb, record)?, |_| true)
    }

    /// Notes in the record what snapshots there are, and what else has changed of them; nothing where
    /// `change` says so.
    pub(super) fn note_snapshots(
        &self,
        verb: Verb<'_>,
        there: &[StoredSnapshot],
        change: impl Fn(&mut SnapshotState) -> bool,
    ) -> Result<()> {
        let (count, newest) = (there.len(), briefs(there));
        self.change(verb, |record| {
            let mut record = record.clone();
            let counts = change(&mut record.snapshots);
            (record.snapshots.count, record.snapshots.newest) = (count, newest.clone());
            counts.then_some(record)
        })
        .map(drop)
    }

    /// All snapshots that the cluster has of a volume.
    pub(super) fn stored_snapshots(
        &self,
        verb: Verb<'_>,
        record: &Record,
    ) -> Result<Vec<StoredSnapshot>> {
        let all = self.backend.snapshots(&record.location);
        all.map_err(|error| self.failed(verb, error))
    }

    pub(super) fn remove_stored(
        &self,
        verb: Verb<'_>,
        record: &Record,
        snapshot: &SnapshotName,
    ) -> Result<()> {
        let removed = self.backend.remove_snapshot(&record.location, snapshot);
        removed.map_err(|error| self.failed(verb, error))
    }
}

/// The newest snapshots that are ours, the oldest first.
fn briefs(all: &[StoredSnapshot]) -> Vec<SnapshotBrief> {
    let brief = |stored: &StoredSnapshot| {
        let note = stored.note.as_deref().and_then(SnapshotNote::read)?;
        Some(SnapshotBrief {
            name: stored.name.parse().ok()?,
            created: note.created,
            consistency: note.consistency,
            protected: note.protected,
        })
    };
    let all: Vec<SnapshotBrief> = all.iter().filter_map(brief).collect();
    all[all.len().saturating_sub(NAMED)..].to_vec()
}

/// Is it a snapshot that was made to its end, or one that is none of ours?
pub(super) fn is_whole(stored: &StoredSnapshot) -> bool {
    let note = stored.note.as_deref().and_then(SnapshotNote::read);
    note.is_none_or(|note| note.id.as_ref() == Some(&stored.id))
}

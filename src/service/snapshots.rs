//! What operators do with the snapshots of a volume: look, protect, remove, compare, roll back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::taken::is_whole;
use super::{ErrorKind, Result, Service, Verb};
use crate::backend::{Snapshotting, StoredSnapshot};
use crate::deadline::Deadline;
use crate::volume::{ByteSize, Consistency, Maker, Record, SnapshotName, SnapshotNote, VolumeName};

/// Which snapshot is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotOrder {
    /// Its name.
    pub name: SnapshotName,
    /// What it is to promise; `None`: what the volume's options say, and of several volumes that
    /// do not agree the most that one of them asks for.
    pub consistency: Option<Consistency>,
    /// What its maker wants to remember.
    pub labels: BTreeMap<String, String>,
    /// Who has it made.
    pub by: Maker,
    /// The volumes that are snapshotted together have the same word here.
    pub group: Option<String>,
}

impl SnapshotOrder {
    /// What it is to promise, once that is settled.
    pub(super) fn consistency(&self) -> Consistency {
        self.consistency.unwrap_or_default()
    }

    /// The due time that is served by it.
    pub(super) fn served(&self) -> Option<Timestamp> {
        match self.by {
            Maker::Schedule { due } => Some(due),
            _ => None,
        }
    }
}

/// A snapshot as it is shown. The JSON keys are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The size that the volume had.
    pub size: Option<ByteSize>,
    /// What it promises; `None` where it was made by other means, and nobody knows.
    pub consistency: Option<Consistency>,
    /// Who had it made; `None` as above.
    pub by: Option<Maker>,
    /// The volumes that were snapshotted at the same point in time have the same word here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What its maker wanted to remember.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// It cannot be removed.
    pub protected: bool,
    /// What was made of it, and needs it: volumes by their names, and what else there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clones: Vec<String>,
    /// It was made to its end; one that was not is removed in a while.
    pub whole: bool,
    /// How long writers stood still for it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_still_ms: Option<u64>,
    /// The host that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl SnapshotView {
    pub(super) fn of(stored: &StoredSnapshot) -> Self {
        let note = stored.note.as_deref().and_then(SnapshotNote::read);
        let whole = is_whole(stored);
        let mut view = Self {
            name: stored.name.clone(),
            created: stored.created,
            size: stored.size,
            consistency: None,
            by: None,
            group: None,
            labels: BTreeMap::new(),
            protected: false,
            clones: Vec::new(),
            whole,
            stood_still_ms: None,
            host: None,
        };
        if let Some(note) = note {
            view.created = view.created.or(Some(note.created));
            view.consistency = Some(note.consistency);
            view.by = Some(note.by);
            view.group = note.group;
            view.labels = note.labels;
            view.protected = note.protected;
            view.stood_still_ms = note.stood_still_ms;
            view.host = Some(note.host);
        }
        view
    }
}

/// How much changed between two points of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changed {
    /// The bytes, in whole objects or less; `None` where the kind of volume cannot tell.
    pub bytes: Option<ByteSize>,
}

impl Service {
    /// All snapshots of a volume, the oldest first.
    ///
    /// # Errors
    /// `NotFound`, and where the cluster does not answer.
    pub fn snapshots(&self, name: &VolumeName, deadline: &Deadline) -> Result<Vec<SnapshotView>> {
        let verb = Verb::new("list snapshots of", name, deadline);
        let record = self.entry(verb)?.record;
        let there = self.stored_snapshots(verb, &record)?;
        let known = self.clones_of(verb, &record.location)?;
        let view = |stored: &StoredSnapshot| {
            let clones = match stored.name.parse() {
                Ok(snapshot) => self.clones_of_snapshot(verb, &record, &snapshot, &known)?,
                Err(_) => Vec::new(),
            };
            Ok(SnapshotView { clones, ..SnapshotView::of(stored) })
        };
        there.iter().map(view).collect()
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` where it is protected; `InUse` where something was made of it,
    /// which is named, or where it is still being made.
    pub fn remove_snapshot(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        deadline: &Deadline,
    ) -> Result<()> {
        let verb = Verb::new("remove snapshot of", name, deadline);
        let (record, note) = self.at_snapshot(verb, snapshot)?;
        self.refuse_rolling(verb, &record)?;
        if note.is_some_and(|note| note.protected) {
            let unprotect = format!("docker ceph snapshot unprotect {name} {snapshot}");
            return Err(verb
                .error(ErrorKind::InvalidArgument, format!("snapshot {snapshot} is protected"))
                .advise(format!("lift that with: {unprotect}")));
        }
        self.refuse_children(verb, &record, snapshot)?;
        self.remove_stored(verb, &record, snapshot)?;
        self.note_those_left(verb, &record)
    }

    /// Protects a snapshot from being removed, or lifts that.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for one that was made by other means.
    pub fn protect_snapshot(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        protected: bool,
        deadline: &Deadline,
    ) -> Result<()> {
        let verb = Verb::new("protect snapshot of", name, deadline);
        let (record, note) = self.at_snapshot(verb, snapshot)?;
        let Some(mut note) = note else {
            let cause = format!("snapshot {snapshot} was made by other means: nothing removes it");
            return Err(verb.error(ErrorKind::InvalidArgument, cause));
        };
        note.protected = protected;
        let noted = self.backend.note_snapshot(&record.location, snapshot, &note.text());
        noted.map_err(|error| self.failed(verb, error))?;
        self.note_those_left(verb, &record)
    }

    /// How much changed since a snapshot, up to another or until now.
    ///
    /// # Errors
    /// `NotFound`, and where the cluster does not answer.
    pub fn changed_since(
        &self,
        name: &VolumeName,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        deadline: &Deadline,
    ) -> Result<Changed> {
        let verb = Verb::new("compare snapshots of", name, deadline);
        let (record, _) = self.at_snapshot(verb, from)?;
        let bytes = self.backend.changed(&record.location, Some(from), to);
        Ok(Changed { bytes: bytes.map_err(|error| self.failed(verb, error))? })
    }

    /// The volume's record, and the note of a snapshot that has to be there, made to its end.
    fn at_snapshot(
        &self,
        verb: Verb<'_>,
        snapshot: &SnapshotName,
    ) -> Result<(Record, Option<SnapshotNote>)> {
        self.await_cluster(verb)?;
        let record = self.ready(verb)?;
        let there = self.stored_snapshots(verb, &record)?;
        let stored = there.iter().find(|of| of.name == snapshot.as_str()).ok_or_else(|| {
            verb.error(ErrorKind::NotFound, format!("there is no snapshot {snapshot}"))
                .advise(format!("docker ceph snapshot ls {} lists them", verb.name))
        })?;
        if record.snapshots.taking.as_ref().is_some_and(|taking| taking.snapshot == *snapshot) {
            self.settle_alone(verb, &record)?;
        }
        Ok((record, stored.note.as_deref().and_then(SnapshotNote::read)))
    }

    fn refuse_children(
        &self,
        verb: Verb<'_>,
        record: &Record,
        snapshot: &SnapshotName,
    ) -> Result<()> {
        let known = self.clones_of(verb, &record.location)?;
        let children = self.clones_of_snapshot(verb, record, snapshot, &known)?;
        if children.is_empty() {
            return Ok(());
        }
        let cause = format!("snapshot {snapshot} has clones: {}", children.join(", "));
        Err(verb.error(ErrorKind::InUse, cause).advise("flatten or remove those first"))
    }
}

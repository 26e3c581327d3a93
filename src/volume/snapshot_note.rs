//! What is noted of a snapshot beside it: why it is there, and what it promises.
//!
//! Ceph keeps a snapshot's name, size and time; the rest stands in a note on the volume. A snapshot
//! without a note was made by other tools, and is nobody's to prune. Notes are versioned as records
//! are: one of a newer daemon is used as far as it is understood, and loses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Consistency, VolumeName};

/// The version of note that this daemon writes.
pub const NOTE_VERSION: u32 = 1;

/// Who had a snapshot made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Maker {
    /// A person, or a program of theirs.
    Hand,
    /// The volume's schedule.
    Schedule {
        /// For which due time.
        due: Timestamp,
    },
    /// The driver itself, before something that cannot be undone.
    Safety,
    /// The driver itself, for a volume that was made of this one: it goes when that one needs it no
    /// more.
    Clone {
        /// That volume.
        volume: VolumeName,
    },
    /// A maker that only a newer daemon knows.
    #[serde(untagged)]
    Other(Value),
}

impl Maker {
    /// Who it was, in a word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::Schedule { .. } => "schedule",
            Self::Safety => "safety",
            Self::Clone { .. } => "clone",
            Self::Other(_) => "other",
        }
    }
}

/// What stands beside a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotNote {
    /// The version of the daemon's notes that wrote it.
    pub version: u32,
    /// What tells this snapshot from a later one of the same name, as Ceph says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it promises.
    pub consistency: Consistency,
    /// When it was asked for.
    pub created: Timestamp,
    /// Who had it made.
    pub by: Maker,
    /// The volumes that were snapshotted at the same point in time have the same word here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What its maker wants to remember.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// It is not removed, neither by hand nor by retention.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// How long writers stood still for it, in milliseconds; `None`: not at all, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_still_ms: Option<u64>,
    /// The host that made it, for people.
    pub host: String,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl SnapshotNote {
    /// A note of this daemon's version, with nothing that is optional.
    #[must_use]
    pub fn new(by: Maker, consistency: Consistency, created: Timestamp, host: String) -> Self {
        Self {
            version: NOTE_VERSION,
            id: None,
            consistency,
            created,
            by,
            group: None,
            labels: BTreeMap::new(),
            protected: false,
            stood_still_ms: None,
            host,
            other: Map::new(),
        }
    }

    /// Reads what stands beside a snapshot; `None` where it is no note of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As it stands beside the snapshot.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "notes are plain data")]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("notes are plain data")
    }

    /// Was it written by a newer daemon?
    #[must_use]
    pub fn is_newer(&self) -> bool {
        self.version > NOTE_VERSION
    }

    /// The due time, where retention may remove it: only what a schedule made, and never what is
    /// protected.
    #[must_use]
    pub fn prunable_due(&self) -> Option<Timestamp> {
        match self.by {
            Maker::Schedule { due } if !self.protected => Some(due),
            _ => None,
        }
    }

    /// How long writers stood still for it.
    #[must_use]
    pub fn stood_still(&self) -> Option<Duration> {
        self.stood_still_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(by: Maker) -> SnapshotNote {
        let created = "2026-11-26T11:00:00Z".parse().expect("a time");
        SnapshotNote::new(by, Consistency::Filesystem, created, "a".to_owned())
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let due = "2026-11-26T11:00:00Z".parse().expect("a time");
        for by in [Maker::Hand, Maker::Safety, Maker::Schedule { due }] {
            let mut note = note(by);
            note.labels.insert("release".to_owned(), "1.2".to_owned());
            note.stood_still_ms = Some(412);
            let text = serde_json::to_string(&note).expect("writable");
            assert_eq!(SnapshotNote::read(&text).expect("readable"), note, "{text}");
        }
    }

    #[test]
    fn a_newer_note_loses_nothing_and_is_not_pruned() {
        let text = r#"{"version":7,"id":"12","consistency":"crash","host":"a","colour":"blue",
            "created":"2026-11-26T11:00:00Z","by":{"robot":{"name":"x"}}}"#;
        let note = SnapshotNote::read(text).expect("readable");
        assert!(note.is_newer() && note.prunable_due().is_none(), "{note:?}");
        let again = serde_json::to_value(&note).expect("writable");
        assert_eq!(again, serde_json::from_str::<Value>(text).expect("JSON"));
    }

    #[test]
    fn only_what_a_schedule_made_and_nobody_protects_is_pruned() {
        let due = "2026-11-26T11:00:00Z".parse().expect("a time");
        let mut scheduled = note(Maker::Schedule { due });
        assert_eq!(scheduled.prunable_due(), Some(due));
        scheduled.protected = true;
        assert_eq!(scheduled.prunable_due(), None);
        assert_eq!(note(Maker::Hand).prunable_due(), None);
        assert_eq!(note(Maker::Safety).prunable_due(), None);
    }

    #[test]
    fn what_is_no_note_is_none() {
        for text in ["", "{}", "[]", "snap", r#"{"version":1}"#] {
            assert!(SnapshotNote::read(text).is_none(), "{text}");
        }
    }
}

//! Names of snapshots, and what a snapshot promises.
//!
//! A name is one that RBD and CephFS both take, so that the same words work for both kinds of
//! volume. What one of them would refuse is refused here, with the reason. Names that start with
//! `scheduled-` belong to schedules: such a name is the due time, so that a second attempt at the
//! same due time is "exists", whichever host makes it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{NameError, VolumeName};

/// The longest name: CephFS shows a snapshot below its folder as `_NAME_INODE`, in 255 bytes.
const LONGEST_NAME: usize = 100;

/// How much of a clone's name is in that of the snapshot that is made for it.
const LONGEST_CLONE: usize = 60;

/// What names of schedules start with.
const SCHEDULED: &str = "scheduled-";

/// How a due time is written in a name, in UTC.
const DUE: &str = "%Y%m%dT%H%M%SZ";

/// A snapshot's name: a letter or digit, then letters, digits, `_`, `.` and `-`; 100 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(Arc<str>);

/// A name of a snapshot that cannot be used; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot name {name:?} is not allowed: {reason}")]
pub struct SnapshotNameError {
    /// What was given.
    name: String,
    /// What is wrong with it.
    reason: String,
}

/// A volume, or one of its snapshots: `VOLUME`, `VOLUME@SNAPSHOT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotSpec {
    /// The volume.
    pub volume: VolumeName,
    /// The snapshot of it; `None`: the volume as it is now.
    pub snapshot: Option<SnapshotName>,
}

/// A volume or snapshot that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotSpecError {
    /// The volume's name.
    #[error(transparent)]
    Volume(#[from] NameError),
    /// The snapshot's name.
    #[error(transparent)]
    Snapshot(#[from] SnapshotNameError),
}

/// What a snapshot holds of what was being written.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// What the disk held, as after a loss of power.
    Crash,
    /// All that was handed to the file system, which stood still.
    Filesystem,
    /// What the applications made of it: the hooks have run, and the file system stood still.
    #[default]
    Application,
}

impl SnapshotName {
    /// The name of the snapshot that a schedule makes for that due time, of which whole seconds
    /// count.
    #[must_use]
    pub fn scheduled(due: Timestamp) -> Self {
        Self(format!("{SCHEDULED}{}", due.strftime(DUE)).into())
    }

    /// The due time for which a schedule made it; `None` where no schedule can have.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let civil = DateTime::strptime(DUE, self.0.strip_prefix(SCHEDULED)?).ok()?;
        let due = TimeZone::UTC.to_timestamp(civil).ok()?;
        // Only the one way of writing it counts: a name is what keeps a due time from a second one.
        (Self::scheduled(due) == *self).then_some(due)
    }

    /// The name of the snapshot that is made for a clone of that name, which nobody else asked for.
    #[must_use]
    pub fn for_clone(clone: &VolumeName, now: Timestamp) -> Self {
        let at = now.strftime("%Y%m%dT%H%M%S%.3fZ");
        let clone: String = clone.as_str().chars().take(LONGEST_CLONE).collect();
        Self(format!("clone-{clone}-{at}").into())
    }

    /// Is it a name that only schedules give?
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(SCHEDULED)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotName {
    type Err = SnapshotNameError;

    fn from_str(name: &str) -> Result<Self, SnapshotNameError> {
        let refused = |reason: String| Err(SnapshotNameError { name: name.to_owned(), reason });
        let odd = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-');
        match (name.chars().next(), name.chars().find(|c| odd(*c))) {
            (None, _) => refused("it is empty".to_owned()),
            (_, Some('/' | '@')) => {
                refused("'/' and '@' stand between a volume and its snapshot".to_owned())
            }
            (_, Some(c)) => refused(format!(
                "{c:?} is no letter or digit (a-z, A-Z, 0-9), and not one of '_', '.' and '-'"
            )),
            (Some(first @ ('_' | '.')), _) => {
                refused(format!("CephFS keeps names that start with {first:?} for itself"))
            }
            (Some('-'), _) => refused("it would be read as a flag".to_owned()),
            _ if name.len() > LONGEST_NAME => refused(format!(
                "it has {} bytes; at most {LONGEST_NAME} are allowed, as CephFS adds to it",
                name.len()
            )),
            _ => Ok(Self(name.into())),
        }
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = SnapshotNameError;

    fn try_from(name: String) -> Result<Self, SnapshotNameError> {
        name.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        (*name.0).to_owned()
    }
}

impl FromStr for SnapshotSpec {
    type Err = SnapshotSpecError;

    fn from_str(text: &str) -> Result<Self, SnapshotSpecError> {
        let (volume, snapshot) = match text.split_once('@') {
            Some((volume, snapshot)) => (volume, Some(snapshot.parse()?)),
            None => (text, None),
        };
        Ok(Self { volume: volume.parse()?, snapshot })
    }
}

impl fmt::Display for SnapshotSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.snapshot {
            Some(snapshot) => write!(f, "{}@{snapshot}", self.volume),
            None => self.volume.fmt(f),
        }
    }
}

impl TryFrom<String> for SnapshotSpec {
    type Error = SnapshotSpecError;

    fn try_from(text: String) -> Result<Self, SnapshotSpecError> {
        text.parse()
    }
}

impl From<SnapshotSpec> for String {
    fn from(spec: SnapshotSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn names_that_ceph_would_refuse_are_refused_with_the_reason() {
        for name in ["a", "before-upgrade", "v1.2_3", &"x".repeat(100)] {
            assert_eq!(name.parse::<SnapshotName>().expect("allowed").as_str(), name);
        }
        for (name, word) in [
            ("", "empty"),
            ("a/b", "'/' and '@'"),
            ("a@b", "'/' and '@'"),
            ("_a", "CephFS"),
            (".a", "CephFS"),
            ("-a", "flag"),
            ("a b", "' '"),
            ("ä", "'ä'"),
            ("a\0", "'\\0'"),
            (&"x".repeat(101), "at most 100"),
        ] {
            let error = name.parse::<SnapshotName>().expect_err(name).to_string();
            assert!(error.contains(word), "{name:?}: {error} lacks {word}");
        }
    }

    #[test]
    fn a_schedules_name_is_its_due_time() {
        let due = time("2026-11-26T11:00:00Z");
        let name = SnapshotName::scheduled(due);
        assert_eq!(name.as_str(), "scheduled-20261126T110000Z");
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert_eq!(name.due(), Some(due));
        assert!(name.is_reserved());
        assert_eq!(SnapshotName::scheduled(time("2026-11-26T11:00:00.7Z")), name);
    }

    #[test]
    fn a_clones_snapshot_has_a_name_that_can_be_given() {
        for name in ["web", &format!("a.b_{}", "x".repeat(100))] {
            let clone: VolumeName = name.parse().expect("a name");
            let snapshot = SnapshotName::for_clone(&clone, time("2026-11-26T11:00:00.05Z"));
            assert_eq!(snapshot.as_str().parse(), Ok(snapshot.clone()));
            assert!(snapshot.as_str().ends_with("-20261126T110000.050Z"), "{snapshot}");
            assert!(!snapshot.is_reserved());
        }
    }

    #[test]
    fn only_one_way_of_writing_a_due_time_counts() {
        for (name, reserved) in [
            ("scheduled-20261126T110000", true),
            ("scheduled-20261332T110000Z", true),
            ("scheduled-2026112T110000Z", true),
            ("scheduled-20261126T110060Z", true),
            ("scheduled-soon", true),
            ("scheduled", false),
            ("20261126T110000Z", false),
        ] {
            let name: SnapshotName = name.parse().expect("a name");
            assert_eq!((name.due(), name.is_reserved()), (None, reserved), "{name}");
        }
    }

    #[test]
    fn a_spec_is_a_volume_or_one_of_its_snapshots() {
        for text in ["db", "db@before", "db@scheduled-20261126T110000Z"] {
            let spec: SnapshotSpec = text.parse().expect("a spec");
            assert_eq!(spec.to_string(), text);
            assert_eq!(spec.snapshot.is_some(), text.contains('@'));
            let json = serde_json::to_string(&spec).expect("JSON");
            assert_eq!(serde_json::from_str::<SnapshotSpec>(&json).expect("readable"), spec);
        }
        for text in ["", "@", "@a", "db@", "db@a@b", "a/db@x", "db@_x"] {
            assert!(text.parse::<SnapshotSpec>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn a_stronger_promise_is_greater() {
        assert!(Consistency::Application > Consistency::Filesystem);
        assert!(Consistency::Filesystem > Consistency::Crash);
        assert_eq!("filesystem".parse(), Ok(Consistency::Filesystem));
    }
}

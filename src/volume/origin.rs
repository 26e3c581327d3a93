//! What a volume was made of, and what still ties it to that.

use serde::{Deserialize, Serialize};

use super::{Place, SnapshotName, SnapshotSpec, VolumeName, Work};

/// The volume and the snapshot that another volume was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// The volume, as it was called then.
    pub volume: VolumeName,
    /// The snapshot of it.
    pub snapshot: SnapshotName,
    /// Where the volume lies.
    pub place: Place,
    /// What tells it from a later one in the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The snapshot was made for this volume alone, and goes when it needs it no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub implicit: bool,
    /// It shares no data with its origin any more, or never did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// What it shares is being copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flattening: Option<Flattening>,
}

/// A copy that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flattening {
    /// Who copies, and when that was last said.
    pub work: Work,
    /// How much of it is done, in percent, as far as is known.
    pub percent: u8,
}

impl Origin {
    /// The snapshot, as people write it.
    #[must_use]
    pub fn spec(&self) -> SnapshotSpec {
        SnapshotSpec { volume: self.volume.clone(), snapshot: Some(self.snapshot.clone()) }
    }

    /// Does it need that snapshot of what lies there?
    #[must_use]
    pub fn needs(&self, place: &Place, snapshot: &SnapshotName) -> bool {
        !self.alone && self.place == *place && self.snapshot == *snapshot
    }
}

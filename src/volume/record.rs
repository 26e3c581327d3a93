//! A volume's record in the catalog, and its description on the volume itself: one JSON, twice.
//!
//! The record is the truth about a name; the description is the same less what changes with use
//! (state, claim, use), so that the catalog can be rebuilt from the images and a restored or
//! mirrored image brings it along. Records are versioned: one of a newer version is used as far
//! as it is understood and never rewritten.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ByteSize, Consistency, Flatten, FolderSpec, OptionError, Options, Origin, Place, SharedBy,
    SnapshotName, SnapshotOptions, VolumeKind, VolumeName, VolumeOptions, is_scheduled,
};

/// The version of record that this daemon writes.
pub const RECORD_VERSION: u32 = 1;

/// Where a volume is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// Its image is being made, or a daemon died while it was.
    Creating,
    /// It can be used.
    Ready,
    /// Its image is being removed, or a daemon died while it was.
    Removing,
}

impl RecordState {
    /// The word that records and people use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Removing => "removing",
        }
    }
}

/// A host's hold of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The host's name, for people: clones share it.
    pub host: String,
    /// The boot of that host.
    pub boot_id: String,
    /// The client instance that has the image open, once it is mapped. Only this says whose a
    /// claim is.
    pub address: Option<String>,
    /// Another client instance of the same holder, which is fenced with the first: that of a folder
    /// beside the image by which it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_client: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Who takes a record that is not `ready` to its end, and since when. For as long as a verb can
/// last nobody else touches it; after that it is taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The daemon: one that is started again is the same.
    pub by: String,
    /// Its host, for people.
    pub host: String,
    /// Since when.
    pub since: Timestamp,
}

impl Work {
    /// The boot of the host.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        self.by.split(':').next().unwrap_or_default()
    }
}

/// A snapshot on its way: whole when this is gone from the record, or gone itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taking {
    /// Its name.
    pub snapshot: SnapshotName,
    /// Who makes it.
    pub work: Work,
}

/// A rollback on its way. Until it is gone from the record, what is stored may be neither what it was
/// nor what the snapshot holds, and nobody mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// The snapshot whose content the volume gets.
    pub snapshot: SnapshotName,
    /// The snapshot of what it was before: made first, so that without it nothing has changed yet.
    pub safety: SnapshotName,
    /// The size that the volume had, and is to have again.
    pub size: ByteSize,
    /// Who does it. `since` is renewed while somebody does.
    pub work: Work,
}

/// A snapshot in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotBrief {
    /// Its name.
    pub name: SnapshotName,
    /// When it was made.
    pub created: Timestamp,
    /// What it promises.
    pub consistency: Consistency,
    /// It cannot be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
}

/// Why what was due was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// The host that tried last, for people.
    pub host: String,
    /// The error.
    pub error: String,
}

/// What the catalog knows of a volume's snapshots, besides the snapshots themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotState {
    /// One that is being made: no other is made meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taking: Option<Taking>,
    /// The due time of the schedule that was served last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Timestamp>,
    /// When the schedule came into force, by the cluster's clock: nothing was due before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The schedule rests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Why the schedule's last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// How many there were when one was last made, changed or removed.
    #[serde(default)]
    pub count: usize,
    /// The newest of them, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<SnapshotBrief>,
}

impl SnapshotState {
    /// Is there nothing to tell?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known of the old files of a volume that has `keep-files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilesState {
    /// When they were last looked for, or since when somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Timestamp>,
    /// When they were listed at first, and not removed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Timestamp>,
    /// When they were last removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
    /// How many there were the last time.
    #[serde(default)]
    pub count: u64,
    /// The space that they took, in bytes.
    #[serde(default)]
    pub bytes: ByteSize,
}

/// What the catalog knows of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the daemon's records that wrote it.
    pub version: u32,
    /// What kind of volume it is.
    pub kind: VolumeKind,
    /// Where it lies.
    pub location: Place,
    /// Its size when it was last seen; what is stored knows better.
    pub size: ByteSize,
    /// Canonical options, defaults included.
    pub options: Options,
    /// Where the volume is in its life.
    pub state: RecordState,
    /// Who works on it, while it is not `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// When it was created.
    pub created: Timestamp,
    /// What tells the stored thing from a later one in the same place: what is removed is this one,
    /// and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// It has been formatted, so that an empty probe means damage and never "format me".
    pub formatted: bool,
    /// The image was there before the volume: it is never formatted, and kept when the volume goes.
    pub adopted: bool,
    /// The folder of the file system that containers see; "" is all of it.
    pub folder: String,
    /// What it was made of, where it was made of another volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Its file system still has its origin's UUID, and gets one of its own before the first mount.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew_uuid: bool,
    /// Bytes used in the file system when it was last unmounted or looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<ByteSize>,
    /// Who may write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Who has it without keeping others from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sharers: Vec<Claim>,
    /// Its snapshots.
    #[serde(default, skip_serializing_if = "SnapshotState::is_empty")]
    pub snapshots: SnapshotState,
    /// It is being rolled back, or a daemon died while it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    /// Its old files, where they are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesState>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a volume says of itself, under one metadata key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The volume's name.
    pub name: VolumeName,
    /// The volume was forgotten with `keep`: a rebuild passes it over, adopting brings it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgotten: bool,
    /// The record, less what changes with use.
    #[serde(flatten)]
    pub record: Record,
}

impl Description {
    /// Reads what stands on a volume; `None` where it is no description of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Record {
    /// The typed options.
    ///
    /// # Errors
    /// Where a newer daemon wrote values that this one does not know.
    pub fn typed_options(&self) -> Result<VolumeOptions, OptionError> {
        VolumeOptions::from_canonical(&self.options)
    }

    /// The options of its snapshots.
    ///
    /// # Errors
    /// Where a newer daemon wrote values that this one does not know.
    pub fn snapshot_options(&self) -> Result<SnapshotOptions, OptionError> {
        SnapshotOptions::from_canonical(&self.options)
    }

    /// Does a schedule make snapshots of it?
    #[must_use]
    pub fn is_scheduled(&self) -> bool {
        is_scheduled(&self.options)
    }

    /// Since when its schedule stands: nothing was due before.
    #[must_use]
    pub fn scheduled_since(&self) -> Timestamp {
        self.snapshots.since.unwrap_or(self.created)
    }

    /// Was it written by a newer daemon? It is then never rewritten.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        self.version > RECORD_VERSION
    }

    /// May many hosts have it, because none of them writes?
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.get("read-only").is_some_and(|value| value == "true")
    }

    /// May many hosts have it at once: because none of them writes, or because the file system is
    /// made for it?
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let of_many = self.kind == VolumeKind::CephFs
            && self.options.get("access").is_none_or(|access| access == SharedBy::Many.as_str());
        of_many || self.is_read_only()
    }

    /// May it be removed?
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.options.get("protected").is_some_and(|value| value == "true")
    }

    /// Is it a snapshot of another volume, seen where it lies, and nothing of its own?
    #[must_use]
    pub fn is_view(&self) -> bool {
        matches!(self.location, Place::Folder(FolderSpec::Snapshot { .. }))
    }

    /// Is what it shares with its origin still to be copied, by its options?
    #[must_use]
    pub fn is_to_be_flattened(&self) -> bool {
        let wanted =
            self.options.get("flatten").is_some_and(|when| when != Flatten::Never.as_str());
        wanted && self.origin.as_ref().is_some_and(|origin| !origin.alone)
    }

    /// What is written on the volume itself.
    #[must_use]
    pub fn description(&self, name: &VolumeName) -> Description {
        let record = Self {
            state: RecordState::Ready,
            work: None,
            claim: None,
            sharers: Vec::new(),
            used: None,
            snapshots: SnapshotState {
                since: self.snapshots.since,
                paused: self.snapshots.paused,
                ..SnapshotState::default()
            },
            rolling: None,
            files: None,
            origin: self.origin.clone().map(|origin| Origin { flattening: None, ..origin }),
            ..self.clone()
        };
        Description { name: name.clone(), forgotten: false, record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWER: &str = r#"{
        "version": 7, "kind": "rbd", "size": 1073741824, "state": "ready", "colour": "blue",
        "location": {"pool": "rbd", "namespace": "docker", "image": "a"},
        "options": {"size": "1073741824B", "later": "x"}, "created": "2026-11-21T12:00:00Z",
        "formatted": true, "adopted": false, "folder": "_data"
    }"#;

    #[test]
    fn a_newer_record_is_understood_as_far_as_it_goes_and_loses_nothing() {
        let record: Record = serde_json::from_str(NEWER).expect("readable");
        assert!(record.is_newer());
        assert_eq!(record.typed_options().expect("known options").size, Some(ByteSize::gib(1)));
        let again = serde_json::to_value(&record).expect("writable");
        assert_eq!(again, serde_json::from_str::<Value>(NEWER).expect("JSON"));
    }

    #[test]
    fn a_description_carries_no_claim_and_is_ready() {
        let mut record: Record = serde_json::from_str(NEWER).expect("readable");
        record.state = RecordState::Creating;
        record.claim = Some(Claim {
            host: "a".to_owned(),
            boot_id: "b".to_owned(),
            address: None,
            folder_client: None,
            since: record.created,
        });
        let description = record.description(&"a".parse().expect("a name"));
        let text = serde_json::to_string(&description).expect("writable");
        assert!(!text.contains("claim"), "{text}");
        let read: Description = serde_json::from_str(&text).expect("readable");
        assert_eq!(read, description);
        assert_eq!(read.record.state, RecordState::Ready);
    }
}

//! What the service tells of its volumes: what `docker volume inspect` shows under `Status`, and
//! what the operator's tool prints. The JSON keys here are a promise to scripts.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TaskView;
use crate::volume::{ByteSize, FilesState, Place, SnapshotState, VolumeKind, VolumeName};

/// A volume as `Get` answers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeView {
    /// Its name.
    pub name: VolumeName,
    /// Where it is, or would be, mounted: always the same path.
    pub mountpoint: PathBuf,
    /// When it was created.
    pub created: Timestamp,
    /// Everything else.
    pub status: Status,
}

/// What is known of a volume. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// What kind of volume it is.
    pub kind: VolumeKind,
    /// `creating`, `ready`, `removing`; while it is attached here: `attaching`, `mounted`,
    /// `detaching`, `broken`; of a name that was asked for while the cluster was away: `unknown`,
    /// and `missing` once the cluster has said that there is none.
    pub state: String,
    /// Where it lies: of an image its `pool`, RADOS `namespace` (or "") and `image`.
    #[serde(flatten)]
    pub place: Place,
    /// Its size in bytes.
    pub size: ByteSize,
    /// Bytes used in the file system, as last seen (`None`: never mounted).
    pub used: Option<ByteSize>,
    /// The file system's type.
    pub file_system: Option<String>,
    /// The options that it was created with, defaults included.
    pub options: std::collections::BTreeMap<String, String>,
    /// The block device on this host, while it is attached here.
    pub device: Option<PathBuf>,
    /// The mapper in use on this host.
    pub mapper: Option<String>,
    /// Which host may write it now.
    pub holder: Option<HolderView>,
    /// Hosts that have it attached read-only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sharers: Vec<HolderView>,
    /// What it was made of, where it was made of another volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginView>,
    /// Its snapshots, as they were when one was last made, changed or removed.
    #[serde(default, skip_serializing_if = "SnapshotState::is_empty")]
    pub snapshots: SnapshotState,
    /// Its old files, where the option `keep-files` has them removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesState>,
    /// What takes long on this volume and is under way in this host's daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskView>,
    /// The mount IDs on this host.
    pub mounts: Vec<String>,
    /// The last error of this volume on this host, until it works again.
    pub last_error: Option<String>,
    /// Things that a person should know: a volume larger than what is free, for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The cluster did not answer: this is what was known at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
}

/// What a volume was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OriginView {
    /// The snapshot: `VOLUME@SNAPSHOT`.
    pub from: String,
    /// What ties it to that.
    pub tie: Tie,
    /// How much is copied, in percent, where something is and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// What ties a volume to what it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// It is being copied, and cannot be used before that is done.
    Copying,
    /// It shares data with it.
    Shared,
    /// What it shares is being copied, while it is used.
    Flattening,
    /// It is that snapshot, shown where it lies.
    Shown,
    /// Nothing: all data is its own.
    None,
}

/// How far a volume is from standing alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flattened {
    /// It shares no data with its origin.
    pub done: bool,
    /// How much of what it shared is copied, in percent, as far as is known.
    pub percent: u8,
}

/// A host that has a volume attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HolderView {
    /// The host's name.
    pub host: String,
    /// The address of the client that has the image open, where it is known.
    pub address: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// It is this host.
    pub here: bool,
}

/// What `Get` found.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The volume.
    Found(Box<VolumeView>),
    /// There is none of that name: the cluster said so, or the name is nobody's.
    Absent,
    /// Nothing can be said, not even that it may exist, and the engine must not be told "no" (see
    /// `docs/semantics.md`). The connection is to be closed.
    Unknown,
}

/// One volume as `List` answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: VolumeName,
    /// Where it is, or would be, mounted.
    pub mountpoint: PathBuf,
}

/// What `mount` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where the volume is; never empty.
    pub mountpoint: PathBuf,
    /// This call added the mount ID: to be undone by an unmount where nobody heard the answer.
    pub added: bool,
}

/// What `create` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Created {
    /// It made the volume.
    Created,
    /// The volume was there, with the same options.
    AlreadyThere,
}

/// What `resize` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resized {
    /// The image's size before.
    pub from: ByteSize,
    /// The image's size now.
    pub to: ByteSize,
    /// The file system has the new size as well; else it grows at the next mount, or on the host
    /// that holds the volume.
    pub file_system_grown: bool,
}

/// What came of a release: nobody holds the volume any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "released")]
pub enum Released {
    /// Nobody held it.
    Free,
    /// This host gave it up.
    Here,
    /// Another host gave it up.
    There {
        /// That host.
        host: String,
    },
    /// It was taken by force.
    Fenced {
        /// The client instances that are shut out.
        addresses: Vec<String>,
    },
}

/// A volume that this host held when it was drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drained {
    /// The volume.
    pub name: VolumeName,
    /// Why it is still held; `None`: it was given up.
    pub kept: Option<String>,
}

/// What is counted and known here besides the volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The cluster does not answer, as far as is known.
    pub cluster_is_away: bool,
    /// Clients of other hosts that this daemon has shut out since its start.
    pub fences: u64,
}

/// A removed volume that can still be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trashed {
    /// The name that it had.
    pub name: String,
    /// The image's ID in the trash.
    pub id: String,
    /// Where it lay: of an image its `pool`, RADOS `namespace` and `image`.
    #[serde(flatten)]
    pub place: Place,
    /// When it was removed.
    pub deleted: Timestamp,
    /// Until when it is kept.
    pub kept_until: Timestamp,
}

/// Who has a volume: the catalog's word and the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Who {
    /// The volume.
    pub name: VolumeName,
    /// The host that has claimed it for writing.
    pub holder: Option<HolderView>,
    /// The hosts that have it read-only.
    pub sharers: Vec<HolderView>,
    /// The clients that have the image open for writing.
    pub watchers: Vec<String>,
    /// The mount IDs on this host.
    pub mounts: Vec<String>,
    /// The processes outside our namespace that have it mounted on this host.
    pub processes: Vec<crate::system::Holder>,
}

/// What `inspect` of the operator's tool shows: the view, and what only the image itself knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// As `Get` answers it.
    #[serde(flatten)]
    pub volume: VolumeView,
    /// The image's features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// What tells the stored thing from a later one in the same place.
    pub id: String,
    /// Bytes that it takes in the cluster, before replication.
    pub stored: Option<ByteSize>,
    /// The clients that have the image open for writing.
    pub watchers: Vec<String>,
}

/// What a rebuild of the catalog did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rebuilt {
    /// Volumes whose record was missing and has been written.
    pub added: Vec<String>,
    /// Volumes whose record was there already.
    pub kept: Vec<String>,
    /// Records without an image; they are left for a person to decide.
    pub without_image: Vec<String>,
    /// Images without a description, which are not ours or can be adopted.
    pub foreign: Vec<String>,
}

/// What a doctor's check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and a person should know.
    Warning,
    /// It does not work.
    Failed,
}

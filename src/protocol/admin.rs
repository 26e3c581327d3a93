//! The admin API: what the operator's tool asks of the daemon, as JSON in kebab-case under
//! [`PREFIX`], on the same socket as Docker's calls.
//!
//! ```text
//! GET    /ceph/v1/version                               → Version
//! GET    /ceph/v1/volumes                               → Volumes
//! POST   /ceph/v1/volumes                 CreateRequest → CreateAnswer
//! GET    /ceph/v1/volumes/NAME                          → Inspection
//! DELETE /ceph/v1/volumes/NAME[?policy=trash|delete|keep] → Nothing
//! POST   /ceph/v1/volumes/NAME/resize     ResizeRequest → Resized
//! POST   /ceph/v1/volumes/NAME/trim                     → TrimAnswer
//! POST   /ceph/v1/volumes/NAME/old-files  OldFilesRequest → OldFilesView
//! POST   /ceph/v1/volumes/NAME/flatten                  → Flattened, to be asked until it is done
//! POST   /ceph/v1/volumes/NAME/protect    ProtectRequest → Nothing
//! POST   /ceph/v1/volumes/NAME/release    ReleaseRequest → Released
//! GET    /ceph/v1/volumes/NAME/who                      → Who
//! GET    /ceph/v1/volumes/NAME/snapshots                → SnapshotsAnswer
//! DELETE /ceph/v1/volumes/NAME/snapshots/SNAPSHOT       → Nothing
//! POST   /ceph/v1/volumes/NAME/snapshots/SNAPSHOT/protect ProtectRequest → Nothing
//! GET    /ceph/v1/volumes/NAME/snapshots/SNAPSHOT/diff[?to=SNAPSHOT] → Changed
//! GET    /ceph/v1/volumes/NAME/snapshots/SNAPSHOT/rollback → RollbackPlan
//! POST   /ceph/v1/volumes/NAME/snapshots/SNAPSHOT/rollback → RolledBack
//! POST   /ceph/v1/snapshots               SnapshotRequest → SnapshotsAnswer
//! GET    /ceph/v1/schedules                             → SchedulesAnswer
//! POST   /ceph/v1/volumes/NAME/schedule   ScheduleRequest → ScheduleView
//! POST   /ceph/v1/volumes/NAME/schedule/pause PauseRequest → ScheduleView
//! POST   /ceph/v1/volumes/NAME/schedule/run             → SnapshotView
//! GET    /ceph/v1/tasks                                 → TasksAnswer
//! POST   /ceph/v1/adopt                   AdoptRequest  → CreateAnswer
//! GET    /ceph/v1/trash                                 → TrashAnswer
//! POST   /ceph/v1/undelete                UndeleteRequest → UndeleteAnswer
//! POST   /ceph/v1/drain                   DrainRequest  → DrainAnswer
//! POST   /ceph/v1/catalog/rebuild                       → Rebuilt
//! GET    /ceph/v1/doctor                                → Findings
//! ```
//!
//! Every other answer is a [`Refusal`]. The paths and keys are a promise to scripts that talk to
//! the socket themselves: fields are added, never renamed, and unknown ones in an answer are for
//! the reader to ignore. Unlike Docker's calls, an error here keeps its kind, so that a tool can
//! tell "there is none" from "nobody knows" by more than the text.

pub(super) mod handler;
mod schedules;
mod snapshots;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::service::{
    Created, Drained, ErrorKind, Finding, ScheduleView, SnapshotView, TaskView, Trashed, VolumeView,
};
use crate::volume::{ByteSize, Consistency, Options, SnapshotName, VolumeName};

/// What every path of the admin API starts with.
pub const PREFIX: &str = "/ceph/v1";

/// The version of the admin API that this daemon speaks.
pub const API: u32 = 1;

/// Which daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// The daemon's version, which may differ from the tool's.
    pub version: String,
    /// The version of the admin API.
    pub api: u32,
    /// The daemon's process.
    pub pid: u32,
    /// Since when it serves.
    pub started: Timestamp,
}

/// All volumes, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Volumes {
    /// The volumes.
    pub volumes: Vec<VolumeView>,
}

/// Asks for a new volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateRequest {
    /// Its name.
    pub name: String,
    /// Its options, as `docker volume create -o` takes them.
    #[serde(default)]
    pub options: Options,
}

/// What a create or an adopt did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreateAnswer {
    /// Whether there was anything to do.
    pub created: Created,
}

/// Asks for a larger volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResizeRequest {
    /// The new size, with its unit: `20G`.
    pub size: String,
}

/// What a trim gave back to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrimAnswer {
    /// The bytes.
    pub bytes: ByteSize,
}

/// Asks for the old files of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OldFilesRequest {
    /// Has them removed.
    #[serde(default)]
    pub remove: bool,
}

/// Sets or lifts delete protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProtectRequest {
    /// Protected from now on, or no longer.
    pub protected: bool,
}

/// Has a volume given up by whoever holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReleaseRequest {
    /// By force, where its host refuses or does not answer.
    #[serde(default)]
    pub fence: bool,
}

/// Has given up what this host holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DrainRequest {
    /// No engine runs here any more: what it has not unmounted, it never will.
    #[serde(default)]
    pub engine_stopped: bool,
}

/// What this host held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrainAnswer {
    /// The volumes, given up or not.
    pub volumes: Vec<Drained>,
}

/// Makes a volume of an image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AdoptRequest {
    /// The volume's name.
    pub name: String,
    /// The image: `pool/image` or `pool/namespace/image`.
    pub image: String,
    /// Options that describe the volume.
    #[serde(default)]
    pub options: Options,
}

/// Asks for a snapshot of each of some volumes, at one point in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SnapshotRequest {
    /// The volumes.
    pub volumes: Vec<VolumeName>,
    /// The snapshots' name; `None`: the time.
    #[serde(default)]
    pub name: Option<SnapshotName>,
    /// What they are to promise; `None`: what the volumes' options say.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// What is to be remembered of them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Snapshots: those of a volume, the oldest first, or those that were just made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotsAnswer {
    /// The snapshots.
    pub snapshots: Vec<SnapshotView>,
}

/// The volumes that have a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SchedulesAnswer {
    /// Their schedules.
    pub schedules: Vec<ScheduleView>,
}

/// Asks for a schedule, or for a change of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScheduleRequest {
    /// Options of the volume, `snapshot-schedule` and the like; what is missing stays as it is.
    pub options: Options,
}

/// Asks for a schedule to rest, or to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PauseRequest {
    /// It is to rest.
    pub paused: bool,
}

/// What takes long in the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TasksAnswer {
    /// What is under way, or ended a short while ago; by the volumes' names.
    pub tasks: Vec<TaskView>,
}

/// What can be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrashAnswer {
    /// The removed volumes.
    pub volumes: Vec<Trashed>,
}

/// Brings a removed volume back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UndeleteRequest {
    /// The name that it had.
    pub name: String,
    /// The name that it is to have; `None`: the same.
    #[serde(default, rename = "as")]
    pub rename: Option<String>,
}

/// The volume that is back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UndeleteAnswer {
    /// Its name now.
    pub name: VolumeName,
}

/// What the doctor saw from inside the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Findings {
    /// Check by check.
    pub findings: Vec<Finding>,
}

/// Done, and there is nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Nothing {}

/// What was asked for was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refusal {
    /// What went wrong and what to do, in words.
    pub error: String,
    /// What the caller can do about it.
    pub kind: Kind,
}

/// Refusals by what the caller can do about them. Each has a status of its own, except where two
/// mean the same to HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request is wrong: 400.
    InvalidArgument,
    /// There is no such volume: 404.
    NotFound,
    /// There is one already, and it is not what was asked for: 409.
    AlreadyExists,
    /// Somebody uses it: 423.
    InUse,
    /// The cluster or the time ran out; it may pass: 503.
    Unavailable,
    /// There is no room: 507.
    NoSpace,
    /// Something failed that should not: 500.
    Internal,
    /// The daemon has no such path, perhaps because it is older than the tool: 404.
    NoSuchPath,
    /// The path is there, but not for this method: 405.
    WrongMethod,
    /// The request is larger than any honest one: 413.
    TooLarge,
}

impl Kind {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::NotFound | Self::NoSuchPath => 404,
            Self::WrongMethod => 405,
            Self::AlreadyExists => 409,
            Self::TooLarge => 413,
            Self::InUse => 423,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::NoSpace => 507,
        }
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::InvalidArgument,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists => Self::AlreadyExists,
            ErrorKind::InUse => Self::InUse,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::NoSpace => Self::NoSpace,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_an_unknown_field_is_refused() {
        let read = |text: &str| serde_json::from_str::<CreateRequest>(text);
        assert!(read(r#"{"name":"a","options":{"size":"1G"}}"#).is_ok());
        assert!(read(r#"{"name":"a"}"#).expect("options may be absent").options.is_empty());
        let error = read(r#"{"name":"a","opts":{}}"#).expect_err("a typing error").to_string();
        assert!(error.contains("opts"), "{error}");
    }

    #[test]
    fn the_new_name_of_an_undelete_is_called_as() {
        let request = UndeleteRequest { name: "a".into(), rename: Some("b".into()) };
        let text = serde_json::to_string(&request).expect("plain data");
        assert_eq!(text, r#"{"name":"a","as":"b"}"#);
    }

    #[test]
    fn kinds_are_written_in_kebab_case() {
        let text = serde_json::to_string(&Kind::NoSuchPath).expect("plain data");
        assert_eq!(text, r#""no-such-path""#);
    }
}

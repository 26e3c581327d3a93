//! The nouns: validated values that every layer speaks in. No I/O and no clock.

mod client;
mod duration;
mod name;
mod options;
mod origin;
mod path;
mod record;
mod retention;
mod schedule;
mod size;
mod snapshot;
mod snapshot_note;
mod spec;
mod time_zone;

pub use client::{ClientAccess, Messenger, MonitorAddress, Secret};
pub use name::{MountId, NameError, VolumeName};
pub use options::{
    OptionError, OptionRules, Options, SnapshotOptions, VolumeOptions, help as options_help,
    is_scheduled,
};
pub use origin::{Flattening, Origin};
pub use path::FolderPath;
pub use record::{
    Claim, Description, FilesState, RECORD_VERSION, Record, RecordState, Rolling, SnapshotBrief,
    SnapshotState, Taking, Trouble, Work,
};
pub use retention::{Retention, RetentionError};
pub use schedule::{CatchUp, Due, Schedule, ScheduleError, Timetable};
pub use size::{ByteSize, SizeError};
pub use snapshot::{Consistency, SnapshotName, SnapshotNameError, SnapshotSpec, SnapshotSpecError};
pub use snapshot_note::{Maker, NOTE_VERSION, SnapshotNote};
pub use spec::{FolderSpec, ImageSpec, Location, PathSpec, Place, SpecError, SubvolumeSpec};

use serde::{Deserialize, Serialize};

/// The file systems that a volume can be formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsType {
    /// ext4, the default.
    Ext4,
    /// XFS.
    Xfs,
}

/// The kinds of volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// An RBD image with a file system, for one writing host.
    Rbd,
    /// A folder of CephFS, for any number of hosts.
    CephFs,
}

/// How an image becomes a block device on a host (DESIGN: mappers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapperKind {
    /// The kernel's `rbd` module.
    Krbd,
    /// `rbd-nbd` and the kernel's `nbd` module.
    Nbd,
    /// `rbd-fuse` and a loop device: for kernels that have neither module.
    Fuse,
}

/// The client by which a folder of CephFS is mounted on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CephFsClient {
    /// The kernel's `ceph` module.
    Kernel,
    /// The program `ceph-fuse`: for kernels that have no such module.
    Fuse,
}

macro_rules! words {
    ($name:ident, $what:literal, $($variant:ident = $word:literal),+) => {
        impl $name {
            /// All of them, in the order of preference.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that options, records and messages use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|known| known.as_str()).collect();
                    format!("{} {text:?} is not known; it is one of {}", $what, known.join(", "))
                })
            }
        }
    };
}

words!(VolumeKind, "kind of volume", Rbd = "rbd", CephFs = "cephfs");
words!(SharedBy, "access", Many = "shared", One = "single");
words!(FsType, "file system", Ext4 = "ext4", Xfs = "xfs");
words!(MapperKind, "mapper", Krbd = "krbd", Nbd = "nbd", Fuse = "fuse");
words!(CephFsClient, "client of CephFS", Kernel = "kernel", Fuse = "fuse");

/// How many hosts may write a volume of CephFS at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SharedBy {
    /// Any number.
    #[serde(rename = "shared")]
    Many,
    /// One, as of an image.
    #[serde(rename = "single")]
    One,
}

/// What removing a volume does with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemovePolicy {
    /// Into the trash, from where it can be brought back until its time is over.
    Trash,
    /// Deleted for good.
    Delete,
    /// Kept as it is; only the volume is forgotten.
    Keep,
}

/// When a clone stops sharing data with its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flatten {
    /// After it was made, while it is used.
    Background,
    /// Before it is ready.
    Now,
    /// Never by itself.
    #[default]
    Never,
}

words!(Flatten, "time to flatten", Background = "background", Now = "now", Never = "never");
words!(RemovePolicy, "remove policy", Trash = "trash", Delete = "delete", Keep = "keep");

words!(
    Consistency,
    "consistency",
    Application = "application",
    Filesystem = "filesystem",
    Crash = "crash"
);
words!(CatchUp, "way to catch up", Once = "once", Skip = "skip");

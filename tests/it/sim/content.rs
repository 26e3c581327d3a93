//! What is written in an image: it lies in the cluster, and so follows the image between hosts.

use std::collections::{BTreeMap, BTreeSet};

use docker_volume_ceph::system::{Ownership, Probe};
use docker_volume_ceph::volume::{ByteSize, FsType};

/// A file with this number as its content: what the tests write and look for later.
pub(crate) type Record = u64;

/// What an image holds.
#[derive(Debug, Clone, Default)]
pub(crate) enum Content {
    /// Nothing was ever written.
    #[default]
    Empty,
    /// A file system.
    Filesystem(FsContent),
    /// Something that is no file system, by its name.
    Other(String),
}

/// A file system in an image, as far as it has been written out.
#[derive(Debug, Clone)]
pub(crate) struct FsContent {
    /// Its type.
    pub(crate) fs_type: FsType,
    /// The size that it was made with or grown to.
    pub(crate) size: ByteSize,
    /// Its folders; "" is the root.
    pub(crate) folders: BTreeMap<String, Folder>,
    /// Its host went away while it was mounted: the journal has to be replayed.
    pub(crate) needs_replay: bool,
}

/// A folder and the records in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folder {
    /// Whom it belongs to.
    pub(crate) owner: Ownership,
    /// The records, each a file.
    pub(crate) records: BTreeSet<Record>,
}

impl Content {
    /// A file system as mkfs leaves it.
    pub(crate) fn formatted(fs_type: FsType, size: ByteSize) -> Self {
        let folders = BTreeMap::from([(String::new(), Folder::default())]);
        Self::Filesystem(FsContent { fs_type, size, folders, needs_replay: false })
    }

    /// What `blkid` would say.
    pub(crate) fn probe(&self) -> Probe {
        match self {
            Self::Filesystem(fs) => Probe::Filesystem(fs.fs_type),
            Self::Other(name) => Probe::Other(name.clone()),
            Self::Empty => Probe::Empty,
        }
    }

    /// The file system, if there is one.
    pub(crate) fn filesystem(&self) -> Option<&FsContent> {
        match self {
            Self::Filesystem(fs) => Some(fs),
            Self::Empty | Self::Other(_) => None,
        }
    }

    /// The file system, if there is one, to be written.
    pub(crate) fn filesystem_mut(&mut self) -> Option<&mut FsContent> {
        match self {
            Self::Filesystem(fs) => Some(fs),
            Self::Empty | Self::Other(_) => None,
        }
    }

    /// Every record in it, whichever folder it lies in.
    pub(crate) fn records(&self) -> BTreeSet<Record> {
        let folders = self.filesystem().into_iter().flat_map(|fs| fs.folders.values());
        folders.flat_map(|folder| folder.records.iter().copied()).collect()
    }
}

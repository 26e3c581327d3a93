//! What is under test: a kind of volume, and by what it comes to a host.

use std::fmt;

use docker_volume_ceph::volume::{FolderSpec, Location, MapperKind, Options, PathSpec, Place};

/// A kind of volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Images, by this mapper.
    Image(MapperKind),
    /// Folders of CephFS that many hosts have at once.
    Folder,
    /// Folders of CephFS that one host at a time may write.
    Held,
}

impl Kind {
    /// All that differ in the calls they make.
    pub(super) const ALL: [Self; 4] =
        [Self::Image(MapperKind::Fuse), Self::Image(MapperKind::Krbd), Self::Folder, Self::Held];

    /// By what a host maps images, also the one that is held beside a folder. Of the mappers `fuse`
    /// pins no lock: with it, only the driver's own guards stand between two writers.
    pub(super) fn mapper(self) -> MapperKind {
        match self {
            Self::Image(mapper) => mapper,
            Self::Folder | Self::Held => MapperKind::Fuse,
        }
    }

    /// What a new volume is that says nothing of itself.
    pub(super) fn defaults(self) -> Options {
        let words: &[(&str, &str)] = match self {
            Self::Image(_) => &[],
            Self::Folder => &[("type", "cephfs")],
            Self::Held => &[("type", "cephfs"), ("access", "single")],
        };
        let all = words.iter().chain(&[("size", "1G")]);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What was there before the driver, to be adopted.
    pub(super) fn foreign(self) -> Place {
        match self {
            Self::Image(_) => Place::Image(Location::new("rbd", "other").image("v")),
            Self::Folder | Self::Held => {
                let (fs, path) = ("cephfs".to_owned(), "/other/v".to_owned());
                Place::Folder(FolderSpec::Path(PathSpec { fs, path }))
            }
        }
    }
}

impl From<MapperKind> for Kind {
    fn from(mapper: MapperKind) -> Self {
        Self::Image(mapper)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(mapper) => mapper.fmt(f),
            Self::Folder => f.write_str("folder"),
            Self::Held => f.write_str("held folder"),
        }
    }
}

//! Where something lies in a cluster: `pool/namespace` and `pool/namespace/image`, as `rbd(8)`
//! writes them; `fs/group/subvolume` and `fs:/path` in CephFS.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{SnapshotName, VolumeKind};

/// A pool and a RADOS namespace in it; the empty namespace is the pool's default one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// The pool's name.
    pub pool: String,
    /// The namespace's name, or "".
    #[serde(default)]
    pub namespace: String,
}

/// An RBD image: `pool/namespace/image`, or `pool/image` in the default namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageSpec {
    /// Where the image lies.
    #[serde(flatten)]
    pub location: Location,
    /// The image's name.
    pub image: String,
}

/// A subvolume of CephFS: its file system, its group and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubvolumeSpec {
    /// The file system's name.
    pub fs: String,
    /// The subvolume group.
    pub group: String,
    /// The subvolume's name.
    pub subvolume: String,
}

/// A folder of CephFS that is no subvolume of ours: its file system and its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathSpec {
    /// The file system's name.
    pub fs: String,
    /// From the file system's root, with a leading `/`.
    pub path: String,
}

/// A folder of CephFS as a volume has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FolderSpec {
    /// A folder of another volume's subvolume.
    Within {
        /// The other volume's subvolume.
        #[serde(flatten)]
        subvolume: SubvolumeSpec,
        /// The folder in it: names with `/` between them, and none before the first.
        folder: String,
    },
    /// A snapshot of another volume's subvolume.
    Snapshot {
        /// The other volume's subvolume.
        #[serde(flatten)]
        subvolume: SubvolumeSpec,
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// A subvolume of its own.
    Subvolume(SubvolumeSpec),
    /// A path that was there before.
    Path(PathSpec),
}

impl FolderSpec {
    /// The file system that it is in.
    #[must_use]
    pub fn fs(&self) -> &str {
        match self {
            Self::Path(path) => &path.fs,
            Self::Within { subvolume, .. }
            | Self::Snapshot { subvolume, .. }
            | Self::Subvolume(subvolume) => &subvolume.fs,
        }
    }
}

/// Where a volume lies, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// An RBD image.
    Image(ImageSpec),
    /// A folder of CephFS.
    Folder(FolderSpec),
}

impl Place {
    /// The name that the thing has where it lies.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Image(image) => &image.image,
            Self::Folder(FolderSpec::Subvolume(subvolume)) => &subvolume.subvolume,
            Self::Folder(FolderSpec::Within { folder, .. }) => folder,
            Self::Folder(FolderSpec::Snapshot { snapshot, .. }) => snapshot.as_str(),
            Self::Folder(FolderSpec::Path(path)) => &path.path,
        }
    }

    /// The kind of volume that lies there.
    #[must_use]
    pub fn kind(&self) -> VolumeKind {
        match self {
            Self::Image(_) => VolumeKind::Rbd,
            Self::Folder(_) => VolumeKind::CephFs,
        }
    }

    /// The file system of a folder.
    #[must_use]
    pub fn fs(&self) -> Option<&str> {
        match self {
            Self::Image(_) => None,
            Self::Folder(folder) => Some(folder.fs()),
        }
    }

    /// The RADOS namespace of an image.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Image(image) => Some(&image.location.namespace),
            Self::Folder(_) => None,
        }
    }

    /// The pool, where a place says it.
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::Image(image) => Some(&image.location.pool),
            Self::Folder(_) => None,
        }
    }
}

impl From<ImageSpec> for Place {
    fn from(image: ImageSpec) -> Self {
        Self::Image(image)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => image.fmt(f),
            Self::Folder(folder) => folder.fmt(f),
        }
    }
}

impl From<FolderSpec> for Place {
    fn from(folder: FolderSpec) -> Self {
        Self::Folder(folder)
    }
}

impl fmt::Display for FolderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within { subvolume, folder } => write!(f, "{subvolume}/{folder}"),
            Self::Snapshot { subvolume, snapshot } => write!(f, "{subvolume}@{snapshot}"),
            Self::Subvolume(subvolume) => subvolume.fmt(f),
            Self::Path(path) => path.fmt(f),
        }
    }
}

/// An image spec that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {0:?} is not pool/image or pool/namespace/image")]
pub struct SpecError(String);

impl Location {
    /// The given pool and namespace.
    pub fn new(pool: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { pool: pool.into(), namespace: namespace.into() }
    }

    /// The image of that name here.
    #[must_use]
    pub fn image(&self, image: impl Into<String>) -> ImageSpec {
        ImageSpec { location: self.clone(), image: image.into() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pool)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, "/{}", self.namespace) }
    }
}

impl fmt::Display for ImageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.location, self.image)
    }
}

impl fmt::Display for SubvolumeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.fs, self.group, self.subvolume)
    }
}

impl fmt::Display for PathSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.fs, self.path)
    }
}

impl FromStr for ImageSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refused = || SpecError(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        // '@' would name a snapshot, and neither pools nor images are called that.
        let plain = |part: &str| !part.contains(|c: char| c.is_control() || c == '@');
        if !parts.iter().all(|part| plain(part)) {
            return Err(refused());
        }
        match parts[..] {
            [pool, image] if !pool.is_empty() && !image.is_empty() => {
                Ok(Location::new(pool, "").image(image))
            }
            [pool, namespace, image] if !pool.is_empty() && !image.is_empty() => {
                Ok(Location::new(pool, namespace).image(image))
            }
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_printed_as_rbd_does() {
        for text in ["rbd/x", "rbd/docker/pgdata"] {
            assert_eq!(text.parse::<ImageSpec>().expect("a spec").to_string(), text);
        }
        let default_namespace: ImageSpec = "rbd//x".parse().expect("an empty namespace");
        assert_eq!(default_namespace.to_string(), "rbd/x");
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let subvolume = || SubvolumeSpec {
            fs: "a".to_owned(),
            group: "docker".to_owned(),
            subvolume: "web".to_owned(),
        };
        let folder = "in/it".to_owned();
        for place in [
            Place::Image("rbd/docker/x".parse().expect("a spec")),
            Place::Folder(FolderSpec::Subvolume(subvolume())),
            Place::Folder(FolderSpec::Within { subvolume: subvolume(), folder }),
            Place::Folder(FolderSpec::Path(PathSpec { fs: "a".to_owned(), path: "/b".to_owned() })),
        ] {
            let text = serde_json::to_string(&place).expect("JSON");
            assert_eq!(serde_json::from_str::<Place>(&text).expect("readable"), place, "{text}");
        }
    }

    #[test]
    fn what_is_no_spec_is_refused() {
        for text in ["", "x", "/x", "rbd/", "a/b/c/d", "rbd/x@snap", "rbd/a\nb"] {
            assert!(text.parse::<ImageSpec>().is_err(), "{text:?} was read");
        }
    }
}

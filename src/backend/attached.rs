//! What is attached to this host, of whatever kind.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Folder;
use crate::system::{DeviceNumber, MappedDevice, Mount};
use crate::volume::{MapperKind, Place};

/// Something of a volume that is attached to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attached {
    /// An image that is a block device.
    Device(MappedDevice),
    /// A folder that is mounted.
    Folder(Folder),
}

impl Attached {
    /// Is it that place's?
    #[must_use]
    pub fn is_of(&self, location: &Place) -> bool {
        match (self, location) {
            (Self::Device(device), Place::Image(image)) => device.image == *image,
            (Self::Folder(folder), Place::Folder(place)) => folder.place == *place,
            _ => false,
        }
    }

    /// What it is of.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Device(device) => Place::Image(device.image.clone()),
            Self::Folder(folder) => Place::Folder(folder.place.clone()),
        }
    }

    /// Are both the same thing, seen twice?
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(other)) => {
                // A client that was let in again has another address.
                let what =
                    |of: &Folder| (of.mount.target.clone(), of.mount.number, of.mount.process);
                one.place == other.place && what(one) == what(other)
            }
            _ => self == other,
        }
    }

    /// The number of the file system's device.
    #[must_use]
    pub fn number(&self) -> DeviceNumber {
        match self {
            Self::Device(device) => device.number,
            Self::Folder(folder) => folder.mount.number,
        }
    }

    /// By what it is attached: `krbd`, for one.
    #[must_use]
    pub fn means(&self) -> &'static str {
        match self {
            Self::Device(device) => device.mapper.as_str(),
            Self::Folder(folder) => folder.mount.client.as_str(),
        }
    }

    /// The block device, where there is one.
    #[must_use]
    pub fn device(&self) -> Option<&Path> {
        match self {
            Self::Device(device) => Some(&device.device),
            Self::Folder(_) => None,
        }
    }

    /// Can freed blocks be given back?
    #[must_use]
    pub fn can_discard(&self) -> bool {
        match self {
            Self::Device(device) => device.mapper != MapperKind::Fuse,
            Self::Folder(_) => false,
        }
    }
}

impl std::fmt::Display for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(device) => write!(f, "{} ({})", device.device.display(), device.image),
            Self::Folder(folder) => {
                write!(f, "{} ({})", folder.mount.target.display(), folder.place)
            }
        }
    }
}

/// What the kernel shows of this host at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// What is attached and ours, whole or broken.
    pub attached: Vec<Attached>,
    /// Every mount in our namespace.
    pub mounts: Vec<Mount>,
}

impl Evidence {
    /// What is attached of a place.
    pub fn of<'a>(&'a self, location: &'a Place) -> impl Iterator<Item = &'a Attached> {
        self.attached.iter().filter(move |attached| attached.is_of(location))
    }

    /// Is it, whole, what is mounted at the target?
    #[must_use]
    pub fn is_mounted(&self, attached: &Attached, target: &Path) -> bool {
        let top = self.mounts.iter().rev().find(|mount| mount.target == target);
        let there = self.attached.iter().any(|found| found.is_same(attached));
        there && top.is_some_and(|mount| mount.number == attached.number())
    }

    /// Where it is mounted below `root`.
    #[must_use]
    pub fn targets_below(&self, attached: &Attached, root: &Path) -> Vec<PathBuf> {
        let number = attached.number();
        let ours = |mount: &&Mount| mount.number == number && mount.target.starts_with(root);
        self.mounts.iter().filter(ours).map(|mount| mount.target.clone()).collect()
    }
}

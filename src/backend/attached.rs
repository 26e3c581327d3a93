//! What is attached to this host, of whatever kind.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::system::{DeviceNumber, MappedDevice, Mount};
use crate::volume::Place;

/// Something of a volume that is attached to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attached {
    /// An image that is a block device.
    Device(MappedDevice),
}

impl Attached {
    /// Is it that place's?
    #[must_use]
    pub fn is_of(&self, location: &Place) -> bool {
        match (self, location) {
            (Self::Device(device), Place::Image(image)) => device.image == *image,
        }
    }

    /// What it is of.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Device(device) => Place::Image(device.image.clone()),
        }
    }

    /// Are both the same thing, seen twice?
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other
    }

    /// The number of the file system's device.
    #[must_use]
    pub fn number(&self) -> DeviceNumber {
        match self {
            Self::Device(device) => device.number,
        }
    }

    /// By what it is attached: `krbd`, for one.
    #[must_use]
    pub fn means(&self) -> &'static str {
        match self {
            Self::Device(device) => device.mapper.as_str(),
        }
    }

    /// The block device, where there is one.
    #[must_use]
    pub fn device(&self) -> Option<&Path> {
        match self {
            Self::Device(device) => Some(&device.device),
        }
    }

    /// Can freed blocks be given back?
    #[must_use]
    pub fn can_discard(&self) -> bool {
        match self {
            Self::Device(device) => device.mapper != crate::volume::MapperKind::Fuse,
        }
    }
}

impl std::fmt::Display for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(device) => write!(f, "{} ({})", device.device.display(), device.image),
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

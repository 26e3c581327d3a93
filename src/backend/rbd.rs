//! Volumes that are RBD images.
//!
//! ```text
//!  create ─▶ image                                    (no device, no file system yet)
//!  attach ─▶ image ─map─▶ device
//!  mount  ─▶ device ─probe─┬─ empty, may be formatted ─mkfs─┐
//!                          ├─ file system ─────────────────┴─▶ check ─▶ mount ─▶ grow ─▶ folder
//!                          └─ anything else: refused, untouched
//! ```
//!
//! A device is formatted only where the caller says that it is new *and* the probe finds it empty.
//! An image that should have a file system and has none is damaged, and is left for a person.

mod attach;
mod clones;
mod fence;
mod provision;
mod snapshots;

pub(super) use snapshots::NOTE_PREFIX;

use std::sync::Arc;

use crate::ceph::Cluster;
use crate::system::System;
use crate::volume::{Location, MapperKind};

/// The metadata key under which an image describes itself.
const DESCRIPTION_KEY: &str = "docker-volume-ceph";

/// RBD images as volumes.
pub struct RbdBackend {
    cluster: Arc<dyn Cluster>,
    system: Arc<dyn System>,
    home: Location,
    mapper: Option<MapperKind>,
}

impl std::fmt::Debug for RbdBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RbdBackend")
            .field("home", &self.home)
            .field("mapper", &self.mapper)
            .finish_non_exhaustive()
    }
}

impl RbdBackend {
    /// Images in `home`, mapped by `mapper` (`None`: krbd, else nbd) where a volume says nothing
    /// else.
    #[must_use]
    pub fn new(
        cluster: Arc<dyn Cluster>,
        system: Arc<dyn System>,
        home: Location,
        mapper: Option<MapperKind>,
    ) -> Self {
        Self { cluster, system, home, mapper }
    }
}

//! Volumes that are folders of CephFS.
//!
//! ```text
//!  create ─▶ subvolume, with its quota, owner and data pool        (the manager does it)
//!  attach ─▶ key of the volume ─▶ its folder is mounted at the target by that key
//!  detach ─▶ unmounted, its client gone
//!  remove ─▶ keys taken back, clients evicted ─▶ marked as trash, or deleted
//! ```
//!
//! Each volume has keys of its own, one to write and one to read, which open its folder and nothing
//! else; the daemon's own never reaches a mount unless the settings say so. A folder that is
//! adopted is a volume as well: a path, or a folder of another volume, which goes by that volume's
//! key.
//!
//! CephFS keeps many writers apart by itself, so a claim is needed only where a volume is to have
//! one writing host (see `lock`).

mod attach;
mod clones;
mod fence;
mod key;
mod lock;
mod provision;
mod snapshots;
mod trash;

pub(super) use lock::PREFIX as LOCK_PREFIX;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::RbdBackend;
use crate::ceph::Cluster;
use crate::system::{FolderMount, System};
use crate::volume::{FolderSpec, Location};

/// The metadata key under which a subvolume describes itself.
const DESCRIPTION_KEY: &str = "docker-volume-ceph";

/// The subvolume group of volumes that name no other.
const GROUP: &str = "docker";

/// Folders of CephFS as volumes.
pub struct CephFsBackend {
    cluster: Arc<dyn Cluster>,
    system: Arc<dyn System>,
    images: Arc<RbdBackend>,
    home: Location,
    own_key: bool,
}

impl std::fmt::Debug for CephFsBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CephFsBackend").field("own_key", &self.own_key).finish_non_exhaustive()
    }
}

impl CephFsBackend {
    /// Folders of that cluster on that host. `images` and `home` are for those that one host alone
    /// may write; `own_key`: mounted by the daemon's own key, instead of one for each volume.
    #[must_use]
    pub fn new(
        cluster: Arc<dyn Cluster>,
        system: Arc<dyn System>,
        images: Arc<RbdBackend>,
        home: Location,
        own_key: bool,
    ) -> Self {
        Self { cluster, system, images, home, own_key }
    }
}

/// A folder of CephFS that is mounted here as a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Which.
    pub place: FolderSpec,
    /// How it is mounted.
    pub mount: FolderMount,
}

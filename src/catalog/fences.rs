//! Whom this driver has fenced, and for which volume. One omap in the home namespace, client address
//! → JSON.
//!
//! The blocklist is the fence; this is what people and the fenced host itself are told of it: an
//! entry of the blocklist is an address and a time, and says neither why nor whether its host may
//! come back. A record is written *before* the client is fenced, so that no fence is without one.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CatalogError, PAGE, Result};
use crate::ceph::Cluster;
use crate::volume::{Location, Place, VolumeName};

/// The fences' object in the home namespace.
const FENCES_OBJECT: &str = "docker-volume-ceph.fences";

/// A client that was shut out, or was about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The client instance: address, port and nonce.
    pub address: String,
    /// The volume that was taken from it.
    pub volume: VolumeName,
    /// Where that lies.
    pub location: Place,
    /// The host that it belongs to, as its claim said.
    pub host: String,
    /// The boot of that host: only it can say that nothing is left of the client.
    pub boot_id: String,
    /// The host that fenced it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// The fences of one home namespace.
pub struct Fences {
    cluster: Arc<dyn Cluster>,
    home: Location,
}

impl std::fmt::Debug for Fences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fences").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Fences {
    /// The fences in `home`. Asks nothing of the cluster yet.
    #[must_use]
    pub fn new(cluster: Arc<dyn Cluster>, home: Location) -> Self {
        Self { cluster, home }
    }

    /// Writes one down; what is written of that client already stays.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn add(&self, fence: &Fence) -> Result<()> {
        let bytes = serde_json::to_vec(fence)
            .map_err(|error| CatalogError::Unreadable(error.to_string()))?;
        self.set(&fence.address, None, Some(&bytes))
    }

    /// All of them; what cannot be read is passed over.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn all(&self) -> Result<Vec<Fence>> {
        let mut fences = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.cluster.omap_page(&self.home, FENCES_OBJECT, &after, PAGE)?;
            let Some((last, _)) = page.entries.last() else { return Ok(fences) };
            after.clone_from(last);
            let read = |(_, bytes): &(String, Vec<u8>)| serde_json::from_slice(bytes).ok();
            fences.extend(page.entries.iter().filter_map(read));
            if !page.more {
                return Ok(fences);
            }
        }
    }

    /// Drops one whose client is let in again.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn remove(&self, address: &str) -> Result<()> {
        match self.cluster.omap_get(&self.home, FENCES_OBJECT, address)? {
            Some(bytes) => self.set(address, Some(&bytes), None),
            None => Ok(()),
        }
    }

    /// Nobody changes a fence; who finds it changed finds the same work done.
    fn set(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<()> {
        self.cluster
            .omap_compare_and_set(&self.home, FENCES_OBJECT, key, expected, new)
            .map(drop)
            .map_err(CatalogError::from)
    }
}

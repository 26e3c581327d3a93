//! Fencing the client of a folder.

use super::super::fence::fence_clients;
use super::super::{Fencing, Result};
use super::CephFsBackend;
use crate::ceph::{Interval, LockOwner, Notified};
use crate::volume::FolderSpec;

impl Fencing<FolderSpec> for CephFsBackend {
    fn lock_owner(&self, _: &FolderSpec) -> Result<Option<LockOwner>> {
        Ok(None)
    }

    fn ask_watchers(&self, _: &FolderSpec) -> Option<(Notified, Interval)> {
        None
    }

    /// The metadata server drops the session of a client that is on the list, and lets nobody have
    /// what that held before it has seen the list itself.
    fn fence(&self, _: &FolderSpec, addresses: &[String]) -> Result<()> {
        fence_clients(&*self.cluster, addresses)
    }
}

//! Fencing the clients of a folder: the one that holds it, and the one that has it mounted.

use super::super::{Fencing, Result};
use super::CephFsBackend;
use crate::ceph::{Interval, LockOwner, Notified};
use crate::volume::FolderSpec;

impl Fencing<FolderSpec> for CephFsBackend {
    fn lock_owner(&self, location: &FolderSpec) -> Result<Option<LockOwner>> {
        self.images.lock_owner(&self.lock_of(location))
    }

    fn ask_watchers(&self, location: &FolderSpec) -> Option<(Notified, Interval)> {
        self.images.ask_watchers(&self.lock_of(location))
    }

    /// The metadata server drops the session of a client that is on the list, and lets nobody have
    /// what that held before it has seen the list itself.
    fn fence(&self, location: &FolderSpec, addresses: &[String]) -> Result<()> {
        self.images.fence(&self.lock_of(location), addresses)
    }
}

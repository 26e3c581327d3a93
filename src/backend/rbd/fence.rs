//! Fencing the client of an image.
//!
//! What it had queued at an OSD when it was fenced may still land, but not after a write of ours to
//! the image's header, which comes last.

use std::time::Duration;

use super::super::fence::fence_clients;
use super::super::{Fencing, Result};
use super::RbdBackend;
use crate::ceph::{Interval, LockOwner, Notified};
use crate::volume::ImageSpec;

/// What a living watcher takes to answer is a few milliseconds.
const ANSWER: Duration = Duration::from_secs(1);

impl Fencing<ImageSpec> for RbdBackend {
    fn lock_owner(&self, location: &ImageSpec) -> Result<Option<LockOwner>> {
        Ok(self.cluster.lock_owner(location)?)
    }

    fn ask_watchers(&self, location: &ImageSpec) -> Option<(Notified, Interval)> {
        let ask = || -> Result<(Notified, bool, Interval)> {
            let before = self.cluster.interval(location)?;
            let notified = self.cluster.ask_watchers(location, ANSWER)?;
            let interval = self.cluster.interval(location)?;
            Ok((notified, before == interval, interval))
        };
        match ask() {
            Ok((notified, true, interval)) => Some((notified, interval)),
            Ok((_, false, _)) => None,
            Err(error) => {
                tracing::debug!(image = %location, %error, "its watchers could not be asked");
                None
            }
        }
    }

    fn fence(&self, location: &ImageSpec, addresses: &[String]) -> Result<()> {
        fence_clients(&*self.cluster, addresses)?;
        Ok(self.cluster.header_barrier(location)?)
    }
}

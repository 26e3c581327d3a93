//! Fencing a client that is gone, in the order in which nothing of its can land afterwards.
//!
//! 1. Blocklist exactly its address and nonce, for a year: an entry that ends would let a frozen
//!    host go on where it stopped.
//! 2. Read the list back: the first entry wins, and a second add only claims a new end.
//! 3. See the map with the entry, then write once to the image's header: what the client had queued
//!    at an OSD may still land before that write, and nothing after it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::{BackendError, Fencing, Result};
use super::RbdBackend;
use crate::ceph::{BlocklistEntry, Interval, LockOwner, Notified};
use crate::volume::ImageSpec;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// An entry that ends sooner than this is no fence.
const LONG_ENOUGH: SignedDuration = SignedDuration::from_hours(24 * 180);

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
        addresses.iter().try_for_each(|address| refuse_whole_hosts(address))?;
        let own = self.cluster.own_address()?;
        if addresses.contains(&own) {
            return Err(BackendError::Unsafe(format!("client {own} is this daemon's own")));
        }
        for address in addresses {
            self.cluster.blocklist_add(address, YEAR)?;
        }
        let entries = self.cluster.blocklist()?;
        addresses.iter().try_for_each(|address| check_entry(&entries, address))?;
        Ok(self.cluster.header_barrier(location)?)
    }

    fn fenced(&self) -> Result<Vec<String>> {
        let entries = self.cluster.blocklist()?;
        Ok(entries.into_iter().map(|entry| entry.address).collect())
    }

    fn unfence(&self, address: &str) -> Result<()> {
        refuse_whole_hosts(address)?;
        Ok(self.cluster.blocklist_remove(address)?)
    }
}

/// Is the entry there, and for long enough?
fn check_entry(entries: &[BlocklistEntry], address: &str) -> Result<()> {
    let until = entries.iter().find(|entry| entry.address == address).map(|entry| entry.until);
    match until {
        Some(until) if until.duration_since(Timestamp::now()) > LONG_ENOUGH => Ok(()),
        Some(until) => Err(BackendError::Unsafe(format!(
            "client {address} is fenced only until {until:.0}, by an earlier entry; see that it is \
             gone, and remove that entry with: ceph osd blocklist rm {address}"
        ))),
        None => Err(BackendError::Unsafe(format!(
            "client {address} was fenced, and the cluster does not list it"
        ))),
    }
}

/// A nonce of 0 means every client of the host.
fn refuse_whole_hosts(address: &str) -> Result<()> {
    match address.rsplit_once('/').map(|(_, nonce)| nonce.parse::<u64>()) {
        Some(Ok(nonce)) if nonce > 0 => Ok(()),
        _ => Err(BackendError::Unsafe(format!(
            "{address} is not the address of one client (IP:PORT/NONCE), and is not fenced"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_ends_too_soon_is_no_fence() {
        let now = Timestamp::now();
        let entry = |hours| BlocklistEntry {
            address: "10.0.0.1:0/4711".to_owned(),
            until: now + SignedDuration::from_hours(hours),
        };
        let check = |entries: &[BlocklistEntry]| check_entry(entries, "10.0.0.1:0/4711");
        assert!(check(&[entry(24 * 364)]).is_ok());
        for entries in [&[entry(1)][..], &[]] {
            let error = check(entries).expect_err("no fence").to_string();
            assert!(error.contains("10.0.0.1:0/4711"), "{error}");
        }
        assert!(check_entry(&[entry(24 * 364)], "10.0.0.1:0/47").is_err());
    }

    #[test]
    fn only_one_client_is_ever_fenced() {
        assert!(refuse_whole_hosts("10.0.0.1:0/4711").is_ok());
        for address in ["10.0.0.1:0/0", "10.0.0.1", "10.0.0.1:0/", ""] {
            assert!(refuse_whole_hosts(address).is_err(), "{address:?} was allowed");
        }
    }
}

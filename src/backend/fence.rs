//! Fencing clients that are gone, in the order in which nothing of theirs can land afterwards.
//!
//! 1. Blocklist exactly their addresses and nonces, for a year: an entry that ends would let a frozen
//!    host go on where it stopped.
//! 2. Read the list back: the first entry wins, and a second add only claims a new end.
//! 3. See the map with the entries; what else has to be waited for depends on what was fenced.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{BackendError, Result};
use crate::ceph::{BlocklistEntry, Cluster};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// An entry that ends sooner than this is no fence.
const LONG_ENOUGH: SignedDuration = SignedDuration::from_hours(24 * 180);

/// Shuts out exactly these client instances, never whole hosts and never ourselves.
pub(super) fn fence_clients(cluster: &dyn Cluster, addresses: &[String]) -> Result<()> {
    addresses.iter().try_for_each(|address| refuse_whole_hosts(address))?;
    let own = cluster.own_address()?;
    if addresses.contains(&own) {
        return Err(BackendError::Unsafe(format!("client {own} is this daemon's own")));
    }
    for address in addresses {
        cluster.blocklist_add(address, YEAR)?;
    }
    let entries = cluster.blocklist()?;
    addresses.iter().try_for_each(|address| check_entry(&entries, address))
}

/// The client instances that are fenced.
pub(super) fn fenced(cluster: &dyn Cluster) -> Result<Vec<String>> {
    Ok(cluster.blocklist()?.into_iter().map(|entry| entry.address).collect())
}

/// Lets a client instance in again, of which nothing is left.
pub(super) fn unfence(cluster: &dyn Cluster, address: &str) -> Result<()> {
    refuse_whole_hosts(address)?;
    Ok(cluster.blocklist_remove(address)?)
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

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
use crate::volume::ImageSpec;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// An entry that ends sooner than this is no fence.
const LONG_ENOUGH: SignedDuration = SignedDuration::from_hours(24 * 180);

impl Fencing for RbdBackend {
    fn fence(&self, location: &ImageSpec, address: &str) -> Result<()> {
        refuse_whole_hosts(address)?;
        if self.cluster.own_address()? == address {
            return Err(BackendError::Unsafe(format!("client {address} is this daemon's own")));
        }
        self.cluster.blocklist_add(address, YEAR)?;
        let entries = self.cluster.blocklist()?;
        let until = entries.iter().find(|entry| entry.address == address).map(|entry| entry.until);
        match until {
            Some(until) if until.duration_since(Timestamp::now()) > LONG_ENOUGH => {}
            Some(until) => {
                return Err(BackendError::Unsafe(format!(
                    "client {address} is fenced only until {until:.0}, by an earlier entry; \
                     remove that entry with: ceph osd blocklist rm {address}"
                )));
            }
            None => {
                return Err(BackendError::Unsafe(format!(
                    "client {address} was fenced, and the cluster does not list it"
                )));
            }
        }
        Ok(self.cluster.header_barrier(location)?)
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
    fn only_one_client_is_ever_fenced() {
        assert!(refuse_whole_hosts("10.0.0.1:0/4711").is_ok());
        for address in ["10.0.0.1:0/0", "10.0.0.1", "10.0.0.1:0/", ""] {
            assert!(refuse_whole_hosts(address).is_err(), "{address:?} was allowed");
        }
    }
}

//! May this host write the volume? A pure judgement over what was observed.
//!
//! A writer holds a *claim* in the volume's record, with the address of the client that has the
//! image open. The cluster lists the *watchers* of the image: the clients that really have it open.
//! A claim belongs to this host only if its address is that of a device mapped here, never by the
//! host's name or machine ID: clones share those.
//!
//! ```text
//!  claim       its address watches   other watchers   verdict
//!  none        –                     none             free
//!  none        –                     some             held: somebody opened it by hand
//!  no address  –                     none             held, and free once it has stood still
//!  no address  –                     some             held
//!  address     yes                   –                held
//!  address     no                    some             held
//!  address     no                    none             dead: fence the address, then take over
//! ```
//!
//! A claim without an address is a host between claiming and mapping. It may be waited out without
//! a fence: that host compares and sets its address before it touches the device, and so finds
//! that it was overtaken.

use crate::ceph::Watcher;
use crate::volume::Claim;

/// What may be done about a volume that somebody may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody has it.
    Free,
    /// Somebody has it, or may have it: wait, then refuse.
    Held(Held),
    /// Its holder is gone: fence exactly this client instance, then take over.
    Dead {
        /// The client instance.
        address: String,
    },
}

/// Who holds a volume, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The claim, where there is one.
    pub(super) claim: Option<Claim>,
    /// The clients that have the image open.
    pub(super) watchers: Vec<String>,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.claim {
            Some(claim) => {
                write!(f, "volume is in use on host {} since {:.0}", claim.host, claim.since)?;
                match &claim.address {
                    Some(address) => write!(f, " (client {address})"),
                    None => f.write_str(" (which is just attaching it)"),
                }
            }
            None => write!(f, "its image is open on client {}", self.watchers.join(", ")),
        }
    }
}

/// Judges what was observed. `stood_still`: the same claim was seen for the whole time that a mount
/// waits for another host.
pub(super) fn judge(claim: Option<&Claim>, watchers: &[Watcher], stood_still: bool) -> Verdict {
    let watching: Vec<String> = watchers.iter().map(|watcher| watcher.address.clone()).collect();
    let held = || Verdict::Held(Held { claim: claim.cloned(), watchers: watching.clone() });
    if !watching.is_empty() {
        return held();
    }
    match claim.map(|claim| &claim.address) {
        None => Verdict::Free,
        Some(Some(address)) => Verdict::Dead { address: address.clone() },
        Some(None) if stood_still => Verdict::Free,
        Some(None) => held(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn claim(address: Option<&str>) -> Claim {
        Claim {
            host: "a".to_owned(),
            boot_id: "boot".to_owned(),
            address: address.map(str::to_owned),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    fn watcher(address: &str) -> Watcher {
        Watcher { address: address.to_owned(), client: 1, cookie: 1 }
    }

    #[test]
    fn every_row_of_the_table() {
        let (own, other) = ("10.0.0.1:0/1", "10.0.0.2:0/2");
        let dead = Verdict::Dead { address: own.to_owned() };
        for (claimed, watchers, stood_still, expected) in [
            (None, &[][..], false, Some(&Verdict::Free)),
            (None, &[watcher(other)], true, None),
            (Some(claim(None)), &[], false, None),
            (Some(claim(None)), &[], true, Some(&Verdict::Free)),
            (Some(claim(None)), &[watcher(other)], true, None),
            (Some(claim(Some(own))), &[watcher(own)], true, None),
            (Some(claim(Some(own))), &[watcher(other)], true, None),
            (Some(claim(Some(own))), &[], false, Some(&dead)),
        ] {
            let verdict = judge(claimed.as_ref(), watchers, stood_still);
            match expected {
                Some(expected) => assert_eq!(&verdict, expected, "{claimed:?} {watchers:?}"),
                None => assert!(matches!(verdict, Verdict::Held(_)), "{claimed:?} {watchers:?}"),
            }
        }
    }

    #[test]
    fn a_holder_is_named_with_host_address_and_time() {
        let held = Held { claim: Some(claim(Some("10.0.0.1:0/1"))), watchers: Vec::new() };
        let text = held.to_string();
        assert!(text.contains("host a") && text.contains("10.0.0.1:0/1"), "{text}");
        assert!(text.contains("1970-01-01T00:00:00Z"), "{text}");
    }
}

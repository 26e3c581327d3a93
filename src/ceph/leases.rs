//! Leases: who of the daemons is there, and what time the cluster has.
//!
//! A share in a lock on a RADOS object, which ends by itself unless it is renewed. Its end is
//! reckoned and judged by the OSD that serves the object, and by nobody else: the clocks of hosts
//! have no part in it. A share that was just renewed ends its length from now, and so its end tells
//! what time it is there: all hosts, however wrong their clocks are, learn the same time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Result;
use super::access::whole_seconds;
use super::cluster::RadosCluster;
use super::encoding::{encoded, long, number, sized, taken};
use super::failure::{Failure, Outcome};
use super::io_context::IoContext;
use crate::volume::Location;

/// The lock's name on the object.
const LOCK: &str = "docker-volume-ceph.lease";

/// Room for what some thousand members would fill.
const LONGEST_ANSWER: usize = 1 << 20;

/// What a renewal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The time, by the cluster's clock.
    pub now: Timestamp,
    /// All who hold a share that has not ended, this member among them; sorted.
    pub members: Vec<String>,
}

/// Shares in leases.
pub trait Leases: Send + Sync {
    /// Takes a share in the lease on an object, or renews it, for `keep`, which counts in whole
    /// seconds, at least 1. `member` is the same at every renewal, also after a restart. The object
    /// is created where it is missing.
    fn lease_renew(
        &self,
        at: &Location,
        object: &str,
        member: &str,
        keep: Duration,
    ) -> Result<Lease>;

    /// Gives a share up before its end. Success where there is none.
    fn lease_end(&self, at: &Location, object: &str, member: &str) -> Result<()>;
}

impl Leases for RadosCluster {
    fn lease_renew(
        &self,
        at: &Location,
        object: &str,
        member: &str,
        keep: Duration,
    ) -> Result<Lease> {
        self.in_context(at, "renew the lease on", format_args!("object {at}/{object}"), |io| {
            renew(io, object, member, whole_seconds(keep).max(1))
        })
    }

    fn lease_end(&self, at: &Location, object: &str, member: &str) -> Result<()> {
        self.in_context(at, "end the lease on", format_args!("object {at}/{object}"), |io| {
            io.unlock(object, LOCK, member)
        })
    }
}

fn renew(io: &IoContext, object: &str, member: &str, seconds: u64) -> Outcome<Lease> {
    let seconds = u32::try_from(seconds).map_err(|_| Failure::invalid("it is too long"))?;
    io.lock_shared(object, LOCK, member, seconds)?;
    let answer = io.ask(object, "lock", "get_info", &question(), LONGEST_ANSWER)?;
    let shares =
        shares(&answer).ok_or_else(|| Failure::unreadable("its holders are unreadable"))?;
    let keep = SignedDuration::from_secs(seconds.into());
    // One that was restarted has an older share as well, of the client that it was before.
    let client = io.connection.client;
    let ours = shares.iter().find(|share| share.member == member && share.client == client);
    let now = ours
        .and_then(|share| share.end.checked_sub(keep).ok())
        .ok_or_else(|| Failure::unreadable("its holders do not name this one"))?;
    let mut members: Vec<String> = shares.into_iter().map(|share| share.member).collect();
    members.sort_unstable();
    members.dedup();
    Ok(Lease { now, members })
}

#[derive(Debug, PartialEq, Eq)]
struct Share {
    client: u64,
    member: String,
    end: Timestamp,
}

/// The lock's name, as a struct of version 1 in Ceph's encoding.
fn question() -> Vec<u8> {
    let name = encoded(LOCK);
    let length = u32::try_from(name.len()).expect("a short name");
    [&[1, 1][..], &length.to_le_bytes(), &name].concat()
}

/// Who holds shares: a map from the holder (client and cookie) to its end, address and description
/// (`cls_lock_get_info_reply`). Each struct says its length, so that what follows in newer ones is
/// passed over.
fn shares(answer: &[u8]) -> Option<Vec<Share>> {
    let mut answer = structure(&mut &*answer)?;
    let count = number(&mut answer)?;
    (0..count).map(|_| share(&mut answer)).collect()
}

fn share(bytes: &mut &[u8]) -> Option<Share> {
    let mut holder = structure(bytes)?;
    let _kind = taken(&mut holder, 1)?;
    let client = long(&mut holder)?;
    let member = String::from_utf8(sized(&mut holder)?.to_vec()).ok()?;
    let mut about = structure(bytes)?;
    let (seconds, nanoseconds) = (number(&mut about)?, number(&mut about)?);
    let end = Timestamp::new(seconds.into(), i32::try_from(nanoseconds).ok()?).ok()?;
    Some(Share { client, member, end })
}

/// A struct's content: its version, the oldest version that can read it, its length.
fn structure<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    taken(bytes, 2)?;
    sized(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("short");
        [&[1, 1][..], &length.to_le_bytes(), content].concat()
    }

    fn answer() -> Vec<u8> {
        let holder = [&[8, 1, 0, 0, 0, 0, 0, 0, 0][..], &[2, 0, 0, 0], b"ab"].concat();
        let about = [&7u32.to_le_bytes()[..], &9u32.to_le_bytes(), b"address and more"].concat();
        let all = [&1u32.to_le_bytes()[..], &of(&holder), &of(&about), &[2, 0, 0, 0, 0]].concat();
        of(&all)
    }

    #[test]
    fn who_holds_a_share_and_until_when_is_read() {
        let end = Timestamp::new(7, 9).expect("a time");
        let share = Share { client: 1, member: "ab".to_owned(), end };
        assert_eq!(shares(&answer()), Some(vec![share]));
        assert_eq!(shares(&of(&[0; 4])), Some(Vec::new()));
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let whole = answer();
        for length in 0..whole.len() {
            assert_eq!(shares(&whole[..length]), None, "{length} bytes");
        }
    }
}

//! May this host write the volume? A pure judgement over what was observed.
//!
//! A writer holds a *claim* in the volume's record, with the address of the client that has the
//! image open. The cluster lists the *watchers* of the image, the clients that really have it open,
//! and the *owner* of its exclusive lock. A claim belongs to this host only if its address is that
//! of a device mapped here, never by the host's name or machine ID: clones share those.
//!
//! A *holder's* watcher is one whose address is the claim's or the lock owner's. Any other watcher
//! is somebody who opened the image by hand, of whom nothing is known.
//!
//! ```text
//!  claim         watchers                               verdict
//!  none          none                                   free
//!  no address    none                                   held, and free once it has stood still
//!  address       none                                   dead: fence claim and owner
//!  any           the holder's only, silent for long     dead: fence claim and owner
//!  any           any other                              held
//! ```
//!
//! What is neither claimed nor watched may still be locked: by a client that somebody started by
//! hand, and that is gone. The mapper breaks such a lock, and fences its owner, as it does for
//! everybody.
//!
//! A claim without an address is a host between claiming and mapping. It may be waited out without
//! a fence: that host compares and sets its address before it touches the device, and so finds
//! that it was overtaken.
//!
//! # Silence
//!
//! A watcher that is alive answers when it is asked. One that does not is *silent* only where the
//! cluster itself says so: it names that watcher among those that did not answer. Anything else (no
//! reply, an error, ourselves cut off, an OSD that stands still) is *unknown*, and unknown never
//! makes anybody dead. Nor do looks that were served by different OSDs: watchers have to find a new
//! one first. [`Silence`] adds up looks that follow each other, and is for long when two of them
//! lie `fence-after` apart.
//!
//! ```text
//!            silent, the same watchers and OSDs
//!             ┌───────┐
//!  ┌──────┐   │   ┌───▼────┐  two looks fence-after apart   ┌──────┐
//!  │ none ├───┴──▶│ silent ├───────────────────────────────▶│ long │
//!  └──▲───┘       └───┬────┘                                └──────┘
//!     └───────────────┘ an answer, unknown, other watchers, other OSDs
//! ```

use std::time::{Duration, Instant};

use crate::ceph::{Interval, LockOwner, Notified, Watcher};
use crate::volume::Claim;

/// What may be done about a volume that somebody may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody has it.
    Free,
    /// Somebody has it, or may have it: wait, then refuse.
    Held(Held),
    /// Its holder is gone: fence exactly these client instances, then take over.
    Dead {
        /// The client instances.
        addresses: Vec<String>,
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

/// Who seems to have a volume, at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sight {
    pub(super) claim: Option<Claim>,
    pub(super) watchers: Vec<Watcher>,
    /// Of interest only where there is a claim or a watcher.
    pub(super) owner: Option<LockOwner>,
}

impl Sight {
    /// The addresses of who holds the volume, as far as anybody has said so.
    pub(super) fn holders(&self) -> Vec<String> {
        let of_claim = |claim: &Claim| [claim.address.clone(), claim.folder_client.clone()];
        let claimed = self.claim.iter().flat_map(of_claim).flatten();
        let mut all: Vec<String> =
            claimed.chain(self.owner.iter().map(|owner| owner.address.clone())).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Are there watchers, and are all of them the holder's? Only of those can silence tell
    /// anything.
    pub(super) fn is_holders_alone(&self) -> bool {
        let holders = self.holders();
        !self.watchers.is_empty() && self.watchers.iter().all(|w| holders.contains(&w.address))
    }

    fn held(&self) -> Verdict {
        let watchers = self.watchers.iter().map(|watcher| watcher.address.clone()).collect();
        Verdict::Held(Held { claim: self.claim.clone(), watchers })
    }
}

/// Judges what was observed. `silent`: the holder has been silent for long. `stood_still`: the same
/// claim was seen for the whole time that a mount waits for another host.
pub(super) fn judge(sight: &Sight, silent: bool, stood_still: bool) -> Verdict {
    let dead = || Verdict::Dead { addresses: sight.holders() };
    if !sight.watchers.is_empty() {
        return if silent && sight.is_holders_alone() { dead() } else { sight.held() };
    }
    match (&sight.claim, &sight.owner) {
        (None, _) => Verdict::Free,
        (Some(Claim { address: Some(_), .. }), _) => dead(),
        (Some(Claim { address: None, .. }), _) if !stood_still => sight.held(),
        (Some(Claim { address: None, .. }), None) => Verdict::Free,
        (Some(Claim { address: None, .. }), Some(_)) => dead(),
    }
}

/// What the watchers said when they were asked; `None`: nothing that tells anything.
pub(super) type Asked = Option<(Notified, Interval)>;

/// How long the holder has been silent, from one look to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Option<Since>);

#[derive(Debug, Clone)]
struct Since {
    when: Instant,
    watchers: Vec<Watcher>,
    interval: Interval,
}

impl Silence {
    /// Adds a look. `now` is when the watchers were asked, not when their time was over.
    pub(super) fn add(&mut self, now: Instant, watchers: &[Watcher], asked: Asked) {
        let silent = asked.filter(|(said, _)| {
            let is_silent = |of: &Watcher| said.silent.contains(&(of.client, of.cookie));
            !watchers.is_empty() && said.answers.is_empty() && watchers.iter().all(is_silent)
        });
        self.0 = silent.map(|(_, interval)| {
            let before = self.0.take();
            let same = |since: &Since| since.watchers == watchers && since.interval == interval;
            let fresh =
                || Since { when: now, watchers: watchers.to_vec(), interval: interval.clone() };
            before.filter(same).unwrap_or_else(fresh)
        });
    }

    /// Did the last look, at `now`, still find the silence that began `fence_after` ago?
    pub(super) fn is_long(&self, now: Instant, fence_after: Duration) -> bool {
        self.0.as_ref().is_some_and(|since| now.duration_since(since.when) >= fence_after)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ceph::Answer;

    const OWN: &str = "10.0.0.1:0/1";
    const OTHER: &str = "10.0.0.2:0/2";

    fn claim(address: Option<&str>) -> Claim {
        Claim {
            host: "a".to_owned(),
            boot_id: "boot".to_owned(),
            address: address.map(str::to_owned),
            folder_client: None,
            since: Timestamp::UNIX_EPOCH,
        }
    }

    fn watcher(address: &str) -> Watcher {
        Watcher { address: address.to_owned(), client: 1, cookie: 1 }
    }

    fn owner(address: &str) -> LockOwner {
        LockOwner { client: 1, address: address.to_owned() }
    }

    /// Claim, owner, watchers, silent, stood still; and who is fenced, `None` where it is held.
    type Row = (
        Option<Claim>,
        Option<LockOwner>,
        &'static [&'static str],
        bool,
        bool,
        Option<&'static [&'static str]>,
    );

    #[test]
    fn every_row_of_the_table() {
        let rows: &[Row] = &[
            (None, None, &[], false, false, Some(&[])),
            (None, None, &[OTHER], true, true, None),
            (None, Some(owner(OTHER)), &[OTHER], false, true, None),
            (None, Some(owner(OTHER)), &[OTHER], true, false, Some(&[OTHER])),
            (Some(claim(None)), None, &[], false, false, None),
            (Some(claim(None)), None, &[], false, true, Some(&[])),
            (Some(claim(None)), Some(owner(OTHER)), &[], false, true, Some(&[OTHER])),
            (Some(claim(None)), None, &[OTHER], true, true, None),
            (Some(claim(None)), Some(owner(OTHER)), &[OTHER], true, true, Some(&[OTHER])),
            (Some(claim(Some(OWN))), None, &[OWN], false, true, None),
            (Some(claim(Some(OWN))), None, &[OWN], true, false, Some(&[OWN])),
            (Some(claim(Some(OWN))), Some(owner(OWN)), &[OWN], true, false, Some(&[OWN])),
            (Some(claim(Some(OWN))), None, &[OTHER], true, true, None),
            (Some(claim(Some(OWN))), None, &[OWN, OTHER], true, true, None),
            (Some(claim(Some(OWN))), None, &[], false, false, Some(&[OWN])),
            (Some(claim(Some(OWN))), Some(owner(OTHER)), &[], false, false, Some(&[OWN, OTHER])),
            (
                Some(claim(Some(OWN))),
                Some(owner(OTHER)),
                &[OTHER],
                true,
                false,
                Some(&[OWN, OTHER]),
            ),
        ];
        for (claim, owner, watchers, silent, stood_still, expected) in rows {
            let watchers = watchers.iter().map(|address| watcher(address)).collect();
            let sight = Sight { claim: claim.clone(), watchers, owner: owner.clone() };
            let verdict = match judge(&sight, *silent, *stood_still) {
                Verdict::Free => Some(Vec::new()),
                Verdict::Dead { addresses } => Some(addresses),
                Verdict::Held(_) => None,
            };
            let expected = expected.map(|all| all.iter().map(|of| (*of).to_owned()).collect());
            assert_eq!(verdict, expected, "{sight:?} {silent} {stood_still}");
        }
    }

    fn interval(up_from: u64) -> Interval {
        Interval { acting: vec![0, 1], primary: 0, up_from }
    }

    fn silent(watchers: &[(u64, u64)], up_from: u64) -> Asked {
        Some((Notified { answers: Vec::new(), silent: watchers.to_vec() }, interval(up_from)))
    }

    fn answered() -> Asked {
        let answer = Answer { client: 1, cookie: 1, message: Vec::new() };
        Some((Notified { answers: vec![answer], silent: Vec::new() }, interval(8)))
    }

    /// One watcher is named as silent, and another one has answered.
    fn silent_beside_a_living_one() -> Asked {
        let answer = Answer { client: 2, cookie: 1, message: Vec::new() };
        Some((Notified { answers: vec![answer], silent: vec![(1, 1)] }, interval(8)))
    }

    /// Looks at seconds, and whether the silence is long (over 10 s) after the last.
    fn after(looks: Vec<(u64, Asked)>) -> bool {
        let (start, watchers) = (Instant::now(), [watcher(OWN)]);
        let mut silence = Silence::default();
        let mut now = start;
        for (second, asked) in looks {
            now = start + Duration::from_secs(second);
            silence.add(now, &watchers, asked);
        }
        silence.is_long(now, Duration::from_secs(10))
    }

    #[test]
    fn only_what_the_cluster_says_twice_of_one_watcher_is_a_long_silence() {
        let mute = || silent(&[(1, 1)], 8);
        for (looks, long) in [
            (vec![(0, mute())], false),
            (vec![(0, mute()), (9, mute())], false),
            (vec![(0, mute()), (10, mute())], true),
            (vec![(0, mute()), (5, mute()), (11, mute())], true),
            // It answered in between, or at last.
            (vec![(0, mute()), (5, answered()), (11, mute())], false),
            (vec![(0, mute()), (11, answered())], false),
            // Somebody answered in the same reply: the holder may be that one.
            (vec![(0, mute()), (5, silent_beside_a_living_one()), (11, mute())], false),
            (vec![(0, mute()), (11, silent_beside_a_living_one())], false),
            (vec![(0, silent_beside_a_living_one()), (11, silent_beside_a_living_one())], false),
            // Nobody said anything in between: the OSD stood still, or we were cut off.
            (vec![(0, mute()), (5, None), (11, mute())], false),
            (vec![(0, mute()), (11, None)], false),
            // Another OSD serves, or the same one was started again.
            (vec![(0, mute()), (11, silent(&[(1, 1)], 9))], false),
            // Another watch of the same client, or a reply that does not name it.
            (vec![(0, mute()), (11, silent(&[(1, 2)], 8))], false),
            (vec![(0, silent(&[], 8)), (11, silent(&[], 8))], false),
            (vec![], false),
        ] {
            let described = format!("{looks:?}");
            assert_eq!(after(looks), long, "{described}");
        }
    }

    #[test]
    fn silence_is_of_the_same_watchers() {
        let start = Instant::now();
        let later = start + Duration::from_secs(20);
        let other = Watcher { address: OWN.to_owned(), client: 2, cookie: 1 };
        let mut silence = Silence::default();
        silence.add(start, &[watcher(OWN)], silent(&[(1, 1)], 8));
        silence.add(later, &[other], silent(&[(2, 1)], 8));
        assert!(!silence.is_long(later, Duration::from_secs(10)));
        silence.add(later, &[], silent(&[], 8));
        assert!(!silence.is_long(later, Duration::ZERO), "nobody is there to be silent");
    }

    #[test]
    fn a_holder_is_named_with_host_address_and_time() {
        let held = Held { claim: Some(claim(Some("10.0.0.1:0/1"))), watchers: Vec::new() };
        let text = held.to_string();
        assert!(text.contains("host a") && text.contains("10.0.0.1:0/1"), "{text}");
        assert!(text.contains("1970-01-01T00:00:00Z"), "{text}");
    }
}

//! What is to be made now, and when to look again: one pure function of what was served and of the
//! clock.
//!
//! At most one due time is served at once, the latest: a snapshot that is made now holds what is
//! there now, whatever its name says, so that ten of them for ten missed due times would be ten
//! times the same. What keeps a due time from being served twice is the snapshot's name; this
//! function only has to ask for it again never for long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::volume::VolumeName;

/// How late a due time is still served where missed ones are skipped, at most.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// A clock that was put back by more than this was wrong before: what was served by it says nothing
/// about now. By less, due times that were served wait to be over.
const PUT_BACK: SignedDuration = SignedDuration::from_secs(3600);

/// What becomes of a due time at which nobody could serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// The latest of those that were missed is made up for.
    #[default]
    Once,
    /// It is passed over, unless it was only just missed.
    Skip,
}

/// A schedule with all that decides about its due times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// When snapshots are due.
    pub schedule: Schedule,
    /// What becomes of those that were missed.
    pub catch_up: CatchUp,
    /// How much later than due they may start; zero: at once.
    pub jitter: Duration,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The due time to serve now.
    pub serve: Option<Timestamp>,
    /// The next due time, not counting `serve`: for people. It may be up to the jitter ago.
    pub next: Option<Timestamp>,
    /// When to ask again: `next` and its share of the jitter.
    pub wake: Option<Timestamp>,
}

impl Timetable {
    /// What is due at `now`.
    ///
    /// `last` is the latest due time that was served, or given up; `since` is when the schedule came
    /// into force, before which nothing was missed.
    #[must_use]
    pub fn due(
        &self,
        volume: &VolumeName,
        last: Option<Timestamp>,
        since: Timestamp,
        now: Timestamp,
    ) -> Due {
        let floor = last.map_or(since, |last| last.max(since));
        let latest = self.schedule.last_until(now);
        let pending = latest.filter(|due| self.start(volume, *due) > now);
        let begun = match pending {
            // The share of the jitter ends before the next due time, so the one before has begun.
            Some(due) => self.before(due),
            None => latest,
        };
        let serve = begun.filter(|due| self.is_open(volume, *due, floor, now));
        let unserved = |due: &Timestamp| *due > floor || is_void(floor, now);
        let from = if is_void(floor, now) { now } else { now.max(floor) };
        let next = pending.filter(unserved).or_else(|| self.schedule.next_after(from));
        Due { serve, next, wake: next.map(|due| self.start(volume, due)) }
    }

    /// When serving a due time starts: later than due by a share of the jitter that is the same on
    /// every host, and never as late as the next due time.
    #[must_use]
    pub fn start(&self, volume: &VolumeName, due: Timestamp) -> Timestamp {
        if self.jitter.is_zero() {
            return due;
        }
        let jitter = SignedDuration::try_from(self.jitter).unwrap_or(SignedDuration::MAX);
        let span = jitter.min(self.until_next(due)).as_millis();
        let share = spread(volume, due) % u64::try_from(span).unwrap_or(u64::MAX).max(1);
        due.checked_add(SignedDuration::from_millis(share.cast_signed())).unwrap_or(due)
    }

    /// Is a due time that has begun still to be served? Up to `floor`, they were, or had not to be.
    fn is_open(
        &self,
        volume: &VolumeName,
        due: Timestamp,
        floor: Timestamp,
        now: Timestamp,
    ) -> bool {
        let late = self.start(volume, due).duration_until(now);
        let grace = GRACE.min(self.until_next(due) / 2).max(SignedDuration::from_secs(1));
        if is_void(floor, now) {
            return late <= grace;
        }
        due > floor && (self.catch_up == CatchUp::Once || late <= grace)
    }

    fn before(&self, due: Timestamp) -> Option<Timestamp> {
        self.schedule.last_until(due.checked_sub(SignedDuration::from_secs(1)).ok()?)
    }

    fn until_next(&self, due: Timestamp) -> SignedDuration {
        self.schedule.next_after(due).map_or(SignedDuration::MAX, |next| due.duration_until(next))
    }
}

/// Does what was served by then say nothing about now?
fn is_void(floor: Timestamp, now: Timestamp) -> bool {
    now.duration_until(floor) > PUT_BACK
}

/// A number that looks like chance, and is the same on every host and in every version.
fn spread(volume: &VolumeName, due: Timestamp) -> u64 {
    // FNV-1a, and then the last steps of SplitMix64: neighbours in time are to lie far apart.
    let bytes = volume.as_str().bytes().chain(due.as_second().to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

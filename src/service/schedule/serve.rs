//! One look at a volume whose time has come.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;

use super::{Moment, Next, due_now};
use crate::audit::audit;
use crate::deadline::Deadline;
use crate::service::{ErrorKind, Result, Service, SnapshotOrder, Verb, VolumeError};
use crate::volume::{Maker, Record, SnapshotName, SnapshotOptions, Timetable, Trouble, VolumeName};

/// How long the host that has a volume may leave a due time undone before others do it.
const HOLDERS: Duration = Duration::from_secs(15);

/// How much later the next of the daemons does what the one before has not done.
const NEXT: Duration = Duration::from_millis(1500);

/// How long another snapshot that is being made is waited for at a time.
const BUSY: Duration = Duration::from_secs(1);

impl Service {
    /// Serves what is due of a volume, where it is this daemon's turn.
    pub(super) fn serve(&self, volume: &VolumeName, moment: &Moment, deadline: &Deadline) -> Next {
        let verb = Verb::new("scheduled snapshot of", volume, deadline);
        match self.serve_turn(verb, moment) {
            Ok(next) => next,
            Err(error) if error.kind == ErrorKind::NotFound => Next::Settled,
            // Somebody else makes a snapshot: it may be this one.
            Err(error) if error.kind == ErrorKind::InUse => later(moment.now, BUSY),
            Err(error) => {
                self.note_trouble(verb, &error);
                Next::Failed
            }
        }
    }

    fn serve_turn(&self, verb: Verb<'_>, moment: &Moment) -> Result<Next> {
        let record = self.ready(verb)?;
        let Some(due) = due_now(verb.name, &record, moment.now).and_then(|due| due.serve) else {
            return Ok(Next::Settled);
        };
        let options = record.snapshot_options().map_err(|error| self.failed(verb, error))?;
        let Some(timetable) = &options.timetable else { return Ok(Next::Settled) };
        let turn = self.turn(verb.name, &record, timetable, due, moment);
        if turn > moment.now {
            return Ok(Next::At(turn));
        }
        self.make_scheduled(verb, &options, due)?;
        Ok(Next::Settled)
    }

    /// Makes the snapshot of a due time, and removes what is not kept any more.
    pub(super) fn make_scheduled(
        &self,
        verb: Verb<'_>,
        options: &SnapshotOptions,
        due: Timestamp,
    ) -> Result<()> {
        let order = SnapshotOrder {
            name: SnapshotName::scheduled(due),
            consistency: Some(options.consistency),
            labels: BTreeMap::new(),
            by: Maker::Schedule { due },
            group: None,
        };
        match self.snapshot(std::slice::from_ref(verb.name), &order, verb.deadline) {
            Ok(_) => {
                audit!(volume = %verb.name, snapshot = %order.name, "snapshot taken, as scheduled")
            }
            // It was made to its end, and its maker did not live to say so.
            Err(error) if error.kind == ErrorKind::AlreadyExists => self.note_served(verb, due)?,
            Err(error) => return Err(error),
        }
        if let Err(error) = self.retain(verb, options) {
            tracing::warn!(volume = %verb.name, %error, "snapshots that are not kept are left");
        }
        Ok(())
    }

    fn note_served(&self, verb: Verb<'_>, due: Timestamp) -> Result<()> {
        let served = self.change(verb, |record| {
            let mut record = record.clone();
            (record.snapshots.served, record.snapshots.trouble) = (Some(due), None);
            Some(record)
        });
        served.map(drop)
    }

    /// Says in the record, once, that something is due and not made.
    fn note_trouble(&self, verb: Verb<'_>, error: &VolumeError) {
        tracing::warn!(volume = %verb.name, %error, "scheduled snapshot not made; tried again");
        if self.known.is_away() {
            return;
        }
        let (host, text) = (&self.host.name, error.to_string());
        let noted = self.change(verb, |record| {
            let known = record.snapshots.trouble.as_ref();
            if known.is_some_and(|known| known.host == *host && known.error == text) {
                return None;
            }
            let since = known.map_or_else(Timestamp::now, |known| known.since);
            let mut record = record.clone();
            record.snapshots.trouble =
                Some(Trouble { since, host: host.clone(), error: text.clone() });
            Some(record)
        });
        if let Err(error) = noted {
            tracing::debug!(volume = %verb.name, %error, "nor was that noted");
        }
    }

    /// When this daemon is to serve a due time that nobody has served by then.
    fn turn(
        &self,
        volume: &VolumeName,
        record: &Record,
        timetable: &Timetable,
        due: Timestamp,
        moment: &Moment,
    ) -> Timestamp {
        let holder = record.claim.as_ref().or(record.sharers.first());
        let by = self.work().by;
        let behind = NEXT * place(volume, &by, &moment.lease.members);
        let start = timetable.start(volume, due);
        let (from, wait) = match holder {
            None => (start, behind),
            Some(holder) => match self.references.get(volume) {
                Some(reference) if reference.has_made(holder) => return start,
                _ => (first_undone(record, timetable).unwrap_or(start), HOLDERS + behind),
            },
        };
        from.checked_add(wait).unwrap_or(Timestamp::MAX)
    }
}

/// The first due time that was not served: how long a holder has been leaving them undone.
fn first_undone(record: &Record, timetable: &Timetable) -> Option<Timestamp> {
    let since = record.scheduled_since();
    let floor = record.snapshots.served.map_or(since, |served| served.max(since));
    timetable.schedule.next_after(floor)
}

/// How many of the others come before this one for a volume: the same on all of them, and another
/// order for each volume, so that the work is shared.
fn place(volume: &VolumeName, by: &str, members: &[String]) -> u32 {
    let weight = |member: &str| {
        // Its keys are fixed, so that all hosts agree; were they not to, two would come at once.
        let mut hasher = DefaultHasher::new();
        (volume.as_str(), member).hash(&mut hasher);
        hasher.finish()
    };
    let ours = (weight(by), by);
    let before = members.iter().filter(|member| (weight(member), &***member) < ours).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

fn later(now: Timestamp, by: Duration) -> Next {
    Next::At(now.checked_add(by).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_has_a_place_of_its_own_and_each_is_the_first_for_some_volume() {
        let members: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut first = std::collections::HashMap::<&str, u32>::new();
        for number in 0..300 {
            let volume: VolumeName = format!("volume-{number}").parse().expect("a name");
            let mut places: Vec<u32> =
                members.iter().map(|member| place(&volume, member, &members)).collect();
            let leader = places.iter().position(|place| *place == 0).expect("one is the first");
            *first.entry(&members[leader]).or_default() += 1;
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2]);
        }
        assert!(first.len() == 3 && first.values().all(|count| *count > 60), "{first:?}");
    }

    #[test]
    fn who_is_not_among_the_members_comes_after_some_of_them_at_most() {
        let volume = "v".parse().expect("a name");
        assert_eq!(place(&volume, "x", &[]), 0);
        assert!(place(&volume, "x", &["a".to_owned(), "b".to_owned()]) <= 2);
    }
}

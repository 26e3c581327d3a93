//! A rollback under way: what the mark in the record keeps from happening, and the work itself.
//!
//! Copying takes as long as it takes, on a thread of the daemon, which renews its name in the record.
//! Where nobody does any more, whoever comes by (a mount, the sweep) begins it again: what is copied
//! already is copied twice, and the end is the same. A daemon that cannot renew its name in time
//! stops by itself.
//!
//! What fails before anything of the volume has changed takes the mark back. After that it stays, and
//! so does the safety snapshot, to which the volume can be rolled back as well.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::provision::LEASE;
use super::rollback::is_over;
use super::taken::is_whole;
use super::tasks::TaskGuard;
use super::{ErrorKind, LongOutcome, Result, Service, SnapshotOrder, TaskKind, Verb, VolumeError};
use crate::audit::audit;
use crate::backend::{Provisioning, RollBack, Snapshotting};
use crate::deadline::{Deadline, Stop};
use crate::volume::{Consistency, Maker, Place, Record, Rolling, VolumeKind, VolumeName};

/// How often the daemon's name in the record is renewed, and after how long without that it stops.
const RENEW: Duration = Duration::from_secs(30);
const TOO_LATE: Duration = Duration::from_secs(120);

/// No copying takes longer.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the safety snapshot may take.
const SAFETY: Duration = Duration::from_secs(300);

/// A dead daemon's watch on an image stands for half a minute.
const WATCHED: Duration = Duration::from_secs(90);

/// How often it is looked whether it is gone.
const POLL: Duration = Duration::from_secs(2);

impl Service {
    pub(super) fn begin_rolling(&self, verb: Verb<'_>, again: bool) -> Result<LongOutcome> {
        let name = verb.name.clone();
        let begun = self.run_long(verb, TaskKind::Rollback, move |service, task| {
            service.keep_at_it(&name, again, task)
        });
        // Something else takes long on it.
        if begun.is_err() && self.tasks.on(verb.name).is_some() {
            self.unmark(verb, again)?;
        }
        begun
    }

    /// Takes back a mark of ours with which nothing has changed yet; one that was somebody else's
    /// before stays.
    pub(super) fn unmark(&self, verb: Verb<'_>, again: bool) -> Result<()> {
        if again {
            return Ok(());
        }
        let by = self.work().by;
        self.change(verb, |record| {
            let ours = record.rolling.as_ref().is_some_and(|rolling| rolling.work.by == by);
            ours.then(|| Record { rolling: None, ..record.clone() })
        })
        .map(drop)
    }

    /// Refuses what cannot be done while a volume is rolled back. Where that was cut off, it is begun
    /// again.
    pub(super) fn refuse_rolling(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let Some(rolling) = &record.rolling else { return Ok(()) };
        if !self.is_at_it(verb.name, rolling)
            && let Err(error) = self.resume_rolling(verb, rolling)
        {
            tracing::debug!(volume = %verb.name, %error, "rollback not taken over");
        }
        Err(being_rolled(verb, rolling))
    }

    /// Refuses to mount what is rolled back, also by way of another volume over it.
    pub(super) fn refuse_rolling_below(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        self.refuse_rolling(verb, record)?;
        if !record.adopted {
            return Ok(());
        }
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        for (_, stored) in records.iter().filter(|(_, stored)| stored.rolling) {
            let other = stored.entry().record;
            if let Some(rolling) = &other.rolling
                && is_over(&record.location, &other.location)
            {
                return Err(being_rolled(verb, rolling));
            }
        }
        Ok(())
    }

    fn resume_rolling(&self, verb: Verb<'_>, cut_off: &Rolling) -> Result<()> {
        let rolling = Rolling { work: self.work(), ..cut_off.clone() };
        let record = self.change(verb, |record| {
            let same = record.rolling.as_ref() == Some(cut_off);
            same.then(|| Record { rolling: Some(rolling.clone()), ..record.clone() })
        })?;
        if record.rolling.as_ref() != Some(&rolling) {
            return Ok(());
        }
        let (volume, snapshot) = (verb.name, &rolling.snapshot);
        tracing::info!(%volume, %snapshot, "rollback was cut off: begun again");
        let at_once = Deadline::after(Duration::ZERO);
        self.begin_rolling(Verb { deadline: &at_once, ..verb }, true).map(drop)
    }

    /// Is somebody at it? One who was, and does not renew that, is not any more.
    pub(super) fn is_at_it(&self, name: &VolumeName, rolling: &Rolling) -> bool {
        let ours = self.work();
        if rolling.work.by == ours.by {
            return self.tasks.on(name).is_some();
        }
        ours.since.duration_since(rolling.work.since) < LEASE
    }

    /// Does it, on the thread that is for it, with our name renewed meanwhile.
    fn keep_at_it(&self, name: &VolumeName, again: bool, task: &TaskGuard) -> Result<()> {
        let stop = Stop::default();
        let lasting = Deadline::with_stop(LONGEST, stop.clone());
        let verb = Verb::new("rollback", name, &lasting);
        let (over, hear) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(|| self.renew(verb, hear, &stop));
            let done = self.roll(verb, again, task);
            drop(over);
            done
        })
    }

    fn renew(&self, verb: Verb<'_>, over: Receiver<()>, stop: &Stop) {
        let mut renewed = Instant::now();
        while over.recv_timeout(RENEW) == Err(RecvTimeoutError::Timeout) {
            let ours = self.work();
            let record = self.change(verb, |record| {
                let mut record = record.clone();
                let rolling = record.rolling.as_mut().filter(|it| it.work.by == ours.by)?;
                rolling.work = ours.clone();
                Some(record)
            });
            match record {
                Ok(record) if record.rolling.as_ref().is_some_and(|it| it.work == ours) => {
                    renewed = Instant::now();
                }
                // Somebody else is at it.
                Ok(_) => stop.stop(),
                Err(_) if renewed.elapsed() < TOO_LATE => {}
                Err(_) => stop.stop(),
            }
        }
    }

    fn roll(&self, verb: Verb<'_>, again: bool, task: &TaskGuard) -> Result<()> {
        let record = self.entry(verb)?.record;
        let gone = || verb.error(ErrorKind::Internal, "the record does not say so any more");
        let rolling = record.rolling.clone().ok_or_else(gone)?;
        if let Err(error) = self.take_safety(verb, &record, &rolling) {
            // Without it nothing has changed.
            self.unmark(verb, false)?;
            return Err(error);
        }
        let begun = Cell::new(again);
        match self.copy_back(verb, &record, &rolling, &begun, task) {
            Ok(()) => self.finish_rolling(verb, &record, &rolling),
            Err(error) if begun.get() => Err(error.advise(format!(
                "nobody can mount the volume until it is whole: it is tried again in a while; or roll \
                 back to what it was: docker ceph snapshot rollback {} {}",
                verb.name, rolling.safety
            ))),
            Err(error) => {
                self.remove_stored(verb, &record, &rolling.safety)?;
                self.unmark(verb, false)?;
                self.note_those_left(verb, &record).and(Err(error))
            }
        }
    }

    /// The snapshot of what the volume holds before anything changes; one that is there and whole is
    /// an earlier attempt's.
    fn take_safety(&self, verb: Verb<'_>, record: &Record, rolling: &Rolling) -> Result<()> {
        self.settle_alone(verb, record)?;
        let there = self.stored_snapshots(verb, record)?;
        if there.iter().any(|of| of.name == rolling.safety.as_str() && is_whole(of)) {
            return Ok(());
        }
        let order = SnapshotOrder {
            name: rolling.safety.clone(),
            // Nobody has it mounted.
            consistency: Some(Consistency::Filesystem),
            labels: [("rollback-to".to_owned(), rolling.snapshot.to_string())].into(),
            by: Maker::Safety,
            group: None,
        };
        let volumes = [verb.name.clone()];
        self.snapshot(&volumes, &order, &verb.deadline.at_most(SAFETY)).map(drop)
    }

    fn copy_back(
        &self,
        verb: Verb<'_>,
        record: &Record,
        rolling: &Rolling,
        begun: &Cell<bool>,
        task: &TaskGuard,
    ) -> Result<()> {
        let again = begun.get();
        let (aside, snapshot) = (self.aside(verb.name), &rolling.snapshot);
        let progress = |done: u64, total: u64| task.report(done, total);
        let order = RollBack { snapshot, aside: &aside, again, begun, progress: &progress };
        let patience = verb.deadline.at_most(WATCHED);
        loop {
            let rolled = self.backend.roll_back(&record.location, &order, verb.deadline);
            match rolled.map_err(|error| self.failed(verb, error)) {
                Err(error) if again && error.kind == ErrorKind::InUse && patience.wait(POLL) => {}
                other => return other,
            }
        }
    }

    /// The size that it had, and then the record.
    fn finish_rolling(&self, verb: Verb<'_>, record: &Record, rolling: &Rolling) -> Result<()> {
        let info = self.backend.info(&record.location).map_err(|e| self.failed(verb, e))?;
        let size = rolling.size.max(info.size);
        if size > info.size && matches!(record.location, Place::Image(_)) {
            let grown = self.backend.resize(&record.location, size);
            grown.map_err(|error| self.failed(verb, error))?;
        }
        let by = self.work().by;
        let after = self.change(verb, |record| {
            let ours = record.rolling.as_ref().is_some_and(|of| of.work.by == by);
            // What a clone was before it had a UUID of its own comes back with its origin's.
            let clone = record.origin.is_some() && record.kind == VolumeKind::Rbd;
            let renew_uuid = record.renew_uuid || clone;
            ours.then(|| Record { rolling: None, size, renew_uuid, ..record.clone() })
        })?;
        if after.rolling.is_some() {
            return Err(verb.error(ErrorKind::Unavailable, "another host goes on with it"));
        }
        self.observed().errors.remove(verb.name);
        audit!(volume = %verb.name, snapshot = %rolling.snapshot, "rolled back");
        Ok(())
    }

    /// Where a volume is mounted out of everybody's sight. No volume is called so.
    fn aside(&self, name: &VolumeName) -> PathBuf {
        self.settings.mount_root.join(format!(".{name}.rollback"))
    }

    /// Is what is mounted there being worked on?
    pub(super) fn is_worked_on(&self, target: &Path) -> bool {
        let mut under_way = self.tasks().into_iter().filter(|task| task.end.is_none());
        under_way.any(|task| self.aside(&task.volume) == target)
    }
}

pub(super) fn being_rolled(verb: Verb<'_>, rolling: &Rolling) -> VolumeError {
    let Rolling { snapshot, work, .. } = rolling;
    let cause = format!("volume is being rolled back to its snapshot {snapshot} by {}", work.host);
    verb.error(ErrorKind::Unavailable, cause).advise(format!(
        "try again when that is done; docker ceph inspect {} shows on that host how far it is",
        verb.name
    ))
}

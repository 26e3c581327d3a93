//! Rollback: a volume gets the content of one of its snapshots back.
//!
//! ```text
//!  record: `rolling` ─▶ safety snapshot ─▶ content of the snapshot ─▶ size of before
//!    ─▶ record without it
//! ```
//!
//! * Nothing is lost but what was written since: the snapshots all stay, those that are newer too,
//!   and what the volume held is in the safety snapshot before anything changes. An image that has
//!   grown since the snapshot keeps its size; its file system grows again at the mount.
//! * It is refused while anybody has the volume: by a mount, a claim or a watcher, on any host, also
//!   by way of another volume over the same image or folder. And for as long as `rolling` stands in
//!   the record nobody mounts it: a claim and `rolling` exclude each other by the compare-and-set.
//!   Of two volumes over one thing each looks after the other's mark once its own is written.
//! * It is refused past a protected snapshot: somebody relies on what the volume became after that.
//! * Copying takes as long as it takes, on a thread of the daemon, which renews its name in the
//!   record. Where nobody does any more, whoever comes by (a mount, the sweep) begins it again:
//!   what is copied already is copied twice, and the end is the same. A daemon that cannot renew
//!   its name in time stops by itself.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::claim::Held;
use super::provision::LEASE;
use super::take::is_whole;
use super::tasks::TaskGuard;
use super::{ErrorKind, LongOutcome, Result, Service, SnapshotOrder, TaskKind, Verb, VolumeError};
use crate::backend::{Provisioning, RollBack, Snapshotting, StoredSnapshot};
use crate::deadline::{Deadline, Stop};
use crate::volume::{
    ByteSize, Claim, Consistency, FolderSpec, Maker, Place, Record, RecordState, Rolling,
    SnapshotName, SnapshotNote, VolumeName,
};

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

/// What a rollback will do, before it does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RollbackPlan {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// When it was made: what was written since is lost.
    pub created: Option<Timestamp>,
    /// The bytes that changed since, in whole objects or less; `None` where the kind of volume cannot
    /// tell.
    pub changed: Option<ByteSize>,
    /// The newer snapshots, the oldest first. They stay.
    pub newer: Vec<String>,
    /// The volume's size, which it keeps.
    pub size: ByteSize,
    /// The size that it had, where that is known.
    pub size_then: Option<ByteSize>,
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolledBack {
    /// The snapshot whose content the volume has, or is getting.
    pub snapshot: SnapshotName,
    /// The snapshot that has what the volume held until now.
    pub safety: SnapshotName,
    /// Whether it is done.
    pub outcome: LongOutcome,
}

impl Service {
    /// What a rollback to that snapshot would lose; refused where the rollback would be, as far as
    /// can be seen without changing anything.
    ///
    /// # Errors
    /// As [`Service::rollback`].
    pub fn rollback_plan(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        deadline: &Deadline,
    ) -> Result<RollbackPlan> {
        let verb = Verb::new("rollback", name, deadline);
        let record = self.rollback_record(verb)?;
        let there = self.stored_snapshots(verb, &record)?;
        let (chosen, newer) = choose(verb, &there, snapshot)?;
        self.refuse_in_use_here(verb)?;
        let of_others = record.claim.iter().find(|claim| !self.is_ours(verb.name, claim));
        of_others.map_or(Ok(()), |claim| Err(in_use(verb, Some(claim), Vec::new())))?;
        let changed = self.backend.changed(&record.location, Some(snapshot), None);
        let info = self.backend.info(&record.location).map_err(|e| self.failed(verb, e))?;
        Ok(RollbackPlan {
            snapshot: snapshot.clone(),
            created: chosen.created,
            changed: changed.map_err(|error| self.failed(verb, error))?,
            newer: newer.iter().map(|other| other.name.clone()).collect(),
            size: info.size,
            size_then: chosen.size,
        })
    }

    /// Gives a volume the content of one of its snapshots, after a snapshot of what it holds now.
    /// Where that takes longer than the deadline, it goes on in the background.
    ///
    /// # Errors
    /// `NotFound`; `InUse` with the host where anybody has the volume, or is rolling it back;
    /// `InvalidArgument` where it is read-only, past a protected snapshot, or where the snapshot is
    /// not whole. Nothing has changed then. Any other error leaves the volume to be taken to the end
    /// of it: nobody can mount it before.
    pub fn rollback(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        deadline: &Deadline,
    ) -> Result<RolledBack> {
        let verb = Verb::new("rollback", name, deadline);
        let guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        let record = self.rollback_record(verb)?;
        let there = self.stored_snapshots(verb, &record)?;
        choose(verb, &there, snapshot)?;
        self.settle_taking(verb, &record)?;
        self.refuse_in_use_here(verb)?;
        self.let_go(verb)?;
        let record = self.without_gone_sharers(verb, self.entry(verb)?)?.record;
        self.refuse_used_anywhere(verb, &record)?;
        let again = record.rolling.is_some();
        let rolling = self.mark_rolling(verb, &record, snapshot)?;
        // Over the same thing another volume may have been taken while the mark was written.
        if let Err(used) = self.refuse_anothers_use(verb, &record) {
            self.unmark(verb, again)?;
            return Err(used);
        }
        drop(guard);
        let outcome = self.begin_rolling(verb, again)?;
        Ok(RolledBack { snapshot: rolling.snapshot, safety: rolling.safety, outcome })
    }

    /// The record of a volume that can be rolled back, as far as that says it.
    fn rollback_record(&self, verb: Verb<'_>) -> Result<Record> {
        let record = self.ready(verb)?;
        if record.is_read_only() {
            let cause = "it is read-only, and never changes";
            return Err(verb.error(ErrorKind::InvalidArgument, cause));
        }
        match &record.rolling {
            Some(rolling) if self.is_at_it(verb.name, rolling) => Err(being_rolled(verb, rolling)),
            _ => Ok(record),
        }
    }

    /// Refuses where containers of this host have it.
    fn refuse_in_use_here(&self, verb: Verb<'_>) -> Result<()> {
        let Some(reference) = self.references.get(verb.name) else { return Ok(()) };
        if reference.ids.is_empty() && !self.is_held(verb, &reference)? {
            return Ok(());
        }
        let cause = format!("volume is in use on host {}, which is this one", self.host.name);
        Err(verb.error(ErrorKind::InUse, cause).advise("stop its containers first"))
    }

    fn is_ours(&self, name: &VolumeName, claim: &Claim) -> bool {
        self.references.get(name).is_some_and(|reference| reference.has_made(claim))
    }

    /// Refuses while anybody has it, on any host, by whatever means.
    fn refuse_used_anywhere(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let watchers = self.backend.watchers(&record.location);
        let watchers = watchers.map_err(|error| self.failed(verb, error))?;
        let claim = record.claim.as_ref().or(record.sharers.first());
        // What an earlier attempt's daemon left open is waited for later.
        if claim.is_some() || (!watchers.is_empty() && record.rolling.is_none()) {
            let watchers = watchers.into_iter().map(|watcher| watcher.address).collect();
            return Err(in_use(verb, claim, watchers));
        }
        self.refuse_anothers_use(verb, record)
    }

    /// Refuses while another volume over the same thing is in use.
    fn refuse_anothers_use(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        for (name, stored) in records.iter().filter(|(name, _)| *name != verb.name) {
            let other = stored.entry().record;
            let user = other.claim.as_ref().or(other.sharers.first());
            if let Some(user) = user.filter(|_| is_over(&other.location, &record.location)) {
                let cause =
                    format!("volume {name}, over the same, is in use on host {}", user.host);
                return Err(verb
                    .error(ErrorKind::InUse, cause)
                    .advise("stop its containers there first"));
            }
        }
        Ok(())
    }

    /// Writes down that it begins, where the record is as it was looked at.
    fn mark_rolling(
        &self,
        verb: Verb<'_>,
        seen: &Record,
        snapshot: &SnapshotName,
    ) -> Result<Rolling> {
        let info = self.backend.info(&seen.location).map_err(|error| self.failed(verb, error))?;
        let work = self.work();
        let name = work.since.strftime("before-rollback-%Y%m%dT%H%M%S%.3fZ").to_string();
        let fresh = || Rolling {
            snapshot: snapshot.clone(),
            safety: name.parse().expect("a name"),
            size: info.size,
            work: work.clone(),
        };
        // What was held before all of it stays what can be brought back.
        let again = |cut_off: &Rolling| Rolling {
            snapshot: snapshot.clone(),
            work: work.clone(),
            ..cut_off.clone()
        };
        let rolling = seen.rolling.as_ref().map_or_else(fresh, again);
        let record = self.change(verb, |record| {
            let free = record.claim.is_none()
                && record.sharers.is_empty()
                && record.snapshots.taking.is_none()
                && record.state == RecordState::Ready
                && record.rolling == seen.rolling;
            free.then(|| Record { rolling: Some(rolling.clone()), ..record.clone() })
        })?;
        if record.rolling.as_ref() == Some(&rolling) {
            return Ok(rolling);
        }
        let cause = "somebody has taken it at the same moment";
        Err(verb
            .error(ErrorKind::InUse, cause)
            .advise(format!("see docker ceph who {}", verb.name)))
    }

    /// Takes back a mark of ours with which nothing has changed yet; one that was somebody else's
    /// before stays.
    fn unmark(&self, verb: Verb<'_>, again: bool) -> Result<()> {
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

    fn begin_rolling(&self, verb: Verb<'_>, again: bool) -> Result<LongOutcome> {
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

    /// Goes on with what was cut off, in the background; nothing where somebody is at it.
    pub(super) fn settle_rolling(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        match &record.rolling {
            Some(rolling) if !self.is_at_it(verb.name, rolling) => {
                self.resume_rolling(verb, rolling)
            }
            _ => Ok(()),
        }
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
    fn is_at_it(&self, name: &VolumeName, rolling: &Rolling) -> bool {
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
        let copied = self.copy_back(verb, &record, &rolling, again, task);
        if let Err(error) = copied {
            if !again && error.kind == ErrorKind::InUse {
                self.remove_stored(verb, &record, &rolling.safety)?;
                self.unmark(verb, false)?;
                return self.note_snapshots(verb, &record, |_| {}).and(Err(error));
            }
            return Err(error.advise(format!(
                "nobody can mount the volume until it is whole: it is tried again in a while; \
                 or roll back to what it was: docker ceph snapshot rollback {} {}",
                verb.name, rolling.safety
            )));
        }
        self.finish_rolling(verb, &record, &rolling)
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
            consistency: Consistency::Filesystem,
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
        again: bool,
        task: &TaskGuard,
    ) -> Result<()> {
        let (aside, snapshot) = (self.aside(verb.name), &rolling.snapshot);
        let progress = |done: u64, total: u64| task.report(done, total);
        let order = RollBack { snapshot, aside: &aside, again, progress: &progress };
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
            ours.then(|| Record { rolling: None, size, ..record.clone() })
        })?;
        if after.rolling.is_some() {
            return Err(verb.error(ErrorKind::Unavailable, "another host goes on with it"));
        }
        self.observed().errors.remove(verb.name);
        tracing::info!(volume = %verb.name, snapshot = %rolling.snapshot, "rolled back");
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

/// The snapshot, which has to be whole, and the newer ones, of which none may be protected.
fn choose<'a>(
    verb: Verb<'_>,
    all: &'a [StoredSnapshot],
    snapshot: &SnapshotName,
) -> Result<(&'a StoredSnapshot, &'a [StoredSnapshot])> {
    let at = all.iter().position(|of| of.name == snapshot.as_str()).ok_or_else(|| {
        verb.error(ErrorKind::NotFound, format!("there is no snapshot {snapshot}"))
            .advise(format!("docker ceph snapshot ls {} lists them", verb.name))
    })?;
    let refused = |cause: String| verb.error(ErrorKind::InvalidArgument, cause);
    if !is_whole(&all[at]) {
        return Err(refused(format!("snapshot {snapshot} was cut off, and is not whole")));
    }
    let newer = &all[at + 1..];
    if let Some(protected) = newer.iter().find(|of| is_protected(of)) {
        let (name, volume) = (&protected.name, verb.name);
        return Err(refused(format!("snapshot {name} is newer than {snapshot}, and protected"))
            .advise(format!(
                "lift that with: docker ceph snapshot unprotect {volume} {name}; or roll back to it"
            )));
    }
    Ok((&all[at], newer))
}

fn is_protected(of: &StoredSnapshot) -> bool {
    of.note.as_deref().and_then(SnapshotNote::read).is_some_and(|note| note.protected)
}

fn being_rolled(verb: Verb<'_>, rolling: &Rolling) -> VolumeError {
    let Rolling { snapshot, work, .. } = rolling;
    let cause = format!("volume is being rolled back to its snapshot {snapshot} by {}", work.host);
    verb.error(ErrorKind::Unavailable, cause).advise(format!(
        "try again when that is done; docker ceph inspect {} shows on that host how far it is",
        verb.name
    ))
}

fn in_use(verb: Verb<'_>, claim: Option<&Claim>, watchers: Vec<String>) -> VolumeError {
    let held = Held { claim: claim.cloned(), watchers };
    verb.error(ErrorKind::InUse, held.to_string()).advise(format!(
        "stop its containers there first; what a dead host left: docker ceph release {} --fence",
        verb.name
    ))
}

/// Is a volume at one place a way to what lies at the other?
fn is_over(one: &Place, other: &Place) -> bool {
    let subvolume = |place: &Place| match place {
        Place::Folder(FolderSpec::Subvolume(of) | FolderSpec::Within { subvolume: of, .. }) => {
            Some(of.clone())
        }
        Place::Folder(FolderSpec::Path(_)) | Place::Image(_) => None,
    };
    one == other || (subvolume(one).is_some() && subvolume(one) == subvolume(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Location, SubvolumeSpec};

    fn snapshot(name: &str, protected: bool, whole: bool) -> StoredSnapshot {
        let mut note =
            SnapshotNote::new(Maker::Hand, Consistency::Crash, Timestamp::UNIX_EPOCH, "a".into());
        (note.protected, note.id) = (protected, whole.then(|| name.to_owned()));
        StoredSnapshot {
            id: name.to_owned(),
            name: name.to_owned(),
            created: None,
            size: None,
            note: Some(note.text()),
        }
    }

    #[test]
    fn only_what_is_whole_is_rolled_back_to_and_never_past_a_protected_one() {
        let (name, deadline) = ("v".parse().expect("a name"), Deadline::after(Duration::ZERO));
        let verb = Verb::new("rollback", &name, &deadline);
        let all = [
            snapshot("one", true, true),
            snapshot("two", false, true),
            snapshot("three", true, true),
            snapshot("four", false, false),
            snapshot("five", false, true),
        ];
        let choose = |name: &str| choose(verb, &all, &name.parse().expect("a name"));
        let refused = |name: &str| choose(name).expect_err(name).to_string();
        assert_eq!(choose("three").expect("not past itself").1.len(), 2);
        assert_eq!(choose("five").expect("the newest").1.len(), 0);
        for name in ["one", "two"] {
            let said = refused(name);
            assert!(said.contains("unprotect v three"), "{said}");
        }
        assert!(refused("four").contains("not whole"));
        assert!(refused("none").contains("snapshot ls v"));
    }

    #[test]
    fn a_volume_is_over_another_by_the_same_image_or_subvolume() {
        let image = |name: &str| Place::Image(Location::new("rbd", "docker").image(name));
        let subvolume = |name: &str| SubvolumeSpec {
            fs: "cephfs".to_owned(),
            group: "docker".to_owned(),
            subvolume: name.to_owned(),
        };
        let whole = |name| Place::Folder(FolderSpec::Subvolume(subvolume(name)));
        let within = |name, folder: &str| {
            let (subvolume, folder) = (subvolume(name), folder.to_owned());
            Place::Folder(FolderSpec::Within { subvolume, folder })
        };
        assert!(is_over(&image("a"), &image("a")) && !is_over(&image("a"), &image("b")));
        assert!(is_over(&within("a", "x"), &whole("a")) && is_over(&whole("a"), &whole("a")));
        assert!(!is_over(&within("a", "x"), &whole("b")) && !is_over(&image("a"), &whole("a")));
    }
}

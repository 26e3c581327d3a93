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
//! * What is done once the mark stands is in `rolling`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::claim::Held;
use super::rolling::being_rolled;
use super::taken::is_whole;
use super::{ErrorKind, LongOutcome, Result, Service, Verb, VolumeError};
use crate::backend::{Provisioning, Snapshotting, StoredSnapshot};
use crate::deadline::Deadline;
use crate::volume::{
    ByteSize, Claim, FolderSpec, Place, Record, RecordState, Rolling, SnapshotName, SnapshotNote,
    VolumeName,
};

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
        self.settle_alone(verb, &record)?;
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
        let able = self.backend.can_roll_back(&record.location);
        able.map_err(|error| self.failed(verb, error))?;
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

fn in_use(verb: Verb<'_>, claim: Option<&Claim>, watchers: Vec<String>) -> VolumeError {
    let held = Held { claim: claim.cloned(), watchers };
    verb.error(ErrorKind::InUse, held.to_string()).advise(format!(
        "stop its containers there first; what a dead host left: docker ceph release {} --fence",
        verb.name
    ))
}

/// Is a volume at one place a way to what lies at the other?
pub(super) fn is_over(one: &Place, other: &Place) -> bool {
    let subvolume = |place: &Place| match place {
        Place::Folder(FolderSpec::Subvolume(of) | FolderSpec::Within { subvolume: of, .. }) => {
            Some(of.clone())
        }
        // What a snapshot shows stays as it is.
        Place::Folder(FolderSpec::Path(_) | FolderSpec::Snapshot { .. }) | Place::Image(_) => None,
    };
    one == other || (subvolume(one).is_some() && subvolume(one) == subvolume(other))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::volume::{Consistency, Location, Maker, SubvolumeSpec};

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

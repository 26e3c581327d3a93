//! Taking snapshots: of one volume, or of several at one point in time.
//!
//! ```text
//!  record: `taking` ─▶ hosts: hooks ─▶ all stand still ─▶ note ─▶ snapshot ─▶ all go on
//!    ─▶ nothing moved, and all stood still? ─┬─ yes: note with the snapshot's ID ─▶ record
//!                                            └─ no: the snapshot is removed ─▶ record
//! ```
//!
//! * A snapshot is whole where its note names its ID. One whose note does not was cut off, and is
//!   removed by whoever meets the record's `taking` when nobody can be at it any more.
//! * One snapshot of a volume is made at a time, by the compare-and-set of the record. Who makes one
//!   holds a share in the daemons' lease meanwhile; one that does not any more is gone, and what it
//!   began is taken over. Should it come back, it finds its `taking` gone from the record, and
//!   touches nothing any more.
//! * Where nobody has the volume mounted, nobody has to stand still; where that changes before the
//!   snapshot is whole, it is made again.

use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::locks::NameGuard;
use super::still::{Order, STEP, Stage, Step};
use super::{ErrorKind, Result, Service, SnapshotOrder, SnapshotView, Verb, VolumeError};
use crate::backend::Snapshotting;
use crate::deadline::Deadline;
use crate::volume::{
    Claim, Consistency, Record, Rolling, SnapshotName, SnapshotNote, Taking, VolumeName,
};

/// How often a snapshot is begun anew because the volume was mounted or unmounted meanwhile.
const ATTEMPTS: u32 = 3;

/// A volume of which a snapshot is made.
struct Part<'a> {
    name: &'a VolumeName,
    record: Record,
    /// What the record says of it, for as long as it is this daemon's to make.
    taking: Taking,
    /// No other snapshot of it is made by this daemon meanwhile.
    _alone: NameGuard<'a>,
}

/// A host that has one of the volumes.
struct Host {
    claim: Claim,
    order: Order,
    /// Others have the volume as well: that this one is gone does not matter to them.
    shares: bool,
    /// It gives no answer.
    absent: bool,
}

/// Why an attempt came to nothing.
enum Missed {
    /// The volume was mounted or unmounted meanwhile.
    Moved,
    Failed(VolumeError),
}

impl From<VolumeError> for Missed {
    fn from(error: VolumeError) -> Self {
        Self::Failed(error)
    }
}

impl Service {
    /// Takes a snapshot of each of the volumes, all at one point in time: they stand still together.
    ///
    /// # Errors
    /// `AlreadyExists` where one has a snapshot of that name; `InUse` where another one is being
    /// made; `Unavailable` where a host that has one of them does not answer, or could not hold it
    /// still; `Internal` where a hook failed. Nothing is left of it then.
    pub fn snapshot(
        &self,
        volumes: &[VolumeName],
        order: &SnapshotOrder,
        deadline: &Deadline,
    ) -> Result<Vec<SnapshotView>> {
        let mut parts = Vec::new();
        for name in volumes {
            let begun = self.begin_taking(Verb::new("snapshot", name, deadline), &order.name);
            match begun {
                Ok(part) => parts.push(part),
                Err(error) => {
                    self.abandon(&parts, order);
                    return Err(error);
                }
            }
        }
        let order = &SnapshotOrder { consistency: Some(promised(order, &parts)), ..order.clone() };
        if let Err(error) = refuse_apart(&parts, order, deadline) {
            self.abandon(&parts, order);
            return Err(error);
        }
        let mut taken = Err(Missed::Moved);
        for _ in 0..ATTEMPTS {
            taken = self.attempt(&mut parts, order, deadline);
            if !matches!(taken, Err(Missed::Moved)) || deadline.is_over() {
                break;
            }
        }
        taken.map_err(|missed| {
            self.abandon(&parts, order);
            match missed {
                Missed::Failed(error) => error,
                Missed::Moved => VolumeError::new(
                    "snapshot",
                    parts[0].name,
                    ErrorKind::Unavailable,
                    "it was mounted and unmounted all the time",
                )
                .advise("try again"),
            }
        })
    }

    fn begin_taking<'a>(&'a self, verb: Verb<'a>, snapshot: &SnapshotName) -> Result<Part<'a>> {
        let busy = || verb.error(ErrorKind::InUse, "another snapshot of it is being made");
        let alone = self.takes.try_lock(verb.name).ok_or_else(busy)?;
        self.await_cluster(verb)?;
        let record = self.ready(verb)?;
        self.settle_taking(verb, &record)?;
        // The share in the lease stands from here on.
        self.cluster_time(verb)?;
        // The one that a rollback makes first is its own.
        if record.rolling.as_ref().is_none_or(|rolling| rolling.safety != *snapshot) {
            self.refuse_rolling(verb, &record)?;
        }
        if record.is_read_only() {
            return Err(
                verb.error(ErrorKind::InvalidArgument, "it is read-only, and never changes")
            );
        }
        let there = self.stored_snapshots(verb, &record)?;
        if there.iter().any(|other| other.name == snapshot.as_str()) {
            let cause = format!("there is a snapshot {snapshot} already");
            return Err(verb.error(ErrorKind::AlreadyExists, cause).advise("choose another name"));
        }
        let taking = Taking { snapshot: snapshot.clone(), work: self.work() };
        let record = self.change(verb, |record| {
            let mut record = record.clone();
            let rolled = |rolling: &Rolling| rolling.safety != *snapshot;
            let free =
                record.snapshots.taking.is_none() && !record.rolling.as_ref().is_some_and(rolled);
            record.snapshots.taking = Some(taking.clone());
            free.then_some(record)
        })?;
        if record.snapshots.taking.as_ref() == Some(&taking) {
            Ok(Part { name: verb.name, record, taking, _alone: alone })
        } else {
            Err(busy())
        }
    }

    /// One attempt at all of them.
    fn attempt(
        &self,
        parts: &mut [Part<'_>],
        order: &SnapshotOrder,
        deadline: &Deadline,
    ) -> std::result::Result<Vec<SnapshotView>, Missed> {
        let mut hosts = self.hosts_of(parts, order);
        let prepared = self.prepare(&mut hosts, deadline);
        let made = prepared.and_then(|()| self.make_while_still(&hosts, parts, order, deadline));
        let stood = self.all_go_on(&hosts);
        let consistency = made?;
        let longest = stood?;
        self.refuse_moved(parts, order, deadline)?;
        let finish = |part: &Part<'_>| {
            self.finish_taking(part, order, consistency, longest, deadline).map_err(Missed::Failed)
        };
        parts.iter().map(finish).collect()
    }

    /// Who has to hold the volumes still.
    fn hosts_of(&self, parts: &[Part<'_>], order: &SnapshotOrder) -> Vec<Host> {
        if order.consistency() == Consistency::Crash {
            return Vec::new();
        }
        let token = format!("{}.{}", self.host.boot_id, Timestamp::now().as_nanosecond());
        let hosts_of = |part: &Part<'_>| -> Vec<Host> {
            let Record { claim, sharers, .. } = part.record.clone();
            let order = Order {
                volume: part.name.clone(),
                token: token.clone(),
                snapshot: order.name.clone(),
                consistency: order.consistency(),
                together: parts.len() > 1,
            };
            let host =
                |(claim, shares)| Host { claim, order: order.clone(), shares, absent: false };
            let all = claim.map(|claim| (claim, false)).into_iter();
            all.chain(sharers.into_iter().map(|claim| (claim, true))).map(host).collect()
        };
        parts.iter().flat_map(hosts_of).collect()
    }

    /// Has the hooks run on all hosts.
    fn prepare(&self, hosts: &mut [Host], deadline: &Deadline) -> std::result::Result<(), Missed> {
        let begun = self.ask_all(hosts, Step::Prepare);
        for (host, stage) in hosts.iter_mut().zip(begun) {
            // One that shares the volume and is gone will never say so, and must not keep the
            // others from a snapshot.
            host.absent = stage.is_none() && host.shares;
            host.arrived(stage)?;
        }
        loop {
            let mut waiting = false;
            for (host, stage) in hosts.iter().zip(self.ask_all(hosts, Step::Look)) {
                waiting |= host.arrived(stage)? == Stage::Preparing;
            }
            if !waiting {
                return Ok(());
            }
            // Each look has waited for a moment.
            if deadline.is_over() {
                let host = &hosts[0];
                return Err(Missed::Failed(host.error("the hooks do not end in time")));
            }
        }
    }

    /// Has all hosts stand still, and makes the snapshots; what they promise.
    fn make_while_still(
        &self,
        hosts: &[Host],
        parts: &[Part<'_>],
        order: &SnapshotOrder,
        deadline: &Deadline,
    ) -> std::result::Result<Consistency, Missed> {
        for (host, stage) in hosts.iter().zip(self.ask_all(hosts, Step::Freeze)) {
            let stage = host.arrived(stage)?;
            if stage != Stage::Still && !host.absent {
                return Err(Missed::Failed(host.error("it does not stand still in time")));
            }
        }
        let absent = hosts.iter().any(|host| host.absent);
        let consistency = if absent { Consistency::Crash } else { order.consistency() };
        let note = self.note(order, consistency);
        let text = note.text();
        let make = |part: &Part<'_>| {
            let made = self.backend.snapshot(&part.record.location, &order.name, &text);
            made.map_err(|error| self.failed(Verb::new("snapshot", part.name, deadline), error))
        };
        let made: Vec<Result<()>> = thread::scope(|scope| {
            let all: Vec<_> = parts.iter().map(|part| scope.spawn(move || make(part))).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        made.into_iter().collect::<Result<()>>()?;
        Ok(consistency)
    }

    /// Lets all hosts go on, whatever has happened; how long the longest of them stood still.
    fn all_go_on(&self, hosts: &[Host]) -> std::result::Result<u64, Missed> {
        let mut longest = 0;
        let mut first = None;
        for (host, stage) in hosts.iter().zip(self.ask_all(hosts, Step::Thaw)) {
            match host.arrived(stage) {
                Ok(Stage::Done { stood_still_ms }) => longest = longest.max(stood_still_ms),
                Ok(_) if host.absent => {}
                Ok(_) => {
                    first = first.or(Some(Missed::Failed(host.error("it does not go on in time"))));
                }
                Err(missed) => first = first.or(Some(missed)),
            }
        }
        first.map_or(Ok(longest), Err)
    }

    /// Asks all hosts at once.
    fn ask_all(&self, hosts: &[Host], step: Step) -> Vec<Option<Stage>> {
        let ask = |host: &Host| match host.absent {
            true => None,
            false => self.ask_to_hold(&host.claim, &host.order, step),
        };
        thread::scope(|scope| {
            let all: Vec<_> = hosts.iter().map(|host| scope.spawn(move || ask(host))).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        })
    }

    /// The host itself, or by a message; `None` where nobody has it there.
    fn ask_to_hold(&self, claim: &Claim, order: &Order, step: Step) -> Option<Stage> {
        let here = self.references.get(&order.volume).is_some_and(|of| of.has_made(claim));
        match here || self.has_session(order) {
            true => self.step(order, step),
            false => self.ask_for_step(&claim.boot_id, order, step, STEP + Duration::from_secs(5)),
        }
    }

    /// Whether the volumes are where they were at the beginning: who mounts one meanwhile did not
    /// stand still.
    fn refuse_moved(
        &self,
        parts: &mut [Part<'_>],
        order: &SnapshotOrder,
        deadline: &Deadline,
    ) -> std::result::Result<(), Missed> {
        let mut moved = false;
        for part in parts.iter_mut() {
            let verb = Verb::new("snapshot", part.name, deadline);
            let now = self.entry(verb)?.record;
            if now.snapshots.taking.as_ref() != Some(&part.taking) {
                return Err(Missed::Failed(given_up(verb)));
            }
            let who = |of: &Record| (of.claim.clone(), of.sharers.clone());
            moved |= who(&now) != who(&part.record);
            part.record = now;
        }
        if moved && order.consistency() != Consistency::Crash {
            for part in parts.iter() {
                let verb = Verb::new("snapshot", part.name, deadline);
                self.remove_stored(verb, &part.record, &order.name)?;
            }
            return Err(Missed::Moved);
        }
        Ok(())
    }

    fn note(&self, order: &SnapshotOrder, consistency: Consistency) -> SnapshotNote {
        let host = self.host.name.clone();
        SnapshotNote {
            group: order.group.clone(),
            labels: order.labels.clone(),
            ..SnapshotNote::new(order.by.clone(), consistency, Timestamp::now(), host)
        }
    }

    /// Says, beside the snapshot and in the record, that it is whole.
    fn finish_taking(
        &self,
        part: &Part<'_>,
        order: &SnapshotOrder,
        consistency: Consistency,
        stood_still_ms: u64,
        deadline: &Deadline,
    ) -> Result<SnapshotView> {
        let verb = Verb::new("snapshot", part.name, deadline);
        let mut there = self.stored_snapshots(verb, &part.record)?;
        let stored = there.iter_mut().find(|of| of.name == order.name.as_str());
        let stored = stored.ok_or_else(|| verb.error(ErrorKind::Internal, "it is gone already"))?;
        let mut note = self.note(order, consistency);
        note.id = Some(stored.id.clone());
        note.stood_still_ms = (order.consistency() != Consistency::Crash).then_some(stood_still_ms);
        let text = note.text();
        let noted = self.backend.note_snapshot(&part.record.location, &order.name, &text);
        noted.map_err(|error| self.failed(verb, error))?;
        stored.note = Some(text);
        let view = SnapshotView::of(stored);
        let ended = self.end_taking(verb, &part.taking, order.served(), &there)?;
        if ended { Ok(view) } else { Err(given_up(verb)) }
    }

    /// Removes what there is of snapshots that came to nothing.
    fn abandon(&self, parts: &[Part<'_>], order: &SnapshotOrder) {
        for part in parts {
            let late = Deadline::after(STEP);
            if let Err(undo) =
                self.abandon_one(Verb::new("snapshot", part.name, &late), part, order)
            {
                tracing::warn!(volume = %part.name, %undo, "a snapshot is left to be removed later");
            }
        }
    }

    fn abandon_one(&self, verb: Verb<'_>, part: &Part<'_>, order: &SnapshotOrder) -> Result<()> {
        let record = self.entry(verb)?.record;
        if record.snapshots.taking.as_ref() != Some(&part.taking) {
            // What has that name by now is another's.
            return Ok(());
        }
        self.remove_stored(verb, &record, &order.name)?;
        let there = self.stored_snapshots(verb, &record)?;
        self.end_taking(verb, &part.taking, None, &there).map(drop)
    }
}

impl Host {
    /// The stage, unless it is one from which nothing goes on.
    fn arrived(&self, stage: Option<Stage>) -> std::result::Result<Stage, Missed> {
        match stage {
            None if self.absent => Ok(Stage::Ready),
            None => Err(Missed::Failed(
                self.error("it does not answer")
                    .advise("start its daemon, or take what the disk holds: --consistency crash"),
            )),
            Some(Stage::Gone) => Err(Missed::Moved),
            Some(Stage::Failed(why)) => Err(Missed::Failed(self.error(&why))),
            Some(stage) => Ok(stage),
        }
    }

    fn error(&self, why: &str) -> VolumeError {
        let cause = format!("host {}: {why}", self.claim.host);
        VolumeError::new("snapshot", &self.order.volume, ErrorKind::Unavailable, cause)
    }
}

fn given_up(verb: Verb<'_>) -> VolumeError {
    let cause = "it took so long that another host has taken it for given up";
    verb.error(ErrorKind::Unavailable, cause).advise("try again")
}

/// Volumes that are written meanwhile are not of one point in time.
fn refuse_apart(parts: &[Part<'_>], order: &SnapshotOrder, deadline: &Deadline) -> Result<()> {
    let is_used = |part: &&Part<'_>| part.record.claim.is_some() || !part.record.sharers.is_empty();
    match parts.iter().find(is_used) {
        Some(part) if parts.len() > 1 && order.consistency() == Consistency::Crash => {
            let cause = "it is written, and nothing stands still for consistency crash: the volumes \
                         would not be of one point in time";
            let verb = Verb::new("snapshot", part.name, deadline);
            Err(verb
                .error(ErrorKind::InvalidArgument, cause)
                .advise("leave --consistency crash out, or take the snapshots one after the other"))
        }
        _ => Ok(()),
    }
}

/// What a snapshot of these volumes is to promise.
fn promised(order: &SnapshotOrder, parts: &[Part<'_>]) -> Consistency {
    let usual = |part: &Part<'_>| part.record.snapshot_options().ok().map(|of| of.consistency);
    order.consistency.or_else(|| parts.iter().filter_map(usual).max()).unwrap_or_default()
}

//! Bringing state, kernel and catalog into agreement: once after the start, then every few seconds.
//!
//! The engine forgets Unmounts, daemons and hosts die in the middle, processes behind devices are
//! killed. Nothing of that may need a person. The reconciler takes each volume's lock only if it
//! is free, so it never delays a request, and what it cannot do now it does the next time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::references::{Phase, Reference};
use super::{ErrorKind, Service, Verb};
use crate::audit::audit;
use crate::backend::{Attached, Attaching, Evidence, Provisioning, Trash};
use crate::catalog::Entry;
use crate::deadline::Deadline;
use crate::volume::{Description, Record, RecordState, VolumeName};

/// How often half-done records are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// How long one file system may take to go on.
const THAW: Duration = Duration::from_secs(5);

/// How often the trash is looked through.
const PURGE: Duration = Duration::from_secs(3600);

/// What is to be done about a reference; decided apart from doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Nothing.
    Keep,
    /// Its device or mount is gone from under its users: say so, and wait for them to go.
    Report,
    /// Nobody uses it, or it was never finished.
    TakeDown,
}

/// What is seen of this host and the cluster in one look around.
struct Seen {
    evidence: Evidence,
    fenced: Vec<String>,
}

/// What was observed of a reference.
#[derive(Debug, Clone, Copy)]
struct Observation {
    phase: Phase,
    whole: bool,
    held: bool,
    ids: usize,
    /// Since a kernel user was last seen, or the daemon started.
    unbacked: Duration,
}

fn decide(seen: Observation, grace: Duration) -> Action {
    match seen {
        Observation { phase: Phase::Attaching | Phase::Detaching, .. } => Action::TakeDown,
        Observation { whole: true, held: true, .. } => Action::Keep,
        Observation { whole: true, held: false, ids: 0, .. } => Action::TakeDown,
        Observation { whole: true, held: false, unbacked, .. } if unbacked > grace => {
            Action::TakeDown
        }
        Observation { whole: true, .. } => Action::Keep,
        Observation { whole: false, held: true, .. } => Action::Report,
        Observation { whole: false, held: false, .. } => Action::TakeDown,
    }
}

impl Service {
    /// Drops references that no kernel user backs, takes down what is over or broken, collects what
    /// leaked, finishes half-done records, and refreshes what `get` tells.
    pub fn reconcile(&self, deadline: &Deadline) {
        self.known.probe();
        self.thaw_left_over(deadline);
        match self.backend.evidence() {
            Ok(evidence) => {
                let seen = Seen { evidence, fenced: self.fenced() };
                for reference in self.references.all() {
                    self.reconcile_reference(&reference.name, &seen, deadline);
                }
                for attached in &seen.evidence.attached {
                    self.collect(attached, &seen.evidence, deadline);
                }
            }
            Err(error) => tracing::warn!(%error, "this host's mounts cannot be read"),
        }
        if !self.known.is_away() {
            self.renew_flattens(deadline);
            self.refresh_rooms();
            self.sweep(deadline);
            self.purge(deadline);
            self.forget_own_fences();
        }
        self.keep_known();
    }

    /// Lets go on what an earlier daemon held still for a snapshot, and the process too that was to
    /// let it go. Once, at the start: later it would let go what is held still now.
    fn thaw_left_over(&self, deadline: &Deadline) {
        if self.thawed.swap(true, Ordering::Relaxed) {
            return;
        }
        for reference in self.references.all() {
            let is_device =
                reference.attachment.as_ref().is_some_and(|at| at.attached.device().is_some());
            if !is_device || reference.phase != Phase::Mounted {
                continue;
            }
            match self.hooks.thaw_left_over(&reference.target, &deadline.at_most(THAW)) {
                Ok(false) => {}
                Ok(true) => tracing::warn!(volume = %reference.name, "stood still: goes on again"),
                Err(error) => tracing::warn!(volume = %reference.name, %error, "not thawed"),
            }
        }
    }

    fn reconcile_reference(&self, name: &VolumeName, seen: &Seen, deadline: &Deadline) {
        let Some(_guard) = self.locks.try_lock(name) else { return };
        let Some(reference) = self.references.get(name) else { return };
        let verb = Verb::new("reconcile", name, deadline);
        let observed = match self.observe(verb, &reference, &seen.evidence) {
            Ok(observed) => observed,
            Err(error) => return tracing::warn!(volume = %name, %error, "volume not looked at"),
        };
        match decide(observed, self.settings.reference_grace) {
            Action::Keep => self.look_after(verb, &reference, &seen.fenced),
            Action::Report => self.report(&reference, "what carries it is gone from under them"),
            Action::TakeDown => {
                audit!(volume = %name, ?observed, "taking down what nobody uses");
                if let Err(error) = self.take_down(verb, reference) {
                    tracing::warn!(volume = %name, %error, "not taken down; tried again later");
                    self.observed().errors.insert(name.clone(), error.to_string());
                }
            }
        }
    }

    fn observe(
        &self,
        verb: Verb<'_>,
        reference: &Reference,
        evidence: &Evidence,
    ) -> super::Result<Observation> {
        let held = self.is_held(verb, reference)?;
        let now = Instant::now();
        let mut observed = self.observed();
        let backed = observed.backed.entry(reference.name.clone()).or_insert(now);
        if held {
            *backed = now;
        }
        let unbacked = now.duration_since(*backed);
        drop(observed);
        let attached = reference.attachment.as_ref().map(|attachment| &attachment.attached);
        // The evidence may be from before this volume's last mount, so a doubt is looked into.
        let mut whole = attached.is_some_and(|of| evidence.is_mounted(of, &reference.target));
        if !whole && reference.phase == Phase::Mounted {
            let fresh = self.backend.evidence().map_err(|error| self.failed(verb, error))?;
            whole = attached.is_some_and(|of| fresh.is_mounted(of, &reference.target));
        }
        let (phase, ids) = (reference.phase, reference.ids.len());
        Ok(Observation { phase, whole, held, ids, unbacked })
    }

    /// Says that containers have a volume that does not serve them.
    fn report(&self, reference: &Reference, why: &str) {
        let name = &reference.name;
        let text = format!("{why}; restart its containers");
        let mut observed = self.observed();
        let known = observed.broken.contains_key(name);
        observed.broken.entry(name.clone()).or_insert(text);
        drop(observed);
        if !known {
            tracing::error!(volume = %name, why, "volume is broken, and it is in use");
        }
    }

    /// What is mounted and in use: does it serve, and how much does it hold?
    fn look_after(&self, verb: Verb<'_>, reference: &Reference, fenced: &[String]) {
        if !self.serves(verb, reference, fenced) {
            return self
                .report(reference, "its mount is stale: the cluster has dropped its client");
        }
        let served_again = reference.shared && self.observed().broken.remove(verb.name).is_some();
        if served_again {
            tracing::info!(volume = %verb.name, "its mount serves again");
        }
        self.refresh_usage(reference, verb.deadline);
        if !self.known.is_away() {
            self.look_for_old_files(reference);
        }
    }

    fn refresh_usage(&self, reference: &Reference, deadline: &Deadline) {
        let brief = deadline.at_most(Duration::from_secs(5));
        match self.backend.usage(&reference.location, &reference.target, &brief) {
            Ok(usage) => drop(self.observed().usage.insert(reference.name.clone(), usage)),
            Err(error) => tracing::debug!(volume = %reference.name, %error, "use not read"),
        }
    }

    /// Gives up what is attached and ours, belongs to no reference, and is held by nobody.
    fn collect(&self, attached: &Attached, evidence: &Evidence, deadline: &Deadline) {
        if self.references.all().iter().any(|reference| attached.is_of(&reference.location)) {
            return;
        }
        let targets = evidence.targets_below(attached, &self.settings.mount_root);
        if targets.iter().any(|target| self.is_worked_on(target)) {
            return;
        }
        let nowhere = self.settings.mount_root.clone();
        let target = targets.first().unwrap_or(&nowhere);
        match self.backend.holders(attached, target) {
            Ok(holders) if holders.is_empty() => {}
            _ => return,
        }
        tracing::info!(%attached, "collecting");
        let brief = deadline.at_most(Duration::from_secs(20));
        let place = attached.place();
        let mut targets = targets.iter();
        let unmounted = targets.try_for_each(|at| self.backend.unmount(&place, at, &brief));
        if let Err(error) = unmounted.and_then(|()| self.backend.detach(attached, &brief)) {
            tracing::warn!(%attached, %error, "not collected");
        }
    }

    fn refresh_rooms(&self) {
        let Ok(records) = self.known.list() else { return };
        let pools: BTreeSet<&str> =
            records.values().map(|stored| &*stored.pool).filter(|pool| !pool.is_empty()).collect();
        for pool in pools {
            match self.backend.room(pool) {
                Ok(room) => drop(self.observed().rooms.insert(pool.to_owned(), room)),
                Err(error) => tracing::debug!(pool, %error, "room in the pool not read"),
            }
        }
    }

    /// `Get` has told the engine of it, so it is finished; undone only where that cannot be.
    pub(super) fn settle_create(&self, verb: Verb<'_>, entry: &Entry) -> super::Result<()> {
        match self.take_over_create(verb, entry) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::Unavailable => Err(error),
            Err(_) => self.take_over_undo(verb, &self.entry(verb)?),
        }
    }

    /// Finishes what a dead daemon left half-created or half-removed, wherever it ran.
    fn sweep(&self, deadline: &Deadline) {
        if !is_due(&mut self.observed().swept, SWEEP) {
            return;
        }
        let Ok(records) = self.known.list() else { return };
        for (name, stored) in records.iter() {
            let cut_off = stored.taking || stored.rolling || stored.flatten;
            if stored.state == RecordState::Ready && !cut_off {
                continue;
            }
            let verb = Verb::new("recover", name, deadline);
            let Some(done) = self.clear(verb, &stored.entry()) else { continue };
            match done {
                Ok(()) => audit!(volume = %name, "half-done record cleared"),
                Err(error) => tracing::info!(volume = %name, %error, "half-done record left"),
            }
        }
    }

    /// Finishes one of them; `None` where another verb is at the volume. What was begun of a snapshot
    /// has a lock of its own, and does not wait for the next time.
    fn clear(&self, verb: Verb<'_>, entry: &Entry) -> Option<super::Result<()>> {
        let record = &entry.record;
        let Some(_guard) = self.locks.try_lock(verb.name) else {
            let is_ready = record.state == RecordState::Ready && record.rolling.is_none();
            let is_taken = is_ready && record.snapshots.taking.is_some();
            return is_taken.then(|| self.settle_alone(verb, record));
        };
        match record.state {
            RecordState::Ready => Some(self.settle_ready(verb, record)),
            RecordState::Removing => Some(self.take_over_remove(verb, entry)),
            RecordState::Creating if self.is_copying(verb.name, record) => None,
            RecordState::Creating => Some(self.settle_create(verb, entry)),
        }
    }

    /// What is left to do for a volume that can be used.
    fn settle_ready(&self, verb: Verb<'_>, record: &Record) -> super::Result<()> {
        self.refuse_rolling(verb, record)?;
        self.settle_alone(verb, record)?;
        self.sweep_flatten(verb, record)
    }

    /// Deletes removed volumes of ours whose time in the trash is over.
    fn purge(&self, deadline: &Deadline) {
        if !is_due(&mut self.observed().purged, PURGE) {
            return;
        }
        let Ok(trashed) = self.trashed("purge trash", deadline) else { return };
        let over = trashed.into_iter().filter(|item| item.kept_until < Timestamp::now());
        for item in over {
            let text = self.backend.trash_description(&item).ok().flatten();
            let Some(ours) = text.and_then(|text| Description::read(&text)) else { continue };
            match self.backend.purge(&item) {
                Ok(()) => {
                    audit!(was = %item.location, id = item.id, "deleted from the trash: its time is over");
                    if let Some(origin) = &ours.record.origin {
                        self.drop_implicit(Verb::new("purge", &ours.name, deadline), origin);
                    }
                }
                Err(error) => tracing::warn!(was = %item.location, %error, "trash: not deleted"),
            }
        }
    }
}

fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_a_reference() {
        let grace = Duration::from_secs(150);
        let mounted = Observation {
            phase: Phase::Mounted,
            whole: true,
            held: true,
            ids: 1,
            unbacked: Duration::ZERO,
        };
        let late = Duration::from_secs(151);
        for (seen, expected) in [
            (mounted, Action::Keep),
            (Observation { ids: 0, ..mounted }, Action::Keep),
            (Observation { held: false, ..mounted }, Action::Keep),
            (Observation { held: false, ids: 0, ..mounted }, Action::TakeDown),
            (Observation { held: false, unbacked: late, ..mounted }, Action::TakeDown),
            (Observation { whole: false, ..mounted }, Action::Report),
            (Observation { whole: false, held: false, ..mounted }, Action::TakeDown),
            (Observation { phase: Phase::Attaching, ..mounted }, Action::TakeDown),
            (Observation { phase: Phase::Detaching, held: false, ..mounted }, Action::TakeDown),
        ] {
            assert_eq!(decide(seen, grace), expected, "{seen:?}");
        }
    }
}

//! Which volume has to be looked at when.
//!
//! Of five thousand volumes with a schedule, one look a second must not touch each. So the next due
//! times are sorted, and only what changed in the catalog, or is due, is read and parsed. Nothing is
//! promised here: what is due is decided anew, on the record as it stands then.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::due_now;
use crate::catalog::{Records, Stored};
use crate::volume::{RecordState, VolumeName};

/// A clock that was put back by more than this makes all that was reckoned by it void.
const PUT_BACK: SignedDuration = SignedDuration::from_secs(2);

/// The longest pause after a failure.
const LONGEST_PAUSE: u32 = 300;

/// Volumes by the time when they are to be looked at next.
#[derive(Debug, Default)]
pub(super) struct Index {
    records: Arc<Records>,
    items: HashMap<VolumeName, Item>,
    wakes: BTreeSet<(Timestamp, VolumeName)>,
    /// Something was put back, so that all is looked through.
    stale: bool,
    last: Option<Timestamp>,
}

#[derive(Debug)]
struct Item {
    /// What its time was reckoned from; `None`: it has to be reckoned anew.
    stored: Option<Arc<Stored>>,
    wake: Option<Timestamp>,
    /// After a failure, not before this.
    not_before: Option<Timestamp>,
    failures: u32,
    /// It is being served.
    busy: bool,
}

/// How a look at a volume ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// What was due is done, or nothing was: its record says when to look again.
    Settled,
    /// It is not this one's turn before then.
    At(Timestamp),
    /// It did not work.
    Failed,
}

impl Index {
    /// Is there anything to look after in these records?
    pub(super) fn is_needed(&mut self, records: &Arc<Records>) -> bool {
        if Arc::ptr_eq(records, &self.records) && !self.stale {
            return !self.items.is_empty();
        }
        if records.values().any(|stored| is_scheduled(stored)) {
            return true;
        }
        *self = Self { records: Arc::clone(records), ..Self::default() };
        false
    }

    /// Takes note of what changed in the catalog, and of the clock.
    pub(super) fn refresh(&mut self, records: Arc<Records>, now: Timestamp) {
        let put_back = self.last.is_some_and(|last| now.duration_until(last) > PUT_BACK);
        self.last = Some(now);
        if put_back {
            for item in self.items.values_mut() {
                (item.stored, item.not_before) = (None, None);
            }
        } else if Arc::ptr_eq(&records, &self.records) && !self.stale {
            return;
        }
        self.stale = false;
        self.records = Arc::clone(&records);
        self.forget_unscheduled(&records);
        for (name, stored) in records.iter().filter(|(_, stored)| is_scheduled(stored)) {
            self.reckon(name, stored, now);
        }
    }

    /// Those whose time has come, `most` at most; they are busy from now on.
    pub(super) fn take_due(&mut self, now: Timestamp, most: usize) -> Vec<VolumeName> {
        let due = self.wakes.iter().take_while(|(wake, _)| *wake <= now).take(most);
        let due: Vec<VolumeName> = due.map(|(_, name)| name.clone()).collect();
        for name in &due {
            self.set_wake(name, None);
            self.items.get_mut(name).expect("what has a time is there").busy = true;
        }
        due
    }

    /// Takes note of how a look at one of them ended.
    pub(super) fn done(&mut self, name: &VolumeName, next: Next, now: Timestamp) {
        let Some(item) = self.items.get_mut(name) else { return };
        item.busy = false;
        match next {
            Next::At(at) => return self.set_wake(name, Some(at)),
            Next::Settled => (item.failures, item.not_before) = (0, None),
            Next::Failed => {
                item.failures += 1;
                let pause = 2u32.saturating_pow(item.failures).min(LONGEST_PAUSE);
                item.not_before = now.checked_add(Duration::from_secs(pause.into())).ok();
            }
        }
        item.stored = None;
        self.stale = true;
    }

    fn forget_unscheduled(&mut self, records: &Records) {
        let wakes = &mut self.wakes;
        self.items.retain(|name, item| {
            let stays = item.busy || records.get(name).is_some_and(|stored| is_scheduled(stored));
            if let Some(wake) = item.wake.filter(|_| !stays) {
                wakes.remove(&(wake, name.clone()));
            }
            stays
        });
    }

    fn reckon(&mut self, name: &VolumeName, stored: &Arc<Stored>, now: Timestamp) {
        let item = self.items.entry(name.clone()).or_insert(Item {
            stored: None,
            wake: None,
            not_before: None,
            failures: 0,
            busy: false,
        });
        let same = item.stored.as_ref().is_some_and(|of| Arc::ptr_eq(of, stored));
        if item.busy || same {
            return;
        }
        item.stored = Some(Arc::clone(stored));
        let not_before = item.not_before;
        let wake = due_now(name, &stored.entry().record, now).and_then(|due| match due.serve {
            Some(_) => Some(now),
            None => due.wake,
        });
        self.set_wake(name, wake.map(|wake| not_before.map_or(wake, |after| wake.max(after))));
    }

    fn set_wake(&mut self, name: &VolumeName, wake: Option<Timestamp>) {
        let Some(item) = self.items.get_mut(name) else { return };
        if let Some(old) = std::mem::replace(&mut item.wake, wake) {
            self.wakes.remove(&(old, name.clone()));
        }
        if let Some(wake) = wake {
            self.wakes.insert((wake, name.clone()));
        }
    }
}

fn is_scheduled(stored: &Stored) -> bool {
    stored.scheduled && stored.state == RecordState::Ready
}

//! One lock for each volume name, so that a slow volume never delays another.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::steps::step;
use crate::volume::VolumeName;

/// The names that somebody works on.
#[derive(Debug, Default)]
pub(super) struct NameLocks {
    held: Mutex<HashSet<VolumeName>>,
    released: Condvar,
}

/// A held name; dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct NameGuard<'a> {
    locks: &'a NameLocks,
    name: VolumeName,
}

impl NameLocks {
    /// Waits for the name; `None` where the deadline comes first. As a step of an operation it is
    /// `wait.volume`.
    pub(super) fn lock(&self, name: &VolumeName, deadline: &Deadline) -> Option<NameGuard<'_>> {
        step("wait.volume", || self.wait(name, deadline))
    }

    fn wait(&self, name: &VolumeName, deadline: &Deadline) -> Option<NameGuard<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while !held.insert(name.clone()) {
            if deadline.is_over() {
                return None;
            }
            // Short rounds, so that a stop of the daemon is noticed.
            let round = deadline.left().min(Duration::from_millis(200));
            let waited = self.released.wait_timeout(held, round);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(NameGuard { locks: self, name: name.clone() })
    }

    /// The name, if nobody works on it now.
    pub(super) fn try_lock(&self, name: &VolumeName) -> Option<NameGuard<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(name.clone()).then(|| NameGuard { locks: self, name: name.clone() })
    }

    /// Is anybody at work on any name?
    pub(super) fn is_any(&self) -> bool {
        !self.held.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for NameGuard<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.name);
        drop(held);
        self.locks.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_name_is_waited_for_and_another_is_not() {
        let locks = NameLocks::default();
        let (a, b) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
        let soon = Deadline::after(Duration::from_millis(30));
        let first = locks.lock(&a, &soon).expect("free");
        assert!(locks.lock(&b, &soon).is_some());
        assert!(locks.try_lock(&a).is_none());
        assert!(locks.lock(&a, &soon).is_none());
        drop(first);
        assert!(locks.lock(&a, &soon).is_some());
    }
}

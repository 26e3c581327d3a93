//! The moment by which a piece of work has to be over.
//!
//! Every verb is given one inside the engine's own limit, and hands it down: to cluster calls, to
//! child processes, to waits. A deadline can be cut short for all its holders at once when the
//! daemon is asked to stop, so that a wait of a minute does not hold up a shutdown.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::steps::step;

/// When work has to be over, and whether it was called off before.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    stop: Stop,
}

/// Calls off every wait of the deadlines that were made from it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Ends all waits now and in the future. A repeat changes nothing.
    pub fn stop(&self) {
        *self.flag() = true;
        self.0.1.notify_all();
    }

    /// Was [`Stop::stop`] called?
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.flag()
    }

    fn flag(&self) -> std::sync::MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deadline {
    /// A deadline `limit` from now that nothing calls off.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self::with_stop(limit, Stop::default())
    }

    /// A deadline `limit` from now whose waits `stop` calls off.
    #[must_use]
    pub fn with_stop(limit: Duration, stop: Stop) -> Self {
        Self { at: Instant::now() + limit, stop }
    }

    /// The same deadline, or `limit` from now where that is sooner.
    #[must_use]
    pub fn at_most(&self, limit: Duration) -> Self {
        Self { at: self.at.min(Instant::now() + limit), stop: self.stop.clone() }
    }

    /// A deadline `limit` from now, however late this one is: for undoing what missed its own.
    #[must_use]
    pub fn for_undo(&self, limit: Duration) -> Self {
        Self { at: self.at.max(Instant::now() + limit), stop: Stop::default() }
    }

    /// The time that is left; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Is the time over, or the work called off?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero() || self.stop.is_stopped()
    }

    /// Waits for `pause` or until the deadline, and says whether there is still time to go on. As a step of
    /// an operation it is `wait.again`: something is tried again afterwards.
    #[must_use]
    pub fn wait(&self, pause: Duration) -> bool {
        step("wait.again", || self.pause(pause));
        !self.is_over()
    }

    fn pause(&self, pause: Duration) {
        let until = self.at.min(Instant::now() + pause);
        let mut stopped = self.stop.flag();
        while !*stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.stop.0.1.wait_timeout(stopped, left);
            stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_the_deadline_and_says_so() {
        let deadline = Deadline::after(Duration::from_millis(20));
        assert!(!deadline.wait(Duration::from_secs(60)));
        assert!(deadline.is_over());
    }

    #[test]
    fn a_stop_ends_a_wait_at_once() {
        let stop = Stop::default();
        let deadline = Deadline::with_stop(Duration::from_secs(60), stop.clone());
        let waiter = std::thread::spawn(move || deadline.wait(Duration::from_secs(60)));
        stop.stop();
        assert!(!waiter.join().expect("the waiter ends"));
    }

    #[test]
    fn undoing_has_time_after_the_deadline_and_after_a_stop() {
        let stop = Stop::default();
        stop.stop();
        let late = Deadline::with_stop(Duration::ZERO, stop);
        assert!(late.is_over());
        assert!(!late.for_undo(Duration::from_secs(5)).is_over());
    }
}

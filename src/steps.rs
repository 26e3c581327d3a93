//! Where the time of an operation went: which calls to the cluster and to the host it made, and how
//! long they took.
//!
//! Each operation, a request's or one that the daemon does by itself, is a job on a thread of its own
//! that makes its calls one after another. [`watched`] begins a list for the thread, [`Stopwatch`] stands around every call and adds
//! to it, as [`step`] does for waiting, and what took long is logged with [`Steps`]. What helper threads do
//! counts as `the rest`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::around::Around;

/// What takes longer than this is logged.
const SLOW: Duration = Duration::from_secs(5);

/// How many steps are told.
const TOLD: usize = 3;

thread_local! {
    /// Of the operation that this thread is at work for.
    static CALLS: RefCell<Option<Calls>> = const { RefCell::new(None) };
}

/// How long the calls of each name took, and how many there were.
type Calls = BTreeMap<&'static str, (Duration, u32)>;

/// What an operation did.
#[derive(Debug)]
struct Steps {
    /// How long all of it took.
    took: Duration,
    calls: Calls,
}

/// Does `work`, and logs where the time went if it took long.
pub(crate) fn watched<T>(work: impl FnOnce() -> T) -> T {
    let (done, steps) = measured(work);
    if steps.took > SLOW {
        tracing::warn!(took_ms = steps.took.as_millis(), %steps, "slow");
    }
    done
}

/// Does `work`, and says how long it took and where.
fn measured<T>(work: impl FnOnce() -> T) -> (T, Steps) {
    let outer = CALLS.replace(Some(Calls::new()));
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    let calls = CALLS.replace(outer).unwrap_or_default();
    (done, Steps { took, calls })
}

/// Does `work` as a step of the operation that this thread is at work for, if it is.
pub(crate) fn step<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    CALLS.with_borrow_mut(|calls| {
        if let Some((so_far, times)) = calls.as_mut().map(|of| of.entry(name).or_default()) {
            *so_far += took;
            *times += 1;
        }
    });
    done
}

impl fmt::Display for Steps {
    /// `cluster.snapshot_create 4.10 s, system.run_hooks 0.32 s (2 times), the rest 0.01 s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(_, (took, _))| std::cmp::Reverse(*took));
        calls.truncate(TOLD);
        let mut rest = self.took;
        for (call, (took, times)) in calls {
            rest = rest.saturating_sub(*took);
            write!(f, "{call} {:.2} s", took.as_secs_f64())?;
            if *times > 1 {
                write!(f, " ({times} times)")?;
            }
            f.write_str(", ")?;
        }
        write!(f, "the rest {:.2} s", rest.as_secs_f64())
    }
}

/// Measures every call that passes it.
#[derive(Debug)]
pub(crate) struct Stopwatch;

impl Around for Stopwatch {
    fn infallible<T>(&self, call: &'static str, run: impl FnOnce() -> T) -> T {
        step(call, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_that_took_longest_are_told_first() {
        let millis = Duration::from_millis;
        let calls = Calls::from([
            ("cluster.image_create", (millis(1500), 1)),
            ("cluster.omap_get", (millis(20), 4)),
            ("cluster.status", (millis(1), 1)),
            ("system.format", (millis(400), 1)),
        ]);
        let told = Steps { took: millis(2000), calls }.to_string();
        assert_eq!(
            told,
            "cluster.image_create 1.50 s, system.format 0.40 s, cluster.omap_get 0.02 s (4 times), \
             the rest 0.08 s"
        );
    }

    #[test]
    fn calls_count_for_the_operation_of_their_thread_only() {
        Stopwatch.infallible("system.before", || ());
        let (answer, steps) = measured(|| {
            let (inner, of_inner) = measured(|| Stopwatch.infallible("system.inner", || 1));
            assert_eq!(of_inner.calls.keys().collect::<Vec<_>>(), [&"system.inner"]);
            Stopwatch.infallible("system.outer", || inner)
        });
        assert_eq!(answer, 1);
        assert_eq!(steps.calls.keys().collect::<Vec<_>>(), [&"system.outer"]);
    }
}

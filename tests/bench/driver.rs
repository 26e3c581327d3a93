//! What the driver costs, beside the same work by hand, in one run and on one cluster.
//!
//! Prints medians and the ratio by hand / driver: above 1 the driver is faster. `tests/bench/run`
//! starts the cluster; every figure is of a release build, through the daemon's real socket.

#![allow(missing_docs, reason = "a program for people")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "what cannot go on ends")]

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "shared with the tests, which use all of it"
)]
#[path = "../it/support"]
mod support {
    pub(crate) mod daemon;
    pub(crate) mod host;
    pub(crate) mod machine;
    pub(crate) mod outage;
}

mod by_hand;
mod catalog;
mod control;
mod data;
mod folders;
mod hosts;
mod idle;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::daemon;

/// Times by the name of what was timed.
#[derive(Debug, Default)]
pub(crate) struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    /// Does it, and takes its time.
    pub(crate) fn take<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(what, start.elapsed());
        result
    }

    /// A time that was taken elsewhere.
    pub(crate) fn add(&mut self, what: &'static str, time: Duration) {
        self.0.entry(what).or_default().push(time);
    }

    /// Prints the medians side by side.
    pub(crate) fn compare(calls: &[&'static str], ours: &Self, by_hand: &Self) {
        println!("{:<15}{:>10}{:>10}{:>8}", "", "driver", "by hand", "ratio");
        for call in calls {
            let (ours, hand) = (ours.median(call).unwrap(), by_hand.median(call).unwrap());
            println!("{call:<15}{ours:>10.1}{hand:>10.1}{:>8.1}", hand / ours);
        }
    }

    /// The median of what was timed, in milliseconds.
    pub(crate) fn median(&self, what: &str) -> Option<f64> {
        let mut times = self.0.get(what)?.clone();
        times.sort_unstable();
        Some(times[times.len() / 2].as_secs_f64() * 1e3)
    }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let parts = parts();
    if parts.contains(&"hosts") {
        hosts::report(setting("DOCKER_CEPH_BENCH_VOLUMES", 20).min(5));
    }
    if parts == ["hosts"] {
        return;
    }
    let lab = daemon::Lab::of_environment();
    let mut driver = daemon::Daemon::new(&lab);
    let metrics = catalog::metrics_of(&driver).display().to_string();
    driver.set_env("DOCKER_CEPH_METRICS_LISTEN", metrics);
    driver.start();
    if parts.contains(&"control") {
        let volumes = setting("DOCKER_CEPH_BENCH_VOLUMES", 20);
        idle::report(&driver);
        control::report(&lab, &driver, volumes);
    }
    if parts.contains(&"data") {
        data::report(&lab, &driver, setting("DOCKER_CEPH_BENCH_SECONDS", 10));
    }
    if parts.contains(&"cephfs") {
        let volumes = setting("DOCKER_CEPH_BENCH_VOLUMES", 20);
        folders::report(&lab, &driver, volumes, setting("DOCKER_CEPH_BENCH_SECONDS", 10));
    }
    if parts.contains(&"catalog") {
        catalog::report(&lab, &driver, setting("DOCKER_CEPH_BENCH_RECORDS", 10_000));
    }
    driver.stop();
}

/// What is to be measured: one part, or all.
fn parts() -> Vec<&'static str> {
    let wanted = std::env::var("DOCKER_CEPH_BENCH_PART").unwrap_or_default();
    let all = ["control", "data", "cephfs", "catalog", "hosts"];
    let parts: Vec<_> = all.into_iter().filter(|p| wanted.is_empty() || wanted == *p).collect();
    assert!(!parts.is_empty(), "there is no part {wanted:?} of the bench, only {all:?}");
    parts
}

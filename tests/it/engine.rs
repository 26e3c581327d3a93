//! Real Docker engines, real Ceph and the real daemon: `make test T=engine`.
//!
//! Every situation of `docs/semantics.md` in which the engine can lose a reference or a byte, on
//! the newest engine; the main job on the older ones as well. Sizes are small and waits are for
//! events, so that two cores carry it.

mod bad_input;
mod cephfs;
mod daemon;
mod engine_restarts;
mod examples;
mod full_pool;
mod main_job;
mod old_files;
mod older_engines;
mod operator;
mod outage;
pub(crate) mod packaging;
pub(crate) mod postgres;
mod raw_calls;
mod restart_policies;
mod sharing;
mod snapshot_hooks;
pub(crate) mod snapshots;
pub(crate) mod swarm;
mod takeover;
mod two_engines;

use std::path::Path;
use std::time::Duration;

use crate::support::daemon::{run, timed, within};
use crate::support::host::Docker;

/// For what happens within a moment on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(60);

/// `-v VOLUME:/data`, as two words.
macro_rules! at_data {
    ($volume:expr) => {
        &["-v", &format!("{}:/data", $volume)]
    };
}
pub(crate) use at_data;

/// Writes the record after `i`, with its number and a checksum of it, and prints the number only
/// once the record is on the disk. When its IO fails it says so, and stays: its volume is then in
/// use for as long as a test wants to look at it.
macro_rules! record {
    () => {
        "i=$((i + 1)); { \
           echo \"$i $(echo record $i | sha256sum)\" >> /data/log && sync /data/log; \
         } 2> /dev/null || { echo failed; sleep 1000000 & wait; }; \
         echo $i; "
    };
}
pub(crate) use record;

/// Writes a record after the other, with so many seconds between them. Ends when `/data/stop` is there.
macro_rules! recorder {
    ($pause:literal) => {
        concat!(
            "trap 'exit 0' TERM; i=0; while [ ! -e /data/stop ]; do ",
            $crate::engine::record!(),
            "sleep ",
            $pause,
            "; done"
        )
    };
}
pub(crate) use recorder;

/// The pause leaves the processors to what is tested, and few records to be checked.
pub(crate) const RECORDER: &str = recorder!("0.05");

/// Checks what the recorder has written, and prints the number of the last whole record.
pub(crate) const VERIFIER: &str = "\
    n=0; while read -r i sum input; do \
      n=$((n + 1)); \
      [ \"$i\" = $n ] || { echo \"record $n is $i\"; exit 1; }; \
      [ \"$sum  $input\" = \"$(echo record $i | sha256sum)\" ] || { echo \"record $i is damaged\"; exit 1; }; \
    done < /data/log; echo $n";

/// What the verifier says of the file `log` in a folder of this machine: the number of records, or what
/// is wrong.
pub(crate) fn verified(folder: &Path) -> String {
    let script = VERIFIER.replace("/data", folder.to_str().expect("the path is text"));
    let output = run(timed(30, "sh").args(["-c", &script]));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The last record that a recorder has acknowledged.
pub(crate) fn recorded(docker: &Docker, container: &str) -> u64 {
    let text = docker.ok(&["logs", "--tail", "2", container]);
    text.lines().rev().find_map(|line| line.parse().ok()).unwrap_or_default()
}

/// Has the recorder's IO failed?
pub(crate) fn has_failed(docker: &Docker, container: &str) -> bool {
    docker.ok(&["logs", "--tail", "1", container]).ends_with("failed")
}

/// Waits until the recorder has acknowledged some more records.
#[track_caller]
pub(crate) fn assert_recording(docker: &Docker, container: &str) {
    let before = recorded(docker, container);
    let on = within(SOON, || recorded(docker, container) > before + 3);
    assert!(
        on,
        "{container} stands at {before}: {}",
        docker.ok(&["logs", "--tail", "3", container])
    );
}

/// Every acknowledged record is in the volume, whole.
#[track_caller]
pub(crate) fn assert_recorded(docker: &Docker, volume: &str, acknowledged: u64) {
    let there = docker.script(at_data!(volume), VERIFIER);
    let count: u64 = there.parse().unwrap_or_else(|_| panic!("in {volume}: {there}"));
    assert!(count >= acknowledged, "{acknowledged} were acknowledged and {count} are there");
}

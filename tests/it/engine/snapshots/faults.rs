//! What dies, hangs or is cut off in the middle of a snapshot, while writers stand still for it: they
//! go on within the limit, and the snapshot is whole or gone.

use std::process::Child;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{listed, writing};
use crate::engine::{SOON, assert_recorded, assert_recording, at_data, has_failed, recorded};
use crate::support::daemon::within;
use crate::support::host::{Docker, Host, on_two};
use crate::support::outage::Outage;

/// How long writers may stand still.
const LIMIT: Duration = Duration::from_secs(3);

const FLAGS: [&str; 4] = ["--reconcile-interval", "1s", "--freeze-limit", "3s"];

/// The same, of a host that is not to let go by itself while a test runs.
const LONG: [&str; 4] = ["--reconcile-interval", "1s", "--freeze-limit", "60s"];

/// What a busy machine may add to a limit, until a record is on the disk and its line in the log.
const MARGIN: Duration = Duration::from_secs(3);

/// How long an order may take whose other side is gone: a step waits for an answer for 20 s.
const ORDERED: Duration = Duration::from_secs(60);

/// How long the cluster may take to be itself again.
const BACK: Duration = Duration::from_secs(60);

/// Deadlines for which a test can wait.
const HASTY: [&str; 4] = ["--mon-timeout", "3s", "--osd-timeout", "3s"];

/// The moment at which writers stand still.
const MIDDLE: &str = "cluster.snapshot_create:1";

/// The longest time between two lines that a container has printed since then.
fn longest_pause(docker: &Docker, container: &str, since: Timestamp) -> Duration {
    let text = docker.ok(&["logs", "--timestamps", container]);
    let times = text.lines().filter_map(|line| line.split(' ').next()?.parse::<Timestamp>().ok());
    let times: Vec<Timestamp> = times.filter(|time| *time >= since).collect();
    let pauses = times.windows(2).map(|two| two[0].duration_until(two[1]));
    let longest = pauses.max().unwrap_or(SignedDuration::ZERO);
    longest.try_into().expect("time goes on")
}

/// The writer goes on after a pause of at least and at most so long.
#[track_caller]
fn assert_stood(host: &Host, writer: &str, since: Timestamp, least: Duration, most: Duration) {
    assert_recording(host.docker(), writer);
    let stood = longest_pause(host.docker(), writer, since);
    println!("{writer} stood still for {} ms", stood.as_millis());
    assert!(stood >= least && stood <= most + MARGIN, "{stood:?}, not {least:?} to {most:?}");
    assert!(!has_failed(host.docker(), writer));
}

/// The names of the volume's snapshots, each with the word whether it is whole.
fn snapshots(host: &Host, volume: &str) -> Vec<(String, bool)> {
    let of = |it: &serde_json::Value| (it["name"].as_str().map(str::to_owned), it["whole"] == true);
    listed(host, volume).iter().map(of).map(|(name, whole)| (name.expect("text"), whole)).collect()
}

#[track_caller]
fn assert_gone(host: &Host, volume: &str) {
    let gone = within(SOON, || snapshots(host, volume).is_empty());
    assert!(gone, "{:?}\n{}", snapshots(host, volume), host.log());
}

/// The writer has lost nothing, and snapshots can be made as before.
#[track_caller]
fn assert_unharmed(host: &Host, volume: &str, writer: &str) {
    // What was cut off is gone from the cluster first, and then from the record.
    let again = || host.try_tool(&["snapshot", "create", volume, "afterwards"]).status.success();
    assert!(within(SOON, again), "{}", host.log());
    assert_eq!(snapshots(host, volume), [("afterwards".to_owned(), true)]);
    assert_recording(host.docker(), writer);
    let acknowledged = recorded(host.docker(), writer);
    host.docker().ok(&["rm", "--force", writer]);
    host.assert_released();
    assert_recorded(host.docker(), volume, acknowledged);
    host.tool(&["snapshot", "rm", volume, "afterwards"]);
}

/// Has a host order a snapshot and stand still while writers stand still for it.
#[track_caller]
fn order_and_halt(host: &Host, words: &[&str]) -> Child {
    host.arm(&format!("halt-before:{MIDDLE}"));
    let order = host.start_tool(&[&["snapshot", "create"], words].concat());
    host.await_halt(SOON);
    order
}

/// Waits for the end of an order; was the snapshot made?
#[track_caller]
fn is_made(mut order: Child) -> bool {
    let mut status = None;
    let over = within(ORDERED, || {
        status = order.try_wait().expect("a child of ours");
        status.is_some()
    });
    assert!(over, "the order does not end");
    status.is_some_and(|status| status.success())
}

#[test]
fn who_ordered_it_hangs_or_is_killed() {
    on_two(|one, other| {
        one.daemon(&FLAGS);
        other.armable(&FLAGS);
        other.announce("it stood still for 3 s, and not longer");
        let (volume, writer) = writing(one);
        let since = Timestamp::now();
        let order = order_and_halt(other, &[&volume, "late"]);
        assert_stood(one, &writer, since, LIMIT / 2, LIMIT);
        other.go_on();
        // What was written meanwhile may be in it in part: it does not count.
        assert!(!is_made(order));
        assert_gone(one, &volume);

        // Its client alone is killed: the order goes on.
        let since = Timestamp::now();
        let mut order = order_and_halt(other, &[&volume, "unheard"]);
        order.kill().and_then(|()| order.wait()).expect("a child of ours");
        other.go_on();
        let whole = [("unheard".to_owned(), true)];
        assert!(within(SOON, || snapshots(one, &volume) == whole), "{}", other.log());
        assert_stood(one, &writer, since, Duration::ZERO, LIMIT);
        one.tool(&["snapshot", "rm", &volume, "unheard"]);

        let since = Timestamp::now();
        other.arm(&format!("abort-after:{MIDDLE}"));
        let ordered = other.try_tool(&["snapshot", "create", &volume, "cut-off"]);
        assert!(!ordered.status.success(), "{ordered:?}");
        other.await_daemon_end();
        assert_stood(one, &writer, since, LIMIT / 2, LIMIT);
        assert_eq!(snapshots(one, &volume), [("cut-off".to_owned(), false)]);
        other.start_daemon();
        assert_gone(one, &volume);
        assert_unharmed(one, &volume, &writer);
    });
}

/// Appends a number after the other to a file that stays open, and prints it: by the page cache
/// alone, and so without the cluster.
const SCRIBE: &str = "exec 3>> /data/numbers; i=0; trap 'exit 0' TERM; \
    while :; do i=$((i + 1)); echo $i >&3; echo $i; sleep 0.1; done";

/// What waits for the cluster cannot go on without it. Where a thaw itself writes nothing, as that of
/// xfs, what needs no cluster does go on.
#[test]
fn the_cluster_is_cut_off() {
    on_two(|one, other| {
        one.daemon(&FLAGS);
        other.armable(&[&FLAGS[..], &HASTY].concat());
        // Whichever it meets first when it goes on.
        for said in ["did not answer in time", "it stood still for 3 s, and not longer"] {
            other.announce(said);
        }
        let (volume, writer) = writing(one);
        let (light, scribe) = (one.volume(&["size=320M", "fs-type=xfs"]), one.fresh("scribe"));
        one.docker().start(&scribe, at_data!(light), SCRIBE);
        assert_recording(one.docker(), &scribe);
        let (group, since) = (format!("{volume},{light}"), Timestamp::now());
        let order = order_and_halt(other, &["--group", &group, "cut-off"]);
        let outage = Outage::of(one.lab(), "all");
        other.go_on();
        assert_stood(one, &scribe, since, LIMIT / 2, LIMIT);
        drop(outage);
        assert_recording(one.docker(), &writer);
        assert!(!has_failed(one.docker(), &writer));
        assert!(!is_made(order));
        let retry = ["snapshot", "create", "--group", &group, "cut-off"];
        assert!(within(BACK, || other.try_tool(&retry).status.success()), "{}", other.log());
        for volume in [&volume, &light] {
            assert_eq!(snapshots(one, volume), [("cut-off".to_owned(), true)]);
            one.tool(&["snapshot", "rm", volume, "cut-off"]);
        }
        one.docker().ok(&["rm", "--force", &scribe]);
        assert_unharmed(one, &volume, &writer);
    });
}

/// Of the three the last by its name: for 30 s, what is asked of that host waits for the dead daemon.
#[test]
fn whoever_holds_it_is_killed() {
    on_two(|one, other| {
        one.armable(&LONG);
        other.armable(&LONG);
        other.announce("it does not answer; start its daemon");
        let (volume, writer) = writing(one);
        let since = Timestamp::now();
        let order = order_and_halt(other, &[&volume, "ordered-elsewhere"]);
        one.kill_daemon();
        assert_stood(one, &writer, since, Duration::ZERO, Duration::ZERO);
        one.start_daemon();
        other.go_on();
        assert!(!is_made(order));
        assert_gone(one, &volume);

        let since = Timestamp::now();
        one.arm(&format!("abort-after:{MIDDLE}"));
        let ordered = one.try_tool(&["snapshot", "create", &volume, "ordered-here"]);
        assert!(!ordered.status.success(), "{ordered:?}");
        one.await_daemon_end();
        assert_stood(one, &writer, since, Duration::ZERO, Duration::ZERO);
        one.start_daemon();
        assert_gone(one, &volume);
        assert_unharmed(one, &volume, &writer);
    });
}

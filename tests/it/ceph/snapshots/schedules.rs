//! Schedules: several daemons, one cluster, each due time served once.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use docker_volume_ceph::volume::SnapshotName;
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::ceph::lab::unique;
use crate::support::daemon::{Daemon, Lab, timed, within, within_by};
use crate::support::repeats;

/// How many due times a short run goes through; a full one goes through a hundred.
const DUE_TIMES: u32 = 7;

/// Seconds between them.
const EVERY: u32 = 4;

/// How long a snapshot may be late: a daemon that is killed while it makes one is started again, and
/// another one waits for its turn.
const LATE: Duration = Duration::from_secs(40);

/// Daemons that are not started yet, with a home of their own: every daemon serves the schedules of
/// all volumes of its home, those of other tests too.
pub(crate) fn idle_daemons(count: usize) -> Vec<Daemon> {
    let (lab, home) = (Lab::of_environment(), unique("home"));
    let made = timed(30, "rbd")
        .env("CEPH_CONF", lab.conf())
        .args(["namespace", "create", &format!("rbd/{home}")])
        .status();
    assert!(made.expect("rbd is there").success(), "namespace {home}");
    (0..count).map(|_| Daemon::at_home(&lab, &home)).collect()
}

fn daemons(count: usize) -> Vec<Daemon> {
    let mut daemons = idle_daemons(count);
    daemons.iter_mut().for_each(Daemon::start);
    daemons
}

pub(crate) fn create(daemon: &Daemon, volume: &str, options: &Value) {
    let reply = daemon.call("VolumeDriver.Create", &json!({"Name": volume, "Opts": options}));
    let reply = reply.expect("an answer");
    assert!(reply.is_ok(), "{reply:?}\n{}", daemon.log());
}

fn remove(daemon: &Daemon, volume: &str) {
    daemon.tool(&["rm", "--policy", "delete", volume]).expect("removed with its snapshots");
}

fn snapshots(daemon: &Daemon, volume: &str) -> Vec<Value> {
    let listed = daemon.tool(&["snapshot", "ls", volume]).expect("a list");
    listed["snapshots"].as_array().expect("snapshots").clone()
}

/// The schedule's own snapshots, in the order in which they were made, by their due times.
fn made(daemon: &Daemon, volume: &str) -> Vec<Timestamp> {
    let whole = snapshots(daemon, volume).into_iter().filter(|of| of["whole"] == true);
    let names = whole.map(|of| of["name"].as_str().expect("a name").parse::<SnapshotName>());
    names.filter_map(|name| name.expect("a name").due()).collect()
}

/// Is a snapshot of it being made, by whichever daemon?
fn is_taking(daemon: &Daemon, volume: &str) -> bool {
    let got = daemon.call("VolumeDriver.Get", &json!({"Name": volume})).expect("an answer");
    !got.json["Volume"]["Status"]["snapshots"]["taking"].is_null()
}

/// The schedule rests, and what it was making is made. One may begin at this very moment.
fn pause(daemon: &Daemon, volume: &str) {
    daemon.tool(&["schedule", "pause", volume]).expect("it rests");
    assert!(within(LATE, || !is_taking(daemon, volume)), "{}", daemon.log());
}

/// How often all daemons together have said that they made one.
fn said(daemons: &[Daemon], volume: &str) -> usize {
    let of = |daemon: &Daemon| {
        let log = fs::read_to_string(daemon.folder().join("log")).expect("a log");
        let ours = |line: &&str| line.contains("taken, as scheduled") && line.contains(volume);
        log.lines().filter(ours).count()
    };
    daemons.iter().map(of).sum()
}

/// Waits until no snapshot is being made, nor soon will be: librbd takes the lock of a client that was
/// killed for that of one who lives, for 30 s.
fn until_between_two(daemon: &Daemon, volume: &str) {
    let between = within(LATE, || {
        let second = Timestamp::now().as_millisecond().rem_euclid(1000 * i64::from(EVERY));
        !is_taking(daemon, volume) && (1500..3000).contains(&second)
    });
    assert!(between, "snapshots take longer than the time between them\n{}", daemon.log());
}

#[test]
fn three_daemons_make_one_snapshot_for_each_due_time_whichever_is_killed() {
    let mut daemons = daemons(3);
    let volume = unique("each-once");
    let every = format!("@every {EVERY}s");
    create(&daemons[0], &volume, &json!({"size": "64M", "snapshot-schedule": every}));
    let due_times = (DUE_TIMES * repeats()).min(100);
    let end = Instant::now() + Duration::from_secs(due_times.into()) * EVERY + LATE;
    let mut round = 0;
    while made(&daemons[round % 3], &volume).len() < due_times as usize {
        assert!(Instant::now() < end, "late: {:?}", daemons[0].tool(&["schedule", "ls"]));
        until_between_two(&daemons[round % 3], &volume);
        let killed = (round * 7 + 1) % 3;
        daemons[killed].kill();
        thread::sleep(Duration::from_millis(370 * (round as u64 % 5)));
        daemons[killed].start();
        round += 1;
    }
    pause(&daemons[0], &volume);
    let said = said(&daemons, &volume);
    let all = made(&daemons[0], &volume);
    let steps: BTreeSet<i64> =
        all.windows(2).map(|two| two[1].as_second() - two[0].as_second()).collect();
    assert_eq!(steps, BTreeSet::from([EVERY.into()]), "{all:?}");
    assert!(said <= all.len(), "{said} times one was made: {all:?}");
    remove(&daemons[0], &volume);
}

#[test]
fn a_clock_that_jumps_makes_nothing_twice_and_stops_nothing_for_long() {
    let mut daemons = idle_daemons(2);
    let clock = daemons[0].folder().join("clock");
    for daemon in &mut daemons {
        daemon.set_env("DOCKER_CEPH_CLOCK", clock.display().to_string());
        daemon.start();
    }
    let volume = unique("jumps");
    create(&daemons[0], &volume, &json!({"size": "64M", "snapshot-schedule": "@every 2s"}));
    let more = |count: usize| {
        let before = said(&daemons, &volume);
        within_by(Duration::from_secs(45), Duration::from_millis(200), || {
            said(&daemons, &volume) >= before + count
        })
    };
    for seconds in ["0", "7", "0", "9000", "0", "-8000"] {
        fs::write(&clock, seconds).expect("a clock");
        assert!(more(2), "no snapshots after a jump to {seconds} s\n{}", daemons[0].log());
    }
    pause(&daemons[0], &volume);
    let said = said(&daemons, &volume);
    let all = made(&daemons[0], &volume);
    assert!(said <= all.len(), "{said} times one was made: {all:?}");
    remove(&daemons[0], &volume);
}

#[test]
fn only_what_is_kept_of_the_schedules_own_is_left() {
    let daemons = daemons(1);
    let daemon = &daemons[0];
    let volume = unique("kept");
    let keep = json!({
        "size": "64M", "snapshot-schedule": "@every 1s", "snapshot-keep": "latest=3",
        "snapshot-consistency": "crash",
    });
    create(daemon, &volume, &keep);
    within(LATE, || daemon.tool(&["snapshot", "create", &volume, "by-hand"]).is_ok());
    assert!(within(LATE, || made(daemon, &volume).len() >= 2));
    let protected = SnapshotName::scheduled(*made(daemon, &volume).last().expect("one"));
    daemon.tool(&["snapshot", "protect", &volume, protected.as_str()]).expect("protected");
    let before = said(&daemons, &volume);
    assert!(within(LATE, || said(&daemons, &volume) >= before + 5), "{}", daemon.log());
    pause(daemon, &volume);
    assert!(within(LATE, || daemon.tool(&["schedule", "run", &volume]).is_ok()));
    let left = snapshots(daemon, &volume);
    let names: Vec<&str> = left.iter().map(|of| of["name"].as_str().expect("a name")).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.contains(&"by-hand") && names.contains(&protected.as_str()), "{names:?}");
    assert_eq!(left[4]["consistency"], "crash", "{left:?}");
    let listed = daemon.tool(&["schedule", "ls"]).expect("a list");
    let ours = listed["schedules"].as_array().expect("schedules");
    let ours = ours.iter().find(|of| of["volume"] == volume).expect("ours");
    assert_eq!((&ours["paused"], &ours["keep"]), (&json!(true), &json!("latest=3")), "{ours}");
    let inspected = daemon.call("VolumeDriver.Get", &json!({"Name": volume})).expect("an answer");
    let snapshots = &inspected.json["Volume"]["Status"]["snapshots"];
    assert_eq!(snapshots["count"], json!(5), "{snapshots}");
    remove(daemon, &volume);
}

#[test]
fn what_a_dead_daemon_began_is_made_by_another_once_it_is_gone_for_good() {
    let [mut maker, mut heir] = <[Daemon; 2]>::try_from(idle_daemons(2)).expect("two");
    let rules = maker.folder().join("rules");
    maker.set_env("DOCKER_CEPH_FAULT", format!("@{}", rules.display()));
    maker.start();
    let volume = unique("taken-over");
    create(&maker, &volume, &json!({"size": "64M", "snapshot-schedule": "@every 5s"}));
    assert!(within(LATE, || !made(&maker, &volume).is_empty()), "{}", maker.log());
    fs::write(&rules, "abort-after:cluster.snapshot_create:1").expect("rules");
    assert!(within(LATE, || maker.is_over()), "{}", maker.log());
    heir.start();
    let heir = &heir;
    let whole = made(heir, &volume).len();
    assert_eq!(snapshots(heir, &volume).len(), whole + 1, "one that is not whole");
    assert!(
        within_by(Duration::from_secs(60), Duration::from_secs(1), || {
            made(heir, &volume).len() >= whole + 2
        }),
        "{}",
        heir.log()
    );
    heir.tool(&["schedule", "pause", &volume]).expect("it rests");
    assert!(within(LATE, || snapshots(heir, &volume).iter().all(|of| of["whole"] == true)));
    remove(heir, &volume);
}

/// Who is there is looked up every few seconds; a daemon that came since may be at work already.
#[test]
fn a_daemon_that_has_just_come_is_not_taken_for_gone() {
    let [mut other, mut maker] = <[Daemon; 2]>::try_from(idle_daemons(2)).expect("two");
    other.start();
    let volume = unique("just-come");
    create(&other, &volume, &json!({"size": "64M"}));
    other.tool(&["snapshot", "create", &volume, "first"]).expect("made");
    let rules = maker.folder().join("rules");
    maker.set_env("DOCKER_CEPH_FAULT", format!("@{}", rules.display()));
    maker.start();
    fs::write(&rules, "halt-before:cluster.snapshot_create:1").expect("rules");
    thread::scope(|scope| {
        let made = scope.spawn(|| maker.tool(&["snapshot", "create", &volume, "late"]));
        let begun = within(LATE, || is_taking(&other, &volume));
        let refused = other.tool(&["snapshot", "create", &volume, "second"]);
        let pid = Pid::from_raw(i32::try_from(maker.pid()).expect("a process number"));
        kill(pid, Signal::SIGCONT).expect("a child of ours");
        made.join().expect("no panic").expect("made to its end");
        assert!(begun, "{}", maker.log());
        let error = refused.expect_err("another one is being made");
        assert!(error.contains("makes its snapshot late"), "{error}");
    });
    let names: Vec<Value> =
        snapshots(&other, &volume).iter().map(|of| of["name"].clone()).collect();
    assert_eq!(names, ["first", "late"]);
    remove(&other, &volume);
}

#[test]
fn a_schedule_that_cannot_be_is_refused_and_changes_nothing() {
    let daemons = daemons(1);
    let daemon = &daemons[0];
    let volume = unique("refused");
    for (options, why) in [
        (json!({"snapshot-schedule": "0 0 30 2 *"}), "never"),
        (json!({"snapshot-schedule": "@every 15m", "snapshot-keep": "latest=0"}), "latest=0"),
        (json!({"snapshot-schedule": "@every 15m", "snapshot-keep": ""}), "keep"),
        (json!({"snapshot-schedule": "@every 15m", "snapshot-timezone": "Berlin"}), "time zone"),
        (json!({"snapshot-keep": "latest=3"}), "snapshot-schedule"),
    ] {
        let body = json!({"Name": volume, "Opts": options});
        let reply = daemon.call("VolumeDriver.Create", &body).expect("an answer");
        assert!(reply.error().contains(why), "{options}: {reply:?}");
    }
    create(daemon, &volume, &json!({"size": "64M"}));
    for words in [
        &["schedule", "pause", &volume][..],
        &["schedule", "run", &volume],
        &["schedule", "set", &volume, "--keep", "latest=3"],
        &["schedule", "set", &volume, "every day"],
        &["schedule", "set", "not-there", "@daily"],
        &["snapshot", "create", &volume, "scheduled-20261128T120000Z"],
    ] {
        daemon.tool(words).expect_err("refused");
    }
    let set = daemon.tool(&["schedule", "set", &volume, "@daily", "--keep", "daily=7"]);
    assert_eq!(set.expect("set")["keep"], "daily=7");
    daemon.tool(&["schedule", "set", &volume, "--keep", "nothing"]).expect_err("refused");
    let listed = daemon.tool(&["schedule", "ls"]).expect("a list").to_string();
    assert!(listed.contains("daily=7"), "{listed}");
    daemon.tool(&["schedule", "rm", &volume]).expect("ended");
    let listed = daemon.tool(&["schedule", "ls"]).expect("a list").to_string();
    assert!(!listed.contains(&volume), "{listed}");
    remove(daemon, &volume);
}

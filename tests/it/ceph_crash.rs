//! The real daemon killed at each of its calls, on a real cluster: `make test T=ceph`.
//!
//! What the model shows with a simulated cluster, this shows with librados, mkfs, the mapper's
//! processes and the kernel: a verb is traced once, then made again and again with the daemon
//! killed before and after each call in turn. The next daemon is asked again, and then the name
//! can be used, the data is there, and nothing is left: no second image, no mount, no device, no
//! process.
//!
//! A few calls of each verb by default, spread over all of it; every one where
//! `DOCKER_CEPH_REPEATS` is above 1.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Lab, Reply, within, within_by};
use crate::support::repeats;

/// How many calls of a verb are tried in a short run, for each of before and after.
const FEW: usize = 3;

/// How long a restarted daemon may take to make a verb good: a dead mapper's watch stands for 30 s.
const MADE_GOOD: Duration = Duration::from_secs(90);

/// How long it may take until nothing is left: the references' grace, and a round of looking.
const CLEARED: Duration = Duration::from_secs(60);

const DATA: &str = "written before the crash";

/// What clones are made of.
const ORIGIN: &str = "crash-origin";

/// A call of the volume protocol on the volume of the moment.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    /// Makes a volume of one that is there.
    Clone,
    Mount(&'static str),
    Unmount(&'static str),
    Remove,
}

impl Call {
    fn make(self, daemon: &Daemon, volume: &str) -> std::io::Result<Reply> {
        match self {
            Self::Create => daemon
                .call("VolumeDriver.Create", &json!({"Name": volume, "Opts": {"size": "64M"}})),
            Self::Clone => daemon
                .call("VolumeDriver.Create", &json!({"Name": volume, "Opts": {"from": ORIGIN}})),
            Self::Mount(id) => {
                daemon.call("VolumeDriver.Mount", &json!({"Name": volume, "ID": id}))
            }
            Self::Unmount(id) => {
                daemon.call("VolumeDriver.Unmount", &json!({"Name": volume, "ID": id}))
            }
            Self::Remove => daemon.call("VolumeDriver.Remove", &json!({"Name": volume})),
        }
    }

    /// Makes it where it has to succeed.
    fn made(self, daemon: &Daemon, volume: &str) -> Value {
        let reply = self.make(daemon, volume);
        let reply = reply.unwrap_or_else(|e| panic!("{self:?} {volume}: {e}\n{}", daemon.log()));
        assert!(reply.is_ok(), "{self:?} {volume}: {reply:?}\n{}", daemon.log());
        reply.json
    }

    /// Makes it until it succeeds. A removal that was made before the crash finds nothing more.
    fn made_good(self, daemon: &Daemon, volume: &str) {
        let mut last = None;
        let good = within_by(MADE_GOOD, Duration::from_secs(1), || {
            let reply = self.make(daemon, volume);
            let gone = matches!(self, Self::Remove) && !exists(daemon, volume);
            let good = gone || reply.as_ref().is_ok_and(Reply::is_ok);
            last = Some(reply);
            good
        });
        assert!(good, "{self:?} {volume} after the crash: {last:?}\n{}", daemon.log());
    }
}

/// A verb, and what has happened to the volume before it.
struct Scenario {
    name: &'static str,
    before: &'static [Call],
    call: Call,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "create", before: &[], call: Call::Create },
    Scenario { name: "first-mount", before: &[Call::Create], call: Call::Mount("a") },
    Scenario {
        name: "second-mount",
        before: &[Call::Create, Call::Mount("a"), Call::Unmount("a")],
        call: Call::Mount("b"),
    },
    Scenario {
        name: "unmount",
        before: &[Call::Create, Call::Mount("a")],
        call: Call::Unmount("a"),
    },
    Scenario {
        name: "remove",
        before: &[Call::Create, Call::Mount("a"), Call::Unmount("a")],
        call: Call::Remove,
    },
    Scenario { name: "clone", before: &[], call: Call::Clone },
];

/// A scenario at work: one daemon's folder, a new volume for each crash.
struct Bench {
    lab: Lab,
    daemon: Daemon,
    scenario: &'static Scenario,
    rounds: u32,
}

impl Bench {
    fn new(scenario: &'static Scenario) -> Self {
        let lab = Lab::of_environment();
        let mut daemon = Daemon::new(&lab);
        let rules = daemon.folder().join("rules");
        let trace = daemon.folder().join("trace");
        daemon.set_env("DOCKER_CEPH_FAULT", format!("@{}", rules.display()));
        daemon.set_env("DOCKER_CEPH_FAULT_TRACE", trace.display().to_string());
        daemon.start();
        let bench = Self { lab, daemon, scenario, rounds: 0 };
        if bench.clones() {
            Call::Create.made(&bench.daemon, ORIGIN);
            write_data(&mountpoint(&Call::Mount("a").made(&bench.daemon, ORIGIN)));
            Call::Unmount("a").made(&bench.daemon, ORIGIN);
        }
        bench
    }

    fn clones(&self) -> bool {
        matches!(self.scenario.call, Call::Clone)
    }

    /// A clone has one snapshot of its own at most, however often it was begun.
    fn end(mut self) {
        if self.clones() {
            let snapshots = self.lab.rbd(&["snap", "ls", ORIGIN]);
            let made = snapshots.lines().filter(|line| line.contains("clone-")).count();
            assert!(made <= self.rounds as usize, "{made} for {} clones: {snapshots}", self.rounds);
            self.lab.rbd(&["snap", "purge", "--no-progress", ORIGIN]);
            Call::Remove.made(&self.daemon, ORIGIN);
            self.purge(ORIGIN);
        }
        self.daemon.stop();
    }

    /// A volume that is new, as the scenario's verb meets it. Once mounted, it holds data.
    fn prepare(&mut self) -> String {
        self.rounds += 1;
        let volume = format!("crash-{}-{}-{}", self.scenario.name, std::process::id(), self.rounds);
        for call in self.scenario.before {
            let reply = call.made(&self.daemon, &volume);
            if let Call::Mount(_) = call {
                write_data(&mountpoint(&reply));
            }
        }
        volume
    }

    fn has_data(&self) -> bool {
        self.clones() || self.scenario.before.iter().any(|call| matches!(call, Call::Mount(_)))
    }

    /// The calls that the verb makes, with no crash.
    fn trace(&mut self) -> Vec<String> {
        let volume = self.prepare();
        let file = self.daemon.folder().join("trace");
        let before = fs::read_to_string(&file).expect("a daemon that traces").lines().count();
        self.scenario.call.made(&self.daemon, &volume);
        let trace = fs::read_to_string(&file).expect("a daemon that traces");
        self.finish(&volume);
        trace.lines().skip(before).map(str::to_owned).collect()
    }

    /// Kills the daemon at the `nth` call of the verb, and has the next one make everything good.
    /// A verb that makes fewer calls this time has succeeded, and that is all right too.
    fn crash(&mut self, action: &str, nth: usize) {
        let volume = self.prepare();
        let rules = self.daemon.folder().join("rules");
        let written = rules.with_extension("new");
        fs::write(&written, format!("{action}:*:{nth}")).expect("the rules are written");
        fs::rename(&written, &rules).expect("the rules are put in place");
        let answer = self.scenario.call.make(&self.daemon, &volume);
        let died = within(Duration::from_secs(2), || self.daemon.is_over());
        assert!(died || answer.is_ok(), "no answer, and no crash:\n{}", self.daemon.log());
        // A rule that was not met must not meet the next daemon, or the next volume.
        self.daemon.kill();
        drop(fs::remove_file(&rules));
        self.daemon.start();
        self.scenario.call.made_good(&self.daemon, &volume);
        self.finish(&volume);
    }

    /// The name can be used, the data is there, and after the removal nothing is left.
    fn finish(&self, volume: &str) {
        let daemon = &self.daemon;
        if matches!(self.scenario.call, Call::Remove) {
            assert!(!exists(daemon, volume), "{volume} is still there");
        } else {
            Call::Mount("again").made_good(daemon, volume);
            let reply = Call::Mount("again").made(daemon, volume);
            let folder = mountpoint(&reply);
            if self.has_data() {
                assert_eq!(read_data(&folder), DATA, "in {volume}\n{}", daemon.log());
            }
            write_data(&folder);
            for id in ["a", "b", "again"] {
                Call::Unmount(id).made(daemon, volume);
            }
            assert_eq!(self.images(volume), (1, 0), "images and trash of {volume}");
            Call::Remove.made_good(daemon, volume);
        }
        let left = daemon.leftovers_after(CLEARED);
        assert!(left.is_empty(), "left after {volume}: {left:?}\n{}", daemon.log());
        assert_eq!(self.images(volume), (0, 1), "images and trash of {volume} after its removal");
        self.purge(volume);
    }

    /// How many images of that name there are, in their place and in the trash.
    fn images(&self, volume: &str) -> (usize, usize) {
        let count = |text: String| {
            text.lines().filter(|line| line.split_whitespace().next_back() == Some(volume)).count()
        };
        (count(self.lab.rbd(&["ls"])), count(self.lab.rbd(&["trash", "ls"])))
    }

    /// The lab's cluster is small: nothing stays in its trash.
    fn purge(&self, volume: &str) {
        for line in self.lab.rbd(&["trash", "ls"]).lines() {
            if let Some((id, _)) = line.split_once(' ').filter(|(_, name)| *name == volume) {
                self.lab.rbd(&["trash", "rm", "--force", id]);
            }
        }
    }
}

fn exists(daemon: &Daemon, volume: &str) -> bool {
    let reply = daemon.call("VolumeDriver.Get", &json!({"Name": volume}));
    !reply.is_ok_and(|reply| !reply.is_ok())
}

fn mountpoint(reply: &Value) -> PathBuf {
    let text = reply["Mountpoint"].as_str().filter(|text| !text.is_empty());
    PathBuf::from(text.unwrap_or_else(|| panic!("no mountpoint in {reply}")))
}

fn write_data(folder: &Path) {
    let mut file = File::create(folder.join("data")).expect("the volume can be written");
    file.write_all(DATA.as_bytes()).expect("the volume can be written");
    file.sync_all().expect("the volume can be synced");
}

fn read_data(folder: &Path) -> String {
    fs::read_to_string(folder.join("data")).expect("the data is there")
}

/// The calls to crash at: all, or a few with the first and the last.
fn chosen(count: usize) -> Vec<usize> {
    if repeats() > 1 || count <= FEW {
        return (1..=count).collect();
    }
    (0..FEW).map(|step| 1 + step * (count - 1) / (FEW - 1)).collect()
}

fn killed_at_every_call(scenario: &'static Scenario) {
    let mut bench = Bench::new(scenario);
    let trace = bench.trace();
    assert!(!trace.is_empty(), "{} makes no call", scenario.name);
    for nth in chosen(trace.len()) {
        for action in ["abort-before", "abort-after"] {
            eprintln!("{}: {action} {nth}, {}", scenario.name, trace[nth - 1]);
            bench.crash(action, nth);
        }
    }
    bench.end();
}

#[test]
fn ceph_crash_in_create_leaves_a_name_that_can_be_used() {
    killed_at_every_call(&SCENARIOS[0]);
}

#[test]
fn ceph_crash_in_the_first_mount_leaves_a_volume_that_can_be_mounted() {
    killed_at_every_call(&SCENARIOS[1]);
}

#[test]
fn ceph_crash_in_a_later_mount_loses_no_data() {
    killed_at_every_call(&SCENARIOS[2]);
}

#[test]
fn ceph_crash_in_unmount_leaves_nothing_mounted_and_loses_no_data() {
    killed_at_every_call(&SCENARIOS[3]);
}

#[test]
fn ceph_crash_in_remove_leaves_one_image_in_the_trash() {
    killed_at_every_call(&SCENARIOS[4]);
}

#[test]
fn ceph_crash_in_a_clone_leaves_a_clone_that_can_be_used() {
    killed_at_every_call(&SCENARIOS[5]);
}

//! A Swarm of two nodes, which moves a task with its volume: when it is asked to, when it believes
//! a node dead that is not, and when the node is.
//!
//! `one` is the manager, `other` the node that something happens to.

pub(crate) mod service;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::engine::takeover::{freeze, servers};
use crate::engine::{SOON, assert_recorded, at_data, recorded};
use crate::support::daemon::{run, timed, within, within_by};
use crate::support::host::{EAGER, Host, on_two};
use service::{BRIDGE, SWARM, Service, leave, make, set_availability};

/// Writes over one number with the next, each synced and in the same block, which no heir writes: a
/// late write that lands is not covered up by later ones, as one to the recorder's file would be.
const COUNTER: &str = "\
    i=1000000; while echo $i 1<> /data/mark && sync /data/mark; do i=$((i + 1)); done";

/// A test in a Swarm of two, with a volume.
fn in_a_swarm(one: &mut Host, other: &mut Host, test: impl FnOnce(&Host, &mut Host, String)) {
    let bridge = Bridge::watched();
    let volume = one.volume(&[]);
    make((one.docker(), "127.0.0.11"), (other.docker(), "127.0.0.12"), &volume);
    test(one, other, volume);
    leave(other.docker());
    leave(one.docker());
    let was_there = bridge.was_there;
    drop(bridge);
    assert!(was_there || !Bridge::is_there(), "{BRIDGE} is left");
}

/// [`BRIDGE`] lies in the network of this machine, where an engine keeps one that it
/// has not made, and where a failed test would leave it: its hosts end, and it is not theirs.
pub(super) struct Bridge {
    was_there: bool,
}

impl Bridge {
    /// To be dropped when no engine is in a Swarm any more.
    pub(super) fn watched() -> Self {
        Self { was_there: Self::is_there() }
    }

    fn is_there() -> bool {
        Path::new("/sys/class/net").join(BRIDGE).exists()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if !self.was_there && Self::is_there() {
            run(timed(10, "ip").args(["link", "delete", BRIDGE]));
        }
    }
}

/// Who holds a volume, as a host sees it: the host's name, and the client's address as the
/// cluster's blocklist would name it.
#[track_caller]
fn holder(seen_from: &Host, volume: &str) -> [String; 2] {
    let status = seen_from.docker().inspect(volume)["Status"].clone();
    ["host", "address"].map(|field| {
        let text = status["holder"][field].as_str();
        text.unwrap_or_else(|| panic!("{volume} has a holder: {status}")).to_owned()
    })
}

/// Who was shut out since. Entries of earlier tests may go meanwhile: their hosts remove them.
fn fenced_since(host: &Host, before: &[String]) -> Vec<String> {
    fenced(host).into_iter().filter(|address| !before.contains(address)).collect()
}

/// The addresses of the clients that are shut out of the cluster.
fn fenced(host: &Host) -> Vec<String> {
    let list = host.lab().ceph(&["osd", "blocklist", "ls"]);
    list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// What a container has synced, by its own file system, whatever its engine does: the last line may
/// not be on the disk yet.
fn synced(pid: &str) -> u64 {
    let log = fs::read_to_string(format!("/proc/{pid}/root/data/log"));
    let lines = log.expect("the container is running").lines().count();
    u64::try_from(lines).expect("a small number").saturating_sub(1)
}

#[test]
fn a_swarm_moves_a_task_with_its_volume_and_never_has_it_written_twice() {
    on_two(|one, other| {
        let flags = [&EAGER[..], &["--busy-wait", "7s", "--fence-after", "5s"]].concat();
        one.daemon(&flags);
        other.daemon(&flags);
        in_a_swarm(one, other, |one, other, volume| {
            let before = fenced(one);
            set_availability(one.docker(), other.docker(), "drain");
            let service = Service::new(one.docker(), one.fresh("service"), &volume);
            let first = service.await_recording(one.docker(), 0);
            let container = is_moved_by_a_drain(&service, one, other, &first);
            assert_eq!(fenced_since(one, &before), [""; 0], "fenced in a drain");
            set_availability(one.docker(), one.docker(), "active");
            let acknowledged = survives_a_split_brain(&service, one, other, &container);
            assert_eq!(fenced_since(one, &before), [""; 0], "fenced while it lived");
            service.remove(&[one.docker(), other.docker()]);
            one.assert_released();
            other.assert_released();
            assert_recorded(other.docker(), &volume, acknowledged);
        });
    });
}

/// The old task's end is waited for: nobody is fenced, and it goes on where it was.
fn is_moved_by_a_drain(service: &Service<'_>, one: &Host, other: &Host, container: &str) -> String {
    assert_eq!(holder(other, service.volume())[0], one.name());
    let start = Instant::now();
    let (moved, acknowledged) = service.drain(one.docker(), container, other.docker());
    println!("moved by a drain in {:.1} s", start.elapsed().as_secs_f64());
    service.assert_inherited(other.docker(), &moved, acknowledged);
    moved
}

/// A node whose engine is dead is down to Swarm, but its container writes on. The last record that
/// the new task has acknowledged.
fn survives_a_split_brain(
    service: &Service<'_>,
    one: &Host,
    other: &mut Host,
    container: &str,
) -> u64 {
    let held = holder(one, service.volume());
    assert_eq!(held[0], other.name());
    let pid = other.docker().state(container, "State.Pid");
    other.kill_engine();
    let start = Instant::now();
    let refusal = format!("in use on host {}", other.name());
    // Swarm tries again, and is refused again, for as long as the old task's container writes.
    let refused = || service.errors().matches(&refusal).count() >= 2;
    assert!(within_by(SWARM, Duration::from_millis(500), refused), "{}", service.tasks());
    println!("refused twice in {:.1} s", start.elapsed().as_secs_f64());
    let before = synced(&pid);
    assert!(within(SWARM, || synced(&pid) > before + 3), "the old task's container stands still");
    assert_eq!(holder(one, service.volume()), held, "by the same client as before");

    // The engine that comes back kills the container, and knows of no mount.
    let acknowledged = synced(&pid);
    let start = Instant::now();
    other.start_engine(&[]);
    let moved = service.await_recording(one.docker(), acknowledged);
    println!("moved in {:.1} s after the engine came back", start.elapsed().as_secs_f64());
    service.assert_inherited(
        one.docker(),
        &moved,
        acknowledged.max(recorded(other.docker(), container)),
    );
    recorded(one.docker(), &moved)
}

#[test]
fn a_swarm_moves_the_task_of_a_dead_node_with_its_volume() {
    on_two(|one, other| {
        let flags = ["--reconcile-interval", "1s", "--fence-after", "5s"];
        one.daemon(&flags);
        other.daemon(&flags);
        other.announce("volume was taken from this host");
        in_a_swarm(one, other, |one, other, volume| {
            set_availability(one.docker(), one.docker(), "drain");
            let service = Service::new(one.docker(), one.fresh("service"), &volume);
            let container = service.await_recording(other.docker(), 0);
            set_availability(one.docker(), one.docker(), "active");
            let (mark, acknowledged) = is_taken_from_a_dead_node(&service, one, other, &container);
            service.remove(&[one.docker(), other.docker()]);
            one.assert_released();
            other.assert_released();
            // Mounted anew: what has landed on the disk is seen, whatever was in a cache.
            let there = one.docker().script(at_data!(volume), "cat /data/mark");
            assert_eq!(there, mark, "a write of the dead node has landed");
            assert_recorded(one.docker(), &volume, acknowledged);
        });
    });
}

/// The node is fenced, and notices when it goes on. The number that its counter had come to, and
/// the last record that the new task has acknowledged.
///
/// Only the engine is asked about the frozen host's container: who touches a frozen file system,
/// if only to read, may wait for its journal, and nothing ends that wait.
fn is_taken_from_a_dead_node(
    service: &Service<'_>,
    one: &Host,
    other: &Host,
    old: &str,
) -> (String, u64) {
    let [_, address] = holder(one, service.volume());
    let processes = servers(other);
    other.docker().ok(&["exec", "--detach", old, "sh", "-c", COUNTER]);
    let counts = || other.docker().exec(old, "cat /data/mark || true").as_str() > "1000003";
    assert!(within(SOON, counts), "the counter stands still");

    freeze(other, &processes, true);
    let acknowledged = recorded(other.docker(), old);
    other.signal_engine(Signal::SIGSTOP);
    let start = Instant::now();
    let moved = service.await_recording(one.docker(), acknowledged);
    println!("taken over in {:.1} s", start.elapsed().as_secs_f64());
    assert!(fenced(one).contains(&address), "{address} writes on");
    let mark = one.docker().exec(&moved, "cat /data/mark");

    // Before its engine, which ends the container when Swarm tells it to.
    freeze(other, &processes, false);
    let noticed = within(SOON, || {
        let reply = other.call("Get", &json!({"Name": service.volume()})).expect("an answer");
        reply.json["Volume"]["Status"]["state"] == "broken"
    });
    assert!(noticed, "{} did not notice", other.name());
    other.signal_engine(Signal::SIGCONT);
    other.assert_released();
    service.await_recording(one.docker(), recorded(one.docker(), &moved));
    service.assert_inherited(one.docker(), &moved, acknowledged);
    (mark, recorded(one.docker(), &moved))
}

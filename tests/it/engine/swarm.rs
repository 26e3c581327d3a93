//! A Swarm of two nodes, which moves a task with its volume: when it is asked to, when it believes
//! a node dead that is not, and when the node is.
//!
//! `one` is the manager, `other` the node that something happens to.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::engine::takeover::{freeze, rbd_fuses};
use crate::engine::{VERIFIER, assert_recorded, recorded};
use crate::support::daemon::{run, timed, within, within_by};
use crate::support::host::{EAGER, Host, IMAGE, on_two};

/// For what Swarm does in some 20 s: it finds a node down, and tries a task again after 5 s.
const SWARM: Duration = Duration::from_secs(120);

/// The image under a name whose registry refuses at once: a node looks there first, and then takes
/// its own. By the usual name it would look on the Internet.
const LOCAL_IMAGE: &str = "127.0.0.1:1/busybox";

/// Swarm's own bridge.
const BRIDGE: &str = "docker_gwbridge";

/// The recorder for one container after the other: it goes on with the number that it finds. What a
/// host's death has left of a last line was not acknowledged, and is cut off.
const HEIR: &str = "\
    trap 'exit 0' TERM; touch /data/log; i=$(wc -l < /data/log); \
    truncate -s $(head -n $i /data/log | wc -c) /data/log; \
    record() { \
      echo \"$i $(echo record $i | sha256sum | cut -d' ' -f1)\" >> /data/log && sync /data/log; \
    }; \
    while true; do \
      i=$((i + 1)); \
      record 2> /dev/null || { echo failed; sleep 1000000 & wait; }; \
      echo $i; sleep 0.1; \
    done";

/// One replica of the recorder, with its volume.
struct Service<'a> {
    manager: &'a Host,
    name: String,
    volume: String,
}

impl<'a> Service<'a> {
    /// Its task starts on the node that is not drained.
    fn new(manager: &'a Host, volume: &str) -> Self {
        let name = manager.fresh("service");
        let mount = format!("type=volume,src={volume},dst=/data,volume-driver=ceph");
        let words = ["service", "create", "--detach", "--no-resolve-image", "--name", &name];
        let task = ["--mount", &mount, LOCAL_IMAGE, "sh", "-c", HEIR];
        manager.docker().ok(&[&words[..], &task].concat());
        Self { manager, name, volume: volume.to_owned() }
    }

    /// Its running containers on a host.
    fn containers(&self, host: &Host) -> Vec<String> {
        let filter = format!("label=com.docker.swarm.service.name={}", self.name);
        let text = host.docker().ok(&["ps", "--quiet", "--filter", &filter]);
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a container on the host has acknowledged some records more than so many.
    #[track_caller]
    fn await_recording(&self, host: &Host, before: u64) -> String {
        let mut found = None;
        let on = within(SWARM, || {
            found = self.containers(host).pop();
            found.as_ref().is_some_and(|container| recorded(host.docker(), container) > before + 3)
        });
        assert!(on, "{found:?} on {} is not beyond {before}:\n{}", host.name(), self.tasks());
        found.expect("it is recording")
    }

    fn tasks(&self) -> String {
        self.manager.docker().ok(&["service", "ps", "--no-trunc", &self.name])
    }

    /// The errors of its tasks, an attempt to start a line.
    fn errors(&self) -> String {
        let words = ["service", "ps", "--no-trunc", "--format", "{{.Error}}", &self.name];
        self.manager.docker().ok(&words)
    }

    /// Every acknowledged record was there when the container began, and is whole.
    #[track_caller]
    fn assert_inherited(&self, host: &Host, container: &str, acknowledged: u64) {
        // Any record that it had missed it would have written anew.
        let said = host.docker().ok(&["logs", container]);
        let first: u64 = said.lines().next().and_then(|line| line.parse().ok()).unwrap_or_default();
        assert!(first > acknowledged, "{acknowledged} were acknowledged, it began with {first}");
        let there = host.docker().exec(container, VERIFIER);
        assert!(there.parse::<u64>().is_ok_and(|last| last >= first), "{}: {there}", self.volume);
    }

    /// Removes it, with everything that runs of it.
    fn remove(self, hosts: [&Host; 2]) {
        self.manager.docker().ok(&["service", "rm", &self.name]);
        for host in hosts {
            assert!(within(SWARM, || self.containers(host).is_empty()), "on {}", host.name());
            host.assert_released();
        }
    }
}

/// A test in a Swarm of two. Both drivers are active before it is made: a node without the driver
/// is given no task.
fn in_a_swarm(one: &mut Host, other: &mut Host, test: impl FnOnce(&Host, &mut Host, String)) {
    let was_there = has_bridge();
    let volume = one.volume(&[]);
    other.docker().inspect(&volume);
    for host in [&*one, &*other] {
        host.docker().ok(&["tag", IMAGE, LOCAL_IMAGE]);
    }
    let at = |address: &str| [address.to_owned(), format!("{address}:2377")];
    let [address, listen] = at("127.0.0.11");
    let docker = one.docker();
    docker.ok(&["swarm", "init", "--advertise-addr", &address, "--listen-addr", &listen]);
    docker.ok(&["swarm", "update", "--dispatcher-heartbeat", "2s"]);
    let token = docker.ok(&["swarm", "join-token", "--quiet", "worker"]);
    let [address, own] = at("127.0.0.12");
    let place = ["--token", &token, "--advertise-addr", &address, "--listen-addr", &own];
    other.docker().ok(&[&["swarm", "join"], &place[..], &[&listen]].concat());
    test(one, other, volume);
    for host in [&*other, &*one] {
        host.docker().ok(&["swarm", "leave", "--force"]);
        // Swarm leaves it behind. The node that came second may have none.
        host.docker().run(&["network", "rm", BRIDGE]);
    }
    // It lies in the network of this machine, and an engine keeps one that it has not made.
    if !was_there && has_bridge() {
        run(timed(10, "ip").args(["link", "delete", BRIDGE]));
    }
    assert!(was_there || !has_bridge(), "{BRIDGE} is left");
}

fn has_bridge() -> bool {
    Path::new("/sys/class/net").join(BRIDGE).exists()
}

fn set_availability(manager: &Host, node: &Host, availability: &str) {
    let id = node.docker().ok(&["info", "--format", "{{.Swarm.NodeID}}"]);
    manager.docker().ok(&["node", "update", "--availability", availability, &id]);
}

/// The address of the client that holds a volume, as the cluster's blocklist would name it.
fn holder(host: &Host, volume: &str) -> String {
    let status = host.docker().inspect(volume)["Status"].clone();
    let address = status["holder"]["address"].as_str();
    address.unwrap_or_else(|| panic!("{volume} has a holder: {status}")).to_owned()
}

fn is_fenced(host: &Host, address: &str) -> bool {
    let mut command = timed(30, "ceph");
    command.env("CEPH_CONF", host.lab().conf()).args(["osd", "blocklist", "ls"]);
    let output = run(&mut command);
    assert!(output.status.success(), "{output:?}");
    let list = String::from_utf8_lossy(&output.stdout);
    list.lines().any(|line| line.split(' ').next() == Some(address))
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
            set_availability(one, other, "drain");
            let service = Service::new(one, &volume);
            let first = service.await_recording(one, 0);
            let container = is_moved_by_a_drain(&service, other, &first);
            set_availability(one, one, "active");
            survives_a_split_brain(&service, other, &container);
            service.remove([one, other]);
            assert_recorded(other.docker(), &volume, 0);
        });
    });
}

/// The old task's end is waited for: nobody is fenced, and it goes on where it was.
fn is_moved_by_a_drain(service: &Service<'_>, other: &Host, container: &str) -> String {
    let one = service.manager;
    let address = holder(one, &service.volume);
    let start = Instant::now();
    set_availability(one, other, "active");
    set_availability(one, one, "drain");
    assert!(within(SWARM, || service.containers(one).is_empty()), "{}", service.tasks());
    let acknowledged = recorded(one.docker(), container);
    let moved = service.await_recording(other, acknowledged);
    println!("moved by a drain in {:.1} s", start.elapsed().as_secs_f64());
    service.assert_inherited(other, &moved, acknowledged);
    assert!(!is_fenced(one, &address), "{address} was fenced");
    moved
}

/// A node whose engine is dead is down to Swarm, but its container writes on.
fn survives_a_split_brain(service: &Service<'_>, other: &mut Host, container: &str) {
    let one = service.manager;
    let address = holder(other, &service.volume);
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
    assert!(!is_fenced(one, &address), "{address} was fenced");

    // The engine that comes back kills the container, and knows of no mount.
    let acknowledged = synced(&pid);
    let start = Instant::now();
    other.start_engine(&[]);
    let moved = service.await_recording(one, acknowledged);
    println!("moved in {:.1} s after the engine came back", start.elapsed().as_secs_f64());
    service.assert_inherited(one, &moved, acknowledged.max(recorded(other.docker(), container)));
    assert!(!is_fenced(one, &address), "{address} was fenced");
}

#[test]
fn a_swarm_moves_the_task_of_a_dead_node_with_its_volume() {
    on_two(|one, other| {
        let flags = ["--reconcile-interval", "1s", "--fence-after", "5s"];
        one.daemon(&flags);
        other.daemon(&flags);
        other.announce("volume was taken from this host");
        in_a_swarm(one, other, |one, other, volume| {
            set_availability(one, one, "drain");
            let service = Service::new(one, &volume);
            let container = service.await_recording(other, 0);
            set_availability(one, one, "active");
            let address = holder(other, &volume);
            let processes = rbd_fuses(other);

            freeze(other, &processes, true);
            let acknowledged = recorded(other.docker(), &container);
            other.signal_engine(Signal::SIGSTOP);
            let start = Instant::now();
            let moved = service.await_recording(one, acknowledged);
            println!("taken over in {:.1} s", start.elapsed().as_secs_f64());
            assert!(is_fenced(one, &address), "{address} writes on");

            other.signal_engine(Signal::SIGCONT);
            freeze(other, &processes, false);
            // Its engine is told to end the task; what the task still had to write lands nowhere.
            other.assert_released();
            service.await_recording(one, recorded(one.docker(), &moved));
            service.assert_inherited(one, &moved, acknowledged);
            service.remove([one, other]);
            assert_recorded(one.docker(), &volume, acknowledged);
        });
    });
}

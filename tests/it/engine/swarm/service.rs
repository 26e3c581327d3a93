//! A Swarm of two engines, and a service whose one task keeps records in a volume.

use std::time::Duration;

use crate::engine::{VERIFIER, record, recorded};
use crate::support::daemon::within;
use crate::support::host::{Docker, IMAGE};

/// For what Swarm does in some 20 s: it finds a node down, and tries a task again after 5 s.
pub(crate) const SWARM: Duration = Duration::from_secs(120);

/// Swarm's own bridge, which it leaves behind.
pub(crate) const BRIDGE: &str = "docker_gwbridge";

/// The image under a name whose registry refuses at once: a node looks there first, and then takes
/// its own. By the usual name it would look on the Internet.
const LOCAL_IMAGE: &str = "127.0.0.1:1/busybox";

/// The recorder for one container after the other: it goes on with the number that it finds. What a
/// host's death has left of a last line was not acknowledged, and is cut off.
const HEIR: &str = concat!(
    "trap 'exit 0' TERM; touch /data/log; i=$(wc -l < /data/log); ",
    "truncate -s $(head -n $i /data/log | wc -c) /data/log; while true; do ",
    record!(),
    "sleep 0.1; done"
);

/// Makes one Swarm of two engines, each at its address: a manager and a worker. With two managers,
/// the death of either would end the Swarm.
///
/// Both have the driver in use before: a node without it is given no task.
pub(crate) fn make(manager: (&Docker, &str), worker: (&Docker, &str), volume: &str) {
    for (docker, _) in [manager, worker] {
        docker.inspect(volume);
        docker.ok(&["tag", IMAGE, LOCAL_IMAGE]);
    }
    let (docker, address) = manager;
    let listen = format!("{address}:2377");
    docker.ok(&["swarm", "init", "--advertise-addr", address, "--listen-addr", &listen]);
    docker.ok(&["swarm", "update", "--dispatcher-heartbeat", "2s"]);
    let token = docker.ok(&["swarm", "join-token", "--quiet", "worker"]);
    let (docker, address) = worker;
    let own = format!("{address}:2377");
    let place = ["--token", &token, "--advertise-addr", address, "--listen-addr", &own];
    docker.ok(&[&["swarm", "join"], &place[..], &[&listen]].concat());
}

pub(crate) fn leave(docker: &Docker) {
    docker.ok(&["swarm", "leave", "--force"]);
    // Of two nodes in one network, the second may have none.
    docker.run(&["network", "rm", BRIDGE]);
}

pub(crate) fn set_availability(manager: &Docker, node: &Docker, availability: &str) {
    let id = node.ok(&["info", "--format", "{{.Swarm.NodeID}}"]);
    manager.ok(&["node", "update", "--availability", availability, &id]);
}

/// One replica of the recorder, with its volume.
pub(crate) struct Service<'a> {
    manager: &'a Docker,
    name: String,
    volume: String,
}

impl<'a> Service<'a> {
    /// Its task starts on the node that is not drained.
    pub(crate) fn new(manager: &'a Docker, name: String, volume: &str) -> Self {
        let mount = format!("type=volume,src={volume},dst=/data,volume-driver=ceph");
        let words = ["service", "create", "--detach", "--no-resolve-image", "--name", &name];
        let task = ["--mount", &mount, LOCAL_IMAGE, "sh", "-c", HEIR];
        manager.ok(&[&words[..], &task].concat());
        Self { manager, name, volume: volume.to_owned() }
    }

    pub(crate) fn volume(&self) -> &str {
        &self.volume
    }

    /// Its running containers on a node.
    pub(crate) fn containers(&self, node: &Docker) -> Vec<String> {
        let filter = format!("label=com.docker.swarm.service.name={}", self.name);
        let text = node.ok(&["ps", "--quiet", "--filter", &filter]);
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a container on the node has acknowledged some records more than so many.
    #[track_caller]
    pub(crate) fn await_recording(&self, node: &Docker, before: u64) -> String {
        let mut found = None;
        let on = within(SWARM, || {
            found = self.containers(node).pop();
            found.as_ref().is_some_and(|container| recorded(node, container) > before + 3)
        });
        assert!(on, "{found:?} is not beyond {before}:\n{}", self.tasks());
        found.expect("it is recording")
    }

    /// Moves its task from one node to the other, whose container is the answer.
    #[track_caller]
    pub(crate) fn drain(&self, from: &Docker, container: &str, to: &Docker) -> (String, u64) {
        set_availability(self.manager, to, "active");
        set_availability(self.manager, from, "drain");
        assert!(within(SWARM, || self.containers(from).is_empty()), "{}", self.tasks());
        let acknowledged = recorded(from, container);
        (self.await_recording(to, acknowledged), acknowledged)
    }

    pub(crate) fn tasks(&self) -> String {
        self.manager.ok(&["service", "ps", "--no-trunc", &self.name])
    }

    /// The errors of its tasks, an attempt to start a line.
    pub(crate) fn errors(&self) -> String {
        let words = ["service", "ps", "--no-trunc", "--format", "{{.Error}}", &self.name];
        self.manager.ok(&words)
    }

    /// Every acknowledged record was there when the container began: any that it had missed it would
    /// have written anew. The first record of its own.
    #[track_caller]
    pub(crate) fn assert_begun_after(
        &self,
        node: &Docker,
        container: &str,
        acknowledged: u64,
    ) -> u64 {
        let said = node.ok(&["logs", container]);
        let first: u64 = said.lines().next().and_then(|line| line.parse().ok()).unwrap_or_default();
        assert!(first > acknowledged, "{acknowledged} were acknowledged, it began with {first}");
        first
    }

    /// The same, and what is there is whole.
    #[track_caller]
    pub(crate) fn assert_inherited(&self, node: &Docker, container: &str, acknowledged: u64) {
        let first = self.assert_begun_after(node, container, acknowledged);
        let there = node.exec(container, VERIFIER);
        assert!(there.parse::<u64>().is_ok_and(|last| last >= first), "{}: {there}", self.volume);
    }

    /// Removes it, with everything that runs of it on these nodes.
    #[track_caller]
    pub(crate) fn remove(self, nodes: &[&Docker]) {
        self.manager.ok(&["service", "rm", &self.name]);
        for node in nodes {
            let left = || self.containers(node);
            assert!(within(SWARM, || left().is_empty()), "{:?} are left", left());
        }
    }
}

//! Two hosts with a daemon each, one cluster, and the reference beside them.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::fault::{self, FaultPlan, Rule};
use docker_volume_ceph::service::{Lookup, Service, ServiceSettings};
use docker_volume_ceph::volume::{ImageSpec, Location};

use super::kind::Kind;
use super::reference::{HOSTS, Reference, Verdict};
use super::verb::{Answer, Verb};
use crate::sim::{Record, SimCluster, SimHost};

/// Long enough that no reference is dropped within a test, however slow the machine.
const GRACE: Duration = Duration::from_secs(3600);

/// How long a dead host's watch stands, and a little.
const WATCH_IS_OVER: Duration = Duration::from_secs(31);

/// Everything that there is in one case.
pub(super) struct World {
    pub(super) cluster: Arc<SimCluster>,
    pub(super) nodes: Vec<Node>,
    pub(super) reference: Reference,
    /// Images that nobody made by way of the driver: they stay, whatever it does.
    pub(super) foreign: BTreeSet<String>,
    pub(super) kind: Kind,
    /// A host has gone down: then, and only then, may somebody be fenced.
    rebooted: bool,
    numbers: u64,
    /// What the last mount answered.
    pub(super) mountpoint: PathBuf,
    _folder: tempfile::TempDir,
}

/// A host and the daemon on it.
pub(super) struct Node {
    pub(super) host: Arc<SimHost>,
    pub(super) plan: Arc<FaultPlan>,
    service: Arc<Service>,
    folder: PathBuf,
    /// What the daemon has surely seen in the catalog, to tell of it in an outage.
    known: BTreeSet<String>,
}

/// What came of a call to a daemon that may have died of it.
enum Attempt<T> {
    Answered(T),
    Killed,
}

impl World {
    /// Two hosts and an empty cluster.
    pub(super) fn new(kind: impl Into<Kind>) -> Self {
        Self::of_hosts(kind, &["alpha", "beta"])
    }

    /// The same with other hosts.
    pub(super) fn of_hosts(kind: impl Into<Kind>, hosts: &[&str]) -> Self {
        let kind = kind.into();
        let cluster = SimCluster::new();
        if kind == Kind::Held {
            cluster.forbid_second_writer();
        }
        // In memory, where there is such a folder: a daemon syncs each of its files to the disk.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(parent).expect("a folder for the daemons");
        let node = |name: &str| {
            let host = SimHost::boot(name, &cluster, &[kind.mapper()]);
            Node::start(host, folder.path().join(name), &cluster, kind)
        };
        let nodes = hosts.iter().map(|name| node(name)).collect();
        let reference = Reference { shared: kind == Kind::Folder, ..Reference::default() };
        Self {
            cluster,
            nodes,
            reference,
            foreign: BTreeSet::new(),
            kind,
            rebooted: false,
            numbers: 0,
            mountpoint: PathBuf::new(),
            _folder: folder,
        }
    }

    /// The daemon on a host.
    pub(super) fn service(&self, host: usize) -> &Arc<Service> {
        &self.nodes[host].service
    }

    /// A number that is new in this case.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Makes a verb, compares what came of it, and takes it over into the reference. Where `fault`
    /// strikes, the daemon is started again if it died, looks around once, and is asked again:
    /// then everything has to be as if nothing had happened. True where the verb succeeded.
    pub(super) fn verb(&mut self, host: usize, verb: &Verb, fault: Option<Rule>) -> bool {
        let verdict = self.reference.verdict(host, verb);
        let faulty = fault.is_some();
        self.nodes[host].plan.arm(fault.into_iter().collect());
        let mut attempt = self.attempt(host, verb);
        self.nodes[host].plan.arm(Vec::new());
        if faulty && !matches!(attempt, Attempt::Answered(Ok(_))) {
            self.recover(host, verb, &attempt);
            attempt = self.attempt(host, verb);
        }
        let Attempt::Answered(answer) = attempt else { panic!("{verb:?} killed without a fault") };
        let answer = match answer {
            Err(error) if faulty && verdict != Verdict::Fails && verb.was_done(&error) => Ok(None),
            other => other,
        };
        match (&answer, verdict) {
            (Err(error), Verdict::Succeeds) => panic!("{verb:?} on {host} failed: {error}"),
            (Ok(_), Verdict::Fails) => panic!("{verb:?} on {host} succeeded"),
            (Ok(_), _) => self.reference.succeeded(host, verb),
            (Err(_), _) => self.reference.failed(host, verb),
        }
        self.after(host, verb, &answer);
        answer.is_ok()
    }

    /// What a user does next: writes to what was mounted, and looks for what was written before.
    fn after(&mut self, host: usize, verb: &Verb, answer: &Answer) {
        let name = verb.volume();
        if let (Verb::Mount { .. }, Ok(Some(mountpoint))) = (verb, answer) {
            let node = &self.nodes[host];
            assert!(mountpoint.starts_with(node.mount_root()), "{}", mountpoint.display());
            let volume = self.reference.volumes.get(name).expect("it was mounted");
            self.mountpoint.clone_from(mountpoint);
            if self.can_read() {
                let read = node.host.read_at(mountpoint);
                assert_eq!(read.as_ref(), Some(&volume.records), "what {name} had before");
            }
            if !self.reference.outage {
                let record: Record = self.number();
                let mountpoint = mountpoint.clone();
                assert!(self.nodes[host].host.write_at(&mountpoint, record), "a write to {name}");
                let volume = self.reference.volumes.get_mut(name).expect("it was mounted");
                volume.records.insert(record);
            }
        }
        let seen = matches!(verb, Verb::Create { .. } | Verb::Mount { .. }) && answer.is_ok();
        if !self.reference.volumes.contains_key(name) {
            for node in &mut self.nodes {
                node.known.remove(name);
            }
        } else if seen && !self.reference.outage {
            self.nodes[host].known.insert(name.to_owned());
        }
    }

    /// After a fault: nothing has been lost or done to others, and the daemon finds its way back.
    fn recover(&mut self, host: usize, verb: &Verb, attempt: &Attempt<Answer>) {
        if matches!(attempt, Attempt::Killed) {
            self.restart(host);
        }
        assert_eq!(self.cluster.violations(), [""; 0], "after a fault in {verb:?}");
        self.assert_nothing_absent(Some(verb.volume()));
        self.assert_data();
        self.reconcile(host);
    }

    fn attempt(&self, host: usize, verb: &Verb) -> Attempt<Answer> {
        // An outage is waited out as far as there is time: little, here.
        let limit = if self.reference.outage { 50 } else { 2000 };
        let deadline = Deadline::after(Duration::from_millis(limit));
        let node = &self.nodes[host];
        node.ask(|service| verb.call(service, &deadline))
    }

    /// The calls to the cluster and to the host that a verb makes on the first host.
    pub(super) fn calls_of(&self, verb: &Verb) -> Vec<&'static str> {
        self.nodes[0].plan.arm(Vec::new());
        let attempt = self.attempt(0, verb);
        assert!(matches!(attempt, Attempt::Answered(Ok(_))), "{verb:?} without a fault");
        self.nodes[0].plan.calls()
    }

    /// The daemon dies and is started again, over the same kernel.
    pub(super) fn restart(&mut self, host: usize) {
        self.restart_with_grace(host, GRACE);
    }

    fn restart_with_grace(&mut self, host: usize, grace: Duration) {
        let node = &mut self.nodes[host];
        let (kernel, folder) = (Arc::clone(&node.host), node.folder.clone());
        *node = Node::start_with_grace(kernel, folder, &self.cluster, self.kind, grace);
    }

    /// The host's power is cut, and comes back.
    pub(super) fn reboot(&mut self, host: usize) {
        let again = self.nodes[host].host.reboot();
        self.nodes[host].host = again;
        self.restart(host);
        self.reference.rebooted(host);
        self.rebooted = true;
    }

    /// The daemon looks around.
    pub(super) fn reconcile(&mut self, host: usize) {
        self.nodes[host].reconcile();
        self.reference.reconciled(host);
        if !self.reference.outage {
            self.nodes[host].known = self.reference.volumes.keys().cloned().collect();
        }
    }

    /// More time passes than any grace or lingering watch lasts.
    pub(super) fn let_time_pass(&mut self) {
        self.cluster.advance(WATCH_IS_OVER);
        for host in 0..HOSTS {
            // The daemon's own clock cannot be moved: one without any grace stands in for it.
            self.restart_with_grace(host, Duration::ZERO);
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(1));
                self.nodes[host].reconcile();
            }
            self.restart(host);
            self.reference.grace_passed(host);
        }
        for volume in self.reference.volumes.values_mut() {
            volume.stale_watch = false;
        }
    }

    /// The cluster goes away, or comes back and the daemons look around.
    pub(super) fn set_outage(&mut self, outage: bool) {
        let back = self.reference.outage && !outage;
        self.cluster.set_reachable(!outage);
        self.reference.outage = outage;
        for host in (0..HOSTS).filter(|_| back) {
            self.reconcile(host);
        }
    }

    /// Compares everything with the reference.
    pub(super) fn assert_agreement(&self) {
        assert_eq!(self.cluster.violations(), [""; 0]);
        // Whoever has let go of a volume has dropped its claim: nobody takes it for dead.
        assert!(self.rebooted || self.cluster.fenced().is_empty(), "a living host was fenced");
        self.assert_nothing_absent(None);
        self.assert_kernels();
        self.assert_data();
        self.assert_keys();
        let volumes = self.reference.volumes.iter();
        let volumes = volumes.filter(|(_, volume)| volume.adopted.is_none());
        let expected = volumes.map(|(name, _)| name.clone());
        let mut expected: Vec<String> = expected.chain(self.foreign.iter().cloned()).collect();
        expected.sort();
        assert_eq!(self.stored(), expected, "what is stored");
        assert_eq!(self.trash_len(), self.reference.trash.len(), "what is in the trash");
    }

    /// `get` and `list` tell of every volume, `besides` left out.
    fn assert_nothing_absent(&self, besides: Option<&str>) {
        for (at, node) in self.nodes.iter().enumerate() {
            let listed = node.service.list();
            let listed: BTreeSet<String> =
                listed.into_iter().map(|volume| volume.name.to_string()).collect();
            if besides.is_none() && !self.reference.outage {
                assert_eq!(listed, self.reference.volumes.keys().cloned().collect(), "on {at}");
            }
            for (name, volume) in &self.reference.volumes {
                if besides == Some(name) {
                    continue;
                }
                let known = node.known.contains(name);
                assert!(!known || listed.contains(name), "{name} is not in {listed:?} on {at}");
                match node.service.get(&name.parse().expect("a name")) {
                    Lookup::Absent => panic!("{name} is absent on {at}"),
                    Lookup::Unknown => {
                        assert!(self.reference.outage && !known, "{name} is unknown on {at}");
                    }
                    Lookup::Found(view) if !self.reference.outage => {
                        assert_eq!(view.status.size, volume.size, "the size of {name} on {at}");
                    }
                    Lookup::Found(_) => {}
                }
            }
        }
    }

    /// What is used is mounted; what is not is neither mounted nor mapped; nothing else is.
    fn assert_kernels(&self) {
        for at in 0..HOSTS {
            let (mapped, mounted) = (self.attached(at), self.mounted(at));
            for name in mapped.iter().chain(&mounted) {
                assert!(self.reference.volumes.contains_key(name), "{name} is left on {at}");
            }
            for (name, volume) in &self.reference.volumes {
                let here = &volume.on[at];
                let mapped = mapped.iter().filter(|image| *image == name).count();
                let mounted = mounted.iter().filter(|image| *image == name).count();
                let found = (mapped, mounted);
                if here.is_certain() {
                    assert_eq!(found, (1, 1), "{name} on {at} is used: {here:?}");
                } else if here.is_over() {
                    assert_eq!(found, (0, 0), "{name} on {at} is not used: {here:?}");
                }
            }
        }
    }

    /// A host reads a folder only where the cluster answers; of an image it has a cache.
    fn can_read(&self) -> bool {
        matches!(self.kind, Kind::Image(_)) || !self.reference.outage
    }

    /// What was written is there, in the cluster and in every container.
    fn assert_data(&self) {
        for (name, volume) in &self.reference.volumes {
            // What a fault has kept from its place is looked for after the recovery.
            if let Some(records) = self.records(name) {
                assert_eq!(records, volume.records, "what is written in {name}");
            }
            for (at, node) in self.nodes.iter().enumerate().filter(|_| self.can_read()) {
                for container in &volume.on[at].containers {
                    let read = node.host.read_in(container);
                    assert_eq!(read.as_ref(), Some(&volume.records), "in {container} on {at}");
                }
            }
        }
    }
}

impl Node {
    fn start(host: Arc<SimHost>, folder: PathBuf, cluster: &Arc<SimCluster>, kind: Kind) -> Self {
        Self::start_with_grace(host, folder, cluster, kind, GRACE)
    }

    fn start_with_grace(
        host: Arc<SimHost>,
        folder: PathBuf,
        cluster: &Arc<SimCluster>,
        kind: Kind,
        grace: Duration,
    ) -> Self {
        let plan = Arc::new(FaultPlan::unwinding());
        let client = cluster.client();
        let (client, system) = fault::wrap_with(&plan, client, Arc::clone(&host) as _);
        let service = Service::open(settings(&folder, kind, grace), client, system);
        let service = service.expect("the daemon starts");
        service.listen();
        Self { host, plan, service, folder, known: BTreeSet::new() }
    }

    fn mount_root(&self) -> PathBuf {
        self.folder.join("volumes")
    }

    fn reconcile(&self) {
        self.service.reconcile(&Deadline::after(Duration::from_secs(2)));
    }

    /// The daemon looks around, and serves what is due by its schedules. False where it has died of
    /// it.
    pub(super) fn look_at_schedules(&self) -> bool {
        let deadline = Deadline::after(Duration::from_secs(5));
        let looked = self.ask(|service| {
            service.reconcile(&deadline);
            for serving in service.serve_schedules(&deadline) {
                let served = serving.join();
                assert!(served.is_ok() || self.plan.is_dead(), "serving a schedule panicked");
            }
        });
        matches!(looked, Attempt::Answered(()))
    }

    /// Asks the daemon, which may die of it.
    fn ask<T>(&self, question: impl FnOnce(&Service) -> T) -> Attempt<T> {
        let answer = catch_unwind(AssertUnwindSafe(|| question(&self.service)));
        match answer {
            _ if self.plan.is_dead() => Attempt::Killed,
            Ok(answer) => Attempt::Answered(answer),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Where a volume's image lies.
pub(super) fn image(name: &str) -> ImageSpec {
    home().image(name)
}

pub(super) fn home() -> Location {
    Location::new("rbd", "docker")
}

fn settings(folder: &Path, kind: Kind, grace: Duration) -> ServiceSettings {
    ServiceSettings {
        home: home(),
        state_folder: folder.join("run"),
        cache_folder: folder.join("lib"),
        mount_root: folder.join("volumes"),
        mapper: Some(kind.mapper()),
        cephfs_own_key: false,
        defaults: kind.defaults(),
        max_size: None,
        bare_size_unit: None,
        busy_wait: Duration::from_millis(10),
        clock_refresh: Duration::ZERO,
        hooks_folder: folder.join("hooks.d"),
        hook_limit: Duration::from_secs(5),
        freeze_limit: Duration::from_secs(5),
        engine_socket: folder.join("engine.sock"),
        fence_after: Duration::ZERO,
        reference_grace: grace,
    }
}

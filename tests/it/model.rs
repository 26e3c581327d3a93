//! The service against a reference model: random sequences of everything that users, the engine
//! and fate do to it, on two hosts, compared after every step.
//!
//! What is compared: which volumes there are, which are mounted where, every record that was ever
//! written, that nothing in use is torn down and nothing out of use is left, that a volume which
//! exists is never said to be absent, and that the simulation has seen nothing that must never
//! happen. A failed call has changed nothing that a user can see.
//!
//! [`faults`] does the same with a fault at each call to the cluster and to the host in turn.
//!
//! `DOCKER_CEPH_REPEATS` multiplies the cases. What proptest finds is printed as the shortest
//! sequence; it becomes a test of its own here, not a line in a file of seeds.

mod catalog;
mod faults;
mod kind;
mod meanwhile;
mod reference;
mod schedules;
mod simulation;
mod situations;
mod stored;
mod takeover;
mod verb;
mod world;

use docker_volume_ceph::fault::{Fault, Flavour, Rule};
use docker_volume_ceph::volume::{ByteSize, MapperKind};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::support::repeats;
use kind::Kind;
use reference::HOSTS;
use verb::Verb;
use world::World;

/// Few names, so that they meet.
const NAMES: [&str; 3] = ["pgdata", "logs", "www"];

/// Something that happens. Numbers stand for one of what there is, modulo its count: every
/// sequence is possible.
#[derive(Debug, Clone, Copy)]
enum Op {
    Create {
        large: bool,
    },
    Remove,
    /// A mount without a container yet, as of a `docker cp` or a start that takes long.
    Mount,
    /// The engine takes back one of its mounts.
    Unmount {
        which: u8,
    },
    /// The engine takes back a mount that the driver never saw.
    UnmountUnknown,
    /// `docker start`.
    Start,
    /// A container ends; the engine says so, or does not.
    Stop {
        which: u8,
        told: bool,
    },
    /// `docker cp` into a running container: its own ID, mounted and unmounted.
    Copy {
        which: u8,
    },
    /// The same ID once more, as after an unmount that failed.
    MountAgain {
        which: u8,
    },
    Resize,
    Undelete,
    Protect {
        on: bool,
    },
    /// The daemon is killed and started again.
    Crash,
    Reboot,
    Outage {
        on: bool,
    },
    Reconcile,
    TimePasses,
}

/// A step: what happens, where, to which volume.
#[derive(Debug, Clone, Copy)]
struct Step {
    op: Op,
    host: u8,
    name: u8,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => any::<bool>().prop_map(|large| Op::Create { large }),
        3 => Just(Op::Remove),
        4 => Just(Op::Mount),
        4 => any::<u8>().prop_map(|which| Op::Unmount { which }),
        1 => Just(Op::UnmountUnknown),
        6 => Just(Op::Start),
        5 => any::<(u8, bool)>().prop_map(|(which, told)| Op::Stop { which, told }),
        2 => any::<u8>().prop_map(|which| Op::Copy { which }),
        2 => any::<u8>().prop_map(|which| Op::MountAgain { which }),
        2 => Just(Op::Resize),
        2 => Just(Op::Undelete),
        1 => any::<bool>().prop_map(|on| Op::Protect { on }),
        2 => Just(Op::Crash),
        1 => Just(Op::Reboot),
        2 => any::<bool>().prop_map(|on| Op::Outage { on }),
        3 => Just(Op::Reconcile),
        1 => Just(Op::TimePasses),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    // Most happens on one host: else two would mostly refuse each other.
    let host = prop_oneof![3 => Just(0_u8), 1 => Just(1_u8)];
    (any_op(), host, any::<u8>()).prop_map(|(op, host, name)| Step { op, host, name })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    // fuse pins no lock: with it, only the driver's own guards stand between two writers.
    prop_oneof![
        2 => Just(Kind::Image(MapperKind::Fuse)),
        1 => Just(Kind::Image(MapperKind::Krbd)),
        2 => Just(Kind::Folder),
        1 => Just(Kind::Held),
    ]
}

fn any_fault() -> impl Strategy<Value = Option<Rule>> {
    let fault = prop_oneof![
        Just(Fault::FailBefore(Flavour::Passing)),
        Just(Fault::FailBefore(Flavour::Lasting)),
        Just(Fault::FailAfter(Flavour::Passing)),
        Just(Fault::AbortBefore),
        Just(Fault::AbortAfter),
    ];
    let rule = (fault, 1_u64..25);
    let rule = rule.prop_map(|(fault, nth)| faults::at_call(fault, nth));
    prop_oneof![1 => Just(None), 2 => rule.prop_map(Some)]
}

impl World {
    /// Does a step, and compares.
    fn step(&mut self, step: Step, fault: Option<Rule>) {
        let host = usize::from(step.host) % HOSTS;
        let name = NAMES[usize::from(step.name) % NAMES.len()].to_owned();
        // A fault in an outage shows nothing that the outage does not.
        let fault = fault.filter(|_| !self.reference.outage);
        match step.op {
            Op::Crash => self.restart(host),
            Op::Reboot => self.reboot(host),
            Op::Outage { on } => self.set_outage(on),
            Op::Reconcile => self.reconcile(host),
            Op::TimePasses => self.let_time_pass(),
            Op::Mount | Op::Unmount { .. } | Op::UnmountUnknown | Op::MountAgain { .. } => {
                self.mount_step(step.op, host, name, fault);
            }
            Op::Start | Op::Stop { .. } | Op::Copy { .. } => {
                self.container_step(step.op, host, name, fault);
            }
            Op::Create { .. } | Op::Remove | Op::Resize | Op::Undelete | Op::Protect { .. } => {
                let verb = self.volume_verb(step.op, name);
                self.verb(host, &verb, fault);
            }
        }
        self.assert_agreement();
    }

    fn volume_verb(&self, op: Op, name: String) -> Verb {
        match op {
            Op::Create { large } => {
                Verb::Create { name, size: ByteSize::gib(if large { 2 } else { 1 }) }
            }
            Op::Resize => {
                let now = self.reference.volumes.get(&name).map_or(1 << 30, |v| v.size.bytes());
                Verb::Resize { name, size: ByteSize(now + (1 << 30)) }
            }
            Op::Undelete => Verb::Undelete { name },
            Op::Protect { on } => Verb::Protect { name, on },
            _ => Verb::Remove { name },
        }
    }

    fn mount_step(&mut self, op: Op, host: usize, name: String, fault: Option<Rule>) {
        let verb = match op {
            Op::Mount => Verb::Mount { name, id: format!("id-{}", self.number()) },
            Op::UnmountUnknown => Verb::Unmount { name, id: format!("id-{}", self.number()) },
            Op::Unmount { which } => {
                let Some((name, id)) = self.some_id(host, which) else { return };
                Verb::Unmount { name, id }
            }
            Op::MountAgain { which } => {
                let Some((name, id)) = self.some_id(host, which) else { return };
                Verb::Mount { name, id }
            }
            _ => return,
        };
        self.verb(host, &verb, fault);
    }

    fn container_step(&mut self, op: Op, host: usize, name: String, fault: Option<Rule>) {
        match op {
            Op::Start => self.start(host, &name, fault),
            Op::Stop { which, told } => {
                let Some((name, id)) = self.some_container(host, which) else { return };
                self.stop(host, &name, &id);
                if told {
                    self.verb(host, &Verb::Unmount { name, id }, fault);
                }
            }
            Op::Copy { which } => {
                let Some((name, id)) = self.some_container(host, which) else { return };
                let mount = Verb::Mount { name: name.clone(), id: id.clone() };
                if self.verb(host, &mount, fault.clone()) {
                    self.verb(host, &Verb::Unmount { name, id }, fault);
                }
            }
            _ => {}
        }
    }

    /// `docker start`: a mount, and a container that writes.
    fn start(&mut self, host: usize, name: &str, fault: Option<Rule>) {
        let id = format!("container-{}", self.number());
        let mount = Verb::Mount { name: name.to_owned(), id: id.clone() };
        if !self.verb(host, &mount, fault) {
            return;
        }
        let mountpoint = self.mountpoint.clone();
        if !self.nodes[host].host.start_container(&id, &mountpoint) {
            return;
        }
        let record = self.number();
        let written = self.nodes[host].host.write_in(&id, record);
        assert!(written || self.reference.outage, "container {id} can write to {name}");
        let volume = self.reference.volumes.get_mut(name).expect("it was mounted");
        if written {
            volume.records.insert(record);
        }
        volume.on[host].containers.insert(id);
    }

    fn stop(&mut self, host: usize, name: &str, id: &str) {
        self.nodes[host].host.stop_container(id);
        let volume = self.reference.volumes.get_mut(name).expect("a container had it");
        let here = &mut volume.on[host];
        here.containers.remove(id);
        here.lingers |= here.ids.is_empty() && here.containers.is_empty();
    }

    /// One of the mounts that the engine knows of.
    fn some_id(&self, host: usize, which: u8) -> Option<(String, String)> {
        let volumes = self.reference.volumes.iter();
        let ids = volumes.flat_map(|(name, volume)| {
            let ids = volume.on[host].ids.iter().chain(&volume.on[host].perhaps);
            ids.map(move |id| (name.clone(), id.clone()))
        });
        pick(ids.collect(), which)
    }

    /// One of the containers that run.
    fn some_container(&self, host: usize, which: u8) -> Option<(String, String)> {
        let volumes = self.reference.volumes.iter();
        let containers = volumes.flat_map(|(name, volume)| {
            volume.on[host].containers.iter().map(move |id| (name.clone(), id.clone()))
        });
        pick(containers.collect(), which)
    }

    /// Ends whatever runs and whatever is away: then everything can be used, and removed.
    fn wind_up(&mut self) {
        self.set_outage(false);
        for host in 0..HOSTS {
            while let Some((name, id)) = self.some_container(host, 0) {
                self.stop(host, &name, &id);
            }
        }
        self.let_time_pass();
        self.assert_agreement();
        for name in NAMES.map(str::to_owned) {
            if !self.reference.volumes.contains_key(&name) {
                continue;
            }
            let id = format!("id-{}", self.number());
            self.verb(1, &Verb::Mount { name: name.clone(), id: id.clone() }, None);
            self.verb(1, &Verb::Unmount { name: name.clone(), id }, None);
            self.verb(0, &Verb::Protect { name: name.clone(), on: false }, None);
            self.verb(0, &Verb::Remove { name }, None);
        }
        self.assert_agreement();
        assert_eq!(self.cluster.watch_count(), 0, "watches that are left");
    }
}

fn pick<T>(mut from: Vec<T>, which: u8) -> Option<T> {
    let count = from.len();
    (count > 0).then(|| from.swap_remove(usize::from(which) % count))
}

/// So many cases, times `DOCKER_CEPH_REPEATS`.
fn cases(few: u32) -> Config {
    Config { cases: few * repeats(), failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn verbs_in_any_order_do_what_a_user_expects(
        kind in any_kind(),
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut world = World::new(kind);
        for step in steps {
            world.step(step, None);
        }
        world.wind_up();
    }

    #[test]
    fn a_fault_at_any_call_is_made_good_by_looking_around_and_asking_again(
        kind in any_kind(),
        steps in prop::collection::vec((any_step(), any_fault()), 1..30),
    ) {
        let mut world = World::new(kind);
        for (step, fault) in steps {
            world.step(step, fault);
        }
        world.wind_up();
    }
}

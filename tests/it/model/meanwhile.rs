//! What another host does between two steps of a verb, at every place in turn.
//!
//! One host makes a verb; just before its n-th call to the cluster or to its kernel, the other one
//! makes whole verbs of its own. Either may be refused. But afterwards the two have to agree: every
//! volume that is listed has what it stores, with all that was written in it; whatever is stored is a
//! volume's; no two hosts have written what one alone may; and everything can be mounted and removed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::fault::{Fault, Flavour, Rule};
use docker_volume_ceph::service::{Lookup, Service};
use docker_volume_ceph::volume::{ByteSize, MapperKind};

use super::faults::{create, mount, remove, unmount};
use super::kind::Kind;
use super::verb::Verb;
use super::world::World;
use crate::sim::{Record, SimHost};

/// What the other host writes into a volume that it mounts.
const MEANWHILE: Record = 7_000_000;

/// What is written before.
const BEFORE: Record = 7_000_001;

/// What the first host does.
#[derive(Debug, Clone)]
enum Work {
    Verb(Verb),
    Reconcile,
    Rebuild,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(2))
}

/// For verbs in the middle of another host's, which can only wait for what does not go on.
fn brief() -> Deadline {
    Deadline::after(Duration::from_millis(300))
}

/// Makes a verb and writes a record where it mounted something. What was written is noted.
fn make(
    verb: &Verb,
    by: &Deadline,
    service: &Service,
    host: &SimHost,
    record: Record,
    notes: &Notes,
) -> bool {
    let answer = verb.call(service, by);
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(Some(mountpoint)) = &answer {
        assert!(host.write_at(mountpoint, record), "a write to what was mounted");
        notes.there.insert(record);
    }
    match (verb, &answer) {
        (Verb::Remove { .. }, Ok(_)) => notes.trashed = std::mem::take(&mut notes.there),
        (Verb::Undelete { .. }, Ok(_)) => notes.there = std::mem::take(&mut notes.trashed),
        _ => {}
    }
    answer.is_ok()
}

/// The records that the volume has to hold, and those that one in the trash had.
#[derive(Debug, Default)]
struct Noted {
    there: BTreeSet<Record>,
    trashed: BTreeSet<Record>,
}

type Notes = Arc<Mutex<Noted>>;

/// Tries `work` on the first host with `others` on the second in the middle of it, at each place.
fn at_every_place(before: &[Verb], work: &Work, others: &[Verb]) {
    let prepare = |world: &World, notes: &Notes| {
        let (service, kernel) = (world.service(0), &world.nodes[0].host);
        for verb in before {
            assert!(make(verb, &soon(), service, kernel, BEFORE, notes), "{verb:?}");
        }
    };
    at_every_place_after(&prepare, work, others);
}

/// The same, where more has happened before than verbs that succeed.
fn at_every_place_after(prepare: &dyn Fn(&World, &Notes), work: &Work, others: &[Verb]) {
    for kind in Kind::ALL {
        for nth in 1.. {
            let (world, notes) = (Arc::new(World::new(kind)), Notes::default());
            prepare(&world, &notes);
            let made = interrupted(&world, &notes, work, nth, others);
            let Some((done, made)) = made else { break };
            let calls = world.nodes[0].plan.calls();
            let place = calls[usize::try_from(nth).expect("a small number") - 1];
            eprintln!("{kind}: {work:?} {done}; before {nth}, {place}: {others:?} {made:?}");
            let notes = notes.lock().unwrap_or_else(PoisonError::into_inner).there.clone();
            assert_settled(&world, &notes);
        }
    }
}

/// Does the first host's work, with the second's before its `nth` call. Says what succeeded;
/// `None` where the work has no such call.
fn interrupted(
    world: &Arc<World>,
    notes: &Notes,
    work: &Work,
    nth: u64,
    others: &[Verb],
) -> Option<(bool, Vec<bool>)> {
    let (answer, answered) = mpsc::channel();
    let (there, noted, others) = (Arc::clone(world), Arc::clone(notes), others.to_vec());
    world.nodes[0].plan.meanwhile(nth, move || {
        let (service, kernel) = (there.service(1), &there.nodes[1].host);
        let make = |verb: &Verb| make(verb, &brief(), service, kernel, MEANWHILE, &noted);
        let made = others.iter().map(make);
        let made: Vec<bool> = made.collect();
        answer.send(made).expect("it is waited for");
    });
    let service = world.service(0);
    let done = match work {
        Work::Verb(verb) => make(verb, &soon(), service, &world.nodes[0].host, BEFORE + 1, notes),
        Work::Rebuild => service.rebuild(&soon()).is_ok(),
        Work::Reconcile => {
            service.reconcile(&soon());
            true
        }
    };
    answered.try_recv().ok().map(|made| (done, made))
}

/// Both hosts look around; then all is as the module says.
fn assert_settled(world: &World, notes: &BTreeSet<Record>) {
    for host in [0, 1, 0] {
        world.service(host).reconcile(&soon());
    }
    assert_eq!(world.cluster.violations(), [""; 0]);
    let listed = world.service(0).list();
    let names: BTreeSet<String> = listed.iter().map(|volume| volume.name.to_string()).collect();
    assert_eq!(world.stored(), names.iter().cloned().collect::<Vec<_>>(), "stored, and volumes");
    world.assert_keys();
    for host in [0, 1] {
        let all = [world.attached(host), world.mounted(host)].concat();
        assert!(all.iter().all(|name| names.contains(name)), "{all:?} are left on {host}");
    }
    let mapped = world.nodes.iter().flat_map(|node| node.host.mapped_images()).count();
    assert_eq!(world.cluster.watch_count(), mapped, "watches and devices");
    if !names.contains("v") {
        assert!(notes.is_empty(), "{notes:?} were lost with the volume");
        return;
    }
    let records = world.records("v").expect("it is stored");
    assert_eq!(&records, notes, "what is written in the volume");
    for host in [0, 1] {
        for id in ["a", "b", "c"] {
            drop(unmount(id).call(world.service(host), &soon()));
        }
    }
    for host in [1, 0] {
        mount("c").call(world.service(host), &soon()).expect("it can be mounted");
        unmount("c").call(world.service(host), &soon()).expect("it can be unmounted");
    }
    remove().call(world.service(1), &soon()).expect("it can be removed");
    let gone = world.service(0).get(&"v".parse().expect("a name"));
    assert_eq!(gone, Lookup::Absent);
    assert_eq!(world.cluster.watch_count(), 0);
    world.assert_keys();
}

/// A volume whose removal stopped when what it stores was in the trash and its record was not dropped.
fn half_removed(world: &World, _: &Notes) {
    create().call(world.service(1), &soon()).expect("created");
    let rule = Rule {
        fault: Fault::FailBefore(Flavour::Lasting),
        call: "cluster.omap_compare_and_set".to_owned(),
        nth: 2,
        onwards: true,
    };
    let plan = &world.nodes[1].plan;
    plan.arm(vec![rule]);
    remove().call(world.service(1), &soon()).expect_err("its record cannot be dropped");
    plan.arm(Vec::new());
    assert_eq!((world.stored().len(), world.trash_len()), (0, 1));
}

fn used_once() -> [Verb; 3] {
    [create(), mount("a"), unmount("a")]
}

fn large() -> Verb {
    Verb::Create { name: "v".to_owned(), size: ByteSize::gib(2) }
}

fn undelete() -> Verb {
    Verb::Undelete { name: "v".to_owned() }
}

#[test]
fn create_while_another_host_creates_uses_or_removes() {
    let work = Work::Verb(create());
    at_every_place(&[], &work, &[create()]);
    at_every_place(&[], &work, &[large()]);
    at_every_place(&[], &work, &[create(), mount("b")]);
    at_every_place(&[], &work, &[create(), mount("b"), unmount("b")]);
    at_every_place(&[], &work, &[remove()]);
}

#[test]
fn a_volume_that_another_host_makes_meanwhile_is_as_good_as_ones_own() {
    for nth in 1.. {
        let (world, notes) = (Arc::new(World::new(MapperKind::Krbd)), Notes::default());
        let made = interrupted(&world, &notes, &Work::Verb(create()), nth, &[create()]);
        let Some((done, _)) = made else { return };
        assert!(done, "with a create of the other host before call {nth}");
    }
}

#[test]
fn create_while_another_host_creates_and_removes_leaves_no_image() {
    at_every_place(&[], &Work::Verb(create()), &[create(), remove()]);
}

#[test]
fn the_first_mount_while_another_host_mounts_or_removes() {
    let (work, before) = (Work::Verb(mount("a")), [create()]);
    at_every_place(&before, &work, &[mount("b")]);
    at_every_place(&before, &work, &[mount("b"), unmount("b")]);
    at_every_place(&before, &work, &[remove()]);
    at_every_place(&before, &work, &[remove(), large()]);
}

#[test]
fn a_later_mount_while_another_host_mounts_or_removes() {
    let (work, before) = (Work::Verb(mount("c")), used_once());
    at_every_place(&before, &work, &[mount("b")]);
    at_every_place(&before, &work, &[mount("b"), unmount("b")]);
    at_every_place(&before, &work, &[remove()]);
    at_every_place(&before, &work, &[remove(), create(), mount("b")]);
}

#[test]
fn a_volume_that_a_host_is_at_work_on_is_not_taken_for_one_of_nobody() {
    for nth in 1.. {
        let (world, notes) = (Arc::new(World::new(Kind::Folder)), Notes::default());
        for verb in [create(), mount("a")] {
            assert!(make(&verb, &soon(), world.service(0), &world.nodes[0].host, BEFORE, &notes));
        }
        let work = Work::Verb(mount("b"));
        let made = interrupted(&world, &notes, &work, nth, &[remove()]);
        let Some((done, removed)) = made else { return };
        assert_eq!((done, &removed[..]), (true, &[false][..]), "a remove before call {nth}");
    }
}

#[test]
fn the_last_unmount_while_another_host_mounts_or_removes() {
    let (work, before) = (Work::Verb(unmount("a")), [create(), mount("a")]);
    at_every_place(&before, &work, &[mount("b")]);
    at_every_place(&before, &work, &[mount("b"), unmount("b")]);
    at_every_place(&before, &work, &[remove()]);
    at_every_place(&before, &work, &[remove(), create(), mount("b")]);
}

#[test]
fn remove_while_another_host_mounts_or_removes() {
    for before in [&[create()][..], &used_once()] {
        let work = Work::Verb(remove());
        at_every_place(before, &work, &[mount("b")]);
        at_every_place(before, &work, &[mount("b"), unmount("b")]);
        at_every_place(before, &work, &[remove()]);
    }
}

#[test]
fn remove_while_another_host_removes_and_makes_it_anew_takes_nothing_of_the_new_one() {
    for before in [&[create()][..], &used_once()] {
        let work = Work::Verb(remove());
        at_every_place(before, &work, &[remove(), create()]);
        at_every_place(before, &work, &[remove(), create(), mount("b"), unmount("b")]);
        at_every_place(before, &work, &[create(), mount("b"), unmount("b")]);
    }
}

#[test]
fn remove_while_another_host_removes_and_brings_it_back_loses_nothing() {
    for before in [&[create()][..], &used_once()] {
        at_every_place(before, &Work::Verb(remove()), &[remove(), undelete()]);
    }
}

#[test]
fn undelete_while_another_host_undeletes_or_makes_it_anew() {
    let work = Work::Verb(undelete());
    let before = [create(), remove()];
    at_every_place(&before, &work, &[undelete()]);
    at_every_place(&before, &work, &[create()]);
    at_every_place(&before, &work, &[undelete(), mount("b"), unmount("b")]);
}

#[test]
fn looking_around_while_another_host_works() {
    let work = Work::Reconcile;
    at_every_place(&[], &work, &[create()]);
    at_every_place(&[create()], &work, &[mount("b")]);
    at_every_place(&[create()], &work, &[remove()]);
    at_every_place(&[create()], &work, &[remove(), create()]);
    at_every_place(&used_once(), &work, &[remove(), create(), mount("b")]);
}

#[test]
fn rebuilding_while_another_host_works() {
    let work = Work::Rebuild;
    at_every_place(&[], &work, &[create()]);
    at_every_place(&[create()], &work, &[mount("b")]);
    at_every_place(&[create()], &work, &[remove(), create()]);
}

#[test]
fn rebuilding_while_another_host_removes_invents_no_volume() {
    at_every_place(&[create()], &Work::Rebuild, &[remove()]);
    at_every_place(&used_once(), &Work::Rebuild, &[remove()]);
}

#[test]
fn clearing_a_half_done_remove_while_it_is_made_anew_takes_nothing_of_the_new_one() {
    let anew = [create(), mount("b"), unmount("b")];
    for work in [Work::Reconcile, Work::Verb(remove()), Work::Verb(create())] {
        at_every_place_after(&half_removed, &work, &anew);
    }
}

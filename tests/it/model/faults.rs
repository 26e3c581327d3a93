//! A fault at each call in turn: every verb, in every situation that it is likely to meet, is
//! failed before and after each of its calls to the cluster and to the host, and killed there.
//!
//! After each, the daemon (a new one, if it was killed) looks around once, is asked again, and has
//! to agree with the reference: [`World::verb`] does all of that.

use docker_volume_ceph::fault::{Fault, Flavour, Rule};
use docker_volume_ceph::volume::ByteSize;

use super::kind::Kind;
use super::verb::Verb;
use super::world::World;
use crate::sim::Record;

/// Everything that can go wrong at a call.
const FAULTS: [Fault; 6] = [
    Fault::FailBefore(Flavour::Passing),
    Fault::FailBefore(Flavour::Lasting),
    Fault::FailAfter(Flavour::Passing),
    Fault::FailAfter(Flavour::Lasting),
    Fault::AbortBefore,
    Fault::AbortAfter,
];

/// No verb makes more calls than this; one that does has lost its way.
const MOST_CALLS: usize = 100;

/// What is written in what was there before the driver.
const FOREIGN_RECORD: Record = 1_000_000;

/// The `nth` call of any name goes wrong.
pub(super) fn at_call(fault: Fault, nth: u64) -> Rule {
    Rule { fault, call: "*".to_owned(), nth, onwards: false }
}

pub(super) fn create() -> Verb {
    Verb::Create { name: "v".to_owned(), size: ByteSize::gib(1) }
}

pub(super) fn mount(id: &str) -> Verb {
    Verb::Mount { name: "v".to_owned(), id: id.to_owned() }
}

pub(super) fn unmount(id: &str) -> Verb {
    Verb::Unmount { name: "v".to_owned(), id: id.to_owned() }
}

fn adopt(kind: Kind) -> Verb {
    Verb::Adopt { name: "v".to_owned(), place: kind.foreign(), record: FOREIGN_RECORD }
}

pub(super) fn remove() -> Verb {
    Verb::Remove { name: "v".to_owned() }
}

/// Runs `verb` on the first host after the verbs of `before`, once for each fault at each of its
/// calls, and after each has everything used once more on the other host, and removed.
fn at_every_call(before: &[Verb], verb: &Verb) {
    for kind in Kind::ALL {
        at_every_call_of(kind, before, verb);
    }
}

fn at_every_call_of(kind: Kind, before: &[Verb], verb: &Verb) {
    let calls = prepared(kind, before).calls_of(verb);
    assert!((1..MOST_CALLS).contains(&calls.len()), "the calls of {verb:?}: {calls:?}");
    for fault in FAULTS {
        for nth in 1..=calls.len() {
            eprintln!("{verb:?} of {kind}: {fault:?} at {nth}, {}", calls[nth - 1]);
            let mut world = prepared(kind, before);
            world.verb(0, verb, Some(at_call(fault, nth as u64)));
            world.assert_agreement();
            world.wind_up_one();
        }
    }
}

fn prepared(kind: Kind, before: &[Verb]) -> World {
    let mut world = World::new(kind);
    world.put_foreign(FOREIGN_RECORD);
    for verb in before {
        assert!(world.verb(0, verb, None), "{verb:?} before the fault");
    }
    world
}

impl World {
    /// The volume that these tests are about is mounted on the other host, read, and removed.
    fn wind_up_one(&mut self) {
        self.let_time_pass();
        self.assert_agreement();
        if self.reference.volumes.contains_key("v") {
            assert!(self.verb(1, &mount("elsewhere"), None));
            assert!(self.verb(1, &unmount("elsewhere"), None));
            self.verb(0, &Verb::Protect { name: "v".to_owned(), on: false }, None);
            assert!(self.verb(0, &remove(), None));
        }
        self.assert_agreement();
        assert_eq!(self.cluster.watch_count(), 0, "watches that are left");
    }
}

#[test]
fn create_can_be_stopped_anywhere() {
    at_every_call(&[], &create());
}

#[test]
fn the_first_mount_can_be_stopped_anywhere() {
    at_every_call(&[create()], &mount("a"));
}

#[test]
fn a_later_mount_can_be_stopped_anywhere() {
    at_every_call(&[create(), mount("a"), unmount("a")], &mount("b"));
}

#[test]
fn a_second_mount_beside_the_first_can_be_stopped_anywhere() {
    at_every_call(&[create(), mount("a")], &mount("b"));
}

#[test]
fn the_same_mount_again_can_be_stopped_anywhere() {
    at_every_call(&[create(), mount("a")], &mount("a"));
}

#[test]
fn the_last_unmount_can_be_stopped_anywhere() {
    at_every_call(&[create(), mount("a")], &unmount("a"));
}

#[test]
fn remove_can_be_stopped_anywhere() {
    at_every_call(&[create(), mount("a"), unmount("a")], &remove());
}

#[test]
fn remove_of_what_was_never_mounted_can_be_stopped_anywhere() {
    at_every_call(&[create()], &remove());
}

#[test]
fn a_resize_while_mounted_can_be_stopped_anywhere() {
    let grow = Verb::Resize { name: "v".to_owned(), size: ByteSize::gib(3) };
    at_every_call(&[create(), mount("a")], &grow);
    at_every_call(&[create()], &grow);
}

#[test]
fn undelete_can_be_stopped_anywhere() {
    let undelete = Verb::Undelete { name: "v".to_owned() };
    at_every_call(&[create(), mount("a"), unmount("a"), remove()], &undelete);
}

#[test]
fn protecting_can_be_stopped_anywhere() {
    at_every_call(&[create()], &Verb::Protect { name: "v".to_owned(), on: true });
}

#[test]
fn adopting_and_giving_back_can_be_stopped_anywhere() {
    for kind in Kind::ALL {
        at_every_call_of(kind, &[], &adopt(kind));
        at_every_call_of(kind, &[adopt(kind)], &mount("a"));
        at_every_call_of(kind, &[adopt(kind)], &remove());
    }
}

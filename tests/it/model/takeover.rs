//! Volumes that go from one host to another without the first one's doing.

use std::path::PathBuf;
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::service::{Drained, ErrorKind, Lookup, Released, Service, VolumeError};
use docker_volume_ceph::volume::{MapperKind, Options, VolumeName};

use super::world::{World, image};

const ALPHA: usize = 0;
const BETA: usize = 1;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn v() -> VolumeName {
    "v".parse().expect("a name")
}

fn create(world: &World) {
    world.service(ALPHA).create(&v(), &Options::new(), &soon()).expect("created");
}

fn mount(world: &World, host: usize, id: &str) -> Result<PathBuf, VolumeError> {
    let mounted = world.service(host).mount(&v(), &id.parse().expect("an ID"), &soon());
    mounted.map(|mounted| mounted.mountpoint)
}

fn unmount(world: &World, host: usize, id: &str) -> Result<(), VolumeError> {
    world.service(host).unmount(&v(), &id.parse().expect("an ID"), &soon())
}

fn state(world: &World, host: usize) -> (String, Option<String>) {
    match world.service(host).get(&v()) {
        Lookup::Found(view) => (view.status.state, view.status.last_error),
        other => panic!("{other:?}"),
    }
}

/// A volume in a container on the first host, which has written record 1.
fn in_use_on_alpha(mapper: MapperKind) -> World {
    let world = World::new(mapper);
    create(&world);
    let mountpoint = mount(&world, ALPHA, "a").expect("mounted");
    let host = &world.nodes[ALPHA].host;
    assert!(host.start_container("container", &mountpoint) && host.write_in("container", 1));
    world
}

#[test]
fn a_frozen_host_loses_its_volume_and_when_it_goes_on_it_notices() {
    for mapper in [MapperKind::Fuse, MapperKind::Krbd] {
        let world = in_use_on_alpha(mapper);
        let (alpha, beta) = (&world.nodes[ALPHA].host, &world.nodes[BETA].host);
        let refused = mount(&world, BETA, "b").expect_err("alpha lives");
        assert_eq!(refused.kind, ErrorKind::InUse, "{refused}");
        assert_eq!(world.cluster.fenced(), [""; 0], "whoever answers is not fenced");

        alpha.set_frozen(true);
        let mountpoint = mount(&world, BETA, "b").expect("alpha is silent");
        assert_eq!(world.cluster.fenced().len(), 1);
        assert!(beta.write_at(&mountpoint, 2));
        alpha.set_frozen(false);
        assert!(!alpha.write_in("container", 3), "a fenced host writes nothing");

        world.service(ALPHA).check_holds(&soon());
        let (now, error) = state(&world, ALPHA);
        assert_eq!(now, "broken");
        assert!(error.is_some_and(|error| error.contains("host beta took it")));
        assert_eq!(alpha.mounted_images(), [""; 0], "the engine finds nothing mounted");
        // While anything of the client is left, its fence stays, whatever the daemon does.
        world.service(ALPHA).reconcile(&soon());
        assert_eq!(world.cluster.fenced().len(), 1);

        alpha.stop_container("container");
        world.service(ALPHA).reconcile(&soon());
        assert_eq!(alpha.mapped_images(), [""; 0]);
        world.service(ALPHA).reconcile(&soon());
        assert_eq!(world.cluster.fenced(), [""; 0], "nothing of the client is left");
        unmount(&world, BETA, "b").expect("unmounted");
        mount(&world, ALPHA, "c").expect("it can be used again");
        let records = world.cluster.content(&image("v")).expect("it is there").records();
        assert_eq!(records, [1, 2].into());
        assert_eq!(world.cluster.violations(), [""; 0]);
    }
}

#[test]
fn a_volume_that_is_held_as_it_should_be_is_left_alone() {
    let world = in_use_on_alpha(MapperKind::Fuse);
    world.service(ALPHA).check_holds(&soon());
    assert_eq!(state(&world, ALPHA), ("mounted".to_owned(), None));
    world.cluster.set_reachable(false);
    world.service(ALPHA).check_holds(&soon());
    world.cluster.set_reachable(true);
    world.service(ALPHA).reconcile(&soon());
    world.service(ALPHA).check_holds(&soon());
    assert_eq!(state(&world, ALPHA), ("mounted".to_owned(), None));
    assert!(world.nodes[ALPHA].host.write_in("container", 2));
}

#[test]
fn a_broken_volume_can_be_mounted_again_under_the_containers_that_lost_it() {
    let world = in_use_on_alpha(MapperKind::Fuse);
    world.nodes[ALPHA].host.set_frozen(true);
    mount(&world, BETA, "b").expect("alpha is silent");
    world.nodes[ALPHA].host.set_frozen(false);
    world.service(ALPHA).check_holds(&soon());
    unmount(&world, BETA, "b").expect("unmounted");
    world.nodes[ALPHA].host.stop_container("container");
    let mountpoint = mount(&world, ALPHA, "a2").expect("with a new client");
    assert!(world.nodes[ALPHA].host.write_at(&mountpoint, 2));
    assert_eq!(state(&world, ALPHA), ("mounted".to_owned(), None));
    assert_eq!(world.cluster.violations(), [""; 0]);
}

#[test]
fn another_host_is_asked_for_a_volume_that_nobody_uses_there() {
    let world = in_use_on_alpha(MapperKind::Krbd);
    let release = |fence| world.service(BETA).release(&v(), fence, &soon());
    let refused = release(false).expect_err("a container uses it");
    assert_eq!(refused.kind, ErrorKind::InUse);
    let text = refused.to_string();
    assert!(text.contains("host alpha refused") && text.contains("--fence"), "{text}");

    // The engine takes its ID back while the container still ends.
    unmount(&world, ALPHA, "a").expect("told");
    world.nodes[ALPHA].host.stop_container("container");
    assert_eq!(world.nodes[ALPHA].host.mounted_images(), ["v"]);
    let released = release(false).expect("it is not used");
    assert_eq!(released, Released::There { host: "alpha".to_owned() });
    assert_eq!(world.nodes[ALPHA].host.mapped_images(), [""; 0]);
    assert_eq!(release(false).expect("a repeat"), Released::Free);
    assert_eq!(world.cluster.fenced(), [""; 0]);
}

#[test]
fn a_volume_is_taken_by_force_only_when_that_is_asked_for() {
    let world = in_use_on_alpha(MapperKind::Fuse);
    let fenced = world.service(BETA).release(&v(), true, &soon()).expect("taken");
    let Released::Fenced { addresses } = fenced else { panic!("{fenced:?}") };
    assert_eq!(addresses, world.cluster.fenced());
    assert!(!world.nodes[ALPHA].host.write_in("container", 2));
    let mountpoint = mount(&world, BETA, "b").expect("free");
    assert!(world.nodes[BETA].host.write_at(&mountpoint, 3));
    world.service(ALPHA).check_holds(&soon());
    assert_eq!(state(&world, ALPHA).0, "broken");
    assert_eq!(world.cluster.violations(), [""; 0]);
}

#[test]
fn a_drain_gives_up_what_is_not_used_and_says_what_is() {
    let world = in_use_on_alpha(MapperKind::Krbd);
    let other: VolumeName = "other".parse().expect("a name");
    let id = "b".parse().expect("an ID");
    let service = world.service(ALPHA);
    service.create(&other, &Options::new(), &soon()).expect("created");
    let mounted = service.mount(&other, &id, &soon()).expect("mounted");
    let host = &world.nodes[ALPHA].host;
    assert!(host.start_container("second", &mounted.mountpoint));
    service.unmount(&other, &id, &soon()).expect("told");
    host.stop_container("second");
    // What no container uses, and the engine has not unmounted: it may be about to start one.
    let left: VolumeName = "left".parse().expect("a name");
    service.create(&left, &Options::new(), &soon()).expect("created");
    service.mount(&left, &id, &soon()).expect("mounted");
    assert_eq!(drained(service, false), [("left", true), ("other", false), ("v", true)]);
    // An engine that has ended will not.
    assert_eq!(drained(service, true), [("left", false), ("v", true)]);
    assert_eq!(host.mapped_images(), ["v"]);
}

/// The volumes that a drain met, and whether they were kept.
fn drained(service: &Service, engine_stopped: bool) -> Vec<(&'static str, bool)> {
    let mut drained = service.drain(engine_stopped, &soon());
    drained.sort_by(|one, other| one.name.cmp(&other.name));
    let known = |name: &str| ["left", "other", "v"].into_iter().find(|of| *of == name);
    let line = |of: &Drained| (known(of.name.as_str()).expect("a known name"), of.kept.is_some());
    drained.iter().map(line).collect()
}

//! Situations that random steps meet too seldom, or cannot express: calls at the same time, full
//! pools, damaged images, files held open.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::service::{ErrorKind, Lookup, Service, VolumeError};
use docker_volume_ceph::volume::{ByteSize, MapperKind, VolumeName};

use super::verb::Verb;
use super::world::{World, image};
use crate::sim::Content;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn name(text: &str) -> VolumeName {
    text.parse().expect("a name")
}

fn create(service: &Service, text: &str, options: &[(&str, &str)]) -> Result<(), VolumeError> {
    let given = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    service.create(&name(text), &given.collect::<BTreeMap<_, _>>(), &soon()).map(drop)
}

fn mount(service: &Service, text: &str, id: &str) -> Result<std::path::PathBuf, VolumeError> {
    let id = id.parse().expect("an ID");
    service.mount(&name(text), &id, &soon()).map(|mounted| mounted.mountpoint)
}

fn unmount(service: &Service, text: &str, id: &str) -> Result<(), VolumeError> {
    service.unmount(&name(text), &id.parse().expect("an ID"), &soon())
}

#[test]
fn of_two_hosts_that_mount_at_once_one_has_it() {
    for round in 0..20 {
        let world = World::new(MapperKind::Fuse);
        create(world.service(0), "v", &[]).expect("created");
        let answers: Vec<_> = thread::scope(|scope| {
            let attempts = [0, 1].map(|host| {
                let service = world.service(host);
                scope.spawn(move || mount(service, "v", "id").map_err(|error| error.kind))
            });
            attempts.into_iter().map(|attempt| attempt.join().expect("it ends")).collect()
        });
        let won = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(world.cluster.violations(), [""; 0], "in round {round}");
        // Both may have to give way; then either can have it.
        assert!(won <= 1, "in round {round}: {answers:?}");
        if won == 0 {
            mount(world.service(0), "v", "id").expect("nobody has it");
        }
        assert_eq!(world.cluster.watch_count(), 1, "in round {round}: {answers:?}");
    }
}

#[test]
fn many_mounts_of_one_volume_at_once_make_one_device() {
    let world = World::new(MapperKind::Fuse);
    let service = world.service(0);
    create(service, "v", &[]).expect("created");
    thread::scope(|scope| {
        for id in 0..8 {
            scope.spawn(move || mount(service, "v", &format!("id-{id}")).expect("mounted"));
        }
    });
    assert_eq!(world.nodes[0].host.mapped_images(), ["v"]);
    thread::scope(|scope| {
        for id in 0..8 {
            scope.spawn(move || unmount(service, "v", &format!("id-{id}")).expect("unmounted"));
        }
    });
    assert_eq!(world.nodes[0].host.mapped_images(), [""; 0]);
    assert_eq!(world.cluster.violations(), [""; 0]);
}

#[test]
fn of_two_creates_of_one_name_one_wins_and_the_other_says_so() {
    for _ in 0..20 {
        let world = World::new(MapperKind::Fuse);
        let answers: Vec<_> = thread::scope(|scope| {
            let attempts = [(0, "1G"), (1, "2G")].map(|(host, size)| {
                let service = world.service(host);
                scope.spawn(move || create(service, "v", &[("size", size)]))
            });
            attempts.into_iter().map(|attempt| attempt.join().expect("it ends")).collect()
        });
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "{answers:?}");
        assert_eq!(failed[0].kind, ErrorKind::AlreadyExists, "{answers:?}");
        assert_eq!(world.cluster.image_specs(), [image("v")]);
    }
}

#[test]
fn a_host_that_is_gone_is_fenced_before_another_takes_over() {
    // Its watch may still stand, and is silent, or be over.
    for later in [0, 31].map(Duration::from_secs) {
        let mut world = World::new(MapperKind::Fuse);
        world.verb(0, &Verb::Create { name: "v".to_owned(), size: ByteSize::gib(1) }, None);
        world.verb(0, &Verb::Mount { name: "v".to_owned(), id: "a".to_owned() }, None);
        let error = mount(world.service(1), "v", "b").expect_err("it lives");
        assert_eq!(error.kind, ErrorKind::InUse, "{error}");
        assert!(error.to_string().contains("alpha"), "{error}");
        world.reboot(0);
        world.cluster.advance(later);
        assert!(world.verb(1, &Verb::Mount { name: "v".to_owned(), id: "b".to_owned() }, None));
        assert_eq!(world.cluster.fenced().len(), 1, "exactly the old client");
        world.assert_agreement();
    }
}

#[test]
fn what_is_no_file_system_is_never_formatted() {
    let world = World::new(MapperKind::Krbd);
    let spec = "rbd/other/pv".parse().expect("a spec");
    let content = Content::Other("LVM2_member".to_owned());
    world.cluster.put_image(&spec, ByteSize::gib(1), content);
    let options = BTreeMap::new();
    world.service(0).adopt(&name("pv"), &spec, &options, &soon()).expect("adopted");
    let error = mount(world.service(0), "pv", "a").expect_err("nothing to mount");
    assert!(error.to_string().contains("LVM2_member"), "{error}");
    assert!(matches!(world.cluster.content(&spec), Some(Content::Other(_))));
    assert_eq!(world.nodes[0].host.mapped_images(), [""; 0]);
    assert_eq!(world.cluster.violations(), [""; 0]);
}

#[test]
fn a_volume_that_lost_its_file_system_is_not_formatted_again() {
    let world = World::new(MapperKind::Krbd);
    let service = world.service(0);
    create(service, "v", &[]).expect("created");
    mount(service, "v", "a").expect("mounted");
    unmount(service, "v", "a").expect("unmounted");
    world.cluster.wipe(&image("v"));
    mount(service, "v", "b").expect_err("a person has to look");
    assert!(matches!(world.cluster.content(&image("v")), Some(Content::Empty)));
    assert_eq!(world.nodes[0].host.mapped_images(), [""; 0]);
}

#[test]
fn the_root_folder_has_the_owner_that_was_asked_for() {
    let world = World::new(MapperKind::Krbd);
    let service = world.service(0);
    let options = [("uid", "999"), ("gid", "998"), ("mode", "0750"), ("fs-type", "xfs")];
    create(service, "v", &options).expect("created");
    let mountpoint = mount(service, "v", "a").expect("mounted");
    let content = world.cluster.content(&image("v")).expect("an image");
    let folders = &content.filesystem().expect("formatted").folders;
    let folder = mountpoint.file_name().and_then(|name| name.to_str()).expect("a folder");
    let owner = folders[folder].owner;
    assert_eq!((owner.uid, owner.gid, owner.mode), (Some(999), Some(998), Some(0o750)));
}

#[test]
fn a_full_pool_refuses_a_create_and_keeps_nothing_of_it() {
    let world = World::new(MapperKind::Krbd);
    let service = world.service(0);
    world.cluster.set_full("rbd", true);
    let error = create(service, "v", &[]).expect_err("the pool is full");
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    world.cluster.set_full("rbd", false);
    assert_eq!(service.get(&name("v")), Lookup::Absent);
    create(service, "v", &[("size", "2G")]).expect("there is room");
}

#[test]
fn discard_is_said_to_do_nothing_where_the_mapper_cannot_do_it() {
    for (mapper, warned) in [(MapperKind::Fuse, true), (MapperKind::Krbd, false)] {
        let world = World::new(mapper);
        let service = world.service(0);
        create(service, "v", &[("discard", "true")]).expect("created");
        mount(service, "v", "a").expect("mounted");
        let Lookup::Found(view) = service.get(&name("v")) else { panic!("it is there") };
        let told = view.status.warnings.iter().any(|text| text.contains("discard does nothing"));
        assert_eq!(told, warned, "{mapper}: {:?}", view.status.warnings);
    }
}

#[test]
fn an_unmount_of_what_is_held_open_says_by_whom_and_is_made_good_later() {
    let world = World::new(MapperKind::Krbd);
    let (service, host) = (world.service(0), &world.nodes[0].host);
    create(service, "v", &[]).expect("created");
    let mountpoint = mount(service, "v", "a").expect("mounted");
    host.set_open_files(&mountpoint, true);
    let brief = Deadline::after(Duration::from_millis(300));
    let error = service.unmount(&name("v"), &"a".parse().expect("an ID"), &brief);
    let error = error.expect_err("a process has a file open");
    assert!(error.to_string().contains("tar (pid 77"), "{error}");
    host.set_open_files(&mountpoint, false);
    service.reconcile(&soon());
    assert_eq!(host.mapped_images(), [""; 0]);
    assert_eq!(world.cluster.watch_count(), 0);
}

#[test]
fn a_volume_that_is_brought_back_has_the_size_that_it_had() {
    let mut world = World::new(MapperKind::Krbd);
    let name = || "v".to_owned();
    world.verb(0, &Verb::Create { name: name(), size: ByteSize::gib(1) }, None);
    world.verb(0, &Verb::Resize { name: name(), size: ByteSize::gib(2) }, None);
    world.verb(0, &Verb::Remove { name: name() }, None);
    world.verb(0, &Verb::Undelete { name: name() }, None);
    world.assert_agreement();
}

#[test]
fn of_two_volumes_of_one_name_removed_at_once_the_newer_one_comes_back() {
    let mut world = World::new(MapperKind::Krbd);
    let name = || "v".to_owned();
    for size in [1, 2, 1, 2].map(ByteSize::gib) {
        world.verb(0, &Verb::Create { name: name(), size }, None);
        world.verb(0, &Verb::Remove { name: name() }, None);
        world.verb(0, &Verb::Undelete { name: name() }, None);
        world.assert_agreement();
        world.verb(0, &Verb::Remove { name: name() }, None);
    }
}

#[test]
fn a_removed_volume_leaves_no_key() {
    let world = World::new(MapperKind::Krbd);
    let service = world.service(0);
    create(service, "v", &[]).expect("created");
    service.remove(&name("v"), None, &soon()).expect("removed");
    assert!(!world.cluster.omap_keys().contains("v"));
}

#[test]
fn an_outage_hides_no_volume_and_invents_none() {
    let mut world = World::new(MapperKind::Krbd);
    create(world.service(0), "v", &[]).expect("created");
    world.reconcile(0);
    world.restart(0);
    world.cluster.set_reachable(false);
    let service = world.service(0);
    assert!(matches!(service.get(&name("v")), Lookup::Found(view) if view.status.as_of.is_some()));
    let vouched = |state: &str| matches!(service.get(&name("other")), Lookup::Found(view) if view.status.state == state);
    assert!(vouched("unknown"), "the engine would make a local volume of it");
    assert_eq!(service.list().len(), 1);
    let anonymous = name(&"0123456789abcdef".repeat(4));
    assert_eq!(service.get(&anonymous), Lookup::Absent, "the engine's own");
    world.cluster.set_reachable(true);
    world.reconcile(0);
    world.restart(0);
    let service = world.service(0);
    let missing = service.get(&name("other"));
    assert!(matches!(missing, Lookup::Found(view) if view.status.state == "missing"));
    let error = mount(service, "other", "a").expect_err("there is no such volume").to_string();
    assert!(error.contains("docker volume rm other"), "{error}");
    service.remove(&name("other"), None, &soon()).expect("let go");
    assert_eq!(service.get(&name("other")), Lookup::Absent);
}

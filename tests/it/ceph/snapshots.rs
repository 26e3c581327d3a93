//! Snapshots of images and what is made of them, seen with the stock tool beside ours.

mod many_schedules;
pub(super) mod schedules;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{
    ClusterError, ClusterErrorKind as Kind, ImageLayout, Images, Liveness, RadosCluster, Result,
    Snapshots,
};
use docker_volume_ceph::volume::{ByteSize, ImageSpec};

use super::Lab;
use super::holder::{Holder, Kernel};
use super::lab::{eventually, home, new_image, unique, writer};

/// The size of an object of a new image.
const OBJECT: usize = 4 << 20;

/// Nobody hears how far it is.
fn unheard(_: u64, _: u64) {}

#[track_caller]
fn refused<T>(kind: Kind, result: Result<T>) -> ClusterError {
    let error = result.err().expect("it is refused");
    assert_eq!(error.kind, kind, "{error}");
    error
}

fn names(cluster: &RadosCluster, image: &ImageSpec) -> Vec<String> {
    let all = cluster.snapshot_list(image).expect("a list");
    all.into_iter().map(|snapshot| snapshot.name).collect()
}

/// The first bytes of each of the first objects: of an image, or (`IMAGE@NAME`) of a snapshot.
fn first_bytes(lab: &Lab, of: &str) -> Vec<u8> {
    let output = lab.tool(&format!("rbd export --no-progress {of} -")).output().expect("rbd");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.iter().step_by(OBJECT).take(4).copied().collect()
}

fn write(lab: &Lab, image: &ImageSpec, object: usize, byte: u8) {
    Holder::open(lab, image).fill((object * OBJECT) as u64, OBJECT, byte);
}

fn children(cluster: &RadosCluster, image: &ImageSpec, name: &str) -> Vec<ImageSpec> {
    cluster.snapshot_children(image, name).expect("a list")
}

fn clone(cluster: &RadosCluster, image: &ImageSpec, name: &str) -> ImageSpec {
    let child = home().image(unique("child"));
    cluster.image_clone(image, name, &child, &ImageLayout::default()).expect("cloned");
    child
}

#[test]
fn a_snapshot_stays_as_it_was_while_the_image_changes() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "snap");
    write(&lab, &image, 0, b'a');
    cluster.snapshot_create(&image, "first").expect("made");
    write(&lab, &image, 0, b'b');
    cluster.image_resize(&image, ByteSize::mib(96)).expect("grown");
    cluster.snapshot_create(&image, "a-second").expect("made");
    write(&lab, &image, 0, b'c');
    assert_eq!(first_bytes(&lab, &format!("{image}@first"))[0], b'a');
    assert_eq!(first_bytes(&lab, &format!("{image}@a-second"))[0], b'b');
    assert_eq!(first_bytes(&lab, &image.to_string())[0], b'c');

    let list = cluster.snapshot_list(&image).expect("a list");
    let [first, second] = &list[..] else { panic!("two: {list:?}") };
    assert_eq!((&first.name[..], first.size), ("first", ByteSize::mib(64)));
    assert_eq!((&second.name[..], second.size), ("a-second", ByteSize::mib(96)));
    assert!(first.id < second.id && first.created < second.created, "{list:?}");
    let age = jiff::Timestamp::now() - first.created.expect("a time");
    assert!(age.get_seconds().abs() < 60, "{age}");

    refused(Kind::Exists, cluster.snapshot_create(&image, "first"));
    assert_eq!(cluster.snapshot_list(&image).expect("a list"), list);
    cluster.snapshot_remove(&image, "first").expect("removed");
    refused(Kind::NotFound, cluster.snapshot_remove(&image, "first"));
    assert_eq!(names(&cluster, &image), ["a-second"]);
    assert_eq!(first_bytes(&lab, &format!("{image}@a-second"))[0], b'b');
    cluster.snapshot_remove(&image, "a-second").expect("removed");
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn what_is_missing_is_named() {
    let cluster = Lab::get().cluster();
    let (image, missing) = (new_image(&cluster, "bare"), home().image(unique("missing")));
    let no_image = [
        refused(Kind::NotFound, cluster.snapshot_create(&missing, "s")),
        refused(Kind::NotFound, cluster.snapshot_list(&missing)),
        refused(Kind::NotFound, cluster.snapshot_remove(&missing, "s")),
        refused(Kind::NotFound, cluster.snapshot_rollback(&missing, "s", &unheard)),
        refused(Kind::NotFound, cluster.image_parent(&missing)),
        refused(Kind::NotFound, cluster.image_flatten(&missing, &|_, _| true)),
        refused(Kind::NotFound, cluster.metadata_list(&missing, "")),
        refused(Kind::NotFound, cluster.metadata_remove(&missing, "k")),
    ];
    for error in no_image {
        assert!(error.to_string().contains("there is no such image"), "{error}");
    }
    let child = home().image(unique("child"));
    let layout = ImageLayout::default();
    let no_snapshot = [
        refused(Kind::NotFound, cluster.snapshot_remove(&image, "s")),
        refused(Kind::NotFound, cluster.snapshot_rollback(&image, "s", &unheard)),
        refused(Kind::NotFound, cluster.snapshot_children(&image, "s")),
        refused(Kind::NotFound, cluster.snapshot_changed(&image, Some("s"), None)),
        refused(Kind::NotFound, cluster.snapshot_changed(&image, None, Some("s"))),
        refused(Kind::NotFound, cluster.image_clone(&image, "s", &child, &layout)),
    ];
    for error in no_snapshot {
        assert!(error.to_string().contains("there is no snapshot s"), "{error}");
    }
    assert_eq!(names(&cluster, &image), Vec::<String>::new());
    assert_eq!(cluster.image_parent(&image), Ok(None));
    cluster.image_flatten(&image, &|_, _| true).expect("there is nothing to do");
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn a_client_that_writes_hands_its_lock_over_and_the_list_makes_no_watcher() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "busy");
    let process = writer(&lab, &image);
    eventually("a lock", Duration::from_secs(20), || {
        cluster.lock_owner(&image).expect("readable").is_some()
    });
    cluster.snapshot_create(&image, "while-written").expect("made");
    let other = Lab::get().cluster();
    for _ in 0..50 {
        assert_eq!(names(&other, &image), ["while-written"]);
        assert_eq!(cluster.watchers(&image).expect("watchers").len(), 1, "the writer alone");
    }
    refused(Kind::Busy, cluster.snapshot_rollback(&image, "while-written", &unheard));
    cluster.snapshot_remove(&image, "while-written").expect("removed");
    drop(process);
}

#[test]
fn an_image_goes_back_to_what_it_was() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "back");
    write(&lab, &image, 0, b'a');
    cluster.snapshot_create(&image, "before").expect("made");
    write(&lab, &image, 0, b'b');
    write(&lab, &image, 1, b'b');
    let holder = Holder::open(&lab, &image);
    refused(Kind::Busy, cluster.snapshot_rollback(&image, "before", &unheard));
    drop(holder);
    assert_eq!(first_bytes(&lab, &image.to_string())[..2], *b"bb");
    let heard = Mutex::new(Vec::new());
    let hear = |done, total| heard.lock().expect("no panic").push((done, total));
    cluster.snapshot_rollback(&image, "before", &hear).expect("rolled back");
    let heard = heard.into_inner().expect("no panic");
    // It tells of an object when it begins with it.
    assert!(heard.iter().all(|(done, total)| done <= total && *total == 16), "{heard:?}");
    assert!(heard.last().is_some_and(|(done, _)| *done >= 15), "{heard:?}");
    assert_eq!(first_bytes(&lab, &image.to_string())[..2], *b"a\0");
    cluster.snapshot_remove(&image, "before").expect("removed");
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn what_changed_is_counted_in_objects() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "changed");
    write(&lab, &image, 0, b'a');
    cluster.snapshot_create(&image, "one").expect("made");
    write(&lab, &image, 1, b'b');
    write(&lab, &image, 2, b'b');
    cluster.snapshot_create(&image, "two").expect("made");
    write(&lab, &image, 2, b'c');
    let changed = |from, to| cluster.snapshot_changed(&image, from, to).expect("compared");
    let objects = |count: u64| ByteSize::mib(4 * count);
    assert_eq!(changed(None, Some("one")), objects(1));
    assert_eq!(changed(Some("one"), Some("two")), objects(2));
    assert_eq!(changed(Some("two"), None), objects(1));
    assert_eq!(changed(Some("one"), None), objects(2));
    assert_eq!(changed(Some("two"), Some("two")), objects(0));
    assert_eq!(changed(None, None), objects(3));
    for name in ["one", "two"] {
        cluster.snapshot_remove(&image, name).expect("removed");
    }
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn a_clone_stands_in_the_way_until_it_is_flattened() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "parent");
    cluster.metadata_set(&image, "docker", "parent's").expect("set");
    write(&lab, &image, 0, b'a');
    cluster.snapshot_create(&image, "base").expect("made");
    let child = clone(&cluster, &image, "base");
    write(&lab, &image, 0, b'b');
    assert_eq!(first_bytes(&lab, &child.to_string())[0], b'a');
    assert_eq!(cluster.image_info(&child).expect("there").size, ByteSize::mib(64));
    assert_eq!(children(&cluster, &image, "base"), std::slice::from_ref(&child));
    assert_eq!(cluster.image_parent(&child), Ok(Some((image.clone(), "base".to_owned()))));
    let copied = cluster.metadata_get(&child, "docker").expect("read");
    assert_eq!(copied.as_deref(), Some("parent's"), "it is the caller's to drop");

    refused(Kind::Exists, cluster.image_clone(&image, "base", &child, &ImageLayout::default()));
    let error = refused(Kind::Busy, cluster.snapshot_remove(&image, "base"));
    assert!(error.to_string().contains(&child.to_string()), "{error}");
    assert_eq!(names(&cluster, &image), ["base"], "it is still there by its name");
    refused(Kind::NotEmpty, cluster.image_remove(&image));

    write(&lab, &child, 1, b'c');
    cluster.image_flatten(&child, &|_, _| true).expect("flattened");
    cluster.image_flatten(&child, &|_, _| true).expect("a repeat");
    assert_eq!(cluster.image_parent(&child), Ok(None));
    assert_eq!(children(&cluster, &image, "base"), []);
    cluster.snapshot_remove(&image, "base").expect("removed");
    cluster.image_remove(&image).expect("removed");
    assert_eq!(first_bytes(&lab, &child.to_string())[..2], *b"ac");
    cluster.image_remove(&child).expect("removed");
}

#[test]
fn the_snapshots_of_an_image_in_the_trash_go_unless_something_needs_them() {
    let cluster = Lab::get().cluster();
    let image = new_image(&cluster, "trashed");
    let id = cluster.image_info(&image).expect("there").id;
    for name in ["one", "two"] {
        cluster.snapshot_create(&image, name).expect("made");
    }
    let child = clone(&cluster, &image, "two");
    cluster.trash_move(&image, Duration::ZERO).expect("moved, with its snapshots");
    let error = refused(Kind::Busy, cluster.trash_snapshots_remove(&home(), &id));
    assert!(error.to_string().contains(&child.to_string()), "{error}");
    refused(Kind::NotEmpty, cluster.trash_remove(&home(), &id));
    cluster.trash_restore(&home(), &id, &image.image).expect("restored");
    assert_eq!(names(&cluster, &image), ["one", "two"], "none is gone");
    cluster.trash_move(&image, Duration::ZERO).expect("moved");
    cluster.image_flatten(&child, &|_, _| true).expect("flattened");
    cluster.trash_snapshots_remove(&home(), &id).expect("removed");
    cluster.trash_snapshots_remove(&home(), &id).expect("a repeat");
    cluster.trash_remove(&home(), &id).expect("removed");
    refused(Kind::NotFound, cluster.trash_snapshots_remove(&home(), &id));
    cluster.image_remove(&child).expect("removed");
}

#[test]
fn a_snapshot_whose_name_the_stock_tool_took_away_goes_from_the_trash_as_well() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "nameless");
    let id = cluster.image_info(&image).expect("there").id;
    cluster.snapshot_create(&image, "base").expect("made");
    let child = clone(&cluster, &image, "base");
    lab.run(&format!("rbd snap rm --no-progress {image}@base"));
    assert_eq!(names(&cluster, &image), Vec::<String>::new());
    cluster.trash_move(&image, Duration::ZERO).expect("moved");
    let error = refused(Kind::Busy, cluster.trash_snapshots_remove(&home(), &id));
    assert!(error.to_string().contains(&child.to_string()), "{error}");
    cluster.image_remove(&child).expect("removed");
    cluster.trash_snapshots_remove(&home(), &id).expect("removed");
    cluster.trash_remove(&home(), &id).expect("removed");
}

#[test]
fn metadata_is_listed_by_prefix_and_removed_while_the_image_is_held() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "metadata");
    let list = |prefix| cluster.metadata_list(&image, prefix).expect("a list");
    assert_eq!(list("docker"), []);
    let _holder = Holder::exclusive(&lab, &image);
    for key in ["dock", "docker", "docker.snap.a", "docker.snap.b", "docks", "z"] {
        cluster.metadata_set(&image, key, &format!("of {key}")).expect("set");
    }
    let keys = |prefix| list(prefix).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys("docker"), ["docker", "docker.snap.a", "docker.snap.b"]);
    assert_eq!(keys(""), ["dock", "docker", "docker.snap.a", "docker.snap.b", "docks", "z"]);
    assert_eq!(list("docker.snap.b"), [("docker.snap.b".into(), "of docker.snap.b".into())]);
    cluster.metadata_remove(&image, "docker.snap.a").expect("removed");
    cluster.metadata_remove(&image, "docker.snap.a").expect("a repeat");
    assert_eq!(keys("docker.snap."), ["docker.snap.b"]);
    let seen = lab.run(&format!("rbd image-meta list {image}"));
    assert!(seen.contains("docker.snap.b") && !seen.contains("docker.snap.a"), "{seen}");

    for number in 0..600 {
        cluster.metadata_set(&image, &format!("many.{number:03}"), "v").expect("set");
    }
    assert_eq!(list("many.").len(), 600, "more than a page");
}

#[test]
fn an_image_whose_lock_is_given_to_nobody_has_snapshots_all_the_same() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "held");
    let kernel = Kernel::map(&lab, &cluster, &image);
    for verb in ["create", "rm"] {
        let stock = lab.tool(&format!("rbd snap {verb} --no-progress {image}@stock")).output();
        let stock = stock.expect("rbd");
        let words = String::from_utf8_lossy(&stock.stderr);
        let refused = !stock.status.success() && words.contains("(30)");
        assert!(refused || verb == "rm", "else nothing is shown: {words}");
    }
    let ids = || {
        let all = cluster.snapshot_list(&image).expect("a list");
        all.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>()
    };
    kernel.fill(0, &[], b'a');
    let begin = Instant::now();
    cluster.snapshot_create(&image, "one").expect("made");
    println!("a snapshot of a held image: {:?}", begin.elapsed());
    refused(Kind::Exists, cluster.snapshot_create(&image, "one"));
    kernel.fill(0, &ids(), b'b');
    kernel.fill(1, &ids(), b'b');
    cluster.snapshot_create(&image, "two").expect("made");
    kernel.fill(0, &ids(), b'c');
    assert_eq!(first_bytes(&lab, &format!("{image}@one"))[..2], *b"a\0");
    assert_eq!(first_bytes(&lab, &format!("{image}@two"))[..2], *b"bb");
    assert_eq!(names(&cluster, &image), ["one", "two"]);
    let changed = |from, to| cluster.snapshot_changed(&image, from, to).expect("compared");
    assert_eq!(changed(Some("one"), Some("two")), ByteSize::mib(8));
    assert_eq!(changed(Some("two"), None), ByteSize::mib(4));
    assert!(lab.run(&format!("rbd info {image}")).contains("object map invalid"));
    assert!(cluster.lock_owner(&image).expect("readable").is_some(), "the lock was left alone");

    let child = clone(&cluster, &image, "one");
    assert_eq!(first_bytes(&lab, &child.to_string())[0], b'a');
    refused(Kind::Busy, cluster.snapshot_remove(&image, "one"));
    cluster.image_remove(&child).expect("removed");
    let begin = Instant::now();
    cluster.snapshot_remove(&image, "one").expect("removed");
    println!("the removal of one: {:?}", begin.elapsed());
    refused(Kind::NotFound, cluster.snapshot_remove(&image, "one"));
    kernel.fill(0, &ids(), b'd');
    assert_eq!(first_bytes(&lab, &format!("{image}@two"))[..2], *b"bb");
    assert_eq!(first_bytes(&lab, &image.to_string())[..2], *b"db");

    drop(kernel);
    cluster.snapshot_rollback(&image, "two", &unheard).expect("rolled back");
    assert!(!lab.run(&format!("rbd info {image}")).contains("invalid"), "the object map");
    lab.run(&format!("rbd object-map check --no-progress {image}"));
    for of in [image.to_string(), format!("{image}@two")] {
        assert_eq!(first_bytes(&lab, &of)[..2], *b"bb");
    }
    cluster.snapshot_remove(&image, "two").expect("removed");
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn a_snapshot_that_was_removed_past_librbd_hides_no_change() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "between");
    // It is there from the beginning: the maps have to say that it is another one.
    write(&lab, &image, 0, b'z');
    cluster.snapshot_create(&image, "one").expect("made");
    write(&lab, &image, 0, b'a');
    cluster.snapshot_create(&image, "two").expect("made");
    cluster.snapshot_create(&image, "three").expect("made");
    let changed = |from, to| cluster.snapshot_changed(&image, Some(from), to).expect("compared");
    assert_eq!(changed("one", Some("three")), ByteSize::mib(4));
    assert_eq!(changed("two", None), ByteSize(0));
    let kernel = Kernel::map(&lab, &cluster, &image);
    cluster.snapshot_remove(&image, "two").expect("removed");
    assert_eq!(changed("one", Some("three")), ByteSize::mib(4));
    cluster.snapshot_remove(&image, "three").expect("removed");
    assert_eq!(changed("one", None), ByteSize::mib(4));
    drop(kernel);
    cluster.snapshot_remove(&image, "one").expect("removed");
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn a_snapshot_of_which_not_all_know_is_removed_again() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "unheard");
    let kernel = Kernel::map(&lab, &cluster, &image);
    kernel.hears_only(1);
    let error = refused(Kind::Busy, cluster.snapshot_create(&image, "unheard"));
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert_eq!(names(&cluster, &image), Vec::<String>::new());
    kernel.hears_only(u32::MAX);
    cluster.snapshot_create(&image, "heard").expect("made");
    let id = cluster.image_info(&image).expect("there").id;
    let objects = lab.run("rados -p rbd -N docker ls");
    let maps = objects.lines().filter(|line| line.starts_with(&format!("rbd_object_map.{id}")));
    assert_eq!(maps.count(), 2, "the image's and that of one snapshot");
    cluster.snapshot_remove(&image, "heard").expect("removed");
    drop(kernel);
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn a_client_that_does_not_answer_lets_no_snapshot_be() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "silent");
    let process = writer(&lab, &image);
    eventually("a watcher", Duration::from_secs(20), || {
        !cluster.watchers(&image).expect("watchers").is_empty()
    });
    let of = format!("/proc/{0}/task/{0}/children", process.0.id());
    let rbd = std::fs::read_to_string(of).expect("procfs").trim().to_owned();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &rbd]).status();
        assert!(sent.expect("kill").success());
    };
    signal("-STOP");
    let made = cluster.snapshot_create(&image, "unheard");
    let owner = cluster.lock_owner(&image);
    signal("-CONT");
    let error = refused(Kind::Busy, made);
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert_eq!(names(&cluster, &image), Vec::<String>::new());
    assert!(owner.expect("readable").is_some(), "its lock was not broken");
    drop(process);
}

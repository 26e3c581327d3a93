//! An outage, on a cluster of its own: everything in it stops and goes on again.

use std::process::Command;
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{
    ClusterError, ClusterErrorKind, ImageLayout, Images, Liveness, Manager, Messages, Monitor,
    Objects, RadosCluster, Result, Subvolumes, TimeLimits,
};
use docker_volume_ceph::volume::{ByteSize, ImageSpec, Location, PathSpec};

use super::Lab;
use super::lab::{eventually, home, new_image, unique};

const LIMIT: Duration = Duration::from_secs(2);

/// A cluster that may be broken; stopped and deleted with the test.
pub(super) struct OwnCluster(pub(super) Lab);

impl OwnCluster {
    pub(super) fn start() -> Self {
        let own = Self(Lab::at(&unique("outage")));
        own.does("start", "all");
        own
    }

    pub(super) fn does(&self, verb: &str, daemon: &str) {
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/cluster");
        let folder = self.0.folder();
        let mut command = Command::new("timeout");
        command.arg("180").arg(tool).arg(verb).arg(folder).arg(daemon);
        assert!(command.status().expect("the lab's tool").success(), "{verb} {daemon}");
    }

    /// A host's connection, which waits for 2 s.
    pub(super) fn connect(&self) -> RadosCluster {
        let time_limits = TimeLimits { connect: LIMIT, monitor: LIMIT, osd: LIMIT };
        let access = self.0.access("docker");
        RadosCluster::new(docker_volume_ceph::ceph::Access { time_limits, ..access })
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        self.does("stop", "all");
    }
}

type Call<'a> = (&'static str, Box<dyn Fn() -> Result<()> + Send + 'a>);

/// Every call of the layer, on an image and an object that are there.
fn calls<'a>(cluster: &'a RadosCluster, image: &'a ImageSpec) -> Vec<Call<'a>> {
    let mut calls = calls_on_objects(cluster);
    calls.extend(calls_on_images(cluster, image));
    calls.extend(calls_on_trash(cluster, image));
    calls.extend(calls_on_monitors(cluster, image));
    calls.extend(calls_on_watchers(cluster, image));
    calls.extend(calls_on_subvolumes(cluster));
    calls
}

fn calls_on_objects(cluster: &RadosCluster) -> Vec<Call<'_>> {
    let at = home;
    let nowhere = Location::new("nowhere", "");
    vec![
        ("omap_get", Box::new(move || cluster.omap_get(&at(), "o", "k").map(drop))),
        ("omap_page", Box::new(move || cluster.omap_page(&at(), "o", "", 9).map(drop))),
        (
            "omap_compare_and_set",
            Box::new(move || {
                cluster.omap_compare_and_set(&at(), "o", "k", None, Some(b"v")).map(drop)
            }),
        ),
        ("object_version", Box::new(move || cluster.object_version(&at(), "o").map(drop))),
        ("unknown pool", Box::new(move || cluster.omap_get(&nowhere, "o", "k").map(drop))),
    ]
}

fn calls_on_images<'a>(cluster: &'a RadosCluster, image: &'a ImageSpec) -> Vec<Call<'a>> {
    let size = ByteSize::mib(64);
    let create = move || {
        let layout = ImageLayout { size, ..ImageLayout::default() };
        cluster.image_create(&home().image(unique("late")), &layout)
    };
    let list = move || cluster.image_list(&home()).map(drop);
    vec![
        ("image_create", Box::new(create)),
        ("image_info", Box::new(move || cluster.image_info(image).map(drop))),
        ("image_list", Box::new(list)),
        ("image_resize", Box::new(move || cluster.image_resize(image, size))),
        ("image_used", Box::new(move || cluster.image_used(image).map(drop))),
        ("image_remove", Box::new(move || cluster.image_remove(image))),
        ("metadata_get", Box::new(move || cluster.metadata_get(image, "k").map(drop))),
        ("metadata_set", Box::new(move || cluster.metadata_set(image, "k", "v"))),
        ("watchers", Box::new(move || cluster.watchers(image).map(drop))),
    ]
}

fn calls_on_trash<'a>(cluster: &'a RadosCluster, image: &'a ImageSpec) -> Vec<Call<'a>> {
    let at = home;
    vec![
        ("trash_move", Box::new(move || cluster.trash_move(image, LIMIT))),
        ("trash_list", Box::new(move || cluster.trash_list(&at()).map(drop))),
        (
            "trash_metadata_get",
            Box::new(move || cluster.trash_metadata_get(&at(), "0123", "k").map(drop)),
        ),
        ("trash_restore", Box::new(move || cluster.trash_restore(&at(), "0123", "x"))),
        ("trash_remove", Box::new(move || cluster.trash_remove(&at(), "0123"))),
    ]
}

fn calls_on_monitors<'a>(cluster: &'a RadosCluster, image: &'a ImageSpec) -> Vec<Call<'a>> {
    vec![
        ("status", Box::new(move || cluster.status().map(drop))),
        ("own_caps", Box::new(move || cluster.own_caps().map(drop))),
        ("pools", Box::new(move || cluster.pools().map(drop))),
        ("pool_usage", Box::new(move || cluster.pool_usage("rbd").map(drop))),
        ("namespaces", Box::new(move || cluster.namespaces("rbd").map(drop))),
        ("blocklist", Box::new(move || cluster.blocklist().map(drop))),
        ("blocklist_remove", Box::new(move || cluster.blocklist_remove("10.9.9.9:0/9"))),
        (
            "blocklist_add",
            Box::new(move || cluster.blocklist_add("10.9.9.9:0/9", Duration::from_secs(60))),
        ),
        ("placement_groups", Box::new(move || cluster.placement_groups().map(drop))),
        ("header_barrier", Box::new(move || cluster.header_barrier(image))),
    ]
}

fn calls_on_watchers<'a>(cluster: &'a RadosCluster, image: &'a ImageSpec) -> Vec<Call<'a>> {
    let second = Duration::from_secs(1);
    vec![
        ("lock_owner", Box::new(move || cluster.lock_owner(image).map(drop))),
        // Who cannot be asked is not silent: there is no answer at all.
        ("ask_watchers", Box::new(move || cluster.ask_watchers(image, second).map(drop))),
        ("interval", Box::new(move || cluster.interval(image).map(drop))),
        ("notify", Box::new(move || cluster.notify(&home(), "o", b"x", second).map(drop))),
        (
            "watch",
            Box::new(move || cluster.watch(&home(), "o", Box::new(|_| Vec::new())).map(drop)),
        ),
    ]
}

/// Those that ask the monitors first, which all of them do that ask the manager.
fn calls_on_subvolumes(cluster: &RadosCluster) -> Vec<Call<'_>> {
    let at = |path: &str| PathSpec { fs: "cephfs".to_owned(), path: path.to_owned() };
    vec![
        ("file_systems", Box::new(move || cluster.file_systems().map(drop))),
        ("mds_up", Box::new(move || cluster.mds_up("cephfs").map(drop))),
        ("groups", Box::new(move || cluster.groups("cephfs").map(drop))),
        (
            "path_authorize",
            Box::new(move || cluster.path_authorize(&at("/x"), "docker.x", true).map(drop)),
        ),
        ("client_remove", Box::new(move || cluster.client_remove("docker.x"))),
    ]
}

/// All calls at once, with how long each took.
fn outcomes(calls: Vec<Call<'_>>) -> Vec<(&'static str, Result<()>, Duration)> {
    std::thread::scope(|scope| {
        let running: Vec<_> = calls
            .into_iter()
            .map(|(name, call)| {
                scope.spawn(move || {
                    let start = Instant::now();
                    (name, call(), start.elapsed())
                })
            })
            .collect();
        running.into_iter().map(|call| call.join().expect("it ends")).collect()
    })
}

fn assert_unreachable(name: &str, error: &ClusterError) {
    assert_eq!(error.kind, ClusterErrorKind::Unreachable, "{name}: {error}");
    assert!(error.to_string().contains("check"), "{name}: {error}");
}

/// A manager that answers late answers into nothing of ours, and is asked again.
fn assert_a_silent_manager_is_given_up(own: &OwnCluster) {
    let cluster = RadosCluster::new(docker_volume_ceph::ceph::Access {
        time_limits: TimeLimits { connect: LIMIT, monitor: LIMIT, osd: LIMIT },
        ..own.0.access("admin")
    });
    eventually("the manager answers", Duration::from_secs(60), || {
        cluster.placement_groups().is_ok()
    });
    own.does("pause", "mgr");
    let ask =
        || -> Call<'_> { ("placement_groups", Box::new(|| cluster.placement_groups().map(drop))) };
    let at_once = std::iter::repeat_with(ask).take(12).collect();
    for (name, outcome, took) in outcomes(at_once) {
        assert_unreachable(name, &outcome.expect_err("the manager is stopped"));
        assert!(took < 2 * LIMIT, "{name} took {took:?}");
    }
    let start = Instant::now();
    let error = cluster.placement_groups().expect_err("the manager is stopped");
    assert!(error.to_string().contains("earlier commands"), "{error}");
    assert!(start.elapsed() < LIMIT / 2, "no further thread waits");
    own.does("resume", "mgr");
    eventually("the manager is back", Duration::from_secs(60), || {
        cluster.placement_groups().is_ok()
    });
}

#[test]
fn in_an_outage_every_call_ends_in_time_and_afterwards_all_is_well() {
    let own = OwnCluster::start();
    let cluster = own.connect();
    let image = new_image(&cluster, "outage");
    let address = cluster.own_address().expect("an address");

    own.does("pause", "all");
    for (name, outcome, took) in outcomes(calls(&cluster, &image)) {
        println!("all stopped: {name} {:.1} s", took.as_secs_f64());
        assert_unreachable(name, &outcome.expect_err(name));
        assert!(took < 3 * LIMIT, "{name} took {took:?}");
    }
    let late = own.connect();
    for (name, outcome, took) in outcomes(calls(&late, &image)) {
        assert_unreachable(name, &outcome.expect_err(name));
        assert!(took < 2 * LIMIT, "{name} without a connection took {took:?}");
    }

    own.does("resume", "all");
    for cluster in [&cluster, &late] {
        eventually("the cluster is back", Duration::from_secs(60), || {
            cluster.status().is_ok() && cluster.omap_get(&home(), "o", "k").is_ok()
        });
        cluster.image_info(&image).expect("read");
        cluster.metadata_set(&image, "k", "v").expect("set");
        let another = new_image(cluster, "after");
        cluster.image_remove(&another).expect("removed");
    }
    assert_eq!(cluster.own_address(), Ok(address), "the same connection");
    drop(late);

    assert_a_silent_manager_is_given_up(&own);

    own.does("pause", "osd");
    for (name, outcome, took) in outcomes(calls(&cluster, &image)) {
        println!("OSD stopped: {name} {:.1} s {outcome:?}", took.as_secs_f64());
        assert!(took < 3 * LIMIT, "{name} took {took:?}");
    }
    own.does("resume", "osd");
    eventually("the OSD is back", Duration::from_secs(60), || cluster.image_info(&image).is_ok());
    own.does("pause", "all");
    let start = Instant::now();
    drop(cluster);
    assert!(start.elapsed() < LIMIT, "shutting down took {:?}", start.elapsed());
    own.does("resume", "all");
}

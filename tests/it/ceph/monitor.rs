//! The monitors' and the manager's commands, usage, and fencing.

use std::time::Duration;

use docker_volume_ceph::ceph::{
    ClusterErrorKind, ImageLayout, Images, Manager, Monitor, Objects, RadosCluster, Swap,
};
use docker_volume_ceph::volume::{ByteSize, Location};

use super::Lab;
use super::lab::{eventually, new_image, unique};

#[test]
fn the_cluster_says_what_it_is() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let status = cluster.status().expect("a status");
    assert_eq!(status.fsid, lab.run("ceph fsid").trim());
    assert!(status.health.starts_with("HEALTH_"), "{status:?}");
    assert!(lab.run("ceph version").contains(&status.release), "{status:?}");
    let pools = cluster.pools().expect("pools");
    assert!(["rbd", "data"].iter().all(|name| pools.iter().any(|pool| pool == name)), "{pools:?}");
}

#[test]
fn namespaces_are_those_that_rbd_knows() {
    let admin = Lab::get().admin();
    let names = admin.namespaces("rbd").expect("namespaces");
    assert!(["docker", "other"].iter().all(|name| names.iter().any(|known| known == name)));
    assert_eq!(admin.namespaces("data"), Ok(Vec::new()));
    let error = admin.namespaces("nirvana").expect_err("no such pool");
    assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
}

#[test]
fn the_manager_counts_placement_groups_for_those_who_may_ask() {
    let lab = Lab::get();
    let admin = lab.admin();
    // Other tests make and remove pools.
    eventually("every group is active, and the tool says as many", Duration::from_secs(30), || {
        let groups = admin.placement_groups().expect("an answer");
        let told = lab.run("ceph pg stat");
        let same = told.starts_with(&format!("{} pgs", groups.total));
        same && groups.total > 0 && groups.active == groups.total
    });
    let error = lab.cluster().placement_groups().expect_err("it has no caps for the manager");
    assert_eq!(error.kind, ClusterErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("mgr caps"), "the manager's own words: {error}");
}

#[test]
fn own_caps_are_told_or_denied_and_the_key_is_never() {
    let lab = Lab::get();
    let caps = lab.admin().own_caps().expect("caps");
    assert!(caps.contains(&("mon".to_owned(), "allow *".to_owned())), "{caps:?}");
    let error = lab.cluster().own_caps().expect_err("it may not look");
    assert_eq!((error.kind, error.errno), (ClusterErrorKind::Denied, 13));
    assert!(error.to_string().starts_with("read the capabilities of client.docker: "), "{error}");
    assert!(error.to_string().contains("access denied"), "the cluster's own words: {error}");
}

#[test]
fn a_client_instance_is_fenced_and_the_first_end_stays() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let victim = Lab::get().cluster();
    let address = victim.own_address().expect("an address");
    let entry = || {
        let list = cluster.blocklist().expect("a list");
        list.into_iter().find(|entry| entry.address == address).map(|entry| entry.until)
    };
    assert_eq!(entry(), None);
    cluster.blocklist_add(&address, Duration::from_secs(31_536_000)).expect("fenced");
    let until = entry().expect("an entry");
    let days = until.duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((363..=365).contains(&days), "{days} days");
    cluster.blocklist_add(&address, Duration::from_secs(60)).expect("a repeat");
    assert_eq!(entry(), Some(until));
    lab.run(&format!("ceph osd blocklist rm {address}"));
}

#[test]
fn neither_a_whole_host_nor_oneself_can_be_fenced() {
    let cluster = Lab::get().cluster();
    let own = cluster.own_address().expect("an address");
    for address in ["127.0.0.1:0/0", "127.0.0.1", "", &own] {
        let error = cluster.blocklist_add(address, Duration::from_secs(60)).expect_err("refused");
        assert_eq!(error.kind, ClusterErrorKind::Invalid, "{error}");
    }
}

#[test]
fn the_barrier_is_a_write_that_changes_nothing() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "barrier");
    let info = cluster.image_info(&image).expect("there");
    let header = format!("rbd_header.{}", info.id);
    let state = || {
        let object = "rados -p rbd -N docker";
        ["listomapvals", "listxattr"].map(|what| lab.run(&format!("{object} {what} {header}")))
    };
    let version = || cluster.object_version(&image.location, &header).expect("a version");
    let (before, first) = (state(), version());
    cluster.header_barrier(&image).expect("written");
    assert_eq!(state(), before);
    assert!(version() > first, "no write reached the OSD");

    cluster.image_remove(&image).expect("removed");
    let error = cluster.header_barrier(&image).expect_err("no image");
    assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
    assert_eq!(version(), 0, "the barrier made a header");
}

/// A pool with a quota that is used up.
struct FullPool {
    lab: Lab,
    name: String,
}

impl FullPool {
    fn make(image: &str, admin: &RadosCluster) -> Self {
        let pool = Self { lab: Lab::get(), name: unique("full") };
        let name = &pool.name;
        pool.lab.run(&format!("ceph osd pool create {name} 4 4"));
        pool.lab.run(&format!("rbd pool init {name}"));
        let layout = ImageLayout { size: ByteSize::mib(64), ..ImageLayout::default() };
        admin.image_create(&pool.at().image(image), &layout).expect("created");
        let set = admin.omap_compare_and_set(&pool.at(), "catalog", "k", None, Some(b"1"));
        assert_eq!(set, Ok(Swap::Swapped));
        pool.lab.run(&format!("ceph osd pool set-quota {name} max_objects 3"));
        // The monitor knows first, and then the OSDs.
        eventually("a full pool", Duration::from_secs(40), || {
            let probe =
                admin.omap_compare_and_set(&pool.at(), &unique("probe"), "k", None, Some(b"1"));
            admin.pool_usage(name).is_ok_and(|usage| usage.full)
                && probe.is_err_and(|error| error.kind == ClusterErrorKind::NoSpace)
        });
        pool
    }

    fn at(&self) -> Location {
        Location::new(&self.name, "")
    }
}

impl Drop for FullPool {
    fn drop(&mut self) {
        let name = &self.name;
        let line = format!("ceph osd pool rm {name} {name} --yes-i-really-really-mean-it");
        drop(self.lab.tool(&line).output());
    }
}

#[test]
fn a_full_pool_refuses_at_once_and_keeps_no_half_image() {
    let admin = Lab::get().admin();
    let pool = FullPool::make("old", &admin);
    let at = pool.at();
    let start = std::time::Instant::now();
    let image = at.image("new");
    let layout = ImageLayout { size: ByteSize::mib(64), ..ImageLayout::default() };
    let error = admin.image_create(&image, &layout).expect_err("no space");
    assert_eq!(error.kind, ClusterErrorKind::NoSpace, "{error}");
    assert_eq!(admin.image_list(&at), Ok(vec!["old".to_owned()]));
    let left = pool.lab.run(&format!("rados -p {} ls", pool.name));
    assert!(!left.contains("new"), "{left}");

    // What is there can be looked at, described and thrown away.
    let old = at.image("old");
    admin.image_info(&old).expect("read");
    admin.metadata_set(&old, "k", "v").expect("described");
    let swap = admin.omap_compare_and_set(&at, "catalog", "k", Some(b"1"), Some(b"2"));
    assert_eq!(swap, Ok(Swap::Swapped));
    let error = admin.omap_compare_and_set(&at, "another", "k", None, Some(b"1"));
    assert_eq!(error.expect_err("a new object").kind, ClusterErrorKind::NoSpace);
    admin.header_barrier(&old).expect("written");
    admin.image_remove(&old).expect("removed");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn usage_reckons_with_the_quota() {
    let admin = Lab::get().admin();
    let usage = admin.pool_usage("data").expect("usage");
    assert!(usage.free > ByteSize::gib(1) && !usage.full, "{usage:?}");
    let error = admin.pool_usage("nirvana").expect_err("no such pool");
    assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
}

//! The catalog's list, of which only what has changed is read anew.

use std::sync::Arc;

use docker_volume_ceph::catalog::{CATALOG_OBJECT, Catalog};
use docker_volume_ceph::ceph::Objects;
use docker_volume_ceph::volume::{ByteSize, Location, Record, RecordState, VolumeName};
use serde_json::json;

use crate::sim::SimCluster;

fn name(text: &str) -> VolumeName {
    text.parse().expect("a name")
}

fn record(state: &str) -> Record {
    let record = json!({
        "version": 1, "kind": "rbd", "size": 1_073_741_824, "state": state,
        "location": {"pool": "rbd", "namespace": "docker", "image": "v"},
        "options": {"size": "1073741824B", "data-pool": "slow"},
        "created": "2026-11-21T12:00:00Z", "formatted": true, "adopted": false, "folder": "_data"
    });
    serde_json::from_value(record).expect("a record")
}

#[test]
fn a_list_shares_what_did_not_change_and_has_what_another_host_changed() {
    let (cluster, home) = (SimCluster::new(), Location::new("rbd", "docker"));
    let ours = Catalog::new(cluster.client(), home.clone());
    let theirs = Catalog::new(cluster.client(), home);
    for text in ["a", "b", "c"] {
        ours.insert(&name(text), &record("ready")).expect("inserted");
    }
    let before = ours.list().expect("listed");
    assert!(Arc::ptr_eq(&before, &ours.list().expect("listed")), "nothing changed");
    let entry = |text| theirs.get(&name(text)).expect("read").expect("there");
    let grown = Record { size: ByteSize::gib(2), ..record("removing") };
    theirs.replace(&name("b"), &entry("b"), &grown).expect("replaced");
    theirs.remove(&name("c"), &entry("c")).expect("removed");
    let after = ours.list().expect("listed");
    assert_eq!(after.keys().map(VolumeName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert!(Arc::ptr_eq(&before[&name("a")], &after[&name("a")]), "it is the same still");
    assert_eq!(after[&name("b")].entry(), entry("b"));
    assert_eq!(after[&name("b")].state, RecordState::Removing);
    assert_eq!((&*after[&name("b")].folder, &*after[&name("b")].pool), ("_data", "slow"));
    // What is taken from a list can be changed.
    ours.replace(&name("a"), &after[&name("a")].entry(), &grown).expect("replaced");
}

#[test]
fn a_record_that_cannot_be_read_hides_no_other_and_is_never_replaced_by_an_old_one() {
    let (cluster, home) = (SimCluster::new(), Location::new("rbd", "docker"));
    let client = cluster.client();
    let catalog = Catalog::new(cluster.client(), home.clone());
    let entry = catalog.insert(&name("a"), &record("ready")).expect("inserted");
    catalog.insert(&name("b"), &record("ready")).expect("inserted");
    assert_eq!(catalog.list().expect("listed").len(), 2);
    let bytes = serde_json::to_vec(&entry.record).expect("JSON");
    let swap = |key, old: Option<&[u8]>, new: &[u8]| {
        client.omap_compare_and_set(&home, CATALOG_OBJECT, key, old, Some(new)).expect("an answer")
    };
    assert_eq!(swap("a", Some(&bytes), b"{"), docker_volume_ceph::ceph::Swap::Swapped);
    assert_eq!(swap("not a name", None, &bytes), docker_volume_ceph::ceph::Swap::Swapped);
    let listed = catalog.list().expect("listed");
    assert_eq!(listed.keys().map(VolumeName::as_str).collect::<Vec<_>>(), ["b"]);
}

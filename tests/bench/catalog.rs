//! `List` and `Get` where there are ten thousand volumes.

use std::sync::Arc;

use docker_volume_ceph::catalog::Catalog;
use docker_volume_ceph::ceph::{Access, RadosCluster};
use docker_volume_ceph::volume::{Location, Record, VolumeName};
use serde_json::json;

use crate::Times;
use crate::control::call;
use crate::daemon::{Daemon, Lab};

const CALLS: u32 = 50;
const WRITERS: u32 = 8;

pub(crate) fn report(lab: &Lab, driver: &Daemon, records: u32) {
    let name = |n: u32| -> VolumeName { format!("many-{n}").parse().unwrap() };
    let mut access = Access::new(lab.conf(), "docker");
    access.keyring = Some(lab.keyring());
    let cluster = Arc::new(RadosCluster::new(access));
    let catalog = Catalog::new(cluster, Location::new("rbd", "docker"));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let catalog = &catalog;
            scope.spawn(move || {
                for n in (writer..records).step_by(WRITERS as usize) {
                    catalog.insert(&name(n), &record(n)).expect("inserted");
                }
            });
        }
    });
    // Writing them has kept the cluster busy: not what is to be measured.
    let listed = || {
        let reply = driver.call("VolumeDriver.List", &json!({}));
        reply.is_ok_and(|reply| {
            reply.json["Volumes"].as_array().map(Vec::len) == Some(records as usize)
        })
    };
    assert!(crate::daemon::within(std::time::Duration::from_secs(60), listed), "all are listed");
    let mut times = Times::default();
    for n in 0..CALLS {
        times.take("get", || call(driver, "Get", &json!({"Name": name(n * 97).as_str()})));
        // A change before each, so that no list is answered from what the last one read.
        let entry = catalog.get(&name(n)).expect("read").expect("there");
        let touched = Record {
            used: Some(docker_volume_ceph::volume::ByteSize(u64::from(n))),
            ..entry.record.clone()
        };
        catalog.replace(&name(n), &entry, &touched).expect("replaced");
        let listed = times.take("list after a change", || call(driver, "List", &json!({})));
        assert_eq!(listed["Volumes"].as_array().map(Vec::len), Some(records as usize));
        times.take("list unchanged", || call(driver, "List", &json!({})));
    }
    println!("\n{records} volumes in the catalog, medians in ms");
    for what in ["get", "list unchanged", "list after a change"] {
        println!("{what:<22}{:>8.1}", times.median(what).unwrap());
    }
    crate::idle::print(driver, "with these in memory");
}

fn record(n: u32) -> Record {
    serde_json::from_value(json!({
        "version": 1, "kind": "rbd", "size": 10_737_418_240_u64, "state": "ready",
        "location": {"pool": "rbd", "namespace": "docker", "image": format!("many-{n}")},
        "options": {"size": "10737418240B", "fs-type": "ext4", "uid": "999"},
        "created": "2026-11-21T12:00:00Z", "formatted": true, "adopted": false, "folder": "_data"
    }))
    .unwrap()
}

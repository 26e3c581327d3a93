//! `List`, `Get` and metrics where there are ten thousand volumes, and others change them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use docker_volume_ceph::catalog::Catalog;
use docker_volume_ceph::ceph::{Access, RadosCluster};
use docker_volume_ceph::volume::{ByteSize, Location, Record, VolumeName};
use serde_json::json;

use crate::Times;
use crate::control::call;
use crate::daemon::{Daemon, Lab};

const CALLS: u32 = 50;
const WRITERS: u32 = 8;

/// In the order in which they are printed.
const WHAT: [&str; 5] = [
    "get",
    "list, nothing changed",
    "list after another host's change",
    "list after a create or remove here",
    "a scrape of metrics",
];

pub(crate) fn report(lab: &Lab, driver: &Daemon, records: u32) {
    let catalog = another_host(lab);
    fill(&catalog, records);
    // Writing them has kept the cluster busy: not what is to be measured.
    let all = || list(driver).matches("\"Name\"").count() == records as usize;
    assert!(crate::daemon::within(Duration::from_secs(60), all), "all are listed");
    let mut times = Times::default();
    for n in 0..CALLS {
        times.take(WHAT[0], || call(driver, "Get", &json!({"Name": name(n * 97 % records)})));
        change(&catalog, n);
        times.take(WHAT[2], || list(driver));
        times.take(WHAT[1], || list(driver));
        call(driver, "Create", &json!({"Name": "own", "Opts": {"size": "16M"}}));
        assert!(times.take(WHAT[3], || list(driver)).contains("\"own\""));
        call(driver, "Remove", &json!({"Name": "own"}));
        times.take(WHAT[3], || list(driver));
        times.take(WHAT[4], || scrape(driver));
    }
    println!("\n{records} volumes in the catalog, medians of {CALLS} calls or more in ms");
    for what in WHAT {
        println!("{what:<36}{:>8.1}", times.median(what).unwrap());
    }
    crate::idle::print(driver, "with these in memory");
}

/// The same catalog over a connection of its own.
fn another_host(lab: &Lab) -> Catalog {
    let mut access = Access::new(lab.conf(), "docker");
    access.keyring = Some(lab.keyring());
    Catalog::new(Arc::new(RadosCluster::new(access)), Location::new("rbd", "docker"))
}

fn fill(catalog: &Catalog, records: u32) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for n in (writer..records).step_by(WRITERS as usize) {
                    catalog.insert(&name(n), &record(n)).expect("inserted");
                }
            });
        }
    });
}

/// A change of one record, as an unmount on another host makes it.
fn change(catalog: &Catalog, n: u32) {
    let entry = catalog.get(&name(n)).expect("read").expect("there");
    let touched = Record { used: Some(ByteSize(u64::from(n))), ..entry.record.clone() };
    catalog.replace(&name(n), &entry, &touched).expect("replaced");
}

/// The answer to `List`, all of it. Parsing a megabyte is the client's own time.
fn list(driver: &Daemon) -> String {
    let socket = driver.folder().join("ceph.sock");
    let mut answer = String::new();
    let mut stream = crate::daemon::send(&socket, "VolumeDriver.List", "{}").expect("sent");
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Where the daemon tells its metrics.
pub(crate) fn metrics_of(driver: &Daemon) -> PathBuf {
    driver.folder().join("metrics.sock")
}

fn scrape(driver: &Daemon) {
    let mut stream = UnixStream::connect(metrics_of(driver)).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.contains("docker_volume_ceph_volumes{kind=\"rbd\",state=\"ready\"}"),
        "{answer}"
    );
}

fn name(n: u32) -> VolumeName {
    format!("many-{n}").parse().unwrap()
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

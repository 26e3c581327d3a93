//! What a connection and its calls cost: printed, and held to a bound.

use std::process::Command;
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{ImageLayout, Images, Monitor, Objects, Subvolumes};
use docker_volume_ceph::volume::ByteSize;

use super::Lab;
use super::lab::{home, own, unique};

/// Memory that a connection may take in a process with little else, in KiB.
const MOST: u64 = 48 * 1024;

#[test]
fn a_connection_is_small() {
    // A process of its own: the other tests have connections too.
    let program = std::env::current_exe().expect("this test binary");
    let name = "ceph::cost::measured_in_a_process_of_its_own";
    let output = Command::new("timeout")
        .arg("120")
        .arg(program)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    print!("{text}");
}

fn cost(when: &str) -> u64 {
    println!("{when}: VmRSS {} KiB, {} threads", own("VmRSS"), own("Threads"));
    own("VmRSS")
}

fn timed(what: &str, times: u32, mut call: impl FnMut(u32)) {
    let mut took: Vec<Duration> = (0..times)
        .map(|round| {
            let start = Instant::now();
            call(round);
            start.elapsed()
        })
        .collect();
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p95 {:.2} ms", at(50), at(95));
}

#[test]
#[ignore = "run by a_connection_is_small"]
fn measured_in_a_process_of_its_own() {
    let cluster = Lab::get().cluster();
    cost("before");
    cluster.status().expect("connected");
    cost("connected");
    let (object, name) = (unique("cost"), unique("cost"));
    let image = |round| home().image(format!("{name}-{round}"));
    let layout = ImageLayout { size: ByteSize::gib(1), ..ImageLayout::default() };
    timed("omap_compare_and_set", 200, |round| {
        let key = format!("k{round}");
        cluster.omap_compare_and_set(&home(), &object, &key, None, Some(b"v")).expect("set");
    });
    timed("omap_get", 200, |_| drop(cluster.omap_get(&home(), &object, "k7").expect("read")));
    timed("image_create", 50, |round| cluster.image_create(&image(round), &layout).expect("made"));
    timed("image_info", 100, |_| drop(cluster.image_info(&image(0)).expect("read")));
    cost("after 150 image calls");
    timed("image_list", 100, |_| drop(cluster.image_list(&home()).expect("read")));
    timed("metadata_set", 100, |_| cluster.metadata_set(&image(0), "k", "v").expect("set"));
    timed("metadata_get", 100, |_| drop(cluster.metadata_get(&image(0), "k").expect("read")));
    timed("watchers", 100, |_| drop(cluster.watchers(&image(0)).expect("read")));
    timed("header_barrier", 100, |_| cluster.header_barrier(&image(0)).expect("written"));
    timed("trash_move", 25, |round| {
        cluster.trash_move(&image(round), Duration::ZERO).expect("moved");
    });
    timed("image_remove", 25, |round| cluster.image_remove(&image(25 + round)).expect("removed"));
    timed("status", 50, |_| drop(cluster.status().expect("read")));
    timed("pool_usage", 50, |_| assert!(cluster.pool_usage("rbd").is_ok()));
    let most = cost("after all");
    // Each has a connection to the manager for itself, which ends with it.
    timed("groups", 30, |_| drop(cluster.groups("cephfs").expect("read")));
    cost("after 30 commands to the manager");
    for trashed in cluster.trash_list(&home()).expect("listed") {
        if trashed.name.starts_with(&name) {
            cluster.trash_remove(&home(), &trashed.id).expect("removed");
        }
    }
    assert!(most < MOST, "{most} KiB");
}

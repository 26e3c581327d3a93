//! Virtual hosts with kernels of their own, real engines, real Ceph: `make test T=hosts`.
//!
//! What only a kernel with rbd and nbd can show, and two of them. Slow by nature: each test makes
//! as much as it can of one volume and one container.

mod blocklist;
mod cephfs;
mod choice;
mod failover;
mod fences;
mod krbd;
mod lab;
mod nbd;
mod packaging;
mod postgres;
mod running;
mod snapshots;
mod swarm;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{self, assert_recording, at_data, recorder};
use crate::support::daemon::{Reply, within};
use crate::support::machine::{Machine, SOON};

/// What the fenced host's daemon says of it.
const TAKEN: &str = "volume was taken from this host";

/// For an emulated processor, which a record keeps busy for long.
const RECORDER: &str = recorder!("0.2");

/// A container that writes to a new volume: both names.
fn writing(host: &mut Machine) -> (String, String) {
    let (volume, container) = (host.volume(&[]), host.fresh("writer"));
    host.docker().start(&container, at_data!(volume), RECORDER);
    assert_recording(host.docker(), &container);
    (volume, container)
}

/// The engine's Mount; what it answers, and how long that took.
fn try_mount(host: &Machine, volume: &str) -> (Result<String, String>, Duration) {
    let start = Instant::now();
    let reply = host.call("Mount", &json!({"Name": volume, "ID": "failover"}));
    let reply = reply.expect("the daemon answers");
    let mountpoint = reply.json["Mountpoint"].as_str().unwrap_or_default().to_owned();
    let answer = if reply.is_ok() { Ok(mountpoint) } else { Err(reply.error().to_owned()) };
    (answer, start.elapsed())
}

/// Mounts it, and finds every acknowledged record; the mountpoint, and the number of records.
#[track_caller]
fn take(host: &Machine, volume: &str, acknowledged: u64) -> (String, u64) {
    let (answer, took) = try_mount(host, volume);
    let mountpoint = answer.unwrap_or_else(|error| panic!("{volume} on {}: {error}", host.name()));
    println!("{} mounted {volume} after {:.1} s", host.name(), took.as_secs_f64());
    let there = records(host, &mountpoint);
    assert!(there >= acknowledged, "{acknowledged} were acknowledged, and {there} are there");
    (mountpoint, there)
}

/// The number of records, all of which are whole.
#[track_caller]
fn records(host: &Machine, mountpoint: &str) -> u64 {
    let count = verified(host, mountpoint);
    count.parse().unwrap_or_else(|_| panic!("on {}: {count}", host.name()))
}

/// What the verifier says of the records: their number, or what is wrong. They are looked through on
/// this machine, which takes a moment instead of seconds.
fn verified(host: &Machine, mountpoint: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let log = host.run(&format!("cat {mountpoint}/log")) + "\n";
    std::fs::write(folder.path().join("log"), log).expect("the log is written");
    engine::verified(folder.path())
}

#[track_caller]
fn unmount(host: &Machine, volume: &str) {
    let reply = host.call("Unmount", &json!({"Name": volume, "ID": "failover"}));
    assert!(reply.as_ref().is_ok_and(Reply::is_ok), "{reply:?}");
}

fn state(host: &Machine, volume: &str) -> String {
    let reply = host.call("Get", &json!({"Name": volume})).expect("the daemon answers");
    reply.json["Volume"]["Status"]["state"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the host has noticed that the volume was taken from it. Where no container uses it,
/// it is `broken` for a moment only.
#[track_caller]
fn assert_noticed(host: &Machine, volume: &str) {
    let said = |line: &str| line.contains(TAKEN) && line.contains(volume);
    let noticed = within(SOON, || host.log_since().lines().any(said));
    assert!(noticed, "{volume} is {} on {}", state(host, volume), host.name());
}

fn address(host: &Machine) -> String {
    host.run("cat /sys/bus/rbd/devices/*/client_addr")
}

/// The client by which a host shares a volume, as the volume's record has it.
fn address_in_sharers(host: &Machine, volume: &str) -> String {
    let status = host.docker().inspect(volume)["Status"].clone();
    let all = status["sharers"].as_array().cloned().unwrap_or_default();
    let own = all.iter().find(|sharer| sharer["here"] == true);
    let address = own.and_then(|sharer| sharer["address"].as_str());
    address.unwrap_or_else(|| panic!("no client of {}: {status}", host.name())).to_owned()
}

fn is_fenced(host: &Machine, address: &str) -> bool {
    host.network().ceph(&["osd", "blocklist", "ls"]).contains(address)
}

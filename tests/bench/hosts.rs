//! What krbd costs on a virtual host, beside the same by hand there; and how long a volume's way to
//! another host takes.
//!
//! The hosts are virtual: the figures are for comparison with each other. By hand is measured inside
//! the host, the driver from outside, which costs it some milliseconds.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Times;
use crate::support::machine::{FENCE_AFTER, Machine, on_two, quoted};

const CALLS: [&str; 6] =
    ["create", "first mount", "unmount", "mount again", "unmount again", "remove"];

pub(crate) fn report(volumes: u32) {
    on_two(|one, other| {
        let (mut ours, mut by_hand) = (Times::default(), Times::default());
        for number in 0..volumes {
            let name = format!("bench{number}");
            driver(one, &name, &mut ours);
            hand(one, &format!("by-hand-{name}"), &mut by_hand);
        }
        println!("\nkrbd on a virtual host, {volumes} volumes of 512 MiB, medians in ms");
        Times::compare(&CALLS, &ours, &by_hand);
        ways(one, other);
    });
}

fn driver(host: &Machine, name: &str, times: &mut Times) {
    let id = json!({"Name": name, "ID": "bench"});
    let create = json!({"Name": name, "Opts": {"size": "512M"}});
    times.take("create", || call(host, "Create", &create));
    times.take("first mount", || call(host, "Mount", &id));
    times.take("unmount", || call(host, "Unmount", &id));
    times.take("mount again", || call(host, "Mount", &id));
    times.take("unmount again", || call(host, "Unmount", &id));
    times.take("remove", || call(host, "Remove", &json!({"Name": name})));
}

fn call(host: &Machine, verb: &str, body: &serde_json::Value) {
    let reply = host.call(verb, body).unwrap();
    assert!(reply.is_ok(), "{verb} {body}: {}", reply.error());
}

/// Each step of it on a line of the script; the times are the host's own.
fn hand(host: &Machine, image: &str, times: &mut Times) {
    let rbd = host.rbd_by_hand();
    let map = format!("d=$({rbd} device map -o exclusive,noudev rbd/docker/{image})");
    let unmount = format!("umount /mnt; {rbd} device unmap -o noudev $d");
    let steps = [
        format!("{rbd} create --size 512M rbd/docker/{image}"),
        format!("{map}; mkfs.ext4 -q -E nodiscard $d; mount $d /mnt"),
        unmount.clone(),
        format!("{map}; mount $d /mnt"),
        unmount,
        format!("{rbd} trash mv rbd/docker/{image}"),
    ];
    let timed = steps.map(|step| format!("{step} > /dev/null; echo $EPOCHREALTIME;"));
    let script = format!("set -e; echo $EPOCHREALTIME; {}", timed.join(" "));
    let printed = host.run(&quoted(&["bash", "-c", &script]));
    let stamps: Vec<f64> = printed.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(stamps.len(), CALLS.len() + 1, "{printed}");
    for (what, pair) in CALLS.iter().zip(stamps.windows(2)) {
        times.add(what, Duration::from_secs_f64(pair[1] - pair[0]));
    }
}

/// From one host to the other: in order, and from a host that is gone.
fn ways(one: &mut Machine, other: &mut Machine) {
    one.announce("volume was taken from this host");
    println!("\na mount on another host, in s; fence-after {} s", FENCE_AFTER.as_secs());
    let volume = one.volume(&[]);
    // Once on each, so that both kernels have loaded what they need.
    for host in [&*one, &*other] {
        mounted(host, &volume);
        unmounted(host, &volume);
    }
    println!("{:<36}{:>8.1}", "again on the same host", mounted(one, &volume));
    unmounted(one, &volume);
    println!("{:<36}{:>8.1}", "moved in order", mounted(other, &volume));
    unmounted(other, &volume);
    mounted(one, &volume);
    one.freeze();
    println!("{:<36}{:>8.1}", "the holder is frozen", mounted(other, &volume));
    unmounted(other, &volume);
    one.thaw();
    one.assert_released();
    let volume = one.volume(&[]);
    mounted(one, &volume);
    one.power_off();
    println!("{:<36}{:>8.1}", "the holder has lost its power", mounted(other, &volume));
    unmounted(other, &volume);
}

fn mounted(host: &Machine, volume: &str) -> f64 {
    let start = Instant::now();
    call(host, "Mount", &json!({"Name": volume, "ID": "bench"}));
    start.elapsed().as_secs_f64()
}

fn unmounted(host: &Machine, volume: &str) {
    call(host, "Unmount", &json!({"Name": volume, "ID": "bench"}));
}

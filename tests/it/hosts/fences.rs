//! The fence: what it is good for, when it cannot be placed, and what comes of removing it.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{TAKEN, address, assert_noticed, is_fenced, try_mount, unmount};
use crate::support::caps::Caps;
use crate::support::daemon::{run, timed, within};
use crate::support::machine::{Machine, SOON, on_two};

#[test]
fn without_a_fence_that_holds_nothing_is_taken() {
    on_two(|one, other| {
        one.announce(TAKEN);
        for said in ["is fenced only until", "access denied"] {
            other.announce(said);
        }
        let volume = one.volume(&[]);
        try_mount(one, &volume).0.expect("mounted");
        let fenced = address(one);
        one.freeze();
        // A key that may not fence.
        let caps = Caps::of(|words| one.network().ceph(words));
        caps.set(&[("mon", "allow r")]);
        other.start_daemon();
        let refused = try_mount(other, &volume).0.expect_err("nobody is fenced");
        assert!(
            refused.contains("add to the blocklist") && refused.contains("denied"),
            "{refused}"
        );
        assert!(!is_fenced(one, &fenced));
        drop(caps);
        other.start_daemon();
        // An entry that ends too soon: of two, the first wins.
        one.network().ceph(&["osd", "blocklist", "add", &fenced, "3600"]);
        let refused = try_mount(other, &volume).0.expect_err("the first entry wins");
        assert!(refused.contains(&format!("client {fenced} is fenced only until")), "{refused}");
        assert!(refused.contains("ceph osd blocklist rm"), "{refused}");
        one.network().ceph(&["osd", "blocklist", "rm", &fenced]);
        try_mount(other, &volume).0.expect("fenced for a year");
        one.thaw();
        assert_noticed(one, &volume);
        unmount(one, &volume);
        unmount(other, &volume);
    });
}

/// The blocklist entry alone is no barrier: what was queued at an OSD may still be written after
/// it. Nothing of the image may be read before that.
#[test]
fn what_was_in_flight_when_its_host_was_fenced_lands_before_the_first_read_or_never() {
    on_two(|one, other| {
        one.announce(TAKEN);
        one.announce("the cluster did not answer in time");
        // Its first Mount, whose time goes on while the daemon stands still.
        other.announce("failed error=mount");
        let volume = one.volume(&[]);
        let mountpoint = try_mount(one, &volume).0.expect("mounted");
        let (file, fenced) = (format!("{mountpoint}/file"), address(one));
        one.run(&format!("head -c 65536 /dev/zero > {file} && sync"));
        one.freeze();
        other.arm("halt-before:cluster.blocklist_add:1");
        let asked = json!({"Name": volume, "ID": "failover"});
        thread::scope(|scope| {
            let mount = scope.spawn(|| other.call("Mount", &asked));
            assert!(within(SOON, || other.is_halted()), "it never fences");
            // The mind of the second host is made up. Only now the first one goes on, and writes
            // to an OSD that stands still.
            let paused = one.network().pause("osd");
            one.thaw();
            one.run(&late_write(&file));
            let in_flight = || one.try_run(30, IS_IN_FLIGHT).is_ok_and(|done| done.status == 0);
            assert!(within(SOON, in_flight), "nothing is in flight");
            // From the device's queue to the OSD's socket.
            thread::sleep(Duration::from_secs(1));
            one.freeze();
            other.go_on();
            assert!(within(SOON, || is_fenced(other, &fenced)), "the monitor takes the entry");
            drop(paused);
            // On a slow machine its time was over before: it is asked again, as an engine would.
            let _ = mount.join().expect("no panic");
        });
        let file_there = format!("{}/file", try_mount(other, &volume).0.expect("taken"));
        let first = other.run(&format!("md5sum < {file_there}"));
        one.thaw();
        assert_noticed(one, &volume);
        let ended = || one.run("cat /run/late").contains("ended");
        assert!(within(SOON, ended), "the late write hangs: {}", one.run("cat /run/late"));
        // From the cluster, not from the page cache.
        other.run("echo 3 > /proc/sys/vm/drop_caches");
        assert_eq!(other.run(&format!("md5sum < {file_there}")), first, "a late write");
        unmount(one, &volume);
        unmount(other, &volume);
    });
}

/// Writes to the disk itself, in the background, and says when that has ended, however it has.
fn late_write(file: &str) -> String {
    let write = format!("dd if=/dev/urandom of={file} bs=64k count=1 oflag=direct conv=notrunc");
    format!("setsid sh -c '{write}; echo ended' > /run/late 2>&1 &")
}

/// Does that write wait for an answer of the OSD?
const IS_IN_FLIGHT: &str = "awk '$2 == 0 {exit 1}' /sys/block/rbd0/inflight && grep -q 'State:.*D' /proc/$(pidof dd)/status";

/// Why no entry is ever removed, nor made to end, while anything of its client may be left.
#[test]
fn a_client_that_is_let_in_again_writes_under_the_new_holder_s_lock() {
    on_two(|one, other| {
        let (kept, removed) = (one.volume(&[]), one.volume(&[]));
        let volumes = [&kept, &removed];
        for volume in volumes {
            let mountpoint = try_mount(one, volume).0.expect("mounted");
            one.run(&format!("sync; head -c 4194304 /dev/urandom > {mountpoint}/late"));
        }
        let let_in = address_of(one, &removed);
        // Without its daemon, which would notice: what is left is a kernel with dirty pages.
        one.kill_daemon();
        one.freeze();
        for volume in volumes {
            try_mount(other, volume).0.expect("taken");
            unmount(other, volume);
        }
        other.assert_released();
        volumes.iter().for_each(|volume| other.map_by_hand(volume));
        let before = volumes.map(|volume| checksum(other, volume));
        // What an entry's end after a short while would do.
        other.network().ceph(&["osd", "blocklist", "rm", &let_in]);
        one.thaw();
        one.try_run(60, "sync").expect("the host answers");
        assert_eq!(checksum(other, &kept), before[0], "a fenced client has written");
        assert_ne!(checksum(other, &removed), before[1], "the lock alone keeps a client out?");
        other.unmap_by_hand();
        // Its daemon would take both down when it comes: the kernel here is not worth the wait.
        one.power_off();
    });
}

/// The client of one volume of several.
fn address_of(host: &Machine, volume: &str) -> String {
    let found = format!("grep -lx {volume} /sys/bus/rbd/devices/*/name");
    host.run(&format!("cat $(dirname $({found}))/client_addr"))
}

/// What the cluster holds of the image.
fn checksum(host: &Machine, volume: &str) -> String {
    let network = host.network();
    let export = format!(
        "nsenter --target {} --net -- rbd --conf {} --no-progress export rbd/docker/{volume} - | sha256sum",
        network.holder(),
        network.conf().display()
    );
    let output = run(timed(60, "bash").args(["-o", "pipefail", "-c", &export]));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

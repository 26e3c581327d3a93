//! Hosts that lose their power, stand still, or are cut off, and others that take their volumes.
//!
//! A container on the first host writes numbered records and acknowledges each when it is synced.
//! Whatever becomes of that host, no acknowledged record may be missing where the volume is next,
//! and nothing of the old host may come after.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{TAKEN, address, assert_noticed, is_fenced, state, take, try_mount, unmount, writing};
use crate::engine::{assert_recording, has_failed, recorded};
use crate::support::daemon::within;
use crate::support::machine::{FENCE_AFTER, Machine, SOON, on_two};

const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

#[test]
fn no_acknowledged_record_is_lost_with_a_host_s_power() {
    on_two(|one, other| {
        let (volume, writer) = writing(one);
        let acknowledged = recorded(one.docker(), &writer);
        one.run("touch /run/is-up");
        let boot = one.run(BOOT_ID);
        one.power_off();
        assert!(one.try_run(1, "true").is_err());
        let (mountpoint, there) = take(other, &volume, acknowledged);
        other.run(&format!("touch {mountpoint}/mine && sync"));
        unmount(other, &volume);
        other.assert_released();

        // What the first host knew before its boot is void.
        one.boot();
        assert_eq!(one.run("ls /run/is-up || echo gone"), "gone");
        assert_ne!(one.run(BOOT_ID), boot);
        one.start_daemon();
        let (mountpoint, again) = take(one, &volume, there);
        assert_eq!(
            (again, one.run(&format!("ls {mountpoint}/mine"))),
            (there, format!("{mountpoint}/mine"))
        );
        unmount(one, &volume);
    });
}

/// The first host is away while the second takes its volume, and comes back; nobody uses the volume
/// then. The client that was fenced.
pub(super) fn away_and_back(
    one: &mut Machine,
    other: &Machine,
    [away, back]: [fn(&Machine); 2],
) -> String {
    one.announce(TAKEN);
    let (volume, writer) = writing(one);
    let fenced = address(one);
    let acknowledged = recorded(one.docker(), &writer);
    away(one);
    let (mountpoint, there) = take(other, &volume, acknowledged);
    other.run(&format!("touch {mountpoint}/mine && sync"));
    assert!(is_fenced(other, &fenced));

    back(one);
    assert!(within(SOON, || state(one, &volume) == "broken"), "{}", state(one, &volume));
    assert!(within(SOON, || has_failed(one.docker(), &writer)), "the writer's IO hangs");
    // Read anew from the cluster: nothing of the first host came after.
    unmount(other, &volume);
    other.assert_released();
    let (mountpoint, again) = take(other, &volume, there);
    assert_eq!(again, there, "a late write");
    other.run(&format!("ls {mountpoint}/mine"));
    unmount(other, &volume);
    // While anything of the fenced client is left, its entry stays: it is the only fence.
    assert!(is_fenced(other, &fenced));
    one.docker().ok(&["rm", "--force", &writer]);
    one.assert_released();
    try_mount(one, &volume).0.expect("usable again");
    unmount(one, &volume);
    fenced
}

#[test]
fn a_frozen_host_writes_nothing_more_and_notices() {
    on_two(|one, other| drop(away_and_back(one, other, [Machine::freeze, Machine::thaw])));
}

#[test]
fn a_host_that_was_cut_off_writes_nothing_more_and_notices() {
    on_two(|one, other| drop(away_and_back(one, other, [Machine::cut, Machine::mend])));
}

#[test]
fn a_living_host_is_not_fenced_for_what_others_do_not_see() {
    on_two(|one, other| {
        // Either is said of a cluster that is not reached, by which time is over first.
        for said in ["the cluster did not answer in time", "no result within 20 s"] {
            other.announce(said);
        }
        let (volume, writer) = writing(one);
        let address = address(one);
        other.daemon(&["--busy-wait", "17s", "--mount-deadline", "20s"]);
        // The image's OSD stands still for longer than a holder may be silent.
        thread::scope(|scope| {
            let mount = scope.spawn(|| try_mount(other, &volume).0);
            thread::sleep(Duration::from_secs(3));
            let paused = one.network().pause("osd");
            thread::sleep(2 * FENCE_AFTER);
            drop(paused);
            let refused = mount.join().expect("no panic").expect_err("the holder lives");
            println!("with the OSD stopped: {refused}");
        });
        assert_recording(one.docker(), &writer);
        // Whoever asks is cut off.
        other.cut();
        let refused = try_mount(other, &volume).0.expect_err("it reaches nobody");
        println!("cut off: {refused}");
        other.mend();
        assert_recording(one.docker(), &writer);
        assert!(!is_fenced(one, &address));
        assert_eq!(state(one, &volume), "mounted");
    });
}

#[test]
fn of_two_hosts_that_begin_at_once_one_has_it() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        for host in [&mut *one, &mut *other] {
            host.daemon(&["--busy-wait", "5s"]);
        }
        for round in 0..2 * crate::support::repeats() {
            let answers = thread::scope(|scope| {
                let attempts = [&*one, &*other].map(|host| {
                    let volume = &volume;
                    scope.spawn(move || try_mount(host, volume).0)
                });
                attempts.map(|attempt| attempt.join().expect("no panic"))
            });
            let won: Vec<bool> = answers.iter().map(Result::is_ok).collect();
            assert!(won == [true, false] || won == [false, true], "round {round}: {answers:?}");
            unmount(if won[0] { one } else { other }, &volume);
            one.assert_released();
            other.assert_released();
        }
    });
}

#[test]
fn a_takeover_that_its_daemon_did_not_survive_is_completed() {
    on_two(|one, other| {
        one.announce(TAKEN);
        let volume = one.volume(&[]);
        let mountpoint = try_mount(one, &volume).0.expect("mounted");
        one.run(&format!("echo kept > {mountpoint}/file && sync"));
        one.freeze();
        let asked = json!({"Name": volume, "ID": "failover"});
        thread::scope(|scope| {
            let call = scope.spawn(|| other.call("Mount", &asked));
            let begun = || other.log_since().contains("fencing the holder");
            assert!(within(SOON, begun), "nobody is fenced");
            // The daemon is killed with the call in flight, which ends with the connection.
            other.run("kill -9 $(cut -d' ' -f1 /run/lab/daemon)");
            let _ = call.join().expect("no panic");
        });
        other.kill_daemon();
        other.start_daemon();
        let mountpoint = try_mount(other, &volume).0.expect("the next attempt");
        assert_eq!(other.run(&format!("cat {mountpoint}/file")), "kept");
        one.thaw();
        assert_noticed(one, &volume);
        unmount(one, &volume);
        unmount(other, &volume);
    });
}

#[test]
fn a_clone_of_a_host_is_another_host() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        try_mount(one, &volume).0.expect("mounted");
        let name = other.run("hostname");
        other.run(&format!("hostname {}", one.name()));
        other.stop_daemon();
        other.start_daemon();
        other.daemon(&["--busy-wait", "2s"]);
        let address = address(one);
        let refused = try_mount(other, &volume).0.expect_err("its namesake has it");
        assert!(refused.contains(&address), "{refused}");
        assert!(!is_fenced(one, &address));
        other.run(&format!("hostname {name}"));
        other.stop_daemon();
        other.start_daemon();
        unmount(one, &volume);
    });
}

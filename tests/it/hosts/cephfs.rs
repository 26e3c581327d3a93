//! CephFS by the kernel's client: volumes that two kernels share, and the tests of `ceph_folders`
//! once more.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{RECORDER, address_in_sharers, records, state, try_mount, unmount, verified};
use crate::engine::{assert_recording, at_data, has_failed, recorded};
use crate::support::daemon::within;
use crate::support::machine::{Machine, Network, SOON, on_two_that_show_clients};
use crate::support::repeats;

/// How long a host is cut off from the cluster: a minute, where tests repeat in full.
fn cut_for() -> Duration {
    Duration::from_secs(if repeats() > 1 { 60 } else { 15 })
}

/// What no call may take longer than, on a host that reaches nobody.
const PROMPT: Duration = Duration::from_secs(75);

#[track_caller]
fn mounted(host: &Machine, volume: &str) -> String {
    try_mount(host, volume).0.unwrap_or_else(|error| panic!("{}: {error}", host.name()))
}

/// Every acknowledged record can be read on the host while another one writes. A read that meets an
/// append may see the last record twice (seen with Linux 6.1, and never in the file): the next does
/// not.
#[track_caller]
fn assert_reads(host: &Machine, mountpoint: &str, acknowledged: u64) {
    let mut said = String::new();
    let whole = within(SOON, || {
        said = verified(host, mountpoint);
        said.parse::<u64>().is_ok_and(|there| there >= acknowledged)
    });
    assert!(whole, "{acknowledged} were acknowledged; on {}: {said}", host.name());
}

/// Does a script fail on the host, and say so?
#[track_caller]
fn assert_fails(host: &Machine, script: &str, said: &str) {
    let done = host.try_run(60, script).expect("the host answers");
    assert!(done.status != 0 && done.err.contains(said), "{script}: {done:?}");
}

#[test]
fn two_kernels_share_a_volume_with_its_quota_and_its_locks() {
    on_two_that_show_clients(|one, other| {
        let volume = one.volume(&["type=cephfs", "size=64M"]);
        let writer = one.fresh("writer");
        one.docker().start(&writer, at_data!(volume), RECORDER);
        assert_recording(one.docker(), &writer);
        let theirs = mounted(other, &volume);
        assert_eq!(other.run(&format!("stat -f -c %T {theirs}")), "ceph");

        // What one has synced the other reads, and the other way.
        let acknowledged = recorded(one.docker(), &writer);
        assert_reads(other, &theirs, acknowledged);
        other.run(&format!("echo back > {theirs}/back && sync {theirs}/back"));
        assert_eq!(one.docker().exec(&writer, "cat /data/back"), "back");

        // A lock, and the quota, hold for both.
        let ours = mounted(one, &volume);
        let until_tried = format!("until [ -e {ours}/tried ]; do sleep 0.2; done");
        let hold = format!("flock {ours}/lock sh -c 'echo held > {ours}/held; {until_tried}'");
        thread::scope(|scope| {
            let holding = scope.spawn(|| one.run(&hold));
            let held = format!("test -s {theirs}/held");
            let there = || other.try_run(30, &held).is_ok_and(|done| done.status == 0);
            assert!(within(SOON, there), "the lock is not taken");
            let taken = other.try_run(30, &format!("flock --nonblock {theirs}/lock true"));
            assert_eq!(taken.expect("the host answers").status, 1, "two hosts have one lock");
            other.run(&format!("touch {theirs}/tried"));
            holding.join().expect("no panic");
        });
        // The writer would meet the limit as well.
        assert_recording(one.docker(), &writer);
        assert!(!has_failed(one.docker(), &writer));
        one.docker().ok(&["stop", &writer]);
        let fill = format!("dd if=/dev/zero of={theirs}/big bs=1M count=160");
        assert_fails(other, &fill, "quota exceeded");
        other.run(&format!("rm {theirs}/big && sync -f {theirs}"));
        let room =
            || other.try_run(60, &format!("echo room > {theirs}/more && sync {theirs}/more"));
        assert!(within(SOON, || room().is_ok_and(|done| done.status == 0)), "no room again");
        assert!(records(one, &ours) >= recorded(one.docker(), &writer));
        unmount(one, &volume);
        unmount(other, &volume);
        other.assert_released();
    });
}

#[test]
fn a_kernel_that_is_cut_off_goes_on_and_one_that_is_fenced_starts_anew() {
    on_two_that_show_clients(|one, other| {
        one.announce("the cluster did not answer in time");
        one.announce("volume is broken");
        let volume = one.volume(&["type=cephfs"]);
        let writer = one.fresh("writer");
        one.docker().start(&writer, at_data!(volume), RECORDER);
        assert_recording(one.docker(), &writer);
        let theirs = mounted(other, &volume);

        let start = Instant::now();
        one.cut();
        for (verb, body) in [
            ("Get", json!({"Name": volume})),
            ("List", json!({})),
            ("Mount", json!({"Name": volume, "ID": "meanwhile"})),
        ] {
            let asked = Instant::now();
            let reply = one.call(verb, &body).expect("the daemon answers");
            assert!(asked.elapsed() < PROMPT, "{verb} {:?}: {reply:?}", asked.elapsed());
        }
        let acknowledged = recorded(one.docker(), &writer);
        thread::sleep(cut_for().saturating_sub(start.elapsed()));
        one.mend();
        // The kernel waits longer and longer between its attempts.
        let before = recorded(one.docker(), &writer);
        let on = || recorded(one.docker(), &writer) > before + 3;
        assert!(within(2 * SOON, on), "it stands at {before}");
        assert!(!has_failed(one.docker(), &writer));
        assert_reads(other, &theirs, acknowledged);
        unmount(other, &volume);

        // Shut out behind its back: it says so, and its next mount has another client.
        let client = address_in_sharers(one, &volume);
        one.network().ceph(&["osd", "blocklist", "add", &client]);
        assert!(within(SOON, || state(one, &volume) == "broken"), "{}", state(one, &volume));
        assert!(within(SOON, || has_failed(one.docker(), &writer)), "the writer's IO hangs");
        one.docker().ok(&["rm", "--force", &writer]);
        let ours = mounted(one, &volume);
        assert_ne!(address_in_sharers(one, &volume), client);
        assert!(records(one, &ours) >= acknowledged);
        unmount(one, &volume);
        one.network().ceph(&["osd", "blocklist", "rm", &client]);
    });
}

#[test]
fn the_kernels_client_does_what_ceph_fuse_does() {
    on_two_that_show_clients(|host, _| {
        let network = host.network();
        let folders: Vec<String> = thread::scope(|scope| {
            let making: Vec<_> =
                (0..9).map(|number| scope.spawn(move || make_folder(network, number))).collect();
            making.into_iter().map(|folder| folder.join().expect("no panic")).collect()
        });
        let conf = network.conf();
        let lab = conf.ancestors().nth(2).expect("a folder of the lab").display();
        let program = std::env::current_exe().expect("this program");
        let script = format!(
            "export DOCKER_CEPH_LAB={lab} DOCKER_CEPH_FOLDERS='{}'; {} ceph_folders:: \
             --skip a_killed_ceph_fuse --test-threads 1 --nocapture 2>&1",
            folders.join("\n"),
            program.display()
        );
        let done = host.try_run(300, &script).expect("the host answers");
        assert!(done.status == 0 && done.out.contains("8 passed"), "{}", done.out);
    });
}

/// A folder with a quota and a key of its own: name, path and key.
fn make_folder(network: &Network, number: usize) -> String {
    let name = format!("sys-{}-{number}", std::process::id());
    let size = (16 << 20).to_string();
    let of = ["cephfs", &name];
    let create = [&["fs", "subvolume", "create"], &of[..], &["--size", &size, "--mode", "0777"]];
    network.ceph(&create.concat());
    let path = network.ceph(&[&["fs", "subvolume", "getpath"], &of[..]].concat());
    let path = path.trim();
    let granted =
        network.ceph(&["fs", "authorize", "cephfs", &format!("client.{name}"), path, "rw"]);
    let (_, key) = granted.split_once("key = ").expect("it prints the key");
    format!("{name} {path} {}", key.trim())
}

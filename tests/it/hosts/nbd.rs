//! The mapper nbd: `rbd-nbd` and the kernel's network block device.

use super::{TAKEN, assert_noticed, try_mount, unmount};
use crate::engine::at_data;
use crate::support::machine::on_two;

#[test]
fn a_volume_is_written_by_nbd_outlives_the_daemon_and_is_read_by_krbd() {
    on_two(|one, other| {
        one.daemon(&["--mapper", "nbd"]);
        let volume = one.volume(&["size=64M"]);
        let container = one.fresh("c");
        one.docker().idle(&container, at_data!(volume));
        let mounted = one.docker().exec(&container, "grep ' /data ' /proc/mounts");
        assert!(mounted.starts_with("/dev/nbd"), "{mounted}");
        let lock = one.network().rbd(&["lock", "list", &volume]);
        assert!(lock.contains("10.77.0.11:0/"), "{lock}");

        // The process behind the device is none of the daemon's.
        one.kill_daemon();
        one.docker().exec(&container, "echo by nbd > /data/file; sync /data/file");
        one.start_daemon();
        let said = one.tool(&["resize", &volume, "96M"]);
        assert!(said.contains("64 MiB to 96 MiB"), "{said}");
        one.docker().ok(&["rm", "--force", &container]);
        one.assert_released();
        assert_eq!(one.run("pidof rbd-nbd || true"), "");
        assert_eq!(other.docker().script(at_data!(volume), "cat /data/file"), "by nbd");
    });
}

#[test]
fn what_krbd_cannot_carry_nbd_can() {
    on_two(|one, _| {
        let volume = one.volume(&["size=64M", "mapper=nbd"]);
        one.network().rbd(&["feature", "enable", &volume, "journaling"]);
        one.docker().script(at_data!(volume), "echo 1 > /data/file");
        assert_eq!(one.docker().script(at_data!(volume), "cat /data/file"), "1");
        one.assert_released();
    });
}

#[test]
fn a_frozen_host_loses_a_volume_that_nbd_serves_and_notices() {
    on_two(|one, other| {
        one.announce(TAKEN);
        one.daemon(&["--mapper", "nbd"]);
        let volume = one.volume(&[]);
        let mountpoint = try_mount(one, &volume).0.expect("mounted");
        one.run(&format!("echo kept > {mountpoint}/file && sync"));
        one.freeze();
        let mountpoint = try_mount(other, &volume).0.expect("taken");
        assert_eq!(other.run(&format!("cat {mountpoint}/file; touch {mountpoint}/mine")), "kept");
        one.thaw();
        assert_noticed(one, &volume);
        unmount(one, &volume);
        one.assert_released();
        unmount(other, &volume);
        other.assert_released();
        // Read anew from the cluster: nothing of the first host came after.
        let mountpoint = try_mount(one, &volume).0.expect("usable again");
        assert_eq!(one.run(&format!("ls {mountpoint}")), "file\nmine");
        unmount(one, &volume);
    });
}

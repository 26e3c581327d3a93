//! The Debian package on a host with systemd and a real kernel: what its units do while containers write.

use std::thread;

use super::{RECORDER, take, try_mount, unmount};
use crate::engine::packaging::debian::{Package, package};
use crate::engine::{assert_recording, at_data, recorded};
use crate::support::host::IMAGE;
use crate::support::machine::{Machine, on_two};

/// The daemon that the unit runs.
const PROCESS: &str = "systemctl show --property MainPID --value docker-volume-ceph";

#[test]
fn a_package_is_installed_upgraded_under_its_writers_and_removed_only_without_them() {
    on_two(|one, other| {
        let folder = tempfile::tempdir_in(one.network().folder()).expect("a folder");
        let [old, new] = ["1.0", "1.1"].map(|version| package(folder.path(), version));
        one.power_off();
        one.boot_with_systemd_alone();
        one.load_image(IMAGE);
        // What says how to reach the cluster comes later.
        one.run("rm -f /etc/ceph/ceph.conf; mv /etc/default/docker-volume-ceph /run/settings");
        install(one, &old);
        one.run(
            "! test -e /run/docker/plugins/ceph.sock && ! systemctl is-failed docker-volume-ceph",
        );
        one.run(
            "mv /run/settings /etc/default/docker-volume-ceph; systemctl start docker-volume-ceph",
        );
        one.await_cluster();
        for unit in ["docker-volume-ceph.socket", "docker-volume-ceph", "docker-volume-ceph-drain"]
        {
            one.run(&format!("systemctl is-active {unit} && systemctl is-enabled {unit}"));
        }

        // One by the kernel alone, one by a process that the daemon has started.
        let written = ["mapper=krbd", "mapper=nbd"].map(|mapper| writing(one, other, mapper));
        let first = one.run(PROCESS);
        // The engine's calls meanwhile: each is answered.
        let probe = one.volume(&[]);
        calling(one, &probe, || install(one, &new));
        one.await_cluster();
        let second = one.run(PROCESS);
        assert_ne!(first, second, "the new program runs");
        one.run("systemctl restart docker-volume-ceph");
        assert_ne!(second, one.run(PROCESS), "it was started again");
        written.iter().for_each(|(_, writer)| assert_recording(one.docker(), writer));

        let removed = one.try_run(120, "dpkg --no-triggers --remove docker-volume-ceph");
        let removed = removed.expect("the host answers");
        assert_ne!(removed.status, 0, "{removed:?}");
        for (volume, writer) in &written {
            assert!(removed.err.contains(volume), "{removed:?}");
            assert_recording(one.docker(), writer);
        }
        for (volume, writer) in &written {
            one.docker().ok(&["stop", writer]);
            let acknowledged = recorded(one.docker(), writer);
            take(other, volume, acknowledged);
            unmount(other, volume);
        }
        one.docker().ok(&["volume", "rm", &probe]);
        one.run("dpkg --no-triggers --purge docker-volume-ceph");
        one.run(
            "! systemctl cat docker-volume-ceph.socket && ! test -e /run/docker/plugins/ceph.sock",
        );
        one.power_off();
    });
}

fn install(host: &Machine, package: &Package) {
    host.run(&format!("dpkg --no-triggers --install {}", package.path.display()));
}

/// A container that writes to a new volume, which the other host will remove: both names.
fn writing(one: &mut Machine, other: &mut Machine, mapper: &str) -> (String, String) {
    let (volume, writer) = (other.fresh("v"), one.fresh("writer"));
    one.docker().create_volume(&volume, &["size=64M", mapper]);
    one.docker().start(&writer, at_data!(volume), RECORDER);
    assert_recording(one.docker(), &writer);
    (volume, writer)
}

/// Mounts and unmounts a volume all the time while something is done.
fn calling(host: &Machine, volume: &str, work: impl FnOnce() + Send) {
    let mut count = 0;
    thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            try_mount(host, volume).0.expect("mounted");
            unmount(host, volume);
            count += 1;
        }
        working.join().expect("it was done");
    });
    assert!(count > 0, "no call was made meanwhile");
    println!("{count} mounts meanwhile");
}

//! What is installed, on a host with a kernel that has rbd and nbd: the Debian package's units while
//! containers write, and the managed plugin.

use std::thread;

use super::{RECORDER, take, try_mount, unmount};
use crate::engine::packaging::debian::{Package, package};
use crate::engine::packaging::plugin::{ENABLE, build};
use crate::engine::{assert_recording, at_data, recorded};
use crate::support::host::IMAGE;
use crate::support::machine::{Machine, on_two};

/// The daemon that the unit runs.
const PROCESS: &str = "systemctl show --property MainPID --value docker-volume-ceph";

/// The plugin's name, and so the driver's.
const PLUGIN: &str = "managed";

#[test]
fn a_package_is_installed_upgraded_under_its_writers_and_removed_only_without_them() {
    on_two(|one, other| {
        let folder = tempfile::tempdir_in(one.network().folder()).expect("a folder");
        let old = package(folder.path(), "1.0");
        let new = old.renumbered("1.1-1");
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
        let written =
            ["mapper=krbd", "mapper=nbd"].map(|mapper| writing(one, other, "ceph", mapper));
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
fn writing(one: &mut Machine, other: &mut Machine, driver: &str, option: &str) -> (String, String) {
    let (volume, writer) = (other.fresh("v"), one.fresh("writer"));
    let words = ["volume", "create", "--driver", driver, "-o", "size=64M", "-o", option, &volume];
    one.docker().ok(&words);
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

/// Installs the plugin.
fn install_plugin(host: &Machine) {
    let folder = tempfile::tempdir_in(host.network().folder()).expect("a folder");
    build(folder.path());
    host.docker().ok(&["plugin", "create", PLUGIN, folder.path().to_str().expect("text")]);
    host.docker().ok(&["plugin", "set", PLUGIN, "DOCKER_CEPH_RECONCILE_INTERVAL=1s"]);
    enable(host);
}

fn enable(host: &Machine) {
    host.docker().ok(&[&ENABLE[..], &[PLUGIN]].concat());
}

#[test]
fn a_managed_plugin_uses_the_kernels_devices_which_outlive_it() {
    on_two(|one, other| {
        one.stop_daemon();
        let conf = one.network().conf();
        let lab = conf.parent().expect("a folder").display();
        one.run(&format!(
            "modprobe -a rbd nbd; mkdir -p /etc/ceph; cp {lab}/ceph.client.docker.keyring /etc/ceph; \
             {{ echo [global]; grep -E '^(fsid|mon host) =' {lab}/ceph.conf; }} > /etc/ceph/ceph.conf"
        ));
        install_plugin(one);
        let written = [("krbd", "/dev/rbd"), ("nbd", "/dev/nbd")].map(|(mapper, device)| {
            let written = writing(one, other, PLUGIN, &format!("mapper={mapper}"));
            let mounted = one.docker().exec(&written.1, "grep ' /data ' /proc/mounts");
            assert!(mounted.starts_with(device), "{mounted}");
            written
        });
        one.docker().ok(&["plugin", "disable", "--force", PLUGIN]);
        written.iter().for_each(|(_, writer)| assert_recording(one.docker(), writer));
        enable(one);
        for (volume, writer) in &written {
            assert_recording(one.docker(), writer);
            one.docker().ok(&["stop", writer]);
            let acknowledged = recorded(one.docker(), writer);
            take(other, volume, acknowledged);
            unmount(other, volume);
            one.docker().ok(&["rm", writer]);
        }
        one.docker().ok(&["plugin", "rm", "--force", PLUGIN]);
        one.run("rm -r /etc/ceph");
    });
}

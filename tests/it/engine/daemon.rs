//! The daemon ends, is killed, and comes back. No container ever notices.

use std::thread;

use nix::sys::signal::Signal;

use crate::engine::{RECORDER, SOON, assert_recorded, assert_recording, at_data, recorded};
use crate::support::daemon::{processes_naming, within};
use crate::support::host::{EAGER, Host, Kind, for_each_kind, on_newest};

for_each_kind!(
    a_container_writes_on_while_the_daemon_is_killed_and_started,
    what_a_killed_daemon_mounted_is_unmounted_by_the_next,
    a_daemon_that_is_asked_to_end_leaves_containers_and_their_devices_alone,
);

fn a_container_writes_on_while_the_daemon_is_killed_and_started() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        for _ in 0..3 {
            host.kill_daemon();
            assert_recording(host.docker(), &container);
            host.start_daemon();
            assert_recording(host.docker(), &container);
        }
        host.docker().exec(&container, "touch /data/stop");
        assert_eq!(host.docker().ok(&["wait", &container]), "0");
        host.assert_released();
        assert_recorded(host.docker(), &volume, recorded(host.docker(), &container));
        host.assert_released();
    });
}

fn what_a_killed_daemon_mounted_is_unmounted_by_the_next() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        host.kill_daemon();
        host.start_daemon();
        let status = host.docker().inspect(&volume)["Status"].clone();
        assert_eq!(status["mounts"].as_array().map(Vec::len), Some(1), "{status}");
        let here = &[&status["holder"], &status["sharers"][0]].map(|who| who["here"] == true);
        assert!(here.contains(&true), "{status}");
        host.docker().ok(&["rm", "--force", &container]);
        host.assert_released();
    });
}

#[test]
fn a_volume_is_released_when_its_unmount_met_no_daemon() {
    on_newest(|host| {
        host.daemon(&EAGER);
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        host.docker().exec(&container, "echo kept > /data/file; sync /data/file");
        host.kill_daemon();
        // The engine tries for 15 s, gives up, and never comes back to it.
        host.docker().ok(&["stop", &container]);
        assert!(host.is_mounted(&volume));
        host.start_daemon();
        host.assert_released();
        host.docker().ok(&["start", &container]);
        assert_eq!(host.docker().exec(&container, "cat /data/file"), "kept");
    });
}

fn a_daemon_that_is_asked_to_end_leaves_containers_and_their_devices_alone() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        let servers = device_servers(host);
        assert_eq!(servers.len(), 1, "{servers:?}");
        host.stop_daemon();
        assert_eq!(device_servers(host), servers);
        assert_recording(host.docker(), &container);
        host.start_daemon();
        assert_eq!(device_servers(host), servers);
        host.docker().ok(&["stop", &container]);
        host.assert_released();
        assert_recorded(host.docker(), &volume, recorded(host.docker(), &container));
    });
}

fn device_servers(host: &Host) -> Vec<String> {
    let folder = format!("{}/", host.ceph_folder().display());
    processes_naming(&folder)
        .into_iter()
        .filter(|line| line.contains(Kind::under_test().server()))
        .collect()
}

#[test]
fn a_container_starts_when_the_daemon_comes_up_just_after_it() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        host.stop_daemon();
        let docker = host.docker().clone();
        let starting = thread::spawn(move || docker.script(at_data!(volume), "echo started"));
        // The engine has found no socket by then, and tries again by itself.
        let asking = || host.docker().ok(&["ps", "--all", "--quiet"]);
        within(std::time::Duration::from_secs(1), || !asking().is_empty());
        host.start_daemon();
        assert_eq!(starting.join().expect("the container ran"), "started");
    });
}

#[test]
fn a_daemon_that_stands_still_for_a_while_costs_time_and_nothing_else() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let running = host.fresh("c");
        host.docker().start(&running, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &running);
        host.signal_daemon(Signal::SIGSTOP);
        let (docker, other) = (host.docker().clone(), volume.clone());
        let starting = thread::spawn(move || docker.script(at_data!(other), "tail -n 1 /data/log"));
        assert_recording(host.docker(), &running);
        assert!(!starting.is_finished());
        host.signal_daemon(Signal::SIGCONT);
        assert!(!starting.join().expect("the container ran").is_empty());
        assert!(within(SOON, || host.is_mounted(&volume)));
    });
}

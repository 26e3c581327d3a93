//! The engine ends, is killed, and comes back. Whatever it forgot, the volume is let go of in the
//! end, and never under a container that still runs.

use std::time::Duration;

use crate::engine::{
    RECORDER, SOON, assert_recorded, assert_recording, at_data, recorded, sharing,
};
use crate::support::daemon::within;
use crate::support::host::{EAGER, Host, for_each_kind, on_newest};

for_each_kind!(
    an_engine_that_restarts_starts_its_containers_with_their_data,
    a_volume_is_released_when_a_killed_engine_never_unmounted_it,
);

/// Longer than the shortest grace for references, with a look around: what was to be let go of by
/// mistake would be gone by then.
const OVER_GRACE: Duration = Duration::from_secs(6);

fn an_engine_that_restarts_starts_its_containers_with_their_data() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        let mount = format!("{volume}:/data");
        host.docker().idle(&container, &["--restart", "always", "-v", &mount]);
        host.docker().exec(&container, "echo kept > /data/file; sync /data/file");
        host.stop_engine();
        host.assert_released();
        host.start_engine(&[]);
        await_running(host, &container);
        assert_eq!(host.docker().exec(&container, "cat /data/file"), "kept");
        host.docker().ok(&["rm", "--force", &container]);
        host.assert_released();
    });
}

fn a_volume_is_released_when_a_killed_engine_never_unmounted_it() {
    on_newest(|host| {
        host.daemon(&EAGER);
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        host.kill_engine();
        host.start_engine(&[]);
        // The new engine has killed the container, and knows of no mount.
        await_stopped(host, &container);
        let acknowledged = recorded(host.docker(), &container);
        host.docker().ok(&["rm", "--force", &container]);
        host.assert_released();
        assert_recorded(host.docker(), &volume, acknowledged);
        host.assert_released();
    });
}

#[test]
fn an_id_that_is_mounted_again_after_the_engine_was_killed_is_let_go_of_once() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        let before = host.docker().inspect(&volume)["Status"]["mounts"].clone();
        host.kill_engine();
        host.start_engine(&[]);
        await_stopped(host, &container);
        host.docker().ok(&["start", &container]);
        assert_recording_again(host, &container);
        let after = host.docker().inspect(&volume)["Status"]["mounts"].clone();
        assert_eq!(after, before, "the engine no longer repeats its mount IDs?");
        host.docker().ok(&["stop", &container]);
        // By the Unmount: the grace of this daemon is longer than we wait.
        host.assert_released();
    });
}

/// The log of a container that was started again begins with its first life's numbers.
fn assert_recording_again(host: &Host, container: &str) {
    let lines = || host.docker().ok(&["logs", container]).lines().count();
    let before = lines();
    assert!(within(SOON, || lines() > before + 3), "{container} does not go on");
}

#[test]
fn a_container_under_live_restore_outlives_the_engine_and_a_copy() {
    on_newest(|host| {
        host.start_engine(&["--live-restore"]);
        host.daemon(&EAGER);
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        host.stop_engine();
        // Longer than the grace: the container is what keeps the volume.
        assert!(!within(OVER_GRACE, || !host.is_mounted(&volume)));
        host.start_engine(&["--live-restore"]);
        assert_recording(host.docker(), &container);
        sharing::copy_in_and_out(host, &container, "under live-restore");
        assert_recording(host.docker(), &container);
        host.docker().ok(&["stop", &container]);
        let acknowledged = recorded(host.docker(), &container);
        host.assert_released();
        assert_recorded(host.docker(), &volume, acknowledged);
        assert_eq!(
            host.docker().script(at_data!(volume), "cat /data/copied"),
            "under live-restore"
        );
    });
}

#[test]
fn a_container_that_died_while_the_engine_was_down_is_let_go_of() {
    on_newest(|host| {
        host.start_engine(&["--live-restore"]);
        host.daemon(&EAGER);
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        let pid = host.docker().state(&container, "State.Pid");
        host.kill_engine();
        host.kill_process(&pid);
        host.start_engine(&["--live-restore"]);
        await_stopped(host, &container);
        host.assert_released();
        assert_recorded(host.docker(), &volume, recorded(host.docker(), &container));
        host.docker().ok(&["start", &container]);
        assert_recording_again(host, &container);
    });
}

fn await_running(host: &Host, container: &str) {
    let running = || host.docker().state(container, "State.Running") == "true";
    assert!(within(SOON, running), "{}", host.docker().state(container, "State"));
}

fn await_stopped(host: &Host, container: &str) {
    let stopped = || host.docker().state(container, "State.Running") == "false";
    assert!(within(SOON, stopped), "{}", host.docker().state(container, "State"));
}

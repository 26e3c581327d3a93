//! `--restart`: the engine mounts again, and the data is there.

use crate::engine::{SOON, at_data};
use crate::support::daemon::within;
use crate::support::host::{for_each_kind, on_newest};

for_each_kind!(a_container_that_is_killed_is_restarted_with_its_data,);

#[test]
fn a_container_that_fails_is_restarted_with_its_data() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        let script = "trap 'exit 0' TERM; echo start >> /data/starts; sync /data/starts; \
                      [ $(wc -l < /data/starts) -ge 3 ] || exit 1; sleep 1000000 & wait";
        let mount = format!("{volume}:/data");
        let options = ["--restart", "on-failure:5", "-v", &mount];
        host.docker().start(&container, &options, script);
        let there = || host.docker().state(&container, "RestartCount") == "2";
        assert!(within(SOON, there), "{}", host.docker().state(&container, "State"));
        // "Running" is true also while the engine waits before it starts a container again.
        let running = || host.docker().state(&container, "State.Status") == "running";
        assert!(within(SOON, running), "{}", host.docker().state(&container, "State"));
        assert_eq!(host.docker().exec(&container, "cat /data/starts"), "start\nstart\nstart");
    });
}

fn a_container_that_is_killed_is_restarted_with_its_data() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        let mount = format!("{volume}:/data");
        host.docker().idle(&container, &["--restart", "always", "-v", &mount]);
        host.docker().exec(&container, "echo kept > /data/file; sync /data/file");
        let before = host.docker().state(&container, "State.Pid");
        host.kill_process(&before);
        let restarted = || {
            let state = host.docker().state(&container, "State.Status");
            state == "running" && host.docker().state(&container, "State.Pid") != before
        };
        assert!(within(SOON, restarted), "{}", host.docker().state(&container, "State"));
        assert_eq!(host.docker().exec(&container, "cat /data/file"), "kept");
    });
}

#[test]
fn docker_restart_mounts_again() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        host.docker().exec(&container, "echo kept > /data/file");
        host.docker().ok(&["restart", &container]);
        assert_eq!(host.docker().exec(&container, "cat /data/file"), "kept");
        assert!(host.is_mounted(&volume));
        host.docker().ok(&["kill", &container]);
        host.assert_released();
    });
}

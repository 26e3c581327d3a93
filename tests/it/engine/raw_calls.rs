//! Calls that the engine makes when something went wrong on its side: hung up, repeated, without a
//! body.

use std::io::ErrorKind;
use std::thread;

use serde_json::json;

use crate::engine::{SOON, at_data};
use crate::support::daemon::within;
use crate::support::host::{Host, Kind, for_each_kind, on_newest};

for_each_kind!(
    a_mount_whose_caller_hung_up_is_undone,
    a_hung_up_mount_leaves_the_mount_of_a_container_alone,
    a_retried_request_has_no_body_and_is_refused,
    a_daemon_that_dies_in_a_mount_starts_no_container_on_something_else,
    the_same_id_mounted_twice_is_one_mount,
);

fn a_mount_whose_caller_hung_up_is_undone() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let caller = host.send("Mount", &json!({"Name": volume, "ID": "hung-up"}));
        // A caller that is gone before the daemon has begun would show nothing.
        assert!(within(SOON, || !host.leftovers().is_empty()), "the mount was not begun");
        drop(caller);
        host.assert_released();
        let status = host.docker().inspect(&volume)["Status"].clone();
        assert_eq!(status["state"], "ready", "{status}");
        assert_eq!(host.docker().script(at_data!(volume), "ls -A /data"), "");
    });
}

fn a_hung_up_mount_leaves_the_mount_of_a_container_alone() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        for id in ["first", "second", "first"] {
            drop(host.send("Mount", &json!({"Name": volume, "ID": id})));
        }
        let mounts = || host.docker().inspect(&volume)["Status"]["mounts"].clone();
        assert!(within(SOON, || mounts().as_array().is_some_and(|ids| ids.len() == 1)));
        assert_eq!(host.docker().exec(&container, "touch /data/a; ls /data"), "a");
        assert!(host.is_mounted(&volume));
    });
}

fn a_retried_request_has_no_body_and_is_refused() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        let volumes = host.docker().volumes("ceph", "");
        for verb in ["Create", "Remove", "Mount", "Unmount", "Path"] {
            let reply = host.ask(&format!("VolumeDriver.{verb}"), "", 10).expect("an answer");
            assert_eq!(reply.status, 400, "{verb}: {reply:?}");
            assert!(reply.error().contains("empty"), "{verb}: {reply:?}");
            assert_eq!(reply.json["Mountpoint"], serde_json::Value::Null, "{verb}: {reply:?}");
        }
        // The one call whose error would start a container on an empty local volume.
        let closed = host.ask("VolumeDriver.Get", "", 10).expect_err("no answer");
        assert_eq!(closed.kind(), ErrorKind::UnexpectedEof, "{closed}");
        assert_eq!(host.docker().volumes("ceph", ""), volumes);
        assert_eq!(host.docker().exec(&container, "touch /data/a; ls /data"), "a");
    });
}

/// The daemon dies inside Mount and is started again; the engine then repeats the request, without
/// its body. Whatever comes of it, no container starts on anything but its volume.
fn a_daemon_that_dies_in_a_mount_starts_no_container_on_something_else() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        host.docker().script(at_data!(volume), "echo kept > /data/file");
        host.assert_released();
        let fault = format!("abort-after:{}:1", Kind::under_test().attaching());
        host.set_env(&[("DOCKER_CEPH_FAULT", &fault)]);
        host.daemon(&["--reconcile-interval", "1s"]);
        let docker = host.docker().clone();
        let target = volume.clone();
        let starting = thread::spawn(move || {
            docker.run(&[
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                &format!("{target}:/data"),
                "busybox",
                "cat",
                "/data/file",
            ])
        });
        host.await_daemon_end();
        host.set_env(&[]);
        host.start_daemon();
        let output = starting.join().expect("the command ended");
        assert_safe(host, &volume, &output);
        host.assert_released();
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/file"), "kept");
    });
}

/// It ran on its volume, or it did not run.
fn assert_safe(host: &Host, volume: &str, output: &std::process::Output) {
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() || printed == "kept\n", "{output:?}");
    assert!(!printed.contains("No such file"), "{output:?}");
    assert!(host.docker().volumes("local", volume).is_empty(), "a local volume was made");
}

fn the_same_id_mounted_twice_is_one_mount() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let call = |verb| host.call(verb, &json!({"Name": volume, "ID": "a"})).expect("an answer");
        let first = call("Mount");
        let again = call("Mount");
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(first, again);
        assert!(first.json["Mountpoint"].as_str().is_some_and(|path| host.path(path).is_dir()));
        assert!(call("Unmount").is_ok());
        host.assert_released();
        // One that is not known is no error: the engine would only log it, and be none the wiser.
        assert!(call("Unmount").is_ok());
    });
}

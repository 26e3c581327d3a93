//! Snapshots of volumes that containers write, taken by the operator's tool.

mod clones;
mod databases;
pub(crate) mod exported;
mod faults;
mod rollback;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::exported::Exported;
use super::{RECORDER, assert_recorded, assert_recording, at_data, has_failed, recorded};
use crate::support::daemon::Lab;
use crate::support::host::{EAGER, Host, NEWEST, for_each_kind, on_newest, on_two};

for_each_kind!(a_snapshot_is_taken_under_a_writer_and_looked_after);

fn listed(host: &Host, volume: &str) -> Vec<Value> {
    let text = host.tool(&["--json", "snapshot", "ls", volume]);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    answer["snapshots"].as_array().expect("a list").clone()
}

fn refused(host: &Host, words: &[&str], code: i32) -> String {
    let output = host.try_tool(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    said
}

fn writing(host: &Host) -> (String, String) {
    writing_to(host, &[])
}

fn writing_to(host: &Host, options: &[&str]) -> (String, String) {
    let (volume, writer) = (host.volume(options), host.fresh("writer"));
    host.docker().start(&writer, at_data!(volume), RECORDER);
    assert_recording(host.docker(), &writer);
    (volume, writer)
}

/// The snapshot promises what was asked for, and writers stood still for less than the limit.
#[track_caller]
fn assert_whole(snapshot: &Value, name: &str, consistency: &str) {
    assert_eq!(snapshot["name"], name, "{snapshot}");
    assert_eq!(snapshot["whole"], true, "{snapshot}");
    assert_eq!(snapshot["consistency"], consistency, "{snapshot}");
    let stood = snapshot["stood-still-ms"].as_u64().unwrap_or_else(|| panic!("{snapshot}"));
    assert!(stood < 10_000, "{snapshot}");
    println!("writers stood still for {stood} ms");
}

fn a_snapshot_is_taken_under_a_writer_and_looked_after() {
    on_two(|host, other| {
        let (volume, writer) = writing(host);
        let said = host.tool(&["snapshot", "create", &volume, "first", "--label", "why=test"]);
        assert_eq!(said, format!("{volume}@first\n"));
        assert_recording(host.docker(), &writer);
        assert!(!has_failed(host.docker(), &writer));

        let all = listed(host, &volume);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_whole(&all[0], "first", "application");
        assert_eq!(all[0]["labels"]["why"], "test");
        let said = refused(host, &["snapshot", "create", &volume, "first"], 6);
        assert!(said.contains("there is a snapshot first already"), "{said}");
        let status = &host.docker().inspect(&volume)["Status"];
        assert_eq!(status["snapshots"]["count"], 1, "{status}");

        host.tool(&["snapshot", "protect", &volume, "first"]);
        let said = refused(host, &["snapshot", "rm", &volume, "first"], 2);
        assert!(said.contains("docker ceph snapshot unprotect"), "{said}");
        host.tool(&["snapshot", "unprotect", &volume, "first"]);
        host.tool(&["snapshot", "rm", &volume, "first"]);
        refused(host, &["snapshot", "rm", &volume, "first"], 3);
        assert!(listed(host, &volume).is_empty());
        refused(host, &["snapshot", "create", &volume, "scheduled-soon"], 2);
        refused(host, &["snapshot", "create", "nobody-has-this"], 3);

        // Ordered on another host than the volume's; at last it goes with its volume.
        other.tool(&["snapshot", "create", &volume, "there", "--consistency", "filesystem"]);
        assert_whole(&listed(host, &volume)[0], "there", "filesystem");
        assert_recording(host.docker(), &writer);
        let acknowledged = recorded(host.docker(), &writer);
        host.docker().ok(&["rm", "--force", &writer]);
        assert_recorded(host.docker(), &volume, acknowledged);
        host.tool(&["rm", "--policy", "delete", &volume]);
    });
}

/// Of images as they are; of a folder only where hooks stop its writers.
#[test]
fn volumes_are_snapshotted_together() {
    on_newest(|host| {
        host.announce("CephFS holds no writers back");
        let place = tempfile::tempdir().expect("a folder");
        let hooks = place.path().join("hooks.d");
        let engine = host.engine_socket();
        let paths = [&hooks, &engine].map(|path| path.to_str().expect("text"));
        let flags = ["--hooks-folder", paths[0], "--engine-socket", paths[1]];
        host.daemon(&[&EAGER[..], &flags].concat());
        let (first, second) = (writing(host), writing(host));
        let folder = writing_to(host, &["type=cephfs"]);
        let all = [&first, &second, &folder].map(|(volume, _)| volume.as_str());
        let group = ["snapshot", "create", "--group", &all.join(","), "same"];
        let said = refused(host, &group, 5);
        assert!(said.contains("CephFS holds no writers back"), "{said}");
        let crash = [&group[..], &["--consistency", "crash"]].concat();
        let said = refused(host, &crash, 2);
        assert!(said.contains("not be of one point in time"), "{said}");
        assert!(all.iter().all(|volume| listed(host, volume).is_empty()));

        for (event, verb) in [("pre", "pause"), ("post", "unpause")] {
            let each = format!("{} {verb} $DOCKER_CEPH_CONTAINERS", client(host).display());
            let script = format!("[ $DOCKER_CEPH_VOLUME != {} ] || {each}", folder.0);
            hook(&hooks, &format!("{event}-snapshot/10-writers"), &script);
        }
        let acknowledged = recorded(host.docker(), &folder.1);
        let said = host.tool(&group);
        assert_eq!(said, all.map(|volume| format!("{volume}@same\n")).concat());
        let groups = all.map(|volume| listed(host, volume)[0]["group"].clone());
        assert!(groups[0].is_string() && groups.iter().all(|of| *of == groups[0]), "{groups:?}");
        let shown = host.volume(&[&format!("from={}@same", folder.0), "read-only"]);
        assert_recorded(host.docker(), &shown, acknowledged);
        host.docker().ok(&["volume", "rm", &shown]);
        for (volume, writer) in [first, second, folder] {
            assert_recording(host.docker(), &writer);
            host.docker().ok(&["rm", "--force", &writer]);
            host.tool(&["snapshot", "rm", &volume, "same"]);
        }
    });
}

/// What the file system of a snapshot needs before it can be used: by its journal nothing, and it
/// holds every record that was acknowledged before.
#[test]
fn a_snapshot_of_an_image_is_clean_and_holds_what_was_acknowledged() {
    on_newest(|host| {
        let (volume, writer) = writing(host);
        let acknowledged = recorded(host.docker(), &writer);
        host.tool(&["snapshot", "create", &volume, "clean"]);
        let after = recorded(host.docker(), &writer);
        assert_recording(host.docker(), &writer);

        let snapshot = format!("{volume}@clean");
        let exported = Exported::by(|file| {
            Lab::of_environment().rbd(&["export", "--no-progress", &snapshot, file]);
        });
        let count = exported.clean_ext4();
        assert!(count >= acknowledged, "{acknowledged} were acknowledged, {count} are there");
        assert!(count <= after + 1, "{count} are there, and {after} were written by then");
        let said = host.tool(&["snapshot", "diff", &volume, "clean"]);
        assert!(said.contains("MiB changed from clean to now"), "{said}");
        host.docker().ok(&["rm", "--force", &writer]);
        host.tool(&["snapshot", "rm", &volume, "clean"]);
    });
}

/// The engine's own client, which is not in a hook's `PATH`.
fn client(host: &Host) -> PathBuf {
    host.lab().folder().join("engines").join(NEWEST).join("usr/bin/docker")
}

/// Writes a hook, such as `pre-snapshot/10-test`, into the folder of hooks.
pub(super) fn hook(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

#[test]
fn hooks_run_around_a_snapshot_and_a_failing_one_stops_it() {
    on_newest(|host| {
        let folder = tempfile::tempdir().expect("a folder");
        let (hooks, said) = (folder.path().join("hooks.d"), folder.path().join("said"));
        let note = format!(
            "echo $DOCKER_CEPH_EVENT $DOCKER_CEPH_VOLUME $DOCKER_CEPH_SNAPSHOT >> {}",
            said.display()
        );
        hook(&hooks, "pre-snapshot/10-test", &note);
        hook(&hooks, "post-snapshot/10-test", &note);
        let flag = hooks.to_str().expect("text");
        host.daemon(&[&EAGER[..], &["--hooks-folder", flag]].concat());
        host.announce("hook");
        let (volume, writer) = writing(host);
        host.tool(&["snapshot", "create", &volume, "good"]);
        let told = || fs::read_to_string(&said).unwrap_or_default();
        let both = format!("pre-snapshot {volume} good\npost-snapshot {volume} good\n");
        assert!(crate::support::daemon::within(super::SOON, || told() == both), "{}", told());

        hook(&hooks, "pre-snapshot/10-test", "echo not now; exit 3");
        let text = refused(host, &["snapshot", "create", &volume, "bad"], 5);
        assert!(text.contains("not now") && text.contains("10-test"), "{text}");
        let ended = format!("{both}post-snapshot {volume} bad\n");
        assert!(crate::support::daemon::within(super::SOON, || told() == ended), "{}", told());
        let names: Vec<Value> = listed(host, &volume).iter().map(|of| of["name"].clone()).collect();
        assert_eq!(names, ["good"]);
        assert_recording(host.docker(), &writer);
        host.docker().ok(&["rm", "--force", &writer]);
        host.tool(&["snapshot", "rm", &volume, "good"]);
    });
}

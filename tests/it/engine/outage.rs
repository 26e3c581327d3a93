//! The cluster goes away and comes back. Nothing that is known is forgotten, nothing starts on an
//! empty local volume, and nobody has to restart anything.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{RECORDER, assert_recorded, assert_recording, at_data, recorded};
use crate::support::daemon::within;
use crate::support::host::{Host, for_each_kind, on_newest};
use crate::support::outage::Outage;

for_each_kind!(
    a_known_volume_is_told_of_and_no_container_starts_beside_it,
    a_container_that_writes_waits_for_the_cluster_and_loses_nothing,
);

/// Deadlines that are short enough for a test, and in the proportion of the real ones.
const HASTY: [&str; 16] = [
    "--reconcile-interval",
    "1s",
    "--busy-wait",
    "2s",
    "--mount-deadline",
    "8s",
    "--create-deadline",
    "8s",
    "--call-deadline",
    "8s",
    "--connect-timeout",
    "3s",
    "--mon-timeout",
    "3s",
    "--osd-timeout",
    "3s",
];

/// What a verb says that could not be done for want of the cluster.
const SILENT: &str = "the Ceph cluster does not answer";

/// What Get and List may take, whatever the cluster does.
const PROMPT: Duration = Duration::from_secs(2);

/// How long the cluster may take to be itself again.
const BACK: Duration = Duration::from_secs(60);

fn assert_told_promptly(host: &Host, known: &str) {
    let start = Instant::now();
    let got = host.call("Get", &json!({"Name": known})).expect("an answer");
    let after_get = start.elapsed();
    assert!(got.is_ok(), "{got:?}");
    assert_eq!(got.json["Volume"]["Name"], *known, "{got:?}");
    assert!(got.json["Volume"]["Status"]["as-of"].is_string(), "{got:?}");
    let start = Instant::now();
    let listed = host.call("List", &json!({})).expect("an answer");
    let after_list = start.elapsed();
    let text = listed.json["Volumes"].to_string();
    assert!(listed.is_ok() && text.contains(known), "{listed:?}");
    assert!(after_get < PROMPT && after_list < PROMPT, "{after_get:?}, {after_list:?}");
}

/// Waits until a container can use the volume again.
#[track_caller]
fn assert_usable_again(host: &Host, volume: &str, content: &str) {
    let words = ["run", "--rm", "--network", "none", "-v", &format!("{volume}:/data")];
    let mut last = None;
    let usable = within(BACK, || {
        let output = host.docker().run(&[&words[..], &["busybox", "cat", "/data/file"]].concat());
        let usable = output.status.success();
        if usable {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), content);
        }
        last = Some(output);
        usable
    });
    assert!(usable, "{last:?}");
}

fn a_known_volume_is_told_of_and_no_container_starts_beside_it() {
    on_newest(|host| {
        host.daemon(&HASTY);
        host.announce(SILENT);
        let known = host.volume(&[]);
        host.docker().script(at_data!(known), "echo kept > /data/file; sync /data/file");
        host.assert_released();
        let outage = Outage::of(host.lab(), "all");
        assert_told_promptly(host, &known);
        assert_eq!(host.docker().inspect(&known)["Driver"], "ceph");
        let start = Instant::now();
        let said = host.docker().script_refused(at_data!(known), "ls -A /data");
        assert!(said.contains(SILENT), "{said}");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}: {said}", start.elapsed());
        assert!(host.docker().volumes("local", &known).is_empty());
        assert_told_promptly(host, &known);
        drop(outage);
        assert_usable_again(host, &known, "kept");
    });
}

/// A daemon that lost what it knew, for one.
#[test]
fn a_volume_that_only_the_engine_knows_starts_no_container_without_the_cluster() {
    on_newest(|host| {
        host.daemon(&HASTY);
        let volume = host.volume(&[]);
        host.docker().script(at_data!(volume), "echo kept > /data/file; sync /data/file");
        host.assert_released();
        host.stop_daemon();
        let cache = host.ceph_folder().join("lib/catalog.json");
        std::fs::remove_file(&cache).expect("the daemon keeps the last known catalog");
        let outage = Outage::of(host.lab(), "all");
        host.start_daemon();
        host.announce(SILENT);
        let said = host.docker().script_refused(at_data!(volume), "ls -A /data");
        assert!(said.contains(SILENT), "{said}");
        assert!(host.docker().volumes("local", &volume).is_empty(), "{said}");
        drop(outage);
        assert_usable_again(host, &volume, "kept");
    });
}

/// The engine passes over *every* error of a driver that it asks about a name without a driver,
/// a closed connection included, and makes a local volume (`VolumeStore.create`, moby 20.10 to
/// 28.5). Only the answer that there is such a volume keeps it from that.
#[test]
fn a_name_that_nobody_knows_starts_no_container_without_the_cluster() {
    on_newest(|host| {
        host.daemon(&HASTY);
        host.announce(SILENT);
        let unknown = host.fresh("unknown");
        let outage = Outage::of(host.lab(), "all");
        let said = host.docker().script_refused(at_data!(unknown), "ls -A /data");
        drop(outage);
        assert!(host.docker().volumes("local", &unknown).is_empty(), "{said}");
        // Nor later, when the cluster can say that there is none, until the name is let go.
        host.docker().script_refused(at_data!(unknown), "ls -A /data");
        assert!(host.docker().volumes("local", &unknown).is_empty());
        host.docker().ok(&["volume", "rm", &unknown]);
    });
}

#[test]
fn calls_that_need_the_cluster_end_by_their_deadline() {
    on_newest(|host| {
        host.daemon(&HASTY);
        for text in [SILENT, "did not answer in time", "it was killed"] {
            host.announce(text);
        }
        let (known, fresh) = (host.volume(&[]), host.fresh("v"));
        host.docker().script(at_data!(known), "echo kept > /data/file; sync /data/file");
        for what in ["osd", "mon"] {
            let outage = Outage::of(host.lab(), what);
            let ended = |verb, body| {
                let start = Instant::now();
                let reply = host.call(verb, &body).expect("an answer");
                assert!(start.elapsed() < Duration::from_secs(20), "{what} {verb}: {reply:?}");
                reply
            };
            let mounted = ended("Mount", json!({"Name": known, "ID": "a"}));
            if mounted.is_ok() {
                // An old connection needs no monitor.
                assert_eq!(what, "mon", "mounted without an OSD: {mounted:?}");
            }
            let created = ended("Create", json!({"Name": fresh, "Opts": {"size": "32M"}}));
            assert!(what == "mon" || !created.is_ok(), "created without an OSD: {created:?}");
            drop(outage);
            let unmounted = || {
                let body = json!({"Name": known, "ID": "a"});
                host.call("Unmount", &body).is_ok_and(|reply| reply.is_ok())
            };
            assert!(within(BACK, unmounted));
            assert_usable_again(host, &known, "kept");
        }
        let slow = |line: &str| line.contains(": slow ") && line.contains("steps=cluster.");
        assert!(host.log().lines().any(slow), "nothing says where the time went");
        // A create that was broken off can be made again, and is not in its own way.
        let body = json!({"Name": fresh, "Opts": {"size": "32M"}});
        let created = || host.call("Create", &body).is_ok_and(|reply| reply.is_ok());
        assert!(within(BACK, created));
    });
}

fn a_container_that_writes_waits_for_the_cluster_and_loses_nothing() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().start(&container, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &container);
        let outage = Outage::of(host.lab(), "all");
        let before = recorded(host.docker(), &container);
        // One that was acknowledged while the OSD was being stopped may still come.
        assert!(!within(PROMPT, || recorded(host.docker(), &container) > before + 1));
        drop(outage);
        assert_recording(host.docker(), &container);
        host.docker().ok(&["stop", &container]);
        host.assert_released();
        assert_recorded(host.docker(), &volume, recorded(host.docker(), &container));
    });
}

#[test]
fn a_daemon_that_starts_without_its_cluster_knows_the_volumes() {
    on_newest(|host| {
        host.daemon(&HASTY);
        host.announce(SILENT);
        let (known, unknown) = (host.volume(&[]), host.fresh("unknown"));
        host.docker().script(at_data!(known), "echo kept > /data/file; sync /data/file");
        host.stop_daemon();
        let outage = Outage::of(host.lab(), "all");
        host.start_daemon();
        assert_told_promptly(host, &known);
        let vouched = host.call("Get", &json!({"Name": unknown})).expect("an answer").json;
        assert_eq!(vouched["Volume"]["Status"]["state"], "unknown", "{vouched}");
        drop(outage);
        assert_usable_again(host, &known, "kept");
    });
}

#[test]
fn a_wrong_key_is_no_reason_to_forget_a_volume() {
    on_newest(|host| {
        host.announce(SILENT);
        host.announce("does not know client.docker");
        let known = host.volume(&[]);
        host.docker().script(at_data!(known), "echo kept > /data/file; sync /data/file");
        let key = "AQDVVQRjAAAAABAAd3JvbmcgcmlnaHQgd3Jvbmc=";
        let keyring = host.ceph_folder().join("wrong.keyring");
        let text = format!("[client.docker]\n\tkey = {key}\n");
        std::fs::write(&keyring, text).expect("written");
        let keyring = keyring.to_str().expect("the path is text");
        host.daemon(&[&HASTY[..], &["--keyring", keyring]].concat());
        let got = host.call("Get", &json!({"Name": known})).expect("an answer");
        assert_eq!(got.json["Volume"]["Name"], *known, "{got:?}");
        let fresh = host.fresh("v");
        let start = Instant::now();
        let body = json!({"Name": fresh, "Opts": {"size": "32M"}});
        let created = host.call("Create", &body).expect("an answer");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(!created.is_ok(), "{created:?}");
        let said = created.error();
        assert!(said.contains("key") || said.contains("denied"), "it does not say why: {said}");
        assert!(!said.contains(key) && !host.log().contains(key), "the key was said: {said}");
        let said = host.docker().script_refused(at_data!(known), "ls -A /data");
        assert!(host.docker().volumes("local", &known).is_empty(), "{said}");
        host.daemon(&HASTY);
        assert_usable_again(host, &known, "kept");
    });
}

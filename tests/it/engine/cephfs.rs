//! Volumes of CephFS: many hosts at once, each volume with its own key and quota.
//!
//! What holds of every kind of volume is tested with both (`for_each_kind`); here is what only
//! these have.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{
    RECORDER, SOON, VERIFIER, assert_recorded, assert_recording, at_data, has_failed, recorded,
};
use crate::support::caps::Caps;
use crate::support::daemon::{Lab, run, timed, within};
use crate::support::host::{Host, on_newest, on_two};
use crate::support::outage::{Outage, cluster};

/// A new volume of CephFS, with these options.
fn folder(host: &Host, options: &[&str]) -> String {
    host.volume(&[&["type=cephfs"], options].concat())
}

/// Where a volume is, as its host sees it.
fn mountpoint(host: &Host, volume: &str) -> String {
    let told = host.docker().inspect(volume);
    told["Mountpoint"].as_str().expect("a path").to_owned()
}

fn ceph(lab: &Lab, words: &[&str]) -> serde_json::Value {
    let text = lab.ceph(&[words, &["--format", "json"]].concat());
    serde_json::from_str(&text).expect("ceph prints JSON")
}

/// The path of a volume's folder in the file system.
fn path(lab: &Lab, volume: &str) -> String {
    lab.ceph(&["fs", "subvolume", "getpath", "cephfs", volume, "docker"]).trim().to_owned()
}

#[test]
fn what_one_host_writes_another_reads_at_once() {
    on_two(|one, other| {
        let volume = folder(one, &[]);
        let (writer, reader) = (one.fresh("c"), other.fresh("c"));
        one.docker().start(&writer, at_data!(volume), RECORDER);
        other.docker().idle(&reader, at_data!(volume));
        assert_recording(one.docker(), &writer);
        let acknowledged = recorded(one.docker(), &writer);
        let there: u64 = other.docker().exec(&reader, VERIFIER).parse().expect("whole records");
        assert!(there >= acknowledged, "{acknowledged} were acknowledged and {there} are there");
        // And back, while the first one still writes.
        other.docker().exec(&reader, "echo back > /data/back; sync /data/back");
        assert_eq!(one.docker().exec(&writer, "cat /data/back"), "back");
        // Both are told of, and neither can take it from the other.
        let sharers = other.docker().inspect(&volume)["Status"]["sharers"].clone();
        assert_eq!(sharers.as_array().map(Vec::len), Some(2), "{sharers}");
        let said = other.docker().refused(&["volume", "rm", &volume]);
        assert!(said.contains("in use"), "{said}");
        assert_recording(one.docker(), &writer);
    });
}

#[test]
fn a_lock_holds_between_hosts() {
    on_two(|one, other| {
        let volume = folder(one, &[]);
        for host in [&*one, &*other] {
            let reply = host.call("Mount", &json!({"Name": volume, "ID": "lock"}));
            assert!(reply.as_ref().is_ok_and(|reply| reply.is_ok()), "{reply:?}");
        }
        let file = format!("{}/lock", mountpoint(one, &volume));
        let theirs = format!("{}/lock", mountpoint(other, &volume));
        let until_tried = format!("until [ -e {file}.tried ]; do sleep 0.1; done");
        let hold = format!("flock {file} sh -c 'echo held > {file}.held; {until_tried}'");
        let free = |host: &Host, file: &str| {
            host.inside(20, &["flock", "--nonblock", file, "true"]).status.success()
        };
        thread::scope(|scope| {
            let holding = scope.spawn(|| one.inside(30, &["sh", "-c", &hold]));
            let held = format!("{theirs}.held");
            let there = || other.inside(10, &["test", "-s", &held]).status.success();
            assert!(within(SOON, there), "the lock is not taken");
            assert!(!free(other, &theirs), "another host has the same lock");
            assert!(other.inside(10, &["touch", &format!("{theirs}.tried")]).status.success());
            assert!(holding.join().expect("no panic").status.success());
        });
        assert!(within(SOON, || free(other, &theirs)), "the lock is still held");
        for host in [&*one, &*other] {
            let reply = host.call("Unmount", &json!({"Name": volume, "ID": "lock"}));
            assert!(reply.as_ref().is_ok_and(|reply| reply.is_ok()), "{reply:?}");
        }
    });
}

#[test]
fn a_quota_stops_a_writer_and_nobody_else() {
    on_newest(|host| {
        let (small, large) = (folder(host, &["size=32M"]), folder(host, &[]));
        let (writer, neighbour) = (host.fresh("c"), host.fresh("c"));
        host.docker().idle(&writer, at_data!(small));
        host.docker().idle(&neighbour, at_data!(large));
        let fill = "dd if=/dev/zero of=/data/big bs=1M count=128 2>&1; true";
        let said = host.docker().exec(&writer, fill);
        assert!(said.to_lowercase().contains("quota exceeded"), "{said}");
        // What is there can be read and removed, and then there is room again.
        let size: u64 = host.docker().exec(&writer, "wc -c < /data/big").parse().expect("a number");
        assert!((16 << 20..96 << 20).contains(&size), "{size} bytes were written");
        host.docker().exec(&neighbour, "dd if=/dev/zero of=/data/big bs=1M count=48; sync");
        assert!(host.docker().exec(&writer, "df -k /data | tail -n 1").contains("32768"));
        host.docker().exec(&writer, "rm /data/big; sync");
        let write = "echo again > /data/file; sync /data/file; cat /data/file";
        let again = || host.docker().run(&["exec", &writer, "sh", "-c", write]).status.success();
        assert!(within(SOON, again), "no room though nothing is there");
    });
}

#[test]
fn a_quota_is_set_anew_while_the_volume_is_used_and_never_below_what_it_holds() {
    on_newest(|host| {
        let volume = folder(host, &["size=32M"]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        host.docker().exec(&container, "dd if=/dev/zero of=/data/a bs=1M count=24; sync");
        let used = || host.docker().inspect(&volume)["Status"]["used"].as_u64();
        assert!(within(SOON, || used() >= Some(24 << 20)), "{:?}", used());
        let output = host.try_tool(&["resize", &volume, "16M"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("used"), "{text}");
        host.tool(&["resize", &volume, "128M"]);
        let grown = "dd if=/dev/zero of=/data/b bs=1M count=64 && sync";
        let fits = || host.docker().run(&["exec", &container, "sh", "-c", grown]).status.success();
        assert!(within(SOON, fits), "the larger quota does not hold");
        // And smaller again, as far as it goes.
        host.docker().exec(&container, "rm /data/a /data/b; sync");
        let shrunk = || host.try_tool(&["resize", &volume, "64M"]).status.success();
        assert!(within(SOON, shrunk), "a quota cannot be made smaller");
        assert_eq!(host.docker().inspect(&volume)["Status"]["size"], 64 << 20);
    });
}

#[test]
fn a_read_only_volume_and_a_read_only_mount_cannot_be_written() {
    on_newest(|host| {
        let volume = folder(host, &[]);
        host.docker().script(at_data!(volume), "echo kept > /data/file");
        let path = path(host.lab(), &volume);
        let look = &["-v", &format!("{volume}:/data:ro")];
        let said = host.docker().script_refused(look, "cat /data/file && touch /data/other");
        assert!(said.contains("kept") && said.contains("Read-only file system"), "{said}");
        let readable = folder(host, &["read-only", &format!("path={path}")]);
        let said =
            host.docker().script_refused(at_data!(readable), "cat /data/file && touch /data/other");
        assert!(said.contains("kept") && said.contains("Read-only file system"), "{said}");
    });
}

/// The keys that the driver made, tried by hand.
#[test]
fn a_key_opens_its_own_volume_and_no_other() {
    on_newest(|host| {
        let (own, neighbour) = (folder(host, &[]), folder(host, &[]));
        for volume in [&own, &neighbour] {
            host.docker().script(at_data!(volume), "echo of $HOSTNAME > /data/file");
        }
        let client = format!("client.docker.rw.cephfs.docker.{own}");
        let keyring = host.lab().ceph(&["auth", "get", &client]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keyring");
        std::fs::write(&file, &keyring).expect("written");
        let target = folder.path().join("mnt");
        std::fs::create_dir(&target).expect("a folder");
        let mount = |path: &str| {
            let mut command = timed(30, "ceph-fuse");
            command.arg("-c").arg(host.lab().conf()).arg("--keyring").arg(&file);
            command.args(["--id", client.trim_start_matches("client."), "-r", path]);
            let done = run(command.args(["--client_mount_timeout", "5"]).arg(&target));
            let read = std::fs::read_to_string(target.join("file"));
            if done.status.success() {
                run(timed(30, "umount").arg(&target));
            }
            read.is_ok()
        };
        assert!(mount(&path(host.lab(), &own)));
        assert!(!mount(&path(host.lab(), &neighbour)), "a key opens its neighbour's folder");
        assert!(!mount("/"), "a key opens the whole file system");
        // Removed, it takes its keys with it.
        host.docker().ok(&["volume", "rm", &own]);
        let left = host.lab().ceph(&["auth", "ls"]);
        assert!(!left.contains(&client), "the key is left");
    });
}

#[test]
fn the_daemons_own_key_mounts_where_the_settings_say_so() {
    on_newest(|host| {
        let lab = host.lab().clone();
        let caps = Caps::of(|words| lab.ceph(words));
        let data = format!("{}, allow rw tag cephfs data=cephfs", caps.before("osd"));
        let folders = "allow rw fsname=cephfs path=/volumes/docker";
        let monitors = format!("{}, allow r fsname=cephfs", caps.before("mon"));
        caps.set(&[("mon", &monitors), ("osd", &data), ("mds", folders)]);
        host.daemon(&["--reconcile-interval", "1s", "--cephfs-key", "daemon"]);
        let volume = folder(host, &[]);
        host.docker().script(at_data!(volume), "echo kept > /data/file");
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/file"), "kept");
        assert!(!lab.ceph(&["auth", "ls"]).contains(&volume), "a key was made");
        host.assert_released();
        host.stop_daemon();
        drop(caps);
        host.daemon(&["--reconcile-interval", "1s"]);
    });
}

#[test]
fn a_folder_that_was_there_and_one_of_a_volume_are_adopted_as_they_are() {
    on_newest(|host| {
        let base = folder(host, &[]);
        host.docker().script(at_data!(base), "mkdir /data/sub; echo kept > /data/sub/file");
        let adopted = folder(host, &[&format!("path={}/sub", path(host.lab(), &base))]);
        assert_eq!(host.docker().script(at_data!(adopted), "cat /data/file"), "kept");
        // One that is not there is made.
        let within = folder(host, &[&format!("path={base}/new/er"), "mode=0750"]);
        let script = "stat -c %a /data; echo new > /data/file";
        assert_eq!(host.docker().script(at_data!(within), script), "750");
        assert_eq!(host.docker().script(at_data!(base), "cat /data/new/er/file"), "new");
        host.assert_released();
        let said = host.docker().refused(&["volume", "rm", &base]);
        assert!(
            said.contains("other volumes are folders of it") && said.contains(&within),
            "{said}"
        );
        // A link that a container leaves in its place leads nowhere.
        let swap = "rm -r /data/new/er; ln -s /etc /data/new/er";
        host.docker().script(at_data!(base), swap);
        host.announce("er");
        host.docker().script_refused(at_data!(within), "ls /data");
        for volume in [&adopted, &within] {
            host.docker().ok(&["volume", "rm", volume]);
        }
        assert_eq!(host.docker().script(at_data!(base), "cat /data/sub/file"), "kept");
    });
}

#[test]
fn bad_input_says_what_is_wrong_and_makes_nothing() {
    on_newest(|host| {
        let image = host.volume(&[]);
        let folder = folder(host, &[]);
        let name = host.fresh("bad");
        let before = host.lab().ceph(&["fs", "subvolume", "ls", "cephfs", "docker"]);
        for (options, expected) in [
            (&["fs=none"][..], &["fs \"none\" is not in this cluster", "cephfs"][..]),
            (&["group=none"], &["group \"none\"", "ceph fs subvolumegroup create"]),
            (&["data-pool=rbd"], &["data-pool \"rbd\"", "ceph fs add_data_pool"]),
            (&["fs-type=xfs"], &["fs-type", "type=rbd", "type=cephfs"]),
            (&["path=/a/../b"], &["path", ".."]),
            (&["path=relative"], &["path", "VOLUME/folder"]),
            (&[&*format!("path={image}/a")], &["is an image"]),
            (&["path=nobody/a"], &["there is no volume nobody"]),
            (&[&*format!("path={folder}/a"), "size=1G"], &["path=", "size"]),
            (&["access=none"], &["shared, single"]),
            (&["client=none"], &["kernel, fuse"]),
            (&["size=1K"], &["smallest volume"]),
        ] {
            let mut words = vec!["volume", "create", "-d", "ceph", "-o", "type=cephfs"];
            words.extend(options.iter().flat_map(|option| ["-o", option]));
            let said = host.docker().refused(&[&words[..], &[&name]].concat());
            for word in expected {
                assert!(said.contains(word), "{options:?} says nothing of {word}: {said}");
            }
        }
        assert!(host.docker().volumes("ceph", &name).is_empty());
        // A name stands for one volume, whatever its kind.
        let body = json!({"Name": image, "Opts": {"type": "cephfs"}});
        let reply = host.call("Create", &body).expect("an answer");
        assert!(reply.error().contains("exists with other options"), "{reply:?}");
        let after = host.lab().ceph(&["fs", "subvolume", "ls", "cephfs", "docker"]);
        assert_eq!(after, before);
    });
}

#[test]
fn a_folder_that_is_not_there_starts_no_container() {
    on_newest(|host| {
        host.daemon(&[
            "--reconcile-interval",
            "1s",
            "--busy-wait",
            "5s",
            "--mount-deadline",
            "15s",
        ]);
        host.announce("no/such");
        let volume = folder(host, &["path=/no/such/folder"]);
        let start = Instant::now();
        let said = host.docker().script_refused(at_data!(volume), "ls /data");
        assert!(said.contains("/no/such/folder"), "{said}");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        host.assert_released();
    });
}

#[test]
fn a_metadata_server_that_dies_under_load_costs_time_and_nothing_else() {
    on_newest(|host| {
        let volume = folder(host, &[]);
        let writer = host.fresh("c");
        host.docker().start(&writer, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &writer);
        let (docker, lab) = (host.docker().clone(), host.lab().clone());
        cluster(&lab, "kill", "mds");
        thread::sleep(Duration::from_secs(3));
        cluster(&lab, "revive", "mds");
        let before = recorded(&docker, &writer);
        let on = || recorded(&docker, &writer) > before + 3;
        assert!(within(Duration::from_secs(120), on), "it stands at {before}");
        assert!(!has_failed(&docker, &writer));
        docker.ok(&["stop", &writer]);
        host.assert_released();
        assert_recorded(&docker, &volume, recorded(&docker, &writer));
    });
}

#[test]
fn a_manager_that_dies_in_a_create_leaves_nothing_half_made() {
    on_newest(|host| {
        host.announce("the manager is silent");
        let lab = host.lab().clone();
        let before = ceph(&lab, &["fs", "subvolume", "ls", "cephfs", "docker"]);
        let names: Vec<String> = (0..3).map(|_| host.fresh("v")).collect();
        let create = |name: &String| {
            host.call("Create", &json!({"Name": name, "Opts": {"type": "cephfs", "size": "32M"}}))
        };
        let replies = thread::scope(|scope| {
            let calls: Vec<_> =
                names.iter().map(|name| scope.spawn(move || create(name))).collect();
            cluster(&lab, "kill", "mgr");
            thread::sleep(Duration::from_secs(2));
            cluster(&lab, "revive", "mgr");
            calls.into_iter().map(|call| call.join().expect("no panic")).collect::<Vec<_>>()
        });
        println!("while the manager was away: {replies:?}");
        // Whatever came of it: the same call makes it, and removing leaves nothing.
        for name in &names {
            let made = || create(name).is_ok_and(|reply| reply.is_ok());
            assert!(within(Duration::from_secs(120), made), "{name}");
            assert_eq!(host.docker().script(at_data!(name), "touch /data/a; ls /data"), "a");
            host.assert_released();
            host.tool(&["rm", name, "--policy", "delete"]);
        }
        let after = || ceph(&lab, &["fs", "subvolume", "ls", "cephfs", "docker"]);
        assert!(within(SOON, || after() == before), "{} and {before}", after());
        let keys = lab.ceph(&["auth", "ls"]);
        assert!(names.iter().all(|name| !keys.contains(name)), "{keys}");
    });
}

#[test]
fn a_cluster_that_is_away_for_long_hangs_no_call_and_loses_nothing() {
    on_newest(|host| {
        let deadlines = ["--mount-deadline", "6s", "--create-deadline", "6s"];
        let shorter = ["--call-deadline", "6s", "--connect-timeout", "3s", "--mon-timeout", "3s"];
        let hasty = ["--reconcile-interval", "1s", "--busy-wait", "2s", "--osd-timeout", "3s"];
        host.daemon(&[&deadlines[..], &shorter, &hasty].concat());
        for text in ["does not answer", "did not answer in time", "silent", "it was killed"] {
            host.announce(text);
        }
        let (volume, fresh) = (folder(host, &[]), host.fresh("v"));
        let writer = host.fresh("c");
        host.docker().start(&writer, at_data!(volume), RECORDER);
        assert_recording(host.docker(), &writer);
        for what in ["mds", "all"] {
            let outage = Outage::of(host.lab(), what);
            for (verb, body) in [
                ("Get", json!({"Name": volume})),
                ("List", json!({})),
                ("Mount", json!({"Name": volume, "ID": "second"})),
                ("Create", json!({"Name": fresh, "Opts": {"type": "cephfs"}})),
            ] {
                let start = Instant::now();
                let reply = host.call(verb, &body);
                let took = start.elapsed();
                assert!(took < Duration::from_secs(20), "{what} {verb} {took:?}: {reply:?}");
            }
            drop(outage);
            assert_recording(host.docker(), &writer);
        }
        assert!(!has_failed(host.docker(), &writer));
        let dropped = || {
            let body = json!({"Name": volume, "ID": "second"});
            host.call("Unmount", &body).is_ok_and(|reply| reply.is_ok())
        };
        assert!(within(SOON, dropped));
        host.docker().ok(&["stop", &writer]);
        host.assert_released();
        assert_recorded(host.docker(), &volume, recorded(host.docker(), &writer));
    });
}

/// The client is shut out of the cluster behind the driver's back.
#[test]
fn a_stale_mount_is_told_of_and_replaced_at_the_next_use() {
    on_newest(|host| {
        host.announce("volume is broken");
        let volume = folder(host, &[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        host.docker().exec(&container, "echo kept > /data/file; sync /data/file");
        let status = || host.docker().inspect(&volume)["Status"].clone();
        let address = status()["sharers"][0]["address"].as_str().expect("an address").to_owned();
        host.lab().ceph(&["osd", "blocklist", "add", &address]);
        assert!(within(SOON, || status()["state"] == "broken"), "{}", status());
        let said = status()["last-error"].to_string();
        assert!(said.contains("restart its containers"), "{said}");
        host.docker().ok(&["rm", "--force", &container]);
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/file"), "kept");
        host.assert_released();
        assert_eq!(status()["state"], "ready");
        host.lab().ceph(&["osd", "blocklist", "rm", &address]);
    });
}

/// Two instances of one registry, each on a host and an engine of its own, over one volume.
#[test]
fn an_image_pushed_to_one_registry_is_pulled_from_another_on_the_same_volume() {
    on_two(|one, other| {
        let volume = folder(one, &[]);
        let data = format!("{volume}:/data");
        for (host, port) in [(&*one, "5101"), (&*other, "5102")] {
            host.load_image("registry");
            let address = format!("REGISTRY_HTTP_ADDR=127.0.0.1:{port}");
            let name = host.fresh("registry");
            let words = ["run", "--detach", "--network", "host", "--name", &name, "-v", &data];
            host.docker().ok(&[&words[..], &["-e", &address, "registry"]].concat());
            let listens = || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
            assert!(within(SOON, listens), "{}", host.docker().ok(&["logs", &name]));
        }
        one.docker().ok(&["tag", "busybox", "127.0.0.1:5101/shared:1"]);
        one.docker().ok(&["push", "127.0.0.1:5101/shared:1"]);
        other.docker().ok(&["pull", "127.0.0.1:5102/shared:1"]);
        let run = ["run", "--rm", "--network", "none", "127.0.0.1:5102/shared:1"];
        assert_eq!(other.docker().ok(&[&run[..], &["echo", "pulled"]].concat()), "pulled");
        one.docker().ok(&["rmi", "127.0.0.1:5101/shared:1"]);
        other.docker().ok(&["rmi", "127.0.0.1:5102/shared:1"]);
    });
}

/// As in `examples/logs.yaml`: a file for each writer, and a reader that sees all of them grow.
#[test]
fn logs_of_two_hosts_are_read_by_a_third_container_while_they_are_written() {
    on_two(|one, other| {
        let volume = folder(one, &[]);
        let data = at_data!(volume);
        let write = "while :; do i=$((i + 1)); echo $i >> /data/$NAME.log; sleep 0.2; done";
        for host in [&*one, &*other] {
            let script = format!("NAME={}; {write}", host.name());
            host.docker().start(&host.fresh("writer"), data, &script);
        }
        let reader = other.fresh("reader");
        other.docker().idle(&reader, &["-v", &format!("{volume}:/data:ro")]);
        let last = |host: &Host| -> u64 {
            let script = format!("tail -n 1 /data/{}.log 2> /dev/null || echo 0", host.name());
            other.docker().exec(&reader, &script).parse().unwrap_or_default()
        };
        for host in [&*one, &*other] {
            let before = last(host);
            assert!(within(SOON, || last(host) > before + 5), "{} stands at {before}", host.name());
        }
        // Every line is there, in its order.
        let whole = "for f in /data/*.log; do n=0; while read -r i; do n=$((n + 1)); \
                     [ $i = $n ] || exit 1; done < $f; done; echo whole";
        assert_eq!(other.docker().exec(&reader, whole), "whole");
    });
}

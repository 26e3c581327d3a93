//! Volumes made of others: clones beside their origin, and snapshots for reading only.

use serde_json::{Value, json};

use super::{listed, refused, writing};
use crate::engine::{SOON, VERIFIER, assert_recording, at_data, recorded};
use crate::support::daemon::within;
use crate::support::host::{Host, Kind, for_each_kind, on_newest, on_two};

for_each_kind!(
    a_clone_of_a_volume_in_use_lives_beside_it,
    a_snapshot_is_read_on_two_hosts_at_once,
    a_clone_that_cannot_be_made_says_why,
);

/// What ties a volume to its origin, as Docker's user sees it.
fn tie(host: &Host, volume: &str) -> Value {
    host.docker().inspect(volume)["Status"]["origin"].clone()
}

fn records(host: &Host, volume: &str) -> u64 {
    let count = host.docker().script(at_data!(volume), VERIFIER);
    count.parse().unwrap_or_else(|_| panic!("in {volume}: {count}"))
}

/// The size of the file system that a container sees, in MiB.
fn size(host: &Host, volume: &str) -> u64 {
    let size = host.docker().script(at_data!(volume), "df -m /data | awk 'NR == 2 { print $2 }'");
    size.parse().unwrap_or_else(|_| panic!("{size}"))
}

fn a_clone_of_a_volume_in_use_lives_beside_it() {
    on_newest(|host| {
        let (origin, writer) = writing(host);
        let acknowledged = recorded(host.docker(), &writer);
        let (from, clone) = (format!("from={origin}"), host.fresh("clone"));
        for _ in 0..2 {
            host.docker().create_volume(&clone, &[&from, "size=200M"]);
        }
        assert_recording(host.docker(), &writer);
        assert!(records(host, &clone) >= acknowledged);
        assert!(size(host, &clone) > 150, "it is larger than what it was made of");
        let beside = host.fresh("beside");
        host.docker().idle(&beside, at_data!(clone));
        host.docker().exec(&beside, "echo mine > /data/mine; sync /data/mine");
        let there = host.docker().exec(&writer, "ls /data");
        assert!(!there.contains("mine"), "{there}");
        match Kind::under_test() {
            Kind::Rbd => is_tied_until_it_is_flattened(host, &origin, &clone),
            // A copy needs nothing of it any more.
            _ => assert_eq!(tie(host, &clone)["tie"], "none"),
        }
        let none = || listed(host, &origin).is_empty();
        assert!(within(SOON, none), "{:?}", listed(host, &origin));
        host.docker().ok(&["rm", "--force", &writer]);
        host.tool(&["rm", "--policy", "delete", &origin]);
        assert_eq!(host.docker().exec(&beside, "cat /data/mine"), "mine");
        assert!(records(host, &clone) >= acknowledged);
    });
}

/// Flattened while a container has it.
fn is_tied_until_it_is_flattened(host: &Host, origin: &str, clone: &str) {
    assert_eq!(tie(host, clone)["tie"], "shared");
    let all = listed(host, origin);
    assert_eq!((all.len(), &all[0]["clones"]), (1, &json!([clone])), "{all:?}");
    let snapshot = all[0]["name"].as_str().expect("a name");
    let said = refused(host, &["snapshot", "rm", origin, snapshot], 4);
    assert!(said.contains(&format!("has clones: {clone}")), "{said}");
    let said = host.tool(&["flatten", clone]);
    assert!(said.contains("stands alone"), "{said}");
    assert_eq!(tie(host, clone)["tie"], "none");
}

/// XFS mounts no two file systems of one UUID at once.
#[test]
fn a_clone_with_xfs_is_mounted_beside_its_origin_and_flattened_at_once() {
    on_newest(|host| {
        let origin = host.volume(&["size=320M", "fs-type=xfs"]);
        let holder = host.fresh("holder");
        host.docker().idle(&holder, at_data!(origin));
        host.docker().exec(&holder, "echo before > /data/file; sync /data/file");
        host.tool(&["snapshot", "create", &origin, "kept"]);
        host.docker().exec(&holder, "echo after > /data/file; sync /data/file");
        let from = format!("from={origin}@kept");
        let [first, second] = ["size=400M", "flatten=now"].map(|option| {
            let clone = host.fresh("clone");
            host.docker().create_volume(&clone, &[&from, option]);
            let read = host.docker().script(at_data!(clone), "cat /data/file");
            assert_eq!(read, "before", "{clone}");
            clone
        });
        assert!(size(host, &first) > 300, "it is larger than what it was made of");
        assert_eq!(tie(host, &second)["tie"], "none");
        let beside = host.fresh("beside");
        host.docker().idle(&beside, at_data!(first));
        assert_eq!(host.docker().script(at_data!(second), "cat /data/file"), "before");
        assert_eq!(listed(host, &origin)[0]["clones"], json!([first]));
        // An image in the trash still serves its clones, and does not go for good before them.
        host.docker().ok(&["rm", "--force", &holder]);
        let said = refused(host, &["rm", "--policy", "delete", &origin], 4);
        assert!(said.contains(&first) && !said.contains(&second), "{said}");
        host.tool(&["rm", "--policy", "trash", &origin]);
        assert_eq!(host.docker().exec(&beside, "cat /data/file"), "before");
        host.docker().ok(&["rm", "--force", &beside]);
        assert_eq!(host.docker().script(at_data!(first), "cat /data/file"), "before");
        host.tool(&["undelete", &origin]);
        assert_eq!(listed(host, &origin)[0]["clones"], json!([first]));
    });
}

/// The disk's state under a writer: there is a journal to replay, and nobody may write.
fn a_snapshot_is_read_on_two_hosts_at_once() {
    on_two(|one, other| {
        let (origin, writer) = writing(one);
        let acknowledged = recorded(one.docker(), &writer);
        let all = [("application", acknowledged), ("crash", 0)];
        // A folder has no journal: its snapshots are all the same.
        let tried = if Kind::under_test() == Kind::Rbd { &all[..] } else { &all[..1] };
        for &(snapshot, least) in tried {
            one.tool(&["snapshot", "create", &origin, snapshot, "--consistency", snapshot]);
            let (from, shown) = (format!("from={origin}@{snapshot}"), one.fresh("shown"));
            one.docker().create_volume(&shown, &[&from, "read-only"]);
            let readers = [&*one, &*other].map(|host| (host, host.fresh("reader")));
            for (host, reader) in &readers {
                host.docker().idle(reader, at_data!(shown));
            }
            for (host, reader) in &readers {
                let count = host.docker().exec(reader, "grep -c . /data/log || true");
                let count: u64 = count.parse().unwrap_or_else(|_| panic!("{snapshot}: {count}"));
                assert!(count >= least, "{snapshot}: {count} of {least} are there");
                let said = host.docker().refused(&["exec", reader, "touch", "/data/new"]);
                assert!(said.contains("Read-only"), "{said}");
            }
            let said = refused(one, &["snapshot", "rm", &origin, snapshot], 4);
            assert!(said.contains(&shown), "{said}");
            let said = refused(one, &["rm", "--policy", "delete", &origin], 4);
            assert!(said.contains(&origin), "{said}");
            for (host, reader) in &readers {
                host.docker().ok(&["rm", "--force", reader]);
            }
            assert_recording(one.docker(), &writer);
            one.docker().ok(&["volume", "rm", &shown]);
            one.tool(&["snapshot", "rm", &origin, snapshot]);
        }
        one.docker().ok(&["rm", "--force", &writer]);
        assert!(records(one, &origin) > acknowledged);
    });
}

fn a_clone_that_cannot_be_made_says_why() {
    on_newest(|host| {
        let origin = host.volume(&[]);
        let (of, before) = (|rest: &str| format!("from={origin}{rest}"), host.stored());
        let other = if Kind::under_test() == Kind::Rbd { "cephfs" } else { "rbd" };
        let kind = format!("type={other}");
        for (options, expected) in [
            (&["from=nobody-has-this"][..], "there is no volume nobody-has-this"),
            (&[&of("@none")], "there is no snapshot none"),
            (&[&of("@_x")], "CephFS keeps names"),
            (&[&of(""), &kind], "does not go together with from="),
            (&[&of(""), "size=16M"], "a clone only grows"),
            (&[&of(""), "read-only"], "make a snapshot"),
            (&["flatten=now"], "from="),
        ] {
            let name = host.fresh("bad");
            let mut words = vec!["volume", "create", "--driver", "ceph"];
            words.extend(options.iter().flat_map(|option| ["-o", option]));
            let said = host.docker().refused(&[&words[..], &[&name]].concat());
            assert!(said.contains(expected), "{options:?} says nothing of {expected}: {said}");
        }
        assert_eq!(host.stored(), before, "nothing was made");
        assert!(listed(host, &origin).is_empty(), "and no snapshot");
    });
}

#[test]
fn a_volume_that_stands_on_many_others_is_not_cloned_again() {
    on_newest(|host| {
        let mut chain = vec![host.volume(&["size=16M"])];
        let create = |chain: &[String], name: &str| {
            let from = format!("from={}", chain.last().expect("one"));
            let words = ["volume", "create", "--driver", "ceph", "-o", &from, name];
            host.docker().run(&words)
        };
        for _ in 0..8 {
            let name = host.fresh("deep");
            let made = create(&chain, &name);
            assert!(made.status.success(), "{made:?}");
            chain.push(name);
        }
        let name = host.fresh("deeper");
        let said = String::from_utf8_lossy(&create(&chain, &name).stderr).into_owned();
        let last = chain.last().expect("one");
        assert!(said.contains(&format!("docker ceph flatten {last}")), "{said}");
        host.tool(&["flatten", last]);
        assert!(create(&chain, &name).status.success());
        assert_eq!(listed(host, last).len(), 1);
        host.tool(&["rm", "--policy", "delete", &name]);
        assert!(listed(host, last).is_empty(), "its snapshot went with it");
    });
}

/// So large that copying takes long, though nothing is in it.
#[test]
fn copying_gives_way_to_whoever_wants_the_volume() {
    on_two(|one, other| {
        let origin = one.volume(&["size=8T", "fs-type=xfs", "mkfs-options=-l size=64m"]);
        let clone = one.fresh("clone");
        one.docker().create_volume(&clone, &[&format!("from={origin}")]);
        one.tool(&["flatten", "--detach", &clone]);
        assert_eq!(tie(one, &clone)["tie"], "flattening");
        assert_eq!(tie(other, &clone)["tie"], "flattening", "everybody sees it");
        // Mounted elsewhere, by a message, and then here.
        for (host, word) in [(&*other, "there"), (&*one, "here")] {
            let write = format!("echo {word} >> /data/file; cat /data/file");
            let read = host.docker().script(at_data!(clone), &write);
            assert!(read.ends_with(word), "{read}");
            assert_eq!(tie(one, &clone)["tie"], "shared", "what is copied stays so");
            one.tool(&["flatten", "--detach", &clone]);
        }
    });
}

/// A copy takes its time: the volume is there meanwhile, and whoever mounts it waits.
#[test]
fn a_copy_that_takes_long_is_finished_by_the_next_daemon() {
    Kind::CephFs.test(|| {
        on_newest(|host| {
            let origin = host.volume(&[]);
            let fill = "i=0; while [ $i -lt 250 ]; do echo $i > /data/$i; i=$((i + 1)); done; sync";
            host.docker().script(at_data!(origin), fill);
            let clone = host.fresh("copy");
            let options = json!({ "from": &origin });
            let call = host.send("Create", &json!({ "Name": &clone, "Opts": options }));
            let copying = || tie(host, &clone)["tie"] == "copying";
            let there = || host.docker().volumes("ceph", &clone).len() == 1;
            assert!(within(SOON, || there() && copying()), "{}", tie(host, &clone));
            host.kill_daemon();
            drop(call);
            host.start_daemon();
            let count = host.docker().script(at_data!(clone), "ls /data | wc -l");
            assert_eq!(count, "250");
            assert_eq!(tie(host, &clone)["tie"], "none");
            assert!(within(SOON, || listed(host, &origin).is_empty()));
        });
    });
}

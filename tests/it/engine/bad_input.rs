//! What cannot be done changes nothing, and says what was wrong and what is allowed.

use serde_json::json;

use crate::engine::at_data;
use crate::support::host::{Docker, for_each_kind, on_newest};

for_each_kind!(a_bad_name_is_refused_and_makes_nothing,);

fn create<'a>(docker: &Docker, name: &'a str, options: &[&'a str]) -> String {
    let mut words = vec!["volume", "create", "--driver", "ceph"];
    words.extend(options.iter().flat_map(|option| ["-o", option]));
    docker.refused(&[&words[..], &[name]].concat())
}

#[test]
fn a_bad_option_says_what_is_allowed() {
    on_newest(|host| {
        host.daemon(&["--reconcile-interval", "1s", "--max-size", "1T"]);
        let name = host.fresh("bad");
        for (options, expected) in [
            (&["szie=1G"][..], &["\"szie\" is not known", "size", "fs-type"][..]),
            (&["size=0"], &["size", "0"]),
            (&["size=0M"], &["smallest volume has 16 MiB"]),
            (&["size=-1"], &["\"-1\" cannot be read", "K, M, G, T or P"]),
            (&["size=10XB"], &["\"10XB\" cannot be read", "K, M, G, T or P"]),
            (&["size=10"], &["has no unit", "10M", "10G", "compatibility"]),
            (&["size=2T"], &["at most 1 TiB", "max-size"]),
            (&["size=99999999999999T"], &["larger than 16 EiB"]),
            (&["fs-type=ntfs"], &["fs-type", "ext4", "xfs"]),
            (&["type=nfs"], &["kind of volume", "rbd, cephfs"]),
            (&["size=1G", "stripe-unit=64K"], &["stripe-unit and stripe-count go together"]),
            (&["fs-type=ext4", "fstype=xfs"], &["given twice", "ext4", "xfs"]),
            (&["read-only=true"], &["cannot be read-only"]),
            (&["image=rbd/docker/none", "size=1G"], &["does not go together with size"]),
            (&["image=rbd/docker/none"], &["rbd/docker/none"]),
            (&["pool=nosuchpool"], &["nosuchpool"]),
            (&["mode=abc"], &["mode"]),
            (&["uid=-1"], &["uid"]),
            (&["help"], &["options of a volume", "fs-type", "on-remove", "trash-expiry"]),
        ] {
            let said = create(host.docker(), &name, options);
            for word in expected {
                assert!(said.contains(word), "{options:?} says nothing of {word}: {said}");
            }
        }
        assert!(host.docker().volumes("ceph", &name).is_empty());
        assert!(!host.lab().rbd(&["ls"]).contains(&name));
    });
}

fn a_bad_name_is_refused_and_makes_nothing() {
    on_newest(|host| {
        let long = "n".repeat(300);
        let before = host.stored();
        for (name, expected) in [
            (long.as_str(), "at most 128"),
            ("../x", "not allowed"),
            ("a/b", "not allowed"),
            ("ünï", "not allowed"),
            ("sp ace", "not allowed"),
            ("-dash", "not allowed"),
            (".hidden", "not allowed"),
            ("a@b", "not allowed"),
        ] {
            let words = ["volume", "create", "--driver", "ceph", "-o", "size=64M", "--", name];
            let said = host.docker().refused(&words);
            assert!(said.contains(expected), "{name}: {said}");
        }
        for name in ["nul\0", "new\nline", ""] {
            let body = json!({"Name": name, "Opts": {"size": "64M"}});
            let reply = host.call("Create", &body).expect("an answer");
            assert!(!reply.is_ok(), "{name:?}: {reply:?}");
            let reply = host.call("Mount", &json!({"Name": name, "ID": "a"})).expect("an answer");
            assert!(!reply.is_ok(), "{name:?}: {reply:?}");
        }
        assert_eq!(host.stored(), before);
        assert!(!host.ceph_folder().join("x").exists());
    });
}

#[test]
fn what_exists_is_made_again_only_with_the_same_options() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M", "mode=0750"]);
        let ask = |options| {
            let body = json!({"Name": volume, "Opts": options});
            host.call("Create", &body).expect("an answer")
        };
        for same in [
            json!({"size": "64M", "mode": "0750"}),
            json!({"size": "65536K"}),
            json!({}),
            json!(null),
            json!({"fstype": "ext4"}),
        ] {
            let reply = ask(same.clone());
            assert!(reply.is_ok(), "{same}: {reply:?}");
        }
        for other in [
            json!({"size": "65M"}),
            json!({"fs-type": "xfs"}),
            json!({"mode": "0700"}),
            json!({"uid": "5"}),
        ] {
            let reply = ask(other.clone());
            assert!(reply.error().contains("exists with other options"), "{other}: {reply:?}");
            assert!(
                reply.error().contains("mode=750") || reply.error().contains("mode=0750"),
                "{reply:?}"
            );
        }
        // The engine asks only whether it is there, and keeps the other options to itself.
        host.docker().ok(&["volume", "create", "-d", "ceph", "-o", "size=65M", &volume]);
        assert_eq!(host.docker().inspect(&volume)["Status"]["size"], 64 << 20);
    });
}

#[test]
fn a_name_that_is_nobodys_is_the_engines_own_affair() {
    on_newest(|host| {
        let name = host.fresh("local");
        host.docker().script(at_data!(name), "echo 1 > /data/file");
        assert_eq!(host.docker().inspect(&name)["Driver"], "local");
        host.docker().ok(&["volume", "rm", &name]);
        let said = host.docker().refused(&["volume", "inspect", &host.fresh("none")]);
        assert!(said.to_lowercase().contains("no such volume"), "{said}");
    });
}

#[test]
fn a_name_has_one_driver() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let said = host.docker().refused(&["volume", "create", "--driver", "local", &volume]);
        assert!(said.contains("already") || said.contains("unique"), "{said}");
    });
}

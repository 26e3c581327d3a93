use std::time::Duration;

use super::super::{CatchUp, Consistency, FsType, RemovePolicy};
use super::*;

const DB: &str = r#"{
    "version": 1, "kind": "rbd", "size": 10737418240, "state": "ready",
    "location": {"pool": "ssd", "namespace": "docker", "image": "db"},
    "options": {"size": "10737418240B", "type": "rbd", "fs-type": "xfs", "pool": "ssd", "uid": "9",
                "protected": "true", "object-size": "8388608B", "snapshot-schedule": "@daily"},
    "created": "2026-11-21T12:00:00Z", "formatted": true, "adopted": false, "folder": "_data"
}"#;

const LOGS: &str = r#"{
    "version": 1, "kind": "cephfs", "size": 0, "state": "ready",
    "location": {"fs": "fast", "group": "docker", "subvolume": "logs"},
    "options": {"type": "cephfs"},
    "created": "2026-11-21T12:00:00Z", "formatted": true, "adopted": false, "folder": ""
}"#;

fn cloned(
    origin: &str,
    pairs: &[(&str, &str)],
    defaults: &[(&str, &str)],
) -> Result<Options, OptionError> {
    let origin = serde_json::from_str(origin).expect("a record");
    let max_size = Some(ByteSize::gib(100));
    let rules = OptionRules { max_size, defaults: given(defaults), ..OptionRules::default() };
    rules.for_clone(&given(pairs), &origin)
}

fn given(pairs: &[(&str, &str)]) -> Options {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn new_volume(pairs: &[(&str, &str)]) -> Result<VolumeOptions, OptionError> {
    let rules = OptionRules { max_size: Some(ByteSize::gib(100)), ..OptionRules::default() };
    VolumeOptions::from_canonical(&rules.for_new_volume(&given(pairs))?)
}

#[test]
fn a_volume_without_options_is_ext4_of_10_gib_that_goes_to_the_trash() {
    let options = new_volume(&[]).expect("defaults");
    assert_eq!(options.new_size(), Some(ByteSize::gib(10)));
    assert_eq!(options.fs_type, FsType::Ext4);
    assert_eq!(options.on_remove, RemovePolicy::Trash);
    assert_eq!(options.trash_expiry, Duration::from_secs(7 * 24 * 3600));
}

#[test]
fn other_plugins_names_mean_the_same() {
    let options = new_volume(&[
        ("fstype", "xfs"),
        ("order", "23"),
        ("mkfsOptions", "-m reflink=0"),
        ("dataPool", "ec"),
        ("imageFeatures", "layering,exclusive-lock"),
    ])
    .expect("aliases");
    assert_eq!(options.fs_type, FsType::Xfs);
    assert_eq!(options.object_size, Some(ByteSize::mib(8)));
    assert_eq!(options.mkfs_options, ["-m", "reflink=0"]);
    assert_eq!(options.data_pool.as_deref(), Some("ec"));
    assert_eq!(options.features, ["layering", "exclusive-lock"]);
}

#[test]
fn bad_options_say_what_is_wrong_and_what_is_allowed() {
    for (pairs, words) in [
        (&[("szie", "1G")][..], &["szie", "size", "fs-type"][..]),
        (&[("size", "0G")], &["smallest"]),
        (&[("size", "0")], &["0M", "0G"]),
        (&[("size", "-1")], &["-1", "10G"]),
        (&[("size", "10XB")], &["10XB", "10G"]),
        (&[("size", "200G")], &["100 GiB", "max-size"]),
        (&[("fs-type", "btrfs")], &["btrfs", "ext4, xfs"]),
        (&[("mode", "999")], &["octal"]),
        (&[("uid", "bob")], &["bob"]),
        (&[("stripe-unit", "64K")], &["stripe-count"]),
        (&[("stripe-unit", "3M"), ("stripe-count", "2")], &["divide"]),
        (&[("object-size", "3M")], &["power of two"]),
        (&[("image", "rbd/x"), ("size", "1G")], &["image=", "size"]),
        (&[("read-only", "true")], &["read-only", "image="]),
        (&[("read-only", "maybe")], &["true", "false"]),
        (&[("fstype", "xfs"), ("fs-type", "ext4")], &["twice"]),
        (&[("pool", "a/b")], &["a/b"]),
        (&[("mkfs-options", "/dev/sda")], &["/dev/sda"]),
        (&[("features", "layerng")], &["layerng", "layering"]),
        (&[("map-options", "queue_depth=8,share")], &["share", "driver"]),
        (&[("map-options", "secret=AQ==")], &["secret is the driver's"]),
        (&[("trash-expiry", "soon")], &["soon", "7d"]),
        (&[("type", "nfs")], &["nfs", "rbd, cephfs"]),
        (&[("path", "/a")], &["path", "type=cephfs"]),
        (&[("type", "cephfs"), ("fs-type", "xfs")], &["fs-type", "type=rbd"]),
        (&[("type", "cephfs")], &["quota", "100 GiB"]),
        (&[("type", "cephfs"), ("path", "/a/../b")], &["..", "VOLUME/folder"]),
        (&[("type", "cephfs"), ("path", "/a"), ("size", "1G")], &["path=", "size"]),
        (&[("type", "cephfs"), ("size", "1G"), ("access", "all")], &["shared, single"]),
        (&[("snapshot-schedule", "0 0 30 2 *")], &["never fires", "@every 15m"]),
        (&[("snapshot-schedule", "hourly")], &["hourly", "5 fields"]),
        (&[("snapshot-schedule", "@daily"), ("snapshot-keep", "daily=0")], &["leave it out"]),
        (&[("snapshot-keep", "daily=7")], &["snapshot-keep", "snapshot-schedule="]),
        (&[("snapshot-jitter", "1m"), ("snapshot-schedule", "none")], &["snapshot-schedule="]),
        (&[("snapshot-schedule", "@daily"), ("snapshot-timezone", "Berlin")], &["Europe/Berlin"]),
        (&[("snapshot-consistency", "best")], &["application, filesystem, crash"]),
        (&[("snapshot-catch-up", "all")], &["once, skip"]),
        (&[("image", "rbd/x"), ("read-only", ""), ("snapshot-schedule", "@daily")], &["changes"]),
        (&[("image", "rbd/x"), ("read-only", ""), ("keep-files", "9d")], &["removes files"]),
        (&[("keep-files", "90")], &["90d"]),
        (&[("keep-files", "0s")], &["at least 1h"]),
        (&[("flatten", "now")], &["flatten", "from="]),
        (&[("from", "db@_x")], &["db@_x", "CephFS"]),
        (&[("from", "db")], &["docker volume create"]),
        (&[("help", "")], &["size", "mkfs-options", "also:"]),
    ] {
        let error = new_volume(pairs).expect_err(&format!("{pairs:?} is refused")).to_string();
        for word in words {
            assert!(error.contains(word), "{pairs:?}: {error:?} lacks {word:?}");
        }
    }
}

#[test]
fn a_given_option_stands_before_a_default() {
    let defaults = given(&[("fs-type", "xfs"), ("size", "1073741824B")]);
    let rules = OptionRules { defaults, ..OptionRules::default() };
    let options = rules.for_new_volume(&given(&[("size", "2G")])).expect("good options");
    assert_eq!(options, given(&[("fs-type", "xfs"), ("size", "2147483648B")]));
}

#[test]
fn defaults_that_shape_a_new_image_are_not_for_an_adopted_one() {
    let defaults = given(&[("fs-type", "xfs"), ("discard", "true")]);
    let rules = OptionRules { defaults, ..OptionRules::default() };
    let options = rules.for_new_volume(&given(&[("image", "rbd/x")])).expect("good options");
    assert_eq!(options, given(&[("discard", "true"), ("image", "rbd/x")]));
}

#[test]
fn a_clone_takes_kind_file_system_and_layout_from_its_origin() {
    let defaults = [
        ("fs-type", "ext4"),
        ("type", "cephfs"),
        ("size", "1073741824B"),
        ("fs", "slow"),
        ("snapshot-schedule", "@hourly"),
        ("discard", "true"),
        ("flatten", "background"),
    ];
    let options = cloned(DB, &[("from", "db@before"), ("size", "20G")], &defaults).expect("good");
    let taken = [
        ("type", "rbd"),
        ("fs-type", "xfs"),
        ("pool", "ssd"),
        ("object-size", "8388608B"),
        ("uid", "9"),
    ];
    let asked = [("from", "db@before"), ("size", "21474836480B")];
    let filled = [("snapshot-schedule", "@hourly"), ("discard", "true"), ("flatten", "background")];
    assert_eq!(options, given(&[&taken[..], &asked, &filled].concat()));
    let typed = VolumeOptions::from_canonical(&options).expect("canonical");
    assert_eq!(typed.new_size(), Some(ByteSize::gib(20)));
    let folder = cloned(LOGS, &[("from", "logs@x"), ("type", "cephfs")], &defaults).expect("good");
    let filled = [("snapshot-schedule", "@hourly")];
    let own = [("from", "logs@x"), ("type", "cephfs"), ("fs", "fast")];
    assert_eq!(folder, given(&[&own[..], &filled].concat()));
}

#[test]
fn a_snapshot_is_shown_read_only_and_a_volume_is_not() {
    let defaults = [("snapshot-schedule", "@hourly"), ("flatten", "now")];
    let shown = cloned(DB, &[("from", "db@x"), ("read-only", "")], &defaults).expect("good");
    assert!(!shown.contains_key("flatten") && !shown.contains_key("snapshot-schedule"));
    assert_eq!(VolumeOptions::from_canonical(&shown).expect("canonical").new_size(), None);
}

#[test]
fn what_the_origin_decides_cannot_be_asked_for() {
    for (origin, pairs, words) in [
        (DB, &[("fs-type", "xfs"), ("uid", "9")][..], &["fs-type", "uid", "leave that out"][..]),
        (DB, &[("pool", "ssd")], &["pool"]),
        (DB, &[("image", "rbd/x")], &["image"]),
        (DB, &[("type", "cephfs")], &["type=cephfs", "type=rbd"]),
        (DB, &[("client", "fuse")], &["client", "type=cephfs"]),
        (DB, &[("size", "5G")], &["10 GiB", "only grows"]),
        (DB, &[("size", "500G")], &["max-size"]),
        (DB, &[("read-only", "")], &["snapshot create db NAME", "from=db@NAME"]),
        (DB, &[("from", "db@x"), ("read-only", ""), ("size", "20G")], &["size", "read-only"]),
        (DB, &[("from", "db@x"), ("read-only", ""), ("flatten", "now")], &["flatten"]),
        (LOGS, &[("flatten", "now")], &["flatten", "type=rbd"]),
        (LOGS, &[("fs", "fast")], &["fs"]),
        (LOGS, &[("path", "/a")], &["path"]),
    ] {
        let volume = if origin == DB { "db" } else { "logs" };
        let from = [("from", volume)];
        let pairs = [if pairs[0].0 == "from" { &[] } else { &from[..] }, pairs].concat();
        let error = cloned(origin, &pairs, &[]).expect_err(&format!("{pairs:?}")).to_string();
        for word in words {
            assert!(error.contains(word), "{pairs:?}: {error:?} lacks {word:?}");
        }
    }
}

#[test]
fn what_a_volume_is_made_of_is_read_first() {
    let rules = OptionRules::default();
    let from = |value| rules.origin_of(&given(&[("from", value), ("nonsense", "")]));
    assert_eq!(from("db@x").expect("readable"), Some("db@x".parse().expect("a spec")));
    assert!(from("db@").is_err());
    assert_eq!(rules.origin_of(&given(&[("size", "1G")])), Ok(None));
}

#[test]
fn a_schedule_is_typed_with_all_that_belongs_to_it() {
    let rules = OptionRules::default();
    let asked = [
        ("snapshot-schedule", " 30  2 * * *"),
        ("snapshot-keep", "daily=7, latest=2"),
        ("snapshot-timezone", "europe/berlin"),
        ("snapshot-catch-up", "skip"),
        ("snapshot-jitter", "5m"),
        ("snapshot-consistency", "crash"),
    ];
    let options = rules.for_new_volume(&given(&asked)).expect("good options");
    assert_eq!(options["snapshot-timezone"], "Europe/Berlin");
    let typed = SnapshotOptions::from_canonical(&options).expect("canonical");
    let timetable = typed.timetable.expect("a timetable");
    assert_eq!(timetable.schedule.to_string(), "30 2 * * *");
    let noon = "2026-07-01T12:00:00Z".parse().expect("a time");
    let next = "2026-07-02T00:30:00Z".parse().expect("a time");
    assert_eq!(timetable.schedule.next_after(noon), Some(next));
    assert_eq!((timetable.catch_up, timetable.jitter.as_secs()), (CatchUp::Skip, 300));
    assert_eq!(typed.keep.expect("a retention").to_string(), "latest=2,daily=7");
    assert_eq!(typed.consistency, Consistency::Crash);
    let none = SnapshotOptions::from_canonical(&Options::new()).expect("no options");
    assert_eq!((none.timetable, none.keep), (None, None));
    assert_eq!(none.consistency, Consistency::Application);
}

#[test]
fn default_schedules_are_for_new_volumes_that_do_not_say_otherwise() {
    let defaults = given(&[("snapshot-schedule", "@daily"), ("snapshot-keep", "daily=7")]);
    let rules = OptionRules { defaults: defaults.clone(), ..OptionRules::default() };
    let with = |pairs: &[(&str, &str)]| rules.for_new_volume(&given(pairs)).expect("good options");
    assert_eq!(with(&[]), defaults);
    assert_eq!(with(&[("snapshot-keep", "all")])["snapshot-keep"], "all");
    let none = [("snapshot-schedule", "none")];
    assert_eq!(with(&none), given(&none));
    let adopted = [("image", "rbd/x")];
    assert_eq!(with(&adopted), given(&adopted));
    let scheduled = with(&[("image", "rbd/x"), ("snapshot-schedule", "@hourly")]);
    assert_eq!(scheduled["snapshot-keep"], "daily=7");
    for name in ["from", "keep-files"] {
        let defaults = given(&[(name, "x")]);
        let rules = OptionRules { defaults, ..OptionRules::default() };
        let error = rules.for_new_volume(&Options::new()).expect_err(name).to_string();
        assert!(error.contains("default"), "{error}");
    }
}

/// A schedule that only a newer daemon knows keeps nobody from the data.
#[test]
fn a_volume_can_be_mounted_whose_schedule_is_not_understood() {
    let options = given(&[("snapshot-schedule", "@moonrise"), ("snapshot-timezone", "Mars/Base")]);
    assert!(VolumeOptions::from_canonical(&options).is_ok());
    assert!(SnapshotOptions::from_canonical(&options).is_err());
}

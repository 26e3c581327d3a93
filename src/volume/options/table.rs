//! The options one by one: names, other plugins' names for the same, and how a value is read.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::super::{
    ByteSize, CatchUp, CephFsClient, Consistency, Flatten, FolderPath, FsType, ImageSpec,
    MapperKind, RemovePolicy, Retention, Schedule, SharedBy, SizeError, SnapshotSpec, VolumeKind,
    duration, time_zone,
};
use super::snapshots::{KEEP_ALL, NO_SCHEDULE};

/// One option.
#[derive(Debug)]
pub(super) struct OptionDef {
    /// Our name.
    pub(super) name: &'static str,
    /// Names that other plugins and ceph-csi have for the same.
    pub(super) aliases: &'static [&'static str],
    /// What a value looks like.
    pub(super) value: &'static str,
    /// What it does, with its default.
    pub(super) help: &'static str,
    /// It shapes a new volume, and so cannot be said of what is adopted.
    pub(super) only_new: bool,
    /// The kind of volume that it is for; `None`: all.
    pub(super) kind: Option<VolumeKind>,
    /// Checks a value and writes it canonically; the error says what is allowed.
    pub(super) read: fn(&str) -> Result<String, String>,
}

pub(super) fn find(name: &str) -> Option<&'static OptionDef> {
    OPTIONS.iter().find(|def| def.name == name || def.aliases.contains(&name))
}

macro_rules! options {
    ($($kind:ident $name:literal $aliases:expr, $value:literal, $only_new:expr, $read:expr,
       $help:literal;)+) => {
        /// Every option, in the order in which they are listed to people.
        pub(super) const OPTIONS: &[OptionDef] = &[$(OptionDef {
            name: $name,
            aliases: &$aliases,
            value: $value,
            help: $help,
            only_new: $only_new,
            kind: $kind,
            read: $read,
        }),+];
    };
}

const NEW: bool = true;
const ANY: bool = false;

const BOTH: Option<VolumeKind> = None;
const RBD: Option<VolumeKind> = Some(VolumeKind::Rbd);
const CEPHFS: Option<VolumeKind> = Some(VolumeKind::CephFs);

options! {
    BOTH "type" ["kind"], "rbd|cephfs", ANY, word::<VolumeKind>,
        "an image for one writing host, or a shared folder (rbd)";
    BOTH "size" [], "10G", NEW, size, "size of an image, thin (10G); quota of a folder (none)";
    RBD "fs-type" ["fstype", "fsType", "filesystem", "fileSystemType"], "ext4|xfs", NEW,
        word::<FsType>, "file system, made at the first mount (ext4)";
    RBD "pool" [], "NAME", NEW, plain, "pool of the image (the home pool)";
    RBD "namespace" [], "NAME", NEW, plain, "RADOS namespace of the image (the home namespace)";
    BOTH "data-pool" ["dataPool"], "NAME", NEW, plain, "pool for the data, may be erasure-coded";
    RBD "features" ["image-features", "imageFeatures"], "layering,…", NEW, features,
        "image features (what the mapper carries)";
    RBD "object-size" ["objectSize", "order"], "4M", NEW, object_size, "size of the image's objects";
    RBD "stripe-unit" ["stripeUnit"], "64K", NEW, size, "stripe unit, with stripe-count";
    RBD "stripe-count" ["stripeCount"], "4", NEW, positive, "objects in a stripe, with stripe-unit";
    RBD "mkfs-options" ["mkfsOptions", "mkfs_options"], "'-m 1 …'", NEW, mkfs_options,
        "more arguments for mkfs, separated by spaces";
    BOTH "uid" [], "999", NEW, number, "owner of the volume's root folder (0)";
    BOTH "gid" [], "999", NEW, number, "group of the volume's root folder (0)";
    BOTH "mode" ["fsMode", "unixPermissions"], "0750", NEW, mode,
        "permissions of the volume's root folder (0755)";
    RBD "image" [], "pool/ns/image", ANY, image, "adopt this image as it is, instead of a new one";
    CEPHFS "fs" ["fsName", "fs-name"], "NAME", ANY, plain, "file system (the only one)";
    CEPHFS "group" ["subvolumeGroup"], "NAME", NEW, plain, "subvolume group (docker)";
    CEPHFS "isolated" ["namespace-isolated"], "true|false", NEW, flag,
        "a RADOS namespace of its own, which keeps other volumes' keys from its data (true)";
    CEPHFS "path" ["rootPath"], "/a/folder|VOLUME/folder", ANY, path,
        "adopt this folder as it is, instead of a new one";
    CEPHFS "access" [], "shared|single", ANY, word::<SharedBy>,
        "how many hosts may write at once (shared)";
    CEPHFS "client" [], "kernel|fuse", ANY, word::<CephFsClient>,
        "how the folder is mounted (the kernel's client, where it has one)";
    BOTH "mount-options" ["mountOptions", "mount_opts"], "noatime,…", ANY, list, "mount options";
    RBD "map-options" ["mapOptions"], "queue_depth=64,…", ANY, map_options,
        "options for krbd or rbd-nbd, as rbd device map -o takes them";
    RBD "mapper" ["mounter"], "krbd|nbd|fuse", ANY, word::<MapperKind>,
        "how the image becomes a device (the daemon's setting)";
    BOTH "read-only" ["readonly"], "true|false", ANY, flag,
        "never written; any number of hosts (false)";
    RBD "discard" [], "true|false", ANY, flag,
        "give freed blocks back at once; else use docker ceph trim (false)";
    BOTH "protected" ["sticky"], "true|false", ANY, flag, "refuse to be removed (false)";
    BOTH "on-remove" ["remove"], "trash|delete|keep", ANY, word::<RemovePolicy>,
        "what removing does with the data (trash)";
    BOTH "trash-expiry" [], "7d", ANY, duration, "how long the trash keeps it (7d)";
    BOTH "from" [], "VOLUME[@SNAPSHOT]", NEW, from,
        "make it of this volume or snapshot, with its kind, file system and layout";
    RBD "flatten" [], "background|now|never", NEW, word::<Flatten>,
        "copy what a clone shares with its origin, so that it stands alone (never)";
    BOTH "snapshot-schedule" [], "'0 */6 * * *'|@every 15m|…", ANY, schedule,
        "when snapshots are made; none for none (none)";
    BOTH "snapshot-keep" [], "latest=3,hourly=24,daily=7,…", ANY, keep,
        "which of the schedule's are kept; also weekly, monthly, yearly (all)";
    BOTH "snapshot-timezone" [], "Europe/Berlin", ANY, zone,
        "time zone of schedule and retention (UTC)";
    BOTH "snapshot-catch-up" [], "once|skip", ANY, word::<CatchUp>,
        "whether the latest of missed snapshots is made up for (once)";
    BOTH "snapshot-jitter" [], "5m", ANY, duration,
        "start up to so much later than due, so that not all start at once (0s)";
    BOTH "snapshot-consistency" [], "application|filesystem|crash", ANY, word::<Consistency>,
        "with hooks and a frozen file system, frozen only, or neither (application)";
    BOTH "keep-files" [], "90d", ANY, keep_files,
        "remove files that were not changed for so long; the first run only lists them (all stay)";
}

fn word<T: std::str::FromStr<Err = String> + ToString>(value: &str) -> Result<String, String> {
    value.parse::<T>().map(|word| word.to_string())
}

fn size(value: &str) -> Result<String, String> {
    let size: ByteSize = value.parse().map_err(|error: SizeError| error.to_string())?;
    Ok(format!("{}B", size.bytes()))
}

fn object_size(value: &str) -> Result<String, String> {
    let canonical = size(value)?;
    let size: ByteSize = value.parse().map_err(|error: SizeError| error.to_string())?;
    let allowed = 4 << 10..=32 << 20;
    if size.bytes().is_power_of_two() && allowed.contains(&size.bytes()) {
        Ok(canonical)
    } else {
        Err("an object size is a power of two from 4K to 32M".to_owned())
    }
}

fn plain(value: &str) -> Result<String, String> {
    if !value.is_empty() && !value.contains(['/', '@', ' ']) {
        Ok(value.to_owned())
    } else {
        Err("a name is expected, without '/', '@' and spaces".to_owned())
    }
}

fn list(value: &str) -> Result<String, String> {
    let words: Vec<&str> =
        value.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.iter().any(|word| word.contains(char::is_whitespace)) {
        return Err("words separated by commas are expected".to_owned());
    }
    Ok(words.join(","))
}

/// What a new image can be given; other features come by themselves (`data-pool`, `operations`).
fn features(value: &str) -> Result<String, String> {
    const KNOWN: [&str; 7] = [
        "layering",
        "striping",
        "exclusive-lock",
        "object-map",
        "fast-diff",
        "deep-flatten",
        "journaling",
    ];
    let words = list(value)?;
    match words.split(',').find(|word| !KNOWN.contains(word)) {
        Some(word) => Err(format!("there is no feature {word:?}; there are {}", KNOWN.join(", "))),
        None => Ok(words),
    }
}

/// How an image is locked and shared between hosts is what keeps it from two writers: ours alone.
fn map_options(value: &str) -> Result<String, String> {
    const OURS: [&str; 13] = [
        "exclusive",
        "share",
        "noshare",
        "noudev",
        "udev",
        "ro",
        "rw",
        "lock_on_read",
        "force",
        // Who the client is and where the image lies: the kernel would take another's word.
        "name",
        "key",
        "secret",
        "_pool_ns",
    ];
    let words = list(value)?;
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    match words.split(',').map(name).find(|name| OURS.contains(&name.as_str())) {
        Some(name) => Err(format!("{name} is the driver's to set")),
        None => Ok(words),
    }
}

/// The device is ours to name: an argument that is a path would be taken for it.
fn mkfs_options(value: &str) -> Result<String, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    match words.iter().find(|word| word.starts_with('/')) {
        Some(path) => Err(format!("{path} is a path; the device is chosen by the driver")),
        None => Ok(words.join(" ")),
    }
}

fn positive(value: &str) -> Result<String, String> {
    match value.parse::<u64>() {
        Ok(count) if count > 0 => Ok(count.to_string()),
        _ => Err("a whole number above 0 is expected".to_owned()),
    }
}

fn number(value: &str) -> Result<String, String> {
    let number = value.parse::<u32>();
    number.map(|id| id.to_string()).map_err(|_| "a number from 0 to 4294967295 is expected".into())
}

fn mode(value: &str) -> Result<String, String> {
    match u32::from_str_radix(value, 8) {
        Ok(bits) if bits <= 0o7777 => Ok(format!("{bits:04o}")),
        _ => Err("an octal number up to 7777 is expected, such as 0750".to_owned()),
    }
}

fn image(value: &str) -> Result<String, String> {
    value.parse::<ImageSpec>().map(|spec| spec.to_string()).map_err(|error| error.to_string())
}

fn path(value: &str) -> Result<String, String> {
    value.parse::<FolderPath>().map(|path| path.to_string())
}

/// `-o read-only` arrives with an empty value.
fn flag(value: &str) -> Result<String, String> {
    match value {
        "" | "true" | "1" | "yes" => Ok("true".to_owned()),
        "false" | "0" | "no" => Ok("false".to_owned()),
        _ => Err("true or false is expected".to_owned()),
    }
}

fn duration(value: &str) -> Result<String, String> {
    let hint = "a duration is expected, such as 7d, 12h, 30m or 0s";
    duration::read(value).map(|read| format!("{}s", read.as_secs())).ok_or_else(|| hint.to_owned())
}

fn keep_files(value: &str) -> Result<String, String> {
    let hour = Duration::from_secs(3600);
    match duration::read(value) {
        Some(age) if age >= hour => duration(value),
        _ => Err("a duration of at least 1h is expected, such as 90d".to_owned()),
    }
}

fn from(value: &str) -> Result<String, String> {
    value.parse::<SnapshotSpec>().map(|spec| spec.to_string()).map_err(|error| error.to_string())
}

fn schedule(value: &str) -> Result<String, String> {
    if value == NO_SCHEDULE {
        return Ok(value.to_owned());
    }
    // Whether it fires at all does not depend on the time zone.
    let schedule = Schedule::parse(value, &TimeZone::UTC);
    schedule.map(|schedule| schedule.to_string()).map_err(|error| error.to_string())
}

fn keep(value: &str) -> Result<String, String> {
    if value == KEEP_ALL {
        return Ok(value.to_owned());
    }
    value.parse::<Retention>().map(|keep| keep.to_string()).map_err(|error| error.to_string())
}

fn zone(value: &str) -> Result<String, String> {
    time_zone::read(value).map(|zone| time_zone::name(&zone).to_owned())
}

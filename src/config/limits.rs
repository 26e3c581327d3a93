//! What settings have to do with each other, and with the engine's limits.

use std::path::Path;
use std::time::Duration;

use super::value::Reader;
use super::{Settings, Times};
use crate::volume::Options;

/// The engine gives Create and Mount this long.
const ENGINE_LONG: u64 = 120;

/// The engine gives any other call this long.
const ENGINE_SHORT: u64 = 60;

/// A deadline ends this much before the engine's limit: a verb that overruns it is answered 5 s
/// later, and the answer has to be heard.
const MARGIN: u64 = 10;

/// Under a shorter one, a container's first volume would be unmounted while its second is mounted.
/// Tests of what the engine forgets do not wait that long.
const SHORTEST_GRACE: u64 = if cfg!(feature = "failpoints") { 1 } else { ENGINE_LONG };

/// The shortest and longest that a setting of time may be, in seconds.
const RANGES: [(&str, u64, u64, &str); 12] = [
    ("create-deadline", 5, ENGINE_LONG - MARGIN, "the engine gives up a Create after 120s"),
    ("mount-deadline", 5, ENGINE_LONG - MARGIN, "the engine gives up a Mount after 120s"),
    ("call-deadline", 5, ENGINE_SHORT - MARGIN, "the engine gives up such a call after 60s"),
    (
        "reference-grace",
        SHORTEST_GRACE,
        86_400,
        "a container's second volume may take 120s to mount",
    ),
    ("reconcile-interval", 1, 3_600, "more often is of no use, less often leaves things behind"),
    ("busy-wait", 0, ENGINE_LONG - MARGIN, "the engine gives up a Mount after 120s"),
    ("fence-after", 5, 300, "a stalled cluster must not look like a dead host"),
    ("hook-limit", 1, 600, "a snapshot has to be over within 10 minutes"),
    ("freeze-limit", 1, 60, "containers stand still meanwhile"),
    (
        "connect-timeout",
        1,
        ENGINE_SHORT - MARGIN,
        "a call has to end before the engine gives it up",
    ),
    ("mon-timeout", 1, ENGINE_SHORT - MARGIN, "a call has to end before the engine gives it up"),
    ("osd-timeout", 1, ENGINE_SHORT - MARGIN, "a call has to end before the engine gives it up"),
];

/// Finds what does not fit together. A value that could not be read is its type's default here,
/// and has been complained of already.
pub(super) fn check(settings: &Settings, reader: &mut Reader) {
    let bad_before = reader.problem_count();
    times(settings, reader);
    folders(settings, reader);
    if reader.problem_count() == bad_before {
        relations(settings, reader);
    }
    if !reader.is_refused("default") && !reader.is_refused("max-size") {
        volume_options(settings, reader);
    }
}

fn times(settings: &Settings, reader: &mut Reader) {
    for (name, shortest, longest, why) in RANGES {
        let Some(text) = reader.readable_text(name) else { continue };
        let duration = by_name(settings, name);
        let (least, most) = (Duration::from_secs(shortest), Duration::from_secs(longest));
        if duration < least || duration > most {
            let reason = format!("from {shortest}s to {longest}s are allowed; {why}");
            reader.refuse(name, &text, &reason);
        }
    }
}

fn by_name(settings: &Settings, name: &str) -> Duration {
    let Times {
        busy_wait,
        fence_after,
        reference_grace,
        reconcile_interval,
        create_deadline,
        mount_deadline,
        call_deadline,
    } = settings.times;
    match name {
        "create-deadline" => create_deadline,
        "mount-deadline" => mount_deadline,
        "call-deadline" => call_deadline,
        "reference-grace" => reference_grace,
        "reconcile-interval" => reconcile_interval,
        "busy-wait" => busy_wait,
        "fence-after" => fence_after,
        "hook-limit" => settings.snapshots.hook_limit,
        "freeze-limit" => settings.snapshots.freeze_limit,
        "connect-timeout" => settings.ceph.connect_timeout,
        "mon-timeout" => settings.ceph.mon_timeout,
        _ => settings.ceph.osd_timeout,
    }
}

/// Which times have to be shorter than which.
fn relations(settings: &Settings, reader: &mut Reader) {
    for (short, long) in [
        ("busy-wait", "mount-deadline"),
        ("connect-timeout", "call-deadline"),
        ("mon-timeout", "call-deadline"),
        ("osd-timeout", "call-deadline"),
    ] {
        let limit = by_name(settings, long);
        let text = reader.readable_text(short);
        if let Some(text) = text.filter(|_| by_name(settings, short) >= limit) {
            let reason = format!("it has to be shorter than {long}, which is {limit:?}");
            reader.refuse(short, &text, &reason);
        }
    }
}

fn folders(settings: &Settings, reader: &mut Reader) {
    let folders = &settings.folders;
    let (state, cache, mounts) = (&folders.state, &folders.cache, &folders.mount_root);
    let given = |path: &Path| !path.as_os_str().is_empty();
    if given(state) && state == cache {
        let reason = "it is the cache-folder; one is emptied at a boot, the other is not";
        reader.refuse("state-folder", &state.to_string_lossy(), reason);
    }
    let inside = |path: &Path| given(mounts) && path.starts_with(mounts);
    let named = [("state-folder", state), ("cache-folder", cache), ("socket", &settings.socket)];
    let inside: Vec<_> = named.iter().filter(|(_, path)| inside(path)).collect();
    if !inside.is_empty() {
        let named: Vec<_> = inside.iter().map(|(name, at)| format!("{name} {at:?}")).collect();
        let reason = format!("it is for volumes only, and holds {}", named.join(" and "));
        reader.refuse("mount-root", &mounts.to_string_lossy(), &reason);
    }
}

/// Defaults that go together with each other, and with `max-size`.
fn volume_options(settings: &Settings, reader: &mut Reader) {
    if let Err(error) = settings.volumes.rules().for_new_volume(&Options::new()) {
        let given = reader.written_defaults();
        reader.refuse("default", &given, &error.to_string());
    }
}

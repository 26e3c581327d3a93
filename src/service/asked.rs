//! Whether a volume is what is asked for again.

use super::{ErrorKind, Service, Verb, VolumeError};
use crate::catalog::Entry;
use crate::volume::{Options, Record};

impl Service {
    /// Is the volume what these options ask for?
    pub(super) fn is_same(&self, record: &Record, given: &Options) -> bool {
        let Ok(asked) = self.rules.canonical(given) else { return false };
        asked.iter().all(|(name, value)| match name.as_str() {
            "type" => value == record.kind.as_str(),
            "image" => *value == record.location.to_string(),
            "size" if *value == format!("{}B", record.size.bytes()) => true,
            "fs" => Some(value.as_str()) == record.location.fs(),
            "pool" => Some(value.as_str()) == record.location.pool(),
            "namespace" => Some(value.as_str()) == record.location.namespace(),
            _ => record.options.get(name).map_or_else(|| is_default(name, value), |v| v == value),
        })
    }
}

/// Asking for what is so anyway is not asking for something else.
fn is_default(name: &str, value: &str) -> bool {
    matches!(
        (name, value),
        ("fs-type", "ext4")
            | ("read-only" | "discard" | "protected", "false")
            | ("on-remove", "trash")
            | ("trash-expiry", "604800s")
            | ("size", "10737418240B")
            | ("access", "shared")
            | ("group", "docker")
            | ("isolated", "true")
            | ("flatten", "never")
            | ("snapshot-schedule", "none")
            | ("snapshot-keep", "all")
            | ("snapshot-timezone", "UTC")
            | ("snapshot-catch-up", "once")
            | ("snapshot-jitter", "0s")
            | ("snapshot-consistency", "application")
    )
}

pub(super) fn differs(verb: Verb<'_>, entry: &Entry) -> VolumeError {
    let options = &entry.record.options;
    let words: Vec<String> =
        options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let cause = format!("a volume of that name exists with other options ({})", words.join(", "));
    verb.error(ErrorKind::AlreadyExists, cause)
        .advise("choose another name, ask for the same options, or leave them out")
}

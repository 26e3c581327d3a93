//! The options that snapshots of a volume have: typed, and what they have to do with each other.
//!
//! They are read apart from [`super::VolumeOptions`]: a schedule or time zone that only a newer
//! daemon knows must not keep a volume from being mounted.

use jiff::tz::TimeZone;

use super::super::{CatchUp, Consistency, Retention, Schedule, Timetable, duration, time_zone};
use super::{OptionError, OptionRules, Options};

/// What stands where a default is not wanted: no schedule.
pub(super) const NO_SCHEDULE: &str = "none";

/// What stands where a default is not wanted: nothing is given up.
pub(super) const KEEP_ALL: &str = "all";

/// What can be said of a volume's schedule after it was created.
const OF_SNAPSHOTS: [&str; 6] = [
    "snapshot-schedule",
    "snapshot-keep",
    "snapshot-timezone",
    "snapshot-catch-up",
    "snapshot-jitter",
    "snapshot-consistency",
];

/// Options that mean nothing where there is no schedule.
const OF_SCHEDULE: [&str; 4] =
    ["snapshot-keep", "snapshot-timezone", "snapshot-catch-up", "snapshot-jitter"];

/// When and how a volume's snapshots are made, and which of them are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// When they are due; `None`: they are made by hand only.
    pub timetable: Option<Timetable>,
    /// Which of the schedule's snapshots are kept; `None`: all.
    pub keep: Option<Retention>,
    /// The time zone of schedule and retention.
    pub zone: TimeZone,
    /// What a snapshot is to promise, where nobody asks for something else.
    pub consistency: Consistency,
}

impl SnapshotOptions {
    /// Types canonical options.
    ///
    /// # Errors
    /// A value that only a newer daemon knows.
    pub fn from_canonical(options: &Options) -> Result<Self, OptionError> {
        let zone = read(options, "snapshot-timezone", time_zone::read)?.unwrap_or(TimeZone::UTC);
        let schedule = read(options, "snapshot-schedule", |text| match text {
            NO_SCHEDULE => Ok(None),
            text => Schedule::parse(text, &zone).map(Some).map_err(|error| error.to_string()),
        })?;
        let keep = read(options, "snapshot-keep", |text| match text {
            KEEP_ALL => Ok(None),
            text => text.parse::<Retention>().map(Some).map_err(|error| error.to_string()),
        })?;
        let catch_up = read(options, "snapshot-catch-up", str::parse::<CatchUp>)?;
        let jitter = read(options, "snapshot-jitter", |text| {
            duration::read(text).ok_or_else(|| "a length of time is expected".to_owned())
        })?;
        let timetable = schedule.flatten().map(|schedule| Timetable {
            schedule,
            catch_up: catch_up.unwrap_or_default(),
            jitter: jitter.unwrap_or_default(),
        });
        let consistency = read(options, "snapshot-consistency", str::parse)?.unwrap_or_default();
        Ok(Self { timetable, keep: keep.flatten(), zone, consistency })
    }
}

impl OptionRules {
    /// The options of a volume after those of its schedule are changed as given: what is not given
    /// stays as it is, and `snapshot-schedule=none` ends the schedule with all that belongs to it.
    ///
    /// # Errors
    /// As [`OptionRules::for_new_volume`], and for options that are not of a schedule.
    pub fn rescheduled(&self, options: &Options, given: &Options) -> Result<Options, OptionError> {
        let given = self.canonical(given)?;
        if let Some(name) = given.keys().find(|name| !OF_SNAPSHOTS.contains(&name.as_str())) {
            return Err(OptionError::Conflict(format!("{name} is no option of a schedule")));
        }
        let mut changed = options.clone();
        changed.extend(given.clone());
        check_given(&changed)?;
        settle(&mut changed, &given)?;
        SnapshotOptions::from_canonical(&changed)?;
        Ok(changed)
    }
}

fn read<T>(
    options: &Options,
    name: &'static str,
    of: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, OptionError> {
    let Some(value) = options.get(name) else { return Ok(None) };
    let refused = |reason| OptionError::Value { name, value: value.clone(), reason };
    of(value).map(Some).map_err(refused)
}

/// Do the options of a volume say when snapshots are due?
#[must_use]
pub fn is_scheduled(options: &Options) -> bool {
    options.get("snapshot-schedule").is_some_and(|value| value != NO_SCHEDULE)
}

/// Checks given options, before defaults are filled in.
pub(super) fn check_given(options: &Options) -> Result<(), OptionError> {
    let read_only = options.get("read-only").is_some_and(|value| value == "true");
    if read_only && is_scheduled(options) {
        return Err(OptionError::Conflict(
            "snapshot-schedule does not go together with read-only: nothing changes between two \
             snapshots of what is never written"
                .to_owned(),
        ));
    }
    if read_only && options.contains_key("keep-files") {
        return Err(OptionError::Conflict(
            "keep-files does not go together with read-only: it removes files".to_owned(),
        ));
    }
    Ok(())
}

/// After defaults were filled in: without a schedule, what belongs to one is a misunderstanding
/// where it was given, and passed over where it is a default.
pub(super) fn settle(options: &mut Options, given: &Options) -> Result<(), OptionError> {
    if is_scheduled(options) {
        return Ok(());
    }
    if let Some(name) = OF_SCHEDULE.iter().find(|name| given.contains_key(**name)) {
        return Err(OptionError::Conflict(format!(
            "{name} is about snapshots that a schedule makes, and there is none: give \
             snapshot-schedule= as well"
        )));
    }
    options.retain(|name, _| !OF_SCHEDULE.contains(&name.as_str()));
    Ok(())
}

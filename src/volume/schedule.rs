//! When a volume's snapshots are due: `0 */6 * * *`, `@daily`, `@every 15m`, in a time zone.
//!
//! Due times are a pure function of the schedule and its time zone, in whole seconds: every host
//! computes the same ones, and a snapshot is named for the one that it serves.
//!
//! * `@every D` counts from the start of 1970 in UTC, not from when somebody began to.
//! * Where clocks are put forward or back, a due time that names its hours fires exactly once: one
//!   that does not exist at the first instant after the gap, together with others of that gap; one
//!   that exists twice at the first of the two. A schedule for every hour follows elapsed time
//!   instead, so that it leaves no gap and makes no pause: `*/5 * * * *` is 5 minutes apart on such
//!   a day too.
//! * A schedule that can never fire, such as for 30 February, is refused.

mod calendar;
mod due;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::duration;
use calendar::Calendar;

pub use due::{CatchUp, Due, Timetable};

/// The longest distance that `@every` takes.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the words stand for, in cron's fields.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A schedule that cannot be used; the text says why, and what can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write minute, hour, day of the month, month and day of the week, such as '0 */6 * * *', \
     or @every 15m, @hourly, @daily, @weekly, @monthly or @yearly"
)]
pub struct ScheduleError(String);

/// When snapshots are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// As it was written, with one space between words.
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Seconds between due times.
    Every(i64),
    Calendar(Box<Calendar>),
}

impl Schedule {
    /// Reads a schedule whose hours and days are those of `zone`.
    ///
    /// # Errors
    /// It cannot be read, or never fires.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(distance) = text.strip_prefix("@every ") {
            let seconds = distance_of(distance)?;
            let text = format!("@every {}", duration::print(seconds));
            return Ok(Self { text, rule: Rule::Every(seconds.as_secs().cast_signed()) });
        }
        let fields = match NICKNAMES.iter().find(|(word, _)| *word == text) {
            Some((_, fields)) => *fields,
            None if text.contains('@') => {
                return Err(ScheduleError(format!("there is no schedule {text:?}")));
            }
            None => &text,
        };
        let calendar = Calendar::parse(fields, zone.clone()).map_err(ScheduleError)?;
        Ok(Self { rule: Rule::Calendar(Box::new(calendar)), text })
    }

    /// The first due time after that one. `None` only at the end of all that can be counted.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(seconds) => {
                Timestamp::from_second(last_step(time, *seconds).checked_add(*seconds)?).ok()
            }
            Rule::Calendar(calendar) => calendar.next_after(time),
        }
    }

    /// The last due time that is not after that one.
    #[must_use]
    pub fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(seconds) => Timestamp::from_second(last_step(time, *seconds)).ok(),
            Rule::Calendar(calendar) => calendar.last_until(time),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The last multiple of `seconds` that is not after that time.
fn last_step(time: Timestamp, seconds: i64) -> i64 {
    let early = i64::from(time.subsec_nanosecond() < 0);
    (time.as_second() - early).div_euclid(seconds) * seconds
}

fn distance_of(text: &str) -> Result<Duration, ScheduleError> {
    let refused = |why: &str| Err(ScheduleError(format!("@every {text}: {why}")));
    match duration::read(text) {
        None => refused("a length of time is expected, such as 15m, 1h30m or 7d"),
        Some(distance) if distance < Duration::from_secs(1) => refused("at least 1s is needed"),
        Some(distance) if distance.subsec_nanos() > 0 => refused("whole seconds are expected"),
        Some(distance) if distance > LONGEST => refused("at most 366d are possible"),
        Some(distance) => Ok(distance),
    }
}

#[cfg(test)]
mod tests;

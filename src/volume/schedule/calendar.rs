//! Due times by the calendar of a time zone: cron's five fields.
//!
//! croner knows the fields and finds wall clock times. Which instant such a time is, where clocks
//! are put forward or back, is decided here (see the module above): croner fires `30 2,14 * * *`
//! twice on one of these days, and not at all at 2 on the other.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Every schedule that fires at all does so in the 400 years after which the calendar repeats.
const FROM: DateTime = jiff::civil::datetime(2000, 1, 1, 0, 0, 0, 0);

/// Cron's fields in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// It fires in every hour, and so by elapsed time.
    every_hour: bool,
}

impl Calendar {
    /// Reads five fields; the error says what is wrong with them.
    pub(super) fn parse(fields: &str, zone: TimeZone) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let count = fields.split(' ').filter(|field| !field.is_empty()).count();
        if count != 5 {
            return Err(format!("a schedule has 5 fields, and {fields:?} has {count}"));
        }
        let cron = parser.build().parse(fields).map_err(|e| format!("{fields:?}: {e}"))?;
        if cron.find_next_occurrence(&FROM, true).is_err() {
            return Err(format!("{fields:?} never fires: no year has such a day"));
        }
        let every_hour = cron.pattern.hours.values().len() == 24;
        Ok(Self { cron, zone, every_hour })
    }

    pub(super) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            let time = time.to_zoned(self.zone.clone());
            return Some(self.cron.find_next_occurrence(&time, false).ok()?.timestamp());
        }
        self.first_after(self.wall(time), time)
    }

    pub(super) fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            let time = time.to_zoned(self.zone.clone());
            return Some(self.cron.find_previous_occurrence(&time, true).ok()?.timestamp());
        }
        let wall = self.wall(time);
        let mut last = self.cron.find_previous_occurrence(&wall, true).ok();
        // When clocks were put back, later wall clock times may be over already.
        let mut next = self.cron.find_next_occurrence(&wall, false).ok()?;
        while self.instant(next)? <= time {
            last = Some(next);
            next = self.cron.find_next_occurrence(&next, false).ok()?;
        }
        self.instant(last?)
    }

    /// The first due time after `time`, at a wall clock time after `wall`, which is that of `time`.
    fn first_after(&self, mut wall: DateTime, time: Timestamp) -> Option<Timestamp> {
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            // When clocks were put back, it may be over already.
            let due = self.instant(wall)?;
            if due > time {
                return Some(due);
            }
        }
    }

    /// The wall clock time at an instant, in whole seconds.
    fn wall(&self, time: Timestamp) -> DateTime {
        let early = i64::from(time.subsec_nanosecond() < 0);
        let second = Timestamp::from_second(time.as_second() - early).unwrap_or(time);
        self.zone.to_datetime(second)
    }

    /// The instant at which a wall clock time is due. A later time is never due earlier.
    fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                let inside = before.to_timestamp(wall).ok()? + SignedDuration::from_secs(1);
                Some(self.zone.preceding(inside).next()?.timestamp())
            }
        }
    }
}

//! Which of a schedule's snapshots are kept: `latest=3,hourly=24,daily=7,weekly=4,monthly=12`.
//!
//! As restic and borg read it: `latest=N` keeps the newest N; `hourly=N` the newest of each of the
//! last N hours that have one, and so for days, ISO weeks, months and years, in the volume's time
//! zone. What one word keeps, no other removes. An hour that clocks show twice is two hours.
//!
//! A retention that keeps nothing is refused, and so is a word that does: it would remove the
//! snapshot that was just made. What is not here: what is protected, was made by hand or is needed
//! by others is never asked about.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The most of one kind that can be kept.
const MOST: u32 = 100_000;

/// What counts as one of a kind, from the finest to the coarsest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Latest,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

const UNITS: [(Unit, &str); 6] = [
    (Unit::Latest, "latest"),
    (Unit::Hourly, "hourly"),
    (Unit::Daily, "daily"),
    (Unit::Weekly, "weekly"),
    (Unit::Monthly, "monthly"),
    (Unit::Yearly, "yearly"),
];

/// What is kept; never nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How many of each unit, in the order of the units, and none twice.
    keep: Vec<(Unit, u32)>,
}

/// A retention that cannot be used; the text says why, and what can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write how many to keep, such as latest=3,hourly=24,daily=7,weekly=4,monthly=12,yearly=2"
)]
pub struct RetentionError(String);

impl Retention {
    /// Which of these snapshots are given up: their places in `times`, the oldest first.
    ///
    /// Of two with the same time the later in `times` is the newer.
    #[must_use]
    pub fn remove(&self, times: &[Timestamp], zone: &TimeZone) -> Vec<usize> {
        let mut places: Vec<usize> = (0..times.len()).collect();
        places.sort_by_key(|place| (times[*place], *place));
        let walls: Vec<Zoned> =
            places.iter().rev().map(|place| times[*place].to_zoned(zone.clone())).collect();
        let mut kept = HashSet::new();
        for (unit, count) in &self.keep {
            kept.extend(newest_of_each(&walls, *unit, *count));
        }
        let newest = places.len().saturating_sub(1);
        let is_given_up = |(rank, _): &(usize, &usize)| !kept.contains(&(newest - rank));
        places.iter().enumerate().filter(is_given_up).map(|(_, place)| *place).collect()
    }
}

/// Of `walls`, the newest first, the places of the newest in each of the last `count` units.
fn newest_of_each(walls: &[Zoned], unit: Unit, count: u32) -> Vec<usize> {
    let mut seen = HashSet::new();
    let is_newest = |place: &usize| seen.insert(unit.of(&walls[*place], *place));
    (0..walls.len()).filter(is_newest).take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
}

impl Unit {
    /// What is equal for all snapshots of one such unit, and for no others.
    fn of(self, wall: &Zoned, place: usize) -> (i64, i64, i64) {
        let (year, month, day) = (wall.year().into(), wall.month().into(), wall.day().into());
        match self {
            Self::Latest => (i64::try_from(place).unwrap_or(i64::MAX), 0, 0),
            Self::Hourly => (
                year * 10_000 + month * 100 + day,
                wall.hour().into(),
                wall.offset().seconds().into(),
            ),
            Self::Daily => (year, month, day),
            Self::Weekly => {
                let week = wall.date().iso_week_date();
                (week.year().into(), week.week().into(), 0)
            }
            Self::Monthly => (year, month, 0),
            Self::Yearly => (year, 0, 0),
        }
    }
}

impl FromStr for Retention {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let mut keep: Vec<(Unit, u32)> = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (unit, count) = read_word(word).map_err(RetentionError)?;
            if keep.iter().any(|(other, _)| *other == unit) {
                return Err(RetentionError(format!("{word:?} says again what was said before")));
            }
            keep.push((unit, count));
        }
        if keep.is_empty() {
            return Err(RetentionError("that keeps nothing".to_owned()));
        }
        keep.sort_unstable();
        Ok(Self { keep })
    }
}

fn read_word(word: &str) -> Result<(Unit, u32), String> {
    let (name, count) = word.split_once('=').ok_or_else(|| format!("{word:?} has no number"))?;
    let known = UNITS.iter().find(|(_, known)| *known == name.trim());
    let (unit, _) = known.ok_or_else(|| format!("nothing is called {name:?}"))?;
    match count.trim().parse::<u32>() {
        Ok(0) => Err(format!("{word:?} keeps nothing: leave it out")),
        Ok(count) if count <= MOST => Ok((*unit, count)),
        _ => Err(format!("{word:?}: a whole number from 1 to {MOST} is expected")),
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (unit, count)) in self.keep.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let name = UNITS.iter().find(|(known, _)| known == unit).map_or("", |(_, name)| *name);
            write!(f, "{comma}{name}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

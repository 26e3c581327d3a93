//! Snapshots on a line of time: how old the newest is, and where there are gaps.
//!
//! The line is one of ages, from a year ago to now, and the same for all volumes, so that they can be
//! compared. It is narrower the older it gets, as retention is: an hour of today takes as much of it as
//! a month of last spring.

use jiff::Timestamp;

use super::html::{Element, el};
use super::words::{ago, count};
use crate::volume::SnapshotBrief;

/// The age up to which the line is nearly even, in seconds.
const EVEN: f64 = 600.0;
/// The age at its left end.
const YEAR: f64 = 365.0 * 86_400.0;

/// The ages that have a mark, in seconds, and what it says.
pub(super) const MARKS: [(f64, &str); 4] =
    [(30.0 * 86_400.0, "30 d"), (7.0 * 86_400.0, "7 d"), (86_400.0, "1 d"), (3600.0, "1 h")];

/// A snapshot on the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    /// A schedule made it, and not a person.
    pub(super) scheduled: bool,
}

impl Point {
    /// Of what the catalog knows.
    pub(super) fn of(brief: &SnapshotBrief) -> Self {
        Self { at: brief.created, scheduled: brief.name.due().is_some() }
    }
}

/// The line. It is a picture for those who see it, and a sentence for the others.
pub(super) fn line(points: &[Point], all: usize, now: Timestamp) -> Element {
    let said = match points.iter().map(|point| point.at).max() {
        Some(newest) => format!("{}, the newest {}", count(all, "snapshot"), ago(newest, now)),
        None => "no snapshot".to_owned(),
    };
    let marks = MARKS.iter().map(|(age, _)| 100.0 * (1.0 - place(*age)));
    let made = |scheduled: bool| {
        let points = points.iter().filter(move |point| point.scheduled == scheduled);
        points.map(move |point| position(point.at, now))
    };
    el("svg")
        .class("line")
        .attr("viewBox", "0 0 100 20")
        .attr("preserveAspectRatio", "none")
        .attr("role", "img")
        .attr("aria-label", said)
        .add(el("path").class("marks").attr("d", strokes(marks, "0v20")))
        .add(el("path").class("base").attr("d", "M0 20H100"))
        .add(el("path").class("scheduled").attr("d", strokes(made(true), "8v12")))
        .add(el("path").class("by-hand").attr("d", strokes(made(false), "2v18")))
}

/// What the marks mean, to stand below or above lines of the same width.
pub(super) fn scale() -> Element {
    let mut scale = el("span").class("scale").attr("aria-hidden", "true");
    for ((_, text), class) in MARKS.iter().zip(["month", "week", "day", "hour"]) {
        scale = scale.add(el("span").class(class).text(text));
    }
    scale.add(el("span").class("now").text("now"))
}

/// The same stroke, downwards from a height, at several places.
fn strokes(places: impl Iterator<Item = f64>, stroke: &str) -> String {
    places.map(|x| format!("M{x:.1} {stroke}")).collect()
}

/// Where a time stands, from 0 to 100.
fn position(at: Timestamp, now: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a few years")]
    let age = (now.as_second() - at.as_second()) as f64;
    100.0 * (1.0 - place(age))
}

/// How far an age is from the right end: 0 is now, 1 is a year.
fn place(age: f64) -> f64 {
    let age = age.clamp(0.0, YEAR);
    (1.0 + age / EVEN).ln() / (1.0 + YEAR / EVEN).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_stands_further_left_and_nothing_stands_outside() {
        let places: Vec<f64> =
            [-5.0, 0.0, 60.0, 3600.0, 86_400.0, YEAR, 9.0 * YEAR].map(place).to_vec();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!((places[0], places[1], places[6]), (0.0, 0.0, 1.0));
    }

    /// The labels' places stand in the style sheet.
    #[test]
    fn the_scale_of_the_style_sheet_is_the_one_of_the_line() {
        let css = include_str!("page.css");
        for ((age, _), class) in MARKS.iter().zip(["month", "week", "day", "hour"]) {
            let rule = format!(".scale .{class} {{ left: {:.1}%; }}", 100.0 * (1.0 - place(*age)));
            assert!(css.contains(&rule), "{rule}");
        }
    }
}

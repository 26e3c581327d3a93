//! Times, as people say them.

use jiff::Timestamp;

use super::html::{Element, el};
use crate::cli::table::moment;

/// Units with their seconds; the largest of which there are two is used.
const UNITS: [(&str, i64); 7] = [
    ("years", 365 * 86_400),
    ("months", 30 * 86_400),
    ("weeks", 7 * 86_400),
    ("days", 86_400),
    ("h", 3600),
    ("min", 60),
    ("s", 1),
];

/// `12 min ago`, `in 3 h`, `just now`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    match seconds {
        -4..=4 => "just now".to_owned(),
        5.. => format!("{} ago", length(seconds)),
        _ => format!("in {}", length(-seconds)),
    }
}

/// `90 s`, `12 min`, `36 h`, `3 days`: two of the unit, at least.
pub(super) fn length(seconds: i64) -> String {
    let fits = |(_, unit): &&(&str, i64)| seconds >= 2 * unit;
    let (name, unit) = UNITS.iter().find(fits).unwrap_or(&UNITS[UNITS.len() - 1]);
    format!("{} {name}", seconds / unit)
}

/// The same as an element that has the exact time.
pub(super) fn when(at: Timestamp, now: Timestamp) -> Element {
    el("time").attr("datetime", format!("{at:.0}")).attr("title", moment(at)).text(ago(at, now))
}

/// `1 volume`, `3 volumes`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_unit_that_fits() {
        let now: Timestamp = "2026-11-29T02:00:00Z".parse().expect("a time");
        for (seconds, said) in [
            (0, "just now"),
            (30, "30 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (86_400, "24 h ago"),
            (3 * 86_400, "3 days ago"),
            (40 * 86_400, "5 weeks ago"),
            (90 * 86_400, "3 months ago"),
            (-180, "in 3 min"),
        ] {
            let at = now.checked_sub(jiff::SignedDuration::from_secs(seconds)).expect("a time");
            assert_eq!(ago(at, now), said);
        }
    }
}

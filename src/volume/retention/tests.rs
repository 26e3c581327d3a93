use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::volume::time_zone;

fn retention(text: &str) -> Retention {
    text.parse().expect(text)
}

fn zone(name: &str) -> TimeZone {
    time_zone::read(name).expect("a zone")
}

/// Which of the times are kept, in the order in which they are given.
fn kept<'a>(policy: &str, zone_name: &str, times: &[&'a str]) -> Vec<&'a str> {
    let parsed: Vec<Timestamp> = times.iter().map(|time| time.parse().expect("a time")).collect();
    let removed = retention(policy).remove(&parsed, &zone(zone_name));
    let is_kept = |(place, _): &(usize, &&'a str)| !removed.contains(place);
    times.iter().enumerate().filter(is_kept).map(|(_, time)| *time).collect()
}

#[test]
fn the_newest_of_each_of_the_last_units_that_have_one_is_kept() {
    let times = [
        "2024-12-30T10:00:00Z", // Monday of the first ISO week of 2025
        "2025-01-05T10:00:00Z",
        "2025-11-30T22:00:00Z",
        "2026-11-24T23:00:00Z",
        "2026-11-25T09:10:00Z",
        "2026-11-25T09:50:00Z",
        "2026-11-26T11:00:00Z",
        "2026-11-26T11:30:00Z",
    ];
    for (policy, expected) in [
        ("latest=1", &times[7..]),
        ("latest=3", &times[5..]),
        ("latest=100", &times[..]),
        ("hourly=1", &times[7..]),
        ("hourly=2", &[times[5], times[7]]),
        ("hourly=3", &[times[3], times[5], times[7]]),
        ("daily=3", &[times[3], times[5], times[7]]),
        ("daily=4", &[times[2], times[3], times[5], times[7]]),
        ("weekly=3", &[times[1], times[2], times[7]]),
        ("monthly=2", &[times[2], times[7]]),
        ("yearly=2", &[times[2], times[7]]),
        ("yearly=3", &[times[0], times[2], times[7]]),
        ("latest=2,yearly=2", &[times[2], times[6], times[7]]),
    ] {
        assert_eq!(kept(policy, "UTC", &times), expected, "{policy}");
    }
}

#[test]
fn days_are_those_of_the_time_zone() {
    let times = ["2026-11-25T22:30:00Z", "2026-11-25T23:30:00Z", "2026-11-26T22:30:00Z"];
    assert_eq!(kept("daily=2", "UTC", &times), times[1..]);
    assert_eq!(kept("daily=2", "Europe/Berlin", &times), [times[0], times[2]]);
}

#[test]
fn an_hour_that_clocks_show_twice_is_two() {
    let times = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
    assert_eq!(kept("hourly=2", "Europe/Berlin", &times), times);
}

#[test]
fn the_order_in_which_they_are_given_does_not_matter_but_for_equal_ones() {
    let times = ["2026-11-26T11:00:00Z", "2026-11-26T09:00:00Z", "2026-11-26T10:00:00Z"];
    assert_eq!(kept("latest=1", "UTC", &times), times[..1]);
    let parsed: Vec<Timestamp> = times.iter().map(|time| time.parse().expect("a time")).collect();
    assert_eq!(retention("latest=1").remove(&parsed, &TimeZone::UTC), [1, 2], "the oldest first");
    assert_eq!(retention("daily=1").remove(&[parsed[0]; 3], &TimeZone::UTC), [0, 1]);
    assert!(retention("daily=1").remove(&[], &TimeZone::UTC).is_empty());
}

#[test]
fn a_retention_is_printed_from_fine_to_coarse_and_read_again() {
    for (text, printed) in [
        ("latest=3,hourly=24,daily=7", "latest=3,hourly=24,daily=7"),
        ("yearly=2, latest=1,", "latest=1,yearly=2"),
        ("weekly=4,monthly=12", "weekly=4,monthly=12"),
    ] {
        assert_eq!(retention(text).to_string(), printed);
        assert_eq!(retention(printed), retention(text));
    }
}

#[test]
fn what_keeps_nothing_or_cannot_be_read_is_refused() {
    for (text, word) in [
        ("", "keeps nothing"),
        (",", "keeps nothing"),
        ("daily=0", "leave it out"),
        ("latest=1,daily=0", "leave it out"),
        ("dayly=7", "dayly"),
        ("Daily=7", "Daily"),
        ("daily", "no number"),
        ("daily=", "whole number"),
        ("daily=-1", "whole number"),
        ("daily=1.5", "whole number"),
        ("daily=99999999999", "whole number"),
        ("daily=7,daily=8", "again"),
    ] {
        let error = text.parse::<Retention>().expect_err(text).to_string();
        assert!(error.contains(word) && error.contains("hourly=24"), "{text:?}: {error}");
    }
}

/// What is kept, said another way: one is kept where a word finds fewer units newer than its own
/// than it counts, and nothing newer in its own.
fn reference(counts: &[(&str, u32)], times: &[Timestamp], zone: &TimeZone) -> Vec<usize> {
    let is_newer = |a: usize, b: usize| times[a] > times[b] || (times[a] == times[b] && a > b);
    let unit = |pattern: &str, place: usize| match pattern {
        "latest" => place.to_string(),
        pattern => times[place].to_zoned(zone.clone()).strftime(pattern).to_string(),
    };
    let keeps = |(pattern, count): &(&str, u32), place: usize| {
        let newer = (0..times.len()).filter(|other| is_newer(*other, place));
        let mut units: Vec<String> = newer.map(|other| unit(pattern, other)).collect();
        units.sort();
        units.dedup();
        !units.contains(&unit(pattern, place)) && units.len() < *count as usize
    };
    (0..times.len()).filter(|place| !counts.iter().any(|word| keeps(word, *place))).collect()
}

const PATTERNS: [&str; 6] = ["latest", "%Y-%m-%d %H %z", "%Y-%m-%d", "%G-W%V", "%Y-%m", "%Y"];

/// Snapshots in bursts: minutes, hours, days or months apart, some at the same time.
fn history() -> impl Strategy<Value = Vec<Timestamp>> {
    let step = prop_oneof![
        0_i64..2,
        0_i64..3600,
        (1_i64..48).prop_map(|hours| hours * 3600),
        0_i64..5_000_000,
        (0_i64..30).prop_map(|days| days * 86_400),
    ];
    (1_500_000_000_i64..1_900_000_000, prop::collection::vec(step, 0..20)).prop_map(
        |(start, steps)| {
            let start = Timestamp::from_second(start).expect("a time");
            let times = steps.into_iter().scan(start, |now, step| {
                *now += SignedDuration::from_secs(step);
                Some(*now)
            });
            times.collect()
        },
    )
}

/// As many as the promise names where tests repeat fully, and fewer otherwise: they take 6 s.
fn cases() -> u32 {
    match std::env::var("DOCKER_CEPH_REPEATS").as_deref() {
        Ok("full") => 10_000,
        _ => 1_000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_removed_is_what_the_reference_says(
        times in history().prop_shuffle(),
        counts in prop::collection::vec((0_usize..6, 1_u32..12), 1..5),
        zone_name in prop::sample::select(
            &["UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Pacific/Apia"][..]
        ),
    ) {
        let mut counts = counts;
        counts.sort_by_key(|(unit, _)| *unit);
        counts.dedup_by_key(|(unit, _)| *unit);
        let text: Vec<_> =
            counts.iter().map(|(unit, count)| format!("{}={count}", UNITS[*unit].1)).collect();
        let words: Vec<_> =
            counts.iter().map(|(unit, count)| (PATTERNS[*unit], *count)).collect();
        let zone = zone(zone_name);
        let mut removed = retention(&text.join(",")).remove(&times, &zone);
        let ordered: Vec<_> = removed.iter().map(|place| (times[*place], *place)).collect();
        prop_assert!(ordered.is_sorted());
        prop_assert!(times.is_empty() || removed.len() < times.len(), "nothing was kept");
        removed.sort_unstable();
        prop_assert_eq!(removed, reference(&words, &times, &zone));
    }
}

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::volume::{VolumeName, time_zone};

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn zone(name: &str) -> TimeZone {
    time_zone::read(name).expect("a zone")
}

fn schedule(text: &str, zone_name: &str) -> Schedule {
    Schedule::parse(text, &zone(zone_name)).expect(text)
}

/// The due times from then on, as many as are expected.
fn check(text: &str, zone_name: &str, after: &str, expected: &[&str]) {
    let schedule = schedule(text, zone_name);
    let mut now = time(after);
    for due in expected {
        let next = schedule.next_after(now).expect("a due time");
        assert_eq!(next, time(due), "{text} in {zone_name} after {now}");
        assert_eq!(schedule.last_until(next), Some(next), "{text} in {zone_name}");
        now = next;
    }
}

#[test]
fn fields_words_lists_ranges_and_steps_are_understood() {
    let after = "2026-11-26T11:20:30Z"; // a Thursday
    for (text, due) in [
        ("* * * * *", "2026-11-26T11:21:00Z"),
        ("0 */6 * * *", "2026-11-26T12:00:00Z"),
        ("5,35 8-10 * * *", "2026-11-27T08:05:00Z"),
        ("0 0 * * MON-FRI", "2026-11-27T00:00:00Z"),
        ("0 0 * * sun", "2026-11-29T00:00:00Z"),
        ("0 0 * * 7", "2026-11-29T00:00:00Z"),
        ("0 0 1 JAN,jul *", "2027-01-01T00:00:00Z"),
        ("0 0 13 * FRI", "2026-11-27T00:00:00Z"),
        ("0 0 L * *", "2026-11-30T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("10-40/15 11 * * *", "2026-11-26T11:25:00Z"),
        ("@hourly", "2026-11-26T12:00:00Z"),
        ("@daily", "2026-11-27T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@every 5s", "2026-11-26T11:20:35Z"),
        ("@every 90s", "2026-11-26T11:21:00Z"),
        ("@every 1d", "2026-11-27T00:00:00Z"),
    ] {
        check(text, "UTC", after, &[due]);
    }
}

#[test]
fn hours_are_those_of_the_time_zone() {
    check("@daily", "Asia/Kathmandu", "2026-11-26T11:00:00Z", &["2026-11-26T18:15:00Z"]);
    check("0 6 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", &["2026-07-01T04:00:00Z"]);
    check("0 6 * * *", "Europe/Berlin", "2026-12-01T00:00:00Z", &["2026-12-01T05:00:00Z"]);
}

#[test]
fn a_time_that_does_not_exist_is_due_once_at_the_end_of_the_gap() {
    let before = "2026-03-28T23:00:00Z";
    // In Berlin 2:00 is followed by 3:00, at 1:00 UTC.
    let expected = ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    check("30 2 * * *", "Europe/Berlin", before, &expected);
    check(
        "5,30 2 * * *",
        "Europe/Berlin",
        before,
        &["2026-03-29T01:00:00Z", "2026-03-30T00:05:00Z"],
    );
    check(
        "30 2,14 * * *",
        "Europe/Berlin",
        before,
        &["2026-03-29T01:00:00Z", "2026-03-29T12:30:00Z"],
    );
    check("0 3 * * *", "Europe/Berlin", before, &["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"]);
    // The rule of a year that no table lists.
    check("30 2 26 3 *", "Europe/Berlin", "2090-01-01T00:00:00Z", &["2090-03-26T01:00:00Z"]);
}

#[test]
fn a_time_that_exists_twice_is_due_once_at_the_first() {
    // In Berlin 3:00 is followed by 2:00, at 1:00 UTC.
    let before = "2026-10-24T23:00:00Z";
    check("30 2 * * *", "Europe/Berlin", before, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    check(
        "30 2,14 * * *",
        "Europe/Berlin",
        before,
        &["2026-10-25T00:30:00Z", "2026-10-25T13:30:00Z"],
    );
    check(
        "0 */3 * * *",
        "Europe/Berlin",
        before,
        &["2026-10-25T02:00:00Z", "2026-10-25T05:00:00Z"],
    );
    let again = schedule("15,45 2 * * *", "Europe/Berlin").last_until(time("2026-10-25T01:20:00Z"));
    assert_eq!(again, Some(time("2026-10-25T00:45:00Z")));
}

#[test]
fn what_is_due_in_every_hour_follows_elapsed_time() {
    let hours = |from: &str| -> Vec<String> {
        (1..=4).map(|hour| (time(from) + SignedDuration::from_hours(hour)).to_string()).collect()
    };
    for from in ["2026-10-24T23:00:00Z", "2026-03-28T23:00:00Z"] {
        let expected = hours(from);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check("@hourly", "Europe/Berlin", from, &expected);
    }
}

#[test]
fn every_counts_from_1970_and_so_alike_on_every_host() {
    let every = schedule("@every 7m", "UTC");
    for after in ["2026-11-26T11:20:30Z", "2026-11-26T11:20:30.9Z", "1969-12-31T23:59:59.5Z"] {
        let next = every.next_after(time(after)).expect("a due time");
        assert_eq!(next.as_second() % 420, 0);
        assert!(next > time(after) && next <= time(after) + SignedDuration::from_mins(7));
        let last = every.last_until(time(after)).expect("a due time");
        assert_eq!(last + SignedDuration::from_mins(7), next, "{after}");
    }
}

#[test]
fn schedules_that_never_fire_or_cannot_be_read_are_refused() {
    for (text, word) in [
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 * *", "has 4"),
        ("0 0 0 * * *", "has 6"),
        ("", "has 0"),
        ("60 * * * *", "60 * * * *"),
        ("*/0 * * * *", "*/0"),
        ("5-1 * * * *", "5-1"),
        ("0 0 * MOO *", "MOO"),
        ("@reboot", "@reboot"),
        ("@every", "@every"),
        ("@every soon", "length of time"),
        ("@every 0s", "at least 1s"),
        ("@every 500ms", "at least 1s"),
        ("@every 1500ms", "whole seconds"),
        ("@every 400d", "at most 366d"),
        ("@every -5m", "length of time"),
    ] {
        let error = Schedule::parse(text, &TimeZone::UTC).expect_err(text).to_string();
        assert!(error.contains(word) && error.contains("@every 15m"), "{text:?}: {error}");
    }
}

#[test]
fn a_schedule_is_printed_as_it_is_read() {
    for (text, printed) in [
        ("  0   */6 * * * ", "0 */6 * * *"),
        ("@every 90s", "@every 1m30s"),
        ("@every  1d", "@every 24h"),
        ("@hourly", "@hourly"),
    ] {
        let read = schedule(text, "UTC");
        assert_eq!(read.to_string(), printed);
        assert_eq!(schedule(printed, "UTC"), read);
    }
}

/// Cron's fields as plain numbers; an empty one is `*`.
#[derive(Debug, Clone)]
struct Fields {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    days: Vec<i8>,
    weekdays: Vec<i8>,
}

impl Fields {
    fn text(&self) -> String {
        let field = |numbers: &[i8]| match numbers {
            [] => "*".to_owned(),
            numbers => numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(","),
        };
        let Self { minutes, hours, days, weekdays } = self;
        format!("{} {} {} * {}", field(minutes), field(hours), field(days), field(weekdays))
    }

    fn matches(&self, wall: DateTime) -> bool {
        let fits = |field: &[i8], number| field.is_empty() || field.contains(&number);
        let weekday = wall.weekday().to_sunday_zero_offset();
        let day = match (&self.days[..], &self.weekdays[..]) {
            ([], weekdays) => fits(weekdays, weekday),
            (days, []) => fits(days, wall.day()),
            (days, weekdays) => days.contains(&wall.day()) || weekdays.contains(&weekday),
        };
        day && fits(&self.minutes, wall.minute()) && fits(&self.hours, wall.hour())
    }

    /// Minute by minute: a wall clock time is due when clocks show it or a later one for the first
    /// time; one of every hour whenever clocks show it.
    fn due_times(&self, zone: &TimeZone, from: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
        let every_hour = self.hours.is_empty() || self.hours.len() == 24;
        let mut due = BTreeSet::new();
        let mut shown = zone.to_datetime(from - 2.hours());
        let mut now = from - 2.hours();
        while now <= until {
            let wall = zone.to_datetime(now);
            if every_hour {
                if self.matches(wall) {
                    due.insert(now);
                }
            } else {
                while shown < wall {
                    shown += 1.minute();
                    if self.matches(shown) {
                        due.insert(now);
                    }
                }
            }
            now += 1.minute();
        }
        due.into_iter().filter(|due| *due > from).collect()
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let some =
        |from: i8, to: i8, most: usize| subsequence((from..=to).collect::<Vec<_>>(), 0..=most);
    let hours = prop_oneof![some(0, 23, 4), some(0, 4, 5), some(0, 23, 24)];
    (some(0, 59, 4), hours, some(1, 31, 10), some(0, 6, 3))
        .prop_map(|(minutes, hours, days, weekdays)| Fields { minutes, hours, days, weekdays })
}

/// Zones whose clocks change at midnight, by half an hour, southward, and not at all.
const ZONES: [&str; 9] = [
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Asia/Kathmandu",
    "UTC",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn due_times_are_those_of_a_clock_that_is_watched(
        fields in fields(),
        zone_name in prop::sample::select(&ZONES[..]),
        year in 2020_i64..2100,
        change in 0_usize..2,
        hours_before in 0_i64..48,
        second in 0_i64..60,
    ) {
        let zone = zone(zone_name);
        let new_year = Timestamp::from_second((year - 1970) * 31_556_952).expect("a time");
        let turn = zone.following(new_year).nth(change).map_or(new_year, |turn| turn.timestamp());
        let minute = Timestamp::from_second(turn.as_second() / 60 * 60).expect("a time");
        let (from, until) = (minute - hours_before.hours(), minute + 30.hours());
        let expected: Vec<_> = fields.due_times(&zone, from, until).into_iter().collect();
        let schedule = Schedule::parse(&fields.text(), &zone).expect("a schedule");
        let mut found = Vec::new();
        let mut now = from;
        while let Some(due) = schedule.next_after(now).filter(|due| *due <= until) {
            prop_assert!(due > now);
            found.push(due);
            now = due;
        }
        prop_assert_eq!(&found, &expected, "{} in {}", fields.text(), zone_name);
        for pair in expected.windows(2) {
            let between = (pair[0] + second.seconds()).min(pair[1] - 1.seconds());
            prop_assert_eq!(schedule.last_until(between), Some(pair[0]), "until {}", between);
            prop_assert_eq!(schedule.next_after(between), Some(pair[1]), "after {}", between);
        }
    }
}

fn timetable(text: &str, catch_up: CatchUp, jitter: u64) -> Timetable {
    Timetable { schedule: schedule(text, "UTC"), catch_up, jitter: Duration::from_secs(jitter) }
}

fn volume() -> VolumeName {
    "db".parse().expect("a name")
}

#[test]
fn what_was_missed_is_made_up_for_once_or_skipped() {
    let since = "2026-11-20T00:00:00Z";
    for (catch_up, last, now, serve) in [
        // In time, and done.
        (CatchUp::Once, Some("10:00:00"), "11:00:00.2", Some("11:00:00")),
        (CatchUp::Skip, Some("10:00:00"), "11:00:00.2", Some("11:00:00")),
        (CatchUp::Once, Some("11:00:00"), "11:00:01", None),
        // Down for hours.
        (CatchUp::Once, Some("03:00:00"), "11:40:00", Some("11:00:00")),
        (CatchUp::Skip, Some("03:00:00"), "11:40:00", None),
        (CatchUp::Skip, Some("03:00:00"), "11:01:00", Some("11:00:00")),
        (CatchUp::Skip, Some("03:00:00"), "11:01:01", None),
        // Never served yet.
        (CatchUp::Once, None, "11:40:00", Some("11:00:00")),
        (CatchUp::Skip, None, "11:40:00", None),
    ] {
        let day = |clock: &str| time(&format!("2026-11-26T{clock}Z"));
        let table = timetable("@hourly", catch_up, 0);
        let due = table.due(&volume(), last.map(day), time(since), day(now));
        assert_eq!(due.serve, serve.map(day), "{catch_up}, {last:?}, {now}");
        let next = Some(if day(now) < day("11:00:00") { day("11:00:00") } else { day("12:00:00") });
        assert_eq!((due.next, due.wake), (next, next), "{catch_up}, {last:?}, {now}");
    }
}

#[test]
fn nothing_was_missed_before_the_schedule_came_into_force() {
    let table = timetable("@hourly", CatchUp::Once, 0);
    let since = time("2026-11-26T11:10:00Z");
    let due = table.due(&volume(), None, since, time("2026-11-26T11:40:00Z"));
    assert_eq!(due.serve, None);
    assert_eq!(due.next, Some(time("2026-11-26T12:00:00Z")));
}

#[test]
fn a_clock_that_is_put_back_a_little_waits_and_a_wrong_one_is_forgotten() {
    let table = timetable("@every 5s", CatchUp::Once, 0);
    let since = time("2026-11-20T00:00:00Z");
    let last = time("2026-11-26T11:00:10Z");
    let due = table.due(&volume(), Some(last), since, time("2026-11-26T11:00:03Z"));
    assert_eq!((due.serve, due.wake), (None, Some(time("2026-11-26T11:00:15Z"))));
    // A clock that said 2038 has served a due time of that year.
    let last = time("2038-01-19T03:14:05Z");
    let due = table.due(&volume(), Some(last), since, time("2026-11-26T11:00:05.5Z"));
    assert_eq!(due.serve, Some(time("2026-11-26T11:00:05Z")));
    assert_eq!(due.wake, Some(time("2026-11-26T11:00:10Z")));
    // Then nothing is made up for: what was served is not known.
    let hourly = timetable("@hourly", CatchUp::Once, 0);
    let due = hourly.due(&volume(), Some(last), since, time("2026-11-26T11:40:00Z"));
    assert_eq!((due.serve, due.wake), (None, Some(time("2026-11-26T12:00:00Z"))));
}

#[test]
fn jitter_is_the_same_everywhere_and_ends_before_the_next_due_time() {
    let table = timetable("@every 10m", CatchUp::Once, 3600);
    let since = time("2026-11-20T00:00:00Z");
    let mut starts = BTreeSet::new();
    let mut due = time("2026-11-26T11:00:00Z");
    for _ in 0..100 {
        let start = table.start(&volume(), due);
        assert_eq!(start, table.start(&volume(), due));
        let next = table.schedule.next_after(due).expect("a due time");
        assert!(start >= due && start < next);
        starts.insert(due.duration_until(start).as_secs() / 60);
        let before = table.due(&volume(), Some(due - 10.minutes()), since, start - 1.nanoseconds());
        let served = (start > due).then_some(start);
        assert_eq!((before.serve, before.wake), (None, served.or(before.wake)));
        let now = table.due(&volume(), Some(due - 10.minutes()), since, start);
        assert_eq!((now.serve, now.next), (Some(due), Some(next)));
        due = next;
    }
    assert_eq!(starts.len(), 10, "{starts:?}");
    // This number is in every version, or two versions would disagree.
    let first = table.start(&volume(), time("2026-11-26T11:00:00Z"));
    assert_eq!(first.to_string(), "2026-11-26T11:00:19.985Z");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// A daemon that always does what it is told, under a clock that jumps.
    #[test]
    fn no_due_time_is_served_twice_and_no_clock_makes_it_spin(
        jumps in prop::collection::vec(-1800_i64..7200, 1..40),
        jitter in 0_u64..900,
        skip in any::<bool>(),
    ) {
        let catch_up = if skip { CatchUp::Skip } else { CatchUp::Once };
        let table = timetable("*/15 * * * *", catch_up, jitter);
        let since = time("2026-11-26T00:00:00Z");
        let (mut now, mut last, mut served) = (since, None, Vec::new());
        for jump in jumps {
            now += SignedDuration::from_secs(jump);
            for _ in 0..3 {
                let due = table.due(&volume(), last, since, now);
                if let Some(due) = due.serve {
                    prop_assert!(due <= now && table.start(&volume(), due) <= now);
                    served.push(due);
                    last = last.max(Some(due));
                }
                let again = table.due(&volume(), last, since, now);
                prop_assert_eq!(again.serve, None, "served a due time and was told another");
                let wake = again.wake.expect("a time");
                prop_assert!(wake > now);
                now = wake;
            }
        }
        let mut once = served.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), served.len());
    }
}

/// Every daemon does this for every volume, so it may cost next to nothing: 11 ms in a release.
#[test]
fn the_next_due_times_of_5000_volumes_are_cheap() {
    let texts = ["0 */6 * * *", "*/15 * * * *", "@daily", "@monthly", "@every 15m", "30 2 * * MON"];
    let zones = ["UTC", "Europe/Berlin", "America/New_York"];
    let schedules: Vec<Schedule> =
        (0..5000).map(|i| schedule(texts[i % 6], zones[i / 6 % 3])).collect();
    let now = time("2026-11-26T11:20:30Z");
    let started = std::time::Instant::now();
    assert!(schedules.iter().all(|schedule| schedule.next_after(now) > Some(now)));
    let took = started.elapsed();
    println!("next due times of 5000 volumes: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

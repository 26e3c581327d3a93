//! Lengths of time as people write them in options: `90s`, `15m`, `1h30m`, `7d`.
//!
//! A day has 24 hours here: nothing that is measured so depends on a time zone.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads a length of time; `None` where it is none, or negative.
pub(super) fn read(text: &str) -> Option<Duration> {
    // jiff's durations have no days, whose length a time zone can change.
    let hours = match text.strip_suffix('d').map(str::parse::<i64>) {
        Some(Ok(days)) => format!("{}h", days.checked_mul(24)?),
        _ => text.to_owned(),
    };
    hours.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// Writes whole seconds as [`read`] reads them: `1h30m`, `0s`.
pub(super) fn print(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let some: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if some.is_empty() { "0s".to_owned() } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        for (text, seconds, printed) in [
            ("90s", 90, "1m30s"),
            ("15m", 900, "15m"),
            ("1h 30m", 5400, "1h30m"),
            ("7d", 604_800, "168h"),
            ("0s", 0, "0s"),
        ] {
            let duration = read(text).expect("a length of time");
            assert_eq!((duration.as_secs(), print(duration).as_str()), (seconds, printed));
            assert_eq!(read(printed), Some(duration));
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_none() {
        for text in ["", "7", "-1s", "soon", "9999999999999999d", "d"] {
            assert_eq!(read(text), None, "{text:?} was read");
        }
    }
}

//! The time zone of a volume, by its IANA name.
//!
//! Only the database that is built into the program is asked, never the host's: all hosts of one
//! version of the driver then agree on every due time, and a host or image without `tzdata` has it
//! too. The price is that a change of some country's law comes with a new version of the driver.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The time zone of that name, in any case of letters.
///
/// # Errors
/// There is none; the text says what is expected.
pub(super) fn read(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        format!("there is no time zone {name:?}; an IANA name is expected, such as Europe/Berlin")
    })
}

/// Its name as the database spells it.
pub(super) fn name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_their_names_on_any_host() {
        for (text, spelled) in
            [("UTC", "UTC"), ("europe/berlin", "Europe/Berlin"), ("US/Eastern", "US/Eastern")]
        {
            assert_eq!(name(&read(text).expect("a zone")), spelled);
        }
        for text in ["", "Berlin", "+02:00", "../../etc/passwd", "EUROPE"] {
            let error = read(text).expect_err("no zone");
            assert!(error.contains("Europe/Berlin"), "{error}");
        }
    }
}

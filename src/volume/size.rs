//! Sizes in bytes, read and printed the way `rbd(8)` does: `K`, `M`, `G`, `T`, `P` are powers of
//! 1024, with or without `B` or `iB` behind them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Neither a number nor a number with a known unit.
    #[error(
        "size {0:?} cannot be read; write a whole number with a unit: K, M, G, T or P, such as 10G"
    )]
    Unreadable(String),
    /// A number with no unit, which plugins before this one read in two ways.
    #[error(
        "size {0:?} has no unit; write {0}M (as wetopi/docker-volume-rbd reads it) or {0}G \
         (as rexray reads it), or set compatibility to \"wetopi\" or \"rexray\""
    )]
    Bare(String),
    /// More than 64 bits hold.
    #[error("size {0:?} is larger than 16 EiB")]
    TooLarge(String),
}

impl ByteSize {
    /// `count` GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// `count` MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads a size whose bare numbers stand for `bare_unit`, one of `B`, `K`, `M`, `G`, `T`, `P`.
    ///
    /// # Errors
    /// As [`ByteSize::from_str`], except that a bare number is none.
    pub fn parse_with_bare_unit(text: &str, bare_unit: char) -> Result<Self, SizeError> {
        match text.parse() {
            Err(SizeError::Bare(number)) if bare_unit == 'B' => {
                number.parse().map(Self).map_err(|_| SizeError::TooLarge(number))
            }
            Err(SizeError::Bare(number)) => format!("{number}{bare_unit}").parse(),
            other => other,
        }
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits_end);
        if number.is_empty() {
            return Err(SizeError::Unreadable(text.to_owned()));
        }
        if unit.is_empty() {
            return Err(SizeError::Bare(text.to_owned()));
        }
        let shift = shift_of(unit).ok_or_else(|| SizeError::Unreadable(text.to_owned()))?;
        let number: u64 = number.parse().map_err(|_| SizeError::TooLarge(text.to_owned()))?;
        let bytes = number.checked_mul(1 << shift);
        bytes.map(Self).ok_or_else(|| SizeError::TooLarge(text.to_owned()))
    }
}

fn shift_of(unit: &str) -> Option<u32> {
    let mut letters = unit.chars();
    let first = letters.next()?.to_ascii_uppercase();
    let rest = letters.as_str();
    if first == 'B' && rest.is_empty() {
        return Some(0);
    }
    let known =
        rest.is_empty() || rest.eq_ignore_ascii_case("B") || rest.eq_ignore_ascii_case("iB");
    UNITS.iter().find(|(letter, _)| *letter == first && known).map(|(_, shift)| *shift)
}

impl fmt::Display for ByteSize {
    /// The largest unit with at most one decimal: `10 GiB`, `1.5 GiB`, `512 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().rev().find(|(_, shift)| self.0 >> shift > 0);
        let Some((letter, shift)) = unit else {
            return write!(f, "{} B", self.0);
        };
        let tenths = (u128::from(self.0) * 10) >> shift;
        match tenths % 10 {
            0 => write!(f, "{} {letter}iB", tenths / 10),
            tenth => write!(f, "{}.{tenth} {letter}iB", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_a_unit_are_read() {
        for (text, bytes) in [
            ("1G", 1 << 30),
            ("10GiB", 10 << 30),
            ("512mb", 512 << 20),
            ("4096B", 4096),
            ("2T", 2 << 40),
            ("0G", 0),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "-1", "10XB", "G", "1.5G", "1 G", "99999999999999999999G", "20000000P"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn a_bare_number_names_both_readings_unless_a_unit_is_given() {
        let error = "10".parse::<ByteSize>().expect_err("ambiguous").to_string();
        assert!(error.contains("10M") && error.contains("10G"), "{error}");
        assert_eq!(ByteSize::parse_with_bare_unit("10", 'M'), Ok(ByteSize::mib(10)));
        assert_eq!(ByteSize::parse_with_bare_unit("2G", 'M'), Ok(ByteSize::gib(2)));
    }

    #[test]
    fn sizes_are_printed_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536 << 20, "1.5 GiB"), (10 << 30, "10 GiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}

//! Volume names and mount IDs, as the engine sends them: it checks neither.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name: it becomes an image name, a file name with a suffix, and an omap key.
const LONGEST_NAME: usize = 128;

/// The longest mount ID: the engine's have 64 hexadecimal digits.
const LONGEST_ID: usize = 256;

/// A volume's name: a letter or digit, then letters, digits, `_`, `.` and `-`; 128 bytes at most.
///
/// The rule is the engine's own for its `local` volumes. It keeps `/`, `..`, `@` and control
/// characters out of image names and paths. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(Arc<str>);

/// Who uses a mount, as the engine says it: a hint (see `service::references`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountId(Arc<str>);

/// A name or mount ID that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// "volume name" or "mount ID".
        what: &'static str,
    },
    /// Too many bytes.
    #[error("{what} has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// "volume name" or "mount ID".
        what: &'static str,
        /// The bytes that were given.
        length: usize,
        /// The most that are allowed.
        limit: usize,
    },
    /// A character that is not allowed there.
    #[error(
        "{what} {text:?} is not allowed: it starts with a letter or digit (a-z, A-Z, 0-9), \
         followed by letters, digits, '_', '.' or '-'"
    )]
    Character {
        /// "volume name" or "mount ID".
        what: &'static str,
        /// What was given, with control characters escaped.
        text: String,
    },
}

impl VolumeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MountId {
    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let what = "volume name";
        check_length(what, text, LONGEST_NAME)?;
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if starts_well && text.chars().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(NameError::Character { what, text: text.to_owned() })
    }
}

impl FromStr for MountId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let what = "mount ID";
        check_length(what, text, LONGEST_ID)?;
        if text.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        Err(NameError::Character { what, text: text.to_owned() })
    }
}

fn check_length(what: &'static str, text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty { what }),
        length if length > limit => Err(NameError::TooLong { what, length, limit }),
        _ => Ok(()),
    }
}

macro_rules! text_conversions {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                (*name.0).to_owned()
            }
        }
    )+};
}

text_conversions!(VolumeName, MountId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_docker_users_give_are_allowed() {
        for name in ["a", "pgdata", "Web_1.data-2", "0a", &"f".repeat(64), &"x".repeat(128)] {
            assert_eq!(name.parse::<VolumeName>().expect("allowed").as_str(), name);
        }
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        let long = "x".repeat(300);
        for name in ["", "../x", "a/b", "a\0b", "ünï", ".hidden", "-x", "_x", "a b", "a@b", &long]
        {
            assert!(name.parse::<VolumeName>().is_err(), "{name:?} was allowed");
        }
        let error = "a\0b".parse::<VolumeName>().expect_err("NUL is refused").to_string();
        assert!(error.contains(r#""a\0b""#), "{error}");
    }
}

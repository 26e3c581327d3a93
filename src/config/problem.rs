//! What is wrong with the settings: all of it at once, each with its name, value and source.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In this file.
    File(PathBuf),
    /// In the environment, under the setting's name.
    Environment,
    /// As a flag.
    Flag,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name; empty where it is the file as a whole.
    pub setting: String,
    /// Its value as it was written.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

/// Everything that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, origin, reason } = self;
        match origin {
            Origin::File(path) if setting.is_empty() => write!(f, "{}: {reason}", path.display()),
            Origin::File(path) => {
                write!(f, "{setting} = {value:?} in {}: {reason}", path.display())
            }
            Origin::Environment => write!(f, "{}={value:?}: {reason}", environment_name(setting)),
            Origin::Flag => write!(f, "--{setting} {value:?}: {reason}"),
            Origin::Default => write!(f, "{setting} (by default {value:?}): {reason}"),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [only] => write!(f, "bad setting: {only}"),
            all => {
                write!(f, "{} bad settings:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl Error for Problems {}

/// The environment variable of a setting: `DOCKER_CEPH_MOUNT_ROOT` for `mount-root`.
#[must_use]
pub fn environment_name(setting: &str) -> String {
    format!("DOCKER_CEPH_{}", setting.to_ascii_uppercase().replace('-', "_"))
}

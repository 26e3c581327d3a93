//! What a verb answers when it cannot do what was asked.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A verb that failed: what was asked, of which volume, why, and the way out.
///
/// Printed as `remove pgdata: volume is in use by 2 mounts on this host; stop the containers first`.
#[derive(Debug)]
pub struct VolumeError {
    /// The verb: `create`, `mount` …
    pub op: &'static str,
    /// The volume's name as it was given; empty where the verb takes none.
    pub volume: String,
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// Why, with the whole chain of causes already in the text.
    pub cause: String,
    /// What to do, where the cause does not say it.
    pub advice: Option<String>,
}

/// Errors of a verb by what the caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request itself is wrong; asking again changes nothing.
    InvalidArgument,
    /// There is no such volume.
    NotFound,
    /// There is one already, and it is not what was asked for.
    AlreadyExists,
    /// Somebody uses it, here or on another host.
    InUse,
    /// The cluster cannot be reached, or there was not enough time: it may pass.
    Unavailable,
    /// There is no room.
    NoSpace,
    /// Something failed that should not.
    Internal,
}

impl VolumeError {
    /// An error of `op` on `volume`.
    pub fn new(
        op: &'static str,
        volume: impl fmt::Display,
        kind: ErrorKind,
        cause: impl Into<String>,
    ) -> Self {
        Self { op, volume: volume.to_string(), kind, cause: cause.into(), advice: None }
    }

    /// The same error with the way out.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op)?;
        if !self.volume.is_empty() {
            write!(f, " {}", self.volume.escape_debug())?;
        }
        write!(f, ": {}", self.cause)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl Error for VolumeError {}

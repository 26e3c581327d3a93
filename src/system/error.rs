//! What goes wrong on a host, sorted by what the caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use super::Holder;

/// Something on this host that failed: what was done, and why it did not work.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {kind}")]
pub struct SystemError {
    /// What was being done, in the present tense, with its object: "mount /dev/loop0 at /x".
    pub step: String,
    /// Why it did not work.
    #[source]
    pub kind: SystemErrorKind,
}

/// Errors of a host by what can be done about them.
#[derive(Debug, thiserror::Error)]
pub enum SystemErrorKind {
    /// A program ended with an error.
    #[error("{program} failed ({status}): {output}")]
    Command {
        /// The program's name.
        program: String,
        /// `exit status: 1` or `signal: 9`.
        status: String,
        /// The end of what it printed, without secrets.
        output: String,
    },
    /// Something did not end in time and was killed.
    #[error("no end after {} s; it was killed", .after.as_secs())]
    Timeout {
        /// How long it was let.
        after: Duration,
    },
    /// A program or a kernel module is not there.
    #[error("{what} is missing; {advice}")]
    Missing {
        /// The program or module.
        what: String,
        /// What to do: the package to install, the module to load.
        advice: String,
    },
    /// Somebody holds it.
    #[error("busy, held by {}", list(.0))]
    Busy(Vec<Holder>),
    /// Another client of the cluster has the image, and does not hand it over.
    #[error("another client has the image open for writing")]
    Held,
    /// Refused, for a reason that only a person can change.
    #[error("{0}")]
    Refused(String),
    /// A system call failed.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

fn list(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "a process that could not be found".to_owned();
    }
    let named = |h: &Holder| format!("{} (pid {}, {})", h.command, h.pid, h.target.display());
    holders.iter().map(named).collect::<Vec<_>>().join(", ")
}

impl SystemErrorKind {
    /// Puts what was being done before the error.
    pub fn during(self, step: impl Into<String>) -> SystemError {
        SystemError { step: step.into(), kind: self }
    }
}

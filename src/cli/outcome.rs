//! What a command comes to: text for standard output, failures for standard error, an exit code.
//!
//! Commands print nothing themselves. So a pipe that is closed early is met in one place, where it
//! is no failure, and a test of a command needs no process.

use std::fmt;
use std::io::{self, Write};

use crate::protocol::admin::Kind;
use crate::protocol::client::ClientError;

/// How the program ends. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Ok = 0,
    /// Something failed that has no number of its own; `doctor` found something broken.
    Failed = 1,
    /// The command line, a setting, a name or an option is wrong.
    Usage = 2,
    /// There is no such volume.
    NotFound = 3,
    /// Somebody uses it.
    InUse = 4,
    /// The daemon or the cluster gives no answer: it may pass.
    Unavailable = 5,
    /// There is one already, and it is not what was asked for.
    AlreadyExists = 6,
    /// There is no room in the cluster.
    NoSpace = 7,
    /// This user may not use the daemon's socket.
    Denied = 8,
}

impl Exit {
    /// Its number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The table of exit codes for help texts and man pages.
    pub const HELP: &'static str = "\
Exit codes:
  0  all was done
  1  something failed, or doctor found something broken
  2  the command line, a setting, a name or an option is wrong
  3  there is no such volume
  4  somebody uses it
  5  the daemon or the cluster gives no answer: it may pass
  6  there is one already, and it is not what was asked for
  7  there is no room in the cluster
  8  this user may not use the daemon's socket";
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::InvalidArgument => Self::Usage,
            Kind::NotFound => Self::NotFound,
            Kind::AlreadyExists => Self::AlreadyExists,
            Kind::InUse => Self::InUse,
            Kind::Unavailable => Self::Unavailable,
            Kind::NoSpace => Self::NoSpace,
            Kind::Internal | Kind::NoSuchPath | Kind::WrongMethod | Kind::TooLarge => Self::Failed,
        }
    }
}

/// Something that did not work: what to say, and how the program ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// The whole chain of causes as one text.
    pub message: String,
}

impl Failure {
    /// A failure with that message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Refused { kind, .. } => (*kind).into(),
            ClientError::NotRunning { .. } | ClientError::Timeout { .. } => Exit::Unavailable,
            ClientError::Broken { .. } => Exit::Unavailable,
            ClientError::Denied { .. } => Exit::Denied,
            ClientError::Connect { .. } | ClientError::Unreadable { .. } => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// What a command comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output; ends with a newline unless it is empty.
    pub text: String,
    /// What did not work, in order. The first one names the exit code.
    pub failures: Vec<Failure>,
    /// How the program ends where nothing failed.
    pub verdict: Option<Exit>,
}

impl Outcome {
    /// Success, with that text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// How the program ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let failed = self.failures.first().map(|failure| failure.exit);
        failed.or(self.verdict).unwrap_or(Exit::Ok)
    }

    /// Prints it all and says how to end. A reader that has gone away has seen enough.
    pub fn print(&self) -> Exit {
        let written = write_all(&mut io::stdout().lock(), &self.text);
        for failure in &self.failures {
            // Nobody is left to be told where standard error is closed.
            let _ = write_all(&mut io::stderr().lock(), &format!("Error: {}\n", failure.message));
        }
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
            _ => self.exit(),
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self { failures: vec![failure], ..Self::default() }
    }
}

fn write_all(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_explained_in_the_help() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::InUse,
            Exit::Unavailable,
            Exit::AlreadyExists,
            Exit::NoSpace,
            Exit::Denied,
        ] {
            let line = format!("\n  {}  ", exit as u8);
            assert!(Exit::HELP.contains(&line), "{exit:?}");
        }
        assert_eq!(Exit::HELP.lines().count(), 10);
    }

    #[test]
    fn the_first_failure_names_the_exit_code() {
        let failures =
            vec![Failure::new(Exit::InUse, "a is used"), Failure::new(Exit::NotFound, "no b")];
        assert_eq!(Outcome { failures, ..Outcome::text("c\n") }.exit(), Exit::InUse);
        assert_eq!(Outcome::text("").exit(), Exit::Ok);
    }
}

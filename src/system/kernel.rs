//! System calls that can hang, each in a child process that can be killed.
//!
//! A mount, an unmount, a stat of a volume or an ioctl of a loop device can stay in the kernel for
//! as long as the cluster is away. A thread that did it would keep a killed daemon, and with it
//! the daemon's socket, alive. So the daemon starts its own program again with `kernel` as the
//! first argument, writes one [`Call`] to its standard input as JSON, and reads one answer from its
//! standard output. The child has none of the daemon's file descriptors.
//!
//! ```text
//!  daemon ── docker-ceph kernel mount ──▶ child: mount(2) ──▶ {"Ok": …} or {"Err": {errno, path}}
//!         ◀─ answer, or SIGKILL at the deadline
//! ```

mod calls;
mod detach;
mod folder;
mod ioctl;
mod loop_device;

pub(crate) use detach::Detach;
pub(crate) use loop_device::{AttachedLoop, backing_file, path_in};

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Command, Programs};
use super::{Ownership, SystemErrorKind};
use crate::deadline::Deadline;

/// The first argument that makes the program a child of this kind.
const ENTRY: &str = "kernel";

/// What the child is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    /// Mounts a device, making the folder.
    Mount { device: PathBuf, target: PathBuf, fs_type: String, flags: u64, data: String },
    /// Unmounts, and removes the folder if it is empty.
    Unmount { target: PathBuf, lazy: bool },
    /// Space in a file system, as `FsUsage`.
    Usage { mountpoint: PathBuf },
    /// Discards unused blocks; the bytes.
    Trim { mountpoint: PathBuf },
    /// Makes a folder at the root of a file system.
    MakeFolder { mountpoint: PathBuf, name: String, owner: Ownership },
    /// Are the first bytes of a device all zero?
    IsBlank { device: PathBuf },
    /// A device's size in bytes.
    Size { device: PathBuf },
    /// Makes a loop device of a file, as `AttachedLoop`.
    AttachLoop { file: PathBuf, read_only: bool },
    /// Takes a loop device off its file.
    DetachLoop { device: PathBuf, file: PathBuf },
    /// Lets a loop device see the size of its file; the size.
    ResizeLoop { device: PathBuf, file: PathBuf },
    /// Writes to a file of sysfs.
    WriteSysfs { path: PathBuf, text: String },
    /// Starts a program that outlives us; its process, as `ProcessId`.
    Detach(Detach),
}

impl Call {
    /// A word for the process list.
    fn word(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "mount",
            Self::Unmount { .. } => "unmount",
            Self::Usage { .. } => "usage",
            Self::Trim { .. } => "trim",
            Self::MakeFolder { .. } => "make-folder",
            Self::IsBlank { .. } => "is-blank",
            Self::Size { .. } => "size",
            Self::AttachLoop { .. } => "attach-loop",
            Self::DetachLoop { .. } => "detach-loop",
            Self::ResizeLoop { .. } => "resize-loop",
            Self::WriteSysfs { .. } => "write-sysfs",
            Self::Detach(_) => "detach",
        }
    }
}

/// A system call that failed in the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) errno: i32,
    pub(crate) path: PathBuf,
}

impl Failure {
    pub(crate) fn of<E: Into<std::io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| Self { errno: error.into().raw_os_error().unwrap_or(libc::EIO), path }
    }
}

type Answer = Result<serde_json::Value, Failure>;

/// Starts the children.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    program: PathBuf,
    programs: Programs,
}

impl Kernel {
    pub(crate) fn new(program: PathBuf, programs: Programs) -> Self {
        Self { program, programs }
    }

    /// Does a call in a child and gives its answer. A failed one is `Io` with its errno.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
        deadline: &Deadline,
    ) -> Result<T, SystemErrorKind> {
        let input = serde_json::to_vec(call).map_err(|error| refused(&error))?;
        let command = self.command().arg(call.word()).input(input);
        let output = command.run(deadline)?;
        let answer: Answer = serde_json::from_slice(&output.stdout)
            .map_err(|error| refused(&format!("{error}: {}", output.tail())))?;
        match answer {
            Ok(value) => serde_json::from_value(value).map_err(|error| refused(&error)),
            Err(Failure { errno, path }) => {
                let source = std::io::Error::from_raw_os_error(errno);
                Err(SystemErrorKind::Io { path, source })
            }
        }
    }

    /// A program in a session and cgroup of its own that ends by itself (it may leave a daemon).
    pub(crate) fn isolated(&self, command: &Command) -> Command {
        self.command().arg(detach::RUN).args(command.line())
    }

    fn command(&self) -> Command {
        Command::new(self.program.clone(), &self.programs).arg(ENTRY)
    }
}

fn refused(error: &impl ToString) -> SystemErrorKind {
    SystemErrorKind::Refused(format!("the child's answer cannot be read: {}", error.to_string()))
}

/// The errno of a failed call.
pub(crate) fn errno(error: &SystemErrorKind) -> Option<i32> {
    match error {
        SystemErrorKind::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// Runs as a child, if the program was started as one: then `main` returns this at once.
#[must_use]
pub fn kernel_entry() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != ENTRY {
        return None;
    }
    detach::close_inherited();
    let word = args.next().unwrap_or_default();
    Some(match detach::run(&word, args.collect()) {
        Some(code) => code,
        None => answer(),
    })
}

fn answer() -> ExitCode {
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut input) {
        eprintln!("read the call: {error}");
        return ExitCode::FAILURE;
    }
    let call: Call = match serde_json::from_slice(&input) {
        Ok(call) => call,
        Err(error) => {
            eprintln!("this is how the daemon starts its own helpers, not a command: {error}");
            return ExitCode::from(2);
        }
    };
    match serde_json::to_string(&calls::run(&call)) {
        Ok(answer) => println!("{answer}"),
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::SUCCESS
}

//! System calls that can hang, each in a child process that can be killed.
//!
//! A mount, an unmount, a stat of a volume or an ioctl of a loop device can stay in the kernel for
//! as long as the cluster is away. A thread that did it would keep a killed daemon, and with it
//! the daemon's socket, alive. So the daemon starts its own program again as a small server, which
//! forks a child for each [`Call`]: loading the program with all of librbd behind it takes longer
//! than most calls, and a daemon of many threads cannot fork without an exec.
//!
//! ```text
//!  daemon ── starts once ──▶ docker-ceph kernel serve ── fork ──▶ child: mount(2)
//!    │  ── a connection for each call ──────────────────────────────▶ │
//!    └── {"mount": …} ─────▶  ◀── who I am; {"Ok": …} or {"Err": {errno, path}}
//!                                                          SIGKILL at the deadline
//! ```

mod calls;
mod cephfs;
mod client;
mod detach;
mod folder;
mod freeze;
mod ioctl;
mod key;
mod loop_device;
mod old_files;
pub(crate) mod privileges;
mod rbd;
mod server;
mod snapshot;
mod xattr;

pub(crate) use cephfs::MountCephFs;
pub(crate) use client::Held;
pub(crate) use detach::{Detach, close_inherited};
pub(crate) use freeze::Freeze;
pub(crate) use key::ClientKey;
pub(crate) use loop_device::{AttachedLoop, backing_file, path_in};
pub(crate) use old_files::FindOld;
pub(crate) use rbd::AddRbd;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Command, Programs};
use super::{Ownership, Stood, SystemErrorKind};
use crate::deadline::Deadline;

/// The first argument that makes the program one of these.
const ENTRY: &str = "kernel";
/// The second that makes it the server.
const SERVE: &str = "serve";

/// What the child is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    /// Mounts a device, making the folder.
    Mount { device: PathBuf, target: PathBuf, fs_type: String, flags: u64, data: String },
    /// Unmounts, and removes the folder if it is empty.
    Unmount { target: PathBuf, lazy: bool },
    /// Mounts a folder of CephFS by the kernel's client; its number there, where the kernel tells.
    MountCephFs(MountCephFs),
    /// Unmounts lazily, after every call on the mount has been made to fail.
    ForceUnmount { target: PathBuf },
    /// Writes out what is not written yet.
    SyncFs { target: PathBuf },
    /// Does a mounted folder of CephFS still serve?
    IsAlive { target: PathBuf },
    /// The names of what lies in a folder.
    Names { folder: PathBuf },
    /// Space in a folder of CephFS, as `FsUsage`.
    FolderUsage { target: PathBuf },
    /// Space in a file system, as `FsUsage`.
    Usage { mountpoint: PathBuf },
    /// Discards unused blocks; the bytes.
    Trim { mountpoint: PathBuf },
    /// Makes a folder at the root of a file system.
    MakeFolder { mountpoint: PathBuf, name: String, owner: Ownership },
    /// Are the first bytes of a device all zero?
    IsBlank { device: PathBuf },
    /// Is the device an ext4 that can be mounted as it is? By its superblock.
    IsSoundExt4 { device: PathBuf },
    /// Has the device an ext4 whose journal is to be replayed?
    NeedsReplayExt4 { device: PathBuf },
    /// Mounts an XFS in a mount namespace of its own at a folder that is there, which replays its
    /// log, and unmounts it.
    ReplayXfs { device: PathBuf, at: PathBuf },
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
    /// Makes a device of the kernel's RBD.
    AddRbd(AddRbd),
    /// Freezes a file system until it is told to thaw: see [`Kernel::freeze`].
    Freeze(Freeze),
    /// Thaws a file system; was it frozen?
    ThawLeftOver { mountpoint: PathBuf },
    /// Finds files by their age, as `OldFiles`.
    OldFiles(FindOld),
    /// The folder that shows a snapshot of a mounted folder of CephFS.
    FindSnapshot { folder: PathBuf, name: String },
    /// Starts a program that outlives us; its process, as `ProcessId`.
    Detach(Detach),
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

/// Where the calls are done.
#[derive(Debug)]
pub(crate) struct Kernel {
    client: client::Client,
    program: PathBuf,
    programs: Programs,
}

impl Kernel {
    pub(crate) fn new(program: PathBuf, programs: Programs) -> Self {
        Self { client: client::Client::new(program.clone()), program, programs }
    }

    /// Does a call in a child and gives its answer. A failed one is `Io` with its errno.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
        deadline: &Deadline,
    ) -> Result<T, SystemErrorKind> {
        let answer = self.client.ask(&line_of(call)?, deadline);
        tracing::debug!(?call, ok = answer.is_ok(), "kernel call done");
        read(&answer?)
    }

    /// Freezes a file system, and gives the connection of the child that keeps it so. No child
    /// that freezes is ever killed: it ends when the connection does.
    pub(crate) fn freeze(
        &self,
        freeze: &Freeze,
        deadline: &Deadline,
    ) -> Result<Held, SystemErrorKind> {
        let held = self.client.hold(&line_of(&Call::Freeze(freeze.clone()))?, deadline);
        tracing::debug!(?freeze, ok = held.is_ok(), "kernel call begun");
        let held = held?;
        read::<()>(held.first())?;
        Ok(held)
    }

    /// Thaws it by the child; `None` where the child has died.
    pub(crate) fn thaw(
        &self,
        held: &mut Held,
        deadline: &Deadline,
    ) -> Result<Option<Stood>, SystemErrorKind> {
        held.ask(freeze::THAW, deadline)?.map(|answer| read(&answer)).transpose()
    }

    /// A program in a cgroup of its own that ends by itself (it may leave a daemon).
    pub(crate) fn isolated(&self, command: &Command) -> Command {
        let own = Command::new(self.program.clone(), &self.programs);
        own.args([ENTRY, detach::RUN]).args(command.line())
    }
}

fn line_of(call: &Call) -> Result<Vec<u8>, SystemErrorKind> {
    let mut line = serde_json::to_vec(call).map_err(|error| unreadable(&error))?;
    line.push(b'\n');
    Ok(line)
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, SystemErrorKind> {
    match serde_json::from_slice::<Answer>(answer).map_err(|error| unreadable(&error))? {
        Ok(value) => serde_json::from_value(value).map_err(|error| unreadable(&error)),
        Err(Failure { errno, path }) => {
            let source = std::io::Error::from_raw_os_error(errno);
            Err(SystemErrorKind::Io { path, source })
        }
    }
}

fn unreadable(error: &serde_json::Error) -> SystemErrorKind {
    SystemErrorKind::Refused(format!("what a child says cannot be read: {error}"))
}

/// The errno of a failed call.
pub(crate) fn errno(error: &SystemErrorKind) -> Option<i32> {
    match error {
        SystemErrorKind::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// Runs as one of these, if the program was started as one: then `main` returns this at once.
#[must_use]
pub fn kernel_entry() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != ENTRY {
        return None;
    }
    detach::close_inherited();
    let word = args.next().unwrap_or_default();
    Some(if word == SERVE {
        server::serve()
    } else if word == detach::RUN {
        detach::run(args.collect())
    } else {
        eprintln!("this is how the daemon starts its own helpers, and no command");
        ExitCode::from(2)
    })
}

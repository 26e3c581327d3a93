//! File systems that stand still for the moment of a snapshot.
//!
//! A frozen file system is whole on its device: everything that was written before is there, and
//! what would write waits. It never stays frozen for want of the daemon: see [`super::kernel`]'s
//! `freeze`, whose child thaws at the limit and when the daemon dies.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::kernel::{Call, Freeze, Held, Kernel, errno};
use super::linux::LinuxSystem;
use super::{Result, SystemErrorKind};
use crate::deadline::Deadline;

/// How long a thaw may take. Where the cluster is away it may have to wait for a write.
const THAW: Duration = Duration::from_secs(20);

/// File systems that can be made to stand still.
pub trait Freezing: Send + Sync {
    /// Writes out what is unwritten, and then lets every write wait until the answer is thawed, is
    /// dropped, or `limit` is over (counted from the beginning of the stand-still), whichever comes
    /// first; also where this process dies. `Refused` where it is frozen already or cannot be
    /// frozen (FUSE, CephFS). After an error it is not frozen by us, or will be thawed at once when
    /// the kernel is through.
    fn freeze(
        &self,
        mountpoint: &Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> Result<Box<dyn Frozen>>;

    /// Thaws what was left frozen (whoever was to thaw it was killed); was it frozen? For the start,
    /// when nobody freezes: it would thaw for anybody.
    fn thaw_left_over(&self, mountpoint: &Path, deadline: &Deadline) -> Result<bool>;

    /// Writes out what is unwritten in the file system that is mounted there, and waits for it.
    fn sync(&self, mountpoint: &Path, deadline: &Deadline) -> Result<()>;
}

/// A file system that stands still. Dropping it thaws too, and logs what goes wrong.
pub trait Frozen: Send + fmt::Debug {
    /// Lets it go on. An error where it is not known whether it does: the child that is to thaw it
    /// goes on trying.
    fn thaw(self: Box<Self>) -> Result<Stood>;
}

/// How long a file system stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// It stood still until it was told to go on. `false` where it was thawed at the limit or by
    /// somebody else, or where that cannot be known: something may have been written meanwhile.
    pub whole: bool,
    /// From the beginning of the freeze to the end of the thaw.
    pub time: Duration,
}

impl Freezing for LinuxSystem {
    fn freeze(
        &self,
        mountpoint: &Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> Result<Box<dyn Frozen>> {
        let freeze = Freeze { mountpoint: mountpoint.to_owned(), limit, within: deadline.left() };
        let since = Instant::now();
        match self.kernel().freeze(&freeze, deadline) {
            Ok(child) => Ok(Box::new(FrozenHere {
                mountpoint: freeze.mountpoint,
                since,
                kernel: Arc::clone(self.kernel()),
                child: Some(child),
            })),
            Err(kind) => Err(explained(kind).during(step("freeze", mountpoint))),
        }
    }

    fn thaw_left_over(&self, mountpoint: &Path, deadline: &Deadline) -> Result<bool> {
        let call = Call::ThawLeftOver { mountpoint: mountpoint.to_owned() };
        let thawed = self.kernel().call(&call, deadline);
        thawed.map_err(|kind| explained(kind).during(step("thaw", mountpoint)))
    }

    fn sync(&self, mountpoint: &Path, deadline: &Deadline) -> Result<()> {
        let call = Call::SyncFs { target: mountpoint.to_owned() };
        let synced = self.kernel().call(&call, deadline);
        synced.map_err(|kind| kind.during(step("write out", mountpoint)))
    }
}

fn step(what: &str, mountpoint: &Path) -> String {
    format!("{what} the file system at {}", mountpoint.display())
}

fn explained(kind: SystemErrorKind) -> SystemErrorKind {
    let text = match errno(&kind) {
        Some(libc::EBUSY) => {
            "it is frozen already; if no snapshot and no `fsfreeze` is under way, run `fsfreeze \
             --unfreeze` on it"
        }
        Some(libc::EOPNOTSUPP | libc::ENOTTY) => "a file system of this type cannot be frozen",
        _ => return kind,
    };
    SystemErrorKind::Refused(text.to_owned())
}

/// A file system that a child keeps frozen.
#[derive(Debug)]
struct FrozenHere {
    mountpoint: PathBuf,
    since: Instant,
    kernel: Arc<Kernel>,
    /// The child; `None` when it was told to thaw.
    child: Option<Held>,
}

impl FrozenHere {
    fn end(&mut self) -> Option<Result<Stood>> {
        let mut child = self.child.take()?;
        let stood = match self.kernel.thaw(&mut child, &Deadline::after(THAW)) {
            Ok(None) => self.thaw_without_child(),
            Ok(Some(stood)) => Ok(stood),
            Err(kind) => Err(kind),
        };
        Some(stood.map_err(|kind| kind.during(step("thaw", &self.mountpoint))))
    }

    /// The child was killed, and nobody else is there to thaw.
    fn thaw_without_child(&self) -> std::result::Result<Stood, SystemErrorKind> {
        let mountpoint = self.mountpoint.clone();
        let frozen: bool =
            self.kernel.call(&Call::ThawLeftOver { mountpoint }, &Deadline::after(THAW))?;
        tracing::warn!(mountpoint = %self.mountpoint.display(), frozen,
            "the process that kept a file system frozen was killed; thawed without it");
        Ok(Stood { whole: false, time: self.since.elapsed() })
    }
}

impl Frozen for FrozenHere {
    fn thaw(mut self: Box<Self>) -> Result<Stood> {
        self.end().expect("it is told once")
    }
}

impl Drop for FrozenHere {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.end() {
            tracing::error!(%error, "a file system may be frozen until its limit");
        }
    }
}

//! Freezes a file system, in a child that thaws it again whatever becomes of the daemon.
//!
//! A file system that stays frozen stops its containers for good, so thawing is nobody's duty but
//! that of the child that froze it. It thaws when it is told to, when its connection closes
//! (however the daemon ended), or when the limit is over, whichever comes first. It is a session of
//! its own, ignores the signals by which a service is stopped, and is spared by the OOM killer; only
//! a SIGKILL leaves the file system frozen. For that reason the daemon never kills it: a child that
//! is stuck in the freeze would die with the file system frozen as soon as it is through.
//!
//! ```text
//!  daemon                        child
//!    │ ── {"freeze": …} ──────────▶ open, syncfs, FIFREEZE
//!    │ ◀── {"Ok": null} ─────────── frozen
//!    │ ── t, or the end ──────────▶ FITHAW
//!    │ ◀── {"Ok": {whole, time}} ── thawed
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use serde::{Deserialize, Serialize};

use super::calls::value;
use super::{Answer, Failure, detach, ioctl};
use crate::system::Stood;

/// The byte that tells the child to thaw.
pub(super) const THAW: &[u8] = b"t";
/// The answer of a child that has frozen.
const FROZEN: &[u8] = b"{\"Ok\":null}\n";
/// The signals by which a service, a terminal or a session is ended.
const IGNORED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// A thaw that fails is repeated so often, with this pause: an ext4 writes its superblock then.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// A file system that is to be frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Freeze {
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
    /// How long it may stand still at most, the freeze itself included.
    pub(crate) limit: Duration,
    /// How long it may take until it is frozen.
    pub(crate) within: Duration,
}

/// How the wait for the end of a freeze ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Told,
    Left,
    Limit,
}

impl Freeze {
    /// Freezes, says so, waits, thaws, and says how it went.
    pub(super) fn serve(&self, mut connection: &UnixStream) -> Answer {
        let begun = Instant::now();
        outlive_the_daemon();
        let folder = self.prepare(connection, begun)?;
        let frozen = Instant::now();
        if let Err(errno) = ioctl::freeze(&folder) {
            return Err(Failure::of(&self.mountpoint)(errno));
        }
        // From here to the thaw nothing is allocated: for memory the kernel may wait for a write.
        let late = begun.elapsed() > self.within || frozen.elapsed() > self.limit;
        let end = if late {
            End::Limit
        } else {
            // Where nobody is left to read it, the wait ends at once.
            let _ = connection.write_all(FROZEN);
            wait(connection, frozen + self.limit)
        };
        let thawed = thaw(&folder);
        let time = frozen.elapsed();
        drop(folder);
        if late {
            return Err(self.too_late());
        }
        let stood = thawed.map(|was_frozen| Stood { whole: was_frozen && end == End::Told, time });
        value(stood.map_err(Failure::of(&self.mountpoint)))
    }

    fn too_late(&self) -> Failure {
        Failure { errno: libc::ETIMEDOUT, path: self.mountpoint.clone() }
    }

    /// Opens it and writes out most of what is unwritten, while the containers can go on.
    fn prepare(&self, connection: &UnixStream, begun: Instant) -> Result<File, Failure> {
        let folder = open(&self.mountpoint)?;
        nix::unistd::syncfs(folder.as_fd()).map_err(Failure::of(&self.mountpoint))?;
        let called_off = wait(connection, Instant::now()) != End::Limit;
        if called_off || begun.elapsed() > self.within {
            return Err(self.too_late());
        }
        Ok(folder)
    }
}

/// Thaws what somebody else has left frozen; was it frozen?
pub(super) fn thaw_left_over(mountpoint: &Path) -> Result<bool, Failure> {
    let folder = open(mountpoint)?;
    match ioctl::thaw(&folder) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(Failure::of(mountpoint)(errno)),
    }
}

/// Opening a folder changes nothing in it, and so does not wait for a thaw.
fn open(mountpoint: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_DIRECTORY).open(mountpoint);
    opened.map_err(Failure::of(mountpoint))
}

#[allow(unsafe_code, reason = "a signal that is ignored runs no handler")]
fn outlive_the_daemon() {
    let _ = nix::unistd::setsid();
    detach::be_spared();
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in IGNORED {
        // SAFETY: no handler of ours is run.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &ignore) };
    }
}

/// Waits for the word, for the daemon's end, or until then.
fn wait(mut connection: &UnixStream, until: Instant) -> End {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Up to a millisecond longer, and never a busy loop at the end.
        let millis = left.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) if until <= Instant::now() => return End::Limit,
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return End::Left,
        }
        let mut byte = [0];
        return match connection.read(&mut byte) {
            Ok(1..) => End::Told,
            Ok(0) | Err(_) => End::Left,
        };
    }
}

/// Thaws; was it still frozen?
fn thaw(folder: &File) -> Result<bool, Errno> {
    for _ in 1..ATTEMPTS {
        match ioctl::thaw(folder) {
            Ok(()) => return Ok(true),
            // Somebody else has thawed it.
            Err(Errno::EINVAL) => return Ok(false),
            Err(_) => thread::sleep(PAUSE),
        }
    }
    ioctl::thaw(folder).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_by_the_word_by_the_daemons_end_and_at_its_limit() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let started = Instant::now();
        let soon = Duration::from_millis(50);
        assert_eq!(wait(&theirs, started + soon), End::Limit);
        assert!(started.elapsed() >= soon);
        (&ours).write_all(THAW).expect("told");
        assert_eq!(wait(&theirs, Instant::now() + Duration::from_secs(60)), End::Told);
        drop(ours);
        assert_eq!(wait(&theirs, Instant::now() + Duration::from_secs(60)), End::Left);
    }
}

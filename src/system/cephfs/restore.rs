//! Gives a mounted folder of CephFS the content of one of its snapshots.
//!
//! CephFS has no rollback, so what differs is copied back, by `rsync`: it knows owners, modes, times,
//! extended attributes, ACLs, hard links and holes, and what the snapshot does not have it removes.
//!
//! * Files are compared by their content: one that was changed within the clock's grain, or whose
//!   time was set back, has the size and time of the other.
//! * A file is written beside the old one and then takes its place, never written into: what were
//!   two files in the snapshot may be one with two names now. What goes, goes first, so that a full
//!   quota has room for the rest.
//! * Every file is on the disk before `rsync` says so.
//! * `rsync` is killed when the thread that waits for it ends, and so with the daemon: whoever takes
//!   the work over is not to have a second one beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::command::Command;
use super::{Call, KindResult, LinuxSystem};
use crate::deadline::Deadline;
use crate::progress::Progress;

/// How long the snapshots may take to be listed.
const LIST: Duration = Duration::from_secs(30);

/// Ceph's own attributes, of quotas and layouts, are the driver's to set, and not the snapshot's.
const OPTIONS: &[&str] = &[
    "-aHAXS",
    "--numeric-ids",
    "--checksum",
    "--delete-before",
    "--filter=-x ceph.*",
    "--fsync",
    "--no-inc-recursive",
    "--info=progress2",
];

impl LinuxSystem {
    /// What binds a program to our life, and the program.
    pub(super) fn restorers(&self) -> KindResult<(Command, Command)> {
        Ok((self.programs().find("setpriv")?, self.programs().find("rsync")?))
    }

    pub(super) fn restore(
        &self,
        folder: &Path,
        snapshot: &str,
        progress: Progress<'_>,
        deadline: &Deadline,
    ) -> KindResult<()> {
        let find = Call::FindSnapshot { folder: folder.to_owned(), name: snapshot.to_owned() };
        let from: PathBuf = self.kernel().call(&find, &deadline.at_most(LIST))?;
        let (bound, rsync) = self.restorers()?;
        // With a slash at the end: what is in it.
        let rsync = rsync.args(OPTIONS).arg(from.join("")).arg(folder.join(""));
        let tell = |said: &[u8]| {
            if let Some(percent) = percent(said) {
                progress(percent, 100);
            }
        };
        let bound = bound.args(["--pdeathsig", "KILL"]).args(rsync.line());
        bound.run_watched(deadline, &tell).map(drop)
    }
}

/// The last number before a `%`.
fn percent(said: &[u8]) -> Option<u64> {
    let end = said.iter().rposition(|byte| *byte == b'%')?;
    let digits = said[..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&said[end - digits..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_percentage_counts() {
        assert_eq!(percent(b"sending\r  32,768   9%  1kB/s\r 65,536 100%  2kB/s (xfr"), Some(100));
        assert_eq!(percent(b"nothing yet"), None);
        assert_eq!(percent(b"%"), None);
    }
}

//! Processes of this host, by `/proc`: whether one still lives, and what it is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ProcessId;
use crate::deadline::Deadline;

/// Between two looks at whether a process is still there.
const SHORTEST: Duration = Duration::from_micros(500);
const LONGEST: Duration = Duration::from_millis(50);

impl ProcessId {
    /// The process that has that number now; `None` where there is none, or only its zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Is it still that process, and no zombie?
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if it is still that process.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }

    /// Waits for its end, and says whether it came.
    pub(crate) fn wait_for_end(self, deadline: &Deadline) -> bool {
        let started = Instant::now();
        while self.is_alive() {
            // Often at first, and never much later than it was worth waiting for.
            let pause = (started.elapsed() / 8).clamp(SHORTEST, LONGEST);
            if !deadline.wait(pause) {
                return !self.is_alive();
            }
        }
        true
    }

    /// Its arguments.
    pub(crate) fn command_line(self) -> Vec<OsString> {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let args = line.split(|byte| *byte == 0).filter(|arg| !arg.is_empty());
        args.map(|arg| OsString::from_vec(arg.to_vec())).collect()
    }
}

/// The start time in `/proc/PID/stat`. The name before it may hold blanks and brackets.
fn started(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // The state was field 3, and this is field 22.
    fields.nth(18)?.parse().ok()
}

/// Every process number.
pub(crate) fn all() -> std::io::Result<impl Iterator<Item = u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// The process's short name.
pub(crate) fn name(pid: u32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

/// A file that the process uses below a folder: its working folder, root, program, or an open
/// file. Only link texts are read: a stat inside a volume can hang.
pub(crate) fn file_in_use_below(pid: u32, folder: &Path) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let links = ["cwd", "root", "exe"].map(|link| process.join(link));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten();
    let open = open.filter_map(|entry| Some(entry.ok()?.path()));
    let targets = links.into_iter().chain(open).filter_map(|link| std::fs::read_link(link).ok());
    targets.into_iter().find(|target| target.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_read_behind_a_name_with_brackets() {
        let line = |state: &str| {
            format!(
                "42 (a) b) ({state}) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 0 0"
            )
        };
        assert_eq!(started(line("S").as_bytes()), Some(777));
        assert_eq!(started(line("Z").as_bytes()), None);
        assert_eq!(started(b"42 (x"), None);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let us = ProcessId::of(std::process::id()).expect("we live");
        assert!(us.is_alive());
        assert!(!ProcessId { started: us.started + 1, ..us }.is_alive());
        assert!(ProcessId::of(0).is_none());
    }

    #[test]
    fn a_file_in_use_is_found_by_its_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("held");
        let _held = std::fs::File::create(&path).expect("a file");
        assert_eq!(file_in_use_below(std::process::id(), folder.path()), Some(path));
    }
}

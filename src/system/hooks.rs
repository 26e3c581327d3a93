//! Programs of the operator's that are run before and after a snapshot.
//!
//! They run as we do, so one that somebody else could change is refused and not run. Each has a
//! limit of its own, at which it and what it has started are killed; what it prints is logged.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{Command, Output, io};
use super::linux::LinuxSystem;
use super::{Result, SystemError, SystemErrorKind};
use crate::deadline::Deadline;

/// Endings of what editors and packages leave beside a file.
const BACKUPS: [&str; 10] = [
    "~",
    ".bak",
    ".orig",
    ".rej",
    ".swp",
    ".tmp",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".rpmsave",
];
/// How much of what a hook prints is logged: its last lines, and the beginning of each.
const LINES: usize = 200;
const LENGTH: usize = 500;

/// Which hooks are run where one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// None after it: what they prepare is not to happen.
    Stop,
    /// All: each undoes what is its own.
    GoOn,
}

/// The programs in a folder.
pub trait Hooks: Send + Sync {
    /// Runs all executables of a folder in the order of their names, with these variables, `PATH`
    /// and no others, and at most `limit` for each. Files that are not executable, hidden files
    /// and the backups of editors are passed over. A folder that is not there holds none. Returns how
    /// many there are.
    ///
    /// The first failure is the answer: `Command` with its status and the end of what it printed,
    /// `Timeout` where it was killed, `Refused` where somebody else could change it.
    fn run_hooks(
        &self,
        folder: &Path,
        environment: &[(String, String)],
        limit: Duration,
        after_failure: AfterFailure,
        deadline: &Deadline,
    ) -> Result<usize>;
}

impl Hooks for LinuxSystem {
    fn run_hooks(
        &self,
        folder: &Path,
        environment: &[(String, String)],
        limit: Duration,
        after_failure: AfterFailure,
        deadline: &Deadline,
    ) -> Result<usize> {
        let listed = list(folder).map_err(|error| {
            io(folder)(error).during(format!("list the hooks in {}", folder.display()))
        })?;
        let mut first = Ok(listed.len());
        for hook in listed {
            let ran = self.run_hook(&hook, environment, &deadline.at_most(limit));
            if let Err(error) = ran {
                tracing::warn!(hook = %hook.display(), %error, "a hook failed");
                first = first.and(Err(error));
                if after_failure == AfterFailure::Stop {
                    break;
                }
            }
        }
        first
    }
}

impl LinuxSystem {
    fn run_hook(
        &self,
        hook: &Path,
        environment: &[(String, String)],
        deadline: &Deadline,
    ) -> std::result::Result<(), SystemError> {
        let run = || {
            refuse_what_others_can_change(hook)?;
            let command = Command::new(hook.to_owned(), self.programs()).only_env(environment);
            let output = command.run_logged(deadline, |output| log(hook, output))?;
            if output.code() == Some(0) { Ok(()) } else { Err(command.failed(&output)) }
        };
        run().map_err(|kind: SystemErrorKind| {
            kind.during(format!("run the hook {}", hook.display()))
        })
    }
}

/// The hooks of a folder, in the order of their names.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut hooks = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if is_hook(&path) {
            hooks.push(path);
        } else {
            tracing::debug!(file = %path.display(), "passed over: it is no hook");
        }
    }
    hooks.sort();
    Ok(hooks)
}

fn is_hook(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let is_meant = !name.starts_with(['.', '#']) && !BACKUPS.iter().any(|end| name.ends_with(end));
    let runs = |found: Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    is_meant && std::fs::metadata(path).is_ok_and(runs)
}

/// The folder counts too: who can write to it can put another file in the hook's place.
fn refuse_what_others_can_change(hook: &Path) -> std::result::Result<(), SystemErrorKind> {
    let us = nix::unistd::geteuid().as_raw();
    for path in [hook, hook.parent().unwrap_or(hook)] {
        let found = std::fs::metadata(path).map_err(io(path))?;
        let why = if found.mode() & 0o022 != 0 {
            "it can be written to by its group or by everybody; run `chmod go-w` on it"
        } else if found.uid() != 0 && found.uid() != us {
            "it belongs to another user; run `chown root` on it"
        } else {
            continue;
        };
        return Err(SystemErrorKind::Refused(format!("{}: {why}", path.display())));
    }
    Ok(())
}

fn log(hook: &Path, output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        for line in last_of(text) {
            tracing::info!(hook = %hook.display(), line, "a hook says");
        }
    }
}

/// The last lines of a text, each without control characters and cut to a length.
fn last_of(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let clean = |line: &&str| line.chars().filter(|c| !c.is_control()).take(LENGTH).collect();
    last.iter().map(clean).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;
    use crate::system::LinuxSettings;

    struct Place {
        folder: tempfile::TempDir,
        system: LinuxSystem,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let settings = LinuxSettings::new(folder.path().join("state"), "/nowhere", "x");
            std::fs::create_dir(folder.path().join("hooks")).expect("a folder");
            Self { system: LinuxSystem::new(settings).expect("a system"), folder }
        }

        fn hooks(&self) -> PathBuf {
            self.folder.path().join("hooks")
        }

        fn out(&self) -> String {
            std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
        }

        fn add(&self, name: &str, mode: u32, script: &str) {
            let path = self.hooks().join(name);
            let script = format!("#!/bin/sh\n{script}\n");
            std::fs::write(&path, script).expect("a hook");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("its mode");
        }

        fn run(&self, after_failure: AfterFailure) -> Result<()> {
            let out = self.folder.path().join("out").display().to_string();
            let environment = [("OUT".to_owned(), out)];
            let (limit, deadline) =
                (Duration::from_secs(2), Deadline::after(Duration::from_secs(20)));
            let ran =
                self.system.run_hooks(&self.hooks(), &environment, limit, after_failure, &deadline);
            ran.map(drop)
        }
    }

    const SAY: &str = "echo \"${0##*/}\" >> \"$OUT\"";

    #[test]
    fn what_is_executable_runs_in_the_order_of_its_name() {
        let place = Place::new();
        for name in ["20-b", "10-a", "30-c.sh"] {
            place.add(name, 0o755, SAY);
        }
        place.add("00-not-executable", 0o644, SAY);
        for name in ["10-a~", "15.bak", ".hidden", "#15#", "15.dpkg-old"] {
            place.add(name, 0o755, SAY);
        }
        std::fs::create_dir(place.hooks().join("05-folder")).expect("a folder");
        place.run(AfterFailure::Stop).expect("all run");
        assert_eq!(place.out(), "10-a\n20-b\n30-c.sh\n");
    }

    #[test]
    fn a_folder_that_is_not_there_holds_none() {
        let place = Place::new();
        std::fs::remove_dir(place.hooks()).expect("removed");
        place.run(AfterFailure::Stop).expect("nothing to do");
    }

    #[test]
    fn nothing_but_path_and_what_was_given_is_in_the_environment() {
        let place = Place::new();
        place.add("env", 0o700, "env | cut -d= -f1 | sort > \"$OUT\"; pwd >> \"$OUT\"; cat");
        place.run(AfterFailure::Stop).expect("it ends, for its input is empty");
        assert_eq!(place.out(), "OUT\nPATH\nPWD\n/\n");
    }

    #[test]
    fn the_first_failure_is_the_answer_and_stops_the_rest_or_does_not() {
        for (after_failure, out) in
            [(AfterFailure::Stop, "10-a\n"), (AfterFailure::GoOn, "10-a\n40-d\n")]
        {
            let place = Place::new();
            place.add("10-a", 0o755, SAY);
            place.add("20-b", 0o755, "echo fine; echo 'no space' >&2; exit 3");
            place.add("30-c", 0o755, "exit 4");
            place.add("40-d", 0o755, SAY);
            let text = place.run(after_failure).expect_err("one fails").to_string();
            let hook = place.hooks().join("20-b");
            let expected =
                format!("run the hook {}: 20-b failed (exit status: 3): no space", hook.display());
            assert_eq!(text, expected);
            assert_eq!(place.out(), out, "{after_failure:?}");
        }
    }

    #[test]
    fn what_others_can_change_is_not_run() {
        for mode in [0o775, 0o757] {
            let place = Place::new();
            place.add("10-a", mode, SAY);
            let error = place.run(AfterFailure::Stop).expect_err("refused");
            assert!(matches!(error.kind, SystemErrorKind::Refused(_)), "{error}");
            assert!(error.to_string().contains("chmod go-w"), "{error}");
            assert_eq!(place.out(), "", "{mode:o}");
        }
        let place = Place::new();
        place.add("10-a", 0o755, SAY);
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(place.hooks(), open).expect("its mode");
        place.run(AfterFailure::GoOn).expect_err("the folder is open");
        assert_eq!(place.out(), "");
    }

    #[test]
    fn at_its_limit_a_hook_and_what_it_started_are_killed() {
        let place = Place::new();
        place.add("10-a", 0o755, "(sleep 3; echo late >> \"$OUT\") & wait");
        place.add("20-b", 0o755, SAY);
        let error = place.run(AfterFailure::GoOn).expect_err("killed");
        assert!(matches!(error.kind, SystemErrorKind::Timeout { .. }), "{error}");
        assert!(error.to_string().contains("10-a"), "{error}");
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(place.out(), "20-b\n");
    }

    #[test]
    fn what_is_logged_has_an_end() {
        let many = "line\n".repeat(1000);
        assert_eq!(last_of(many.as_bytes()).len(), LINES);
        assert_eq!(last_of(&[b'x'; 9000])[0].len(), LENGTH);
        assert_eq!(last_of(b"a\x1b[1mb\r\n\n \n"), ["a[1mb"]);
    }
}

//! Starts a program that outlives the daemon.
//!
//! A container's data flows through `rbd-fuse` and `rbd-nbd`: they must not end with the daemon,
//! nor with the service's or the managed plugin's cgroup, and must be the last that the OOM killer
//! takes. They are nobody's child but init's, have a session of their own, no descriptor of ours,
//! and a scope of systemd where it runs, or else a cgroup of our own beside those of the services.
//!
//! ```text
//!  server: cgroup ─fork─▶ child of the call ─fork─▶ setsid, OOM score, file ─exec─▶ rbd-fuse
//!                               └ ends at once, so that init is the parent
//! ```

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::system::{ProcessId, mountinfo};

/// Becomes a program in a cgroup of its own, with the standard files that there are.
pub(super) const RUN: &str = "run";

/// The cgroup of those that no scope holds.
const CGROUP: &str = "docker-volume-ceph";

/// A program that is to outlive us.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Detach {
    /// The program and its arguments.
    pub(crate) line: Vec<String>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// Where it writes its process number and start time, before it becomes the program.
    pub(crate) process_file: PathBuf,
}

/// Closes what a daemon without O_CLOEXEC on everything would hand on.
pub(crate) fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let inherited: Vec<i32> = numbers.filter(|fd| *fd > 2).collect();
    for fd in inherited {
        // The folder's own is among them and closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// Forks the program, in a child that ends right after.
pub(super) fn start(program: &Detach) -> Result<ProcessId, Failure> {
    let path = PathBuf::from(program.line.first().map_or("", String::as_str));
    let child = super::server::in_child(|| {
        become_program(program);
        None
    });
    let child = child.map_err(Failure::of(&path))?;
    let ended = Failure { errno: libc::ECHILD, path };
    ProcessId::of(child.as_raw().cast_unsigned()).ok_or(ended)
}

/// Leaves the daemon's cgroup and becomes the program, with the standard files that there are.
pub(super) fn run(line: Vec<OsString>) -> ExitCode {
    be_spared();
    leave_cgroups();
    eprintln!("{}", exec(line, None));
    ExitCode::from(127)
}

fn become_program(program: &Detach) {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&program.log);
    let Ok(mut log) = opened else { return };
    let _ = nix::unistd::setsid();
    be_spared();
    let line = program.line.iter().map(OsString::from).collect();
    let error = match record(&program.process_file).and_then(|()| log.try_clone()) {
        Ok(output) => exec(line, Some(output)),
        Err(error) => error,
    };
    let _ = writeln!(log, "start: {error}");
}

fn record(process_file: &Path) -> std::io::Result<()> {
    let us = ProcessId::of(std::process::id()).ok_or_else(|| std::io::Error::other("no /proc"))?;
    crate::system::state::replace(process_file, &us)
}

#[expect(clippy::disallowed_methods, reason = "no child: this process becomes the program")]
fn exec(line: Vec<OsString>, output: Option<File>) -> std::io::Error {
    let mut line = scope(&line).into_iter().chain(line);
    let Some(program) = line.next() else { return std::io::Error::other("no program") };
    let mut command = Command::new(program);
    command.args(line).current_dir("/").stdin(Stdio::null());
    if let Some(output) = output {
        match output.try_clone() {
            Ok(copy) => command.stdout(copy).stderr(output),
            Err(error) => return error,
        };
    }
    command.exec()
}

/// `systemd-run --scope` registers its own process and then becomes the program, so that the
/// process number stays. Without default dependencies: at shutdown it ends after the unmounts.
fn scope(line: &[OsString]) -> Vec<OsString> {
    let runs = Path::new("/run/systemd/system").is_dir();
    let tool =
        ["/usr/bin/systemd-run", "/bin/systemd-run"].into_iter().find(|t| Path::new(t).exists());
    let Some(tool) = tool.filter(|_| runs && !line.is_empty()) else { return Vec::new() };
    let options = ["--scope", "--quiet", "--collect", "--property=DefaultDependencies=no", "--"];
    std::iter::once(tool).chain(options).map(OsString::from).collect()
}

#[expect(clippy::disallowed_methods, reason = "procfs: there is nothing to replace")]
/// From the OOM killer, for as long as there is anybody else. Best effort.
pub(super) fn be_spared() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}

/// Leaves the daemon's cgroups, where no scope will see to it. The first of some moves waits for
/// all processors, some ten milliseconds: so the server does it once, for all that it will fork.
/// Best effort: a kernel or a container that does not let us still maps volumes.
pub(super) fn leave_cgroups() {
    if Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let Ok(text) = std::fs::read("/proc/self/mountinfo") else { return };
    for entry in mountinfo::parse(&text) {
        if matches!(entry.mount.fs_type.as_str(), "cgroup" | "cgroup2") {
            let _ = move_to(&entry.mount.target);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "cgroupfs: there is nothing to replace")]
fn move_to(hierarchy: &Path) -> std::io::Result<()> {
    let own = hierarchy.join(CGROUP);
    if !own.is_dir() {
        std::fs::create_dir(&own)?;
    }
    for setting in ["cpuset.cpus", "cpuset.mems"] {
        // Version 1 takes no process into a cpuset that has neither.
        if let Ok(all) = std::fs::read(hierarchy.join(setting)) {
            let _ = std::fs::write(own.join(setting), all);
        }
    }
    std::fs::write(own.join("cgroup.procs"), "0")
}

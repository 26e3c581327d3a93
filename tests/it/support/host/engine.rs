//! The host's engine: its start, its end, and images.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, host_command, lab_tool};
use crate::support::daemon::{run, timed, within};

impl Host {
    pub(super) fn engine(&self, verb: &[&str], flags: &[&str]) {
        drop(host_command(&self.lab, verb, &self.name, flags));
    }

    /// Makes sure that the engine runs with these flags.
    pub(crate) fn start_engine(&mut self, flags: &[&str]) {
        if self.engine_flags != flags {
            self.stop_engine();
        }
        self.engine(&["engine-start"], flags);
        self.engine_flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Asks the engine to end; without `live-restore` its containers end with it.
    pub(crate) fn stop_engine(&self) {
        self.engine(&["engine-stop"], &[]);
    }

    /// Where the engine listens.
    pub(crate) fn engine_socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Kills the engine; its containers go on.
    pub(crate) fn kill_engine(&self) {
        self.engine(&["engine-kill"], &[]);
    }

    /// Sends the engine a signal; containerd and the containers get none.
    pub(crate) fn signal_engine(&self, signal: Signal) {
        let recorded = std::fs::read_to_string(self.folder.join("pids/dockerd"));
        let recorded = recorded.expect("the engine is running");
        let pid = recorded.split(' ').next().and_then(|pid| pid.parse().ok());
        kill(Pid::from_raw(pid.expect("a process number")), signal).expect("our own engine");
    }

    /// Kills a container's first process behind the engine's back.
    pub(crate) fn kill_process(&self, pid: &str) {
        let number = pid.parse().expect("a process number");
        assert!(number > 1, "no process of a container: {pid}");
        kill(Pid::from_raw(number), Signal::SIGKILL).expect("a process of our own container");
        let over = within(Duration::from_secs(10), || !is_alive(pid));
        assert!(over, "process {pid} goes on after SIGKILL");
    }

    /// Brings an image of the lab into the engine.
    pub(crate) fn load_image(&self, image: &str) {
        let script = lab_tool("images");
        let mut command = timed(180, script.to_str().expect("the path is text"));
        command.arg("load").arg(self.lab.folder().join("images"));
        command.arg(self.lab.folder().join("hosts")).args([&self.name, image]);
        let output = run(&mut command);
        assert!(output.status.success(), "load {image} into {}: {output:?}", self.name);
    }
}

/// A process that has ended, and is not yet collected, is none.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

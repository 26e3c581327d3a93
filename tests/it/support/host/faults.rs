//! Faults on purpose in a host's daemon.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Host;
use crate::support::daemon::within;

impl Host {
    /// Makes sure that the daemon runs with these flags, and can be armed.
    pub(crate) fn armable(&mut self, flags: &[&str]) {
        let rules = format!("@{}", self.rules().display());
        self.set_env(&[("DOCKER_CEPH_FAULT", &rules)]);
        self.daemon(flags);
    }

    /// Arms the running daemon, which takes the rules at its next call.
    pub(crate) fn arm(&self, rules: &str) {
        let (file, new) = (self.rules(), self.rules().with_extension("new"));
        fs::write(&new, rules).and_then(|()| fs::rename(new, file)).expect("written");
    }

    fn rules(&self) -> PathBuf {
        self.ceph_folder().join("rules")
    }

    /// Waits until the daemon stands still at the call for which it was armed.
    #[track_caller]
    pub(crate) fn await_halt(&self, limit: Duration) {
        let is_halted = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon_pid()));
            stat.expect("it is running")
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        };
        assert!(within(limit, is_halted), "it never came to that:\n{}", self.log());
    }

    /// Lets a daemon that stands still go on.
    pub(crate) fn go_on(&self) {
        self.signal_daemon(Signal::SIGCONT);
    }
}

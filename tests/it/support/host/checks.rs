//! What must hold after every test: nothing is left, nothing went wrong unannounced, no key was
//! said aloud.

use std::sync::PoisonError;
use std::time::Duration;

use super::{EAGER, Host};
use crate::support::daemon::{key_in, loops_below, mounts_of, processes_naming, within};

/// How long it may take until nothing is left: the references' grace, and a look around.
pub(crate) const CLEARED: Duration = Duration::from_secs(60);

/// How much of a log is printed.
const TAIL: usize = 20_000;

impl Host {
    /// What there is of the daemon's making: mounts, loop devices, processes.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let folder = format!("{}/", self.ceph_folder().display());
        let mounts = mounts_of(&self.holder, &folder);
        let mounts = mounts.into_iter().map(|target| format!("mount {target}"));
        let loops = loops_below(&folder).into_iter().map(|device| format!("loop {device}"));
        mounts.chain(loops).chain(processes_naming(&folder)).collect()
    }

    /// Waits until nothing of the daemon's making is left.
    #[track_caller]
    pub(crate) fn assert_released(&self) {
        within(CLEARED, || self.leftovers().is_empty());
        let left = self.leftovers();
        assert!(left.is_empty(), "left on {}: {left:#?}", self.name);
    }

    /// Is the volume's file system mounted on this host?
    pub(crate) fn is_mounted(&self, volume: &str) -> bool {
        let target = self.ceph_folder().join("volumes").join(volume);
        let target = target.to_str().expect("the path is text");
        mounts_of(&self.holder, target).iter().any(|mounted| mounted == target)
    }

    /// An error in the daemon's log that has this text is what the test is about.
    pub(crate) fn announce(&mut self, text: &str) {
        self.announced.push(text.to_owned());
    }

    /// Removes the containers of the test, and waits until their volumes are let go of.
    pub(super) fn clear_containers(&mut self) {
        let containers = self.docker().ok(&["ps", "--all", "--quiet"]);
        let containers: Vec<&str> = containers.split_whitespace().collect();
        if !containers.is_empty() {
            self.docker().ok(&[&["rm", "--force", "--volumes"], &containers[..]].concat());
        }
        if !within(Duration::from_secs(5), || self.leftovers().is_empty()) {
            self.daemon(&EAGER);
        }
        self.assert_released();
    }

    /// Removes the volumes of the test; by this, removing is tested as well.
    pub(super) fn clear_volumes(&mut self) {
        let ours =
            std::mem::take(&mut *self.volumes.lock().unwrap_or_else(PoisonError::into_inner));
        let there = self.docker().volumes("ceph", "");
        let there: Vec<&str> =
            there.iter().filter(|name| ours.contains(name)).map(String::as_str).collect();
        if !there.is_empty() {
            self.docker().ok(&[&["volume", "rm"], &there[..]].concat());
        }
    }

    pub(super) fn check(&mut self) {
        let log = self.log();
        let log = &log[self.log_before..];
        let announced = |line: &&str| !self.announced.iter().any(|text| line.contains(text));
        let errors =
            log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
        let errors: Vec<&str> = errors.filter(announced).collect();
        assert!(errors.is_empty(), "errors that nobody announced: {errors:#?}");
        let secret = key_in(&self.lab.keyring());
        let engine = std::fs::read_to_string(self.folder.join("log/dockerd.log"));
        let engine = engine.expect("the engine's log");
        let said = self.docker().said();
        for (what, text) in [("daemon's log", log), ("engine's log", &engine), ("output", &said)] {
            assert!(!text.contains(&secret), "the {what} holds the key");
        }
    }

    /// For a failed test.
    pub(super) fn print_logs(&self) {
        let engine = std::fs::read_to_string(self.folder.join("log/dockerd.log"));
        eprintln!("== {}: left: {:#?}", self.name, self.leftovers());
        eprintln!("== {}: commands\n{}", self.name, tail(&self.docker().said(), TAIL / 4));
        eprintln!("== {}: engine\n{}", self.name, tail(&engine.unwrap_or_default(), TAIL / 4));
        let log = self.log();
        eprintln!("== {}: daemon\n{}", self.name, tail(&log[self.log_before..], TAIL));
    }
}

/// The end of a text, for a message.
pub(crate) fn tail(text: &str, length: usize) -> &str {
    let start = text.len().saturating_sub(length);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[start..]
}

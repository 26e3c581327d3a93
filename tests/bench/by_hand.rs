//! The same work as an operator does it: `rbd`, `rbd-fuse`, `losetup`, `mkfs`, `mount`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Lab, processes_naming, within_by};

/// Volumes in a folder, without the driver.
#[derive(Debug)]
pub(crate) struct Hand<'a> {
    lab: &'a Lab,
    folder: tempfile::TempDir,
}

/// An image that was mounted by hand.
#[derive(Debug)]
pub(crate) struct Attached {
    fuse: PathBuf,
    device: String,
    target: PathBuf,
}

impl<'a> Hand<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let folder = tempfile::Builder::new().prefix("dcb-hand-").tempdir_in("/dev/shm");
        Self { lab, folder: folder.unwrap() }
    }

    pub(crate) fn create(&self, name: &str) {
        self.lab.rbd(&["create", "--size", "512M", name]);
    }

    pub(crate) fn list(&self) {
        self.lab.rbd(&["ls"]);
    }

    pub(crate) fn get(&self, name: &str) {
        self.lab.rbd(&["info", name]);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.lab.rbd(&["trash", "mv", name]);
    }

    pub(crate) fn mount(&self, name: &str, format: bool) -> Attached {
        let folder = self.folder.path();
        let (fuse, target) = (folder.join(format!("{name}.fuse")), folder.join(name));
        std::fs::create_dir_all(&fuse).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        let mut map = Command::new("rbd-fuse");
        map.arg("-c").arg(self.lab.conf()).arg("--keyring").arg(self.lab.keyring());
        map.args(["--id", "docker", "-p", "rbd", "-s", "docker", "-r", name]).arg(&fuse);
        run(&mut map);
        let image = fuse.join(name);
        let mut losetup = Command::new("losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]).arg(&image);
        let device = run(&mut losetup).trim().to_owned();
        if format {
            run(Command::new("mkfs.ext4").args(["-q", "-E", "nodiscard", &device]));
        }
        run(Command::new("mount").arg(&device).arg(&target));
        Attached { fuse, device, target }
    }
}

impl Attached {
    /// Returns before the image is free: `rbd-fuse` closes it after its unmount.
    pub(crate) fn unmount(&self) {
        run(Command::new("umount").arg(&self.target));
        run(Command::new("losetup").args(["--detach", &self.device]));
        run(Command::new("umount").arg(&self.fuse));
    }

    /// The `rbd-fuse` behind it, by its folder in `/proc`.
    pub(crate) fn process(&self) -> PathBuf {
        let named = processes_naming(self.fuse.to_str().unwrap());
        let [process] = &named[..] else { panic!("one rbd-fuse: {named:?}") };
        let number = process.trim_start_matches("process ").split(':').next().unwrap();
        Path::new("/proc").join(number)
    }
}

/// Waits until `rbd-fuse` has given the image back: before that, no other host can take it.
pub(crate) fn wait_until_free(process: &Path) {
    let (limit, pause) = (Duration::from_secs(30), Duration::from_micros(500));
    // One that has ended has no arguments any more, whoever is to collect it takes his time.
    let ended = || std::fs::read(process.join("cmdline")).map_or(true, |line| line.is_empty());
    assert!(within_by(limit, pause, ended), "rbd-fuse does not end");
}

/// Runs a program that has to succeed, within a minute.
pub(crate) fn run(command: &mut Command) -> String {
    let mut bounded = Command::new("timeout");
    bounded.arg("60").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        bounded.env(name, value.unwrap_or_default());
    }
    let output = bounded.output().expect("the program starts");
    assert!(output.status.success(), "{bounded:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

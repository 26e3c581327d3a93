//! The same work as an operator does it: `rbd`, `rbd-fuse`, `losetup`, `mkfs`, `mount`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Times;
use crate::daemon::Lab;

pub(crate) fn measure(lab: &Lab, volumes: u32) -> Times {
    let folder = tempfile::Builder::new().prefix("dcb-hand-").tempdir_in("/tmp").unwrap();
    let mut times = Times::default();
    let names: Vec<String> = (0..volumes).map(|n| format!("hand{n}")).collect();
    for name in &names {
        times.take("create", || lab.rbd(&["create", "--size", "512M", name]));
    }
    for _ in &names {
        times.take("list", || lab.rbd(&["ls"]));
    }
    for name in &names {
        times.take("get", || lab.rbd(&["info", name]));
    }
    for (mount, unmount, format) in
        [("first mount", "unmount", true), ("mount again", "unmount again", false)]
    {
        let mut attached = Vec::new();
        for name in &names {
            attached.push(times.take(mount, || attach(lab, folder.path(), name, format)));
        }
        for image in attached {
            times.take(unmount, || image.detach());
        }
    }
    for name in &names {
        times.take("remove", || lab.rbd(&["trash", "mv", name]));
    }
    times
}

/// An image that was mounted by hand.
#[derive(Debug)]
struct Attached {
    fuse: PathBuf,
    device: String,
    target: PathBuf,
}

fn attach(lab: &Lab, folder: &Path, name: &str, format: bool) -> Attached {
    let (fuse, target) = (folder.join(format!("{name}.fuse")), folder.join(name));
    std::fs::create_dir_all(&fuse).unwrap();
    std::fs::create_dir_all(&target).unwrap();
    let mut map = Command::new("rbd-fuse");
    map.arg("-c").arg(lab.conf()).arg("--keyring").arg(lab.keyring());
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

impl Attached {
    fn detach(&self) {
        run(Command::new("umount").arg(&self.target));
        run(Command::new("losetup").args(["--detach", &self.device]));
        run(Command::new("umount").arg(&self.fuse));
    }
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

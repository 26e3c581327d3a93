//! Volumes of CephFS beside the same work by hand: `ceph fs subvolume …` and `ceph-fuse`.
//!
//! Both mount by `ceph-fuse`, the driver with its own settings and by hand with those of the
//! program; the volume with `client_oc=true` is the one that is like it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::Times;
use crate::by_hand::run;
use crate::control::call;
use crate::daemon::{Daemon, Lab, within_by};
use crate::data;

const CALLS: [&str; 5] = ["create", "mount", "unmount", "mount again", "remove"];

/// A tree of this many folders with this many files of 2 KiB each.
const TREE: (usize, usize) = (20, 50);

pub(crate) fn report(lab: &Lab, driver: &Daemon, volumes: u32, seconds: u32) {
    let (mut ours, mut by_hand) = (Times::default(), Times::default());
    let folder = tempfile::Builder::new().prefix("dcb-folders-").tempdir().unwrap();
    let hand = Hand { lab, folder: folder.path() };
    control(&hand, driver, volumes, &mut ours, &mut by_hand);
    println!("\ncontrol calls of CephFS, {volumes} volumes, medians in ms");
    Times::compare(&CALLS, &ours, &by_hand);
    files(&hand, driver, seconds);
}

fn control(hand: &Hand<'_>, driver: &Daemon, volumes: u32, ours: &mut Times, by_hand: &mut Times) {
    let names: Vec<String> = (0..volumes).map(|n| format!("folder{n}")).collect();
    let image = |name: &str| format!("by-hand-{name}");
    let id = |name: &str| json!({"Name": name, "ID": "bench"});
    for name in &names {
        let options = json!({"type": "cephfs", "size": "1G", "on-remove": "delete"});
        let body = json!({"Name": name, "Opts": options});
        ours.take("create", || call(driver, "Create", &body));
        by_hand.take("create", || hand.create(&image(name)));
    }
    for mount in ["mount", "mount again"] {
        for name in &names {
            ours.take(mount, || call(driver, "Mount", &id(name)));
            by_hand.take(mount, || hand.mount(&image(name)));
        }
        for name in &names {
            ours.take("unmount", || call(driver, "Unmount", &id(name)));
            by_hand.take("unmount", || hand.unmount(&image(name)));
        }
    }
    for name in &names {
        ours.take("remove", || call(driver, "Remove", &json!({"Name": name})));
        by_hand.take("remove", || hand.remove(&image(name)));
    }
}

/// fio and many small files, in a volume and in a bare mount of the same file system.
fn files(hand: &Hand<'_>, driver: &Daemon, seconds: u32) {
    let bare = hand.bare();
    for (what, options) in [
        ("the volume", json!({"type": "cephfs"})),
        (
            "the volume with mount-options=client_oc=true",
            json!({"type": "cephfs", "mount-options": "client_oc=true"}),
        ),
    ] {
        call(driver, "Create", &json!({"Name": "files", "Opts": options}));
        let mounted = call(driver, "Mount", &json!({"Name": "files", "ID": "files"}));
        let volume = Path::new(mounted["Mountpoint"].as_str().unwrap());
        data::beside(hand.lab, what, volume, &bare, seconds);
        let (ours, by_hand) = (small_files(volume), small_files(&bare));
        println!("\n{} files of 2 KiB in {what}, in ms", TREE.0 * TREE.1);
        Times::compare(&["untar", "rm -r"], &ours, &by_hand);
        call(driver, "Unmount", &json!({"Name": "files", "ID": "files"}));
        call(driver, "Remove", &json!({"Name": "files"}));
    }
    run(Command::new("umount").arg(&bare));
}

fn small_files(folder: &Path) -> Times {
    let source = tempfile::tempdir().unwrap();
    for number in 0..TREE.0 {
        let inner = source.path().join(number.to_string());
        std::fs::create_dir(&inner).unwrap();
        for file in 0..TREE.1 {
            std::fs::write(inner.join(file.to_string()), [7; 2048]).unwrap();
        }
    }
    let archive = source.path().join("tree.tar");
    let tar = |words: &[&str]| run(Command::new("tar").args(words));
    let (from, archive) = (source.path().to_str().unwrap(), archive.to_str().unwrap().to_owned());
    tar(&["-C", from, "--exclude", "tree.tar", "-cf", &archive, "."]);
    let target = folder.join("tree");
    std::fs::create_dir(&target).unwrap();
    let mut times = Times::default();
    let start = Instant::now();
    tar(&["-C", target.to_str().unwrap(), "-xf", &archive]);
    run(Command::new("sync").arg("-f").arg(&target));
    times.add("untar", start.elapsed());
    times.take("rm -r", || run(Command::new("rm").arg("-r").arg(&target)));
    times
}

/// Subvolumes and mounts without the driver.
struct Hand<'a> {
    lab: &'a Lab,
    folder: &'a Path,
}

impl Hand<'_> {
    fn subvolume(&self, words: &[&str]) -> String {
        self.lab.ceph(&[&["fs", "subvolume"], words].concat())
    }

    fn create(&self, name: &str) {
        let size = (1_u64 << 30).to_string();
        self.subvolume(&["create", "cephfs", name, "--group_name", "docker", "--size", &size]);
    }

    fn mount(&self, name: &str) {
        let path = self.subvolume(&["getpath", "cephfs", name, "--group_name", "docker"]);
        self.mount_at(path.trim(), &self.folder.join(name));
    }

    fn mount_at(&self, path: &str, target: &Path) {
        std::fs::create_dir_all(target).unwrap();
        let mut mount = Command::new("ceph-fuse");
        // The lab's configuration has one such file for all processes of one client.
        let pid_file = format!("--pid-file={}.pid", target.display());
        mount.arg("-c").arg(self.lab.conf()).args(["--id", "admin", "-r", path, &pid_file]);
        mount.arg(target);
        run(&mut mount);
    }

    /// Ends when its process has.
    fn unmount(&self, name: &str) {
        let target = self.folder.join(name);
        let process = crate::daemon::processes_naming(target.to_str().unwrap());
        let number = process[0].trim_start_matches("process ").split(':').next().unwrap();
        let line = Path::new("/proc").join(number).join("cmdline");
        run(Command::new("umount").arg(&target));
        let ended = || std::fs::read(&line).map_or(true, |line| line.is_empty());
        let (limit, pause) =
            (std::time::Duration::from_secs(30), std::time::Duration::from_millis(1));
        assert!(within_by(limit, pause, ended), "ceph-fuse does not end");
    }

    fn remove(&self, name: &str) {
        self.subvolume(&["rm", "cephfs", name, "--group_name", "docker"]);
    }

    /// A folder of the file system's root, mounted.
    fn bare(&self) -> std::path::PathBuf {
        let target = self.folder.join("bare");
        self.mount_at("/", &target);
        target
    }
}

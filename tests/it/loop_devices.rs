//! Real file systems and mounts on real loop devices. Needs root, and no cluster.

mod clones;
mod freeze;
mod old_files;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::system::{
    DeviceNumber, Filesystems, FormatRequest, LinuxSettings, LinuxSystem, MountRequest, Mounts,
    Ownership, Probe, SystemErrorKind,
};
use docker_volume_ceph::volume::FsType;

const SIZE: u64 = 400 << 20;

pub(crate) fn soon() -> Deadline {
    // Longer than the cluster keeps the lock of a client that was killed.
    Deadline::after(Duration::from_secs(60))
}

/// Runs a program that has to succeed, and gives what it printed. Its limit is for one that hangs,
/// also on an emulated processor that others share, where `ceph` alone takes long.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("timeout").args(["120", "sh", "-c", script]).output();
    let output = output.expect("a shell");
    let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {err}");
    String::from_utf8_lossy(out).trim().to_owned()
}

/// A system with a state folder of its own, and a loop device; both go with it.
struct Host {
    system: LinuxSystem,
    folder: tempfile::TempDir,
    file: PathBuf,
    device: PathBuf,
}

impl Host {
    fn new() -> Self {
        Self::in_folder(tempfile::tempdir().expect("a folder"))
    }

    fn in_folder(folder: tempfile::TempDir) -> Self {
        let file = folder.path().join("disk");
        File::create(&file).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
        let device = sh(&format!("losetup --find --show --direct-io=off {}", file.display()));
        let mut settings = LinuxSettings::new(folder.path().join("state"), "/nowhere", "x");
        settings.helper = PathBuf::from(env!("CARGO_BIN_EXE_docker-ceph"));
        let system = LinuxSystem::new(settings).expect("a system");
        Self { system, folder, file, device: PathBuf::from(device) }
    }

    fn format(&self, fs_type: FsType) {
        let request = FormatRequest { fs_type, mkfs_options: Vec::new() };
        let held = self.system.format(&self.device, &request, &soon()).expect("a file system");
        assert_eq!(held, Probe::Empty);
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("mnt/v1")
    }

    fn request(&self, fs_type: FsType) -> MountRequest {
        MountRequest {
            device: self.device.clone(),
            target: self.target(),
            fs_type,
            read_only: false,
            options: vec!["noatime".to_owned()],
        }
    }

    fn mounted(fs_type: FsType) -> Self {
        let host = Self::new();
        host.format(fs_type);
        host.mount(fs_type);
        host
    }

    fn mount(&self, fs_type: FsType) {
        self.system.mount(&self.request(fs_type), &soon()).expect("a mount");
    }

    fn unmount(&self) {
        self.system.unmount(&self.target(), &soon()).expect("an unmount");
    }

    fn number(&self) -> DeviceNumber {
        let device = std::fs::metadata(&self.device).expect("the device").rdev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let number = |part: u64| u32::try_from(part).expect("a device number");
        DeviceNumber { major: number(major), minor: number(minor) }
    }

    fn probe(&self) -> Probe {
        self.system.probe(&self.device, &soon()).expect("a probe")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let (target, device) = (self.target(), &self.device);
        let script = format!(
            "umount -l {0} 2>/dev/null; losetup -d {1} 2>/dev/null; true",
            target.display(),
            device.display()
        );
        let _ = Command::new("timeout").args(["20", "sh", "-c", &script]).status();
    }
}

/// A process in a mount namespace of its own, ended when this is dropped.
pub(crate) struct Elsewhere(Child);

impl Elsewhere {
    /// Runs the script there, and then stays.
    pub(crate) fn after(propagation: &str, script: &str) -> Self {
        let script = format!("{script}\necho ready; exec sleep 300");
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", propagation, "sh", "-ec", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a mount namespace");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
            .expect("ready");
        assert_eq!(line.trim(), "ready");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_device_is_formatted_mounted_used_and_unmounted() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let host = Host::new();
        assert_eq!(host.probe(), Probe::Empty);
        host.format(fs_type);
        assert_eq!(host.probe(), Probe::Filesystem(fs_type));
        host.system.check(&host.device, fs_type, &soon()).expect("a clean file system");
        host.mount(fs_type);
        let mounts = host.system.mounts().expect("the mounts");
        let ours: Vec<_> = mounts.iter().filter(|mount| mount.target == host.target()).collect();
        assert_eq!(ours.len(), 1);
        assert_eq!((ours[0].number, ours[0].read_only), (host.number(), false));
        let usage = host.system.usage(&host.target(), &soon()).expect("the usage");
        assert!(usage.size.0 > SIZE / 2 && usage.free.0 > SIZE / 2, "{usage:?}");
        host.system.trim(&host.target(), &soon()).expect("a trim");
        host.unmount();
        assert!(!host.target().exists(), "the folder stayed");
        host.unmount();
    }
}

#[test]
fn a_target_that_is_taken_is_refused() {
    let host = Host::mounted(FsType::Ext4);
    let error = host.system.mount(&host.request(FsType::Ext4), &soon()).expect_err("taken");
    assert!(error.to_string().contains("something is mounted there"), "{error}");
}

#[test]
fn data_is_never_formatted_over() {
    let host = Host::new();
    let request = FormatRequest { fs_type: FsType::Ext4, mkfs_options: Vec::new() };
    let left_alone = |found: Probe| {
        let contents = || std::fs::read(&host.device).expect("the device's bytes");
        let before = contents();
        let format = host.system.format(&host.device, &request, &soon());
        assert_eq!(format.expect("a probe"), found);
        assert!(contents() == before, "{found:?} was written to");
    };
    let device = File::options().write(true).open(&host.device).expect("the device");
    device.write_all_at(b"precious", 700_000).and_then(|()| device.sync_all()).expect("data");
    left_alone(Probe::Other("data of an unknown kind".to_owned()));
    device.write_all_at(&[0; 8], 700_000).expect("blank again");
    host.format(FsType::Xfs);
    left_alone(Probe::Filesystem(FsType::Xfs));
    sh(&format!("wipefs -qa {0} && mkswap {0} 2>&1", host.device.display()));
    left_alone(Probe::Other("swap".to_owned()));
}

#[test]
fn a_device_that_cannot_be_read_is_no_blank_one() {
    let host = Host::new();
    // The file below shrinks to nothing: reads beyond its end fail.
    File::options().write(true).open(&host.file).and_then(|f| f.set_len(0)).expect("cut");
    sh(&format!("blockdev --flushbufs {}", host.device.display()));
    let probed = host.system.probe(&host.device, &soon());
    assert!(!matches!(probed, Ok(Probe::Empty)), "{probed:?}");
}

/// The kernel lets only a process with this capability grow a mounted ext4.
fn has_sys_resource() -> bool {
    let bits = sh("sed -n 's/^CapEff:\\t//p' /proc/self/status");
    u64::from_str_radix(&bits, 16).expect("capabilities") >> 24 & 1 == 1
}

impl Host {
    fn size(&self) -> u64 {
        self.system.usage(&self.target(), &soon()).expect("the usage").size.0
    }

    fn grow(&self, fs_type: FsType) -> Result<(), SystemErrorKind> {
        let grown = self.system.grow(&self.device, &self.target(), fs_type, &soon());
        grown.map_err(|error| error.kind)
    }

    fn enlarge(&self) {
        let file = File::options().write(true).open(&self.file).expect("the file");
        file.set_len(2 * SIZE).expect("more");
        sh(&format!("losetup -c {}", self.device.display()));
    }
}

#[test]
fn a_file_system_grows_while_it_is_mounted() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let host = Host::mounted(fs_type);
        let before = host.size();
        host.grow(fs_type).expect("nothing to do");
        host.enlarge();
        match host.grow(fs_type) {
            Ok(()) => assert!(host.size() > before + SIZE / 2, "{fs_type}: {}", host.size()),
            Err(SystemErrorKind::Refused(text)) => {
                assert!(fs_type == FsType::Ext4 && !has_sys_resource(), "{fs_type}: {text}");
                assert!(text.contains("SYS_RESOURCE"), "{text}");
            }
            Err(other) => panic!("{fs_type}: {other}"),
        }
    }
}

#[test]
fn ext4_grows_before_it_is_mounted() {
    let host = Host::mounted(FsType::Ext4);
    let before = host.size();
    host.unmount();
    host.grow(FsType::Ext4).expect("nothing to do");
    host.enlarge();
    host.grow(FsType::Ext4).expect("grown");
    host.mount(FsType::Ext4);
    assert!(host.size() > before + SIZE / 2, "{before} to {}", host.size());
}

#[test]
fn a_folder_is_made_once_with_its_owner_and_no_link_is_followed() {
    let host = Host::mounted(FsType::Ext4);
    let make = |name: &str, owner| host.system.make_folder(&host.target(), name, owner, &soon());
    let owner = Ownership { uid: Some(999), gid: Some(998), mode: Some(0o2770) };
    make("data", owner).expect("made");
    make("data", Ownership { uid: Some(1), ..owner }).expect("there");
    let made = std::fs::metadata(host.target().join("data")).expect("the folder");
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (999, 998, 0o2770));

    std::os::unix::fs::symlink("/etc", host.target().join("link")).expect("a link");
    make("link", owner).expect_err("a link is no folder");
    std::fs::write(host.target().join("file"), "x").expect("a file");
    make("file", owner).expect_err("a file is no folder");
    for name in ["", ".", "..", "a/b", "../x"] {
        make(name, owner).expect_err(name);
    }
}

#[test]
fn open_files_are_named_when_an_unmount_is_refused() {
    let host = Host::mounted(FsType::Ext4);
    let path = host.target().join("held");
    let held = File::create(&path).expect("a file");
    let error = host.system.unmount(&host.target(), &soon()).expect_err("busy");
    let SystemErrorKind::Busy(holders) = &error.kind else { panic!("{error}") };
    let us = holders.iter().find(|holder| holder.pid == std::process::id());
    assert_eq!(us.expect("ourselves").target, path);
    drop(held);
    host.unmount();
}

#[test]
fn a_mount_in_another_namespace_is_a_holder_and_a_copied_namespace_is_none() {
    let host = Host::mounted(FsType::Ext4);
    let target = host.target();
    host.system.make_folder(&target, "data", Ownership::default(), &soon()).expect("data");
    let holders = || host.system.holders(host.number(), &target).expect("the holders");
    let copy = Elsewhere::after("private", "");
    assert_eq!(holders(), [], "a private copy of the namespace counts");

    let inside = tempfile::tempdir().expect("a folder");
    let (from, to) = (target.join("data"), inside.path().to_owned());
    let bind = format!("mount --bind {} {}", from.display(), to.display());
    let container = Elsewhere::after("private", &bind);
    let found = holders();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].pid, &found[0].target), (container.pid(), &to));
    host.unmount();
    assert_eq!(holders().len(), 1, "our own unmount ends nobody's use");
    drop((container, copy));
    assert_eq!(holders(), []);
}

#[test]
fn a_bind_mount_in_our_own_namespace_is_a_holder() {
    let host = Host::mounted(FsType::Ext4);
    let other = tempfile::tempdir().expect("a folder");
    let (from, to) = (host.target(), other.path().to_owned());
    sh(&format!("mount --bind {} {}", from.display(), to.display()));
    let found = host.system.holders(host.number(), &from).expect("the holders");
    sh(&format!("umount {}", to.display()));
    assert_eq!(found.iter().map(|holder| &holder.target).collect::<Vec<_>>(), [&to]);
}

#[test]
fn small_damage_is_repaired_and_large_damage_is_for_a_person() {
    let host = Host::mounted(FsType::Ext4);
    host.unmount();
    let debugfs = |command: &str| {
        sh(&format!("debugfs -w -R '{command}' {} 2>&1", host.device.display()));
    };
    let check = || host.system.check(&host.device, FsType::Ext4, &soon());
    // Marked as having errors, with a wrong count of free blocks: both are preened.
    debugfs("ssv state 2");
    debugfs("ssv free_blocks_count 1");
    check().expect("repaired");
    check().expect("clean");
    // The root folder is no folder any more.
    debugfs("sif <2> mode 0100644");
    debugfs("ssv state 2");
    let error = check().expect_err("not by itself");
    assert!(matches!(error.kind, SystemErrorKind::Refused(_)), "{error}");
    assert!(error.to_string().contains("by hand"), "{error}");
}

#[test]
fn only_a_file_system_that_nobody_has_to_look_at_is_sound() {
    let host = Host::new();
    let sound = |fs_type| host.system.is_sound(&host.device, fs_type, &soon()).expect("an answer");
    assert!(!sound(FsType::Ext4), "nothing is there");
    host.format(FsType::Ext4);
    assert!(sound(FsType::Ext4) && !sound(FsType::Xfs));
    host.mount(FsType::Ext4);
    assert!(!sound(FsType::Ext4), "its journal is in use");
    host.unmount();
    assert!(sound(FsType::Ext4), "cleanly unmounted");
    sh(&format!("debugfs -w -R 'ssv state 2' {} 2>&1", host.device.display()));
    assert!(!sound(FsType::Ext4), "it has errors");
    host.system.check(&host.device, FsType::Ext4, &soon()).expect("repaired");
    assert!(sound(FsType::Ext4), "repaired");
    File::options().write(true).open(&host.file).and_then(|f| f.set_len(2 * SIZE)).expect("larger");
    sh(&format!("losetup --set-capacity {}", host.device.display()));
    assert!(!sound(FsType::Ext4), "there is room to grow");
    sh(&format!("wipefs -qa {0} && mkfs.xfs -q {0}", host.device.display()));
    assert!(!sound(FsType::Ext4) && !sound(FsType::Xfs), "XFS is not judged");
}

#[test]
fn xfs_replays_its_log_at_the_mount() {
    let host = Host::mounted(FsType::Xfs);
    let target = host.target();
    let file = File::create(target.join("kept")).expect("a file");
    (&file).write_all(b"committed").and_then(|()| file.sync_all()).expect("synced");
    // What a power cut leaves: the device as it was, with the log not yet worked in.
    let shot = host.folder.path().join("shot");
    sh(&format!("cp --sparse=always {} {}", host.file.display(), shot.display()));
    drop(file);
    host.unmount();
    sh(&format!("dd if={} of={} bs=1M oflag=direct 2>&1", shot.display(), host.device.display()));
    host.system.check(&host.device, FsType::Xfs, &soon()).expect("left to the mount");
    host.mount(FsType::Xfs);
    assert_eq!(std::fs::read(target.join("kept")).expect("the file"), b"committed");
}

#[test]
fn a_child_that_the_kernel_does_not_let_go_holds_nobody_up() {
    let host = Arc::new(Host::mounted(FsType::Ext4));
    let target = host.target();
    sh(&format!("fsfreeze -f {}", target.display()));
    let started = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(500));
    let stuck = host.system.make_folder(&target, "x", Ownership::default(), &deadline);
    let took = started.elapsed();
    sh(&format!("fsfreeze -u {}", target.display()));
    let error = stuck.expect_err("it cannot have been made");
    assert!(matches!(error.kind, SystemErrorKind::Timeout { .. }), "{error}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_mount_option_that_the_file_system_does_not_know_is_an_error_that_leaves_nothing() {
    let host = Host::new();
    host.format(FsType::Ext4);
    let mut request = host.request(FsType::Ext4);
    request.options = vec!["no-such-option".to_owned()];
    host.system.mount(&request, &soon()).expect_err("unknown");
    assert!(!host.target().exists());
}

#[test]
fn twenty_folders_at_once() {
    let host = Host::mounted(FsType::Xfs);
    let make = |n: u32| {
        let name = format!("v{n}");
        host.system.make_folder(&host.target(), &name, Ownership::default(), &soon())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|n| scope.spawn(move || make(n))).collect();
        for thread in all {
            thread.join().expect("no panic").expect("made");
        }
    });
    let made = |n: u32| Path::new(&host.target()).join(format!("v{n}")).is_dir();
    assert!((0..20).all(made));
}

#[test]
fn the_server_of_kernel_calls_is_started_again_when_it_dies() {
    let host = Host::mounted(FsType::Ext4);
    host.size();
    let own = std::process::id();
    let helper = env!("CARGO_BIN_EXE_docker-ceph");
    let server = format!("pgrep -P {own} -f '^{helper} kernel serve$'");
    for pid in sh(&server).lines() {
        // Those of the tests beside this one, too: they have to bear it.
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    assert!(host.size() > 0);
}

//! The fuse mapper on a real cluster. Needs root, and `DOCKER_CEPH_LAB`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::system::{
    DeviceNumber, Filesystems, FormatRequest, LinuxSettings, LinuxSystem, MapRequest, MappedDevice,
    Mappers, MountRequest, Mounts, SystemErrorKind,
};
use docker_volume_ceph::volume::{FsType, ImageSpec, MapperKind};

use crate::loop_devices::{Elsewhere, sh, soon};

const SIZE: u64 = 256 << 20;

/// Some tests pause the cluster's daemons: those want it for themselves.
pub(crate) static CLUSTER: std::sync::RwLock<()> = std::sync::RwLock::new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) fn lab() -> PathBuf {
    let lab = std::env::var_os("DOCKER_CEPH_LAB");
    PathBuf::from(lab.expect("these tests need a cluster: run them with `make test T=ceph`"))
}

fn conf() -> PathBuf {
    lab().join("cluster/ceph.conf")
}

/// `rbd` or `ceph` as the administrator.
pub(crate) fn admin(line: &str) -> String {
    sh(&format!("CEPH_CONF={} {line}", conf().display()))
}

/// A system with a state folder of its own; what is still mapped in it at the end is unmapped.
struct Host {
    system: LinuxSystem,
    folder: tempfile::TempDir,
    images: Mutex<Vec<ImageSpec>>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let system = system_in(folder.path());
        Self { system, folder, images: Mutex::default() }
    }

    /// A daemon started again on the same state folder.
    fn restarted(&self) -> LinuxSystem {
        system_in(self.folder.path())
    }

    fn image_in(&self, location: &str) -> ImageSpec {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = format!("{location}/sys-{}-{number}", std::process::id());
        admin(&format!("rbd create {text} --size 256M"));
        let image: ImageSpec = text.parse().expect("a spec");
        self.images.lock().expect("the list").push(image.clone());
        image
    }

    fn image(&self) -> ImageSpec {
        self.image_in("rbd/docker")
    }

    fn map(&self, image: &ImageSpec) -> MappedDevice {
        self.system.map(&request(image, false), &soon()).expect("a map")
    }

    fn unmap(&self, device: &MappedDevice) {
        self.system.unmap(device, &soon()).expect("an unmap");
    }

    fn mounted(&self, image: &ImageSpec) -> MappedDevice {
        let device = self.map(image);
        let request = FormatRequest { fs_type: FsType::Ext4, mkfs_options: Vec::new() };
        self.system.format(&device.device, &request, &soon()).expect("a file system");
        self.mount(&device);
        device
    }

    fn mount(&self, device: &MappedDevice) {
        let request = MountRequest {
            device: device.device.clone(),
            target: self.target(),
            fs_type: FsType::Ext4,
            read_only: device.read_only,
            options: Vec::new(),
        };
        self.system.mount(&request, &soon()).expect("a mount");
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// Nothing is left of any map: no device, process, mount or folder.
    fn assert_nothing_left(&self) {
        assert_eq!(self.system.mapped().expect("the maps"), []);
        let left = std::fs::read_dir(self.folder.path().join("state/fuse"));
        let left: Vec<_> = left.into_iter().flatten().flatten().map(|it| it.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        let folder = self.folder.path().display().to_string();
        let mounts = self.system.mounts().expect("the mounts");
        assert!(mounts.iter().all(|mount| !mount.target.starts_with(&folder)));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let target = self.target().display().to_string();
        let _ = Command::new("umount").args(["-l", &target]).output();
        for device in self.system.mapped().unwrap_or_default() {
            if let Err(error) = self.system.unmap(&device, &soon()) {
                eprintln!("{error}");
            }
        }
        for image in self.images.lock().expect("the list").drain(..) {
            let script = format!("CEPH_CONF={} timeout 20 rbd rm {image}", conf().display());
            let _ = Command::new("sh").args(["-c", &script]).output();
        }
    }
}

pub(crate) fn system_in(folder: &Path) -> LinuxSystem {
    let mut settings = LinuxSettings::new(folder.join("state"), conf(), "docker");
    settings.keyring = Some(lab().join("cluster/ceph.client.docker.keyring"));
    settings.helper = PathBuf::from(env!("CARGO_BIN_EXE_docker-ceph"));
    LinuxSystem::new(settings).expect("a system")
}

fn request(image: &ImageSpec, read_only: bool) -> MapRequest {
    let (mapper, image) = (MapperKind::Fuse, image.clone());
    MapRequest { mapper, image, read_only, map_options: Vec::new(), client: None }
}

fn open(device: &MappedDevice) -> File {
    File::options().read(true).write(true).open(&device.device).expect("the device")
}

fn read(device: &MappedDevice, offset: u64) -> Vec<u8> {
    let mut data = vec![0; 4096];
    open(device).read_exact_at(&mut data, offset).expect("read");
    data
}

fn signal(device: &MappedDevice, signal: nix::sys::signal::Signal) {
    let pid = device.process.expect("a process").pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).expect("sent");
}

fn kill_rbd_fuse(device: &MappedDevice) {
    signal(device, nix::sys::signal::Signal::SIGKILL);
    while device.process.expect("a process").is_alive() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The daemons of the cluster stand still while this lives.
pub(crate) struct Paused(Vec<String>);

impl Paused {
    pub(crate) fn now(daemons: &[&str]) -> Self {
        let pids = daemons.iter().map(|daemon| {
            let file = lab().join("cluster/pids").join(daemon);
            let text = std::fs::read_to_string(&file).expect("the lab's process file");
            text.split_whitespace().next().expect("a process number").to_owned()
        });
        let pids: Vec<_> = pids.collect();
        sh(&format!("kill -STOP {}", pids.join(" ")));
        Self(pids)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        sh(&format!("kill -CONT {}", self.0.join(" ")));
    }
}

#[test]
fn what_is_written_is_there_at_the_next_map() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    for location in ["rbd/docker", "rbd/other"] {
        let image = host.image_in(location);
        let device = host.map(&image);
        assert!(device.is_whole());
        assert_eq!(host.system.mapped().expect("the maps"), std::slice::from_ref(&device));
        assert_eq!(
            sh(&format!("blockdev --getsize64 {}", device.device.display())),
            SIZE.to_string()
        );
        open(&device).write_all_at(&[7; 4096], 8192).expect("written");
        host.unmap(&device);
        host.unmap(&device);
        host.assert_nothing_left();
        let device = host.map(&image);
        assert_eq!(read(&device, 8192), [7; 4096]);
        host.unmap(&device);
    }
}

#[test]
fn fsynced_data_survives_the_end_of_rbd_fuse_and_what_is_broken_is_cleaned() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let image = host.image();
    let device = host.mounted(&image);
    let file = File::create(host.target().join("kept")).expect("a file");
    file.write_all_at(&[9; 100_000], 0).and_then(|()| file.sync_all()).expect("synced");
    kill_rbd_fuse(&device);
    let broken = host.system.mapped().expect("the maps");
    assert_eq!(broken.len(), 1);
    assert!(!broken[0].is_whole());
    assert_eq!((&broken[0].device, broken[0].process), (&device.device, None));
    drop(file);
    host.system.unmount(&host.target(), &soon()).expect("an unmount of the broken");
    host.unmap(&broken[0]);
    host.assert_nothing_left();

    let device = host.map(&image);
    host.mount(&device);
    assert_eq!(std::fs::read(host.target().join("kept")).expect("the file"), vec![9; 100_000]);
    host.system.unmount(&host.target(), &soon()).expect("an unmount");
    host.unmap(&device);
}

#[test]
fn errors_of_the_cluster_are_errors_of_the_device() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let image = host.image();
    let device = host.map(&image);
    open(&device).write_all_at(&[5; 4096], 4096).expect("written");
    let status = admin(&format!("rbd status {image}"));
    let address = status.split("watcher=").nth(1).and_then(|rest| rest.split(' ').next());
    admin(&format!("ceph osd blocklist add {} 120 2>&1", address.expect("a watcher")));
    let mut data = [0; 4096];
    let direct = |write: bool| {
        let node = device.device.display();
        let line = if write {
            format!("dd if=/dev/zero of={node} bs=4096 count=1 oflag=direct")
        } else {
            format!("dd if={node} of=/dev/null bs=4096 count=1 skip=1 iflag=direct")
        };
        Command::new("timeout").args(["20", "sh", "-c", &line]).output().expect("dd").status
    };
    assert!(!direct(true).success(), "a write of a fenced client succeeded");
    assert!(!direct(false).success(), "a read of a fenced client gave data or zeros");
    let synced = File::options().write(true).open(&device.device).and_then(|file| {
        file.write_all_at(&[6; 4096], 0)?;
        file.sync_all()
    });
    assert!(synced.is_err(), "an fsync of a fenced client succeeded");
    host.unmap(&device);
    host.assert_nothing_left();
    let device = host.map(&image);
    open(&device).read_exact_at(&mut data, 4096).expect("read");
    assert_eq!(data, [5; 4096]);
    host.unmap(&device);
}

#[test]
fn rbd_fuse_outlives_its_daemon_and_the_next_one_finds_it() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let device = host.map(&host.image());
    let pid = device.process.expect("a process").pid;
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("its /proc");
        text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    assert_ne!(field("status", "PPid:"), Some(std::process::id().to_string()));
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.cast_signed())));
    assert_ne!(session, nix::unistd::getsid(None), "it has our session");
    let ours = std::fs::read_to_string("/proc/self/cgroup").expect("our cgroups");
    let its = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    assert_ne!(ours, its, "it has our cgroup");
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").flatten();
    let files: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    let state = host.folder.path().join("state");
    assert!(files.iter().any(|file| file.starts_with(&state)), "it has no log: {files:?}");
    assert!(files.iter().take(3).all(|file| file == Path::new("/dev/null")), "{files:?}");

    let next = host.restarted();
    assert_eq!(next.mapped().expect("the maps"), std::slice::from_ref(&device));
    open(&device).write_all_at(&[1; 512], 0).expect("it still writes");
    next.unmap(&device, &soon()).expect("an unmap");
    host.assert_nothing_left();
}

#[test]
fn a_map_of_an_unreachable_cluster_ends_by_its_deadline_and_leaves_nothing() {
    let _cluster = CLUSTER.write();
    let host = Host::new();
    let image = host.image();
    for daemons in [&["mon"][..], &["osd"]] {
        let paused = Paused::now(daemons);
        let started = Instant::now();
        let deadline = Deadline::after(Duration::from_secs(3));
        let error = host.system.map(&request(&image, false), &deadline).expect_err("paused");
        let took = started.elapsed();
        drop(paused);
        assert!(matches!(error.kind, SystemErrorKind::Timeout { .. }), "{daemons:?}: {error}");
        assert!(took < Duration::from_secs(6), "{daemons:?}: {took:?}");
        host.assert_nothing_left();
    }
    let device = host.map(&image);
    host.unmap(&device);
}

#[test]
fn a_stopped_rbd_fuse_delays_an_unmap_until_its_deadline_and_no_longer() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let device = host.map(&host.image());
    signal(&device, nix::sys::signal::Signal::SIGSTOP);
    let started = Instant::now();
    let result = host.system.unmap(&device, &Deadline::after(Duration::from_secs(2)));
    let took = started.elapsed();
    if device.process.expect("a process").is_alive() {
        signal(&device, nix::sys::signal::Signal::SIGCONT);
    }
    assert!(took < Duration::from_secs(12), "{took:?} {result:?}");
    for left in host.system.mapped().expect("the maps") {
        host.unmap(&left);
    }
    host.assert_nothing_left();
}

#[test]
fn what_does_not_exist_is_an_error_that_says_why() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    for text in ["rbd/docker/no-such-image", "no-such-pool/x"] {
        let image: ImageSpec = text.parse().expect("a spec");
        let error = host.system.map(&request(&image, false), &soon()).expect_err(text);
        let SystemErrorKind::Command { program, .. } = &error.kind else { panic!("{error}") };
        assert_eq!(program, "rbd-fuse", "{error}");
        host.assert_nothing_left();
    }
    // Where it may not list the namespace, rbd-fuse tries for ever.
    let image: ImageSpec = "rbd/no-such-namespace/x".parse().expect("a spec");
    let deadline = Deadline::after(Duration::from_secs(2));
    host.system.map(&request(&image, false), &deadline).expect_err("no such namespace");
    host.assert_nothing_left();
}

#[test]
fn an_unmap_under_a_mount_anywhere_is_refused_with_its_process() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let device = host.mounted(&host.image());
    let here = host.system.unmap(&device, &soon()).expect_err("mounted here");
    assert!(matches!(here.kind, SystemErrorKind::Busy(_)), "{here}");

    let inside = tempfile::tempdir().expect("a folder");
    let bind = format!("mount --bind {} {}", host.target().display(), inside.path().display());
    let container = Elsewhere::after("private", &bind);
    host.system.unmount(&host.target(), &soon()).expect("ours");
    let error = host.system.unmap(&device, &soon()).expect_err("mounted there");
    let SystemErrorKind::Busy(holders) = &error.kind else { panic!("{error}") };
    assert!(holders.iter().any(|holder| holder.pid == container.pid()), "{error}");
    assert_eq!(
        host.system.mapped().expect("the maps"),
        std::slice::from_ref(&device),
        "it is as it was"
    );
    open(&device);
    drop(container);
    host.unmap(&device);
    host.assert_nothing_left();
}

#[test]
fn an_unmap_of_an_open_device_is_refused_and_not_done_later() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let device = host.map(&host.image());
    let held = open(&device);
    let error = host.system.unmap(&device, &soon()).expect_err("open");
    let SystemErrorKind::Busy(holders) = &error.kind else { panic!("{error}") };
    assert!(holders.iter().any(|holder| holder.pid == std::process::id()), "{error}");
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        host.system.mapped().expect("the maps"),
        std::slice::from_ref(&device),
        "it went by itself"
    );
    assert_eq!(read(&device, 0), [0; 4096]);
    host.unmap(&device);
}

#[test]
fn growth_reaches_the_device_and_its_file_system() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let image = host.image();
    let device = host.mounted(&image);
    admin(&format!("rbd resize {image} --size 512M 2>&1"));
    host.system.refresh_size(&device, &soon()).expect("refreshed");
    let size = sh(&format!("blockdev --getsize64 {}", device.device.display()));
    assert_eq!(size, (2 * SIZE).to_string());
    host.system.unmount(&host.target(), &soon()).expect("an unmount");
    let grown = host.system.grow(&device.device, &host.target(), FsType::Ext4, &soon());
    grown.expect("grown");
    host.mount(&device);
    let usage = host.system.usage(&host.target(), &soon()).expect("the usage");
    assert!(usage.size.0 > SIZE + SIZE / 2, "{usage:?}");
    std::fs::write(host.target().join("x"), vec![1; 1 << 20]).expect("written");
    host.system.unmount(&host.target(), &soon()).expect("an unmount");
    host.unmap(&device);
}

#[test]
fn a_read_only_map_refuses_writes_and_takes_no_lock() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let image = host.image();
    let device = host.system.map(&request(&image, true), &soon()).expect("a map");
    assert!(device.read_only);
    let written = File::options().write(true).open(&device.device);
    let written = written.and_then(|file| {
        file.write_all_at(&[1; 4096], 0)?;
        file.sync_all()
    });
    assert!(written.is_err());
    assert_eq!(read(&device, 0), [0; 4096]);
    assert!(!admin(&format!("rbd lock ls {image}")).contains("client."));
    assert_eq!(host.system.mapped().expect("the maps"), std::slice::from_ref(&device));
    host.unmap(&device);
}

#[test]
fn half_made_maps_are_found_and_cleaned() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let image = host.image();
    // The loop device goes, by a stranger's hand: rbd-fuse alone is left.
    let device = host.map(&image);
    sh(&format!("losetup -d {}", device.device.display()));
    let half = host.system.mapped().expect("the maps");
    assert_eq!(half.len(), 1);
    assert_eq!(
        (half[0].number, half[0].process),
        (DeviceNumber { major: 0, minor: 0 }, device.process)
    );
    assert!(!half[0].is_whole() && half[0].image == image);
    host.unmap(&half[0]);
    host.assert_nothing_left();
    // The folder is unmounted from under it: the device still works, and is still ours.
    let device = host.map(&image);
    let mount = host.folder.path().join("state/fuse");
    sh(&format!("umount -l {}/*/mnt", mount.display()));
    assert_eq!(host.system.mapped().expect("the maps"), std::slice::from_ref(&device));
    open(&device).write_all_at(&[3; 512], 0).expect("it still writes");
    host.unmap(&device);
    host.assert_nothing_left();
}

#[test]
fn one_image_can_be_mapped_twice() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let image = host.image();
    let first = host.map(&image);
    let second = host.system.map(&request(&image, true), &soon()).expect("a second map");
    assert_ne!(first.device, second.device);
    assert_eq!(host.system.mapped().expect("the maps").len(), 2);
    host.unmap(&first);
    assert_eq!(host.system.mapped().expect("the maps"), std::slice::from_ref(&second));
    host.unmap(&second);
}

#[test]
fn twenty_at_once() {
    let _cluster = CLUSTER.read();
    let host = Host::new();
    let images: Vec<_> = (0..20).map(|_| host.image()).collect();
    let started = Instant::now();
    let devices: Vec<_> = std::thread::scope(|scope| {
        let host = &host;
        let all: Vec<_> = images.iter().map(|image| scope.spawn(move || host.map(image))).collect();
        all.into_iter().map(|thread| thread.join().expect("mapped")).collect()
    });
    println!("20 maps at once: {:?}", started.elapsed());
    assert_eq!(host.system.mapped().expect("the maps").len(), 20);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for device in &devices {
            scope.spawn(|| host.unmap(device));
        }
    });
    println!("20 unmaps at once: {:?}", started.elapsed());
    host.assert_nothing_left();
}

/// Prints what a map, a mount and one child cost; `make bench` compares them with work by hand.
#[test]
fn times() {
    let _cluster = CLUSTER.write();
    let host = Host::new();
    let image = host.image();
    let device = host.mounted(&image);
    let mut costs: [Vec<Duration>; 5] = Default::default();
    let timed = |slot: &mut Vec<Duration>, work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        slot.push(started.elapsed());
    };
    for _ in 0..20 {
        timed(&mut costs[0], &mut || drop(host.system.usage(&host.target(), &soon())));
    }
    let mut device = Some(device);
    for _ in 0..20 {
        timed(&mut costs[1], &mut || {
            host.system.unmount(&host.target(), &soon()).expect("an unmount");
        });
        timed(&mut costs[2], &mut || host.unmap(device.as_ref().expect("a device")));
        timed(&mut costs[3], &mut || device = Some(host.map(&image)));
        timed(&mut costs[4], &mut || host.mount(device.as_ref().expect("a device")));
    }
    for (name, mut cost) in ["one child", "unmount", "unmap", "map", "mount"].iter().zip(costs) {
        cost.sort_unstable();
        println!("{name}: median {:?}, most {:?}", cost[cost.len() / 2], cost[cost.len() - 1]);
    }
    host.system.unmount(&host.target(), &soon()).expect("an unmount");
    host.unmap(&device.expect("a device"));
}

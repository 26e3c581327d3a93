//! Folders of CephFS on a real cluster, by `ceph-fuse`. Needs root, and `DOCKER_CEPH_LAB`.
//!
//! `hosts::cephfs` runs these tests once more on a virtual host, with the kernel's client. It makes
//! the folders, which takes long there, and names them in `DOCKER_CEPH_FOLDERS`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::system::{
    FolderMount, FolderMountRequest, FolderMounts, LinuxSystem, Mappers, Mounts, SystemErrorKind,
};
use docker_volume_ceph::volume::{
    ByteSize, CephFsClient, ClientAccess, Messenger, MonitorAddress, Secret,
};

use crate::ceph_mapper::{CLUSTER, Paused, admin, lab, system_in};
use crate::loop_devices::{Elsewhere, sh, soon};

const FS: &str = "cephfs";
const QUOTA: u64 = 16 << 20;

/// Folders that were made for these tests: name, path and key, a line each.
fn given() -> Option<String> {
    std::env::var("DOCKER_CEPH_FOLDERS").ok()
}

fn by_fuse() -> bool {
    given().is_none()
}

fn client() -> CephFsClient {
    if by_fuse() { CephFsClient::Fuse } else { CephFsClient::Kernel }
}

/// `mon host = [v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]`, as the lab writes it.
fn monitors() -> Vec<MonitorAddress> {
    let text = std::fs::read_to_string(lab().join("cluster/ceph.conf")).expect("the settings");
    let hosts = text.lines().find_map(|line| line.strip_prefix("mon host = ["));
    let hosts = hosts.expect("the monitors").trim_end_matches(']').split(',');
    let address = |host: &str| {
        let (version, address) = host.split_once(':').expect("a version");
        let messenger = if version == "v1" { Messenger::V1 } else { Messenger::V2 };
        MonitorAddress { messenger, address: address.trim_end_matches("/0").to_owned() }
    };
    hosts.map(address).collect()
}

/// A subvolume and a client that may use it, and nothing else.
struct Volume {
    name: String,
    path: String,
    key: String,
}

impl Volume {
    fn new() -> Self {
        static FS_MADE: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if let Some(all) = given() {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
            let line = all.lines().nth(number).expect("a folder for each test");
            let mut words = line.split(' ').map(str::to_owned);
            let [name, path, key] = [(); 3].map(|()| words.next().expect("three words"));
            return Self { name, path, key };
        }
        FS_MADE.call_once(|| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/cluster");
            if !admin("ceph fs ls").contains(FS) {
                sh(&format!("{script} fs {}", lab().join("cluster").display()));
            }
        });
        let name = format!("sys-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        admin(&format!("ceph fs subvolume create {FS} {name} --size {QUOTA} --mode 0777"));
        let path = admin(&format!("ceph fs subvolume getpath {FS} {name}"));
        let keyring = admin(&format!("ceph fs authorize {FS} client.{name} {path} rw"));
        let key = keyring.split("key = ").nth(1).expect("a key").trim().to_owned();
        Self { name, path, key }
    }

    fn request(&self, target: &Path) -> FolderMountRequest {
        FolderMountRequest {
            client: client(),
            fs: FS.to_owned(),
            path: self.path.clone(),
            target: target.to_owned(),
            read_only: false,
            options: Vec::new(),
            access: ClientAccess {
                monitors: monitors(),
                client_id: self.name.clone(),
                key: Some(Secret::new(self.key.clone())),
                default_map_options: Vec::new(),
            },
            id: format!("volume {}", self.name),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if given().is_some() {
            return;
        }
        let conf = lab().join("cluster/ceph.conf");
        let (conf, name) = (conf.display(), &self.name);
        let script = format!(
            "export CEPH_CONF={conf}; timeout 20 ceph auth rm client.{name}; \
             timeout 20 ceph fs subvolume rm {FS} {name}"
        );
        let _ = Command::new("sh").args(["-c", &script]).output();
    }
}

/// A host with a state folder of its own; what is still mounted at its end is cut off.
struct Host {
    system: LinuxSystem,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { system: system_in(folder.path()), folder }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("mnt/v")
    }

    fn mount(&self, volume: &Volume) -> FolderMount {
        let request = volume.request(&self.target());
        self.system.mount_folder(&request, &soon()).expect("a mount")
    }

    fn unmount(&self, mount: &FolderMount) {
        self.system.unmount_folder(mount, &soon()).expect("an unmount");
    }

    fn is_alive(&self) -> bool {
        self.system.is_alive(&self.target(), &soon()).expect("an answer")
    }

    fn mounts(&self) -> Vec<FolderMount> {
        self.system.folder_mounts().expect("the mounts")
    }

    /// Nothing is left of any mount: no process, mount, folder or key.
    fn assert_nothing_left(&self) {
        assert_eq!(self.mounts(), []);
        let left = std::fs::read_dir(self.folder.path().join("state/cephfs"));
        let left: Vec<_> = left.into_iter().flatten().flatten().map(|it| it.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = self.system.mounts().expect("the mounts");
        assert!(mounts.iter().all(|mount| !mount.target.starts_with(self.folder.path())));
        assert!(self.target().symlink_metadata().is_err(), "the target is left");
        let state = self.folder.path().display();
        assert_eq!(sh(&format!("pgrep -f '[c]eph-fuse .*{state}' || true")), "");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for mount in self.system.folder_mounts().unwrap_or_default() {
            if let Err(error) = self.system.cut_off_folder(&mount, &soon()) {
                eprintln!("{error}");
            }
        }
    }
}

fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(data)?;
    file.sync_all()
}

/// One line of shell, which may fail, for 20 s at most.
fn succeeds(line: &str) -> bool {
    Command::new("timeout")
        .args(["20", "sh", "-c", line])
        .output()
        .expect("a shell")
        .status
        .success()
}

fn fence(mount: &FolderMount) {
    let address = mount.client_address.as_deref().expect("an address");
    admin(&format!("ceph osd blocklist add {address} 120 2>&1"));
}

/// The cluster answers nobody here while this lives: its metadata server stands still, or, on a
/// virtual host, the network is down.
struct Away {
    _paused: Option<Paused>,
}

impl Away {
    fn now() -> Self {
        let paused = by_fuse().then(|| Paused::now(&["mds"]));
        if paused.is_none() {
            set_link("down");
        }
        Self { _paused: paused }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if !by_fuse() {
            set_link("up");
        }
    }
}

/// Of the virtual host's way to the cluster.
fn set_link(state: &str) {
    sh(&format!("ip link set $(ip -o -4 address | awk '/10[.]77[.]/ {{print $2}}') {state}"));
}

#[test]
fn what_one_host_writes_the_other_reads_at_once() {
    let _cluster = CLUSTER.read();
    let volume = Volume::new();
    let hosts = [Host::new(), Host::new()];
    let mounts = hosts.each_ref().map(|host| host.mount(&volume));
    let [one, other] = hosts.each_ref().map(Host::target);
    for round in 0..20u8 {
        write(&one.join("a"), &[round; 5000]).expect("written");
        assert_eq!(std::fs::read(other.join("a")).expect("read"), [round; 5000]);
        write(&other.join("a"), &[round + 100; 5000]).expect("written");
        assert_eq!(std::fs::read(one.join("a")).expect("read"), [round + 100; 5000]);
    }
    // A lock on one is one on the other, of both kinds.
    let held = File::create(one.join("lock")).expect("a file");
    held.lock().expect("locked");
    let lock = format!("flock --nonblock {} true", other.join("lock").display());
    assert!(!succeeds(&lock), "two hosts have one lock");
    drop(held);
    assert!(succeeds(&lock));
    // A container's users are others than root.
    let as_user = |line: &str| {
        let user = "setpriv --reuid 1000 --regid 1000 --clear-groups sh -c";
        succeeds(&format!("cd {} && {user} '{line}'", one.display()))
    };
    assert!(as_user("echo mine > user"));
    assert!(!as_user("echo mine > lock"));
    for (host, mount) in hosts.iter().zip(&mounts) {
        assert!(host.is_alive());
        assert_ne!(mounts[0].client_address, mounts[1].client_address);
        host.unmount(mount);
        host.unmount(mount);
        host.assert_nothing_left();
    }
}

#[test]
fn a_read_only_mount_refuses_writes_and_a_target_is_mounted_once() {
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let mut request = volume.request(&host.target());
    request.read_only = true;
    let mount = host.system.mount_folder(&request, &soon()).expect("a mount");
    assert!(mount.read_only);
    let error = write(&host.target().join("a"), b"x").expect_err("read-only");
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    let twice = host.system.mount_folder(&request, &soon()).expect_err("mounted already");
    assert!(twice.to_string().contains("something is mounted there"), "{twice}");
    assert_eq!(host.mounts(), std::slice::from_ref(&mount));
    let parent = std::fs::metadata(host.target().parent().expect("it")).expect("there");
    assert_eq!(parent.permissions().mode() & 0o777, 0o700);
    host.unmount(&mount);
    request.options = vec!["name=admin".to_owned()];
    host.system.mount_folder(&request, &soon()).expect_err("the driver's own");
    host.assert_nothing_left();
}

#[test]
fn a_quota_stops_a_writer_and_is_the_size() {
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let mount = host.mount(&volume);
    let usage = host.system.folder_usage(&host.target(), &soon()).expect("the usage");
    assert_eq!((usage.size, usage.used, usage.free), (ByteSize(QUOTA), ByteSize(0), usage.size));
    write(&host.target().join("a"), &vec![1; 4 << 20]).expect("written");
    let counted = || {
        let usage = host.system.folder_usage(&host.target(), &soon()).expect("the usage");
        usage.used.bytes() >= 4 << 20 && usage.free.bytes() == QUOTA - usage.used.bytes()
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !counted() {
        assert!(Instant::now() < end, "what was written is not counted");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut file = File::create(host.target().join("b")).expect("a file");
    let full = (0..64).find_map(|_| file.write_all(&vec![2; 1 << 20]).err());
    assert_eq!(full.expect("it is full").raw_os_error(), Some(libc::EDQUOT));
    drop(file);
    host.unmount(&mount);
}

#[test]
fn a_mount_outlives_its_daemon_and_the_next_one_finds_it() {
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let mount = host.mount(&volume);
    assert_eq!(mount.id, format!("volume {}", volume.name));
    assert!(mount.is_whole());
    let next = system_in(host.folder.path());
    assert_eq!(next.folder_mounts().expect("the mounts"), std::slice::from_ref(&mount));
    if let Some(process) = mount.process {
        assert_stands_alone(process.pid, &volume);
    }
    let state = host.folder.path().join("state/cephfs");
    assert_eq!(sh(&format!("grep -rlF '{}' {} || true", volume.key, state.display())), "");
    write(&host.target().join("a"), b"x").expect("it still writes");
    next.unmount_folder(&mount, &soon()).expect("an unmount");
    host.assert_nothing_left();
}

/// The process has no key among its arguments, and nothing of ours that would end it.
fn assert_stands_alone(pid: u32, volume: &Volume) {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("its /proc");
    assert!(!line.contains(&volume.key), "the key is an argument");
    let ours = std::fs::read_to_string("/proc/self/cgroup").expect("our cgroups");
    let its = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    assert_ne!(ours, its, "it has our cgroup");
}

#[test]
fn a_killed_ceph_fuse_is_stale_and_unmounts_though_it_is_in_use() {
    if !by_fuse() {
        return;
    }
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let mount = host.mount(&volume);
    let held = File::create(host.target().join("held")).expect("a file");
    let pid = mount.process.expect("a process").pid;
    sh(&format!("kill -KILL {pid}; while [ -e /proc/{pid}/exe ]; do sleep 0.01; done"));
    assert!(!host.is_alive());
    let broken = host.mounts();
    assert_eq!((broken.len(), broken[0].process), (1, None));
    assert!(!broken[0].is_whole() && broken[0].number == mount.number);
    host.unmount(&broken[0]);
    host.assert_nothing_left();
    drop(held);
    let again = host.mount(&volume);
    host.unmount(&again);
}

#[test]
fn a_fenced_client_is_stale_and_what_it_acknowledged_is_there() {
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let mount = host.mount(&volume);
    let file = File::create(host.target().join("kept")).expect("a file");
    file.write_all_at(&[7; 100_000], 0).expect("written");
    let address = mount.client_address.clone().expect("an address");
    assert!(!host.system.is_client_gone(&address).expect("an answer"));
    fence(&mount);
    // It is acknowledged that what was written before is in the cluster, or that it is not.
    let acknowledged = file.sync_all().is_ok();
    let end = Instant::now() + Duration::from_secs(60);
    while host.is_alive() {
        assert!(Instant::now() < end, "a fenced client serves");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(write(&host.target().join("late"), b"x").is_err());
    let started = Instant::now();
    host.unmount(&mount);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    host.assert_nothing_left();
    drop(file);

    let again = host.mount(&volume);
    assert_ne!(again.client_address.as_ref(), Some(&address));
    let kept = std::fs::read(host.target().join("kept")).expect("the file");
    // The kernel's client acknowledges what is lost; only the next write fails.
    assert!(
        !by_fuse() || !acknowledged || kept == vec![7; 100_000],
        "{} bytes of it are left",
        kept.len()
    );
    host.unmount(&again);
}

#[test]
fn what_cannot_be_mounted_says_why_in_time_and_leaves_nothing() {
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let request = volume.request(&host.target());
    let mut key = request.clone();
    key.access.key = Some(Secret::new("AQCaRidp+6moERAALnq+dcTOPwHZO9rK8ZsSiw=="));
    let fs = FolderMountRequest { fs: "no-such-fs".to_owned(), ..request.clone() };
    let path = FolderMountRequest { path: format!("{}/none", request.path), ..request.clone() };
    for (what, request, words) in [
        ("key", key, "does not let client."),
        ("fs", fs, "file system no-such-fs"),
        ("path", path, "/none in it"),
    ] {
        let started = Instant::now();
        let deadline = Deadline::after(Duration::from_secs(8));
        let error = host.system.mount_folder(&request, &deadline).expect_err(what);
        println!("{what}, after {:?}: {error}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(12), "{what}: {:?}", started.elapsed());
        assert!(error.to_string().contains(words), "{what}: {error}");
        host.assert_nothing_left();
    }
}

#[test]
fn a_cluster_that_is_away_hangs_nobody() {
    let _cluster = CLUSTER.write();
    let (volume, host, other) = (Volume::new(), Host::new(), Host::new());
    let mount = host.mount(&volume);
    write(&host.target().join("a"), b"x").expect("written");
    let paused = Away::now();
    let short = || Deadline::after(Duration::from_secs(3));
    let within = |what: &str, started: Instant| {
        assert!(started.elapsed() < Duration::from_secs(7), "{what}: {:?}", started.elapsed());
    };
    let started = Instant::now();
    let error = other.system.mount_folder(&volume.request(&other.target()), &short());
    println!("{}", error.expect_err("no mount"));
    within("a mount", started);
    other.assert_nothing_left();
    let started = Instant::now();
    host.system.folder_usage(&host.target(), &short()).err();
    within("the usage", started);
    let started = Instant::now();
    let alive = host.system.is_alive(&host.target(), &short());
    assert!(!matches!(alive, Ok(false)), "stale, for want of an answer");
    within("a look", started);
    let started = Instant::now();
    let unmounted = host.system.unmount_folder(&mount, &short());
    println!("{unmounted:?}");
    within("an unmount", started);
    drop(paused);
    host.unmount(&mount);
    host.assert_nothing_left();

    let mount = host.mount(&volume);
    let paused = Away::now();
    let started = Instant::now();
    host.system.cut_off_folder(&mount, &short()).expect("cut off");
    within("a cut", started);
    drop(paused);
    host.assert_nothing_left();
}

#[test]
fn a_mount_in_use_is_busy_and_stays() {
    let _cluster = CLUSTER.read();
    let (volume, host) = (Volume::new(), Host::new());
    let mount = host.mount(&volume);
    let held = File::create(host.target().join("held")).expect("a file");
    let error = host.system.unmount_folder(&mount, &soon()).expect_err("an open file");
    let SystemErrorKind::Busy(holders) = &error.kind else { panic!("{error}") };
    assert!(holders.iter().any(|holder| holder.pid == std::process::id()), "{error}");
    drop(held);

    let inside = tempfile::tempdir().expect("a folder");
    let bind = format!("mount --bind {} {}", host.target().display(), inside.path().display());
    let container = Elsewhere::after("private", &bind);
    let error = host.system.unmount_folder(&mount, &soon()).expect_err("mounted there");
    let SystemErrorKind::Busy(holders) = &error.kind else { panic!("{error}") };
    assert!(holders.iter().any(|holder| holder.pid == container.pid()), "{error}");
    assert_eq!(host.mounts(), std::slice::from_ref(&mount), "it is as it was");
    drop(container);
    host.unmount(&mount);
    host.assert_nothing_left();
}

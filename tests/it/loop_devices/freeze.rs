//! Frozen file systems, and who thaws them.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};

use docker_volume_ceph::system::{Freezing, Frozen};

use super::*;
use crate::support::daemon::processes;

const LONG: Duration = Duration::from_secs(60);
/// A test binary's test of this name, run as a process of its own, is the daemon that is killed.
const VICTIM: &str = "DOCKER_CEPH_TEST_FREEZE";

impl Host {
    fn freeze(&self, limit: Duration) -> Box<dyn Frozen> {
        self.system.freeze(&self.target(), limit, &soon()).expect("frozen")
    }

    /// Writes a file and syncs it, in a thread that waits for as long as the kernel lets it.
    fn writer(&self) -> Writer {
        let path = self.target().join("written");
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            std::fs::write(&path, "x")
                .and_then(|()| File::open(&path)?.sync_all())
                .expect("written");
            told.store(true, Ordering::SeqCst);
        });
        Writer { done, thread }
    }

    /// Is it not frozen? Asked by a write.
    fn goes_on(&self) -> bool {
        let writer = self.writer();
        let done = writer.is_done_within(Duration::from_secs(5));
        if !done {
            sh(&format!("fsfreeze -u {}", self.target().display()));
        }
        writer.thread.join().expect("no panic");
        done
    }
}

struct Writer {
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn is_done_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.done.load(Ordering::SeqCst) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// The process that has the mountpoint itself open, other than ourselves.
fn freezer(target: &Path) -> Option<u32> {
    let has_it = |pid: &u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|path| path == target)
    };
    processes().filter(|pid| *pid != std::process::id()).find(has_it)
}

/// Does a SIGKILL wait for the kernel to let the process go?
fn is_being_killed(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let pending = status.lines().filter_map(|line| line.split_once("Pnd:"));
    let bits = pending.map(|(_, bits)| u64::from_str_radix(bits.trim(), 16).expect("signals"));
    bits.fold(0, |all, bits| all | bits) & 1 << 8 != 0
}

fn signal(signal: &str, pid: u32) {
    sh(&format!("kill -{signal} {pid}"));
}

#[test]
fn a_frozen_file_system_makes_a_writer_wait_until_it_is_thawed() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let host = Host::mounted(fs_type);
        let begun = Instant::now();
        let frozen = host.freeze(LONG);
        println!("{fs_type}: frozen after {:?}", begun.elapsed());
        let writer = host.writer();
        assert!(!writer.is_done_within(Duration::from_millis(300)), "{fs_type}: it was written");
        let begun = Instant::now();
        let stood = frozen.thaw().expect("thawed");
        println!("{fs_type}: thawed after {:?}, stood for {:?}", begun.elapsed(), stood.time);
        assert!(writer.is_done_within(Duration::from_secs(5)), "{fs_type}: it still waits");
        assert!(stood.whole, "{fs_type}");
        assert!(stood.time >= Duration::from_millis(300), "{fs_type}: {stood:?}");
        assert!(stood.time < Duration::from_secs(3), "{fs_type}: {stood:?}");
        writer.thread.join().expect("no panic");
        host.unmount();
    }
}

#[test]
fn a_frozen_file_system_is_whole_on_its_device() {
    let host = Host::mounted(FsType::Ext4);
    let data = vec![7; 20 << 20];
    std::fs::write(host.target().join("unsynced"), &data).expect("written");
    let frozen = host.freeze(LONG);
    let shot = host.folder.path().join("shot");
    sh(&format!("cp --sparse=always {} {}", host.file.display(), shot.display()));
    assert!(frozen.thaw().expect("thawed").whole);
    let seen = sh(&format!("e2fsck -fn {0} && debugfs -R 'stat unsynced' {0}", shot.display()));
    assert!(!seen.contains("recovering journal"), "{seen}");
    assert!(seen.contains(&format!("Size: {}", data.len())), "{seen}");
}

#[test]
fn at_its_limit_it_thaws_and_is_not_whole() {
    let host = Host::mounted(FsType::Xfs);
    let frozen = host.freeze(Duration::from_millis(400));
    let writer = host.writer();
    assert!(!writer.is_done_within(Duration::from_millis(200)), "it was written");
    assert!(writer.is_done_within(Duration::from_secs(3)), "it still waits");
    let stood = frozen.thaw().expect("an answer");
    assert!(!stood.whole, "{stood:?}");
    assert!(stood.time >= Duration::from_millis(400), "{stood:?}");
    assert!(stood.time < Duration::from_secs(1), "{stood:?}");
}

#[test]
fn dropped_it_thaws() {
    let host = Host::mounted(FsType::Ext4);
    drop(host.freeze(LONG));
    assert!(host.goes_on());
    host.unmount();
}

#[test]
fn thawed_by_somebody_else_it_is_not_whole() {
    let host = Host::mounted(FsType::Ext4);
    let frozen = host.freeze(LONG);
    sh(&format!("fsfreeze -u {}", host.target().display()));
    assert!(!frozen.thaw().expect("an answer").whole);
}

#[test]
fn what_is_frozen_is_not_frozen_again_nor_unmounted() {
    let host = Host::mounted(FsType::Ext4);
    let frozen = host.freeze(LONG);
    let error = host.system.freeze(&host.target(), LONG, &soon()).expect_err("frozen");
    assert!(matches!(error.kind, SystemErrorKind::Refused(_)), "{error}");
    assert!(error.to_string().contains("frozen already"), "{error}");
    let error = host.system.unmount(&host.target(), &soon()).expect_err("in use");
    assert!(matches!(error.kind, SystemErrorKind::Busy(_)), "{error}");
    assert!(frozen.thaw().expect("thawed").whole);
    host.unmount();
    let error = host.system.freeze(Path::new("/proc"), LONG, &soon()).expect_err("no volume");
    assert!(error.to_string().contains("cannot be frozen"), "{error}");
    let error = host.system.freeze(&host.target(), LONG, &soon()).expect_err("nothing is there");
    assert!(matches!(error.kind, SystemErrorKind::Io { .. }), "{error}");
}

#[test]
fn the_signals_that_end_a_service_do_not_end_the_freeze() {
    let host = Host::mounted(FsType::Ext4);
    let frozen = host.freeze(LONG);
    let child = freezer(&host.target()).expect("the child");
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        signal(name, child);
    }
    let writer = host.writer();
    assert!(!writer.is_done_within(Duration::from_millis(300)), "it was thawed");
    assert!(frozen.thaw().expect("thawed").whole);
    writer.thread.join().expect("no panic");
}

#[test]
fn a_killed_child_leaves_it_frozen_until_somebody_thaws_it() {
    let host = Host::mounted(FsType::Ext4);
    let thaw = || host.system.thaw_left_over(&host.target(), &soon()).expect("an answer");
    assert!(!thaw(), "nobody has frozen it");
    let frozen = host.freeze(LONG);
    signal("KILL", freezer(&host.target()).expect("the child"));
    let writer = host.writer();
    assert!(!writer.is_done_within(Duration::from_millis(300)), "it was thawed");
    assert!(thaw(), "it was left frozen");
    assert!(writer.is_done_within(Duration::from_secs(5)), "it still waits");
    writer.thread.join().expect("no panic");
    assert!(!frozen.thaw().expect("an answer").whole);

    let frozen = host.freeze(LONG);
    signal("KILL", freezer(&host.target()).expect("the child"));
    assert!(!frozen.thaw().expect("thawed without it").whole);
    assert!(host.goes_on());
}

/// No test: what the next one runs as a daemon.
#[test]
fn victim() {
    let Some(target) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let state = tempfile::tempdir().expect("a folder");
    let mut settings = LinuxSettings::new(state.path(), "/nowhere", "x");
    settings.helper = PathBuf::from(env!("CARGO_BIN_EXE_docker-ceph"));
    let system = LinuxSystem::new(settings).expect("a system");
    let _frozen = system.freeze(&target, LONG, &soon()).expect("frozen");
    eprintln!("frozen");
    std::thread::sleep(LONG);
}

#[test]
fn a_killed_daemon_leaves_nothing_frozen() {
    let host = Host::mounted(FsType::Xfs);
    let mut daemon = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", "loop_devices::freeze::victim"])
        .env(VICTIM, host.target())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a daemon");
    let said = BufReader::new(daemon.stderr.take().expect("its output"));
    assert!(said.lines().map_while(Result::ok).any(|line| line == "frozen"), "it has not frozen");
    let writer = host.writer();
    assert!(!writer.is_done_within(Duration::from_millis(300)), "it was not frozen");
    let killed = Instant::now();
    daemon.kill().and_then(|()| daemon.wait()).expect("killed");
    assert!(writer.is_done_within(Duration::from_secs(5)), "it still waits");
    println!("went on {:?} after the kill", killed.elapsed());
    writer.thread.join().expect("no panic");
}

#[test]
fn a_freeze_that_its_deadline_overtakes_leaves_nothing_frozen() {
    let below = Host::mounted(FsType::Ext4);
    let host = Host::in_folder(tempfile::tempdir_in(below.target()).expect("a folder"));
    host.format(FsType::Ext4);
    host.mount(FsType::Ext4);
    std::fs::write(host.target().join("unsynced"), vec![7; 1 << 20]).expect("written");
    // The device stands still, so that nothing can be written out.
    sh(&format!("fsfreeze -f {}", below.target().display()));
    let begun = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(300));
    let frozen = host.system.freeze(&host.target(), LONG, &deadline);
    let took = begun.elapsed();
    let child = freezer(&host.target());
    let killed = child.map(is_being_killed);
    sh(&format!("fsfreeze -u {}", below.target().display()));
    let error = frozen.expect_err("too late");
    assert!(matches!(error.kind, SystemErrorKind::Timeout { .. }), "{error}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(killed, Some(false), "as soon as it is through it would die, and leave it frozen");
    assert!(host.goes_on(), "the late freeze stayed");
}

#[test]
fn what_is_mounted_for_reading_only_is_frozen_and_thawed_like_any_other() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let host = Host::mounted(fs_type);
        sh(&format!("mount -o remount,ro {}", host.target().display()));
        let stood = host.freeze(LONG).thaw().expect("thawed");
        assert!(stood.whole, "{fs_type}: {stood:?}");
        host.unmount();
    }
}

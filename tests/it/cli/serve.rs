//! The daemon as a service manager meets it; the cluster is away all the time.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{Program, Ran};

/// A daemon that said it was ready. Ended with the test, whatever became of it.
struct Daemon {
    process: Child,
    manager: UnixDatagram,
}

impl Daemon {
    fn start(program: &Program) -> Self {
        let settings = format!(
            "ceph-conf = {:?}\nstate-folder = {:?}\ncache-folder = {:?}\nmount-root = {:?}\n\
             connect-timeout = '1s'\nmapper = 'fuse'\nlog-format = 'json'\n",
            program.path("ceph.conf"),
            program.path("state"),
            program.path("cache"),
            program.path("cache/mounts"),
        );
        std::fs::write(program.path("config.toml"), settings).expect("a file");
        std::fs::write(program.path("ceph.conf"), "[global]\nmon host = v1:127.0.0.1:1\n")
            .expect("a file");
        let manager = UnixDatagram::bind(program.path("notify.sock")).expect("a socket");
        manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        let mut command = program.command_of(&["serve"]);
        command.env("NOTIFY_SOCKET", program.path("notify.sock")).env("RBD_CONF_POOL", "old");
        let process = command.stdout(Stdio::piped()).spawn().expect("the daemon starts");
        let daemon = Self { process, manager };
        assert_eq!(daemon.said(), "READY=1");
        daemon
    }

    fn said(&self) -> String {
        let mut text = [0; 256];
        let length = self.manager.recv(&mut text).expect("the daemon tells the manager");
        String::from_utf8_lossy(&text[..length]).trim_end().to_owned()
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.process.id()).expect("a process number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it lives");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Errors say that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_daemon_is_ready_without_a_cluster_and_ends_when_it_is_told_to() {
    use nix::sys::signal::Signal::{SIGHUP, SIGTERM};

    let program = Program::new();
    let mut daemon = Daemon::start(&program);
    let version = program.run(&["version"]).succeeded();
    assert!(version.contains(&format!("process {}", daemon.process.id())), "{version}");
    program.run(&["ls"]).succeeded();

    daemon.signal(SIGHUP);
    let second = program.run(&["serve"]).failed(1);
    assert!(second.contains("listens on it already"), "{second}");
    program.run(&["version"]).succeeded();

    daemon.signal(SIGTERM);
    assert_eq!(daemon.said(), "STOPPING=1");
    assert_eq!(daemon.process.wait().expect("it ends").code(), Some(0));
    assert!(!program.socket().exists(), "the socket was left");

    let log = std::io::read_to_string(daemon.process.stdout.take().expect("piped"));
    let log = log.expect("text");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    }
    for said in ["docker-ceph started", env!("CARGO_PKG_VERSION"), "DOCKER_CEPH_POOL"] {
        assert!(log.contains(said), "{said:?} is not in\n{log}");
    }
}

#[test]
fn a_killed_daemon_s_socket_is_replaced() {
    let program = Program::new();
    drop(Daemon::start(&program));
    assert!(program.socket().exists(), "a killed daemon cleans nothing up");
    std::fs::remove_file(program.path("notify.sock")).expect("our socket");
    let _again = Daemon::start(&program);
    program.run(&["version"]).succeeded();
}

/// What systemd would say of the units, where its tool is.
#[test]
fn the_systemd_units_are_valid() {
    let program = Program::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/systemd");
    // Of a template, what is checked is one of its instances.
    let names = [
        "docker-volume-ceph.service",
        "docker-volume-ceph.socket",
        "docker-volume-ceph-drain.service",
        "docker-volume-ceph-ui.service",
        "docker-volume-ceph-snapshot@pg-data_1.service",
        "docker-volume-ceph-snapshot@pg-data_1.timer",
    ];
    for name in names {
        let file = name.replace("pg-data_1", "");
        let unit = std::fs::read_to_string(format!("{folder}/{file}")).expect("a unit");
        // The program is not installed here.
        let installed = Program::executable().display().to_string();
        let unit = unit.replace("/usr/bin/docker-ceph", &installed);
        std::fs::write(program.path(name), unit).expect("a file");
    }
    let mut command = program.command("systemd-analyze".as_ref());
    command.args(["verify", "--man=no"]).args(names.map(|name| program.path(name)));
    if command.output().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        eprintln!("left out: there is no systemd-analyze on this machine");
        return;
    }
    let ran = Ran::of(&mut command);
    assert!(!ran.stderr.contains("docker-volume-ceph"), "{}", ran.stderr);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

//! A "host": a Docker engine and the real daemon, in a namespace of their own (`tests/lab/host`).
//!
//! Everything that a host keeps, the daemon's mounts included, lies below `LAB/hosts/NAME`, so
//! that what is left behind can be told. A host is shared by the tests of one engine version:
//! [`on`] gives it to one test after another, each of which finds it with a running engine, a
//! running daemon and no container, and leaves it so; [`checks`] sees to that. A test that fails
//! costs the host, and the next one gets a new one.

mod checks;
mod docker;
mod engine;
mod faults;
mod kind;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::daemon::{Lab, Reply, ask, run, send, timed, within};
pub(crate) use checks::tail;
pub(crate) use docker::{Docker, IMAGE, text};
pub(crate) use kind::{Kind, for_each_held_kind, for_each_kind};

/// The engine that most tests use: the newest that Debian has.
pub(crate) const NEWEST: &str = "28.5";

/// The daemon's socket, as the host sees it.
const SOCKET: &str = "run/docker/plugins/ceph.sock";

/// How often the daemon looks after its mounts, and how long it lets an ID stand that no container
/// backs: longer than a busy machine needs from a Mount to the container's start.
const PATIENT: [&str; 4] = ["--reconcile-interval", "1s", "--reference-grace", "60s"];

/// The same for tests of what the engine forgot.
pub(crate) const EAGER: [&str; 4] = ["--reconcile-interval", "1s", "--reference-grace", "3s"];

/// How long the daemon may take to answer its first call, or to end.
const DAEMON: Duration = Duration::from_secs(60);

static HOSTS: Mutex<BTreeMap<String, Host>> = Mutex::new(BTreeMap::new());
static NAMES: AtomicU32 = AtomicU32::new(0);

/// A running host.
#[derive(Debug)]
pub(crate) struct Host {
    lab: Lab,
    name: String,
    folder: PathBuf,
    holder: String,
    /// The words before a command that is to run inside.
    entry: Vec<String>,
    daemon: Option<Child>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    engine_flags: Vec<String>,
    docker: Docker,
    volumes: Mutex<Vec<String>>,
    announced: Vec<String>,
    log_before: usize,
}

/// Runs a test on the host of an engine version. The word of the test is final only after the
/// host has been found clean.
pub(crate) fn on(version: &str, test: impl FnOnce(&mut Host)) {
    on_hosts([(&format!("e{}", version.replace('.', "-")), version)], |[host]| test(host));
}

/// Runs a test on the newest engine.
pub(crate) fn on_newest(test: impl FnOnce(&mut Host)) {
    on(NEWEST, test);
}

/// Runs a test on two hosts with the newest engine.
pub(crate) fn on_two(test: impl FnOnce(&mut Host, &mut Host)) {
    on_hosts([("e28-5", NEWEST), ("second", NEWEST)], |[first, second]| test(first, second));
}

fn on_hosts<const N: usize>(named: [(&str, &str); N], test: impl FnOnce([&mut Host; N])) {
    let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut taken = named.map(|(name, version)| {
        hosts.remove(name).unwrap_or_else(|| Host::start(&Lab::of_environment(), name, version))
    });
    taken.iter_mut().for_each(Host::prepare);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        test(taken.each_mut());
        taken.iter_mut().for_each(Host::clear_containers);
        taken.iter_mut().for_each(Host::clear_volumes);
        taken.iter_mut().for_each(Host::check);
    }));
    match outcome {
        Ok(()) => hosts.extend(taken.into_iter().map(|host| (host.name.clone(), host))),
        Err(cause) => {
            taken.iter().for_each(Host::print_logs);
            taken.into_iter().for_each(Host::end);
            resume_unwind(cause);
        }
    }
}

impl Host {
    /// Starts a host, in place of one that an earlier run has left.
    fn start(lab: &Lab, name: &str, version: &str) -> Self {
        let engines = lab.folder().join("engines");
        assert!(engines.exists(), "no Docker engines in the lab: run it with make test T=engine");
        let binary = engines.join(version).join("usr/bin/docker");
        let missing = fs::read_to_string(engines.join("unavailable")).unwrap_or_default();
        assert!(binary.exists(), "engine {version} could not be had: {missing}");
        let folder = lab.folder().join("hosts").join(name);
        host_command(lab, &["stop"], name, &[]);
        host_command(lab, &["start"], name, &[version]);
        let entry = host_command(lab, &["entry"], name, &[]);
        let holder = fs::read_to_string(folder.join("pids/holder")).expect("the host is running");
        let holder = holder.split(' ').next().expect("a process number").to_owned();
        fs::create_dir_all(folder.join("ceph")).expect("a folder for the daemon");
        let host = Self {
            lab: lab.clone(),
            name: name.to_owned(),
            docker: Docker::new(
                vec![binary.to_str().expect("the path is text").to_owned()],
                format!("unix://{}/docker.sock", folder.display()),
                folder.join("config"),
            ),
            folder,
            holder,
            entry: entry.lines().map(str::to_owned).collect(),
            daemon: None,
            flags: Vec::new(),
            environment: Vec::new(),
            engine_flags: Vec::new(),
            volumes: Mutex::default(),
            announced: Vec::new(),
            log_before: 0,
        };
        host.engine(&["engine-start"], &[]);
        host.load_image(IMAGE);
        host
    }

    /// As every test finds it.
    fn prepare(&mut self) {
        self.announced.clear();
        self.docker.forget();
        self.start_engine(&[]);
        self.set_env(&[]);
        self.daemon(&PATIENT);
        self.log_before = self.log().len();
    }

    /// Ends it, with everything that runs in it.
    fn end(self) {
        host_command(&self.lab, &["stop"], &self.name, &[]);
        if let Some(mut daemon) = self.daemon {
            daemon.wait().expect("a child of ours");
        }
    }

    /// The cluster and its tools.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its own name: what other hosts read in a claim.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The engine's command line; a clone of it can go to another thread.
    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The daemon's folder.
    pub(crate) fn ceph_folder(&self) -> PathBuf {
        self.folder.join("ceph")
    }

    /// A file of the host as this process can reach it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc").join(&self.holder).join("root").join(path)
    }

    /// A program inside the host, for so many seconds at most.
    pub(crate) fn inside(&self, seconds: u32, words: &[&str]) -> Output {
        let seconds = seconds.to_string();
        let mut command = self.inside_command();
        command.args(["timeout", "--kill-after=5", &seconds]).args(words);
        run(&mut command)
    }

    fn inside_command(&self) -> Command {
        let mut command = Command::new(&self.entry[0]);
        command.args(&self.entry[1..]).stdin(Stdio::null());
        command
    }

    /// The operator's tool; its outcome.
    pub(crate) fn try_tool(&self, words: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_docker-ceph");
        let socket = format!("/{SOCKET}");
        let output = self.inside(120, &[&[program, "--socket", &socket], words].concat());
        self.docker.note(words, &output);
        output
    }

    /// The operator's tool, as a child that may be killed. What it prints is lost.
    pub(crate) fn start_tool(&self, words: &[&str]) -> Child {
        let mut command = self.inside_command();
        command.arg(env!("CARGO_BIN_EXE_docker-ceph")).args(["--socket", &format!("/{SOCKET}")]);
        let started = command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        started.expect("the lab's host script starts")
    }

    /// The operator's tool, where it has to succeed; what it prints.
    #[track_caller]
    pub(crate) fn tool(&self, words: &[&str]) -> String {
        let output = self.try_tool(words);
        assert!(output.status.success(), "docker-ceph {words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("the tool prints text")
    }

    /// A name that nobody had before.
    pub(crate) fn fresh(&self, word: &str) -> String {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{word}-{}-{number}", std::process::id());
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        name
    }

    /// Removes volumes for good, protected or not, where they are there: those whose names the test
    /// cannot choose, and what a failed one has left of them.
    pub(crate) fn wipe(&self, volumes: &[&str]) {
        for volume in volumes {
            self.try_tool(&["unprotect", volume]);
            self.try_tool(&["rm", "--policy", "delete", volume]);
        }
    }

    /// A new volume of 64 MiB, or with these options; it is removed when the test is over.
    #[track_caller]
    pub(crate) fn volume(&self, options: &[&str]) -> String {
        let name = self.fresh("v");
        self.docker.create_volume(&name, options);
        name
    }

    /// Makes sure that the daemon runs with these flags, added to those that give it its place and
    /// its kind of volume.
    pub(crate) fn daemon(&mut self, flags: &[&str]) {
        let flags = [flags, Kind::under_test().flags()].concat();
        if self.daemon.is_some() && self.flags == flags {
            return;
        }
        if self.daemon.is_some() {
            self.stop_daemon();
        }
        self.flags = flags.into_iter().map(str::to_owned).collect();
        self.spawn_daemon();
        self.await_daemon();
    }

    /// Variables of the daemon's environment; with others than before it is started anew.
    pub(crate) fn set_env(&mut self, environment: &[(&str, &str)]) {
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        if environment != self.environment && self.daemon.is_some() {
            self.stop_daemon();
        }
        self.environment = environment;
    }

    /// Starts the daemon as it last was, and waits for its first answer.
    pub(crate) fn start_daemon(&mut self) {
        self.spawn_daemon();
        self.await_daemon();
    }

    fn spawn_daemon(&mut self) {
        assert!(self.daemon.is_none(), "the daemon is running");
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("the daemon's log");
        let folder = self.ceph_folder();
        let mut command = self.inside_command();
        command.arg("env").args(self.environment.iter().map(|(n, v)| format!("{n}={v}")));
        command.arg(env!("CARGO_BIN_EXE_docker-ceph")).arg("serve");
        command.arg("--ceph-conf").arg(self.lab.conf());
        if !self.flags.iter().any(|flag| flag == "--keyring") {
            command.arg("--keyring").arg(self.lab.keyring());
        }
        command.args(["--client-id", "docker", "--pool", "rbd", "--namespace", "docker"]);
        command.args(["--mapper", "fuse", "--log-level", "debug"]);
        command.arg("--socket").arg(format!("/{SOCKET}"));
        command.arg("--state-folder").arg(folder.join("run"));
        command.arg("--cache-folder").arg(folder.join("lib"));
        command.arg("--mount-root").arg(folder.join("volumes"));
        command.args(&self.flags);
        command.stderr(log.try_clone().expect("the daemon's log")).stdout(log);
        self.daemon = Some(command.spawn().expect("the lab's host script starts"));
    }

    fn await_daemon(&mut self) {
        let answered = within(DAEMON, || {
            let over = self.child().try_wait().expect("a child of ours");
            assert!(over.is_none(), "the daemon ended by itself, {over:?}:\n{}", self.log());
            self.ask("Plugin.Activate", "", 5).is_ok_and(|reply| reply.is_ok())
        });
        assert!(answered, "the daemon gives no answer:\n{}", self.log());
    }

    fn child(&mut self) -> &mut Child {
        self.daemon.as_mut().expect("the daemon was started")
    }

    /// The daemon's process: the script that starts it becomes it.
    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon was started").id()
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal_daemon(&self, signal: Signal) {
        let pid = i32::try_from(self.daemon_pid()).expect("a process number");
        kill(Pid::from_raw(pid), signal).expect("a child of ours can be signalled");
    }

    /// Kills the daemon, as the kernel's OOM killer would.
    pub(crate) fn kill_daemon(&mut self) {
        let mut child = self.daemon.take().expect("the daemon was started");
        // It may have ended a moment ago.
        drop(child.kill());
        child.wait().expect("a child of ours");
    }

    /// Asks the daemon to end, and waits until it has.
    pub(crate) fn stop_daemon(&mut self) {
        self.signal_daemon(Signal::SIGTERM);
        let mut status = None;
        let over = within(DAEMON, || {
            status = self.child().try_wait().expect("a child of ours");
            status.is_some()
        });
        assert!(over, "the daemon does not stop:\n{}", self.log());
        assert!(status.is_some_and(|status| status.success()), "it ended with {status:?}");
        self.daemon = None;
    }

    /// Waits for the end of a daemon that is to end by itself.
    pub(crate) fn await_daemon_end(&mut self) {
        let over = within(DAEMON, || self.child().try_wait().expect("a child of ours").is_some());
        assert!(over, "the daemon is still running:\n{}", self.log());
        self.daemon = None;
    }

    /// A call of the volume protocol, with as much patience as the engine has for a mount.
    pub(crate) fn call(&self, verb: &str, body: &Value) -> io::Result<Reply> {
        self.ask(&format!("VolumeDriver.{verb}"), &body.to_string(), 120)
    }

    /// A call with any body, and so many seconds for the answer.
    pub(crate) fn ask(&self, verb: &str, body: &str, seconds: u64) -> io::Result<Reply> {
        ask(&self.path(SOCKET), verb, body, Duration::from_secs(seconds))
    }

    /// A call whose answer nobody reads. Its caller hangs up when this is dropped.
    pub(crate) fn send(&self, verb: &str, body: &Value) -> UnixStream {
        let verb = format!("VolumeDriver.{verb}");
        let stream = send(&self.path(SOCKET), &verb, &body.to_string());
        stream.expect("the daemon listens")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log/daemon.log")
    }

    /// What the daemon has logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

/// A script of the lab.
pub(crate) fn lab_tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name)
}

fn host_command(lab: &Lab, verb: &[&str], name: &str, rest: &[&str]) -> String {
    let mut command = timed(120, lab_tool("host").to_str().expect("the path is text"));
    command.env("ENGINES", lab.folder().join("engines"));
    command.args(verb).arg(lab.folder().join("hosts")).arg(name).args(rest);
    let output = run(&mut command);
    assert!(output.status.success(), "host {verb:?} {name} {rest:?}: {output:?}");
    text(&output)
}

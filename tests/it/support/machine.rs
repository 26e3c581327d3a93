//! A virtual host: a kernel of its own with rbd and nbd, a Docker engine and the real daemon
//! (`tests/lab/hosts`).
//!
//! The hosts are booted once, before the tests. [`on_two`] gives them to one test after another,
//! each of which finds them with power, on the network, with a running engine, a running daemon and
//! no container, and leaves nothing of the daemon's making; whatever a test did to them is undone.
//! A test that fails costs both hosts their power, and the next one boots them anew; so does one that
//! wants another kernel ([`Kernel`]).
//!
//! Programs are slow on the hosts, by a factor of three with the one kernel and of twenty with the
//! other. Docker's command line runs on this machine and talks to the host's engine.

mod agent;
mod network;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::daemon::{Reply, exchange, run, timed, within_by};
use super::host::{Docker, IMAGE, NEWEST, lab_tool, tail};
use agent::Agent;
pub(crate) use agent::Done;
pub(crate) use network::Network;

/// For what happens within a moment, on an emulated processor that others share.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// Seconds for one command on a host.
const COMMAND: u32 = 120;

/// Where a daemon finds its faults, and how its process is found.
const FAULTS: &str = "/run/lab/faults";
const DAEMON_PID: &str = "cut -d' ' -f1 /run/lab/daemon";

/// What every daemon runs with: as little waiting as shows the same.
const DEFAULTS: [&str; 4] = ["--reconcile-interval", "5s", "--fence-after", "5s"];

/// What [`DEFAULTS`] say of how long a holder may be silent.
pub(crate) const FENCE_AFTER: Duration = Duration::from_secs(5);

/// How much of a log is printed.
const TAIL: usize = 15_000;

static MACHINES: Mutex<Option<[Machine; 2]>> = Mutex::new(None);
static NAMES: AtomicU32 = AtomicU32::new(0);

/// What a host boots (`tests/lab/kernel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// User-mode Linux, which is quick.
    Uml,
    /// Debian's own, on an emulated processor, which shows its clients of Ceph in debugfs.
    Qemu,
}

impl Kernel {
    /// What `DOCKER_CEPH_KERNEL` names, for tests that take either.
    fn of_environment() -> Self {
        match std::env::var("DOCKER_CEPH_KERNEL").as_deref() {
            Ok("qemu") => Self::Qemu,
            Ok("uml") | Err(_) => Self::Uml,
            Ok(other) => panic!("DOCKER_CEPH_KERNEL: no kernel {other}: uml or qemu"),
        }
    }

    /// What `tests/lab/hosts` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Qemu => "qemu",
        }
    }
}

/// A virtual host.
#[derive(Debug)]
pub(crate) struct Machine {
    kernel: Kernel,
    network: Network,
    agent: Agent,
    docker: Docker,
    has_power: bool,
    flags: Vec<String>,
    runs_daemon: bool,
    volumes: Vec<String>,
    announced: Vec<String>,
    log_before: usize,
}

/// Runs a test on two virtual hosts. The word of the test is final only after they have been found
/// clean.
pub(crate) fn on_two(test: impl FnOnce(&mut Machine, &mut Machine)) {
    on_two_with(Kernel::of_environment(), test);
}

/// The same with a kernel that shows its clients of Ceph, which a daemon has to see that one of
/// them is gone, or what it is.
pub(crate) fn on_two_that_show_clients(test: impl FnOnce(&mut Machine, &mut Machine)) {
    on_two_with(Kernel::Qemu, test);
}

fn on_two_with(kernel: Kernel, test: impl FnOnce(&mut Machine, &mut Machine)) {
    let mut machines = MACHINES.lock().unwrap_or_else(PoisonError::into_inner);
    let network = Network::of_environment();
    let mut pair = machines.take().unwrap_or_else(|| [1, 2].map(|n| Machine::new(&network, n)));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        at_once(&mut pair, |host| host.prepare(kernel));
        let [one, other] = &mut pair;
        test(one, other);
        at_once(&mut pair, Machine::clear);
        pair.iter_mut().for_each(Machine::check);
    }));
    if let Err(cause) = outcome {
        pair.iter().for_each(Machine::print_logs);
        pair.iter_mut().for_each(Machine::power_off);
        *machines = Some(pair);
        resume_unwind(cause);
    }
    *machines = Some(pair);
}

/// Does the same to both hosts; each has a processor of its own.
fn at_once(pair: &mut [Machine; 2], work: impl Fn(&mut Machine) + Sync) {
    let work = &work;
    thread::scope(|scope| pair.iter_mut().for_each(|host| drop(scope.spawn(|| work(host)))));
}

/// Runs a test on one virtual host.
pub(crate) fn on_one(test: impl FnOnce(&mut Machine)) {
    on_two(|one, _| test(one));
}

impl Machine {
    fn new(network: &Network, number: u8) -> Self {
        let lab = network.folder().parent().expect("a folder of the lab");
        let binary = lab.join("engines").join(NEWEST).join("usr/bin/docker");
        let mut command: Vec<String> = network.entering().map(str::to_owned).to_vec();
        command.push(binary.to_str().expect("the path is text").to_owned());
        let address = format!("tcp://10.78.0.{}:2375", 10 + number);
        let agent = Agent { holder: network.holder().to_owned(), number };
        Self {
            docker: Docker::new(command, address, network.folder().join("docker-config")),
            // In a lab that was kept, it may be as the last test has left it.
            has_power: agent.run(30, "true").is_ok(),
            agent,
            network: network.clone(),
            kernel: Kernel::of_environment(),
            flags: Vec::new(),
            runs_daemon: false,
            volumes: Vec::new(),
            announced: Vec::new(),
            log_before: 0,
        }
    }

    fn number(&self) -> String {
        self.agent.number.to_string()
    }

    /// As every test finds it.
    fn prepare(&mut self, kernel: Kernel) {
        self.docker.forget();
        self.announced.clear();
        if self.has_power && self.kernel != kernel {
            self.power_off();
        }
        self.kernel = kernel;
        if self.has_power {
            self.mend();
        } else {
            self.boot();
        }
        let mut images = self.docker.run(&["images", "--quiet", IMAGE]);
        if !images.status.success() {
            self.start_engine();
            images = self.docker.run(&["images", "--quiet", IMAGE]);
        }
        if images.stdout.is_empty() {
            self.load_image(IMAGE);
        }
        self.daemon(&[]);
        self.log_before = self.log().len();
    }

    /// Makes sure that the engine has one of the lab's images.
    pub(crate) fn load_image(&self, image: &str) {
        let images = self.network.folder().with_file_name("images");
        let mut command = timed(300, lab_tool("images").to_str().expect("the path is text"));
        command.arg("import").arg(images).arg(image);
        let output = run(self.docker.told(&mut command));
        assert!(output.status.success(), "load {image} into {}: {output:?}", self.name());
    }

    /// An error in the daemon's log that has this text is what the test is about.
    pub(crate) fn announce(&mut self, text: &str) {
        self.announced.push(text.to_owned());
    }

    /// The lab's network and cluster.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Its own name: what other hosts read in a claim.
    pub(crate) fn name(&self) -> String {
        format!("host{}", self.agent.number)
    }

    /// The engine's command line; a clone of it can go to another thread.
    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Runs a script of bash as root for so many seconds at most.
    ///
    /// # Errors
    /// Where the host gives no answer: it is frozen, or without power.
    pub(crate) fn try_run(&self, seconds: u32, script: &str) -> io::Result<Done> {
        self.agent.run(seconds, script)
    }

    /// Runs a script that has to succeed; what it prints, without the last line's end.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        let done = self.try_run(COMMAND, script);
        let done = done.unwrap_or_else(|error| panic!("{}: {script}: {error}", self.name()));
        assert_eq!(done.status, 0, "{}: {script}: {done:?}", self.name());
        done.out.trim_end().to_owned()
    }

    #[track_caller]
    fn guest(&self, words: &[&str]) {
        self.run(&guest_line(words));
    }

    /// The operator's tool; how it ended.
    #[track_caller]
    pub(crate) fn try_tool(&self, words: &[&str]) -> Done {
        let words = [&[env!("CARGO_BIN_EXE_docker-ceph")], words].concat();
        self.try_run(COMMAND, &quoted(&words)).expect("the host answers")
    }

    /// The operator's tool, where it has to succeed; what it prints.
    #[track_caller]
    pub(crate) fn tool(&self, words: &[&str]) -> String {
        let done = self.try_tool(words);
        assert_eq!(done.status, 0, "docker-ceph {words:?}: {done:?}");
        done.out
    }

    /// A name that nobody had before.
    pub(crate) fn fresh(&mut self, word: &str) -> String {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{word}-{}-{number}", std::process::id());
        self.volumes.push(name.clone());
        name
    }

    /// A new volume of 64 MiB, or with these options; it is removed when the test is over.
    #[track_caller]
    pub(crate) fn volume(&mut self, options: &[&str]) -> String {
        let name = self.fresh("v");
        self.docker.create_volume(&name, options);
        name
    }

    /// Makes sure that the daemon runs with these flags, added to those that name the cluster.
    pub(crate) fn daemon(&mut self, flags: &[&str]) {
        if self.runs_daemon && self.flags == flags {
            return;
        }
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        self.start_daemon();
    }

    /// Starts the engine, if it does not run.
    pub(crate) fn start_engine(&self) {
        self.guest(&["engine-start"]);
    }

    /// Kills the engine. What it has started runs on.
    pub(crate) fn kill_engine(&self) {
        self.guest(&["engine-kill"]);
    }

    /// Replaces the daemon by one of another file, as a new release is.
    pub(crate) fn upgrade_daemon(&mut self) {
        let program = "/run/docker-ceph.new";
        self.run(&format!("cp {} {program}", env!("CARGO_BIN_EXE_docker-ceph")));
        self.start_program(program);
    }

    /// Starts the daemon as it last was, in place of one that runs, and waits until it has reached
    /// the cluster.
    pub(crate) fn start_daemon(&mut self) {
        self.start_program(env!("CARGO_BIN_EXE_docker-ceph"));
    }

    fn start_program(&mut self, program: &str) {
        let mut words = vec!["daemon-start", program];
        words.extend(DEFAULTS);
        words.extend(self.flags.iter().map(String::as_str));
        self.run(&format!("DOCKER_CEPH_FAULT=@{FAULTS} {}", guest_line(&words)));
        self.runs_daemon = true;
        self.await_cluster();
    }

    /// Until the daemon has reached the cluster, which takes its time here, it says of every name
    /// that there is such a volume, and stands by what it has said.
    pub(crate) fn await_cluster(&self) {
        let reached = within_by(SOON, Duration::from_secs(1), || {
            let number = NAMES.fetch_add(1, Ordering::Relaxed);
            let unknown = json!({"Name": format!("nobody-has-this-{number}")});
            self.call("Get", &unknown).is_ok_and(|reply| reply.error().contains("no such volume"))
        });
        assert!(reached, "the daemon of {} does not reach the cluster", self.name());
    }

    /// Asks the daemon to end, and waits until it has.
    pub(crate) fn stop_daemon(&mut self) {
        self.guest(&["daemon-stop"]);
        self.runs_daemon = false;
    }

    /// Kills the daemon, as the kernel's OOM killer would.
    pub(crate) fn kill_daemon(&mut self) {
        self.guest(&["daemon-kill"]);
        self.runs_daemon = false;
    }

    /// Faults for the daemon that runs, from now on (`docs/testing.md`, "Faults on purpose").
    pub(crate) fn arm(&self, rules: &str) {
        self.run(&format!("echo '{rules}' > {FAULTS}.new && mv {FAULTS}.new {FAULTS}"));
    }

    /// Does the daemon stand still, as a fault has it?
    pub(crate) fn is_halted(&self) -> bool {
        self.run(&format!("cut -d' ' -f3 /proc/$({DAEMON_PID})/stat")) == "T"
    }

    /// Lets a daemon that stands still go on.
    pub(crate) fn go_on(&self) {
        self.run(&format!("kill -CONT $({DAEMON_PID})"));
    }

    /// Maps a volume's image as an operator would, past the driver.
    pub(crate) fn map_by_hand(&self, volume: &str) {
        let rbd = self.rbd_by_hand();
        self.run(&format!("{rbd} device map --options exclusive,noudev rbd/docker/{volume}"));
    }

    /// The words that begin a command of `rbd` on the host.
    pub(crate) fn rbd_by_hand(&self) -> String {
        let conf = self.network.conf();
        let key = conf.with_file_name("ceph.client.docker.keyring");
        format!("rbd --conf {} --id docker --keyring {}", conf.display(), key.display())
    }

    /// Takes away every device of the kernel's RBD.
    pub(crate) fn unmap_by_hand(&self) {
        self.run(
            "for d in /sys/bus/rbd/devices/*; do \
             echo ${d##*/} > /sys/bus/rbd/remove_single_major; done",
        );
    }

    /// A call of the volume protocol, with as much patience as the engine has for a mount.
    ///
    /// # Errors
    /// Where there is no answer.
    pub(crate) fn call(&self, verb: &str, body: &Value) -> io::Result<Reply> {
        let mut stream = self.agent.daemon()?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        exchange(&mut stream, &format!("VolumeDriver.{verb}"), &body.to_string())
    }

    /// A Mount that has to be refused; what is said. Ten times as quick as a container.
    #[track_caller]
    pub(crate) fn mount_refused(&self, volume: &str) -> String {
        let body = json!({"Name": volume, "ID": "refused"});
        let reply = self.call("Mount", &body).expect("the daemon answers");
        assert!(!reply.is_ok(), "{volume} is mounted on {}", self.name());
        reply.error().to_owned()
    }

    /// Cuts the host off from the cluster and from other hosts. Commands still reach it.
    pub(crate) fn cut(&self) {
        self.network.script(&["cut", &self.number()]);
    }

    /// Mends what [`Machine::cut`] has done, and does nothing to a whole network.
    pub(crate) fn mend(&self) {
        self.network.script(&["mend", &self.number()]);
    }

    /// Stops its processors in the middle of whatever they do. No command is answered; the clock
    /// goes on, as the host will see when it is thawed.
    pub(crate) fn freeze(&self) {
        self.network.script(&["freeze", &self.number()]);
    }

    /// Lets a frozen host go on.
    pub(crate) fn thaw(&self) {
        self.network.script(&["thaw", &self.number()]);
    }

    /// Cuts its power: nothing is written, nobody is told.
    pub(crate) fn power_off(&mut self) {
        self.network.script(&["power-off", &self.number()]);
        self.has_power = false;
        self.runs_daemon = false;
    }

    /// Boots it, and waits for its engine. The daemon is not started.
    pub(crate) fn boot(&mut self) {
        self.boot_with(&[]);
    }

    /// The same with systemd, which runs the engine and the driver by their units.
    pub(crate) fn boot_with_systemd(&mut self) {
        self.boot_with(&[("HOST_SYSTEMD", env!("CARGO_BIN_EXE_docker-ceph"))]);
        self.await_cluster();
    }

    /// The same without the driver, which can then be installed.
    pub(crate) fn boot_with_systemd_alone(&mut self) {
        self.boot_with(&[("HOST_SYSTEMD", "none")]);
    }

    fn boot_with(&mut self, variables: &[(&str, &str)]) {
        assert!(!self.has_power, "{} is running", self.name());
        let kernel = ("DOCKER_CEPH_KERNEL", self.kernel.name());
        let variables = [variables, &[kernel]].concat();
        self.network.script_with(&variables, &["boot", &self.number()]);
        self.has_power = true;
    }

    /// Shuts the host down as its operator does, and waits until it is off.
    pub(crate) fn shut_down(&mut self) {
        self.run("systemctl poweroff");
        self.network.script(&["await-off", &self.number()]);
        self.has_power = false;
        self.runs_daemon = false;
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.network.folder().join(self.number()).join("log").join(name)
    }

    /// What the daemon has logged, over all its starts and all boots.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file("daemon.log")).unwrap_or_default()
    }

    /// The same, since the test began.
    pub(crate) fn log_since(&self) -> String {
        self.log()[self.log_before..].to_owned()
    }

    /// What the kernel has said since the boot.
    ///
    /// # Errors
    /// Where the host gives no answer; its warnings are in `console.log`.
    pub(crate) fn kernel_log(&self) -> io::Result<String> {
        self.try_run(30, "dmesg").map(|done| done.out)
    }

    /// What there is of the daemon's making: mounts, devices, the processes behind them.
    #[track_caller]
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let text = self.run(
            "awk '$5 ~ \"^/(run|var/lib)/docker-volume-ceph/\" {print \"mount \" $5}' /proc/self/mountinfo; \
             for d in /sys/bus/rbd/devices/*; do [ ! -e $d ] || echo rbd $(cat $d/name); done; \
             for d in /sys/block/nbd*/pid; do [ ! -e $d ] || echo nbd $(cat $d); done; \
             for d in /sys/block/loop*/loop/backing_file; do [ ! -e $d ] || echo loop $(cat $d); done",
        );
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until nothing of the daemon's making is left.
    #[track_caller]
    pub(crate) fn assert_released(&self) {
        let mut left = Vec::new();
        let released = within_by(SOON, Duration::from_millis(500), || {
            left = self.leftovers();
            left.is_empty()
        });
        assert!(released, "left on {}: {left:#?}", self.name());
    }

    /// Removes the containers and the volumes of the test; by this, removing is tested as well.
    fn clear(&mut self) {
        if !self.has_power {
            return;
        }
        let containers = self.docker.ok(&["ps", "--all", "--quiet"]);
        let containers: Vec<&str> = containers.split_whitespace().collect();
        if !containers.is_empty() {
            self.docker.ok(&[&["rm", "--force", "--volumes"], &containers[..]].concat());
        }
        self.assert_released();
        let ours = std::mem::take(&mut self.volumes);
        if !ours.is_empty() && self.runs_daemon {
            self.remove(&ours);
        }
    }

    /// The cluster may keep the client of a host without power for half a minute, and a mount whose
    /// caller has given up may still be on its way: such a volume is asked for again.
    fn remove(&self, volumes: &[String]) {
        let words = ["volume", "rm", "--force"].into_iter();
        let words: Vec<&str> = words.chain(volumes.iter().map(String::as_str)).collect();
        let mut output = None;
        within_by(SOON, Duration::from_secs(1), || {
            let output = output.insert(self.docker.run(&words));
            !String::from_utf8_lossy(&output.stderr).contains("its image is open on client")
        });
        assert!(output.is_some_and(|of| of.status.success()), "docker {words:?}, see its commands");
    }

    fn check(&mut self) {
        let log = self.log_since();
        let errors =
            log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
        let announced = |line: &&str| !self.announced.iter().any(|text| line.contains(text));
        let errors: Vec<&str> = errors.filter(announced).collect();
        assert!(errors.is_empty(), "errors of {}'s daemon: {errors:#?}", self.name());
    }

    /// For a failed test.
    fn print_logs(&self) {
        let name = self.name();
        let kernel = self.kernel_log().unwrap_or_else(|error| {
            let console = fs::read_to_string(self.log_file("console.log")).unwrap_or_default();
            format!("no answer ({error}); its console:\n{console}")
        });
        let engine = fs::read_to_string(self.log_file("dockerd.log")).unwrap_or_default();
        // A copy in the folder that is kept.
        let _ = fs::File::create(self.log_file("kernel.log"))
            .and_then(|mut file| io::Write::write_all(&mut file, kernel.as_bytes()));
        eprintln!("== {name}: kernel\n{}", tail(&kernel, TAIL / 4));
        eprintln!("== {name}: commands\n{}", tail(&self.docker.said(), TAIL / 4));
        eprintln!("== {name}: engine\n{}", tail(&engine, TAIL / 4));
        eprintln!("== {name}: daemon\n{}", tail(&self.log_since(), TAIL));
    }
}

/// A command of `tests/lab/guest`.
fn guest_line(words: &[&str]) -> String {
    let script = lab_tool("guest");
    quoted(&[&[script.to_str().expect("the path is text")], words].concat())
}

/// One line of shell with every word as it is.
pub(crate) fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

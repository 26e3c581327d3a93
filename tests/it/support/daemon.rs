//! The real daemon as a child of the test, on a real cluster: started, asked over its socket,
//! killed, started again, and what it left behind.
//!
//! Everything of a daemon (socket, state, mounts) lies in a temporary folder of its own, so what
//! it left is whatever names that folder: mounts, loop devices, processes. The folder is only
//! deleted when nothing is mounted below it: else the deletion would run through a volume.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long a daemon may take to answer its first call: an old watch or a slow machine included.
const START: Duration = Duration::from_secs(60);

/// How long a daemon may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(60);

/// As long as the engine waits for a mount.
const ANSWER: Duration = Duration::from_secs(120);

/// The object that has the records of volumes.
const CATALOG: &str = docker_volume_ceph::catalog::CATALOG_OBJECT;

/// A cluster that somebody has started, named by the environment.
#[derive(Debug, Clone)]
pub(crate) struct Lab(PathBuf);

impl Lab {
    /// The lab of `DOCKER_CEPH_LAB`.
    ///
    /// # Panics
    /// Where there is none: a test that cannot run does not pass.
    pub(crate) fn of_environment() -> Self {
        let folder = std::env::var_os("DOCKER_CEPH_LAB").map(PathBuf::from);
        let folder = folder.expect("DOCKER_CEPH_LAB names no lab: run it with make test T=ceph");
        let lab = Self(folder);
        assert!(lab.conf().exists(), "no cluster in {}", lab.0.display());
        lab
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// The cluster's own configuration.
    pub(crate) fn conf(&self) -> PathBuf {
        self.0.join("cluster/ceph.conf")
    }

    /// The key of the daemons.
    pub(crate) fn keyring(&self) -> PathBuf {
        self.keyring_of("docker")
    }

    fn keyring_of(&self, client: &str) -> PathBuf {
        self.0.join(format!("cluster/ceph.client.{client}.keyring"))
    }

    /// What the stock `rbd` says of the home namespace, with the daemon's own key.
    pub(crate) fn rbd(&self, arguments: &[&str]) -> String {
        let mut command = timed(30, "rbd");
        command.arg("--conf").arg(self.conf()).arg("--keyring").arg(self.keyring());
        command.args(["--id", "docker", "--pool", "rbd", "--namespace", "docker"]).args(arguments);
        let output = run(&mut command);
        assert!(output.status.success(), "rbd {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("rbd prints text")
    }

    /// Changes a volume's record behind everybody's back: as if time had gone by, for one.
    #[track_caller]
    pub(crate) fn edit_record(&self, volume: &str, edit: impl FnOnce(&mut Value)) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("text");
        let rados = |words: &str| {
            let script = format!("rados -p rbd -N docker {words}");
            let mut command = timed(30, "sh");
            command.args(["-c", &script, "sh", CATALOG, volume, path]);
            let output = run(command.env("CEPH_CONF", self.conf()));
            assert!(output.status.success(), "{words}: {output:?}");
        };
        rados("getomapval \"$1\" \"$2\" \"$3\"");
        let mut record = serde_json::from_slice(&fs::read(path).expect("read")).expect("a record");
        edit(&mut record);
        fs::write(path, record.to_string()).expect("written");
        rados("setomapval \"$1\" \"$2\" < \"$3\"");
    }

    /// What `ceph` says, with all rights.
    #[track_caller]
    pub(crate) fn ceph(&self, words: &[&str]) -> String {
        let mut command = timed(30, "ceph");
        let output = run(command.env("CEPH_CONF", self.conf()).args(words));
        assert!(output.status.success(), "ceph {words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("ceph prints text")
    }
}

/// The key of a keyring, which must not be told anywhere.
pub(crate) fn key_in(keyring: &Path) -> String {
    let keyring = fs::read_to_string(keyring).expect("the keyring is there");
    let key = keyring.lines().find_map(|line| line.trim().strip_prefix("key = "));
    key.expect("the keyring has a key").to_owned()
}

/// A daemon, running or not, and its folder.
#[derive(Debug)]
pub(crate) struct Daemon {
    lab: Lab,
    /// A home of its own, where it is not the one of all; it has all rights there.
    home: Option<String>,
    folder: Option<tempfile::TempDir>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) json: Value,
}

impl Reply {
    /// No error, neither by the status nor by `Err`.
    pub(crate) fn is_ok(&self) -> bool {
        self.status == 200 && self.error().is_empty()
    }

    /// The text of `Err`.
    pub(crate) fn error(&self) -> &str {
        self.json["Err"].as_str().unwrap_or_default()
    }
}

impl Daemon {
    /// A daemon with a new folder, not started yet.
    pub(crate) fn new(lab: &Lab) -> Self {
        // Short, because a socket's path has 107 bytes at most, and in memory, as `/run` is.
        let folder = tempfile::Builder::new().prefix("docker-ceph-").tempdir_in("/dev/shm");
        let folder = Some(folder.expect("a folder for the daemon"));
        Self { lab: lab.clone(), home: None, folder, environment: Vec::new(), child: None }
    }

    /// A daemon whose home is a namespace that others have nothing to do with. It is there already.
    pub(crate) fn at_home(lab: &Lab, namespace: &str) -> Self {
        let mut daemon = Self::new(lab);
        daemon.home = Some(namespace.to_owned());
        daemon
    }

    /// The namespace of its home.
    pub(crate) fn home(&self) -> &str {
        self.home.as_deref().unwrap_or("docker")
    }

    /// A variable of its environment, from the next start on.
    pub(crate) fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The folder in which everything of it lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it is there until the drop").path()
    }

    /// Where its volumes are mounted.
    pub(crate) fn mount_root(&self) -> PathBuf {
        self.folder().join("volumes")
    }

    /// Has the operator's tool ask it, as JSON; what the tool prints, or what it says of the failure.
    pub(crate) fn tool(&self, words: &[&str]) -> Result<Value, String> {
        let mut tool = timed(120, env!("CARGO_BIN_EXE_docker-ceph"));
        tool.arg("--json").arg("--socket").arg(self.socket()).args(words);
        let output = run(&mut tool);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).expect("the tool prints JSON"))
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("ceph.sock")
    }

    /// Starts it and waits for its first answer.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(self.folder().join("log"));
        let log = log.expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_docker-ceph"));
        command.arg("serve").arg("--ceph-conf").arg(self.lab.conf());
        let client = if self.home.is_some() { "admin" } else { "docker" };
        command.arg("--keyring").arg(self.lab.keyring_of(client));
        command.args(["--client-id", client, "--pool", "rbd", "--namespace", self.home()]);
        command.args(["--mapper", "fuse", "--reference-grace", "120s", "--log-level", "debug"]);
        command.arg("--socket").arg(self.socket());
        command.arg("--state-folder").arg(self.folder().join("run"));
        command.arg("--cache-folder").arg(self.folder().join("lib"));
        command.arg("--mount-root").arg(self.mount_root());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a log file")).stdout(log);
        self.child = Some(command.spawn().expect("the daemon's program starts"));
        let answered = within(START, || {
            assert!(!self.is_over(), "it ended by itself:\n{}", self.log());
            self.ask("Plugin.Activate", "", Duration::from_secs(5)).is_ok()
        });
        assert!(answered, "no answer after {START:?}:\n{}", self.log());
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Has its process ended?
    pub(crate) fn is_over(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was started");
        child.try_wait().expect("a child of ours").is_some()
    }

    /// Kills it, as the kernel's OOM killer would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it is running");
        // It may have ended a moment ago.
        drop(child.kill());
        child.wait().expect("a child of ours");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process number"));
        kill(pid, Signal::SIGTERM).expect("a child of ours can be signalled");
        assert!(within(STOP, || self.is_over()), "it does not stop:\n{}", self.log());
        self.child.take().expect("it was running").wait().expect("a child of ours")
    }

    /// Makes a call of the volume protocol, such as `VolumeDriver.Mount`. An error where there is
    /// no answer: the daemon is away, or closed the connection.
    pub(crate) fn call(&self, verb: &str, body: &Value) -> io::Result<Reply> {
        self.ask(verb, &body.to_string(), ANSWER)
    }

    fn ask(&self, verb: &str, body: &str, limit: Duration) -> io::Result<Reply> {
        ask(&self.socket(), verb, body, limit)
    }

    /// What it has logged, over all its starts: for messages of failed tests.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        let tail = log.len().saturating_sub(20_000);
        let tail = (tail..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or_default();
        log[tail..].to_owned()
    }

    /// What there is of its making on this host: mounts, loop devices, processes.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let folder = self.folder().to_str().expect("the folder's path is text");
        let mounts = mounts_below(folder).into_iter().map(|target| format!("mount {target}"));
        let loops = loops_below(folder).into_iter().map(|device| format!("loop {device}"));
        mounts.chain(loops).chain(processes_naming(folder)).collect()
    }

    /// Waits until nothing of its making is left, and says what is.
    pub(crate) fn leftovers_after(&self, limit: Duration) -> Vec<String> {
        within(limit, || self.leftovers().is_empty());
        self.leftovers()
    }

    /// Takes down what a failed test has left, through the folder's own mounts and devices only.
    fn clean_up(&self) {
        let folder = self.folder().to_str().expect("the folder's path is text");
        let (volumes, fuse): (Vec<String>, Vec<String>) = mounts_below(folder)
            .into_iter()
            .partition(|target| Path::new(target).starts_with(self.mount_root()));
        for target in volumes.iter().rev() {
            run(timed(20, "umount").arg("--lazy").arg(target));
        }
        for device in loops_below(folder) {
            run(timed(20, "losetup").args(["--detach", &device]));
        }
        // Unmounting its file system ends the process behind it.
        for target in fuse.iter().rev() {
            run(timed(20, "umount").arg("--lazy").arg(target));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        self.clean_up();
        if std::thread::panicking() {
            // The message of a failed test has the end of it; all of it may be worth a look.
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let name = self.folder().file_name().expect("a named folder").to_owned();
            let kept = kept.join(name).with_extension("log");
            if fs::copy(self.folder().join("log"), &kept).is_ok() {
                eprintln!("the daemon's log: {}", kept.display());
            }
        }
        let folder = self.folder().to_str().expect("the folder's path is text").to_owned();
        if !mounts_below(&folder).is_empty() {
            let kept = self.folder.take().map(tempfile::TempDir::keep);
            eprintln!("left as it is, for something is mounted below it: {kept:?}");
        }
    }
}

/// Tries until it is true or the time is over.
pub(crate) fn within(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    const LONGEST: Duration = Duration::from_millis(500);
    poll(limit, Duration::from_millis(50), |pause| (pause * 5 / 4).min(LONGEST), condition)
}

/// The same, with pauses of one length between tries that are dear.
pub(crate) fn within_by(limit: Duration, pause: Duration, condition: impl FnMut() -> bool) -> bool {
    poll(limit, pause, |pause| pause, condition)
}

fn poll(
    limit: Duration,
    mut pause: Duration,
    next: impl Fn(Duration) -> Duration,
    mut condition: impl FnMut() -> bool,
) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(pause);
        pause = next(pause);
    }
}

/// A program that is killed after so many seconds.
pub(crate) fn timed(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string(), program]).stdin(Stdio::null());
    command
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.output().expect("timeout(1) is there")
}

/// Asks a daemon as the engine does, byte for byte. An error where there is no answer.
pub(crate) fn ask(socket: &Path, verb: &str, body: &str, limit: Duration) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.set_read_timeout(Some(limit))?;
    exchange(&mut stream, verb, body)
}

/// The same over a connection that is there.
pub(crate) fn exchange(
    stream: &mut (impl Read + Write),
    verb: &str,
    body: &str,
) -> io::Result<Reply> {
    write_request(stream, verb, body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, answer))
}

/// Sends a request, and leaves the answer to the caller: to read, or to hang up before it comes.
pub(crate) fn send(socket: &Path, verb: &str, body: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    write_request(&mut stream, verb, body)?;
    Ok(stream)
}

fn write_request(stream: &mut impl Write, verb: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "POST /{verb} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\
         Accept: application/vnd.docker.plugins.v1.2+json\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    )
}

fn parse(answer: &str) -> Option<Reply> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, json: serde_json::from_str(body).unwrap_or(Value::Null) })
}

fn mounts_below(folder: &str) -> Vec<String> {
    mounts_of("self", folder)
}

/// What a process sees mounted below a folder.
pub(crate) fn mounts_of(process: &str, folder: &str) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{process}/mountinfo"));
    let table = table.unwrap_or_else(|error| panic!("mounts of process {process}: {error}"));
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    targets.filter(|target| target.starts_with(folder)).map(str::to_owned).collect()
}

/// Loop devices over files below a folder.
pub(crate) fn loops_below(folder: &str) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").expect("sysfs is mounted").flatten();
    let ours = devices.filter(|device| {
        // The kernel answers this by itself; nothing touches the file, which may hang.
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        backing.is_ok_and(|backing| backing.starts_with(folder))
    });
    ours.map(|device| format!("/dev/{}", device.file_name().to_string_lossy())).collect()
}

/// All processes of this machine, by their numbers.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("procfs is mounted").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes with the folder in their arguments; the daemon itself is none of them.
pub(crate) fn processes_naming(folder: &str) -> Vec<String> {
    let named = processes().filter_map(|process| {
        let arguments = fs::read(format!("/proc/{process}/cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let daemon = arguments.contains(" serve ");
        (arguments.contains(folder) && !daemon).then(|| format!("process {process}: {arguments}"))
    });
    named.collect()
}

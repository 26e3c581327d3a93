//! Runs a program, and never waits for it longer than the deadline says.
//!
//! A program is started with an environment of our own (a fixed `PATH`, the C locale, and nothing
//! of the daemon's), in a process group of its own, with its output caught up to a limit. At the
//! deadline the whole group is killed. A child that the kernel does not let go (state D) is left
//! to the thread that waits for it, and the caller gets its answer all the same. Secrets never
//! stand in an argument: Ceph's programs are told where the keyring is.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::SystemErrorKind;
use crate::deadline::Deadline;

/// Where programs are looked for, whatever the daemon's own `PATH` says.
pub const PROGRAM_FOLDERS: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The most that is kept of each output: its end.
const CAPTURED: usize = 64 * 1024;
/// How long a killed child may take to be gone.
const AFTER_KILL: Duration = Duration::from_millis(500);
/// How often a wait looks whether the work was called off.
const SLICE: Duration = Duration::from_millis(50);

/// Which package brings a program, for the message that says it is missing.
const PACKAGES: &[(&str, &str)] = &[
    ("blkid", "util-linux"),
    ("ceph-fuse", "ceph-fuse"),
    ("dumpe2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("resize2fs", "e2fsprogs"),
    ("tune2fs", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_admin", "xfsprogs"),
    ("xfs_growfs", "xfsprogs"),
    ("modprobe", "kmod"),
    ("rbd-fuse", "rbd-fuse"),
    ("rbd-nbd", "rbd-nbd"),
    ("rsync", "rsync"),
    ("setpriv", "util-linux"),
];

/// The folders that programs are run from.
#[derive(Debug, Clone)]
pub(crate) struct Programs(Vec<PathBuf>);

impl Programs {
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        Self(folders)
    }

    /// The program of that name, or what to install.
    pub(crate) fn find(&self, name: &str) -> Result<Command, SystemErrorKind> {
        let paths = self.0.iter().map(|folder| folder.join(name));
        match paths.into_iter().find(|path| path.is_file()) {
            Some(path) => Ok(Command::new(path, self)),
            None => Err(SystemErrorKind::Missing {
                what: format!("the program {name}"),
                advice: format!("install the package {}", package_of(name)),
            }),
        }
    }

    /// Those of the programs that are missing, each with its package.
    pub(crate) fn missing<'a>(&self, names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        let absent = names.iter().filter(|name| self.find(name).is_err());
        absent.map(|name| (*name, package_of(name))).collect()
    }

    fn search_path(&self) -> OsString {
        let folders: Vec<&OsStr> = self.0.iter().map(|folder| folder.as_os_str()).collect();
        folders.join(OsStr::new(":"))
    }
}

fn package_of(program: &str) -> &str {
    let known = PACKAGES.iter().find(|(name, _)| *name == program);
    known.map_or(program, |(_, package)| package)
}

/// A program and what it is given.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    program: PathBuf,
    args: Vec<OsString>,
    search_path: OsString,
    environment: Vec<(OsString, OsString)>,
}

/// What a program that has ended leaves.
#[derive(Debug)]
pub(crate) struct Output {
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Command {
    pub(crate) fn new(program: PathBuf, programs: &Programs) -> Self {
        let search_path = programs.search_path();
        let environment = vec![("LC_ALL".into(), "C".into())];
        Self { program, args: Vec::new(), search_path, environment }
    }

    /// Gives it these variables and `PATH`, and no others.
    pub(crate) fn only_env(mut self, environment: &[(String, String)]) -> Self {
        let pairs = environment.iter().map(|(name, value)| (name.into(), value.into()));
        self.environment = pairs.collect();
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The program and its arguments, as another program is to run them.
    pub(crate) fn line(&self) -> Vec<OsString> {
        std::iter::once(self.program.clone().into_os_string()).chain(self.args.clone()).collect()
    }

    fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self, deadline: &Deadline) -> Result<Output, SystemErrorKind> {
        let output = self.run_to_any_end(deadline)?;
        if output.status.success() { Ok(output) } else { Err(self.failed(&output)) }
    }

    /// Runs it to its end, good or bad.
    pub(crate) fn run_to_any_end(&self, deadline: &Deadline) -> Result<Output, SystemErrorKind> {
        self.run_logged(deadline, |_| ())
    }

    /// Runs it to its end, which must be a good one, and has what it has printed so far looked at
    /// now and then.
    pub(crate) fn run_watched(
        &self,
        deadline: &Deadline,
        watch: &dyn Fn(&[u8]),
    ) -> Result<Output, SystemErrorKind> {
        let output = self.run_looked_at(deadline, watch, |_| ())?;
        if output.status.success() { Ok(output) } else { Err(self.failed(&output)) }
    }

    /// Runs it to its end, good or bad, and has its output logged, also where it is killed.
    pub(crate) fn run_logged(
        &self,
        deadline: &Deadline,
        log: impl FnOnce(&Output),
    ) -> Result<Output, SystemErrorKind> {
        self.run_looked_at(deadline, &|_| (), log)
    }

    fn run_looked_at(
        &self,
        deadline: &Deadline,
        watch: &dyn Fn(&[u8]),
        log: impl FnOnce(&Output),
    ) -> Result<Output, SystemErrorKind> {
        let started = Instant::now();
        if deadline.is_over() {
            return Err(SystemErrorKind::Timeout { after: Duration::ZERO });
        }
        let mut running = Running::start(self)?;
        let ended = running.wait(deadline, watch).or_else(|| running.kill());
        let after = started.elapsed();
        tracing::debug!(program = %self.program.display(), args = ?self.args,
            status = ?ended.map(|end| end.into_raw()), ms = after.as_millis(), "program run");
        let output = ended.map(|status| running.output(status));
        if let Some(output) = &output {
            log(output);
        }
        output.filter(|_| !running.killed).ok_or(SystemErrorKind::Timeout { after })
    }

    /// The error that this output means.
    pub(crate) fn failed(&self, output: &Output) -> SystemErrorKind {
        SystemErrorKind::Command {
            program: self.name(),
            status: output.status.to_string(),
            output: output.tail(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is where children get their deadline")]
    fn spawn(&self) -> Result<Child, SystemErrorKind> {
        let child = std::process::Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .env("PATH", &self.search_path)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        child.map_err(|source| SystemErrorKind::Io { path: self.program.clone(), source })
    }
}

impl Output {
    /// The exit code; `None` where a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The end of what it printed, for people.
    pub(crate) fn tail(&self) -> String {
        let said = [&self.stderr, &self.stdout].into_iter().find(|text| !text.is_empty());
        last_lines(said.map_or(&[][..], |text| text.as_slice()))
    }
}

/// The last few lines of a text, on one line and without control characters.
pub(crate) fn last_lines(text: &[u8]) -> String {
    const LINES: usize = 4;
    const LENGTH: usize = 600;
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("; ");
    let clean: Vec<char> = last.chars().filter(|c| !c.is_control()).collect();
    clean[clean.len().saturating_sub(LENGTH)..].iter().collect()
}

/// A child, and the threads that read from it and wait for it.
struct Running {
    pid: Pid,
    child: Arc<Mutex<Child>>,
    end: Receiver<ExitStatus>,
    stdout: Capture,
    stderr: Capture,
    killed: bool,
}

impl Running {
    fn start(command: &Command) -> Result<Self, SystemErrorKind> {
        let mut child = command.spawn()?;
        let stdout = Capture::of(child.stdout.take());
        let stderr = Capture::of(child.stderr.take());
        let pid = Pid::from_raw(child.id().cast_signed());
        let child = Arc::new(Mutex::new(child));
        let end = reap(pid, Arc::clone(&child));
        Ok(Self { pid, child, end, stdout, stderr, killed: false })
    }

    fn wait(&mut self, deadline: &Deadline, watch: &dyn Fn(&[u8])) -> Option<ExitStatus> {
        while !deadline.is_over() {
            match self.end.recv_timeout(deadline.left().min(SLICE)) {
                Ok(status) => return Some(status),
                Err(RecvTimeoutError::Timeout) => {
                    watch(&self.stdout.text.lock().unwrap_or_else(PoisonError::into_inner));
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        None
    }

    fn kill(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, and not reaped: the number is still that of our child.
        if let Ok(None) = child.try_wait() {
            self.killed = true;
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
        drop(child);
        self.end.recv_timeout(AFTER_KILL).ok()
    }

    fn output(&self, status: ExitStatus) -> Output {
        Output { status, stdout: self.stdout.finish(), stderr: self.stderr.finish() }
    }
}

/// Waits for the child in a thread of its own: it stays behind with one that cannot be killed.
fn reap(pid: Pid, child: Arc<Mutex<Child>>) -> Receiver<ExitStatus> {
    let (sender, end) = mpsc::channel();
    thread::spawn(move || {
        // Without reaping, so that until the lock is held nobody else can get the number.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(status) = child.wait() {
            let _ = sender.send(status);
        }
    });
    end
}

/// The end of an output, as far as it has come.
struct Capture {
    text: Arc<Mutex<Vec<u8>>>,
    closed: Receiver<()>,
}

impl Capture {
    fn of(source: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (sender, closed) = mpsc::channel();
        if let Some(source) = source {
            let text = Arc::clone(&text);
            thread::spawn(move || {
                keep_the_end(source, &text);
                drop(sender);
            });
        }
        Self { text, closed }
    }

    /// A grandchild may hold the pipe open after the program's end: it is not waited for.
    fn finish(&self) -> Vec<u8> {
        let _ = self.closed.recv_timeout(AFTER_KILL);
        std::mem::take(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn keep_the_end(mut source: impl Read, text: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(&buffer[..count]);
        let excess = text.len().saturating_sub(CAPTURED);
        if excess > CAPTURED {
            text.drain(..excess);
        }
    }
}

/// The error of a system call on a path.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SystemErrorKind {
    let path = path.to_owned();
    move |source| SystemErrorKind::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Programs {
        Programs::new(PROGRAM_FOLDERS.iter().map(PathBuf::from).collect())
    }

    fn sh(script: &str) -> Command {
        programs().find("sh").expect("a shell").args(["-c", script])
    }

    fn after(ms: u64) -> Deadline {
        Deadline::after(Duration::from_millis(ms))
    }

    #[test]
    fn output_and_status_come_back() {
        let output = sh("echo out; echo err >&2; exit 3").run_to_any_end(&after(5000));
        let output = output.expect("it ends");
        assert_eq!(output.code(), Some(3));
        assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    }

    #[test]
    fn a_failure_names_program_status_and_the_end_of_the_output() {
        let failed = sh("seq 1 9 >&2; exit 4").run(&after(5000)).expect_err("it fails");
        assert_eq!(failed.to_string(), "sh failed (exit status: 4): 6; 7; 8; 9");
    }

    #[test]
    fn the_daemons_environment_is_not_handed_on() {
        let env = programs().find("env").expect("the program env");
        let output = env.run(&after(5000)).expect("it runs");
        let names: Vec<_> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.split('=').next().map(str::to_owned))
            .collect();
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }

    #[test]
    fn at_the_deadline_the_whole_group_is_killed() {
        let started = Instant::now();
        let folder = tempfile::tempdir().expect("a folder");
        let sign = folder.path().join("sign");
        let script = format!("trap '' TERM; (sleep 0.8; touch {}) & wait", sign.display());
        let error = sh(&script).run(&after(200)).expect_err("it is killed");
        assert!(matches!(error, SystemErrorKind::Timeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
        thread::sleep(Duration::from_secs(1));
        assert!(!sign.exists(), "a grandchild outlived the deadline");
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = crate::deadline::Stop::default();
        let deadline = Deadline::with_stop(Duration::from_secs(60), stop.clone());
        let runner = thread::spawn(move || sh("sleep 60").run(&deadline).is_err());
        thread::sleep(Duration::from_millis(100));
        stop.stop();
        assert!(runner.join().expect("the thread ends"));
    }

    #[test]
    fn a_background_child_that_keeps_the_pipe_is_not_waited_for() {
        let started = Instant::now();
        sh("sleep 3 & echo done").run(&after(5000)).expect("it ends");
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn much_output_is_cut_to_its_end() {
        let output = sh("seq 1 100000").run(&after(20_000)).expect("it runs");
        assert!(output.stdout.len() <= 3 * CAPTURED);
        assert!(output.stdout.ends_with(b"100000\n"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let error = Programs::new(vec![PathBuf::from("/nowhere")]).find("blkid");
        let text = error.expect_err("it is missing").to_string();
        assert_eq!(text, "the program blkid is missing; install the package util-linux");
    }
}

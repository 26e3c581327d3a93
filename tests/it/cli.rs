//! The program as a person or a script meets it: what it prints, and how it ends.

mod commands;
mod docker;
mod doctor;
mod documents;
mod fake_daemon;
mod serve;
mod settings;
mod support;
mod ui;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The program, with an environment of its own and a socket that nobody has made yet.
struct Program {
    folder: TempDir,
}

/// What a run came to.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.toml"), "").expect("a file");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("ceph.sock")
    }

    fn executable() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_docker-ceph"))
    }

    /// A command with nothing of this machine's own settings.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path());
        command.env("DOCKER_CEPH_SOCKET", self.socket());
        command.env("DOCKER_CEPH_CONFIG", self.path("config.toml"));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[impl AsRef<OsStr>]) -> Ran {
        Ran::of(&mut self.command_of(words))
    }

    fn command_of(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = self.command(Self::executable());
        command.args(words);
        command
    }
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("the program starts");
        Self {
            code: status.code().expect("no signal ends it"),
            stdout: String::from_utf8(stdout).expect("text"),
            stderr: String::from_utf8(stderr).expect("text"),
        }
    }

    #[track_caller]
    fn succeeded(self) -> String {
        assert_eq!((self.code, &self.stderr[..]), (0, ""), "{}", self.stdout);
        self.stdout
    }

    #[track_caller]
    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

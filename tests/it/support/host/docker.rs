//! The engine's command line, every command with a time limit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::support::daemon::{run, timed};

/// The image that every host has: busybox, with no folder at the usual mount destinations.
pub(crate) const IMAGE: &str = "busybox";

/// Longer than the engine gives to any call of a volume driver.
const LIMIT: u32 = 150;

/// One engine's command line.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    command: Vec<String>,
    address: String,
    config: PathBuf,
    environment: Vec<(String, String)>,
    /// Everything that was printed, for a search for what must not be.
    said: Arc<Mutex<String>>,
}

impl Docker {
    /// The words that start the client, the engine's address, and the client's own folder.
    pub(crate) fn new(command: Vec<String>, address: String, config: PathBuf) -> Self {
        Self { command, address, config, environment: Vec::new(), said: Arc::default() }
    }

    /// The same with more variables in the environment of its commands.
    pub(crate) fn with(&self, environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|&(name, value)| (name.into(), value.into()));
        Self { environment: environment.collect(), ..self.clone() }
    }

    /// Gives the client a plugin, which is `docker NAME` for a program `docker-NAME`.
    pub(crate) fn add_plugin(&self, program: &Path) {
        let folder = self.config.join("cli-plugins");
        fs::create_dir_all(&folder).expect("a folder for plugins");
        let link = folder.join(program.file_name().expect("a program"));
        if !link.exists() {
            symlink(program, link).expect("linked");
        }
    }

    /// A command, not started yet.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = timed(LIMIT, &self.command[0]);
        command.args(&self.command[1..]).args(words);
        command.env("DOCKER_HOST", &self.address).env("DOCKER_CONFIG", &self.config);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A script that is given the words that start the client.
    pub(crate) fn told<'a>(&self, script: &'a mut Command) -> &'a mut Command {
        script.env("DOCKER_HOST", &self.address).env("DOCKER_CONFIG", &self.config);
        script.args(&self.command)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let output = run(&mut self.command(words));
        self.note(words, &output);
        output
    }

    /// Runs a command that has to succeed; what it prints, without the last line's end.
    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (status, said) = (output.status, text(&output));
        assert!(status.success(), "docker {words:?} (124: it did not end): {status}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a command that has to be refused; what it says.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "docker {words:?} succeeded: {}", text(&output));
        assert_ne!(output.status.code(), Some(124), "docker {words:?} did not end");
        text(&output)
    }

    /// Runs a script in a container that is removed after it; what it prints.
    #[track_caller]
    pub(crate) fn script(&self, options: &[&str], script: &str) -> String {
        self.ok(&run_words(&["--rm"], options, script))
    }

    /// The same, where it is to fail.
    #[track_caller]
    pub(crate) fn script_refused(&self, options: &[&str], script: &str) -> String {
        self.refused(&run_words(&["--rm"], options, script))
    }

    /// The same, where it may fail.
    pub(crate) fn try_script(&self, options: &[&str], script: &str) -> Output {
        self.run(&run_words(&["--rm"], options, script))
    }

    /// Starts a container that goes on running.
    #[track_caller]
    pub(crate) fn start(&self, name: &str, options: &[&str], script: &str) {
        self.ok(&run_words(&["--detach", "--name", name], options, script));
    }

    /// Starts a container that waits, and ends at once when it is asked to.
    #[track_caller]
    pub(crate) fn idle(&self, name: &str, options: &[&str]) {
        self.start(name, options, "trap 'exit 0' TERM; sleep 1000000 & wait");
    }

    /// Runs a script in a running container; what it prints.
    #[track_caller]
    pub(crate) fn exec(&self, container: &str, script: &str) -> String {
        self.ok(&["exec", container, "sh", "-c", script])
    }

    /// A field of `docker inspect`.
    #[track_caller]
    pub(crate) fn state(&self, container: &str, field: &str) -> String {
        self.ok(&["inspect", "--format", &format!("{{{{.{field}}}}}"), container])
    }

    /// Creates a volume of 64 MiB, or with these options.
    #[track_caller]
    pub(crate) fn create_volume(&self, name: &str, options: &[&str]) {
        let options = if options.is_empty() { &["size=64M"][..] } else { options };
        let mut words = vec!["volume", "create", "--driver", "ceph"];
        words.extend(options.iter().flat_map(|option| ["-o", option]));
        assert_eq!(self.ok(&[&words[..], &[name]].concat()), name);
    }

    /// What the engine tells of a volume.
    #[track_caller]
    pub(crate) fn inspect(&self, volume: &str) -> Value {
        let text = self.ok(&["volume", "inspect", volume]);
        let list: Value = serde_json::from_str(&text).expect("the engine prints JSON");
        list[0].clone()
    }

    /// The names of a driver's volumes that contain a word.
    #[track_caller]
    pub(crate) fn volumes(&self, driver: &str, word: &str) -> Vec<String> {
        let text = self.ok(&["volume", "ls", "--quiet", "--filter", &format!("driver={driver}")]);
        text.lines().filter(|name| name.contains(word)).map(str::to_owned).collect()
    }

    pub(super) fn note(&self, words: &[&str], output: &Output) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&format!("$ {}\n{}", words.join(" "), text(output)));
    }

    /// Everything that was printed since the test began.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn run_words<'a>(first: &[&'a str], options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let run = ["run", "--network", "none"];
    [&run[..], first, options, &[IMAGE, "sh", "-c", script]].concat()
}

/// Both of what a program printed.
pub(crate) fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

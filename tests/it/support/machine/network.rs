//! The lab of virtual hosts as a whole: its scripts, its network and its cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::daemon::{run, timed};
use crate::support::host::lab_tool;

/// How long a script of the lab may take: a boot on a busy machine is the longest.
const SCRIPT: u32 = 300;

/// A lab that `tests/lab/hosts start` has started.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    folder: PathBuf,
    holder: String,
}

impl Network {
    /// The virtual hosts of `DOCKER_CEPH_LAB`.
    ///
    /// # Panics
    /// Where there are none: a test that cannot run does not pass.
    pub(super) fn of_environment() -> Self {
        let lab = std::env::var_os("DOCKER_CEPH_LAB").map(PathBuf::from);
        let folder = lab.expect("DOCKER_CEPH_LAB names no lab").join("machines");
        let holder = std::fs::read_to_string(folder.join("pids/holder"));
        let holder = holder.expect("no virtual hosts in the lab: run it with make test T=hosts");
        let holder = holder.split(' ').next().expect("a process number").to_owned();
        Self { folder, holder }
    }

    /// Its folder, which the hosts see too.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cluster's configuration, with all rights.
    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.join("cluster/ceph.conf")
    }

    /// The process whose network it is.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// A verb of `tests/lab/hosts`, which has to succeed.
    #[track_caller]
    pub(super) fn script(&self, words: &[&str]) {
        self.script_with(&[], words);
    }

    /// The same with variables of its environment.
    #[track_caller]
    pub(super) fn script_with(&self, variables: &[(&str, &str)], words: &[&str]) {
        let script = lab_tool("hosts");
        let mut command = timed(SCRIPT, script.to_str().expect("the path is text"));
        command.env("DOCKER_CEPH_HOSTS", &self.folder).envs(variables.iter().copied());
        let output = run(command.args(words));
        assert!(output.status.success(), "hosts {words:?}: {output:?}");
    }

    /// Makes one of the cluster's daemons stand still until the answer is dropped: a test that fails
    /// meanwhile leaves a cluster for the next one.
    #[track_caller]
    pub(crate) fn pause(&self, daemon: &'static str) -> Paused<'_> {
        self.cluster("pause", daemon);
        Paused { network: self, daemon }
    }

    /// A verb of `tests/lab/cluster` for one of the cluster's daemons.
    #[track_caller]
    fn cluster(&self, verb: &str, daemon: &str) {
        let (tool, folder) = (lab_tool("cluster"), self.folder.join("cluster"));
        let paths = [&tool, &folder].map(|path| path.to_str().expect("the path is text"));
        self.script(&["enter", paths[0], verb, paths[1], daemon]);
    }

    /// The words with which a program of this machine runs in the lab's network.
    pub(super) fn entering(&self) -> [&str; 5] {
        ["nsenter", "--target", &self.holder, "--net", "--"]
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = timed(60, "nsenter");
        command.args(&self.entering()[1..]).arg(program);
        command.arg("--conf").arg(self.conf()).args(arguments);
        command
    }

    /// What the stock `rbd` says of the home namespace, with all rights.
    #[track_caller]
    pub(crate) fn rbd(&self, arguments: &[&str]) -> String {
        let home = ["--pool", "rbd", "--namespace", "docker"];
        said(self.tool("rbd", &[&home[..], arguments].concat()))
    }

    /// What `ceph` says.
    #[track_caller]
    pub(crate) fn ceph(&self, arguments: &[&str]) -> String {
        said(self.tool("ceph", arguments))
    }

    /// Bytes that the cluster keeps for an image.
    #[track_caller]
    pub(crate) fn used(&self, image: &str) -> u64 {
        let text = self.rbd(&["diff", "--format", "json", image]);
        let extents: serde_json::Value = serde_json::from_str(&text).expect("rbd prints JSON");
        let extents = extents.as_array().expect("a list of extents");
        extents.iter().filter_map(|extent| extent["length"].as_u64()).sum()
    }
}

/// A daemon of the cluster that stands still.
#[must_use = "it goes on at once"]
#[derive(Debug)]
pub(crate) struct Paused<'a> {
    network: &'a Network,
    daemon: &'static str,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.network.cluster("resume", self.daemon);
    }
}

#[track_caller]
fn said(mut command: Command) -> String {
    let output = run(&mut command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

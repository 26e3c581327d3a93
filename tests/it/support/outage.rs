//! A cluster that is away for a while, or a daemon of it that dies.

use super::daemon::{Lab, run, timed};
use super::host::lab_tool;

/// A part of the cluster (`mon`, `mgr`, `osd`, `mds` or `all`) that stands still until this is
/// dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Outage {
    lab: Lab,
    what: &'static str,
}

impl Outage {
    pub(crate) fn of(lab: &Lab, what: &'static str) -> Self {
        cluster(lab, "pause", what);
        Self { lab: lab.clone(), what }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        cluster(&self.lab, "resume", self.what);
    }
}

/// A verb of `tests/lab/cluster`.
#[track_caller]
pub(crate) fn cluster(lab: &Lab, verb: &str, what: &str) {
    let script = lab_tool("cluster");
    let mut command = timed(30, script.to_str().expect("the path is text"));
    command.arg(verb).arg(lab.folder().join("cluster")).arg(what);
    let output = run(&mut command);
    assert!(output.status.success(), "cluster {verb} {what}: {output:?}");
}

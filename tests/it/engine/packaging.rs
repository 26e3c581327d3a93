//! What is built for those who install the driver: the managed plugin and the Debian package.

pub(crate) mod debian;
pub(crate) mod plugin;
mod privileges;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::daemon::{run, timed};
use crate::support::host::{Host, NEWEST, on, text};
use crate::support::repeats;

/// Runs a test on the newest engine; with many repeats on the older ones as well.
fn on_engines(test: impl Fn(&mut Host)) {
    let older = ["20.10", "26.1"];
    let versions = if repeats() > 1 { &older[..] } else { &[] };
    for version in versions.iter().chain(&[NEWEST]) {
        println!("on {version}");
        on(version, &test);
    }
}

/// Runs one of the scripts that build what is installed, with the program that these tests have; what it
/// says of itself, by name.
#[track_caller]
fn built(seconds: u32, script: &str, tell: impl FnOnce(&mut Command)) -> impl Fn(&str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut command = timed(seconds, path.to_str().expect("the path is text"));
    tell(command.arg(env!("CARGO_BIN_EXE_docker-ceph")));
    let output = run(&mut command);
    assert!(output.status.success(), "{script}: {output:?}");
    let said = text(&output);
    move |name| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name}: {said}")).to_owned()
    }
}

fn write(path: &Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "a fixture")]
    fs::write(path, text).expect("written");
}

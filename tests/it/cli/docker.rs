//! The program as a Docker CLI plugin, run by the real `docker`, wherever there is one.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::fake_daemon::start;
use super::{Program, Ran};

/// The `docker` programs of this machine.
fn dockers() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("docker"));
    found.filter(|docker| docker.exists()).collect()
}

fn run(program: &Program, docker: &Path, words: &[&str]) -> Ran {
    let mut command = program.command(docker);
    Ran::of(command.env("DOCKER_CONFIG", program.path("docker")).args(words))
}

#[test]
fn docker_runs_it_as_its_own_command() {
    let dockers = dockers();
    if dockers.is_empty() {
        eprintln!("left out: there is no docker on this machine");
    }
    let program = Program::new();
    let plugins = program.path("docker/cli-plugins");
    std::fs::create_dir_all(&plugins).expect("a folder");
    symlink(Program::executable(), plugins.join("docker-ceph")).expect("a link");
    start(&program.socket(), &[("GET /ceph/v1/volumes", 200, r#"{"volumes":[]}"#)]);
    for docker in dockers {
        let listed = "NAME  SIZE  USED  STATE  HOLDER  PLACE\n";
        assert_eq!(run(&program, &docker, &["ceph", "ls"]).succeeded(), listed);
        let with_flags = ["--log-level", "error", "ceph", "ls"];
        assert_eq!(run(&program, &docker, &with_flags).succeeded(), listed);
        let help = run(&program, &docker, &["help", "ceph", "rm"]).succeeded();
        assert!(help.contains("Usage: docker ceph rm"), "{docker:?}: {help}");
        let all = run(&program, &docker, &["--help"]).succeeded();
        assert!(all.contains("Volumes in Ceph"), "{docker:?}: {all}");
        let ran = run(&program, &docker, &["ceph", "rm", "../x"]);
        assert!(ran.stderr.contains("not allowed") && ran.code != 0, "{}", ran.stderr);
    }
}

#[test]
fn the_metadata_is_what_docker_asks_for() {
    let text = Program::new().run(&["docker-cli-plugin-metadata"]).succeeded();
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(metadata["SchemaVersion"], "0.1.0");
    assert_eq!(metadata["Version"], env!("CARGO_PKG_VERSION"));
    assert!(metadata["Vendor"].is_string() && metadata["ShortDescription"].is_string());
}

//! What a snapshot asks of a real engine: who uses a volume, and the ready-made hooks inside it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::engine::Engine;

use super::{at_data, postgres};
use crate::support::daemon::{run, timed};
use crate::support::host::{Host, on_newest, text};

fn users(host: &Host, volume: &str) -> Vec<String> {
    let engine = Engine::at(host.engine_socket());
    engine.containers_of(volume, &Deadline::after(Duration::from_secs(10)))
}

/// Runs a hook as the daemon does, with the engine's client under its usual name.
fn hook(host: &Host, name: &str, event: &str, volume: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let client = folder.path().join("docker");
    let script = "{ echo '#!/bin/sh'; echo \"export DOCKER_HOST=$DOCKER_HOST\"; \
                  echo \"exec $* \\\"\\$@\\\"\"; } > \"$0\"";
    let mut make = Command::new("sh");
    make.args(["-c", script]).arg(&client);
    assert!(run(host.docker().told(&mut make)).status.success(), "no client");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&client, mode).expect("executable");
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/hooks").join(name);
    let mut command = timed(60, hook.to_str().expect("text"));
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.path().display()))
        .envs([("DOCKER_CEPH_EVENT", event), ("DOCKER_CEPH_VOLUME", volume)])
        .envs([("DOCKER_CEPH_SNAPSHOT", "s"), ("DOCKER_CEPH_CONSISTENCY", "application")])
        .env("DOCKER_CEPH_CONTAINERS", users(host, volume).join(" "));
    run(&mut command)
}

#[test]
fn the_running_containers_of_a_volume_are_named() {
    on_newest(|host| {
        let docker = host.docker();
        let (volume, other) = (host.volume(&[]), host.volume(&[]));
        assert!(users(host, &volume).is_empty());
        let mut names = [host.fresh("b"), host.fresh("a"), host.fresh("c")];
        for name in &names {
            docker.idle(name, at_data!(volume));
        }
        let stranger = host.fresh("x");
        docker.idle(&stranger, at_data!(other));
        names.sort();
        assert_eq!(users(host, &volume), names);
        docker.ok(&["pause", &names[0]]);
        docker.ok(&["kill", &names[1]]);
        docker.ok(&["wait", &names[1]]);
        assert_eq!(users(host, &volume), names[2..], "one is paused and one has ended");
        docker.ok(&["unpause", &names[0]]);
        host.stop_engine();
        assert!(users(host, &volume).is_empty(), "nobody can be asked");
        host.start_engine(&[]);
    });
}

#[test]
fn the_hook_makes_a_checkpoint_in_the_container_that_runs_postgresql() {
    on_newest(|host| {
        host.load_image("postgres");
        let docker = host.docker();
        let volume = host.volume(&["size=320M", "on-remove=delete"]);
        let (server, beside) = (host.fresh("pg"), host.fresh("idle"));
        postgres::start(docker, &server, &volume);
        docker.idle(&beside, at_data!(volume));
        let checkpoints = || {
            let sql = "select checkpoints_req from pg_stat_bgwriter";
            docker.ok(&postgres::psql(&server, sql)).parse::<u64>().expect("a number")
        };
        let before = checkpoints();
        for name in ["mariadb", "redis", "mongodb"] {
            let output = hook(host, name, "pre-snapshot", &volume);
            assert!(output.status.success(), "{name}: {}", text(&output));
            assert_eq!(text(&output).trim(), "", "{name} was to pass over all");
        }
        let output = hook(host, "postgresql", "pre-snapshot", &volume);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(text(&output).trim(), format!("{server}: PostgreSQL made a checkpoint"));
        assert!(checkpoints() > before, "it made none");
        let output = hook(host, "postgresql", "post-snapshot", &volume);
        assert!(output.status.success(), "{}", text(&output));
        // A server that takes no connections any more cannot be made consistent.
        docker.ok(&postgres::psql(&server, "alter role postgres nologin"));
        let output = hook(host, "postgresql", "pre-snapshot", &volume);
        assert!(!output.status.success(), "{}", text(&output));
        assert!(text(&output).contains(&server), "{}", text(&output));
    });
}

//! What is told to somebody who helps: without a daemon too, and never a key.

use super::doctor::{host, words};
use super::fake_daemon::start;

const KEY: &str = "AQAAEF5fAAAAABAAbm90LWEtc2VjcmV0LWtleQ==";

#[test]
fn without_a_daemon_each_part_is_there_or_says_why_not() {
    let program = host();
    let config = format!("log-level = 'debug'\n# the key was {KEY}\n");
    std::fs::write(program.path("config.toml"), config).expect("a file");
    let mut command = program.command_of(&words("support", &program));
    let ran = super::Ran::of(command.env("DOCKER_CEPH_POOL", "volumes"));
    for said in [
        "== doctor\n✓ settings: all are valid",
        "== daemon\nnot to be had: no daemon listens on",
        "== volumes\nnot to be had",
        "DOCKER_CEPH_POOL=volumes",
        "log-level = 'debug'\n# the key was [removed]",
        "== kernel\nLinux ",
        "== log\n",
    ] {
        assert!(ran.stdout.contains(said), "{said:?} is not in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains(KEY), "a key was told");
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
}

#[test]
fn what_the_daemon_answers_is_told() {
    let program = host();
    let tasks = r#"{"tasks":[]}"#;
    start(&program.socket(), Box::leak(Box::new([("GET /ceph/v1/tasks", 200, tasks)])));
    let ran = program.run(&words("support", &program));
    assert!(ran.stdout.contains("== tasks\n[]\n"), "{}", ran.stdout);
}

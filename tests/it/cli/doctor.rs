//! The doctor without a daemon, and what it adds when there is one.

use std::os::unix::fs::PermissionsExt;

use super::Program;
use super::fake_daemon::start;

/// A host whose monitor refuses connections at once.
pub(super) fn host() -> Program {
    let program = Program::new();
    std::fs::write(program.path("ceph.conf"), "[global]\nmon host = v1:127.0.0.1:1\n")
        .expect("a file");
    let keyring = program.path("keyring");
    std::fs::write(&keyring, "[client.docker]\n\tkey = AQAAEF5fAAAAABAAbm90LWEtc2VjcmV0LWtleQ==\n")
        .expect("a file");
    std::fs::set_permissions(keyring, PermissionsExt::from_mode(0o644)).expect("our file");
    program
}

/// A command that takes the daemon's settings, with those of that host.
pub(super) fn words(command: &str, program: &Program) -> Vec<String> {
    let folder = |name: &str| program.path(name).display().to_string();
    let settings = [
        ("ceph-conf", folder("ceph.conf")),
        ("keyring", folder("keyring")),
        ("state-folder", folder("state")),
        ("cache-folder", folder("cache")),
        ("mount-root", folder("mounts")),
        ("connect-timeout", "1s".to_owned()),
    ];
    let flags = settings.map(|(name, value)| format!("--{name}={value}"));
    [command.to_owned()].into_iter().chain(flags).collect()
}

#[test]
fn without_a_daemon_and_a_cluster_each_trouble_is_named_with_its_cure() {
    let program = host();
    let ran = program.run(&words("doctor", &program));
    for line in [
        "✓ settings: all are valid",
        "names the monitors: v1:127.0.0.1:1",
        "! keyring: everyone on this host may read ",
        "→ chmod 600",
        "✗ cluster: ",
        "→ see that the monitors of",
        "✗ socket: there is no ",
        "→ start the daemon: systemctl start docker-volume-ceph",
        "✓ leftovers: none",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} is not in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("AQAAEF5fAAAAABAAbm90LWEtc2VjcmV0LWtleQ=="), "a key was printed");
    assert_eq!(ran.failed(1), "");
}

#[test]
fn a_daemon_that_answers_adds_what_it_sees() {
    let program = host();
    let found = r#"{"findings":[{"check":"claims","verdict":"warning","detail":"one is stale",
        "advice":"wait"}]}"#;
    start(&program.socket(), Box::leak(Box::new([("GET /ceph/v1/doctor", 200, found)])));
    let ran = program.run(&words("doctor", &program));
    assert!(ran.stdout.contains("! claims: one is stale\n    → wait\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("a daemon listens on"), "{}", ran.stdout);
}

#[test]
fn bad_settings_are_a_finding_too() {
    let program = host();
    let ran = program.run(&["doctor", "--mapper", "loop", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(findings["findings"][0]["verdict"], "failed");
    assert_eq!(ran.code, 1);
}

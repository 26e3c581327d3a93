//! Settings that are wrong: the daemon does not start, and says all that is wrong.

use super::{Program, Ran};

#[test]
fn every_bad_setting_is_named_with_its_source_before_anything_is_touched() {
    let program = Program::new();
    let file = "pool = 'a/b'\nmount-rot = '/x'\nmapper = 7\n[default]\nszie = '1G'\n";
    std::fs::write(program.path("config.toml"), file).expect("a file");
    let words = ["serve", "--client-id=client.x", "--log-format=xml"];
    let mut command = program.command_of(&words);
    command.env("DOCKER_CEPH_BUSY_WAIT", "30").env("DOCKER_CEPH_CEPH_CONF", "/missing");
    let error = Ran::of(&mut command).failed(2);
    for said in [
        "8 bad settings:",
        "pool = \"a/b\" in ",
        "mount-rot = \"/x\" in ",
        "is it mount-root?",
        "mapper = \"7\" in ",
        "default = \"szie=1G\" in ",
        "--client-id \"client.x\": write the ID without",
        "--log-format \"xml\": it is text or json",
        "DOCKER_CEPH_BUSY_WAIT=\"30\": write a time such as 30s or 2m",
        "DOCKER_CEPH_CEPH_CONF=\"/missing\": it cannot be read: No such file",
    ] {
        assert!(error.contains(said), "{said:?} is not in\n{error}");
    }
    assert!(!program.socket().exists());
}

#[test]
fn an_empty_variable_is_one_that_is_not_given() {
    let program = Program::new();
    let mut command = program.command_of(&["serve", "--pool=a/b"]);
    let conf = program.path("config.toml");
    command.env("DOCKER_CEPH_CEPH_CONF", conf).env("DOCKER_CEPH_KEYRING", "");
    command.env("DOCKER_CEPH_MAPPER", "").env("DOCKER_CEPH_DEFAULT", "");
    let error = Ran::of(&mut command).failed(2);
    assert!(error.starts_with("Error: bad setting: --pool"), "{error}");
}

#[test]
fn a_file_of_settings_that_was_named_has_to_be_there() {
    let program = Program::new();
    let error = program.run(&["serve", "--config", "/missing.toml"]).failed(2);
    assert!(error.contains("(--config) /missing.toml: No such file"), "{error}");
}

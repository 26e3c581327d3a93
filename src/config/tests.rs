use clap::{Args, Command};

use super::*;

fn inputs(flags: &[&str]) -> Inputs {
    let command = Raw::augment_args(Command::new("settings"))
        .arg(clap::Arg::new("socket").long("socket").value_name("PATH").num_args(1));
    let flags = ["settings"].iter().chain(flags);
    Inputs::from_matches(&command.try_get_matches_from(flags).expect("flags are read"))
}

fn settle(inputs: Inputs) -> Result<Settings, String> {
    let readable = |path: &Path| match path.to_string_lossy().contains("missing") {
        true => Err("no such file".to_owned()),
        false => Ok(()),
    };
    Settings::settle(inputs, &readable).map_err(|problems| problems.to_string())
}

fn with_file(text: &str) -> Inputs {
    inputs(&[]).over_file(Path::new("/etc/x.toml"), text)
}

#[test]
fn nothing_written_is_the_defaults() {
    let settings = settle(inputs(&[])).expect("the defaults are valid");
    assert_eq!(settings.ceph.client_id, "docker");
    assert_eq!(settings.ceph.keyring, None);
    assert_eq!(Location::from(&settings.home), Location::new("rbd", "docker"));
    assert_eq!(settings.mapper, None);
    assert_eq!(settings.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(settings.times.reference_grace, Duration::from_secs(150));
    assert_eq!(settings.log.level, "info");
}

#[test]
fn a_flag_is_above_the_file_and_the_file_above_the_defaults() {
    let file = "pool = 'file'\nnamespace = ''\nmapper = 'fuse'\n[default]\nsize = '1G'\nuid = 7\n";
    let flags = inputs(&["--pool", "flag", "--default", "size=2G"]);
    let settings = settle(flags.over_file(Path::new("/f"), file)).expect("valid");
    assert_eq!(settings.home, Home { pool: "flag".into(), namespace: String::new() });
    assert_eq!(settings.mapper, Some(MapperKind::Fuse));
    let options = settings.volumes.options;
    assert_eq!(options.get("size").map(String::as_str), Some("2147483648B"));
    assert_eq!(options.get("uid").map(String::as_str), Some("7"));
}

#[test]
fn each_bad_value_is_named_with_its_source_and_what_is_allowed() {
    let long = format!("/{}", "x".repeat(107));
    for (flag, value, said) in [
        ("ceph-conf", "etc/ceph.conf", "absolute path"),
        ("ceph-conf", "/missing.conf", "no such file"),
        ("keyring", "/missing.keyring", "no such file"),
        ("client-id", "client.docker", "without \"client.\": \"docker\""),
        ("client-id", "", "a client has an ID"),
        ("pool", "", "a pool has a name"),
        ("pool", "a/b", "no '/'"),
        ("namespace", "a@b", "'@'"),
        ("mapper", "loop", "auto, krbd, nbd or fuse"),
        ("cephfs-key", "mine", "volume or daemon"),
        ("socket", &long, "at most 107"),
        ("state-folder", "/", "absolute path"),
        ("state-folder", "/run/../etc", "without \"..\""),
        ("state-folder", "/var/lib/docker-volume-ceph", "cache-folder"),
        ("mount-root", "/run/docker-volume-ceph", "holds state-folder"),
        ("mount-root", "/run", "and socket \"/run/docker/plugins/ceph.sock\""),
        ("state-folder", "/var/lib/docker-volume-ceph/mounts/x", "holds state-folder"),
        ("default", "size", "KEY=VALUE"),
        ("default", "size=10", "10M"),
        ("default", "szie=1G", "not known; the options are"),
        ("default", "fs-type=fat", "ext4, xfs"),
        ("max-size", "10XB", "cannot be read"),
        ("max-size", "0G", "more than 0"),
        ("max-size", "5G", "10"),
        ("compatibility", "docker", "none, wetopi or rexray"),
        ("busy-wait", "30", "30s or 2m"),
        ("busy-wait", "-5s", "30s or 2m"),
        ("busy-wait", "105s", "shorter than mount-deadline"),
        ("reference-grace", "25h", "s to 86400s"),
        #[cfg(not(feature = "failpoints"))]
        ("reference-grace", "1m", "120s to 86400s"),
        ("fence-after", "1s", "5s to 300s"),
        ("reconcile-interval", "0s", "1s to 3600s"),
        ("create-deadline", "120s", "5s to 110s"),
        ("mount-deadline", "2h", "5s to 110s"),
        ("call-deadline", "60s", "5s to 50s"),
        ("connect-timeout", "0s", "1s to 50s"),
        ("mon-timeout", "50s", "shorter than call-deadline"),
        ("osd-timeout", "1h", "1s to 50s"),
        ("log-level", "verbose", "off, error, warn"),
        ("log-level", "info,x=loud", "off, error, warn"),
        ("log-format", "xml", "text or json"),
    ] {
        let error = settle(inputs(&[&format!("--{flag}={value}")])).expect_err(value);
        assert!(error.starts_with("bad setting"), "one problem only: {error}");
        assert!(error.contains(said), "--{flag}={value}: {error}");
        assert!(error.contains(flag) || flag == "max-size", "{error}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let file = "pool = 'a/b'\nmapper = 3\nmount-rot = '/x'\nbusy-wait = '30'\n";
    let error = settle(inputs(&["--client-id", "client.x"]).over_file(Path::new("/f"), file))
        .expect_err("five mistakes");
    assert!(error.starts_with("5 bad settings:"), "{error}");
    for said in [
        "pool = \"a/b\" in /f: no '/'",
        "mapper = \"3\" in /f: write it as a text in quotes",
        "mount-rot = \"/x\" in /f: there is no such setting; is it mount-root?",
        "busy-wait = \"30\" in /f: write a time such as 30s or 2m",
        "--client-id \"client.x\": write the ID without",
    ] {
        assert!(error.contains(said), "{said:?} is not in {error}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let error = settle(with_file("pool = rbd\n")).expect_err("no quotes");
    assert!(error.contains("/etc/x.toml") && error.contains("line 1"), "{error}");
}

#[test]
fn a_default_size_is_held_against_max_size_in_the_unit_that_was_set() {
    let file = "max-size = '50G'\ncompatibility = 'rexray'\n[default]\nsize = 60\n";
    let error = settle(with_file(file)).expect_err("too large");
    assert!(error.contains("size=60") && error.contains("50 GiB"), "{error}");
    assert!(settle(with_file(&file.replace("rexray", "wetopi"))).is_ok());
}

#[test]
fn one_default_under_two_names_is_refused() {
    let flags = inputs(&["--default", "fs-type=xfs", "--default", "fstype=ext4"]);
    let error = settle(flags).expect_err("which of them?");
    assert!(error.contains("given twice"), "{error}");
}

#[test]
fn a_peers_variable_is_pointed_to_ours() {
    let said = peer_variables(|name| name == "RBD_CONF_POOL");
    assert_eq!(said, [("RBD_CONF_POOL", "DOCKER_CEPH_POOL")]);
}

/// The example names every setting with its default, as a line that only wants its `#` removed.
#[test]
fn the_example_file_names_every_setting_with_its_default() {
    let uncommented: String = include_str!("../../dist/config.toml")
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
        .flat_map(|line| [line, "\n"])
        .collect();
    let table: toml::Table = uncommented.parse().expect("the example is TOML");
    for name in names() {
        assert!(table.contains_key(&name), "the example does not name {name}");
    }
    settle(with_file(&uncommented)).expect("the example is valid");
    let command = Raw::augment_args(Command::new("settings"));
    for arg in command.get_arguments() {
        let Some(default) = arg.get_default_values().first() else { continue };
        let name = arg.get_long().expect("a long flag");
        assert_eq!(table[name].as_str(), default.to_str(), "the example's {name}");
    }
    assert_eq!(table["socket"].as_str(), Some(DEFAULT_SOCKET));
}

/// The managed plugin is configured by its environment, and the engine ignores what it does not
/// know: a mistyped name would never be missed.
#[test]
fn the_managed_plugin_offers_every_setting_with_its_default() {
    let plugin: serde_json::Value =
        serde_json::from_str(include_str!("../../config.json")).expect("JSON");
    assert_eq!(plugin["entrypoint"], serde_json::json!(["/usr/bin/docker-ceph", "serve"]));
    assert_eq!(plugin["interface"]["types"], serde_json::json!(["docker.volumedriver/1.0"]));
    assert_eq!(plugin["interface"]["socket"].as_str(), DEFAULT_SOCKET.rsplit('/').next());
    let variables = plugin["env"].as_array().expect("a list");
    let offered: Vec<&str> = variables.iter().filter_map(|env| env["name"].as_str()).collect();
    let settings: Vec<String> = super::names().iter().map(|name| environment_name(name)).collect();
    for name in &offered {
        assert!(settings.iter().any(|known| known == name), "{name} is no setting");
    }
    for name in settings.iter().filter(|name| *name != "DOCKER_CEPH_CONFIG") {
        assert!(offered.contains(&name.as_str()), "{name} is not offered");
    }
    let below = plugin["propagatedMount"].as_str().expect("a path");
    for folder in ["STATE_FOLDER", "CACHE_FOLDER", "MOUNT_ROOT"] {
        let name = format!("DOCKER_CEPH_{folder}");
        let variable = variables.iter().find(|env| env["name"] == name.as_str());
        let value = variable.and_then(|env| env["value"].as_str()).expect("a value");
        assert!(value.starts_with(below), "{folder} has to outlive the plugin's root file system");
    }
}

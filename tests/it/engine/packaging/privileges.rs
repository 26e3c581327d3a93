//! Each privilege that `config.json` asks for, taken away: something has to break, or nobody needs it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::plugin::{ENABLE, PLUGIN, Plugin, build, create};
use super::write;
use crate::engine::{SOON, at_data};
use crate::support::daemon::within;
use crate::support::host::{Docker, Host, IMAGE, on_newest, text};
use crate::support::repeats;

/// A privilege, how it is taken out of the plugin's configuration, and what then fails.
type Privilege = (&'static str, fn(&mut Value), &'static str);

const PRIVILEGES: [Privilege; 9] = [
    ("network: host", |config| config["network"]["type"] = json!("none"), "start"),
    ("pid host", |config| config["pidhost"] = json!(false), "who"),
    ("propagated mount", |config| config["propagatedMount"] = json!(""), "start"),
    ("all devices", |config| config["linux"]["allowAllDevices"] = json!(false), "start"),
    (
        "CAP_SYS_ADMIN",
        |config| without(&mut config["linux"]["capabilities"], "CAP_SYS_ADMIN"),
        "start",
    ),
    (
        "CAP_SYS_PTRACE",
        |config| without(&mut config["linux"]["capabilities"], "CAP_SYS_PTRACE"),
        "who",
    ),
    ("mount /dev", |config| without(&mut config["mounts"], "dev"), "start"),
    ("mount /sys", |config| without(&mut config["mounts"], "sys"), "disable"),
    ("mount /etc/ceph", |config| without(&mut config["mounts"], "ceph"), "enable"),
];

/// A cluster that cannot be reached is not waited for.
const IMPATIENT: [&str; 6] = [
    "DOCKER_CEPH_CONNECT_TIMEOUT=10s",
    "DOCKER_CEPH_MON_TIMEOUT=10s",
    "DOCKER_CEPH_OSD_TIMEOUT=10s",
    "DOCKER_CEPH_BUSY_WAIT=15s",
    "DOCKER_CEPH_MOUNT_DEADLINE=30s",
    "DOCKER_CEPH_CALL_DEADLINE=20s",
];

/// Takes out of a list what is that word or has it as its name.
fn without(list: &mut Value, name: &str) {
    let list = list.as_array_mut().expect("a list");
    let before = list.len();
    list.retain(|it| it != name && it["name"] != name);
    assert_eq!(list.len() + 1, before, "{name} is one of them");
}

#[test]
fn without_any_one_of_its_privileges_a_plugin_fails_at_something() {
    on_newest(|host| {
        let built = tempfile::tempdir().expect("a folder");
        build(built.path());
        let config = built.path().join("config.json");
        let whole: Value =
            serde_json::from_str(&fs::read_to_string(&config).expect("read")).expect("JSON");
        let plugin = Plugin::new(host);
        // With few repeats those whose absence shows late: the others stop it from working at all.
        let late = ["CAP_SYS_PTRACE", "mount /sys"];
        let privileges = PRIVILEGES.iter().filter(|of| repeats() > 1 || late.contains(&of.0));
        for (name, take, fails_at) in privileges {
            let mut config_without = whole.clone();
            take(&mut config_without);
            write(&config, &config_without.to_string());
            let failed = job(&plugin, host, built.path()).expect_err(name);
            println!("without {name}: {}", failed.lines().nth(1).unwrap_or(&failed));
            assert!(failed.starts_with(fails_at), "without {name}: {failed}");
        }
        write(&config, &whole.to_string());
        job(&plugin, host, built.path()).expect("with all of them");
    });
}

/// All that needs a privilege, with a plugin that is new and removed again; which step failed, and with
/// what words.
fn job(plugin: &Plugin, host: &Host, built: &Path) -> Result<(), String> {
    create(host, PLUGIN, built);
    plugin.set_up();
    plugin.set(&IMPATIENT);
    let (volume, container) = (host.fresh("p"), host.fresh("c"));
    let outcome = steps(plugin, host.docker(), &volume, &container);
    let ends: [&[&str]; 3] = [
        &["rm", "--force", &container],
        &["volume", "rm", "--force", &volume],
        &["plugin", "rm", "--force", PLUGIN],
    ];
    for words in ends {
        host.docker().run(words);
    }
    outcome
}

fn steps(plugin: &Plugin, docker: &Docker, volume: &str, container: &str) -> Result<(), String> {
    let step = |name: &str, words: &[&str]| {
        let output = docker.run(words);
        let said = text(&output);
        if output.status.success() { Ok(said) } else { Err(format!("{name}: {said}")) }
    };
    let check = |held: bool, what: &str| if held { Ok(()) } else { Err(what.to_owned()) };
    step("enable", &[&ENABLE[..], &[PLUGIN]].concat())?;
    step(
        "create",
        &["volume", "create", "--driver", PLUGIN, "-o", "size=64M", "-o", "mode=0777", volume],
    )?;
    // Of a user who is not root: whose mounts only a privilege shows.
    let at = at_data!(volume);
    let words = ["run", "--detach", "--network", "none", "--user", "1000", "--name", container];
    step("start", &[&words[..], at, &[IMAGE, "sleep", "1000000"]].concat())?;
    let write = "grep ' /data ' /proc/mounts && echo kept > /data/file && sync /data/file";
    step("start", &["exec", container, "sh", "-c", write])?;

    let process = docker.state(container, "State.Pid");
    let who = || plugin.tool(&["who", volume]);
    check(
        text(&who()).contains(&process),
        &format!("who: {process} is not told of: {}", text(&who())),
    )?;

    step("disable", &["plugin", "disable", "--force", PLUGIN])?;
    let write = "echo kept >> /data/file && sync /data/file && cat /data/file";
    step("disable", &["exec", container, "sh", "-c", write])?;
    step("enable again", &[&ENABLE[..], &[PLUGIN]].concat())?;
    docker.run(&["rm", "--force", container]);
    let again = || docker.try_script(at, "cat /data/file");
    let kept = within(SOON, || text(&again()).trim() == "kept\nkept");
    check(kept, "the next container does not read what was written")
}

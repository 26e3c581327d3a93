//! The driver as a managed plugin in a real engine: `plugin/build` and `config.json`.
//!
//! It has a name, a key and a namespace of its own, beside the daemon that every lab host runs: two
//! instances on one host, which have nothing to do with each other.

use std::fs;
use std::path::Path;
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{built, on_engines, write};
use crate::ceph::metrics::get;
use crate::engine::{RECORDER, SOON, VERIFIER, assert_recording, at_data, recorded};
use crate::support::browser::free_port;
use crate::support::daemon::{key_in, processes, run, timed, within};
use crate::support::host::{Docker, Host, text};

/// The plugin's name, and so the driver's.
pub(super) const PLUGIN: &str = "packaged";

/// How the engine lists the driver.
const DRIVER: &str = "packaged:latest";

/// Where a plugin looks for its key, in `/etc/ceph`.
const KEYRING: &str = "ceph.client.packaged.keyring";

/// Where the registry listens.
const REGISTRY: &str = "127.0.0.1:5103";

/// The engine gives as long to each call of a plugin that is enabled so.
pub(crate) const ENABLE: [&str; 4] = ["plugin", "enable", "--timeout", "120"];

/// A plugin, and what it is told of the cluster. It is removed with this.
pub(super) struct Plugin<'a> {
    host: &'a Host,
    etc: tempfile::TempDir,
}

impl<'a> Plugin<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        let etc = tempfile::tempdir().expect("a folder");
        let conf = fs::read_to_string(host.lab().conf()).expect("the cluster's configuration");
        let named = |line: &&str| ["fsid", "mon host"].iter().any(|name| line.starts_with(name));
        let conf: Vec<&str> = conf.lines().filter(named).collect();
        write(&etc.path().join("ceph.conf"), &format!("[global]\n{}\n", conf.join("\n")));
        let caps = [
            "auth",
            "get-or-create",
            "client.packaged",
            "mon",
            "profile rbd",
            "osd",
            "profile rbd pool=rbd namespace=packaged",
        ];
        let key = host.lab().ceph(&caps);
        write(&etc.path().join(KEYRING), &key);
        let mut namespace = timed(30, "rbd");
        namespace.args(["namespace", "create", "rbd/packaged"]).env("CEPH_CONF", host.lab().conf());
        // There already, from the test before.
        run(&mut namespace);
        let folder = etc.path().to_str().expect("the path is text");
        // Where it is looked for; an upgrade forgets that it is elsewhere.
        let bound = host.inside(10, &["mount", "--bind", folder, "/etc/ceph"]);
        assert!(bound.status.success(), "{bound:?}");
        Self { host, etc }
    }

    fn docker(&self, words: &[&str]) -> String {
        self.host.docker().ok(words)
    }

    /// Tells the plugin of the cluster.
    pub(super) fn set_up(&self) {
        self.set(&[
            "DOCKER_CEPH_CLIENT_ID=packaged",
            "DOCKER_CEPH_NAMESPACE=packaged",
            "DOCKER_CEPH_MAPPER=fuse",
            "DOCKER_CEPH_RECONCILE_INTERVAL=1s",
        ]);
    }

    pub(super) fn set(&self, settings: &[&str]) {
        self.docker(&[&["plugin", "set", PLUGIN], settings].concat());
    }

    fn enable(&self) {
        self.docker(&[&ENABLE[..], &[PLUGIN]].concat());
    }

    /// The operator's tool; its outcome.
    pub(super) fn tool(&self, words: &[&str]) -> Output {
        let socket = format!("/run/docker/plugins/{}/ceph.sock", id(self.host));
        let program = env!("CARGO_BIN_EXE_docker-ceph");
        self.host.inside(60, &[&[program, "--socket", &socket], words].concat())
    }

    fn volume(&self) -> String {
        let name = self.host.fresh("p");
        self.docker(&["volume", "create", "--driver", PLUGIN, "-o", "size=64M", &name]);
        name
    }
}

impl Drop for Plugin<'_> {
    fn drop(&mut self) {
        // What is not there need not be removed.
        let run = |words: &[&str]| drop(self.host.docker().run(words));
        for volume in self.host.docker().volumes(DRIVER, "") {
            run(&["volume", "rm", "--force", &volume]);
        }
        run(&["plugin", "rm", "--force", PLUGIN]);
        self.host.inside(10, &["umount", "/etc/ceph"]);
    }
}

/// Builds the plugin's folder, and says its checksum.
pub(crate) fn build(folder: &Path) -> String {
    built(60, "plugin/build", |command| {
        command.arg(folder);
    })("sha256")
}

pub(super) fn create(host: &Host, name: &str, folder: &Path) {
    host.docker().ok(&["plugin", "create", name, folder.to_str().expect("the path is text")]);
}

fn id(host: &Host) -> String {
    host.docker().ok(&["plugin", "inspect", "--format", "{{.Id}}", PLUGIN])
}

/// The process of the plugin: the one daemon that runs in a plugin's root file system.
fn process_of(host: &Host) -> u32 {
    let groups = format!("/{}", id(host));
    let ours = |number: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{number}/{file}"));
        read("comm").is_ok_and(|name| name.trim() == "docker-ceph")
            && read("cgroup").is_ok_and(|text| text.contains(&groups))
    };
    processes().find(ours).expect("the plugin runs")
}

/// Ends the writer; the next container has its volume, and finds every acknowledged record.
#[track_caller]
fn assert_kept(host: &Host, volume: &str, writer: &str) {
    let acknowledged = recorded(host.docker(), writer);
    host.docker().ok(&["rm", "--force", writer]);
    let mut said = String::new();
    let whole = within(SOON, || {
        said = text(&host.docker().try_script(at_data!(volume), VERIFIER));
        said.trim().parse::<u64>().is_ok_and(|there| there >= acknowledged)
    });
    assert!(whole, "{acknowledged} were acknowledged: {said}");
}

/// What an engine asks is counted, and what it is refused can be found in the log.
#[track_caller]
fn assert_observed(docker: &Docker, port: u16, volume: &str) {
    let told = get(port, "/metrics").expect("metrics");
    let mounts = told.lines().filter(|line| line.contains(r#"operation="mount""#));
    let counted =
        mounts.into_iter().any(|line| line.contains("requests_total") && line.ends_with(" 1"));
    let mounted = told.lines().any(|line| line.contains("_volume_") && line.contains(volume));
    assert!(counted && mounted, "{told}");
    let words = ["volume", "create", "--driver", PLUGIN, "-o", "size=none", "refused"];
    assert!(docker.refused(&words).contains("(request "));
}

#[test]
fn a_plugin_of_the_same_program_has_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, other] = ["one", "other"].map(|name| build(&folder.path().join(name)));
    assert_eq!(one, other);
}

#[test]
fn a_container_writes_on_while_its_plugin_crashes_and_is_disabled() {
    on_engines(|host| {
        let built = tempfile::tempdir().expect("a folder");
        build(built.path());
        let plugin = Plugin::new(host);
        create(host, PLUGIN, built.path());
        plugin.set_up();
        let metrics = free_port();
        plugin.set(&[&format!("DOCKER_CEPH_METRICS_LISTEN=127.0.0.1:{metrics}")]);
        plugin.enable();
        // The host's own driver knows nothing of it, and the other way.
        let (volume, own) = (plugin.volume(), host.volume(&[]));
        assert_eq!(host.docker().volumes(DRIVER, &volume), [volume.as_str()]);
        assert!(!host.docker().volumes(DRIVER, "").contains(&own));
        assert!(!host.docker().volumes("ceph", "").contains(&volume));

        let (docker, writer) = (host.docker(), host.fresh("writer"));
        docker.start(&writer, at_data!(volume), RECORDER);
        assert_recording(docker, &writer);
        assert_observed(docker, metrics, &volume);
        let process = i32::try_from(process_of(host)).expect("a process number");
        kill(Pid::from_raw(process), Signal::SIGKILL).expect("the plugin is killed");
        assert_recording(docker, &writer);
        let reads = || docker.try_script(at_data!(volume), "test -s /data/log").status.success();
        assert!(within(SOON, reads), "the engine starts it again");

        assert!(docker.refused(&["plugin", "disable", PLUGIN]).contains("in use"));
        docker.ok(&["plugin", "disable", "--force", PLUGIN]);
        assert_recording(docker, &writer);
        plugin.enable();
        assert_recording(docker, &writer);
        assert_kept(host, &volume, &writer);
        let key = key_in(&plugin.etc.path().join(KEYRING));
        assert!(!docker.ok(&["plugin", "inspect", PLUGIN]).contains(&key));
    });
}

#[test]
fn a_plugin_comes_from_a_registry_and_is_upgraded_under_its_volumes() {
    on_engines(|host| {
        host.load_image("registry");
        let (docker, registry) = (host.docker(), host.fresh("registry"));
        let address = format!("REGISTRY_HTTP_ADDR={REGISTRY}");
        let words = ["run", "--detach", "--network", "host", "--name", &registry];
        docker.ok(&[&words[..], &["-e", &address, "registry"]].concat());
        let listens = || std::net::TcpStream::connect(REGISTRY).is_ok();
        assert!(within(SOON, listens), "{}", docker.ok(&["logs", &registry]));
        let [first, second] = ["1", "2"].map(|tag| format!("{REGISTRY}/ceph:{tag}"));
        let built = tempfile::tempdir().expect("a folder");
        build(built.path());
        for name in [&first, &second] {
            create(host, name, built.path());
            docker.ok(&["plugin", "push", name]);
            docker.ok(&["plugin", "rm", name]);
            // Another version has other bytes.
            write(&built.path().join("rootfs/etc/version"), "2\n");
        }

        let plugin = Plugin::new(host);
        let install =
            ["plugin", "install", "--grant-all-permissions", "--disable", "--alias", PLUGIN];
        docker.ok(&[&install[..], &[&first]].concat());
        plugin.set_up();
        plugin.enable();
        let volume = plugin.volume();
        let writer = host.fresh("writer");
        docker.start(&writer, at_data!(volume), RECORDER);
        assert_recording(docker, &writer);
        docker.ok(&["plugin", "disable", "--force", PLUGIN]);
        let upgrade = ["plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check"];
        docker.ok(&[&upgrade[..], &[PLUGIN, &second]].concat());
        plugin.enable();
        let root = format!("/proc/{}/root/etc/version", process_of(host));
        assert_eq!(fs::read_to_string(root).ok().as_deref(), Some("2\n"));
        assert_recording(docker, &writer);
        assert_kept(host, &volume, &writer);
    });
}

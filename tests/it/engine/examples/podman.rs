//! Podman beside the engine of a host, with settings and storage of its own.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::Output;

use super::{PSQL, SOON, TABLE, example, place_hook, schedule, sql};
use crate::support::daemon::{run, timed, within};
use crate::support::host::{EAGER, Host, lab_tool, on_two, text};

/// The public name of the image in the example.
const POSTGRES: &str = "docker.io/library/postgres:16";

/// Settings of the machine's packages and the example's, which is installed as it says, and those of the
/// lab: no network, locks in the host's `/run`, and nothing that this machine may not give. The machine's
/// own `/etc/containers` and `/var/lib/containers` stay as they are: these are seen in the host only.
const SET_UP: &str = r#"set -eu
mkdir -p "$1/storage" /var/lib/containers
cp -a /etc/containers "$1/etc"
install -D -m 644 "$2" "$1/etc/containers.conf.d/ceph.conf"
cat > "$1/etc/containers.conf.d/lab.conf" << END
[containers]
cgroups = "no-conmon"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
lock_type = "file"
runtime = "runc"
END
mount --bind "$1/etc" /etc/containers
mount --bind "$1/storage" /var/lib/containers"#;

/// Podman's API, which a hook's `docker` talks to.
const API: &str = "run/podman/podman.sock";
const SERVE: &str = r#"mkdir -p /run/podman
setsid podman system service --time 0 unix:///run/podman/podman.sock > "$1/api.log" 2>&1 < /dev/null &"#;

/// The other way. What was executed over the API would be looked after for minutes, and Podman leaves its
/// control group, which another Podman may be using.
const TAKE_DOWN: &str = r#"podman rm --all --force --time 0
pkill -KILL --ns $$ --nslist mnt --exact 'podman|conmon'
umount --recursive --lazy /var/lib/containers
umount /etc/containers
find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} +
rm -rf --one-file-system "$1" /run/libpod /run/containers"#;

/// Podman on a host. Its containers end with it.
struct Podman<'a> {
    host: &'a Host,
    folder: String,
}

impl<'a> Podman<'a> {
    fn on(host: &'a Host) -> Self {
        let folder = host.ceph_folder().with_file_name("podman");
        let folder = folder.to_str().expect("text").to_owned();
        let podman = Self { host, folder };
        let output = podman.script(SET_UP, &[&example("podman/ceph.conf")]);
        assert!(output.status.success(), "Podman: {}", text(&output));
        podman.import(POSTGRES);
        podman
    }

    /// A script in the host, which is told the folder for all of it.
    fn script(&self, script: &str, words: &[&str]) -> Output {
        self.host.inside(60, &[&["sh", "-c", script, "sh", &self.folder], words].concat())
    }

    fn serve_api(&self) {
        assert!(self.script(SERVE, &[]).status.success());
        let listens = || UnixStream::connect(self.host.path(API)).is_ok();
        assert!(within(SOON, listens), "Podman's API does not listen");
    }

    fn import(&self, image: &str) {
        let [images, host] = ["images", "host"].map(lab_tool);
        let mut command = timed(180, images.to_str().expect("text"));
        let lab = self.host.lab().folder();
        command.arg("import").arg(lab.join("images")).arg(image);
        command.arg(host).arg("exec").arg(lab.join("hosts")).args([self.host.name(), "podman"]);
        let output = run(&mut command);
        assert!(output.status.success(), "import {image}: {}", text(&output));
    }

    fn run(&self, words: &[&str]) -> Output {
        self.host.inside(150, &[&["podman"], words].concat())
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "podman {words:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The script of the example.
    fn start(&self) -> Output {
        self.host.inside(150, &["env", "DB_PASSWORD=secret", &example("podman/postgres.sh")])
    }

    #[track_caller]
    fn start_and_ask(&self, question: &str) -> String {
        let output = self.start();
        assert!(output.status.success(), "{}", text(&output));
        sql(|text| self.run(&[&["exec", "db"], &PSQL[..], &["-c", text]].concat()), question)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let output = self.script(TAKE_DOWN, &[]);
        println!("Podman ended: {}", text(&output));
    }
}

#[test]
fn podman_runs_the_example_on_one_host_after_the_other() {
    on_two(|one, other| {
        // Longer than Podman waits where the example does not say for how long.
        other.daemon(&[&EAGER[..], &["--busy-wait", "7s"]].concat());
        let hooks = tempfile::tempdir().expect("a folder");
        place_hook(one, hooks.path());
        let folder = hooks.path().to_str().expect("text");
        let api = format!("/{API}");
        one.daemon(&[&EAGER[..], &["--hooks-folder", folder, "--engine-socket", &api]].concat());
        one.wipe(&["pgdata"]);
        let (here, there) = (Podman::on(one), Podman::on(other));
        here.start_and_ask(TABLE);
        assert_eq!(schedule(one, "pgdata"), "\"0 */6 * * *\"");
        assert!(one.stored().contains(&"pgdata".to_owned()), "{:?}", one.stored());
        assert_eq!(here.ok(&["volume", "inspect", "--format", "{{.Driver}}", "pgdata"]), "ceph");

        here.serve_api();
        let before = one.log().len();
        one.tool(&["snapshot", "create", "pgdata", "by-hand"]);
        assert!(one.log()[before..].contains("db: PostgreSQL made a checkpoint"), "no hook ran");

        let refused = there.start();
        let said = text(&refused);
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains(&format!("in use on host {}", one.name())), "{said}");
        there.ok(&["rm", "db"]);

        comes_back_after_an_unmount_that_failed(&here);
        here.ok(&["stop", "db"]);
        one.assert_released();
        assert_eq!(there.start_and_ask("select n from t"), "42");
        there.ok(&["rm", "--force", "db"]);
        other.assert_released();

        let pruned = text(&there.run(&["volume", "prune", "--force"]));
        assert!(pruned.contains("volume is protected"), "{pruned}");
        assert_eq!(there.ok(&["volume", "ls", "--quiet"]), "pgdata");
        one.wipe(&["pgdata"]);
    });
}

/// Somebody looks at the volume while its container ends. Podman, which would take an error for "still
/// mounted", asks for the mount again.
fn comes_back_after_an_unmount_that_failed(podman: &Podman<'_>) {
    let host = podman.host;
    let mountpoint = host.ceph_folder().join("volumes/pgdata/_data");
    let held = File::open(host.path(mountpoint)).expect("it is mounted");
    podman.ok(&["stop", "db"]);
    assert!(host.is_mounted("pgdata"), "nothing held it");
    drop(held);
    host.assert_released();
    assert_eq!(podman.start_and_ask("select n from t"), "42");
}

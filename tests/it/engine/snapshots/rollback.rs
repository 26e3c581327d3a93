//! Volumes that go back to what they were.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{listed, refused};
use crate::engine::{SOON, at_data};
use crate::support::daemon::{Lab, within};
use crate::support::host::{Host, Kind, for_each_kind, on_newest, on_two};

for_each_kind!(
    a_volume_goes_back_and_what_that_lost_can_be_had_again,
    while_it_goes_on_nobody_has_the_volume,
    what_a_dead_daemon_began_another_one_finishes,
);

/// All that a file system says of a folder's content, one line for each name: what is in it, whose it
/// is, when it was written, what it is linked with, and whether it has holes.
const TELL: &str = r#"
import hashlib, os, stat, sys
top, inodes = sys.argv[1], {}
def tell(path):
    s, name = os.lstat(path), os.path.relpath(path, top)
    what = [name, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns]
    what += [(n, os.getxattr(path, n, follow_symlinks=False)) for n in
             sorted(os.listxattr(path, follow_symlinks=False)) if n.startswith("user.")]
    if stat.S_ISLNK(s.st_mode): what += [os.readlink(path)]
    if stat.S_ISREG(s.st_mode):
        same = inodes.setdefault(s.st_ino, name)
        holes = "ceph" not in os.popen("stat -f -c %T " + path).read() and s.st_blocks * 512 < s.st_size
        what += [s.st_size, s.st_nlink, same, holes, hashlib.sha256(open(path, "rb").read()).hexdigest()]
    print(*what)
for folder, folders, files in sorted(os.walk(top)):
    folders.sort()
    for name in [""] + sorted(files + [f for f in folders if os.path.islink(folder + "/" + f)]):
        tell(os.path.join(folder, name) if name else folder)
"#;

/// What is there at first.
const FIRST: &str = r#"
import os, sys
os.chdir(sys.argv[1])
def write(path, data, at):
    with open(path, "wb") as f: f.write(data); f.flush(); os.fsync(f.fileno())
    os.utime(path, ns=(at, at))
os.makedirs("kept/deep"); os.makedirs("gone/too")
write("same-size", b"before", 10**18 + 1)
write("kept/one", b"one" * 100000, 10**18)
os.link("kept/one", "kept/two"); os.link("kept/one", "linked")
write("apart-a", b"a", 10**18); write("apart-b", b"b", 10**18)
write("gone/too/file", b"gone", 10**18)
write("mode", b"x", 10**18); os.chown("mode", 12, 34); os.chmod("mode", 0o4750)
os.setxattr("mode", "user.why", b"because")
os.symlink("kept/one", "link"); os.symlink("nowhere", "dangling"); os.mkfifo("pipe", 0o600)
f = open("holes", "wb"); f.seek(8 << 20); f.write(b"end"); f.close(); os.utime("holes", ns=(10**18,) * 2)
os.chmod("kept", 0o700); os.chown("kept", 7, 8); os.utime("kept", ns=(10**18,) * 2)
os.sync()
"#;

/// What becomes of it: also what only a look at the content tells, and names that were two files.
const LATER: &str = r#"
import os, shutil, sys
os.chdir(sys.argv[1])
with open("same-size", "wb") as f: f.write(b"AFTER!")
os.utime("same-size", ns=(10**18 + 1,) * 2)
os.remove("kept/two"); open("kept/two", "w").write("its own")
os.remove("apart-b"); os.link("apart-a", "apart-b")
shutil.rmtree("gone"); os.remove("link"); os.mkdir("link"); open("link/new", "w").write("new")
os.remove("pipe"); open("pipe", "w").write("no pipe")
os.chown("mode", 0, 0); os.removexattr("mode", "user.why"); os.setxattr("mode", "user.new", b"1")
open("holes", "r+b").write(b"filled" * 100000); open("new", "w").write("new")
os.chmod("kept", 0o755); os.rename("kept/deep", "deeper")
os.sync()
"#;

/// Runs a script on the volume's folder, mounted for nothing else; what it prints.
#[track_caller]
fn with_volume(host: &Host, volume: &str, script: &str) -> String {
    let mounted = host.call("Mount", &json!({"Name": volume, "ID": "look"})).expect("an answer");
    assert!(mounted.is_ok(), "{mounted:?}");
    let path = mounted.json["Mountpoint"].as_str().expect("a path").to_owned();
    let output = host.inside(60, &["python3", "-c", script, &path]);
    assert!(output.status.success(), "{output:?}");
    let done = host.call("Unmount", &json!({"Name": volume, "ID": "look"})).expect("an answer");
    assert!(done.is_ok(), "{done:?}");
    host.assert_released();
    String::from_utf8(output.stdout).expect("text")
}

fn names(host: &Host, volume: &str) -> Vec<String> {
    let name = |of: &Value| of["name"].as_str().expect("a name").to_owned();
    listed(host, volume).iter().map(name).collect()
}

fn status(host: &Host, volume: &str) -> Value {
    host.docker().inspect(volume)["Status"].clone()
}

/// The name of the snapshot of what the volume held until now.
fn roll_back(host: &Host, volume: &str, snapshot: &str) -> String {
    let said = host.tool(&["--json", "snapshot", "rollback", volume, snapshot, "--yes"]);
    let answer: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&answer["outcome"], &answer["snapshot"]), (&json!("done"), &json!(snapshot)));
    answer["safety"].as_str().expect("a name").to_owned()
}

fn a_volume_goes_back_and_what_that_lost_can_be_had_again() {
    on_newest(|host| there_and_back(host, &["size=64M"]));
    if Kind::under_test() == Kind::Rbd {
        on_newest(|host| there_and_back(host, &["size=320M", "fs-type=xfs"]));
    }
}

fn there_and_back(host: &mut Host, options: &[&str]) {
    let volume = host.volume(options);
    with_volume(host, &volume, FIRST);
    let before = with_volume(host, &volume, TELL);
    host.tool(&["snapshot", "create", &volume, "before_it"]);

    let container = host.fresh("c");
    host.docker().idle(&container, at_data!(volume));
    let roll = ["snapshot", "rollback", &volume, "before_it", "--yes"];
    let said = refused(host, &roll, 4);
    assert!(said.contains(&format!("in use on host {}", host.name())), "{said}");
    host.docker().ok(&["rm", "--force", &container]);
    host.assert_released();
    with_volume(host, &volume, LATER);
    let after = with_volume(host, &volume, TELL);
    assert_ne!(before, after);
    host.tool(&["resize", &volume, "400M"]);

    host.tool(&["snapshot", "create", &volume, "later"]);
    host.tool(&["snapshot", "protect", &volume, "later"]);
    let said = refused(host, &roll, 2);
    assert!(said.contains("later is newer") && said.contains("unprotect"), "{said}");
    host.tool(&["snapshot", "unprotect", &volume, "later"]);
    refused(host, &["snapshot", "rollback", &volume, "never", "--yes"], 3);
    let said = refused(host, &roll[..4], 2);
    for text in ["is lost", "the newer snapshot later stays", "give --yes"] {
        assert!(said.contains(text), "{said} lacks {text}");
    }
    assert_eq!(names(host, &volume), ["before_it", "later"], "nothing was changed");
    assert_eq!(with_volume(host, &volume, TELL), after, "nothing was changed");

    let safety = roll_back(host, &volume, "before_it");
    assert_eq!(with_volume(host, &volume, TELL), before);
    let all = listed(host, &volume);
    assert_eq!(names(host, &volume), ["before_it", "later", &safety]);
    assert_eq!(all[2]["by"], "safety", "{all:?}");
    assert_eq!(status(host, &volume)["size"], 400 << 20, "it keeps its size");
    let room = host.docker().script(at_data!(volume), "df -m /data | tail -n 1 | tr -s ' '");
    let room: u64 = room.split(' ').nth(1).and_then(|mib| mib.parse().ok()).expect("a number");
    assert!(room > 330, "the file system has {room} MiB");

    let second = roll_back(host, &volume, &safety);
    assert_eq!(with_volume(host, &volume, TELL), after, "what was lost is there again");
    assert_eq!(names(host, &volume).len(), 4);
    if Kind::under_test() == Kind::Rbd {
        let flags = Lab::of_environment().rbd(&["info", &volume]);
        assert!(!flags.contains("invalid"), "{flags}");
    }
    for name in ["before_it", "later", &safety, &second] {
        host.tool(&["snapshot", "rm", &volume, name]);
    }
}

/// The call that copies the content back.
fn copying() -> &'static str {
    match Kind::under_test() {
        Kind::Rbd => "cluster.snapshot_rollback",
        Kind::CephFs | Kind::Single => "system.restore_folder",
    }
}

/// A volume with a snapshot, and what was written since.
fn changed(host: &Host) -> String {
    let volume = host.volume(&[]);
    host.docker().script(at_data!(volume), "echo before > /data/file; sync");
    host.assert_released();
    host.tool(&["snapshot", "create", &volume, "first"]);
    host.docker().script(at_data!(volume), "echo after > /data/file; sync");
    host.assert_released();
    volume
}

const SHORT: [&str; 6] =
    ["--reconcile-interval", "1s", "--mount-deadline", "5s", "--busy-wait", "2s"];

fn while_it_goes_on_nobody_has_the_volume() {
    on_two(|one, other| {
        let volume = changed(one);
        one.set_env(&[("DOCKER_CEPH_FAULT", &format!("halt-before:{}:1", copying()))]);
        one.daemon(&["--reconcile-interval", "1s"]);
        other.daemon(&SHORT);
        other.announce("being rolled back");
        std::thread::scope(|scope| {
            let rolling = scope.spawn(|| roll_back(one, &volume, "first"));
            let warned = || status(other, &volume)["warnings"].to_string().contains("rolled back");
            assert!(within(SOON, warned), "{}", status(other, &volume));
            let safe = || names(other, &volume).len() == 2;
            assert!(within(SOON, safe), "no safety snapshot: {:?}", names(other, &volume));
            let said = other.docker().script_refused(at_data!(volume), "true");
            assert!(said.contains("rolled back to its snapshot first by"), "{said}");
            assert!(said.contains(one.name()), "{said}");
            for words in [
                &["snapshot", "rollback", &volume, "first", "--yes"][..],
                &["snapshot", "rm", &volume, "first"],
                &["snapshot", "create", &volume, "now"],
                &["rm", &volume],
            ] {
                let said = refused(other, words, 5);
                assert!(said.contains("being rolled back"), "{words:?}: {said}");
            }
            one.signal_daemon(Signal::SIGCONT);
            rolling.join().expect("rolled back");
        });
        assert_eq!(other.docker().script(at_data!(volume), "cat /data/file"), "before");
        let status = status(other, &volume);
        assert_eq!(status["warnings"].as_array().map_or(0, Vec::len), 0, "{status}");
        clear(other, &volume);
    });
}

fn what_a_dead_daemon_began_another_one_finishes() {
    on_two(|one, other| {
        let volume = changed(one);
        one.set_env(&[("DOCKER_CEPH_FAULT", &format!("abort-after:{}:1", copying()))]);
        one.daemon(&["--reconcile-interval", "1s"]);
        refused(one, &["snapshot", "rollback", &volume, "first", "--yes"], 5);
        one.await_daemon_end();
        other.daemon(&SHORT);
        other.announce("being rolled back");
        let said = other.docker().script_refused(at_data!(volume), "true");
        assert!(said.contains("being rolled back"), "the dead daemon's time is not over: {said}");
        other.daemon(&["--reconcile-interval", "1s"]);
        // As if it were three minutes later.
        Lab::of_environment().edit_record(&volume, |record| {
            record["rolling"]["work"]["since"] = json!("2026-01-01T00:00:00Z");
        });
        assert_eq!(other.docker().script(at_data!(volume), "cat /data/file"), "before");
        other.assert_released();
        assert_eq!(names(other, &volume).len(), 2, "what was there before is kept");
        one.set_env(&[]);
        one.start_daemon();
        one.assert_released();
        clear(other, &volume);
    });
}

fn clear(host: &Host, volume: &str) {
    let gone = || host.try_tool(&["snapshot", "rm", volume, "first"]).status.success();
    assert!(within(Duration::from_secs(20), gone), "{:?}", names(host, volume));
    for name in names(host, volume) {
        host.tool(&["snapshot", "rm", volume, &name]);
    }
}

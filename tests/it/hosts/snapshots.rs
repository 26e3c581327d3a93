//! Snapshots of an image that another host's kernel holds exclusively, and writes.

use super::{VERIFIER, assert_recording};
use crate::engine::{RECORDER, at_data, recorded};
use crate::support::daemon::{run, timed};
use crate::support::host::IMAGE;
use crate::support::machine::{Machine, on_two};

/// A snapshot as a device of that host's kernel, by way of a clone, and what it has to pass.
fn checked(host: &Machine, volume: &str, snapshot: &str, check: &str) {
    let (rbd, pool) = (host.rbd_by_hand(), "rbd/docker");
    host.run(&format!(
        "set -e; {rbd} clone --rbd-default-clone-format 2 {pool}/{volume}@{snapshot} {pool}/copy-{volume}; \
         D=$({rbd} device map --options noudev {pool}/copy-{volume}); {check} \
         {rbd} device unmap --options noudev $D || true; {rbd} rm --no-progress {pool}/copy-{volume}"
    ));
}

/// The records in the file `/run/log` of that host, all of which are whole.
fn records(host: &Machine) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("log"), host.run("cat /run/log") + "\n").expect("written");
    let script = VERIFIER.replace("/data", folder.path().to_str().expect("the path is text"));
    let output = run(timed(60, "sh").args(["-c", &script]));
    let count = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    count.parse().unwrap_or_else(|_| panic!("on {}: {count}", host.name()))
}

/// ext4 has nothing to replay; xfs dirties its log on purpose while it stands still, and is whole
/// once that is replayed.
const EXT4: &str = "dumpe2fs -h $D 2>/dev/null | grep -q has_journal; \
    ! dumpe2fs -h $D 2>/dev/null | grep needs_recovery; e2fsck -f -n $D; \
    debugfs -R 'cat /_data/log' $D > /run/log;";
const XFS: &str = "mkdir -p /run/snap; mount -o nouuid $D /run/snap; \
    cp /run/snap/_data/log /run/log; umount /run/snap; xfs_repair -n $D;";

/// A clone beside its origin on the same kernel, which knows file systems by their UUID; and what a
/// disk held, whose journal is never replayed, shown by two kernels at once.
fn clones_are_mounted(one: &Machine, other: &Machine, volume: &str, acknowledged: u64) {
    let (clone, shown) = (format!("{volume}-clone"), format!("{volume}-shown"));
    one.docker().create_volume(&clone, &[&format!("from={volume}@first"), "on-remove=delete"]);
    one.docker().create_volume(&shown, &[&format!("from={volume}@second"), "read-only"]);
    let lines = |host: &Machine, volume: &str| {
        let mount = format!("{volume}:/data:ro");
        let run = ["run", "--rm", "--network", "none", "-v", &mount, IMAGE];
        let said = host.docker().ok(&[&run[..], &["sh", "-c", "wc -l < /data/log"]].concat());
        said.trim().parse::<u64>().expect("a number of records")
    };
    let count = lines(one, &clone);
    assert!(count >= acknowledged, "{acknowledged} were acknowledged, the clone has {count}");
    // Without its journal, a file may be as it was a while before.
    let held: Vec<u64> = [one, other].map(|host| lines(host, &shown)).into();
    assert_eq!(held[0], held[1], "both see the same");
    for volume in [&clone, &shown] {
        one.tool(&["rm", "--policy", "delete", volume]);
    }
}

#[test]
fn a_snapshot_ordered_elsewhere_of_what_a_kernel_writes_is_consistent() {
    on_two(|one, other| {
        for (fs_type, check) in [("ext4", EXT4), ("xfs", XFS)] {
            let volume = one.volume(&["size=320M", &format!("fs-type={fs_type}")]);
            let writer = one.fresh("writer");
            one.docker().start(&writer, at_data!(volume), RECORDER);
            assert_recording(one.docker(), &writer);
            let acknowledged = recorded(one.docker(), &writer);
            other.tool(&["snapshot", "create", &volume, "first", "--consistency", "filesystem"]);
            let after = recorded(one.docker(), &writer);
            // What is written now must not get into the snapshot.
            assert_recording(one.docker(), &writer);
            println!("{fs_type}: {}", other.tool(&["snapshot", "ls", &volume]));

            checked(other, &volume, "first", check);
            let there = records(other);
            assert!(there >= acknowledged, "{acknowledged} were acknowledged, {there} are there");
            assert!(there <= after + 1, "{there} are there, and {after} were written by then");
            // The object map does not know what the kernel writes; the comparison has to.
            let said = other.tool(&["snapshot", "diff", &volume, "first"]);
            assert!(said.contains("MiB changed") && !said.contains(" 0 "), "{said}");
            other.tool(&["snapshot", "create", &volume, "second", "--consistency", "crash"]);
            clones_are_mounted(one, other, &volume, acknowledged);
            for name in ["first", "second"] {
                other.tool(&["snapshot", "rm", &volume, name]);
            }
            assert_recording(one.docker(), &writer);
            one.docker().ok(&["rm", "--force", &writer]);
        }
    });
}

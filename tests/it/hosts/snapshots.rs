//! Snapshots of an image that another host's kernel holds exclusively, and writes.

use super::{RECORDER, assert_recording, try_mount, unmount};
use crate::engine::snapshots::exported::Exported;
use crate::engine::{at_data, recorded};
use crate::support::machine::{Machine, on_two};

/// A clone beside its origin on the same kernel, which knows file systems by their UUID; and what a
/// disk held, whose journal is never replayed, shown by two kernels at once.
fn clones_are_mounted(one: &Machine, other: &Machine, volume: &str, acknowledged: u64) {
    let (clone, shown) = (format!("{volume}-clone"), format!("{volume}-shown"));
    one.docker().create_volume(&clone, &[&format!("from={volume}@first"), "on-remove=delete"]);
    one.docker().create_volume(&shown, &[&format!("from={volume}@second"), "read-only"]);
    let lines = |host: &Machine, volume: &str| {
        let mountpoint = try_mount(host, volume).0.expect("mounted");
        let said = host.run(&format!("wc -l < {mountpoint}/log"));
        unmount(host, volume);
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
        let ext4 = ("ext4", Exported::clean_ext4 as fn(&Exported) -> u64);
        for (fs_type, check) in [ext4, ("xfs", Exported::whole_xfs)] {
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

            let snapshot = format!("{volume}@first");
            let there = check(&Exported::by(|file| {
                one.network().rbd(&["export", "--no-progress", &snapshot, file]);
            }));
            assert!(there >= acknowledged, "{acknowledged} were acknowledged, {there} are there");
            assert!(there <= after + 1, "{there} are there, and {after} were written by then");
            // The object map does not know what the kernel writes; the comparison has to.
            let said = other.tool(&["snapshot", "diff", &volume, "first"]);
            assert!(said.contains("MiB changed") && !said.contains(" 0 "), "{said}");
            other.tool(&["snapshot", "create", &volume, "second", "--consistency", "crash"]);
            if fs_type == "xfs" {
                clones_are_mounted(one, other, &volume, acknowledged);
            }
            for name in ["first", "second"] {
                other.tool(&["snapshot", "rm", &volume, name]);
            }
            assert_recording(one.docker(), &writer);
            one.docker().ok(&["rm", "--force", &writer]);
        }
    });
}

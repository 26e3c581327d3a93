//! Folders of CephFS by the kernel's client: the tests of `ceph_folders` once more, on a kernel that
//! has it. Each test makes a cluster's worth of commands there, at some seconds each.

use crate::support::machine::on_one;

/// Seconds for one of the tests.
const TEST: u32 = 300;

const TESTS: [&str; 8] = [
    "what_one_host_writes_the_other_reads_at_once",
    "a_read_only_mount_refuses_writes_and_a_target_is_mounted_once",
    "a_quota_stops_a_writer_and_is_the_size",
    "a_mount_outlives_its_daemon_and_the_next_one_finds_it",
    "a_fenced_client_is_stale_and_what_it_acknowledged_is_there",
    "what_cannot_be_mounted_says_why_in_time_and_leaves_nothing",
    "a_mount_in_use_is_busy_and_stays",
    "a_cluster_that_is_away_hangs_nobody",
];

#[test]
fn the_kernels_client_does_what_ceph_fuse_does() {
    on_one(|host| {
        let conf = host.network().conf();
        let lab = conf.ancestors().nth(2).expect("a folder of the lab").display();
        let program = std::env::current_exe().expect("this program");
        for test in TESTS {
            let script = format!(
                "DOCKER_CEPH_LAB={lab} DOCKER_CEPH_FOLDERS=kernel {} --exact ceph_folders::{test} \
                 --test-threads 1 --nocapture 2>&1",
                program.display()
            );
            let done = host.try_run(TEST, &script).expect("the host answers");
            assert!(done.status == 0 && done.out.contains("1 passed"), "{test}: {}", done.out);
        }
    });
}

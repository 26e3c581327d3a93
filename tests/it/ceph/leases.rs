//! Shares in leases, and the cluster's time.

use std::thread;
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::Leases;
use jiff::Timestamp;

use super::Lab;
use super::lab::{home, unique};

#[test]
fn a_share_is_seen_by_others_until_it_is_given_up_or_not_renewed() {
    let (a, b) = (Lab::get().cluster(), Lab::get().cluster());
    let object = unique("lease");
    let (short, long) = (Duration::from_secs(2), Duration::from_secs(60));
    let start = Instant::now();
    let first = a.lease_renew(&home(), &object, "boot:/run/a", short).expect("a share");
    assert_eq!(first.members, ["boot:/run/a"]);
    let second = b.lease_renew(&home(), &object, "b", long).expect("another");
    assert_eq!(second.members, ["b", "boot:/run/a"]);
    // The cluster runs on this host. Its time is that of the renewal, whatever the share's length.
    let off = Timestamp::now().duration_since(second.now).abs();
    assert!(off < jiff::SignedDuration::from_secs(2), "{off:?}");
    assert!(second.now >= first.now, "{first:?} {second:?}");

    a.lease_renew(&home(), &object, "boot:/run/a", short).expect("renewed");
    while b.lease_renew(&home(), &object, "b", long).expect("renewed").members.len() > 1 {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not end by itself");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() >= short, "it ended too early");

    b.lease_end(&home(), &object, "b").expect("given up");
    b.lease_end(&home(), &object, "b").expect("it is gone already");
    let alone = a.lease_renew(&home(), &object, "boot:/run/a", short).expect("taken again");
    assert_eq!(alone.members, ["boot:/run/a"]);
}

#[test]
fn a_daemon_that_is_started_again_is_the_same_member() {
    let object = unique("lease");
    let (before, after) = (Lab::get().cluster(), Lab::get().cluster());
    let keep = Duration::from_secs(60);
    before.lease_renew(&home(), &object, "a", keep).expect("a share");
    let again = after.lease_renew(&home(), &object, "a", Duration::from_secs(30)).expect("again");
    assert_eq!(again.members, ["a"]);
}

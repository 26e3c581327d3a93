//! A mount stands if its caller heard of it, and is undone if not.

use std::time::Duration;

use docker_volume_ceph::protocol::Limits;

use super::daemon::{Daemon, engine_request};
use crate::log;

fn mount(volume: &str, id: &str) -> String {
    engine_request("/VolumeDriver.Mount", &format!("{{\"Name\":\"{volume}\",\"ID\":\"{id}\"}}\n"))
}

/// Long enough for an undo that must not come.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_whose_caller_hung_up_is_undone() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    peer.send(&mount("gated-undo", "m1")).await;
    daemon.fake.until("mount gated-undo m1", 1).await;
    drop(peer);
    settle().await;
    daemon.fake.open_gate();
    daemon.fake.until("unmount gated-undo m1", 1).await;
    settle().await;
    assert_eq!(daemon.fake.calls(), ["mount gated-undo m1", "unmount gated-undo m1"]);
    assert_eq!(log::lines("WARN", "gated-undo").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_added_nothing_is_not_undone() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    peer.send(&mount("gated-known", "m1")).await;
    daemon.fake.until("mount gated-known m1", 1).await;
    drop(peer);
    settle().await;
    daemon.fake.open_gate();
    settle().await;
    assert_eq!(daemon.fake.calls(), ["mount gated-known m1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_whose_answer_was_delivered_stands_after_the_connection_ends() {
    let daemon = Daemon::start().await;
    for n in 0..50 {
        let mut peer = daemon.connect().await;
        peer.send(&mount("v1", &format!("m{n}"))).await;
        assert_eq!(peer.answer().await.body, r#"{"Mountpoint":"/mnt/ceph/v1","Err":""}"#);
    }
    settle().await;
    assert_eq!(daemon.fake.calls().len(), 50, "one was undone: {:?}", daemon.fake.calls());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelined_mount_whose_caller_is_gone_is_undone() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    let two = mount("gated-first", "m1") + &mount("second", "m2");
    peer.send(&two).await;
    daemon.fake.until("mount gated-first m1", 1).await;
    drop(peer);
    daemon.fake.open_gate();
    daemon.fake.until("unmount gated-first m1", 1).await;
    let calls = daemon.fake.calls();
    let second = |call: &str| calls.iter().any(|seen| seen.starts_with(call));
    assert_eq!(second("mount second"), second("unmount second"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_mount_id_waits_until_the_first_mount_is_undone() {
    let daemon = Daemon::start().await;
    let mut first = daemon.connect().await;
    first.send(&mount("gated-turn", "m1")).await;
    daemon.fake.until("mount gated-turn m1", 1).await;
    drop(first);
    let mut second = daemon.connect().await;
    second.send(&mount("gated-turn", "m1")).await;
    // Another ID does not wait.
    let mut other = daemon.connect().await;
    other.send(&mount("gated-turn", "m2")).await;
    daemon.fake.until("mount gated-turn m2", 1).await;
    settle().await;
    daemon.fake.open_gate();
    assert_eq!(second.answer().await.status, 200);
    assert_eq!(other.answer().await.status, 200);
    let mut calls = daemon.fake.calls();
    calls.retain(|call| call.ends_with("m1"));
    assert_eq!(calls, ["mount gated-turn m1", "unmount gated-turn m1", "mount gated-turn m1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_overruns_its_deadline_is_answered_in_time_and_undone_when_it_ends() {
    let short = Duration::from_millis(100);
    let daemon = Daemon::with(Limits { mount: short, grace: short, ..Limits::default() }).await;
    let mut peer = daemon.connect().await;
    peer.send(&mount("gated-late", "m1")).await;
    let answer = peer.answer().await;
    assert_eq!(answer.status, 500);
    assert!(answer.err().contains("goes on in the background"), "{answer:?}");
    daemon.fake.open_gate();
    daemon.fake.until("unmount gated-late m1", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_with_no_usable_mountpoint_is_an_error_and_undone() {
    let daemon = Daemon::start().await;
    let answer = daemon.send(&mount("nowhere", "m1")).await;
    assert_eq!(answer.status, 500);
    assert!(answer.err().contains("no absolute path"), "{answer:?}");
    daemon.fake.until("unmount nowhere m1", 1).await;
}

/// It would take an error for "still mounted", and never ask for the mount again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmount_that_failed_is_told_to_docker_and_not_to_podman() {
    let daemon = Daemon::start().await;
    let podman = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2";
    let unmount = |id| {
        let body = format!("{{\"Name\":\"busy\",\"ID\":\"{id}\"}}");
        engine_request("/VolumeDriver.Unmount", &body)
    };
    let to_docker = daemon.send(&unmount("2996a29a")).await;
    assert_eq!((to_docker.status, to_docker.err().as_str()), (500, "unmount busy: held by bash"));
    let to_podman = daemon.send(&unmount(podman)).await;
    assert_eq!((to_podman.status, to_podman.body.as_str()), (200, r#"{"Err":""}"#));
    assert_eq!(daemon.fake.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_hang_up_at_any_moment_leave_no_mount_that_nobody_heard_of() {
    let daemon = Daemon::start().await;
    let mut heard = Vec::new();
    for n in 0..100_u64 {
        let (mut peer, id) = (daemon.connect().await, format!("m{n}"));
        peer.send(&mount("v1", &id)).await;
        if n % 4 == 0 {
            peer.answer().await;
            heard.push(id);
        } else {
            tokio::time::sleep(Duration::from_micros(n * 7)).await;
        }
    }
    settle().await;
    let calls = daemon.fake.calls();
    for id in heard {
        let undone = format!("unmount v1 {id}");
        assert!(!calls.contains(&undone), "{id} was heard of and undone");
    }
}

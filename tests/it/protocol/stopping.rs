//! A stop loses no answer that can still be given, and ends in time.

use std::time::{Duration, Instant};

use docker_volume_ceph::protocol::Limits;

use super::daemon::{Daemon, engine_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_answered_before_the_server_ends() {
    let mut daemon = Daemon::start().await;
    let mut idle = daemon.connect().await;
    idle.send(&engine_request("/Plugin.Activate", "")).await;
    idle.answer().await;
    let mut busy = daemon.connect().await;
    busy.send(&engine_request("/VolumeDriver.Create", "{\"Name\":\"gated-drain\"}")).await;
    daemon.fake.until("create gated-drain {}", 1).await;
    daemon.begin_stop();
    // The idle connection is closed at once, and the socket is gone.
    assert_eq!(idle.rest().await, "");
    assert!(!daemon.socket().exists());
    daemon.fake.open_gate();
    assert_eq!(busy.answer().await.body, r#"{"Err":""}"#);
    assert_eq!(busy.rest().await, "");
    daemon.ended().await;
    assert!(!daemon.stop.is_stopped());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_waits_is_called_off_after_the_grace_and_still_answers() {
    let limits = Limits { stop_grace: Duration::from_millis(100), ..Limits::default() };
    let mut daemon = Daemon::with(limits).await;
    let mut peer = daemon.connect().await;
    peer.send(&engine_request("/VolumeDriver.Create", "{\"Name\":\"waits-stop\"}")).await;
    daemon.fake.until("create waits-stop {}", 1).await;
    daemon.begin_stop();
    assert!(peer.answer().await.err().contains("the cluster did not answer"));
    daemon.ended().await;
    assert!(daemon.stop.is_stopped());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_hangs_does_not_hold_up_the_end() {
    let short = Duration::from_millis(100);
    let mut daemon =
        Daemon::with(Limits { stop_grace: short, drain: 2 * short, ..Limits::default() }).await;
    let mut peer = daemon.connect().await;
    peer.send(&engine_request("/VolumeDriver.Create", "{\"Name\":\"gated-hang\"}")).await;
    daemon.fake.until("create gated-hang {}", 1).await;
    let asked = Instant::now();
    daemon.begin_stop();
    daemon.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
    assert_eq!(peer.rest().await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_undoing_of_a_mount_is_waited_for() {
    let mut daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    let body = "{\"Name\":\"gated-stop\",\"ID\":\"m1\"}";
    peer.send(&engine_request("/VolumeDriver.Mount", body)).await;
    daemon.fake.until("mount gated-stop m1", 1).await;
    drop(peer);
    daemon.begin_stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    daemon.fake.open_gate();
    daemon.ended().await;
    assert_eq!(daemon.fake.calls(), ["mount gated-stop m1", "unmount gated-stop m1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_never_asked_anything_do_not_hold_up_the_end() {
    let mut daemon = Daemon::start().await;
    let mut fresh = daemon.connect().await;
    let mut half = daemon.connect().await;
    half.send("POST /VolumeDriver.List HTTP/1.1\r\nHost: ").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = Instant::now();
    daemon.begin_stop();
    daemon.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    assert!(!daemon.stop.is_stopped());
    assert_eq!((fresh.rest().await, half.rest().await), (String::new(), String::new()));
}

//! Many requests at once, and verbs that do not behave.

use std::time::{Duration, Instant};

use docker_volume_ceph::protocol::Limits;

use super::daemon::{Daemon, engine_request};
use crate::log;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_are_under_way_at_once() {
    let daemon = Daemon::start().await;
    let mut peers = Vec::new();
    for n in 0..200 {
        // Every fourth is one more mount of the same volume.
        let volume = if n % 4 == 0 { "gated-same".to_owned() } else { format!("gated-v{n}") };
        let body = format!("{{\"Name\":\"{volume}\",\"ID\":\"m{n}\"}}");
        let mut peer = daemon.connect().await;
        peer.send(&engine_request("/VolumeDriver.Mount", &body)).await;
        peers.push(peer);
    }
    for n in 0..200 {
        let volume = if n % 4 == 0 { "gated-same".to_owned() } else { format!("gated-v{n}") };
        daemon.fake.until(&format!("mount {volume} m{n}"), 1).await;
    }
    // The others are not held up by them.
    let asked = Instant::now();
    assert_eq!(daemon.post("/VolumeDriver.Get", "{\"Name\":\"v1\"}").await.status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    daemon.fake.open_gate();
    for mut peer in peers {
        assert_eq!(peer.answer().await.status, 200);
    }
    assert_eq!(daemon.fake.most_at_once(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_slot_is_taken_get_and_list_still_answer_and_the_rest_says_so() {
    let limits =
        Limits { verbs_at_once: 1, other: Duration::from_millis(200), ..Limits::default() };
    let daemon = Daemon::with(limits).await;
    let mut holder = daemon.connect().await;
    holder.send(&engine_request("/VolumeDriver.Create", "{\"Name\":\"gated-slot\"}")).await;
    daemon.fake.until("create gated-slot {}", 1).await;
    assert_eq!(daemon.post("/VolumeDriver.Get", "{\"Name\":\"v1\"}").await.status, 200);
    assert_eq!(daemon.post("/VolumeDriver.List", "{}").await.status, 200);
    let answer = daemon.post("/VolumeDriver.Remove", "{\"Name\":\"v1\"}").await;
    assert!(answer.err().contains("1 other calls did not end"), "{answer:?}");
    assert_eq!(daemon.fake.calls(), ["create gated-slot {}", "get v1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_verb_is_an_answer_and_one_error_in_the_log() {
    let daemon = Daemon::start().await;
    let answer = daemon.post("/VolumeDriver.Remove", "{\"Name\":\"panics-once\"}").await;
    assert_eq!(answer.status, 500);
    assert!(answer.err().contains("panics-once was told to"), "{answer:?}");
    assert_eq!(log::lines("ERROR", "panics-once").len(), 1);
    daemon.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_logged_once_with_its_operation_and_volume() {
    let daemon = Daemon::start().await;
    daemon.post("/VolumeDriver.Mount", "{\"Name\":\"broken-log\",\"ID\":\"m7\"}").await;
    let lines = log::lines("ERROR", "broken-log");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["op=\"mount\"", "mount_id=\"m7\"", "sysfs: Input/output error"] {
        assert!(lines[0].contains(part), "no {part} in {}", lines[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_one_line_in_the_log_and_a_question_none() {
    let daemon = Daemon::start().await;
    daemon.post("/VolumeDriver.Create", "{\"Name\":\"logged-v\"}").await;
    daemon.post("/VolumeDriver.Get", "{\"Name\":\"logged-v\"}").await;
    daemon.post("/VolumeDriver.Path", "{\"Name\":\"logged-v\"}").await;
    let lines = log::lines("INFO", "logged-v");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("created"), "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_overruns_its_deadline_does_not_hold_up_its_caller() {
    let short = Duration::from_millis(100);
    let daemon = Daemon::with(Limits { other: short, grace: short, ..Limits::default() }).await;
    let asked = Instant::now();
    let answer = daemon.post("/VolumeDriver.Remove", "{\"Name\":\"gated-overrun\"}").await;
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
    assert!(answer.err().starts_with("remove gated-overrun: unavailable"), "{answer:?}");
    assert_eq!(log::lines("ERROR", "gated-overrun").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remove_whose_caller_hung_up_is_finished() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    peer.send(&engine_request("/VolumeDriver.Remove", "{\"Name\":\"gated-finish\"}")).await;
    daemon.fake.until("remove gated-finish", 1).await;
    drop(peer);
    tokio::time::sleep(Duration::from_millis(100)).await;
    daemon.fake.open_gate();
    let limit = Instant::now() + Duration::from_secs(10);
    while log::lines("INFO", "gated-finish").is_empty() {
        assert!(Instant::now() < limit, "it was never finished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_its_request_and_so_does_the_log() {
    let daemon = Daemon::start().await;
    let answer = daemon.post("/VolumeDriver.Remove", "{\"Name\":\"broken-named\"}").await;
    let (said, id) = answer.err_and_id();
    assert_eq!(said, "remove broken-named: map: sysfs: Input/output error");
    let lines = log::lines("ERROR", "broken-named");
    assert!(lines.len() == 1 && lines[0].contains(&format!("request{{id={id} ")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_leaves_one_line_for_the_audit_with_who_asked() {
    let daemon = Daemon::start().await;
    for path in ["/VolumeDriver.Create", "/VolumeDriver.Get", "/VolumeDriver.Remove"] {
        assert_eq!(daemon.post(path, "{\"Name\":\"audited\"}").await.status, 200);
    }
    let own = format!("uid={} pid={} ", nix::unistd::getuid(), std::process::id());
    let lines = log::lines("INFO", "volume=\"audited\"");
    let [created, removed] = &lines[..] else { panic!("{lines:#?}") };
    assert!(created.contains(&own) && created.ends_with(" audit: created"), "{created}");
    assert!(removed.contains("op=\"remove\"") && removed.ends_with(" audit: removed"), "{removed}");
}

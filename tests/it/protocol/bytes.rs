//! Requests that no honest client sends, and those that the engine really does.

use std::time::Duration;

use docker_volume_ceph::protocol::Limits;

use super::daemon::{Daemon, engine_request};

const NAMED: [&str; 6] = ["Create", "Remove", "Mount", "Unmount", "Path", "Get"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_header_of_a_newer_engine_is_as_good_as_an_empty_one() {
    let daemon = Daemon::start().await;
    let request = engine_request("/VolumeDriver.Get", "{\"Name\":\"v1\"}\n");
    let newer = request.replace("Host: \r\n", "Host: plugin.moby.localhost\r\n");
    assert_eq!(daemon.send(&request).await, daemon.send(&newer).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_many_calls() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    for _ in 0..20 {
        peer.send(&engine_request("/VolumeDriver.List", "{}\n")).await;
        assert_eq!(peer.answer().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let daemon = Daemon::start().await;
    let mut peer = daemon.connect().await;
    let requests: String = (0..5)
        .map(|n| engine_request("/VolumeDriver.Path", &format!("{{\"Name\":\"v{n}\"}}")))
        .collect();
    peer.send(&requests).await;
    for n in 0..5 {
        assert!(peer.answer().await.body.contains(&format!("/mnt/ceph/v{n}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_is_read() {
    let daemon = Daemon::start().await;
    let request = "POST /VolumeDriver.Remove HTTP/1.1\r\nHost: \r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\n{\"Nam\r\n8\r\ne\":\"v1\"}\r\n0\r\n\r\n";
    assert_eq!(daemon.send(request).await.body, r#"{"Err":""}"#);
    assert_eq!(daemon.fake.calls(), ["remove v1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_body_is_never_the_volume_of_no_name() {
    let daemon = Daemon::start().await;
    for call in NAMED {
        let all = daemon.all_of(&closing(&format!("/VolumeDriver.{call}"), "")).await;
        if call == "Get" {
            assert_eq!(all, "", "Get was answered");
        } else {
            assert!(all.starts_with("HTTP/1.1 400") && all.contains("empty body"), "{call}: {all}");
        }
    }
    assert_eq!(daemon.fake.calls(), [""; 0]);
    daemon.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_that_cannot_be_answered_truthfully_gets_no_byte() {
    let daemon = Daemon::with(Limits { other: Duration::ZERO, grace: MS_50, ..short() }).await;
    for body in [
        "{\"Name\":\"unknown-v\"}\n",
        "{\"Name\":\"panics-get\"}\n",
        "{\"Name\":\"gated-get\"}\n",
        "{\"Name\":",
        "{}",
        "null",
        "\n",
        &" ".repeat(2 << 20),
    ] {
        let mut peer = daemon.connect().await;
        peer.push(&engine_request("/VolumeDriver.Get", body)).await;
        assert_eq!(peer.rest().await, "", "answered {:?}", &body[..body.len().min(40)]);
    }
    let all =
        daemon.all_of(&engine_request("/VolumeDriver.Path", "{\"Name\":\"unknown-v\"}")).await;
    assert_eq!(all, "", "Path was answered");
    daemon.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_of_a_name_that_no_volume_can_have_is_quietly_absent() {
    let daemon = Daemon::start().await;
    let long = format!("quiet-{}", "x".repeat(300));
    for name in ["", "../quiet", "quiet/b", "quiet ü", &long] {
        let answer = daemon.post("/VolumeDriver.Get", &format!("{{\"Name\":\"{name}\"}}")).await;
        assert_eq!(answer.status, 500);
        assert!(answer.err().ends_with("no such volume"), "{answer:?}");
    }
    for level in ["INFO", "WARN", "ERROR"] {
        assert_eq!(crate::log::lines(level, "quiet"), [""; 0]);
    }
    assert_eq!(daemon.fake.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_whatever_its_length_says() {
    let daemon = Daemon::start().await;
    let large = format!("{{\"Name\":\"v1\",\"Pad\":\"{}\"}}", "x".repeat(2 << 20));
    let chunked = format!(
        "POST /VolumeDriver.Remove HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let declared_only =
        "POST /VolumeDriver.Remove HTTP/1.1\r\nHost: \r\nContent-Length: 9999999999\r\n\r\n{";
    for request in [&*engine_request("/VolumeDriver.Remove", &large), &*chunked, declared_only] {
        let mut peer = daemon.connect().await;
        peer.push(request).await;
        let answer = peer.answer().await;
        assert_eq!(answer.status, 413);
        assert!(answer.err().contains("1048576 bytes"), "{answer:?}");
    }
    assert_eq!(daemon.fake.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_shorter_than_its_length_changes_nothing() {
    let daemon = Daemon::with(short()).await;
    let cut = "POST /VolumeDriver.Remove HTTP/1.1\r\nHost: \r\nContent-Length: 40\r\n\r\n{\"Name\"";
    // Hung up in the middle of the body, and of the headers.
    for request in [cut, &cut[..30]] {
        daemon.connect().await.send(request).await;
    }
    // Never finished.
    let all = daemon.all_of(cut).await;
    assert!(all.starts_with("HTTP/1.1 400") && all.contains("did not arrive"), "{all}");
    // Followed by what was beyond the length.
    let longer = "POST /VolumeDriver.Remove HTTP/1.1\r\nHost: \r\nContent-Length: 5\r\n\r\n\
                  {\"Name\":\"v1\"}";
    assert!(daemon.all_of(longer).await.starts_with("HTTP/1.1 400"));
    assert_eq!(daemon.fake.calls(), [""; 0]);
    daemon.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_do_not_come_end_the_connection_and_no_other() {
    let daemon = Daemon::with(short()).await;
    let mut slow: Vec<_> = Vec::new();
    for start in ["", "P", "POST /VolumeDriver.List HTTP/1.1\r\nHost: \r\nX-Slow: "] {
        let mut peer = daemon.connect().await;
        peer.send(start).await;
        slow.push(peer);
    }
    daemon.assert_alive().await;
    for mut peer in slow {
        assert!(!peer.rest().await.starts_with("HTTP/1.1 200"));
    }
    daemon.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_http_cost_their_own_connection_only() {
    let daemon = Daemon::start().await;
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    for bytes in
        ["\0\0\0\0", "GET\r\n\r\n", "POST / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}", &many_headers]
    {
        let mut peer = daemon.connect().await;
        peer.push(bytes).await;
        drop(peer);
    }
    daemon.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_method_or_path_is_named() {
    let daemon = Daemon::start().await;
    let answer = daemon.send("GET /VolumeDriver.List HTTP/1.1\r\nHost: \r\n\r\n").await;
    assert_eq!((answer.status, &*answer.err()), (405, "/VolumeDriver.List takes POST, not GET"));
    let answer = daemon.send("GET /metrics HTTP/1.1\r\nHost: \r\n\r\n").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("there is nothing at /metrics"), "{answer:?}");
}

const MS_50: Duration = Duration::from_millis(50);

fn short() -> Limits {
    let short = Duration::from_millis(200);
    Limits { header: short, body: short, ..Limits::default() }
}

fn closing(path: &str, body: &str) -> String {
    engine_request(path, body).replacen("Host: \r\n", "Host: \r\nConnection: close\r\n", 1)
}

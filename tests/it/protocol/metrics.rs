//! What Prometheus hears: calls by how they ended, and the volumes.

use docker_volume_ceph::protocol::MetricsListener;

use super::daemon::Daemon;

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n";

/// The samples of a name, without what all names begin with.
fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("docker_volume_ceph_"));
    lines
        .filter(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
        })
        .collect()
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended_and_volumes_are_told_of() {
    let daemon = Daemon::start().await;
    for (path, body) in [
        ("/VolumeDriver.Create", r#"{"Name": "web"}"#),
        ("/VolumeDriver.Remove", r#"{"Name": "web"}"#),
        ("/VolumeDriver.Remove", r#"{"Name": "busy-web"}"#),
        ("/VolumeDriver.Get", r#"{"Name": "web"}"#),
    ] {
        daemon.post(path, body).await;
    }
    let answer = daemon.scrape(GET).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; version=0.0.4"));
    let text = &answer.body;
    let ended = samples(text, "requests_total");
    assert!(ended.contains(&"requests_total{operation=\"create\",outcome=\"ok\"} 1"), "{text}");
    assert!(ended.contains(&"requests_total{operation=\"remove\",outcome=\"ok\"} 1"), "{text}");
    assert!(ended.contains(&"requests_total{operation=\"remove\",outcome=\"in_use\"} 1"), "{text}");
    let took = samples(text, "request_duration_seconds_count");
    assert!(took.contains(&"request_duration_seconds_count{operation=\"remove\"} 2"), "{text}");
    for (name, expected) in [
        ("requests_running", "requests_running 0"),
        ("requests_waiting", "requests_waiting 0"),
        ("cluster_up", "cluster_up 1"),
        ("fences_total", "fences_total 2"),
        ("volumes", "volumes{kind=\"rbd\",state=\"mounted\"} 1"),
        ("volume_mounts", "volume_mounts{volume=\"pgdata\"} 1"),
        ("volume_size_bytes", "volume_size_bytes{volume=\"pgdata\"} 10737418240"),
        ("volume_used_bytes", "volume_used_bytes{volume=\"pgdata\"} 314572800"),
    ] {
        assert_eq!(samples(text, name), [expected], "{text}");
    }
}

#[tokio::test]
async fn there_is_nothing_but_metrics_and_they_are_only_read() {
    let daemon = Daemon::start().await;
    let elsewhere = daemon.scrape("GET /VolumeDriver.List HTTP/1.1\r\nHost: m\r\n\r\n").await;
    assert_eq!(elsewhere.status, 404);
    let post = "POST /metrics HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(daemon.scrape(post).await.status, 405);
    let refused = daemon.send("GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n").await;
    assert_ne!(refused.status, 200, "the engine's socket tells none");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = MetricsListener::tcp(taken.local_addr().unwrap()).expect_err("taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

//! The operator's client against the server, and against nothing.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use docker_volume_ceph::protocol::admin::{API, Kind};
use docker_volume_ceph::protocol::client::{AdminClient, ClientError};
use docker_volume_ceph::service::{Created, Released};
use docker_volume_ceph::volume::Options;
use docker_volume_ceph::volume::{ByteSize, RemovePolicy};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::fake::view;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_reads_what_the_server_writes() {
    let daemon = Daemon::start().await;
    let client = AdminClient::new(daemon.socket());
    let options = Options::from([("size".into(), "2G".into())]);
    let version = client.version().await.unwrap();
    assert_eq!((version.api, version.pid), (API, std::process::id()));
    assert_eq!(client.volumes().await.unwrap(), [view(&"pgdata".parse().unwrap())]);
    assert_eq!(client.create("a", &options).await.unwrap(), Created::Created);
    assert_eq!(client.create("there", &options).await.unwrap(), Created::AlreadyThere);
    assert_eq!(client.inspect("a").await.unwrap().volume, view(&"a".parse().unwrap()));
    client.remove("a", None).await.unwrap();
    client.remove("a", Some(RemovePolicy::Keep)).await.unwrap();
    assert_eq!(client.resize("a", "20G").await.unwrap().to, ByteSize::gib(20));
    assert_eq!(client.trim("a").await.unwrap(), ByteSize::mib(64));
    client.protect("a", true).await.unwrap();
    let web1 = Released::There { host: "web1".into() };
    assert_eq!(client.release("a", false).await.unwrap(), web1);
    assert!(matches!(client.release("a", true).await.unwrap(), Released::Fenced { .. }));
    assert_eq!(client.drain(true).await.unwrap()[1].kept.as_deref(), Some("volume is in use"));
    assert_eq!(client.who("a").await.unwrap().mounts, ["m1"]);
    assert_eq!(client.adopt("a", "rbd/ns/x", &options).await.unwrap(), Created::Created);
    assert_eq!(client.trash().await.unwrap()[0].name, "old");
    assert_eq!(client.undelete("old", None).await.unwrap().as_str(), "old");
    assert_eq!(client.undelete("old", Some("new")).await.unwrap().as_str(), "new");
    assert_eq!(client.rebuild().await.unwrap().added, ["pgdata"]);
    assert_eq!(client.doctor().await.unwrap()[0].check, "cluster");
    let seen = daemon.fake.calls();
    for call in
        ["remove a", "remove a keep", "protect a true", "undelete old new", "release a true"]
    {
        assert!(seen.iter().any(|seen| seen == call), "no {call:?} in {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_keep_their_kind() {
    let daemon = Daemon::start().await;
    let client = AdminClient::new(daemon.socket());
    for (name, kind) in [
        ("absent", Kind::NotFound),
        ("taken", Kind::AlreadyExists),
        ("busy", Kind::InUse),
        ("away", Kind::Unavailable),
        ("full", Kind::NoSpace),
        ("broken", Kind::Internal),
        ("panics-client", Kind::Internal),
        ("a/b?c", Kind::InvalidArgument),
        ("", Kind::InvalidArgument),
    ] {
        let error = client.who(name).await.unwrap_err();
        assert_eq!(error.kind(), Some(kind), "{name}: {error}");
        assert!(error.to_string().starts_with("who"), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_not_there_is_told_with_how_to_start_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    let client = AdminClient::new(&path);
    let missing = client.version().await.unwrap_err();
    drop(UnixListener::bind(&path).unwrap());
    let stale = client.version().await.unwrap_err();
    for error in [missing, stale] {
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
        assert!(error.to_string().contains("docker-ceph serve"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_answer_is_not_waited_for_forever() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    let client = AdminClient::new(&path).with_limit(Duration::from_millis(50));
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_off_is_no_refusal() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    let closing = UnixListener::bind(&path).unwrap();
    let closer = std::thread::spawn(move || drop(closing.accept()));
    let error = AdminClient::new(&path).version().await.unwrap_err();
    closer.join().unwrap();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    assert_eq!(error.kind(), None);
}

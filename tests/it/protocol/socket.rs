//! The socket's file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use docker_volume_ceph::deadline::Stop;
use docker_volume_ceph::protocol::socket::{
    DEFAULT_MODE, SocketError, listen_on, passed_by_manager,
};
use docker_volume_ceph::protocol::{Limits, serve};
use tempfile::TempDir;

use super::daemon::{Daemon, engine_request};
use super::fake::Fake;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_socket_is_for_its_owner_only_and_its_folders_are_made() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run/docker/plugins/ceph.sock");
    let _listening = listen_on(&path, DEFAULT_MODE).unwrap();
    assert_eq!(mode(&path), 0o600);
    let open = folder.path().join("open.sock");
    let _listening = listen_on(&open, 0o666).unwrap();
    assert_eq!(mode(&open), 0o666, "the umask took something");
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _listening = listen_on(&path, DEFAULT_MODE).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_live_socket_is_refused_and_its_owner_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    let first = listen_on(&path, DEFAULT_MODE).unwrap();
    let error = listen_on(&path, DEFAULT_MODE).unwrap_err();
    assert!(matches!(error, SocketError::Live { .. }), "{error}");
    let (text, process) = (error.to_string(), format!("process {}", std::process::id()));
    assert!(text.contains(&process) && text.contains("stop that one first"), "{text}");
    assert!(path.exists());
    drop(first);
}

#[test]
fn of_many_that_start_together_one_listens() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    drop(UnixListener::bind(&path).unwrap());
    let started = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| listen_on(&path, 0o600))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(started.iter().filter(|start| start.is_ok()).count(), 1);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "data").unwrap();
    symlink(&file, &link).unwrap();
    for (path, what) in
        [(&*file, "regular file"), (&*link, "symbolic link"), (folder.path(), "folder")]
    {
        let error = listen_on(path, DEFAULT_MODE).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn a_path_that_is_too_long_is_refused_with_its_length() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x".repeat(120));
    let error = listen_on(&path, DEFAULT_MODE).unwrap_err().to_string();
    let length = format!("{} bytes", path.as_os_str().len());
    assert!(error.contains(&length) && error.contains("107"), "{error}");
    let longest = 107 - folder.path().as_os_str().len() - 1;
    let _listening = listen_on(&folder.path().join("y".repeat(longest)), DEFAULT_MODE).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_the_socket_of_another_daemon_alone() {
    let mut daemon = Daemon::start().await;
    let path = daemon.socket().to_owned();
    fs::remove_file(&path).unwrap();
    let other = listen_on(&path, DEFAULT_MODE).unwrap();
    daemon.begin_stop();
    daemon.ended().await;
    assert!(path.exists(), "the other daemon's socket was removed");
    drop(other);
}

const ACTIVATED: &str = "DOCKER_CEPH_TEST_ACTIVATED";

/// This test program again, as the service manager starts it: with `passed` as descriptor 3.
fn activated(passed: impl Into<OwnedFd>) -> Child {
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    Command::new("/bin/sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "protocol::socket::the_activated_one_serves_what_it_was_passed"])
        .arg("--nocapture")
        .env(ACTIVATED, "yes")
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::from(passed.into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The other side of the two tests below; by itself it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_activated_one_serves_what_it_was_passed() {
    if std::env::var_os(ACTIVATED).is_none() {
        return;
    }
    let listening = passed_by_manager().unwrap_or_else(|error| panic!("{error}"));
    let (verbs, forever) = (Arc::new(Fake::default()), std::future::pending());
    serve(listening, verbs, Limits::default(), Stop::default(), forever).await.unwrap();
}

#[test]
fn a_socket_of_the_service_manager_is_served_and_its_file_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ceph.sock");
    let mut child = activated(UnixListener::bind(&path).unwrap());
    let mut peer = UnixStream::connect(&path).unwrap();
    let request = engine_request("/Plugin.Activate", "");
    peer.write_all(request.replace("Host: ", "Connection: close\r\nHost: ").as_bytes()).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.ends_with(r#"{"Implements":["VolumeDriver"]}"#), "{answer}");
    assert!(path.exists());
}

#[test]
fn what_the_service_manager_passed_wrongly_is_named() {
    let folder = TempDir::new().unwrap();
    let connected = UnixStream::pair().unwrap().0;
    let file = File::create(folder.path().join("file")).unwrap();
    for passed in [OwnedFd::from(connected), OwnedFd::from(file)] {
        let output = activated(passed).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("passed as descriptor 3"), "{text}");
    }
}

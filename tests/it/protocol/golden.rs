//! Every call with its answer, word for word, against the files in `tests/golden`. They are the
//! contract with the engine and with scripts: a change in one of them is a change of the product.
//! `DOCKER_CEPH_BLESS=1` writes them anew.

use std::path::Path;

use serde_json::{Value, json};

use super::daemon::{Answer, Daemon, engine_request};

/// Compares one exchange with its file, or writes it.
fn check(file: &str, request: &str, answer: &Answer) {
    let mut body: Value = serde_json::from_str(&answer.body).expect("an answer is JSON");
    if file == "admin-version.json" {
        body["pid"] = json!("a number");
        body["started"] = json!("a time");
        body["version"] = json!("a version");
    }
    for field in ["Err", "error"] {
        if let Some(error) = body[field].as_str().filter(|error| !error.is_empty()) {
            let (said, id) = error.split_once(" (request ").expect("an error names its request");
            assert!(id.len() == 9 && id.ends_with(')'), "{error}");
            body[field] = json!(format!("{said} (request …)"));
        }
    }
    let exchange = json!({
        "request": request,
        "status": answer.status,
        "content-type": answer.content_type,
        "answer": body,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("DOCKER_CEPH_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&exchange).unwrap() + "\n";
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("tests/golden/{file}: {error}; DOCKER_CEPH_BLESS=1 writes it")
    });
    let golden: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(exchange, golden, "not as in tests/golden/{file}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_the_engine_is_answered_as_the_golden_files_say() {
    let daemon = Daemon::start().await;
    for (file, path, body) in [
        ("activate", "/Plugin.Activate", ""),
        ("capabilities", "/VolumeDriver.Capabilities", "{}\n"),
        ("create", "/VolumeDriver.Create", "{\"Name\":\"r1\",\"Opts\":{\"size\":\"2G\"}}\n"),
        ("create-without-options", "/VolumeDriver.Create", "{\"Name\":\"r1\",\"Opts\":null}\n"),
        ("create-bad-name", "/VolumeDriver.Create", "{\"Name\":\"../x\",\"Opts\":null}\n"),
        ("create-taken", "/VolumeDriver.Create", "{\"Name\":\"taken\",\"Opts\":{}}\n"),
        ("remove", "/VolumeDriver.Remove", "{\"Name\":\"v1\"}\n"),
        ("remove-in-use", "/VolumeDriver.Remove", "{\"Name\":\"busy\"}\n"),
        ("mount", "/VolumeDriver.Mount", "{\"Name\":\"v1\",\"ID\":\"2996a29a\"}\n"),
        ("mount-away", "/VolumeDriver.Mount", "{\"Name\":\"away\",\"ID\":\"2996a29a\"}\n"),
        ("unmount", "/VolumeDriver.Unmount", "{\"Name\":\"v1\",\"ID\":\"2996a29a\"}\n"),
        ("path", "/VolumeDriver.Path", "{\"Name\":\"v1\"}\n"),
        ("path-absent", "/VolumeDriver.Path", "{\"Name\":\"absent\"}\n"),
        ("get", "/VolumeDriver.Get", "{\"Name\":\"v1\"}\n"),
        ("get-absent", "/VolumeDriver.Get", "{\"Name\":\"absent\"}\n"),
        ("list", "/VolumeDriver.List", "{}\n"),
        ("empty-body", "/VolumeDriver.Mount", ""),
        ("malformed-body", "/VolumeDriver.Create", "{\"Name\":"),
        ("unknown-call", "/VolumeDriver.Fly", "{}\n"),
    ] {
        let request = engine_request(path, body);
        check(&format!("plugin-{file}.json"), &request, &daemon.send(&request).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_the_tool_is_answered_as_the_golden_files_say() {
    let daemon = Daemon::start().await;
    for (file, method, path, body) in [
        ("version", "GET", "version", ""),
        ("volumes", "GET", "volumes", ""),
        ("create", "POST", "volumes", r#"{"name":"a","options":{"size":"2G"}}"#),
        ("create-there", "POST", "volumes", r#"{"name":"there"}"#),
        ("create-taken", "POST", "volumes", r#"{"name":"taken","options":{}}"#),
        ("create-unknown-field", "POST", "volumes", r#"{"name":"a","opts":{}}"#),
        ("inspect", "GET", "volumes/a", ""),
        ("inspect-absent", "GET", "volumes/absent", ""),
        ("inspect-bad-name", "GET", "volumes/a%2Fb", ""),
        ("remove", "DELETE", "volumes/a?policy=delete", ""),
        ("remove-in-use", "DELETE", "volumes/busy", ""),
        ("remove-bad-policy", "DELETE", "volumes/a?policy=burn", ""),
        ("resize", "POST", "volumes/a/resize", r#"{"size":"20G"}"#),
        ("resize-bare-number", "POST", "volumes/a/resize", r#"{"size":"20"}"#),
        ("resize-full", "POST", "volumes/full/resize", r#"{"size":"20G"}"#),
        ("trim", "POST", "volumes/a/trim", "{}"),
        ("old-files", "POST", "volumes/a/old-files", "{}"),
        ("old-files-remove", "POST", "volumes/a/old-files", r#"{"remove":true}"#),
        ("protect", "POST", "volumes/a/protect", r#"{"protected":true}"#),
        ("release", "POST", "volumes/a/release", "{}"),
        ("release-fence", "POST", "volumes/a/release", r#"{"fence":true}"#),
        ("release-in-use", "POST", "volumes/busy/release", "{}"),
        ("drain", "POST", "drain", "{}"),
        ("who", "GET", "volumes/a/who", ""),
        ("who-away", "GET", "volumes/away/who", ""),
        ("who-broken", "GET", "volumes/broken/who", ""),
        ("adopt", "POST", "adopt", r#"{"name":"a","image":"rbd/docker/x","options":{}}"#),
        ("adopt-bad-image", "POST", "adopt", r#"{"name":"a","image":"x"}"#),
        ("trash", "GET", "trash", ""),
        ("undelete", "POST", "undelete", r#"{"name":"old","as":null}"#),
        ("undelete-renamed", "POST", "undelete", r#"{"name":"old","as":"new"}"#),
        ("rollback-plan", "GET", "volumes/a/snapshots/before/rollback", ""),
        ("rollback", "POST", "volumes/a/snapshots/before/rollback", "{}"),
        ("rollback-in-use", "POST", "volumes/busy/snapshots/before/rollback", "{}"),
        ("schedules", "GET", "schedules", ""),
        ("schedule", "POST", "volumes/a/schedule", r#"{"options":{"snapshot-keep":"daily=7"}}"#),
        ("schedule-unknown-field", "POST", "volumes/a/schedule", r#"{"schedule":"@daily"}"#),
        ("schedule-pause", "POST", "volumes/a/schedule/pause", r#"{"paused":true}"#),
        ("schedule-pause-absent", "POST", "volumes/absent/schedule/pause", r#"{"paused":true}"#),
        ("schedule-run", "POST", "volumes/a/schedule/run", "{}"),
        ("tasks", "GET", "tasks", ""),
        ("rebuild", "POST", "catalog/rebuild", ""),
        ("doctor", "GET", "doctor", ""),
        ("unknown-path", "GET", "volumes/a/fly", ""),
        ("wrong-method", "PUT", "volumes/a", ""),
    ] {
        let length = body.len();
        let request = format!(
            "{method} /ceph/v1/{path} HTTP/1.1\r\nHost: docker-ceph\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        check(&format!("admin-{file}.json"), &request, &daemon.send(&request).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_has_called_no_verb() {
    let daemon = Daemon::start().await;
    for (path, body) in [
        ("/VolumeDriver.Create", "{\"Name\":\"../x\",\"Opts\":null}\n".to_owned()),
        ("/VolumeDriver.Create", "{\"Name\":\"a\",\"Opts\":{\"size\":1}}\n".to_owned()),
        ("/VolumeDriver.Create", format!("{{\"Name\":\"{}\"}}", "x".repeat(300))),
        ("/VolumeDriver.Create", r#"{"Name":"a\u0000b"}"#.to_owned()),
        ("/VolumeDriver.Remove", "{\"Name\":\"\"}\n".to_owned()),
        ("/VolumeDriver.Mount", "{\"Name\":\"v1\"}\n".to_owned()),
        ("/VolumeDriver.Mount", "{\"Name\":\"v1\",\"ID\":\"\"}\n".to_owned()),
        ("/VolumeDriver.Mount", "{\"Name\":\"\",\"ID\":\"m1\"}\n".to_owned()),
        ("/VolumeDriver.Unmount", "{\"Name\":\"a b\",\"ID\":\"m1\"}\n".to_owned()),
        ("/VolumeDriver.Path", "{\"Name\":\"ünï\"}\n".to_owned()),
    ] {
        let answer = daemon.post(path, &body).await;
        assert!(answer.status >= 400 && !answer.err().is_empty(), "{path} {body}: {answer:?}");
    }
    assert_eq!(daemon.fake.calls(), [""; 0]);
}

//! Metrics of real daemons, read by Prometheus itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::lab::{Running, unique};
use super::snapshots::schedules::{create, idle_daemons};
use crate::support::browser::free_port;
use crate::support::daemon::{Daemon, Lab, timed, within};

/// For a scrape, and the start of Prometheus.
const SOON: Duration = Duration::from_secs(60);

fn program(name: &str) -> String {
    let path = Lab::of_environment().folder().join("prometheus").join(name);
    path.to_str().expect("the path is text").to_owned()
}

/// The alert rules and their tests, as they are shipped.
fn rules(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/prometheus").join(name)
}

/// What is answered there, if it is answered.
pub(crate) fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(SOON)).expect("a time");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 200").then(|| body.to_owned())
}

fn telling_daemon() -> (Daemon, u16) {
    let (mut daemon, port) = (idle_daemons(1).remove(0), free_port());
    daemon.set_env("DOCKER_CEPH_METRICS_LISTEN", format!("127.0.0.1:{port}"));
    daemon.start();
    (daemon, port)
}

/// Its word on a text that it is given.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = timed(30, &program("promtool"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// A Prometheus that asks that port every second, with the shipped rules.
struct Prometheus {
    port: u16,
    _folder: TempDir,
    _running: Running,
}

impl Prometheus {
    fn start(of: u16) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let config = folder.path().join("prometheus.yml");
        let text = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules("alerts.yml")],
            "scrape_configs": [{
                "job_name": "docker-volume-ceph",
                "static_configs": [{"targets": [format!("127.0.0.1:{of}")]}],
            }],
        });
        // JSON is YAML.
        fs::write(&config, text.to_string()).expect("written");
        let mut command = Command::new(program("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running(command.spawn().expect("prometheus starts"));
        Self { port, _folder: folder, _running: running }
    }

    /// What is answered to an expression; `None` where it is none.
    fn ask(&self, expression: &str) -> Option<Value> {
        let coded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let text = get(self.port, &format!("/api/v1/query?query={coded}"))?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    /// The value of an expression; `None` where there is none yet.
    fn value(&self, expression: &str) -> Option<String> {
        let answer = self.ask(expression)?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }
}

/// What the panels of the shipped dashboard ask for, as Grafana would.
fn asked_by_dashboard() -> Vec<String> {
    let text = include_str!("../../../dist/grafana/docker-volume-ceph.json");
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    expressions.map(|it| it.replace("$__rate_interval", "1m").replace("$instance", ".*")).collect()
}

/// Every expression of the dashboard is one, and asks for metrics that are documented.
fn assert_dashboard(prometheus: &Prometheus) {
    let documented = include_str!("../../../docs/operations.md");
    let expressions = asked_by_dashboard();
    assert!(expressions.len() > 10, "{expressions:#?}");
    for expression in expressions {
        let answer = prometheus.ask(&expression);
        assert!(answer.is_some_and(|it| it["status"] == "success"), "{expression}");
        for name in expression.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let Some(name) = name.strip_prefix("docker_volume_ceph_") else { continue };
            let family = name.trim_end_matches("_bucket");
            assert!(documented.contains(&format!("`{family}`")), "{family} in {expression}");
        }
    }
}

#[test]
fn prometheus_has_nothing_to_complain_of_and_finds_the_volumes() {
    let (daemon, port) = telling_daemon();
    let volume = unique("watched");
    create(&daemon, &volume, &json!({"size": "64M", "snapshot-schedule": "@every 1h"}));
    let text = get(port, "/metrics").expect("an answer");
    let checked = promtool(&["check", "metrics"], &text);
    assert!(checked.status.success(), "{checked:?}\n{text}");
    assert!(checked.stdout.is_empty() && checked.stderr.is_empty(), "{checked:?}");

    let prometheus = Prometheus::start(port);
    let is = |expression: &str, expected: &str| {
        let mut value = None;
        let found = within(SOON, || {
            value = prometheus.value(expression);
            value.as_deref() == Some(expected)
        });
        assert!(found, "{expression} is {value:?}");
    };
    is("sum(docker_volume_ceph_volumes)", "1");
    is("docker_volume_ceph_cluster_up", "1");
    is(&format!("docker_volume_ceph_snapshots{{volume=\"{volume}\"}}"), "0");
    is("docker_volume_ceph_requests_total{operation=\"create\",outcome=\"ok\"}", "1");
    daemon.tool(&["snapshot", "create", &volume]).expect("made");
    is(&format!("docker_volume_ceph_snapshots{{volume=\"{volume}\"}}"), "1");
    let newest = "time() - docker_volume_ceph_snapshot_newest_timestamp_seconds < bool 60";
    is(newest, "1");
    assert_dashboard(&prometheus);
    let loaded = get(prometheus.port, "/api/v1/rules").expect("an answer");
    assert!(loaded.contains("CephVolumeDriverDown"), "{loaded}");
    daemon.tool(&["rm", "--policy", "delete", &volume]).expect("removed");
    is("absent(docker_volume_ceph_volumes)", "1");
}

#[test]
fn the_shipped_alert_rules_go_off_when_they_should() {
    let path = |name| rules(name).to_str().expect("text").to_owned();
    for words in
        [["check", "rules", &path("alerts.yml")], ["test", "rules", &path("alerts_test.yml")]]
    {
        let output = promtool(&words, "");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

/// Volumes are served all the same.
#[test]
fn a_port_that_is_taken_costs_the_metrics_and_nothing_else() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let mut daemon = idle_daemons(1).remove(0);
    daemon.set_env("DOCKER_CEPH_METRICS_LISTEN", address);
    daemon.start();
    let listed = daemon.call("VolumeDriver.List", &json!({})).expect("an answer");
    assert!(listed.is_ok(), "{listed:?}");
    assert!(daemon.log().contains("no metrics can be asked for"), "{}", daemon.log());
}

//! The files of `examples/`, unmodified, by the clients that they are for: Docker Compose, Swarm,
//! Podman and curl. What is written by them is in the cluster, and comes back on another host.
//!
//! The images have the public names that stand in the files. What is in them is Debian's
//! (`tests/lab/images`), and started as the public ones are.

mod podman;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::SOON;
use super::swarm::Bridge;
use super::swarm::service::leave;
use crate::support::browser::free_port;
use crate::support::daemon::{run, timed, within};
use crate::support::host::{Docker, EAGER, Host, NEWEST, on_newest, on_two, text};

/// No engine looks for an image on the Internet: each takes its own at once.
const OFFLINE: [&str; 4] =
    ["--http-proxy", "http://127.0.0.1:1", "--https-proxy", "http://127.0.0.1:1"];

/// A table with one row.
const TABLE: &str = "create table t (n int); insert into t values (42)";

const PICTURE: &str = "a picture";

/// A file of the examples.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    path.to_str().expect("the path is text").to_owned()
}

/// The words that have PostgreSQL's own client say something to the server in its container.
const PSQL: [&str; 6] = ["psql", "--username", "postgres", "-q", "-A", "-t"];

/// A Compose file of the examples on a host.
struct Project {
    docker: Docker,
    file: String,
}

impl Project {
    fn of(host: &Host, file: &str, environment: &[(&str, &str)]) -> Self {
        let clients = host.lab().folder().join("clients");
        let plugin = clients.join("docker-compose");
        let missing = std::fs::read_to_string(clients.join("unavailable")).unwrap_or_default();
        assert!(plugin.exists(), "no Docker Compose: make test T=engine fetches it: {missing}");
        host.docker().add_plugin(&plugin);
        Self { docker: host.docker().with(environment), file: example(file) }
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["compose", "--file", &self.file], words].concat()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        self.docker.ok(&self.words(words))
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        self.docker.refused(&self.words(words))
    }

    fn sql(&self, sql: &str) -> Output {
        let exec = ["exec", "--no-TTY", "db"];
        self.docker.run(&self.words(&[&exec[..], &PSQL, &["-c", sql]].concat()))
    }
}

/// A failed test leaves no network: its bridge lies in the network of this machine.
impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.docker.run(&self.words(&["down", "--timeout", "1"]));
        }
    }
}

/// Waits until a server answers, and has it say something.
#[track_caller]
fn sql(server: impl Fn(&str) -> Output, sql: &str) -> String {
    assert!(within(SOON, || server("select 1").status.success()), "{}", text(&server("select 1")));
    let output = server(sql);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// One schedule, as `docker ceph schedule ls` tells it.
#[track_caller]
fn schedule(host: &Host, volume: &str) -> String {
    let answer: Value =
        serde_json::from_str(&host.tool(&["--json", "schedule", "ls"])).expect("JSON");
    let all = answer["schedules"].as_array().expect("a list");
    let found = all.iter().find(|of| of["volume"] == volume);
    found.unwrap_or_else(|| panic!("no schedule of {volume}: {answer}"))["schedule"].to_string()
}

/// The hook of `dist/hooks` for PostgreSQL, as the example says. The engine's client is not in a
/// hook's `PATH` here.
fn place_hook(host: &Host, hooks: &Path) {
    let client = host.lab().folder().join("engines").join(NEWEST).join("usr/bin");
    let ready_made = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/hooks/postgresql");
    let script = format!("PATH={}:$PATH exec {}", client.display(), ready_made.display());
    super::snapshots::hook(hooks, "pre-snapshot/postgresql", &script);
}

#[test]
fn compose_moves_a_database_to_another_host_with_its_rows_and_snapshots() {
    on_two(|one, other| {
        let folder = tempfile::tempdir().expect("a folder");
        place_hook(one, folder.path());
        let socket = one.engine_socket();
        let [hooks, socket] = [folder.path(), &socket].map(|path| path.to_str().expect("text"));
        one.daemon(&[&EAGER[..], &["--hooks-folder", hooks, "--engine-socket", socket]].concat());
        one.wipe(&["pgdata"]);
        one.load_image("postgres:16");
        other.load_image("postgres:16");
        let here = Project::of(one, "postgres.yaml", &[("DB_PASSWORD", "a secret")]);
        here.ok(&["up", "--detach"]);
        sql(|text| here.sql(text), TABLE);
        assert_eq!(schedule(one, "pgdata"), "\"0 */6 * * *\"");
        assert!(one.stored().contains(&"pgdata".to_owned()), "{:?}", one.stored());
        let before = one.log().len();
        one.tool(&["schedule", "run", "pgdata"]);
        let hooked = "postgres-db-1: PostgreSQL made a checkpoint";
        assert!(one.log()[before..].contains(hooked), "no hook ran");
        let said = one.tool(&["snapshot", "ls", "pgdata"]);
        assert!(said.contains("application"), "{said}");

        let said = here.refused(&["down", "--volumes"]);
        assert!(said.contains("volume is protected"), "{said}");
        here.ok(&["up", "--detach"]);
        assert_eq!(sql(|text| here.sql(text), "select n from t"), "42");
        here.ok(&["down"]);
        let there = Project::of(other, "postgres.yaml", &[("DB_PASSWORD", "never read")]);
        there.ok(&["up", "--detach"]);
        assert_eq!(sql(|text| there.sql(text), "select n from t"), "42");
        there.ok(&["down"]);
        other.assert_released();
        other.wipe(&["pgdata"]);
        assert!(!one.stored().contains(&"pgdata".to_owned()), "{:?}", one.stored());
    });
}

/// The words of curl, for so many seconds at most; the status and what it prints.
fn curl(words: &[&str]) -> (String, String) {
    let status = "\n%{http_code}";
    let mut command = timed(20, "curl");
    command.args(["--silent", "--show-error", "--write-out", status]).args(words);
    let said = text(&run(&mut command));
    let (body, status) = said.rsplit_once('\n').unwrap_or_default();
    (status.to_owned(), body.trim_end().to_owned())
}

/// Uploads a picture, as the example says; the status.
fn put(port: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), PICTURE).expect("written");
    let path = file.path().to_str().expect("text");
    curl(&["--upload-file", path, &format!("http://127.0.0.1:{port}/pets/cat.jpg")]).0
}

fn get(port: &str, path: &str) -> (String, String) {
    curl(&[&format!("http://127.0.0.1:{port}/{path}")])
}

#[track_caller]
fn assert_shown(project: &Project, port: &str) {
    let shown = || get(port, "pets/cat.jpg") == ("200".to_owned(), PICTURE.to_owned());
    assert!(within(SOON, shown), "{}", project.ok(&["logs"]));
}

#[test]
fn compose_runs_two_services_on_shared_uploads_one_of_which_cannot_write() {
    on_two(|one, other| {
        one.wipe(&["uploads"]);
        let [upload, web, elsewhere] = [(); 3].map(|()| free_port().to_string());
        for host in [&*one, &*other] {
            host.load_image("nginx:1");
        }
        let ports = [("UPLOAD_PORT", &*upload), ("WEB_PORT", &*web)];
        let here = Project::of(one, "uploads.yaml", &ports);
        here.ok(&["up", "--detach"]);
        assert!(within(SOON, || put(&upload) == "201"), "{}", here.ok(&["logs"]));
        assert_shown(&here, &web);
        assert_eq!(put(&web), "405", "by HTTP");
        let said = here.refused(&["exec", "--no-TTY", "web", "touch", "/srv/uploads/x"]);
        assert!(said.contains("Read-only file system"), "{said}");
        assert_eq!(get(&web, ".incoming/").0, "403");
        assert_eq!(schedule(one, "uploads"), "\"@daily\"");
        let listed = one.tool(&["ls"]);
        assert!(listed.contains("cephfs/docker/uploads"), "{listed}");

        // On another host at the same time, and after both are gone.
        let there = Project::of(other, "uploads.yaml", &[("WEB_PORT", &elsewhere)]);
        there.ok(&["up", "--detach", "web"]);
        assert_shown(&there, &elsewhere);
        here.ok(&["down"]);
        there.ok(&["down"]);
        here.ok(&["up", "--detach"]);
        assert_shown(&here, &web);
        here.ok(&["down"]);
        one.assert_released();
        other.assert_released();
        one.wipe(&["uploads"]);
    });
}

#[test]
fn compose_collects_the_logs_of_two_hosts_for_one_reader() {
    on_two(|one, other| {
        one.wipe(&["logs"]);
        let here = Project::of(one, "logs.yaml", &[]);
        let there = Project::of(other, "logs.yaml", &[]);
        here.ok(&["up", "--detach", "app"]);
        there.ok(&["up", "--detach"]);
        let names = |host: &Host| {
            let ids = host.docker().ok(&["ps", "--quiet", "--filter", "name=logs-app"]);
            ids.lines().map(|id| format!("{id}.log")).collect::<Vec<_>>()
        };
        let writers = [names(one), names(other)].concat();
        assert_eq!(writers.len(), 6, "{writers:?}");
        let reader = || there.ok(&["logs", "reader"]);
        let seen = || writers.iter().all(|name| reader().contains(name.as_str()));
        assert!(within(SOON, seen), "{writers:?}: {}", reader());
        let options = one.docker().inspect("logs")["Status"]["options"].clone();
        assert_eq!(options["keep-files"], "7776000s", "90 days: {options}");
        here.ok(&["down", "--timeout", "1"]);
        there.ok(&["down", "--timeout", "1"]);
        one.assert_released();
        other.assert_released();
        one.wipe(&["logs"]);
    });
}

/// The stack in a Swarm of one node, on one host and then on another: two nodes on this machine have one
/// network, in which an overlay can be made only once. How a Swarm moves a task is in `engine::swarm`.
#[test]
fn swarm_runs_the_stack_and_again_on_another_node_with_its_rows() {
    const VOLUMES: [&str; 2] = ["shop_pgdata", "shop_logs"];
    let bridge = Bridge::watched();
    on_two(|one, other| {
        one.wipe(&VOLUMES);
        let found = [&mut *one, other].map(|host| {
            host.start_engine(&OFFLINE);
            host.load_image("postgres:16");
            let stack = Stack::deployed(host.docker());
            let first = stack.sql("create table if not exists t (n int); select count(*) from t");
            stack.sql("insert into t values (42)");
            assert_eq!(schedule(host, "shop_pgdata"), "\"0 */6 * * *\"");
            let logs = ["-v", "shop_logs:/logs:ro"];
            let named = |slot: &str| host.docker().script(&logs, "ls /logs").contains(slot);
            let tasks = [1, 2].map(|slot| format!("{}-{slot}.log", host.name()));
            assert!(within(SOON, || tasks.iter().all(|task| named(task))), "no {tasks:?}");
            stack.removed();
            host.assert_released();
            first
        });
        assert_eq!(found, ["0", "1"], "rows before");
        one.wipe(&VOLUMES);
    });
    drop(bridge);
}

/// The stack of the example in a Swarm of one node.
struct Stack<'a> {
    docker: &'a Docker,
}

impl<'a> Stack<'a> {
    fn deployed(docker: &'a Docker) -> Self {
        docker.ok(&["volume", "ls"]);
        let place = ["--advertise-addr", "127.0.0.11", "--listen-addr", "127.0.0.11:2377"];
        docker.ok(&[&["swarm", "init"], &place[..]].concat());
        let secret = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(secret.path(), "a secret").expect("written");
        docker.ok(&["secret", "create", "db_password", secret.path().to_str().expect("text")]);
        docker.ok(&["stack", "deploy", "--compose-file", &example("swarm.yaml"), "shop"]);
        Self { docker }
    }

    fn container(&self, service: &str) -> String {
        let filter = format!("label=com.docker.swarm.service.name=shop_{service}");
        self.docker.ok(&["ps", "--quiet", "--filter", &filter])
    }

    #[track_caller]
    fn sql(&self, text: &str) -> String {
        let says = |text: &str| {
            let container = self.container("db");
            self.docker.run(&[&["exec", &container], &PSQL[..], &["-c", text]].concat())
        };
        sql(says, text)
    }

    fn removed(self) {
        self.docker.ok(&["stack", "rm", "shop"]);
        let left = || self.docker.ok(&["ps", "--quiet"]);
        assert!(within(SOON, || left().is_empty()), "{} are left", left());
        self.docker.ok(&["secret", "rm", "db_password"]);
        leave(self.docker);
    }
}

/// A script of the examples in a host, with its driver.
#[track_caller]
fn script(host: &Host, name: &str, words: &[&str]) -> String {
    let output = host.inside(60, &[&[&*example(name)], words].concat());
    assert!(output.status.success(), "{name}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_speaks_the_volume_protocol_and_the_admin_api() {
    on_newest(|host| {
        let volume = host.fresh("curl");
        let said = script(host, "curl/volume-protocol.sh", &[&volume]);
        for part in [r#"{"Implements":["VolumeDriver"]}"#, r#""Scope":"global""#] {
            assert!(said.contains(part), "{said}");
        }
        let mountpoint = host.ceph_folder().join("volumes").join(&volume).join("_data");
        let answer = format!(r#"{{"Mountpoint":"{}","Err":""}}"#, mountpoint.display());
        assert_eq!(said.matches(&answer).count(), 2, "Mount and Path: {said}");
        assert!(said.contains(r#""state":"mounted""#), "{said}");
        assert!(!host.stored().contains(&volume), "{said}");

        let volume = host.volume(&["snapshot-schedule=@daily"]);
        let said = script(host, "curl/admin-api.sh", &[&volume]);
        for part in [
            &format!("{volume}\tready\t"),
            "\"consistency\": \"application\"",
            "\nby-curl\n",
            "@daily",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let none = host.tool(&["snapshot", "ls", &volume]);
        assert!(!none.contains("by-curl"), "{none}");
        // A failure is one, and says why.
        let path = example("curl/admin-api.sh");
        let output = host.inside(60, &[&path, "nobody-has-this"]);
        assert!(!output.status.success(), "{output:?}");
        assert!(text(&output).contains("no such volume"), "{output:?}");
    });
}

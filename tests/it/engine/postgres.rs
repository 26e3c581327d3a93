//! PostgreSQL on a volume: whatever is killed, every committed row is there.

use std::time::Duration;

use crate::support::daemon::within;
use crate::support::host::{Docker, on_newest, text};

/// Its start, the making of the database and the recovery included, on an emulated processor.
const READY: Duration = Duration::from_secs(300);

/// Its table is made by this, with a first row.
pub(crate) const TABLE: &str =
    "create table rows (n bigint primary key, t text); insert into rows values (1, md5('1'))";

/// A server on a volume, which answers when this returns.
#[track_caller]
pub(crate) fn start(docker: &Docker, container: &str, volume: &str) {
    let mount = format!("{volume}:/var/lib/postgresql");
    let run = ["run", "--detach", "--network", "none", "--name", container, "-v", &mount];
    docker.ok(&[&run[..], &["postgres"]].concat());
    await_ready(docker, container);
}

#[track_caller]
fn await_ready(docker: &Docker, container: &str) {
    // Its log costs an emulated host a fraction of what a client does.
    let says = || docker.run(&["logs", "--tail", "5", container]);
    let ready = || {
        text(&says()).contains("ready to accept connections")
            && docker.run(&psql(container, "select 1")).status.success()
    };
    assert!(within(READY, ready), "{}", docker.ok(&["logs", container]));
}

/// The words that ask the server something.
pub(crate) fn psql<'a>(container: &'a str, sql: &'a str) -> [&'a str; 13] {
    [
        "exec", "--user", "postgres", container, "psql", "-h", "/tmp", "-q", "-A", "-t", "-c", sql,
        "postgres",
    ]
}

/// How many rows there are, from 1 on and each of them whole.
#[track_caller]
pub(crate) fn count(docker: &Docker, container: &str) -> u64 {
    let sql = "select case when count(*) = count(distinct n) and bool_and(t = md5(n::text)) \
               then count(*) else -1 end from rows";
    docker.ok(&psql(container, sql)).parse().expect("every row is whole")
}

/// Commits rows, one transaction each, until the server, the host or whatever is killed by `kill`;
/// how many were committed.
#[track_caller]
pub(crate) fn insert_until(docker: &Docker, container: &str, kill: impl FnOnce()) -> u64 {
    let before = count(docker, container);
    let script = format!(
        "n={before}; while :; do n=$((n + 1)); \
           echo \"insert into rows values ($n, md5('$n')) returning n;\"; \
         done | psql -h /tmp -q -A -t -v ON_ERROR_STOP=1 postgres"
    );
    let printed = tempfile::NamedTempFile::new().expect("a file");
    let output = printed.reopen().expect("the file is there");
    let words = ["exec", "--user", "postgres", container, "sh", "-c", &script];
    let mut writer = docker.command(&words).stdout(output).spawn().expect("docker is there");
    let committed = || {
        let text = std::fs::read_to_string(printed.path()).expect("the file is there");
        text.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(before)
    };
    assert!(within(READY, || committed() >= before + 10), "{} rows", committed());
    kill();
    // A host without power does not tell its client.
    writer.kill().ok();
    writer.wait().expect("a child of ours");
    committed()
}

#[test]
fn postgresql_comes_back_with_every_committed_row() {
    on_newest(|host| {
        host.load_image("postgres");
        let docker = host.docker();
        let volume = host.volume(&["size=320M", "on-remove=delete"]);
        let (first, second) = (host.fresh("pg"), host.fresh("pg"));
        start(docker, &first, &volume);
        docker.ok(&psql(&first, TABLE));
        let bulk = "insert into rows select n, md5(n::text) from generate_series(2, 20000) as n";
        docker.ok(&psql(&first, bulk));
        let kill = || drop(docker.ok(&["kill", "--signal", "KILL", &first]));
        let committed = insert_until(docker, &first, kill);
        host.assert_released();
        docker.ok(&["start", &first]);
        await_ready(docker, &first);
        assert!(count(docker, &first) >= committed, "{} of {committed}", count(docker, &first));
        let committed = insert_until(docker, &first, kill);
        docker.ok(&["rm", "--force", &first]);
        host.assert_released();
        start(docker, &second, &volume);
        assert!(count(docker, &second) >= committed, "{} of {committed}", count(docker, &second));
        docker.ok(&["rm", "--force", &second]);
    });
}

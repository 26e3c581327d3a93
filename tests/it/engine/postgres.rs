//! PostgreSQL on a volume: whatever is killed, every committed row is there.

use std::time::Duration;

use crate::support::daemon::within;
use crate::support::host::{Host, on_newest};

/// Its start, the making of the database and the recovery included.
const READY: Duration = Duration::from_secs(60);

fn start(host: &Host, container: &str, volume: &str) {
    let mount = format!("{volume}:/var/lib/postgresql");
    let run = ["run", "--detach", "--network", "none", "--name", container, "-v", &mount];
    host.docker().ok(&[&run[..], &["postgres"]].concat());
    await_ready(host, container);
}

fn await_ready(host: &Host, container: &str) {
    let ready = || host.docker().run(&psql(container, "select 1")).status.success();
    assert!(within(READY, ready), "{}", host.docker().ok(&["logs", container]));
}

fn psql<'a>(container: &'a str, sql: &'a str) -> [&'a str; 13] {
    [
        "exec", "--user", "postgres", container, "psql", "-h", "/tmp", "-q", "-A", "-t", "-c", sql,
        "postgres",
    ]
}

fn count(host: &Host, container: &str) -> u64 {
    let sql = "select case when count(*) = count(distinct n) and bool_and(t = md5(n::text)) \
               then count(*) else -1 end from rows";
    host.docker().ok(&psql(container, sql)).parse().expect("every row is whole")
}

/// Commits rows, one transaction each, until the server is killed; how many were committed.
fn insert_until_killed(host: &Host, container: &str) -> u64 {
    let before = count(host, container);
    let script = format!(
        "n={before}; while psql -h /tmp -q -A -t -c \
         \"insert into rows select n, md5(n::text) from (select $n + 1 as n) as x\" postgres \
         > /dev/null 2>&1; do n=$((n + 1)); echo $n; done"
    );
    let (docker, name) = (host.docker().clone(), container.to_owned());
    let writer = std::thread::spawn(move || {
        docker.run(&["exec", "--user", "postgres", &name, "sh", "-c", &script])
    });
    assert!(within(READY, || count(host, container) >= before + 10));
    host.docker().ok(&["kill", "--signal", "KILL", container]);
    let output = writer.join().expect("no panic");
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.lines().filter_map(|line| line.parse().ok()).max().expect("some were committed")
}

#[test]
fn postgresql_comes_back_with_every_committed_row() {
    on_newest(|host| {
        host.load_image("postgres");
        let volume = host.volume(&["size=320M", "on-remove=delete"]);
        let (first, second) = (host.fresh("pg"), host.fresh("pg"));
        start(host, &first, &volume);
        host.docker().ok(&psql(&first, "create table rows (n bigint primary key, t text)"));
        let bulk = "insert into rows select n, md5(n::text) from generate_series(1, 20000) as n";
        host.docker().ok(&psql(&first, bulk));
        let committed = insert_until_killed(host, &first);
        host.assert_released();
        host.docker().ok(&["start", &first]);
        await_ready(host, &first);
        assert!(count(host, &first) >= committed, "{} of {committed}", count(host, &first));
        let committed = insert_until_killed(host, &first);
        host.docker().ok(&["rm", "--force", &first]);
        host.assert_released();
        start(host, &second, &volume);
        assert!(count(host, &second) >= committed, "{} of {committed}", count(host, &second));
        host.docker().ok(&["rm", "--force", &second]);
    });
}

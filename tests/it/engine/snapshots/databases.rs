//! Databases that are written all the time and snapshotted by a schedule, with the hooks for them:
//! what is started from such a snapshot has every write that was acknowledged before the hooks had
//! run, and finds nothing to complain of.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{client, hook, listed};
use crate::engine::SOON;
use crate::support::daemon::{within, within_by};
use crate::support::host::{Docker, Host, on_newest, text};
use crate::support::repeats;

/// A start with recovery, while another database is under load.
const READY: Duration = Duration::from_secs(90);

/// The time between two snapshots.
const EVERY: Duration = Duration::from_secs(5);

/// The median of what writers may stand still for.
const MEDIAN: u64 = 1500;

/// A database, and how it is used. Scripts run in its container.
struct Database {
    /// Its image, and the hook for it.
    image: &'static str,
    /// Where its volume is mounted.
    place: &'static str,
    size: &'static str,
    /// Succeeds once it answers.
    ready: &'static str,
    prepare: &'static str,
    /// Writes numbers from 1 on, one after the other, and prints each once it is acknowledged.
    load: &'static str,
    /// Prints up to which number it has all of them; last of all.
    check: &'static str,
    /// What the hook says of a container.
    hooked: &'static str,
    /// What its log says once it has taken up what was running when the snapshot was made.
    recovered: &'static [&'static str],
    /// What its log says of damage.
    damage: &'static [&'static str],
}

const POSTGRESQL: Database = Database {
    image: "postgres",
    place: "/var/lib/postgresql",
    size: "size=400M",
    ready: "psql -h /tmp -U postgres -qAtc 'select 1'",
    prepare: "psql -h /tmp -U postgres -q -v ON_ERROR_STOP=1 -c 'create extension amcheck' \
              -c 'create table rows (n bigint primary key, t text)'",
    load: "n=0; while :; do n=$((n + 1)); \
             echo \"insert into rows values ($n, md5('$n')) returning n;\"; \
           done | psql -h /tmp -U postgres -q -A -t -v ON_ERROR_STOP=1",
    check: "psql -h /tmp -U postgres -q -A -t -v ON_ERROR_STOP=1 \
            -c \"select bt_index_check('rows_pkey', true)\" \
            -c \"select case when count(*) = max(n) and min(n) = 1 and bool_and(t = md5(n::text)) \
                 then count(*) else -1 end from rows\"",
    hooked: "PostgreSQL made a checkpoint",
    recovered: &["database system was interrupted", "redo done", "ready to accept connections"],
    damage: &["PANIC", "corrupt", "invalid page", "could not"],
};

const REDIS: Database = Database {
    image: "redis",
    place: "/data",
    size: "size=200M",
    ready: "[ \"$(redis-cli ping)\" = PONG ]",
    prepare: "redis-cli config get appendfsync | grep everysec",
    load: "n=0; while :; do n=$((n + 1)); echo \"RPUSH log $n\"; \
           [ $((n % 100)) != 0 ] || sleep 0.05; done | redis-cli",
    check: "redis-check-aof /data/appendonlydir/appendonly.aof.manifest > /tmp/said || \
              { cat /tmp/said; exit 1; }; \
            redis-cli lrange log 0 -1 | awk '$1 != NR { print NR \" is \" $1; bad = 1; exit } \
              END { if (!bad) print NR }'",
    hooked: "Redis: the append-only file is flushed",
    recovered: &["DB loaded from incr file", "Ready to accept connections"],
    damage: &["Bad file format", "Unexpected end of file", "runcat", "hort read"],
};

/// How many snapshots of each are made.
fn count() -> usize {
    if repeats() == 1 { 2 } else { 50 }
}

impl Database {
    /// Starts it on a volume, with the folder at `/noted`, and waits until it answers.
    #[track_caller]
    fn start(&self, docker: &Docker, container: &str, volume: &str, noted: &Path) {
        let data = format!("{volume}:{}", self.place);
        let noted = format!("{}:/noted", noted.display());
        let run = ["run", "--detach", "--network", "none", "--name", container];
        docker.ok(&[&run[..], &["-v", &data, "-v", &noted, self.image]].concat());
        let ready = || docker.run(&["exec", container, "sh", "-c", self.ready]).status.success();
        let ready = within_by(READY, Duration::from_millis(200), ready);
        assert!(ready, "{}", docker.ok(&["logs", container]));
    }

    /// Has the schedule make snapshots under load, and leaves the volume unused; all of them, each
    /// with what was acknowledged when the hooks had run.
    fn snapshots_under_load(&self, host: &Host, noted: &Path) -> (String, Vec<(Value, u64)>) {
        let docker = host.docker();
        let every = format!("snapshot-schedule=@every {}s", EVERY.as_secs());
        let (volume, container) = (host.volume(&[self.size, &every]), host.fresh(self.image));
        host.tool(&["schedule", "pause", &volume]);
        self.start(docker, &container, &volume, noted);
        docker.exec(&container, self.prepare);
        let load = format!("{{ {}; }} > /noted/{volume}", self.load);
        docker.ok(&["exec", "--detach", &container, "sh", "-c", &load]);
        let acknowledged = || last_number(&noted.join(&volume));
        assert!(within(SOON, || acknowledged() > 100), "{} writes", acknowledged());

        host.tool(&["schedule", "resume", &volume]);
        let made = || listed(host, &volume).iter().filter(|of| of["whole"] == true).count();
        let limit = READY + EVERY * 2 * u32::try_from(count()).expect("few");
        let all = within_by(limit, Duration::from_millis(500), || made() >= count());
        assert!(all, "{} snapshots\n{}", made(), host.log());
        host.tool(&["schedule", "pause", &volume]);
        let before = acknowledged();
        assert!(within(SOON, || acknowledged() > before), "it is not written any more");
        docker.ok(&["rm", "--force", &container]);
        let says = format!("{container}: {}", self.hooked);
        assert!(host.log().matches(&says).count() >= count(), "the hook did not run");
        println!("{}: {} writes were acknowledged", self.image, acknowledged());
        let noted = |of: Value| {
            let name = of["name"].as_str().expect("a name");
            let acknowledged = last_number(&noted.join(format!("{volume}@{name}")));
            (of, acknowledged)
        };
        let made = listed(host, &volume).into_iter().filter(|of| of["whole"] == true);
        let made = made.map(noted).collect();
        (volume, made)
    }

    /// How many writes are in a snapshot, by a database that is started on a clone of it.
    #[track_caller]
    fn in_snapshot(&self, host: &Host, volume: &str, snapshot: &str, noted: &Path) -> u64 {
        let docker = host.docker();
        let (clone, container) = (host.fresh("clone"), host.fresh(self.image));
        docker.create_volume(&clone, &[&format!("from={volume}@{snapshot}")]);
        self.start(docker, &container, &clone, noted);
        let said = docker.exec(&container, self.check);
        let log = text(&docker.run(&["logs", &container]));
        for words in self.recovered {
            assert!(log.contains(words), "{snapshot}: it does not say {words:?}:\n{log}");
        }
        for words in self.damage {
            assert!(!log.contains(words), "{snapshot}: it says {words:?}:\n{log}");
        }
        docker.ok(&["rm", "--force", &container]);
        host.tool(&["rm", "--policy", "delete", &clone]);
        let last = said.lines().last().unwrap_or_default();
        last.parse().unwrap_or_else(|_| panic!("{snapshot}: {said}"))
    }

    fn goes_through(&self, host: &Host, noted: &Path) {
        let (volume, snapshots) = self.snapshots_under_load(host, noted);
        let mut before = 0;
        for (snapshot, acknowledged) in &snapshots {
            assert_eq!(snapshot["consistency"], "application", "{snapshot}");
            let name = snapshot["name"].as_str().expect("a name");
            assert!(
                *acknowledged > before,
                "{name}: {acknowledged}, and {before} in the one before"
            );
            before = self.in_snapshot(host, &volume, name, noted);
            assert!(before >= *acknowledged, "{name}: {before}, and {acknowledged} acknowledged");
        }
        assert_stood_briefly(self.image, &snapshots);
        host.tool(&["rm", "--policy", "delete", &volume]);
    }
}

/// The last number in a file, one a line.
fn last_number(file: &Path) -> u64 {
    let lines = fs::read_to_string(file).unwrap_or_default();
    lines.lines().rev().find_map(|line| line.parse().ok()).unwrap_or_default()
}

#[track_caller]
fn assert_stood_briefly(what: &str, snapshots: &[(Value, u64)]) {
    let stood = |(of, _): &(Value, u64)| of["stood-still-ms"].as_u64().expect("a time");
    let mut stood: Vec<u64> = snapshots.iter().map(stood).collect();
    stood.sort_unstable();
    let (median, longest) = (stood[stood.len() / 2], stood[stood.len() - 1]);
    println!(
        "{what}: in {} snapshots writers stood still for {median} ms in the median, {longest} ms at most",
        stood.len()
    );
    assert!(median < MEDIAN, "{stood:?}");
}

/// The hooks for both, and after them one that notes what had been acknowledged by then.
fn place_hooks(host: &Host, hooks: &Path, noted: &Path) {
    let client = client(host);
    let client = client.parent().expect("it is in a folder");
    for name in ["postgresql", "redis"] {
        let ready_made = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/hooks").join(name);
        let script = format!("PATH={}:$PATH exec {}", client.display(), ready_made.display());
        hook(hooks, &format!("pre-snapshot/10-{name}"), &script);
    }
    let note = format!(
        "cd {}; tail -n 1 $DOCKER_CEPH_VOLUME > $DOCKER_CEPH_VOLUME@$DOCKER_CEPH_SNAPSHOT",
        noted.display()
    );
    hook(hooks, "pre-snapshot/20-note", &note);
}

#[test]
fn databases_under_load_lose_nothing_in_scheduled_snapshots() {
    on_newest(|host| {
        let folder = tempfile::tempdir().expect("a folder");
        let (hooks, noted) = (folder.path().join("hooks.d"), folder.path().join("noted"));
        fs::create_dir(&noted).expect("made");
        place_hooks(host, &hooks, &noted);
        let socket = host.engine_socket();
        let mut flags = vec!["--reconcile-interval", "1s", "--reference-grace", "60s"];
        flags.extend(["--hooks-folder", hooks.to_str().expect("text")]);
        flags.extend(["--engine-socket", socket.to_str().expect("text")]);
        host.daemon(&flags);
        let (host, noted) = (&*host, &noted);
        thread::scope(|scope| {
            for database in [&POSTGRESQL, &REDIS] {
                host.load_image(database.image);
                scope.spawn(move || database.goes_through(host, noted));
            }
        });
    });
}

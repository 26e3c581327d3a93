//! What five thousand schedules cost a daemon while nothing is due.

use std::fs;
use std::thread;
use std::time::Duration;

use docker_volume_ceph::catalog::CATALOG_OBJECT;
use docker_volume_ceph::ceph::{Objects, RadosCluster, Swap};
use docker_volume_ceph::volume::Location;
use serde_json::json;

use super::schedules::{create, idle_daemons};
use crate::ceph::Lab;
use crate::support::daemon::within;

const VOLUMES: usize = 5000;

/// How many of them are written at once.
const WRITERS: usize = 16;

/// How many reads of the catalog it would take to read all of them.
const PAGES: usize = 5;

/// How long the daemon is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Copies a volume's record for that many others. They are due on New Year's Day only.
fn fill(cluster: &RadosCluster, home: &Location, volume: &str) {
    let record = cluster.omap_get(home, CATALOG_OBJECT, volume).expect("read").expect("a record");
    let record = &record;
    thread::scope(|scope| {
        for part in 0..WRITERS {
            scope.spawn(move || {
                for number in (part..VOLUMES).step_by(WRITERS) {
                    let key = format!("many-{number}");
                    let set = cluster.omap_compare_and_set(
                        home,
                        CATALOG_OBJECT,
                        &key,
                        None,
                        Some(record),
                    );
                    assert_eq!(set, Ok(Swap::Swapped));
                }
            });
        }
    });
}

/// The processor time that a process has used, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is running");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

fn count(trace: &str, call: &str) -> usize {
    fs::read_to_string(trace).unwrap_or_default().lines().filter(|line| *line == call).count()
}

#[test]
fn five_thousand_schedules_cost_next_to_nothing_while_none_is_due() {
    let daemon = &mut idle_daemons(1)[0];
    let trace = daemon.folder().join("trace").display().to_string();
    daemon.set_env("DOCKER_CEPH_FAULT_TRACE", trace.clone());
    daemon.set_env("DOCKER_CEPH_RECONCILE_INTERVAL", "5s");
    daemon.start();
    create(daemon, "many", &json!({"size": "64M", "snapshot-schedule": "@yearly"}));
    let home = Location::new("rbd", daemon.home());
    fill(&Lab::get().admin(), &home, "many");
    let knows_all = || {
        let schedules = daemon.tool(&["schedule", "ls"]).expect("a list");
        schedules["schedules"].as_array().map_or(0, Vec::len) > VOLUMES
    };
    assert!(within(Duration::from_secs(60), knows_all), "{}", daemon.log());
    // Some rounds of its reconciler, which reads what has changed in the catalog.
    thread::sleep(Duration::from_secs(11));
    let before = (ticks(daemon.pid()), count(&trace, "cluster.omap_page"));
    thread::sleep(WATCHED);
    let used = ticks(daemon.pid()) - before.0;
    let pages = count(&trace, "cluster.omap_page") - before.1;
    println!("{VOLUMES} schedules, {WATCHED:?}: {used} ticks of 10 ms, {pages} pages of records");
    // A page at each round of the reconciler is that of another object, of the fences.
    assert!(pages < PAGES, "{pages} pages are read though nothing has changed");
    assert!(used <= 10, "{used} ticks of 10 ms in 10 s are more than 1 % of a core");
}

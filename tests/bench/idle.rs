//! What the daemon takes while nothing happens.

use std::fs;
use std::time::Duration;

use crate::daemon::Daemon;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(30);

pub(crate) fn report(driver: &Daemon) {
    print(driver, "idle, after its first calls");
}

pub(crate) fn print(driver: &Daemon, when: &str) {
    let pid = driver.pid();
    let before = ticks(pid);
    std::thread::sleep(WATCHED);
    let used = f64::from(ticks(pid) - before) / 100.0;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    println!(
        "daemon {when}: {:.1} MiB resident, {} threads, {used:.2} s of CPU in {} s",
        field("VmRSS:") as f64 / 1024.0,
        field("Threads:"),
        WATCHED.as_secs()
    );
}

/// User and system time in hundredths of a second.
fn ticks(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum()
}

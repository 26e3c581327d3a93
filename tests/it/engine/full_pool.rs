//! No room: in the pool of the data, and in the pool of the catalog.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{SOON, at_data};
use crate::support::daemon::{Lab, run, timed, within};
use crate::support::host::{Host, on_newest};

/// The cluster counts what is stored every few seconds.
const COUNTED: Duration = Duration::from_secs(60);

const MIB: u64 = 1 << 20;

/// A quota on a pool, lifted when this is dropped.
struct Quota<'a> {
    lab: &'a Lab,
    pool: &'static str,
}

impl<'a> Quota<'a> {
    fn of(lab: &'a Lab, pool: &'static str, bytes: u64) -> Self {
        set_quota(lab, pool, bytes);
        Self { lab, pool }
    }

    /// Waits until the cluster has noticed.
    fn await_full(&self) {
        let full = || detail(self.lab, self.pool).contains("full");
        assert!(within(COUNTED, full), "{}", detail(self.lab, self.pool));
    }
}

impl Drop for Quota<'_> {
    fn drop(&mut self) {
        set_quota(self.lab, self.pool, 0);
        let full = || detail(self.lab, self.pool).contains("full");
        within(COUNTED, || !full());
    }
}

fn set_quota(lab: &Lab, pool: &str, bytes: u64) {
    ceph(lab, &["osd", "pool", "set-quota", pool, "max_bytes", &bytes.to_string()]);
}

/// The pool's line of the map, with its flags.
fn detail(lab: &Lab, pool: &str) -> String {
    let text = ceph(lab, &["osd", "pool", "ls", "detail"]);
    let named = format!("'{pool}'");
    text.lines().find(|line| line.contains(&named)).unwrap_or_default().to_owned()
}

fn ceph(lab: &Lab, words: &[&str]) -> String {
    let mut command = timed(30, "ceph");
    command.env("CEPH_CONF", lab.conf()).args(words);
    let output = run(&mut command);
    assert!(output.status.success(), "ceph {words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("ceph prints text")
}

#[test]
fn a_container_waits_for_room_and_loses_nothing() {
    on_newest(|host| {
        let volume = host.volume(&["size=256M", "data-pool=data", "on-remove=delete"]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        let quota = Quota::of(host.lab(), "data", 24 * MIB);
        let fill = "cd /data; for i in $(seq 24); do \
                      dd if=/dev/urandom of=part$i bs=1M count=8 2>/dev/null || exit 1; \
                      sync part$i || exit 1; sha256sum part$i >> sums; sync sums; \
                    done; touch done";
        host.docker().ok(&["exec", "--detach", &container, "sh", "-c", fill]);
        quota.await_full();
        let parts = || host.docker().exec(&container, "wc -l < /data/sums; ls /data");
        assert!(!parts().contains("done"), "192 MiB in a pool of 24 MiB: {}", parts());
        let warned = || warnings(host, &volume).contains("pool data is full");
        assert!(within(SOON, warned), "{}", warnings(host, &volume));
        drop(quota);
        assert!(within(COUNTED, || parts().contains("done")), "{}", parts());
        assert_eq!(
            host.docker().exec(&container, "cd /data; sha256sum -c sums | grep -c OK"),
            "24"
        );
        host.docker().ok(&["stop", &container]);
        host.assert_released();
    });
}

fn warnings(host: &Host, volume: &str) -> String {
    host.docker().inspect(volume)["Status"]["warnings"].to_string()
}

#[test]
fn calls_say_by_their_deadline_that_there_is_no_room() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M"]);
        host.docker().script(at_data!(volume), "echo kept > /data/file; sync /data/file");
        let quota = Quota::of(host.lab(), "rbd", 1);
        quota.await_full();
        let fresh = host.fresh("v");
        let start = Instant::now();
        let body = json!({"Name": fresh, "Opts": {"size": "64M"}});
        let reply = host.call("Create", &body).expect("an answer");
        assert!(reply.error().contains("full"), "{reply:?}");
        assert!(start.elapsed() < Duration::from_secs(100), "{:?}", start.elapsed());
        let got = host.call("Get", &json!({"Name": volume})).expect("an answer");
        assert!(got.is_ok(), "{got:?}");
        drop(quota);
        let created = || host.call("Create", &body).is_ok_and(|reply| reply.is_ok());
        assert!(within(COUNTED, created));
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/file"), "kept");
    });
}

#[test]
fn a_volume_larger_than_what_is_free_is_allowed_and_warned_of() {
    on_newest(|host| {
        let volume = host.volume(&["size=500G"]);
        let warned = || warnings(host, &volume).contains("than what pool rbd has free");
        assert!(within(SOON, warned), "{}", warnings(host, &volume));
    });
}

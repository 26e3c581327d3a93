//! No room: in the pool of the data, and in the pool of the catalog.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::{SOON, at_data, recorded};
use crate::support::daemon::{Lab, within};
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
    lab.ceph(&["osd", "pool", "set-quota", pool, "max_bytes", &bytes.to_string()]);
}

/// The pool's line of the map, with its flags.
fn detail(lab: &Lab, pool: &str) -> String {
    let text = lab.ceph(&["osd", "pool", "ls", "detail"]);
    let named = format!("'{pool}'");
    text.lines().find(|line| line.contains(&named)).unwrap_or_default().to_owned()
}

/// Writes parts over and over, 48 MiB in all, and says which one is on the disk.
const FILL: &str = "cd /data; i=0; while [ ! -e stop ]; do i=$((i + 1)); n=$((i % 12)); \
     dd if=/dev/urandom of=part$n bs=1M count=4 conv=fsync 2>/dev/null || exit 8; \
     sha256sum part$n > sum$n || exit 9; sync sum$n || exit 10; echo $i; done";

#[test]
fn a_container_waits_for_room_and_loses_nothing() {
    on_newest(|host| {
        let volume = host.volume(&["size=256M", "data-pool=data", "on-remove=delete"]);
        let container = host.fresh("c");
        let quota = Quota::of(host.lab(), "data", 24 * MIB);
        host.docker().start(&container, at_data!(volume), FILL);
        quota.await_full();
        let written = || recorded(host.docker(), &container);
        // What was on its way when the OSD learned of it still comes.
        let stands = || {
            let before = written();
            !within(Duration::from_secs(2), || written() > before)
        };
        assert!(within(COUNTED, stands), "it goes on in a full pool: {}", written());
        let warned = || warnings(host, &volume).contains("pool data is full");
        assert!(within(SOON, warned), "{}", warnings(host, &volume));
        let before = written();
        drop(quota);
        assert!(within(COUNTED, || written() > before + 12), "it stands at {}", written());
        host.docker().exec(&container, "touch /data/stop");
        assert_eq!(host.docker().ok(&["wait", &container]), "0");
        let check = "cd /data; cat sum* | sha256sum -c | grep -c OK";
        assert_eq!(host.docker().script(at_data!(volume), check), "12");
    });
}

fn warnings(host: &Host, volume: &str) -> String {
    host.docker().inspect(volume)["Status"]["warnings"].to_string()
}

#[test]
fn calls_say_by_their_deadline_that_there_is_no_room() {
    on_newest(|host| {
        host.announce("the pool or the cluster is full");
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

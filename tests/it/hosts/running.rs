//! What may be restarted, upgraded or moved while a container writes to a kernel's device.

use std::time::{Duration, Instant};

use super::{address, is_fenced, take, try_mount, unmount, writing};
use crate::engine::{assert_recording, recorded};
use crate::support::host::IMAGE;
use crate::support::machine::{Machine, on_two};

#[test]
fn a_container_writes_on_through_restarts_of_everything_else_and_moves_in_order() {
    on_two(|one, other| {
        one.run(&live_restore(true));
        let (volume, writer) = writing(one);
        let fenced = address(one);
        // Asked to end, replaced by a build that came since, and killed.
        for replace in [Machine::upgrade_daemon, Machine::kill_daemon] {
            replace(one);
            assert_recording(one.docker(), &writer);
            one.start_daemon();
            assert_recording(one.docker(), &writer);
        }
        one.kill_engine();
        one.start_engine();
        assert_recording(one.docker(), &writer);
        one.docker().ok(&["stop", &writer]);
        let acknowledged = recorded(one.docker(), &writer);
        one.assert_released();
        take(other, &volume, acknowledged);
        unmount(other, &volume);
        assert!(!is_fenced(other, &fenced), "an orderly move fences nobody");
        one.run(&live_restore(false));
    });
}

/// The engine reads this file when it is told to, without a restart.
fn live_restore(on: bool) -> String {
    format!("echo '{{\"live-restore\": {on}}}' > /etc/docker/daemon.json; {RELOAD}")
}

const RELOAD: &str = "kill -HUP $(cut -d' ' -f1 /run/lab/dockerd)";

/// The page is there, as its unit has it.
fn assert_page(host: &Machine, volume: &str) {
    host.run("systemctl start docker-volume-ceph-ui.service");
    let page = host.run(
        "timeout 60 bash -c '
           until (exec 3<> /dev/tcp/127.0.0.1/9285) 2> /dev/null; do sleep 0.2; done
           exec 3<> /dev/tcp/127.0.0.1/9285
           printf \"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n\" >&3; cat <&3'",
    );
    assert!(page.contains(&format!("volume-{volume}")), "{page}");
    assert_eq!(host.run("ps -o user= -C docker-ceph-ui"), "nobody");
}

/// Containers end, then the driver gives up what is left, then the network goes.
#[test]
fn a_host_that_shuts_down_under_load_leaves_its_volume_free_and_whole() {
    on_two(|one, other| {
        one.power_off();
        one.boot_with_systemd();
        one.load_image(IMAGE);
        let (volume, writer) = writing(one);
        assert_page(one, &volume);
        // A mount that nobody will ever unmount: an engine that was killed leaves such.
        let left = one.volume(&[]);
        try_mount(one, &left).0.expect("mounted");
        let clients = address(one);
        let acknowledged = recorded(one.docker(), &writer);
        let start = Instant::now();
        one.shut_down();
        let took = start.elapsed();
        println!("off after {:.1} s", took.as_secs_f64());
        assert!(took < Duration::from_secs(90), "{took:?}");
        take(other, &volume, acknowledged);
        unmount(other, &volume);
        for client in clients.lines() {
            assert!(!is_fenced(other, client), "{client} had to be fenced");
        }
    });
}

//! Volumes that go from one host to another without the first one's doing.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine::{
    RECORDER, SOON, assert_recorded, assert_recording, at_data, has_failed, recorded,
};
use crate::support::daemon::{processes_naming, within};
use crate::support::host::{Host, for_each_held_kind, on_two};

for_each_held_kind!(
    a_host_that_stands_still_loses_its_volume_and_notices_when_it_goes_on,
    a_holder_that_lives_is_not_fenced_however_long_others_ask,
    a_volume_that_is_mounted_without_a_user_is_given_up_when_another_host_asks,
);

const FLAGS: [&str; 4] = ["--reconcile-interval", "1s", "--fence-after", "5s"];

/// Everything of a host that speaks to the cluster stands still, or goes on: the daemon, and the
/// processes behind its devices. The cluster sees no difference to a frozen host.
pub(super) fn freeze(host: &Host, processes: &[Pid], frozen: bool) {
    let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
    host.signal_daemon(signal);
    for process in processes {
        kill(*process, signal).expect("the process is there");
    }
}

/// The processes behind a host's volumes.
pub(super) fn servers(host: &Host) -> Vec<Pid> {
    let folder = host.ceph_folder();
    let lines = processes_naming(folder.to_str().expect("the path is text"));
    let ours = lines.iter().filter(|line| line.contains("rbd-fuse") || line.contains("ceph-fuse"));
    let number = |line: &String| line.split([' ', ':']).nth(1)?.parse().ok();
    ours.filter_map(number).map(Pid::from_raw).collect()
}

fn state(host: &Host, volume: &str) -> String {
    host.docker().inspect(volume)["Status"]["state"].to_string()
}

fn a_host_that_stands_still_loses_its_volume_and_notices_when_it_goes_on() {
    on_two(|one, other| {
        one.daemon(&FLAGS);
        other.daemon(&FLAGS);
        one.announce("volume was taken from this host");
        one.announce("volume is broken");
        let volume = one.volume(&[]);
        let writer = one.fresh("writer");
        one.docker().start(&writer, at_data!(volume), RECORDER);
        assert_recording(one.docker(), &writer);
        let processes = servers(one);
        assert!(!processes.is_empty(), "nothing serves the volume");

        freeze(one, &processes, true);
        let acknowledged = recorded(one.docker(), &writer);
        let start = Instant::now();
        assert_recorded(other.docker(), &volume, acknowledged);
        println!("taken over after {:.1} s, fence-after 5 s", start.elapsed().as_secs_f64());
        let reader = other.fresh("reader");
        other.docker().idle(&reader, at_data!(volume));
        let count = other.docker().exec(&reader, "wc -l < /data/log; touch /data/mine");

        freeze(one, &processes, false);
        let noticed = within(SOON, || state(one, &volume) == "\"broken\"");
        assert!(noticed, "{}", state(one, &volume));
        // The writer's IO fails rather than hangs.
        assert!(within(SOON, || has_failed(one.docker(), &writer)));
        assert_eq!(other.docker().exec(&reader, "wc -l < /data/log"), count, "a late write");

        one.docker().ok(&["rm", "-f", &writer]);
        one.assert_released();
        other.docker().ok(&["rm", "-f", &reader]);
        one.docker().script(at_data!(volume), "test -e /data/mine && rm /data/log");
    });
}

fn a_holder_that_lives_is_not_fenced_however_long_others_ask() {
    on_two(|one, other| {
        other.daemon(&["--reconcile-interval", "1s", "--fence-after", "5s", "--busy-wait", "9s"]);
        let volume = one.volume(&[]);
        let writer = one.fresh("writer");
        one.docker().start(&writer, at_data!(volume), RECORDER);
        assert_recording(one.docker(), &writer);
        let start = Instant::now();
        let said = other.docker().script_refused(at_data!(volume), "true");
        assert!(said.contains(&format!("in use on host {}", one.name())), "{said}");
        assert!(start.elapsed() > Duration::from_secs(8), "{:?}", start.elapsed());
        assert_recording(one.docker(), &writer);

        // Nor is it when an operator only asks for the volume.
        let said =
            String::from_utf8_lossy(&other.try_tool(&["release", &volume]).stderr).into_owned();
        assert!(said.contains("refused") && said.contains("--fence"), "{said}");
        assert_recording(one.docker(), &writer);

        one.announce("volume was taken from this host");
        one.announce("volume is broken");
        let said = other.tool(&["release", "--fence", &volume]);
        assert!(said.contains("taken by force from client"), "{said}");
        let acknowledged = recorded(one.docker(), &writer);
        assert!(within(SOON, || has_failed(one.docker(), &writer)));
        assert_recorded(other.docker(), &volume, acknowledged);
        one.docker().ok(&["rm", "-f", &writer]);
    });
}

fn a_volume_that_is_mounted_without_a_user_is_given_up_when_another_host_asks() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        let container = one.fresh("c");
        one.docker().idle(&container, at_data!(volume));
        let drained = one.try_tool(&["drain"]);
        assert_eq!(drained.status.code(), Some(1), "a container uses it: {drained:?}");
        one.docker().ok(&["rm", "-f", &container]);
        one.assert_released();
        assert_eq!(one.tool(&["drain"]), "");
        assert!(other.tool(&["release", &volume]).contains("nobody held it"));
    });
}

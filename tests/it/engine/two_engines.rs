//! Two hosts: two engines, two daemons, one cluster.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine::at_data;
use crate::support::daemon::Reply;
use crate::support::host::{Host, for_each_held_kind, for_each_kind, on_two};

for_each_held_kind!(
    a_volume_that_another_host_holds_is_refused_with_its_name,
    a_mount_waits_until_the_other_host_lets_go,
);

for_each_kind!(
    two_creates_of_one_name_with_the_same_options_make_one_volume,
    of_two_creates_of_one_name_with_other_options_one_says_so,
);

fn create_on_both(one: &Host, other: &Host, bodies: [Value; 2]) -> [Reply; 2] {
    let create = |host: &Host, body: &Value| host.call("Create", body).expect("an answer");
    thread::scope(|scope| {
        let first = scope.spawn(|| create(one, &bodies[0]));
        let second = scope.spawn(|| create(other, &bodies[1]));
        [first.join().expect("no panic"), second.join().expect("no panic")]
    })
}

fn two_creates_of_one_name_with_the_same_options_make_one_volume() {
    on_two(|one, other| {
        for _ in 0..4 {
            let name = one.fresh("both");
            let body = json!({"Name": name, "Opts": {"size": "32M"}});
            let replies = create_on_both(one, other, [body.clone(), body]);
            assert!(replies.iter().all(Reply::is_ok), "{replies:?}");
            assert_eq!(one.stored().iter().filter(|stored| **stored == name).count(), 1);
            one.docker().script(at_data!(name), "echo 1 > /data/file");
            assert_eq!(other.docker().script(at_data!(name), "cat /data/file"), "1");
        }
    });
}

fn of_two_creates_of_one_name_with_other_options_one_says_so() {
    on_two(|one, other| {
        for _ in 0..4 {
            let name = one.fresh("either");
            let body = |size| json!({"Name": name, "Opts": {"size": size}});
            let replies = create_on_both(one, other, [body("32M"), body("48M")]);
            let made: Vec<bool> = replies.iter().map(Reply::is_ok).collect();
            assert!(made == [true, false] || made == [false, true], "{replies:?}");
            let refused = replies.iter().find(|reply| !reply.is_ok()).expect("one of them");
            assert!(refused.error().contains("exists with other options"), "{refused:?}");
            let size = if made[0] { 32 << 20 } else { 48 << 20 };
            assert_eq!(other.docker().inspect(&name)["Status"]["size"], size);
        }
    });
}

fn a_volume_that_another_host_holds_is_refused_with_its_name() {
    on_two(|one, other| {
        other.daemon(&["--reconcile-interval", "1s", "--busy-wait", "3s"]);
        let volume = one.volume(&[]);
        let container = one.fresh("c");
        one.docker().idle(&container, at_data!(volume));
        one.docker().exec(&container, "echo from one > /data/file; sync /data/file");
        let start = Instant::now();
        let said = other.docker().script_refused(at_data!(volume), "cat /data/file");
        assert!(said.contains(&format!("in use on host {} since", one.name())), "{said}");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        other.assert_released();
        // Nor can it be removed from there.
        let said = other.docker().refused(&["volume", "rm", &volume]);
        assert!(said.contains(&format!("in use on host {}", one.name())), "{said}");
        let status = other.docker().inspect(&volume)["Status"].clone();
        assert_eq!(status["holder"]["host"], one.name(), "{status}");
        assert_eq!(status["holder"]["here"], false, "{status}");
        assert_eq!(one.docker().exec(&container, "cat /data/file"), "from one");
    });
}

fn a_mount_waits_until_the_other_host_lets_go() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        let container = one.fresh("c");
        one.docker().idle(&container, at_data!(volume));
        one.docker().exec(&container, "echo from one > /data/file");
        let before = other.log().len();
        let (docker, name) = (other.docker().clone(), volume.clone());
        let waiting = thread::spawn(move || docker.script(at_data!(name), "cat /data/file"));
        let asked = || other.log()[before..].contains(&volume);
        assert!(crate::support::daemon::within(super::SOON, asked));
        assert!(!waiting.is_finished());
        one.docker().ok(&["stop", &container]);
        assert_eq!(waiting.join().expect("the container ran"), "from one");
        one.assert_released();
    });
}

/// Of a volume that another engine has made an engine keeps the driver without the name, and asks
/// for "" when it starts.
#[test]
fn an_engine_starts_at_once_that_knows_a_volume_made_elsewhere() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        other.docker().script(at_data!(volume), "echo kept > /data/file");
        other.stop_engine();
        let before = other.log().len();
        let start = Instant::now();
        other.start_engine(&[]);
        println!("the engine started in {:.1} s", start.elapsed().as_secs_f64());
        let log = other.log();
        assert!(log[before..].contains("a name that no volume can have"), "it asked nothing");
        assert!(!log[before..].contains("closed without an answer"), "it had to ask again");
        assert_eq!(other.docker().inspect(&volume)["Driver"], "ceph");
        assert_eq!(other.docker().script(at_data!(volume), "cat /data/file"), "kept");
    });
}

#[test]
fn a_volume_goes_back_and_forth_with_its_data() {
    on_two(|one, other| {
        let volume = one.volume(&[]);
        for (round, host) in [&*one, &*other, &*one, &*other].into_iter().enumerate() {
            let script = format!("echo {round} >> /data/file; wc -l < /data/file");
            let count = host.docker().script(at_data!(volume), &script);
            assert_eq!(count, (round + 1).to_string());
        }
        assert_eq!(other.docker().script(at_data!(volume), "cat /data/file"), "0\n1\n2\n3");
    });
}

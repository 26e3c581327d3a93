//! Signs of life of who has an image open.

use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{Images, Liveness, Notified};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lab;
use super::lab::{eventually, new_image, writer};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_writer_answers_while_it_lives_and_is_silent_while_it_is_stopped() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "alive");
    assert_eq!(cluster.lock_owner(&image), Ok(None));
    assert_eq!(cluster.ask_watchers(&image, SECOND), Ok(Notified::default()));
    let process = writer(&lab, &image);
    let owner = || cluster.lock_owner(&image).expect("the lock");
    eventually("the lock is taken", Duration::from_secs(20), || owner().is_some());
    let owner = owner().expect("an owner");
    let watchers = cluster.watchers(&image).expect("watchers");
    let [watcher] = &watchers[..] else { panic!("one watcher, not {watchers:?}") };
    assert_eq!((owner.client, &owner.address), (watcher.client, &watcher.address));
    // The writer of `rbd bench` is the program that timeout(1) has started.
    let pid = child_of(process.0.id());
    let interval = cluster.interval(&image).expect("an interval");

    let asked = || cluster.ask_watchers(&image, SECOND).expect("a reply");
    let is_alive = |asked: &Notified| {
        asked.answers.iter().any(|a| (a.client, a.cookie) == (watcher.client, watcher.cookie))
    };
    let start = Instant::now();
    assert!(is_alive(&asked()), "a living writer answers");
    assert!(start.elapsed() < SECOND, "and at once: {:?}", start.elapsed());
    kill(pid, Signal::SIGSTOP).expect("stopped");
    let silent = asked();
    assert!(!is_alive(&silent), "a stopped writer answers: {silent:?}");
    assert!(silent.silent.contains(&(watcher.client, watcher.cookie)), "{silent:?}");
    kill(pid, Signal::SIGCONT).expect("it goes on");
    eventually("the writer answers again", Duration::from_secs(20), || is_alive(&asked()));
    assert_eq!(cluster.interval(&image), Ok(interval), "the same OSD served all the time");
    drop(process);
    // What an owner leaves is not taken for a sign of life.
    assert!(!is_alive(&asked()));
}

fn child_of(parent: u32) -> Pid {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(children).expect("children");
    Pid::from_raw(text.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a child"))
}

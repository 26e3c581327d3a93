//! Messages between the daemons.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{ClusterErrorKind, Hear, Messages, Notified};

use super::Lab;
use super::lab::{home, unique};

const WAIT: Duration = Duration::from_secs(5);

#[test]
fn who_watches_hears_and_answers_until_the_watch_ends() {
    let (cluster, sender) = (Lab::get().cluster(), Lab::get().cluster());
    let object = unique("host");
    let missing = sender.notify(&home(), &object, b"hello", WAIT).expect_err("no such object");
    assert_eq!(missing.kind, ClusterErrorKind::NotFound, "{missing}");

    let shout = |suffix: &'static str| -> Hear {
        Box::new(move |message| [message, suffix.as_bytes()].concat())
    };
    let first = cluster.watch(&home(), &object, shout("!")).expect("a watch");
    let second = cluster.watch(&home(), &object, shout("?")).expect("another");
    for message in ["hello", "", "a second time"] {
        let notified = sender.notify(&home(), &object, message.as_bytes(), WAIT).expect("sent");
        let mut answers: Vec<_> =
            notified.answers.iter().map(|a| String::from_utf8_lossy(&a.message)).collect();
        answers.sort();
        assert_eq!(answers, [format!("{message}!"), format!("{message}?")], "{notified:?}");
        assert_eq!(notified.silent, []);
    }
    first.check().expect("it stands");
    drop(first);
    let notified = sender.notify(&home(), &object, b"x", WAIT).expect("sent");
    assert_eq!(notified.answers.len(), 1, "{notified:?}");
    drop(second);
    let start = Instant::now();
    assert_eq!(sender.notify(&home(), &object, b"x", WAIT), Ok(Notified::default()));
    assert!(start.elapsed() < WAIT, "nobody is waited for");
}

#[test]
fn who_takes_too_long_is_named_and_holds_nobody_else_up() {
    let (cluster, sender) = (Lab::get().cluster(), Lab::get().cluster());
    let object = unique("host");
    let (go_on, wait) = mpsc::channel::<()>();
    let slow: Hear = Box::new(move |_| {
        let _ = wait.recv_timeout(Duration::from_secs(60));
        b"late".to_vec()
    });
    let _slow = cluster.watch(&home(), &object, slow).expect("a watch");
    let _quick = cluster.watch(&home(), &object, Box::new(|_| b"at once".to_vec()));
    let notified = sender.notify(&home(), &object, b"x", Duration::from_secs(1)).expect("sent");
    assert_eq!((notified.answers.len(), notified.silent.len()), (1, 1), "{notified:?}");
    assert_eq!(notified.answers[0].message, b"at once");
    drop(go_on);
    let notified = sender.notify(&home(), &object, b"x", WAIT).expect("sent");
    assert_eq!(notified.silent, [], "an answer that came late is no answer to another message");
}

//! Docker's calls through the socket.

use serde_json::{Value, json};

use crate::Times;
use crate::daemon::Daemon;

/// In the order in which they are printed.
const CALLS: [&str; 8] =
    ["create", "list", "get", "first mount", "unmount", "mount again", "unmount again", "remove"];

pub(crate) fn measure(driver: &Daemon, volumes: u32) -> Times {
    let mut times = Times::default();
    let names: Vec<String> = (0..volumes).map(|n| format!("bench{n}")).collect();
    let id = |name: &str| json!({"Name": name, "ID": "bench"});
    for name in &names {
        let body = json!({"Name": name, "Opts": {"size": "512M"}});
        times.take("create", || call(driver, "Create", &body));
    }
    for _ in &names {
        times.take("list", || call(driver, "List", &json!({})));
    }
    for name in &names {
        times.take("get", || call(driver, "Get", &json!({"Name": name})));
    }
    for (mount, unmount) in [("first mount", "unmount"), ("mount again", "unmount again")] {
        for name in &names {
            times.take(mount, || call(driver, "Mount", &id(name)));
        }
        for name in &names {
            times.take(unmount, || call(driver, "Unmount", &id(name)));
        }
    }
    for name in &names {
        times.take("remove", || call(driver, "Remove", &json!({"Name": name})));
    }
    times
}

/// A call of the volume protocol that has to succeed.
pub(crate) fn call(driver: &Daemon, verb: &str, body: &Value) -> Value {
    let reply = driver.call(&format!("VolumeDriver.{verb}"), body).expect("an answer");
    assert!(reply.is_ok(), "{verb} {body}: {}", reply.error());
    reply.json
}

pub(crate) fn report(ours: &Times, by_hand: &Times, volumes: u32) {
    println!("\ncontrol calls, {volumes} volumes of 512 MiB, medians in ms");
    println!("{:<15}{:>10}{:>10}{:>8}", "", "driver", "by hand", "ratio");
    for call in CALLS {
        let (ours, hand) = (ours.median(call), by_hand.median(call));
        let (Some(ours), Some(hand)) = (ours, hand) else { continue };
        println!("{call:<15}{ours:>10.1}{hand:>10.1}{:>8.1}", hand / ours);
    }
}

//! Docker's calls through the socket, beside the same work by hand.
//!
//! The two take turns, call by call, so that whatever else the machine does hits both. Both end
//! at the same point: an image is unmounted when another host could take it.

use serde_json::{Value, json};

use crate::Times;
use crate::by_hand::{Hand, wait_until_free};
use crate::daemon::{Daemon, Lab};

/// In the order in which they are printed.
const CALLS: [&str; 8] =
    ["create", "list", "get", "first mount", "unmount", "mount again", "unmount again", "remove"];

pub(crate) fn report(lab: &Lab, driver: &Daemon, volumes: u32) {
    let (mut ours, mut by_hand) = (Times::default(), Times::default());
    measure(&Hand::new(lab), driver, volumes, &mut ours, &mut by_hand);
    println!("\ncontrol calls, {volumes} volumes of 512 MiB, medians in ms");
    Times::compare(&CALLS, &ours, &by_hand);
}

fn measure(hand: &Hand<'_>, driver: &Daemon, volumes: u32, ours: &mut Times, by_hand: &mut Times) {
    let names: Vec<String> = (0..volumes).map(|n| format!("bench{n}")).collect();
    let image = |name: &str| format!("by-hand-{name}");
    let id = |name: &str| json!({"Name": name, "ID": "bench"});
    for name in &names {
        let body = json!({"Name": name, "Opts": {"size": "512M"}});
        ours.take("create", || call(driver, "Create", &body));
        by_hand.take("create", || hand.create(&image(name)));
    }
    for name in &names {
        ours.take("list", || call(driver, "List", &json!({})));
        by_hand.take("list", || hand.list());
        ours.take("get", || call(driver, "Get", &json!({"Name": name})));
        by_hand.take("get", || hand.get(&image(name)));
    }
    for (mount, unmount, format) in
        [("first mount", "unmount", true), ("mount again", "unmount again", false)]
    {
        let (mut attached, mut returned) = (Vec::new(), Times::default());
        for name in &names {
            ours.take(mount, || call(driver, "Mount", &id(name)));
            attached.push(by_hand.take(mount, || hand.mount(&image(name), format)));
        }
        for (name, attached) in names.iter().zip(attached) {
            ours.take(unmount, || call(driver, "Unmount", &id(name)));
            let process = attached.process();
            by_hand.take(unmount, || {
                returned.take("umount", || attached.unmount());
                wait_until_free(&process);
            });
        }
        let early = returned.median("umount").unwrap();
        println!("{unmount} by hand: umount returned after {early:.1} ms, the image not free yet");
    }
    for name in &names {
        ours.take("remove", || call(driver, "Remove", &json!({"Name": name})));
        by_hand.take("remove", || hand.remove(&image(name)));
    }
}

/// A call of the volume protocol that has to succeed.
pub(crate) fn call(driver: &Daemon, verb: &str, body: &Value) -> Value {
    let reply = driver.call(&format!("VolumeDriver.{verb}"), body).expect("an answer");
    assert!(reply.is_ok(), "{verb} {body}: {}", reply.error());
    reply.json
}

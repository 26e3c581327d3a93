//! The page for people, of a real daemon and in a real browser: what is to be seen, in light and dark,
//! on a desk and on a phone, and what becomes of it when something ends.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::lab::{Running, unique};
use super::snapshots::schedules::{create, idle_daemons};
use crate::support::browser::{Browser, Look};
use crate::support::daemon::{Daemon, processes_naming, within};
use crate::support::ui::Ui;

/// For what the daemon has to notice first, and the page to read.
const SOON: Duration = Duration::from_secs(40);

/// What the page is looked at with.
const LOOKS: [Look; 4] = [
    Look { width: 1200, height: 800, dark: false },
    Look { width: 1200, height: 800, dark: true },
    Look { width: 360, height: 800, dark: false },
    Look { width: 360, height: 800, dark: true },
];

/// What would change the window's title if it were taken for HTML.
const HOSTILE: &str = "<img/src=x/onerror=document.title='owned'>";

/// A daemon that is not started yet, and its page.
fn page() -> (Daemon, Ui) {
    let mut daemon = idle_daemons(1).remove(0);
    daemon.set_env("DOCKER_CEPH_RECONCILE_INTERVAL", "1s");
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-ceph"));
    command.arg("ui").arg("--socket").arg(daemon.folder().join("ceph.sock"));
    let ui = Ui::start(command.args(["--listen", "127.0.0.1:0"]));
    (daemon, ui)
}

fn mount(daemon: &Daemon, volume: &str) {
    let reply = daemon.call("VolumeDriver.Mount", &json!({"Name": volume, "ID": HOSTILE}));
    let reply = reply.expect("an answer");
    assert!(reply.is_ok(), "{reply:?}\n{}", daemon.log());
}

fn unmount(daemon: &Daemon, volume: &str) {
    let reply = daemon.call("VolumeDriver.Unmount", &json!({"Name": volume, "ID": HOSTILE}));
    let reply = reply.expect("an answer");
    assert!(reply.is_ok(), "{reply:?}\n{}", daemon.log());
}

/// A process that has a volume as a container would: at a path of its own, in a namespace of its own.
fn container_with(volume: &Path) -> Running {
    let script = "mount --bind \"$0\" /mnt && echo mounted && exec sleep 300";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(volume).stdout(Stdio::piped());
    let mut container = command.spawn().expect("unshare starts");
    let mut said = [0; 8];
    let output = container.stdout.as_mut().expect("its output");
    output.read_exact(&mut said).expect("it is mounted");
    Running(container)
}

/// The page as it is without waiting for its next reading.
fn read_anew(browser: &Browser) {
    browser.run("document.dispatchEvent(new Event('visibilitychange'))");
    std::thread::sleep(Duration::from_millis(300));
}

/// Nobody is kept out, and nothing stands outside the window.
fn assert_for_everybody(browser: &Browser, address: &str) {
    let mut grounds = Vec::new();
    for look in LOOKS {
        browser.open(address, look);
        let width = browser.run("return document.documentElement.scrollWidth");
        assert!(width.as_u64() <= Some(look.width.into()), "{width} of {look:?} at {address}");
        // Between them they have both widths and both sets of colours.
        if (look.width > 500) != look.dark {
            let barriers = browser.barriers();
            assert!(barriers.is_empty(), "{look:?} at {address}: {barriers:#?}");
        }
        grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
    }
    assert!(grounds[0] == grounds[2] && grounds[0] != grounds[1], "{grounds:?}");
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{address}: {complaints:?}");
}

/// The names in the table, in its order.
fn rows(browser: &Browser) -> Vec<String> {
    let names = "return [...document.querySelectorAll('tbody th a')].map((it) => it.innerText)";
    serde_json::from_value(browser.run(names)).expect("texts")
}

fn row(browser: &Browser, volume: &str) -> String {
    browser.text(&format!("[id='volume-{volume}']"))
}

#[test]
fn a_person_sees_what_there_is_and_what_needs_them_on_a_desk_and_on_a_phone() {
    let (mut daemon, ui) = page();
    daemon.start();
    let (browser, address) = (Browser::start(), format!("http://{}/", ui.address));
    let desk = LOOKS[0];
    browser.open(&address, desk);
    assert_eq!(browser.text("h1"), "All is well");
    assert!(browser.text("#volumes").contains("There are no volumes yet"));
    assert_for_everybody(&browser, &address);

    let [calm, full, lost] = ["calm", "full", "lost"].map(unique);
    let every =
        json!({"size": "64M", "snapshot-schedule": "@every 1h", "snapshot-keep": "latest=3"});
    create(&daemon, &calm, &every);
    let label = format!("why={HOSTILE}");
    daemon.tool(&["snapshot", "create", &calm, "first", "--label", &label]).expect("made");
    daemon.tool(&["snapshot", "create", &calm, "second"]).expect("made");
    daemon.tool(&["snapshot", "protect", &calm, "second"]).expect("protected");
    for volume in [&full, &lost] {
        create(&daemon, volume, &json!({"size": "64M"}));
        mount(&daemon, volume);
    }
    let before = fs::read_to_string(daemon.folder().join("log")).expect("a log").len();
    // What was read a moment before they were made counts for some seconds.
    let listed = || ui.get(&format!("/volumes/{calm}")).body.contains("first");
    assert!(within(SOON, listed), "{}", daemon.log());
    let log = fs::read_to_string(daemon.folder().join("log")).expect("a log")[before..].to_owned();
    let noise = |line: &&str| line.contains("request{") && !line.contains("DEBUG");
    assert_eq!(log.lines().find(noise), None, "reading is no event");

    fs::write(daemon.mount_root().join(&full).join("_data/file"), vec![1; 52 << 20]).expect("room");
    let container = container_with(&daemon.mount_root().join(&lost).join("_data"));
    let server = processes_naming(daemon.folder().to_str().expect("text"));
    let server = server.iter().find(|it| it.contains("rbd-fuse") && it.contains(&lost));
    let pid = server.and_then(|it| it.split([' ', ':']).nth(1)).expect("its rbd-fuse").to_owned();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().expect("kill").success());
    let seen = within(SOON, || {
        browser.open(&address, desk);
        browser.text("h1") == "1 problem, 1 warning"
    });
    assert!(seen, "{}\n{}", browser.text("main"), daemon.log());
    assert_eq!(rows(&browser), [&lost[..], &full, &calm]);
    assert!(row(&browser, &lost).contains("broken"), "{}", row(&browser, &lost));
    assert!(row(&browser, &full).contains("here, 1 mount"), "{}", row(&browser, &full));
    let calm_row = row(&browser, &calm);
    for said in ["not mounted", "never mounted", "2, newest", "next in"] {
        assert!(calm_row.contains(said), "{said}: {calm_row}");
    }
    let why = browser.text("#volumes");
    assert!(why.contains("% full") && why.contains(&format!("resize {full} SIZE")), "{why}");
    assert_for_everybody(&browser, &address);

    for volume in [&calm, &full] {
        assert_for_everybody(&browser, &format!("{address}volumes/{volume}"));
    }
    let mounts = browser.text("#now");
    assert!(mounts.contains(HOSTILE) && mounts.contains("ext4"), "{mounts}");
    browser.open(&format!("{address}volumes/{calm}"), desk);
    let snapshots = browser.text("#snapshots");
    for said in [&label[..], "protected", "@every 1h", "latest=3", "by the schedule"] {
        assert!(snapshots.contains(said), "{said}: {snapshots}");
    }
    let images = browser.run("return document.images.length + document.scripts.length");
    assert_eq!(images, 1, "an element that nobody made");
    assert!(browser.text("title").starts_with(&calm));
    drop(container);
    for volume in [&full, &lost] {
        unmount(&daemon, volume);
    }
}

#[test]
fn the_page_keeps_itself_new_and_says_when_it_cannot() {
    let (mut daemon, mut ui) = page();
    let (browser, address) = (Browser::start(), format!("http://{}/", ui.address));
    let says = |text: &str| {
        within(SOON, || {
            read_anew(&browser);
            browser.text("body").contains(text)
        })
    };
    let shown = |expected: &[&str]| {
        within(SOON, || {
            read_anew(&browser);
            rows(&browser) == expected
        })
    };
    let [one, other] = ["one", "other"].map(unique);
    browser.open(&address, LOOKS[0]);
    assert!(says("The daemon does not answer: no daemon listens"), "{}", browser.text("body"));
    assert!(says("Nothing is known of the volumes here"), "{}", browser.text("body"));
    daemon.start();
    create(&daemon, &one, &json!({"size": "64M"}));
    assert!(shown(&[&one]), "{}", browser.text("body"));
    assert!(says("1 of 1 check"), "{}", browser.text("body"));

    // What the reader has done to the page stays, and nothing is loaded again.
    browser.run("window.mark = 1; document.getElementById('all-checks').open = true");
    browser.keys("body", "\u{e004}");
    assert_eq!(browser.run("return document.activeElement.className"), "skip");
    browser.keys("#filter", "on");
    create(&daemon, &other, &json!({"size": "64M"}));
    browser.keys("#filter", "\u{e003}\u{e003}");
    assert!(shown(&[&one, &other]), "{}", browser.text("main"));
    browser.keys("#filter", "oth");
    assert!(shown(&[&other]), "{}", browser.text("main"));
    let kept = "return [window.mark, document.getElementById('all-checks').open, \
                document.activeElement.id, new URL(location.href).search]";
    assert_eq!(browser.run(kept), json!([1, true, "filter", "?q=oth"]));

    // What comes before what the reader looks at does not move it.
    browser.open(&address, Look { height: 250, ..LOOKS[2] });
    let place = "return document.getElementById('volume-NAME').getBoundingClientRect().top";
    let place = place.replace("NAME", &other);
    browser.run(&format!("document.getElementById('volume-{other}').scrollIntoView()"));
    let (top, scrolled) = (browser.run(&place), browser.run("return scrollY"));
    let before = unique("before");
    create(&daemon, &before, &json!({"size": "64M"}));
    assert!(shown(&[&before, &one, &other]), "{}", browser.text("body"));
    let moved = browser.run(&place).as_f64().expect("a number") - top.as_f64().expect("a number");
    assert!(moved.abs() < 2.0, "the page has moved by {moved}");
    assert!(
        browser.run("return scrollY").as_f64() > scrolled.as_f64(),
        "nothing was put before it"
    );

    browser.open(&format!("{address}?q=oth"), LOOKS[0]);
    daemon.kill();
    assert!(says("The daemon does not answer: no daemon listens"), "{}", browser.text("body"));
    assert_eq!(rows(&browser), [&other[..]], "what was read is still there");
    assert!(browser.run("return document.title").to_string().contains("No answer"));
    let barriers = browser.barriers();
    assert!(barriers.is_empty(), "{barriers:#?}");
    daemon.start();
    assert!(says("All is well"), "{}", browser.text("body"));
    assert!(!browser.text("body").contains("does not answer"));

    ui.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(ui.end().success());
    assert!(says("The page has lost its server"), "{}", browser.text("body"));
    assert_eq!(rows(&browser), [&other[..]]);
}

//! Connecting, failing to, and losing the connection.

use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{
    Access, ClusterError, ClusterErrorKind, Images, Monitor, Objects, RadosCluster, TimeLimits,
};

use super::Lab;
use super::lab::{home, own, unique};

const WRONG_KEY: &str = "AQAjV3ZoAAAAABAAc3RvcmFnZSBpcyBmdW4gISEhISE=";

fn with_key(lab: &Lab, folder: &tempfile::TempDir, key: &str) -> Access {
    let keyring = folder.path().join("keyring");
    std::fs::write(&keyring, format!("[client.docker]\n\tkey = {key}\n")).expect("written");
    Access { keyring: Some(keyring), ..lab.access("docker") }
}

fn refusal(access: Access) -> ClusterError {
    RadosCluster::new(access).status().expect_err("it cannot connect")
}

#[test]
fn settings_show_no_secret_and_connect_nowhere() {
    let cluster = RadosCluster::new(Access::new("/nonexistent/ceph.conf", "docker"));
    let shown = format!("{cluster:?}");
    assert!(shown.contains("/nonexistent/ceph.conf") && shown.contains("docker"), "{shown}");
    let error = cluster.status().expect_err("no such file");
    assert_eq!(error.kind, ClusterErrorKind::Invalid);
    assert!(error.to_string().contains("/nonexistent/ceph.conf"), "{error}");
}

#[test]
fn a_wrong_key_is_denied_and_not_repeated() {
    let (lab, folder) = (Lab::get(), tempfile::tempdir().expect("a folder"));
    for key in [WRONG_KEY, "not-base64", ""] {
        let error = refusal(with_key(&lab, &folder, key));
        assert_eq!(error.kind, ClusterErrorKind::Denied, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("client.docker"), "{text}");
        assert!(key.is_empty() || !text.contains(key), "{text}");
    }
    let stranger = Access { client_id: "stranger".to_owned(), ..lab.access("docker") };
    let error = refusal(stranger);
    assert_eq!(error.kind, ClusterErrorKind::Denied, "{error}");
    let keyring = Some(folder.path().join("missing"));
    let error = refusal(Access { keyring, ..lab.access("docker") });
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_monitor_that_is_not_there_is_unreachable_in_time() {
    let error = refusal(closed_port());
    assert_eq!((error.kind, error.errno), (ClusterErrorKind::Unreachable, 110));
    assert!(error.to_string().contains("no monitor answered within 1 s"), "{error}");
    assert!(error.may_pass());
}

fn closed_port() -> Access {
    let folder = tempfile::tempdir().expect("a folder");
    let conf = folder.keep().join("ceph.conf");
    let text = "[global]\nmon host = [v2:127.0.0.1:1/0]\nauth client required = none\n";
    std::fs::write(&conf, text).expect("written");
    let time_limits = TimeLimits { connect: Duration::from_millis(900), ..TimeLimits::default() };
    Access { time_limits, ..Access::new(conf, "docker") }
}

#[test]
fn callers_in_an_outage_share_one_attempt() {
    let cluster = RadosCluster::new(closed_port());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| cluster.status().expect_err("unreachable"));
        }
    });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_thousand_failed_connects_leave_no_thread_and_no_memory_behind() {
    // A process of its own: the other tests' threads come and go.
    let program = std::env::current_exe().expect("this test binary");
    let name = "ceph::connection::failed_connects_in_a_process_of_their_own";
    let output = std::process::Command::new("timeout")
        .arg("120")
        .arg(program)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    print!("{text}");
}

#[test]
#[ignore = "run by a_thousand_failed_connects_leave_no_thread_and_no_memory_behind"]
fn failed_connects_in_a_process_of_their_own() {
    let (lab, folder) = (Lab::get(), tempfile::tempdir().expect("a folder"));
    let cluster = RadosCluster::new(with_key(&lab, &folder, WRONG_KEY));
    let fail = |times: u32| (0..times).for_each(|_| drop(cluster.status().expect_err("wrong key")));
    fail(100);
    let (threads, memory) = (own("Threads"), own("VmRSS"));
    fail(450);
    let half = own("VmRSS");
    fail(450);
    refusal(closed_port());
    println!(
        "{threads} threads, VmRSS {memory} KiB after 100, {half} after 550, {} after 1000: {} threads",
        own("VmRSS"),
        own("Threads")
    );
    assert_eq!(own("Threads"), threads);
    assert!(own("VmRSS") < memory + 4096, "{memory} KiB became {} KiB", own("VmRSS"));
}

#[test]
fn a_blocklisted_client_says_so_once_and_connects_anew() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let object = unique("fenced");
    let address = cluster.own_address().expect("an address");
    cluster.omap_compare_and_set(&home(), &object, "k", None, Some(b"v")).expect("set");
    lab.run(&format!("ceph osd blocklist add {address} 600"));
    // The fence is known to an OSD a moment after the monitors know it.
    let mut errors = Vec::new();
    super::lab::eventually("the fence", Duration::from_secs(10), || {
        errors.extend(cluster.omap_get(&home(), &object, "k").err());
        !errors.is_empty()
    });
    assert_eq!((errors[0].kind, errors[0].errno), (ClusterErrorKind::Fenced, 108), "{errors:?}");
    assert!(errors[0].may_pass());
    assert_eq!(cluster.omap_get(&home(), &object, "k"), Ok(Some(b"v".to_vec())));
    assert_ne!(cluster.own_address().expect("an address"), address);
    lab.run(&format!("ceph osd blocklist rm {address}"));
}

#[test]
fn a_blocklisted_client_recovers_in_the_middle_of_image_calls() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = super::lab::new_image(&cluster, "fenced");
    let address = cluster.own_address().expect("an address");
    std::thread::scope(|scope| {
        let end = Instant::now() + Duration::from_secs(5);
        for _ in 0..4 {
            let (cluster, image) = (&cluster, &image);
            scope.spawn(move || {
                while Instant::now() < end {
                    if let Err(error) = cluster.image_info(image) {
                        assert_eq!(error.kind, ClusterErrorKind::Fenced, "{error}");
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(1));
        lab.run(&format!("ceph osd blocklist add {address} 600"));
    });
    cluster.image_info(&image).expect("read");
    assert_ne!(cluster.own_address().expect("an address"), address);
    lab.run(&format!("ceph osd blocklist rm {address}"));
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn two_clusters_at_once_are_two_clients() {
    let (one, other) = (Lab::get().cluster(), Lab::get().cluster());
    let address = one.own_address().expect("an address");
    assert_ne!(address, other.own_address().expect("an address"));
    drop(other);
    assert_eq!(one.own_address(), Ok(address));
    one.status().expect("the first one is as before");
}

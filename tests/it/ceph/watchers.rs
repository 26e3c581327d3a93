//! Who has an image open.

use std::time::Duration;

use docker_volume_ceph::ceph::{ClusterErrorKind, Images, Monitor, Watcher};
use docker_volume_ceph::volume::ByteSize;

use super::Lab;
use super::lab::{eventually, new_image, writer};

#[test]
fn another_process_is_seen_as_rbd_status_sees_it_and_keeps_the_image() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "watched");
    let watchers = || cluster.watchers(&image).expect("watchers");
    assert_eq!(watchers(), []);
    let process = writer(&lab, &image);
    eventually("a watcher", Duration::from_secs(20), || !watchers().is_empty());
    let [Watcher { address, client, cookie }] = &watchers()[..] else {
        panic!("one watcher, not {:?}", watchers());
    };
    let line = format!("watcher={address} client.{client} cookie={cookie}");
    let status = lab.run(&format!("rbd status {image}"));
    assert!(status.contains(&line), "{line}: {status}");

    let removed = cluster.image_remove(&image).expect_err("it is watched");
    assert_eq!((removed.kind, removed.errno), (ClusterErrorKind::Busy, 16), "{removed}");
    let moved = cluster.trash_move(&image, Duration::ZERO).expect_err("it is watched");
    assert_eq!(moved.kind, ClusterErrorKind::Busy, "{moved}");
    assert_eq!(watchers().len(), 1);
    cluster.blocklist_add(address, Duration::from_secs(600)).expect("fenced");
    cluster.header_barrier(&image).expect("written");
    eventually("the end of the watch", Duration::from_secs(20), || watchers().is_empty());
    // A client that is let loose again watches and writes again: first it has to be gone.
    drop(process);
    cluster.image_remove(&image).expect("removed");
    lab.run(&format!("ceph osd blocklist rm {address}"));
}

#[test]
fn looking_at_an_image_or_describing_it_leaves_no_watch() {
    let (cluster, other) = (Lab::get().cluster(), Lab::get().cluster());
    let image = new_image(&cluster, "unwatched");
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            for round in 0..100 {
                cluster.image_info(&image).expect("read");
                cluster.metadata_get(&image, "k").expect("read");
                cluster.metadata_set(&image, "k", &round.to_string()).expect("set");
                cluster.watchers(&image).expect("listed");
            }
        });
        while !looker.is_finished() {
            assert_eq!(other.watchers(&image), Ok(Vec::new()));
        }
    });
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn an_image_in_use_is_described_and_grown_while_it_is_written() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "used");
    let process = writer(&lab, &image);
    eventually("a watcher", Duration::from_secs(20), || {
        !cluster.watchers(&image).expect("watchers").is_empty()
    });
    cluster.metadata_set(&image, "docker", "described").expect("set");
    cluster.image_resize(&image, ByteSize::mib(96)).expect("resized");
    assert_eq!(cluster.image_info(&image).expect("there").size, ByteSize::mib(96));
    let watchers = cluster.watchers(&image).expect("watchers");
    assert_eq!(watchers.len(), 1, "not our own: {watchers:?}");
    drop(process);
}

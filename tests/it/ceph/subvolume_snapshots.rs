//! Snapshots of subvolumes, and copies of them.

use std::path::PathBuf;
use std::time::Duration;

use docker_volume_ceph::ceph::{
    CloneState, ClusterErrorKind as Kind, RadosCluster, SubvolumeLayout, SubvolumeSnapshots,
    Subvolumes,
};
use docker_volume_ceph::volume::{ByteSize, SubvolumeSpec};

use super::Lab;
use super::lab::{eventually, unique};
use super::subvolumes::{FS, GROUP, Mounted, new_subvolume, refused, spec};

/// Enough of them that a copy is under way for some seconds.
const FILES: u32 = 1000;

fn names(cluster: &RadosCluster, of: &SubvolumeSpec) -> Vec<String> {
    let all = cluster.subvolume_snapshot_list(of).expect("a list");
    all.into_iter().map(|snapshot| snapshot.name).collect()
}

fn mount(lab: &Lab, cluster: &RadosCluster, of: &SubvolumeSpec) -> Mounted {
    let client = unique("docker.snap");
    let path = cluster.subvolume_info(of).expect("described").path;
    let key = cluster.subvolume_authorize(of, &client, false).expect("let in");
    Mounted::mount(lab, &client, &key, &path).expect("mounted")
}

/// Where a snapshot is read below a mounted folder.
fn below(mounted: &Mounted, name: &str) -> Option<PathBuf> {
    let all = std::fs::read_dir(mounted.folder().join(".snap")).expect("readable");
    let named = |entry: &std::fs::DirEntry| {
        let file = entry.file_name().into_string().expect("UTF-8");
        let parts = file.strip_prefix('_').and_then(|rest| rest.rsplit_once('_'));
        parts.is_some_and(|(of, inode)| of == name && inode.parse::<u64>().is_ok())
    };
    all.map(|entry| entry.expect("an entry")).find(named).map(|entry| entry.path())
}

#[test]
fn a_snapshot_of_a_folder_stays_as_it_was_and_is_read_below_it() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let folder = new_subvolume(&cluster, "snapped");
    let mounted = mount(&lab, &cluster, &folder);
    std::fs::write(mounted.file(), "before").expect("written");
    std::fs::File::open(mounted.file()).and_then(|file| file.sync_all()).expect("synced");
    cluster.subvolume_snapshot_create(&folder, "one").expect("made");
    cluster.subvolume_snapshot_create(&folder, "one_7").expect("made");
    std::fs::write(mounted.file(), "after").expect("written");
    let one = below(&mounted, "one").expect("it is there");
    assert_eq!(std::fs::read_to_string(one.join("file")).expect("readable"), "before");
    assert!(below(&mounted, "one_7").is_some() && below(&mounted, "7").is_none());
    assert_eq!(std::fs::read_to_string(mounted.file()).expect("readable"), "after");
    drop(mounted);

    refused(Kind::Exists, cluster.subvolume_snapshot_create(&folder, "one"));
    for name in ["_one", "a/b", "", "."] {
        refused(Kind::Invalid, cluster.subvolume_snapshot_create(&folder, name));
    }
    let missing = spec(unique("missing"));
    refused(Kind::NotFound, cluster.subvolume_snapshot_create(&missing, "one"));
    refused(Kind::NotFound, cluster.subvolume_snapshot_list(&missing));
    refused(Kind::NotFound, cluster.subvolume_clone_state(&missing));
    refused(Kind::NotEmpty, cluster.subvolume_remove(&folder));
    let list = cluster.subvolume_snapshot_list(&folder).expect("a list");
    let age = jiff::Timestamp::now() - list[0].created.expect("a time");
    assert!(list.len() == 2 && age.get_seconds().abs() < 60 && !list[0].is_copied, "{list:?}");
    let error = refused(Kind::NotFound, cluster.subvolume_snapshot_remove(&folder, "two"));
    assert!(error.to_string().contains("there is no snapshot two"), "{error}");
    for name in ["one", "one_7"] {
        cluster.subvolume_snapshot_remove(&folder, name).expect("removed");
    }
    assert_eq!(names(&cluster, &folder), Vec::<String>::new());
    cluster.subvolume_remove(&folder).expect("removed");
}

#[test]
fn a_copy_is_made_of_the_snapshot_or_ended_and_removed() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let folder = new_subvolume(&cluster, "source");
    cluster.subvolume_metadata_set(&folder, "docker", "{}").expect("set");
    let mounted = mount(&lab, &cluster, &folder);
    for number in 0..FILES {
        std::fs::write(mounted.folder().join(number.to_string()), "before").expect("written");
    }
    nix::unistd::sync();
    cluster.subvolume_snapshot_create(&folder, "one").expect("made");
    std::fs::write(mounted.folder().join("0"), "after").expect("written");
    drop(mounted);

    let copy = |name: &str| spec(unique(name));
    let (ended, whole) = (copy("ended"), copy("whole"));
    let clone = |snapshot, to, pool| cluster.subvolume_clone(&folder, snapshot, to, pool);
    refused(Kind::NotFound, clone("two", &ended, None));
    refused(Kind::Invalid, clone("one", &ended, Some("nirvana")));
    refused(Kind::Exists, clone("one", &folder, None));
    let elsewhere = SubvolumeSpec { group: "nirvana".into(), ..ended.clone() };
    refused(Kind::Denied, clone("one", &elsewhere, None));
    let admin = lab.admin();
    refused(Kind::NotFound, admin.subvolume_clone(&folder, "one", &elsewhere, None));
    assert!(!cluster.subvolume_list(FS, GROUP).expect("a list").contains(&ended.subvolume));

    clone("one", &ended, None).expect("begun");
    refused(Kind::Exists, clone("one", &ended, None));
    assert_eq!(cluster.subvolume_clone_state(&ended), Ok(CloneState::UnderWay(None)));
    assert!(cluster.subvolume_snapshot_list(&folder).expect("a list")[0].is_copied);
    let error = refused(Kind::Busy, cluster.subvolume_snapshot_remove(&folder, "one"));
    assert!(error.to_string().contains("snapshot one is being copied"), "{error}");
    refused(Kind::Busy, cluster.subvolume_info(&ended));
    refused(Kind::Busy, cluster.subvolume_create(&ended, &SubvolumeLayout::default()));
    refused(Kind::Busy, cluster.subvolume_remove(&ended));
    cluster.subvolume_clone_cancel(&ended).expect("ended");
    cluster.subvolume_clone_cancel(&ended).expect("a repeat");
    let state = cluster.subvolume_clone_state(&ended).expect("a state");
    assert!(matches!(&state, CloneState::Failed(why) if why.starts_with("canceled")), "{state:?}");
    cluster.subvolume_remove(&ended).expect("removed");
    refused(Kind::NotFound, cluster.subvolume_clone_state(&ended));

    clone("one", &whole, None).expect("begun");
    eventually("a copy", Duration::from_secs(90), || {
        cluster.subvolume_clone_state(&whole) == Ok(CloneState::Complete)
    });
    cluster.subvolume_snapshot_remove(&folder, "one").expect("nothing needs it any more");
    let info = cluster.subvolume_info(&whole).expect("described");
    assert_eq!(info.quota, Some(ByteSize::gib(1)), "the quota is copied");
    assert_eq!(cluster.subvolume_metadata_get(&whole, "docker"), Ok(None), "metadata is not");
    let mounted = mount(&lab, &cluster, &whole);
    let first = std::fs::read_to_string(mounted.folder().join("0"));
    assert_eq!(first.expect("readable"), "before");
    assert_eq!(std::fs::read_dir(mounted.folder()).expect("readable").count(), FILES as usize);
    drop(mounted);
    assert_eq!(cluster.subvolume_clone_state(&folder), Ok(CloneState::Complete), "it is no copy");
    cluster.subvolume_clone_cancel(&folder).expect("it is no copy");
    for of in [&folder, &whole] {
        cluster.subvolume_remove(of).expect("removed");
    }
}

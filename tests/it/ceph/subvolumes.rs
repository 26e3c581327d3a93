//! Subvolumes and their clients, with the capabilities that the documentation tells operators to
//! grant.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{
    ClusterError, ClusterErrorKind as Kind, FileSystem, RadosCluster, Result, SubvolumeLayout,
    SubvolumeState, Subvolumes,
};
use docker_volume_ceph::volume::{ByteSize, PathSpec, Secret, SubvolumeSpec};

use super::Lab;
use super::lab::{eventually, unique};
use super::outage::OwnCluster;

pub(super) const FS: &str = "cephfs";
pub(super) const GROUP: &str = "docker";
const KEY: &str = "docker-volume-ceph";

pub(super) fn spec(name: impl Into<String>) -> SubvolumeSpec {
    SubvolumeSpec { fs: FS.into(), group: GROUP.into(), subvolume: name.into() }
}

fn layout() -> SubvolumeLayout {
    let size = Some(ByteSize::gib(1));
    SubvolumeLayout { size, isolated: true, ..SubvolumeLayout::default() }
}

/// A new subvolume of 1 GiB, isolated.
pub(super) fn new_subvolume(cluster: &RadosCluster, what: &str) -> SubvolumeSpec {
    cluster.group_create(FS, GROUP).expect("a group");
    let spec = spec(unique(what));
    cluster.subvolume_create(&spec, &layout()).expect("created");
    spec
}

#[track_caller]
pub(super) fn refused<T>(kind: Kind, result: Result<T>) -> ClusterError {
    let error = result.err().expect("it is refused");
    assert_eq!(error.kind, kind, "{error}");
    error
}

#[test]
fn a_subvolume_is_made_described_resized_and_removed() {
    let cluster = Lab::get().cluster();
    cluster.group_create(FS, GROUP).expect("a group");
    cluster.group_create(FS, GROUP).expect("a repeat");
    assert!(cluster.groups(FS).expect("groups").contains(&GROUP.to_owned()));

    let spec = spec(unique("life"));
    let wanted = SubvolumeLayout {
        data_pool: Some("cephfs_fast".to_owned()),
        mode: Some(0o750),
        uid: Some(999),
        gid: Some(998),
        ..layout()
    };
    cluster.subvolume_create(&spec, &wanted).expect("created");
    let info = cluster.subvolume_info(&spec).expect("described");
    let name = &spec.subvolume;
    assert!(info.path.starts_with(&format!("/volumes/{GROUP}/{name}/")), "{info:?}");
    assert!(info.state == SubvolumeState::Complete && !info.mended, "{info:?}");
    assert_eq!((info.quota, info.used), (wanted.size, ByteSize(0)));
    assert_eq!(
        (&info.data_pool[..], info.namespace),
        ("cephfs_fast", format!("fsvolumens_{name}"))
    );
    assert_eq!((info.mode, info.uid, info.gid), (0o750, 999, 998));
    assert!(info.created.is_some());
    assert!(cluster.subvolume_list(FS, GROUP).expect("a list").contains(name));

    refused(Kind::Invalid, cluster.subvolume_resize(&spec, ByteSize::mib(512), false));
    cluster.subvolume_resize(&spec, ByteSize::mib(512), true).expect("shrunk");
    cluster.subvolume_resize(&spec, ByteSize::gib(3), false).expect("grown");
    let quota = || cluster.subvolume_info(&spec).expect("described").quota;
    assert_eq!(quota(), Some(ByteSize::gib(3)));

    // A repeated create is no question whether it is there.
    cluster.subvolume_create(&spec, &layout()).expect("changed");
    let changed = cluster.subvolume_info(&spec).expect("described");
    assert_eq!((changed.quota, changed.mode, changed.uid), (layout().size, 0o755, 999));
    assert_eq!((changed.path, &changed.data_pool[..]), (info.path, "cephfs_fast"));

    cluster.subvolume_remove(&spec).expect("removed");
    refused(Kind::NotFound, cluster.subvolume_info(&spec));
    refused(Kind::NotFound, cluster.subvolume_remove(&spec));
}

#[test]
fn metadata_survives_whatever_json_holds() {
    let cluster = Lab::get().cluster();
    let spec = new_subvolume(&cluster, "described");
    assert_eq!(cluster.subvolume_metadata_get(&spec, KEY), Ok(None));
    let text = "50% of %(path)s, \"ü\", 𝄞, a\\b, line\nbreak, # ; = : ".repeat(100);
    let value = serde_json::json!({ "name": "www", "text": text, "n": [1, 2] });
    cluster.subvolume_metadata_set(&spec, KEY, "{}").expect("set");
    cluster.subvolume_metadata_set(&spec, KEY, &value.to_string()).expect("set again");
    let read = cluster.subvolume_metadata_get(&spec, KEY).expect("read").expect("a value");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&read).expect("JSON"), value);
    assert_eq!(cluster.subvolume_info(&spec).expect("described").state, SubvolumeState::Complete);

    refused(Kind::Invalid, cluster.subvolume_metadata_set(&spec, KEY, "{\n}"));
    refused(Kind::Invalid, cluster.subvolume_metadata_set(&spec, "Key", "{}"));
    cluster.subvolume_metadata_remove(&spec, KEY).expect("removed");
    cluster.subvolume_metadata_remove(&spec, KEY).expect("a repeat");
    assert_eq!(cluster.subvolume_metadata_get(&spec, KEY), Ok(None));
    cluster.subvolume_remove(&spec).expect("removed");
    refused(Kind::NotFound, cluster.subvolume_metadata_get(&spec, KEY));
}

/// What the monitors let a client do, as JSON; `None` where there is no such client.
fn caps(lab: &Lab, client_id: &str) -> Option<serde_json::Value> {
    let line = format!("ceph auth get client.{client_id} -f json");
    let output = lab.tool(&line).output().expect("ceph");
    let entities: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(entities[0]["caps"].clone())
}

#[test]
fn a_client_is_let_into_one_subvolume_and_nowhere_else() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let (spec, neighbour) = (new_subvolume(&cluster, "own"), new_subvolume(&cluster, "other"));
    let client = format!("docker.{}", spec.subvolume);
    let path = cluster.subvolume_info(&spec).expect("described").path;
    let expected = |access: &str| {
        serde_json::json!({
            "mds": format!("allow {access} path={path}"),
            "mon": "allow r",
            "osd": format!("allow {access} pool=cephfs_data namespace=fsvolumens_{}", spec.subvolume),
        })
    };
    let key = cluster.subvolume_authorize(&spec, &client, false).expect("let in");
    assert!(key.reveal().len() >= 40 && !key.reveal().contains(char::is_whitespace));
    assert_eq!(caps(&lab, &client), Some(expected("rw")));
    let again = cluster.subvolume_authorize(&spec, &client, false);
    assert_eq!(again.as_ref(), Ok(&key), "a repeat");
    assert_eq!(cluster.subvolume_authorize(&spec, &client, true), Ok(key.clone()));
    assert_eq!(caps(&lab, &client), Some(expected("r")));
    let told = format!("{key:?} {again:?} {cluster:?}");
    assert!(!told.contains(key.reveal()), "a key is printed");

    // Taken from the neighbour, of which it has nothing.
    cluster.subvolume_deauthorize(&neighbour, &client).expect("nothing to take");
    cluster.subvolume_evict(&spec, &client).expect("nobody to evict");
    cluster.subvolume_deauthorize(&spec, &client).expect("taken away");
    assert_eq!(caps(&lab, &client), None);
    cluster.subvolume_deauthorize(&spec, &client).expect("a repeat");
    for spec in [&spec, &neighbour] {
        cluster.subvolume_remove(spec).expect("removed");
    }
    refused(Kind::NotFound, cluster.subvolume_authorize(&spec, &client, false));
    refused(Kind::NotFound, cluster.subvolume_deauthorize(&spec, &client));
}

/// A folder of CephFS that is mounted by `ceph-fuse`, until this is dropped.
pub(super) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None` where the cluster does not let the client mount that.
    pub(super) fn mount(lab: &Lab, client_id: &str, key: &Secret, path: &str) -> Option<Self> {
        let mounted = Self(tempfile::tempdir().expect("a folder"));
        let keyring = mounted.0.path().with_extension("keyring");
        let text = format!("[client.{client_id}]\n\tkey = {}\n", key.reveal());
        std::fs::write(&keyring, text).expect("written");
        let line = format!("ceph-fuse --id {client_id} --client_mountpoint {path} --keyring");
        let mut command = lab.tool(&line);
        command.arg(&keyring).arg(mounted.0.path());
        // Its daemon holds them open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mounts = command.status().expect("ceph-fuse").success();
        std::fs::remove_file(keyring).expect("removed");
        mounts.then_some(mounted)
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.path().join("file")
    }

    /// Whether a file can be written, by a process of its own that may hang.
    fn writes(&self) -> bool {
        let mut command = Command::new("timeout");
        command.args([
            "--signal=KILL",
            "10",
            "dd",
            "if=/dev/zero",
            "bs=4096",
            "count=1",
            "conv=fsync",
        ]);
        command.arg(format!("of={}", self.file().display())).stderr(Stdio::null());
        command.status().expect("dd").success()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("timeout")
            .args(["--signal=KILL", "10", "umount", "--lazy"])
            .arg(self.0.path())
            .stderr(Stdio::null())
            .status();
        drop(unmounted);
    }
}

#[test]
fn a_key_mounts_its_own_subvolume_until_it_is_evicted() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let (spec, neighbour) = (new_subvolume(&cluster, "mine"), new_subvolume(&cluster, "yours"));
    let client = format!("docker.{}", spec.subvolume);
    let path = |spec| cluster.subvolume_info(spec).expect("described").path;
    let key = cluster.subvolume_authorize(&spec, &client, false).expect("let in");
    for elsewhere in ["/", "/volumes/docker", &path(&neighbour)] {
        assert!(Mounted::mount(&lab, &client, &key, elsewhere).is_none(), "{elsewhere}");
    }
    let mounted = Mounted::mount(&lab, &client, &key, &path(&spec)).expect("mounted");
    assert!(mounted.writes());
    let used = || cluster.subvolume_info(&spec).expect("described").used;
    eventually("the file is counted", Duration::from_secs(20), || used() == ByteSize(4096));

    cluster.subvolume_deauthorize(&spec, &client).expect("taken away");
    cluster.subvolume_evict(&neighbour, &client).expect("nobody of this name is there");
    assert!(mounted.writes(), "the neighbour's eviction was not meant");
    cluster.subvolume_evict(&spec, &client).expect("evicted");
    assert!(!mounted.writes(), "it was evicted");
    drop(mounted);
    for spec in [&spec, &neighbour] {
        cluster.subvolume_remove(spec).expect("removed");
    }
}

#[test]
fn what_is_not_there_and_what_is_not_allowed_are_told_apart() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let spec = new_subvolume(&cluster, "mistakes");
    let of = |fs: &str, group: &str, name: &str| {
        let [fs, group, subvolume] = [fs, group, name].map(str::to_owned);
        SubvolumeSpec { fs, group, subvolume }
    };
    refused(Kind::NotFound, cluster.subvolume_info(&of("nirvana", GROUP, "x")));
    refused(Kind::NotFound, cluster.groups("nirvana"));
    refused(Kind::NotFound, cluster.subvolume_info(&of(FS, GROUP, "nirvana")));
    refused(Kind::NotFound, lab.admin().subvolume_info(&of(FS, "nirvana", "x")));
    for name in ["..", "", ".meta", "a/b", "ü", &"x".repeat(243)] {
        refused(Kind::Invalid, cluster.subvolume_create(&of(FS, GROUP, name), &layout()));
    }
    let elsewhere = SubvolumeLayout { data_pool: Some("rbd".to_owned()), ..layout() };
    let error = refused(Kind::Invalid, cluster.subvolume_create(&of(FS, GROUP, "x"), &elsewhere));
    assert!(error.message.contains("rbd"), "the manager's own words: {error}");

    // The key is for one group and for clients of its own.
    refused(Kind::Denied, cluster.subvolume_list(FS, "nirvana"));
    refused(Kind::Denied, cluster.group_create(FS, "another"));
    for client in ["admin", "docker", "stranger"] {
        refused(Kind::Denied, cluster.subvolume_authorize(&spec, client, false));
        refused(Kind::Denied, cluster.client_remove(client));
    }
    let admin = lab.admin();
    let error = refused(Kind::Denied, admin.subvolume_authorize(&spec, "admin", false));
    assert!(error.message.contains("not created by mgr"), "{error}");

    let snapshots =
        format!("ceph fs subvolume snapshot {{}} {FS} {} s --group_name {GROUP}", spec.subvolume);
    lab.run(&snapshots.replace("{}", "create"));
    refused(Kind::NotEmpty, cluster.subvolume_remove(&spec));
    lab.run(&snapshots.replace("{}", "rm"));
    cluster.subvolume_remove(&spec).expect("removed");
}

#[test]
fn file_systems_are_known_to_those_who_may_ask_and_to_others() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let data_pools = ["cephfs_data", "cephfs_fast"].map(str::to_owned).to_vec();
    let all = vec![FileSystem { name: FS.to_owned(), data_pools }];
    assert_eq!(cluster.file_systems(), Ok(all.clone()));
    assert_eq!(cluster.mds_up(FS), Ok(true));
    refused(Kind::NotFound, cluster.mds_up("nirvana"));

    // A key for RBD alone.
    let client = unique("rbd-only");
    let keyring = lab.folder().join(format!("ceph.client.{client}.keyring"));
    let made = lab
        .tool(&format!("ceph auth get-or-create client.{client} mon"))
        .arg("profile rbd")
        .arg("-o")
        .arg(&keyring)
        .status();
    assert!(made.expect("ceph").success());
    let other = RadosCluster::new(lab.access(&client));
    assert_eq!(other.file_systems(), Ok(all));
    refused(Kind::Denied, other.mds_up(FS));
    let error = refused(Kind::Denied, other.groups(FS));
    assert!(error.message.contains("mgr caps"), "the manager's own words: {error}");
    drop(other);
    lab.run(&format!("ceph auth rm client.{client}"));
}

#[test]
fn a_client_is_let_into_a_folder_that_is_no_subvolume() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let client = format!("docker.{}", unique("adopted"));
    let at = |path: &str| PathSpec { fs: FS.to_owned(), path: path.to_owned() };
    let folder = at("/adopted/www");
    let key = cluster.path_authorize(&folder, &client, true).expect("let in");
    assert_eq!(cluster.path_authorize(&folder, &client, true), Ok(key), "a repeat");
    let caps_of = caps(&lab, &client).expect("a client");
    assert_eq!(caps_of["mds"], "allow r fsname=cephfs path=/adopted/www");
    refused(Kind::Exists, cluster.path_authorize(&folder, &client, false));
    refused(Kind::Exists, cluster.path_authorize(&at("/adopted"), &client, true));
    for path in ["adopted", "/a b", "/a,allow rw path=/", "/a/../b"] {
        refused(Kind::Invalid, cluster.path_authorize(&at(path), &client, true));
    }
    let nirvana = PathSpec { fs: "nirvana".to_owned(), ..folder.clone() };
    refused(Kind::NotFound, cluster.path_authorize(&nirvana, &client, true));
    refused(Kind::Denied, cluster.path_authorize(&folder, "stranger", true));
    cluster.client_remove(&client).expect("removed");
    cluster.client_remove(&client).expect("a repeat");
    assert_eq!(caps(&lab, &client), None);
}

/// A manager that was killed leaves sessions to the MDS, which keeps their locks for a minute.
fn end_sessions(lab: &Lab) {
    let sessions: serde_json::Value =
        serde_json::from_str(&lab.run("ceph tell mds.a session ls -f json")).expect("JSON");
    for session in sessions.as_array().expect("a list") {
        lab.run(&format!("ceph tell mds.a session evict id={}", session["id"]));
    }
}

/// The manager dies in the middle of a create: the OSD does not write what it wants to write.
fn kill_the_manager_in_the_middle(own: &OwnCluster, create: impl FnOnce()) {
    own.does("pause", "osd");
    create();
    own.does("kill", "mgr");
    own.does("resume", "osd");
    end_sessions(&own.0);
    own.does("revive", "mgr");
}

fn assert_what_a_killed_manager_leaves_can_be_made_anew(own: &OwnCluster, cluster: &RadosCluster) {
    let answers = |spec: &SubvolumeSpec| {
        let mut info = None;
        eventually("the manager answers", Duration::from_secs(90), || {
            info = cluster.subvolume_info(spec).ok();
            info.is_some()
        });
        info.expect("an answer")
    };
    // Whoever asked is gone as well.
    let half = spec("half");
    let line = "timeout 2 ceph fs subvolume create cephfs half --group_name docker";
    kill_the_manager_in_the_middle(own, || drop(own.0.tool(line).output()));
    assert_eq!(answers(&half).state, SubvolumeState::HalfMade);

    // Whoever asked is still there. librados sends the command to the next manager, which carries it
    // out or is not ready yet; a repeat does the same.
    let mended = spec("mended");
    kill_the_manager_in_the_middle(own, || {
        refused(Kind::Unreachable, cluster.subvolume_create(&mended, &layout()));
    });
    if answers(&mended).state == SubvolumeState::HalfMade {
        cluster.subvolume_create(&mended, &layout()).expect("a repeat");
    }
    let info = answers(&mended);
    assert!(info.state == SubvolumeState::Complete && info.mended, "{info:?}");

    for spec in [&half, &mended] {
        cluster.subvolume_remove(spec).expect("removed");
        cluster.subvolume_create(spec, &layout()).expect("made anew");
        let info = cluster.subvolume_info(spec).expect("described");
        assert!(info.state == SubvolumeState::Complete && !info.mended, "{info:?}");
    }
}

fn assert_a_silent_mds_is_given_up(own: &OwnCluster, cluster: &RadosCluster, limit: Duration) {
    let spec = spec("half");
    own.does("pause", "mds");
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| refused(Kind::Unreachable, cluster.subvolume_info(&spec)));
        }
    });
    let took = start.elapsed();
    assert!(took < 2 * limit, "twelve at once took {took:?}");
    own.does("resume", "mds");
    eventually("the MDS is back", Duration::from_secs(60), || {
        cluster.subvolume_info(&spec).is_ok()
    });

    // One that the monitors know to be away is not waited for.
    own.0.run("ceph fs fail cephfs");
    let start = Instant::now();
    let error = refused(Kind::Unreachable, cluster.subvolume_info(&spec));
    assert!(error.message.contains("no MDS serves"), "{error}");
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    assert_eq!(cluster.mds_up(FS), Ok(false));
    own.0.run("ceph fs set cephfs joinable true");
    eventually("the MDS is back", Duration::from_secs(60), || cluster.mds_up(FS) == Ok(true));
}

#[test]
fn a_manager_or_mds_that_dies_or_stands_still_is_given_up_in_time() {
    let own = OwnCluster::start();
    own.does("fs", "all");
    let limit = Duration::from_secs(2);
    let cluster = own.connect();
    cluster.group_create(FS, GROUP).expect("a group");
    assert_what_a_killed_manager_leaves_can_be_made_anew(&own, &cluster);
    assert_a_silent_mds_is_given_up(&own, &cluster, limit);
}

//! CephFS in the simulation: one file system, `cephfs`, its subvolumes, and the clients that may
//! mount them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use docker_volume_ceph::ceph::{
    BlocklistEntry, ClusterErrorKind as Kind, FileSystem, Result, SubvolumeInfo, SubvolumeLayout,
    SubvolumeState, Subvolumes,
};
use docker_volume_ceph::volume::{ByteSize, ClientAccess, PathSpec, Secret, SubvolumeSpec};
use jiff::Timestamp;

use super::client::error;
use super::cluster::ClusterState;
use super::{Record, SimClient, SimCluster};

const FS: &str = "cephfs";
const DATA_POOLS: [&str; 2] = ["cephfs_data", "cephfs_fast"];

/// How long an evicted client is fenced.
const FENCED: Duration = Duration::from_secs(3600);

/// The file system, and who may mount what of it.
#[derive(Debug, Default)]
pub(super) struct CephFs {
    away: bool,
    groups: BTreeMap<String, BTreeMap<String, SimSubvolume>>,
    keys: BTreeMap<String, Key>,
    sessions: Vec<Session>,
}

#[derive(Debug)]
pub(super) struct SimSubvolume {
    pub(super) path: String,
    half_made: bool,
    pub(super) layout: SubvolumeLayout,
    created: Timestamp,
    pub(super) metadata: BTreeMap<String, String>,
    /// When each was made, and what lay there.
    pub(super) snapshots: BTreeMap<String, (Timestamp, BTreeSet<Record>)>,
}

/// A subvolume as it lies in the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its name in its group.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) place: PathSpec,
    /// A manager died while it made it.
    pub(crate) half_made: bool,
    /// What it says of itself.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A client's key, and the folders that it opens: for reading only, or not.
#[derive(Debug)]
struct Key {
    secret: Secret,
    folders: BTreeMap<String, bool>,
}

/// A folder that was mounted, by which client.
#[derive(Debug)]
struct Session {
    address: String,
    client_id: String,
    path: String,
}

impl SimCluster {
    /// Takes the file system's MDS away from everybody, or brings it back.
    pub(crate) fn set_mds(&self, up: bool) {
        self.state().cephfs.away = !up;
    }

    /// A manager dies in the middle of making a subvolume.
    pub(crate) fn leave_half_made(&self, spec: &SubvolumeSpec) {
        let mut state = self.state();
        let mut subvolume = SimSubvolume::new(spec, &SubvolumeLayout::default(), &mut state);
        subvolume.half_made = true;
        let group = state.cephfs.groups.entry(spec.group.clone()).or_default();
        group.insert(spec.subvolume.clone(), subvolume);
    }

    /// All subvolumes.
    pub(crate) fn subvolumes(&self) -> Vec<Stored> {
        let state = self.state();
        let all = state.cephfs.groups.values().flatten();
        let stored = |(name, found): (&String, &SimSubvolume)| Stored {
            name: name.clone(),
            place: PathSpec { fs: FS.to_owned(), path: found.path.clone() },
            half_made: found.half_made,
            metadata: found.metadata.clone(),
        };
        all.map(stored).collect()
    }

    /// The clients that have a key.
    pub(crate) fn folder_keys(&self) -> BTreeSet<String> {
        self.state().cephfs.keys.keys().cloned().collect()
    }
}

impl ClusterState {
    /// What a snapshot of the subvolume with that folder holds.
    pub(super) fn snapshot_at(&self, at: &PathSpec, snapshot: &str) -> Option<BTreeSet<Record>> {
        let mut all = self.cephfs.groups.values().flat_map(BTreeMap::values);
        let found = all.find(|subvolume| subvolume.path == at.path)?;
        found.snapshots.get(snapshot).map(|(_, records)| records.clone())
    }

    /// The snapshots of the subvolume whose folder that is.
    pub(super) fn snapshots_of_folder(&self, path: &str) -> Vec<String> {
        let all = self.cephfs.groups.values().flat_map(BTreeMap::values);
        let of = all.filter(|subvolume| subvolume.path == path);
        of.flat_map(|subvolume| subvolume.snapshots.keys().cloned()).collect()
    }

    /// May this client mount that folder? A folder that is no subvolume's is open to all.
    pub(super) fn lets_in(&self, access: &ClientAccess, at: &PathSpec, read_only: bool) -> bool {
        let all = self.cephfs.groups.values().flat_map(BTreeMap::values);
        if !all.into_iter().any(|subvolume| subvolume.path == at.path) {
            return true;
        }
        let key = self.cephfs.keys.get(&access.client_id);
        key.is_some_and(|key| {
            let opened = key.folders.get(&at.path);
            access.key.as_ref() == Some(&key.secret)
                && opened.is_some_and(|only| read_only || !only)
        })
    }

    /// A client has mounted a folder.
    pub(super) fn enter_folder(&mut self, address: &str, client_id: &str, path: &str) {
        let [address, client_id, path] = [address, client_id, path].map(str::to_owned);
        self.cephfs.sessions.push(Session { address, client_id, path });
    }

    /// A client has unmounted a folder, or its host is gone.
    pub(super) fn leave_folder(&mut self, address: &str) {
        self.cephfs.sessions.retain(|session| session.address != address);
        if let Some(writers) = &mut self.folder_writers {
            writers.retain(|_, writer| writer != address);
        }
    }

    pub(super) fn subvolume(
        &mut self,
        call: &'static str,
        of: &SubvolumeSpec,
    ) -> Result<&mut SimSubvolume> {
        let missing = || error(Kind::NotFound, call, of);
        let group = self.group(call, &of.fs, &of.group)?;
        group.get_mut(&of.subvolume).ok_or_else(missing)
    }

    fn group(
        &mut self,
        call: &'static str,
        fs: &str,
        group: &str,
    ) -> Result<&mut BTreeMap<String, SimSubvolume>> {
        let missing = || error(Kind::NotFound, call, format!("{fs}/{group}"));
        self.cephfs.groups.get_mut(group).ok_or_else(missing)
    }

    fn grant(&mut self, client_id: &str, path: &str, read_only: bool) -> Secret {
        let number = self.number();
        let key = self.cephfs.keys.entry(client_id.to_owned()).or_insert_with(|| Key {
            secret: Secret::new(format!("AQSIMULATED{number}==")),
            folders: BTreeMap::new(),
        });
        key.folders.insert(path.to_owned(), read_only);
        key.secret.clone()
    }
}

impl SimSubvolume {
    fn new(spec: &SubvolumeSpec, layout: &SubvolumeLayout, state: &mut ClusterState) -> Self {
        let path = format!("/volumes/{}/{}/{:08x}", spec.group, spec.subvolume, state.number());
        let place = PathSpec { fs: spec.fs.clone(), path: path.clone() };
        state.folders.insert(place, BTreeSet::new());
        Self {
            path,
            half_made: false,
            layout: layout.clone(),
            created: state.now,
            metadata: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        }
    }

    /// What a repeated create does: it changes what it names.
    fn change(&mut self, spec: &SubvolumeSpec, layout: &SubvolumeLayout) {
        if self.half_made {
            self.half_made = false;
            self.path = format!("/volumes/{}/{}", spec.group, spec.subvolume);
        }
        let old = self.layout.clone();
        self.layout = SubvolumeLayout {
            size: layout.size.or(old.size),
            data_pool: layout.data_pool.clone().or(old.data_pool),
            mode: layout.mode,
            uid: layout.uid.or(old.uid),
            gid: layout.gid.or(old.gid),
            isolated: layout.isolated || old.isolated,
        };
    }

    fn info(&self, spec: &SubvolumeSpec, used: ByteSize) -> SubvolumeInfo {
        let layout = &self.layout;
        let namespace = layout.isolated.then(|| format!("fsvolumens_{}", spec.subvolume));
        let state =
            if self.half_made { SubvolumeState::HalfMade } else { SubvolumeState::Complete };
        SubvolumeInfo {
            state,
            path: if self.half_made { String::new() } else { self.path.clone() },
            mended: self.path.ends_with(&format!("/{}", spec.subvolume)),
            quota: layout.size,
            used,
            data_pool: layout.data_pool.clone().unwrap_or_else(|| DATA_POOLS[0].to_owned()),
            namespace: namespace.unwrap_or_default(),
            uid: layout.uid.unwrap_or(0),
            gid: layout.gid.unwrap_or(0),
            mode: layout.mode.unwrap_or(0o755),
            created: Some(self.created),
        }
    }
}

impl SimClient {
    /// The cluster's state, for a command on a file system.
    pub(super) fn reach_fs(
        &self,
        call: &'static str,
        fs: &str,
    ) -> Result<std::sync::MutexGuard<'_, ClusterState>> {
        let state = self.reach(call)?;
        if fs != FS {
            return Err(error(Kind::NotFound, call, fs));
        }
        if state.cephfs.away {
            return Err(error(Kind::Unreachable, call, fs));
        }
        Ok(state)
    }
}

impl Subvolumes for SimClient {
    fn file_systems(&self) -> Result<Vec<FileSystem>> {
        drop(self.reach("list file systems")?);
        let data_pools = DATA_POOLS.map(str::to_owned).to_vec();
        Ok(vec![FileSystem { name: FS.to_owned(), data_pools }])
    }

    fn mds_up(&self, fs: &str) -> Result<bool> {
        match self.reach_fs("look for the MDS", fs) {
            Err(error) if error.kind == Kind::Unreachable => {
                self.reach("look for the MDS").map(|_| false)
            }
            found => found.map(|_| true),
        }
    }

    fn group_create(&self, fs: &str, group: &str) -> Result<()> {
        let mut state = self.reach_fs("create group", fs)?;
        state.cephfs.groups.entry(group.to_owned()).or_default();
        Ok(())
    }

    fn groups(&self, fs: &str) -> Result<Vec<String>> {
        Ok(self.reach_fs("list groups", fs)?.cephfs.groups.keys().cloned().collect())
    }

    fn subvolume_create(&self, spec: &SubvolumeSpec, layout: &SubvolumeLayout) -> Result<()> {
        let call = "create subvolume";
        let mut state = self.reach_fs(call, &spec.fs)?;
        if layout.data_pool.as_ref().is_some_and(|pool| !DATA_POOLS.contains(&&pool[..])) {
            return Err(error(Kind::Invalid, call, spec));
        }
        if let Some(there) = state.group(call, &spec.fs, &spec.group)?.get_mut(&spec.subvolume) {
            there.change(spec, layout);
            let place = PathSpec { fs: spec.fs.clone(), path: there.path.clone() };
            state.folders.entry(place).or_default();
            return Ok(());
        }
        let subvolume = SimSubvolume::new(spec, layout, &mut state);
        let group = state.group(call, &spec.fs, &spec.group)?;
        group.insert(spec.subvolume.clone(), subvolume);
        Ok(())
    }

    fn subvolume_info(&self, spec: &SubvolumeSpec) -> Result<SubvolumeInfo> {
        let mut state = self.reach_fs("look at subvolume", &spec.fs)?;
        let path = state.subvolume("look at subvolume", spec)?.path.clone();
        let records = state.folders.get(&PathSpec { fs: spec.fs.clone(), path });
        let used = ByteSize(records.map_or(0, BTreeSet::<Record>::len) as u64 * 4096);
        Ok(state.subvolume("look at subvolume", spec)?.info(spec, used))
    }

    fn subvolume_list(&self, fs: &str, group: &str) -> Result<Vec<String>> {
        let mut state = self.reach_fs("list subvolumes", fs)?;
        Ok(state.group("list subvolumes", fs, group)?.keys().cloned().collect())
    }

    fn subvolume_resize(&self, spec: &SubvolumeSpec, size: ByteSize, shrink: bool) -> Result<()> {
        let mut state = self.reach_fs("resize subvolume", &spec.fs)?;
        let subvolume = state.subvolume("resize subvolume", spec)?;
        if size == ByteSize(0) || !shrink && subvolume.layout.size.is_some_and(|now| size < now) {
            return Err(error(Kind::Invalid, "resize subvolume", spec));
        }
        subvolume.layout.size = Some(size);
        Ok(())
    }

    fn subvolume_remove(&self, spec: &SubvolumeSpec) -> Result<()> {
        let mut state = self.reach_fs("remove subvolume", &spec.fs)?;
        let found = state.subvolume("remove subvolume", spec)?;
        if !found.snapshots.is_empty() {
            return Err(error(Kind::NotEmpty, "remove subvolume", spec));
        }
        let path = found.path.clone();
        state.group("remove subvolume", &spec.fs, &spec.group)?.remove(&spec.subvolume);
        state.folders.remove(&PathSpec { fs: spec.fs.clone(), path });
        Ok(())
    }

    fn subvolume_metadata_get(&self, spec: &SubvolumeSpec, key: &str) -> Result<Option<String>> {
        let mut state = self.reach_fs("read subvolume metadata", &spec.fs)?;
        Ok(state.subvolume("read subvolume metadata", spec)?.metadata.get(key).cloned())
    }

    fn subvolume_metadata_set(&self, spec: &SubvolumeSpec, key: &str, value: &str) -> Result<()> {
        let mut state = self.reach_fs("describe subvolume", &spec.fs)?;
        if value.chars().any(char::is_control) || value.trim() != value {
            return Err(error(Kind::Invalid, "describe subvolume", spec));
        }
        let metadata = &mut state.subvolume("describe subvolume", spec)?.metadata;
        metadata.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn subvolume_metadata_remove(&self, spec: &SubvolumeSpec, key: &str) -> Result<()> {
        let mut state = self.reach_fs("remove subvolume metadata", &spec.fs)?;
        state.subvolume("remove subvolume metadata", spec)?.metadata.remove(key);
        Ok(())
    }

    fn subvolume_authorize(
        &self,
        spec: &SubvolumeSpec,
        client_id: &str,
        read_only: bool,
    ) -> Result<Secret> {
        let mut state = self.reach_fs("authorize client", &spec.fs)?;
        let path = state.subvolume("authorize client", spec)?.path.clone();
        Ok(state.grant(client_id, &path, read_only))
    }

    fn subvolume_deauthorize(&self, spec: &SubvolumeSpec, client_id: &str) -> Result<()> {
        let mut state = self.reach_fs("deauthorize client", &spec.fs)?;
        let path = state.subvolume("deauthorize client", spec)?.path.clone();
        let keys = &mut state.cephfs.keys;
        if let Some(key) = keys.get_mut(client_id) {
            key.folders.remove(&path);
        }
        keys.retain(|id, key| id != client_id || !key.folders.is_empty());
        Ok(())
    }

    fn subvolume_evict(&self, spec: &SubvolumeSpec, client_id: &str) -> Result<()> {
        let mut state = self.reach_fs("evict client", &spec.fs)?;
        let path = state.subvolume("evict client", spec)?.path.clone();
        let until = state.now.checked_add(FENCED).expect("a time within the calendar");
        let of_client =
            |session: &mut Session| session.client_id == client_id && session.path == path;
        let evicted: Vec<_> = state.cephfs.sessions.extract_if(.., of_client).collect();
        let entries = evicted.into_iter().map(|of| BlocklistEntry { address: of.address, until });
        state.blocklist.extend(entries);
        Ok(())
    }

    fn path_authorize(&self, path: &PathSpec, client_id: &str, read_only: bool) -> Result<Secret> {
        let call = "authorize client";
        let mut state = self.reach(call)?;
        let wanted = BTreeMap::from([(path.path.clone(), read_only)]);
        let key = state.cephfs.keys.get(client_id);
        if key.is_some_and(|key| key.folders != wanted) {
            return Err(error(Kind::Exists, call, path));
        }
        Ok(state.grant(client_id, &path.path, read_only))
    }

    fn client_remove(&self, client_id: &str) -> Result<()> {
        self.reach("remove client")?.cephfs.keys.remove(client_id);
        Ok(())
    }
}

#[test]
fn a_subvolume_opens_to_the_client_that_was_let_in() {
    let cluster = SimCluster::new();
    let client = cluster.client();
    let spec = SubvolumeSpec { fs: FS.into(), group: "docker".into(), subvolume: "www".into() };
    let kind = |result: Result<()>| result.expect_err("it fails").kind;
    assert_eq!(kind(client.subvolume_create(&spec, &SubvolumeLayout::default())), Kind::NotFound);
    client.group_create(FS, "docker").expect("made");
    cluster.leave_half_made(&spec);
    let info = client.subvolume_info(&spec).expect("something is there");
    assert_eq!(info.state, SubvolumeState::HalfMade);
    client.subvolume_remove(&spec).expect("removed");

    let size = Some(ByteSize::gib(2));
    let layout = SubvolumeLayout { size, isolated: true, ..SubvolumeLayout::default() };
    client.subvolume_create(&spec, &layout).expect("made");
    assert_eq!(kind(client.subvolume_resize(&spec, ByteSize::gib(1), false)), Kind::Invalid);
    let info = client.subvolume_info(&spec).expect("there");
    assert_eq!((info.quota, info.mended), (size, false));
    let place = PathSpec { fs: FS.into(), path: info.path };
    assert_eq!(cluster.folder(&place), Some(BTreeSet::new()));

    let secret = client.subvolume_authorize(&spec, "docker.www", true).expect("let in");
    let mut access = ClientAccess {
        monitors: Vec::new(),
        client_id: "docker.www".to_owned(),
        key: Some(secret),
        default_map_options: Vec::new(),
    };
    let lets_in = |access: &_, read_only| cluster.state().lets_in(access, &place, read_only);
    assert!(lets_in(&access, true) && !lets_in(&access, false));
    access.key = Some(Secret::new("another"));
    assert!(!lets_in(&access, true));
    cluster.state().enter_folder("10.0.0.9:0/7", "docker.www", &place.path);
    client.subvolume_deauthorize(&spec, "docker.www").expect("taken away");
    client.subvolume_evict(&spec, "docker.www").expect("evicted");
    assert_eq!(cluster.fenced(), ["10.0.0.9:0/7"]);
    assert!(cluster.folder_keys().is_empty());

    cluster.set_mds(false);
    assert_eq!(client.mds_up(FS), Ok(false));
    assert_eq!(kind(client.subvolume_remove(&spec)), Kind::Unreachable);
    cluster.set_mds(true);
    client.subvolume_remove(&spec).expect("removed");
    assert_eq!(cluster.folder(&place), None);
}

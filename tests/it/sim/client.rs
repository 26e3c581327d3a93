//! One daemon's connection to the simulated cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use docker_volume_ceph::ceph::{
    BlocklistEntry, ClusterError, ClusterErrorKind as Kind, ClusterStatus, ImageInfo, ImageLayout,
    Images, Manager, Monitor, Objects, OmapPage, PlacementGroups, PoolUsage, Result, Swap,
    TrashedImage, Watcher,
};
use docker_volume_ceph::volume::{
    ByteSize, ClientAccess, ImageSpec, Location, Messenger, MonitorAddress, Secret,
};

use super::SimCluster;
use super::cluster::{ClusterState, SimImage};

/// The cluster gives no longer pages than this, however many entries are asked for.
const LONGEST_PAGE: u64 = 3;

/// A connection: it has an address, can be fenced, and then makes itself anew for the next call.
#[derive(Debug)]
pub(crate) struct SimClient {
    cluster: Arc<SimCluster>,
    address: Mutex<String>,
}

pub(super) fn error(kind: Kind, call: &'static str, subject: impl ToString) -> ClusterError {
    let errno = match kind {
        Kind::Unreachable => libc::ETIMEDOUT,
        Kind::Fenced => libc::ESHUTDOWN,
        Kind::Denied => libc::EPERM,
        Kind::NotFound => libc::ENOENT,
        Kind::Exists => libc::EEXIST,
        Kind::Busy => libc::EBUSY,
        Kind::NotEmpty => libc::ENOTEMPTY,
        Kind::NoSpace => libc::ENOSPC,
        Kind::Invalid => libc::EINVAL,
        Kind::Other => libc::EIO,
    };
    ClusterError { kind, call, subject: subject.to_string(), errno, message: String::new() }
}

impl SimClient {
    pub(super) fn connect(cluster: &Arc<SimCluster>) -> Arc<Self> {
        let address = Mutex::new(new_address(&mut cluster.state()));
        Arc::new(Self { cluster: Arc::clone(cluster), address })
    }

    pub(super) fn cluster(&self) -> Arc<SimCluster> {
        Arc::clone(&self.cluster)
    }

    /// The cluster's state, for a read that every pool serves.
    pub(super) fn reach(&self, call: &'static str) -> Result<MutexGuard<'_, ClusterState>> {
        let mut state = self.cluster.state();
        if !state.reachable {
            return Err(error(Kind::Unreachable, call, ""));
        }
        let mut address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_fenced(&address) {
            *address = new_address(&mut state);
            return Err(error(Kind::Fenced, call, ""));
        }
        Ok(state)
    }

    /// The same, for a write to `at`.
    pub(super) fn reach_to_write(
        &self,
        call: &'static str,
        at: &Location,
    ) -> Result<MutexGuard<'_, ClusterState>> {
        let state = self.reach(call)?;
        match state.pools.get(&at.pool) {
            None => Err(error(Kind::NotFound, call, at)),
            Some(pool) if pool.full => Err(error(Kind::NoSpace, call, at)),
            Some(_) => Ok(state),
        }
    }
}

fn new_address(state: &mut ClusterState) -> String {
    format!("10.0.0.1:0/{}", state.number())
}

fn has_namespace(state: &ClusterState, at: &Location) -> bool {
    let pool = state.pools.get(&at.pool);
    pool.is_some_and(|pool| at.namespace.is_empty() || pool.namespaces.contains(&at.namespace))
}

pub(super) fn live<'a>(
    state: &'a mut ClusterState,
    call: &'static str,
    spec: &ImageSpec,
) -> Result<&'a mut SimImage> {
    state.live_mut(spec).ok_or_else(|| error(Kind::NotFound, call, spec))
}

pub(super) fn trashed<'a>(
    state: &'a mut ClusterState,
    call: &'static str,
    at: &Location,
    id: &str,
) -> Result<&'a mut SimImage> {
    let image = state.images.get_mut(id);
    let image = image.filter(|image| image.trashed.is_some() && image.spec.location == *at);
    image.ok_or_else(|| error(Kind::NotFound, call, format!("{at}/{id}")))
}

impl Objects for SimClient {
    fn omap_get(&self, at: &Location, object: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let state = self.reach("read object")?;
        let object = state.objects.get(&(at.clone(), object.to_owned()));
        Ok(object.and_then(|object| object.omap.get(key).cloned()))
    }

    fn omap_page(&self, at: &Location, object: &str, after: &str, limit: u64) -> Result<OmapPage> {
        let state = self.reach("list object")?;
        let Some(object) = state.objects.get(&(at.clone(), object.to_owned())) else {
            return Ok(OmapPage::default());
        };
        let rest = object.omap.iter().filter(|(key, _)| key.as_str() > after);
        let length = usize::try_from(limit.min(LONGEST_PAGE)).expect("a short page");
        let more = rest.clone().count() > length;
        let entries = rest.take(length).map(|(key, value)| (key.clone(), value.clone()));
        Ok(OmapPage { entries: entries.collect(), more })
    }

    fn omap_compare_and_set(
        &self,
        at: &Location,
        object: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap> {
        let mut state = self.reach_to_write("write object", at)?;
        if new.is_some_and(<[u8]>::is_empty) {
            state.violation(format!("an empty value was written to key {key} of {object}"));
        }
        let object = state.objects.entry((at.clone(), object.to_owned())).or_default();
        if object.omap.get(key).map(Vec::as_slice) != expected {
            return Ok(Swap::Changed);
        }
        object.version += 1;
        match new {
            Some(value) => object.omap.insert(key.to_owned(), value.to_vec()),
            None => object.omap.remove(key),
        };
        Ok(Swap::Swapped)
    }

    fn object_version(&self, at: &Location, object: &str) -> Result<u64> {
        let state = self.reach("stat object")?;
        let object = state.objects.get(&(at.clone(), object.to_owned()));
        Ok(object.map_or(0, |object| object.version))
    }
}

impl Images for SimClient {
    fn image_create(&self, image: &ImageSpec, layout: &ImageLayout) -> Result<()> {
        let call = "create image";
        let mut state = self.reach_to_write(call, &image.location)?;
        if !has_namespace(&state, &image.location) {
            return Err(error(Kind::NotFound, call, image));
        }
        if layout.data_pool.as_ref().is_some_and(|pool| !state.pools.contains_key(pool)) {
            return Err(error(Kind::NotFound, call, image));
        }
        if state.live(image).is_some() {
            return Err(error(Kind::Exists, call, image));
        }
        state.add_image(image, layout);
        Ok(())
    }

    fn image_info(&self, image: &ImageSpec) -> Result<ImageInfo> {
        let state = self.reach("open image")?;
        let (id, found) =
            state.live(image).ok_or_else(|| error(Kind::NotFound, "open image", image))?;
        Ok(ImageInfo {
            id: id.clone(),
            size: found.size,
            features: found.features.clone(),
            object_size: found.object_size,
            data_pool: found.data_pool.clone(),
            created: Some(found.created),
        })
    }

    fn image_list(&self, at: &Location) -> Result<Vec<String>> {
        let state = self.reach("list images")?;
        if !has_namespace(&state, at) {
            return Err(error(Kind::NotFound, "list images", at));
        }
        let here = |image: &&SimImage| image.trashed.is_none() && image.spec.location == *at;
        Ok(state.images.values().filter(here).map(|image| image.spec.image.clone()).collect())
    }

    fn image_resize(&self, image: &ImageSpec, size: ByteSize) -> Result<()> {
        let mut state = self.reach_to_write("resize image", &image.location)?;
        let found = live(&mut state, "resize image", image)?;
        let shrunk = size < found.size;
        found.size = size;
        if shrunk {
            state.violation(format!("image {image} was made smaller"));
        }
        Ok(())
    }

    fn image_used(&self, image: &ImageSpec) -> Result<ByteSize> {
        let mut state = self.reach("measure image")?;
        let found = live(&mut state, "measure image", image)?;
        Ok(ByteSize(found.content.records().len() as u64 * 4096))
    }

    fn image_remove(&self, image: &ImageSpec) -> Result<()> {
        let mut state = self.reach("remove image")?;
        let found = live(&mut state, "remove image", image)?;
        if !found.watches.is_empty() {
            return Err(error(Kind::Busy, "remove image", image));
        }
        if !found.snapshots.is_empty() {
            return Err(error(Kind::NotEmpty, "remove image", image));
        }
        state.images.retain(|_, other| other.trashed.is_some() || other.spec != *image);
        Ok(())
    }

    fn metadata_get(&self, image: &ImageSpec, key: &str) -> Result<Option<String>> {
        let mut state = self.reach("read image metadata")?;
        Ok(live(&mut state, "read image metadata", image)?.metadata.get(key).cloned())
    }

    fn metadata_set(&self, image: &ImageSpec, key: &str, value: &str) -> Result<()> {
        let mut state = self.reach_to_write("write image metadata", &image.location)?;
        let found = live(&mut state, "write image metadata", image)?;
        found.metadata.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn watchers(&self, image: &ImageSpec) -> Result<Vec<Watcher>> {
        let mut state = self.reach("list watchers")?;
        let found = live(&mut state, "list watchers", image)?;
        Ok(found.watches.iter().map(|watch| watch.watcher.clone()).collect())
    }

    fn trash_move(&self, image: &ImageSpec, keep: Duration) -> Result<()> {
        let mut state = self.reach("trash image")?;
        let now = state.now;
        let found = live(&mut state, "trash image", image)?;
        if !found.watches.is_empty() {
            return Err(error(Kind::Busy, "trash image", image));
        }
        let kept_until = now.checked_add(keep).expect("a time within the calendar");
        found.trashed = Some((now, kept_until));
        Ok(())
    }

    fn trash_list(&self, at: &Location) -> Result<Vec<TrashedImage>> {
        let state = self.reach("list trash")?;
        let here = state.images.iter().filter(|(_, image)| image.spec.location == *at);
        let trashed = here.filter_map(|(id, image)| {
            let (deleted, kept_until) = image.trashed?;
            let name = image.spec.image.clone();
            Some(TrashedImage { id: id.clone(), name, deleted, kept_until })
        });
        Ok(trashed.collect())
    }

    fn trash_metadata_get(&self, at: &Location, id: &str, key: &str) -> Result<Option<String>> {
        let mut state = self.reach("read trash")?;
        Ok(trashed(&mut state, "read trash", at, id)?.metadata.get(key).cloned())
    }

    fn trash_restore(&self, at: &Location, id: &str, name: &str) -> Result<()> {
        let mut state = self.reach("restore image")?;
        let spec = at.image(name);
        let taken = state.live(&spec).is_some();
        let found = trashed(&mut state, "restore image", at, id)?;
        if taken {
            return Err(error(Kind::Exists, "restore image", spec));
        }
        found.spec = spec;
        found.trashed = None;
        Ok(())
    }

    fn trash_remove(&self, at: &Location, id: &str) -> Result<()> {
        let mut state = self.reach("purge image")?;
        let now = state.now;
        let found = trashed(&mut state, "purge image", at, id)?;
        if found.trashed.is_some_and(|(_, kept_until)| kept_until > now) {
            return Err(error(Kind::Denied, "purge image", format!("{at}/{id}")));
        }
        if !found.snapshots.is_empty() {
            return Err(error(Kind::NotEmpty, "purge image", format!("{at}/{id}")));
        }
        state.images.remove(id);
        Ok(())
    }
}

impl Manager for SimClient {
    fn placement_groups(&self) -> Result<PlacementGroups> {
        drop(self.reach("count placement groups")?);
        Ok(PlacementGroups { total: 33, active: 33 })
    }
}

impl Monitor for SimClient {
    fn status(&self) -> Result<ClusterStatus> {
        drop(self.reach("read status")?);
        Ok(ClusterStatus {
            fsid: "5c3f1b1e-0000-4000-8000-000000000001".to_owned(),
            health: "HEALTH_OK".to_owned(),
            release: "16.2.15".to_owned(),
        })
    }

    fn own_address(&self) -> Result<String> {
        drop(self.reach("read own address")?);
        Ok(self.address.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn own_caps(&self) -> Result<Vec<(String, String)>> {
        drop(self.reach("read own caps")?);
        Ok(vec![("mon".to_owned(), "profile rbd".to_owned())])
    }

    fn client_access(&self) -> Result<ClientAccess> {
        drop(self.reach("read client access")?);
        let address = "10.0.0.100:6789".to_owned();
        Ok(ClientAccess {
            monitors: vec![MonitorAddress { messenger: Messenger::V1, address }],
            client_id: "docker".to_owned(),
            key: Some(Secret::new("AQBVERYSECRET==")),
            default_map_options: Vec::new(),
        })
    }

    fn pools(&self) -> Result<Vec<String>> {
        Ok(self.reach("list pools")?.pools.keys().cloned().collect())
    }

    fn pool_usage(&self, pool: &str) -> Result<PoolUsage> {
        let state = self.reach("measure pool")?;
        let pool =
            state.pools.get(pool).ok_or_else(|| error(Kind::NotFound, "measure pool", pool))?;
        Ok(PoolUsage { free: pool.free, used: ByteSize(0), full: pool.full })
    }

    fn namespaces(&self, pool: &str) -> Result<Vec<String>> {
        let state = self.reach("list namespaces")?;
        let found = state.pools.get(pool);
        let pool = found.ok_or_else(|| error(Kind::NotFound, "list namespaces", pool))?;
        Ok(pool.namespaces.iter().cloned().collect())
    }

    fn blocklist(&self) -> Result<Vec<BlocklistEntry>> {
        Ok(self.reach("list blocklist")?.blocklist.clone())
    }

    fn blocklist_add(&self, address: &str, keep: Duration) -> Result<()> {
        let mut state = self.reach("add to blocklist")?;
        if address == *self.address.lock().unwrap_or_else(PoisonError::into_inner) {
            state.violation("a daemon fenced itself");
        }
        if address.ends_with("/0") {
            state.violation(format!("{address} fences a whole host"));
        }
        if !state.is_fenced(address) {
            let until = state.now.checked_add(keep).expect("a time within the calendar");
            state.blocklist.push(BlocklistEntry { address: address.to_owned(), until });
        }
        for image in state.images.values_mut() {
            image.watches.retain(|watch| watch.watcher.address != address);
        }
        Ok(())
    }

    fn blocklist_remove(&self, address: &str) -> Result<()> {
        self.reach("remove from blocklist")?.blocklist.retain(|entry| entry.address != address);
        Ok(())
    }

    fn header_barrier(&self, image: &ImageSpec) -> Result<()> {
        let mut state = self.reach_to_write("write image header", &image.location)?;
        live(&mut state, "write image header", image).map(drop)
    }
}

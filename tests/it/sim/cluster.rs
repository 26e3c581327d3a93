//! The simulated cluster's state, and what tests do to it from outside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use docker_volume_ceph::ceph::{BlocklistEntry, ImageLayout, Watcher};
use docker_volume_ceph::volume::{ByteSize, ImageSpec, Location, PathSpec};
use jiff::Timestamp;

use super::messages::Ear;
use super::subvolumes::CephFs;
use super::{Content, Record, SimClient};

/// How long a watch outlives its client.
const WATCH_LINGERS: Duration = Duration::from_secs(30);

/// The features of an image that names none.
const DEFAULT_FEATURES: [&str; 5] =
    ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"];

/// A cluster in memory, shared by the clients of all daemons and all kernels.
#[derive(Debug)]
pub(crate) struct SimCluster(Mutex<ClusterState>);

/// All that the cluster knows.
#[derive(Debug)]
pub(super) struct ClusterState {
    pub(super) now: Timestamp,
    pub(super) reachable: bool,
    pub(super) pools: BTreeMap<String, SimPool>,
    pub(super) objects: HashMap<(Location, String), SimObject>,
    /// Shares in leases on objects: until when, by member.
    pub(super) leases: HashMap<(Location, String), BTreeMap<String, Timestamp>>,
    pub(super) images: BTreeMap<String, SimImage>,
    /// What lies in the folders of CephFS.
    pub(super) folders: BTreeMap<PathSpec, BTreeSet<Record>>,
    pub(super) cephfs: CephFs,
    /// The client that has written a folder, where no second one may.
    pub(super) folder_writers: Option<BTreeMap<PathSpec, String>>,
    pub(super) blocklist: Vec<BlocklistEntry>,
    pub(super) violations: Vec<String>,
    /// The records that are older than anybody asks for.
    pub(super) old: BTreeSet<Record>,
    /// The clients that answer nobody, though they watch.
    pub(super) silent: BTreeSet<String>,
    /// Who hears what is sent to an object.
    pub(super) ears: BTreeMap<u64, Ear>,
    next_number: u64,
}

#[derive(Debug, Default)]
pub(super) struct SimPool {
    pub(super) free: ByteSize,
    pub(super) full: bool,
    pub(super) namespaces: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct SimObject {
    pub(super) version: u64,
    pub(super) omap: BTreeMap<String, Vec<u8>>,
}

/// An image, in its place or in the trash.
#[derive(Debug)]
pub(super) struct SimImage {
    pub(super) spec: ImageSpec,
    pub(super) size: ByteSize,
    pub(super) features: Vec<String>,
    pub(super) object_size: ByteSize,
    pub(super) data_pool: Option<String>,
    pub(super) created: Timestamp,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) content: Content,
    pub(super) snapshots: Vec<SimSnapshot>,
    /// The image that it was made of, and the snapshot.
    pub(super) parent: Option<(ImageSpec, String)>,
    pub(super) watches: Vec<Watch>,
    /// The host whose device has touched the content, by the device's address.
    pub(super) writer: Option<String>,
    /// In the trash: since when, and until when it is kept.
    pub(super) trashed: Option<(Timestamp, Timestamp)>,
}

/// A snapshot of an image.
#[derive(Debug, Clone)]
pub(super) struct SimSnapshot {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) size: ByteSize,
    pub(super) created: Timestamp,
    pub(super) content: Content,
}

/// A watch on an image's header.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) watcher: Watcher,
    /// Its client is gone; the watch ends then.
    pub(super) until: Option<Timestamp>,
}

impl SimCluster {
    /// A cluster with the pools `rbd` (namespaces `docker` and `other`) and `fast`.
    pub(crate) fn new() -> Arc<Self> {
        let pool = |namespaces: &[&str]| SimPool {
            free: ByteSize::gib(1000),
            full: false,
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        let pools = [("rbd", pool(&["docker", "other"])), ("fast", pool(&[]))];
        Arc::new(Self(Mutex::new(ClusterState {
            now: Timestamp::now(),
            reachable: true,
            pools: pools.into_iter().map(|(name, pool)| (name.to_owned(), pool)).collect(),
            objects: HashMap::new(),
            leases: HashMap::new(),
            images: BTreeMap::new(),
            folders: BTreeMap::new(),
            cephfs: CephFs::default(),
            folder_writers: None,
            blocklist: Vec::new(),
            violations: Vec::new(),
            old: BTreeSet::new(),
            silent: BTreeSet::new(),
            ears: BTreeMap::new(),
            next_number: 4100,
        })))
    }

    /// A connection of a daemon of its own, as after a start.
    pub(crate) fn client(self: &Arc<Self>) -> Arc<SimClient> {
        SimClient::connect(self)
    }

    /// Takes the cluster away from everybody, or brings it back.
    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.state().reachable = reachable;
    }

    /// Fills a pool up, or empties it again: writes to it fail while it is full.
    pub(crate) fn set_full(&self, pool: &str, full: bool) {
        self.state().pools.get_mut(pool).expect("a pool of the simulation").full = full;
    }

    /// Lets time pass for the cluster: lingering watches and blocklist entries end.
    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.now = state.now.checked_add(by).expect("a time within the calendar");
        let now = state.now;
        for image in state.images.values_mut() {
            image.watches.retain(|watch| watch.until.is_none_or(|until| until > now));
        }
        state.blocklist.retain(|entry| entry.until > now);
    }

    /// The time, by the cluster's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.state().now
    }

    /// The cluster's clock is set, as by somebody who sees that it is wrong.
    pub(crate) fn set_clock(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// What happened that must never happen.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// The images in their places, in the trash left out.
    pub(crate) fn image_specs(&self) -> Vec<ImageSpec> {
        let state = self.state();
        let live = state.images.values().filter(|image| image.trashed.is_none());
        live.map(|image| image.spec.clone()).collect()
    }

    /// How many images the trash holds.
    pub(crate) fn trash_len(&self) -> usize {
        self.state().images.values().filter(|image| image.trashed.is_some()).count()
    }

    /// What an image holds; `None` where there is none.
    pub(crate) fn content(&self, image: &ImageSpec) -> Option<Content> {
        self.state().live(image).map(|(_, image)| image.content.clone())
    }

    /// Writes an image behind the driver's back: what a person or another program made.
    pub(crate) fn put_image(&self, image: &ImageSpec, size: ByteSize, content: Content) {
        let mut state = self.state();
        let layout = ImageLayout { size, ..ImageLayout::default() };
        let id = state.add_image(image, &layout);
        state.images.get_mut(&id).expect("just added").content = content;
    }

    /// An image loses all that is written in it.
    pub(crate) fn wipe(&self, image: &ImageSpec) {
        self.state().live_mut(image).expect("an image to wipe").content = Content::Empty;
    }

    /// The client instances that are fenced.
    pub(crate) fn fenced(&self) -> Vec<String> {
        self.state().blocklist.iter().map(|entry| entry.address.clone()).collect()
    }

    /// How many watches there are on images, lingering ones included.
    pub(crate) fn watch_count(&self) -> usize {
        self.state().images.values().map(|image| image.watches.len()).sum()
    }

    /// The keys of all omap objects, for tests that look for what was left behind.
    pub(crate) fn omap_keys(&self) -> BTreeSet<String> {
        let state = self.state();
        state.objects.values().flat_map(|object| object.omap.keys().cloned()).collect()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ClusterState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterState {
    /// A number that was never given before: a client, a nonce, an image ID.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(super) fn is_fenced(&self, address: &str) -> bool {
        self.blocklist.iter().any(|entry| entry.address == address)
    }

    /// The image of that name that is not in the trash, with its ID.
    pub(super) fn live(&self, spec: &ImageSpec) -> Option<(&String, &SimImage)> {
        self.images.iter().find(|(_, image)| image.trashed.is_none() && image.spec == *spec)
    }

    pub(super) fn live_mut(&mut self, spec: &ImageSpec) -> Option<&mut SimImage> {
        self.images.values_mut().find(|image| image.trashed.is_none() && image.spec == *spec)
    }

    /// Puts an image there; the name is free.
    pub(super) fn add_image(&mut self, spec: &ImageSpec, layout: &ImageLayout) -> String {
        let id = format!("{:x}", self.number());
        let default_features = || DEFAULT_FEATURES.map(str::to_owned).to_vec();
        let named = !layout.features.is_empty();
        let image = SimImage {
            spec: spec.clone(),
            size: layout.size,
            features: if named { layout.features.clone() } else { default_features() },
            object_size: layout.object_size.unwrap_or(ByteSize::mib(4)),
            data_pool: layout.data_pool.clone(),
            created: self.now,
            metadata: BTreeMap::new(),
            content: Content::Empty,
            snapshots: Vec::new(),
            parent: None,
            watches: Vec::new(),
            writer: None,
            trashed: None,
        };
        self.images.insert(id.clone(), image);
        id
    }

    /// A client of a kernel opens an image for writing.
    pub(super) fn watch(&mut self, id: &str, address: &str) {
        let client = self.number();
        let watcher = Watcher { address: address.to_owned(), client, cookie: 1 };
        let image = self.images.get_mut(id).expect("an image that is mapped");
        image.watches.push(Watch { watcher, until: None });
    }

    /// A client of a kernel closes an image, or is gone without having closed it.
    pub(super) fn unwatch(&mut self, id: &str, address: &str, orderly: bool) {
        let until = self.now.checked_add(WATCH_LINGERS).expect("a time within the calendar");
        let Some(image) = self.images.get_mut(id) else { return };
        if image.writer.as_deref() == Some(address) {
            image.writer = None;
        }
        let of_client = |watch: &Watch| watch.watcher.address == address;
        if orderly {
            image.watches.retain(|watch| !of_client(watch));
        }
        for watch in image.watches.iter_mut().filter(|watch| of_client(watch)) {
            watch.until = Some(until);
        }
    }
}

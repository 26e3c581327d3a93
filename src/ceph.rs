//! What the layers above ask of a Ceph cluster.
//!
//! A trait for each thing that is asked: [`Objects`] for the catalog, [`Images`], [`Snapshots`]
//! and [`Liveness`] for RBD, [`Subvolumes`] and [`SubvolumeSnapshots`] for CephFS, [`Messages`]
//! and [`Leases`] between the daemons, [`Monitor`] and [`Manager`] for the cluster itself;
//! [`Cluster`] is all of them. Everything blocks, and every call ends: within the connection's time
//! limits, whatever the cluster does. A call that timed out may still have taken effect, so every
//! caller repeats or looks first.

mod access;
mod cephfs;
mod cluster;
mod command;
mod encoding;
mod error;
mod failure;
mod features;
mod header;
mod images;
mod keyring;
mod leases;
mod liveness;
mod manager;
mod messages;
mod monitor;
mod objects;
mod snapshots;
mod subvolume_snapshots;
mod subvolumes;

// All that speaks to C, and nothing else. What is above it is safe.
#[allow(unsafe_code, reason = "a librados handle, and its replies")]
mod connection;
#[allow(unsafe_code, reason = "librbd's calls on a pool's images")]
mod directory;
#[allow(unsafe_code, reason = "declarations of C functions")]
mod ffi;
#[allow(unsafe_code, reason = "librbd's calls on an open image")]
mod image;
#[allow(unsafe_code, reason = "librbd's calls on an image's snapshots")]
mod image_snapshots;
#[allow(unsafe_code, reason = "librados' calls on objects")]
mod io_context;
#[allow(unsafe_code, reason = "librados' calls on a watch, and its callbacks")]
mod watch;

pub use access::{Access, TimeLimits};
pub use cephfs::{FileSystem, SubvolumeInfo, SubvolumeLayout, SubvolumeState, Subvolumes};
pub use cluster::RadosCluster;
pub use error::{ClusterError, ClusterErrorKind};
pub(crate) use keyring::keys;
pub use leases::{Lease, Leases};
pub use snapshots::{Going, ImageSnapshot, Snapshots};
pub use subvolume_snapshots::{CloneState, SubvolumeSnapshot, SubvolumeSnapshots};

use std::time::Duration;

use jiff::Timestamp;

pub use crate::progress::Progress;
use crate::volume::{ByteSize, ClientAccess, ImageSpec, Location};

/// A result of the cluster.
pub type Result<T> = std::result::Result<T, ClusterError>;

/// All that is asked of a cluster.
pub trait Cluster:
    Objects
    + Images
    + Snapshots
    + Subvolumes
    + SubvolumeSnapshots
    + Liveness
    + Messages
    + Leases
    + Monitor
    + Manager
{
}

impl<T> Cluster for T where
    T: Objects
        + Images
        + Snapshots
        + Subvolumes
        + SubvolumeSnapshots
        + Liveness
        + Messages
        + Leases
        + Monitor
        + Manager
        + ?Sized
{
}

/// One page of an omap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OmapPage {
    /// Keys and values, in the keys' order.
    pub entries: Vec<(String, Vec<u8>)>,
    /// There are further keys after the last of these.
    pub more: bool,
}

/// What became of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The value was the expected one, and is now the new one.
    Swapped,
    /// The value was another one, and still is.
    Changed,
}

/// Key-value objects (omaps), of which the catalog is one.
pub trait Objects: Send + Sync {
    /// The value of a key; `None` where the key or the whole object is missing.
    fn omap_get(&self, at: &Location, object: &str, key: &str) -> Result<Option<Vec<u8>>>;

    /// Up to `limit` entries whose keys come after `after`; an empty page where the object is
    /// missing. The cluster may return fewer than asked for and say that there are more.
    fn omap_page(&self, at: &Location, object: &str, after: &str, limit: u64) -> Result<OmapPage>;

    /// Sets a key to `new` (`None` removes it) if and only if it holds `expected` (`None`: it is
    /// missing), in one write operation. Creates the object. Values are never empty.
    fn omap_compare_and_set(
        &self,
        at: &Location,
        object: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap>;

    /// A number that changes with every write to the object; 0 where it is missing.
    fn object_version(&self, at: &Location, object: &str) -> Result<u64>;
}

/// How a new image is laid out. `None` leaves the choice to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageLayout {
    /// The image's size.
    pub size: ByteSize,
    /// Feature names, as `rbd(8)` writes them (`layering`, `exclusive-lock` …); empty: the cluster's default.
    pub features: Vec<String>,
    /// The size of its objects, a power of two.
    pub object_size: Option<ByteSize>,
    /// Stripe unit and count.
    pub stripes: Option<(ByteSize, u64)>,
    /// The pool for the data, where it is not the image's own.
    pub data_pool: Option<String>,
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The internal ID (`rbd_header.ID` is its header object).
    pub id: String,
    /// The size.
    pub size: ByteSize,
    /// Feature names, as `rbd(8)` writes them.
    pub features: Vec<String>,
    /// The size of its objects.
    pub object_size: ByteSize,
    /// The pool of its data, where it is not the image's own.
    pub data_pool: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// A client that has an image open for writing, here or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Watcher {
    /// The client's address with its nonce, such as `10.0.0.7:0/3187512345`: exactly what a
    /// blocklist entry names.
    pub address: String,
    /// The client's number (`client.4123` is 4123).
    pub client: u64,
    /// The watch's cookie.
    pub cookie: u64,
}

/// An image in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedImage {
    /// The internal ID, by which it is restored or removed.
    pub id: String,
    /// The name that it had.
    pub name: String,
    /// When it was moved there.
    pub deleted: Timestamp,
    /// Until when it is kept.
    pub kept_until: Timestamp,
}

/// RBD images.
pub trait Images: Send + Sync {
    /// Makes an image. [`ClusterErrorKind::Exists`] where there is one of that name.
    fn image_create(&self, image: &ImageSpec, layout: &ImageLayout) -> Result<()>;

    /// What the image says of itself. Never a watcher.
    fn image_info(&self, image: &ImageSpec) -> Result<ImageInfo>;

    /// The names of the images there.
    fn image_list(&self, at: &Location) -> Result<Vec<String>>;

    /// Sets the image's size; `Invalid` if that would make it smaller. The image is open for
    /// writing, and so watched by this client, until it returns.
    fn image_resize(&self, image: &ImageSpec, size: ByteSize) -> Result<()>;

    /// The bytes that the image takes in the cluster, before replication. Slow for large images
    /// without the `fast-diff` feature.
    fn image_used(&self, image: &ImageSpec) -> Result<ByteSize>;

    /// Deletes the image for good. [`ClusterErrorKind::Busy`] while it is watched,
    /// [`ClusterErrorKind::NotEmpty`] while it has snapshots, `NotFound` where it is gone.
    fn image_remove(&self, image: &ImageSpec) -> Result<()>;

    /// The value of a metadata key of the image.
    fn metadata_get(&self, image: &ImageSpec, key: &str) -> Result<Option<String>>;

    /// Sets a metadata key of the image, also while another host has it open or locked. Never a
    /// watcher.
    fn metadata_set(&self, image: &ImageSpec, key: &str, value: &str) -> Result<()>;

    /// Who has the image open for writing; never this daemon's own control connection.
    fn watchers(&self, image: &ImageSpec) -> Result<Vec<Watcher>>;

    /// Moves the image to the trash, to be kept for `keep`. `NotFound` where it is gone,
    /// `Busy` while it is watched; who opens it at this very moment keeps it open in the trash.
    fn trash_move(&self, image: &ImageSpec, keep: Duration) -> Result<()>;

    /// What the trash there holds.
    fn trash_list(&self, at: &Location) -> Result<Vec<TrashedImage>>;

    /// The value of a metadata key of an image in the trash.
    fn trash_metadata_get(&self, at: &Location, id: &str, key: &str) -> Result<Option<String>>;

    /// Takes an image out of the trash, under `name`. `Exists` where that is taken.
    fn trash_restore(&self, at: &Location, id: &str, name: &str) -> Result<()>;

    /// Deletes an image in the trash for good; `Busy` before its time is over.
    fn trash_remove(&self, at: &Location, id: &str) -> Result<()>;
}

/// Who holds the exclusive lock of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOwner {
    /// The client's number.
    pub client: u64,
    /// The client's address with its nonce.
    pub address: String,
}

/// One that answered a notify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The client's number.
    pub client: u64,
    /// Its watch's cookie.
    pub cookie: u64,
    /// What it answered.
    pub message: Vec<u8>,
}

/// Who answered a notify, and who did not in time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notified {
    /// Those that answered.
    pub answers: Vec<Answer>,
    /// Those that did not: the client's number, and its watch's cookie.
    pub silent: Vec<(u64, u64)>,
}

/// Which OSDs serve an image's header, and since when: while this stays the same, the silence of a
/// watcher is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The OSDs of its placement group.
    pub acting: Vec<i32>,
    /// The one that is spoken to.
    pub primary: i32,
    /// The epoch of the map since which that one is up.
    pub up_from: u64,
}

/// Whether whoever has an image open is still there.
pub trait Liveness: Send + Sync {
    /// Who holds the image's exclusive lock; also one that is gone.
    fn lock_owner(&self, image: &ImageSpec) -> Result<Option<LockOwner>>;

    /// Asks all who watch the image's header for a sign of life, and waits for at most `wait`,
    /// which counts in whole seconds, at least 1. An error says nothing of them.
    fn ask_watchers(&self, image: &ImageSpec, wait: Duration) -> Result<Notified>;

    /// Which OSDs serve the image's header.
    fn interval(&self, image: &ImageSpec) -> Result<Interval>;
}

/// What is done with a message: its answer. May take as long as the sender waits.
pub type Hear = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// A watch on an object, which ends when this is dropped.
pub trait Watch: Send + Sync {
    /// Does it still stand? One that does not has to be made anew.
    fn check(&self) -> Result<()>;
}

/// Messages between the daemons, carried by the cluster.
pub trait Messages: Send + Sync {
    /// Sends a message to all who watch an object, and waits for their answers for at most `wait`,
    /// which counts in whole seconds, at least 1. `NotFound` where there is no such object.
    fn notify(
        &self,
        at: &Location,
        object: &str,
        message: &[u8],
        wait: Duration,
    ) -> Result<Notified>;

    /// Hears what is sent to an object, which is created where it is missing.
    fn watch(&self, at: &Location, object: &str, hear: Hear) -> Result<Box<dyn Watch>>;
}

/// What a pool has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    /// Bytes that can still be stored, replication and quota reckoned in.
    pub free: ByteSize,
    /// Bytes stored, before replication.
    pub used: ByteSize,
    /// Writes are held up: the pool or the cluster is full, or its quota is used up.
    pub full: bool,
}

/// What the cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's ID.
    pub fsid: String,
    /// `HEALTH_OK`, `HEALTH_WARN` or `HEALTH_ERR`.
    pub health: String,
    /// The monitors' release, such as `16.2.15`.
    pub release: String,
}

/// A blocklist entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlocklistEntry {
    /// The client instance: address, port and nonce.
    pub address: String,
    /// When the entry ends.
    pub until: Timestamp,
}

/// The monitors: the cluster as a whole.
pub trait Monitor: Send + Sync {
    /// Reads the cluster's status; the cheapest proof that it answers.
    fn status(&self) -> Result<ClusterStatus>;

    /// The address of this daemon's own client, with its nonce.
    fn own_address(&self) -> Result<String>;

    /// The capabilities that the monitors know of for our own client, as (daemon type, caps);
    /// `Denied` where the client may not look.
    fn own_caps(&self) -> Result<Vec<(String, String)>>;

    /// What somebody else on this host, the kernel, needs to be the same client: the monitors'
    /// addresses by their own map, and the client's key as it is in its file now.
    fn client_access(&self) -> Result<ClientAccess>;

    /// The pools' names.
    fn pools(&self) -> Result<Vec<String>>;

    /// What a pool has room for. `NotFound` where there is none of that name, `Unreachable` for
    /// the first seconds of a new pool, of which the cluster has no figures.
    fn pool_usage(&self, pool: &str) -> Result<PoolUsage>;

    /// The RADOS namespaces of a pool that RBD knows of.
    fn namespaces(&self, pool: &str) -> Result<Vec<String>>;

    /// The clients that are fenced.
    fn blocklist(&self) -> Result<Vec<BlocklistEntry>>;

    /// Fences exactly the client instance `address` for `keep`, and returns once this client sees
    /// the map with the entry. An entry that is there keeps its own end.
    fn blocklist_add(&self, address: &str, keep: Duration) -> Result<()>;

    /// Lets exactly the client instance `address` in again. What it still has open can write from
    /// then on: only for a client that is known to be gone.
    fn blocklist_remove(&self, address: &str) -> Result<()>;

    /// One write to the image's header object that changes nothing of it: whatever a fenced
    /// client had queued at that OSD is past when it returns.
    fn header_barrier(&self, image: &ImageSpec) -> Result<()>;
}

/// The placement groups, each of which serves a part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacementGroups {
    /// How many there are, in all pools.
    pub total: u64,
    /// How many of them serve reads and writes; with the others' parts of the data they wait.
    pub active: u64,
}

/// The active manager (`ceph-mgr`). A client needs capabilities of its own for it, which `profile
/// rbd` does not hold.
pub trait Manager: Send + Sync {
    /// The placement groups. `Denied` where the client may not ask, `Unreachable` where no manager
    /// answers in time.
    fn placement_groups(&self) -> Result<PlacementGroups>;
}

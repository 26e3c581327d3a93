//! A kind of volume: how it is provisioned, attached to this host, and given up.
//!
//! The service decides *whether*; a backend knows *how*. It never sees a request, a mount ID or a
//! reference count. Every method may be repeated after a failure or a crash: what is done already
//! is success.
//!
//! Each kind has a backend of its own, which knows where its volumes lie (`L`) and what of them is
//! attached here (`A`), and nothing of other kinds. [`Kinds`] is all of them as the service sees
//! them, over a [`Place`] and an [`Attached`].

mod attached;
mod cephfs;
mod clones;
mod error;
mod fence;
mod kinds;
mod rbd;
mod snapshots;

pub use attached::{Attached, Evidence};
pub use cephfs::{CephFsBackend, Folder};
pub use clones::{Cloning, Copied};
pub use error::BackendError;
pub use kinds::Kinds;
pub use rbd::RbdBackend;
pub use snapshots::{Freezing, RollBack, Snapshotting, Still, StoredSnapshot};

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ceph::{Interval, LockOwner, Notified, PoolUsage, Watcher};
use crate::deadline::Deadline;
use crate::system::{FsUsage, Holder, Ownership};
use crate::volume::{ByteSize, FsType, Place, VolumeName, VolumeOptions};

/// A result of a backend.
pub type Result<T> = std::result::Result<T, BackendError>;

/// A kind of volume, or all of them.
pub trait Backend<L = Place, A = Attached>:
    Provisioning<L>
    + Attaching<L, A>
    + Fencing<L>
    + Trash<L>
    + Snapshotting<L>
    + Cloning<L>
    + Freezing<A>
{
}

impl<L, A, T> Backend<L, A> for T where
    T: Provisioning<L>
        + Attaching<L, A>
        + Fencing<L>
        + Trash<L>
        + Snapshotting<L>
        + Cloning<L>
        + Freezing<A>
        + ?Sized
{
}

/// Shutting out a client that is gone, so that what it still holds can never be written.
pub trait Fencing<L = Place>: Send + Sync {
    /// Who holds the exclusive lock, whether it is there or gone.
    fn lock_owner(&self, location: &L) -> Result<Option<LockOwner>>;

    /// Asks who has it open for a sign of life, which takes a second where one of them is silent.
    /// `None` where nothing can be said of any of them.
    fn ask_watchers(&self, location: &L) -> Option<(Notified, Interval)>;

    /// Fences exactly the client instances at `addresses`, and returns only when nothing of theirs
    /// can reach `location` any more. An error where that cannot be made sure.
    fn fence(&self, location: &L, addresses: &[String]) -> Result<()>;
}

/// What a new volume will be, after all that can be checked before anything is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<L = Place> {
    /// Where it will lie.
    pub location: L,
    /// Its size; 0 where nothing limits it.
    pub size: ByteSize,
    /// It is there already: to be adopted.
    pub adopted: bool,
}

/// Something stored as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<L = Place> {
    /// Where.
    pub location: L,
    /// What it says of itself, where it is a volume of ours.
    pub description: Option<String>,
}

/// What a stored thing says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInfo {
    /// What tells it from a later one in the same place.
    pub id: String,
    /// Its size; 0 where nothing limits it.
    pub size: ByteSize,
    /// The features of an image, as `rbd(8)` writes them.
    pub features: Vec<String>,
}

/// Making, describing and destroying the stored thing.
pub trait Provisioning<L = Place>: Send + Sync {
    /// Where a volume will lie and how large it will be. Checks the options against the cluster
    /// (pools, namespaces, the image to adopt, features that the mapper carries); makes nothing.
    fn plan(&self, name: &VolumeName, options: &VolumeOptions) -> Result<Plan<L>>;

    /// Makes the stored thing of a record that is `creating`. One that is there already, of the
    /// right size, is taken for an earlier attempt's.
    fn provision(&self, location: &L, options: &VolumeOptions) -> Result<()>;

    /// Writes the description on the volume itself.
    fn describe(&self, location: &L, description: &str) -> Result<()>;

    /// The description on the volume itself.
    fn description(&self, location: &L) -> Result<Option<String>>;

    /// Deletes the stored thing (`keep` is `None`) or moves it to the trash for that long. Success
    /// where it is gone.
    fn deprovision(&self, location: &L, keep: Option<Duration>) -> Result<()>;

    /// Takes back what the driver has made for the use of the stored thing, which stays as it is.
    /// Success where there is nothing of it.
    fn close(&self, location: &L) -> Result<()>;

    /// What the stored thing says of itself.
    fn info(&self, location: &L) -> Result<StoredInfo>;

    /// The bytes that it takes in the cluster.
    fn stored(&self, location: &L) -> Result<ByteSize>;

    /// The clients that have it open for writing.
    fn watchers(&self, location: &L) -> Result<Vec<Watcher>>;

    /// Gives the stored thing another size. An image only grows; a quota is never set below what is
    /// used.
    fn resize(&self, location: &L, size: ByteSize) -> Result<()>;

    /// Bytes that can still be stored in a pool.
    fn room(&self, pool: &str) -> Result<PoolUsage>;

    /// Everything that this client can see, ours or not.
    fn survey(&self) -> Result<Vec<Found<L>>>;
}

/// Something in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedItem<L = Place> {
    /// Where it lay.
    pub location: L,
    /// The name that it had.
    pub name: String,
    /// What tells it from others that lay there.
    pub id: String,
    /// When it was moved to the trash; to whole seconds where the cluster counts so.
    pub deleted: Timestamp,
    /// Until when it is kept.
    pub kept_until: Timestamp,
}

/// What was removed and is still there.
pub trait Trash<L = Place>: Send + Sync {
    /// All that this client can see.
    fn trash(&self) -> Result<Vec<TrashedItem<L>>>;

    /// The description on something in the trash.
    fn trash_description(&self, item: &TrashedItem<L>) -> Result<Option<String>>;

    /// What may have been restored under that name by somebody who did not live to say so.
    fn restored(&self, name: &VolumeName) -> Result<Vec<Found<L>>>;

    /// Takes it out of the trash, under that name where it can have one; where it lies then.
    fn restore(&self, item: &TrashedItem<L>, name: &VolumeName) -> Result<L>;

    /// Deletes it for good.
    fn purge(&self, item: &TrashedItem<L>) -> Result<()>;
}

/// What is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest<L = Place> {
    /// What.
    pub location: L,
    /// For reading only.
    pub read_only: bool,
    /// Where it is to be mounted.
    pub target: PathBuf,
    /// What the volume was asked to be.
    pub options: VolumeOptions,
}

/// Something that is attached to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment<A = Attached> {
    /// What of it is here.
    #[serde(flatten)]
    pub attached: A,
    /// The client instance that has it open for writing, where it is known.
    pub address: Option<String>,
    /// The client of a folder that is held by an image: with `address` that of the image, it is the
    /// holder's too.
    #[serde(default)]
    pub folder_client: Option<String>,
    /// Its size when it was attached.
    pub size: ByteSize,
    /// The folder of it that the volume is, where only what is mounted tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// How an attachment is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// Where.
    pub target: PathBuf,
    /// The folder of the file system that containers see, made if it is missing; "" is all of it.
    pub folder: String,
    /// Its ownership when it is made.
    pub owner: Ownership,
    /// For reading only.
    pub read_only: bool,
    /// The file system to make, where one may be made.
    pub format: Option<(FsType, Vec<String>)>,
    /// The file system is that of a clone, and gets a UUID of its own first.
    pub renew_uuid: bool,
    /// The file system that the driver has made there before.
    pub made: Option<FsType>,
    /// Mount options.
    pub options: Vec<String>,
}

/// Using the stored thing on this host.
pub trait Attaching<L = Place, A = Attached>: Send + Sync {
    /// Brings it to this host. A failed attach leaves nothing.
    fn attach(&self, request: &AttachRequest<L>, deadline: &Deadline) -> Result<Attachment<A>>;

    /// What is attached here, whole or broken, by the kernel's evidence.
    fn attached(&self) -> Result<Vec<A>>;

    /// Probes, formats if the plan allows it, checks, mounts, grows. A failed mount leaves nothing
    /// mounted.
    fn mount(&self, attached: &A, plan: &MountPlan, deadline: &Deadline) -> Result<()>;

    /// Undoes a mount. Success where nothing is mounted.
    fn unmount(&self, location: &L, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Undoes an attach. Success where it is gone.
    fn detach(&self, attached: &A, deadline: &Deadline) -> Result<()>;

    /// Ends the way from the mounted file system to the stored thing, at once and without a flush:
    /// for one that was taken from this host. The file system stays for who holds it, and fails.
    fn cut_off(&self, attached: &A, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Does what is mounted still serve? `false` where no waiting would cure it; an error says
    /// nothing of it.
    fn is_alive(&self, attached: &A, deadline: &Deadline) -> Result<bool>;

    /// Is nothing left, on this host, of the client with that address?
    fn is_client_gone(&self, address: &str) -> Result<bool>;

    /// Who holds the mounted file system, other than we at `target`.
    fn holders(&self, attached: &A, target: &Path) -> Result<Vec<Holder>>;

    /// Lets the mounted file system have all of a grown image.
    fn grow(&self, attached: &A, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Space in the mounted file system.
    fn usage(&self, location: &L, target: &Path, deadline: &Deadline) -> Result<FsUsage>;

    /// Gives unused blocks back.
    fn trim(&self, location: &L, target: &Path, deadline: &Deadline) -> Result<ByteSize>;
}

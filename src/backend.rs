//! A kind of volume: how it is provisioned, attached to this host, and given up.
//!
//! The service decides *whether*; a backend knows *how*. It never sees a request, a mount ID or a
//! reference count. Every method may be repeated after a failure or a crash: what is done already
//! is success.

mod error;
mod rbd;

pub use error::BackendError;
pub use rbd::RbdBackend;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ceph::{ImageInfo, Interval, LockOwner, Notified, PoolUsage, TrashedImage, Watcher};
use crate::deadline::Deadline;
use crate::system::{FsUsage, Holder, MappedDevice, Mount, Ownership};
use crate::volume::{
    ByteSize, FsType, ImageSpec, Location, MapperKind, Record, VolumeName, VolumeOptions,
};

/// A result of a backend.
pub type Result<T> = std::result::Result<T, BackendError>;

/// A kind of volume.
pub trait Backend: Provisioning + Attaching + Fencing + Trash {}

impl<T: Provisioning + Attaching + Fencing + Trash + ?Sized> Backend for T {}

/// Shutting out a client that is gone, so that what it still holds can never be written.
pub trait Fencing: Send + Sync {
    /// Who holds the exclusive lock, whether it is there or gone.
    fn lock_owner(&self, location: &ImageSpec) -> Result<Option<LockOwner>>;

    /// Asks who has it open for a sign of life, which takes a second where one of them is silent.
    /// `None` where nothing can be said of any of them.
    fn ask_watchers(&self, location: &ImageSpec) -> Option<(Notified, Interval)>;

    /// Fences exactly the client instances at `addresses`, and returns only when nothing of theirs
    /// can reach `location` any more. An error where that cannot be made sure.
    fn fence(&self, location: &ImageSpec, addresses: &[String]) -> Result<()>;

    /// The client instances that are fenced.
    fn fenced(&self) -> Result<Vec<String>>;

    /// Lets a client instance in again, of which nothing is left.
    fn unfence(&self, address: &str) -> Result<()>;
}

/// What a new volume will be, after all that can be checked before anything is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it will lie.
    pub location: ImageSpec,
    /// Its size.
    pub size: ByteSize,
    /// It is there already: to be adopted.
    pub adopted: bool,
}

/// A volume's image as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub location: ImageSpec,
    /// What it says of itself, where it is a volume of ours.
    pub description: Option<String>,
}

/// Making, describing and destroying the stored thing.
pub trait Provisioning: Send + Sync {
    /// Where a volume will lie and how large it will be. Checks the options against the cluster
    /// (pools, namespaces, the image to adopt, features that the mapper carries); makes nothing.
    fn plan(&self, name: &VolumeName, options: &VolumeOptions) -> Result<Plan>;

    /// Makes the stored thing of a record that is `creating`. One that is there already, of the
    /// right size, is taken for an earlier attempt's.
    fn provision(&self, record: &Record) -> Result<()>;

    /// Writes the description on the volume itself.
    fn describe(&self, location: &ImageSpec, description: &str) -> Result<()>;

    /// The description on the volume itself.
    fn description(&self, location: &ImageSpec) -> Result<Option<String>>;

    /// Deletes the stored thing (`keep` is `None`) or moves it to the trash for that long. Success
    /// where it is gone.
    fn deprovision(&self, location: &ImageSpec, keep: Option<Duration>) -> Result<()>;

    /// What the stored thing says of itself.
    fn info(&self, location: &ImageSpec) -> Result<ImageInfo>;

    /// The bytes that it takes in the cluster.
    fn stored(&self, location: &ImageSpec) -> Result<ByteSize>;

    /// The clients that have it open for writing.
    fn watchers(&self, location: &ImageSpec) -> Result<Vec<Watcher>>;

    /// Grows the stored thing.
    fn resize(&self, location: &ImageSpec, size: ByteSize) -> Result<()>;

    /// Bytes that can still be stored in a pool.
    fn room(&self, pool: &str) -> Result<PoolUsage>;

    /// Every place that this client can see: pools and their namespaces.
    fn places(&self) -> Result<Vec<Location>>;

    /// Everything that lies there, ours or not.
    fn survey(&self, at: &Location) -> Result<Vec<Found>>;
}

/// What was removed and is still there.
pub trait Trash: Send + Sync {
    /// What the trash there holds.
    fn trash(&self, at: &Location) -> Result<Vec<TrashedImage>>;

    /// The description on something in the trash.
    fn trash_description(&self, at: &Location, id: &str) -> Result<Option<String>>;

    /// Takes it out of the trash, to that place.
    fn restore(&self, id: &str, location: &ImageSpec) -> Result<()>;

    /// Deletes it for good.
    fn purge(&self, at: &Location, id: &str) -> Result<()>;
}

/// What is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// What.
    pub location: ImageSpec,
    /// For reading only.
    pub read_only: bool,
    /// By which mapper; `None`: the daemon's choice.
    pub mapper: Option<MapperKind>,
    /// More map options.
    pub map_options: Vec<String>,
}

/// Something that is attached to this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The block device.
    pub device: MappedDevice,
    /// The client instance that has the image open; `None` where nothing can write.
    pub address: Option<String>,
    /// The image's size when it was attached.
    pub size: ByteSize,
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
    /// The file system that the driver has made there before.
    pub made: Option<FsType>,
    /// Mount options.
    pub options: Vec<String>,
}

/// What the kernel shows of this host at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The devices that are ours, whole or broken.
    pub devices: Vec<MappedDevice>,
    /// Every mount in our namespace.
    pub mounts: Vec<Mount>,
}

impl Evidence {
    /// The devices of an image.
    pub fn devices_of<'a>(
        &'a self,
        location: &'a ImageSpec,
    ) -> impl Iterator<Item = &'a MappedDevice> {
        self.devices.iter().filter(move |device| device.image == *location)
    }

    /// Is the device, whole, what is mounted at the target?
    #[must_use]
    pub fn is_mounted(&self, device: &MappedDevice, target: &Path) -> bool {
        let top = self.mounts.iter().rev().find(|mount| mount.target == target);
        self.devices.contains(device) && top.is_some_and(|mount| mount.number == device.number)
    }

    /// Where the device is mounted below `root`.
    #[must_use]
    pub fn targets_below(&self, device: &MappedDevice, root: &Path) -> Vec<PathBuf> {
        let ours = |mount: &&Mount| mount.number == device.number && mount.target.starts_with(root);
        self.mounts.iter().filter(ours).map(|mount| mount.target.clone()).collect()
    }
}

/// Using the stored thing on this host.
pub trait Attaching: Send + Sync {
    /// Makes it a device here. A failed attach leaves nothing.
    fn attach(&self, request: &AttachRequest, deadline: &Deadline) -> Result<Attachment>;

    /// What is attached and mounted here, by the kernel's evidence.
    fn evidence(&self) -> Result<Evidence>;

    /// Probes, formats if the plan allows it, checks, mounts, grows. A failed mount leaves nothing
    /// mounted.
    fn mount(&self, device: &MappedDevice, plan: &MountPlan, deadline: &Deadline) -> Result<()>;

    /// Undoes a mount. Success where nothing is mounted.
    fn unmount(&self, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Undoes an attach. Success where it is gone.
    fn detach(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()>;

    /// Ends the way from the mounted file system to the stored thing, at once and without a flush:
    /// for one that was taken from this host. The file system stays for who holds it, and fails.
    fn cut_off(&self, device: &MappedDevice, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Is nothing left, on this host, of the client with that address?
    fn is_client_gone(&self, address: &str) -> Result<bool>;

    /// Who holds the mounted file system, other than we at `target`.
    fn holders(&self, device: &MappedDevice, target: &Path) -> Result<Vec<Holder>>;

    /// Lets the mounted file system have all of a grown image.
    fn grow(&self, device: &MappedDevice, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Space in the mounted file system.
    fn usage(&self, target: &Path, deadline: &Deadline) -> Result<FsUsage>;

    /// Gives unused blocks back.
    fn trim(&self, target: &Path, deadline: &Deadline) -> Result<ByteSize>;
}

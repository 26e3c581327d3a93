//! What the layers above ask of this host: block devices, file systems, mounts, folders of CephFS,
//! and who uses them.
//!
//! Six traits, one for each thing that is asked: [`Mappers`], [`Filesystems`], [`Mounts`],
//! [`FolderMounts`], [`Freezing`], [`Hooks`]; [`System`] is all of them. Whatever can hang in the kernel (mount, unmount, a stat of a volume,
//! map and unmap) happens in a child process that is killed at its deadline: a thread stuck in the
//! kernel would keep a killed daemon's socket alive. Nothing here knows of volumes or of Docker.

mod cephfs;
pub(crate) mod command;
mod error;
mod exit;
mod filesystem;
mod freeze;
mod holders;
mod hooks;
mod kernel;
mod linux;
mod mapper;
mod monitors;
mod mountinfo;
mod mounts;
mod old_files;
mod process;
mod state;
mod superblock;
mod uuid;

pub use command::PROGRAM_FOLDERS;
pub use error::{SystemError, SystemErrorKind};
pub use exit::end_process;
pub use freeze::{Freezing, Frozen, Stood};
pub use hooks::{AfterFailure, Hooks};
pub use kernel::kernel_entry;
pub(crate) use kernel::{close_inherited, privileges};
pub use linux::{LinuxSettings, LinuxSystem};
pub(crate) use mapper::loop_devices;
pub use old_files::OldFiles;

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deadline::Deadline;
use crate::progress::Progress;
use crate::volume::{ByteSize, CephFsClient, ClientAccess, FsType, ImageSpec, MapperKind};

/// A result of the host.
pub type Result<T> = std::result::Result<T, SystemError>;

/// All that is asked of a host.
pub trait System: Mappers + Filesystems + Mounts + FolderMounts + Freezing + Hooks {
    /// This host, and this boot of it.
    fn host(&self) -> &Host;
}

/// A host and its boot: what dies when the kernel's mounts die.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The host's name, for people only: clones share it.
    pub name: String,
    /// The kernel's boot ID: new at each boot.
    pub boot_id: String,
}

/// A block device's major and minor number, as mountinfo writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What is to become a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRequest {
    /// By which mapper.
    pub mapper: MapperKind,
    /// Which image.
    pub image: ImageSpec,
    /// For reading only.
    pub read_only: bool,
    /// More options for the mapper, as `rbd device map -o` takes them.
    pub map_options: Vec<String>,
    /// How the cluster is reached, for a mapper that does not find it by itself (krbd).
    pub client: Option<ClientAccess>,
}

/// An image that is a block device here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedDevice {
    /// By which mapper.
    pub mapper: MapperKind,
    /// Which image.
    pub image: ImageSpec,
    /// `/dev/rbd0`, `/dev/nbd0`, `/dev/loop0`.
    pub device: PathBuf,
    /// Its number.
    pub number: DeviceNumber,
    /// For reading only.
    pub read_only: bool,
    /// The address and nonce of its client, where the kernel tells (krbd).
    pub client_address: Option<String>,
    /// The process behind it (nbd, fuse), with the start time that makes the number certain.
    pub process: Option<ProcessId>,
}

impl MappedDevice {
    /// Can it be used? One that is not whole (the process behind it has died, or its map was cut
    /// short, which gives it the number 0:0 and no device node) can only be unmapped.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let served = self.mapper == MapperKind::Krbd || self.process.is_some();
        served && self.number != DeviceNumber { major: 0, minor: 0 }
    }
}

/// A process, told apart from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: u32,
    /// Its start, in clock ticks since the boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

/// Whether a mapper can be used here, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapperSupport {
    /// Which mapper.
    pub mapper: MapperKind,
    /// `None` where it can be used; else what is missing and what to do about it.
    pub missing: Option<String>,
}

/// Images as block devices.
pub trait Mappers: Send + Sync {
    /// Which mappers can be used here, in the order krbd, nbd, fuse.
    fn supported(&self) -> Vec<MapperSupport>;

    /// The RBD features that a mapper here can carry; `None`: every one.
    fn carried_features(&self, mapper: MapperKind) -> Option<Vec<String>>;

    /// Makes a block device of an image and waits until it is there. A failed map leaves nothing.
    /// A repeat for an image that is mapped makes a second device: look at [`Mappers::mapped`]
    /// first.
    fn map(&self, request: &MapRequest, deadline: &Deadline) -> Result<MappedDevice>;

    /// Undoes a map, and everything that a broken or half-made one left. `Busy` names who holds
    /// the device. Success where it is gone already.
    fn unmap(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()>;

    /// Takes a device from under whoever uses it, at once and without a flush: their IO fails. It
    /// still has to be unmapped when they are gone.
    fn cut_off(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()>;

    /// Is nothing left on this host of the cluster's client with that address? In doubt, no.
    fn is_client_gone(&self, address: &str) -> Result<bool>;

    /// The images that are mapped here, of those that this daemon, or one before it with the same
    /// state folder, has mapped; found by the kernel's evidence, whole or broken.
    fn mapped(&self) -> Result<Vec<MappedDevice>>;

    /// Lets the kernel see that the image has grown.
    fn refresh_size(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()>;

    /// Makes sure that the device writes by the image's snapshots as they are now. The kernel's
    /// RBD answers the cluster's notification also where it could not read the image's header; it
    /// reads it again here, and an error says that it did not. Other mappers answer only when they
    /// have read it, and need nothing.
    fn refresh(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()>;
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Nothing that is known: no file system, partition table, RAID or LVM signature.
    Empty,
    /// A file system that can be mounted.
    Filesystem(FsType),
    /// Something else, by its name.
    Other(String),
}

/// How a file system is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatRequest {
    /// Of which type.
    pub fs_type: FsType,
    /// More arguments for mkfs.
    pub mkfs_options: Vec<String>,
}

/// Space in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsUsage {
    /// Its size.
    pub size: ByteSize,
    /// Bytes in use.
    pub used: ByteSize,
    /// Bytes that an ordinary user can still write.
    pub free: ByteSize,
}

/// Who a folder belongs to; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ownership {
    /// The user's number.
    pub uid: Option<u32>,
    /// The group's number.
    pub gid: Option<u32>,
    /// The permission bits.
    pub mode: Option<u32>,
}

/// File systems on block devices.
pub trait Filesystems: Send + Sync {
    /// What the device holds, by its content (as `blkid -p`), never by a record of it.
    fn probe(&self, device: &Path, deadline: &Deadline) -> Result<Probe>;

    /// Can the device be mounted as it is: a file system of that type that is clean and fills the
    /// device? By its superblock alone, in one read, and so no proof that nothing else is there.
    /// Where it is not certain (and for XFS, always) the answer is no, and [`Filesystems::check`]
    /// and [`Filesystems::grow`] are to be asked.
    fn is_sound(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> Result<bool>;

    /// Probes the device, and makes a file system where it is empty. Returns what the device held:
    /// whatever is not [`Probe::Empty`] is untouched. The caller has made sure that it is new.
    fn format(&self, device: &Path, request: &FormatRequest, deadline: &Deadline) -> Result<Probe>;

    /// Repairs what can be repaired safely before a mount (`e2fsck -p`; XFS replays its log at the
    /// mount). An error where a person has to look.
    fn check(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> Result<()>;

    /// Grows the file system to the device's size; nothing to do is success. To be asked before and
    /// after a mount: file systems grow while they are mounted, except ext4 where this process may
    /// not do that (the capability `SYS_RESOURCE`), which then grows before. `Refused` where a
    /// mounted one has to wait for that.
    fn grow(
        &self,
        device: &Path,
        mountpoint: &Path,
        fs_type: FsType,
        deadline: &Deadline,
    ) -> Result<()>;

    /// Space in the file system that is mounted there.
    fn usage(&self, mountpoint: &Path, deadline: &Deadline) -> Result<FsUsage>;

    /// Gives unused blocks back to the cluster; returns the bytes.
    fn trim(&self, mountpoint: &Path, deadline: &Deadline) -> Result<ByteSize>;

    /// Makes the folder `name` at the root of a mounted file system, of the given ownership; one
    /// that is there stays as it is. Follows no links.
    fn make_folder(
        &self,
        mountpoint: &Path,
        name: &str,
        owner: Ownership,
        deadline: &Deadline,
    ) -> Result<()>;

    /// Gives the file system of a clone a UUID of its own, so that it can be mounted beside that of
    /// its parent; replays its journal where it has to. It is not mounted, and the device can be
    /// written. A repeat gives it yet another.
    fn new_uuid(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> Result<()>;
}

/// A mount in this daemon's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The file system's device number.
    pub number: DeviceNumber,
    /// The folder of the file system that is mounted; `/` is all of it.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// The file system's type, such as `ext4`.
    pub fs_type: String,
    /// The source, such as `/dev/rbd0`.
    pub source: String,
    /// The mount's or the file system's options say `ro`.
    pub read_only: bool,
}

/// A mount namespace other than ours that holds a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// A process in it.
    pub pid: u32,
    /// The process's name.
    pub command: String,
    /// Where it is mounted for that process.
    pub target: PathBuf,
}

/// What is to be mounted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The device.
    pub device: PathBuf,
    /// Where; made if it is missing, of mode 0700.
    pub target: PathBuf,
    /// Its file system.
    pub fs_type: FsType,
    /// For reading only.
    pub read_only: bool,
    /// More mount options.
    pub options: Vec<String>,
}

/// Mounts, and who holds them.
pub trait Mounts: Send + Sync {
    /// Mounts a device. Refuses a target at which something is mounted. For reading only, a device
    /// that cannot be written is mounted without the replay that its journal may need, and so as it
    /// was when it was last written out; and XFS whatever else of its UUID is mounted.
    fn mount(&self, request: &MountRequest, deadline: &Deadline) -> Result<()>;

    /// Unmounts what is mounted there, and removes the empty folder. Success where nothing is.
    /// `Busy` names the processes that have files open.
    fn unmount(&self, target: &Path, deadline: &Deadline) -> Result<()>;

    /// Takes what is mounted there out of our namespace, though it is in use, and removes the empty
    /// folder. Success where nothing is.
    fn unmount_lazily(&self, target: &Path, deadline: &Deadline) -> Result<()>;

    /// The regular files below a folder that were last written before `older_than`, by the clock
    /// of whoever wrote them, CephFS too; `remove` removes them. Follows no links, enters no other
    /// mounts, and leaves folders, however empty. A file that is written in the moment between a
    /// look at it and its removal is removed. Ends a little before the deadline with what it has
    /// found until then.
    fn old_files(
        &self,
        folder: &Path,
        older_than: Timestamp,
        remove: bool,
        deadline: &Deadline,
    ) -> Result<OldFiles>;

    /// Every mount in our own namespace.
    fn mounts(&self) -> Result<Vec<Mount>>;

    /// The mounts of the file system with that device number, other than `ours`: those in other
    /// mount namespaces, and bind mounts in our own. A private copy of our whole namespace (a
    /// service with `PrivateMounts`, a monitoring container) does not count: it holds no container.
    fn holders(&self, number: DeviceNumber, ours: &Path) -> Result<Vec<Holder>>;
}

/// Whether a client of CephFS can be used here, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CephFsSupport {
    /// Which client.
    pub client: CephFsClient,
    /// `None` where it can be used; else what is missing and what to do about it.
    pub missing: Option<String>,
}

/// Which folder of CephFS is to be mounted, where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderMountRequest {
    /// By which client.
    pub client: CephFsClient,
    /// The file system's name.
    pub fs: String,
    /// The folder, from the file system's root, with a leading `/`.
    pub path: String,
    /// Where; made if it is missing, of mode 0700.
    pub target: PathBuf,
    /// For reading only.
    pub read_only: bool,
    /// More mount options: those of mount(8) for every file system, and those of the client.
    pub options: Vec<String>,
    /// The client and its key, and the monitors. For this mount alone: it is what a fence or an
    /// eviction names.
    pub access: ClientAccess,
    /// The caller's own word for what is mounted; it comes back in [`FolderMount::id`].
    pub id: String,
}

/// A folder of CephFS that is mounted here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderMount {
    /// By which client.
    pub client: CephFsClient,
    /// The word that the caller gave it.
    pub id: String,
    /// The file system's name.
    pub fs: String,
    /// The folder in it.
    pub path: String,
    /// Where it is mounted.
    pub target: PathBuf,
    /// The number of the mounted file system, for [`Mounts::holders`]; 0:0 where the mount is gone.
    pub number: DeviceNumber,
    /// For reading only.
    pub read_only: bool,
    /// The address and nonce that its client has now, which a blocklist entry names; `None` where
    /// it cannot be known.
    pub client_address: Option<String>,
    /// The process behind it (fuse); `None` where it has died.
    pub process: Option<ProcessId>,
}

impl FolderMount {
    /// Can it be used, as far as can be told without asking it? One that is not whole (its mount or
    /// the process behind it is gone) can only be unmounted. [`FolderMounts::is_alive`] asks it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let served = self.client == CephFsClient::Kernel || self.process.is_some();
        served && self.number != DeviceNumber { major: 0, minor: 0 }
    }
}

/// Folders of CephFS.
pub trait FolderMounts: Send + Sync {
    /// Which clients can be used here, in the order kernel, fuse.
    fn cephfs_clients(&self) -> Vec<CephFsSupport>;

    /// Mounts a folder by a client of its own, and waits until it is there. Refuses a target at
    /// which something is mounted. A failed mount leaves nothing.
    fn mount_folder(
        &self,
        request: &FolderMountRequest,
        deadline: &Deadline,
    ) -> Result<FolderMount>;

    /// Writes out what is not in the cluster yet, unmounts, and ends the client. `Busy` names who
    /// has files open, or has it mounted elsewhere, and then nothing has changed. One that is dead
    /// or stale is taken out of our namespace, whoever uses it. `Timeout` where the cluster is
    /// away: it can be repeated, or the mount be cut off. Success where it is gone already.
    fn unmount_folder(&self, mount: &FolderMount, deadline: &Deadline) -> Result<()>;

    /// Takes the mount from under whoever uses it, at once and without writing anything out: their
    /// calls fail. It is gone from our namespace then.
    fn cut_off_folder(&self, mount: &FolderMount, deadline: &Deadline) -> Result<()>;

    /// The folders that are mounted here, of those that this daemon, or one before it with the same
    /// state folder, has mounted; found by the kernel's evidence, whole or broken.
    fn folder_mounts(&self) -> Result<Vec<FolderMount>>;

    /// Does what is mounted there still serve? `false` where its client is dead, fenced or evicted,
    /// which no waiting cures. No answer in time is an error, and says nothing of it.
    fn is_alive(&self, target: &Path, deadline: &Deadline) -> Result<bool>;

    /// The names of what lies in a folder, in no order.
    fn names_in(&self, folder: &Path, deadline: &Deadline) -> Result<Vec<String>>;

    /// Space in the folder that is mounted there: what all files in it take, and its quota, or the
    /// file system's size where it has none.
    fn folder_usage(&self, target: &Path, deadline: &Deadline) -> Result<FsUsage>;

    /// Are the programs there that [`FolderMounts::restore_folder`] needs? An error names what to
    /// install.
    fn can_restore_folder(&self) -> Result<()>;

    /// Gives the folder that is mounted there exactly the content of one of its snapshots, as far as
    /// the snapshot says: files, links, owners, modes, times and attributes; not quota and layout.
    /// All of it is in the cluster then. It may take as long as copying everything; a repeat goes on
    /// where this one was cut off. Nobody else may write there meanwhile.
    fn restore_folder(
        &self,
        mounted: &Path,
        snapshot: &str,
        progress: Progress<'_>,
        deadline: &Deadline,
    ) -> Result<()>;
}

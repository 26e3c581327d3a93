//! What is asked of CephFS: file systems, subvolumes, and the keys of those who mount them.
//!
//! A subvolume is a folder that Ceph's manager looks after: with a quota, metadata and keys of its
//! own. The manager does all of it with a client of its own, so that a daemon that only *manages*
//! subvolumes needs no capability for a file system's data or its MDS. See `docs/operations.md` for
//! those that it needs.

use jiff::Timestamp;

use super::Result;
use crate::volume::{ByteSize, PathSpec, Secret, SubvolumeSpec};

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its name.
    pub name: String,
    /// The pools that its data may lie in.
    pub data_pools: Vec<String>,
}

/// How a new subvolume is laid out. `None` leaves the choice to Ceph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubvolumeLayout {
    /// The quota, 1 byte at least; `None`: no limit.
    pub size: Option<ByteSize>,
    /// The pool for its data, one of its file system's.
    pub data_pool: Option<String>,
    /// The folder's permissions, such as `0o750`; `None`: `0o755`.
    pub mode: Option<u32>,
    /// The folder's owner; `None`: the group's.
    pub uid: Option<u32>,
    /// The folder's group; `None`: the group's.
    pub gid: Option<u32>,
    /// With a RADOS namespace of its own, `fsvolumens_NAME`: without one, the key of one subvolume
    /// reads and writes the objects of all others in the same pool. The namespace's name does not
    /// tell subvolumes of different groups or file systems apart that have the same name.
    pub isolated: bool,
}

/// What has become of a subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubvolumeState {
    /// It is there.
    Complete,
    /// It was removed and its snapshots were kept.
    Retained,
    /// A manager died while it made it. A repeated create would *mend* it
    /// ([`SubvolumeInfo::mended`]): remove it first.
    HalfMade,
    /// Anything else, in Ceph's word.
    Other(String),
}

/// What a subvolume says of itself. Only where it is [`SubvolumeState::Complete`] is there anything
/// in the other fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// What has become of it.
    pub state: SubvolumeState,
    /// Its folder, from the file system's root: what is mounted. It ends in a UUID that is new with
    /// each create.
    pub path: String,
    /// The folder is the one that has the subvolume's name, and not one in it named by a UUID. Old
    /// releases made all subvolumes so. A new one is so where a manager died while making it and
    /// the create was repeated, which librados does by itself: it then holds an empty folder named
    /// by a UUID, which is best got rid of by removing the new subvolume and creating it again.
    pub mended: bool,
    /// The quota; `None`: no limit.
    pub quota: Option<ByteSize>,
    /// The bytes in its files. The MDS sums them up some seconds late.
    pub used: ByteSize,
    /// The pool of its data.
    pub data_pool: String,
    /// The RADOS namespace of its data, or "".
    pub namespace: String,
    /// The folder's owner.
    pub uid: u32,
    /// The folder's group.
    pub gid: u32,
    /// The folder's permissions.
    pub mode: u32,
    /// When it was made, give or take the time zone of the manager's host, which Ceph leaves out.
    pub created: Option<Timestamp>,
}

/// File systems and subvolumes of CephFS, by commands to the manager (`ceph-mgr`).
///
/// * Names of file systems, groups, subvolumes and clients are made of `A-Z a-z 0-9 . _ -`, and do
///   not begin with `.`; a group's does not begin with `_` either. Group and subvolume have 248
///   bytes at most together. All others are `Invalid`: the manager itself checks nothing, and a
///   subvolume called `..` makes every later create of the file system fail.
/// * [`ClusterErrorKind::Denied`](super::ClusterErrorKind) where the key lacks the capability:
///   for groups, subvolumes and clients on the manager, for the group and for clients whose names
///   begin as the capability says. `NotFound` where there is no such file system, group or
///   subvolume.
/// * `Unreachable` at once while the file system has no MDS, where the key may look (`fs get`), and
///   after the monitors' time limit where no answer comes. The manager *holds* a command while the
///   MDS is silent, and all others for subvolumes of any file system behind it, and carries them
///   out when it is back. It also takes up to a minute for its first command after it was killed:
///   the MDS keeps the locks of the dead one for as long. So a call that timed out may take effect
///   much later.
pub trait Subvolumes: Send + Sync {
    /// The file systems. Without `fs ls` on the monitors, those that the pools are marked for, of
    /// which one or the other may have been removed.
    fn file_systems(&self) -> Result<Vec<FileSystem>>;

    /// Has every rank of the file system an active MDS, as far as the monitors know? They take a
    /// silent one for active for 15 to 20 s. `Denied` without `fs get` on the monitors.
    fn mds_up(&self, fs: &str) -> Result<bool>;

    /// Makes a group. One that is there already stays as it is.
    fn group_create(&self, fs: &str, group: &str) -> Result<()>;

    /// The names of the groups.
    fn groups(&self, fs: &str) -> Result<Vec<String>>;

    /// Makes a subvolume. Its group has to be there, else `NotFound`; a pool that is none of the
    /// file system's is `Invalid`.
    ///
    /// Where there is one of that name, this *changes* it and succeeds: permissions always, quota,
    /// pool and owner where the layout has them, and also to a smaller quota. So look first. One of
    /// which only snapshots are left is made anew.
    fn subvolume_create(&self, subvolume: &SubvolumeSpec, layout: &SubvolumeLayout) -> Result<()>;

    /// What the subvolume says of itself.
    fn subvolume_info(&self, subvolume: &SubvolumeSpec) -> Result<SubvolumeInfo>;

    /// The names of the subvolumes of a group, whatever their state.
    fn subvolume_list(&self, fs: &str, group: &str) -> Result<Vec<String>>;

    /// Sets the quota. Without `shrink`, one that is smaller than now, or than what is in use, is
    /// `Invalid`.
    fn subvolume_resize(
        &self,
        subvolume: &SubvolumeSpec,
        size: ByteSize,
        shrink: bool,
    ) -> Result<()>;

    /// Removes the subvolume for good: Ceph purges its files in the background. `NotEmpty` while it
    /// has snapshots.
    ///
    /// Ceph does not care who has it mounted, and leaves its clients their keys. So take those away
    /// first: a client whose subvolume is gone can only be removed by [`Subvolumes::client_remove`].
    fn subvolume_remove(&self, subvolume: &SubvolumeSpec) -> Result<()>;

    /// The value of a metadata key of the subvolume.
    fn subvolume_metadata_get(
        &self,
        subvolume: &SubvolumeSpec,
        key: &str,
    ) -> Result<Option<String>>;

    /// Sets a metadata key of the subvolume. Keys are made of `a-z 0-9 . _ -`: Ceph makes capital
    /// letters small.
    ///
    /// Values are JSON in one line. What would not survive in the manager's file is written as
    /// JSON's own escape, `\u0025` for `%`, and is read back so: the same value, not the same text.
    /// A value with a control character, or blanks around it, is `Invalid`. 20,000 bytes survive.
    fn subvolume_metadata_set(
        &self,
        subvolume: &SubvolumeSpec,
        key: &str,
        value: &str,
    ) -> Result<()>;

    /// Removes a metadata key of the subvolume; success where there is none.
    fn subvolume_metadata_remove(&self, subvolume: &SubvolumeSpec, key: &str) -> Result<()>;

    /// Lets a client into the subvolume and nowhere else, and returns its key. The client is made
    /// where it is missing; a repeat returns the same key, and changes the access where it is
    /// another.
    ///
    /// One client for each subvolume: where Ceph takes one of two from a client, it takes the
    /// client's `mon` capability too, and with it the other. `Denied` for a client that was not
    /// made so, by us. Whoever mounted with more access than is left keeps it until it is evicted.
    fn subvolume_authorize(
        &self,
        subvolume: &SubvolumeSpec,
        client_id: &str,
        read_only: bool,
    ) -> Result<Secret>;

    /// Takes the subvolume from the client, and removes a client that has nothing left; success
    /// where there is none. What it has mounted stays until it is evicted.
    fn subvolume_deauthorize(&self, subvolume: &SubvolumeSpec, client_id: &str) -> Result<()>;

    /// Ends what the client has mounted of the subvolume, on all hosts, and fences those instances.
    /// Success where there is nothing.
    fn subvolume_evict(&self, subvolume: &SubvolumeSpec, client_id: &str) -> Result<()>;

    /// Lets a client into a folder that is no subvolume, and returns its key. A repeat returns the
    /// same key. `Exists` where the client has another folder or another access: remove it first
    /// (newer releases may add to it instead). The folder need not be there. Paths are made of
    /// `A-Z a-z 0-9 . _ - /`; Ceph refuses all others.
    ///
    /// Such a key reads and writes *every* object in the file system's data pools, below the file
    /// system: only the MDS holds it to its path. Needs `fs authorize` on the monitors, which hands
    /// out keys for any path.
    fn path_authorize(&self, path: &PathSpec, client_id: &str, read_only: bool) -> Result<Secret>;

    /// Removes a client and its key; success where there is none. What it has mounted lasts until
    /// its tickets end, an hour or so. Needs `auth rm` on the monitors.
    fn client_remove(&self, client_id: &str) -> Result<()>;
}

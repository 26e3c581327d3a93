//! The cluster and the host with something around every call: it is named, and whoever stands in
//! between ([`Around`]) makes it, and sees what becomes of it. The daemon measures how long each takes
//! ([`crate::steps`]); tests let some of them fail (`fault`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::ceph::{
    self, BlocklistEntry, CloneState, Cluster, ClusterStatus, FileSystem, Going, Hear, ImageInfo,
    ImageLayout, ImageSnapshot, Images, Interval, Lease, Leases, Liveness, LockOwner, Manager,
    Messages, Monitor, Notified, Objects, OmapPage, PlacementGroups, PoolUsage, Progress,
    Snapshots, SubvolumeInfo, SubvolumeLayout, SubvolumeSnapshot, SubvolumeSnapshots, Subvolumes,
    Swap, TrashedImage, Watch, Watcher,
};
use crate::deadline::Deadline;
use crate::system::{
    self, AfterFailure, CephFsSupport, DeviceNumber, Filesystems, FolderMount, FolderMountRequest,
    FolderMounts, FormatRequest, Freezing, Frozen, FsUsage, Holder, Hooks, Host, MapRequest,
    MappedDevice, MapperSupport, Mappers, Mount, MountRequest, Mounts, OldFiles, Ownership, Probe,
    Stood, System,
};
use crate::volume::{
    ByteSize, ClientAccess, FsType, ImageSpec, Location, MapperKind, PathSpec, Secret,
    SubvolumeSpec,
};

/// Who stands between the daemon and its outside worlds. Calls are named `cluster.image_create`,
/// `system.mount`.
pub(crate) trait Around: std::fmt::Debug + Send + Sync + 'static {
    /// Makes a call to the cluster.
    fn cluster<T>(
        &self,
        call: &'static str,
        run: impl FnOnce() -> ceph::Result<T>,
    ) -> ceph::Result<T> {
        self.infallible(call, run)
    }

    /// Makes a call to the host.
    fn system<T>(
        &self,
        call: &'static str,
        run: impl FnOnce() -> system::Result<T>,
    ) -> system::Result<T> {
        self.infallible(call, run)
    }

    /// Makes a call that cannot fail, or whose failure is nothing to whoever stands here.
    fn infallible<T>(&self, call: &'static str, run: impl FnOnce() -> T) -> T;

    /// What is told in place of the cluster's time.
    fn time(&self, time: Timestamp) -> Timestamp {
        time
    }
}

/// A cluster with something around its calls.
struct ClusterBehind<A> {
    inner: Arc<dyn Cluster>,
    around: Arc<A>,
}

/// A host with something around its calls.
struct SystemBehind<A> {
    inner: Arc<dyn System>,
    around: Arc<A>,
}

/// Both with the same around their calls.
pub(crate) fn behind(
    around: &Arc<impl Around>,
    cluster: Arc<dyn Cluster>,
    system: Arc<dyn System>,
) -> (Arc<dyn Cluster>, Arc<dyn System>) {
    let cluster = ClusterBehind { inner: cluster, around: Arc::clone(around) };
    let system = SystemBehind { inner: system, around: Arc::clone(around) };
    (Arc::new(cluster), Arc::new(system))
}

/// Implements a trait's methods by way of what is around: `fn` is one that can fail, `let fn` one that
/// cannot.
macro_rules! by_way {
    ($trait:ident for $type:ident by $world:ident, $result:ident {
        $(let fn $sure:ident(&self $(, $sure_arg:ident: $sure_ty:ty)*) -> $sure_out:ty;)*
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $out:ty;)*
    }) => {
        impl<A: Around> $trait for $type<A> {
            $(fn $sure(&self $(, $sure_arg: $sure_ty)*) -> $sure_out {
                let call = concat!(stringify!($world), ".", stringify!($sure));
                self.around.infallible(call, || self.inner.$sure($($sure_arg),*))
            })*
            $(fn $name(&self $(, $arg: $ty)*) -> $result::Result<$out> {
                let call = concat!(stringify!($world), ".", stringify!($name));
                self.around.$world(call, || self.inner.$name($($arg),*))
            })*
        }
    };
}

by_way!(Objects for ClusterBehind by cluster, ceph {
    fn omap_get(&self, at: &Location, object: &str, key: &str) -> Option<Vec<u8>>;
    fn omap_page(&self, at: &Location, object: &str, after: &str, limit: u64) -> OmapPage;
    fn omap_compare_and_set(
        &self, at: &Location, object: &str, key: &str,
        expected: Option<&[u8]>, new: Option<&[u8]>
    ) -> Swap;
    fn object_version(&self, at: &Location, object: &str) -> u64;
});

by_way!(Images for ClusterBehind by cluster, ceph {
    fn image_create(&self, image: &ImageSpec, layout: &ImageLayout) -> ();
    fn image_info(&self, image: &ImageSpec) -> ImageInfo;
    fn image_list(&self, at: &Location) -> Vec<String>;
    fn image_resize(&self, image: &ImageSpec, size: ByteSize) -> ();
    fn image_used(&self, image: &ImageSpec) -> ByteSize;
    fn image_remove(&self, image: &ImageSpec) -> ();
    fn metadata_get(&self, image: &ImageSpec, key: &str) -> Option<String>;
    fn metadata_set(&self, image: &ImageSpec, key: &str, value: &str) -> ();
    fn watchers(&self, image: &ImageSpec) -> Vec<Watcher>;
    fn trash_move(&self, image: &ImageSpec, keep: Duration) -> ();
    fn trash_list(&self, at: &Location) -> Vec<TrashedImage>;
    fn trash_metadata_get(&self, at: &Location, id: &str, key: &str) -> Option<String>;
    fn trash_restore(&self, at: &Location, id: &str, name: &str) -> ();
    fn trash_remove(&self, at: &Location, id: &str) -> ();
});

by_way!(Snapshots for ClusterBehind by cluster, ceph {
    fn snapshot_create(&self, image: &ImageSpec, name: &str) -> ();
    fn snapshot_list(&self, image: &ImageSpec) -> Vec<ImageSnapshot>;
    fn snapshot_remove(&self, image: &ImageSpec, name: &str) -> ();
    fn snapshot_children(&self, image: &ImageSpec, name: &str) -> Vec<ImageSpec>;
    fn snapshot_rollback(&self, image: &ImageSpec, name: &str, progress: Progress<'_>) -> ();
    fn snapshot_changed(
        &self, image: &ImageSpec, from: Option<&str>, to: Option<&str>
    ) -> ByteSize;
    fn image_clone(
        &self, parent: &ImageSpec, snapshot: &str, child: &ImageSpec, layout: &ImageLayout
    ) -> ();
    fn image_parent(&self, image: &ImageSpec) -> Option<(ImageSpec, String)>;
    fn image_flatten(&self, image: &ImageSpec, progress: Going<'_>) -> ();
    fn metadata_list(&self, image: &ImageSpec, prefix: &str) -> Vec<(String, String)>;
    fn metadata_remove(&self, image: &ImageSpec, key: &str) -> ();
    fn trash_snapshots_remove(&self, at: &Location, id: &str) -> ();
});

by_way!(SubvolumeSnapshots for ClusterBehind by cluster, ceph {
    fn subvolume_snapshot_create(&self, subvolume: &SubvolumeSpec, name: &str) -> ();
    fn subvolume_snapshot_list(&self, subvolume: &SubvolumeSpec) -> Vec<SubvolumeSnapshot>;
    fn subvolume_snapshot_remove(&self, subvolume: &SubvolumeSpec, name: &str) -> ();
    fn subvolume_metadata_list(
        &self, subvolume: &SubvolumeSpec, prefix: &str
    ) -> BTreeMap<String, String>;
    fn subvolume_clone(
        &self, from: &SubvolumeSpec, snapshot: &str, to: &SubvolumeSpec, data_pool: Option<&str>
    ) -> ();
    fn subvolume_clone_state(&self, subvolume: &SubvolumeSpec) -> CloneState;
    fn subvolume_clone_cancel(&self, subvolume: &SubvolumeSpec) -> ();
});

by_way!(Subvolumes for ClusterBehind by cluster, ceph {
    fn file_systems(&self) -> Vec<FileSystem>;
    fn mds_up(&self, fs: &str) -> bool;
    fn group_create(&self, fs: &str, group: &str) -> ();
    fn groups(&self, fs: &str) -> Vec<String>;
    fn subvolume_create(&self, subvolume: &SubvolumeSpec, layout: &SubvolumeLayout) -> ();
    fn subvolume_info(&self, subvolume: &SubvolumeSpec) -> SubvolumeInfo;
    fn subvolume_list(&self, fs: &str, group: &str) -> Vec<String>;
    fn subvolume_resize(&self, subvolume: &SubvolumeSpec, size: ByteSize, shrink: bool) -> ();
    fn subvolume_remove(&self, subvolume: &SubvolumeSpec) -> ();
    fn subvolume_metadata_get(&self, subvolume: &SubvolumeSpec, key: &str) -> Option<String>;
    fn subvolume_metadata_set(&self, subvolume: &SubvolumeSpec, key: &str, value: &str) -> ();
    fn subvolume_metadata_remove(&self, subvolume: &SubvolumeSpec, key: &str) -> ();
    fn subvolume_authorize(
        &self, subvolume: &SubvolumeSpec, client_id: &str, read_only: bool
    ) -> Secret;
    fn subvolume_deauthorize(&self, subvolume: &SubvolumeSpec, client_id: &str) -> ();
    fn subvolume_evict(&self, subvolume: &SubvolumeSpec, client_id: &str) -> ();
    fn path_authorize(&self, path: &PathSpec, client_id: &str, read_only: bool) -> Secret;
    fn client_remove(&self, client_id: &str) -> ();
});

by_way!(Liveness for ClusterBehind by cluster, ceph {
    fn lock_owner(&self, image: &ImageSpec) -> Option<LockOwner>;
    fn ask_watchers(&self, image: &ImageSpec, wait: Duration) -> Notified;
    fn interval(&self, image: &ImageSpec) -> Interval;
});

by_way!(Messages for ClusterBehind by cluster, ceph {
    fn notify(&self, at: &Location, object: &str, message: &[u8], wait: Duration) -> Notified;
    fn watch(&self, at: &Location, object: &str, hear: Hear) -> Box<dyn Watch>;
});

impl<A: Around> Leases for ClusterBehind<A> {
    fn lease_renew(
        &self,
        at: &Location,
        object: &str,
        member: &str,
        keep: Duration,
    ) -> ceph::Result<Lease> {
        let renew = || self.inner.lease_renew(at, object, member, keep);
        let lease = self.around.cluster("cluster.lease_renew", renew)?;
        Ok(Lease { now: self.around.time(lease.now), ..lease })
    }

    fn lease_end(&self, at: &Location, object: &str, member: &str) -> ceph::Result<()> {
        self.around.cluster("cluster.lease_end", || self.inner.lease_end(at, object, member))
    }
}

by_way!(Monitor for ClusterBehind by cluster, ceph {
    fn status(&self) -> ClusterStatus;
    fn own_address(&self) -> String;
    fn own_caps(&self) -> Vec<(String, String)>;
    fn client_access(&self) -> ClientAccess;
    fn pools(&self) -> Vec<String>;
    fn pool_usage(&self, pool: &str) -> PoolUsage;
    fn namespaces(&self, pool: &str) -> Vec<String>;
    fn blocklist(&self) -> Vec<BlocklistEntry>;
    fn blocklist_add(&self, address: &str, keep: Duration) -> ();
    fn blocklist_remove(&self, address: &str) -> ();
    fn header_barrier(&self, image: &ImageSpec) -> ();
});

by_way!(Manager for ClusterBehind by cluster, ceph {
    fn placement_groups(&self) -> PlacementGroups;
});

by_way!(Mappers for SystemBehind by system, system {
    let fn supported(&self) -> Vec<MapperSupport>;
    let fn carried_features(&self, mapper: MapperKind) -> Option<Vec<String>>;
    fn map(&self, request: &MapRequest, deadline: &Deadline) -> MappedDevice;
    fn unmap(&self, device: &MappedDevice, deadline: &Deadline) -> ();
    fn cut_off(&self, device: &MappedDevice, deadline: &Deadline) -> ();
    fn is_client_gone(&self, address: &str) -> bool;
    fn mapped(&self) -> Vec<MappedDevice>;
    fn refresh_size(&self, device: &MappedDevice, deadline: &Deadline) -> ();
    fn refresh(&self, device: &MappedDevice, deadline: &Deadline) -> ();
});

by_way!(Filesystems for SystemBehind by system, system {
    fn probe(&self, device: &Path, deadline: &Deadline) -> Probe;
    fn is_sound(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> bool;
    fn format(&self, device: &Path, request: &FormatRequest, deadline: &Deadline) -> Probe;
    fn check(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> ();
    fn grow(&self, device: &Path, mountpoint: &Path, fs_type: FsType, deadline: &Deadline) -> ();
    fn usage(&self, mountpoint: &Path, deadline: &Deadline) -> FsUsage;
    fn trim(&self, mountpoint: &Path, deadline: &Deadline) -> ByteSize;
    fn make_folder(
        &self, mountpoint: &Path, name: &str, owner: Ownership, deadline: &Deadline
    ) -> ();
    fn new_uuid(&self, device: &Path, fs_type: FsType, deadline: &Deadline) -> ();
});

by_way!(Mounts for SystemBehind by system, system {
    fn mount(&self, request: &MountRequest, deadline: &Deadline) -> ();
    fn unmount(&self, target: &Path, deadline: &Deadline) -> ();
    fn unmount_lazily(&self, target: &Path, deadline: &Deadline) -> ();
    fn old_files(
        &self, folder: &Path, older_than: Timestamp, remove: bool, deadline: &Deadline
    ) -> OldFiles;
    fn mounts(&self) -> Vec<Mount>;
    fn holders(&self, number: DeviceNumber, ours: &Path) -> Vec<Holder>;
});

by_way!(FolderMounts for SystemBehind by system, system {
    let fn cephfs_clients(&self) -> Vec<CephFsSupport>;
    fn mount_folder(&self, request: &FolderMountRequest, deadline: &Deadline) -> FolderMount;
    fn unmount_folder(&self, mount: &FolderMount, deadline: &Deadline) -> ();
    fn cut_off_folder(&self, mount: &FolderMount, deadline: &Deadline) -> ();
    fn folder_mounts(&self) -> Vec<FolderMount>;
    fn is_alive(&self, target: &Path, deadline: &Deadline) -> bool;
    fn names_in(&self, folder: &Path, deadline: &Deadline) -> Vec<String>;
    fn folder_usage(&self, target: &Path, deadline: &Deadline) -> FsUsage;
    fn can_restore_folder(&self) -> ();
    fn restore_folder(
        &self, mounted: &Path, snapshot: &str, progress: Progress<'_>, deadline: &Deadline
    ) -> ();
});

by_way!(Hooks for SystemBehind by system, system {
    fn run_hooks(
        &self, folder: &Path, environment: &[(String, String)], limit: Duration,
        after_failure: AfterFailure, deadline: &Deadline
    ) -> usize;
});

impl<A: Around> System for SystemBehind<A> {
    fn host(&self) -> &Host {
        self.inner.host()
    }
}

impl<A: Around> Freezing for SystemBehind<A> {
    fn freeze(
        &self,
        mountpoint: &Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> system::Result<Box<dyn Frozen>> {
        let frozen = self
            .around
            .system("system.freeze", || self.inner.freeze(mountpoint, limit, deadline))?;
        Ok(Box::new(FrozenBehind { inner: frozen, around: Arc::clone(&self.around) }))
    }

    fn thaw_left_over(&self, mountpoint: &Path, deadline: &Deadline) -> system::Result<bool> {
        let thaw = || self.inner.thaw_left_over(mountpoint, deadline);
        self.around.system("system.thaw_left_over", thaw)
    }

    fn sync(&self, mountpoint: &Path, deadline: &Deadline) -> system::Result<()> {
        self.around.system("system.sync", || self.inner.sync(mountpoint, deadline))
    }
}

/// A file system that stands still, whose thaw is a call too. Dropping it is none: it is what a dead
/// daemon does as well.
#[derive(Debug)]
struct FrozenBehind<A> {
    inner: Box<dyn Frozen>,
    around: Arc<A>,
}

impl<A: Around> Frozen for FrozenBehind<A> {
    fn thaw(self: Box<Self>) -> system::Result<Stood> {
        let Self { inner, around } = *self;
        around.system("system.thaw", || inner.thaw())
    }
}

//! The cluster and the host with a plan in front of them: every call is named, counted, and
//! handed on, unless the plan has something else for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::FaultPlan;
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

/// A cluster whose calls fail where the plan says so.
pub struct FaultyCluster {
    pub(super) inner: Arc<dyn Cluster>,
    pub(super) plan: Arc<FaultPlan>,
}

/// A host whose calls fail where the plan says so.
pub struct FaultySystem {
    pub(super) inner: Arc<dyn System>,
    pub(super) plan: Arc<FaultPlan>,
}

macro_rules! debug_as_plan {
    ($($type:ident),+) => {$(
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).field("plan", &self.plan).finish_non_exhaustive()
            }
        }
    )+};
}

debug_as_plan!(FaultyCluster, FaultySystem);

/// Implements a trait's methods by way of the plan: `fn` is one that can fail, `let fn` one that
/// cannot.
macro_rules! through_plan {
    ($trait:ident for $type:ident as $prefix:literal, $result:ident {
        $(let fn $sure:ident(&self $(, $sure_arg:ident: $sure_ty:ty)*) -> $sure_out:ty;)*
        $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $out:ty;)*
    }) => {
        impl $trait for $type {
            $(fn $sure(&self $(, $sure_arg: $sure_ty)*) -> $sure_out {
                let call = concat!($prefix, ".", stringify!($sure));
                self.plan.around_infallible(call, || self.inner.$sure($($sure_arg),*))
            })*
            $(fn $name(&self $(, $arg: $ty)*) -> $result::Result<$out> {
                let call = concat!($prefix, ".", stringify!($name));
                self.plan.around(call, || self.inner.$name($($arg),*))
            })*
        }
    };
}

through_plan!(Objects for FaultyCluster as "cluster", ceph {
    fn omap_get(&self, at: &Location, object: &str, key: &str) -> Option<Vec<u8>>;
    fn omap_page(&self, at: &Location, object: &str, after: &str, limit: u64) -> OmapPage;
    fn omap_compare_and_set(
        &self, at: &Location, object: &str, key: &str,
        expected: Option<&[u8]>, new: Option<&[u8]>
    ) -> Swap;
    fn object_version(&self, at: &Location, object: &str) -> u64;
});

through_plan!(Images for FaultyCluster as "cluster", ceph {
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

through_plan!(Snapshots for FaultyCluster as "cluster", ceph {
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

through_plan!(SubvolumeSnapshots for FaultyCluster as "cluster", ceph {
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

through_plan!(Subvolumes for FaultyCluster as "cluster", ceph {
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

through_plan!(Liveness for FaultyCluster as "cluster", ceph {
    fn lock_owner(&self, image: &ImageSpec) -> Option<LockOwner>;
    fn ask_watchers(&self, image: &ImageSpec, wait: Duration) -> Notified;
    fn interval(&self, image: &ImageSpec) -> Interval;
});

through_plan!(Messages for FaultyCluster as "cluster", ceph {
    fn notify(&self, at: &Location, object: &str, message: &[u8], wait: Duration) -> Notified;
    fn watch(&self, at: &Location, object: &str, hear: Hear) -> Box<dyn Watch>;
});

impl Leases for FaultyCluster {
    fn lease_renew(
        &self,
        at: &Location,
        object: &str,
        member: &str,
        keep: Duration,
    ) -> ceph::Result<Lease> {
        let renew = || self.inner.lease_renew(at, object, member, keep);
        let lease = self.plan.around("cluster.lease_renew", renew)?;
        Ok(Lease { now: self.plan.shifted(lease.now), ..lease })
    }

    fn lease_end(&self, at: &Location, object: &str, member: &str) -> ceph::Result<()> {
        self.plan.around("cluster.lease_end", || self.inner.lease_end(at, object, member))
    }
}

through_plan!(Monitor for FaultyCluster as "cluster", ceph {
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

through_plan!(Manager for FaultyCluster as "cluster", ceph {
    fn placement_groups(&self) -> PlacementGroups;
});

through_plan!(Mappers for FaultySystem as "system", system {
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

through_plan!(Filesystems for FaultySystem as "system", system {
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

through_plan!(Mounts for FaultySystem as "system", system {
    fn mount(&self, request: &MountRequest, deadline: &Deadline) -> ();
    fn unmount(&self, target: &Path, deadline: &Deadline) -> ();
    fn unmount_lazily(&self, target: &Path, deadline: &Deadline) -> ();
    fn old_files(
        &self, folder: &Path, older_than: Timestamp, remove: bool, deadline: &Deadline
    ) -> OldFiles;
    fn mounts(&self) -> Vec<Mount>;
    fn holders(&self, number: DeviceNumber, ours: &Path) -> Vec<Holder>;
});

through_plan!(FolderMounts for FaultySystem as "system", system {
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

through_plan!(Hooks for FaultySystem as "system", system {
    fn run_hooks(
        &self, folder: &Path, environment: &[(String, String)], limit: Duration,
        after_failure: AfterFailure, deadline: &Deadline
    ) -> usize;
});

impl System for FaultySystem {
    fn host(&self) -> &Host {
        self.inner.host()
    }
}

impl Freezing for FaultySystem {
    fn freeze(
        &self,
        mountpoint: &Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> system::Result<Box<dyn Frozen>> {
        let frozen =
            self.plan.around("system.freeze", || self.inner.freeze(mountpoint, limit, deadline))?;
        Ok(Box::new(FaultyFrozen { inner: frozen, plan: Arc::clone(&self.plan) }))
    }

    fn thaw_left_over(&self, mountpoint: &Path, deadline: &Deadline) -> system::Result<bool> {
        let thaw = || self.inner.thaw_left_over(mountpoint, deadline);
        self.plan.around("system.thaw_left_over", thaw)
    }

    fn sync(&self, mountpoint: &Path, deadline: &Deadline) -> system::Result<()> {
        self.plan.around("system.sync", || self.inner.sync(mountpoint, deadline))
    }
}

/// A file system that stands still, whose thaw is a call of the plan's. Dropping it is none: it is
/// what a dead daemon does too.
#[derive(Debug)]
struct FaultyFrozen {
    inner: Box<dyn Frozen>,
    plan: Arc<FaultPlan>,
}

impl Frozen for FaultyFrozen {
    fn thaw(self: Box<Self>) -> system::Result<Stood> {
        let Self { inner, plan } = *self;
        plan.around("system.thaw", || inner.thaw())
    }
}

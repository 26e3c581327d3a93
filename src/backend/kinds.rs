//! All kinds of volume, as the service sees them: each call goes to the kind's own backend.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AttachRequest, Attached, Attaching, Attachment, BackendError, CephFsBackend, Cloning, Copied,
    Evidence, Fencing, Found, Freezing, MountPlan, Plan, Provisioning, RbdBackend, Result,
    RollBack, Snapshotting, Still, StoredInfo, StoredSnapshot, Trash, TrashedItem, fence,
};
use crate::ceph::{
    Cluster, ClusterErrorKind, Going, Interval, LockOwner, Notified, PoolUsage, Watcher,
};
use crate::deadline::Deadline;
use crate::system::{FsUsage, Holder, System};
use crate::volume::{
    ByteSize, Location, MapperKind, Place, SnapshotName, VolumeKind, VolumeName, VolumeOptions,
};

/// The backends of all kinds.
pub struct Kinds {
    cluster: Arc<dyn Cluster>,
    system: Arc<dyn System>,
    rbd: Arc<RbdBackend>,
    cephfs: CephFsBackend,
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kinds")
            .field("rbd", &self.rbd)
            .field("cephfs", &self.cephfs)
            .finish_non_exhaustive()
    }
}

impl Kinds {
    /// Backends of all kinds, by what each needs to know.
    #[must_use]
    pub fn new(
        cluster: &Arc<dyn Cluster>,
        system: &Arc<dyn System>,
        home: Location,
        mapper: Option<MapperKind>,
        own_key: bool,
    ) -> Self {
        let (cluster, system) = (|| Arc::clone(cluster), || Arc::clone(system));
        let rbd = Arc::new(RbdBackend::new(cluster(), system(), home.clone(), mapper));
        Self {
            cephfs: CephFsBackend::new(cluster(), system(), Arc::clone(&rbd), home, own_key),
            rbd,
            cluster: cluster(),
            system: system(),
        }
    }

    /// What is attached and mounted here, by the kernel's evidence.
    ///
    /// # Errors
    /// Where this host does not tell.
    pub fn evidence(&self) -> Result<Evidence> {
        Ok(Evidence { attached: self.attached()?, mounts: self.system.mounts()? })
    }

    /// The client instances that are fenced.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn fenced(&self) -> Result<Vec<String>> {
        fence::fenced(&*self.cluster)
    }

    /// Lets a client instance in again, of which nothing is left.
    ///
    /// # Errors
    /// Where the cluster refuses or does not answer.
    pub fn unfence(&self, address: &str) -> Result<()> {
        fence::unfence(&*self.cluster, address)
    }
}

/// A call to the backend of the kind that lies there, or is attached so.
macro_rules! of_kind {
    ($self:ident.$call:ident($place:expr $(, $argument:expr)*), $image:path, $folder:path) => {
        match $place {
            $image(at) => $self.rbd.$call(at $(, $argument)*),
            $folder(at) => $self.cephfs.$call(at $(, $argument)*),
        }
    };
}

macro_rules! at {
    ($self:ident.$call:ident($place:expr $(, $argument:expr)*)) => {
        of_kind!($self.$call($place $(, $argument)*), Place::Image, Place::Folder)
    };
}

macro_rules! attached {
    ($self:ident.$call:ident($attached:expr $(, $argument:expr)*)) => {
        of_kind!($self.$call($attached $(, $argument)*), Attached::Device, Attached::Folder)
    };
}

impl Provisioning for Kinds {
    fn plan(&self, name: &VolumeName, options: &VolumeOptions) -> Result<Plan> {
        match options.kind {
            VolumeKind::Rbd => self.rbd.plan(name, options).map(Plan::of_kind),
            VolumeKind::CephFs => self.cephfs.plan(name, options).map(Plan::of_kind),
        }
    }

    fn provision(&self, location: &Place, options: &VolumeOptions) -> Result<()> {
        at!(self.provision(location, options))
    }

    fn describe(&self, location: &Place, description: &str) -> Result<()> {
        at!(self.describe(location, description))
    }

    fn description(&self, location: &Place) -> Result<Option<String>> {
        at!(self.description(location))
    }

    fn deprovision(&self, location: &Place, keep: Option<Duration>) -> Result<()> {
        at!(self.deprovision(location, keep))
    }

    fn close(&self, location: &Place) -> Result<()> {
        at!(self.close(location))
    }

    fn info(&self, location: &Place) -> Result<StoredInfo> {
        at!(self.info(location))
    }

    fn stored(&self, location: &Place) -> Result<ByteSize> {
        at!(self.stored(location))
    }

    fn watchers(&self, location: &Place) -> Result<Vec<Watcher>> {
        at!(self.watchers(location))
    }

    fn resize(&self, location: &Place, size: ByteSize) -> Result<()> {
        at!(self.resize(location, size))
    }

    fn room(&self, pool: &str) -> Result<PoolUsage> {
        self.rbd.room(pool)
    }

    fn survey(&self) -> Result<Vec<Found>> {
        let images = self.rbd.survey()?.into_iter().map(Found::of_kind);
        let folders = unless_closed(self.cephfs.survey())?.into_iter().map(Found::of_kind);
        Ok(images.chain(folders).collect())
    }
}

impl Trash for Kinds {
    fn trash(&self) -> Result<Vec<TrashedItem>> {
        let images = self.rbd.trash()?.into_iter().map(TrashedItem::of_kind);
        let folders = unless_closed(self.cephfs.trash())?.into_iter().map(TrashedItem::of_kind);
        Ok(images.chain(folders).collect())
    }

    fn trash_description(&self, item: &TrashedItem) -> Result<Option<String>> {
        match &item.location {
            Place::Image(image) => self.rbd.trash_description(&item.at(image)),
            Place::Folder(folder) => self.cephfs.trash_description(&item.at(folder)),
        }
    }

    fn restored(&self, name: &VolumeName) -> Result<Vec<Found>> {
        let images = self.rbd.restored(name)?.into_iter().map(Found::of_kind);
        let folders = unless_closed(self.cephfs.restored(name))?.into_iter().map(Found::of_kind);
        Ok(images.chain(folders).collect())
    }

    fn restore(&self, item: &TrashedItem, name: &VolumeName) -> Result<Place> {
        match &item.location {
            Place::Image(image) => self.rbd.restore(&item.at(image), name).map(Place::from),
            Place::Folder(folder) => self.cephfs.restore(&item.at(folder), name).map(Place::from),
        }
    }

    fn purge(&self, item: &TrashedItem) -> Result<()> {
        match &item.location {
            Place::Image(image) => self.rbd.purge(&item.at(image)),
            Place::Folder(folder) => self.cephfs.purge(&item.at(folder)),
        }
    }
}

impl Fencing for Kinds {
    fn lock_owner(&self, location: &Place) -> Result<Option<LockOwner>> {
        at!(self.lock_owner(location))
    }

    fn ask_watchers(&self, location: &Place) -> Option<(Notified, Interval)> {
        at!(self.ask_watchers(location))
    }

    fn fence(&self, location: &Place, addresses: &[String]) -> Result<()> {
        at!(self.fence(location, addresses))
    }
}

impl Attaching for Kinds {
    fn attach(&self, request: &AttachRequest, deadline: &Deadline) -> Result<Attachment> {
        match &request.location {
            Place::Image(image) => {
                let attached = self.rbd.attach(&request.at(image), deadline)?;
                Ok(attached.of_kind(Attached::Device))
            }
            Place::Folder(folder) => {
                let attached = self.cephfs.attach(&request.at(folder), deadline)?;
                Ok(attached.of_kind(Attached::Folder))
            }
        }
    }

    fn attached(&self) -> Result<Vec<Attached>> {
        let devices = self.rbd.attached()?.into_iter().map(Attached::Device);
        let folders = self.cephfs.attached()?.into_iter().map(Attached::Folder);
        Ok(devices.chain(folders).collect())
    }

    fn mount(&self, attached: &Attached, plan: &MountPlan, deadline: &Deadline) -> Result<()> {
        attached!(self.mount(attached, plan, deadline))
    }

    fn unmount(&self, location: &Place, target: &Path, deadline: &Deadline) -> Result<()> {
        at!(self.unmount(location, target, deadline))
    }

    fn detach(&self, attached: &Attached, deadline: &Deadline) -> Result<()> {
        attached!(self.detach(attached, deadline))
    }

    fn cut_off(&self, attached: &Attached, target: &Path, deadline: &Deadline) -> Result<()> {
        attached!(self.cut_off(attached, target, deadline))
    }

    fn is_alive(&self, attached: &Attached, deadline: &Deadline) -> Result<bool> {
        attached!(self.is_alive(attached, deadline))
    }

    fn is_client_gone(&self, address: &str) -> Result<bool> {
        self.rbd.is_client_gone(address)
    }

    fn holders(&self, attached: &Attached, target: &Path) -> Result<Vec<Holder>> {
        attached!(self.holders(attached, target))
    }

    fn grow(&self, attached: &Attached, target: &Path, deadline: &Deadline) -> Result<()> {
        attached!(self.grow(attached, target, deadline))
    }

    fn usage(&self, location: &Place, target: &Path, deadline: &Deadline) -> Result<FsUsage> {
        at!(self.usage(location, target, deadline))
    }

    fn trim(&self, location: &Place, target: &Path, deadline: &Deadline) -> Result<ByteSize> {
        at!(self.trim(location, target, deadline))
    }
}

impl Snapshotting for Kinds {
    fn snapshot(&self, location: &Place, name: &SnapshotName, note: &str) -> Result<()> {
        at!(self.snapshot(location, name, note))
    }

    fn snapshots(&self, location: &Place) -> Result<Vec<StoredSnapshot>> {
        at!(self.snapshots(location))
    }

    fn note_snapshot(&self, location: &Place, name: &SnapshotName, note: &str) -> Result<()> {
        at!(self.note_snapshot(location, name, note))
    }

    fn remove_snapshot(&self, location: &Place, name: &SnapshotName) -> Result<()> {
        at!(self.remove_snapshot(location, name))
    }

    fn children(&self, location: &Place, name: &SnapshotName) -> Result<Vec<String>> {
        at!(self.children(location, name))
    }

    fn changed(
        &self,
        location: &Place,
        from: Option<&SnapshotName>,
        to: Option<&SnapshotName>,
    ) -> Result<Option<ByteSize>> {
        at!(self.changed(location, from, to))
    }

    fn can_roll_back(&self, location: &Place) -> Result<()> {
        at!(self.can_roll_back(location))
    }

    fn roll_back(&self, location: &Place, order: &RollBack<'_>, deadline: &Deadline) -> Result<()> {
        at!(self.roll_back(location, order, deadline))
    }
}

impl Cloning for Kinds {
    fn clone_of(
        &self,
        origin: &Place,
        snapshot: &SnapshotName,
        to: &Place,
        options: &VolumeOptions,
    ) -> Result<()> {
        match (origin, to) {
            (Place::Image(origin), Place::Image(to)) => {
                self.rbd.clone_of(origin, snapshot, to, options)
            }
            (Place::Folder(origin), Place::Folder(to)) => {
                self.cephfs.clone_of(origin, snapshot, to, options)
            }
            _ => Err(BackendError::Invalid(format!("{to} is of another kind than {origin}"))),
        }
    }

    fn copied(&self, location: &Place) -> Result<Copied> {
        at!(self.copied(location))
    }

    fn abandon(&self, location: &Place) -> Result<()> {
        at!(self.abandon(location))
    }

    fn depth(&self, location: &Place) -> Result<usize> {
        at!(self.depth(location))
    }

    fn flatten(&self, location: &Place, progress: Going<'_>) -> Result<()> {
        at!(self.flatten(location, progress))
    }
}

impl Freezing for Kinds {
    fn hold_still(
        &self,
        attached: &Attached,
        target: &Path,
        limit: Duration,
        deadline: &Deadline,
    ) -> Result<Box<dyn Still>> {
        attached!(self.hold_still(attached, target, limit, deadline))
    }
}

/// A cluster without CephFS, or a key that does not open it, has no volumes there.
fn unless_closed<T>(all: Result<Vec<T>>) -> Result<Vec<T>> {
    match all {
        Err(BackendError::Cluster(error)) if error.kind == ClusterErrorKind::Denied => {
            Ok(Vec::new())
        }
        other => other,
    }
}

impl<L: Into<Place>> Plan<L> {
    fn of_kind(self) -> Plan {
        Plan { location: self.location.into(), size: self.size, adopted: self.adopted }
    }
}

impl<L: Into<Place>> Found<L> {
    fn of_kind(self) -> Found {
        Found { location: self.location.into(), description: self.description }
    }
}

impl<L: Into<Place>> TrashedItem<L> {
    fn of_kind(self) -> TrashedItem {
        let Self { location, name, id, deleted, kept_until } = self;
        TrashedItem { location: location.into(), name, id, deleted, kept_until }
    }
}

impl TrashedItem {
    fn at<L: Clone>(&self, location: &L) -> TrashedItem<L> {
        let Self { name, id, deleted, kept_until, .. } = self.clone();
        TrashedItem { location: location.clone(), name, id, deleted, kept_until }
    }
}

impl AttachRequest {
    fn at<L: Clone>(&self, location: &L) -> AttachRequest<L> {
        let Self { read_only, target, options, .. } = self.clone();
        AttachRequest { location: location.clone(), read_only, target, options }
    }
}

impl<A> Attachment<A> {
    fn of_kind(self, attached: fn(A) -> Attached) -> Attachment {
        let Self { attached: it, address, folder_client, size, part } = self;
        Attachment { attached: attached(it), address, folder_client, size, part }
    }
}

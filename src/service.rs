//! The verbs: what Docker's calls and the operator's commands do, over the catalog and a backend.

mod error;
mod view;

pub use error::{ErrorKind, VolumeError};
pub use view::{
    Created, Finding, HolderView, Inspection, Listed, Lookup, Mounted, Rebuilt, Resized, Status,
    Trashed, Verdict, VolumeView, Who,
};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ceph::Cluster;
use crate::deadline::Deadline;
use crate::system::System;
use crate::volume::{ByteSize, ImageSpec, Location, MapperKind, MountId, RemovePolicy, VolumeName};

/// A result of a verb.
pub type Result<T> = std::result::Result<T, VolumeError>;

/// Options as they are given with `-o`.
pub type Options = BTreeMap<String, String>;

/// What the service runs with; complete and validated.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Where the catalog lies, and the images of volumes that say nothing else.
    pub home: Location,
    /// References, and what is attached; dies with the boot.
    pub state_folder: PathBuf,
    /// The last known catalog; outlives the boot.
    pub cache_folder: PathBuf,
    /// Volumes are mounted at `mount_root/NAME`.
    pub mount_root: PathBuf,
    /// The mapper to use; `None`: the best that the host has (krbd, else nbd).
    pub mapper: Option<MapperKind>,
    /// Options for new volumes that give none of their own, checked already.
    pub defaults: Options,
    /// The largest volume that may be asked for.
    pub max_size: Option<ByteSize>,
    /// The unit of a size without one (`M` as wetopi's, `G` as rexray's); `None`: refused.
    pub bare_size_unit: Option<char>,
    /// How long a mount waits for another host to let go.
    pub busy_wait: Duration,
    /// How long a mount ID may stand without a kernel user before it is dropped. Longer than the
    /// engine's 120 s for one Mount: a container's second volume may take all of it.
    pub reference_grace: Duration,
}

/// The verbs of all volumes. Shared by all requests; every method blocks, and ends by its deadline.
#[derive(Debug)]
pub struct Service {}

impl Service {
    /// A service over that cluster and that host. Reads what an earlier daemon left, touches
    /// nothing, and needs no answer from the cluster.
    ///
    /// # Errors
    /// Where a folder cannot be made or written; the error names it.
    pub fn open(
        settings: ServiceSettings,
        cluster: Arc<dyn Cluster>,
        system: Arc<dyn System>,
    ) -> std::io::Result<Self> {
        todo!()
    }

    /// Docker's Create.
    pub fn create(
        &self,
        name: &VolumeName,
        options: &Options,
        deadline: &Deadline,
    ) -> Result<Created> {
        todo!()
    }

    /// Docker's Remove, by the volume's own policy or the given one.
    pub fn remove(
        &self,
        name: &VolumeName,
        policy: Option<RemovePolicy>,
        deadline: &Deadline,
    ) -> Result<()> {
        todo!()
    }

    /// Docker's Mount.
    pub fn mount(&self, name: &VolumeName, id: &MountId, deadline: &Deadline) -> Result<Mounted> {
        todo!()
    }

    /// Docker's Unmount. An unknown ID is success.
    pub fn unmount(&self, name: &VolumeName, id: &MountId, deadline: &Deadline) -> Result<()> {
        todo!()
    }

    /// Docker's Get. Answers within 2 s, whatever the cluster does.
    pub fn get(&self, name: &VolumeName) -> Lookup {
        todo!()
    }

    /// Docker's List. Answers within 2 s, whatever the cluster does.
    pub fn list(&self) -> Vec<Listed> {
        todo!()
    }

    /// Where a volume of that name is, or would be, mounted: Docker's Path asks `get` first.
    pub fn volumes(&self) -> Vec<VolumeView> {
        todo!()
    }

    /// All that is known of one volume, from the image itself.
    pub fn inspect(&self, name: &VolumeName, deadline: &Deadline) -> Result<Inspection> {
        todo!()
    }

    /// Grows the image, and the file system where it is mounted here.
    pub fn resize(
        &self,
        name: &VolumeName,
        size: ByteSize,
        deadline: &Deadline,
    ) -> Result<Resized> {
        todo!()
    }

    /// Gives unused blocks back to the cluster; the volume has to be mounted here.
    pub fn trim(&self, name: &VolumeName, deadline: &Deadline) -> Result<ByteSize> {
        todo!()
    }

    /// Sets or lifts delete protection.
    pub fn protect(&self, name: &VolumeName, protected: bool, deadline: &Deadline) -> Result<()> {
        todo!()
    }

    /// Makes a volume of an image that is there, without changing it.
    pub fn adopt(
        &self,
        name: &VolumeName,
        image: &ImageSpec,
        options: &Options,
        deadline: &Deadline,
    ) -> Result<Created> {
        todo!()
    }

    /// What can be brought back.
    pub fn trash(&self, deadline: &Deadline) -> Result<Vec<Trashed>> {
        todo!()
    }

    /// Brings a removed volume back, the one removed last, under its own name or another.
    pub fn undelete(
        &self,
        name: &str,
        rename: Option<&VolumeName>,
        deadline: &Deadline,
    ) -> Result<VolumeName> {
        todo!()
    }

    /// Who has a volume.
    pub fn who(&self, name: &VolumeName, deadline: &Deadline) -> Result<Who> {
        todo!()
    }

    /// Writes records for the volumes whose records are missing, from what they say of themselves.
    pub fn rebuild(&self, deadline: &Deadline) -> Result<Rebuilt> {
        todo!()
    }

    /// The daemon's own view for the doctor: mappers, cluster, caps, leftovers.
    pub fn doctor(&self, deadline: &Deadline) -> Vec<Finding> {
        todo!()
    }

    /// Brings state, kernel and catalog into agreement: once after the start, then every few
    /// seconds. Drops references that no kernel user backs, finishes what is half-done, collects
    /// what leaked, and refreshes what `get` tells.
    pub fn reconcile(&self, deadline: &Deadline) {
        todo!()
    }

    /// Writes what is only in memory (the catalog's cache). Volumes stay mounted.
    pub fn close(&self) {
        todo!()
    }
}

//! The verbs: what Docker's calls and the operator's commands do, over the catalog and a backend.
//!
//! Every verb has one shape: take the volume's lock, look, decide, act, record, answer. The order
//! of writes is what makes a crash at any point repairable:
//!
//! ```text
//!  create   record `creating` ─▶ image or subvolume ─▶ describe ─▶ record `ready`
//!  remove   record `removing` ─▶ trash or delete ─▶ drop the record
//!  mount    reference `attaching` ─▶ claim ─▶ map ─▶ claim with address ─▶ probe, mkfs, mount
//!           ─▶ reference `mounted` ─▶ answer
//!  unmount  drop the ID ─▶ nobody left? ─▶ reference `detaching` ─▶ unmount ─▶ unmap
//!           ─▶ drop the claim ─▶ drop the reference
//! ```
//!
//! A record that is not `ready` and a reference that is not `mounted` is finished or undone by
//! whoever meets it next: a verb, or the reconciler.

mod adopt;
mod asked;
mod attach;
mod claim;
mod clone;
mod error;
mod fenced;
mod flatten;
mod hold;
mod hooks;
mod known;
mod locks;
mod look;
mod messages;
mod old_files;
mod operate;
mod provision;
mod reconcile;
mod references;
mod release;
mod remove;
mod rollback;
mod rolling;
mod schedule;
mod share;
mod snapshots;
mod still;
mod take;
mod taken;
mod tasks;
mod view;

pub use error::{ErrorKind, VolumeError};
pub use old_files::OldFilesView;
pub use rollback::{RollbackPlan, RolledBack};
pub use schedule::ScheduleView;
pub use snapshots::{Changed, SnapshotOrder, SnapshotView};
pub use tasks::{LongOutcome, TaskEnd, TaskFailure, TaskKind, TaskView};
pub use view::{
    Created, Drained, Figures, Finding, Flattened, HolderView, Inspection, Listed, Lookup, Mounted,
    OriginView, Rebuilt, Released, Resized, Status, Tie, Trashed, Verdict, VolumeView, Who,
};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::backend::{BackendError, Kinds};
use crate::catalog::{Catalog, CatalogError, Entry, Fences};
use crate::ceph::{Cluster, ClusterError, ClusterErrorKind, PoolUsage, Watch};
use crate::deadline::Deadline;
use crate::system::{FsUsage, Host, System, SystemError, SystemErrorKind};
use crate::volume::{
    ByteSize, Location, MapperKind, OptionError, OptionRules, Options, VolumeName,
};
use flatten::Flattens;
use known::Known;
use locks::{NameGuard, NameLocks};
use old_files::Searches;
use references::References;
use schedule::Schedules;
use still::Sessions;
use tasks::Tasks;

/// A result of a verb.
pub type Result<T> = std::result::Result<T, VolumeError>;

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
    /// Folders of CephFS are mounted by the daemon's own key, instead of one for each volume.
    pub cephfs_own_key: bool,
    /// Options for new volumes that give none of their own, checked already.
    pub defaults: Options,
    /// The largest volume that may be asked for.
    pub max_size: Option<ByteSize>,
    /// The unit of a size without one (`M` as wetopi's, `G` as rexray's); `None`: refused.
    pub bare_size_unit: Option<char>,
    /// How long a mount waits for another host to let go.
    pub busy_wait: Duration,
    /// How long the holder of a volume has to be silent, with the cluster well, to be taken for
    /// dead.
    pub fence_after: Duration,
    /// How long a mount ID may stand without a kernel user before it is dropped. Longer than the
    /// engine's 120 s for one Mount: a container's second volume may take all of it.
    pub reference_grace: Duration,
    /// How often the cluster is asked what time it is; the host's own clock is believed for nothing
    /// that has to do with schedules. Far less than the 30 s after which a daemon that does not ask
    /// any more is taken for gone.
    pub clock_refresh: Duration,
    /// Hooks around snapshots: the folders `pre-snapshot` and `post-snapshot` in it.
    pub hooks_folder: PathBuf,
    /// How long one hook may take.
    pub hook_limit: Duration,
    /// How long a file system may be held still for a snapshot.
    pub freeze_limit: Duration,
    /// Where the engine is asked which containers use a volume.
    pub engine_socket: PathBuf,
}

/// How long copies that go on are waited for at the end: what is cut off keeps others from the volume
/// for as long as the cluster takes its client for alive.
const LET_GO: Duration = Duration::from_secs(2);

/// The verbs of all volumes. Shared by all requests; every method blocks, and ends by its deadline.
pub struct Service {
    /// Itself, for the threads that outlive a call.
    me: Weak<Self>,
    settings: ServiceSettings,
    rules: OptionRules,
    host: Host,
    catalog: Arc<Catalog>,
    fences: Fences,
    /// How many clients of other hosts this daemon has shut out.
    fences_made: AtomicU64,
    cluster: Arc<dyn Cluster>,
    backend: Kinds,
    hooks: Arc<dyn System>,
    known: Known,
    references: References,
    locks: NameLocks,
    /// Volumes of which a snapshot is being made by this daemon.
    takes: NameLocks,
    schedules: Schedules,
    searches: Searches,
    tasks: Tasks,
    sessions: Sessions,
    flattens: Flattens,
    /// What an earlier daemon left standing still was let go.
    thawed: AtomicBool,
    observed: Mutex<Observed>,
    /// The watch by which other daemons are heard.
    ear: Mutex<Option<Box<dyn Watch>>>,
}

/// What was seen of the volumes here, and is as good as lost with the daemon.
#[derive(Debug, Default)]
struct Observed {
    /// The last error of a volume, until it works again.
    errors: HashMap<VolumeName, String>,
    /// Volumes whose device or mount is gone from under their users.
    broken: HashMap<VolumeName, String>,
    /// When a kernel user of a volume was last seen.
    backed: HashMap<VolumeName, Instant>,
    /// Space in the mounted file systems.
    usage: HashMap<VolumeName, FsUsage>,
    /// How much is copied of volumes that are copies, in percent, where the cluster tells.
    copies: HashMap<VolumeName, Option<u8>>,
    /// Room in the pools.
    rooms: HashMap<String, PoolUsage>,
    /// When half-done records were last looked for.
    swept: Option<Instant>,
    /// When the trash was last emptied of what is over its time.
    purged: Option<Instant>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("settings", &self.settings).finish_non_exhaustive()
    }
}

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
    ) -> std::io::Result<Arc<Self>> {
        let host = system.host().clone();
        let catalog = Arc::new(Catalog::new(Arc::clone(&cluster), settings.home.clone()));
        let known = Known::open(&settings.cache_folder, Arc::clone(&catalog))?;
        let references = References::open(&settings.state_folder, &host.boot_id)?;
        let fences = Fences::new(Arc::clone(&cluster), settings.home.clone());
        let home = settings.home.clone();
        let backend = Kinds::new(&cluster, &system, home, settings.mapper, settings.cephfs_own_key);
        let rules = OptionRules {
            defaults: settings.defaults.clone(),
            max_size: settings.max_size,
            bare_size_unit: settings.bare_size_unit,
        };
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            settings,
            rules,
            host,
            catalog,
            fences,
            fences_made: AtomicU64::new(0),
            cluster,
            backend,
            hooks: system,
            known,
            references,
            locks: NameLocks::default(),
            takes: NameLocks::default(),
            schedules: Schedules::default(),
            tasks: Tasks::default(),
            searches: Searches::default(),
            sessions: Sessions::default(),
            flattens: Flattens::default(),
            thawed: AtomicBool::new(false),
            observed: Mutex::default(),
            ear: Mutex::default(),
        }))
    }

    /// Ends the service: other daemons are heard no more, and what is only in memory is written.
    /// Volumes stay mounted.
    pub fn close(&self) {
        self.end_schedules();
        self.searches.call_off_all();
        self.flattens.close(LET_GO);
        let ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.known.is_away() {
            // To tell an absent cluster could take long; the watch ends by itself.
            std::mem::forget(ear);
        }
        self.keep_known();
    }

    /// Writes the last known catalog, where that has changed.
    fn keep_known(&self) {
        if let Err(error) = self.known.flush() {
            tracing::warn!(%error, "last known catalog could not be written");
        }
    }

    /// Where the file system of a volume of that name is mounted.
    fn target(&self, name: &VolumeName) -> PathBuf {
        self.settings.mount_root.join(name.as_str())
    }

    /// What containers see of a volume: always the same path.
    fn mountpoint(&self, name: &VolumeName, folder: &str) -> PathBuf {
        let mut path = self.target(name);
        if !folder.is_empty() {
            path.push(folder);
        }
        path
    }

    fn lock(&self, verb: Verb<'_>) -> Result<NameGuard<'_>> {
        self.locks.lock(verb.name, verb.deadline).ok_or_else(|| {
            verb.error(ErrorKind::Unavailable, "another call on this volume has not ended in time")
                .advise("it goes on; try again, and look at the daemon's log if that repeats")
        })
    }

    /// Waits for a cluster that is known to be away, rather than start what cannot be finished.
    fn await_cluster(&self, verb: Verb<'_>) -> Result<()> {
        while self.known.is_away() {
            if !verb.deadline.wait(Duration::from_millis(200)) {
                return Err(verb
                    .error(ErrorKind::Unavailable, "the Ceph cluster does not answer")
                    .advise(
                        "nothing was changed; check the monitors, the network and the key \
                             with docker ceph doctor",
                    ));
            }
        }
        Ok(())
    }

    /// The record of a volume that has to be there.
    fn entry(&self, verb: Verb<'_>) -> Result<Entry> {
        let entry = self.catalog.get(verb.name).map_err(|error| self.failed(verb, error))?;
        self.known.note(verb.name, entry.as_ref());
        entry.ok_or_else(|| {
            let missing = verb.error(ErrorKind::NotFound, "no such volume");
            if !self.known.is_vouched_for(verb.name) {
                return missing;
            }
            missing.advise(format!(
                "it was asked for while the cluster was away, and so never created: docker volume \
                 rm {0}, then docker volume create -d ceph {0}",
                verb.name
            ))
        })
    }

    /// Turns a failure below into the verb's answer, and takes note of a cluster that is away.
    fn failed(&self, verb: Verb<'_>, failure: impl Into<Failure>) -> VolumeError {
        let failure = failure.into();
        let cause = failure.to_string();
        if failure.kind() == ErrorKind::Unavailable && failure.is_of_the_cluster() {
            self.known.probe_until_back(&cause);
        }
        verb.error(failure.kind(), cause)
    }

    fn observed(&self) -> std::sync::MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verb at work: what its errors are to name, and how long it has.
#[derive(Debug, Clone, Copy)]
struct Verb<'a> {
    op: &'static str,
    name: &'a VolumeName,
    deadline: &'a Deadline,
}

impl<'a> Verb<'a> {
    fn new(op: &'static str, name: &'a VolumeName, deadline: &'a Deadline) -> Self {
        Self { op, name, deadline }
    }

    fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> VolumeError {
        VolumeError::new(self.op, self.name, kind, cause)
    }
}

/// What can fail below the verbs.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Options(#[from] OptionError),
    #[error("write the volume's reference: {0}")]
    Reference(#[from] std::io::Error),
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        BackendError::from(error).into()
    }
}

impl From<SystemError> for Failure {
    fn from(error: SystemError) -> Self {
        BackendError::from(error).into()
    }
}

impl Failure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(CatalogError::Cluster(error)) => of_cluster(error.kind),
            Self::Catalog(CatalogError::Changed) => ErrorKind::Unavailable,
            Self::Catalog(CatalogError::Unreadable(_) | CatalogError::Newer(_))
            | Self::Reference(_) => ErrorKind::Internal,
            Self::Backend(error) => of_backend(error),
            Self::Options(_) => ErrorKind::InvalidArgument,
        }
    }

    fn is_of_the_cluster(&self) -> bool {
        matches!(
            self,
            Self::Catalog(CatalogError::Cluster(_)) | Self::Backend(BackendError::Cluster(_))
        )
    }
}

fn of_backend(error: &BackendError) -> ErrorKind {
    match error {
        BackendError::Cluster(error) => of_cluster(error.kind),
        BackendError::System(error) => match &error.kind {
            SystemErrorKind::Busy(_) => ErrorKind::InUse,
            // Whose the image is by then is seen at the next attempt.
            SystemErrorKind::Timeout { .. } | SystemErrorKind::Held => ErrorKind::Unavailable,
            SystemErrorKind::Command { .. }
            | SystemErrorKind::Missing { .. }
            | SystemErrorKind::Refused(_)
            | SystemErrorKind::Io { .. } => ErrorKind::Internal,
        },
        BackendError::Invalid(_) => ErrorKind::InvalidArgument,
        BackendError::Conflict(_) => ErrorKind::AlreadyExists,
        BackendError::Unsafe(_) => ErrorKind::Internal,
        BackendError::Unwind { cause, .. } => of_backend(cause),
    }
}

fn of_cluster(kind: ClusterErrorKind) -> ErrorKind {
    match kind {
        ClusterErrorKind::Unreachable | ClusterErrorKind::Fenced => ErrorKind::Unavailable,
        ClusterErrorKind::NotFound => ErrorKind::NotFound,
        ClusterErrorKind::Exists => ErrorKind::AlreadyExists,
        ClusterErrorKind::Busy | ClusterErrorKind::NotEmpty => ErrorKind::InUse,
        ClusterErrorKind::NoSpace => ErrorKind::NoSpace,
        ClusterErrorKind::Invalid => ErrorKind::InvalidArgument,
        ClusterErrorKind::Denied | ClusterErrorKind::Other => ErrorKind::Internal,
    }
}

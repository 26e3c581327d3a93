//! What is spoken on the daemon's socket: Docker's volume-plugin protocol, and our admin API.
//!
//! ```text
//!  socket ──▶ server ──┬─▶ handler        (wire)  ──┐
//!                      └─▶ admin::handler (admin) ──┴─▶ calls ──▶ jobs ──▶ dyn Verbs
//!  Prometheus ─────────▶ metrics ◀──────── counts ───────────────────┘          │
//!                              └─────────────────── volumes, at a scrape ───────┘
//! ```
//!
//! Promises:
//!
//! * **The engine always hears in time.** Every verb has a deadline inside the engine's own limit;
//!   where it overruns that, the caller is told so and the work goes on by itself.
//! * **Nothing is cut in half.** A verb is a job on a thread of its own: the caller's hang-up, a
//!   panic or a broken connection never reaches it. A mount that nobody heard of is undone.
//! * **An answer to Get means what it says.** The engine takes any error from Get as "no such
//!   volume" and then starts the container on a fresh empty local volume. So a Get that cannot be
//!   answered truthfully is not answered at all: the connection is closed, the one thing that the
//!   engine treats as a failure.
//! * **A request without a readable body changes nothing.** The engine repeats a failed request
//!   with an empty body; that is never taken for the volume named "".
//!
//! Refuses: bodies over a limit, headers and bodies that do not come, names that would leave their
//! place. What a volume is, and where it lies, is not known here.

pub mod admin;
pub mod client;
pub mod socket;

mod body;
mod calls;
mod delivery;
pub(crate) mod gate;
mod handler;
mod jobs;
mod metrics;
pub(crate) mod path;
pub(crate) mod questions;
pub(crate) mod reply;
mod request_id;
mod server;
mod wire;

pub use metrics::MetricsListener;
pub use server::{Listeners, serve};

use std::fmt::Debug;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::service::{
    Changed, Created, Drained, ErrorKind, Figures, Finding, Flattened, Inspection, Listed, Lookup,
    Mounted, OldFilesView, Rebuilt, Released, Resized, Result, RollbackPlan, RolledBack,
    ScheduleView, Service, SnapshotOrder, SnapshotView, TaskView, Trashed, VolumeError, VolumeView,
    Who,
};
use crate::volume::{
    ByteSize, ImageSpec, MountId, NameError, Options, RemovePolicy, SnapshotName, VolumeName,
};

/// What the protocol asks of the service: [`Service`]'s own methods, as a seam for tests.
///
/// All of them block, end by their deadline, and may be called at once from many threads.
pub trait Verbs: Debug + Send + Sync + 'static {
    /// See [`Service::create`].
    fn create(&self, name: &VolumeName, options: &Options, by: &Deadline) -> Result<Created>;
    /// See [`Service::remove`].
    fn remove(&self, name: &VolumeName, policy: Option<RemovePolicy>, by: &Deadline) -> Result<()>;
    /// See [`Service::mount`].
    fn mount(&self, name: &VolumeName, id: &MountId, by: &Deadline) -> Result<Mounted>;
    /// See [`Service::unmount`].
    fn unmount(&self, name: &VolumeName, id: &MountId, by: &Deadline) -> Result<()>;
    /// See [`Service::get`].
    fn get(&self, name: &VolumeName) -> Lookup;
    /// See [`Service::list`].
    fn list(&self) -> Vec<Listed>;
    /// See [`Service::volumes`].
    fn volumes(&self) -> Vec<VolumeView>;
    /// See [`Service::inspect`].
    fn inspect(&self, name: &VolumeName, by: &Deadline) -> Result<Inspection>;
    /// See [`Service::resize`].
    fn resize(&self, name: &VolumeName, size: ByteSize, by: &Deadline) -> Result<Resized>;
    /// See [`Service::flatten`].
    fn flatten(&self, name: &VolumeName, by: &Deadline) -> Result<Flattened>;
    /// See [`Service::trim`].
    fn trim(&self, name: &VolumeName, by: &Deadline) -> Result<ByteSize>;
    /// See [`Service::protect`].
    fn protect(&self, name: &VolumeName, protected: bool, by: &Deadline) -> Result<()>;
    /// See [`Service::adopt`].
    fn adopt(
        &self,
        name: &VolumeName,
        image: &ImageSpec,
        options: &Options,
        by: &Deadline,
    ) -> Result<Created>;
    /// See [`Service::trash`].
    fn trash(&self, by: &Deadline) -> Result<Vec<Trashed>>;
    /// See [`Service::undelete`].
    fn undelete(
        &self,
        name: &str,
        rename: Option<&VolumeName>,
        by: &Deadline,
    ) -> Result<VolumeName>;
    /// See [`Service::who`].
    fn who(&self, name: &VolumeName, by: &Deadline) -> Result<Who>;
    /// See [`Service::release`].
    fn release(&self, name: &VolumeName, fence: bool, by: &Deadline) -> Result<Released>;
    /// See [`Service::drain`].
    fn drain(&self, engine_stopped: bool, by: &Deadline) -> Vec<Drained>;
    /// See [`Service::snapshot`].
    fn snapshot(
        &self,
        volumes: &[VolumeName],
        order: &SnapshotOrder,
        by: &Deadline,
    ) -> Result<Vec<SnapshotView>>;
    /// See [`Service::snapshots`].
    fn snapshots(&self, name: &VolumeName, by: &Deadline) -> Result<Vec<SnapshotView>>;
    /// See [`Service::remove_snapshot`].
    fn remove_snapshot(&self, name: &VolumeName, of: &SnapshotName, by: &Deadline) -> Result<()>;
    /// See [`Service::protect_snapshot`].
    fn protect_snapshot(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        protected: bool,
        by: &Deadline,
    ) -> Result<()>;
    /// See [`Service::changed_since`].
    fn changed_since(
        &self,
        name: &VolumeName,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        by: &Deadline,
    ) -> Result<Changed>;
    /// See [`Service::schedules`].
    fn schedules(&self, by: &Deadline) -> Result<Vec<ScheduleView>>;
    /// See [`Service::set_schedule`].
    fn set_schedule(
        &self,
        name: &VolumeName,
        options: &Options,
        by: &Deadline,
    ) -> Result<ScheduleView>;
    /// See [`Service::pause_schedule`].
    fn pause_schedule(
        &self,
        name: &VolumeName,
        paused: bool,
        by: &Deadline,
    ) -> Result<ScheduleView>;
    /// See [`Service::run_schedule`].
    fn run_schedule(&self, name: &VolumeName, by: &Deadline) -> Result<SnapshotView>;
    /// See [`Service::rollback_plan`].
    fn rollback_plan(
        &self,
        name: &VolumeName,
        to: &SnapshotName,
        by: &Deadline,
    ) -> Result<RollbackPlan>;
    /// See [`Service::rollback`].
    fn rollback(&self, name: &VolumeName, to: &SnapshotName, by: &Deadline) -> Result<RolledBack>;
    /// See [`Service::old_files`].
    fn old_files(&self, name: &VolumeName, remove: bool, by: &Deadline) -> Result<OldFilesView>;
    /// See [`Service::tasks`].
    fn tasks(&self) -> Vec<TaskView>;
    /// See [`Service::figures`].
    fn figures(&self) -> Figures;
    /// See [`Service::rebuild`].
    fn rebuild(&self, by: &Deadline) -> Result<Rebuilt>;
    /// See [`Service::doctor`].
    fn doctor(&self, by: &Deadline) -> Vec<Finding>;
}

impl Verbs for Service {
    fn create(&self, name: &VolumeName, options: &Options, by: &Deadline) -> Result<Created> {
        self.create(name, options, by)
    }

    fn remove(&self, name: &VolumeName, policy: Option<RemovePolicy>, by: &Deadline) -> Result<()> {
        self.remove(name, policy, by)
    }

    fn mount(&self, name: &VolumeName, id: &MountId, by: &Deadline) -> Result<Mounted> {
        self.mount(name, id, by)
    }

    fn unmount(&self, name: &VolumeName, id: &MountId, by: &Deadline) -> Result<()> {
        self.unmount(name, id, by)
    }

    fn get(&self, name: &VolumeName) -> Lookup {
        self.get(name)
    }

    fn list(&self) -> Vec<Listed> {
        self.list()
    }

    fn volumes(&self) -> Vec<VolumeView> {
        self.volumes()
    }

    fn inspect(&self, name: &VolumeName, by: &Deadline) -> Result<Inspection> {
        self.inspect(name, by)
    }

    fn resize(&self, name: &VolumeName, size: ByteSize, by: &Deadline) -> Result<Resized> {
        self.resize(name, size, by)
    }

    fn flatten(&self, name: &VolumeName, by: &Deadline) -> Result<Flattened> {
        self.flatten(name, by)
    }

    fn trim(&self, name: &VolumeName, by: &Deadline) -> Result<ByteSize> {
        self.trim(name, by)
    }

    fn protect(&self, name: &VolumeName, protected: bool, by: &Deadline) -> Result<()> {
        self.protect(name, protected, by)
    }

    fn adopt(
        &self,
        name: &VolumeName,
        image: &ImageSpec,
        options: &Options,
        by: &Deadline,
    ) -> Result<Created> {
        self.adopt(name, image, options, by)
    }

    fn trash(&self, by: &Deadline) -> Result<Vec<Trashed>> {
        self.trash(by)
    }

    fn undelete(
        &self,
        name: &str,
        rename: Option<&VolumeName>,
        by: &Deadline,
    ) -> Result<VolumeName> {
        let name = name.parse().map_err(|error: NameError| {
            VolumeError::new("undelete", name, ErrorKind::InvalidArgument, error.to_string())
        })?;
        self.undelete(&name, rename, by)
    }

    fn who(&self, name: &VolumeName, by: &Deadline) -> Result<Who> {
        self.who(name, by)
    }

    fn release(&self, name: &VolumeName, fence: bool, by: &Deadline) -> Result<Released> {
        self.release(name, fence, by)
    }

    fn drain(&self, engine_stopped: bool, by: &Deadline) -> Vec<Drained> {
        self.drain(engine_stopped, by)
    }

    fn snapshot(
        &self,
        volumes: &[VolumeName],
        order: &SnapshotOrder,
        by: &Deadline,
    ) -> Result<Vec<SnapshotView>> {
        self.snapshot(volumes, order, by)
    }

    fn snapshots(&self, name: &VolumeName, by: &Deadline) -> Result<Vec<SnapshotView>> {
        self.snapshots(name, by)
    }

    fn remove_snapshot(&self, name: &VolumeName, of: &SnapshotName, by: &Deadline) -> Result<()> {
        self.remove_snapshot(name, of, by)
    }

    fn protect_snapshot(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        protected: bool,
        by: &Deadline,
    ) -> Result<()> {
        self.protect_snapshot(name, snapshot, protected, by)
    }

    fn changed_since(
        &self,
        name: &VolumeName,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        by: &Deadline,
    ) -> Result<Changed> {
        self.changed_since(name, from, to, by)
    }

    fn schedules(&self, by: &Deadline) -> Result<Vec<ScheduleView>> {
        self.schedules(by)
    }

    fn set_schedule(
        &self,
        name: &VolumeName,
        options: &Options,
        by: &Deadline,
    ) -> Result<ScheduleView> {
        self.set_schedule(name, options, by)
    }

    fn pause_schedule(
        &self,
        name: &VolumeName,
        paused: bool,
        by: &Deadline,
    ) -> Result<ScheduleView> {
        self.pause_schedule(name, paused, by)
    }

    fn run_schedule(&self, name: &VolumeName, by: &Deadline) -> Result<SnapshotView> {
        self.run_schedule(name, by)
    }

    fn rollback_plan(
        &self,
        name: &VolumeName,
        to: &SnapshotName,
        by: &Deadline,
    ) -> Result<RollbackPlan> {
        self.rollback_plan(name, to, by)
    }

    fn rollback(&self, name: &VolumeName, to: &SnapshotName, by: &Deadline) -> Result<RolledBack> {
        self.rollback(name, to, by)
    }

    fn old_files(&self, name: &VolumeName, remove: bool, by: &Deadline) -> Result<OldFilesView> {
        self.old_files(name, remove, by)
    }

    fn tasks(&self) -> Vec<TaskView> {
        self.tasks()
    }

    fn figures(&self) -> Figures {
        self.figures()
    }

    fn rebuild(&self, by: &Deadline) -> Result<Rebuilt> {
        self.rebuild(by)
    }

    fn doctor(&self, by: &Deadline) -> Vec<Finding> {
        self.doctor(by)
    }
}

/// How long and how much: of the verbs, of the requests, and of the stop.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Create has to be over; the engine waits 120 s.
    pub create: Duration,
    /// Mount has to be over; the engine waits 120 s.
    pub mount: Duration,
    /// Every other verb has to be over; the engine waits 60 s.
    pub other: Duration,
    /// A snapshot has to be over, its hooks included.
    pub snapshot: Duration,
    /// A rebuild of the catalog has to be over. It reads every image, and no engine waits for it.
    pub rebuild: Duration,
    /// The undoing of a mount that nobody heard of has to be over.
    pub undo: Duration,
    /// How much longer than its deadline a verb may take before its caller is told to go on
    /// without it.
    pub grace: Duration,
    /// The headers of a request have to be there. It also ends a connection that is idle for so
    /// long, which the engine's client bears: it opens a new one.
    pub header: Duration,
    /// The body of a request has to be there.
    pub body: Duration,
    /// The largest body, in bytes.
    pub body_size: usize,
    /// How many verbs other than Get and List run at once; more wait, inside their deadline. Less
    /// than the threads that tokio gives to blocking work (512), so that Get and List always find
    /// one.
    pub verbs_at_once: usize,
    /// At a stop, how long requests in flight may go on before their deadlines are called off.
    pub stop_grace: Duration,
    /// At a stop, how long requests in flight are waited for at all. The engine kills a managed
    /// plugin 10 s after it asked it to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            create: Duration::from_secs(100),
            mount: Duration::from_secs(100),
            other: Duration::from_secs(50),
            snapshot: Duration::from_secs(600),
            rebuild: Duration::from_secs(600),
            undo: Duration::from_secs(50),
            grace: Duration::from_secs(5),
            header: Duration::from_secs(60),
            body: Duration::from_secs(5),
            body_size: 1 << 20,
            verbs_at_once: 384,
            stop_grace: Duration::from_secs(4),
            drain: Duration::from_secs(9),
        }
    }
}

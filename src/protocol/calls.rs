//! The verbs as both languages ask for them: with a span, a deadline, and one line in the log for
//! each change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::UCred;
use tokio::runtime::Handle;
use tracing::Span;
use tracing::field::Empty;

use super::Verbs;
use super::delivery::{Undelivered, Undo};
use super::jobs::{Call, Jobs};
use super::request_id::RequestId;
use crate::audit::audit;
use crate::deadline::Deadline;
use crate::service::{
    Changed, Created, Drained, ErrorKind, Flattened, Listed, Lookup, OldFilesView, Rebuilt,
    Released, Resized, Result, RollbackPlan, RolledBack, ScheduleView, SnapshotOrder, SnapshotView,
    TaskView, VolumeError,
};
use crate::volume::{
    ByteSize, ImageSpec, MountId, NameError, Options, RemovePolicy, SnapshotName, VolumeName,
};

/// The most characters of a name that an error repeats.
const LONGEST_ECHO: usize = 160;

/// A volume's name from a request. The engine checks none.
pub(super) fn parse_name(op: &'static str, name: &str) -> Result<VolumeName> {
    name.parse().map_err(|error| invalid(op, name, &error))
}

/// A mount ID from a request.
pub(super) fn parse_id(op: &'static str, volume: &VolumeName, id: &str) -> Result<MountId> {
    id.parse().map_err(|error| invalid(op, volume.as_str(), &error))
}

fn invalid(op: &'static str, volume: &str, error: &NameError) -> VolumeError {
    let error = VolumeError::new(op, echo(volume), ErrorKind::InvalidArgument, error.to_string());
    tracing::info!(%error, "refused");
    error
}

/// As much of a name as an error should repeat.
pub(super) fn echo(name: &str) -> String {
    match name.char_indices().nth(LONGEST_ECHO) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

/// What a request logs, it logs in here; what it is about is filled in when it has been read.
pub(super) fn span(id: RequestId, peer: Option<UCred>) -> Span {
    let (uid, pid) = (peer.map(|peer| peer.uid()), peer.and_then(|peer| peer.pid()));
    let (op, volume, mount_id) = (Empty, Empty, Empty);
    tracing::info_span!("request", %id, uid, pid, op, volume, mount_id)
}

impl Jobs {
    /// The call that the current request makes, of `op` on a volume, or on none where the name is
    /// empty.
    fn call(&self, op: &'static str, volume: &str, limit: Duration) -> Call {
        let span = Span::current();
        span.record("op", op);
        if !volume.is_empty() {
            span.record("volume", volume);
        }
        Call { op, volume: volume.to_owned(), limit, quick: false, span }
    }

    fn quick_call(&self, op: &'static str, volume: &str) -> Call {
        Call { quick: true, ..self.call(op, volume, self.limits.other) }
    }

    /// Docker's Create, and the tool's.
    pub(super) async fn create(&self, name: VolumeName, options: Options) -> Result<Created> {
        let call = self.call("create", name.as_str(), self.limits.create);
        self.run(call, move |verbs, by| {
            verbs.create(&name, &options, by).inspect(|created| log_created("created", *created))
        })
        .await
    }

    /// The tool's adopt.
    pub(super) async fn adopt(
        &self,
        name: VolumeName,
        image: ImageSpec,
        options: Options,
    ) -> Result<Created> {
        let call = self.call("adopt", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let adopted = verbs.adopt(&name, &image, &options, by);
            adopted.inspect(|created| log_created("adopted", *created))
        })
        .await
    }

    /// Docker's Remove, and the tool's.
    pub(super) async fn remove(
        &self,
        name: VolumeName,
        policy: Option<RemovePolicy>,
    ) -> Result<()> {
        let call = self.call("remove", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            verbs.remove(&name, policy, by).inspect(|()| audit!("removed"))
        })
        .await
    }

    /// Docker's Mount. What it did is undone unless it is delivered.
    pub(super) async fn mount(&self, name: VolumeName, id: MountId) -> Result<Undelivered> {
        let call = self.call("mount", name.as_str(), self.limits.mount);
        call.span.record("mount_id", id.as_str());
        let by = self.deadline(&call);
        let turn = tokio::time::timeout(by.left(), self.turns.take(&name, &id)).await;
        let turn = turn.map_err(|_| {
            let cause = "an earlier mount with the same ID has not ended";
            let error = call.error(ErrorKind::Unavailable, cause).advise("try again later");
            call.span.in_scope(|| tracing::error!(%error, "failed"));
            error
        })?;
        let undo = Undo {
            name,
            id,
            verbs: Arc::clone(&self.verbs),
            limit: self.limits.undo,
            span: call.span.clone(),
            runtime: Handle::current(),
            turn,
            alive: self.keep_alive(),
        };
        self.run_by(call, by, move |verbs, by| mount(verbs, undo, by)).await
    }

    /// Docker's Unmount.
    pub(super) async fn unmount(&self, name: VolumeName, id: MountId) -> Result<()> {
        let call = self.call("unmount", name.as_str(), self.limits.other);
        call.span.record("mount_id", id.as_str());
        self.run(call, move |verbs, by| {
            verbs.unmount(&name, &id, by).inspect(|()| audit!("unmounted"))
        })
        .await
    }

    /// Docker's Get.
    pub(super) async fn get(&self, op: &'static str, name: VolumeName) -> Result<Lookup> {
        let call = self.quick_call(op, name.as_str());
        self.run(call, move |verbs, _| {
            let lookup = verbs.get(&name);
            tracing::debug!(found = lookup_word(&lookup), "looked up");
            Ok(lookup)
        })
        .await
    }

    /// Docker's List.
    pub(super) async fn list(&self) -> Result<Vec<Listed>> {
        self.run(self.quick_call("list", ""), |verbs, _| {
            let listed = verbs.list();
            tracing::debug!(volumes = listed.len(), "listed");
            Ok(listed)
        })
        .await
    }

    /// The tool's resize.
    pub(super) async fn resize(&self, name: VolumeName, size: ByteSize) -> Result<Resized> {
        let call = self.call("resize", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            verbs.resize(&name, size, by).inspect(|resized| {
                let Resized { from, to, file_system_grown } = resized;
                audit!(from = from.bytes(), to = to.bytes(), file_system_grown, "resized");
            })
        })
        .await
    }

    /// The tool's flatten, which is asked again until it is done.
    pub(super) async fn flatten(&self, name: VolumeName) -> Result<Flattened> {
        let call = self.call("flatten", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| verbs.flatten(&name, by)).await
    }

    /// The tool's trim.
    pub(super) async fn trim(&self, name: VolumeName) -> Result<ByteSize> {
        let call = self.call("trim", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            verbs.trim(&name, by).inspect(|size| audit!(bytes = size.bytes(), "trimmed"))
        })
        .await
    }

    /// The tool's look at old files, and their removal.
    pub(super) async fn old_files(&self, name: VolumeName, remove: bool) -> Result<OldFilesView> {
        let call = self.call("old files of", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| verbs.old_files(&name, remove, by)).await
    }

    /// The tool's protect.
    pub(super) async fn protect(&self, name: VolumeName, protected: bool) -> Result<()> {
        let call = self.call("protect", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let done = verbs.protect(&name, protected, by);
            done.inspect(|()| audit!(protected, "protection set"))
        })
        .await
    }

    /// The tool's snapshot: a long call, because of its hooks.
    pub(super) async fn snapshot(
        &self,
        volumes: Vec<VolumeName>,
        order: SnapshotOrder,
    ) -> Result<Vec<SnapshotView>> {
        let first = volumes.first().map_or("", VolumeName::as_str);
        let call = self.call("snapshot", first, self.limits.snapshot);
        self.run(call, move |verbs, by| {
            verbs.snapshot(&volumes, &order, by).inspect(|made| {
                let stood_still_ms = made.iter().filter_map(|of| of.stood_still_ms).max();
                let (snapshot, volumes) = (&order.name, made.len());
                audit!(%snapshot, volumes, stood_still_ms, "snapshot taken");
            })
        })
        .await
    }

    /// The tool's removal of a snapshot.
    pub(super) async fn remove_snapshot(
        &self,
        name: VolumeName,
        snapshot: SnapshotName,
    ) -> Result<()> {
        let call = self.call("remove snapshot of", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let removed = verbs.remove_snapshot(&name, &snapshot, by);
            removed.inspect(|()| audit!(%snapshot, "snapshot removed"))
        })
        .await
    }

    /// The tool's protection of a snapshot.
    pub(super) async fn protect_snapshot(
        &self,
        name: VolumeName,
        snapshot: SnapshotName,
        protected: bool,
    ) -> Result<()> {
        let call = self.call("protect snapshot of", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let done = verbs.protect_snapshot(&name, &snapshot, protected, by);
            done.inspect(|()| audit!(%snapshot, protected, "protection set"))
        })
        .await
    }

    /// The tool's comparison: a long call, because it may look at every object.
    pub(super) async fn changed_since(
        &self,
        name: VolumeName,
        from: SnapshotName,
        to: Option<SnapshotName>,
    ) -> Result<Changed> {
        let call = self.call("compare snapshots of", name.as_str(), self.limits.snapshot);
        self.run(call, move |verbs, by| verbs.changed_since(&name, &from, to.as_ref(), by)).await
    }

    /// The tool's change of a schedule.
    pub(super) async fn set_schedule(
        &self,
        name: VolumeName,
        options: Options,
    ) -> Result<ScheduleView> {
        let call = self.call("schedule snapshots of", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let set = verbs.set_schedule(&name, &options, by);
            set.inspect(|set| audit!(schedule = set.schedule, "schedule set"))
        })
        .await
    }

    /// The tool's look at what a rollback would lose: a long call, as a comparison is.
    pub(super) async fn rollback_plan(
        &self,
        name: VolumeName,
        to: SnapshotName,
    ) -> Result<RollbackPlan> {
        let call = self.call("rollback", name.as_str(), self.limits.snapshot);
        self.run(call, move |verbs, by| verbs.rollback_plan(&name, &to, by)).await
    }

    /// The tool's rollback. It may go on after the answer.
    pub(super) async fn rollback(&self, name: VolumeName, to: SnapshotName) -> Result<RolledBack> {
        let call = self.call("rollback", name.as_str(), self.limits.mount);
        self.run(call, move |verbs, by| {
            verbs.rollback(&name, &to, by).inspect(|rolled| {
                let RolledBack { snapshot, safety, outcome } = rolled;
                audit!(%snapshot, %safety, ?outcome, "rolled back");
            })
        })
        .await
    }

    /// The tool's pause of a schedule, or the end of it.
    pub(super) async fn pause_schedule(
        &self,
        name: VolumeName,
        paused: bool,
    ) -> Result<ScheduleView> {
        let call = self.call("pause the schedule of", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let done = verbs.pause_schedule(&name, paused, by);
            done.inspect(|_| audit!(paused, "schedule paused or resumed"))
        })
        .await
    }

    /// The tool's run of a schedule: a long call, as a snapshot is.
    pub(super) async fn run_schedule(&self, name: VolumeName) -> Result<SnapshotView> {
        let call = self.call("run the schedule of", name.as_str(), self.limits.snapshot);
        self.run(call, move |verbs, by| verbs.run_schedule(&name, by)).await
    }

    /// The tool's look at what takes long.
    pub(super) async fn tasks(&self) -> Result<Vec<TaskView>> {
        self.run(self.quick_call("tasks", ""), |verbs, _| Ok(verbs.tasks())).await
    }

    /// The tool's release.
    pub(super) async fn release(&self, name: VolumeName, fence: bool) -> Result<Released> {
        let call = self.call("release", name.as_str(), self.limits.other);
        self.run(call, move |verbs, by| {
            let released = verbs.release(&name, fence, by);
            released.inspect(|released| audit!(?released, fence, "released"))
        })
        .await
    }

    /// The tool's drain.
    pub(super) async fn drain(&self, engine_stopped: bool) -> Result<Vec<Drained>> {
        let call = self.call("drain", "", self.limits.other);
        self.run(call, move |verbs, by| {
            let drained = verbs.drain(engine_stopped, by);
            let kept = drained.iter().filter(|volume| volume.kept.is_some()).count();
            audit!(volumes = drained.len(), kept, "drained");
            Ok(drained)
        })
        .await
    }

    /// The tool's undelete.
    pub(super) async fn undelete(
        &self,
        name: String,
        rename: Option<VolumeName>,
    ) -> Result<VolumeName> {
        let call = self.call("undelete", &echo(&name), self.limits.other);
        self.run(call, move |verbs, by| {
            let back = verbs.undelete(&name, rename.as_ref(), by);
            back.inspect(|name| audit!(%name, "undeleted"))
        })
        .await
    }

    /// The tool's rebuild of the catalog.
    pub(super) async fn rebuild(&self) -> Result<Rebuilt> {
        let call = self.call("catalog rebuild", "", self.limits.rebuild);
        self.run(call, |verbs, by| {
            verbs.rebuild(by).inspect(|rebuilt| {
                let (added, kept) = (rebuilt.added.len(), rebuilt.kept.len());
                audit!(added, kept, "catalog rebuilt");
            })
        })
        .await
    }

    /// One of the tool's questions, which changes nothing and is logged only where it fails.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        op: &'static str,
        volume: Option<&VolumeName>,
        question: impl FnOnce(&dyn Verbs, &Deadline) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let volume = volume.map_or("", VolumeName::as_str);
        self.run(self.call(op, volume, self.limits.other), question).await
    }
}

fn mount(verbs: &dyn Verbs, undo: Undo, by: &Deadline) -> Result<Undelivered> {
    let mounted = verbs.mount(&undo.name, &undo.id, by)?;
    let volume = undo.name.clone();
    let usable = is_usable(&mounted.mountpoint);
    if mounted.added {
        audit!(mountpoint = %mounted.mountpoint.display(), "mounted");
    } else {
        tracing::debug!("mounted with this ID already");
    }
    let undelivered = Undelivered::new(mounted, undo);
    if usable {
        return Ok(undelivered);
    }
    // The engine would bind-mount something else and start the container on that. The drop of
    // `undelivered` unmounts it.
    let cause = format!("the mountpoint {:?} is no absolute path", undelivered.mountpoint());
    Err(VolumeError::new("mount", volume, ErrorKind::Internal, cause))
}

/// Can the engine be told of it?
fn is_usable(mountpoint: &Path) -> bool {
    mountpoint.is_absolute() && mountpoint.to_str().is_some()
}

fn log_created(what: &'static str, created: Created) {
    match created {
        Created::Created => audit!("{what}"),
        Created::AlreadyThere => tracing::debug!("was there already"),
    }
}

fn lookup_word(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Found(_) => "yes",
        Lookup::Absent => "no",
        Lookup::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_not_repeated_whole() {
        let error = parse_name("create", &"ü".repeat(300)).expect_err("too long").to_string();
        assert!(error.chars().count() < 300 && error.contains("600 bytes"), "{error}");
    }

    #[test]
    fn only_an_absolute_path_is_told_to_the_engine() {
        assert!(is_usable(Path::new("/mnt/a")));
        assert!(!is_usable(Path::new("")) && !is_usable(Path::new("mnt/a")));
    }
}

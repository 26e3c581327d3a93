//! What takes long in this daemon: on which volume, how far it is, and how it came out.
//!
//! Work that may take longer than anybody waits is begun by a verb and done by a thread of the
//! daemon:
//!
//! ```text
//!  verb ─▶ begin ─▶ thread: work ─────────────────────────────▶ end ─▶ kept for a while
//!    └──── waits ──┬─ ended in time: its result
//!                  └─ the deadline: "it goes on", and the task tells the rest
//! ```
//!
//! * One task is under way on a volume at a time.
//! * A task that has ended says how for [`KEPT`], to whoever asks late.
//! * Nothing here outlives the daemon. What has to be taken to its end all the same stands in the
//!   volume's record, and is for whoever sweeps.
#![allow(dead_code, reason = "the verbs that take long come next")]

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ErrorKind, Result, Service, Verb, VolumeError};
use crate::volume::VolumeName;

/// How long it is told how a task ended.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

/// How often a waiting verb looks whether the daemon is to stop.
const SLICE: Duration = Duration::from_millis(200);

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// The volume gets the content of a snapshot back.
    Rollback,
    /// The volume gets its own copy of what it has from another.
    Flatten,
}

impl TaskKind {
    /// The word that people use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Flatten => "flatten",
        }
    }
}

/// A task as it is shown. The JSON keys are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskView {
    /// The volume.
    pub volume: VolumeName,
    /// What is done to it.
    pub what: TaskKind,
    /// How much is done, in whatever the work counts.
    pub done: u64,
    /// How much there is to do; 0 while nobody knows.
    pub total: u64,
    /// Since when; it tells the task from a later one.
    pub since: Timestamp,
    /// How it ended; `None` while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TaskEnd>,
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskEnd {
    /// When.
    pub at: Timestamp,
    /// Why it came to nothing; `None`: it did what it was to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<TaskFailure>,
}

/// Why a task came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskFailure {
    /// What can be done about it.
    pub kind: ErrorKind,
    /// What went wrong and what to do, in words.
    pub error: String,
}

/// What is known of long work when its caller is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongOutcome {
    /// It is done.
    Done,
    /// It goes on; the daemon's tasks tell the rest.
    GoesOn,
}

/// The tasks of this daemon.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<BTreeMap<VolumeName, TaskView>>>);

/// A task under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct TaskGuard {
    tasks: Tasks,
    volume: VolumeName,
    failure: Option<TaskFailure>,
}

impl Tasks {
    /// Begins a task; `None` where one is under way on that volume.
    pub(super) fn begin(&self, volume: &VolumeName, what: TaskKind) -> Option<TaskGuard> {
        let mut tasks = self.lock();
        if tasks.get(volume).is_some_and(|task| task.end.is_none()) {
            return None;
        }
        let (volume, since) = (volume.clone(), Timestamp::now());
        let task = TaskView { volume: volume.clone(), what, done: 0, total: 0, since, end: None };
        tasks.insert(volume.clone(), task);
        let cut_off = TaskFailure {
            kind: ErrorKind::Internal,
            error: format!("{} {volume}: the daemon has a fault; see its log", what.as_str()),
        };
        Some(TaskGuard { tasks: self.clone(), volume, failure: Some(cut_off) })
    }

    /// All that is under way, or ended a short while ago.
    pub(super) fn all(&self) -> Vec<TaskView> {
        let now = Timestamp::now();
        let mut tasks = self.lock();
        let is_told = |end: &TaskEnd| now.duration_since(end.at) < KEPT;
        tasks.retain(|_, task| task.end.as_ref().is_none_or(is_told));
        tasks.values().cloned().collect()
    }

    /// What is under way on a volume.
    pub(super) fn on(&self, volume: &VolumeName) -> Option<TaskView> {
        self.lock().get(volume).filter(|task| task.end.is_none()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeName, TaskView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskGuard {
    /// Tells how far it is: how much is done, and how much there is to do.
    pub(super) fn report(&self, done: u64, total: u64) {
        if let Some(task) = self.tasks.lock().get_mut(&self.volume) {
            (task.done, task.total) = (done, total);
        }
    }

    /// Ends it with the result of the work.
    pub(super) fn end(mut self, result: &Result<()>) {
        self.failure = result
            .as_ref()
            .err()
            .map(|error| TaskFailure { kind: error.kind, error: error.to_string() });
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let end = TaskEnd { at: Timestamp::now(), failure: self.failure.take() };
        if let Some(task) = self.tasks.lock().get_mut(&self.volume) {
            task.end = Some(end);
        }
    }
}

impl Service {
    /// All that takes long in this daemon, or ended a short while ago; by the volumes' names.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.tasks.all()
    }

    /// Does the work on a thread of the daemon, and waits for its result until the verb's deadline;
    /// after that the work goes on, and its task tells how it ends. The work must not count on a
    /// lock of the verb.
    ///
    /// # Errors
    /// The work's own, and `InUse` where something takes long on that volume already.
    pub(super) fn run_long(
        &self,
        verb: Verb<'_>,
        what: TaskKind,
        work: impl FnOnce(&Self, &TaskGuard) -> Result<()> + Send + 'static,
    ) -> Result<LongOutcome> {
        let task = self.tasks.begin(verb.name, what).ok_or_else(|| self.occupied(verb))?;
        let gone = || verb.error(ErrorKind::Unavailable, "the daemon is ending");
        let service = self.me.upgrade().ok_or_else(gone)?;
        let (ended, hear) = mpsc::channel();
        let (span, op) = (tracing::Span::current(), verb.op);
        thread::spawn(move || {
            let _in_span = span.enter();
            let result = work(&service, &task);
            task.end(&result);
            // Nobody waits for it any more.
            if let Err(mpsc::SendError(unheard)) = ended.send(result) {
                match unheard {
                    Ok(()) => tracing::info!(op, "long work done"),
                    Err(error) => tracing::error!(%error, "failed"),
                }
            }
        });
        await_result(verb, &hear)
    }

    /// Why nothing else can be done with a volume on which something takes long.
    fn occupied(&self, verb: Verb<'_>) -> VolumeError {
        let what = self.tasks.on(verb.name).map_or("work", |task| task.what.as_str());
        verb.error(ErrorKind::InUse, format!("a {what} of it is under way"))
            .advise(format!("docker ceph inspect {} shows how far it is", verb.name))
    }
}

fn await_result(verb: Verb<'_>, hear: &mpsc::Receiver<Result<()>>) -> Result<LongOutcome> {
    loop {
        match hear.recv_timeout(verb.deadline.left().min(SLICE)) {
            Ok(result) => return result.map(|()| LongOutcome::Done),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(verb.error(ErrorKind::Internal, "the daemon has a fault; see its log"));
            }
            Err(RecvTimeoutError::Timeout) if verb.deadline.is_over() => {
                return Ok(LongOutcome::GoesOn);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> VolumeName {
        "a".parse().expect("a name")
    }

    #[test]
    fn one_task_at_a_time_tells_how_far_it_is_and_then_how_it_ended() {
        let tasks = Tasks::default();
        let task = tasks.begin(&name(), TaskKind::Rollback).expect("nothing is under way");
        assert!(tasks.begin(&name(), TaskKind::Flatten).is_none());
        task.report(3, 8);
        let seen = tasks.on(&name()).expect("under way");
        assert_eq!((seen.what, seen.done, seen.total), (TaskKind::Rollback, 3, 8));
        task.end(&Ok(()));
        assert_eq!(tasks.on(&name()), None);
        let end = tasks.all()[0].end.clone().expect("ended");
        assert_eq!(end.failure, None);
        assert!(tasks.begin(&name(), TaskKind::Flatten).is_some());
    }

    #[test]
    fn a_task_that_failed_says_why_and_one_that_panicked_too() {
        let tasks = Tasks::default();
        let begin = || tasks.begin(&name(), TaskKind::Rollback).expect("nothing is under way");
        let failure = || tasks.all()[0].end.clone().expect("ended").failure.expect("failed");
        begin().end(&Err(VolumeError::new("roll back", "a", ErrorKind::NoSpace, "full")));
        let seen = failure();
        assert_eq!((seen.kind, &*seen.error), (ErrorKind::NoSpace, "roll back a: full"));
        drop(begin());
        assert_eq!(failure().kind, ErrorKind::Internal);
    }

    #[test]
    fn what_ended_long_ago_is_forgotten_and_what_goes_on_is_not() {
        let tasks = Tasks::default();
        tasks.begin(&name(), TaskKind::Rollback).expect("begun").end(&Ok(()));
        let _other = tasks.begin(&"b".parse().expect("a name"), TaskKind::Flatten);
        for task in tasks.lock().values_mut() {
            task.since -= KEPT;
            if let Some(end) = &mut task.end {
                end.at -= KEPT;
            }
        }
        let left: Vec<_> = tasks.all().into_iter().map(|task| task.volume.to_string()).collect();
        assert_eq!(left, ["b"]);
    }
}

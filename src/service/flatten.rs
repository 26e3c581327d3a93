//! Flattening: copying what a clone shares with its origin, so that it stands alone.
//!
//! ```text
//!  record: who copies ─▶ a thread: librbd copies, and says how far it is ─▶ describe
//!    ─▶ record: it stands alone ─▶ the snapshot goes that was made for it alone
//! ```
//!
//! * It takes as long as copying does, and so holds no lock of ours. What is mounted by librbd (nbd,
//!   fuse) goes on: the mapper copies beside its writes. The kernel's RBD cannot, and then it is done
//!   when the volume is free.
//! * Whoever wants a volume that is not mounted calls the copying off, here or by a message: what is
//!   copied stays so. It goes on with the next sweep of whoever has the volume, or of anybody.
//! * The record says who copies, renewed again and again: what a dead host has begun is taken over
//!   after a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::provision::LEASE;
use super::tasks::{TaskGuard, TaskKind};
use super::{ErrorKind, Flattened, Result, Service, Verb, VolumeError};
use crate::audit::audit;
use crate::backend::Cloning;
use crate::deadline::Deadline;
use crate::volume::{Flatten, Flattening, Origin, Place, Record, RecordState, VolumeName};

/// How long a copy that is called off may take to end.
const END: Duration = Duration::from_secs(10);

/// How long the record may stand as it is: well within the time after which it is taken over.
const RENEWED: SignedDuration = SignedDuration::from_secs(30);

/// How long writing down that it is done may take.
const FINISH: Duration = Duration::from_secs(60);

/// How long one answer to the operator's tool waits for the end.
const ANSWER: Duration = Duration::from_secs(2);

/// The volumes that are being flattened here.
#[derive(Debug, Default)]
pub(super) struct Flattens(Mutex<HashMap<VolumeName, Arc<Copying>>>);

/// A copy that is under way, or was a moment ago.
#[derive(Debug, Default)]
pub(super) struct Copying {
    percent: AtomicU8,
    called_off: AtomicBool,
    /// How it ended.
    over: Mutex<Option<std::result::Result<(), (ErrorKind, String)>>>,
    changed: Condvar,
}

impl Copying {
    /// Told by librbd, on one of its threads: nothing here waits.
    fn progress(&self, done: u64, total: u64) -> bool {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or_default().min(100);
        self.percent.store(u8::try_from(percent).unwrap_or(100), Ordering::Relaxed);
        !self.called_off.load(Ordering::Relaxed)
    }

    fn end(&self, how: std::result::Result<(), (ErrorKind, String)>) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
        self.changed.notify_all();
    }

    /// How it ended; `None` where it did not in time.
    fn wait(&self, limit: Duration) -> Option<std::result::Result<(), (ErrorKind, String)>> {
        let until = Instant::now() + limit;
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        while over.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(over, left);
            over = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        over.clone()
    }
}

impl Flattens {
    fn get(&self, name: &VolumeName) -> Option<Arc<Copying>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn all(&self) -> Vec<(VolumeName, Arc<Copying>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, copying)| (name.clone(), Arc::clone(copying))).collect()
    }

    /// Calls all of them off, and waits a moment for that.
    pub(super) fn close(&self, limit: Duration) {
        let all = self.all();
        all.iter().for_each(|(_, copying)| copying.called_off.store(true, Ordering::Relaxed));
        let until = Instant::now() + limit;
        for (_, copying) in all {
            let _ = copying.wait(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl Service {
    /// Has a volume copied what it shares with its origin, and says how far that is: to be asked again
    /// until it is done. What began here or elsewhere goes on, whoever asks.
    ///
    /// # Errors
    /// `InvalidArgument` for a snapshot that is shown for reading only; `InUse` where the kernel's RBD
    /// has it; what went wrong, where it ended so.
    pub fn flatten(&self, name: &VolumeName, deadline: &Deadline) -> Result<Flattened> {
        let verb = Verb::new("flatten", name, deadline);
        let guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        let record = self.ready(verb)?;
        if record.is_read_only() && record.origin.is_some() {
            let cause = "it shows a snapshot as it is, and has no data of its own";
            return Err(verb.error(ErrorKind::InvalidArgument, cause));
        }
        if self.stands_alone(verb, &record)? {
            return Ok(Flattened { done: true, percent: 100 });
        }
        let copying = match self.begin_flatten(verb, &record)? {
            Ok(copying) => copying,
            Err(elsewhere) => return Ok(Flattened { done: false, percent: elsewhere.percent }),
        };
        drop(guard);
        match copying.wait(deadline.at_most(ANSWER).left()) {
            Some(Ok(())) => Ok(Flattened { done: true, percent: 100 }),
            Some(Err((kind, cause))) => Err(verb.error(kind, cause)),
            None => Ok(Flattened { done: false, percent: copying.percent.load(Ordering::Relaxed) }),
        }
    }

    fn stands_alone(&self, verb: Verb<'_>, record: &Record) -> Result<bool> {
        match &record.origin {
            Some(origin) => Ok(origin.alone),
            // An adopted image may have been made of another by hand.
            None => {
                let depth = self.backend.depth(&record.location);
                Ok(depth.map_err(|error| self.failed(verb, error))? == 0)
            }
        }
    }

    /// Flattens a volume that was just made, where it was asked for: `now` waits for the end as long
    /// as there is time.
    pub(super) fn flatten_new(&self, verb: Verb<'_>) {
        let Some((record, _)) = self.known.last(verb.name) else { return };
        if record.state != RecordState::Ready || !record.is_to_be_flattened() {
            return;
        }
        let begun = self.lock(verb).and_then(|_guard| self.begin_flatten(verb, &record));
        let now = record.options.get("flatten").is_some_and(|it| it == Flatten::Now.as_str());
        match begun {
            Ok(Ok(copying)) if now => drop(copying.wait(verb.deadline.left())),
            Ok(_) => {}
            Err(error) => tracing::info!(%error, "flattened later"),
        }
    }

    /// Begins the copying, or goes on with it, under the volume's lock. Where another host is at it:
    /// how far it was.
    fn begin_flatten(
        &self,
        verb: Verb<'_>,
        record: &Record,
    ) -> Result<std::result::Result<Arc<Copying>, Flattening>> {
        if let Some(copying) = self.flattens.get(verb.name) {
            return Ok(Ok(copying));
        }
        let occupied = || {
            verb.error(ErrorKind::InUse, "something else that takes long is under way")
                .advise("try again when that is over")
        };
        if self.tasks.on(verb.name).is_some() {
            return Err(occupied());
        }
        if let Some(elsewhere) = self.mark_flattening(verb, record)? {
            return Ok(Err(elsewhere));
        }
        let task = self.tasks.begin(verb.name, TaskKind::Flatten).ok_or_else(occupied)?;
        let copying = Arc::new(Copying::default());
        let mut all = self.flattens.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(verb.name.clone(), Arc::clone(&copying));
        drop(all);
        let Some(service) = self.me.upgrade() else {
            return Err(verb.error(ErrorKind::Unavailable, "the daemon is ending"));
        };
        let (name, place, ours) = (verb.name.clone(), record.location.clone(), copying.clone());
        thread::spawn(move || service.attend_flatten(&name, &place, &ours, task));
        Ok(Ok(copying))
    }

    /// Writes down that this host copies; who else does, where that is so.
    fn mark_flattening(&self, verb: Verb<'_>, record: &Record) -> Result<Option<Flattening>> {
        if record.origin.is_none() {
            return Ok(None);
        }
        let work = self.work();
        let ours = work.by.clone();
        let now = self.change(verb, |record| {
            let mut record = record.clone();
            let origin = record.origin.as_mut()?;
            let busy = |of: &Flattening| is_at_it(of, &ours);
            if origin.flattening.as_ref().is_some_and(busy) {
                return None;
            }
            let percent = origin.flattening.as_ref().map_or(0, |before| before.percent);
            origin.flattening = Some(Flattening { work: work.clone(), percent });
            Some(record)
        })?;
        let mark = now.origin.and_then(|origin| origin.flattening);
        Ok(mark.filter(|mark| mark.work.by != ours))
    }

    /// The thread of one copy.
    fn attend_flatten(&self, name: &VolumeName, place: &Place, copying: &Copying, task: TaskGuard) {
        let deadline = Deadline::after(FINISH);
        let begun = Verb::new("flatten", name, &deadline);
        tracing::info!(volume = %name, "flattening");
        let copied = self.backend.flatten(place, &|done, total| {
            task.report(done, total);
            copying.progress(done, total)
        });
        let late = Deadline::after(FINISH);
        let verb = Verb { deadline: &late, ..begun };
        let ended = copied.map_err(|error| self.not_flattened(verb, copying, error));
        let noted = self.note_flattened(verb, ended.is_ok(), copying);
        let ended = ended.and(noted);
        match &ended {
            Ok(()) => audit!(volume = %name, "flattened: it stands alone"),
            Err(error) => tracing::info!(volume = %name, %error, "not flattened"),
        }
        let mut all = self.flattens.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(name);
        drop(all);
        task.end(&ended);
        copying.end(ended.map_err(|error| (error.kind, error.cause)));
    }

    fn not_flattened(
        &self,
        verb: Verb<'_>,
        copying: &Copying,
        error: crate::backend::BackendError,
    ) -> VolumeError {
        if copying.called_off.load(Ordering::Relaxed) {
            return verb
                .error(ErrorKind::Unavailable, "it was called off: somebody wants the volume");
        }
        match error {
            crate::backend::BackendError::Cluster(error) if error.errno == libc::EROFS => verb
                .error(ErrorKind::InUse, "it is mapped by krbd, which flattens nothing")
                .advise("stop its containers, and flatten it then"),
            error => self.failed(verb, error),
        }
    }

    /// Writes down how it ended.
    fn note_flattened(&self, verb: Verb<'_>, alone: bool, copying: &Copying) -> Result<()> {
        let percent = copying.percent.load(Ordering::Relaxed);
        tracing::debug!(volume = %verb.name, alone, percent, "flattening has ended");
        let record = self.change(verb, |record| {
            let mut record = record.clone();
            let origin = record.origin.as_mut()?;
            origin.flattening = None;
            origin.alone |= alone;
            Some(record)
        })?;
        match record.origin {
            Some(Origin { alone: true, .. }) => {
                self.describe(verb, &record)?;
                self.forget_origin(verb, &record);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Gives up what was made of its origin for a volume that needs it no more.
    pub(super) fn forget_origin(&self, verb: Verb<'_>, record: &Record) {
        let Some(origin) = record.origin.as_ref().filter(|of| of.alone && of.implicit) else {
            return;
        };
        if !self.drop_implicit(verb, origin) {
            return;
        }
        let forgotten = self.change(verb, |record| {
            let mut record = record.clone();
            record.origin.as_mut()?.implicit = false;
            Some(record)
        });
        if let Err(error) = forgotten {
            tracing::info!(volume = %verb.name, %error, "asked again later");
        }
    }

    /// Goes on with what is to be flattened, where that is this host's to do.
    pub(super) fn sweep_flatten(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        self.forget_origin(verb, record);
        let by_claim = match &record.claim {
            None => true,
            Some(claim) => self.references.get(verb.name).is_some_and(|reference| {
                let means = reference.attachment.as_ref().map(|of| of.attached.means());
                reference.has_made(claim) && means.is_some_and(|means| means != "krbd")
            }),
        };
        let begun = record.origin.as_ref().is_some_and(|origin| origin.flattening.is_some());
        if !by_claim || !(begun || record.is_to_be_flattened()) {
            return Ok(());
        }
        self.begin_flatten(verb, record).map(drop)
    }

    /// Says again, of each copy that goes on here, that it does, and how far it is.
    pub(super) fn renew_flattens(&self, deadline: &Deadline) {
        for (name, copying) in self.flattens.all() {
            let verb = Verb::new("flatten", &name, deadline);
            let (work, percent) = (self.work(), copying.percent.load(Ordering::Relaxed));
            let renewed = self.change(verb, |record| {
                let mut record = record.clone();
                let mark = record.origin.as_mut()?.flattening.as_mut()?;
                let old = work.since.duration_since(mark.work.since) > RENEWED;
                if mark.work.by != work.by || !old {
                    return None;
                }
                *mark = Flattening { work: work.clone(), percent };
                Some(record)
            });
            if let Err(error) = renewed {
                tracing::debug!(volume = %name, %error, "not renewed");
            }
        }
    }

    /// Is it being flattened here?
    pub(super) fn is_flattening(&self, name: &VolumeName) -> bool {
        self.flattens.get(name).is_some()
    }

    /// How much is copied, in percent: here, or as far as another host has said.
    pub(super) fn flattened(&self, name: &VolumeName, origin: &Origin) -> Option<u8> {
        match self.flattens.get(name) {
            Some(copying) => Some(copying.percent.load(Ordering::Relaxed)),
            None => origin.flattening.as_ref().map(|of| of.percent),
        }
    }

    /// Calls off what this host copies, because somebody wants the volume.
    pub(super) fn call_off_flatten(&self, verb: Verb<'_>) -> Result<()> {
        let Some(copying) = self.flattens.get(verb.name) else { return Ok(()) };
        copying.called_off.store(true, Ordering::Relaxed);
        match copying.wait(END) {
            Some(_) => Ok(()),
            None => {
                Err(verb
                    .error(ErrorKind::Unavailable, "it is being flattened, and that does not end"))
            }
        }
    }

    /// The same, wherever it is copied. A host that does not answer is left to be found silent.
    pub(super) fn call_off_flatten_of(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        self.call_off_flatten(verb)?;
        let mark = record.origin.as_ref().and_then(|origin| origin.flattening.as_ref());
        if let Some(mark) = mark.filter(|mark| is_at_it(mark, &self.work().by)) {
            let told = self.ask_to_release(verb, mark.work.boot_id());
            tracing::info!(volume = %verb.name, host = mark.work.host, ?told, "flattening called off");
        }
        Ok(())
    }
}

/// Is another daemon than `ours` at it?
fn is_at_it(mark: &Flattening, ours: &str) -> bool {
    mark.work.by != ours && Timestamp::now().duration_since(mark.work.since) < LEASE
}

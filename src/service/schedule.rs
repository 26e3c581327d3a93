//! Schedules: what makes snapshots of volumes when they are due, exactly once in the cluster.
//!
//! Every daemon looks, once a second, which of all volumes are due by the cluster's clock, and whose
//! turn it is:
//!
//! ```text
//!  a volume that a host has     that host; the others 15 s after the first that it left undone
//!  a volume that nobody has     one of the daemons that hold the lease, another one for each
//!                               volume; each of the others a little later than the one before
//! ```
//!
//! Turns only save work. What makes it once is the snapshot's name, which is the due time, and the
//! record, in which one snapshot is made at a time (`take`); who finds the name taken notes the due
//! time as served. So it does not matter who believes what of the others, nor when one dies:
//!
//! ```text
//!  record: due? ─▶ `taking` ─▶ snapshot `scheduled-TIME` ─▶ record: served, not `taking`
//!    ─▶ the schedule's own snapshots that are not kept are removed
//! ```
//!
//! What failed is tried again, with growing pauses, for as long as no later due time has come. Only
//! what a schedule made is ever removed here, and nothing that is protected, needed by a backup, or
//! that something was made of.

mod index;
mod retain;
mod serve;
mod time;
mod verbs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Result, Service, Verb};
use crate::deadline::Deadline;
use crate::steps::watched;
use crate::volume::{Due, Record, RecordState, VolumeName};
use index::{Index, Next};
use time::{ClusterTime, Moment};
pub use verbs::ScheduleView;

/// How many due times one daemon serves at once.
const AT_ONCE: usize = 4;

/// How long the end of a daemon waits for what it serves, which was called off already. What it
/// leaves undone, its next start does.
const LAST: Duration = Duration::from_millis(500);

/// What a daemon knows of the schedules.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    time: ClusterTime,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    serving: usize,
}

/// One of the places for what is served at once; given back when this is dropped, also by a panic.
struct Place {
    service: Arc<Service>,
    volume: VolumeName,
    next: Next,
}

impl Service {
    /// Serves what is due, on threads of its own, which are over by the deadline. Called every second
    /// or so.
    pub fn serve_schedules(&self, deadline: &Deadline) -> Vec<JoinHandle<()>> {
        let (records, _) = self.known.last_all();
        let scheduled = self.schedules.state().index.is_needed(&records);
        // Whoever makes a snapshot holds a share in the lease, whether by a schedule or not.
        if self.known.is_away() || !(scheduled || self.takes.is_any()) {
            return Vec::new();
        }
        let moment = match self.moment() {
            Ok(moment) => moment,
            Err(error) => {
                tracing::debug!(%error, "the cluster's time is not known");
                return Vec::new();
            }
        };
        let due = {
            let mut state = self.schedules.state();
            state.index.refresh(records, moment.now);
            let most = AT_ONCE - state.serving;
            let due = state.index.take_due(moment.now, most);
            state.serving += due.len();
            due
        };
        let serve = |volume| {
            let service = self.me.upgrade().expect("it is alive: this is a method of it");
            let span = tracing::info_span!("schedule", %volume);
            let place = Place { service, volume, next: Next::Failed };
            let (moment, deadline) = (moment.clone(), deadline.clone());
            thread::spawn(move || span.in_scope(|| watched(|| place.serve(&moment, &deadline))))
        };
        due.into_iter().map(serve).collect()
    }

    /// Waits for what is being served, and gives the share in the lease up.
    pub(super) fn end_schedules(&self) {
        let start = Instant::now();
        while self.schedules.state().serving > 0 && start.elapsed() < LAST {
            thread::sleep(Duration::from_millis(50));
        }
        if !self.known.is_away() {
            self.schedules.time.end(&*self.cluster, &self.settings.home, &self.work().by);
        }
    }

    /// Is there a daemon of that name? It may have come since the last look, and be at work: only the
    /// cluster, asked now, can say that there is none.
    pub(super) fn is_there(&self, verb: Verb<'_>, by: &str) -> Result<bool> {
        let (home, own) = (&self.settings.home, self.work().by);
        let lease = self.schedules.time.look(&*self.cluster, home, &own);
        let lease = lease.map_err(|error| self.failed(verb, error))?;
        Ok(lease.members.iter().any(|member| member == by))
    }

    /// The cluster's time, and who serves schedules.
    fn moment(&self) -> std::result::Result<Moment, crate::ceph::ClusterError> {
        let (home, by) = (&self.settings.home, self.work().by);
        self.schedules.time.now(&*self.cluster, home, &by, self.settings.clock_refresh)
    }

    /// The cluster's time.
    pub(super) fn cluster_time(&self, verb: Verb<'_>) -> Result<Timestamp> {
        Ok(self.moment().map_err(|error| self.failed(verb, error))?.now)
    }
}

impl Schedules {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn serve(mut self, moment: &Moment, deadline: &Deadline) {
        self.next = self.service.serve(&self.volume, moment, deadline);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.service.moment().map_or(Timestamp::UNIX_EPOCH, |moment| moment.now);
        let mut state = self.service.schedules.state();
        state.serving -= 1;
        state.index.done(&self.volume, self.next, now);
    }
}

/// What is due of a volume; `None` where it has no schedule that this daemon understands, or the
/// schedule rests.
fn due_now(volume: &VolumeName, record: &Record, now: Timestamp) -> Option<Due> {
    if record.state != RecordState::Ready || record.snapshots.paused {
        return None;
    }
    let timetable = record.snapshot_options().ok()?.timetable?;
    Some(timetable.due(volume, record.snapshots.served, record.scheduled_since(), now))
}

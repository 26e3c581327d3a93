//! Holding a volume still on the host that has it, wherever the snapshot was asked for.
//!
//! ```text
//!  who takes the snapshot            the host that has the volume
//!  prepare ────────────────────────▶ `pre` hooks …
//!  look, again and again ──────────▶ preparing, then ready, or over: why
//!  freeze ─────────────────────────▶ the volume's lock ─▶ all is written out, writers wait
//!  (the snapshot is made)            and go on by themselves after `freeze-limit`
//!  thaw ───────────────────────────▶ writers go on: did they stand still until now, and how long?
//!                                    `post` hooks, whatever happened
//! ```
//!
//! One thread of the holder goes from the first step to the last, and ends by itself where the next
//! step does not come: whoever asked may be dead. The file system is let go by a process of its own,
//! so that it does not stay frozen where this daemon dies either. A snapshot counts only where the
//! holder has said, after it was made, that nothing was written meanwhile.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hooks::Hooked;
use super::references::{Phase, Reference};
use super::{Service, Verb};
use crate::backend::{Attachment, Freezing};
use crate::deadline::Deadline;
use crate::system::Stood;
use crate::volume::{Consistency, SnapshotName, VolumeName};

/// How long a prepared volume waits for the next step, before it is over.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long writing out may take before a freeze, and what a caller waits for a step at most.
pub(super) const STEP: Duration = Duration::from_secs(15);

/// How long hooks are waited for before the answer is that they run: a moment, as other messages to
/// this daemon wait meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// Why a folder of CephFS is not of one point in time with others.
const WRITES_ON: &str = "CephFS holds no writers back, and there is no hook that does: leave it out of \
                         the group, or add a hook before snapshots that stops its writers";

/// What is asked of the host that has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Order {
    /// The volume.
    pub(super) volume: VolumeName,
    /// What tells this from other attempts.
    pub(super) token: String,
    /// The snapshot that is to be made.
    pub(super) snapshot: SnapshotName,
    /// What it is to promise: hooks run for `application`, writers wait for all but `crash`.
    pub(super) consistency: Consistency,
    /// Others are to be of the same point in time.
    pub(super) together: bool,
}

/// The next step of what was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Step {
    /// Begin, and run the hooks.
    Prepare,
    /// Say how far it is.
    Look,
    /// Stand still.
    Freeze,
    /// Go on.
    Thaw,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// The hooks run.
    Preparing,
    /// The hooks have run.
    Ready,
    /// It stands still.
    Still,
    /// It goes on again, after it stood still until it was to go on: for so long.
    Done {
        /// In milliseconds.
        stood_still_ms: u64,
    },
    /// It was unmounted meanwhile, so that the host has nothing to hold still any more.
    Gone,
    /// It came to nothing: why.
    Failed(String),
}

impl Stage {
    fn is_over(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Gone | Self::Failed(_))
    }
}

/// What one thread does, and what others ask of it.
#[derive(Debug)]
struct Session {
    token: String,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    stage: Stage,
    /// The last step that was asked for.
    wanted: Step,
    /// The thread has ended, with the hooks.
    ended: bool,
}

/// Says at the end of a session's thread that it is over, also where it ends by a panic.
struct Ending<'a>(&'a Session);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.set(|progress| {
            if !progress.stage.is_over() {
                progress.stage = Stage::Failed("this daemon failed at it; see its log".to_owned());
            }
            progress.ended = true;
        });
    }
}

/// The volumes that are held still here, or were a moment ago.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<VolumeName, Arc<Session>>>);

impl Session {
    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until it is so, and says whether it came to that in time.
    fn wait_until(&self, limit: Duration, is_so: impl Fn(&Progress) -> bool) -> bool {
        let until = Instant::now() + limit;
        let mut progress = self.lock();
        while !is_so(&progress) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Service {
    /// Takes a step with a volume that this host has; `None` where it has none such.
    pub(super) fn step(&self, order: &Order, step: Step) -> Option<Stage> {
        if step == Step::Prepare {
            return self.begin_session(order);
        }
        let session = self.session(&order.volume).filter(|of| of.token == order.token)?;
        if step == Step::Look {
            session.wait_until(LOOK, |progress| progress.stage != Stage::Preparing);
        } else {
            session.set(|progress| progress.wanted = step);
            let arrived = |progress: &Progress| {
                progress.stage.is_over() || (step == Step::Freeze && progress.stage == Stage::Still)
            };
            // Where it is late, its stage says so, and who asked decides.
            let _ = session.wait_until(STEP, arrived);
        }
        let stage = session.lock().stage.clone();
        Some(stage)
    }

    /// Is it this daemon that has begun it?
    pub(super) fn has_session(&self, order: &Order) -> bool {
        self.session(&order.volume).is_some_and(|session| session.token == order.token)
    }

    fn session(&self, volume: &VolumeName) -> Option<Arc<Session>> {
        self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner).get(volume).cloned()
    }

    fn begin_session(&self, order: &Order) -> Option<Stage> {
        let reference = self.references.get(&order.volume)?;
        if reference.read_only {
            return None;
        }
        let mut sessions = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&order.volume).is_some_and(|other| !other.lock().ended) {
            let why = "another snapshot of it is being made on this host".to_owned();
            return Some(Stage::Failed(why));
        }
        let progress = Progress { stage: Stage::Preparing, wanted: Step::Prepare, ended: false };
        let session = Arc::new(Session {
            token: order.token.clone(),
            progress: Mutex::new(progress),
            changed: Condvar::new(),
        });
        sessions.insert(order.volume.clone(), Arc::clone(&session));
        drop(sessions);
        let (service, order) = (self.me.upgrade()?, order.clone());
        thread::spawn(move || service.attend(&order, &reference, &session));
        Some(Stage::Preparing)
    }

    /// The thread of a session, from the first hook to the last.
    fn attend(&self, order: &Order, reference: &Reference, session: &Session) {
        let _ending = Ending(session);
        let hooked = Hooked::new(order, reference);
        let stage = match self.prepare_and_hold(order, reference, session, &hooked) {
            Ok(stood) => Stage::Done {
                stood_still_ms: u64::try_from(stood.time.as_millis()).unwrap_or(u64::MAX),
            },
            Err(stage) => stage,
        };
        tracing::info!(volume = %order.volume, snapshot = %order.snapshot, ?stage, "held still");
        session.set(|progress| progress.stage = stage);
        if order.consistency == Consistency::Application {
            self.run_post_hooks(&hooked);
        }
    }

    fn prepare_and_hold(
        &self,
        order: &Order,
        reference: &Reference,
        session: &Session,
        hooked: &Hooked<'_>,
    ) -> std::result::Result<Stood, Stage> {
        let hooks = match order.consistency {
            Consistency::Application => self.run_pre_hooks(hooked).map_err(Stage::Failed)?,
            _ => 0,
        };
        let attachment = reference.attachment.as_ref();
        let can_be_held = attachment.is_some_and(|of| of.attached.device().is_some());
        if order.together && hooks == 0 && !can_be_held {
            return Err(Stage::Failed(WRITES_ON.to_owned()));
        }
        session.set(|progress| progress.stage = Stage::Ready);
        if !session.wait_until(PATIENCE, |progress| progress.wanted != Step::Prepare) {
            return Err(Stage::Failed("nobody went on with it after the hooks".to_owned()));
        }
        if session.lock().wanted == Step::Thaw {
            return Err(Stage::Failed("it was called off".to_owned()));
        }
        self.hold(order, reference, session)
    }

    /// Holds the volume still under its lock, so that nobody unmounts it meanwhile.
    fn hold(
        &self,
        order: &Order,
        begun: &Reference,
        session: &Session,
    ) -> std::result::Result<Stood, Stage> {
        let limit = self.settings.freeze_limit;
        let deadline = Deadline::after(STEP);
        let verb = Verb::new("hold still", &order.volume, &deadline);
        let failed = |error: &dyn std::error::Error| Stage::Failed(error.to_string());
        let _guard = self.lock(verb).map_err(|error| Stage::Failed(error.cause))?;
        let Some((attachment, target)) = self.still_mounted(begun) else { return Err(Stage::Gone) };
        let still = self.backend.hold_still(&attachment.attached, &target, limit, &deadline);
        let still = still.map_err(|error| failed(&error))?;
        session.set(|progress| progress.stage = Stage::Still);
        let told = session.wait_until(limit, |progress| progress.wanted == Step::Thaw);
        let stood = still.release(&Deadline::after(STEP)).map_err(|error| failed(&error))?;
        if !told || !stood.whole {
            let limit = limit.as_secs_f32();
            return Err(Stage::Failed(format!("it stood still for {limit} s, and not longer")));
        }
        Ok(stood)
    }

    /// What is mounted, where it is the same as at the beginning.
    fn still_mounted(&self, begun: &Reference) -> Option<(Attachment, PathBuf)> {
        let now = self.references.get(&begun.name)?;
        let same = now.phase == Phase::Mounted && now.since == begun.since;
        now.attachment.filter(|_| same).map(|attachment| (attachment, now.target))
    }
}

//! Verbs as jobs: each on a blocking thread of its own, with a deadline, whatever becomes of the
//! connection that asked for it.
//!
//! A job logs how it ended itself: its caller may be gone by then. A caller stops waiting at the
//! deadline and a grace; the job goes on, and the daemon's stop waits for it.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::Span;

use super::delivery::Turns;
use super::metrics::Requests;
use super::{Limits, Verbs};
use crate::deadline::{Deadline, Stop};
use crate::service::{ErrorKind, Result, VolumeError};
use crate::steps::watched;

/// All that jobs share.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) verbs: Arc<dyn Verbs>,
    pub(super) limits: Limits,
    pub(super) turns: Turns,
    stop: Stop,
    slots: Arc<Semaphore>,
    alive: mpsc::Sender<Infallible>,
    requests: Requests,
}

/// Resolves when the last job has ended.
pub(super) type Drained = mpsc::Receiver<Infallible>;

/// What is known of a call before it runs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) op: &'static str,
    pub(super) volume: String,
    pub(super) limit: Duration,
    /// It answers from memory: it never waits for a slot, and what it says is logged quietly.
    pub(super) quick: bool,
    pub(super) span: Span,
}

impl Jobs {
    /// Jobs that call those verbs; the second value tells when none is left once the first is gone.
    pub(super) fn new(
        verbs: Arc<dyn Verbs>,
        limits: Limits,
        stop: Stop,
        requests: Requests,
    ) -> (Self, Drained) {
        let (alive, drained) = mpsc::channel(1);
        let slots = Arc::new(Semaphore::new(limits.verbs_at_once));
        (Self { verbs, limits, turns: Turns::default(), stop, slots, alive, requests }, drained)
    }

    /// The deadline of a call that starts now.
    pub(super) fn deadline(&self, call: &Call) -> Deadline {
        Deadline::with_stop(call.limit, self.stop.clone())
    }

    /// Something that the daemon's stop waits for.
    pub(super) fn keep_alive(&self) -> mpsc::Sender<Infallible> {
        self.alive.clone()
    }

    /// Runs `work` as a job and waits for what it answers.
    pub(super) async fn run<T, W>(&self, call: Call, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&dyn Verbs, &Deadline) -> Result<T> + Send + 'static,
    {
        let deadline = self.deadline(&call);
        self.run_by(call, deadline, work).await
    }

    /// Runs `work` as a job with a deadline that has begun, and waits for what it answers.
    pub(super) async fn run_by<T, W>(&self, call: Call, deadline: Deadline, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&dyn Verbs, &Deadline) -> Result<T> + Send + 'static,
    {
        let mut counted = self.requests.begin(call.op);
        let slot = if call.quick { Ok(None) } else { self.slot(&call, &deadline).await.map(Some) };
        let slot = match slot {
            Ok(slot) => slot,
            Err(error) => return counted.end(Err(error)),
        };
        counted.work();
        let held = (slot, self.keep_alive());
        let (answer, heard) = oneshot::channel();
        let (verbs, by, span) = (self.verbs.clone(), deadline.clone(), call.span.clone());
        let (op, volume, quick) = (call.op, call.volume.clone(), call.quick);
        tokio::task::spawn_blocking(move || {
            let _in_span = span.enter();
            let result = watched(|| guarded(op, &volume, quick, || work(&*verbs, &by)));
            // Where nobody listens any more, the result is dropped: that is what undoes a mount.
            drop(answer.send(result));
            drop(held);
        });
        counted.end(match tokio::time::timeout(deadline.left() + self.limits.grace, heard).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(call.error(ErrorKind::Internal, "the daemon is ending")),
            Err(_) => Err(self.overrun(&call)),
        })
    }

    async fn slot(&self, call: &Call, deadline: &Deadline) -> Result<OwnedSemaphorePermit> {
        let slot = self.slots.clone().acquire_owned();
        match tokio::time::timeout(deadline.left(), slot).await {
            Ok(slot) => Ok(slot.expect("the slots are never closed")),
            Err(_) => {
                let cause = format!("{} other calls did not end", self.limits.verbs_at_once);
                let error = call.error(ErrorKind::Unavailable, cause);
                log(&error, &call.span, call.quick);
                Err(error)
            }
        }
    }

    fn overrun(&self, call: &Call) -> VolumeError {
        let cause = format!(
            "unavailable: no result within {} s; the work goes on in the background",
            call.limit.as_secs_f32()
        );
        let error = call.error(ErrorKind::Unavailable, cause).advise("try again later");
        log(&error, &call.span, call.quick);
        error
    }
}

impl Call {
    /// An error of this call.
    pub(super) fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> VolumeError {
        VolumeError::new(self.op, &self.volume, kind, cause)
    }
}

/// Runs `work`, makes an error of a panic, and logs every error once.
pub(super) fn guarded<T>(
    op: &'static str,
    volume: &str,
    quick: bool,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let cause = format!("the daemon has a fault: {}", panic_text(&*panic));
        Err(VolumeError::new(op, volume, ErrorKind::Internal, cause)
            .advise("please report it with the daemon's log"))
    });
    result.inspect_err(|error| log(error, &Span::current(), quick))
}

/// ERROR is for what a person should look at; what a user asked wrongly is no fault of the host.
fn log(error: &VolumeError, span: &Span, quick: bool) {
    span.in_scope(|| match error.kind {
        ErrorKind::Internal => tracing::error!(%error, "failed"),
        ErrorKind::Unavailable | ErrorKind::NoSpace => tracing::error!(%error, "failed"),
        ErrorKind::InUse => tracing::warn!(%error, "refused"),
        ErrorKind::NotFound if quick => tracing::debug!(%error, "refused"),
        ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::AlreadyExists => {
            tracing::info!(%error, "refused");
        }
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

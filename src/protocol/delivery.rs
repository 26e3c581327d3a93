//! A mount is the one answer that has to arrive: the engine that did not hear it never sends the
//! Unmount.
//!
//! ```text
//!  job ──Undelivered──▶ handler ──▶ Exchange ──(the answer is flushed)──▶ delivered
//!   └──────────┴───────────┴──────────┴───(dropped anywhere on the way)──▶ undone
//! ```
//!
//! So the result of a mount travels as an [`Undelivered`], whose drop is an unmount. Only the
//! connection that has handed the answer to the kernel disarms it. What then still gets lost (the
//! engine gave up between that and its own read) is left to the service's reconciler, which drops
//! mount IDs that no kernel user backs.
//!
//! Mounts of one volume with one ID take turns, their undoing included: the engine repeats IDs, and
//! the undoing of the first must not drop the ID that the second has just answered for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tracing::Span;

use super::Verbs;
use super::jobs::guarded;
use crate::deadline::Deadline;
use crate::service::Mounted;
use crate::volume::{MountId, VolumeName};

type Key = (VolumeName, MountId);

/// Whose turn it is, for each volume and mount ID with a mount under way.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>);

/// The right to mount one volume with one ID.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits until no other mount of that volume with that ID is under way.
    pub(super) async fn take(&self, name: &VolumeName, id: &MountId) -> Turn {
        self.of((name.clone(), id.clone())).lock_owned().await
    }

    fn of(&self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }
}

/// What a mount did, until its caller has heard of it. Dropped before that, it is undone.
#[derive(Debug)]
pub(super) struct Undelivered {
    mounted: Mounted,
    owed: Option<Undo>,
}

/// An unmount that may become due.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) name: VolumeName,
    pub(super) id: MountId,
    pub(super) verbs: Arc<dyn Verbs>,
    pub(super) limit: std::time::Duration,
    pub(super) span: Span,
    pub(super) runtime: Handle,
    pub(super) turn: Turn,
    pub(super) alive: mpsc::Sender<Infallible>,
}

impl Undelivered {
    /// What a mount did, with how to undo it. One that changed nothing is not undone.
    pub(super) fn new(mounted: Mounted, undo: Undo) -> Self {
        let owed = mounted.added.then_some(undo);
        Self { mounted, owed }
    }

    /// Where the volume is mounted.
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mounted.mountpoint
    }

    /// Its caller knows: it stands.
    pub(super) fn delivered(mut self) {
        self.owed = None;
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if let Some(undo) = self.owed.take() {
            let runtime = undo.runtime.clone();
            runtime.spawn_blocking(move || undo.run());
        }
    }
}

impl Undo {
    fn run(self) {
        let span = self.span.clone();
        let _in_span = span.enter();
        let by = Deadline::after(self.limit);
        let undone = guarded("unmount", self.name.as_str(), false, || {
            self.verbs.unmount(&self.name, &self.id, &by)
        });
        if undone.is_ok() {
            tracing::warn!("mount undone: its caller had hung up");
        }
        // Only now may the next mount with this ID begin, and the daemon end.
        drop((self.turn, self.alive));
    }
}

/// How far the exchange on one connection is, and the mounts whose answers are not yet with the
/// kernel.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange(Arc<Mutex<Progress>>);

#[derive(Debug, Default)]
struct Progress {
    phase: Phase,
    unheard: Vec<Undelivered>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For a request, or for the rest of its head.
    #[default]
    Waiting,
    /// On a request.
    Working,
    /// The answer is being written.
    Answering,
}

impl Exchange {
    /// A request has come.
    pub(super) fn begin(&self) {
        self.progress().phase = Phase::Working;
    }

    /// Its answer is there. A mount is kept until that has been flushed or the connection is gone.
    pub(super) fn answer(&self, mount: Option<Undelivered>) {
        let mut progress = self.progress();
        progress.phase = Phase::Answering;
        progress.unheard.extend(mount);
    }

    /// No request is under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.progress().phase == Phase::Waiting
    }

    fn flushed(&self) {
        let mut progress = self.progress();
        if progress.phase == Phase::Answering {
            progress.phase = Phase::Waiting;
            progress.unheard.drain(..).for_each(Undelivered::delivered);
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that knows when an answer has been handed over.
///
/// hyper flushes its stream only when all that it had to write has been written, and encodes an
/// answer in the same step in which the handler returns it. So a flush that succeeds after
/// [`Exchange::answer`] means that the answer is in the peer's receive buffer.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    exchange: Exchange,
}

impl Connection {
    /// That stream, telling `exchange`.
    pub(super) fn new(stream: UnixStream, exchange: Exchange) -> Self {
        Self { stream, exchange }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.exchange.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

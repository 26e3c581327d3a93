//! An answer of the daemon's that is kept for a while, so that many who look ask it once.
//!
//! It is asked when somebody looks and what is kept is old, never by itself, and one at a time. Whoever
//! looks waits a little for the new answer, and then is shown the old one: what is shown says when it
//! was read, and what is wrong.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

/// After how long something is asked for again where there was no answer.
const RETRY: Duration = Duration::from_secs(4);

/// Something that is asked for again and again.
#[derive(Debug)]
pub(super) struct Kept<T> {
    seen: watch::Sender<Seen<T>>,
    fresh_for: Duration,
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct Seen<T> {
    /// The last answer, and when it was given.
    pub(super) last: Option<(Arc<T>, Timestamp)>,
    /// Why there was none since.
    pub(super) error: Option<String>,
    /// Since when the daemon has been asked, where it has not answered yet.
    pub(super) asking: Option<Instant>,
    asked: Option<Instant>,
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        let Self { last, error, asking, asked } = self;
        Self { last: last.clone(), error: error.clone(), asking: *asking, asked: *asked }
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// Nothing yet; later, answers that count as new for so long.
    pub(super) fn new(fresh_for: Duration) -> Arc<Self> {
        let nothing = Seen { last: None, error: None, asking: None, asked: None };
        Arc::new(Self { seen: watch::Sender::new(nothing), fresh_for })
    }

    /// What is known, after `ask` has been tried where that is due, and waited for as long as
    /// `patience` lasts.
    pub(super) async fn look(
        self: &Arc<Self>,
        patience: Duration,
        ask: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Seen<T> {
        let now = Instant::now();
        let is_due = self.seen.send_if_modified(|seen| {
            let rest =
                if seen.error.is_some() { self.fresh_for.min(RETRY) } else { self.fresh_for };
            let new = seen.asked.is_some_and(|asked| now.duration_since(asked) < rest);
            if new || seen.asking.is_some() {
                return false;
            }
            seen.asking = Some(now);
            true
        });
        if is_due {
            let kept = Arc::clone(self);
            tokio::spawn(async move {
                let answer = ask.await;
                kept.seen.send_modify(|seen| seen.take(answer));
            });
        }
        let mut seen = self.seen.subscribe();
        let answered = seen.wait_for(|seen| seen.asking.is_none());
        // The old answer is as good as any once the patience is over.
        let _ = tokio::time::timeout(patience, answered).await;
        self.seen.borrow().clone()
    }
}

impl<T> Seen<T> {
    fn take(&mut self, answer: Result<T, String>) {
        (self.asking, self.asked) = (None, Some(Instant::now()));
        match answer {
            Ok(value) => {
                (self.last, self.error) = (Some((Arc::new(value), Timestamp::now())), None)
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// The last answer.
    pub(super) fn value(&self) -> Option<&T> {
        self.last.as_ref().map(|(value, _)| &**value)
    }

    /// When it was given.
    pub(super) fn read(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|(_, read)| *read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn many_who_look_at_once_ask_once() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let kept = Kept::new(LONG);
        let ask = || async {
            tokio::task::yield_now().await;
            Ok(ASKED.fetch_add(1, Ordering::Relaxed))
        };
        let (one, other) = tokio::join!(kept.look(LONG, ask()), kept.look(LONG, ask()));
        let later = kept.look(LONG, ask()).await;
        for seen in [one, other, later] {
            assert_eq!(seen.value(), Some(&0));
        }
    }

    #[tokio::test]
    async fn an_old_answer_is_shown_while_there_is_no_new_one() {
        let kept = Kept::new(Duration::ZERO);
        kept.look(LONG, async { Ok("old") }).await;
        let seen = kept.look(LONG, async { Err("nobody listens".to_owned()) }).await;
        assert_eq!((seen.value(), seen.error.as_deref()), (Some(&"old"), Some("nobody listens")));
        let seen = kept.look(Duration::ZERO, std::future::pending()).await;
        assert!(seen.value() == Some(&"old") && seen.asking.is_some());
        assert_eq!(kept.look(Duration::ZERO, async { Ok("new") }).await.value(), Some(&"old"));
    }
}

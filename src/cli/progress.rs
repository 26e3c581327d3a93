//! What a command shows while its work takes long: a bar on a terminal, and nothing anywhere else.
//!
//! The daemon does the work, and this only asks how far it is. So a command that is interrupted
//! stops nothing, and one that was answered "it goes on" waits for the end and tells that.

use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Exit, Failure, Tool};
use crate::protocol::client::{AdminClient, ClientError};
use crate::service::{LongOutcome, TaskEnd, TaskFailure, TaskKind, TaskView};
use crate::volume::VolumeName;

/// How often the daemon is asked how far it is.
const POLL: Duration = Duration::from_millis(500);

/// Which work is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Long<'a> {
    pub(super) volume: &'a VolumeName,
    pub(super) what: TaskKind,
}

impl Tool {
    /// The daemon's answer to a call that begins long work, once that has ended. `outcome` is where
    /// the answer says whether it has.
    pub(super) fn ask_long<T>(
        &self,
        long: Long<'_>,
        call: impl Future<Output = Result<T, ClientError>>,
        outcome: impl Fn(&T) -> LongOutcome,
    ) -> Result<T, Failure> {
        let bar = Bar::new(long);
        self.runtime.block_on(async {
            let answer = bar.during(&self.client, call).await?;
            if outcome(&answer) == LongOutcome::GoesOn {
                bar.until_the_end(&self.client).await?;
            }
            Ok(answer)
        })
    }
}

/// A bar on standard error, where that is a terminal.
struct Bar<'a> {
    long: Long<'a>,
    bar: ProgressBar,
}

impl<'a> Bar<'a> {
    fn new(long: Long<'a>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent:>3}% {elapsed}");
        bar.set_style(style.expect("the template is well-formed"));
        bar.set_message(format!("{} {}", long.what.as_str(), long.volume));
        Self { long, bar }
    }

    /// Draws how far it is until the call is answered.
    async fn during<T>(
        &self,
        client: &AdminClient,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let mut call = pin!(call);
        loop {
            match tokio::time::timeout(POLL, &mut call).await {
                Ok(answer) => return answer,
                Err(_) if self.bar.is_hidden() => {}
                // That it cannot be asked is no failure of the call.
                Err(_) => drop(self.look(client).await.map(|task| self.draw(task.as_ref()))),
            }
        }
    }

    /// Draws until the task has ended, and tells how.
    async fn until_the_end(&self, client: &AdminClient) -> Result<(), Failure> {
        loop {
            let task = self.look(client).await.map_err(Failure::from)?;
            self.draw(task.as_ref());
            match task {
                Some(TaskView { end: None, .. }) => tokio::time::sleep(POLL).await,
                Some(TaskView { end: Some(end), .. }) => return result(end),
                None => return Err(self.lost()),
            }
        }
    }

    async fn look(&self, client: &AdminClient) -> Result<Option<TaskView>, ClientError> {
        let Long { volume, what } = self.long;
        let is_it = |task: &TaskView| task.volume == *volume && task.what == what;
        Ok(client.tasks().await?.into_iter().find(is_it))
    }

    fn draw(&self, task: Option<&TaskView>) {
        if let Some(task) = task.filter(|task| task.total > 0) {
            self.bar.set_length(task.total);
            self.bar.set_position(task.done);
        }
    }

    /// Only a daemon that was started anew forgets what it was doing.
    fn lost(&self) -> Failure {
        let Long { volume, what } = self.long;
        let text = format!(
            "{} {volume}: the daemon was started anew meanwhile, and goes on with it; \
             see docker ceph inspect {volume}",
            what.as_str()
        );
        Failure::new(Exit::Unavailable, text)
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn result(end: TaskEnd) -> Result<(), Failure> {
    match end.failure {
        None => Ok(()),
        Some(TaskFailure { kind, error }) => {
            Err(Failure::new(crate::protocol::admin::Kind::from(kind).into(), error))
        }
    }
}

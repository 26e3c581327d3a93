//! What the daemons say to each other.
//!
//! Each daemon watches an object of its boot in the home namespace, and answers what is sent there;
//! no port is opened between hosts. A message is JSON and has to be understood whole: an answer to a
//! part of it would be a promise that nobody makes. Where several daemons run in one boot, all of
//! them answer, and the ones that have nothing to do with the volume say so.

use std::sync::{PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::still::{Order, Stage, Step};
use super::{Service, Verb};
use crate::audit::audit;
use crate::deadline::Deadline;
use crate::volume::VolumeName;

/// How long an answer is waited for: longer than an unmount takes that has much to write.
const ANSWER: Duration = Duration::from_secs(20);

/// How long another verb for the volume is waited for, before the answer is that there is one: to
/// whoever asks, a host that says nothing for long is gone.
const BUSY: Duration = Duration::from_millis(200);

/// What one daemon asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Message {
    /// Give up a volume that no container uses, and that is only copied.
    Release(VolumeName),
    /// Take a step with a volume of which a snapshot is made.
    Step {
        /// What it is about.
        order: Order,
        /// Which step.
        step: Step,
    },
}

/// What the other answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// It is done.
    Done,
    /// It was not done: why.
    Refused(String),
    /// That daemon has nothing to do with it.
    NotHere,
    /// How far a snapshot is.
    Stage(Stage),
}

impl Service {
    /// Hears what other daemons ask, from now on and for as long as the service lives. The watch is
    /// made anew where the cluster has dropped it.
    pub fn listen(&self) {
        let mut ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known.is_away() || ear.as_ref().is_some_and(|watch| watch.check().is_ok()) {
            return;
        }
        // First the old one ends: its object is the same.
        *ear = None;
        let service = self.me.clone();
        let hear = Box::new(move |message: &[u8]| answer(&service, message));
        match self.cluster.watch(&self.settings.home, &object_of(&self.host.boot_id), hear) {
            Ok(watch) => *ear = Some(watch),
            Err(error) => tracing::debug!(%error, "other daemons are not heard"),
        }
    }

    /// Asks the daemons of a boot to release a volume: done, or refused and why; `None` where none of
    /// them has it or answers.
    pub(super) fn ask_to_release(
        &self,
        verb: Verb<'_>,
        boot_id: &str,
    ) -> Option<std::result::Result<(), String>> {
        let wait = verb.deadline.at_most(ANSWER).left();
        let replies = self.ask(boot_id, &Message::Release(verb.name.clone()), wait);
        if replies.contains(&Reply::Done) {
            return Some(Ok(()));
        }
        replies.into_iter().find_map(|reply| match reply {
            Reply::Refused(why) => Some(Err(why)),
            Reply::Done | Reply::NotHere | Reply::Stage(_) => None,
        })
    }

    /// Asks the daemons of a boot to take a step; `None` where none of them has the volume or answers.
    pub(super) fn ask_for_step(
        &self,
        boot_id: &str,
        order: &Order,
        step: Step,
        wait: Duration,
    ) -> Option<Stage> {
        let message = Message::Step { order: order.clone(), step };
        let replies = self.ask(boot_id, &message, wait);
        replies.into_iter().find_map(|reply| match reply {
            Reply::Stage(stage) => Some(stage),
            // A daemon that does not know the message.
            Reply::Refused(why) => Some(Stage::Failed(why)),
            Reply::Done | Reply::NotHere => None,
        })
    }

    /// What the daemons of a boot answer.
    fn ask(&self, boot_id: &str, message: &Message, wait: Duration) -> Vec<Reply> {
        let text = serde_json::to_vec(message).expect("messages are plain data");
        let object = object_of(boot_id);
        match self.cluster.notify(&self.settings.home, &object, &text, wait) {
            Ok(notified) => {
                let answers = notified.answers.iter();
                answers.filter_map(|answer| serde_json::from_slice(&answer.message).ok()).collect()
            }
            Err(error) => {
                tracing::info!(boot_id, %error, "the host could not be asked");
                Vec::new()
            }
        }
    }

    fn heard(&self, message: &Message) -> Reply {
        match message {
            Message::Release(name) => self.heard_release(name),
            Message::Step { order, step } => {
                self.step(order, *step).map_or(Reply::NotHere, Reply::Stage)
            }
        }
    }

    fn heard_release(&self, name: &VolumeName) -> Reply {
        let here = self.references.get(name).is_some();
        if !here && !self.is_flattening(name) {
            return Reply::NotHere;
        }
        let (soon, deadline) = (Deadline::after(BUSY), Deadline::after(ANSWER));
        let (ask, verb) =
            (Verb::new("release", name, &soon), Verb::new("release", name, &deadline));
        let released = self.lock(ask).and_then(|_guard| {
            self.let_go(verb)?;
            self.call_off_flatten(verb)
        });
        audit!(volume = %name, ?released, "another host asked for the volume");
        match released {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Refused(error.cause),
        }
    }
}

/// The object that the daemons of a boot watch.
fn object_of(boot_id: &str) -> String {
    format!("docker-volume-ceph.host.{boot_id}")
}

fn answer(service: &Weak<Service>, message: &[u8]) -> Vec<u8> {
    let reply = match (service.upgrade(), serde_json::from_slice(message)) {
        (None, _) => Reply::NotHere,
        (Some(service), Ok(message)) => service.heard(&message),
        (Some(_), Err(_)) => {
            Reply::Refused("the message is not understood; upgrade that host".to_owned())
        }
    };
    serde_json::to_vec(&reply).expect("replies are plain data")
}

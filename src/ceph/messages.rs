//! [`Messages`] by notifies on RADOS objects: the cluster carries them, and no port is opened between
//! hosts.
//!
//! A notify reaches whoever watches the object at that moment, or nobody. Who answered and who did
//! not is read from the reply; the return code of the call says neither: 0 does not mean that
//! anybody is alive, and a time-out comes with the answers of those who did answer.

use std::time::Duration;

use super::access::whole_seconds;
use super::cluster::RadosCluster;
use super::encoding::{long, number, sized};
use super::failure::{Failure, Outcome};
use super::io_context::IoContext;
use super::watch::Standing;
use super::{Answer, Hear, Messages, Notified, Result, Watch};
use crate::volume::Location;

impl Messages for RadosCluster {
    fn notify(
        &self,
        at: &Location,
        object: &str,
        message: &[u8],
        wait: Duration,
    ) -> Result<Notified> {
        let subject = format!("the watchers of object {at}/{object}");
        self.in_context(at, "notify", subject, |io| notify(io, object, message, wait))
    }

    fn watch(&self, at: &Location, object: &str, hear: Hear) -> Result<Box<dyn Watch>> {
        self.in_context(at, "watch", format_args!("object {at}/{object}"), |io| {
            let context = || IoContext::open(&io.connection, at);
            let watch = Standing::begin(context()?, context()?, object, hear)?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        })
    }
}

/// Sends a message and reads who answered. An error says nothing of any watcher.
pub(super) fn notify(
    io: &IoContext,
    object: &str,
    message: &[u8],
    wait: Duration,
) -> Outcome<Notified> {
    let reply = io.notify(object, message, whole_seconds(wait).max(1))?;
    decode(&reply).ok_or_else(|| Failure::unreadable("the reply to the notify cannot be read"))
}

/// Two lists: of `(client, cookie, answer)`, and of `(client, cookie)`.
fn decode(mut reply: &[u8]) -> Option<Notified> {
    let mut notified = Notified::default();
    for _ in 0..number(&mut reply)? {
        let (client, cookie) = (long(&mut reply)?, long(&mut reply)?);
        let message = sized(&mut reply)?.to_vec();
        notified.answers.push(Answer { client, cookie, message });
    }
    for _ in 0..number(&mut reply)? {
        notified.silent.push((long(&mut reply)?, long(&mut reply)?));
    }
    Some(notified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_and_who_did_not_is_read() {
        let mut reply = vec![1, 0, 0, 0];
        reply.extend(4123u64.to_le_bytes());
        reply.extend(7u64.to_le_bytes());
        reply.extend([2, 0, 0, 0, b'o', b'k']);
        reply.extend([1, 0, 0, 0]);
        reply.extend(4200u64.to_le_bytes());
        reply.extend(9u64.to_le_bytes());
        let notified = decode(&reply).expect("readable");
        let answer = Answer { client: 4123, cookie: 7, message: b"ok".to_vec() };
        assert_eq!(notified, Notified { answers: vec![answer], silent: vec![(4200, 9)] });
        assert_eq!(decode(&[0; 8]), Some(Notified::default()));
        for end in 0..reply.len() {
            assert_eq!(decode(&reply[..end]), None, "cut off after {end} bytes");
        }
    }
}

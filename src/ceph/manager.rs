//! [`Manager`] by commands to the active manager.
//!
//! * Commands to the manager have a connection of their own, without librados' time limit: where
//!   that limit strikes, `rados_mgr_command` returns, and an answer that comes later is written to
//!   where its stack was (seen in the source of librados 16 to 20). So a call waits on a thread of
//!   its own, which is left behind where the manager does not answer, and ends when it does.
//! * No more than [`MOST_AT_ONCE`] commands are under way. Further calls wait for their turn within
//!   their own time limit, and fail at once where all of those were left behind.
//! * The connection ends with the last call that uses it: most hosts never ask a manager.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::access::{Access, whole_seconds};
use super::cluster::RadosCluster;
use super::command::{self, Command, PgStat};
use super::connection::{Connection, within};
use super::failure::{Failure, Outcome};
use super::{ClusterErrorKind, Manager, PlacementGroups, Result};

/// How many commands may be under way at once, those that nobody waits for any more included.
const MOST_AT_ONCE: usize = 8;

/// The commands to the manager that are under way, and the connection that they share.
#[derive(Debug, Default)]
pub(super) struct ManagerLine {
    /// Every command under way holds it once.
    connection: Mutex<Weak<Connection>>,
    under_way: Mutex<UnderWay>,
    /// A command ended, or was left behind.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// Whether nobody waits for a command any more, by its number.
    left: HashMap<u64, bool>,
    last_number: u64,
}

/// A command under way; over when this is dropped.
struct Turn {
    line: Arc<ManagerLine>,
    number: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.under_way().left.remove(&self.number);
        self.line.changed.notify_all();
    }
}

impl ManagerLine {
    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn until `end`.
    fn turn(self: &Arc<Self>, end: Instant) -> Outcome<Turn> {
        let mut under_way = self.under_way();
        while under_way.left.len() >= MOST_AT_ONCE {
            if under_way.left.values().all(|left| *left) {
                return Err(silent("earlier commands still wait for it"));
            }
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(silent("it still has not answered those who asked before"));
            }
            let woken = self.changed.wait_timeout(under_way, rest);
            under_way = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        under_way.last_number += 1;
        let number = under_way.last_number;
        under_way.left.insert(number, false);
        Ok(Turn { line: Arc::clone(self), number })
    }

    /// Nobody waits for this command any more, if it is still under way.
    fn leave(&self, number: u64) {
        if let Some(left) = self.under_way().left.get_mut(&number) {
            *left = true;
        }
        self.changed.notify_all();
    }

    fn connection(&self, access: &Access) -> Outcome<Arc<Connection>> {
        let mut shared = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = shared.upgrade() {
            return Ok(connection);
        }
        let connection = Arc::new(Connection::open_for_manager(access)?);
        *shared = Arc::downgrade(&connection);
        Ok(connection)
    }
}

impl RadosCluster {
    /// Sends a command to the manager and reads the reply, within the monitors' time limit. Its
    /// failure becomes the error of `call` on `subject`.
    pub(super) fn on_manager<C: Command>(
        &self,
        call: &'static str,
        subject: impl fmt::Display,
        command: &C,
    ) -> Result<C::Reply> {
        let limit = Duration::from_secs(whole_seconds(self.access().time_limits.monitor).max(1));
        let ask = || {
            let json = command::request(command)?;
            let reply = self.ask_manager(json, limit).map_err(in_words)?;
            command::read_reply::<C>(&reply)
        };
        ask().map_err(|failure| failure.during(call, subject.to_string()))
    }

    fn ask_manager(&self, json: String, limit: Duration) -> Outcome<Vec<u8>> {
        let end = Instant::now() + limit;
        let turn = self.managers.turn(end)?;
        let (number, access) = (turn.number, self.access().clone());
        let rest = end.saturating_duration_since(Instant::now());
        let answer = within(rest, move || {
            let connection = turn.line.connection(&access);
            connection.and_then(|connection| connection.manager_command(&json))
        });
        answer.unwrap_or_else(|| {
            self.managers.leave(number);
            Err(silent(&format!("it did not answer within {} s", limit.as_secs())))
        })
    }
}

fn silent(why: &str) -> Failure {
    let message = format!("the manager is silent: {why}; check `ceph mgr stat`");
    Failure { message, ..Failure::of_errno(libc::ETIMEDOUT) }
}

/// What the manager says of itself, in a line.
fn in_words(failure: Failure) -> Failure {
    let own_fence = Failure::of_errno(libc::ESHUTDOWN);
    if failure.kind == own_fence.kind && failure.message != own_fence.message {
        // It is the manager's client that was fenced: the next one takes its place.
        return Failure { kind: ClusterErrorKind::Unreachable, ..failure };
    }
    if failure.message.contains("Traceback (most recent call last)") {
        // Python's last line says what happened. The number is always EINVAL, whatever it was.
        let last = failure.message.lines().rfind(|line| !line.trim().is_empty());
        let message = format!("the manager stumbled: {}", last.unwrap_or_default().trim());
        return Failure { kind: ClusterErrorKind::Other, message, ..failure };
    }
    failure
}

impl Manager for RadosCluster {
    fn placement_groups(&self) -> Result<PlacementGroups> {
        let reply = self.on_manager("count placement groups of", "the cluster", &PgStat {})?;
        Ok(PlacementGroups { total: reply.total(), active: reply.active() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_commands_are_under_way() {
        let line = Arc::new(ManagerLine::default());
        let soon = || Instant::now() + Duration::from_millis(20);
        let mut turns: Vec<_> =
            (0..MOST_AT_ONCE).map(|_| line.turn(soon()).expect("a turn")).collect();
        let late = line.turn(soon()).err().expect("no turn is left");
        assert!(late.message.contains("those who asked before"), "{}", late.message);

        // One that ends makes room, for whoever waits already.
        let last = turns.pop().expect("a turn");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| line.turn(Instant::now() + Duration::from_secs(60)));
            drop(last);
            turns.push(waiting.join().expect("it ends").expect("a turn"));
        });

        // Where nobody waits for any of them, it is of no use to wait.
        turns.iter().for_each(|turn| line.leave(turn.number));
        let failure = line.turn(Instant::now() + Duration::from_secs(60)).err().expect("at once");
        assert!(failure.message.contains("earlier commands"), "{}", failure.message);
        turns.clear();
        line.turn(soon()).expect("all have ended");
    }

    #[test]
    fn a_stack_of_python_is_told_by_its_last_line() {
        let message = "Traceback (most recent call last):\n  File \"x.py\", line 1\n\
                       cephfs.OSError: File name too long [Errno 36]\n";
        let stumbled = in_words(Failure::invalid(message));
        let told = "the manager stumbled: cephfs.OSError: File name too long [Errno 36]";
        assert_eq!((stumbled.kind, &stumbled.message[..]), (ClusterErrorKind::Other, told));
        let plain = Failure::invalid("invalid size");
        assert_eq!(in_words(plain.clone()), plain);
    }

    #[test]
    fn a_manager_that_was_fenced_is_not_this_client() {
        let own = Failure::of_errno(libc::ESHUTDOWN);
        assert_eq!(in_words(own.clone()), own);
        let other = Failure { message: "error in stat".to_owned(), ..own };
        assert_eq!(in_words(other).kind, ClusterErrorKind::Unreachable);
    }
}

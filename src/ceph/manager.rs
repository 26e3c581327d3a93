//! [`Manager`] by commands to the active manager.
//!
//! * Commands to the manager have a connection of their own, without librados' time limit: where
//!   that limit strikes, `rados_mgr_command` returns, and an answer that comes later is written to
//!   where its stack was (seen in the source of librados 16 to 20). So a call waits on a thread of
//!   its own, which is left behind where the manager does not answer, and ends when it does.
//! * No more than [`MOST_WAITING`] threads are left so: from then on calls fail at once.
//! * The connection ends with the last call that uses it: most hosts never ask a manager.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::access::whole_seconds;
use super::cluster::RadosCluster;
use super::command::{self, Command, PgStat};
use super::connection::{Connection, within};
use super::failure::{Failure, Outcome};
use super::{Manager, PlacementGroups, Result};

/// How many calls may wait for a manager at once, those that nobody waits for any more included.
const MOST_WAITING: usize = 8;

/// The connection for commands to the manager, while it is in use.
#[derive(Debug, Default)]
pub(super) struct ManagerLine(Mutex<Weak<Connection>>);

impl ManagerLine {
    /// Every call that waits holds the connection once.
    fn connection(&self, open: impl FnOnce() -> Outcome<Connection>) -> Outcome<Arc<Connection>> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = line.upgrade() {
            // One of these is ours by now.
            return match Arc::strong_count(&connection) {
                count if count > MOST_WAITING => Err(silent("earlier commands still wait for it")),
                _ => Ok(connection),
            };
        }
        let connection = Arc::new(open()?);
        *line = Arc::downgrade(&connection);
        Ok(connection)
    }
}

impl RadosCluster {
    /// Sends a command to the manager and reads the reply. Its failure becomes the error of `call`
    /// on `subject`.
    fn on_manager<C: Command>(
        &self,
        call: &'static str,
        subject: impl fmt::Display,
        command: &C,
    ) -> Result<C::Reply> {
        let limit = Duration::from_secs(whole_seconds(self.access().time_limits.monitor).max(1));
        let ask = || {
            let json = command::request(command)?;
            let open = || Connection::open_for_manager(self.access());
            let connection = self.managers.connection(open)?;
            let answer = within(limit, move || connection.manager_command(&json));
            let words = || silent(&format!("it did not answer within {} s", limit.as_secs()));
            command::read_reply::<C>(&answer.ok_or_else(words)??)
        };
        ask().map_err(|failure| failure.during(call, subject.to_string()))
    }
}

fn silent(why: &str) -> Failure {
    let message = format!("the manager is silent: {why}; check `ceph mgr stat`");
    Failure { message, ..Failure::of_errno(libc::ETIMEDOUT) }
}

impl Manager for RadosCluster {
    fn placement_groups(&self) -> Result<PlacementGroups> {
        let reply = self.on_manager("count placement groups of", "the cluster", &PgStat {})?;
        Ok(PlacementGroups { total: reply.total(), active: reply.active() })
    }
}

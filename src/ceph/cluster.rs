//! A cluster over one connection, which is made when it is first needed and remade when it is lost.
//!
//! * All threads share one connection: each costs threads and tens of megabytes.
//! * While a connection is being made, later callers wait for that one attempt and share its
//!   error; none starts another. The next call after a failure tries again.
//! * An outage does not end a connection, since librados reconnects by itself. A blocklisting
//!   does: that call fails with [`ClusterErrorKind::Fenced`], and the next makes a new one. It is
//!   not repeated here, because the fence may have been meant.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::access::Access;
use super::connection::Connection;
use super::failure::Outcome;
use super::io_context::IoContext;
use super::manager::ManagerLine;
use super::{ClusterErrorKind, Result};
use crate::volume::Location;

/// One attempt to connect, and what became of it.
type Attempt = Arc<OnceLock<Outcome<Arc<Connection>>>>;

/// A Ceph cluster, reached by librados and librbd.
pub struct RadosCluster {
    access: Access,
    attempt: Mutex<Attempt>,
    pub(super) managers: Arc<ManagerLine>,
}

impl RadosCluster {
    /// The cluster that `access` leads to. Nothing is read and nothing connects before the first
    /// call.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { access, attempt: Mutex::default(), managers: Arc::default() }
    }

    /// How the cluster is reached.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Does `work` on the connection. Its failure becomes the error of `call` on `subject`.
    pub(super) fn on_connection<T>(
        &self,
        call: &'static str,
        subject: impl fmt::Display,
        work: impl FnOnce(&Arc<Connection>) -> Outcome<T>,
    ) -> Result<T> {
        let result = self.connection().and_then(|(attempt, connection)| {
            work(&connection).inspect_err(|failure| {
                if failure.kind == ClusterErrorKind::Fenced {
                    self.forget(&attempt);
                }
            })
        });
        result.map_err(|failure| failure.during(call, subject.to_string()))
    }

    /// Does `work` in a pool and namespace. Its failure becomes the error of `call` on `subject`.
    pub(super) fn in_context<T>(
        &self,
        at: &Location,
        call: &'static str,
        subject: impl fmt::Display,
        work: impl FnOnce(&IoContext) -> Outcome<T>,
    ) -> Result<T> {
        self.on_connection(call, subject, |connection| work(&IoContext::open(connection, at)?))
    }

    fn connection(&self) -> Outcome<(Attempt, Arc<Connection>)> {
        let attempt = Arc::clone(&self.current());
        let outcome = attempt.get_or_init(|| Connection::open(&self.access).map(Arc::new));
        match outcome.clone() {
            Ok(connection) => Ok((attempt, connection)),
            Err(failure) => {
                self.forget(&attempt);
                Err(failure)
            }
        }
    }

    /// Lets the next call connect anew, unless another caller has seen to that already.
    fn forget(&self, attempt: &Attempt) {
        let mut current = self.current();
        if Arc::ptr_eq(&current, attempt) {
            *current = Attempt::default();
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RadosCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RadosCluster").field("access", &self.access).finish_non_exhaustive()
    }
}

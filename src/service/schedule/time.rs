//! What time it is, and who else serves schedules: by the cluster's word.
//!
//! Due times are judged by the cluster's clock, so that a host whose own clock is wrong, or jumps,
//! neither serves what is not due nor misses what is. Between two looks the host's monotonic clock
//! counts on, which nobody can set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::ceph::{ClusterError, Lease, Leases};
use crate::volume::Location;

/// The object of the lease in the home namespace.
const OBJECT: &str = "docker-volume-ceph.schedules";

/// How long after its last renewal a daemon is taken for gone.
const KEEP: Duration = Duration::from_secs(30);

/// The cluster's time, as of the last look.
#[derive(Debug, Default)]
pub(super) struct ClusterTime(Mutex<Option<Look>>);

#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    lease: Arc<Lease>,
}

/// A moment, and who serves schedules then.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// The daemons that hold the lease, this one among them; sorted.
    pub(super) lease: Arc<Lease>,
}

impl ClusterTime {
    /// The time now. Asks the cluster, and renews the share in the lease, where the last look is
    /// older than `refresh`.
    pub(super) fn now(
        &self,
        cluster: &dyn Leases,
        home: &Location,
        member: &str,
        refresh: Duration,
    ) -> Result<Moment, ClusterError> {
        let mut look = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = look.as_ref().filter(|look| look.at.elapsed() < refresh) {
            return Ok(look.moment());
        }
        match Look::new(cluster, home, member) {
            Ok(new) => Ok(look.insert(new).moment()),
            // What was known counts on for as long as others count on this one.
            Err(error) => match look.as_ref().filter(|look| look.at.elapsed() < KEEP) {
                Some(look) => Ok(look.moment()),
                None => Err(error),
            },
        }
    }

    /// Who holds the lease now, by the cluster's word and no earlier one.
    pub(super) fn look(
        &self,
        cluster: &dyn Leases,
        home: &Location,
        member: &str,
    ) -> Result<Arc<Lease>, ClusterError> {
        let mut look = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(&look.insert(Look::new(cluster, home, member)?).lease))
    }

    /// Gives the share in the lease up, where there is one, so that others need not wait for it.
    pub(super) fn end(&self, cluster: &dyn Leases, home: &Location, member: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_none() {
            return;
        }
        if let Err(error) = cluster.lease_end(home, OBJECT, member) {
            tracing::debug!(%error, "the share in the lease ends by itself");
        }
    }
}

impl Look {
    fn new(cluster: &dyn Leases, home: &Location, member: &str) -> Result<Self, ClusterError> {
        let asked = Instant::now();
        let lease = Arc::new(cluster.lease_renew(home, OBJECT, member, KEEP)?);
        // The cluster reckoned it at some time between: half of the way is the best guess.
        Ok(Self { at: asked + asked.elapsed() / 2, lease })
    }

    fn moment(&self) -> Moment {
        let now = self.lease.now.checked_add(self.at.elapsed()).unwrap_or(Timestamp::MAX);
        Moment { now, lease: Arc::clone(&self.lease) }
    }
}

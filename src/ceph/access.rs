//! How the cluster is reached: settings only, nothing is read here and nothing connects.

use std::path::PathBuf;
use std::time::Duration;

/// How a cluster is reached, and for how long it is waited for.
///
/// No secret is held here: the keyring's path is handed to librados, which reads the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The cluster's `ceph.conf`.
    pub conf: PathBuf,
    /// The client's name without `client.`, such as `docker`.
    pub client_id: String,
    /// The file with the client's key; `None` leaves the choice to `ceph.conf`.
    pub keyring: Option<PathBuf>,
    /// How long each kind of call may take.
    pub time_limits: TimeLimits,
}

/// How long librados waits, in whole seconds: a fraction counts as a second, because its 0 would
/// mean "for ever".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a connection (`client_mount_timeout`).
    pub connect: Duration,
    /// For an answer of the monitors (`rados_mon_op_timeout`).
    pub monitor: Duration,
    /// For an answer of an OSD to one operation (`rados_osd_op_timeout`). A call on an image is
    /// several operations, of which the first that is not answered ends the call.
    pub osd: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            monitor: Duration::from_secs(30),
            osd: Duration::from_secs(30),
        }
    }
}

impl Access {
    /// Reaches the cluster of `conf` as `client.CLIENT_ID`.
    pub fn new(conf: impl Into<PathBuf>, client_id: impl Into<String>) -> Self {
        Self {
            conf: conf.into(),
            client_id: client_id.into(),
            keyring: None,
            time_limits: TimeLimits::default(),
        }
    }
}

/// A duration in the whole seconds that librados and librbd count in, rounded up.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_second_is_a_second_and_never_for_ever() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(30)), 30);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
    }
}

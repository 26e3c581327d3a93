//! What goes wrong in a backend: the cluster, the host, or a rule of ours.

use crate::ceph::ClusterError;
use crate::system::{SystemError, SystemErrorKind};

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The cluster refused or did not answer.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// This host refused or did not end in time.
    #[error(transparent)]
    System(#[from] SystemError),
    /// What was asked cannot be done as it was asked; the text says what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// Something is there, and is not what was asked for.
    #[error("{0}")]
    Conflict(String),
    /// Doing it could lose data, so a person has to look first; the text says at what.
    #[error("{0}")]
    Unsafe(String),
    /// A step failed, and so did undoing it.
    #[error("{cause}; undoing it failed as well: {undo}")]
    Unwind {
        /// The first failure.
        cause: Box<BackendError>,
        /// The failure of the undo.
        undo: Box<BackendError>,
    },
}

impl BackendError {
    /// Could the same call succeed a little later without anybody's doing?
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => error.may_pass(),
            Self::System(error) => {
                matches!(error.kind, SystemErrorKind::Timeout { .. } | SystemErrorKind::Held)
            }
            Self::Unwind { cause, .. } => cause.may_pass(),
            Self::Invalid(_) | Self::Conflict(_) | Self::Unsafe(_) => false,
        }
    }

    /// The first failure, with that of its undo where that failed too.
    #[must_use]
    pub fn with_undo(self, undo: Result<(), Self>) -> Self {
        match undo {
            Ok(()) => self,
            Err(undo) => Self::Unwind { cause: Box::new(self), undo: Box::new(undo) },
        }
    }
}

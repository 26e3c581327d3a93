//! What goes wrong in a cluster, sorted by what the caller can do about it.

use std::fmt;

/// A call to the cluster that failed: which, on what, why, and the cluster's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ClusterError {
    /// What the caller can do about it.
    pub kind: ClusterErrorKind,
    /// What was being done, in the present tense: "create image", "read catalog object".
    pub call: &'static str,
    /// On what: an image spec, an object, a pool; may be empty.
    pub subject: String,
    /// The error number, positive; 0 where there is none.
    pub errno: i32,
    /// The cluster's own words, or ours; may be empty. Never a key.
    pub message: String,
}

/// Errors of a cluster by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterErrorKind {
    /// No answer in time, or no connection: it may pass. The call may have taken effect.
    Unreachable,
    /// This client is blocklisted; a new connection is made for the next call.
    Fenced,
    /// The key is wrong, or its capabilities do not allow it.
    Denied,
    /// There is no such pool, namespace, image or object.
    NotFound,
    /// There is one already.
    Exists,
    /// Somebody uses it.
    Busy,
    /// It has snapshots or children.
    NotEmpty,
    /// The pool or cluster is full, or a quota is used up.
    NoSpace,
    /// The cluster does not accept the arguments.
    Invalid,
    /// Anything else.
    Other,
}

impl ClusterError {
    /// Could the same call succeed a little later without anybody's doing?
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self.kind, ClusterErrorKind::Unreachable | ClusterErrorKind::Fenced)
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        f.write_str(": ")?;
        if self.message.is_empty() {
            write!(f, "{}", std::io::Error::from_raw_os_error(self.errno))
        } else if self.errno == 0 {
            f.write_str(&self.message)
        } else {
            write!(f, "{} (errno {})", self.message, self.errno)
        }
    }
}

//! What a request is called in the log, and in the error that its caller is shown.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The last one given. Every daemon begins somewhere else: a log has several daemons' lines.
static LAST: LazyLock<AtomicU32> = LazyLock::new(|| {
    let random = RandomState::new().hash_one(std::process::id()).to_le_bytes();
    AtomicU32::new(u32::from_le_bytes([random[0], random[1], random[2], random[3]]))
});

/// A request's name: eight hexadecimal digits, one more for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId(u32);

impl RequestId {
    /// The next request's.
    pub(super) fn next() -> Self {
        Self(LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_have_the_same() {
        let (one, other) = (RequestId::next().to_string(), RequestId::next().to_string());
        assert_ne!(one, other);
        assert!([one, other].iter().all(|id| id.len() == 8));
    }
}

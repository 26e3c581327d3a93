//! A failure inside this layer: an error number, and words where we have better ones.
//!
//! It becomes a [`ClusterError`] at the one place that knows which call it was and on what.

use std::ffi::c_int;

use super::{ClusterError, ClusterErrorKind};

/// What went wrong, before it is known during which call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ClusterErrorKind,
    pub(super) errno: i32,
    pub(super) message: String,
}

pub(super) type Outcome<T> = Result<T, Failure>;

const NO_ANSWER: &str = "the cluster did not answer in time; check `ceph -s`, and the network to its \
    monitors and OSDs";
const FENCED: &str = "this client was blocklisted; the next call makes a new connection";
const NO_SPACE: &str =
    "the pool or the cluster is full, or a quota is used up; see `ceph df detail`";

impl Failure {
    /// The failure that an error number stands for.
    pub(super) fn of_errno(errno: i32) -> Self {
        let kind = kind_of(errno);
        let message = match kind {
            ClusterErrorKind::Unreachable => NO_ANSWER,
            ClusterErrorKind::Fenced => FENCED,
            ClusterErrorKind::NoSpace => NO_SPACE,
            _ => "",
        };
        Self { kind, errno, message: message.to_owned() }
    }

    /// A failure that the cluster was not asked about.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ClusterErrorKind::Invalid, errno: 0, message: message.into() }
    }

    /// An answer that cannot be understood.
    pub(super) fn unreadable(message: impl Into<String>) -> Self {
        Self { kind: ClusterErrorKind::Other, errno: 0, message: message.into() }
    }

    /// The same failure in other words, if it is of this kind.
    pub(super) fn worded(self, kind: ClusterErrorKind, message: impl FnOnce() -> String) -> Self {
        if self.kind == kind { Self { message: message(), ..self } } else { self }
    }

    /// The failure as the layers above see it.
    pub(super) fn during(self, call: &'static str, subject: String) -> ClusterError {
        let Self { kind, errno, message } = self;
        ClusterError { kind, call, subject, errno, message }
    }
}

/// The return code of a C function: a number, or a negative error number.
pub(super) fn check(code: c_int) -> Outcome<c_int> {
    if code < 0 { Err(Failure::of_errno(-code)) } else { Ok(code) }
}

/// What the caller can do about an error number of librados or librbd.
fn kind_of(errno: i32) -> ClusterErrorKind {
    match errno {
        libc::ETIMEDOUT
        | libc::ENOTCONN
        | libc::ECONNREFUSED
        | libc::ECONNRESET
        | libc::ECONNABORTED
        | libc::EHOSTUNREACH
        | libc::EHOSTDOWN
        | libc::ENETUNREACH
        | libc::ENETDOWN
        | libc::EPIPE
        | libc::EAGAIN
        | libc::EINTR => ClusterErrorKind::Unreachable,
        // EBLOCKLISTED, in Ceph's own words.
        libc::ESHUTDOWN => ClusterErrorKind::Fenced,
        // The monitors say EACCES and the OSDs say EPERM.
        libc::EPERM | libc::EACCES => ClusterErrorKind::Denied,
        libc::ENOENT => ClusterErrorKind::NotFound,
        libc::EEXIST => ClusterErrorKind::Exists,
        // EROFS: the owner of the exclusive lock does not hand it over.
        libc::EBUSY | libc::EROFS => ClusterErrorKind::Busy,
        // EMLINK: the image is in a group; ECHILD: it has clones.
        libc::ENOTEMPTY | libc::EMLINK | libc::ECHILD => ClusterErrorKind::NotEmpty,
        libc::ENOSPC | libc::EDQUOT => ClusterErrorKind::NoSpace,
        libc::EINVAL
        | libc::EDOM
        | libc::ERANGE
        | libc::ENAMETOOLONG
        | libc::EOPNOTSUPP
        | libc::ENOSYS
        | libc::E2BIG
        | libc::EFBIG => ClusterErrorKind::Invalid,
        _ => ClusterErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every error number that is sorted; all others are `Other`.
    const SORTED: [(ClusterErrorKind, &[i32]); 9] = [
        (
            ClusterErrorKind::Unreachable,
            &[
                libc::ETIMEDOUT,
                libc::ENOTCONN,
                libc::ECONNREFUSED,
                libc::ECONNRESET,
                libc::ECONNABORTED,
                libc::EHOSTUNREACH,
                libc::EHOSTDOWN,
                libc::ENETUNREACH,
                libc::ENETDOWN,
                libc::EPIPE,
                libc::EAGAIN,
                libc::EINTR,
            ],
        ),
        (ClusterErrorKind::Fenced, &[libc::ESHUTDOWN]),
        (ClusterErrorKind::Denied, &[libc::EPERM, libc::EACCES]),
        (ClusterErrorKind::NotFound, &[libc::ENOENT]),
        (ClusterErrorKind::Exists, &[libc::EEXIST]),
        (ClusterErrorKind::Busy, &[libc::EBUSY, libc::EROFS]),
        (ClusterErrorKind::NotEmpty, &[libc::ENOTEMPTY, libc::EMLINK, libc::ECHILD]),
        (ClusterErrorKind::NoSpace, &[libc::ENOSPC, libc::EDQUOT]),
        (
            ClusterErrorKind::Invalid,
            &[
                libc::EINVAL,
                libc::EDOM,
                libc::ERANGE,
                libc::ENAMETOOLONG,
                libc::EOPNOTSUPP,
                libc::ENOSYS,
                libc::E2BIG,
                libc::EFBIG,
            ],
        ),
    ];

    #[test]
    fn every_error_number_has_its_kind() {
        for errno in 1..=133 {
            let sorted = SORTED.iter().find(|(_, numbers)| numbers.contains(&errno));
            let kind = sorted.map_or(ClusterErrorKind::Other, |(kind, _)| *kind);
            let failure = check(-errno).expect_err("a negative code is a failure");
            assert_eq!((failure.kind, failure.errno), (kind, errno));
        }
    }

    #[test]
    fn a_code_that_is_not_negative_is_a_number() {
        assert_eq!(check(0), Ok(0));
        assert_eq!(check(42), Ok(42));
    }

    #[test]
    fn an_error_names_call_subject_number_and_words() {
        let error = Failure::of_errno(libc::ETIMEDOUT).during("create image", "rbd/x".to_owned());
        let text = error.to_string();
        assert!(text.starts_with("create image rbd/x: the cluster did not answer"), "{text}");
        assert!(text.ends_with("(errno 110)") && error.may_pass(), "{text}");
        let error = Failure::of_errno(libc::EEXIST).during("create image", "rbd/x".to_owned());
        assert_eq!(error.to_string(), "create image rbd/x: File exists (os error 17)");
    }
}

//! The daemon's socket: without it Docker knows of no driver called `ceph`.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{failed, ok, warning};
use crate::service::Finding;

/// How the socket is.
#[derive(Debug)]
pub(super) enum State {
    /// There is nothing at its path.
    Absent,
    /// There is something else.
    NotASocket,
    /// It is left from a daemon that is gone.
    Stale,
    /// Somebody listens; these are the socket's permission bits.
    Live(u32),
    /// This user may not try.
    Denied,
    /// It cannot be tried.
    Failed(io::Error),
}

impl State {
    pub(super) fn gather(path: &Path) -> Self {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) if metadata.file_type().is_socket() => metadata,
            Ok(_) => return Self::NotASocket,
            Err(error) => return Self::of_error(error),
        };
        match UnixStream::connect(path) {
            Ok(_) => Self::Live(metadata.mode() & 0o777),
            Err(error) => Self::of_error(error),
        }
    }

    fn of_error(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Absent,
            ErrorKind::ConnectionRefused => Self::Stale,
            ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Failed(error),
        }
    }

    /// Does a daemon listen?
    pub(super) fn lives(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

pub(super) fn check(state: &State, path: &Path) -> Finding {
    let (check, path) = ("socket", path.display());
    let start = "start the daemon: systemctl start docker-volume-ceph";
    match state {
        // To connect is to write.
        State::Live(mode) if mode & 0o002 != 0 => {
            let detail = format!("everyone on this host may use {path} (mode {mode:04o})");
            warning(check, detail, format!("chmod 600 {path}: who may use it is root of all data"))
        }
        State::Live(_) => ok(check, format!("a daemon listens on {path}")),
        State::Absent => failed(check, format!("there is no {path}: no daemon runs"), start),
        State::Stale => failed(
            check,
            format!("{path} is left from a daemon that is gone"),
            format!("{start}; it replaces the socket"),
        ),
        State::NotASocket => {
            failed(check, format!("{path} is no socket"), "look what it is, and move it")
        }
        State::Denied => warning(check, format!("permission denied on {path}"), "run this as root"),
        State::Failed(error) => failed(check, format!("{path}: {error}"), start),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::service::Verdict;

    #[test]
    fn each_state_of_the_socket_is_told_from_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ceph.sock");
        let look = || check(&State::gather(&path), &path);
        assert!(look().detail.contains("no daemon runs"), "{:?}", look());

        let listener = UnixListener::bind(&path).expect("a socket");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("our socket");
        assert_eq!(look().verdict, Verdict::Ok);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("our socket");
        assert_eq!(look().verdict, Verdict::Warning);

        drop(listener);
        assert!(look().detail.contains("a daemon that is gone"), "{:?}", look());
        std::fs::remove_file(&path).expect("our socket");
        std::fs::File::create(&path).expect("a file");
        assert!(look().detail.contains("is no socket"), "{:?}", look());
    }
}

//! The socket's file: made for its owner only, taken from the dead, never from the living.
//!
//! * **Mode before name.** The mode is set on the socket before it is bound, so there is no moment
//!   at which another user could connect, and the process's umask stays as it is.
//! * **One at a time.** Looking at what is there, removing it and binding happen under a lock on the
//!   folder, so that of two daemons that start together one wins, and the other sees a live socket.
//! * **Only a socket that nobody listens on is replaced.** Any other file is left alone.
//! * **Only our own file is removed** at the end: a daemon that started meanwhile keeps its own.
//!
//! Under socket activation the service manager owns the file, and nothing here touches it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

/// The longest path that an address of a Unix socket holds.
const LONGEST_PATH: usize = 107;

/// The socket is for root alone: who may write to it may mount anything.
pub const DEFAULT_MODE: u32 = 0o600;

/// A socket that is listened on; its file is removed with it.
#[derive(Debug)]
pub struct Listening {
    socket: UnixListener,
    file: Option<SocketFile>,
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Unix sockets have short names.
    #[error(
        "socket {path}: the path has {length} bytes, and a Unix socket's has at most {LONGEST_PATH}"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
    /// Somebody answers there.
    #[error(
        "socket {path}: {owner} listens on it already; stop that one first, or choose another \
         path with --socket"
    )]
    Live {
        /// The path.
        path: PathBuf,
        /// Who, as far as can be told.
        owner: String,
    },
    /// There is something else.
    #[error("socket {path}: there is a {what} at that path; move it away, or choose another")]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The system refused a step.
    #[error("socket {path}: {step}: {source}")]
    Io {
        /// The path, or the descriptor.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, SocketError>;

/// Listens on `path`, whose file gets `mode`. Parent folders are made where they are missing.
///
/// # Errors
/// Where the path is too long, taken by a live daemon or by something that is no socket, or where
/// the system refuses.
pub fn listen_on(path: &Path, mode: u32) -> Result<Listening> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        return Err(SocketError::TooLong { path: path.to_owned(), length });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let failed = |step| failed(path, step);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(failed("make the folder"))?;
    let folder = File::open(folder).map_err(failed("open the folder"))?;
    let _locked = Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, errno)| failed("lock the folder")(errno.into()))?;
    remove_stale(path)?;
    let socket = bind_with_mode(path, mode).map_err(failed("bind"))?;
    let file = SocketFile::of(path).map_err(failed("look at it"))?;
    Ok(Listening { socket, file: Some(file) })
}

/// The sockets that the service manager passed (`LISTEN_FDS`), if any.
///
/// # Errors
/// Where what was passed is no listening Unix socket.
pub fn passed_by_manager() -> Result<Vec<Listening>> {
    let named = |fd: RawFd| PathBuf::from(format!("passed as descriptor {fd}"));
    let none = PathBuf::from("passed by the service manager");
    let fds = sd_notify::listen_fds().map_err(failed(&none, "read LISTEN_FDS"))?;
    fds.map(|fd| adopt(fd).map_err(failed(&named(fd), "use it"))).collect()
}

#[expect(unsafe_code, reason = "the service manager passes descriptors by number")]
fn adopt(fd: RawFd) -> io::Result<Listening> {
    // SAFETY: sd_notify has checked that the manager passed this descriptor to this very process,
    // and has just set a flag on it, so it is open; nothing else in the program knows its number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if !getsockopt(&fd, sockopt::AcceptConn)? {
        return Err(io::Error::other("it does not listen"));
    }
    let socket = UnixListener::from(fd);
    socket.local_addr()?;
    socket.set_nonblocking(true)?;
    Ok(Listening { socket, file: None })
}

impl Listening {
    /// The socket, and what removes its file when it is dropped.
    pub(super) fn split(self) -> (UnixListener, Option<SocketFile>) {
        (self.socket, self.file)
    }
}

/// The file of a socket that we bound. Its drop removes it, if it is still that one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Inode numbers are used again, so the time of creation is part of it; connecting changes neither.
type Identity = (u64, u64, i64, i64);

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

fn failed<'a>(path: &'a Path, step: &'static str) -> impl Fn(io::Error) -> SocketError + use<'a> {
    move |source| SocketError::Io { path: path.to_owned(), step, source }
}

fn remove_stale(path: &Path) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, "look at it")(error)),
    };
    if !kind.is_socket() {
        let what = match () {
            () if kind.is_dir() => "folder",
            () if kind.is_symlink() => "symbolic link",
            () if kind.is_file() => "regular file",
            () => "special file",
        };
        return Err(SocketError::NotASocket { path: path.to_owned(), what });
    }
    match probe(path) {
        Ok(owner) => Err(SocketError::Live { path: path.to_owned(), owner }),
        // ENOENT: it went away by itself.
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(path, "remove the stale one")(error))
            }
            _ => Ok(()),
        },
        Err(errno) => Err(failed(path, "ask who listens on it")(errno.into())),
    }
}

/// Who listens there. Never waits: a full queue is a sign of life, too.
fn probe(path: &Path) -> nix::Result<String> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let ours = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(ours.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(peer(ours.as_fd())),
        Err(Errno::EAGAIN) => Ok("a process that is busy".to_owned()),
        Err(errno) => Err(errno),
    }
}

fn peer(connected: impl AsFd) -> String {
    let Ok(credentials) = getsockopt(&connected, sockopt::PeerCredentials) else {
        return "another process".to_owned();
    };
    let pid = credentials.pid();
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(command) => format!("{} (process {pid})", command.trim_end().escape_debug()),
        Err(_) => format!("process {pid}"),
    }
}

fn bind_with_mode(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let bound = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The kernel makes the file with the socket's own mode, less the umask.
    fchmod(&bound, Mode::from_bits_truncate(mode))?;
    bind(bound.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Gives back what the umask took; it never takes away what somebody might have used by now.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&bound, Backlog::MAXCONN)?;
    Ok(UnixListener::from(bound))
}

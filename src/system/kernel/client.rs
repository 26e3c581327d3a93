//! The daemon's end of the server: starts it when it is needed, and hands it connections.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use super::{ENTRY, SERVE};
use crate::deadline::Deadline;
use crate::system::command::{PROGRAM_FOLDERS, io};
use crate::system::{ProcessId, SystemErrorKind};

/// How often a wait looks whether the work was called off.
const SLICE: Duration = Duration::from_millis(50);
/// How long a killed child may take to be gone.
const AFTER_KILL: Duration = Duration::from_millis(500);

/// The server of one daemon.
#[derive(Debug)]
pub(super) struct Client {
    program: PathBuf,
    server: Mutex<Option<Server>>,
}

#[derive(Debug)]
struct Server {
    socket: OwnedFd,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, server: Mutex::default() }
    }

    /// Sends one line to a new child, and gives the line that it answers.
    pub(super) fn ask(&self, line: &[u8], deadline: &Deadline) -> Result<Vec<u8>, SystemErrorKind> {
        // Where a connection closes before a child has said who it is, the server died with it
        // and nothing was done: so it can be done again.
        for _ in 0..2 {
            if let Some(answer) = self.ask_once(line, deadline)? {
                return Ok(answer);
            }
        }
        Err(no_child())
    }

    fn ask_once(
        &self,
        line: &[u8],
        deadline: &Deadline,
    ) -> Result<Option<Vec<u8>>, SystemErrorKind> {
        let started = Instant::now();
        let failed = |error| io(&self.program)(error);
        let ours = self.begin(line).map_err(failed)?;
        let mut said = Lines::default();
        let ended = said.read_until(&ours, 2, deadline).map_err(failed)?;
        let child = said.line(0).and_then(|line| serde_json::from_slice(&line).ok());
        match (ended, child, said.line(1)) {
            (true, None, _) => Ok(None),
            (true, Some(_), Some(answer)) => Ok(Some(answer)),
            (true, Some(_), None) => Err(no_answer()),
            // A child that has not said who it is yet will find nobody to ask what to do.
            (false, child, _) => {
                if let Some(child) = child {
                    ProcessId::signal(child, Signal::SIGKILL);
                    let _ = said.read_until(&ours, usize::MAX, &Deadline::after(AFTER_KILL));
                }
                Err(SystemErrorKind::Timeout { after: started.elapsed() })
            }
        }
    }

    /// As [`Client::ask`], and keeps the connection. At the deadline it is closed, and the child
    /// left to itself.
    pub(super) fn hold(&self, line: &[u8], deadline: &Deadline) -> Result<Held, SystemErrorKind> {
        let started = Instant::now();
        let failed = |error| io(&self.program)(error);
        for _ in 0..2 {
            let connection = self.begin(line).map_err(failed)?;
            let mut said = Lines::default();
            let ended = said.read_until(&connection, 2, deadline).map_err(failed)?;
            match (ended, said.line(0), said.line(1)) {
                (_, Some(_), Some(first)) => return Ok(Held { connection, said, first }),
                (false, ..) => return Err(SystemErrorKind::Timeout { after: started.elapsed() }),
                (true, Some(_), None) => return Err(no_answer()),
                (true, None, _) => {}
            }
        }
        Err(no_child())
    }

    /// Gives a new child its line.
    fn begin(&self, line: &[u8]) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.hand_over(&theirs)?;
        drop(theirs);
        // Where nobody is left to read it, the answer says so by not coming.
        let _ = (&ours).write_all(line);
        Ok(ours)
    }

    fn hand_over(&self, connection: &UnixStream) -> std::io::Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            let running = match server.take() {
                Some(running) => running,
                None => self.start()?,
            };
            // One that does not take it has died: it is started again.
            match send(&running.socket, connection) {
                Ok(()) => {
                    *server = Some(running);
                    return Ok(());
                }
                Err(errno) => tracing::warn!(%errno, "the server of kernel calls has died"),
            }
        }
        Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe))
    }

    #[expect(clippy::disallowed_methods, reason = "it serves for as long as the daemon lives")]
    fn start(&self) -> std::io::Result<Server> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let process = Command::new(&self.program)
            .args([ENTRY, SERVE])
            .env_clear()
            .env("PATH", PROGRAM_FOLDERS.join(":"))
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Server { socket: ours, process })
    }
}

fn no_child() -> SystemErrorKind {
    SystemErrorKind::Refused("no child can be started".to_owned())
}

fn no_answer() -> SystemErrorKind {
    SystemErrorKind::Refused("the child ended without an answer".to_owned())
}

/// A child that has answered once, and goes on.
#[derive(Debug)]
pub(crate) struct Held {
    connection: UnixStream,
    said: Lines,
    first: Vec<u8>,
}

impl Held {
    /// Its first answer.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Tells it something, and gives its second answer; `None` where it has died.
    pub(super) fn ask(
        &mut self,
        word: &[u8],
        deadline: &Deadline,
    ) -> Result<Option<Vec<u8>>, SystemErrorKind> {
        let started = Instant::now();
        // It may have ended by itself, and its answer stands there.
        let _ = (&self.connection).write_all(word);
        let read = self.said.read_until(&self.connection, 3, deadline);
        if read.map_err(io(Path::new("the child's connection")))? {
            return Ok(self.said.line(2));
        }
        Err(SystemErrorKind::Timeout { after: started.elapsed() })
    }
}

fn send(socket: &OwnedFd, connection: &UnixStream) -> Result<(), Errno> {
    let carried = [connection.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&carried)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[1])], &rights, flags, None).map(drop)
}

/// What has come in.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn line(&self, number: usize) -> Option<Vec<u8>> {
        let whole = self.0.iter().rposition(|byte| *byte == b'\n')?;
        self.0[..whole].split(|byte| *byte == b'\n').nth(number).map(<[u8]>::to_vec)
    }

    /// Reads until there are that many lines, or no more can come; `false` at the deadline.
    fn read_until(
        &mut self,
        mut source: &UnixStream,
        lines: usize,
        deadline: &Deadline,
    ) -> std::io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.0.iter().filter(|byte| **byte == b'\n').count() < lines {
            if deadline.is_over() {
                return Ok(false);
            }
            let slice = deadline.left().clamp(Duration::from_millis(1), SLICE);
            source.set_read_timeout(Some(slice))?;
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.0.extend_from_slice(&buffer[..count]),
                Err(error) if is_transient(&error) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn is_transient(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_count() {
        let lines = Lines(b"one\ntwo\nthr".to_vec());
        let line = |number| lines.line(number).map(|line| String::from_utf8(line).expect("text"));
        assert_eq!(line(0).as_deref(), Some("one"));
        assert_eq!(line(1).as_deref(), Some("two"));
        assert_eq!(line(2), None);
        assert_eq!(Lines::default().line(0), None);
    }

    #[test]
    fn an_answer_that_does_not_come_ends_at_the_deadline() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut lines = Lines::default();
        let deadline = Deadline::after(Duration::from_millis(80));
        assert!(!lines.read_until(&ours, 1, &deadline).expect("read"));
        drop(theirs);
        assert!(lines.read_until(&ours, 1, &Deadline::after(SLICE)).expect("read"));
    }
}

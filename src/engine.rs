//! What is asked of the Docker engine: which containers use a volume. Nothing is changed there.
//!
//! The engine is often the one who waits for us, so it is asked shortly and never relied on: no
//! socket, no answer in time, or one that cannot be read is an empty list and a line in the log.
//! HTTP/1.0 is spoken, whose answers end with the connection: no chunks, no client to bring along.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Deserialize;

use crate::deadline::Deadline;

/// The most that is read of an answer: some thousand containers.
const LARGEST: u64 = 8 << 20;
/// How long one read or write may take: the deadline is looked at in between.
const SLICE: Duration = Duration::from_millis(100);

/// A Docker engine on this host.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

/// A container as the engine lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Names", default)]
    names: Vec<String>,
}

impl Engine {
    /// The engine that listens there.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The names of the running containers that use the volume, sorted. Empty where the engine
    /// cannot be asked.
    #[must_use]
    pub fn containers_of(&self, volume: &str, deadline: &Deadline) -> Vec<String> {
        let answer = ask(&self.socket, &target(volume), deadline).and_then(|answer| names(&answer));
        answer.unwrap_or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                tracing::debug!(socket = %self.socket.display(), "no engine to ask for containers");
            } else {
                tracing::warn!(socket = %self.socket.display(), volume, %error,
                    "the engine does not tell which containers use a volume");
            }
            Vec::new()
        })
    }
}

/// One that waits to be started again or is paused is not running: nothing can be executed in it.
fn target(volume: &str) -> String {
    let filters = serde_json::json!({"volume": [volume], "status": ["running"]});
    format!("/containers/json?filters={}", percent(&filters.to_string()))
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// The body of the answer to a GET.
fn ask(path: &Path, target: &str, deadline: &Deadline) -> io::Result<Vec<u8>> {
    let stream = connected(path)?;
    stream.set_read_timeout(Some(SLICE))?;
    stream.set_write_timeout(Some(deadline.left().max(SLICE)))?;
    // Short enough for the socket's buffer, whether it is read or not.
    let request = format!("GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n");
    (&stream).write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut limited = (&stream).take(LARGEST + 1);
    let mut buffer = [0; 16 << 10];
    loop {
        if deadline.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if passes(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if answer.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("an answer of more than {LARGEST} bytes")));
    }
    body(answer)
}

fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// A connect to an engine that stands still would wait for a place in its queue: this one fails.
fn connected(path: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn body(mut answer: Vec<u8>) -> io::Result<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("an answer without an end of its headers"))?;
    let body = answer.split_off(end + 4);
    let headers = String::from_utf8_lossy(&answer);
    let status = headers.lines().next().and_then(|line| line.split(' ').nth(1));
    match status {
        Some("200") => Ok(body),
        _ => {
            let said: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            let line = headers.lines().next().unwrap_or_default();
            Err(io::Error::other(format!("{line}: {}", said.trim())))
        }
    }
}

/// A container's own name is the one without a further `/`: the others are links to it.
fn names(body: &[u8]) -> io::Result<Vec<String>> {
    let listed: Vec<Listed> = serde_json::from_slice(body)?;
    let own = |listed: Listed| {
        let names = listed.names.into_iter();
        let mut names = names.map(|name| name.trim_start_matches('/').to_owned());
        names.find(|name| !name.is_empty() && !name.contains('/'))
    };
    let mut names: Vec<String> = listed.into_iter().filter_map(own).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::time::Instant;

    /// An engine that takes one request, gives that answer, and tells what it was asked.
    fn engine(answer: impl Into<Vec<u8>>) -> (tempfile::TempDir, Engine, mpsc::Receiver<String>) {
        let (folder, answer) = (tempfile::tempdir().expect("a folder"), answer.into());
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (sender, asked) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).expect("a request");
            let _ = sender.send(String::from_utf8_lossy(&request[..count]).into_owned());
            let _ = stream.write_all(&answer);
        });
        (folder, Engine::at(path), asked)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    #[test]
    fn running_containers_are_named_by_their_own_names() {
        let (_folder, engine, asked) = engine(
            "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n\
             [{\"Id\":\"2\",\"Names\":[\"/web/db\",\"/pg\"]},{\"Names\":[\"/backup-1\"]},{}]",
        );
        assert_eq!(engine.containers_of("pg.data", &soon()), ["backup-1", "pg"]);
        let request = asked.recv().expect("a request");
        let filters =
            "%7B%22status%22%3A%5B%22running%22%5D%2C%22volume%22%3A%5B%22pg.data%22%5D%7D";
        let line = format!("GET /containers/json?filters={filters} HTTP/1.0\r\n");
        assert!(request.starts_with(&line), "{request}");
    }

    #[test]
    fn an_engine_that_cannot_be_asked_is_an_empty_list() {
        let nobody = Engine::at("/nowhere/docker.sock");
        assert!(nobody.containers_of("v", &soon()).is_empty());
        let started = Instant::now();
        for answer in [
            "HTTP/1.0 500 Internal Server Error\r\n\r\n[{\"Names\":[\"/x\"]}]",
            "HTTP/1.0 200 OK\r\n\r\nno JSON",
            "HTTP/1.0 200 OK\r\n",
            "",
        ] {
            let (_folder, engine, _asked) = engine(answer);
            assert!(engine.containers_of("v", &soon()).is_empty(), "{answer:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(4), "one was waited for");
    }

    #[test]
    fn an_answer_without_end_is_cut() {
        let head = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        let endless = head.into_iter().chain(std::iter::repeat_n(b' ', 2 * (8 << 20)));
        let (_folder, engine, _asked) = engine(endless.collect::<Vec<_>>());
        let error = ask(&engine.socket, &target("v"), &soon()).expect_err("too large");
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn an_engine_that_does_not_answer_is_left_at_the_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let started = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(300));
        assert!(Engine::at(path).containers_of("v", &deadline).is_empty());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

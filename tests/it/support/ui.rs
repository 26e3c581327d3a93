//! `docker-ceph ui` as a child of the test, and questions to it without a browser.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::{processes, within};

/// For an answer, and for an end.
const SOON: Duration = Duration::from_secs(20);

/// A page that is served.
#[derive(Debug)]
pub(crate) struct Ui {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Ui {
    /// Starts the command, which is to be `docker-ceph ui` on a port that it chooses.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut said = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("it says where");
        let address = said.strip_prefix("http://").and_then(|said| said.split('/').next());
        let address = address.and_then(|address| address.parse().ok());
        Self { address: address.unwrap_or_else(|| panic!("it says no address: {said:?}")), child }
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves the page for it.
    pub(crate) fn server(&self) -> Option<u32> {
        let parent = self.pid().to_string();
        processes().find(|pid| status(*pid, "PPid").is_some_and(|of| of == parent))
    }

    /// The answer to a request for a path, for this host.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))
    }

    /// The answer to those bytes.
    pub(crate) fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a time");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and the end");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|of| of.parse().ok()).expect("a status");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// Sends a signal to the process that was started.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end, and says how it was.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        let ended = within(SOON, || self.child.try_wait().expect("a child of ours").is_some());
        assert!(ended, "it does not end");
        self.child.wait().expect("a child of ours")
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process number"));
    kill(pid, signal).expect("it is there");
}

/// Waits until there is no such process.
pub(crate) fn is_gone(pid: u32) -> bool {
    within(SOON, || status(pid, "State").is_none_or(|state| state.starts_with('Z')))
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Some(line?.trim().to_owned())
}

//! The server: one process that has loaded our program once, and forks a child for each call.
//!
//! It has a single thread and touches nothing that can hang, so that a fork is safe and always at
//! hand. A child is given a connection of its own, over which it says first who it is (so that it
//! can be killed), then reads one call, and writes one answer. The server ends with the daemon,
//! when their socket closes; it is not in the daemon's cgroup, because what it starts may stay.

#![allow(unsafe_code, reason = "fork, and the descriptors that a message carries")]

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::{Answer, Call, calls, detach};
use crate::system::ProcessId;

/// How often children that have ended are collected, while there are any.
const COLLECT: u16 = 1000;

/// Serves calls until the daemon closes its end of the standard input.
pub(super) fn serve() -> ExitCode {
    detach::leave_cgroups();
    let stdin = std::io::stdin();
    loop {
        match next_connection(stdin.as_fd()) {
            Ok(Some(connection)) => serve_in_child(connection),
            Ok(None) => return ExitCode::SUCCESS,
            Err(errno) => {
                eprintln!("serve kernel calls: {errno}");
                return ExitCode::FAILURE;
            }
        }
    }
}

fn next_connection(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    loop {
        let timeout = if collect_children() { COLLECT.into() } else { PollTimeout::NONE };
        let mut ready = [PollFd::new(socket, PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return receive(socket.as_raw_fd()),
            Err(errno) => return Err(errno),
        }
    }
}

/// Collects the children that have ended, and says whether there are others.
fn collect_children() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

fn receive(socket: RawFd) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), flags)?;
    let carried = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made the descriptor for us, and nobody else knows of it.
    Ok(carried.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

fn serve_in_child(connection: OwnedFd) {
    // The daemon sees the connection close if there is no child.
    let _ = in_child(|| serve_one(&UnixStream::from(connection)));
}

/// Runs some work in a child, which then ends.
pub(super) fn in_child(work: impl FnOnce() -> Option<()>) -> Result<nix::unistd::Pid, Errno> {
    // SAFETY: this process has one thread, so that the child's memory is whole.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = if work().is_some() { 0 } else { 1 };
            // SAFETY: ends the child without the handlers that belong to its parent.
            unsafe { libc::_exit(code) }
        }
    }
}

fn serve_one(mut connection: &UnixStream) -> Option<()> {
    write_line(connection, &ProcessId::of(std::process::id())?)?;
    let mut line = String::new();
    BufReader::new(&mut connection).read_line(&mut line).ok()?;
    let call: Call = serde_json::from_str(&line).ok()?;
    let answer: Answer = calls::run(&call, connection);
    write_line(connection, &answer)
}

fn write_line(mut connection: &UnixStream, value: &impl serde::Serialize) -> Option<()> {
    let mut line = serde_json::to_vec(value).ok()?;
    line.push(b'\n');
    connection.write_all(&line).ok()
}

//! What a `ceph-fuse` says of itself by its admin socket.
//!
//! The address of its client is known to nobody else on the host: it is taken anew at each start.
//! A socket is waited for in the daemon itself, because such a wait never stays in the kernel.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::deadline::Deadline;

/// How long it may take to answer; it answers in a millisecond.
const ANSWER: Duration = Duration::from_secs(2);
/// What ends a question.
const QUESTION: &[u8] = b"{\"prefix\": \"status\", \"format\": \"json\"}\0";
/// More than it ever says, in bytes.
const LONGEST: u32 = 1 << 20;

#[derive(Debug, Deserialize)]
struct Status {
    addr_str: String,
}

/// The address and nonce of its client; `None` where it does not say.
pub(super) fn client_address(socket: &Path, deadline: &Deadline) -> Option<String> {
    let stream = UnixStream::connect(socket).ok()?;
    let limit = deadline.at_most(ANSWER).left().max(Duration::from_millis(1));
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    (&stream).write_all(QUESTION).ok()?;
    let mut length = [0; 4];
    (&stream).read_exact(&mut length).ok()?;
    let length = u32::from_be_bytes(length).min(LONGEST);
    let mut answer = Vec::new();
    (&stream).take(length.into()).read_to_end(&mut answer).ok()?;
    address_in(&answer)
}

/// As a blocklist entry writes it: without the protocol's version before it.
fn address_in(answer: &[u8]) -> Option<String> {
    let status: Status = serde_json::from_slice(answer).ok()?;
    let address = status.addr_str.trim();
    let plain = ["v1:", "v2:", "any:"].iter().find_map(|start| address.strip_prefix(start));
    let address = plain.unwrap_or(address);
    let (_, nonce) = address.rsplit_once('/')?;
    // A nonce of 0 would stand for every client of the host.
    nonce.parse::<u64>().ok().filter(|nonce| *nonce != 0)?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_as_a_blocklist_names_it() {
        let said = |address: &str| {
            let answer = serde_json::json!({"id": 4147, "addr_str": address}).to_string();
            address_in(answer.as_bytes())
        };
        let plain = Some("127.0.0.1:0/3077376878".to_owned());
        assert_eq!(said("127.0.0.1:0/3077376878"), plain);
        assert_eq!(said("v1:127.0.0.1:0/3077376878"), plain);
        assert_eq!(said("[fd00::1]:0/7"), Some("[fd00::1]:0/7".to_owned()));
        assert_eq!(said("127.0.0.1:0/0"), None);
        assert_eq!(said("-"), None);
        assert_eq!(address_in(b"{}"), None);
    }
}

//! A gate before the daemon's socket, for a process that may look and nothing else.
//!
//! ```text
//!  the page, without privileges ──▶ gate, one of root's ──▶ daemon
//!                          GET, of an allow-list
//! ```
//!
//! Whoever may write to the daemon's socket may mount anything, so the page must not have it. What it
//! has instead is this: a socket on which some questions are answered as the daemon answers them, and
//! everything else is refused. What is passed on is not what was sent: it is made anew, of a word of
//! the list and of a name that is one.
//!
//! The socket has no file, so that none is left behind by a process that is killed. It listens to one
//! process only, which the kernel tells by its number.

use std::convert::Infallible;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response};
use jiff::Timestamp;
use tokio::net::{UnixListener, UnixStream};

use super::admin::{Kind, PREFIX, Refusal};
use super::client::AdminClient;
use super::path;
use super::questions::{self, Allowance, Answer};
use super::reply::{JSON, body, response, status_of};
use crate::volume::VolumeName;

/// The page asks a few things at a time, two of each volume that somebody looks at. A question takes no
/// longer than a client waits for its answer.
const ALLOWANCE: Allowance = Allowance {
    head: Duration::from_secs(5),
    one_request_in: Some(Duration::from_secs(130)),
    connections: 16,
};

/// A gate that listens, and answers nobody yet.
#[derive(Debug)]
pub(crate) struct Gate {
    listener: StdListener,
    name: String,
}

impl Gate {
    /// A gate of a new name.
    pub(crate) fn listen() -> io::Result<Self> {
        // The name is no secret, and needs only be new.
        let name = format!("docker-ceph-ui-{}-{}", process::id(), Timestamp::now().as_nanosecond());
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, name })
    }

    /// What [`client_of`] needs.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks `daemon` what that process asks, for as long as it is polled.
    pub(crate) async fn serve(self, daemon: AdminClient, asked_by: u32) -> io::Result<Infallible> {
        let listener = UnixListener::from_std(self.listener)?;
        let is_it = |stream: &UnixStream| {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            pid.is_some_and(|pid| u32::try_from(pid) == Ok(asked_by))
        };
        let accept = |cx: &mut Context<'_>| loop {
            let (stream, _) = ready!(listener.poll_accept(cx))?;
            if is_it(&stream) {
                return Poll::Ready(Ok(stream));
            }
        };
        Ok(questions::serve(accept, ALLOWANCE, Arc::new(Asking(daemon))).await)
    }
}

/// A client of the daemon behind the gate of that name.
pub(crate) fn client_of(name: &str) -> AdminClient {
    AdminClient::new(PathBuf::from(format!("\0{name}")))
}

/// Asks the daemon.
#[derive(Debug)]
struct Asking(AdminClient);

impl Answer for Asking {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let mut refused = refusal(Kind::WrongMethod, "the gate lets questions through: GET");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        let Some(path) = request.uri().path_and_query().and_then(|path| allowed(path.as_str()))
        else {
            return refusal(Kind::NoSuchPath, "the gate lets nothing through to that path");
        };
        match self.0.question(&path).await {
            Ok((status, body)) => response(status, JSON, body),
            Err(error) => refusal(Kind::Unavailable, &error.to_string()),
        }
    }
}

/// The path to ask for, below [`PREFIX`], where `path` with its query is one that may be.
fn allowed(path: &str) -> Option<String> {
    let rest = path.strip_prefix(PREFIX)?.strip_prefix('/')?;
    let words: Vec<&str> = rest.split('/').collect();
    let name = |name: &str| -> Option<VolumeName> { path::decode(name)?.parse().ok() };
    match words[..] {
        ["version"] => Some("version".to_owned()),
        ["volumes"] => Some("volumes".to_owned()),
        ["schedules"] => Some("schedules".to_owned()),
        ["tasks"] => Some("tasks".to_owned()),
        ["doctor"] => Some("doctor".to_owned()),
        ["volumes", volume] => Some(format!("volumes/{}", path::encode(name(volume)?.as_str()))),
        ["volumes", volume, "snapshots"] => {
            Some(format!("volumes/{}/snapshots", path::encode(name(volume)?.as_str())))
        }
        _ => None,
    }
}

fn refusal(kind: Kind, error: &str) -> Response<Full<Bytes>> {
    response(status_of(kind), JSON, body(&Refusal { error: error.to_owned(), kind }))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn questions_of_the_list_are_made_anew() {
        for (asked, passed_on) in [
            ("/ceph/v1/version", "version"),
            ("/ceph/v1/volumes", "volumes"),
            ("/ceph/v1/schedules", "schedules"),
            ("/ceph/v1/tasks", "tasks"),
            ("/ceph/v1/doctor", "doctor"),
            ("/ceph/v1/volumes/pg%64ata", "volumes/pgdata"),
            ("/ceph/v1/volumes/pgdata/snapshots", "volumes/pgdata/snapshots"),
        ] {
            assert_eq!(allowed(asked).as_deref(), Some(passed_on));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for asked in [
            "/",
            "/VolumeDriver.List",
            "/ceph/v1",
            "/ceph/v1/",
            "/ceph/v1/trash",
            "/ceph/v1/drain",
            "/ceph/v1/volumes/",
            "/ceph/v1/volumes?x",
            "/ceph/v1/volumes/..",
            "/ceph/v1/volumes/../drain",
            "/ceph/v1/volumes/..%2fdrain",
            "/ceph/v1/volumes/a/who",
            "/ceph/v1/volumes/a%2fsnapshots",
            "/ceph/v1/volumes/a?policy=delete",
            "/ceph/v1/volumes/a/snapshots/s/diff",
            "/ceph/v1/volumes/a/snapshots/s/rollback",
            "/ceph/v1//volumes",
            "/ceph/v1/volumes/%",
            "ceph/v1/volumes",
        ] {
            assert_eq!(allowed(asked), None, "{asked}");
        }
    }

    /// What comes back for a request, from a gate before a daemon that is not there.
    async fn asked(request: &str, by: u32) -> String {
        let gate = Gate::listen().expect("a gate");
        let path = format!("\0{}", gate.name());
        let daemon = AdminClient::new("/nobody/listens/here");
        let serving = tokio::spawn(gate.serve(daemon, by));
        let mut stream = UnixStream::connect(path).await.expect("it listens");
        // It may be closed before all of it is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        serving.abort();
        answer
    }

    #[tokio::test]
    async fn questions_go_through_and_nothing_else() {
        let us = process::id();
        for (request, status, said) in [
            ("GET /ceph/v1/volumes", 503, "no daemon listens on /nobody/listens/here"),
            ("POST /ceph/v1/volumes", 405, "GET"),
            ("DELETE /ceph/v1/volumes/a", 405, "GET"),
            ("POST /VolumeDriver.Mount", 405, "GET"),
            ("GET /ceph/v1/trash", 404, "nothing through to that path"),
            ("GET /ceph/v1/volumes/a?policy=delete", 404, "nothing through"),
        ] {
            let answer = asked(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"), us).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert!(answer.contains(said), "{request}: {answer}");
        }
    }

    #[tokio::test]
    async fn another_process_is_not_answered() {
        let answer = asked("GET /ceph/v1/volumes HTTP/1.1\r\nHost: a\r\n\r\n", 1).await;
        assert_eq!(answer, "");
    }
}

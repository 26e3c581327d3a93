//! What Prometheus reads of this daemon: how calls went, and how the volumes are.
//!
//! ```text
//!  jobs ──────each call──────▶ Requests ─┐
//!  volumes, tasks, the cluster ─a scrape─┴─▶ text ──▶ GET /metrics
//! ```
//!
//! * Off unless the setting `metrics-listen` names a port of the loopback or the path of a Unix
//!   socket. Volumes' names are in it, so that other addresses are refused.
//! * A scrape reads what every listing reads, and nothing of the kernel's: an outage of the cluster
//!   delays it by as much as a `docker volume ls`. Scrapes wait for each other.
//! * Of single volumes those are told that are mounted here, and the snapshots of those that have a
//!   schedule: every host tells of its own, and a cluster with thousands of volumes stays readable.
//! * Names follow [Prometheus' guide](https://prometheus.io/docs/practices/naming/): base units, and
//!   times as seconds since 1970, from which ages are reckoned.

mod requests;
mod volumes;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::ALLOW;
use hyper::{Method, Request, Response, StatusCode};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Mutex;

pub(super) use requests::Requests;

use super::Verbs;
use super::questions::{self, Allowance, Answer};
use super::reply::response;
use super::socket::{DEFAULT_MODE, Listening, SocketError, SocketFile, listen_on};

/// What all names begin with.
const PREFIX: &str = "docker_volume_ceph";

/// What those who scrape may take: they come again and again, on connections that stay.
const ALLOWANCE: Allowance =
    Allowance { head: Duration::from_secs(60), one_request_in: None, connections: 64 };

/// Where metrics are asked for.
#[derive(Debug)]
pub struct MetricsListener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(std::net::TcpListener),
    Unix(Listening),
}

impl MetricsListener {
    /// Listens on a port of the loopback.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(Kind::Tcp(listener)))
    }

    /// Listens on a Unix socket of root's.
    ///
    /// # Errors
    /// As [`listen_on`].
    pub fn unix(path: &Path) -> Result<Self, SocketError> {
        listen_on(path, DEFAULT_MODE).map(|listening| Self(Kind::Unix(listening)))
    }

    /// Answers scrapes for as long as it is polled.
    pub(super) async fn serve(self, source: Source) -> io::Result<Infallible> {
        let source = Arc::new(source);
        match self.0 {
            Kind::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(it, _)| it);
                Ok(questions::serve(accept, ALLOWANCE, source).await)
            }
            Kind::Unix(listening) => {
                let (listener, _file): (_, Option<SocketFile>) = listening.split();
                let listener = UnixListener::from_std(listener)?;
                let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(it, _)| it);
                Ok(questions::serve(accept, ALLOWANCE, source).await)
            }
        }
    }
}

/// What a scrape is made of.
#[derive(Debug)]
pub(super) struct Source {
    requests: Requests,
    verbs: Arc<dyn Verbs>,
    one_at_a_time: Mutex<()>,
}

impl Source {
    pub(super) fn new(requests: Requests, verbs: Arc<dyn Verbs>) -> Self {
        Self { requests, verbs, one_at_a_time: Mutex::default() }
    }

    /// Everything, in Prometheus' text format.
    fn text(&self) -> prometheus::Result<String> {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)?;
        self.requests.register(&registry)?;
        volumes::register(&registry, &*self.verbs)?;
        TextEncoder::new().encode_to_string(&registry.gather())
    }
}

impl Answer for Source {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            let text = "there is /metrics, and nothing else\n";
            return response(StatusCode::NOT_FOUND, TEXT_FORMAT, text);
        }
        if request.method() != Method::GET {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT_FORMAT, "GET it\n");
            refused.headers_mut().insert(ALLOW, "GET".parse().expect("a header's value"));
            return refused;
        }
        let _turn = self.one_at_a_time.lock().await;
        let source = Arc::clone(&self);
        match tokio::task::spawn_blocking(move || source.text()).await {
            Ok(Ok(text)) => response(StatusCode::OK, TEXT_FORMAT, text),
            Ok(Err(error)) => failed(&error),
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Response<Full<Bytes>> {
    tracing::error!(%error, "metrics could not be told");
    response(StatusCode::INTERNAL_SERVER_ERROR, TEXT_FORMAT, "see the daemon's log\n")
}

//! Accepts connections, answers their requests, and ends without cutting anything in half.
//!
//! ```text
//!  serving ──shutdown──▶ nothing is accepted, the socket's file is gone, idle connections close
//!     ──stop_grace──▶ deadlines are called off: verbs that wait end with "unavailable"
//!     ──all ended, or drain is over──▶ returned
//! ```
//!
//! A request that is malformed, truncated, too large or too slow costs its own connection, at
//! most. What is abandoned at the end of `drain` is in no worse a state than after a crash of the
//! daemon, from which the next start recovers.
//!
//! The runtime that this runs on has to be ended with `shutdown_background` or `shutdown_timeout`:
//! its plain drop would wait for a verb that hangs.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::delivery::{Connection, Exchange};
use super::jobs::{Drained, Jobs};
use super::metrics::{MetricsListener, Requests, Source};
use super::reply::Closed;
use super::request_id::RequestId;
use super::socket::Listening;
use super::{Limits, Verbs, admin, calls, handler};
use crate::deadline::Stop;

/// How long no connection is accepted after one could not be: the host is short of descriptors or
/// memory, and asking again at once would only burn a processor.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At a stop, how long the rest of a head that is half there may take.
const HEAD_AT_STOP: Duration = Duration::from_millis(500);

/// Where the daemon is spoken to.
#[derive(Debug)]
pub struct Listeners {
    /// For both languages.
    pub verbs: Vec<Listening>,
    /// For metrics.
    pub metrics: Option<MetricsListener>,
}

impl From<Vec<Listening>> for Listeners {
    fn from(verbs: Vec<Listening>) -> Self {
        Self { verbs, metrics: None }
    }
}

/// Serves both languages, and metrics, on all `listeners` until `shutdown`, and returns when the requests in
/// flight have ended, or `limits.drain` later. `stop` is called by then, if any was still at work.
///
/// # Errors
/// Where a listener cannot be used; nothing has been served then.
pub async fn serve(
    listeners: impl Into<Listeners>,
    verbs: Arc<dyn Verbs>,
    limits: Limits,
    stop: Stop,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listeners = listeners.into();
    let listening = listeners.verbs.into_iter().map(Listening::split);
    let (sockets, files): (Vec<_>, Vec<_>) = listening.unzip();
    let sockets =
        sockets.into_iter().map(UnixListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let requests = Requests::default();
    let mut scrapes = JoinSet::new();
    if let Some(listener) = listeners.metrics {
        scrapes.spawn(listener.serve(Source::new(requests.clone(), Arc::clone(&verbs))));
    }
    let (jobs, drained) = Jobs::new(verbs, limits.clone(), stop.clone(), requests);
    let server = Server { jobs: Arc::new(jobs), daemon: Arc::new(this_daemon()) };
    let (ending, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&sockets) => match accepted {
                Ok(stream) => {
                    connections.spawn(server.clone().connection(stream, ended.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // The files first: whoever finds none asks again, while a queued connection would hang.
    drop((files, sockets, server));
    ending.send_replace(true);
    drain(connections, drained, &limits, &stop).await;
    Ok(())
}

fn this_daemon() -> admin::Version {
    admin::Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: admin::API,
        pid: std::process::id(),
        started: Timestamp::now(),
    }
}

async fn accept(sockets: &[UnixListener]) -> io::Result<UnixStream> {
    poll_fn(|cx| {
        for socket in sockets {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

#[derive(Debug, Clone)]
struct Server {
    jobs: Arc<Jobs>,
    daemon: Arc<admin::Version>,
}

impl Server {
    /// Answers the requests of one connection, one after another.
    async fn connection(self, stream: UnixStream, mut ended: watch::Receiver<bool>) {
        let exchange = Exchange::default();
        let peer = stream.peer_cred().ok();
        let io = TokioIo::new(Connection::new(stream, exchange.clone()));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.jobs.limits.header);
        let progress = exchange.clone();
        let service =
            service_fn(move |request| self.clone().answer(exchange.clone(), peer, request));
        let mut connection = pin!(builder.serve_connection(io, service));
        let ended = async move { drop(ended.wait_for(|ended| *ended).await) };
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = ended => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = left_waiting(&progress) => return,
                }
            }
        };
        if let Err(error) = served {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(%error, cause, "a connection ended early");
        }
    }

    async fn answer(
        self,
        exchange: Exchange,
        peer: Option<UCred>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Closed> {
        exchange.begin();
        let id = RequestId::next();
        let reply = async {
            let reply = handler::handle(&self.jobs, &self.daemon, request).await;
            reply.inspect_err(|closed| tracing::warn!("{closed}"))
        };
        let reply = reply.instrument(calls::span(id, peer)).await?.of_request(id);
        exchange.answer(reply.mount);
        Ok(reply.response)
    }
}

/// Resolves when a connection has been asked to end and no request is under way on it. hyper
/// closes what is idle by itself, but waits on for the rest of a head that is half there.
async fn left_waiting(exchange: &Exchange) {
    loop {
        tokio::time::sleep(HEAD_AT_STOP).await;
        if exchange.is_waiting() {
            return;
        }
    }
}

/// Waits for connections and then for jobs, which may outlive the connections that asked for them.
async fn drain(mut connections: JoinSet<()>, mut drained: Drained, limits: &Limits, stop: &Stop) {
    let begun = Instant::now();
    let mut ended = pin!(async {
        while connections.join_next().await.is_some() {}
        // Nothing is ever sent: this is the end of the last sender.
        drained.recv().await;
    });
    if tokio::time::timeout_at(begun + limits.stop_grace, &mut ended).await.is_ok() {
        return;
    }
    tracing::info!("calling off the requests that are still waiting");
    stop.stop();
    if tokio::time::timeout_at(begun + limits.drain, &mut ended).await.is_err() {
        tracing::warn!("stopped with requests still at work; the next start recovers from that");
    }
}

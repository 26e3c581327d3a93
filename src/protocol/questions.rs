//! HTTP for those who only ask: metrics, the page for people, and the gate before it.
//!
//! A request that is malformed or too slow costs its own connection. Of connections there are at most
//! so many at once: the next one waits in the kernel's queue until one of them has ended.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::server::ACCEPT_PAUSE;

/// Who answers.
pub(crate) trait Answer: Send + Sync + 'static {
    /// The answer to a request. Nobody answers for it that its body was read.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// The time for the head of a request, or between two requests.
    pub(crate) head: Duration,
    /// The time for all of it, where it is for one request only; `None`: it may stay.
    pub(crate) one_request_in: Option<Duration>,
    /// How many connections there are at once.
    pub(crate) connections: usize,
}

/// Answers whoever comes, for as long as it is polled.
pub(crate) async fn serve<S, A>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    allowance: Allowance,
    answer: Arc<A>,
) -> Infallible
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answer,
{
    let places = Arc::new(Semaphore::new(allowance.connections));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("they are never closed");
        match poll_fn(&accept).await {
            Ok(stream) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    connection(stream, allowance, answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S, A: Answer>(stream: S, allowance: Allowance, answer: Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = Arc::clone(&answer);
        async move { Ok::<_, Infallible>(answer.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(allowance.head);
    builder.keep_alive(allowance.one_request_in.is_none());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let served = match allowance.one_request_in {
        None => served.await,
        Some(limit) => match tokio::time::timeout(limit, served).await {
            Ok(served) => served,
            Err(_) => return tracing::debug!("a connection took too long"),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

//! The page over HTTP: who may ask for what, and what browsers are told about it.
//!
//! * Nobody is asked who they are, so that only the loopback is listened on. A web site that somebody
//!   on this host looks at could still have its name point here (DNS rebinding): a request for another
//!   host's name is refused.
//! * The answers bring nothing from elsewhere and run no script but the one that is served here. They
//!   are neither framed nor kept.
//! * GET and HEAD are answered, and change nothing. A connection is for one request.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HOST, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;

use super::filter::Filter;
use super::frame::{Moment, Page};
use super::reader::Reader;
use super::{overview, volume};
use crate::protocol::path;
use crate::protocol::questions::{self, Allowance, Answer};
use crate::protocol::reply::response;
use crate::volume::VolumeName;

/// A browser that is told to wait has its answer in a few seconds.
const ALLOWANCE: Allowance = Allowance {
    head: Duration::from_secs(10),
    one_request_in: Some(Duration::from_secs(30)),
    connections: 64,
};

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What every answer tells the browser.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// Shows the page, for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, shown: Shown) -> Infallible {
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    questions::serve(accept, ALLOWANCE, Arc::new(shown)).await
}

/// What is shown, and where.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) reader: Reader,
    pub(super) host: String,
    pub(super) address: SocketAddr,
}

impl Answer for Shown {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.is_meant(&request) {
            let text = "This page is for the host that it runs on: ask for it by the address that it \
                        listens on, or as localhost.\n";
            return respond(StatusCode::MISDIRECTED_REQUEST, TEXT, text);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused =
                respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "This page only looks.\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/" => self.overview(&Filter::of_query(request.uri().query())).await,
            "/page.css" => {
                respond(StatusCode::OK, "text/css; charset=utf-8", include_str!("page.css"))
            }
            "/page.js" => {
                respond(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("page.js"))
            }
            "/icon.svg" => respond(StatusCode::OK, "image/svg+xml", include_str!("icon.svg")),
            path => match volume_of(path) {
                Some(volume) => self.volume(&volume).await,
                None => {
                    respond(StatusCode::NOT_FOUND, TEXT, "There is nothing of that name here.\n")
                }
            },
        }
    }
}

impl Shown {
    async fn overview(&self, filter: &Filter) -> Response<Full<Bytes>> {
        let (overview, findings) = tokio::join!(self.reader.overview(), self.reader.findings());
        self.show(StatusCode::OK, |of| overview::page(&overview, &findings, filter, of))
    }

    async fn volume(&self, name: &VolumeName) -> Response<Full<Bytes>> {
        let seen = self.reader.overview().await;
        let Some(overview) = seen.value() else { return self.overview(&Filter::default()).await };
        let Some(volume) = overview.volumes.iter().find(|volume| volume.name == *name) else {
            return self.show(StatusCode::NOT_FOUND, |of| volume::absent(name, &seen, of));
        };
        let details = match volume.status.as_of {
            None => Some(self.reader.details(name).await),
            Some(_) => None,
        };
        self.show(StatusCode::OK, |of| {
            volume::page(volume, (overview, &seen), details.as_ref(), of)
        })
    }

    fn show(
        &self,
        status: StatusCode,
        page: impl FnOnce(Moment<'_>) -> Page,
    ) -> Response<Full<Bytes>> {
        let of = Moment { now: Timestamp::now(), host: &self.host };
        respond(status, HTML, page(of).document(of))
    }

    /// Was it this page that was asked for, and not another that leads here?
    fn is_meant<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None, None) = (hosts.next(), hosts.next(), request.uri().authority())
        else {
            return false;
        };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| is_ours(host.host(), self.address.ip()))
    }
}

/// Is that this host, or the address that is listened on? The port is another one behind `ssh -L`.
fn is_ours(host: &str, listening: IpAddr) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        // An address can be nobody's name.
        Ok(address) => address.is_loopback() || address == listening || listening.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn volume_of(path: &str) -> Option<VolumeName> {
    path::decode(path.strip_prefix("/volumes/")?)?.parse().ok()
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    let mut response = response(status, content_type, body);
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_and_the_address_that_is_listened_on_are_ours() {
        let loopback = "127.0.0.1".parse().expect("an address");
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.53", "[::1]"] {
            assert!(is_ours(host, loopback), "{host}");
        }
        for host in ["example.org", "localhost.example.org", "192.0.2.7", "[2001:db8::1]", ""] {
            assert!(!is_ours(host, loopback), "{host}");
        }
        let all = "0.0.0.0".parse().expect("an address");
        assert!(is_ours("192.0.2.7", all) && !is_ours("example.org", all));
    }
}

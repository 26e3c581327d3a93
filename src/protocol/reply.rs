//! What goes back over the connection, in either language.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode, header};
use serde::Serialize;

use super::admin::{Kind, Refusal};
use super::delivery::Undelivered;
use super::request_id::RequestId;
use super::wire;
use crate::service::VolumeError;

/// An answer, and the mount that is undone where it does not arrive.
#[derive(Debug)]
pub(super) struct Reply {
    /// The answer; of an error only its head, until the request is known.
    pub(super) response: Response<Full<Bytes>>,
    pub(super) mount: Option<Undelivered>,
    error: Option<Error>,
}

/// An error, in the language of who asked.
#[derive(Debug)]
enum Error {
    Plugin(String),
    Admin(Refusal),
}

pub(super) const JSON: &str = "application/json";

/// The connection is closed with no byte of an answer, because any answer would be a lie.
///
/// To hyper this is a service that failed: before the head of a response is there, it ends the
/// connection and writes nothing.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer: {0}")]
pub(super) struct Closed(pub(super) String);

impl Reply {
    /// An answer to the engine.
    pub(super) fn plugin(answer: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, wire::CONTENT_TYPE, body(answer))
    }

    /// An error to the engine. It shows the text to its user, with the call's name before it.
    pub(super) fn plugin_error(status: StatusCode, error: impl Into<String>) -> Self {
        let error = Some(Error::Plugin(error.into()));
        Self { error, ..Self::new(status, wire::CONTENT_TYPE, Full::default()) }
    }

    /// An answer to the operator's tool.
    pub(super) fn admin(answer: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, JSON, body(answer))
    }

    /// An error to the operator's tool.
    pub(super) fn refusal(kind: Kind, error: impl Into<String>) -> Self {
        let error = Some(Error::Admin(Refusal { error: error.into(), kind }));
        Self { error, ..Self::new(status_of(kind), JSON, Full::default()) }
    }

    /// What a verb answered, to the operator's tool.
    pub(super) fn admin_result<T: Serialize>(result: Result<T, VolumeError>) -> Self {
        match result {
            Ok(answer) => Self::admin(&answer),
            Err(error) => Self::refusal(error.kind.into(), error.to_string()),
        }
    }

    /// The same, where an error says whose it is: by this the log's lines are found.
    pub(super) fn of_request(mut self, id: RequestId) -> Self {
        let said = |error: String| format!("{error} (request {id})");
        let written = self.error.take().map(|error| match error {
            Error::Plugin(error) => body(&wire::PlainAnswer { err: said(error) }),
            Error::Admin(Refusal { error, kind }) => body(&Refusal { error: said(error), kind }),
        });
        if let Some(written) = written {
            *self.response.body_mut() = written;
        }
        self
    }

    fn new(status: StatusCode, content_type: &'static str, body: Full<Bytes>) -> Self {
        Self { response: response(status, content_type, body), mount: None, error: None }
    }
}

/// An answer of that type.
pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// The status of a refusal.
pub(super) fn status_of(kind: Kind) -> StatusCode {
    StatusCode::from_u16(kind.status()).expect("kinds have valid statuses")
}

pub(super) fn body(answer: &impl Serialize) -> Full<Bytes> {
    let body = serde_json::to_vec(answer).expect("answers are plain data with text keys");
    Full::from(body)
}

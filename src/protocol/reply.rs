//! What goes back over the connection, in either language.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode, header};
use serde::Serialize;

use super::admin::{Kind, Refusal};
use super::delivery::Undelivered;
use super::wire;
use crate::service::VolumeError;

/// An answer, and the mount that is undone where it does not arrive.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response<Full<Bytes>>,
    pub(super) mount: Option<Undelivered>,
}

/// The connection is closed with no byte of an answer, because any answer would be a lie.
///
/// To hyper this is a service that failed: before the head of a response is there, it ends the
/// connection and writes nothing.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer: {0}")]
pub(super) struct Closed(pub(super) String);

impl From<Response<Full<Bytes>>> for Reply {
    fn from(response: Response<Full<Bytes>>) -> Self {
        Self { response, mount: None }
    }
}

impl Reply {
    /// An answer to the engine.
    pub(super) fn plugin(answer: &impl Serialize) -> Self {
        json(StatusCode::OK, wire::CONTENT_TYPE, answer).into()
    }

    /// An error to the engine. It shows the text to its user, with the call's name before it.
    pub(super) fn plugin_error(status: StatusCode, error: impl Into<String>) -> Self {
        let answer = wire::PlainAnswer { err: error.into() };
        json(status, wire::CONTENT_TYPE, &answer).into()
    }

    /// An answer to the operator's tool.
    pub(super) fn admin(answer: &impl Serialize) -> Self {
        json(StatusCode::OK, "application/json", answer).into()
    }

    /// An error to the operator's tool.
    pub(super) fn refusal(kind: Kind, error: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(kind.status()).expect("kinds have valid statuses");
        let refusal = Refusal { error: error.into(), kind };
        json(status, "application/json", &refusal).into()
    }

    /// What a verb answered, to the operator's tool.
    pub(super) fn admin_result<T: Serialize>(result: Result<T, VolumeError>) -> Self {
        match result {
            Ok(answer) => Self::admin(&answer),
            Err(error) => Self::refusal(error.kind.into(), error.to_string()),
        }
    }
}

fn json(
    status: StatusCode,
    content_type: &'static str,
    answer: &impl Serialize,
) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(answer).expect("answers are plain data with text keys");
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

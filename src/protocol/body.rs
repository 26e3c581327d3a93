//! The body of a request: bounded in size and in time.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use serde::de::DeserializeOwned;

/// A body that is not there, or not what it should be. Nothing was done for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// Larger than any honest request.
    #[error("the request has more than {0} bytes")]
    TooLarge(usize),
    /// It did not come.
    #[error("the request's body did not arrive within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// The connection ended within it, or its encoding is wrong.
    #[error("the request's body broke off: {0}")]
    Broken(String),
    /// The engine's way of asking again.
    #[error(
        "the request has an empty body, so it names no volume: the engine sends this when it \
         repeats a request that got no answer; try again"
    )]
    Empty,
    /// No JSON, or a field is missing.
    #[error("the request cannot be read: {0}")]
    Json(serde_json::Error),
}

/// A body as it came, or why it did not.
pub(super) type Received = Result<Bytes, Unreadable>;

/// All of a body.
pub(super) async fn read(body: Incoming, limit: usize, within: Duration) -> Received {
    // A declared length is refused before anything is read.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Unreadable::TooLarge(limit));
    }
    let collected = tokio::time::timeout(within, Limited::new(body, limit).collect()).await;
    match collected.map_err(|_| Unreadable::TooSlow(within))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unreadable::TooLarge(limit)),
        Err(error) => Err(Unreadable::Broken(error.to_string())),
    }
}

/// The request that a body holds.
pub(super) fn decode<T: DeserializeOwned>(body: Received) -> Result<T, Unreadable> {
    let body = body?;
    if body.trim_ascii().is_empty() {
        return Err(Unreadable::Empty);
    }
    serde_json::from_slice(&body).map_err(Unreadable::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_is_an_error_of_its_own() {
        for body in ["", "\n", " \r\n"] {
            let read = decode::<serde_json::Value>(Ok(body.into()));
            assert!(matches!(read, Err(Unreadable::Empty)), "{body:?}: {read:?}");
        }
    }

    #[test]
    fn what_follows_a_request_makes_it_unreadable() {
        assert!(decode::<serde_json::Value>(Ok("{}\n".into())).is_ok());
        assert!(decode::<serde_json::Value>(Ok("{}{}".into())).is_err());
    }
}

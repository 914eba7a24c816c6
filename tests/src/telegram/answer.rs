//! Answers in the platform's envelope.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// Between the pieces of an answer that trickles.
const DRIP: Duration = Duration::from_millis(20);

/// What is answered, at once or piece by piece.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer before it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    retry_after: Option<u64>,
}

impl Answer {
    pub(crate) fn good(result: impl Into<Value>) -> Self {
        let body = json!({"ok": true, "result": result.into()});
        Self { status: 200, body, retry_after: None }
    }

    pub(crate) fn bad(status: u16, description: &str) -> Self {
        let body = json!({"ok": false, "error_code": status, "description": description});
        Self { status, body, retry_after: None }
    }

    pub(crate) fn with_parameters(mut self, parameters: Value) -> Self {
        if let Some(members) = self.body.as_object_mut() {
            members.insert("parameters".to_owned(), parameters);
        }
        self
    }

    pub(crate) fn too_many(seconds: u64) -> Self {
        let description = format!("Too Many Requests: retry after {seconds}");
        let answer = Self::bad(429, &description);
        let answer = answer.with_parameters(json!({"retry_after": seconds}));
        Self { retry_after: Some(seconds), ..answer }
    }

    pub(crate) fn respond(&self) -> Response<Body> {
        let mut response = page(self.status, "application/json", self.body.to_string());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A response of any type.
pub(crate) fn page(status: u16, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A response that comes a blank at a time and never ends.
pub(crate) fn trickle() -> Response<Body> {
    let drips = unfold((), |()| async {
        tokio::time::sleep(DRIP).await;
        Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
    });
    Response::new(StreamBody::new(drips).boxed_unsync())
}

//! One attempt to post an event.

use std::time::{Duration, UNIX_EPOCH};

use protocol::event::Delivery;
use protocol::rpc;
use serde_json::{Value, json};

use super::sign::Signer;
use crate::Error;
use crate::clock;
use crate::http::{Http, Stream};

/// A reply in the body of an answer.
const BODY_MAX: usize = 512 * 1024;
/// The longest wish that is granted.
const WISH_MAX: Duration = Duration::from_secs(24 * 3600);

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The receiver has it, and perhaps replies.
    Taken(Option<String>),
    /// The receiver wants nothing any more.
    Gone(String),
    /// The receiver does not have it, as far as anybody knows.
    Failed { reason: String, wish: Option<Duration> },
}

/// Posts events.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: Http,
    url: String,
    signer: Signer,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(url: &str, signer: Signer, timeout: Duration) -> Result<Self, Error> {
        Ok(Self { http: Http::new(url)?, url: url.to_owned(), signer, timeout })
    }

    pub(super) async fn post(&self, delivery: Delivery) -> Outcome {
        let id = name(&delivery);
        let body = body(delivery).to_string();
        let second = clock::unix_ms() / 1000;
        let request = self
            .http
            .fresh()
            .post(&self.url)
            .timeout(self.timeout)
            .header("content-type", "application/json")
            .header("webhook-signature", self.signer.sign(&id, second, body.as_bytes()))
            .header("webhook-timestamp", second)
            .header("webhook-id", id)
            .body(body);
        let mut answer = match Stream::open(request).await {
            Ok(answer) => answer,
            Err(no) => return Outcome::Failed { reason: no.why, wish: None },
        };
        let status = answer.status();
        let wish = answer.header("retry-after").and_then(wish);
        match status {
            200..=299 => match answer.rest(BODY_MAX).await {
                Ok(body) => Outcome::Taken(reply(&body)),
                // Its reply is lost, and it knows the event when it comes again.
                Err(reason) => Outcome::Failed { reason, wish: None },
            },
            410 => Outcome::Gone("HTTP 410: the receiver wants no events any more".into()),
            status => Outcome::Failed { reason: format!("HTTP {status}"), wish },
        }
    }
}

/// The same for every attempt at an event, and for no other event.
fn name(delivery: &Delivery) -> String {
    let whole = json!([delivery.lane.instance, delivery.event.keys]).to_string();
    let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
    let name: String = protocol::id::hex(digest.as_ref()).chars().take(32).collect();
    format!("msg_{name}")
}

fn body(delivery: Delivery) -> Value {
    let ms = u64::try_from(delivery.received_ms).unwrap_or(0);
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms));
    json!({
        "type": "message.received",
        "timestamp": at.to_string(),
        "data": rpc::Event::from(delivery),
    })
}

/// The reply in an answer: `{"text": "…"}`. Any other body is none.
fn reply(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = value.get("text")?.as_str()?;
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// `Retry-After`: seconds, or a date.
fn wish(text: &str) -> Option<Duration> {
    let ms = u64::try_from(clock::unix_ms()).unwrap_or(0);
    let now = UNIX_EPOCH + Duration::from_millis(ms);
    let wish = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).ok()?,
    };
    Some(wish.min(WISH_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_a_text_and_nothing_else_is() {
        assert_eq!(reply(br#"{"text":"hi","more":1}"#).as_deref(), Some("hi"));
        for none in ["", "ok", "{}", "[]", r#"{"text":""}"#, r#"{"text":7}"#, "<html>"] {
            assert_eq!(reply(none.as_bytes()), None, "{none}");
        }
        assert_eq!(wish("7"), Some(Duration::from_secs(7)));
        assert_eq!((wish("soon"), wish("-1")), (None, None));
    }
}

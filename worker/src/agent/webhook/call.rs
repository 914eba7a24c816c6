//! One attempt to post an event.

use std::time::{Duration, UNIX_EPOCH};

use protocol::event::Delivery;
use protocol::rpc;
use protocol::worker::Network;
use serde_json::{Value, json};

use super::sign::Signer;
use crate::Error;
use crate::clock;
use crate::http::{Http, Stream};

/// The body of an answer: more than any reply, however it is escaped.
const BODY_MAX: usize = 4 * 1024 * 1024;
/// The longest wish that is granted.
const WISH_MAX: Duration = Duration::from_secs(24 * 3600);

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The receiver has it, and says this to it.
    Taken(Said),
    /// The receiver wants nothing any more.
    Gone(String),
    /// The receiver does not have it, as far as anybody knows.
    Failed { reason: String, wish: Option<Duration> },
}

/// What the body of an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// A reply.
    Reply(String),
    /// Nothing.
    Nothing,
    /// Perhaps a reply, but nobody can read it: why.
    Garbled(String),
    /// More than a reply may have.
    TooLarge(String),
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
    pub(super) fn new(
        url: &str,
        signer: Signer,
        timeout: Duration,
        network: &Network,
    ) -> Result<Self, Error> {
        Ok(Self { http: Http::over(url, network)?, url: url.to_owned(), signer, timeout })
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
            .header("accept-encoding", "identity")
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
        let packed = answer.packed();
        match status {
            200..=299 => match answer.rest(BODY_MAX + 1).await {
                Ok(body) if body.len() > BODY_MAX => {
                    let why = format!("the answer has more than {BODY_MAX} bytes");
                    Outcome::Taken(Said::TooLarge(why))
                }
                Ok(body) => match packed.filter(|_| !body.is_empty()) {
                    Some(why) => Outcome::Taken(Said::Garbled(why)),
                    None => Outcome::Taken(said(&body)),
                },
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

/// The reply in an answer: `{"text": "…"}`. Other JSON is none, nor is a word like `ok`.
fn said(body: &[u8]) -> Said {
    let Some(value) = crate::json::lenient(body) else {
        let why = match body.trim_ascii_start().first() {
            Some(b'{' | b'[' | b'"') => "its JSON is broken",
            Some(b'<') => "it is a page, as a proxy would answer",
            _ if !is_text(body) => "it is no text",
            _ => return Said::Nothing,
        };
        return Said::Garbled(why.into());
    };
    match value.get("text") {
        Some(Value::String(text)) if !text.trim().is_empty() => Said::Reply(text.clone()),
        Some(Value::String(_) | Value::Null) | None => Said::Nothing,
        Some(_) => Said::Garbled("its text is no string".into()),
    }
}

/// Whether these are words, and not bytes of some other kind.
fn is_text(body: &[u8]) -> bool {
    let is_odd = |c: char| c.is_control() && !c.is_whitespace();
    std::str::from_utf8(body).is_ok_and(|text| !text.contains(is_odd))
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
        assert_eq!(said(br#"{"text":"hi","more":1}"#), Said::Reply("hi".into()));
        assert_eq!(said(br#"{"text":"hi \ud83d"}"#), Said::Reply("hi \u{fffd}".into()));
        for none in ["", "ok", "{}", "[]", "null", r#"{"text":""}"#, r#"{"text":null}"#] {
            assert_eq!(said(none.as_bytes()), Said::Nothing, "{none}");
        }
        for garbled in [r#"{"text":7}"#, r#"{"text":"hi""#, " <html>", "[", "\"hi"] {
            assert!(matches!(said(garbled.as_bytes()), Said::Garbled(_)), "{garbled}");
        }
        assert!(matches!(said(b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), Said::Garbled(_)), "gzip");
        assert!(matches!(said(b"\0\x01\x02"), Said::Garbled(_)), "bytes");
        assert_eq!(said("d\u{fc}rfen\r\n\t".as_bytes()), Said::Nothing);
        assert_eq!(wish("7"), Some(Duration::from_secs(7)));
        assert_eq!((wish("soon"), wish("-1")), (None, None));
    }
}

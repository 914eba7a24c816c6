//! Events that the platform posts to us, instead of the long connection.
//!
//! Anybody who finds the address may post there, so a request counts only if it knows a secret: a
//! signature over its bytes with the encrypt key, or the verification token. What is older than five
//! minutes is refused, so that a recorded request is of no use for long. 2xx means the same as an answer
//! over the long connection: the event is stored and need not come again.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join, select};
use futures_util::stream::poll_fn;
use protocol::worker::{FeishuWebhook, Outside, Ready, Secret};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{timeout, timeout_at};

use super::receive::{self, Reply};
use super::seal::{Seal, old_signature, same};
use super::{IDEMPOTENT_MS, Shared};
use crate::clock;
use crate::json::{lenient, member, parse, text_of};
use crate::listener::{self, Answer, Head, Limits, Site};
use crate::platform::Note;

const LIMITS: Limits = Limits {
    head: 16 * 1024,
    body: 4 * 1024 * 1024,
    head_within: Duration::from_secs(30),
    body_within: Duration::from_secs(10),
    answer_within: Duration::from_millis(2800),
    connections: 256,
    last: Duration::from_secs(1),
};
/// The platform waits 3 s, the way there and back included.
const ANSWER: Duration = Duration::from_millis(2600);
/// Events under way at once. More wait for them, and for an answer in vain.
const UNDER_WAY: usize = 256;
/// How far the platform's clock may be from ours, in seconds.
const WINDOW: i64 = 300;
/// How often it is told that the listener lives. The platform gives no sign of its own.
const PROGRESS: Duration = Duration::from_secs(10);
const TAKEN: &str = "end what listens there, or change `listen` in [platform.feishu.webhook]";
const TIMESTAMP: &str = "x-lark-request-timestamp";
const NONCE: &str = "x-lark-request-nonce";
const SIGNATURE: &str = "x-lark-signature";
const WRONG_SIGNATURE: &str = "the signature is wrong";

/// Hears until the worker is told to stop.
pub(super) async fn hear(shared: &Shared, hook: &FeishuWebhook) {
    // Replies do not wait for that.
    let taken = async |reason: String| {
        tracing::warn!(reason, "not listening");
        let outside = Outside::Down { reason, remedy: Some(TAKEN.to_owned()) };
        shared.report.tell(Note::Outside(outside)).await;
    };
    let Some(listener) = listener::bind(hook.listen, &shared.stop, taken).await else { return };
    let account = shared.account();
    let account = match listener.local_addr() {
        Ok(addr) => format!("{account}, listening on {}", shown(addr, &hook.path)),
        Err(_) => account,
    };
    shared.api.health.connected(true);
    let ready = Ready { account, idempotent_ms: Some(IDEMPOTENT_MS) };
    shared.report.tell(Note::Ready(ready)).await;
    let (take, mut taken) = mpsc::channel(1);
    let desk = Desk { shared, hook, seal: hook.encrypt_key.as_ref().map(Seal::new), take };
    let alive = async {
        loop {
            shared.report.tell(Note::Progress).await;
            tokio::time::sleep(PROGRESS).await;
        }
    };
    let serving = join(
        listener::serve(listener, LIMITS, &desk, &shared.stop),
        shared.stop.run_until_cancelled(alive),
    );
    let taken = poll_fn(|cx| taken.poll_recv(cx));
    let settling = taken.for_each_concurrent(UNDER_WAY, |event: Way<'_>| event);
    select(pin!(serving), pin!(settling)).await;
}

/// What becomes of an event, also where nobody waits for the answer any more.
type Way<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

fn shown(addr: SocketAddr, path: &str) -> String {
    format!("http://{addr}{path}")
}

/// Who opens what is posted.
struct Desk<'a> {
    shared: &'a Shared,
    hook: &'a FeishuWebhook,
    seal: Option<Seal>,
    take: mpsc::Sender<Way<'a>>,
}

impl Site for Desk<'_> {
    fn admit(&self, head: &Head) -> Result<(), Answer> {
        if head.uri.path().trim_end_matches('/') != self.hook.path.trim_end_matches('/') {
            return Err(Answer::plain(404, "nothing is here"));
        }
        if head.method != hyper::Method::POST {
            return Err(Answer::plain(405, "events are posted"));
        }
        Ok(())
    }

    async fn answer(&self, head: Head, body: Bytes) -> Answer {
        match self.open(&head, &body, clock::unix_ms() / 1000) {
            Ok(Opened::Challenge(answer)) => {
                self.shared.api.health.vouched();
                answer
            }
            Ok(Opened::Event(payload)) => {
                self.shared.api.health.vouched();
                self.hand_in(payload).await
            }
            Err(why) => {
                self.shared.api.health.strange(why);
                self.shared.report.tell(Note::Malformed).await;
                Answer::plain(401, "refused")
            }
        }
    }
}

/// What was posted.
enum Opened {
    Challenge(Answer),
    Event(Vec<u8>),
}

impl Desk<'_> {
    /// Opens what was posted, or says why it is refused. Only we are told that: whoever learns whether something opens
    /// can open all that was ever sealed, and seal what he wants.
    fn open(&self, head: &Head, body: &[u8], now: i64) -> Result<Opened, &'static str> {
        // A question whether the address is ours is not signed. What is signed by another is not even opened.
        if let Some(seal) = &self.seal
            && head.headers.contains_key(SIGNATURE)
            && !is_signed(seal, head, body)
        {
            return Err(WRONG_SIGNATURE);
        }
        let outer = parse(body);
        let payload = match (&self.seal, text_of(&outer, "encrypt")) {
            (Some(seal), sealed) if !sealed.is_empty() => {
                seal.open(sealed).ok_or("it does not open")?
            }
            // With a key everything is sealed.
            (Some(_), _) => return Err("it is not encrypted"),
            (None, sealed) if !sealed.is_empty() => {
                return Err("it is encrypted, and there is no key");
            }
            (None, _) => body.to_vec(),
        };
        let event = lenient(&payload).unwrap_or_default();
        if text_of(&event, "type") == "url_verification" {
            self.knows_token(text_of(&event, "token"))?;
            let answer = json!({"challenge": text_of(&event, "challenge")}).to_string();
            return Ok(Opened::Challenge(Answer::json(200, answer)));
        }
        self.vouched(head, body, &event, now)?;
        let app = text_of(member(&event, "header"), "app_id");
        if !app.is_empty() && app != self.shared.api.settings.app_id {
            return Err("it is for another app");
        }
        Ok(Opened::Event(payload))
    }

    /// Whether the platform sent it.
    fn vouched(
        &self,
        head: &Head,
        body: &[u8],
        event: &Value,
        now: i64,
    ) -> Result<(), &'static str> {
        let [timestamp, nonce, signature] = signed(head);
        // A pressed card of old has no token of ours, and a signature of another kind.
        let is_old_card = event.get("header").is_none() && event.get("action").is_some();
        if let Some(seal) = &self.seal {
            if !is_signed(seal, head, body) {
                return Err(WRONG_SIGNATURE);
            }
        } else if is_old_card {
            let token = self.hook.verification_token.as_ref().map_or("", Secret::expose);
            let expected = old_signature(timestamp, nonce, token, body);
            if !same(expected.as_bytes(), signature.as_bytes()) {
                return Err(WRONG_SIGNATURE);
            }
        } else {
            return self.knows_token(token_of(event));
        }
        let at = timestamp.parse::<i64>().unwrap_or(0);
        if (now - at).abs() > WINDOW {
            return Err("it is too old, or a clock is wrong");
        }
        // What is no JSON has no token; its signature is enough.
        if is_old_card || event.is_null() { Ok(()) } else { self.knows_token(token_of(event)) }
    }

    fn knows_token(&self, token: &str) -> Result<(), &'static str> {
        match &self.hook.verification_token {
            Some(expected) if !same(expected.expose().as_bytes(), token.as_bytes()) => {
                Err("the verification token is wrong")
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn hand_in(&self, payload: Vec<u8>) -> Answer {
        let until = clock::now() + ANSWER;
        let (shared, (tell, told)) = (self.shared, oneshot::channel());
        let way: Way<'_> = Box::pin(async move {
            let handed = receive::hear(shared, &payload, "").await;
            let settled = timeout(ANSWER + shared.limits.turn, receive::settle(shared, handed));
            let _ = tell.send(settled.await.ok().flatten());
        });
        let answered = async {
            self.take.send(way).await.ok()?;
            told.await.ok()?
        };
        match timeout_at(until, answered).await {
            Ok(Some(Reply::Bare | Reply::Empty)) => Answer::json(200, &b"{}"[..]),
            Ok(None) | Err(_) => Answer::later(1),
        }
    }
}

/// When it was signed, with what, and how.
fn signed(head: &Head) -> [&str; 3] {
    let header = |name| head.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("");
    [TIMESTAMP, NONCE, SIGNATURE].map(header)
}

fn is_signed(seal: &Seal, head: &Head, body: &[u8]) -> bool {
    let [timestamp, nonce, signature] = signed(head);
    same(seal.signature(timestamp, nonce, body).as_bytes(), signature.as_bytes())
}

fn token_of(event: &Value) -> &str {
    match text_of(member(event, "header"), "token") {
        "" => text_of(event, "token"),
        token => token,
    }
}

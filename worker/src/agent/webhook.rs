//! Agent `webhook`: each event is posted to a URL, signed as Standard Webhooks says. An answer of 2xx
//! acknowledges it, and its body may carry the reply. What the receiver has to say later it posts to us.
//!
//! Whatever else happens is a failed attempt, and the next one follows the documented schedule; the
//! attempts are counted by the supervisor, which sets the event aside behind the last. The receiver knows
//! a repetition by its `webhook-id`, which no restart and no other store changes.

mod call;
mod door;
mod sign;

use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use protocol::content::Content;
use protocol::event::{Delivery, Reply};
use protocol::id::EventId;
use protocol::worker::{FromWorker, Outside, Ready, ReplyVerdict, WebhookSettings};

use self::call::{Client, Outcome, Said};
use self::door::Door;
use self::sign::Signer;
use super::{Agent, Context, Replies, ToAgent, port};
use crate::Error;
use crate::clock;
use crate::listener;

/// How long readiness holds, and how often it and all leases are renewed.
const LEASE_MS: u32 = 30_000;
const RENEW: Duration = Duration::from_secs(10);
/// What a secret is.
pub const SECRET: &str = "it must be whsec_ and the base64 of 24 to 64 bytes";
/// From one attempt to the next.
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

/// The adapter.
#[derive(Debug)]
pub struct Webhook {
    settings: WebhookSettings,
}

impl Webhook {
    /// With its settings.
    pub fn new(settings: WebhookSettings) -> Self {
        Self { settings }
    }
}

/// Whether a receiver of events can have this secret.
pub fn is_secret(text: &str) -> bool {
    Signer::new(text).is_some()
}

impl Agent for Webhook {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let WebhookSettings { url, secret, concurrency, timeout_s, listen } = self.settings;
        let signer = Signer::new(secret.expose())
            .ok_or_else(|| Error::Config { what: "read the secret".into(), why: SECRET.into() })?;
        let timeout = Duration::from_secs(u64::from(timeout_s));
        let client = Client::new(&url, signer.clone(), timeout, &context.network)?;
        let door = Door {
            signer,
            replies: context.replies.clone(),
            files: context.files.clone(),
            exchange: context.exchange.clone(),
            say: context.say.clone(),
            fetches: door::fetches(),
            strangers: Mutex::default(),
        };
        let stop = context.stop.clone();
        let mut serving = pin!(async {
            let Some(listen) = listen else { return std::future::pending().await };
            if let Some(listener) = port(listen, &door.say, &stop).await {
                listener::serve(listener, door::LIMITS, &door, &stop).await;
            }
        });
        // The rest of it may be a secret.
        let parsed = url::Url::parse(&url).ok();
        let host = parsed.as_ref().and_then(url::Url::host_str).unwrap_or_default();
        let hears = listen.map(|listen| format!(", hears at {listen}")).unwrap_or_default();
        let account = format!("posts to {host}{hears}");
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let mut renewal = tokio::time::interval(RENEW);
        let mut held = Vec::new();
        let mut is_gone = false;
        let mut is_limited = false;
        let mut work: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                // What is being said to us is finished.
                () = &mut serving => return Ok(()),
                () = context.stop.cancelled(), if listen.is_none() => return Ok(()),
                _ = renewal.tick() => {
                    if !is_gone {
                        let lease = FromWorker::Lease { ttl_ms: LEASE_MS, concurrency };
                        context.say.say(lease).await;
                    }
                    for event_id in held.iter().copied() {
                        context.say.say(FromWorker::Progress { event_id }).await;
                    }
                }
                Some(incoming) = context.incoming.recv() => {
                    let ToAgent::Deliver(delivery) = incoming else { continue };
                    if !held.contains(&delivery.event_id) {
                        held.push(delivery.event_id);
                        work.push(post(client.clone(), context.replies.clone(), delivery).boxed());
                    }
                }
                Some(Done { event_id, frame, news }) = work.next() => {
                    held.retain(|id| *id != event_id);
                    let outside = match news {
                        News::Gone(reason) => {
                            is_gone = true;
                            let lease = FromWorker::Lease { ttl_ms: 0, concurrency };
                            context.say.say(lease).await;
                            let remedy = "give this agent another url, then `hermes-gw ctl reload`; if the receiver is back, `ctl restart` it".to_owned();
                            Some(Outside::Down { reason, remedy: Some(remedy) })
                        }
                        News::Garbled(why) => {
                            is_limited = true;
                            let reason = format!("an answer of the receiver is no reply: {why}");
                            let remedy = "let it answer {\"text\": \"…\"}, or nothing".to_owned();
                            Some(Outside::Limited { reason, remedy: Some(remedy) })
                        }
                        News::Refused(_) | News::Sound if is_gone => None,
                        News::Refused(why) => {
                            is_limited = true;
                            let reason = format!("an event was not taken, and is tried again later: {why}");
                            let remedy = "look after the receiver".to_owned();
                            Some(Outside::Limited { reason, remedy: Some(remedy) })
                        }
                        News::Sound => std::mem::take(&mut is_limited).then_some(Outside::Up),
                    };
                    if let Some(outside) = outside {
                        context.say.say(FromWorker::Outside(outside)).await;
                    }
                    context.say.say(frame).await;
                }
            }
        }
    }
}

struct Done {
    event_id: EventId,
    frame: FromWorker,
    news: News,
}

/// What an attempt says of the receiver.
enum News {
    /// It answers as it should.
    Sound,
    /// What it answers to events that it takes cannot be read.
    Garbled(String),
    /// It does not take this one, for now.
    Refused(String),
    /// It wants no events any more.
    Gone(String),
}

async fn post(client: Client, replies: Replies, delivery: Box<Delivery>) -> Done {
    let event_id = delivery.event_id;
    let (attempt, lane) = (delivery.attempt, delivery.lane.clone());
    let reply_to = delivery.event.message_id.clone();
    let (frame, news) = match client.post(*delivery).await {
        Outcome::Taken(Said::Nothing) => (FromWorker::Ack { event_id }, News::Sound),
        Outcome::Taken(Said::Garbled(why)) => {
            tracing::warn!(event_id = event_id.0, %why, "taken, but the answer is no reply");
            (FromWorker::Ack { event_id }, News::Garbled(why))
        }
        // The receiver has it, and a person should know what was to be said.
        Outcome::Taken(Said::TooLarge(reason)) => {
            (FromWorker::SetAside { event_id, reason }, News::Sound)
        }
        Outcome::Taken(Said::Reply(text)) => {
            let key = format!("webhook:{event_id}");
            let reply = Reply { key, lane, reply_to, content: Content::text(text) };
            let frame = match replies.submit(reply).await {
                Some(ReplyVerdict::Accepted(_)) => FromWorker::Ack { event_id },
                Some(ReplyVerdict::Rejected(reason)) => FromWorker::SetAside { event_id, reason },
                Some(ReplyVerdict::Refused) | None => {
                    FromWorker::Defer { event_id, after_ms: 1000 }
                }
            };
            (frame, News::Sound)
        }
        Outcome::Gone(reason) => {
            // Whenever the gate opens again.
            (FromWorker::Defer { event_id, after_ms: 0 }, News::Gone(reason))
        }
        Outcome::Failed { reason, wish } => {
            let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
            let step = SCHEDULE.get(step).or(SCHEDULE.last()).copied().unwrap_or(RENEW);
            let pause = wish.unwrap_or_default().max(step + clock::jitter(step / 10));
            tracing::warn!(
                event_id = event_id.0,
                attempt,
                reason,
                pause_s = pause.as_secs(),
                "not taken"
            );
            let after_ms = u64::try_from(pause.as_millis()).ok();
            let news = News::Refused(reason.clone());
            (FromWorker::Nack { event_id, reason, after_ms }, news)
        }
    };
    Done { event_id, frame, news }
}

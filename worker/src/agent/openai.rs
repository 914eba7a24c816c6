//! Agent `openai`: a server of chat completions, one conversation for each lane.
//!
//! The server knows nothing of events: a turn is a streamed request, and it is over when its whole answer
//! is stored as a reply. Until then the event is ours to hand back: without a mark against it where the
//! server did not take it, with one where the turn died. What the server says about itself (429, 503, a
//! wrong key) shuts the gate for all, not for one event.

mod health;
mod history;
mod request;
mod sse;
mod status;
mod turn;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use protocol::content::Content;
use protocol::event::{ChatType, Delivery, Reply};
use protocol::id::EventId;
use protocol::worker::{FromWorker, Memory, OpenAiSettings, Outside, Ready, ReplyVerdict};

use self::health::{Health, Shut};
use self::history::History;
use self::request::{Client, Outcome};
use self::status::Failure;
use super::{Agent, Context, ToAgent};
use crate::Error;
use crate::clock;

/// How long readiness holds, how often it is looked at, and how often leases of events are renewed.
const LEASE_MS: u32 = 30_000;
const RENEW: Duration = Duration::from_secs(10);
/// The store is busy: again after so long.
const STORE_AGAIN_MS: u64 = 1000;

/// The adapter.
#[derive(Debug)]
pub struct OpenAi {
    settings: OpenAiSettings,
}

impl OpenAi {
    /// With its settings.
    pub fn new(settings: OpenAiSettings) -> Self {
        Self { settings }
    }
}

/// What came to its end.
enum Done {
    Turn {
        delivery: Box<Delivery>,
        question: String,
        shortened: bool,
        outcome: Outcome,
    },
    Reply {
        delivery: Box<Delivery>,
        question: String,
        answer: String,
        verdict: Option<ReplyVerdict>,
    },
    Looked(Result<(), Shut>),
}

type Work = FuturesUnordered<BoxFuture<'static, Done>>;

struct Desk {
    client: Client,
    memory: Memory,
    system: Option<String>,
    concurrency: u32,
    history: History,
    health: Health,
    held: BTreeSet<EventId>,
    work: Work,
}

impl Agent for OpenAi {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let OpenAiSettings { memory, concurrency, .. } = self.settings;
        let account = format!("{} at {}", self.settings.model, self.settings.base_url);
        let system = self.settings.system.clone();
        let mut desk = Desk {
            client: Client::new(self.settings)?,
            memory,
            system,
            concurrency,
            history: History::default(),
            health: Health::new(clock::now()),
            held: BTreeSet::new(),
            work: Work::new(),
        };
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let reason = "the server was not asked yet".to_owned();
        context.say.say(FromWorker::Outside(Outside::Down { reason, remedy: None })).await;
        let mut renewal = tokio::time::interval(RENEW);
        loop {
            let due = desk.health.due();
            tokio::select! {
                // Closing a connection is how the server learns that nobody waits any more.
                () = context.stop.cancelled() => return Ok(()),
                Some(incoming) = context.incoming.recv() => {
                    if let ToAgent::Deliver(delivery) = incoming {
                        if delivery.event.kind.is_said() {
                            desk.take(delivery);
                        } else {
                            // A server of completions has no ear for what nobody says.
                            let event_id = delivery.event_id;
                            context.say.say(FromWorker::Ack { event_id }).await;
                        }
                    }
                }
                Some(done) = desk.work.next() => desk.done(done, &context).await,
                _ = renewal.tick() => {
                    for event_id in desk.held.iter().copied() {
                        context.say.say(FromWorker::Progress { event_id }).await;
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => {
                    desk.health.looking();
                    let client = desk.client.clone();
                    desk.work.push(async move { Done::Looked(client.look().await) }.boxed());
                }
            }
        }
    }
}

impl Desk {
    fn take(&mut self, delivery: Box<Delivery>) {
        if !self.held.insert(delivery.event_id) {
            return;
        }
        if delivery.attempt > 1 {
            let (event_id, attempt) = (delivery.event_id.0, delivery.attempt);
            tracing::warn!(event_id, attempt, "asked again: the server may have seen it");
        }
        let question = question(&delivery);
        self.ask(delivery, question, false);
    }

    fn ask(&mut self, delivery: Box<Delivery>, question: String, shortened: bool) {
        let messages = match self.memory {
            Memory::Ours => {
                self.history.messages(&delivery.lane, self.system.as_deref(), &question)
            }
            // The server keeps the conversation and reads the last message only.
            Memory::Hermes => {
                History::default().messages(&delivery.lane, self.system.as_deref(), &question)
            }
        };
        let client = self.client.clone();
        let turn = async move {
            let outcome = client.turn(&delivery.lane, messages).await;
            Done::Turn { delivery, question, shortened, outcome }
        };
        self.work.push(turn.boxed());
    }

    async fn done(&mut self, done: Done, context: &Context) {
        match done {
            Done::Looked(looked) => {
                let now = clock::now();
                if self.health.looked(looked.as_ref().err(), now) {
                    let frame = match looked {
                        Ok(()) => Outside::Up,
                        Err(shut) => shut.outside(),
                    };
                    context.say.say(FromWorker::Outside(frame)).await;
                }
                self.lease(context).await;
            }
            Done::Turn { delivery, question, shortened, outcome } => {
                self.turned(delivery, question, shortened, outcome, context).await;
            }
            Done::Reply { delivery, question, answer, verdict } => {
                let event_id = delivery.event_id;
                self.held.remove(&event_id);
                let frame = match verdict {
                    Some(ReplyVerdict::Accepted(_)) => {
                        if self.memory == Memory::Ours {
                            self.history.add(&delivery.lane, question, answer);
                        }
                        FromWorker::Ack { event_id }
                    }
                    Some(ReplyVerdict::Rejected(reason)) => {
                        FromWorker::SetAside { event_id, reason }
                    }
                    Some(ReplyVerdict::Refused) | None => {
                        FromWorker::Defer { event_id, after_ms: STORE_AGAIN_MS }
                    }
                };
                context.say.say(frame).await;
            }
        }
    }

    async fn turned(
        &mut self,
        delivery: Box<Delivery>,
        question: String,
        shortened: bool,
        outcome: Outcome,
        context: &Context,
    ) {
        let event_id = delivery.event_id;
        let frame = match outcome {
            Outcome::Answer(answer) => {
                self.health.worked();
                let replies = context.replies.clone();
                let reply = Reply {
                    key: format!("openai:{event_id}"),
                    lane: delivery.lane.clone(),
                    reply_to: delivery.event.message_id.clone(),
                    content: Content::text(answer.clone()),
                };
                let submit = async move {
                    let verdict = replies.submit(reply).await;
                    Done::Reply { delivery, question, answer, verdict }
                };
                self.work.push(submit.boxed());
                return;
            }
            Outcome::Nothing(why) => {
                tracing::warn!(event_id = event_id.0, why, "a turn without an answer");
                self.health.worked();
                FromWorker::Ack { event_id }
            }
            Outcome::Failed(Failure::TooLong(_))
                if !shortened && self.history.halve(&delivery.lane) =>
            {
                self.ask(delivery, question, true);
                return;
            }
            Outcome::Failed(Failure::Never(reason) | Failure::TooLong(reason)) => {
                FromWorker::SetAside { event_id, reason }
            }
            Outcome::Failed(Failure::Broken(reason)) => {
                tracing::warn!(event_id = event_id.0, reason, "a turn died half way");
                FromWorker::Nack { event_id, reason, after_ms: None }
            }
            Outcome::Failed(Failure::Busy(reason, wish)) => {
                self.shut(Shut { reason, wish, remedy: None }, event_id, context).await
            }
            Outcome::Failed(Failure::Setup(reason)) => {
                let remedy =
                    "check base_url, model and key of this agent, and the server".to_owned();
                self.shut(Shut { reason, wish: None, remedy: Some(remedy) }, event_id, context)
                    .await
            }
        };
        self.held.remove(&event_id);
        context.say.say(frame).await;
    }

    /// The server takes nothing now. The event waits as long as the server, and no mark stays on it.
    async fn shut(&mut self, shut: Shut, event_id: EventId, context: &Context) -> FromWorker {
        let pause = self.health.shut(&shut, clock::now());
        context.say.say(FromWorker::Outside(shut.outside())).await;
        self.lease(context).await;
        let after_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        FromWorker::Defer { event_id, after_ms }
    }

    async fn lease(&self, context: &Context) {
        let ttl_ms = if self.health.is_open() { LEASE_MS } else { 0 };
        context.say.say(FromWorker::Lease { ttl_ms, concurrency: self.concurrency }).await;
    }
}

/// What the model reads. In a group it must know who speaks.
fn question(delivery: &Delivery) -> String {
    let event = &delivery.event;
    let text = if event.text.trim().is_empty() { "(no text)" } else { &event.text };
    match &event.sender.name {
        Some(name) if event.chat_type != ChatType::Direct => format!("{name}: {text}"),
        _ => text.to_owned(),
    }
}

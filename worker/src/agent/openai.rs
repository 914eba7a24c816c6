//! Agent `openai`: a server of chat completions, one conversation for each lane.
//!
//! The server knows nothing of events: a turn is a streamed request, shown as it comes, and it is over when
//! its whole answer is stored as a reply. Until then the event is ours to hand back: without a mark against
//! it where the server did not take it, with one where the turn died. What the server says about itself
//! (429, 503, a wrong key) shuts the gate for all, not for one event.

mod blame;
mod health;
mod history;
mod images;
mod pictures;
mod request;
mod sse;
mod status;
mod turn;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use protocol::content::{self, Content, Draft, FileKind};
use protocol::event::{Abilities, Delivery, Note, Reply};
use protocol::id::{EventId, Lane};
use protocol::worker::{Broken, FromWorker, Memory, OpenAiSettings, Outside, Ready, ReplyVerdict};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::blame::{Blame, Culprit};
use self::health::{Health, Shut};
use self::history::History;
use self::pictures::Picture;
use self::request::{Client, Outcome, Watch};
use self::status::{Doubt, Failure};
use self::turn::Answer;
use super::{Agent, Context, ToAgent};
use crate::Error;
use crate::clock;
use crate::exchange::{Exchange, picture_kind};

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

/// An event on its way through the server.
struct Ask {
    delivery: Box<Delivery>,
    history: History,
    question: String,
    /// Pictures as data URLs.
    images: Vec<String>,
    /// What was left out of it to make it fit.
    is_shortened: bool,
}

/// What came to its end.
enum Done {
    Asked(Box<Ask>),
    Turn(Box<Ask>, Outcome),
    Reply(EventId, Option<ReplyVerdict>),
    Looked(Result<(), Shut>),
}

type Work = FuturesUnordered<BoxFuture<'static, Done>>;

struct Desk {
    client: Client,
    memory: Memory,
    system: Option<String>,
    takes_images: bool,
    broken: Broken,
    concurrency: u32,
    health: Health,
    blame: Blame,
    held: BTreeMap<EventId, CancellationToken>,
    work: Work,
}

impl Agent for OpenAi {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let OpenAiSettings { memory, concurrency, images, broken, .. } = self.settings;
        let account = format!("{} at {}", self.settings.model, self.settings.base_url);
        let system = self.settings.system.clone();
        let mut desk = Desk {
            client: Client::new(self.settings, &context.network)?,
            memory,
            system,
            takes_images: images,
            broken,
            concurrency,
            health: Health::new(clock::now()),
            blame: Blame::default(),
            held: BTreeMap::new(),
            work: Work::new(),
        };
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let can = Abilities { interrupt: true, steer: false };
        context.say.say(FromWorker::Can(can)).await;
        let reason = "the server was not asked yet".to_owned();
        context.say.say(FromWorker::Outside(Outside::Down { reason, remedy: None })).await;
        let mut renewal = tokio::time::interval(RENEW);
        loop {
            let due = desk.health.due();
            tokio::select! {
                // Closing a connection is how the server learns that nobody waits any more.
                () = context.stop.cancelled() => return Ok(()),
                Some(incoming) = context.incoming.recv() => match incoming {
                    ToAgent::Deliver(delivery) => desk.take(delivery, &context).await,
                    ToAgent::Interrupt(event_id) => {
                        if let Some(stop) = desk.held.get(&event_id) {
                            stop.cancel();
                        }
                    }
                    ToAgent::Settled(_) | ToAgent::Receipt(_) | ToAgent::Steer { .. } => {}
                },
                Some(done) = desk.work.next() => desk.done(done, &context).await,
                _ = renewal.tick() => {
                    for event_id in desk.held.keys().copied() {
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
    async fn take(&mut self, delivery: Box<Delivery>, context: &Context) {
        let event_id = delivery.event_id;
        // The server keeps a conversation itself, or we do.
        let history = match self.memory {
            Memory::Ours => History::read(&delivery.session.note),
            Memory::Hermes => History::default(),
        };
        // A server of completions has no ear for what nobody says.
        if !delivery.event.kind.is_said() || history.has_answered(event_id.0) {
            context.say.say(FromWorker::Ack { event_id }).await;
            return;
        }
        if self.held.contains_key(&event_id) {
            return;
        }
        self.held.insert(event_id, CancellationToken::new());
        if delivery.attempt > 1 {
            let (event_id, attempt) = (event_id.0, delivery.attempt);
            tracing::warn!(event_id, attempt, "asked again: the server may have seen it");
        }
        let question = super::question(&delivery);
        let takes_images = self.takes_images;
        let (files, exchange) = (context.files.clone(), context.exchange.clone());
        let mut ask = Ask { delivery, history, question, images: Vec::new(), is_shortened: false };
        if takes_images && !ask.delivery.event.parts.is_empty() {
            let bring = async move {
                let (images, left_out) = images::bring(&ask.delivery, &files, &exchange).await;
                ask.images = images;
                if left_out > 0 {
                    // Or the model would take what it sees for all there is.
                    let pictures = if left_out == 1 { "picture" } else { "pictures" };
                    ask.question.push_str(&format!(
                        "\n[{left_out} {pictures} of this message cannot be shown]"
                    ));
                }
                Done::Asked(Box::new(ask))
            };
            self.work.push(bring.boxed());
        } else {
            self.ask(Box::new(ask), context);
        }
    }

    fn ask(&mut self, ask: Box<Ask>, context: &Context) {
        let content = if ask.images.is_empty() {
            // Old templates fail on a list.
            Value::String(ask.question.clone())
        } else {
            let image = |url: &String| json!({ "type": "image_url", "image_url": { "url": url } });
            let text = json!({ "type": "text", "text": ask.question });
            [text].into_iter().chain(ask.images.iter().map(image)).collect()
        };
        let messages = ask.history.messages(self.system.as_deref(), content);
        let event_id = ask.delivery.event_id;
        let watch = Watch {
            say: context.say.clone(),
            draft: Draft {
                key: key(event_id),
                lane: ask.delivery.lane.clone(),
                reply_to: ask.delivery.event.message_id.clone(),
                text: String::new(),
                message_id: None,
            },
            stop: self.held.get(&event_id).cloned().unwrap_or_default(),
        };
        let client = self.client.clone();
        let turn = async move {
            let outcome = client.turn(&ask.delivery, messages, watch).await;
            Done::Turn(ask, outcome)
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
            Done::Asked(ask) => self.ask(ask, context),
            Done::Turn(ask, outcome) => self.turned(ask, outcome, context).await,
            Done::Reply(event_id, verdict) => {
                self.held.remove(&event_id);
                let frame = match verdict {
                    Some(ReplyVerdict::Accepted(_)) => FromWorker::Ack { event_id },
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

    async fn turned(&mut self, mut ask: Box<Ask>, outcome: Outcome, context: &Context) {
        let event_id = ask.delivery.event_id;
        let frame = match outcome {
            Outcome::Answer(answer) => {
                self.worked(&ask.delivery.lane);
                let mark = answer.mark;
                return self.reply(&ask, answer, mark, context);
            }
            Outcome::Stopped(so_far) if so_far.is_empty() => {
                // What was asked is part of the conversation all the same.
                if let Some(note) = self.note(&ask, "") {
                    let lane = ask.delivery.lane.clone();
                    context.say.say(FromWorker::Remember { lane, note }).await;
                }
                FromWorker::Ack { event_id }
            }
            Outcome::Stopped(so_far) => {
                return self.reply(&ask, only(so_far), Some("stopped"), context);
            }
            Outcome::Nothing(why) => {
                tracing::warn!(event_id = event_id.0, why, "a turn without an answer");
                self.worked(&ask.delivery.lane);
                // Whoever asked would wait for ever.
                let mark = format!("no answer: {why}");
                return self.reply(&ask, only(String::new()), Some(&mark), context);
            }
            Outcome::Failed(Failure::TooLong(_), _) if !ask.is_shortened && ask.history.halve() => {
                ask.is_shortened = true;
                return self.ask(ask, context);
            }
            // A model that sees nothing is told of the picture.
            Outcome::Failed(failure, so_far)
                if !ask.images.is_empty() && so_far.is_empty() && may_be_blind(&failure) =>
            {
                let count = ask.images.len();
                ask.images.clear();
                ask.question.push_str(&format!("\n\n[{count} pictures, which you cannot see]"));
                return self.ask(ask, context);
            }
            Outcome::Failed(Failure::Never(reason), _)
                if !self.blame.is_malformed(ask.delivery.attempt) =>
            {
                self.shut(Shut::by_settings(reason), event_id, context).await
            }
            Outcome::Failed(Failure::Never(reason) | Failure::TooLong(reason), _) => {
                FromWorker::SetAside { event_id, reason }
            }
            Outcome::Failed(Failure::Broken(reason), so_far)
                if self.broken == Broken::Report && !so_far.is_empty() =>
            {
                tracing::warn!(event_id = event_id.0, reason, "a turn died half way; it is told");
                return self.reply(&ask, only(so_far), Some("broken off"), context);
            }
            Outcome::Failed(failure, _) => {
                let (doubt, reason, wish) = match failure {
                    Failure::Broken(reason) => (Doubt::Broken, reason, None),
                    Failure::Busy(reason, wish) => (Doubt::Busy, reason, wish),
                    Failure::Setup(reason) => (Doubt::Key, reason, None),
                    Failure::Unclear(doubt, reason) => (doubt, reason, None),
                    Failure::Never(reason) | Failure::TooLong(reason) => {
                        (Doubt::Failed, reason, None)
                    }
                };
                self.doubted(&ask.delivery, doubt, (reason, wish), context).await
            }
        };
        self.held.remove(&event_id);
        context.say.say(frame).await;
    }

    /// Hands the answer in, and with it what is to be remembered.
    fn reply(&mut self, ask: &Ask, answer: Answer, mark: Option<&str>, context: &Context) {
        let event_id = ask.delivery.event_id;
        let Answer { text, pictures, .. } = answer;
        let mut said = text.clone();
        said.push_str(&"\n[picture]".repeat(pictures.len()));
        let note = self.note(ask, said.trim());
        let text = match mark {
            Some(mark) => format!("{text}\n\n({mark})").trim_start().to_owned(),
            None => text,
        };
        let mut reply = Reply {
            key: key(event_id),
            lane: ask.delivery.lane.clone(),
            reply_to: ask.delivery.event.message_id.clone(),
            content: Content::text(text),
        };
        let (replies, exchange) = (context.replies.clone(), context.exchange.clone());
        let submit = async move {
            for picture in pictures {
                put(picture, &exchange, &mut reply.content).await;
            }
            Done::Reply(event_id, replies.submit_with(reply, note).await)
        };
        self.work.push(submit.boxed());
    }

    fn note(&self, ask: &Ask, answer: &str) -> Option<Note> {
        let ours = self.memory == Memory::Ours;
        let mut question = ask.question.clone();
        if !ask.images.is_empty() {
            question.push_str(&"\n[picture]".repeat(ask.images.len()));
        }
        ours.then(|| Note {
            epoch: ask.delivery.session.epoch,
            bytes: ask.history.note(ask.delivery.event_id.0, &question, answer),
        })
    }

    fn worked(&mut self, lane: &Lane) {
        self.health.worked();
        self.blame.worked(lane);
    }

    /// A turn failed, and nobody says whose fault it is.
    async fn doubted(
        &mut self,
        delivery: &Delivery,
        doubt: Doubt,
        (reason, wish): (String, Option<Duration>),
        context: &Context,
    ) -> FromWorker {
        let event_id = delivery.event_id;
        let shut = match doubt {
            Doubt::Denied | Doubt::Key => Shut::by_settings(reason.clone()),
            Doubt::Failed | Doubt::Broken | Doubt::Away | Doubt::Busy => {
                Shut { reason: reason.clone(), wish, remedy: None }
            }
        };
        let counted = |reason: String, pause: Duration| {
            tracing::warn!(event_id = event_id.0, reason, "a turn failed");
            let after_ms = u64::try_from(pause.as_millis()).ok();
            FromWorker::Nack { event_id, reason, after_ms }
        };
        match self.blame.failed(doubt, &delivery.lane, delivery.attempt) {
            Culprit::Question(pause) => counted(reason, pause),
            Culprit::Server => self.shut(shut, event_id, context).await,
            Culprit::Both => {
                self.shut(shut, event_id, context).await;
                counted(reason, Duration::ZERO)
            }
        }
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

/// Words alone.
fn only(text: String) -> Answer {
    Answer { text, pictures: Vec::new(), mark: None }
}

/// Puts a picture where the platform finds it. One that cannot be put there is told of.
async fn put(picture: Picture, exchange: &Exchange, content: &mut Content) {
    let Picture { title, mime, bytes } = picture;
    let kind = match picture_kind(&bytes) {
        Some(_) => FileKind::Image,
        None => FileKind::File,
    };
    let end = mime.trim_start_matches("image/").split('+').next().unwrap_or("png");
    let made = async {
        let mut making = exchange.begin(&format!("picture.{end}")).await?;
        making.write(&bytes).await?;
        making.finish(Some(mime.clone())).await
    };
    match made.await {
        Ok(made) => content.files.push(content::File { kind, file: made.file, title }),
        Err(why) => {
            tracing::warn!(%why, "a picture of an answer is not taken over");
            content.text.push_str(&format!("\n[a picture: {why}]"));
        }
    }
}

/// Whether a server may say this about pictures that its model cannot see.
fn may_be_blind(failure: &Failure) -> bool {
    match failure {
        Failure::Never(_) | Failure::TooLong(_) => true,
        Failure::Unclear(Doubt::Failed, reason) => reason.starts_with("HTTP 500"),
        Failure::Unclear(..) | Failure::Busy(..) | Failure::Setup(_) | Failure::Broken(_) => false,
    }
}

/// The key of the reply to an event, and of its drafts.
fn key(event_id: EventId) -> String {
    format!("openai:{event_id}")
}

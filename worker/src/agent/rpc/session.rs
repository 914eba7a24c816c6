//! One agent from its first line to its last.
//!
//! What an agent sent before its acknowledgement of an event is accepted before the acknowledgement is
//! passed on, so that a program which does not wait for our answers still cannot lose a reply. If it is not
//! accepted, the event is handed back: it comes again, and the reply's key makes its repetition harmless.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use protocol::content;
use protocol::event::{Abilities, Pause, Reply};
use protocol::id::{EventId, Instance, Lane};
use protocol::rpc::{
    self, BUSY, EventRef, INVALID_PARAMS, INVALID_REQUEST, Initialize, Initialized, KEY_MAX,
    LEASE_MS, LEASE_RANGE, Leased, Line, METHOD_NOT_FOUND, Message, NO_FILE, NOT_INITIALIZED,
    PROTOCOL, TAKEN,
};
use protocol::worker::{FromWorker, Outside, ReplyVerdict};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Permit;

use super::rivals::Rivals;
use crate::Error;
use crate::agent::{Context, Files, Submitted, ToAgent};
use crate::clock::{self, Instant};
use crate::connection::{Connection, Read, read, read_required};
use crate::exchange::Exchange;
use crate::socket::{Door, Halves};

/// Files fetched at once for one agent.
const FETCHES: usize = 16;

/// An agent is heard until so much of what it said has no verdict yet: bytes of replies, and replies and
/// acknowledgements.
const UNSETTLED: usize = 4 * 1024 * 1024;
const TURNS: usize = 1024;
/// Replies that were not accepted and have not been said again: so many are known.
const OWED: usize = 256;

/// Others that are told at once why they are turned away.
const REFUSED: usize = 16;

/// How a session ended.
pub(in crate::agent) enum Ended {
    /// We are told to end.
    Stopped,
    /// The agent is gone, and why.
    Gone(String),
    /// Another agent takes its place.
    Replaced((Halves, Option<u32>)),
}

/// What must become known in the order in which the agent said it.
enum Turn {
    Reply { id: Value, key: String, lane: Box<Lane>, bytes: usize, verdict: Option<ReplyVerdict> },
    Ack(EventId),
}

/// One agent.
pub(in crate::agent) struct Session<R, W> {
    connection: Connection<R, W>,
    most: u32,
    concurrency: u32,
    initialized: bool,
    /// Events that it has not answered yet.
    held: BTreeMap<EventId, Lane>,
    /// What it took into its work on another event, by that event.
    taken_in: Vec<(EventId, EventId)>,
    ready_until: Option<Instant>,
    heard: Instant,
    /// Replies in the order in which they came, until they are handed in.
    replies: VecDeque<Submitted>,
    turns: FuturesOrdered<BoxFuture<'static, Turn>>,
    /// Of replies without a verdict, in bytes.
    unsettled: usize,
    /// Keys of replies that were not accepted and have not been said again, and where they belong.
    owed: BTreeMap<String, Lane>,
    fetches: FuturesUnordered<BoxFuture<'static, (Value, Called)>>,
    rivals: Rivals,
    /// Those that are just being told that they are turned away.
    refused: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// Where rivals of the agent come from, if any can.
async fn knock(door: Option<&mut Door>) -> Result<(Halves, Option<u32>), Error> {
    match door {
        Some(door) => door.accept().await,
        None => std::future::pending().await,
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<R, W> {
    pub(in crate::agent) fn new(connection: Connection<R, W>, most: u32) -> Self {
        Self {
            connection,
            most,
            concurrency: most,
            initialized: false,
            held: BTreeMap::new(),
            taken_in: Vec::new(),
            ready_until: None,
            heard: clock::now(),
            replies: VecDeque::new(),
            turns: FuturesOrdered::new(),
            unsettled: 0,
            owed: BTreeMap::new(),
            fetches: FuturesUnordered::new(),
            rivals: Rivals::default(),
            refused: FuturesUnordered::new(),
        }
    }

    /// Serves the agent to its end. Rivals come by `door`. One that is silent for `patience` although
    /// it should speak (to introduce itself, or to renew its readiness) is at its end.
    pub(in crate::agent) async fn serve(
        &mut self,
        context: &mut Context,
        mut door: Option<&mut Door>,
        patience: Option<Duration>,
    ) -> Ended {
        let mut heard_before = true;
        loop {
            let hears = self.unsettled < UNSETTLED && self.turns.len() < TURNS;
            let begins_again = !std::mem::replace(&mut heard_before, hears);
            if !hears || begins_again {
                // It may have spoken, and we did not listen.
                self.heard = clock::now();
            }
            let patience = patience.filter(|_| hears);
            let silent = patience.and_then(|patience| self.silent_at(patience));
            let alone = self.rivals.until();
            tokio::select! {
                () = context.stop.cancelled() => return Ended::Stopped,
                permit = context.replies.permit(), if !self.replies.is_empty() => self.hand_in(permit),
                Some(turn) = self.turns.next() => self.take(turn, context).await,
                Some((id, fetched)) = self.fetches.next() => self.answer(&id, fetched),
                Some(incoming) = context.incoming.recv() => self.forward(incoming, context).await,
                () = tokio::time::sleep_until(silent.unwrap_or(self.heard)), if silent.is_some() => {
                    return Ended::Gone("it fell silent".into());
                }
                Some(()) = self.refused.next() => {}
                () = tokio::time::sleep_until(alone.unwrap_or(self.heard)), if alone.is_some() => {
                    let outside = self.rivals.stay_away();
                    context.say.say(FromWorker::Outside(outside)).await;
                }
                accepted = knock(door.as_deref_mut()) => {
                    // Without a door there are no rivals; who listens there sees to it when this agent is gone.
                    let Ok(newcomer) = accepted else { continue };
                    if self.ready_until.is_none_or(|until| until <= clock::now()) {
                        return Ended::Replaced(newcomer);
                    }
                    if let Some(outside) = self.rivals.came(newcomer.1, clock::now()) {
                        tracing::warn!(pid = ?newcomer.1, "a second agent is turned away");
                        context.say.say(FromWorker::Outside(outside)).await;
                    }
                    if self.refused.len() < REFUSED {
                        let why = "another agent is connected and ready";
                        self.refused.push(Connection::new(newcomer.0).turn_away(TAKEN, why).boxed());
                    }
                }
                read = self.connection.read(), if hears => {
                    self.heard = clock::now();
                    match read {
                        Read::Line(line) => self.hear(line, context).await,
                        Read::Wrong(code, why) => {
                            self.connection.fault(&Value::Null, code, why);
                        }
                        Read::End(why) => {
                            self.settle_turns(context).await;
                            return Ended::Gone(why);
                        }
                    }
                }
            }
        }
    }

    /// When the agent should have spoken at the latest. One that paused may be silent for ever.
    fn silent_at(&self, patience: Duration) -> Option<Instant> {
        match (self.initialized, self.ready_until) {
            (true, None) => None,
            (true, Some(until)) => Some(until.max(self.heard) + patience),
            (false, _) => Some(self.heard + patience),
        }
    }

    /// What is already written for the agent is given a moment to reach it.
    pub(in crate::agent) async fn goodbye(&mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.connection.finish()).await;
    }

    /// An agent that hung up right after its last words is still heard.
    async fn settle_turns(&mut self, context: &Context) {
        loop {
            tokio::select! {
                permit = context.replies.permit(), if !self.replies.is_empty() => self.hand_in(permit),
                turn = self.turns.next() => match turn {
                    Some(turn) => self.take(turn, context).await,
                    None => break,
                },
            }
        }
    }

    /// One after the other, so that none overtakes another.
    fn hand_in(&mut self, permit: Option<Permit<'_, Submitted>>) {
        match permit {
            Some(permit) => drop(self.replies.pop_front().map(|reply| permit.send(reply))),
            // The worker ends; without a verdict they are as good as refused.
            None => self.replies.clear(),
        }
    }

    async fn forward(&mut self, incoming: ToAgent, context: &Context) {
        match incoming {
            ToAgent::Deliver(delivery) => {
                let id = format!("{}.{}", delivery.event_id, delivery.attempt);
                self.held.insert(delivery.event_id, delivery.lane.clone());
                let event = rpc::Event::from(*delivery);
                self.connection.request(&id, "event.deliver", &event);
            }
            ToAgent::Settled(id) => {
                let params = EventRef { event_id: id.to_string() };
                self.connection.notify("event.settled", &params);
            }
            ToAgent::Interrupt(id) => {
                let params = EventRef { event_id: id.to_string() };
                self.connection.notify("event.interrupt", &params);
            }
            ToAgent::Steer { event_id, more } => {
                let id = format!("{}.in.{event_id}", more.event_id);
                let event =
                    rpc::Event { steers: Some(event_id.to_string()), ..rpc::Event::from(*more) };
                self.connection.request(&id, "event.deliver", &event);
            }
            ToAgent::Receipt(receipt) => {
                let id = receipt.id;
                self.connection.notify("message.receipt", &Message::from(receipt));
                context.say.say(FromWorker::Told { id }).await;
            }
        }
    }

    /// Whether something that belongs to an event in `lane` was not accepted. What belongs to one that is handed back
    /// is said again, if at all.
    fn is_owed(&mut self, lane: Option<&Lane>) -> bool {
        let Some(lane) = lane else { return !std::mem::take(&mut self.owed).is_empty() };
        self.owed.extract_if(.., |_, of| of == lane).count() > 0
    }

    async fn take(&mut self, turn: Turn, context: &Context) {
        match turn {
            Turn::Ack(event_id) => {
                let lane = self.held.remove(&event_id);
                let with = self.taken_in.extract_if(.., |(work, _)| *work == event_id);
                let with: Vec<_> = with.map(|(_, taken)| taken).collect();
                if self.is_owed(lane.as_ref()) {
                    context.say.say(FromWorker::Defer { event_id, after_ms: 1000 }).await;
                    return;
                }
                for event_id in with.into_iter().chain([event_id]) {
                    context.say.say(FromWorker::Ack { event_id }).await;
                }
            }
            Turn::Reply { id, key, lane, bytes, verdict } => {
                self.unsettled -= bytes;
                self.owed.remove(&key);
                match verdict {
                    Some(ReplyVerdict::Accepted(receipt)) => {
                        self.connection.result(&id, &Message::from(receipt));
                    }
                    Some(ReplyVerdict::Rejected(why)) => {
                        self.connection.fault(&id, INVALID_PARAMS, why);
                    }
                    Some(ReplyVerdict::Refused) | None => {
                        if self.owed.len() < OWED {
                            self.owed.insert(key, *lane);
                        }
                        self.connection.fault(&id, BUSY, "not accepted now: send it again");
                    }
                }
            }
        }
    }

    async fn hear(&mut self, line: Line, context: &Context) {
        match (line.method.as_deref(), line.id) {
            (Some(method), id) => {
                let params = line.params.as_ref().map_or("null", |p| p.get());
                self.call(method, params, id.unwrap_or(Value::Null), context).await;
            }
            (None, Some(id)) => {
                let Some(event_id) = delivery_of(&id) else {
                    // Not by its name: the agent may have asked something by the same.
                    let why = "an answer to no request of ours";
                    self.connection.fault(&Value::Null, INVALID_REQUEST, why);
                    return;
                };
                if let Some(work) = taken_into(&id) {
                    // What it does not take in is offered in its turn.
                    let taken = line.error.is_none();
                    context.say.say(FromWorker::Steered { event_id, taken }).await;
                    if line.error.is_none() && self.held.contains_key(&work) {
                        self.taken_in.push((work, event_id));
                    } else if line.error.is_none() {
                        self.turns.push_back(async move { Turn::Ack(event_id) }.boxed());
                    }
                    return;
                }
                match line.error {
                    None => self.turns.push_back(async move { Turn::Ack(event_id) }.boxed()),
                    Some(fault) => {
                        let after_ms = fault.data.and_then(|data| data.retry_after_ms);
                        let reason = format!("{} ({})", fault.message, fault.code);
                        let lane = self.held.remove(&event_id);
                        self.is_owed(lane.as_ref());
                        self.taken_in.retain(|(work, _)| *work != event_id);
                        context.say.say(FromWorker::Nack { event_id, reason, after_ms }).await;
                    }
                }
            }
            (None, None) => {
                let why = "neither a request nor an answer";
                self.connection.fault(&Value::Null, INVALID_REQUEST, why);
            }
        }
    }

    async fn call(&mut self, method: &str, params: &str, id: Value, context: &Context) {
        if !self.initialized && method != "initialize" {
            self.connection.fault(&id, NOT_INITIALIZED, "initialize comes first");
            return;
        }
        let done = match method {
            "initialize" => self.initialize(params, context).await,
            "ready" => self.ready(params, context).await,
            "paused" => {
                self.ready_until = None;
                context.say.say(FromWorker::Paused(Pause::Asked)).await;
                Ok(Value::Object(serde_json::Map::new()))
            }
            "delivery.progress" => progress(params, context).await,
            "message.send" => match reply(params) {
                Ok(reply) => {
                    let (key, lane) = (reply.key.clone(), Box::new(reply.lane.clone()));
                    let bytes = params.len();
                    self.unsettled += bytes;
                    let (submitted, answer) = Submitted::new(reply, None);
                    self.replies.push_back(submitted);
                    let turn = async move {
                        let verdict = answer.await.ok();
                        Turn::Reply { id, key, lane, bytes, verdict }
                    };
                    self.turns.push_back(turn.boxed());
                    return;
                }
                Err(fault) => Err(fault),
            },
            "message.draft" => draft(params, context).await,
            "file.fetch" => {
                if self.fetches.len() >= FETCHES {
                    let why = format!("{FETCHES} files are being fetched: wait for one of them");
                    self.connection.fault(&id, BUSY, why);
                    return;
                }
                let (files, exchange) = (context.files.clone(), context.exchange.clone());
                self.fetches.push(fetch(id, params.to_owned(), files, exchange).boxed());
                return;
            }
            other => Err((METHOD_NOT_FOUND, format!("there is no method {other:?}"))),
        };
        self.answer(&id, done);
    }

    fn answer(&mut self, id: &Value, called: Called) {
        match called {
            // A notification gets no answer.
            _ if id.is_null() => {}
            Ok(result) => self.connection.result(id, &result),
            Err((code, message)) => self.connection.fault(id, code, message),
        }
    }

    async fn initialize(&mut self, params: &str, context: &Context) -> Called {
        let params: Initialize = read(params)?;
        if params.protocol.is_some_and(|version| version != PROTOCOL) {
            return Err((INVALID_PARAMS, format!("this gateway speaks protocol {PROTOCOL}")));
        }
        self.initialized = true;
        self.concurrency = params.concurrency.unwrap_or(self.most).clamp(1, self.most);
        context.say.say(FromWorker::Outside(Outside::Up)).await;
        let can = Abilities { interrupt: params.interrupt, steer: params.steer };
        context.say.say(FromWorker::Can(can)).await;
        let gateway = concat!("hermes-gw ", env!("CARGO_PKG_VERSION")).to_owned();
        let concurrency = self.concurrency;
        let exchange = context.exchange.dir().to_owned();
        Ok(json(&Initialized { protocol: PROTOCOL, gateway, concurrency, exchange }))
    }

    async fn ready(&mut self, params: &str, context: &Context) -> Called {
        let params: rpc::Ready = read(params)?;
        let lease_ms = params.lease_ms.unwrap_or(LEASE_MS);
        let ttl_ms = lease_ms.clamp(*LEASE_RANGE.start(), *LEASE_RANGE.end());
        self.ready_until = Some(clock::now() + Duration::from_millis(u64::from(ttl_ms)));
        let concurrency = self.concurrency;
        context.say.say(FromWorker::Lease { ttl_ms, concurrency }).await;
        Ok(json(&Leased { lease_ms: ttl_ms }))
    }
}

fn reply(params: &str) -> Result<Reply, (i32, String)> {
    let send: rpc::Send = read_required(params)?;
    let wrong = |why: &str| (INVALID_PARAMS, why.to_owned());
    if send.key.is_empty() || send.key.len() > KEY_MAX {
        return Err(wrong("key must have 1 to 200 bytes"));
    }
    let content = send.content().map_err(|why| wrong(&why))?;
    let lane = lane(send.instance, send.chat_id, send.thread_id)?;
    Ok(Reply { key: send.key, lane, reply_to: send.reply_to, content })
}

fn lane(
    instance: String,
    chat_id: String,
    thread_id: Option<String>,
) -> Result<Lane, (i32, String)> {
    let instance = Instance::new(instance).map_err(|e| (INVALID_PARAMS, e.to_string()))?;
    Ok(Lane { instance, chat_id, thread_id })
}

async fn draft(params: &str, context: &Context) -> Called {
    let draft: rpc::Draft = read_required(params)?;
    if draft.key.is_empty() || draft.key.len() > KEY_MAX {
        return Err((INVALID_PARAMS, "key must have 1 to 200 bytes".into()));
    }
    let draft = content::Draft {
        key: draft.key,
        lane: lane(draft.instance, draft.chat_id, draft.thread_id)?,
        reply_to: draft.reply_to,
        text: draft.text,
        message_id: None,
    };
    context.say.say(FromWorker::Draft(Box::new(draft))).await;
    Ok(Value::Object(serde_json::Map::new()))
}

/// The answer to a wish for bytes, and whose it is.
async fn fetch(id: Value, params: String, files: Files, exchange: Exchange) -> (Value, Called) {
    let fetched = async {
        let fetch: rpc::Fetch = read_required(&params)?;
        let instance =
            Instance::new(fetch.instance).map_err(|e| (INVALID_PARAMS, e.to_string()))?;
        let (message_id, part) = (fetch.message_id, fetch.part);
        let fetched = files.fetch(content::Fetch { instance, message_id, part }).await;
        let fetched = fetched.map_err(|why| (NO_FILE, why))?;
        let path = exchange.path(&fetched.file).unwrap_or_default();
        Ok(json(&rpc::File { path, size: fetched.size, mime: fetched.mime }))
    };
    let called = fetched.await;
    (id, called)
}

type Called = Result<Value, (i32, String)>;

async fn progress(params: &str, context: &Context) -> Called {
    let named: EventRef = read_required(params)?;
    let event_id =
        named.event_id.parse().map(EventId).map_err(|_| {
            (INVALID_PARAMS, format!("{:?} is no event_id of ours", named.event_id))
        })?;
    context.say.say(FromWorker::Progress { event_id }).await;
    Ok(Value::Object(serde_json::Map::new()))
}

/// The event that our request of this id delivered.
fn delivery_of(id: &Value) -> Option<EventId> {
    id.as_str()?.split_once('.')?.0.parse().ok().map(EventId)
}

/// The event into whose work the one that our request of this id brought was to be taken.
fn taken_into(id: &Value) -> Option<EventId> {
    id.as_str()?.split_once(".in.")?.1.parse().ok().map(EventId)
}

fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

//! Delivering events: which connection, which frames, how often, and what counts as an answer.
//!
//! Each event goes to one connection chosen by chance. Unanswered after the time limit, answered with another code than
//! 200, or without a connection at all, it comes again by the schedule, with the same event id and a new delivery id.
//! How the real platform counts a push without a connection is not known; here it has failed at once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::answers::{Delivery, key_of};
use super::frame::{DATA, Frame};
use super::observe::Observation;
use super::state::{KnownMessage, Outgoing, Shared, State};
use crate::clock;

/// How an event travels. [`Push::default`] is one whole frame.
#[derive(Debug, Clone)]
pub struct Push {
    /// The `type` header: `event`, or `card` for the old card callbacks.
    pub frame_type: String,
    /// Where to cut the payload, in bytes; empty for one whole frame. A cut may fall inside a character.
    pub cuts: Vec<usize>,
    /// The order in which the parts are sent; empty for their own order.
    pub order: Vec<usize>,
    /// The pause between two parts.
    pub gap: Duration,
    /// Sends the last part once more.
    pub repeat_last: bool,
    /// Header keys to leave out, besides those of the settings.
    pub omit: Vec<&'static str>,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            frame_type: "event".to_owned(),
            cuts: Vec::new(),
            order: Vec::new(),
            gap: Duration::ZERO,
            repeat_last: false,
            omit: Vec::new(),
        }
    }
}

impl Push {
    /// In `parts` parts of about the same size, the last one first.
    pub fn chunked(payload_bytes: usize, parts: usize) -> Self {
        let cuts = (1..parts).map(|part| payload_bytes * part / parts).collect();
        Self { cuts, order: (0..parts).rev().collect(), ..Self::default() }
    }

    fn parts<'a>(&self, payload: &'a [u8]) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        let mut rest = payload;
        let mut done = 0;
        for cut in &self.cuts {
            assert!(done < *cut && cut - done < rest.len(), "a cut at {cut} leaves an empty part");
            let (part, after) = rest.split_at(cut - done);
            parts.push(part);
            rest = after;
            done = *cut;
        }
        parts.push(rest);
        parts
    }
}

/// A good answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack {
    /// From the (last) push to the answer.
    pub latency: Duration,
    /// Which push it answered, from 1.
    pub attempt: u32,
    pub connection: u64,
    /// What the peer says it needed, in milliseconds.
    pub biz_rt: Option<i64>,
    /// The decoded `data` member.
    pub data: Option<Value>,
}

/// How far an event has come.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// The attempts so far, with or without a connection.
    pub attempts: u32,
    /// The pushes so far.
    pub pushes: u32,
    /// Answers after the time limit.
    pub late: u32,
    /// How it ended, if it has.
    pub end: Option<End>,
    pub(crate) verdict: Option<Result<Ack, i64>>,
}

/// How an event ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    Acked(Ack),
    /// The schedule is over.
    GivenUp,
}

/// An event under way.
#[derive(Clone)]
pub struct EventHandle {
    pub(crate) shared: Arc<Shared>,
    app: Arc<str>,
    event_id: Arc<str>,
    event: Arc<Value>,
    progress: watch::Receiver<Progress>,
}

impl EventHandle {
    /// The id that stays the same over all pushes.
    pub fn event_id(&self) -> &str {
        &self.event_id
    }

    /// The event as it was pushed.
    pub fn event(&self) -> &Value {
        &self.event
    }

    /// `event.message.message_id`, if there is one.
    pub fn message_id(&self) -> Option<&str> {
        self.event.pointer("/event/message/message_id")?.as_str()
    }

    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// How often it was put on a connection.
    pub fn pushes(&self) -> u32 {
        self.progress().pushes
    }

    pub fn is_acked(&self) -> bool {
        matches!(self.progress().end, Some(End::Acked(_)))
    }

    /// Waits for the end, however long it takes.
    pub async fn ended(&self) -> End {
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| progress.end.is_some()).await {
            Ok(progress) => progress.end.clone().unwrap_or(End::GivenUp),
            Err(_) => End::GivenUp,
        }
    }

    /// Waits for a good answer. Panics when the schedule is over without one.
    pub async fn acked(&self) -> Ack {
        match self.ended().await {
            End::Acked(ack) => ack,
            End::GivenUp => {
                panic!("event {} was given up{}", self.event_id, self.shared.journal.tail())
            }
        }
    }

    /// Waits for a good answer. Panics, with the journal, when there is none within `limit`.
    pub async fn acked_within(&self, limit: Duration) -> Ack {
        let Ok(ack) = tokio::time::timeout(limit, self.acked()).await else {
            let (id, tail) = (&self.event_id, self.shared.journal.tail());
            panic!("event {id} has no answer within {limit:?}{tail}");
        };
        ack
    }

    /// Waits until it was put on a connection `count` times. Panics, with the journal, after `limit`.
    pub async fn pushed_within(&self, count: u32, limit: Duration) {
        let mut progress = self.progress.clone();
        let wait = progress.wait_for(|progress| progress.pushes >= count);
        let Ok(Ok(_)) = tokio::time::timeout(limit, wait).await else {
            let (id, tail) = (&self.event_id, self.shared.journal.tail());
            panic!("event {id} was not pushed {count} times within {limit:?}{tail}");
        };
    }

    /// The name of the app.
    pub fn app(&self) -> &str {
        &self.app
    }
}

/// Starts delivering an event.
pub(crate) fn start(shared: &Arc<Shared>, app: &str, event: Value, push: Push) -> EventHandle {
    let event_id = event
        .pointer("/header/event_id")
        .or_else(|| event.get("uuid"))
        .and_then(Value::as_str)
        .expect("an event has header.event_id, or uuid in its old form");
    let event_id: Arc<str> = event_id.into();
    known(shared, &event);
    if event.pointer("/header/event_type").is_some_and(|kind| kind == "card.action.trigger")
        && let Some(token) = event.pointer("/event/token").and_then(Value::as_str)
    {
        shared.state().card_tokens.insert(token.to_owned(), 2);
    }
    let (sender, progress) = watch::channel(Progress::default());
    let app: Arc<str> = app.into();
    let task = Task {
        shared: shared.clone(),
        app: app.clone(),
        event_id: event_id.clone(),
        payload: event.to_string().into_bytes(),
        push,
        progress: sender,
    };
    let stop = shared.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = task.drive() => {}
        }
    });
    EventHandle { shared: shared.clone(), app, event_id, event: Arc::new(event), progress }
}

/// A message in an event can be replied to from now on; one that is taken back says no more what it said.
pub(crate) fn known(shared: &Shared, event: &Value) {
    if let Some(message) = event.pointer("/event/message") {
        let sender = event.pointer("/event/sender/sender_id/open_id").and_then(Value::as_str);
        remember(&mut shared.state(), message, sender.unwrap_or_default());
    }
    if event.pointer("/header/event_type").is_some_and(|it| it == "im.message.recalled_v1")
        && let Some(id) = event.pointer("/event/message_id").and_then(Value::as_str)
        && let Some(message) = shared.state().messages.get_mut(id)
    {
        message.recalled = true;
    }
}

fn remember(state: &mut State, message: &Value, sender: &str) {
    let text = |key: &str| {
        let found = message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(str::to_owned)
    };
    let (Some(message_id), Some(chat_id)) = (text("message_id"), text("chat_id")) else { return };
    if text("chat_type").as_deref() == Some("p2p") {
        state.direct.insert(chat_id.clone());
    }
    let inside = state.messages.remove(&message_id).map(|known| known.inside);
    let known = KnownMessage {
        chat_id,
        root_id: text("root_id"),
        parent_id: text("parent_id"),
        thread_id: text("thread_id"),
        sender: sender.to_owned(),
        msg_type: text("message_type").unwrap_or_default(),
        content: text("content").unwrap_or_default(),
        mentions: mentions(message),
        created_ms: text("create_time").and_then(|ms| ms.parse().ok()).unwrap_or(0),
        inside: inside.unwrap_or_default(),
        ..KnownMessage::default()
    };
    state.messages.insert(message_id, known);
}

/// In events each has all its ids, in the history one.
fn mentions(message: &Value) -> Vec<Value> {
    let told = message.get("mentions").and_then(Value::as_array).into_iter().flatten();
    told.map(|it| {
        json!({
            "key": it["key"], "name": it["name"], "tenant_key": "tenant",
            "id": it.pointer("/id/open_id").unwrap_or(&Value::Null), "id_type": "open_id",
        })
    })
    .collect()
}

struct Task {
    shared: Arc<Shared>,
    app: Arc<str>,
    event_id: Arc<str>,
    payload: Vec<u8>,
    push: Push,
    progress: watch::Sender<Progress>,
}

impl Task {
    async fn drive(self) {
        let schedule = self.shared.state().settings.schedule.clone();
        let mut pauses = schedule.pauses.iter();
        let mut progress = self.progress.subscribe();
        loop {
            let mut opened = self.shared.opened.subscribe();
            if let Some(deadline) = self.push_once(schedule.answer_within).await {
                let answer = progress
                    .wait_for(|progress| progress.verdict.is_some() || progress.end.is_some());
                // The verdict is read below; running into the deadline is one too.
                let _ = timeout_at(deadline, answer).await;
                self.note_silence();
            }
            // A value of its own: the borrow must be over before the end is written.
            let verdict = self.progress.borrow().verdict.clone();
            if let Some(Ok(ack)) = verdict {
                self.end(End::Acked(ack));
            }
            if self.progress.borrow().end.is_some() {
                return;
            }
            let Some(pause) = pauses.next() else { break };
            let at_once = self.shared.state().settings.push_on_connect;
            tokio::select! {
                () = sleep(*pause) => {}
                _ = progress.wait_for(|progress| progress.end.is_some()) => return,
                _ = opened.changed(), if at_once => {}
            }
        }
        self.shared
            .journal
            .note(&self.app, Observation::GivenUp { event_id: self.event_id.to_string() });
        self.end(End::GivenUp);
    }

    fn note_silence(&self) {
        let progress = self.progress.borrow().clone();
        if progress.verdict.is_none() && progress.end.is_none() {
            let (event_id, attempt) = (self.event_id.to_string(), progress.attempts);
            self.shared.journal.note(&self.app, Observation::Unanswered { event_id, attempt });
        }
    }

    fn end(&self, end: End) {
        self.progress.send_if_modified(|progress| {
            let open = progress.end.is_none();
            if open {
                progress.end = Some(end);
            }
            open
        });
    }

    /// One attempt; returns the deadline of its answer, or none when the app has no connection.
    async fn push_once(&self, answer_within: Duration) -> Option<Instant> {
        let mut attempt = 0;
        self.progress.send_modify(|progress| {
            progress.attempts += 1;
            progress.verdict = None;
            attempt = progress.attempts;
        });
        let prepared = self.prepare(attempt, answer_within);
        let event_id = self.event_id.to_string();
        let Some((connection, delivery_id, deadline, frames)) = prepared else {
            self.shared.journal.note(&self.app, Observation::Missed { event_id, attempt });
            return None;
        };
        let pushed = Observation::Pushed { connection, event_id, delivery_id, attempt };
        self.shared.journal.note(&self.app, pushed);
        let mut due = Instant::now();
        for frame in frames {
            // The timer would take a millisecond for no time at all.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            send(&self.shared, connection, Outgoing::Binary(frame.encode()));
            due += self.push.gap;
        }
        // Not before: what is pushed after this one comes after it.
        self.progress.send_modify(|progress| progress.pushes += 1);
        Some(deadline)
    }

    /// Chooses a connection, makes the frames and writes the delivery down.
    fn prepare(
        &self,
        attempt: u32,
        answer_within: Duration,
    ) -> Option<(u64, String, Instant, Vec<Frame>)> {
        let mut guard = self.shared.state();
        let state = &mut *guard;
        let connection = state.any_socket(&self.app)?;
        let id = state.fresh_id("");
        let trace_id = state.fresh_id("");
        let log_id = state.log_id();
        let socket = state.sockets.get_mut(&connection)?;
        let settings = &state.settings;
        let parts = self.push.parts(&self.payload);
        let keep =
            |key: &str| !self.push.omit.contains(&key) && !settings.omitted_headers.contains(&key);
        let timestamp = clock::wall_ms().to_string();
        let mut frames = Vec::new();
        let order = match self.push.order.as_slice() {
            [] => (0..parts.len()).collect(),
            order => order.to_vec(),
        };
        for index in order {
            let part = parts.get(index).expect("the order names parts that exist");
            socket.frames += 1;
            let mut frame = Frame {
                seq_id: socket.frames,
                log_id,
                service: socket.service_id,
                method: DATA,
                payload: Some(part.to_vec()),
                log_id_new: Some(trace_id.clone()),
                ..Frame::default()
            };
            for (key, value) in [
                ("type", self.push.frame_type.clone()),
                ("message_id", id.clone()),
                ("sum", parts.len().to_string()),
                ("seq", index.to_string()),
                ("trace_id", trace_id.clone()),
                ("timestamp", timestamp.clone()),
                ("instance_id", settings.instance_id.clone()),
            ] {
                if keep(key) {
                    frame = frame.with(key, value);
                }
            }
            frames.push(frame);
        }
        if self.push.repeat_last {
            frames.extend(frames.last().cloned());
        }
        let completing = Frame { payload: None, ..frames.last()?.clone() };
        let gaps = u32::try_from(frames.len() - 1).unwrap_or(u32::MAX);
        let pushed = Instant::now() + self.push.gap * gaps;
        let deadline = pushed + answer_within;
        let delivery = Delivery {
            connection,
            event_id: self.event_id.clone(),
            id: id.clone(),
            pushed,
            deadline,
            attempt,
            answered: false,
            progress: self.progress.clone(),
            frame: completing,
        };
        state.deliveries.insert(key_of(connection, &delivery.frame), delivery);
        Some((connection, id, deadline, frames))
    }
}

/// Hands something to a connection; it is lost, as on a real network, when the connection is gone or choked.
pub(crate) fn send(shared: &Shared, connection: u64, what: Outgoing) {
    let outgoing = shared.state().sockets.get(&connection).map(|socket| socket.outgoing.clone());
    if let Some(outgoing) = outgoing {
        let _ = outgoing.try_send(what);
    }
}

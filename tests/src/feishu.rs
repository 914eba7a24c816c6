//! A simulated Feishu: discovery, long connection and open API on loopback, for one or several apps.
//!
//! It behaves as the real platform is documented to, or was observed to; where neither is known, a setting chooses. It
//! speaks `http` and `ws`, judges its peers strictly ([`Feishu::violations`]), writes down what happens
//! ([`Observation`]) and can be made to fail in every way a network or a platform does ([`Fault`]).
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//! use tests::feishu::Feishu;
//!
//! let feishu = Feishu::start().await;
//! feishu.add_app("cli_a", "secret", "ou_bot");
//! // … point a client at feishu.base_url() …
//! feishu.wait_connected("cli_a", 1, Duration::from_secs(10)).await;
//! let event = feishu.push_text("cli_a", "oc_chat", "ou_user", "hello");
//! event.acked_within(Duration::from_secs(3)).await;
//! let reply = feishu.wait_sent(Duration::from_secs(10), |sent| sent.receive_id == "oc_chat").await;
//! assert_eq!(reply.text().as_deref(), Some("hello"));
//! assert!(feishu.violations().is_empty());
//! # }
//! ```

mod answers;
mod builders;
mod cards;
mod change;
mod discovery;
mod faults;
mod files;
pub mod frame;
mod messages;
mod observe;
mod push;
mod reactions;
mod rest;
mod server;
mod socket;
mod state;
#[cfg(test)]
mod tests;
mod webhook;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

pub use builders::{
    Message, bot_member, card_action, chat_entered, event, menu, message_read, old_message,
    reaction, recalled, replayed,
};
pub use faults::{Fault, FaultId, Route, Scope, Times, Trouble};
pub use observe::{Ending, Entry, Observation, Rule, SentMessage, Violation};
pub use push::{Ack, End, EventHandle, Progress, Push};
pub use state::{ClientConfig, Schedule, Settings};
pub use webhook::{Posted, Webhook};

use crate::listening::Listening;
use crate::wire::Line;
use state::{App, Outgoing, Shared};

/// A running platform. Clones are the same platform; it ends with the last one.
#[derive(Clone)]
pub struct Feishu {
    shared: Arc<Shared>,
    addr: SocketAddr,
    listening: Arc<Listening>,
    _running: Arc<DropGuard>,
}

impl Feishu {
    /// Starts on a free port of the loopback interface.
    pub async fn start() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_on(free).await.expect("loopback has a free port")
    }

    /// Starts on this address.
    pub async fn start_on(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Shared::new();
        let running = Arc::new(shared.stop.clone().drop_guard());
        let listening = Arc::new(server::start(shared.clone(), listener, addr));
        Ok(Self { shared, addr, listening, _running: running })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What takes the place of `https://open.feishu.cn`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Registers an app. Ids of real apps begin with `cli_`.
    pub fn add_app(&self, app_id: &str, app_secret: &str, bot_open_id: &str) {
        let mut state = self.shared.state();
        let service_id = i32::try_from(state.apps.len()).unwrap_or(0) + 33_554_678;
        state.apps.insert(app_id.to_owned(), App::new(app_secret, bot_open_id, service_id));
    }

    /// Gives an app another secret; its tokens stay.
    pub fn set_secret(&self, app_id: &str, app_secret: &str) {
        if let Some(app) = self.shared.state().apps.get_mut(app_id) {
            app_secret.clone_into(&mut app.secret);
        }
    }

    /// Changes settings. A schedule counts for events pushed from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.state().settings);
    }

    /// Makes every token of the app invalid.
    pub fn revoke_tokens(&self, app_id: &str) {
        if let Some(app) = self.shared.state().apps.get_mut(app_id) {
            app.tokens.clear();
        }
    }

    /// Makes replies to a message fail: 230011 for a recalled, 230110 for a deleted one.
    pub fn message_gone(&self, message_id: &str, code: i64) {
        if let Some(message) = self.shared.state().messages.get_mut(message_id) {
            message.gone = Some(code);
        }
    }
}

/// What apps may do, and what they made.
impl Feishu {
    /// Takes a scope away from an app, or grants it.
    pub fn grant(&self, app_id: &str, scope: &str, granted: bool) {
        if let Some(app) = self.shared.state().apps.get_mut(app_id) {
            if granted {
                app.lacks.remove(scope);
            } else {
                app.lacks.insert(scope.to_owned());
            }
        }
    }

    /// Puts bytes behind a key that stands in a message; `kind` is `image` or `file`.
    pub fn put_resource(&self, key: &str, kind: &str, mime: &str, bytes: &[u8]) {
        let resource = state::Resource {
            mime: mime.to_owned(),
            bytes: bytes::Bytes::copy_from_slice(bytes),
            app: None,
            kind: kind.to_owned(),
        };
        self.shared.state().resources.insert(key.to_owned(), resource);
    }

    /// Says what a message forwards: type, sender, content and mentions of each.
    pub fn put_forwarded(&self, message_id: &str, inside: &[(&str, &str, Value, Value)]) {
        let items = inside.iter().map(|(kind, sender, content, mentions)| {
            json!({
                "message_id": format!("om_in_{message_id}"),
                "upper_message_id": message_id,
                "msg_type": kind,
                "sender": {"id": sender, "id_type": "open_id", "sender_type": "user"},
                "body": {"content": content.to_string()},
                "mentions": mentions,
            })
        });
        let items = items.collect();
        let mut state = self.shared.state();
        state.messages.entry(message_id.to_owned()).or_default().inside = items;
    }

    /// What people see of a message: its words, whatever its form, with what has become of it since.
    pub fn shown(&self, message_id: &str) -> Option<String> {
        let state = self.shared.state();
        let message = state.messages.get(message_id).filter(|message| message.gone.is_none())?;
        let card = state.cards.values().find(|it| it.message_id.as_deref() == Some(message_id));
        let content = match card {
            Some(card) => card.content.clone(),
            None => serde_json::from_str(&message.content).ok()?,
        };
        let mut words = Vec::new();
        collect(&content, &mut words);
        Some(words.join("\n"))
    }

    /// Whether the card that a message shows still streams.
    pub fn streams(&self, message_id: &str) -> bool {
        let state = self.shared.state();
        let shown = |it: &&state::Card| it.message_id.as_deref() == Some(message_id);
        state.cards.values().find(shown).is_some_and(|card| card.streams.is_some())
    }
}

/// The words in a text, a post or a card.
fn collect(content: &Value, words: &mut Vec<String>) {
    match content {
        Value::Array(values) => values.iter().for_each(|value| collect(value, words)),
        Value::Object(members) => {
            for name in ["text", "content"] {
                if let Some(text) = members.get(name).and_then(Value::as_str) {
                    words.push(text.to_owned());
                }
            }
            members.values().filter(|it| !it.is_string()).for_each(|it| collect(it, words));
        }
        _ => {}
    }
}

/// Events.
impl Feishu {
    /// Delivers an event to the app; `header.app_id` is filled in. Panics when the event has no id: `header.event_id`, or
    /// `uuid` in the old form.
    pub fn push_event(&self, app_id: &str, event: Value) -> EventHandle {
        self.push_event_as(app_id, event, Push::default())
    }

    /// Delivers an event in a particular way.
    pub fn push_event_as(&self, app_id: &str, mut event: Value, push: Push) -> EventHandle {
        if let Some(header) = event.get_mut("header").and_then(Value::as_object_mut) {
            header.entry("app_id").or_insert_with(|| json!(app_id));
        }
        push::start(&self.shared, app_id, event, push)
    }

    /// Delivers a message.
    pub fn push_message(&self, app_id: &str, message: Message) -> EventHandle {
        self.push_event(app_id, message.build())
    }

    /// Delivers a text that a user wrote to the bot directly.
    pub fn push_text(&self, app_id: &str, chat_id: &str, sender: &str, text: &str) -> EventHandle {
        self.push_message(app_id, Message::direct(chat_id, sender).text(text))
    }

    /// Posts an event, once; status and body of the answer.
    pub async fn post_event(&self, hook: &Webhook, event: Value) -> io::Result<(u16, Value)> {
        push::known(&self.shared, &event);
        hook.post(&hook.request(event)).await
    }

    /// Delivers the same message under a new event id.
    pub fn replay(&self, earlier: &EventHandle) -> EventHandle {
        self.push_event(earlier.app(), replayed(earlier.event()))
    }
}

/// What happened.
impl Feishu {
    /// Everything so far.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.read(<[Entry]>::to_vec)
    }

    /// The time since the start, as in [`Entry::at`].
    pub fn now(&self) -> Duration {
        self.shared.journal.now()
    }

    /// The entries after the first `seen`, as soon as there are any.
    pub async fn entries_after(&self, seen: usize) -> Vec<Entry> {
        let look = |entries: &[Entry]| entries.get(seen..).map(<[Entry]>::to_vec);
        let more = |entries: &[Entry]| look(entries).filter(|entries| !entries.is_empty());
        self.shared.journal.find(Duration::MAX, more).await.unwrap_or_default()
    }

    /// How many entries of the journal `counts` says yes to.
    pub fn count(&self, mut counts: impl FnMut(&Entry) -> bool) -> usize {
        self.shared.journal.read(|entries| entries.iter().filter(|entry| counts(entry)).count())
    }

    /// The messages that were sent, in order.
    pub fn sent(&self) -> Vec<SentMessage> {
        self.shared.journal.read(|entries| entries.iter().filter_map(sent).cloned().collect())
    }

    /// The rules that were broken.
    pub fn violations(&self) -> Vec<Violation> {
        let broken = |entry: &Entry| match &entry.what {
            Observation::Violation(violation) => Some(violation.clone()),
            _ => None,
        };
        self.shared.journal.read(|entries| entries.iter().filter_map(broken).collect())
    }

    /// The open connections of an app.
    pub fn connections(&self, app_id: &str) -> Vec<u64> {
        let state = self.shared.state();
        let own = state.sockets.iter().filter(|(_, socket)| socket.open && socket.app == app_id);
        own.map(|(id, _)| *id).collect()
    }

    /// Waits until `look` finds something in the journal. It is asked again whenever the journal has grown.
    ///
    /// Panics with `what` and the end of the journal when there is nothing within `limit`.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl FnMut(&[Entry]) -> Option<T>,
    ) -> T {
        match self.shared.journal.find(limit, look).await {
            Some(found) => found,
            None => panic!("waited {limit:?} for {what}{}", self.shared.journal.tail()),
        }
    }

    /// Waits until `count` entries are such that `counts` says yes.
    pub async fn wait_count(
        &self,
        what: &str,
        limit: Duration,
        count: usize,
        mut counts: impl FnMut(&Entry) -> bool,
    ) {
        let look = |entries: &[Entry]| {
            let found = entries.iter().filter(|entry| counts(entry)).count();
            (found >= count).then_some(())
        };
        self.wait_for(what, limit, look).await;
    }

    /// Waits for a message, sent earlier or later, that `fits`.
    pub async fn wait_sent(
        &self,
        limit: Duration,
        mut fits: impl FnMut(&SentMessage) -> bool,
    ) -> SentMessage {
        let look = |entries: &[Entry]| entries.iter().filter_map(sent).find(|it| fits(it)).cloned();
        self.wait_for("a message", limit, look).await
    }

    /// Waits until the app has at least `count` open connections.
    pub async fn wait_connected(&self, app_id: &str, count: usize, limit: Duration) {
        let look = |_: &[Entry]| (self.connections(app_id).len() >= count).then_some(());
        self.wait_for("a connection", limit, look).await;
    }

    /// Waits until the app has `count` open connections and no more: the platform notices the end of one after
    /// whoever ended it.
    pub async fn wait_connections(&self, app_id: &str, count: usize, limit: Duration) {
        let look = |_: &[Entry]| (self.connections(app_id).len() == count).then_some(());
        self.wait_for("the end of other connections", limit, look).await;
    }
}

fn sent(entry: &Entry) -> Option<&SentMessage> {
    match &entry.what {
        Observation::Sent(message) => Some(message),
        _ => None,
    }
}

/// Trouble.
impl Feishu {
    /// Lays a fault in waiting.
    pub fn fault(&self, scope: impl Into<Scope>, fault: Fault, times: Times) -> FaultId {
        let scope = scope.into();
        let mut state = self.shared.state();
        let existing = matches!(fault, Fault::BlackHole { existing: true });
        let id = state.faults.add(scope.clone(), fault, times);
        drop(state);
        if existing {
            for line in self.lines(&scope) {
                line.hold(true);
            }
        }
        id
    }

    /// Takes a fault back.
    pub fn clear(&self, fault: FaultId) {
        self.shared.state().faults.clear(fault);
        self.shared.released.notify_waiters();
        self.resume();
    }

    /// Lets go what is held; faults stay.
    pub fn release(&self) {
        self.shared.released.notify_waiters();
    }

    /// Takes all faults and waiting times of rate limits back.
    pub fn clear_faults(&self) {
        let mut state = self.shared.state();
        state.faults.clear_all();
        state.windows.clear();
        drop(state);
        self.shared.released.notify_waiters();
        self.resume();
    }

    /// Lets connections go on that no black hole swallows any more.
    fn resume(&self) {
        for line in self.lines(&Scope::All) {
            let app = line.app();
            let held = self.shared.state().faults.swallows(app.as_deref());
            line.hold(held);
        }
    }

    /// Resets (RST) every connection, long or not; returns how many.
    pub fn reset_connections(&self, scope: impl Into<Scope>) -> usize {
        let lines = self.lines(&scope.into());
        for line in &lines {
            line.reset();
        }
        lines.len()
    }

    /// Swallows whatever the present connections carry from now on, while new ones work; returns how many.
    pub fn hold_connections(&self, scope: impl Into<Scope>) -> usize {
        let lines = self.lines(&scope.into());
        for line in &lines {
            line.hold(true);
        }
        lines.len()
    }

    /// Resets (RST) one long connection.
    pub fn reset_connection(&self, connection: u64) {
        if let Some(socket) = self.shared.state().sockets.get(&connection) {
            socket.line.reset();
        }
    }

    /// Ends every TCP connection in order (FIN), without a close frame; returns how many.
    pub fn drop_connections(&self, scope: impl Into<Scope>) -> usize {
        let lines = self.lines(&scope.into());
        for line in &lines {
            line.drop_it();
        }
        lines.len()
    }

    /// Closes every long connection with this code.
    pub fn close_connections(&self, scope: impl Into<Scope>, code: u16, reason: &str) {
        self.send_all(&scope.into(), |_| Outgoing::Close(code, reason.to_owned()));
    }

    /// Refuses TCP connections from now on; those that exist stay.
    pub async fn stop_listening(&self) {
        self.listening.set(false).await;
    }

    /// Accepts TCP connections again, on the same port.
    pub async fn listen_again(&self) {
        self.listening.set(true).await;
    }

    /// Sends a pong with this payload, unasked, over every long connection.
    pub fn send_client_config(&self, scope: impl Into<Scope>, payload: &str) {
        self.send_all(&scope.into(), |service| Outgoing::Binary(socket::pong(service, payload)));
    }

    /// Sends a text message over every long connection. Real Feishu never does.
    pub fn send_text_frame(&self, scope: impl Into<Scope>, text: &str) {
        self.send_all(&scope.into(), |_| Outgoing::Text(text.to_owned()));
    }

    /// Sends these bytes as a binary message over every long connection.
    pub fn send_bytes(&self, scope: impl Into<Scope>, bytes: &[u8]) {
        self.send_all(&scope.into(), |_| Outgoing::Binary(bytes.to_vec()));
    }

    /// Sends a frame over every long connection; its service is filled in.
    pub fn send_frame(&self, scope: impl Into<Scope>, frame: &frame::Frame) {
        self.send_all(&scope.into(), |service| {
            let frame = frame::Frame { service, ..frame.clone() };
            Outgoing::Binary(frame.encode())
        });
    }

    fn send_all(&self, scope: &Scope, make: impl Fn(i32) -> Outgoing) {
        let state = self.shared.state();
        for socket in state.sockets.values().filter(|socket| scope.covers(Some(&socket.app))) {
            // Lost when the connection is choked, as on a real network.
            let _ = socket.outgoing.try_send(make(socket.service_id));
        }
    }

    fn lines(&self, scope: &Scope) -> Vec<Arc<Line>> {
        let state = self.shared.state();
        let upgraded = state.sockets.values().map(|socket| &socket.line);
        let mut lines: Vec<_> = state.lines.values().chain(upgraded).cloned().collect();
        lines.sort_by_key(|line| line.id);
        lines.dedup_by_key(|line| line.id);
        lines.retain(|line| scope.covers(line.app().as_deref()));
        lines
    }
}

//! A simulated Telegram Bot API on loopback, for one or several bots.
//!
//! It reads and forgets updates, refuses, limits and conflicts as the open server does, judges its peers
//! ([`Telegram::violations`]), writes down what happens ([`Observation`]) and can be made to fail as networks and
//! platforms do ([`Fault`], [`Telegram::open_hole`]).

mod answer;
mod builders;
mod change;
mod faults;
mod files;
mod observe;
mod params;
mod push;
mod queue;
mod send;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod updates;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

pub use builders::Message;
pub use faults::Fault;
pub use observe::{Entry, Observation, Rule, SentFile, SentMessage};
pub use state::{Mood, Settings};

use crate::listening::{self, Listening};
use crate::wire::Line;
use state::{Bot, Kept, Shared};

/// A running platform. Clones are the same platform; it ends with the last one.
#[derive(Clone)]
pub struct Telegram {
    shared: Arc<Shared>,
    addr: SocketAddr,
    listening: Arc<Listening>,
    _running: Arc<DropGuard>,
}

impl Telegram {
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
        let (serving, stop) = (shared.clone(), shared.stop.clone());
        let serve = move |stream| server::serve(&serving, stream);
        let listening = Arc::new(listening::start(stop, listener, addr, serve));
        Ok(Self { shared, addr, listening, _running: running })
    }

    /// What takes the place of `https://api.telegram.org`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Registers a bot. Its id is the number before the colon of its token.
    pub fn add_bot(&self, token: &str, username: &str) {
        let id = token.split(':').next().and_then(|id| id.parse().ok()).unwrap_or(1);
        self.shared.state().bots.insert(token.to_owned(), Bot::new(id, username));
    }

    /// Makes a token invalid.
    pub fn revoke(&self, token: &str) {
        self.shared.state().bots.remove(token);
    }

    /// Changes settings.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.state().settings);
    }

    fn with<T>(&self, token: &str, act: impl FnOnce(&mut Bot) -> T) -> T {
        act(self.shared.state().bots.get_mut(token).expect("the bot is registered"))
    }
}

/// Updates and chats.
impl Telegram {
    /// Queues an update of any kind; its id.
    pub fn push(&self, token: &str, update: Value) -> i64 {
        self.with(token, |bot| {
            let id = bot.queue.push(update);
            bot.grown.send_modify(|count| *count += 1);
            id
        })
    }

    /// Queues a message; its update's id and its own.
    pub fn push_message(&self, token: &str, message: Message) -> (i64, i64) {
        let message_id = self.with(token, |bot| {
            bot.next_message += 1;
            let (chat_id, text) = (message.chat_id(), message.text_of());
            let message_id = bot.next_message;
            let kept = Kept { text, buttons: Value::Null, is_text: true, is_ours: false };
            bot.chat(chat_id).messages.insert(message_id, kept);
            message_id
        });
        let id = self.push(token, json!({"message": message.build(message_id)}));
        (id, message_id)
    }

    /// Queues a text that a user wrote to the bot directly.
    pub fn push_text(&self, token: &str, user: i64, text: &str) -> (i64, i64) {
        self.push_message(token, Message::direct(user).text(text))
    }

    /// Lets ids of updates go on from `id`, as after a week of silence.
    pub fn renumber(&self, token: &str, id: i64) {
        self.with(token, |bot| bot.queue.renumber(id));
    }

    /// Updates that are not confirmed.
    pub fn pending(&self, token: &str) -> usize {
        self.with(token, |bot| bot.queue.len())
    }

    /// The kinds of updates that the bot asked for.
    pub fn allowed(&self, token: &str) -> Option<Value> {
        self.with(token, |bot| bot.allowed.clone())
    }

    /// Sets how a chat takes messages; the chat exists from then on.
    pub fn set_mood(&self, token: &str, chat: i64, mood: Mood) {
        self.with(token, |bot| bot.chat(chat).mood = mood);
    }

    /// Makes a chat a forum with these topics.
    pub fn set_forum(&self, token: &str, chat: i64, topics: &[i64]) {
        self.with(token, |bot| {
            let chat = bot.chat(chat);
            chat.forum = true;
            chat.topics.extend(topics);
        });
    }

    /// Deletes a message, so that nothing can answer it.
    pub fn delete_message(&self, token: &str, chat: i64, message: i64) {
        self.with(token, |bot| bot.chat(chat).messages.remove(&message));
    }

    /// Sets a webhook, as another program of the same bot would.
    pub fn set_webhook(&self, token: &str, url: &str) {
        let params = params::Params::default();
        self.with(token, |bot| updates::set_webhook(&self.shared, bot, token, url, &params));
    }

    /// The address of the webhook; empty if there is none.
    pub fn webhook(&self, token: &str) -> String {
        self.with(token, |bot| {
            bot.webhook.as_ref().map(|hook| hook.url.clone()).unwrap_or_default()
        })
    }

    /// A file that somebody has sent, under this id.
    pub fn add_file(&self, token: &str, id: &str, bytes: Vec<u8>) {
        self.with(token, |bot| bot.files.insert(id.to_owned(), bytes.into()));
    }
}

/// What happened.
impl Telegram {
    /// Everything so far.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.read(<[Entry]>::to_vec)
    }

    /// The time since the start, as in the journal.
    pub fn now(&self) -> Duration {
        self.shared.journal.now()
    }

    /// The entries after the first `seen`, as soon as there are any.
    pub async fn entries_after(&self, seen: usize) -> Vec<Entry> {
        let look = |entries: &[Entry]| entries.get(seen..).map(<[Entry]>::to_vec);
        let more = |entries: &[Entry]| look(entries).filter(|entries| !entries.is_empty());
        self.shared.journal.find(Duration::MAX, more).await.unwrap_or_default()
    }

    /// How many entries `counts` says yes to.
    pub fn count(&self, mut counts: impl FnMut(&Entry) -> bool) -> usize {
        self.shared.journal.read(|entries| entries.iter().filter(|entry| counts(entry)).count())
    }

    /// The messages that were sent, in order.
    pub fn sent(&self) -> Vec<SentMessage> {
        self.shared.journal.read(|entries| entries.iter().filter_map(sent).cloned().collect())
    }

    /// The rules that were broken.
    pub fn violations(&self) -> Vec<(Rule, String)> {
        let broken = |entry: &Entry| match &entry.what {
            Observation::Violation { rule, detail } => Some((*rule, detail.clone())),
            _ => None,
        };
        self.shared.journal.read(|entries| entries.iter().filter_map(broken).collect())
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

    /// Waits for this many messages.
    pub async fn wait_sent(&self, limit: Duration, count: usize) -> Vec<SentMessage> {
        self.wait_count("messages", limit, count, |entry| sent(entry).is_some()).await;
        self.sent()
    }

    /// Waits until everything up to this update is confirmed.
    pub async fn wait_confirmed(&self, limit: Duration, update: i64) {
        self.wait_count("a confirmation", limit, 1, |entry| match &entry.what {
            Observation::Confirmed { ids } => ids.contains(&update),
            _ => false,
        })
        .await;
    }
}

fn sent(entry: &Entry) -> Option<&SentMessage> {
    match &entry.what {
        Observation::Sent(message) => Some(message),
        _ => None,
    }
}

/// Trouble.
impl Telegram {
    /// Lets a method fail (each, without one), `times` or always.
    pub fn fault(&self, method: Option<&str>, fault: Fault, times: Option<u32>) {
        self.shared.state().faults.add(method, fault, times);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
        self.shared.released.notify_waiters();
    }

    /// From now on nothing comes through: neither over the connections there are, nor over new ones.
    pub fn open_hole(&self) {
        let mut state = self.shared.state();
        state.hole = true;
        state.lines.values().for_each(|line| line.hold(true));
    }

    /// New connections work again. Those that were in the hole stay dead, without a word.
    pub fn close_hole(&self) {
        self.shared.state().hole = false;
    }

    /// Resets (RST) every connection.
    pub fn reset_connections(&self) {
        let lines: Vec<Arc<Line>> = self.shared.state().lines.values().cloned().collect();
        for line in &lines {
            line.reset();
        }
    }

    /// Refuses TCP connections from now on; those that exist stay.
    pub async fn stop_listening(&self) {
        self.listening.set(false).await;
    }

    /// Accepts TCP connections again, on the same port.
    pub async fn listen_again(&self) {
        self.listening.set(true).await;
    }
}

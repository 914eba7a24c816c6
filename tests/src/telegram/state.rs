//! What the simulated platform knows. One mutex guards it all and is never held across an await.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::faults::Faults;
use super::observe::{Observation, Rule};
use super::queue::Queue;
use crate::journal::Journal;
use crate::wire::Line;

/// The settings of a platform.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The least time between two messages of one chat; sooner is 429. None: no limit.
    pub per_chat: Option<Duration>,
    /// What a 429 of that limit asks for, in seconds; at least 1.
    pub retry_after_s: u64,
    /// The server knows no previews of messages.
    pub without_drafts: bool,
    /// The server is one of one's own, and keeps files in this directory.
    pub local_files: Option<String>,
    /// Messages up to this id are too old to be changed or deleted.
    pub old_until: i64,
    /// The least time between an update that a webhook refused a second time and the next attempt.
    pub post_pause: Duration,
}

/// How a chat takes what a bot sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// It takes it.
    Open,
    /// The user blocked the bot.
    Blocked,
    /// The bot was removed from the group.
    Kicked,
    /// The bot may not write.
    Muted,
    /// It does not exist any more.
    Gone,
    /// It is a supergroup now.
    Migrated(i64),
}

/// A chat.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) mood: Mood,
    pub(crate) forum: bool,
    pub(crate) topics: BTreeSet<i64>,
    pub(crate) messages: HashMap<i64, Kept>,
    pub(crate) sent: Option<Instant>,
}

/// A message in a chat.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    /// Text or caption.
    pub(crate) text: String,
    pub(crate) buttons: Value,
    pub(crate) is_text: bool,
    /// The bot sent it.
    pub(crate) is_ours: bool,
}

/// A webhook.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) secret: Option<String>,
    pub(crate) connections: usize,
    /// Another one, or none, has taken its place.
    pub(crate) over: CancellationToken,
    under_way: Arc<Mutex<HashSet<String>>>,
}

impl Hook {
    pub(crate) fn new(url: &str, secret: Option<String>, connections: usize) -> Self {
        let (over, under_way) = (CancellationToken::new(), Arc::default());
        Self { url: url.to_owned(), secret, connections, over, under_way }
    }

    pub(crate) fn under_way(&self) -> MutexGuard<'_, HashSet<String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a rate limit holds for.
pub(crate) fn scope(chat_id: Option<i64>, method: &str) -> String {
    chat_id.map_or_else(|| method.to_owned(), |id| id.to_string())
}

/// A held poll.
pub(crate) struct Held {
    pub(crate) number: u64,
    /// Says why it is over.
    pub(crate) end: watch::Sender<Option<&'static str>>,
}

/// A bot.
pub(crate) struct Bot {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) queue: Queue,
    pub(crate) grown: watch::Sender<usize>,
    pub(crate) handed: i64,
    pub(crate) webhook: Option<Hook>,
    /// When, by the platform's clock, posting failed last, and why.
    pub(crate) hook_error: Option<(i64, String)>,
    /// The bytes of files, by their ids.
    pub(crate) files: HashMap<String, Bytes>,
    pub(crate) allowed: Option<Value>,
    pub(crate) held: Option<Held>,
    pub(crate) previous: Option<(i64, Instant)>,
    pub(crate) next_conflict: Instant,
    pub(crate) chats: HashMap<i64, Chat>,
    pub(crate) next_message: i64,
    /// Until when a chat, or a method that names none, is under a rate limit: see [`scope`].
    pub(crate) windows: HashMap<String, Instant>,
}

impl Bot {
    pub(crate) fn new(id: i64, username: &str) -> Self {
        Self {
            id,
            username: username.to_owned(),
            queue: Queue::starting_at(700_000_001),
            grown: watch::Sender::new(0),
            handed: 0,
            webhook: None,
            hook_error: None,
            files: HashMap::new(),
            allowed: None,
            held: None,
            previous: None,
            next_conflict: Instant::now(),
            chats: HashMap::new(),
            next_message: 5000,
            windows: HashMap::new(),
        }
    }

    pub(crate) fn me(&self) -> Value {
        json!({
            "id": self.id, "is_bot": true, "first_name": self.username, "username": self.username,
            "can_join_groups": true, "can_read_all_group_messages": false,
            "supports_inline_queries": false, "can_connect_to_business": false,
            "has_main_web_app": false,
        })
    }

    pub(crate) fn chat(&mut self, id: i64) -> &mut Chat {
        self.chats.entry(id).or_insert_with(|| Chat {
            mood: Mood::Open,
            forum: false,
            topics: BTreeSet::new(),
            messages: HashMap::new(),
            sent: None,
        })
    }
}

/// Everything behind the lock.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) bots: HashMap<String, Bot>,
    pub(crate) faults: Faults,
    pub(crate) lines: HashMap<u64, Arc<Line>>,
    /// New connections are accepted and hear nothing.
    pub(crate) hole: bool,
    next: u64,
}

impl State {
    pub(crate) fn fresh_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// What every task of the platform shares.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) journal: Journal<Observation>,
    pub(crate) stop: CancellationToken,
    /// Lets go what [`Fault::Hold`](super::Fault::Hold) has held.
    pub(crate) released: Notify,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            settings: Settings::default(),
            bots: HashMap::new(),
            faults: Faults::default(),
            lines: HashMap::new(),
            hole: false,
            next: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            journal: Journal::new(),
            stop: CancellationToken::new(),
            released: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn violation(&self, bot: &str, rule: Rule, detail: String) {
        self.journal.note(bot, Observation::Violation { rule, detail });
    }
}

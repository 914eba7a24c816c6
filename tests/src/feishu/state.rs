//! What the simulated platform knows: settings, apps, tokens, messages, connections.
//!
//! One mutex guards it all and is never held across an await. The rules that only look at this state live here, so that
//! they can be tested without a socket.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answers::Delivery;
use super::faults::{Faults, Route};
use super::observe::{Observation, Rule, SentMessage, Violation};
use crate::journal::Journal;
use crate::wire::Line;

/// The settings of a platform. The defaults are what is documented or was observed of the real one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Handed out by discovery and in pongs.
    pub client_config: ClientConfig,
    /// When an unanswered event comes again.
    pub schedule: Schedule,
    /// Whether a late answer ends the schedule. Unknown of the real platform; no by default.
    pub late_answers_count: bool,
    /// Whether a new connection gets the waiting events at once. Unknown of the real platform, which is documented to
    /// follow its schedule; no by default.
    pub push_on_connect: bool,
    /// Whether something before it speaks TLS: then long connections are `wss`.
    pub secured: bool,
    /// Connections an app may have.
    pub connection_limit: usize,
    /// How long a `uuid` is remembered.
    pub uuid_memory: Duration,
    /// Life of a tenant token.
    pub token_life: Duration,
    /// The same token is handed out while at least this much of its life remains.
    pub token_renewal: Duration,
    /// How long a card streams.
    pub streaming: Duration,
    /// How often a message can be edited.
    pub edits: u32,
    /// HTTP status of a refused token: 400 and 200 were both seen.
    pub token_refusal_status: u16,
    /// The `instance_id` header of event frames.
    pub instance_id: String,
    /// How far the clock that discovery tells (`Date`) is behind this machine's.
    pub behind: Duration,
    /// Header keys to leave out of event frames.
    pub omitted_headers: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_config: ClientConfig::default(),
            schedule: Schedule::default(),
            late_answers_count: false,
            push_on_connect: false,
            secured: false,
            connection_limit: 50,
            uuid_memory: Duration::from_hours(1),
            token_life: Duration::from_hours(2),
            token_renewal: Duration::from_mins(30),
            streaming: Duration::from_mins(10),
            edits: 20,
            token_refusal_status: 400,
            instance_id: "sim-1".to_owned(),
            behind: Duration::ZERO,
            omitted_headers: Vec::new(),
        }
    }
}

/// What the platform tells a client about reconnecting; whole seconds, a count of -1 is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientConfig {
    pub reconnect_count: i64,
    pub reconnect_interval: i64,
    pub reconnect_nonce: i64,
    pub ping_interval: i64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            reconnect_count: -1,
            reconnect_interval: 120,
            reconnect_nonce: 30,
            ping_interval: 120,
        }
    }
}

impl ClientConfig {
    /// A configuration with which a client reconnects at once, for quick tests.
    pub fn quick() -> Self {
        Self { reconnect_count: -1, reconnect_interval: 1, reconnect_nonce: 1, ping_interval: 2 }
    }

    pub(crate) fn json(self) -> Value {
        json!({
            "ReconnectCount": self.reconnect_count,
            "ReconnectInterval": self.reconnect_interval,
            "ReconnectNonce": self.reconnect_nonce,
            "PingInterval": self.ping_interval,
        })
    }
}

/// When an unanswered event comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// An answer later than this does not count.
    pub answer_within: Duration,
    /// The pauses after each failed push; as many re-pushes as there are pauses.
    pub pauses: Vec<Duration>,
}

impl Default for Schedule {
    fn default() -> Self {
        let pauses = [15, 300, 3600, 21_600].map(Duration::from_secs);
        Self { answer_within: Duration::from_secs(3), pauses: pauses.to_vec() }
    }
}

impl Schedule {
    /// The documented schedule with other pauses: each is multiplied by `factor`. The time limit stays.
    pub fn with_pauses_scaled(factor: f64) -> Self {
        let mut schedule = Self::default();
        for pause in &mut schedule.pauses {
            *pause = pause.mul_f64(factor);
        }
        schedule
    }

    /// The documented schedule with everything multiplied by `factor`, the time limit too.
    pub fn scaled(factor: f64) -> Self {
        let mut schedule = Self::with_pauses_scaled(factor);
        schedule.answer_within = schedule.answer_within.mul_f64(factor);
        schedule
    }
}

pub(crate) struct App {
    pub(crate) secret: String,
    pub(crate) bot_open_id: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) service_id: i32,
    /// Scopes that it was not granted.
    pub(crate) lacks: std::collections::BTreeSet<String>,
    /// Under which `uuid`s requests are held.
    pub(crate) being_sent: HashSet<String>,
    uuids: HashMap<String, (Instant, SentMessage)>,
}

impl App {
    pub(crate) fn new(secret: &str, bot_open_id: &str, service_id: i32) -> Self {
        Self {
            secret: secret.to_owned(),
            bot_open_id: bot_open_id.to_owned(),
            tokens: Vec::new(),
            service_id,
            lacks: std::collections::BTreeSet::new(),
            being_sent: HashSet::new(),
            uuids: HashMap::new(),
        }
    }

    /// The token to hand out: the newest while enough of its life remains, else a new one. Says what remains of it, and
    /// whether it is new.
    pub(crate) fn issue_token(
        &mut self,
        settings: &Settings,
        now: Instant,
        fresh: impl FnOnce() -> String,
    ) -> (String, Duration, bool) {
        self.tokens.retain(|token| token.ends > now);
        if let Some(token) = self.tokens.last() {
            let left = token.ends - now;
            if left >= settings.token_renewal {
                return (token.text.clone(), left, false);
            }
        }
        let text = fresh();
        self.tokens.push(Token { text: text.clone(), ends: now + settings.token_life });
        (text, settings.token_life, true)
    }

    /// The message that was made under this `uuid`, while that is remembered.
    pub(crate) fn known_uuid(
        &mut self,
        uuid: &str,
        memory: Duration,
        now: Instant,
    ) -> Option<&SentMessage> {
        self.uuids.retain(|_, (made, _)| now.duration_since(*made) < memory);
        self.uuids.get(uuid).map(|(_, message)| message)
    }

    pub(crate) fn remember_uuid(&mut self, uuid: String, message: SentMessage, now: Instant) {
        self.uuids.insert(uuid, (now, message));
    }
}

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) ends: Instant,
}

/// A message that can be replied to.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownMessage {
    pub(crate) chat_id: String,
    pub(crate) root_id: Option<String>,
    pub(crate) parent_id: Option<String>,
    pub(crate) thread_id: Option<String>,
    pub(crate) gone: Option<i64>,
    /// Its author took it back: the platform tells that, and no word of it.
    pub(crate) recalled: bool,
    /// The app that sent it; `None`: a user.
    pub(crate) app: Option<String>,
    /// The user who did.
    pub(crate) sender: String,
    pub(crate) msg_type: String,
    pub(crate) content: String,
    /// Whom it mentions, as the history says it.
    pub(crate) mentions: Vec<Value>,
    pub(crate) created_ms: u128,
    pub(crate) edits: u32,
    pub(crate) reactions: Vec<Reaction>,
    /// The messages that it forwards.
    pub(crate) inside: Vec<Value>,
}

/// A reaction to a message.
#[derive(Debug, Clone)]
pub(crate) struct Reaction {
    pub(crate) id: String,
    pub(crate) emoji: String,
    pub(crate) app: String,
}

/// A picture or a file.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) mime: String,
    pub(crate) bytes: bytes::Bytes,
    /// Who may send it.
    pub(crate) app: Option<String>,
    /// `image`, or the type of a file.
    pub(crate) kind: String,
}

/// A card that can grow.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    pub(crate) app: String,
    pub(crate) content: Value,
    pub(crate) sequence: i64,
    pub(crate) message_id: Option<String>,
    /// Since when it streams.
    pub(crate) streams: Option<Instant>,
}

/// An open long connection.
pub(crate) struct Socket {
    pub(crate) app: String,
    pub(crate) service_id: i32,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    pub(crate) line: Arc<Line>,
    pub(crate) frames: u64,
    /// Whether the handshake is over.
    pub(crate) open: bool,
}

/// What a connection is told to send.
pub(crate) enum Outgoing {
    Binary(Vec<u8>),
    Text(String),
    Close(u16, String),
}

/// A URL that discovery handed out.
pub(crate) struct Ticket {
    pub(crate) app: String,
    pub(crate) used: bool,
}

pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) apps: BTreeMap<String, App>,
    pub(crate) faults: Faults,
    pub(crate) lines: HashMap<u64, Arc<Line>>,
    pub(crate) sockets: BTreeMap<u64, Socket>,
    pub(crate) tickets: HashMap<String, Ticket>,
    pub(crate) messages: HashMap<String, KnownMessage>,
    /// By key.
    pub(crate) resources: HashMap<String, Resource>,
    pub(crate) cards: HashMap<String, Card>,
    /// How often each may still be used.
    pub(crate) card_tokens: HashMap<String, u32>,
    /// Chats between one user and a bot; others are groups.
    pub(crate) direct: HashSet<String>,
    pub(crate) deliveries: HashMap<String, Delivery>,
    /// Until when a route of an app is rate limited.
    pub(crate) windows: HashMap<(String, Route), Instant>,
    random: fastrand::Rng,
    counter: u64,
}

impl State {
    /// An identifier in the shape of the platform's: a prefix and 32 hexadecimal digits, never the same twice.
    pub(crate) fn fresh_id(&mut self, prefix: &str) -> String {
        self.counter += 1;
        format!("{prefix}{:016x}{:016x}", self.random.u64(..), self.counter)
    }

    pub(crate) fn fresh_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A 64-bit number that a double cannot hold.
    pub(crate) fn log_id(&mut self) -> u64 {
        self.random.u64(..) | (1 << 63) | 1
    }

    /// One of the app's connections, by chance.
    pub(crate) fn any_socket(&mut self, app: &str) -> Option<u64> {
        let own = |socket: &Socket| socket.open && socket.app == app;
        let count = self.sockets.values().filter(|socket| own(socket)).count();
        if count == 0 {
            return None;
        }
        let chosen = self.random.usize(..count);
        self.sockets.iter().filter(|(_, socket)| own(socket)).nth(chosen).map(|(id, _)| *id)
    }
}

/// What all tasks of a platform share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) journal: Journal<Observation>,
    pub(crate) stop: CancellationToken,
    /// Counts the connections opened so far.
    pub(crate) opened: watch::Sender<u64>,
    /// Lets go what [`Trouble::Hold`](super::Trouble::Hold) has held.
    pub(crate) released: Notify,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            settings: Settings::default(),
            apps: BTreeMap::new(),
            faults: Faults::default(),
            lines: HashMap::new(),
            sockets: BTreeMap::new(),
            tickets: HashMap::new(),
            messages: HashMap::new(),
            resources: HashMap::new(),
            cards: HashMap::new(),
            card_tokens: HashMap::new(),
            direct: HashSet::new(),
            deliveries: HashMap::new(),
            windows: HashMap::new(),
            random: fastrand::Rng::new(),
            counter: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            journal: Journal::new(),
            stop: CancellationToken::new(),
            opened: watch::Sender::new(0),
            released: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn violation(&self, app: &str, rule: Rule, detail: impl Into<String>) {
        let violation = Violation { rule, detail: detail.into() };
        self.journal.note(app, Observation::Violation(violation));
    }
}

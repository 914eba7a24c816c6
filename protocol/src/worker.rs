//! The worker conversation: what a worker and the supervisor say to each other, in postcard frames.
//!
//! After both preambles the worker says [`Hello`](crate::hello::Hello), the supervisor answers
//! [`ToWorker::Configure`], and from then on both speak freely. postcard is positional: a variant is
//! appended, never inserted, and any change raises [`crate::hello::VERSION`].
//!
//! Flow control: a worker never has more than `window` events (and never more than `window_bytes` of
//! them) sent and not yet answered by a [`Verdict`]; an agent worker keeps the same rule for replies.

use serde::{Deserialize, Serialize};

use crate::content::{Busy, Draft, Fetch, Fetched};
use crate::event::{Abilities, Delivery, Inbound, Note, Outbound, Outcome, Pause, Receipt, Reply};
use crate::hook::{Failure, HookEvent};
use crate::id::{EventId, Instance, Lane, OutboundId, Seq};
pub use crate::secret::Secret;

/// A worker's resume point: bytes that only its adapter understands, kept by the supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cursor(pub Vec<u8>);

/// Everything that a worker is told about itself. It reads no file and no environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Configure {
    /// Which adapter, with its settings.
    pub adapter: Adapter,
    /// Where the adapter left off.
    pub cursor: Option<Cursor>,
    /// Events (or replies) that may be on their way at once.
    pub window: u32,
    /// And their bytes.
    pub window_bytes: u32,
    /// How often to say [`FromWorker::Heartbeat`].
    pub heartbeat_ms: u32,
    /// How long a polite end may take after the leash or a signal asks for it.
    pub grace_ms: u32,
    /// The `RUST_LOG`-like filter to log with.
    pub log: String,
    /// Where files are exchanged.
    pub exchange: Exchange,
    /// How a platform is reached.
    pub network: Network,
}

/// How the outside is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    /// `http://…` or `socks5://…`, with the name and the password that it wants. `None`: directly.
    pub proxy: Option<Secret>,
    /// Certificates that are trusted besides the system's, as PEM. Empty: none.
    pub ca: String,
}

/// The directory in which files are exchanged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Where it is. Only its owner may enter it.
    pub dir: std::path::PathBuf,
    /// The largest file that may be put there, in bytes.
    pub max_bytes: u64,
}

/// An adapter and what it needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Adapter {
    /// Platform `local`: the terminal of the user who runs us.
    Local(LocalSettings),
    /// Platform `feishu`.
    Feishu(FeishuSettings),
    /// Agent `echo`.
    Echo,
    /// Agent `socket`.
    Socket(SocketSettings),
    /// Platform `telegram`.
    Telegram(TelegramSettings),
    /// Agent `exec`.
    Exec(ExecSettings),
    /// Agent `relay`.
    Relay(RelaySettings),
    /// Agent `openai`.
    OpenAi(OpenAiSettings),
    /// Agent `webhook`.
    Webhook(WebhookSettings),
    /// Service `hooks`.
    Hooks(HooksSettings),
    /// Agent `acp`.
    Acp(AcpSettings),
}

/// Settings of agent `acp`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AcpSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs, and what its sessions are told to be their directory.
    pub dir: std::path::PathBuf,
    /// What its environment has beyond a worker's own.
    pub variables: Vec<(String, Secret)>,
    /// Processes of it at once.
    pub processes: u32,
    /// Turns at once in each of them.
    pub turns: u32,
    /// Who decides when it asks for permission.
    pub permission: Permission,
    /// How long an answer to that is waited for, in seconds. Without one nothing is permitted.
    pub permission_s: u32,
    /// How long it may be silent in a turn, in seconds.
    pub silent_s: u32,
    /// How long a turn may be, in seconds.
    pub turn_limit_s: u32,
    /// Whether messages that begin with `/` are commands of the agent.
    pub own_commands: bool,
}

/// Who decides when an agent asks for permission.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Permission {
    /// Whoever the agent works for is asked in the chat.
    Ask,
    /// Everything is permitted once.
    Allow,
    /// Nothing is.
    Reject,
}

/// Settings of service `hooks`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HooksSettings {
    /// Where the directories with a `HOOK.yaml` and a `handler.py` are.
    pub dir: Option<std::path::PathBuf>,
    /// Programs.
    pub commands: Vec<HookCommand>,
    /// The Python that runs `handler.py`.
    pub python: String,
    /// How long one handler may take, in seconds.
    pub timeout_s: u32,
    /// Handlers at once.
    pub concurrency: u32,
}

/// A program that wants to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HookCommand {
    /// Of what: see [`HookEvent::matches`].
    pub events: Vec<String>,
    /// It and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: std::path::PathBuf,
}

/// Settings of platform `local`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalSettings {
    /// Where `hermes-gw chat` connects.
    pub socket: std::path::PathBuf,
}

/// Settings of platform `feishu`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeishuSettings {
    /// `cli_…`, from the developer console.
    pub app_id: String,
    /// Its secret.
    pub app_secret: Secret,
    /// `https://open.feishu.cn`, `https://open.larksuite.com`, or any other; without a final slash.
    pub base_url: String,
    /// The reaction that says that an agent is at work, as the platform calls it. Empty: none.
    pub working: String,
    /// Events are posted to us. `None`: they come over the long connection.
    pub webhook: Option<Box<FeishuWebhook>>,
}

/// How Feishu is to reach us. At least one of its secrets is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeishuWebhook {
    /// Where we listen, in plain HTTP.
    pub listen: std::net::SocketAddr,
    /// The path of what it posts, as it arrives here.
    pub path: String,
    /// What opens and proves what is posted.
    pub encrypt_key: Option<Secret>,
    /// What stands in what is posted.
    pub verification_token: Option<Secret>,
}

/// Settings of platform `telegram`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TelegramSettings {
    /// What `BotFather` gave.
    pub token: Secret,
    /// `https://api.telegram.org` or a server of one's own; without a final slash.
    pub base_url: String,
    /// What becomes of a reply whose answer was lost.
    pub unanswered: Unanswered,
    /// What becomes of a webhook that another program has set.
    pub other_webhook: OtherWebhook,
    /// Hear by a webhook of our own. `None`: by polling.
    pub webhook: Option<TelegramWebhook>,
    /// Where a Bot API server of one's own on this machine keeps files, if it says paths.
    pub local_files: Option<std::path::PathBuf>,
}

/// How Telegram is to reach us.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TelegramWebhook {
    /// Where it posts to.
    pub url: String,
    /// Where we listen, in plain HTTP.
    pub listen: std::net::SocketAddr,
    /// Connections at once, 1 to 100.
    pub connections: u32,
}

/// What becomes of a reply that left and was never answered, where no key makes a repetition safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unanswered {
    /// It ends as unknown.
    Report,
    /// It is sent again, and may arrive twice.
    Resend,
}

/// What becomes of a webhook that keeps us from polling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OtherWebhook {
    /// It stays, and a person is told.
    Keep,
    /// It is removed; its updates stay.
    Remove,
}

/// What a person tells a platform's worker to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Take away the webhook that another program has set. Its updates stay.
    DeleteWebhook,
    /// Forget what waits at the platform and was not heard yet.
    DropPending,
}

/// Settings of agent `socket`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SocketSettings {
    /// Where the agent's program connects.
    pub socket: std::path::PathBuf,
    /// Deliveries that may be on their way to the agent at once.
    pub concurrency: u32,
}

/// Settings of agent `exec`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: std::path::PathBuf,
    /// What its environment has beyond a worker's own.
    pub variables: Vec<(String, Secret)>,
    /// Deliveries that may be on their way to it at once.
    pub concurrency: u32,
}

/// Settings of agent `relay`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelaySettings {
    /// Where the agent dials: an address of this machine alone.
    pub listen: std::net::SocketAddr,
    /// What the agent calls itself.
    pub id: String,
    /// What proves it.
    pub secret: Secret,
    /// The agent's own directory, where its state file is.
    pub home: Option<std::path::PathBuf>,
    /// The platforms that it hears, and their kinds.
    pub platforms: Vec<(Instance, String)>,
    /// Deliveries that may be on their way to it at once.
    pub concurrency: u32,
    /// The longest turn, in seconds.
    pub turn_limit_s: u32,
}

/// Settings of agent `openai`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenAiSettings {
    /// Up to and with `/v1`, without a final slash.
    pub base_url: String,
    /// Where it wants one.
    pub key: Option<Secret>,
    /// Which model.
    pub model: String,
    /// What it is told before everything else.
    pub system: Option<String>,
    /// Who remembers a conversation.
    pub memory: Memory,
    /// Turns at once.
    pub concurrency: u32,
    /// How long the first sign of an answer may take, in seconds.
    pub first_s: u32,
    /// How long a pause within an answer may be.
    pub pause_s: u32,
    /// How long a turn may be.
    pub turn_limit_s: u32,
    /// Whether pictures are sent along.
    pub images: bool,
    /// What becomes of a turn that dies half way.
    pub broken: Broken,
}

/// What becomes of a turn that dies half way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Broken {
    /// The question is asked again, and set aside after too many attempts.
    Again,
    /// What has come is the answer, with a note that it broke off.
    Report,
}

/// Settings of agent `webhook`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WebhookSettings {
    /// Where events are posted.
    pub url: String,
    /// `whsec_…`.
    pub secret: Secret,
    /// Posts at once.
    pub concurrency: u32,
    /// How long an answer may take, in seconds.
    pub timeout_s: u32,
    /// Where we listen for what the receiver says later.
    pub listen: Option<std::net::SocketAddr>,
}

/// Who remembers what was said in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Memory {
    /// We do, and send it each time.
    Ours,
    /// A Hermes Agent's API server, by a session's name.
    Hermes,
}

/// From the supervisor to a worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first frame: what to be.
    Configure(Box<Configure>),
    /// What became of an event; the platform may be answered now.
    Verdict {
        /// The worker's own number for it.
        seq: Seq,
        /// What became of it.
        verdict: Verdict,
    },
    /// Send this.
    Send(Box<Outbound>),
    /// Hand this to the agent.
    Deliver(Box<Delivery>),
    /// What became of a reply that the agent handed in.
    ReplyVerdict {
        /// The worker's own number for it.
        seq: Seq,
        /// What became of it.
        verdict: ReplyVerdict,
    },
    /// An acknowledgement is durable: this event is never delivered again.
    Settled {
        /// The event.
        event_id: EventId,
    },
    /// A reply of the agent has come to an end.
    Receipt(Receipt),
    /// Take no more from outside, finish what is under way, close politely, leave.
    Stop,
    /// Show this draft. The next one with its key comes after [`FromWorker::Drafted`].
    Draft(Box<Draft>),
    /// Show that an agent is at work, or not any more.
    Busy(Busy),
    /// Put the bytes of this part into the exchange directory.
    Fetch {
        /// The supervisor's own number for the wish.
        ticket: u64,
        /// What to fetch.
        fetch: Box<Fetch>,
    },
    /// What became of a wish for bytes; `Err` says why there are none.
    Fetched {
        /// The worker's own number for the wish.
        seq: Seq,
        /// What became of it.
        result: Result<Fetched, String>,
    },
    /// Tell the handlers that want to know.
    Hook {
        /// The supervisor's own number for it.
        seq: Seq,
        /// What happened.
        event: Box<HookEvent>,
    },
    /// Somebody wants the agent to end its work on this event. What it says then, if anything, is its
    /// answer, and it acknowledges.
    Interrupt {
        /// The event.
        event_id: EventId,
    },
    /// Somebody says more while the agent works. What the agent takes in is acknowledged together with
    /// the event that it works on; what it does not take in is delivered afterwards.
    Steer {
        /// What the agent works on.
        event_id: EventId,
        /// What is said.
        more: Box<Delivery>,
    },
    /// A person wants this done.
    Order {
        /// The supervisor's own number for it.
        ticket: u64,
        /// What.
        order: Order,
    },
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// It is durable. Acknowledge.
    Accepted(EventId),
    /// It had been accepted before. Acknowledge.
    Duplicate,
    /// Nobody wants it from this sender. Acknowledge.
    Denied,
    /// It is not stored and may be later. Do not acknowledge, so that the platform repeats it.
    Refused,
}

/// What became of a reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReplyVerdict {
    /// It is durable; `state` tells how far an earlier reply with the same key has come.
    Accepted(Receipt),
    /// It cannot be: no such instance, a damaged request.
    Rejected(String),
    /// Not now: try again.
    Refused,
}

/// From a worker to the supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// Its outer connection works: a platform login, an agent's listener. Said once a link.
    Ready(Ready),
    /// The state of its outer connection changed.
    Outside(Outside),
    /// The worker's own event loop is alive.
    Heartbeat(Heartbeat),
    /// Something happened on the platform.
    Inbound {
        /// The worker's own number for it.
        seq: Seq,
        /// What happened.
        event: Box<Inbound>,
        /// The resume point that includes this event, committed with it.
        cursor: Option<Cursor>,
    },
    /// What became of one attempt to send.
    Outcome {
        /// The reply.
        id: OutboundId,
        /// Which attempt.
        attempt: u32,
        /// What became of it.
        outcome: Outcome,
    },
    /// The agent is ready for events until `ttl_ms` from now.
    Lease {
        /// How long the promise holds.
        ttl_ms: u32,
        /// Deliveries that it takes at once.
        concurrency: u32,
    },
    /// The agent is not ready any more.
    Paused(Pause),
    /// The agent has taken responsibility for an event.
    Ack {
        /// The event.
        event_id: EventId,
    },
    /// The agent could not take an event now.
    Nack {
        /// The event.
        event_id: EventId,
        /// Why.
        reason: String,
        /// The agent's own wish.
        after_ms: Option<u64>,
    },
    /// The agent works on an event: its lease starts anew.
    Progress {
        /// The event.
        event_id: EventId,
    },
    /// The agent replies.
    Reply {
        /// The worker's own number for it.
        seq: Seq,
        /// The reply.
        reply: Box<Reply>,
        /// What is to be kept about its conversation, together with the reply or not at all.
        note: Option<Note>,
    },
    /// The last frame: why it leaves.
    Bye {
        /// For people.
        reason: String,
    },
    /// An event must not be offered again: the agent refuses it for good, or nobody can say whether it
    /// worked on it.
    SetAside {
        /// The event.
        event_id: EventId,
        /// Why.
        reason: String,
    },
    /// An event was not taken, through no fault of its own: the attempt does not count.
    Defer {
        /// The event.
        event_id: EventId,
        /// When to offer it again.
        after_ms: u64,
    },
    /// What the worker has confined itself to. Said once a link.
    Confined {
        /// For people.
        to: String,
    },
    /// An agent's reply in the making. May be dropped for a newer one.
    Draft(Box<Draft>),
    /// A draft is shown, or will not be.
    Drafted {
        /// Its key, as it was given.
        key: String,
        /// The platform's id of the message that shows it.
        message_id: Option<String>,
    },
    /// An agent wants the bytes of a part.
    Fetch {
        /// The worker's own number for the wish.
        seq: Seq,
        /// What to fetch.
        fetch: Box<Fetch>,
    },
    /// What became of [`ToWorker::Fetch`]; `Err` says why there are no bytes.
    Fetched {
        /// The supervisor's number for the wish.
        ticket: u64,
        /// What became of it.
        result: Result<Fetched, String>,
    },
    /// The agent has been told how a reply ended.
    Told {
        /// The reply.
        id: OutboundId,
    },
    /// Every handler that wanted to know of [`ToWorker::Hook`] has been told, or could not be.
    HookDone {
        /// The supervisor's number for it.
        seq: Seq,
        /// How many were told.
        told: u32,
        /// What went wrong.
        failures: Vec<Failure>,
    },
    /// What the agent can do while it works; until then, nothing.
    Can(Abilities),
    /// The agent asks the chat something in the middle of its work on an event, or asks no more. What is
    /// said there meanwhile comes as [`ToWorker::Steer`]; acknowledged, it was the answer.
    Asking {
        /// The event.
        event_id: EventId,
        /// Whether it does.
        on: bool,
    },
    /// What is to be kept about a conversation.
    Remember {
        /// Which.
        lane: Lane,
        /// What.
        note: Note,
    },
    /// What became of [`ToWorker::Order`]: what was done, or why not.
    Ordered {
        /// The supervisor's number for it.
        ticket: u64,
        /// For people.
        result: Result<String, String>,
    },
    /// A resume point that goes with no event.
    Cursor(Cursor),
}

/// What a worker found when it became ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Who it is logged in as, or where it listens. For people.
    pub account: String,
    /// How long after a first attempt the platform still recognises the same [`Outbound::key`].
    /// `None`: it never does.
    pub idempotent_ms: Option<u64>,
}

/// The outer connection of a worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outside {
    /// It works.
    Up,
    /// It does not; the worker is at it.
    Down {
        /// Why, for people.
        reason: String,
        /// What a person can do, where only a person can.
        remedy: Option<String>,
    },
    /// It works, but not as well as it should.
    Limited {
        /// Why, for people.
        reason: String,
        /// What a person can do, where only a person can.
        remedy: Option<String>,
    },
    /// Somebody else uses the same account, and lastingly so; the worker goes on slowly.
    Conflict {
        /// Who, as far as that can be told.
        reason: String,
        /// What a person can do.
        remedy: String,
    },
}

/// A sign of life, from the worker's own event loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// How long ago the receiving connection last made progress. `None`: never yet.
    pub progress_age_ms: Option<u64>,
    /// Well-formed platform events that this adapter has no use for, since the start.
    pub ignored: u64,
    /// Platform input that could not be understood, since the start.
    pub malformed: u64,
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

//! The worker conversation: what a worker and the supervisor say to each other, in postcard frames.
//!
//! After both preambles the worker says [`Hello`](crate::hello::Hello), the supervisor answers
//! [`ToWorker::Configure`], and from then on both speak freely. postcard is positional: a variant is
//! appended, never inserted, and any change raises [`crate::hello::VERSION`].
//!
//! Flow control: a worker never has more than `window` events (and never more than `window_bytes` of
//! them) sent and not yet answered by a [`Verdict`]; an agent worker keeps the same rule for replies.

mod settings;

use serde::{Deserialize, Serialize};

pub use self::settings::{
    AcpSettings, Adapter, Broken, Configure, Exchange, ExecPlatformSettings, ExecSettings,
    FeishuSettings, FeishuWebhook, HookCommand, HooksSettings, LocalSettings, Memory, Network,
    OpenAiSettings, OtherWebhook, Permission, RelaySettings, SocketSettings, TelegramSettings,
    TelegramWebhook, Unanswered, WebhookSettings,
};
use crate::content::{Busy, Draft, Fetch, Fetched};
use crate::event::{
    Abilities, Delivery, Inbound, Note, Outbound, Outcome, Pause, Progress, Receipt, Reply,
};
use crate::hook::{Failure, HookEvent};
use crate::id::{EventId, Lane, OutboundId, Seq};
pub use crate::secret::Secret;

/// A worker's resume point: bytes that only its adapter understands, kept by the supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cursor(pub Vec<u8>);

/// What a person tells a platform's worker to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Take away the webhook that another program has set. Its updates stay.
    DeleteWebhook,
    /// Forget what waits at the platform and was not heard yet.
    DropPending,
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
        /// The id that its chat had before the platform gave it another. What people have decided about that one
        /// holds.
        former: Option<String>,
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
    /// A reply waits, sent in part for its turn, or for somebody to see it: another may be on its way in its place.
    Waits {
        /// The reply.
        id: OutboundId,
    },
    /// A resume point that goes with no event, and that must be durable before the platform is acknowledged: the
    /// verdict is [`Verdict::Duplicate`] when it is.
    Keep {
        /// The worker's own number for it, among those of events.
        seq: Seq,
        /// The resume point.
        cursor: Cursor,
    },
    /// A part of a reply has arrived, and more is to come: what every later attempt is told.
    Reached {
        /// The reply.
        id: OutboundId,
        /// How far it has come.
        progress: Progress,
    },
    /// What the agent made of [`ToWorker::Steer`].
    Steered {
        /// The event that was to go into its work.
        event_id: EventId,
        /// It went in; if not, it is offered in its turn.
        taken: bool,
    },
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

/// The outer connection of a worker. In a remedy, `INSTANCE` stands for the name that the worker has and does not know.
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

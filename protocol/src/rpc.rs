//! What a program that is an agent says over a `socket` endpoint: JSON-RPC 2.0, one object a line,
//! UTF-8, a line at most [`LINE_MAX`] bytes. `docs/socket-agent.md` is the same for users.
//!
//! | direction | method | params → result |
//! |---|---|---|
//! | agent → gateway | `initialize` | [`Initialize`] → [`Initialized`] |
//! | agent → gateway | `ready` | [`Ready`] → [`Leased`] |
//! | agent → gateway | `paused` | – → `{}` |
//! | agent → gateway | `delivery.progress` | [`EventRef`] → `{}` |
//! | agent → gateway | `message.send` | [`Send`] → [`crate::event::Receipt`] as [`Message`] |
//! | gateway → agent | `event.deliver` | [`Event`] → anything: acknowledged; an error: refused |
//! | gateway → agent | `event.settled` (notification) | [`EventRef`] |
//! | gateway → agent | `message.receipt` (notification) | [`Message`] |
//!
//! Unknown members are ignored on both sides; members are only ever added.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::{
    ChatType, Delivery, InboundKind, Mention, Part, Receipt, ReplyState, SenderKind,
};

/// The longest line, in bytes, without its end.
pub const LINE_MAX: usize = 1024 * 1024;
/// The version of this method set.
pub const PROTOCOL: u32 = 1;
/// How long a readiness holds if the agent does not say, in milliseconds.
pub const LEASE_MS: u32 = 30_000;

/// JSON-RPC: not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: no request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: unknown method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: wrong parameters.
pub const INVALID_PARAMS: i32 = -32602;
/// Ours: not now, try again.
pub const BUSY: i32 = -32001;
/// Ours: `initialize` comes first.
pub const NOT_INITIALIZED: i32 = -32002;
/// Ours: another agent holds this endpoint.
pub const TAKEN: i32 = -32003;

/// Any line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// `2.0`.
    #[serde(default)]
    pub jsonrpc: Option<String>,
    /// Present on requests and on answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<serde_json::Value>,
    /// Present on requests and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What a request is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Box<RawValue>>,
    /// What a request led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Why a request led to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

/// Why a request led to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// One of the numbers above, or the agent's own.
    pub code: i32,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// More.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<FaultData>,
}

/// What an agent may add to a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultData {
    /// When to offer the event again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The agent introduces itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Initialize {
    /// [`PROTOCOL`].
    pub protocol: Option<u32>,
    /// A name for `ctl status`.
    pub name: Option<String>,
    /// Events that it takes at once, each of another conversation. At most what the configuration
    /// allows.
    pub concurrency: Option<u32>,
}

/// The gateway introduces itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Initialized {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// `hermes-gw 0.1.0`.
    pub gateway: String,
    /// What was granted.
    pub concurrency: u32,
}

/// The agent takes events from now on. To be repeated before the lease ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// How long the promise holds; 1 000 to 600 000, [`LEASE_MS`] if absent.
    pub lease_ms: Option<u32>,
}

/// The readiness as it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leased {
    /// How long it holds.
    pub lease_ms: u32,
}

/// Names an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventRef {
    /// As in [`Event::event_id`].
    pub event_id: String,
}

/// A reply, or a message of the agent's own accord.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Send {
    /// The agent's idempotency key, 1 to 200 bytes: sending the same key again sends nothing again.
    pub key: String,
    /// Which account speaks: [`Event::instance`].
    pub instance: String,
    /// Where: [`Event::chat_id`].
    pub chat_id: String,
    /// In which thread: [`Event::thread_id`].
    #[serde(default)]
    pub thread_id: Option<String>,
    /// Which message it answers: [`Event::message_id`].
    #[serde(default)]
    pub reply_to: Option<String>,
    /// What to say.
    pub text: String,
}

/// How far a reply has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Our name for it.
    pub id: String,
    /// The agent's key.
    pub key: String,
    /// `waiting`, `sending`, `sent`, `failed` or `unknown`.
    pub state: ReplyState,
    /// The platform's ids, once sent.
    pub message_ids: Vec<String>,
    /// Why it failed or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<Receipt> for Message {
    fn from(receipt: Receipt) -> Self {
        Self {
            id: receipt.id.to_string(),
            key: receipt.key,
            state: receipt.state,
            message_ids: receipt.message_ids,
            reason: receipt.reason,
        }
    }
}

/// An event as an agent sees it. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Our name for it; the same in each attempt.
    pub event_id: String,
    /// 1, or more if it was offered before and not acknowledged.
    pub attempt: u32,
    /// The account that heard it.
    pub instance: String,
    /// The platform's kind.
    pub platform: String,
    /// `message`; `edit`, `button`, `reaction`, `member` or `other`.
    pub kind: InboundKind,
    /// The platform's id of the chat.
    pub chat_id: String,
    /// `direct`, `group` or `channel`.
    pub chat_type: ChatType,
    /// The platform's id of the thread.
    pub thread_id: Option<String>,
    /// The platform's id of the message.
    pub message_id: Option<String>,
    /// The message that it answers.
    pub reply_to: Option<String>,
    /// Who.
    pub user_id: String,
    /// Who, for people.
    pub user_name: Option<String>,
    /// `user`, `bot` or `system`.
    pub user_kind: SenderKind,
    /// `me`, `all`, `other` or `none`.
    pub mention: Mention,
    /// What was said.
    pub text: String,
    /// What text cannot hold.
    pub parts: Vec<Part>,
    /// When, by the platform's clock.
    pub origin_ms: i64,
    /// When it was accepted here.
    pub received_ms: i64,
    /// How old it is, if that is late.
    pub late_by_ms: Option<u64>,
}

impl From<Delivery> for Event {
    fn from(delivery: Delivery) -> Self {
        let Delivery { event_id, lane, platform, attempt, received_ms, event, late_by_ms } =
            delivery;
        Self {
            event_id: event_id.to_string(),
            attempt,
            instance: lane.instance.into(),
            platform,
            kind: event.kind,
            chat_id: lane.chat_id,
            chat_type: event.chat_type,
            thread_id: lane.thread_id,
            message_id: event.message_id,
            reply_to: event.reply_to,
            user_id: event.sender.user_id,
            user_name: event.sender.name,
            user_kind: event.sender.kind,
            mention: event.mention,
            text: event.text,
            parts: event.parts,
            origin_ms: event.origin_ms,
            received_ms,
            late_by_ms,
        }
    }
}

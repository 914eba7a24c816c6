//! What the simulated platform saw and did. Nothing here decides anything.

use std::time::Duration;

use serde::Serialize;

use crate::journal::{self, milliseconds};

/// One thing that happened, to the app that it names.
pub type Entry = journal::Entry<Observation>;

/// What can happen.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum Observation {
    /// A discovery call (`/callback/ws/endpoint`) was answered with this code; none when it was left hanging or
    /// answered with a bare HTTP status.
    Discovery { status: Option<u16>, code: Option<i64>, device_id: Option<String> },
    /// A WebSocket handshake was refused or left hanging (`status` is none).
    HandshakeRefused { status: Option<u16>, autherrcode: Option<i64> },
    /// A long connection is open.
    Opened { connection: u64 },
    /// A long connection is gone.
    Closed { connection: u64, ending: Ending },
    /// A ping frame arrived.
    Ping { connection: u64 },
    /// An event was put on a connection; `attempt` counts from 1.
    Pushed { connection: u64, event_id: String, delivery_id: String, attempt: u32 },
    /// An event was due and the app had no connection.
    Missed { event_id: String, attempt: u32 },
    /// An answer to an event arrived.
    Answered {
        connection: u64,
        event_id: String,
        delivery_id: String,
        code: i64,
        #[serde(rename = "latency_ms", serialize_with = "milliseconds")]
        latency: Duration,
        /// After the time limit: it does not count.
        late: bool,
        /// The `data` member, still base64.
        data: Option<String>,
    },
    /// The time limit of a push is over without an answer.
    Unanswered { event_id: String, attempt: u32 },
    /// Every push of an event went unanswered.
    GivenUp { event_id: String },
    /// A tenant token was handed out; `fresh` when it is another one than before.
    Token { fresh: bool },
    /// A message was created.
    Sent(SentMessage),
    /// A send with a known `uuid` was answered with the message that it made before.
    Deduplicated { uuid: String, message_id: String },
    /// A message of an app became another one.
    Edited { message_id: String, msg_type: String, content: String },
    /// A message of an app was taken back.
    Recalled { message_id: String },
    /// An app reacted to a message.
    Reacted { message_id: String, emoji: String, reaction_id: String },
    /// An app took a reaction back.
    Unreacted { message_id: String, emoji: String, reaction_id: String },
    /// A picture or a file was uploaded.
    Uploaded {
        key: String,
        /// `image`, or the type of the file.
        kind: String,
        name: String,
        bytes: usize,
        duration: Option<String>,
    },
    /// The bytes of a part of a message were fetched.
    Downloaded { message_id: String, key: String },
    /// A card was made or changed; `act` is `create`, `content`, `settings`, `update` or `token`.
    Card { card_id: String, act: &'static str, sequence: Option<i64>, content: String },
    /// A REST request is held back.
    Held { route: &'static str },
    /// A REST request was answered; status none means the connection was cut or left hanging.
    Call {
        route: &'static str,
        status: Option<u16>,
        code: Option<i64>,
        /// It came inside the waiting time of an earlier rate limit answer.
        inside_window: bool,
    },
    /// The peer broke a rule of the protocol.
    Violation(Violation),
}

/// How a long connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// The peer sent a close frame, with this code if it named one.
    Close { code: Option<u16> },
    /// The peer went away without a close frame; `reset` when by RST.
    Dropped { reset: bool },
    /// A test ended it.
    Ours,
}

/// A message that an app sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentMessage {
    pub app: String,
    pub message_id: String,
    /// `chat_id`, `open_id` …; always `chat_id` for a reply.
    pub receive_id_type: String,
    /// Who gets it; for a reply the chat of the message replied to.
    pub receive_id: String,
    /// The message replied to.
    pub reply_to: Option<String>,
    pub in_thread: bool,
    pub msg_type: String,
    /// The JSON text as it was sent.
    pub content: String,
    pub uuid: Option<String>,
    #[serde(rename = "sent_ms", serialize_with = "milliseconds")]
    pub at: Duration,
}

impl SentMessage {
    /// The words of a text, or of a post that is all Markdown.
    pub fn text(&self) -> Option<String> {
        let content: serde_json::Value = serde_json::from_str(&self.content).ok()?;
        let post = content.pointer("/zh_cn/content/0/0/text");
        Some(content.get("text").or(post)?.as_str()?.to_owned())
    }
}

/// A rule of the protocol that the peer broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
}

/// The rules that are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Only binary messages that hold a whole frame are allowed.
    Frame,
    /// A ping is a control frame with zero `SeqID` and `LogID` and the service of the URL.
    Ping,
    /// An answer has method 1.
    Method,
    /// An answer repeats the `SeqID`.
    SeqId,
    /// An answer repeats the `LogID`. A peer that counts in doubles cannot; the event counts as answered all the same.
    LogId,
    /// An answer repeats the service.
    Service,
    /// An answer repeats every header, in order.
    Headers,
    /// An answer adds `biz_rt`, a count of milliseconds. The event counts as answered without it.
    BizRt,
    /// An answer's payload is JSON with a whole `code`, and `data`, if any, is base64 of JSON.
    Payload,
    /// An answer names a delivery of this connection.
    Unknown,
    /// One answer a delivery.
    Twice,
    /// Every attempt to connect has a URL of its own.
    Url,
}

impl Rule {
    /// Whether an answer that breaks the rule leaves its event unanswered.
    pub fn is_fatal(self) -> bool {
        !matches!(self, Self::LogId | Self::BizRt | Self::Twice | Self::Url)
    }
}

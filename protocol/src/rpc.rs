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
//! | agent → gateway | `message.draft` | [`Draft`] → `{}` |
//! | agent → gateway | `file.fetch` | [`Fetch`] → [`File`] |
//! | gateway → agent | `event.deliver` | [`Event`] → anything: acknowledged; an error: refused |
//! | gateway → agent | `event.settled` (notification) | [`EventRef`] |
//! | gateway → agent | `event.interrupt` (notification) | [`EventRef`] |
//! | gateway → agent | `message.receipt` (notification) | [`Message`] |
//!
//! Unknown members are ignored on both sides; members are only ever added. Programs that are platforms speak the
//! same, mirrored: [`platform`].

pub mod platform;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::content::{self, Act, Press};
use crate::event::{
    self, ChatType, Delivery, InboundKind, Mention, Part, Receipt, ReplyState, SenderKind,
};
use crate::id::Lane;

/// The longest line, in bytes, without its end.
pub const LINE_MAX: usize = 1024 * 1024;
/// The version of this method set.
pub const PROTOCOL: u32 = 1;
/// How long a readiness holds if the agent does not say, in milliseconds.
pub const LEASE_MS: u32 = 30_000;

/// What an agent may promise at once, in milliseconds.
pub const LEASE_RANGE: std::ops::RangeInclusive<u32> = 1_000..=600_000;

/// The longest key of a reply, in bytes.
pub const KEY_MAX: usize = 200;

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

/// Ours: the bytes cannot be had, now or ever.
pub const NO_FILE: i32 = -32004;

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
    /// It ends its work on an event when `event.interrupt` tells it to.
    pub interrupt: bool,
    /// It takes what is said while it works into what it does: see [`Event::steers`].
    pub steer: bool,
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
    /// The directory of files: those that come, and where the agent puts those that go.
    pub exchange: std::path::PathBuf,
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
    /// In which thread: [`Event::thread_id`]. An empty text is none.
    #[serde(default, deserialize_with = "named")]
    pub thread_id: Option<String>,
    /// Which message it answers: [`Event::message_id`]. An empty text is none.
    #[serde(default, deserialize_with = "named")]
    pub reply_to: Option<String>,
    /// What to say.
    #[serde(default)]
    pub text: String,
    /// Instead of a new message: that this one of ours becomes `text`.
    #[serde(default)]
    pub edit: Option<String>,
    /// Instead of a new message: that this one of ours is taken back.
    #[serde(default)]
    pub recall: Option<String>,
    /// Instead of a new message: a reaction to one of anybody.
    #[serde(default)]
    pub react: Option<React>,
    /// Files that go with it.
    #[serde(default)]
    pub files: Vec<content::File>,
    /// Buttons below it, row by row.
    #[serde(default)]
    pub buttons: Vec<Vec<Button>>,
    /// The platform's own card, in place of everything else.
    #[serde(default)]
    pub card: Option<serde_json::Value>,
}

/// A reaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct React {
    /// To which message.
    pub message_id: String,
    /// The platform's word or sign for it. Empty: ours is taken back.
    #[serde(default)]
    pub emoji: String,
}

/// A button: what stands on it, and either of the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Button {
    /// What stands on it.
    pub label: String,
    /// Pressing it is an event of kind `button` with this text, at most 64 bytes.
    #[serde(default)]
    pub data: Option<String>,
    /// Pressing it opens this page.
    #[serde(default)]
    pub url: Option<String>,
}

/// An empty text names nothing: so those write it whose language or template has no null.
fn named<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|name| !name.is_empty()))
}

/// A reply in the making: what is shown of it until it is sent with the same key. It is not kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Draft {
    /// The key that the reply will have.
    pub key: String,
    /// As in [`Send::instance`].
    pub instance: String,
    /// As in [`Send::chat_id`].
    pub chat_id: String,
    /// As in [`Send::thread_id`].
    #[serde(default, deserialize_with = "named")]
    pub thread_id: Option<String>,
    /// As in [`Send::reply_to`].
    #[serde(default, deserialize_with = "named")]
    pub reply_to: Option<String>,
    /// What it says by now.
    pub text: String,
}

/// A wish for the bytes of a part of an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// [`Event::instance`].
    pub instance: String,
    /// [`Event::message_id`].
    #[serde(default)]
    pub message_id: Option<String>,
    /// One of [`Event::parts`].
    pub part: Part,
}

/// A file that has been fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct File {
    /// Where it is. It is removed after some days.
    pub path: std::path::PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type, where the platform tells.
    pub mime: Option<String>,
}

impl Send {
    /// What the reply consists of, or what is wrong with it.
    pub fn content(&self) -> Result<content::Content, String> {
        let acts = [
            self.edit.clone().map(|message_id| Act::Edit { message_id }),
            self.recall.clone().map(|message_id| Act::Recall { message_id }),
            self.react.clone().map(|React { message_id, emoji }| Act::React { message_id, emoji }),
        ];
        let mut acts = acts.into_iter().flatten();
        let act = acts.next().unwrap_or(Act::Say);
        if acts.next().is_some() {
            return Err("only one of edit, recall and react is possible".into());
        }
        let button = |button: &Button| {
            let press = match (&button.data, &button.url) {
                (Some(data), None) if (1..=64).contains(&data.len()) => Press::Data(data.clone()),
                (None, Some(url)) => Press::Url(url.clone()),
                (Some(_), None) => return Err("data of a button has 1 to 64 bytes".to_owned()),
                _ => return Err("a button has either data or url".to_owned()),
            };
            Ok(content::Button { label: button.label.clone(), press })
        };
        let rows = self.buttons.iter().map(|row| row.iter().map(button).collect());
        let content = content::Content {
            act,
            text: self.text.clone(),
            files: self.files.clone(),
            buttons: rows.collect::<Result<_, _>>()?,
            card: self.card.as_ref().map(ToString::to_string),
        };
        if content.is_empty() {
            return Err("text must not be empty where there is no file and no card".into());
        }
        Ok(content)
    }
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
    /// The name of the chat, where the platform tells one.
    pub chat_name: Option<String>,
    /// What the message that this one answers said, where the platform tells.
    pub quote: Option<String>,
    /// The conversation: another one whenever somebody begins it anew.
    #[serde(default)]
    pub session_id: String,
    /// Messages that were said in one go with this one; their texts and parts are in this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Joined>,
    /// It was accepted by a gateway that was started anew since.
    #[serde(default)]
    pub before_restart: bool,
    /// [`Event::event_id`] of the event that the agent works on, which this one is to be taken into: for
    /// agents that said they can. Acknowledged, it counts once the other one is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steers: Option<String>,
}

/// A message that was said in one go with another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// As in [`Event::event_id`].
    pub event_id: String,
    /// As in [`Event::message_id`].
    pub message_id: Option<String>,
    /// As in [`Event::origin_ms`].
    pub origin_ms: i64,
}

/// The name of a conversation: instance, chat and thread, and how often it was begun anew.
pub fn session_id(lane: &Lane, epoch: u64) -> String {
    let thread = lane.thread_id.as_ref().map(|thread| format!(":{thread}")).unwrap_or_default();
    let again = if epoch > 0 { format!("#{epoch}") } else { String::new() };
    format!("{}:{}{thread}{again}", lane.instance, lane.chat_id)
}

impl From<Delivery> for Event {
    fn from(delivery: Delivery) -> Self {
        let Delivery { event_id, lane, platform, attempt, received_ms, event, late_by_ms, .. } =
            delivery;
        let joined = |joined: event::Joined| Joined {
            event_id: joined.event_id.to_string(),
            message_id: joined.message_id,
            origin_ms: joined.origin_ms,
        };
        Self {
            session_id: session_id(&lane, delivery.session.epoch),
            joined: delivery.joined.into_iter().map(joined).collect(),
            before_restart: delivery.before_restart,
            steers: None,
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
            chat_name: event.chat_name,
            quote: event.quote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_names_neither_a_thread_nor_a_message() {
        for (thread, none) in [("\"omt_1\"", false), ("\"\"", true), ("null", true)] {
            let said = format!(
                r#"{{"key": "k", "instance": "a", "chat_id": "c", "thread_id": {thread}, "reply_to": {thread}, "text": "t"}}"#
            );
            let send: Send = serde_json::from_str(&said).unwrap();
            let draft: Draft = serde_json::from_str(&said).unwrap();
            for named in [send.thread_id, send.reply_to, draft.thread_id, draft.reply_to] {
                assert_eq!(named.is_none(), none, "{said}");
            }
        }
        let bare: Send =
            serde_json::from_str(r#"{"key": "k", "instance": "a", "chat_id": "c"}"#).unwrap();
        assert_eq!((bare.thread_id, bare.reply_to), (None, None));
    }
}

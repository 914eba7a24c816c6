//! What the simulated platform saw and did. Nothing here decides anything.

use serde::Serialize;
use serde_json::Value;

use crate::journal;

/// One thing that happened, to the bot with this user name.
pub type Entry = journal::Entry<Observation>;

/// What can happen.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum Observation {
    /// A call of `getUpdates` began.
    Poll { offset: i64, limit: usize, timeout: u64 },
    /// Updates were handed out. They stay until they are confirmed.
    Handed { ids: Vec<i64> },
    /// Updates were confirmed, and are forgotten.
    Confirmed { ids: Vec<i64> },
    /// A call of `getUpdates` was told that there is another.
    Conflict { description: String },
    /// A message was created.
    Sent(SentMessage),
    /// A message was changed.
    Edited { chat_id: i64, message_id: i64, text: String, buttons: Value },
    /// A message was deleted.
    Deleted { chat_id: i64, message_id: i64 },
    /// A reaction was set; none: taken back.
    Reacted { chat_id: i64, message_id: i64, faces: Vec<String> },
    /// A preview of a message was shown.
    Draft { chat_id: i64, draft_id: i64, text: String },
    /// A sign of work was shown.
    Action { chat_id: i64, thread_id: Option<i64>, action: String },
    /// The bytes of a file were asked for.
    Read { path: String, status: u16 },
    /// The bot's menu of commands was set.
    Menu { commands: Value },
    /// Whatever waited was forgotten, because the bot wanted that.
    Dropped { updates: usize },
    /// An update was posted to a webhook; status none means that nobody answered.
    Posted { id: i64, status: Option<u16> },
    /// A call is held back.
    Held { method: String, chat_id: Option<i64> },
    /// A call was answered; status none means that the connection was cut or left hanging.
    Call {
        method: String,
        status: Option<u16>,
        chat_id: Option<i64>,
        /// It came inside the waiting time of an earlier rate limit.
        inside_window: bool,
    },
    /// The peer broke a rule.
    Violation { rule: Rule, detail: String },
}

/// A message that a bot sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SentMessage {
    pub chat_id: i64,
    pub message_id: i64,
    /// `text`, or the kind of its file.
    pub kind: String,
    /// Text or caption.
    pub text: String,
    pub entities: Vec<Value>,
    pub parse_mode: Option<String>,
    pub reply_to: Option<i64>,
    pub thread_id: Option<i64>,
    pub file: Option<SentFile>,
    /// The album that it is a part of.
    pub album: Option<String>,
    /// Rows of buttons, or null.
    pub buttons: Value,
}

/// A file that a bot sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentFile {
    pub name: String,
    pub size: usize,
}

/// The rules that are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// No call for a chat (or at all) inside the waiting time of a rate limit.
    Window,
    /// A text has at most 4096 units of UTF-16.
    Length,
    /// Entities lie within their text and cut no character.
    Entities,
    /// A negative offset, or one that drops what was never handed out, loses updates.
    Drop,
}

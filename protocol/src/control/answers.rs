//! What requests lead to. Members are only ever added; words of `result` name the finished state.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::SCHEMA;
use super::Subject;
use crate::id::{Instance, ParkedId};

/// What a request carries that may look and no more. It stays the same as long as the store does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The member `token` of a request's line.
    pub token: String,
}

/// A platform's worker has done what a person wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ordered {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which instance.
    pub instance: String,
    /// What was done, for people.
    pub result: String,
}

/// Who may speak, as people have decided; what the configuration says besides stands there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// One for each platform instance.
    pub instances: Vec<AccessRules>,
}

/// Who may speak on one platform.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessRules {
    /// Which.
    pub instance: Instance,
    /// `list`, `pairing`, `open` or `off`.
    pub direct: String,
    /// `mention`, `all`, `list` or `off`.
    pub groups: String,
    /// Users of the configuration.
    pub users: Vec<String>,
    /// Chats of the configuration.
    pub chats: Vec<String>,
    /// What people have decided.
    pub decided: Vec<DecidedAbout>,
    /// Live codes.
    pub codes: Vec<PairingCode>,
}

/// What was decided about somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecidedAbout {
    /// About whom.
    #[serde(flatten)]
    pub subject: Subject,
    /// `allowed` or `denied`.
    pub result: String,
}

/// A code that a stranger was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairingCode {
    /// The code.
    pub code: String,
    /// Whom.
    pub user: String,
    /// In which chat.
    pub chat: String,
    /// Until when it holds, in Unix milliseconds.
    pub until_ms: i64,
}

/// A decision holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessChanged {
    /// [`SCHEMA`].
    pub schema: u32,
    /// About whom.
    #[serde(flatten)]
    pub subject: Subject,
    /// `allowed`, `denied` or `revoked`; `unknown` where there was nothing to revoke.
    pub result: String,
}

/// A copy of the store is complete and durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackedUp {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The new file.
    pub path: std::path::PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What `start`, `restart` and `kill` led to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acted {
    /// [`SCHEMA`].
    pub schema: u32,
    /// One for each instance.
    pub results: Vec<Done>,
}

/// What became of one instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub instance: String,
    /// The finished state: `started`, `already_up`, `restarted`, `killed`, `already_down`, `held`,
    /// `timed_out`, `requested` where nobody waited, `queued` where an agent asked for what would end
    /// its own turn, or `unknown` where nothing has this name.
    pub result: String,
    /// 0, or the exit code of a tool that asked only for this one.
    pub code: u8,
    /// The phase it is in; empty where nobody has looked.
    pub phase: String,
    /// The process, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it is not as wished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Done {
    /// A word, and nothing to add.
    pub fn new(instance: &str, result: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            result: result.to_owned(),
            code: 0,
            phase: String::new(),
            pid: None,
            took_ms: 0,
            reason: None,
            remedy: None,
        }
    }
}

/// What became of `reload`: instances by what happens to them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `reloaded`, `unchanged`, or `queued` until the turn of whoever asked is over.
    pub result: String,
    /// New ones, started.
    pub added: Vec<String>,
    /// Those that are not configured any more, ended.
    pub removed: Vec<String>,
    /// Those whose block has changed, started anew.
    pub changed: Vec<String>,
    /// What has changed for all of them, like `[commands]` or `gateway.stop_s`.
    #[serde(default)]
    pub settings: Vec<String>,
}

/// What was set aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParkedList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// In the order of ids, events first.
    pub items: Vec<ParkedItem>,
    /// There may be more behind them.
    pub more: bool,
}

/// What waits, in one direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// In the order of ids, which is that in which they came.
    pub items: Vec<WaitingItem>,
    /// There is more behind them.
    pub more: bool,
}

/// An event that waits for its acknowledgement, or a reply that waits to be sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingItem {
    /// Its id.
    pub id: ParkedId,
    /// `waiting`, `with_agent` (an event), `sending` (a reply).
    pub state: String,
    /// The platform instance.
    pub instance: Instance,
    /// The chat, by the platform's id.
    pub chat_id: String,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was accepted, in Unix milliseconds.
    pub received_ms: i64,
}

/// Something that was set aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParkedItem {
    /// Its id.
    pub id: ParkedId,
    /// `parked` (an event), `failed` or `unknown` (a reply).
    pub state: String,
    /// The platform instance.
    pub instance: Instance,
    /// The chat, by the platform's id.
    pub chat_id: String,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was accepted, in Unix milliseconds.
    pub received_ms: i64,
    /// When it was set aside, in Unix milliseconds.
    pub parked_ms: i64,
    /// Why.
    pub reason: String,
    /// Of a reply: the platform's messages that show a part of it already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message_ids: Vec<String>,
    /// What it says; only where one item is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The whole event; only where one event is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<serde_json::Value>>,
    /// What a reply does and has besides its text; only where one such reply is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<serde_json::Value>>,
}

/// What became of decisions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// [`SCHEMA`].
    pub schema: u32,
    /// In the order asked for.
    pub results: Vec<DecidedOne>,
}

/// What became of one decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecidedOne {
    /// About what.
    pub id: ParkedId,
    /// `replayed`, `dropped` or `unknown`: nothing of that id is set aside.
    pub result: String,
    /// The exit code of a tool that asked for this alone.
    pub code: u8,
}

//! What a program that is a platform says over its standard input and output: the method set of agents, mirrored.
//! `docs/exec-platform.md` is the same for users.
//!
//! | direction | method | params → result |
//! |---|---|---|
//! | program → gateway | `initialize` | [`Initialize`] → [`Initialized`] |
//! | program → gateway | `ready` | [`Ready`] → [`super::Leased`] |
//! | program → gateway | `down` | [`Down`] → [`super::Leased`] |
//! | program → gateway | `event.deliver` | [`Event`] → [`Delivered`] |
//! | program → gateway | `cursor.keep` | [`Keep`] → `{}` |
//! | gateway → program | `message.send` | [`Send`] → [`Sent`] |
//! | gateway → program | `message.draft` | [`Draft`] → [`Drafted`] |
//! | gateway → program | `file.fetch` | [`Fetch`] → [`Fetched`] |
//! | gateway → program | `busy` (notification) | [`Busy`] |
//!
//! Unknown members are ignored on both sides; members are only ever added.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Button, React, named};
use crate::content::{self, Act, Press};
use crate::event::{
    self, ChatType, Inbound, InboundKind, Mention, Part, Sender, SenderKind, message_key,
};

/// The longest cursor, in bytes of JSON.
pub const CURSOR_MAX: usize = 64 * 1024;

/// Ours: the message left, and nobody can say whether it arrived.
pub const UNKNOWN: i32 = -32005;

/// The program introduces itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Initialize {
    /// [`super::PROTOCOL`].
    pub protocol: Option<u32>,
    /// A name for people.
    pub name: Option<String>,
    /// The longest text of one message, in `text_unit`s: a longer one comes in parts.
    pub text_limit: Option<u32>,
    /// What that counts.
    pub text_unit: TextUnit,
    /// What it can beyond sending new messages of text: the words of [`Ability::word`]. Others are ignored.
    pub can: Vec<String>,
    /// How long after a first attempt a message with the same key is not sent again, in milliseconds. `None`: it
    /// always is.
    pub idempotent_ms: Option<u64>,
}

/// What a limit of texts counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextUnit {
    /// Characters of Unicode.
    #[default]
    Chars,
    /// Units of UTF-16.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

impl TextUnit {
    /// How many of them a character is.
    pub fn cost(self, c: char) -> usize {
        match self {
            Self::Chars => 1,
            Self::Utf16 => c.len_utf16(),
            Self::Bytes => c.len_utf8(),
        }
    }
}

/// What a program may be able to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ability {
    /// Change a message of its own.
    Edit,
    /// Take one back.
    Recall,
    /// React to a message.
    React,
    /// Send files.
    Files,
    /// Show buttons.
    Buttons,
    /// Show a card.
    Cards,
    /// Show a reply in the making.
    Drafts,
    /// Show that an agent is at work.
    Busy,
    /// Bring the bytes of a part.
    Fetch,
}

impl Ability {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Edit,
        Self::Recall,
        Self::React,
        Self::Files,
        Self::Buttons,
        Self::Cards,
        Self::Drafts,
        Self::Busy,
        Self::Fetch,
    ];

    /// The word in [`Initialize::can`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Recall => "recall",
            Self::React => "react",
            Self::Files => "files",
            Self::Buttons => "buttons",
            Self::Cards => "cards",
            Self::Drafts => "drafts",
            Self::Busy => "busy",
            Self::Fetch => "fetch",
        }
    }
}

/// The gateway introduces itself, and hands over what the program needs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Initialized {
    /// [`super::PROTOCOL`].
    pub protocol: u32,
    /// `hermes-gw 0.1.0`.
    pub gateway: String,
    /// The name of the block in the configuration.
    pub instance: String,
    /// The directory of files.
    pub exchange: PathBuf,
    /// What was last kept, as it was said; null the first time.
    pub cursor: Value,
    /// The table `settings` of the block.
    pub settings: Value,
    /// The table `secrets` of the block, read.
    pub secrets: BTreeMap<String, String>,
}

/// The program hears its platform. To be repeated before the lease ends.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// How long the promise holds; 1 000 to 600 000, [`super::LEASE_MS`] if absent.
    pub lease_ms: Option<u32>,
    /// Who it is logged in as, for people.
    pub account: Option<String>,
    /// Why it does not work as well as it should, if so.
    pub reason: Option<String>,
    /// What a person can do about that.
    pub remedy: Option<String>,
}

/// The program does not hear its platform, and is at it. To be repeated before the lease ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Down {
    /// Why.
    pub reason: String,
    /// What a person can do, where only a person can.
    #[serde(default)]
    pub remedy: Option<String>,
    /// As in [`Ready::lease_ms`].
    #[serde(default)]
    pub lease_ms: Option<u32>,
}

/// Something that happened on the platform. The members mean what they mean in [`super::Event`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What it is known by when it comes again, unique within the account. Not needed for a message with an id.
    #[serde(default, deserialize_with = "named")]
    pub key: Option<String>,
    /// What kind of happening; a message, unless it says otherwise.
    #[serde(default)]
    pub kind: Option<InboundKind>,
    /// The platform's id of the chat.
    pub chat_id: String,
    /// What sort of chat.
    pub chat_type: ChatType,
    /// The platform's id of the thread.
    #[serde(default, deserialize_with = "named")]
    pub thread_id: Option<String>,
    /// The platform's id of the message, unique within the account.
    #[serde(default, deserialize_with = "named")]
    pub message_id: Option<String>,
    /// The message that it answers.
    #[serde(default, deserialize_with = "named")]
    pub reply_to: Option<String>,
    /// Who. Empty where the platform withholds it.
    pub user_id: String,
    /// Who, for people.
    #[serde(default)]
    pub user_name: Option<String>,
    /// What is behind the account; a person, unless it says otherwise.
    #[serde(default)]
    pub user_kind: Option<SenderKind>,
    /// Whether the bot is addressed; it is not, unless it says otherwise.
    #[serde(default)]
    pub mention: Option<Mention>,
    /// What was said.
    #[serde(default)]
    pub text: Option<String>,
    /// The name of the chat.
    #[serde(default)]
    pub chat_name: Option<String>,
    /// What the message that this one answers said.
    #[serde(default)]
    pub quote: Option<String>,
    /// What text cannot hold.
    #[serde(default)]
    pub parts: Option<Vec<Part>>,
    /// When, by the platform's clock.
    pub origin_ms: i64,
    /// What is to be kept with it as the resume point.
    #[serde(default)]
    pub cursor: Option<Value>,
}

impl Event {
    /// The event, or what is wrong with it.
    pub fn inbound(self) -> Result<Inbound, String> {
        let kind = self.kind.unwrap_or(InboundKind::Message);
        if kind == InboundKind::Unreadable {
            return Err("kind must not be unreadable".into());
        }
        if self.chat_id.is_empty() {
            return Err("chat_id must not be empty".into());
        }
        let own = self.message_id.as_deref().filter(|_| kind == InboundKind::Message);
        let keys = [self.key.map(|key| format!("event:{key}")), own.map(message_key)];
        let keys: Vec<_> = keys.into_iter().flatten().collect();
        if keys.is_empty() {
            return Err("key must be set: only a message with a message_id needs none".into());
        }
        Ok(Inbound {
            kind,
            keys,
            origin_ms: self.origin_ms,
            chat_id: self.chat_id,
            chat_type: self.chat_type,
            thread_id: self.thread_id,
            message_id: self.message_id,
            reply_to: self.reply_to,
            sender: Sender {
                user_id: self.user_id,
                name: self.user_name,
                kind: self.user_kind.unwrap_or(SenderKind::User),
            },
            mention: self.mention.unwrap_or(Mention::None),
            text: self.text.unwrap_or_default(),
            parts: self.parts.unwrap_or_default(),
            raw: Vec::new(),
            chat_name: self.chat_name,
            quote: self.quote,
            album: None,
        })
    }
}

/// What became of an event: the platform may be acknowledged now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivered {
    /// `accepted`: it is durable; `duplicate`: it was accepted before; `denied`: nobody wants it from this sender.
    pub verdict: String,
    /// Our name for it, where it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// A resume point that goes with no event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Keep {
    /// It.
    pub cursor: Value,
}

/// A message to send, or what to do with one. The members mean what they mean in [`super::Send`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Send {
    /// The same for every attempt at this message and for no other; at most 48 ASCII characters.
    pub key: String,
    /// 1, or more if it was tried before.
    pub attempt: u32,
    /// Which message of a reply in several, from 1.
    pub part: u32,
    /// How many they are.
    pub parts: u32,
    /// Where.
    pub chat_id: String,
    /// In which thread.
    pub thread_id: Option<String>,
    /// Which message it answers.
    pub reply_to: Option<String>,
    /// What to say, in Markdown.
    pub text: String,
    /// Instead of a new message: that this one becomes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<String>,
    /// Instead of a new message: that this one is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<String>,
    /// Instead of a new message: a reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub react: Option<React>,
    /// Instead of a new message: that the one which shows the draft becomes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
    /// Files that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<content::File>,
    /// Buttons below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<Vec<Button>>,
    /// The platform's own card, shown behind the words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Value>,
}

impl Send {
    /// Does what `act` says.
    pub fn act(&mut self, act: &Act) {
        match act.clone() {
            Act::Say => {}
            Act::Edit { message_id } => self.edit = Some(message_id),
            Act::Recall { message_id } => self.recall = Some(message_id),
            Act::React { message_id, emoji } => self.react = Some(React { message_id, emoji }),
        }
    }
}

impl From<&content::Button> for Button {
    fn from(button: &content::Button) -> Self {
        let (data, url) = match &button.press {
            Press::Data(data) => (Some(data.clone()), None),
            Press::Url(url) => (None, Some(url.clone())),
        };
        Self { label: button.label.clone(), data, url }
    }
}

/// A message is sent, or what was to be done is done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// The platform's ids of what it became.
    pub message_ids: Vec<String>,
}

/// A reply in the making.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Draft {
    /// Which reply.
    pub key: String,
    /// Where.
    pub chat_id: String,
    /// In which thread.
    pub thread_id: Option<String>,
    /// Which message it answers.
    pub reply_to: Option<String>,
    /// What it says by now.
    pub text: String,
    /// The message that shows it so far.
    pub message_id: Option<String>,
}

/// A draft is shown.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Drafted {
    /// The message that shows it.
    pub message_id: Option<String>,
}

/// The bytes of a part are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// The message that it belongs to.
    pub message_id: Option<String>,
    /// The part, as the event had it.
    pub part: event::Part,
}

/// The bytes of a part are in the directory of files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// The name there.
    pub file: String,
    /// The media type.
    #[serde(default)]
    pub mime: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(members: &str) -> Result<Inbound, String> {
        let said = format!(
            r#"{{"chat_id": "c", "chat_type": "group", "user_id": "u", "origin_ms": 1{members}}}"#
        );
        serde_json::from_str::<Event>(&said).unwrap().inbound()
    }

    #[test]
    fn an_event_is_known_by_its_key_and_a_message_by_its_id() {
        let keys = |members: &str| event(members).map(|event| event.keys);
        assert_eq!(keys(r#", "message_id": "m""#).unwrap(), ["message:m"]);
        assert_eq!(keys(r#", "key": "k", "message_id": "m""#).unwrap(), ["event:k", "message:m"]);
        assert_eq!(
            keys(r#", "key": "k", "kind": "edit", "message_id": "m""#).unwrap(),
            ["event:k"]
        );
        for none in ["", r#", "kind": "edit", "message_id": "m""#, r#", "key": """#] {
            assert!(keys(none).unwrap_err().contains("key must be set"), "{none}");
        }
        assert!(keys(r#", "key": "k", "kind": "unreadable""#).is_err());
    }

    #[test]
    fn what_is_left_out_of_an_event_or_null_is_the_usual() {
        let nulls = r#", "kind": null, "user_name": null, "user_kind": null, "mention": null, "text": null,
            "reply_to": null, "chat_name": null, "quote": null, "parts": null, "cursor": null"#;
        for more in ["", nulls] {
            let event = event(&format!(r#", "key": "k", "thread_id": ""{more}"#)).unwrap();
            assert_eq!((event.kind, event.mention), (InboundKind::Message, Mention::None));
            assert_eq!((event.sender.kind, event.thread_id), (SenderKind::User, None));
            assert_eq!((event.text, event.parts), (String::new(), Vec::new()));
        }
    }
}

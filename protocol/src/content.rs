//! What a reply consists of, what a reply in the making looks like, and files that travel beside them.
//!
//! The bytes of a file never enter a frame: they lie in the exchange directory, and its name there
//! travels.

use serde::{Deserialize, Serialize};

use crate::event::Part;
use crate::id::{Instance, Lane};

/// What a reply does and says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Content {
    /// What it does.
    pub act: Act,
    /// What it says, in Markdown, UTF-8. With files, what is said about them.
    pub text: String,
    /// Files that go with it, in order.
    pub files: Vec<File>,
    /// Buttons below it, row by row.
    pub buttons: Vec<Vec<Button>>,
    /// The platform's own JSON of a card, shown behind the words.
    pub card: Option<String>,
}

impl Content {
    /// A new message that says `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            act: Act::Say,
            text: text.into(),
            files: Vec::new(),
            buttons: Vec::new(),
            card: None,
        }
    }

    /// Whether it is a new message of nothing but text.
    pub fn is_plain(&self) -> bool {
        self.act == Act::Say
            && self.files.is_empty()
            && self.buttons.is_empty()
            && self.card.is_none()
    }

    /// Why an adapter that sends nothing but new messages of text cannot send it.
    pub fn beyond_text(&self) -> Option<String> {
        let what = match &self.act {
            Act::Edit { .. } => "edits",
            Act::Recall { .. } => "recalls",
            Act::React { .. } => "reactions",
            Act::Say if self.card.is_some() => "cards",
            Act::Say if !self.files.is_empty() => "files",
            Act::Say if !self.buttons.is_empty() => "buttons",
            Act::Say => return None,
        };
        Some(format!("{what} are not possible on this platform in this version"))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        match self.act {
            Act::Say | Act::Edit { .. } => {
                self.text.is_empty() && self.files.is_empty() && self.card.is_none()
            }
            Act::Recall { .. } | Act::React { .. } => false,
        }
    }
}

/// What a reply does. Ids of messages are the platform's, of messages that we sent unless said otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A new message.
    Say,
    /// A message becomes this.
    Edit {
        /// Which.
        message_id: String,
    },
    /// A message is taken back.
    Recall {
        /// Which.
        message_id: String,
    },
    /// A reaction to a message of anybody.
    React {
        /// Which.
        message_id: String,
        /// The platform's word or sign for it. Empty: ours is taken back.
        emoji: String,
    },
}

/// A file on its way out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct File {
    /// How it is to be shown.
    pub kind: FileKind,
    /// Its name in the exchange directory.
    pub file: String,
    /// The name that people see.
    pub title: Option<String>,
}

/// How a file is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A picture.
    Image,
    /// A sound file.
    Audio,
    /// A spoken message.
    Voice,
    /// A film.
    Video,
    /// Anything, to be downloaded.
    File,
}

/// A button below a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Button {
    /// What stands on it.
    pub label: String,
    /// What pressing it does.
    pub press: Press,
}

/// What pressing a button does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Press {
    /// An event of kind `button` with this as its text. At most 64 bytes, which is Telegram's limit.
    Data(String),
    /// A page opens.
    Url(String),
}

/// A reply in the making, as far as it has come. It is not durable and only the newest matters; the
/// reply with the same key takes its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Draft {
    /// The key that its reply will have, unique among those of its agent.
    pub key: String,
    /// The conversation.
    pub lane: Lane,
    /// The message that it answers.
    pub reply_to: Option<String>,
    /// What it says by now.
    pub text: String,
    /// The message that shows an older draft of it, where that is known; an agent names none.
    pub message_id: Option<String>,
}

/// That an agent is at work on what was said in a chat, or not any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Busy {
    /// The chat.
    pub chat_id: String,
    /// The thread or topic.
    pub thread_id: Option<String>,
    /// The message that it works on.
    pub message_id: Option<String>,
    /// Whether it is.
    pub on: bool,
}

/// A wish for the bytes behind a part of an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// The instance that heard the event.
    pub instance: Instance,
    /// The message that the part belongs to.
    pub message_id: Option<String>,
    /// The part.
    pub part: Part,
}

/// Bytes that have been fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// The name in the exchange directory. The file is removed after a while.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type, where the platform tells.
    pub mime: Option<String>,
}

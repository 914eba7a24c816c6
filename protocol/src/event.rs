//! What arrives from a platform and what leaves for it, in one shape for all of them.
//!
//! Times are milliseconds since the Unix epoch by the clock of whoever is named; ids are the
//! platform's own text and are never interpreted here. These types travel in frames and lie in the
//! store, both positional: a field is added at the end of a struct or an enum, together with a new
//! version of the frame protocol and of the stored body.

use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::id::{EventId, Lane, OutboundId};

/// Something that happened on a platform and that the agent may want to hear of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inbound {
    /// What kind of happening.
    pub kind: InboundKind,
    /// Texts that identify it among all events of its instance, strongest first; an event is a
    /// duplicate if any of them was seen before. At least one. Adapters prefix each with its
    /// namespace (`event:…`, `message:…`); what is longer than 256 bytes is hashed on its way.
    pub keys: Vec<String>,
    /// When it happened, by the platform's clock.
    pub origin_ms: i64,
    /// The platform's id of the chat.
    pub chat_id: String,
    /// What sort of chat.
    pub chat_type: ChatType,
    /// The platform's id of the thread or topic, where it is in one.
    pub thread_id: Option<String>,
    /// The platform's id of the message, where it is about one.
    pub message_id: Option<String>,
    /// The message that this one answers.
    pub reply_to: Option<String>,
    /// Who did it.
    pub sender: Sender,
    /// Whether the bot is addressed.
    pub mention: Mention,
    /// What was said, as plain text in UTF-8; markup of the platform is translated by its adapter.
    pub text: String,
    /// Files and other parts that text cannot hold; behind them may come those of the message that this one answers.
    pub parts: Vec<Part>,
    /// The platform's own JSON, unchanged, or empty where it was too large for a frame.
    #[serde(with = "serde_bytes")]
    pub raw: Vec<u8>,
    /// The name of the chat for people, where the platform tells one.
    pub chat_name: Option<String>,
    /// What the message that this one answers said, where the platform tells.
    pub quote: Option<String>,
    /// Events of one chat that follow each other with the same text here are one message in parts (an album),
    /// and reach the agent as one.
    pub album: Option<String>,
}

/// What kind of happening an [`Inbound`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundKind {
    /// A new message.
    Message,
    /// A message was changed; the text is the new one.
    Edit,
    /// A button of one of our messages was pressed; the text is its data.
    Button,
    /// Reactions to a message changed; the text is what they are now.
    Reaction,
    /// Who is in a chat, or may write there, changed.
    Member,
    /// Something that this version has no word for: `raw` says what, and the text, if there is one, as it came.
    Other,
    /// Something that could not be understood, down to its chat and its sender. `raw` is kept, parked, and
    /// no agent gets it.
    Unreadable,
    /// A message was taken back.
    Recall,
    /// The platform's own sign that the agent is to stop was pressed.
    Stop,
}

impl InboundKind {
    /// Whether somebody says something with it that waits for an answer.
    pub fn is_said(self) -> bool {
        match self {
            Self::Message | Self::Button => true,
            Self::Edit
            | Self::Reaction
            | Self::Member
            | Self::Other
            | Self::Unreadable
            | Self::Recall
            | Self::Stop => false,
        }
    }
}

/// What sort of chat.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatType {
    /// One person and the bot.
    Direct,
    /// Several people.
    Group,
    /// One to many.
    Channel,
}

/// Who caused an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sender {
    /// The platform's id of the account. Empty where the platform withholds it.
    pub user_id: String,
    /// A name for people, where the platform tells one.
    pub name: Option<String>,
    /// What is behind the account.
    pub kind: SenderKind,
}

/// What is behind a sender's account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderKind {
    /// A person.
    User,
    /// Another program.
    Bot,
    /// The platform itself, or nobody it names.
    System,
    /// This bot itself; or another program, while the bot does not know its own id.
    Own,
}

/// Whether an event addresses the bot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mention {
    /// Nobody is addressed.
    None,
    /// The bot is, by mention or by an answer to one of its messages.
    Me,
    /// Somebody else is.
    Other,
    /// Everybody is.
    All,
}

/// A part of a message that is not text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Its sort, as replies name theirs, or else the platform's word: `image`, `video`, `photo`, `sticker`.
    pub kind: String,
    /// The platform's handle to fetch it by.
    pub handle: String,
    /// A file name, where there is one.
    pub name: Option<String>,
    /// Its size in bytes, where the platform tells.
    pub size: Option<u64>,
    /// Its media type, `image/png`, where the platform tells.
    pub mime: Option<String>,
}

/// The key of a message, by which it is known when it is taken back.
pub fn message_key(message_id: &str) -> String {
    format!("message:{message_id}")
}

impl Inbound {
    /// Who is at the other end, in a direct chat.
    pub fn direct_user(&self) -> Option<&str> {
        let user = self.sender.user_id.as_str();
        (self.chat_type == ChatType::Direct && !user.is_empty()).then_some(user)
    }

    /// What is said, without the bot's name before it and, as Telegram has it in commands, behind it.
    pub fn unnamed(&self) -> &str {
        let text = self.text.trim();
        if self.mention != Mention::Me {
            return text;
        }
        let text = match text.split_once(char::is_whitespace) {
            Some((_, rest)) if text.starts_with('@') => rest.trim_start(),
            _ => text,
        };
        match text.split_once('@') {
            Some((word, name)) if !name.contains(char::is_whitespace) => word.trim_end(),
            _ => text,
        }
    }

    /// The conversation that this event belongs to, heard by `instance`.
    pub fn lane(&self, instance: crate::id::Instance) -> Lane {
        Lane { instance, chat_id: self.chat_id.clone(), thread_id: self.thread_id.clone() }
    }
}

/// A reply on its way to a platform.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outbound {
    /// Our name for it.
    pub id: OutboundId,
    /// The same for every attempt at this reply and for no other: a platform that de-duplicates gets
    /// it as its idempotency key. At most 40 ASCII characters.
    pub key: String,
    /// Where it goes.
    pub chat_id: String,
    /// The thread or topic that it goes to.
    pub thread_id: Option<String>,
    /// The message that it answers.
    pub reply_to: Option<String>,
    /// What to do and to say.
    pub content: Content,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The key of its drafts, if there are any: see [`Draft`](crate::content::Draft).
    pub draft_key: String,
    /// The platform's id of the message that shows its newest draft: it becomes the reply.
    pub draft_id: Option<String>,
    /// How far earlier attempts have come, if a part of it has arrived: this one goes on behind that.
    pub progress: Option<Progress>,
}

/// How far a reply of several messages has come. Kept while the rest is on its way, and for whoever has it
/// sent once more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The platform's ids of the messages that have arrived, in order.
    pub message_ids: Vec<String>,
    /// Bytes that only this kind of worker understands: where to go on.
    #[serde(with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// What became of one attempt at an [`Outbound`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The platform has it.
    Sent {
        /// The platform's ids of what it became, in order.
        message_ids: Vec<String>,
    },
    /// The platform refused it and will refuse it again.
    Failed {
        /// What the platform said, and what a person can do.
        reason: String,
    },
    /// It may or may not have been sent; no idempotency key makes a repetition safe.
    Unknown {
        /// What happened.
        reason: String,
    },
    /// It was certainly not sent, or a repetition is safe: try again.
    Retry {
        /// What happened.
        reason: String,
        /// The platform's own wish, where it states one.
        after_ms: Option<u64>,
    },
    /// Some of its messages were sent, and the rest will not be.
    Partly {
        /// The platform's ids of those that were, in order.
        message_ids: Vec<String>,
        /// What became of the rest: refused, or nobody knows.
        rest: Rest,
        /// What happened.
        reason: String,
    },
}

/// What became of the messages that an [`Outcome::Partly`] does not name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Rest {
    /// The platform refused one; those behind it were not tried.
    Failed,
    /// One left, and nobody can say whether it arrived.
    Unknown,
}

/// An event on its way to an agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// Our name for the event; the same in each attempt.
    pub event_id: EventId,
    /// The instance that heard it.
    pub lane: Lane,
    /// The platform's kind, `feishu`, whatever the instance is called.
    pub platform: String,
    /// 1 for the first attempt. More: it may have been seen before, and was not acknowledged.
    pub attempt: u32,
    /// When it was accepted here.
    pub received_ms: i64,
    /// What happened.
    pub event: Inbound,
    /// How old it is by the platform's clock, in milliseconds, if that is more than the instance or the
    /// chat calls in time.
    pub late_by_ms: Option<u64>,
    /// The conversation as this agent knows it.
    pub session: Session,
    /// Events of the same conversation that were said in one go with this one, in order. Their texts and
    /// parts are in `event`; who acknowledges this one acknowledges them.
    pub joined: Vec<Joined>,
    /// It was accepted by a gateway that was started anew since.
    pub before_restart: bool,
}

/// A conversation as one agent knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Session {
    /// How often somebody began it anew.
    pub epoch: u64,
    /// What the agent's worker wants to have kept about it: see [`Note`]. Empty: nothing.
    #[serde(with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// What an agent's worker wants to have kept about a conversation. It comes back with each
/// [`Delivery`] of that conversation, and is forgotten when somebody begins the conversation anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// [`Session::epoch`] as it was delivered: a note about a conversation of before is not kept.
    pub epoch: u64,
    /// Bytes that only this kind of worker understands, at most [`NOTE_MAX`].
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// The longest [`Note`], in bytes.
pub const NOTE_MAX: usize = 96 * 1024;

/// An event that was said in one go with another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// Our name for it.
    pub event_id: EventId,
    /// The platform's id of its message.
    pub message_id: Option<String>,
    /// When it was said, by the platform's clock.
    pub origin_ms: i64,
}

/// What an agent can do while it works on an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Abilities {
    /// It can be told to stop.
    pub interrupt: bool,
    /// It can be told more.
    pub steer: bool,
}

/// A reply as an agent hands it in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The agent's own idempotency key: a second reply with the same key is the first one. At most
    /// 200 bytes.
    pub key: String,
    /// The conversation that it goes to.
    pub lane: Lane,
    /// The message that it answers.
    pub reply_to: Option<String>,
    /// What to do and to say.
    pub content: Content,
}

/// How far an accepted reply has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyState {
    /// Durable here, not yet at the platform.
    Waiting,
    /// An attempt is under way, or was when we last knew.
    Sending,
    /// The platform has it.
    Sent,
    /// The platform refused it for good.
    Failed,
    /// It left, and nobody can say whether it arrived.
    Unknown,
}

/// What an agent is told about a reply of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Our name for the reply.
    pub id: OutboundId,
    /// The key that the agent gave it.
    pub key: String,
    /// How far it has come.
    pub state: ReplyState,
    /// The platform's ids of what was sent, also where that was only a part.
    pub message_ids: Vec<String>,
    /// Why it failed or is unknown.
    pub reason: Option<String>,
}

/// Why an agent stopped being ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Pause {
    /// It said so. What it still holds is handed back without counting the attempt.
    Asked,
    /// Its connection ended without a word. What it held counts as tried.
    Lost,
}

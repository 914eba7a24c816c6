//! What the store answers, as data; see [`op`](super::op) for what it is asked.

use std::path::PathBuf;
use std::time::Duration;

use protocol::content::Content;
use protocol::event::{Inbound, Outbound, Receipt, Session};
use protocol::id::{EventId, Generation, Instance, Lane, OutboundId, ParkedId};
use protocol::worker::Cursor;

use super::op::{Grant, Pair, Ticket};

/// How many ends of workers are remembered for each instance.
pub const EXITS_KEPT: u32 = 20;

/// One answered operation.
#[derive(Debug)]
pub enum Done {
    /// The answer to the operation with this ticket.
    Answered {
        /// The caller's name for it.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// Durability is lost: nothing is answered any more, not even what was under way. The process
    /// must end with code 74; what is on disk is whole, and the next start reads it.
    Poisoned {
        /// What failed.
        error: String,
    },
}

/// What an operation answers.
#[derive(Debug)]
pub enum Answer {
    /// The event is durable.
    Accepted {
        /// The event.
        id: EventId,
        /// Who is at the other end of a direct chat, where the event itself does not name them.
        user: Option<String>,
    },
    /// One of its keys was known.
    Duplicate,
    /// As much waits as may wait: nothing was kept.
    OverQuota,
    /// The keys are durable.
    Denied,
    /// What it belongs to was never kept, and so it was not.
    Unheard,
    /// Waiting events in the order of ids: the first of each lane in the part that was looked at, and
    /// the last entry looked at, so that the next search starts behind it. Never empty unless
    /// `at_end`.
    Heads {
        /// The entries.
        found: Vec<Head>,
        /// Nothing stands behind the last of them.
        at_end: bool,
    },
    /// The next event of a lane.
    Next {
        /// The event, if there is one.
        found: Option<EventId>,
        /// Who is at the other end, if it is a direct chat.
        user: Option<String>,
    },
    /// An attempt is counted.
    Begun(Box<Begun>),
    /// Nothing is counted: the pause before the next attempt is not over.
    Pauses {
        /// The event.
        id: EventId,
        /// What is left of it.
        left: Duration,
    },
    /// The attempt is counted, but the payload cannot be understood (a newer version wrote it, or the
    /// disk changed it): park the event.
    Unreadable(EventId),
    /// The event is gone for good.
    Settled,
    /// The event is set aside, and what goes with it: all of them, whole.
    Parked(Vec<(Parked, Payload)>),
    /// What waits.
    Waiting(Vec<Waits>),
    /// What is parked.
    ParkedList(Vec<Parked>),
    /// One of what is parked, with its payload; none: nothing of that id is.
    ParkedItem(Option<Box<(Parked, Payload)>>),
    /// What was found of what should be replayed or discarded, with the lanes, of replies without
    /// thread, and who is at the other end of a direct chat.
    Decided(Vec<(ParkedId, Option<Lane>, Option<String>)>),
    /// A reply is durable.
    Reply {
        /// How far it has come.
        receipt: Receipt,
        /// Its lane in the outbox: instance and chat, no thread.
        chat: Lane,
        /// Whether it is new.
        fresh: bool,
    },
    /// The key of a reply is that of an earlier one in another chat: nothing was kept, and what became of
    /// the other says nothing of this.
    KeyTaken,
    /// [`Answer::Heads`] for replies.
    ReplyHeads {
        /// The entries.
        found: Vec<ReplyHead>,
        /// Nothing stands behind the last of them.
        at_end: bool,
    },
    /// The next reply of a chat.
    NextReply(Option<OutboundId>),
    /// The intent to send is durable.
    Sending(Box<Sending>),
    /// The reply cannot be understood (a newer version wrote it, or the disk changed it): it fails.
    Unsendable(OutboundId),
    /// The decision is durable.
    Granted,
    /// The resume point is durable.
    Kept,
    /// The accounts that heard for an instance before, and up to which event; oldest first.
    Heard(Vec<(String, EventId)>),
    /// Receipts, in the order of ids.
    Untold(Vec<Receipt>),
    /// The state of a reply is durable.
    Finished(Box<Finished>),
    /// How much there is.
    Counts {
        /// Of each instance that has anything.
        instances: Vec<Count>,
        /// The file and the work done on it.
        files: Files,
    },
    /// The copy is complete and durable.
    BackedUp {
        /// Its size.
        bytes: u64,
    },
    /// A slice was purged.
    Purged {
        /// Records forgotten.
        forgotten: u64,
        /// There is more to look at in this round.
        more: bool,
    },
    /// There is no such row.
    Gone,
    /// The disk is full: nothing of this operation was done. It may be tried again.
    Full,
    /// One of its kind is under way: it may be tried again.
    Busy,
    /// This operation alone is impossible.
    Failed(String),
}

/// An event that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The event.
    pub id: EventId,
    /// Its conversation.
    pub lane: Lane,
    /// Who speaks there, if it is a direct chat.
    pub user: Option<String>,
    /// Attempts counted.
    pub attempts: u32,
    /// When it was accepted.
    pub received_ms: i64,
}

/// A reply that waits or is being sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyHead {
    /// The reply.
    pub id: OutboundId,
    /// Its lane in the outbox: instance and chat, no thread.
    pub chat: Lane,
}

/// An event to be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begun {
    /// The event.
    pub id: EventId,
    /// Its conversation.
    pub lane: Lane,
    /// How often it was handed out, this time included.
    pub attempts: u32,
    /// Attempts that count against it, this one included.
    pub counted: u32,
    /// When it was accepted.
    pub received_ms: i64,
    /// What happened.
    pub event: Inbound,
    /// A person had it tried again.
    pub replayed: bool,
    /// The conversation as `Hand::agent` knows it.
    pub session: Session,
    /// What goes with it, in order.
    pub followers: Vec<Follower>,
    /// Nothing else waits behind them in its lane.
    pub is_last: bool,
}

/// An event that goes with another. Nothing counts against it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follower {
    /// The event.
    pub id: EventId,
    /// What happened.
    pub event: Inbound,
}

/// A reply to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sending {
    /// Where it goes.
    pub instance: Instance,
    /// What to send; its attempt number includes this one.
    pub outbound: Outbound,
    /// When this was asked for: the clock of the other two.
    pub now_ms: i64,
    /// When the agent handed it in.
    pub created_ms: i64,
    /// When the first attempt began: now, if this is it.
    pub first_attempt_ms: i64,
    /// Some earlier attempt was begun and never answered: this may be a repetition.
    pub ambiguous: bool,
    /// The account that it leaves through; `None`: any.
    pub account: Option<String>,
}

/// A reply whose state was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Who is to be told.
    pub agent: Instance,
    /// Its state now. A reply that was already at its end keeps it, except that an unknown one may
    /// still become sent or failed.
    pub receipt: Receipt,
    /// Where it went.
    pub lane: Lane,
    /// The message that it answered.
    pub reply_to: Option<String>,
    /// What it said.
    pub text: String,
    /// Whom it answered: what was kept with it.
    pub answers: Option<String>,
}

/// An event that waits for its acknowledgement, or a reply that waits to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waits {
    /// Which.
    pub id: ParkedId,
    /// Its conversation.
    pub lane: Lane,
    /// It is with the agent, or on its way to the platform.
    pub is_begun: bool,
    /// Attempts counted.
    pub attempts: u32,
    /// When it was accepted.
    pub received_ms: i64,
}

/// Something that was set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parked {
    /// Which.
    pub id: ParkedId,
    /// Its conversation.
    pub lane: Lane,
    /// Of a reply: whether its end is unknown.
    pub unknown: bool,
    /// Attempts counted.
    pub attempts: u32,
    /// When it was accepted.
    pub received_ms: i64,
    /// When it was set aside.
    pub parked_ms: i64,
    /// Why.
    pub reason: String,
    /// Of a reply: the messages that show a part of it already.
    pub message_ids: Vec<String>,
}

/// What was set aside says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// An event; none: this program cannot read it.
    Event(Option<Box<Inbound>>),
    /// A reply; none: this program cannot read it.
    Reply(Option<Box<Content>>),
}

/// The end of a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Whose.
    pub instance: Instance,
    /// Which incarnation.
    pub generation: Generation,
    /// When.
    pub at_ms: i64,
    /// The exit code, if it left by itself.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// Why, for people.
    pub cause: String,
}

/// How much an instance has in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// Whose.
    pub instance: Instance,
    /// Events that wait for the agent.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// No waiting event was accepted before this time. `None`: none waits.
    pub oldest_ms: Option<i64>,
    /// Events set aside.
    pub parked: u64,
    /// Replies that failed or whose end is unknown, and that nobody has decided about.
    pub undelivered: u64,
    /// Replies on their way out.
    pub replies: u64,
}

/// The file and the work done on it since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// Rows of before the start are still being counted; the counts are too low by them.
    pub counting: bool,
    /// Bytes of the file, and of those that are free within it.
    pub bytes: u64,
    /// Free bytes within the file.
    pub free_bytes: u64,
    /// Groups of operations performed.
    pub groups: u64,
    /// Groups that wrote and were synced.
    pub commits: u64,
    /// Times the write-ahead log was copied into the file.
    pub checkpoints: u64,
}

/// What was found when the store was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// No event has an id up to this one but those that were accepted before.
    pub last_event: EventId,
    /// The resume points.
    pub cursors: Vec<(Instance, Cursor)>,
    /// The last ends of workers, oldest first.
    pub exits: Vec<Exit>,
    /// The newest messages that show drafts: keys as in `Outbound::draft_key`, and ids.
    pub drafts: Vec<(String, String)>,
    /// What people have decided about users and chats.
    pub grants: Vec<Grant>,
    /// Codes that strangers were told.
    pub pairs: Vec<Pair>,
    /// The former file was damaged.
    pub damage: Option<Damage>,
    /// The file is of a store that has a log, and there was none beside it.
    pub log_is_missing: bool,
}

/// What became of a damaged file, or of its log alone. Nothing of it is deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where it was set aside.
    pub kept_as: PathBuf,
    /// How it showed.
    pub error: String,
    /// Waiting events that were saved.
    pub events: u64,
    /// Parked events that were saved.
    pub parked: u64,
    /// Replies that were saved.
    pub replies: u64,
    /// Keys of events that were saved.
    pub keys: u64,
    /// Places in the old file and its log that could not be read: about so many records are lost, or older than
    /// they were.
    pub unreadable: u64,
}

impl Damage {
    /// Before anything was saved.
    pub(super) fn new(kept_as: PathBuf, error: String) -> Self {
        Self { kept_as, error, events: 0, parked: 0, replies: 0, keys: 0, unreadable: 0 }
    }
}

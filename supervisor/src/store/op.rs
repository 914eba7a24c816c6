//! What may be asked of the store, and what it answers, as data.
//!
//! An operation that carries a [`Ticket`] is answered by exactly one [`Done`] with the same ticket,
//! after the commit that holds it has returned; one without a ticket is not answered. Operations are
//! performed in the order of submission, so a read sees every write submitted before it. Times are
//! milliseconds since the Unix epoch and come from the caller: there is no clock in here.
//!
//! A row that an operation names and that does not exist (any more) is answered by [`Answer::Gone`]:
//! late answers of agents and platforms are ordinary, not errors.

use std::path::PathBuf;

use protocol::content::Content;
use protocol::event::{Inbound, Note, Outbound, Receipt, Reply, Session};
use protocol::id::{EventId, Generation, Instance, Lane, OutboundId, ParkedId};
use protocol::worker::Cursor;

/// The caller's own name for an operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// One operation.
#[derive(Debug)]
pub enum Op {
    /// Makes an event durable, with its keys and the cursor that includes it, in one transaction.
    /// [`Answer::Accepted`] or [`Answer::Duplicate`]; the cursor is kept in both cases.
    Accept {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        arrival: Arrival,
        /// The resume point that includes it.
        cursor: Option<Cursor>,
        /// Now.
        received_ms: i64,
        /// How much of the instance may wait. A repetition of what is known is answered all the same.
        quota: Quota,
    },
    /// Looks for waiting events of `instances` behind `after`, in the order of ids:
    /// [`Answer::Heads`].
    Heads {
        /// For the answer.
        ticket: Ticket,
        /// Whose events.
        instances: Vec<Instance>,
        /// Start behind this id; `EventId(0)` is the very start.
        after: EventId,
        /// The most entries wanted. At least 2.
        limit: usize,
    },
    /// Looks up the first waiting event of a lane behind `after`: [`Answer::Next`].
    NextInLane {
        /// For the answer.
        ticket: Ticket,
        /// The lane.
        lane: Lane,
        /// Behind this id.
        after: EventId,
    },
    /// Counts an attempt durably and reads the event: [`Answer::Begun`].
    Begin {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        id: EventId,
        /// To whom it is handed; `None`: nobody asks what belongs to it.
        hand: Option<Hand>,
    },
    /// The attempt that was begun does not count: the event was no cause of its end.
    Refund {
        /// The event.
        id: EventId,
    },
    /// The attempt that was begun counts, and is over.
    Fail {
        /// The event.
        id: EventId,
    },
    /// The agent has it: removes it. Its keys stay known. [`Answer::Settled`].
    Settle {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        id: EventId,
        /// Those that were handed over with it.
        also: Vec<EventId>,
    },
    /// Sets an event aside with its payload: [`Answer::Parked`].
    Park {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        id: EventId,
        /// Why, for people.
        reason: String,
        /// Now.
        now_ms: i64,
    },
    /// Lists parked events, then replies that failed or whose end is unknown, without payload:
    /// [`Answer::ParkedList`].
    ListParked {
        /// For the answer.
        ticket: Ticket,
        /// Start behind this one.
        after: Option<ParkedId>,
        /// The most entries wanted.
        limit: usize,
    },
    /// Reads one of them whole: [`Answer::ParkedItem`].
    ShowParked {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        id: ParkedId,
    },
    /// Puts them back under their ids, events at the old place in their lanes and with no attempt
    /// counted: [`Answer::Decided`].
    Replay {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        ids: Vec<ParkedId>,
        /// Now.
        now_ms: i64,
    },
    /// Removes them for good: [`Answer::Decided`].
    Discard {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        ids: Vec<ParkedId>,
    },
    /// Makes a reply durable, or finds the one that had the same key: [`Answer::Reply`].
    AcceptReply {
        /// For the answer.
        ticket: Ticket,
        /// Whose reply; keys of two agents are never the same.
        agent: Instance,
        /// The reply.
        reply: Box<Reply>,
        /// What is kept about its conversation with it, if it is new.
        note: Option<Note>,
        /// Now.
        now_ms: i64,
    },
    /// Keeps what an agent's worker notes about a conversation, unless it was begun anew meanwhile.
    Remember {
        /// Whose.
        agent: Instance,
        /// Which conversation.
        lane: Lane,
        /// What.
        note: Note,
        /// Now.
        now_ms: i64,
    },
    /// Begins a conversation anew for an agent.
    Renew {
        /// For whom.
        agent: Instance,
        /// Which.
        lane: Lane,
        /// Now.
        now_ms: i64,
    },
    /// [`Op::Heads`] for replies that are not yet at their end: [`Answer::ReplyHeads`].
    ReplyHeads {
        /// For the answer.
        ticket: Ticket,
        /// Where they go.
        instance: Instance,
        /// Start behind this id.
        after: OutboundId,
        /// The most entries wanted. At least 2.
        limit: usize,
    },
    /// [`Op::NextInLane`] for replies; the thread in `chat` is not looked at: [`Answer::NextReply`].
    NextReply {
        /// For the answer.
        ticket: Ticket,
        /// The chat.
        chat: Lane,
        /// Behind this id.
        after: OutboundId,
    },
    /// Makes the intent to send durable and reads the reply: [`Answer::Sending`].
    BeginSend {
        /// For the answer.
        ticket: Ticket,
        /// The reply.
        id: OutboundId,
        /// Now.
        now_ms: i64,
    },
    /// Records what became of a reply: [`Answer::Finished`].
    FinishSend {
        /// For the answer.
        ticket: Ticket,
        /// The reply.
        id: OutboundId,
        /// What became of it.
        end: SendEnd,
        /// Now.
        now_ms: i64,
    },
    /// A message shows the newest draft of a reply: [`Outbound::draft_id`] names it when the reply
    /// is sent.
    Drafted {
        /// Whose reply.
        agent: Instance,
        /// Its key.
        key: String,
        /// The message.
        message_id: String,
        /// Now.
        now_ms: i64,
    },
    /// The agent knows how a reply ended.
    Told {
        /// The reply.
        id: OutboundId,
    },
    /// How replies ended that their agent was not told of: [`Answer::Untold`].
    Untold {
        /// For the answer.
        ticket: Ticket,
        /// Whose.
        agent: Instance,
        /// Behind this id.
        after: OutboundId,
        /// The most entries wanted.
        limit: usize,
    },
    /// Keeps what a person has decided: [`Answer::Granted`]. A code of that user holds no more.
    Grant {
        /// For the answer.
        ticket: Ticket,
        /// About whom, and what.
        grant: Grant,
    },
    /// Keeps a code that a stranger is told; it takes the place of the one before.
    Pair(Pair),
    /// Keeps a resume point that comes without an event.
    SaveCursor {
        /// Whose.
        instance: Instance,
        /// The resume point.
        cursor: Cursor,
    },
    /// Remembers the end of a worker. The last [`EXITS_KEPT`] of each instance are kept.
    RecordExit(Exit),
    /// How much there is: [`Answer::Counts`].
    Counts {
        /// For the answer.
        ticket: Ticket,
    },
    /// Copies the store, as it is after all operations before this one, into a new file:
    /// [`Answer::BackedUp`]. Other operations go on meanwhile.
    Backup {
        /// For the answer.
        ticket: Ticket,
        /// The new file; its directory exists.
        path: PathBuf,
    },
    /// Forgets a bounded number of old records, a few pages of work: [`Answer::Purged`]. Call it again
    /// while it answers `more`, and every hour or so.
    Purge {
        /// For the answer.
        ticket: Ticket,
        /// Forget keys of events accepted before this time.
        seen_before_ms: i64,
        /// Forget replies that came to their end before this time.
        replies_before_ms: i64,
        /// Forget those that failed, or whose end is unknown, before this time.
        failures_before_ms: i64,
    },
}

/// How much of one instance may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// Events.
    pub events: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl Quota {
    /// No bounds.
    pub const NONE: Self = Self { events: u64::MAX, bytes: u64::MAX };
}

/// An event made ready to be kept, by [`super::Store::arrival`]: what takes time is done in the thread
/// of whoever hands it in.
#[derive(Debug)]
pub struct Arrival {
    pub(super) lane: Lane,
    /// Who speaks, in a direct chat.
    pub(super) user: Option<String>,
    pub(super) origin_ms: i64,
    /// Hashes of its keys, which decide whether it is a duplicate.
    pub(super) keys: Vec<u128>,
    pub(super) body: Vec<u8>,
}

/// To whom an event is handed, and what may go with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hand {
    /// Whose view of the conversation is told.
    pub agent: Instance,
    /// How many events that follow in its lane are read, too.
    pub followers: usize,
    /// Each of them was accepted at most so long after the one before it.
    pub within_ms: i64,
    /// Bytes of all their payloads together.
    pub bytes: usize,
}

/// How many ends of workers are remembered for each instance.
pub const EXITS_KEPT: u32 = 20;

/// What became of a reply, or of one attempt at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendEnd {
    /// The platform has it.
    Sent {
        /// The platform's ids of what it became, in order.
        message_ids: Vec<String>,
    },
    /// The platform refused it for good.
    Failed {
        /// Why.
        reason: String,
    },
    /// It left, and nobody can say whether it arrived.
    Unknown {
        /// Why.
        reason: String,
    },
    /// This attempt was certainly not made, or a repetition is safe: it waits again.
    Waiting,
}

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
    Accepted(EventId),
    /// One of its keys was known.
    Duplicate,
    /// As much waits as may wait: nothing was kept.
    OverQuota,
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
    Next(Option<EventId>),
    /// An attempt is counted.
    Begun(Box<Begun>),
    /// The attempt is counted, but the payload cannot be understood (a newer version wrote it, or the
    /// disk changed it): park the event.
    Unreadable(EventId),
    /// The event is gone for good.
    Settled,
    /// The event is set aside.
    Parked,
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
    /// The conversation as [`Hand::agent`] knows it.
    pub session: Session,
    /// What follows in its lane, as far as [`Hand`] wants it.
    pub followers: Vec<Follower>,
}

/// An event that follows another in its lane. No attempt of it is counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follower {
    /// The event.
    pub id: EventId,
    /// When it was accepted.
    pub received_ms: i64,
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
    /// When the agent handed it in.
    pub created_ms: i64,
    /// When the first attempt began: now, if this is it.
    pub first_attempt_ms: i64,
    /// Some earlier attempt was begun and never answered: this may be a repetition.
    pub ambiguous: bool,
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
}

/// What was set aside says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// An event; none: this program cannot read it.
    Event(Option<Box<Inbound>>),
    /// A reply; none: this program cannot read it.
    Reply(Option<Box<Content>>),
}

/// What a person has decided about a user or a chat of a platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The platform.
    pub instance: Instance,
    /// What kind of thing it is about.
    pub subject: Subject,
    /// Which, by the platform's id.
    pub id: String,
    /// Let in, denied, or as the configuration says.
    pub allowed: Option<bool>,
    /// When.
    pub at_ms: i64,
}

/// What a decision is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A user.
    User,
    /// A group.
    Chat,
}

/// A code that a stranger was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The platform.
    pub instance: Instance,
    /// Whom.
    pub user: String,
    /// Where.
    pub chat_id: String,
    /// The code.
    pub code: String,
    /// Until when it holds.
    pub until_ms: i64,
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
    /// 16 hexadecimal digits that belong to this store and no other.
    pub store_id: String,
    /// When it was made.
    pub created_ms: i64,
    /// The resume points.
    pub cursors: Vec<(Instance, Cursor)>,
    /// The last ends of workers, oldest first.
    pub exits: Vec<Exit>,
    /// What people have decided about users and chats.
    pub grants: Vec<Grant>,
    /// Codes that strangers were told.
    pub pairs: Vec<Pair>,
    /// Replies that were being sent when the last run ended: [`Op::BeginSend`] tells them as
    /// ambiguous.
    pub sending: Vec<ReplyHead>,
    /// The former file was damaged.
    pub damage: Option<Damage>,
}

/// What became of a damaged file. Nothing of it is deleted.
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
    /// Places in the old file that could not be read: at least so many records are lost.
    pub unreadable: u64,
}

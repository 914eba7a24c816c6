//! What may be asked of the store, as data; see [`answer`](super::answer) for what it answers.
//!
//! An operation that carries a [`Ticket`] is answered by exactly one `Done` with the same ticket,
//! after the commit that holds it has returned; one without a ticket is not answered. Operations are
//! performed in the order of submission, so a read sees every write submitted before it. Times are
//! milliseconds since the Unix epoch and come from the caller: there is no clock in here.
//!
//! A row that an operation names and that does not exist (any more) is answered by `Answer::Gone`:
//! late answers of agents and platforms are ordinary, not errors.

use std::path::PathBuf;
use std::sync::Arc;

use protocol::event::{Note, Progress, Reply, Rest};
use protocol::id::{EventId, Instance, Lane, OutboundId, ParkedId};
use protocol::worker::Cursor;

use super::answer::Exit;
use crate::policy::commands::Commands;
use crate::policy::wall::Set;

/// The caller's own name for an operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// One operation.
#[derive(Debug)]
pub enum Op {
    /// Makes an event durable, with its keys and the cursor that includes it, in one transaction.
    /// `Answer::Accepted` or `Answer::Duplicate`; the cursor is kept in both cases.
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
    /// Notes the keys of an event that nobody wants from this sender, so that it is a repetition when it comes
    /// again, whoever is wanted by then: `Answer::Denied`.
    Deny {
        /// For the answer.
        ticket: Ticket,
        /// As [`Arrival::keys`].
        keys: Vec<u128>,
        /// Now.
        now_ms: i64,
    },
    /// Looks for waiting events of `instances` behind `after`, in the order of ids:
    /// `Answer::Heads`.
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
    /// Looks up the first waiting event of a lane behind `after`: `Answer::Next`.
    NextInLane {
        /// For the answer.
        ticket: Ticket,
        /// The lane.
        lane: Lane,
        /// Behind this id.
        after: EventId,
    },
    /// Counts an attempt durably and reads the event: `Answer::Begun`. Before its time: `Answer::Pauses`.
    /// What goes with it is decided at the first attempt, and kept.
    Begin {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        id: EventId,
        /// To whom it is handed; `None`: nobody asks what belongs to it.
        hand: Option<Hand>,
    },
    /// Counts that an event which waits goes to the agent beside another one, and reads it: `Answer::Begun`.
    Beside {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        id: EventId,
        /// The agent sees it also if it does not take it in.
        is_shown: bool,
    },
    /// The attempt that was begun does not count: the event was no cause of its end.
    Refund {
        /// The event.
        id: EventId,
    },
    /// The event was not handed out after all: what was begun was no attempt, and what goes with it is decided anew
    /// at the first one.
    Withhold {
        /// The event.
        id: EventId,
    },
    /// The attempt that was begun counts, and is over.
    Fail {
        /// The event.
        id: EventId,
        /// When the next one may begin.
        pause: Pause,
    },
    /// The agent has it: removes it and what goes with it, also from what is parked. Their keys stay known.
    /// `Answer::Settled`.
    Settle {
        /// For the answer.
        ticket: Ticket,
        /// The event.
        id: EventId,
    },
    /// Sets an event aside with its payload, and what goes with it: `Answer::Parked`.
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
    /// Lists what waits, without payload: `Answer::Waiting`.
    ListWaiting {
        /// For the answer.
        ticket: Ticket,
        /// Start behind this one: events if it is one, else replies.
        after: ParkedId,
        /// The most entries wanted.
        limit: usize,
    },
    /// Lists parked events, then replies that failed or whose end is unknown, without payload:
    /// `Answer::ParkedList`.
    ListParked {
        /// For the answer.
        ticket: Ticket,
        /// Start behind this one.
        after: Option<ParkedId>,
        /// The most entries wanted.
        limit: usize,
    },
    /// Reads one of them whole: `Answer::ParkedItem`.
    ShowParked {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        id: ParkedId,
    },
    /// Puts them back under their ids, events at the old place in their lanes and with no attempt
    /// counted: `Answer::Decided`.
    Replay {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        ids: Vec<ParkedId>,
        /// Now.
        now_ms: i64,
    },
    /// Removes them for good: `Answer::Decided`.
    Discard {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        ids: Vec<ParkedId>,
    },
    /// Makes a reply durable, or finds the one that had the same key in this chat: `Answer::Reply`, or
    /// `Answer::KeyTaken`.
    AcceptReply {
        /// For the answer.
        ticket: Ticket,
        /// Whose reply; keys of two agents are never the same.
        agent: Instance,
        /// The reply.
        reply: Box<Reply>,
        /// What is kept about its conversation with it, if it is new.
        note: Option<Note>,
        /// What else is kept with it, if it is new.
        beside: Beside,
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
    /// [`Op::Heads`] for replies that are not yet at their end: `Answer::ReplyHeads`.
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
    /// [`Op::NextInLane`] for replies; the thread in `chat` is not looked at: `Answer::NextReply`.
    NextReply {
        /// For the answer.
        ticket: Ticket,
        /// The chat.
        chat: Lane,
        /// Behind this id.
        after: OutboundId,
    },
    /// Makes the intent to send durable and reads the reply: `Answer::Sending`.
    BeginSend {
        /// For the answer.
        ticket: Ticket,
        /// The reply.
        id: OutboundId,
        /// Now.
        now_ms: i64,
    },
    /// Records what became of a reply: `Answer::Finished`.
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
    /// A part of a reply has arrived: [`Outbound::progress`] says so when it is sent again.
    Reached {
        /// The platform.
        instance: Instance,
        /// The reply.
        id: OutboundId,
        /// How far it has come.
        progress: Progress,
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
    /// Another reply ends what a draft has shown: agents and keys.
    Redraft {
        /// Of the draft.
        from: (Instance, String),
        /// Of the reply.
        to: (Instance, String),
    },
    /// The wall clock was set: replies that wait are as old as before.
    ClockSet(Set),
    /// The agent knows how a reply ended.
    Told {
        /// The reply.
        id: OutboundId,
    },
    /// How replies ended that their agent was not told of: `Answer::Untold`.
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
    /// Keeps what a person has decided: `Answer::Granted`. A code of that user holds no more.
    Grant {
        /// For the answer.
        ticket: Ticket,
        /// About whom, and what.
        grant: Grant,
    },
    /// Keeps a code that a stranger is told; it takes the place of the one before.
    Pair(Pair),
    /// Keeps a resume point that comes without an event: `Answer::Kept`, if somebody waits for it.
    SaveCursor {
        /// For the answer.
        ticket: Option<Ticket>,
        /// Whose.
        instance: Instance,
        /// The resume point.
        cursor: Cursor,
    },
    /// From now on an account hears for an instance, if another one did before: `Answer::Heard`.
    Account {
        /// For the answer.
        ticket: Ticket,
        /// Which.
        instance: Instance,
        /// The account.
        account: String,
    },
    /// Remembers the end of a worker. The last [`EXITS_KEPT`] of each instance are kept.
    RecordExit(Exit),
    /// How much there is: `Answer::Counts`.
    Counts {
        /// For the answer.
        ticket: Ticket,
    },
    /// Copies the store, as it is after all operations before this one, into a new file:
    /// `Answer::BackedUp`. Other operations go on meanwhile.
    Backup {
        /// For the answer.
        ticket: Ticket,
        /// The new file; its directory exists.
        path: PathBuf,
    },
    /// Forgets a bounded number of old records, a few pages of work: `Answer::Purged`. Call it again
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
    /// It is kept only if its message was.
    pub(super) behind: Option<Behind>,
    pub(super) body: Vec<u8>,
}

/// A message to which something belongs: by what it is known, and by what that it was denied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    pub(super) heard: u128,
    pub(super) denied: u128,
}

/// An agent is not to be offered an event again for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    /// Which agent.
    pub agent: Instance,
    /// Now.
    pub now_ms: i64,
    /// How long.
    pub for_ms: i64,
}

/// To whom an event is handed, and what may go with it where that is not decided yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hand {
    /// Whose view of the conversation is told.
    pub agent: Instance,
    /// How many events that follow in its lane may go with it.
    pub followers: usize,
    /// Each of them was accepted at most so long after the one before it. `None`: none goes with it, but for
    /// the parts of an album.
    pub within_ms: Option<i64>,
    /// The same for an event that is a part of an album.
    pub album_ms: i64,
    /// Bytes of all their payloads together.
    pub bytes: usize,
    /// A command goes with nothing.
    pub commands: Arc<Commands>,
    /// Now: whether a pause is over.
    pub now_ms: i64,
}

/// What is kept with a reply besides what it says. The store understands none of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Beside {
    /// Whom it answers: given back when it is at its end.
    pub answers: Option<String>,
    /// The account that it leaves through: given back when it is sent. A person who has it sent once more
    /// asks for no certain one.
    pub account: Option<String>,
}

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
    /// Some of its messages were sent, and the rest will not be.
    Partly {
        /// The platform's ids of those that were.
        message_ids: Vec<String>,
        /// What became of the rest.
        rest: Rest,
        /// Why.
        reason: String,
    },
    /// This attempt was certainly not made, or a repetition is safe: it waits again.
    Waiting,
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

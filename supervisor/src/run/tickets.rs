//! Requests to the store that are under way, and those that must be made again because the disk was
//! full.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use protocol::control::{Decision, Subject};
use protocol::event::{Inbound, SenderKind};
use protocol::hook::HookEvent;
use protocol::id::{EventId, Generation, Lane, OutboundId, ParkedId, Seq};
use protocol::worker::Cursor;

use crate::clock;
use crate::link::Reply;
use crate::policy::commands::Command;
use crate::store::{Grant, SendEnd, Ticket};

/// How long to wait for a full disk.
const AGAIN: Duration = Duration::from_secs(1);

/// What must be known of an event once it is durable.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) lane: Lane,
    /// Who is at the other end of a direct chat.
    pub(super) user: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) cursor: Option<Cursor>,
    /// What handlers of hooks are told.
    pub(super) occasion: Option<Box<HookEvent>>,
    /// It is for the gateway itself.
    pub(super) command: Option<Command>,
    /// Somebody says it, and waits for an answer.
    pub(super) is_said: bool,
    /// It is never one of several that become one turn.
    pub(super) is_alone: bool,
    /// It is a part of an album.
    pub(super) is_part: bool,
    /// Who says it.
    pub(super) sender: SenderKind,
}

/// A request whose answer is awaited. `usize`: the slot that it is for.
#[derive(Debug)]
pub(super) enum Pending {
    Accept {
        slot: usize,
        generation: Generation,
        seq: Seq,
        arrived: Box<Arrived>,
    },
    /// An event that nobody wants from this sender.
    Deny {
        slot: usize,
        generation: Generation,
        seq: Seq,
    },
    AcceptReply {
        slot: usize,
        generation: Generation,
        seq: Seq,
    },
    /// A resume point that goes with no event.
    Keep {
        slot: usize,
        generation: Generation,
        seq: Seq,
    },
    Heads {
        slot: usize,
        after: EventId,
    },
    Next {
        slot: usize,
        lane: Lane,
        after: EventId,
    },
    Begin {
        slot: usize,
        id: EventId,
    },
    /// An event goes to the agent beside the one that it works on.
    Beside {
        slot: usize,
        id: EventId,
        running: EventId,
    },
    Settle {
        slot: usize,
        id: EventId,
    },
    Park {
        slot: usize,
        id: EventId,
        reason: String,
    },
    ReplyHeads {
        slot: usize,
        after: OutboundId,
    },
    NextReply {
        slot: usize,
        chat: Lane,
        after: OutboundId,
    },
    BeginSend {
        slot: usize,
        id: OutboundId,
    },
    FinishSend {
        slot: usize,
        id: OutboundId,
        end: SendEnd,
    },
    /// Which account hears for a platform from now on.
    Account {
        slot: usize,
        account: String,
    },
    Untold {
        slot: usize,
        after: OutboundId,
    },
    /// `None`: whoever asked was told what was known before.
    Counts {
        reply: Option<Reply>,
    },
    Backup {
        path: PathBuf,
        reply: Reply,
    },
    ListWaiting {
        after: ParkedId,
        limit: usize,
        reply: Reply,
    },
    ListParked {
        after: Option<ParkedId>,
        limit: usize,
        reply: Reply,
    },
    ShowParked {
        id: ParkedId,
        reply: Reply,
    },
    Decide {
        decision: Decision,
        ids: Vec<ParkedId>,
        reply: Reply,
    },
    OwnReply,
    /// An event of our own is made durable: see [`crate::owed`].
    Report {
        slot: usize,
        id: String,
        event: Box<Inbound>,
    },
    HooksReply {
        wait: Duration,
        reply: Reply,
    },
    Grant {
        slot: usize,
        grant: Grant,
        subject: Subject,
        reply: Reply,
    },
    Purge,
}

impl Pending {
    fn slot(&self) -> Option<usize> {
        match self {
            Self::Accept { slot, .. }
            | Self::Deny { slot, .. }
            | Self::AcceptReply { slot, .. }
            | Self::Keep { slot, .. }
            | Self::Heads { slot, .. }
            | Self::Next { slot, .. }
            | Self::Begin { slot, .. }
            | Self::Beside { slot, .. }
            | Self::Settle { slot, .. }
            | Self::Park { slot, .. }
            | Self::ReplyHeads { slot, .. }
            | Self::NextReply { slot, .. }
            | Self::BeginSend { slot, .. }
            | Self::FinishSend { slot, .. }
            | Self::Report { slot, .. }
            | Self::Account { slot, .. }
            | Self::Untold { slot, .. } => Some(*slot),
            Self::Backup { .. }
            | Self::OwnReply
            | Self::HooksReply { .. }
            | Self::Grant { .. }
            | Self::Counts { .. }
            | Self::ListWaiting { .. }
            | Self::ListParked { .. }
            | Self::ShowParked { .. }
            | Self::Decide { .. }
            | Self::Purge => None,
        }
    }
}

/// Those that are under way.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: u64,
    waiting: HashMap<Ticket, (Instant, Pending)>,
    again: Vec<(Instant, Pending)>,
}

impl Tickets {
    /// A new name.
    pub(super) fn name(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// A request of this name is under way.
    pub(super) fn hold(&mut self, ticket: Ticket, pending: Pending) {
        self.waiting.insert(ticket, (clock::now(), pending));
    }

    /// The request that has this name.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        self.waiting.remove(&ticket).map(|(_, pending)| pending)
    }

    /// Since when the store owes its oldest answer. A copy of a large store may take its time.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.values();
        let waiting = waiting.filter(|(_, pending)| !matches!(pending, Pending::Backup { .. }));
        waiting.map(|(since, _)| *since).min()
    }

    /// Those who wait for counts since `before` or longer. They wait no more.
    pub(super) fn tired(&mut self, before: Instant) -> Vec<Reply> {
        let waiting = self.waiting.values_mut().filter(|(since, _)| *since <= before);
        let tired = waiting.filter_map(|(_, pending)| match pending {
            Pending::Counts { reply } => reply.take(),
            _ => None,
        });
        tired.collect()
    }

    /// Since when somebody waits for counts.
    pub(super) fn asked(&self) -> Option<Instant> {
        let is_asked = |pending: &Pending| matches!(pending, Pending::Counts { reply: Some(_) });
        self.waiting.values().filter(|(_, pending)| is_asked(pending)).map(|(at, _)| *at).min()
    }

    /// The store is being copied.
    pub(super) fn is_backing_up(&self) -> bool {
        self.waiting.values().any(|(_, pending)| matches!(pending, Pending::Backup { .. }))
    }

    /// The disk was full: to be made again later.
    pub(super) fn postpone(&mut self, pending: Pending, now: Instant) {
        self.again.push((now + AGAIN, pending));
    }

    /// Those whose time has come again.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Pending> {
        let (due, later) = self.again.drain(..).partition(|(at, _)| *at <= now);
        self.again = later;
        due.into_iter().map(|(_, pending)| pending).collect()
    }

    /// When the next one's time comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again.iter().map(|(at, _)| *at).min()
    }

    /// Gives back what a burst has taken.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
    }

    /// Whether anything under way, or to be made again, is for this slot.
    pub(super) fn concern(&self, index: usize) -> bool {
        let waiting = self.waiting.values().map(|(_, pending)| pending);
        let again = self.again.iter().map(|(_, pending)| pending);
        waiting.chain(again).any(|pending| pending.slot() == Some(index))
    }

    /// Something is to be made again, and not kept in a file besides.
    pub(super) fn wait_for_room(&self) -> bool {
        let is_kept = |pending: &Pending| matches!(pending, Pending::Report { .. });
        !self.again.iter().all(|(_, pending)| is_kept(pending))
    }

    /// Nothing is under way, and nothing is to be made again.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.wait_for_room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F35: whoever leaves, or becomes another program, does not forget what has no room yet.
    #[test]
    fn what_is_to_be_made_again_is_not_done() {
        let now = clock::now();
        let mut tickets = Tickets::default();
        let ticket = tickets.name();
        let end = SendEnd::Sent { message_ids: Vec::new() };
        tickets.hold(ticket, Pending::FinishSend { slot: 0, id: OutboundId(1), end });
        assert!(!tickets.is_empty());
        let pending = tickets.take(ticket).unwrap();
        assert!(tickets.is_empty() && !tickets.wait_for_room());
        tickets.postpone(pending, now);
        assert!(!tickets.is_empty() && tickets.wait_for_room());
        assert!(tickets.due(now).is_empty());
        assert_eq!(tickets.due(now + AGAIN).len(), 1);
        assert!(tickets.is_empty());
    }
}

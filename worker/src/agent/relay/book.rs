//! The events that this worker has, which of them the agent has, and which of its words answers which. Pure.
//!
//! No line of the contract names the event that a message answers. With one event a session at the
//! agent, this rule holds: a final message answers the event whose message it replies to, or whose
//! thread's root; one that replies to nothing answers the only event of its thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::content::Content;
use protocol::event::{Delivery, Reply};
use protocol::id::{EventId, Instance, Lane};

use super::connector::Conn;
use super::source::Source;
use super::wire::Send;
use crate::agent::blame::Blame;
use crate::clock::Instant;

/// Chats and answered messages that are remembered.
const REMEMBERED: usize = 1024;

/// How far an event has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// With us.
    Held,
    /// Written, `taken` once the agent said so. `gap`: the connection was lost since.
    Sent { since: Instant, taken: Option<Instant>, gap: bool },
    /// Its answer is on the way to the store.
    Answering,
}

/// An event.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) delivery: Box<Delivery>,
    pub(super) source: Source,
    /// The agent's session.
    pub(super) key: String,
    pub(super) state: State,
    /// The name of the copy whose answer is on the way.
    copy: Option<String>,
}

impl Entry {
    /// The name under which the agent acknowledges it.
    pub(super) fn buffer(&self, conn: Conn) -> String {
        format!("{}.{}.{conn}", self.delivery.event_id, self.delivery.attempt)
    }
}

#[derive(Debug)]
struct Chat {
    platform: String,
    id: String,
    /// The agent's thread, which is not always the lane's.
    thread: Option<String>,
    kind: &'static str,
    lane: Lane,
}

/// The key of the answer to a message: the same for the answers to all copies of it, whoever of us offered them,
/// so that the second one becomes no second message. Two bots may have messages of one number in chats of one
/// number.
pub(super) fn key(instance: &Instance, chat_id: &str, message_id: &str) -> String {
    let whole = serde_json::json!([instance, chat_id, message_id]).to_string();
    let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
    let name: String = protocol::id::hex(digest.as_ref()).chars().take(40).collect();
    format!("relay:answer:{name}")
}

/// A message that is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    pub(super) instance: Instance,
    pub(super) chat_id: String,
    pub(super) message_id: String,
    /// The name of the copy whose answer it was, if that is known.
    pub(super) copy: Option<String>,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) entries: BTreeMap<EventId, Entry>,
    chats: VecDeque<Chat>,
    answered: VecDeque<Answered>,
    /// Those whose answers are on their way to the store, and whose events are not here.
    answering: Vec<Answered>,
    /// Events, with their chats and messages, that were handed back or set aside, and may be answered still.
    given_up: VecDeque<(EventId, String, String)>,
}

impl Book {
    /// An event comes; whether it is answered already.
    pub(super) fn add(&mut self, delivery: Box<Delivery>) -> bool {
        let id = delivery.event_id;
        if let Some(entry) = self.entries.get_mut(&id) {
            // Offered again while we still have it: there is nothing to send twice.
            entry.delivery = delivery;
            return false;
        }
        let source = Source::of(&delivery);
        if delivery.attempt > 1 && self.knows(&delivery.lane.instance, &source) {
            return true;
        }
        let chat = Chat {
            platform: source.platform.clone(),
            id: source.chat_id.clone(),
            thread: source.thread_id.clone(),
            kind: source.chat_type,
            lane: delivery.lane.clone(),
        };
        self.chats.retain(|known| {
            (&known.platform, &known.id, &known.thread) != (&chat.platform, &chat.id, &chat.thread)
        });
        self.given_up.retain(|(given_up, ..)| *given_up != id);
        self.chats.push_front(chat);
        self.chats.truncate(REMEMBERED);
        let key = source.session_key();
        self.entries.insert(id, Entry { delivery, source, key, state: State::Held, copy: None });
        false
    }

    /// What may go now: one event of each session. What was offered before waits while `cautious`, and one
    /// under suspicion goes alone.
    pub(super) fn due(
        &mut self,
        cautious: bool,
        blame: &Blame,
    ) -> impl Iterator<Item = &mut Entry> {
        let busy = || self.entries.iter().filter(|(_, entry)| entry.state != State::Held);
        let mut keys: BTreeSet<String> = busy().map(|(_, entry)| entry.key.clone()).collect();
        let mut is_shut = busy().any(|(id, _)| blame.is_alone(*id));
        self.entries.iter_mut().filter_map(move |(id, entry)| {
            let waits = cautious && entry.delivery.attempt > 1;
            if is_shut || waits || entry.state != State::Held || keys.contains(&entry.key) {
                return None;
            }
            is_shut = blame.is_alone(*id);
            if is_shut && !keys.is_empty() {
                return None;
            }
            keys.insert(entry.key.clone());
            Some(entry)
        })
    }

    /// Events that keep a place at the agent, as it seems, and have no turn there: their answer is lost, or
    /// they wait for a former copy to end. `active`: turns that run there.
    pub(super) fn stuck(&self, cautious: bool, active: u64) -> usize {
        let count = |is: fn(&Entry) -> bool| self.entries.values().filter(|it| is(it)).count();
        let lost = count(|it| matches!(it.state, State::Sent { gap: true, .. }));
        let again = count(|it| it.state == State::Held && it.delivery.attempt > 1);
        let waiting = lost + if cautious { again } else { 0 };
        let known = count(|it| matches!(it.state, State::Sent { gap: false, .. }));
        let unknown = usize::try_from(active).unwrap_or(usize::MAX).saturating_sub(known);
        waiting.saturating_sub(unknown)
    }

    /// The agent has it in memory.
    pub(super) fn taken(&mut self, conn: Conn, buffer: &str, now: Instant) {
        let id = buffer.split('.').next().and_then(|id| id.parse().ok()).map(EventId);
        let Some(entry) = id.and_then(|id| self.entries.get_mut(&id)) else { return };
        let own = entry.buffer(conn) == buffer;
        if let State::Sent { taken, .. } = &mut entry.state
            && own
        {
            taken.get_or_insert(now);
        }
    }

    /// The connection is lost, and perhaps an answer with it.
    pub(super) fn gap(&mut self) {
        for entry in self.entries.values_mut() {
            if let State::Sent { gap, .. } = &mut entry.state {
                *gap = true;
            }
        }
    }

    /// The event whose turn ends with this message.
    pub(super) fn answered_by(&self, platform: &str, send: &Send) -> Option<EventId> {
        let mut here = self.entries.iter().filter(|(_, entry)| {
            entry.state != State::Answering
                && entry.source.platform == platform
                && entry.source.chat_id == send.chat_id
        });
        if let Some(reply_to) = &send.reply_to {
            // Also of one that is with us: its first copy may be in work still.
            let found = here.find(|(_, entry)| {
                let source = &entry.source;
                let sent = entry.state != State::Held || entry.delivery.attempt > 1;
                let anchored = source.thread_id.is_some()
                    && source.thread_id == send.thread_id
                    && source.reply_to.as_ref() == Some(reply_to);
                sent && (source.message_id == *reply_to || anchored)
            });
            return found.map(|(id, _)| *id);
        }
        let mut same = here.filter(|(_, entry)| {
            (entry.state != State::Held || entry.delivery.attempt > 1)
                && entry.source.thread_id.is_some()
                && entry.source.thread_id == send.thread_id
        });
        let found = same.next().map(|(id, _)| *id);
        if same.next().is_some() { None } else { found }
    }

    /// The answer to an event, on its way from now on.
    pub(super) fn answer(&mut self, id: EventId, send: &Send) -> Option<Reply> {
        let entry = self.entries.get_mut(&id)?;
        entry.state = State::Answering;
        entry.copy.clone_from(&send.copy);
        let Delivery { lane, event, .. } = &*entry.delivery;
        let Source { chat_id, message_id, .. } = &entry.source;
        Some(Reply {
            key: key(&lane.instance, chat_id, message_id),
            lane: lane.clone(),
            reply_to: event.message_id.clone(),
            content: Content::text(&send.text),
        })
    }

    /// An event is over; whether it was here.
    pub(super) fn done(&mut self, id: EventId) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        let Entry { delivery, source: Source { chat_id, message_id, .. }, copy, .. } = entry;
        let instance = delivery.lane.instance;
        self.answered(Answered { instance, chat_id, message_id, copy });
        true
    }

    /// Nobody waits for its answer any more; whether it was here.
    pub(super) fn give_up(&mut self, id: EventId) -> bool {
        let Some(Entry { source, .. }) = self.entries.remove(&id) else { return false };
        self.given_up.push_front((id, source.chat_id, source.message_id));
        self.given_up.truncate(REMEMBERED);
        true
    }

    /// The event of a message that was given up.
    pub(super) fn given_up(&self, chat_id: &str, message_id: &str) -> Option<EventId> {
        let found =
            self.given_up.iter().find(|(_, chat, name)| chat == chat_id && name == message_id);
        found.map(|(id, ..)| *id)
    }

    /// A message is answered whose event may be offered once more.
    pub(super) fn answered(&mut self, answered: Answered) {
        self.answered.push_front(answered);
        self.answered.truncate(REMEMBERED);
    }

    /// The answer to a message whose event is not here is on its way to the store.
    pub(super) fn answering(&mut self, answered: Answered) {
        self.answering.push(answered);
    }

    /// That is over.
    pub(super) fn not_answering(&mut self, answered: &Answered) {
        self.answering.retain(|it| it != answered);
    }

    fn knows(&self, instance: &Instance, source: &Source) -> bool {
        self.answered.iter().any(|it| {
            (&it.instance, &it.chat_id, &it.message_id)
                == (instance, &source.chat_id, &source.message_id)
        })
    }

    /// Whether this answers a second copy of a message whose first is answered. What else is said to that
    /// message, by the turn that has answered it, has the same name. In a thread only the name of a copy tells:
    /// any other may be that of the root.
    pub(super) fn is_of_another_copy(&self, send: &Send) -> bool {
        let (Some(message), Some(copy)) = (&send.reply_to, &send.copy) else { return false };
        let is_named = send.thread_id.is_none() || message != copy;
        is_named
            && self.answered.iter().any(|it| {
                let same = it.chat_id == send.chat_id && it.message_id == *message;
                same && it.copy.as_ref().is_some_and(|answered| answered != copy)
            })
    }

    /// Whether a message has its answer, or is about to.
    pub(super) fn is_answered(&self, chat_id: &str, message_id: &str) -> bool {
        let answered = self.answered.iter().chain(&self.answering);
        let answered = answered.map(|it| (it.chat_id.as_str(), it.message_id.as_str()));
        let here = self.entries.values().filter(|entry| entry.state == State::Answering);
        let here = here.map(|it| (it.source.chat_id.as_str(), it.source.message_id.as_str()));
        answered.chain(here).any(|it| it == (chat_id, message_id))
    }

    /// Where a message goes that answers nothing.
    pub(super) fn lane(
        &self,
        platform: &str,
        send: &Send,
        platforms: &[(Instance, String)],
    ) -> Option<Lane> {
        let mut known =
            self.chats.iter().filter(|chat| chat.platform == platform && chat.id == send.chat_id);
        if let Some(chat) = known.clone().find(|chat| chat.thread == send.thread_id) {
            return Some(chat.lane.clone());
        }
        let configured = || platforms.iter().find(|(_, kind)| kind == platform);
        let instance = match known.next() {
            Some(chat) => chat.lane.instance.clone(),
            None => configured()?.0.clone(),
        };
        let (chat_id, thread_id) = (send.chat_id.clone(), send.thread_id.clone());
        (!chat_id.is_empty()).then_some(Lane { instance, chat_id, thread_id })
    }

    /// Whether an event of the thread of a message has come.
    pub(super) fn has_heard(&self, platform: &str, send: &Send) -> bool {
        self.chats.iter().any(|chat| {
            chat.platform == platform && chat.id == send.chat_id && chat.thread == send.thread_id
        })
    }

    /// What sort of chat it is, by the agent's word.
    pub(super) fn kind_of(&self, chat_id: &str) -> &'static str {
        let known = self.chats.iter().find(|chat| chat.id == chat_id);
        known.map_or("group", |chat| chat.kind)
    }
}

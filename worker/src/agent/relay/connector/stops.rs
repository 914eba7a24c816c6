//! What a person has ended: "Stopped." is a promise, wherever the event is by then.

use std::collections::BTreeMap;

use protocol::id::EventId;
use protocol::worker::FromWorker;

use super::super::book::State;
use super::super::wire;
use super::{Action, Connector, Instant, Live, Phase, STOP};

/// What is known of events that are ended, or may be before they are here.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// Events whose files are on their way.
    coming: BTreeMap<EventId, Coming>,
    /// Events that the agent may work on; `true`: it was told to end that.
    at_work: BTreeMap<EventId, bool>,
}

#[derive(Debug, Default)]
struct Coming {
    /// One that was handed back may be offered once more before its files are here.
    copies: u32,
    is_over: bool,
}

impl Stops {
    /// An event follows.
    pub(super) fn comes(&mut self, id: EventId) {
        self.coming.entry(id).or_default().copies += 1;
    }

    /// Whether anything does.
    pub(super) fn is_coming(&self) -> bool {
        self.coming().next().is_some()
    }

    /// What does, and is not over.
    pub(super) fn coming(&self) -> impl Iterator<Item = EventId> {
        self.coming.iter().filter(|(_, it)| !it.is_over).map(|(id, _)| *id)
    }

    /// An event is here: whether it was ended on its way.
    pub(super) fn is_over(&mut self, id: EventId) -> bool {
        let Some(it) = self.coming.get_mut(&id) else { return false };
        let is_over = it.is_over;
        it.copies -= 1;
        if it.copies == 0 {
            self.coming.remove(&id);
        }
        is_over
    }

    /// No end that an event comes to makes it come again.
    pub(super) fn settle(&mut self, out: &mut [Action]) {
        for action in out {
            let Action::Say(said) = action else { continue };
            let (FromWorker::Ack { event_id }
            | FromWorker::Nack { event_id, .. }
            | FromWorker::Defer { event_id, .. }
            | FromWorker::SetAside { event_id, .. }) = said
            else {
                continue;
            };
            if self.at_work.remove(event_id).is_some() {
                *said = FromWorker::Ack { event_id: *event_id };
            }
        }
    }
}

impl Connector {
    /// What is only with us is over at once. In the agent its own command ends the turn; the answer to that
    /// command, which nobody in the chat has given, is the end of the event.
    pub(super) fn interrupt(&mut self, id: EventId, out: &mut Vec<Action>) {
        if let Some(it) = self.stops.coming.get_mut(&id) {
            if !std::mem::replace(&mut it.is_over, true) {
                out.push(Action::Say(FromWorker::Ack { event_id: id }));
            }
            return;
        }
        let Some(entry) = self.book.entries.get(&id) else { return };
        // Its session works on another one, which is not to end.
        let is_busy =
            || self.book.entries.values().any(|it| it.key == entry.key && it.state != State::Held);
        match entry.state {
            State::Held if entry.delivery.attempt == 1 || is_busy() => {
                self.book.entries.remove(&id);
                out.push(Action::Say(FromWorker::Ack { event_id: id }));
            }
            // The agent may work on a former copy.
            State::Held | State::Sent { .. } => {
                self.stops.at_work.entry(id).or_default();
            }
            State::Answering => {}
        }
    }

    /// Tells an agent that listens what is to end there. What was not begun yet is not begun any more.
    pub(super) fn tell_stops(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(Live { conn, phase: Phase::Open { .. } | Phase::Leaving { .. }, .. }) = &self.live
        else {
            return;
        };
        for (id, told) in self.stops.at_work.iter_mut().filter(|(_, told)| !**told) {
            let Some(entry) = self.book.entries.get_mut(id) else { continue };
            *told = true;
            let event = entry.source.stop(&stop_of(*id), &entry.delivery);
            out.push(Action::Line(*conn, wire::inbound(event, None)));
            if entry.state == State::Held {
                entry.state = State::Sent { since: now, taken: None, gap: false };
            }
        }
    }

    /// All of them are over, whoever has them.
    pub(super) fn end_stops(&mut self, out: &mut Vec<Action>) {
        let ended = self.stops.at_work.keys();
        out.extend(ended.map(|id| Action::Say(FromWorker::Ack { event_id: *id })));
    }
}

/// The name of the command that ends the turn of an event.
fn stop_of(id: EventId) -> String {
    format!("{STOP}{id}")
}

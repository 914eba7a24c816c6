//! What was set aside: showing it to people, and doing what they decide.

use protocol::control::{
    Decided, DecidedOne, Decision, Page, ParkedItem, ParkedList, Refusal, SCHEMA,
};
use protocol::id::{Lane, ParkedId};
use serde::Serialize;

use super::Gateway;
use super::tickets::Pending;
use crate::exit::Code;
use crate::link::Reply;
use crate::policy::{delivery, outbox};
use crate::socket::Peer;
use crate::store::{Answer, Parked, Payload};

/// The most entries in one answer.
const LIST_MAX: u32 = 1000;
/// The most bytes of a text or an event in one answer: a line of control holds 1 MiB.
const SHOWN_MAX: usize = 900 * 1024;

impl Gateway {
    pub(super) fn list_parked(&mut self, page: Page, reply: Reply) {
        let limit = usize::try_from(page.limit.clamp(1, LIST_MAX)).unwrap_or(1);
        self.ask(Pending::ListParked { after: page.after, limit, reply });
    }

    pub(super) fn decide(
        &mut self,
        decision: Decision,
        ids: Vec<ParkedId>,
        peer: Peer,
        reply: Reply,
    ) {
        let named: Vec<_> = ids.iter().take(10).map(ToString::to_string).collect();
        tracing::info!(
            ?decision, count = ids.len(), first = named.join(" "), pid = ?peer.pid, uid = peer.uid,
            "decided about what was set aside"
        );
        self.ask(Pending::Decide { decision, ids, reply });
    }

    /// The store answers about what was set aside.
    pub(super) fn parked_answered(&mut self, pending: Pending, answer: Answer) {
        match (pending, answer) {
            (Pending::ListParked { limit, reply, .. }, Answer::ParkedList(found)) => {
                let all = found.len();
                let items = fitting(found.into_iter().map(item));
                let more = all >= limit || items.len() < all;
                reply.answer(&ParkedList { schema: SCHEMA, items, more });
            }
            (Pending::ShowParked { id, reply }, Answer::ParkedItem(found)) => match found {
                Some(found) => reply.answer_with_content(&shown(*found)),
                None => reply.refuse(Refusal {
                    code: Code::Usage.number(),
                    message: format!("nothing called {id} is set aside"),
                    hint: Some("`hermes-gw ctl parked list` shows what is".into()),
                }),
            },
            (Pending::Decide { decision, reply, .. }, Answer::Decided(found)) => {
                let results = found.iter().map(|(id, lane, _)| one(*id, lane.is_some(), decision));
                reply.answer(&Decided { schema: SCHEMA, results: results.collect() });
                if decision == Decision::Replay {
                    for (id, lane, user) in found {
                        self.rejoin(id, lane, user.as_deref());
                    }
                }
            }
            (
                Pending::ListParked { reply, .. }
                | Pending::ShowParked { reply, .. }
                | Pending::Decide { reply, .. },
                answer,
            ) => {
                let full = matches!(answer, Answer::Full);
                let why = if full { "the disk is full".into() } else { format!("{answer:?}") };
                reply.refuse(Refusal {
                    code: Code::Io.number(),
                    message: format!("look at what is set aside: {why}"),
                    hint: full.then(|| "make room, then try again; nothing was changed".into()),
                });
            }
            (pending, answer) => {
                tracing::error!(?pending, ?answer, "an answer to another question");
            }
        }
    }

    /// It waits again, at its old place.
    fn rejoin(&mut self, id: ParkedId, lane: Option<Lane>, user: Option<&str>) {
        let Some(lane) = lane else { return };
        let Some(index) = self.by_name.get(&lane.instance).copied() else { return };
        match id {
            ParkedId::Reply(id) => self.send(index, outbox::Input::Replayed(id.0, lane)),
            ParkedId::Event(id) => {
                if let Some(agent) = self.agent_of(&lane, user) {
                    self.deliver(agent, delivery::Input::Replayed(id.0, lane));
                }
            }
        }
    }
}

fn one(id: ParkedId, found: bool, decision: Decision) -> DecidedOne {
    let (result, code) = match (found, decision) {
        (true, Decision::Replay) => ("replayed", Code::Ok),
        (true, Decision::Drop) => ("dropped", Code::Ok),
        (false, _) => ("unknown", Code::Usage),
    };
    DecidedOne { id, result: result.into(), code: code.number() }
}

/// As many of them as one answer holds, and one in any case.
pub(super) fn fitting<T: Serialize>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut room = SHOWN_MAX;
    let mut fitting = Vec::new();
    for item in items {
        let size = serde_json::to_string(&item).map_or(0, |line| line.len() + 1);
        if size > room && !fitting.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        fitting.push(item);
    }
    fitting
}

fn item(parked: Parked) -> ParkedItem {
    let state = match (parked.id, parked.unknown) {
        (ParkedId::Event(_), _) => "parked",
        (ParkedId::Reply(_), false) => "failed",
        (ParkedId::Reply(_), true) => "unknown",
    };
    ParkedItem {
        id: parked.id,
        state: state.into(),
        instance: parked.lane.instance,
        chat_id: parked.lane.chat_id,
        thread_id: parked.lane.thread_id,
        attempts: parked.attempts,
        received_ms: parked.received_ms,
        parked_ms: parked.parked_ms,
        reason: cut(&parked.reason),
        message_ids: parked.message_ids,
        text: None,
        event: None,
        content: None,
    }
}

fn shown((parked, payload): (Parked, Payload)) -> ParkedItem {
    let mut item = item(parked);
    match payload {
        Payload::Reply(Some(content)) => {
            item.text = Some(cut(&content.text));
            if !content.is_plain() {
                let mut value = serde_json::to_value(content).unwrap_or_default();
                if let Some(members) = value.as_object_mut() {
                    members.remove("text");
                }
                item.content = Some(Box::new(value));
            }
        }
        Payload::Event(None) | Payload::Reply(None) => {
            item.text = Some("(this program cannot read it)".into());
        }
        Payload::Event(Some(mut event)) => {
            item.text = Some(cut(&event.text));
            // The platform's own words are text, and people read them as such.
            let raw = String::from_utf8_lossy(&std::mem::take(&mut event.raw)).into_owned();
            let mut value = serde_json::to_value(event).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.remove("text");
                members.insert("raw".into(), cut(&raw).into());
            }
            item.event = Some(Box::new(value));
        }
    }
    item
}

/// What fits into one answer twice over.
fn cut(text: &str) -> String {
    let most = SHOWN_MAX / 4;
    match text.char_indices().find(|(at, _)| *at >= most) {
        Some((at, _)) => format!("{}… ({} bytes)", text.get(..at).unwrap_or_default(), text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::control::LINE_MAX;
    use protocol::id::{EventId, Instance};

    use super::*;

    #[test]
    fn an_answer_is_no_longer_than_a_line() {
        let parked = |n| Parked {
            id: ParkedId::Event(EventId(n)),
            lane: Lane {
                instance: Instance::new("p").unwrap(),
                chat_id: "c".into(),
                thread_id: None,
            },
            unknown: false,
            attempts: 1,
            received_ms: 0,
            parked_ms: 0,
            reason: "x".repeat(2000),
            message_ids: Vec::new(),
        };
        let items = fitting((0..1000).map(parked).map(item));
        assert!(items.len() > 400, "{}", items.len());
        let told = ParkedList { schema: SCHEMA, items, more: true };
        assert!(serde_json::to_string(&told).unwrap().len() < LINE_MAX);
        let endless = |n| Parked { reason: "x".repeat(2 * LINE_MAX), ..parked(n) };
        let one = fitting((0..9).map(endless).map(item));
        assert!(!one.is_empty() && serde_json::to_string(&one).unwrap().len() < LINE_MAX);
    }
}

//! One event, from a complete frame to its answer.
//!
//! The answer says that we have the event and need not be told again, so it goes out only after a verdict
//! that says so, and in time: the platform judges a late one as none, and an early one is a lie. Without
//! an answer it repeats the event after 15 s, 5 min, 1 h and 6 h. What will never be of use is answered
//! at once, or it would come back four times as well. What cannot be understood is kept for a person first.
//!
//! Handing in is a step of its own, because events are handed in one by one in the order of their
//! arrival, while each waits for its verdict alone.

use std::pin::pin;
use std::time::Duration;

use protocol::event::{Inbound, InboundKind, Mention};
use protocol::worker::Verdict;
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use super::absence::Said;
use super::decode::{Heard, Lack, Own, decode, unreadable};
use super::frame::Frame;
use super::late::Told;
use super::order::Place;
use super::{Shared, fill};
use crate::clock::{self, Instant};
use crate::platform::Note;

/// From the arrival of the last part to the answer. The platform waits 3 s, the way there and back
/// included.
const ANSWER: Duration = Duration::from_millis(2600);

/// A complete event.
pub(super) struct Arrival {
    /// The frame that completed it, without its payload.
    pub(super) frame: Frame,
    /// The payload of all its parts.
    pub(super) payload: Vec<u8>,
    /// When it was complete.
    pub(super) at: Instant,
    /// Its parts may not belong together: it is kept, and the platform is to repeat it.
    pub(super) doubtful: bool,
}

/// How far an event has come by being handed in.
pub(super) enum Handed {
    /// It may be answered.
    Settled(Reply),
    /// The pump has it.
    Waiting(Submission, Reply),
    /// It has to wait for what the platform still has to tell, without holding up other chats.
    Lacking(Box<Inbound>, Lack, Option<Place>, Reply),
    /// It would overtake what was refused: it is read in its turn.
    Held,
}

/// An event that the pump has.
pub(super) struct Submission {
    verdict: oneshot::Receiver<Verdict>,
    /// Its chat, if it is the first of which this is remembered.
    begins: Option<String>,
    /// Where and when it was said, if a history has it.
    said: Option<Said>,
}

/// What goes back with the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// Nothing.
    Bare,
    /// An empty object: whoever pressed a card sees that it was heard.
    Empty,
}

/// Hands an event in, however long that takes: one that is given up would be overtaken by what comes behind it.
pub(super) async fn hand(shared: &Shared, arrival: Arrival) -> (Arrival, Handed) {
    let trace = arrival.frame.header("trace_id").unwrap_or_default();
    let handed = hear(shared, &arrival.payload, trace).await;
    (arrival, handed)
}

/// Waits for the verdict; the frame to answer with, if any.
pub(super) async fn answer(shared: &Shared, arrival: Arrival, handed: Handed) -> Option<Frame> {
    let mut settling = pin!(settle(shared, handed));
    let until = arrival.at + ANSWER;
    let settled = timeout_at(until, &mut settling).await;
    let in_time = settled.is_ok() && clock::now() < until;
    match shared.late(in_time) {
        Some(Told::Begins) => {
            tracing::warn!(
                "no verdict on an event in time; the platform will repeat it. Others are counted"
            );
        }
        Some(Told::Ended(events)) => {
            tracing::info!(events, "verdicts are in time again; on so many there was none");
        }
        None => {}
    }
    let Ok(settled) = settled else {
        // It goes its way without an answer, in its turn: the repetition is known then.
        let _ = timeout(shared.limits.turn, settling).await;
        return None;
    };
    let took = clock::now().duration_since(arrival.at).as_millis();
    let data = settled? == Reply::Empty;
    if arrival.doubtful || !in_time {
        return None;
    }
    Some(arrival.frame.into_answer(took, data.then_some(b"{}")))
}

/// Reads an event and hands it in.
pub(super) async fn hear(shared: &Shared, payload: &[u8], trace: &str) -> Handed {
    let heard = {
        let own = Own { open_id: shared.bot().map(|bot| bot.open_id) };
        let memory = shared.memory();
        decode(payload, &own, &memory, clock::unix_ms())
    };
    let (inbound, lack) = match heard {
        Heard::Event(inbound, lack) => (inbound, lack),
        Heard::Unknown(inbound, lack) => {
            shared.report.tell(Note::Ignored).await;
            (inbound, lack)
        }
        Heard::Ignored => {
            shared.report.tell(Note::Ignored).await;
            return Handed::Settled(Reply::Bare);
        }
        Heard::Malformed(why) => {
            let bytes = payload.len();
            tracing::warn!(reason = why, trace, bytes, "an event cannot be understood");
            shared.report.tell(Note::Malformed).await;
            if payload.is_empty() {
                return Handed::Settled(Reply::Bare);
            }
            (Box::new(unreadable(payload, clock::unix_ms())), Lack::default())
        }
    };
    let is_pressed = inbound.kind == InboundKind::Button && inbound.message_id.is_some();
    let reply = if is_pressed { Reply::Empty } else { Reply::Bare };
    remember(shared, &inbound);
    shared.absence.comes(shared, &inbound.chat_id);
    let place = shared.order.place(&inbound.chat_id, lack.is_some());
    if lack.is_some() || place.is_some() {
        return Handed::Lacking(inbound, lack, place, reply);
    }
    if overtakes(shared, &inbound) {
        return Handed::Held;
    }
    Handed::Waiting(submit(shared, *inbound).await, reply)
}

/// Hands it to the pump.
pub(super) async fn submit(shared: &Shared, inbound: Inbound) -> Submission {
    let said = said(&inbound);
    let cursor = shared.absence.with_event(&inbound.chat_id);
    let begins = cursor.is_some().then(|| inbound.chat_id.clone());
    Submission { verdict: shared.events.submit(inbound, cursor).await, begins, said }
}

impl Submission {
    /// What becomes of it; `None`: the worker ends.
    pub(super) async fn verdict(self, shared: &Shared) -> Option<Verdict> {
        let verdict = self.verdict.await.ok()?;
        match (verdict, self.begins, self.said) {
            (Verdict::Accepted(_) | Verdict::Duplicate, Some(chat), _) => {
                shared.absence.kept(&chat);
            }
            (Verdict::Refused, _, Some(said)) => shared.absence.refused(shared, &said),
            _ => {}
        }
        Some(verdict)
    }
}

/// Whether it would overtake what was refused.
fn overtakes(shared: &Shared, inbound: &Inbound) -> bool {
    said(inbound).is_some_and(|said| shared.absence.overtakes(shared, &said))
}

/// Where and when it was said, if a history has it.
fn said(inbound: &Inbound) -> Option<Said> {
    let Inbound { chat_id, thread_id, origin_ms, .. } = inbound;
    let (chat, topic, at_ms) = (chat_id.clone(), thread_id.clone(), *origin_ms);
    (inbound.kind == InboundKind::Message).then_some(Said { chat, topic, at_ms })
}

/// Keeps what helps with later events.
pub(super) fn remember(shared: &Shared, inbound: &Inbound) {
    shared.absence.spoke(inbound);
    shared.absence.knows(inbound);
    let mut memory = shared.memory();
    memory.heard(inbound);
    if inbound.kind == InboundKind::Button
        && let Some(message_id) = &inbound.message_id
        && let Some(token) = inbound.keys.iter().find_map(|key| key.strip_prefix("press:"))
    {
        memory.pressed(message_id, token, clock::now());
    }
}

/// What goes back if the event need not come again.
pub(super) async fn settle(shared: &Shared, handed: Handed) -> Option<Reply> {
    let (submission, reply) = match handed {
        Handed::Settled(reply) => return Some(reply),
        Handed::Held => return None,
        Handed::Waiting(submission, reply) => (submission, reply),
        Handed::Lacking(mut inbound, lack, place, reply) => {
            if lack.own {
                shared.known().await;
                if addresses(shared, &inbound) {
                    inbound.mention = Mention::Me;
                }
            }
            let was_nowhere = inbound.chat_id.is_empty();
            let tells_later = lack.is_some() && fill::fill(shared, &mut inbound, &lack).await;
            let mut place = place;
            turn(&mut place, &inbound.chat_id).await;
            if was_nowhere && !inbound.chat_id.is_empty() {
                // Behind whatever was said there is known by now.
                place = shared.order.place(&inbound.chat_id, false);
                turn(&mut place, &inbound.chat_id).await;
            }
            if inbound.chat_id.is_empty() && inbound.kind == InboundKind::Button {
                // Somebody waits for what it does, but nobody can say where.
                inbound.kind = InboundKind::Unreadable;
            }
            if inbound.chat_id.is_empty() && inbound.kind != InboundKind::Unreadable {
                // Nobody can say where it belongs; if somebody may be able to later, it is to come again.
                if tells_later {
                    return None;
                }
                shared.report.tell(Note::Ignored).await;
                return Some(reply);
            }
            if overtakes(shared, &inbound) {
                return None;
            }
            let submission = submit(shared, *inbound).await;
            drop(place);
            (submission, reply)
        }
    };
    match submission.verdict(shared).await? {
        Verdict::Accepted(_) | Verdict::Duplicate | Verdict::Denied => Some(reply),
        Verdict::Refused => None,
    }
}

/// Waits until whatever came before has gone.
async fn turn(place: &mut Option<Place>, chat: &str) {
    if let Some(place) = place
        && !place.turn().await
    {
        tracing::warn!(
            chat,
            "taken before what was said there earlier, which takes too long to find out"
        );
    }
}

/// Whether the event addresses the bot, now that it knows itself.
fn addresses(shared: &Shared, inbound: &Inbound) -> bool {
    let own = Own { open_id: shared.bot().map(|bot| bot.open_id) };
    let memory = shared.memory();
    match decode(&inbound.raw, &own, &memory, clock::unix_ms()) {
        Heard::Event(known, _) => known.mention == Mention::Me,
        _ => false,
    }
}

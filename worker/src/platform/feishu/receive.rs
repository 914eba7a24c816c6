//! One event, from a complete frame to its answer.
//!
//! The answer says that we have the event and need not be told again, so it goes out only after a verdict
//! that says so, and in time: the platform judges a late one as none, and an early one is a lie. Without
//! an answer it repeats the event after 15 s, 5 min, 1 h and 6 h. What will never be of use is answered
//! at once, or it would come back four times as well.
//!
//! Handing in is a step of its own, because events are handed in one by one in the order of their
//! arrival, while each waits for its verdict alone.

use std::time::Duration;

use protocol::event::Inbound;
use protocol::worker::Verdict;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Shared;
use super::decode::{Heard, Own, decode};
use super::frame::Frame;
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
}

/// How far an event has come by being handed in.
pub(super) enum Handed {
    /// It may be answered.
    Settled,
    /// The pump has it.
    Waiting(oneshot::Receiver<Verdict>),
    /// It has to wait until the bot knows itself, without holding up others.
    Unsure,
    /// The pump did not take it in time.
    Late,
}

/// Hands an event in.
pub(super) async fn hand(shared: &Shared, arrival: Arrival) -> (Arrival, Handed) {
    let handed = timeout_at(arrival.at + ANSWER, take(shared, &arrival)).await;
    (arrival, handed.unwrap_or(Handed::Late))
}

/// Waits for the verdict; the frame to answer with, if any.
pub(super) async fn answer(shared: &Shared, arrival: Arrival, handed: Handed) -> Option<Frame> {
    let settled = timeout_at(arrival.at + ANSWER, settle(shared, &arrival, handed)).await;
    let settled = settled.unwrap_or_else(|_| {
        tracing::warn!("no verdict on an event in time; the platform will repeat it");
        false
    });
    let took = clock::now().duration_since(arrival.at).as_millis();
    settled.then(|| arrival.frame.into_answer(took))
}

async fn take(shared: &Shared, arrival: &Arrival) -> Handed {
    // Callbacks of old cards come as a type of their own.
    if arrival.frame.header("type").is_some_and(|kind| kind != "event") {
        shared.report.tell(Note::Ignored).await;
        return Handed::Settled;
    }
    match hear(shared, &arrival.payload) {
        Heard::Message(inbound) => Handed::Waiting(submit(shared, *inbound).await),
        Heard::Unsure(_) => Handed::Unsure,
        Heard::Ignored => {
            shared.report.tell(Note::Ignored).await;
            Handed::Settled
        }
        Heard::Malformed(why) => {
            let trace = arrival.frame.header("trace_id").unwrap_or_default();
            let bytes = arrival.payload.len();
            tracing::warn!(reason = why, trace, bytes, "an event cannot be understood");
            shared.report.tell(Note::Malformed).await;
            Handed::Settled
        }
    }
}

/// Whether the event need not come again.
async fn settle(shared: &Shared, arrival: &Arrival, handed: Handed) -> bool {
    let verdict = match handed {
        Handed::Settled => return true,
        Handed::Late => return false,
        Handed::Waiting(verdict) => verdict,
        Handed::Unsure => {
            shared.known().await;
            match hear(shared, &arrival.payload) {
                Heard::Message(inbound) | Heard::Unsure(inbound) => submit(shared, *inbound).await,
                Heard::Ignored | Heard::Malformed(_) => return true,
            }
        }
    };
    match verdict.await {
        Ok(Verdict::Accepted(_) | Verdict::Duplicate | Verdict::Denied) => true,
        // No verdict: the worker ends.
        Ok(Verdict::Refused) | Err(_) => false,
    }
}

fn hear(shared: &Shared, payload: &[u8]) -> Heard {
    let own = Own { open_id: shared.bot().map(|bot| bot.open_id) };
    let memory = shared.memory();
    decode(payload, &own, |id| memory.is_ours(id), clock::unix_ms())
}

async fn submit(shared: &Shared, inbound: Inbound) -> oneshot::Receiver<Verdict> {
    if let (Some(thread), Some(message)) = (&inbound.thread_id, &inbound.message_id) {
        shared.memory().heard_in(thread, message);
    }
    shared.events.submit(inbound, None).await
}

//! What an adapter of a platform is given, and what it must do with it.
//!
//! An adapter knows its platform and these types; it never sees the link, a frame or another adapter.
//! Its duties: hand every event in and acknowledge the platform only on a [`Verdict`] that says so;
//! answer every [`Outbound`] with exactly one [`Outcome`]; report the state of its connection by what
//! the *receiving* side proves; keep trying for ever, slowly; leave politely when told to stop.

pub mod exec;
pub mod feishu;
pub mod local;
#[cfg(test)]
mod rig;
pub mod telegram;

use protocol::content::{Busy, Draft, Fetch, Fetched};
use protocol::event::{Inbound, Outbound, Outcome, Progress};
use protocol::id::OutboundId;
use protocol::worker::{Cursor, Network, Order, Outside, Ready, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::exchange::Exchange;

/// Code that speaks one platform.
pub trait Platform {
    /// Serves until `context.stop` is cancelled, then closes politely and returns `Ok`. An error is
    /// only for what a person must mend; an unreachable platform is retried inside.
    fn run(self, context: Context) -> impl Future<Output = Result<(), Error>>;
}

/// The adapter's side of the pump.
#[derive(Debug)]
pub struct Context {
    /// Takes events.
    pub events: Events,
    /// Brings replies to send. Closed when the worker ends.
    pub outbound: mpsc::Receiver<Outbound>,
    /// Brings what is not kept: see [`Ask`]. An adapter that cannot do such things closes it.
    pub asks: mpsc::Receiver<Ask>,
    /// Where files are.
    pub exchange: Exchange,
    /// How the platform is reached.
    pub network: Network,
    /// Takes everything else.
    pub report: Report,
    /// Cancelled when the adapter must finish what is under way and return.
    pub stop: CancellationToken,
    /// Where this instance left off, as the adapter once said it.
    pub cursor: Option<Cursor>,
}

/// What an adapter is asked besides sending replies. None of it is kept: it is done soon or not at all.
#[derive(Debug)]
pub enum Ask {
    /// Show this draft of a reply, then say [`Note::Drafted`] with its key; the next one of its key
    /// comes after that. The reply with [`Outbound::draft_key`] takes its place.
    Draft(Box<Draft>),
    /// Show that an agent is at work, or not any more.
    Busy(Busy),
    /// Fetch the bytes of a part, then say [`Note::Fetched`] with the number.
    Fetch(u64, Box<Fetch>),
    /// Do what a person wants, then say [`Note::Ordered`] with the number.
    Order(u64, Order),
}

/// An event on its way to the supervisor.
#[derive(Debug)]
pub struct Submitted {
    /// What happened.
    pub event: Inbound,
    /// The id that its chat had before.
    pub former: Option<String>,
    /// The resume point that includes it.
    pub cursor: Option<Cursor>,
    /// Where the verdict goes.
    pub verdict: oneshot::Sender<Verdict>,
}

/// A resume point that must be durable before the platform is acknowledged.
#[derive(Debug)]
pub struct Kept {
    /// The resume point.
    pub cursor: Cursor,
    /// Where the verdict goes.
    pub verdict: oneshot::Sender<Verdict>,
}

/// Takes events.
#[derive(Clone, Debug)]
pub struct Events {
    events: mpsc::Sender<Submitted>,
    kept: mpsc::Sender<Kept>,
}

impl Events {
    /// Wraps the pump's ends.
    pub fn new(events: mpsc::Sender<Submitted>, kept: mpsc::Sender<Kept>) -> Self {
        Self { events, kept }
    }

    /// Hands `event` in. Waits while too many are on their way. The result resolves to the verdict,
    /// or to an error if the worker ends before there is one: then the platform must not be
    /// acknowledged.
    pub async fn submit(
        &self,
        event: Inbound,
        cursor: Option<Cursor>,
    ) -> oneshot::Receiver<Verdict> {
        self.submit_moved(event, None, cursor).await
    }

    /// The same from a chat that had another id before.
    pub async fn submit_moved(
        &self,
        event: Inbound,
        former: Option<String>,
        cursor: Option<Cursor>,
    ) -> oneshot::Receiver<Verdict> {
        let (verdict, answer) = oneshot::channel();
        // A closed pump drops the sender, which the caller sees as a missing verdict.
        let _ = self.events.send(Submitted { event, former, cursor, verdict }).await;
        answer
    }

    /// The verdict on an event and on the resume point that came with it. Nothing is stored of an event that is denied, so
    /// its resume point goes alone: else one that hears much which nobody wants begins again from long ago.
    pub async fn verdict(
        &self,
        answer: oneshot::Receiver<Verdict>,
        cursor: Option<Cursor>,
    ) -> Option<Verdict> {
        let verdict = answer.await.ok();
        match cursor {
            Some(cursor) if verdict == Some(Verdict::Denied) => {
                self.keep(cursor).await.then_some(Verdict::Denied)
            }
            _ => verdict,
        }
    }

    /// Hands in a resume point; whether it is durable.
    pub async fn keep(&self, cursor: Cursor) -> bool {
        let (verdict, answer) = oneshot::channel();
        let _ = self.kept.send(Kept { cursor, verdict }).await;
        matches!(answer.await, Ok(Verdict::Duplicate))
    }
}

/// What an adapter tells besides events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// Logged in for the first time: see [`Ready`].
    Ready(Ready),
    /// The connection changed. [`Outside::Up`] is implied by [`Note::Ready`].
    Outside(Outside),
    /// The receiving connection made progress (a frame, a pong, a completed poll).
    Progress,
    /// A well-formed platform event without use here.
    Ignored,
    /// Platform input that could not be understood.
    Malformed,
    /// What became of one attempt to send.
    Outcome(OutboundId, u32, Outcome),
    /// A draft is shown by a message, or will not be shown.
    Drafted(String, Option<String>),
    /// Bytes are fetched, or why not.
    Fetched(u64, Result<Fetched, String>),
    /// What a person wanted is done, or why not.
    Ordered(u64, Result<String, String>),
    /// A resume point that goes with no event.
    Cursor(Cursor),
    /// A reply waits, sent in part for its turn, or for somebody to see it: another may come in its place. Its outcome
    /// follows.
    Waits(OutboundId),
    /// A part of a reply has arrived, and more is to come: what later attempts are told.
    Reached(OutboundId, Progress),
}

/// Takes notes.
#[derive(Clone, Debug)]
pub struct Report(mpsc::Sender<Note>);

impl Report {
    /// Wraps the pump's end.
    pub fn new(sender: mpsc::Sender<Note>) -> Self {
        Self(sender)
    }

    /// Tells. Waits while the pump is behind; a pump that ended takes notes no more.
    pub async fn tell(&self, note: Note) {
        let _ = self.0.send(note).await;
    }

    /// Tells what is not worth waiting for: a pump that is behind does not hear it.
    pub fn hint(&self, note: Note) {
        let _ = self.0.try_send(note);
    }

    /// Tells what became of this attempt at a reply.
    pub async fn outcome(&self, outbound: &Outbound, outcome: Outcome) {
        tracing::debug!(
            outbound_id = outbound.id.0,
            attempt = outbound.attempt,
            sent = matches!(outcome, Outcome::Sent { .. }),
            "reply"
        );
        self.tell(Note::Outcome(outbound.id, outbound.attempt, outcome)).await;
    }
}

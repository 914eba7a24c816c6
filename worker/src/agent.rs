//! What an adapter of an agent endpoint is given, and what it must do with it.
//!
//! Its duties: say when the agent is ready and for how long, and say so again before that is over; hand
//! every [`Delivery`] to the agent and tell its answer once; hand every reply in and tell the agent
//! only what the verdict says.

pub mod echo;
pub mod exec;
pub mod openai;
pub mod relay;
mod rpc;
pub mod socket;
pub mod webhook;

use protocol::event::{Delivery, Receipt, Reply};
use protocol::id::EventId;
use protocol::worker::{FromWorker, ReplyVerdict};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Code that speaks to one kind of agent.
pub trait Agent {
    /// Serves until `context.stop` is cancelled, then ends politely and returns `Ok`.
    fn run(self, context: Context) -> impl Future<Output = Result<(), Error>>;
}

/// The adapter's side of the pump.
#[derive(Debug)]
pub struct Context {
    /// Brings events and news.
    pub incoming: mpsc::Receiver<ToAgent>,
    /// Takes replies.
    pub replies: Replies,
    /// Takes everything else: `Ready`, `Outside`, `Lease`, `Paused`, `Ack`, `Nack`, `Defer`, `SetAside`,
    /// `Progress`.
    pub say: Say,
    /// Cancelled when the adapter must return.
    pub stop: CancellationToken,
}

/// What comes for an agent.
#[derive(Debug)]
pub enum ToAgent {
    /// An event.
    Deliver(Box<Delivery>),
    /// An acknowledgement is durable.
    Settled(EventId),
    /// A reply has come to its end.
    Receipt(Receipt),
}

/// A reply on its way to the supervisor.
#[derive(Debug)]
pub struct Submitted {
    /// The reply.
    pub reply: Reply,
    /// Where the verdict goes.
    pub verdict: oneshot::Sender<ReplyVerdict>,
}

/// Takes replies.
#[derive(Clone, Debug)]
pub struct Replies(mpsc::Sender<Submitted>);

impl Replies {
    /// Wraps the pump's end.
    pub fn new(sender: mpsc::Sender<Submitted>) -> Self {
        Self(sender)
    }

    /// Hands `reply` in and waits for its verdict; `None`: the worker ends, and the reply is not
    /// accepted as far as anybody knows.
    pub async fn submit(&self, reply: Reply) -> Option<ReplyVerdict> {
        let (verdict, answer) = oneshot::channel();
        self.0.send(Submitted { reply, verdict }).await.ok()?;
        answer.await.ok()
    }
}

/// Takes frames for the supervisor.
#[derive(Clone, Debug)]
pub struct Say(mpsc::Sender<FromWorker>);

impl Say {
    /// Wraps the pump's end.
    pub fn new(sender: mpsc::Sender<FromWorker>) -> Self {
        Self(sender)
    }

    /// Says it. Waits while the pump is behind; a pump that ended hears nothing more.
    pub async fn say(&self, frame: FromWorker) {
        let _ = self.0.send(frame).await;
    }
}

//! What an adapter of an agent endpoint is given, and what it must do with it.
//!
//! Its duties: say when the agent is ready and for how long, and say so again before that is over; hand
//! every [`Delivery`] to the agent and tell its answer once; hand every reply in and tell the agent
//! only what the verdict says.

pub mod acp;
mod blame;
pub mod echo;
pub mod exec;
pub mod openai;
pub mod relay;
mod rpc;
#[cfg(test)]
mod sample;
pub mod socket;
pub mod webhook;

use std::net::SocketAddr;

use protocol::content::{Draft, Fetch, Fetched};
use protocol::event::{ChatType, Delivery, Note, Receipt, Reply};
use protocol::frame::{self, CARRIED_MAX};
use protocol::id::EventId;
use protocol::worker::{FromWorker, Network, Outside, ReplyVerdict};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::exchange::Exchange;
use crate::listener;

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
    /// Takes everything else: `Ready`, `Outside`, `Lease`, `Paused`, `Can`, `Ack`, `Nack`, `Defer`,
    /// `SetAside`, `Progress`, `Draft`, `Remember`, `Told`.
    pub say: Say,
    /// Brings the bytes of parts.
    pub files: Files,
    /// Where files are.
    pub exchange: Exchange,
    /// How the outside is reached.
    pub network: Network,
    /// Cancelled when the adapter must return.
    pub stop: CancellationToken,
}

/// The port that an agent is to reach, as soon as it is free; people are told why it is not. None: we are told to
/// stop.
async fn port(listen: SocketAddr, say: &Say, stop: &CancellationToken) -> Option<TcpListener> {
    let mut was_taken = false;
    let taken = async |reason: String| {
        tracing::warn!(reason, "not listening");
        was_taken = true;
        let remedy = Some("end what listens there, or give this agent another `listen`".to_owned());
        say.say(FromWorker::Outside(Outside::Down { reason, remedy })).await;
    };
    let listener = listener::bind(listen, stop, taken).await?;
    if was_taken {
        say.say(FromWorker::Outside(Outside::Up)).await;
    }
    Some(listener)
}

/// What a model reads of an event: what it answers to, who speaks where there are several, what is said.
pub(crate) fn question(delivery: &Delivery) -> String {
    quoted(delivery) + &said(delivery)
}

/// What it answers to, to stand before what is said.
fn quoted(delivery: &Delivery) -> String {
    let mut quoted = String::new();
    for line in delivery.event.quote.iter().flat_map(|quote| quote.lines()) {
        quoted.push_str("> ");
        quoted.push_str(line);
        quoted.push('\n');
    }
    if !quoted.is_empty() {
        quoted.push('\n');
    }
    quoted
}

/// Who speaks where there are several, and what is said.
fn said(delivery: &Delivery) -> String {
    let event = &delivery.event;
    let mut said = String::new();
    if event.chat_type != ChatType::Direct
        && let Some(name) = &event.sender.name
    {
        said.push_str(name);
        said.push_str(": ");
    }
    said.push_str(if event.text.trim().is_empty() { "(no text)" } else { &event.text });
    said
}

/// What comes for an agent.
#[derive(Debug)]
pub enum ToAgent {
    /// An event.
    Deliver(Box<Delivery>),
    /// An acknowledgement is durable.
    Settled(EventId),
    /// A reply has come to its end. To be answered by `Told` once the agent has been told; agents that
    /// are never told do not get it.
    Receipt(Receipt),
    /// The agent is to end its work on an event. What it says then, if anything, is its answer. Comes
    /// only to those that said they can.
    Interrupt(EventId),
    /// Something is said while the agent works on an event. What it takes in is acknowledged right
    /// before that event. Comes only to those that said they can.
    Steer {
        /// What the agent works on.
        event_id: EventId,
        /// What is said.
        more: Box<Delivery>,
    },
}

/// A reply on its way to the supervisor.
#[derive(Debug)]
pub struct Submitted {
    /// The reply.
    pub reply: Reply,
    /// What is to be kept about its conversation together with it.
    pub note: Option<Note>,
    /// Where the verdict goes.
    pub verdict: oneshot::Sender<ReplyVerdict>,
}

impl Submitted {
    /// A reply, and where its verdict will be.
    pub fn new(reply: Reply, note: Option<Note>) -> (Self, oneshot::Receiver<ReplyVerdict>) {
        let (verdict, answer) = oneshot::channel();
        (Self { reply, note, verdict }, answer)
    }
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
        self.submit_with(reply, None).await
    }

    /// [`Replies::submit`], with what is to be kept about the conversation if the reply is.
    pub async fn submit_with(&self, reply: Reply, note: Option<Note>) -> Option<ReplyVerdict> {
        let (submitted, answer) = Submitted::new(reply, note);
        self.0.send(submitted).await.ok()?;
        answer.await.ok()
    }

    /// Waits until one more can be handed in; `None`: the worker ends.
    pub async fn permit(&self) -> Option<mpsc::Permit<'_, Submitted>> {
        self.0.reserve().await.ok()
    }
}

/// A wish for the bytes of a part.
#[derive(Debug)]
pub struct Wished {
    /// What to fetch.
    pub fetch: Fetch,
    /// Where they go.
    pub result: oneshot::Sender<Result<Fetched, String>>,
}

/// Brings the bytes of parts.
#[derive(Clone, Debug)]
pub struct Files(mpsc::Sender<Wished>);

impl Files {
    /// Wraps the pump's end.
    pub fn new(sender: mpsc::Sender<Wished>) -> Self {
        Self(sender)
    }

    /// Has the bytes of a part put into the exchange directory. An error says why there are none.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Fetched, String> {
        passable(&fetch)?;
        let (result, answer) = oneshot::channel();
        let ended = || Err("the worker ends".to_owned());
        if self.0.send(Wished { fetch, result }).await.is_err() {
            return ended();
        }
        answer.await.unwrap_or_else(|_| ended())
    }
}

/// Whether a frame can carry it; one that cannot would end the worker.
fn passable(what: &impl Serialize) -> Result<(), String> {
    let bytes = frame::size(what).map_err(|e| e.to_string())?;
    if bytes > CARRIED_MAX {
        return Err(format!("it has {bytes} bytes, at most {CARRIED_MAX} are possible"));
    }
    Ok(())
}

/// Takes frames for the supervisor.
#[derive(Clone, Debug)]
pub struct Say(mpsc::Sender<FromWorker>);

impl Say {
    /// Wraps the pump's end.
    pub fn new(sender: mpsc::Sender<FromWorker>) -> Self {
        Self(sender)
    }

    /// Shows a reply in the making. The error says why it cannot be passed on.
    pub async fn draft(&self, draft: Draft) -> Result<(), String> {
        passable(&draft)?;
        self.say(FromWorker::Draft(Box::new(draft))).await;
        Ok(())
    }

    /// Says it. Waits while the pump is behind; a pump that ended hears nothing more.
    pub async fn say(&self, frame: FromWorker) {
        let _ = self.0.send(frame).await;
    }
}

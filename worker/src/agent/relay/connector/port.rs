//! What goes into the machine, and what comes out.

use std::time::Duration;

use protocol::event::{Delivery, Reply};
use protocol::id::{EventId, Instance};
use protocol::worker::{FromWorker, ReplyVerdict};

use super::super::book::Answered;
use super::super::wire::Heard;

/// A connection.
pub(in crate::agent::relay) type Conn = u64;

/// What the agent's state file tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::agent::relay) struct Process {
    /// Number and start time, together never used again.
    pub(in crate::agent::relay) identity: String,
    /// Turns that run.
    pub(in crate::agent::relay) active: u64,
}

/// What has happened.
#[derive(Debug)]
pub(in crate::agent::relay) enum Input {
    /// A connection has shown the secret.
    Entered(Conn),
    /// A connection was turned away, and why.
    TurnedAway(&'static str),
    /// An authenticated connection says something.
    Heard(Conn, Heard),
    /// A connection is over.
    Closed(Conn),
    /// The files of an event are on their way; it follows.
    Coming(EventId),
    /// An event for the agent.
    Deliver(Box<Delivery>),
    /// The agent is to end its turn of an event.
    Interrupt(EventId),
    /// The verdict on an [`Action::Submit`].
    Judged { conn: Conn, request: String, ends: Ends, verdict: Option<ReplyVerdict> },
    /// The answer to [`Action::Look`]; `None`: the file tells nothing.
    Seen(Option<Process>),
    /// What is wrong with the directory of the state file.
    Home(Option<String>),
    /// The gate is to stay shut, or need not.
    Shut(bool),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(in crate::agent::relay) enum Action {
    /// Write a line to a connection.
    Line(Conn, String),
    /// Close a connection politely.
    Close(Conn),
    /// Read the agent's state file.
    Look,
    /// Tell the supervisor.
    Say(FromWorker),
    /// Hand a reply in.
    Submit { conn: Conn, request: String, ends: Ends, reply: Box<Reply> },
}

/// What a reply settles once it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::agent::relay) enum Ends {
    /// The turn of an event that is here.
    Event(EventId),
    /// The turn of a message whose event is not here yet: a former worker sent it.
    Message(Box<Answered>),
    /// Nothing.
    Nothing,
}

/// Its rules.
#[derive(Clone, Debug)]
pub(in crate::agent::relay) struct Rules {
    /// The platforms that are heard, and their kinds.
    pub(in crate::agent::relay) platforms: Vec<(Instance, String)>,
    /// Events that the agent may have at once.
    pub(in crate::agent::relay) concurrency: u32,
    /// The longest turn.
    pub(in crate::agent::relay) turn: Duration,
    /// Makes the names of probes ours and no former worker's.
    pub(in crate::agent::relay) nonce: String,
}

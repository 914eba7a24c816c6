//! What goes into the machine and what comes out.

use std::time::Duration;

use protocol::event::Pause;
use protocol::id::Lane;

use crate::policy::bursts;
use crate::policy::lanes::Load;

/// In place of a count: no agent could make anything of this event, whatever the attempt.
pub const UNREADABLE: u32 = u32::MAX;

/// The rules of one agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long the agent may be silent about an event.
    pub lease: Duration,
    /// Counted attempts after which an event is parked.
    pub max_attempts: u32,
    /// The delay before a second attempt; doubled for each further one.
    pub retry_first: Duration,
    /// The longest delay between two attempts.
    pub retry_cap: Duration,
    /// Lanes whose heads are held in memory.
    pub lanes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(300),
            max_attempts: 3,
            retry_first: Duration::from_secs(1),
            retry_cap: Duration::from_secs(60),
            lanes: 4096,
        }
    }
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A new event for this agent is durable.
    Accepted(u64, Lane),
    /// Somebody said this in a lane and may go on: it is held for a moment.
    Said(u64, Lane, bursts::Rule),
    /// What is held in a lane goes at once.
    Flush(Lane),
    /// What is held in a lane, or waits for another attempt, is not to be begun any more.
    Withdraw(Lane),
    /// An older event waits again, at its old place.
    Replayed(u64, Lane),
    /// The answer to [`Action::Scan`].
    Scanned {
        /// What was found, in the order of ids.
        found: Vec<(u64, Lane)>,
        /// The last id that was looked at: what is not for this agent is not in `found`.
        upto: u64,
        /// Nothing stands behind it.
        at_end: bool,
    },
    /// The answer to [`Action::Load`].
    Loaded(Lane, Option<u64>),
    /// The answer to [`Action::Begin`]: durably counted. `counted` includes this attempt.
    Begun {
        /// The event.
        id: u64,
        /// Attempts that count against it, or [`UNREADABLE`].
        counted: u32,
    },
    /// The answer to [`Action::Begin`] of an event whose time has not come; nothing is counted.
    Pauses {
        /// The event.
        id: u64,
        /// For how long yet.
        left: Duration,
    },
    /// The answer to [`Action::Begin`] of an event that is not to be delivered: why.
    Expired(u64, String),
    /// The answer to [`Action::Begin`] of an event that was for the gateway itself.
    Taken(u64),
    /// The event is where it was to go: the answer to [`Action::Settle`] and [`Action::Park`].
    Ended(u64),
    /// The agent is ready.
    Lease {
        /// How long the promise holds.
        ttl: Duration,
        /// Deliveries that it takes at once.
        concurrency: u32,
    },
    /// The agent is not ready any more, or its worker is gone.
    Paused(Pause),
    /// The agent acknowledged an event.
    Ack(u64),
    /// The agent could not take an event.
    Nack {
        /// The event.
        id: u64,
        /// Why.
        reason: String,
        /// Its own wish.
        after: Option<Duration>,
    },
    /// An event must not be offered again.
    SetAside {
        /// The event.
        id: u64,
        /// Why.
        reason: String,
    },
    /// The agent did not take an event, through no fault of the event.
    Defer {
        /// The event.
        id: u64,
        /// When to offer it again.
        after: Duration,
    },
    /// The agent works on an event.
    Progress(u64),
    /// The agent is told of an event while it works on another one of its lane.
    Beside(u64, Lane),
    /// No new delivery from now on; what is with the agent may still be answered.
    Drain,
    /// The same for a while, or not any more.
    Hold(bool),
    /// The supervisor itself did not run for so long.
    Slept(Duration),
    /// A deadline may have passed.
    Tick,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Look for events of this agent behind an id.
    Scan {
        /// The id.
        after: u64,
    },
    /// Look up what follows in a lane.
    Load(Load),
    /// Count an attempt durably and read the event.
    Begin(u64),
    /// Hand the event that was just read to the agent.
    Deliver(u64),
    /// An attempt that was begun does not count; the event is not at the agent.
    Refund(u64),
    /// The event is not handed out after all: what was begun was no attempt.
    Withhold(u64),
    /// The same: it was lost with the agent and others, and nobody can say which of them is to blame.
    Lost(u64),
    /// An attempt that was begun counts; the event is not at the agent.
    Failed {
        /// The event.
        id: u64,
        /// Why.
        reason: String,
        /// How long before the next one.
        pause: Duration,
    },
    /// The event is acknowledged: remove it durably, wherever it is.
    Settle(u64),
    /// Set the event aside, payload intact.
    Park {
        /// The event.
        id: u64,
        /// Why.
        reason: String,
    },
    /// The acknowledgement is durable: tell the agent.
    Settled(u64),
}

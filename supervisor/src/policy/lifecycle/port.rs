//! What goes into the machine, where it stands, and what comes out.

use std::time::{Duration, Instant};

use protocol::id::Generation;

use crate::policy::backoff;

/// The rules for one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// From spawn to the first sign that the worker is at work.
    pub start: Duration,
    /// From the polite request to end to the impolite one.
    pub grace: Duration,
    /// How long until an impolite request is repeated and reported.
    pub kill: Duration,
    /// A worker that was ready for so long has its history forgotten.
    pub stable: Duration,
    /// Delays between deaths and starts.
    pub backoff: backoff::Settings,
    /// More counted deaths than this within `window` are too many.
    pub intensity: usize,
    /// See `intensity`.
    pub window: Duration,
    /// How long a worker that ended held waits for its first probe; twice as long for each further one.
    pub first_probe: Duration,
    /// How long a held worker waits for its next probe at most.
    pub probe: Duration,
    /// How long one does that ended too often.
    pub crash_probe: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            kill: Duration::from_secs(2),
            stable: Duration::from_secs(10),
            backoff: backoff::Settings {
                first: Duration::from_millis(500),
                cap: Duration::from_secs(60),
            },
            intensity: 8,
            window: Duration::from_secs(600),
            first_probe: Duration::from_secs(5),
            probe: Duration::from_secs(1800),
            crash_probe: Duration::from_secs(120),
        }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A worker.
    Up,
    /// None.
    Down,
}

/// Why a worker that is stopping was told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Somebody asked.
    Asked,
    /// It did not get to work in time.
    Slow,
    /// Its event loop fell silent.
    Stale,
    /// It ended by itself, and left others behind.
    Fallen,
}

/// What the next start waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// A while after its end.
    Ended,
    /// Its turn: it was started often lately.
    Paced,
    /// What it needs and somebody else is about to give up.
    NotYet,
}

/// Where the worker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is none, and none is wanted.
    Down,
    /// A process exists. It has until then to get to work; `None`: it is at work, and its platform
    /// is what it waits for.
    Starting {
        /// When it is too slow.
        until: Option<Instant>,
    },
    /// It said that its outer connection works.
    Ready {
        /// Since when.
        since: Instant,
    },
    /// It was told to end.
    Stopping {
        /// Why.
        cause: Cause,
        /// Whether it was told impolitely.
        killed: bool,
        /// When to be impolite, or to repeat it.
        until: Instant,
    },
    /// There is none, and the next start has a time.
    Backoff {
        /// The time.
        until: Instant,
        /// What it waits for.
        wait: Wait,
    },
    /// There is none until a person acts, but for probes that become ever slower.
    Held {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
        /// The next probe.
        until: Instant,
    },
}

impl Phase {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Held { .. } => "held",
        }
    }
}

/// How much grace an operator's command grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// The usual grace.
    No,
    /// None.
    Yes,
}

/// What a death means, by its exit code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Try again; it counts as a crash.
    Counted,
    /// Try again; an outage is no crash.
    Uncounted,
    /// It could not be made yet: try again after so long.
    NotYet(Duration),
    /// Another process may do better; if that one says the same, a person must act.
    HeldIfAgain {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A person must act.
    Held {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The supervisor starts, or the operator says `start`.
    Start,
    /// The worker is linked and at work, though its platform may be away.
    Working(Generation),
    /// The worker's outer connection works.
    Ready(Generation),
    /// The process is gone, and something that it started is not.
    Fallen(Generation),
    /// The process and everything it started is gone.
    Exited(Generation, Verdict),
    /// A process could not be made.
    SpawnFailed(Generation, Verdict),
    /// The worker's event loop fell silent.
    Stale(Generation),
    /// The operator says `restart`.
    Restart(Force),
    /// The operator says `kill`.
    Kill(Force),
    /// The supervisor itself did not run for so long.
    Slept(Duration),
    /// A deadline may have passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make a process of this generation.
    Spawn(Generation),
    /// Ask the process of this generation to end, and its whole group with a signal.
    End(Generation),
    /// Kill everything that belongs to this generation.
    Kill(Generation),
}

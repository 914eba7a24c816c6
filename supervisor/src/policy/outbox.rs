//! Which reply goes to the platform next, and what the platform's answer means.
//!
//! One `Outbox` a platform instance. Replies of one chat stay in order, chats do not wait for one
//! another. Before each attempt the intent is durable ([`Action::Begin`]); an attempt that was begun
//! and never answered is *ambiguous*. An ambiguous reply is sent again only while the platform still
//! recognises its key; otherwise it ends as unknown, never as sent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use protocol::event::{Outcome, Rest};
use protocol::id::Lane;

use super::lanes::{Lanes, Load};

/// The rules of one instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Replies on their way to the worker at once.
    pub concurrency: usize,
    /// Besides those, replies that wait: sent in part for their chats, or for somebody to see them.
    pub waiting: usize,
    /// A reply that is older is given up as failed.
    pub max_age: Duration,
    /// The delay before a second attempt; doubled for each further one.
    pub retry_first: Duration,
    /// The longest delay between two attempts that we choose ourselves.
    pub retry_cap: Duration,
    /// Chats whose heads are held in memory.
    pub lanes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 16,
            waiting: 240,
            max_age: Duration::from_secs(24 * 3600),
            retry_first: Duration::from_secs(1),
            retry_cap: Duration::from_secs(15),
            lanes: 1024,
        }
    }
}

/// What is known about an attempt when it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// The reply.
    pub id: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How long ago the agent handed it in.
    pub age: Duration,
    /// If an earlier attempt was begun and never answered: how long ago the first attempt was.
    pub ambiguous: Option<Duration>,
}

/// How a reply ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The platform has it.
    Sent(Vec<String>),
    /// The platform will not have it.
    Failed(String),
    /// Nobody can say.
    Unknown(String),
    /// The platform has these of its messages, and the rest failed or is unknown.
    Partly(Vec<String>, Rest, String),
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A new reply is durable; the lane is the chat.
    Accepted(u64, Lane),
    /// An older reply waits again, at its old place; the lane is the chat.
    Replayed(u64, Lane),
    /// The answer to [`Action::Scan`].
    Scanned {
        /// What was found, in the order of ids.
        found: Vec<(u64, Lane)>,
        /// Nothing stands behind it.
        at_end: bool,
    },
    /// The answer to [`Action::Load`].
    Loaded(Lane, Option<u64>),
    /// The answer to [`Action::Begin`].
    Begun(Begun),
    /// The answer to [`Action::End`].
    Ended(u64),
    /// The worker has logged in and takes replies.
    Up {
        /// How long after a first attempt the platform recognises a key. `None`: it never does.
        idempotent: Option<Duration>,
    },
    /// The platform is heard again: what waits by our own choice need not wait longer.
    Heard,
    /// The worker was asked to end: what it has, it still answers.
    Leaving,
    /// The worker is gone.
    Down,
    /// Begin nothing new for a while, or not any more.
    Hold(bool),
    /// The platform's answer to one attempt.
    Outcome(u64, Outcome),
    /// A reply waits, sent in part for its chat, or for somebody to see it: others need not wait with it.
    Waits(u64),
    /// A deadline may have passed.
    Tick,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Look for replies of this instance behind an id.
    Scan {
        /// The id.
        after: u64,
    },
    /// Look up what follows in a chat.
    Load(Load),
    /// Make the intent to send durable and read the reply.
    Begin(u64),
    /// Hand the reply that was just read to the worker.
    Send(u64),
    /// The attempt is known not to have been made, or may safely be repeated.
    Again(u64),
    /// The reply has come to its end: record it.
    End(u64, End),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Beginning,
    Sending { attempt: u32, age: Duration, since: Instant },
    Ending,
}

/// A worker that takes replies.
#[derive(Clone, Copy, Debug)]
struct Up {
    idempotent: Option<Duration>,
}

/// The replies of one platform instance.
#[derive(Debug)]
pub struct Outbox {
    settings: Settings,
    up: Option<Up>,
    on_hold: bool,
    lanes: Lanes,
    stages: HashMap<u64, Stage>,
    /// Of those that are sending, the ones that wait in the middle.
    waiting: HashSet<u64>,
    /// Those whose delay is our own choice.
    postponed: BTreeSet<u64>,
    /// Attempts in a row that came to nothing: the platform is ill, not one reply.
    in_vain: u32,
}

/// So many attempts in a row, and the first success after them ends the delays of all.
const IN_VAIN: u32 = 3;

impl Outbox {
    /// Nothing known, worker down.
    pub fn new(settings: Settings) -> Self {
        let lanes = Lanes::new(settings.lanes);
        Self {
            settings,
            up: None,
            on_hold: false,
            lanes,
            stages: HashMap::new(),
            waiting: HashSet::new(),
            postponed: BTreeSet::new(),
            in_vain: 0,
        }
    }

    /// What follows from `input`.
    pub fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Accepted(id, lane) => self.lanes.accepted(id, lane),
            Input::Replayed(id, lane) => self.lanes.rejoined(id, lane),
            Input::Scanned { found, at_end } => self.lanes.scanned(found, at_end),
            Input::Loaded(lane, found) => self.lanes.loaded(lane, found),
            Input::Begun(begun) => self.begun(begun, now, &mut out),
            Input::Ended(id) => {
                self.stages.remove(&id);
                out.extend(self.lanes.finished(id).map(Action::Load));
            }
            Input::Up { idempotent } => {
                self.up = Some(Up { idempotent });
                self.hurry(now);
            }
            Input::Heard => self.hurry(now),
            Input::Leaving => self.up = None,
            Input::Down => self.down(),
            Input::Hold(on) => self.on_hold = on,
            Input::Outcome(id, outcome) => self.outcome(id, outcome, now, &mut out),
            Input::Waits(id) => self.waits(id),
            Input::Tick => {}
        }
        self.advance(now, &mut out);
        out
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.lanes.deadline()
    }

    /// Replies on their way.
    pub fn in_flight(&self) -> usize {
        self.stages.values().filter(|s| **s != Stage::Ending).count()
    }

    /// Nothing is on its way, and nothing is asked of the store.
    pub fn is_quiet(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether a worker takes replies, and how long its platform recognises a key.
    pub fn up(&self) -> Option<Option<Duration>> {
        self.up.map(|up| up.idempotent)
    }

    fn begun(&mut self, begun: Begun, now: Instant, out: &mut Vec<Action>) {
        let Begun { id, attempt, age, ambiguous } = begun;
        if self.stages.get(&id) != Some(&Stage::Beginning) {
            return;
        }
        let Some(Up { idempotent }) = self.up else {
            self.stages.remove(&id);
            self.lanes.release(id);
            if ambiguous.is_none() {
                out.push(Action::Again(id));
            }
            return;
        };
        if let Some(since_first) = ambiguous
            && idempotent.is_none_or(|window| since_first >= window)
        {
            let why = "an earlier attempt was never answered, and a repetition could double it";
            self.end(id, End::Unknown(why.into()), out);
        } else if age > self.settings.max_age {
            self.end(id, End::Failed("too old to be sent".into()), out);
        } else {
            self.stages.insert(id, Stage::Sending { attempt, age, since: now });
            out.push(Action::Send(id));
        }
    }

    fn outcome(&mut self, id: u64, outcome: Outcome, now: Instant, out: &mut Vec<Action>) {
        let Some(Stage::Sending { attempt, age, since }) = self.stages.get(&id).copied() else {
            return;
        };
        match outcome {
            Outcome::Sent { message_ids } => {
                if std::mem::take(&mut self.in_vain) >= IN_VAIN {
                    self.hurry(now);
                }
                self.end(id, End::Sent(message_ids), out);
            }
            Outcome::Failed { reason } => self.end(id, End::Failed(reason), out),
            Outcome::Unknown { reason } => self.end(id, End::Unknown(reason), out),
            Outcome::Partly { message_ids, rest, reason } => {
                self.end(id, End::Partly(message_ids, rest, reason), out);
            }
            Outcome::Retry { reason, after_ms } => {
                let doublings = attempt.saturating_sub(1).min(20);
                let own = self.settings.retry_first.saturating_mul(1 << doublings);
                let own = own.min(self.settings.retry_cap);
                let delay = after_ms.map_or(own, Duration::from_millis);
                if age + now.duration_since(since) + delay > self.settings.max_age {
                    self.end(id, End::Failed(format!("given up: {reason}")), out);
                } else {
                    if after_ms.is_none() {
                        self.postponed.insert(id);
                        self.in_vain = self.in_vain.saturating_add(1);
                    }
                    self.stages.remove(&id);
                    self.lanes.delay(id, now + delay);
                    out.push(Action::Again(id));
                }
            }
        }
    }

    fn hurry(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.postponed) {
            self.lanes.delay(id, now);
        }
    }

    fn waits(&mut self, id: u64) {
        let is_sending = matches!(self.stages.get(&id), Some(Stage::Sending { .. }));
        if is_sending && self.waiting.len() < self.settings.waiting {
            self.waiting.insert(id);
        }
    }

    /// What was on its way stays ambiguous in the store; the next attempt decides.
    fn down(&mut self) {
        self.up = None;
        let lanes = &mut self.lanes;
        self.stages.retain(|id, stage| {
            let sending = matches!(stage, Stage::Sending { .. });
            if sending {
                lanes.release(*id);
            }
            !sending
        });
    }

    fn end(&mut self, id: u64, end: End, out: &mut Vec<Action>) {
        self.stages.insert(id, Stage::Ending);
        out.push(Action::End(id, end));
    }

    fn advance(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.lanes.tick(now);
        if let Some(after) = self.lanes.wants_scan() {
            out.push(Action::Scan { after });
        }
        if self.up.is_none() || self.on_hold {
            return;
        }
        self.waiting.retain(|id| matches!(self.stages.get(id), Some(Stage::Sending { .. })));
        let busy = self.in_flight() - self.waiting.len();
        let mut free = self.settings.concurrency.saturating_sub(busy);
        while free > 0 {
            let Some(id) = self.lanes.take() else { break };
            self.postponed.remove(&id);
            self.stages.insert(id, Stage::Beginning);
            out.push(Action::Begin(id));
            free -= 1;
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

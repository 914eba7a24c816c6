//! Which event goes to the agent next, and what its answer means.
//!
//! One `Delivery` an agent. A lane has at most one event at the agent; lanes are served in parallel, up
//! to the agent's own concurrency, oldest event first, and only while the gate is open. An event is
//! with the agent under a lease, renewed by progress:
//!
//! | while leased | then |
//! |---|---|
//! | acknowledged | settle durably, tell the agent, look at the next of the lane |
//! | refused (nack), lease over, agent lost with it alone | again after a delay; the attempt counts |
//! | agent lost with it and others | again after a delay; the attempt does not count: see `blame` |
//! | refused for good, or nobody knows whether it was worked on | park, with the payload |
//! | deferred | again after a delay; the attempt does not count |
//! | agent pauses, we stop | again at once when the gate opens; the attempt does not count |
//! | too many counted attempts | park, with the payload; the lane goes on |
//!
//! A lane in which somebody just spoke waits for a moment: see `bursts`.
//!
//! The attempt is counted durably *before* the event is handed over ([`Action::Begin`]), so that an
//! event that kills its reader is counted (F22). The store keeps the delay behind one that counts, and says
//! at the next beginning what is left of it: a scheduler that is new knows of no delays. A late acknowledgement settles too: the agent
//! has it, also if the event was set aside meanwhile, waits behind what was replayed, or went into the work before it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use protocol::event::Pause;
use protocol::id::Lane;

use super::blame::Blame;
use super::bursts::{self, Bursts};
use super::gate::Gate;
use super::lanes::Lanes;

mod port;

pub use self::port::{Action, Input, Settings, UNREADABLE};

/// Events that an acknowledgement settles wherever they wait. Beyond that, one at the head of its lane is settled, too.
const GIVEN: usize = 1024;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// Being counted. `acked`: a late acknowledgement came meanwhile.
    Beginning { acked: bool },
    /// With the agent.
    Leased { counted: u32, until: Instant },
    /// Being removed. `acked`: by acknowledgement.
    Ending { acked: bool },
    /// Being parked. `acked`: a late acknowledgement came meanwhile.
    Parking { acked: bool },
}

/// The deliveries of one agent.
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    gate: Gate,
    draining: bool,
    on_hold: bool,
    concurrency: usize,
    lanes: Lanes,
    bursts: Bursts,
    blame: Blame,
    stages: HashMap<u64, Stage>,
    /// What the agent has had, and what was set aside: an acknowledgement settles it.
    given: BTreeSet<u64>,
}

impl Delivery {
    /// Nothing known, gate shut.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            gate: Gate::default(),
            draining: false,
            on_hold: false,
            concurrency: 1,
            lanes: Lanes::new(settings.lanes),
            bursts: Bursts::default(),
            blame: Blame::default(),
            stages: HashMap::new(),
            given: BTreeSet::new(),
        }
    }

    /// What follows from `input`.
    pub fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Accepted(id, lane) => self.lanes.accepted(id, lane),
            Input::Replayed(id, lane) => self.lanes.rejoined(id, lane),
            Input::Said(id, lane, rule) => self.bursts.said(id, &lane, rule, now),
            Input::Flush(lane) => {
                for id in self.bursts.end(&lane, now) {
                    if !self.stages.contains_key(&id) {
                        self.lanes.release(id);
                    }
                }
            }
            Input::Withdraw(lane) => {
                for id in self.bursts.end(&lane, now) {
                    if !self.stages.contains_key(&id) {
                        self.lanes.seize(id);
                        self.park(id, bursts::WITHDRAWN.to_owned(), &mut out);
                    }
                }
                if let Some(id) = self.lanes.delayed(&lane).map(|(id, _)| id) {
                    self.lanes.seize(id);
                    self.park(id, bursts::GIVEN_UP.to_owned(), &mut out);
                }
            }
            Input::Scanned { found, upto, at_end } => self.lanes.scanned_upto(found, upto, at_end),
            Input::Loaded(lane, found) => self.lanes.loaded(lane, found),
            Input::Begun { id, counted } => self.begun(id, counted, now, &mut out),
            Input::Pauses { id, left } => match self.stages.get(&id) {
                Some(Stage::Beginning { acked: true }) => self.settle(id, &mut out),
                Some(Stage::Beginning { acked: false }) => {
                    self.stages.remove(&id);
                    self.lanes.delay(id, now + left);
                }
                Some(Stage::Leased { .. } | Stage::Ending { .. } | Stage::Parking { .. })
                | None => {}
            },
            Input::Expired(id, reason) => self.expired(id, reason, &mut out),
            Input::Taken(id) => {
                if let Some(Stage::Beginning { .. }) = self.stages.get(&id) {
                    self.stages.insert(id, Stage::Ending { acked: false });
                    out.push(Action::Settle(id));
                }
            }
            Input::Ended(id) => self.ended(id, &mut out),
            Input::Lease { ttl, concurrency } => {
                self.gate.renew(ttl, now);
                self.concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX).max(1);
            }
            Input::Paused(pause) => {
                self.gate.shut();
                self.hand_back(pause, now, &mut out);
            }
            Input::Ack(id) => self.acked(id, &mut out),
            Input::Nack { id, reason, after } => self.nacked(id, &reason, after, now, &mut out),
            Input::SetAside { id, reason } => {
                if let Some(Stage::Leased { .. }) = self.stages.get(&id) {
                    self.park(id, reason, &mut out);
                }
            }
            Input::Defer { id, after } => {
                if let Some(Stage::Leased { .. }) = self.stages.get(&id) {
                    self.stages.remove(&id);
                    self.lanes.delay(id, now + after);
                    out.push(Action::Refund(id));
                }
            }
            Input::Progress(id) => {
                if let Some(Stage::Leased { until, .. }) = self.stages.get_mut(&id) {
                    *until = now + self.settings.lease;
                }
            }
            Input::Beside(id, lane) => {
                self.bursts.leaves(id, &lane);
                self.gives(id);
            }
            Input::Drain => self.draining = true,
            Input::Hold(on) => self.on_hold = on,
            Input::Slept(pause) => {
                for stage in self.stages.values_mut() {
                    if let Stage::Leased { until, .. } = stage {
                        *until += pause;
                    }
                }
            }
            Input::Tick => {}
        }
        self.expire(now, &mut out);
        self.advance(now, &mut out);
        out
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let leases = self.stages.values().filter_map(|stage| match stage {
            Stage::Leased { until, .. } => Some(*until),
            _ => None,
        });
        leases.chain(self.lanes.deadline()).chain(self.gate.deadline()).min()
    }

    /// Whether the agent is ready.
    pub fn is_open(&self, now: Instant) -> bool {
        self.gate.is_open(now)
    }

    /// Events that the agent holds, or is about to.
    pub fn in_flight(&self) -> usize {
        let ends = |s: &&Stage| matches!(s, Stage::Ending { .. } | Stage::Parking { .. });
        self.stages.values().filter(|s| !ends(s)).count()
    }

    /// Whether something that was just said in a lane is held.
    pub fn is_held(&mut self, lane: &Lane, now: Instant) -> bool {
        self.bursts.held(lane, now).is_some()
    }

    /// Until when a lane waits for another attempt at its first event; `None`: it does not.
    pub fn waits_again(&mut self, lane: &Lane, now: Instant) -> Option<Instant> {
        let (id, until) = self.lanes.delayed(lane)?;
        self.bursts.holds(id, lane, now).is_none().then_some(until)
    }

    /// The lane of an event that is at its head.
    pub fn lane_of(&self, id: u64) -> Option<&Lane> {
        self.lanes.lane_of(id)
    }

    /// Nothing is between two durable states.
    pub fn is_idle(&self) -> bool {
        self.stages.is_empty()
    }

    /// Nothing is asked of the store; events may be with the agent.
    pub fn is_quiet(&self) -> bool {
        self.stages.values().all(|stage| matches!(stage, Stage::Leased { .. }))
    }

    /// The lanes of the events that are with the agent.
    pub fn lanes_at_work(&self) -> impl Iterator<Item = &Lane> {
        self.stages.keys().filter_map(|id| self.lanes.lane_of(*id))
    }

    /// The events that are with the agent, and how many attempts count against each.
    pub fn leased(&self) -> impl Iterator<Item = (u64, u32)> {
        self.stages.iter().filter_map(|(id, stage)| match stage {
            Stage::Leased { counted, .. } => Some((*id, *counted)),
            Stage::Beginning { .. } | Stage::Ending { .. } | Stage::Parking { .. } => None,
        })
    }

    /// The agent's promise: how long it still holds, and how many deliveries it takes at once.
    pub fn lease(&self, now: Instant) -> Option<(Duration, u32)> {
        let left = self.gate.deadline()?.checked_duration_since(now)?;
        Some((left, u32::try_from(self.concurrency).unwrap_or(u32::MAX)))
    }

    /// What an acknowledgement settles wherever it waits.
    pub fn given(&self) -> impl Iterator<Item = u64> {
        self.given.iter().copied()
    }

    /// The same of a supervisor before this one.
    pub fn resume_given(&mut self, ids: impl IntoIterator<Item = u64>) {
        ids.into_iter().for_each(|id| self.gives(id));
    }

    /// An event is with the agent already: a supervisor before this one handed it over.
    pub fn resume(&mut self, id: u64, lane: Lane, counted: u32, now: Instant) {
        self.lanes.resumed(id, lane);
        self.gives(id);
        self.stages.insert(id, Stage::Leased { counted, until: now + self.settings.lease });
    }

    /// It hears of other instances than before. Nothing may be asked of the store: see [`Delivery::is_quiet`].
    pub fn regroup(&mut self) {
        self.lanes.begin_again();
    }

    /// The agent is gone for good (we stop): what it holds does not count.
    pub fn close(&mut self) -> Vec<Action> {
        self.draining = true;
        let mut out = Vec::new();
        for (id, stage) in std::mem::take(&mut self.stages) {
            if matches!(stage, Stage::Leased { .. }) {
                out.push(Action::Refund(id));
            }
        }
        out
    }

    fn begun(&mut self, id: u64, counted: u32, now: Instant, out: &mut Vec<Action>) {
        let Some(Stage::Beginning { acked }) = self.stages.get(&id) else {
            out.push(Action::Withhold(id));
            return;
        };
        if *acked {
            self.settle(id, out);
        } else if counted > self.settings.max_attempts {
            let reason = match counted {
                UNREADABLE => "it cannot be read".to_owned(),
                _ => format!("not acknowledged after {} attempts", self.settings.max_attempts),
            };
            out.push(Action::Withhold(id));
            self.park(id, reason, out);
        } else if self.draining || !self.gate.is_open(now) {
            self.stages.remove(&id);
            self.lanes.release(id);
            out.push(Action::Withhold(id));
        } else {
            let until = now + self.settings.lease;
            self.stages.insert(id, Stage::Leased { counted, until });
            self.gives(id);
            out.push(Action::Deliver(id));
        }
    }

    /// An event that an agent of before has taken is its own, however old.
    fn expired(&mut self, id: u64, reason: String, out: &mut Vec<Action>) {
        match self.stages.get(&id) {
            Some(Stage::Beginning { acked: true }) => self.settle(id, out),
            Some(Stage::Beginning { acked: false }) => {
                out.push(Action::Withhold(id));
                self.park(id, reason, out);
            }
            Some(Stage::Leased { .. } | Stage::Ending { .. } | Stage::Parking { .. }) | None => {
                out.push(Action::Withhold(id));
            }
        }
    }

    fn acked(&mut self, id: u64, out: &mut Vec<Action>) {
        match self.stages.get_mut(&id) {
            Some(Stage::Beginning { acked } | Stage::Parking { acked }) => *acked = true,
            Some(Stage::Leased { .. }) => self.settle(id, out),
            Some(Stage::Ending { .. }) => {}
            None if self.given.contains(&id) || self.lanes.is_head(id) => {
                self.lanes.seize(id);
                self.settle(id, out);
            }
            None => {}
        }
    }

    fn nacked(
        &mut self,
        id: u64,
        reason: &str,
        after: Option<Duration>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if let Some(Stage::Leased { counted, .. }) = self.stages.get(&id) {
            self.fail(id, *counted, &format!("refused by the agent: {reason}"), after, now, out);
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.gate.is_open(now) {
            // So that its deadline, which is over, wakes nobody again.
            self.gate.shut();
        }
        let over: Vec<_> = self
            .stages
            .iter()
            .filter_map(|(id, stage)| match stage {
                Stage::Leased { counted, until } if *until <= now => Some((*id, *counted)),
                _ => None,
            })
            .collect();
        for (id, counted) in over {
            self.fail(id, counted, "the agent fell silent about it", None, now, out);
        }
    }

    fn hand_back(&mut self, pause: Pause, now: Instant, out: &mut Vec<Action>) {
        let held: Vec<_> = self
            .stages
            .iter()
            .filter_map(|(id, stage)| match stage {
                Stage::Leased { counted, .. } => Some((*id, *counted)),
                _ => None,
            })
            .collect();
        let counts = pause == Pause::Lost && self.blame.died(held.iter().map(|(id, _)| *id));
        for (id, counted) in held {
            match pause {
                Pause::Asked => {
                    self.stages.remove(&id);
                    self.lanes.release(id);
                    out.push(Action::Refund(id));
                }
                Pause::Lost if counts => {
                    self.fail(id, counted, "the agent was lost with it", None, now, out);
                }
                Pause::Lost => {
                    self.stages.remove(&id);
                    self.lanes.delay(id, now + self.settings.retry_first);
                    out.push(Action::Lost(id));
                }
            }
        }
    }

    fn fail(
        &mut self,
        id: u64,
        counted: u32,
        why: &str,
        after: Option<Duration>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if counted >= self.settings.max_attempts {
            self.park(id, format!("{why}, attempt {counted}"), out);
            return;
        }
        self.stages.remove(&id);
        let doublings = counted.saturating_sub(1).min(20);
        let own = self.settings.retry_first.saturating_mul(1 << doublings);
        let pause = after.unwrap_or(own.min(self.settings.retry_cap));
        self.lanes.delay(id, now + pause);
        out.push(Action::Failed { id, reason: why.to_owned(), pause });
    }

    fn settle(&mut self, id: u64, out: &mut Vec<Action>) {
        self.stages.insert(id, Stage::Ending { acked: true });
        out.push(Action::Settle(id));
    }

    fn gives(&mut self, id: u64) {
        self.given.insert(id);
        if self.given.len() > GIVEN {
            self.given.pop_first();
        }
    }

    fn park(&mut self, id: u64, reason: String, out: &mut Vec<Action>) {
        self.stages.insert(id, Stage::Parking { acked: false });
        out.push(Action::Park { id, reason });
    }

    fn ended(&mut self, id: u64, out: &mut Vec<Action>) {
        self.blame.ended(id);
        match self.stages.remove(&id) {
            Some(Stage::Ending { acked: true }) => {
                self.given.remove(&id);
                out.push(Action::Settled(id));
            }
            Some(Stage::Parking { acked: true }) => self.settle(id, out),
            Some(Stage::Parking { acked: false }) => self.gives(id),
            Some(
                Stage::Ending { acked: false } | Stage::Beginning { .. } | Stage::Leased { .. },
            )
            | None => {}
        }
        out.extend(self.lanes.finished(id).map(Action::Load));
    }

    fn advance(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.lanes.tick(now);
        if let Some(after) = self.lanes.wants_scan() {
            out.push(Action::Scan { after });
        }
        if self.draining || self.on_hold || !self.gate.is_open(now) {
            return;
        }
        let mut free = self.concurrency.saturating_sub(self.in_flight());
        if self.stages.keys().any(|id| self.blame.is_alone(*id)) {
            return;
        }
        while free > 0 {
            let Some(id) = self.lanes.take() else { break };
            if self.stages.contains_key(&id) {
                // It is being settled, and was found before that.
                continue;
            }
            let alone = self.blame.is_alone(id);
            if alone && self.in_flight() > 0 {
                // Nobody goes before it, or it would never be alone.
                self.lanes.release(id);
                return;
            }
            let held = self.lanes.lane_of(id).and_then(|lane| self.bursts.holds(id, lane, now));
            if let Some(until) = held {
                self.lanes.delay(id, until);
                continue;
            }
            self.stages.insert(id, Stage::Beginning { acked: false });
            out.push(Action::Begin(id));
            free = if alone { 0 } else { free - 1 };
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;

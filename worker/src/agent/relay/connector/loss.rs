//! What becomes of events whose answer does not come: lost with a connection or a process, silent, too late.

use std::time::Duration;

use protocol::event::Pause;
use protocol::id::EventId;
use protocol::worker::FromWorker;

use super::{
    AWAY, Action, Connector, Entry, FORMER, Instant, LEASE_MS, Phase, Process, RENEW, SETTLED,
    SILENT, STUCK, State,
};

impl Connector {
    pub(super) fn seen(&mut self, process: Option<Process>, now: Instant, out: &mut Vec<Action>) {
        let process = self.own(process);
        match &process {
            Some(Process { active: 0, .. }) => {
                self.idle_since.get_or_insert(now);
            }
            _ => self.idle_since = None,
        }
        self.active = process.as_ref().map(|process| process.active);
        if self.live.as_ref().is_some_and(|live| live.phase == Phase::Recognising) {
            self.recognise(process, now, out);
            return;
        }
        // What was not stuck any more counts as idle from then on.
        let idle_since = self.idle_since.map(|at| at.max(self.stuck_until));
        let idle = |since: Duration| idle_since.is_some_and(|at| at + since <= now);
        if process.is_none() || idle(SETTLED) {
            self.cautious = false;
        }
        if self.live.is_none() {
            return;
        }
        let (mut lost, mut silent) = (Vec::new(), Vec::new());
        for (id, entry) in &self.book.entries {
            match entry.state {
                State::Sent { gap: true, .. } if idle(SETTLED) => lost.push(*id),
                State::Sent { taken: Some(at), gap: false, .. }
                    if idle(SILENT) && at + SILENT <= now =>
                {
                    silent.push(*id);
                }
                _ => {}
            }
        }
        self.give_up(lost, "its answer was lost on its way", out);
        for id in silent {
            tracing::info!(event_id = id.0, "the turn ended without an answer");
            self.book.entries.remove(&id);
            out.push(Action::Say(FromWorker::Ack { event_id: id }));
        }
    }

    /// What the file tells of the agent that is served, and not of another one that writes there.
    fn own(&mut self, process: Option<Process>) -> Option<Process> {
        let process = process?;
        if self.rivals.is_contested {
            return (self.process.as_ref() == Some(&process.identity)).then_some(process);
        }
        if self.is_open() && self.process.is_none() {
            // It wrote it late.
            self.process = Some(process.identity.clone());
        }
        Some(process)
    }

    /// The same process works on; any other has lost what it had.
    fn recognise(&mut self, process: Option<Process>, now: Instant, out: &mut Vec<Action>) {
        let identity = process.map(|process| process.identity);
        let known = self.process.is_some() && identity.is_some();
        let same = known && self.process == identity;
        tracing::info!(process = ?identity, same, "the agent listens");
        self.cautious = identity.is_some() && (same || !known);
        self.stuck_until = if self.cautious { now + STUCK } else { now };
        self.process = identity;
        self.idle_since = None;
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for (id, entry) in &self.book.entries {
            match entry.state {
                State::Sent { taken: Some(_), .. } if same => {}
                // It was in work when another connection took the place: no fault of its own.
                State::Sent { taken: Some(_), .. } if self.rivals.has_ousted => kept.push(*id),
                State::Sent { .. } => gone.push(*id),
                State::Held | State::Answering => {}
            }
        }
        for id in kept {
            self.defer(id, "another connection took the place of the agent's", out);
        }
        let why = "the agent lost it: it restarted, or its connection broke";
        self.give_up(gone, why, out);
        self.left = None;
        if let Some(live) = &mut self.live {
            live.phase = Phase::Open { renew: now + RENEW };
        }
        out.push(Action::Say(self.lease(LEASE_MS)));
    }

    /// Hands back what was lost together. It counts only against one that was alone, and not if the agent
    /// left as it should.
    fn give_up(&mut self, lost: Vec<EventId>, why: &str, out: &mut Vec<Action>) {
        let counts = self.left.is_none() && self.blame.died(&lost);
        for id in lost {
            if counts {
                self.refuse(id, why, out);
            } else {
                self.defer(id, why, out);
            }
        }
    }

    fn defer(&mut self, event_id: EventId, why: &str, out: &mut Vec<Action>) {
        if self.book.give_up(event_id) {
            tracing::warn!(event_id = event_id.0, why, "handed back; it does not count");
            out.push(Action::Say(FromWorker::Defer { event_id, after_ms: 0 }));
        }
    }

    /// Nothing of ours counts against events whose agent is away for long.
    pub(super) fn hand_back(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.book.entries.values().all(|entry| entry.state != State::Answering) {
            self.end_stops(out);
            self.book.entries.clear();
            self.former_until = now + AWAY + FORMER;
            out.push(Action::Say(FromWorker::Paused(Pause::Asked)));
        }
    }

    pub(super) fn limit(&mut self, now: Instant, out: &mut Vec<Action>) {
        let turn = self.rules.turn;
        let over =
            |entry: &Entry| matches!(entry.state, State::Sent { since, .. } if since + turn <= now);
        let over: Vec<_> =
            self.book.entries.iter().filter(|(_, entry)| over(entry)).map(|(id, _)| *id).collect();
        for id in over {
            self.book.give_up(id);
            let reason = format!(
                "its turn said nothing for {} s; whether the agent worked on it is not known",
                turn.as_secs()
            );
            out.push(Action::Say(FromWorker::SetAside { event_id: id, reason }));
        }
    }
}

//! Which handler is told next. Pure.
//!
//! One handler hears of one conversation in order: while it is at an occasion, later ones of the same
//! conversation wait. What belongs to no conversation is one of its own.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use protocol::hook::HookEvent;
use protocol::id::Seq;

/// One handler to be told of one occasion.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) seq: Seq,
    /// Which handler.
    pub(super) handler: usize,
    pub(super) event: Arc<HookEvent>,
}

/// A handler and a conversation.
type Lane = (usize, Option<String>);

/// Jobs that wait, and lanes that are busy. The supervisor bounds what waits by what it sends.
#[derive(Debug)]
pub(super) struct Schedule {
    most: usize,
    waiting: VecDeque<Job>,
    busy: HashSet<Lane>,
}

impl Schedule {
    /// At most `most` jobs at once.
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: VecDeque::new(), busy: HashSet::new() }
    }

    /// A new one.
    pub(super) fn add(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// The oldest that may run. It counts as running until it is [done](Self::done).
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.busy.len() >= self.most {
            return None;
        }
        let at = self.waiting.iter().position(|job| !self.busy.contains(&lane(job)))?;
        let job = self.waiting.remove(at)?;
        self.busy.insert(lane(&job));
        Some(job)
    }

    /// It is over.
    pub(super) fn done(&mut self, job: &Job) {
        self.busy.remove(&lane(job));
    }
}

fn lane(job: &Job) -> Lane {
    (job.handler, job.event.session_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(seq: u64, handler: usize, session: &str) -> Job {
        let mut event = HookEvent::new("agent:start", 0);
        event.session_id = Some(session.to_owned());
        Job { seq: Seq(seq), handler, event: Arc::new(event) }
    }

    #[test]
    fn a_conversation_keeps_its_order_and_delays_no_other() {
        let mut schedule = Schedule::new(3);
        for (seq, handler, session) in
            [(1, 0, "a"), (2, 0, "a"), (3, 0, "b"), (4, 1, "a"), (5, 0, "c")]
        {
            schedule.add(job(seq, handler, session));
        }
        let mut next = || schedule.next().map(|job| job.seq.0);
        assert_eq!((next(), next(), next(), next()), (Some(1), Some(3), Some(4), None));
        schedule.done(&job(1, 0, "a"));
        assert_eq!(schedule.next().map(|job| job.seq.0), Some(2));
        schedule.done(&job(4, 1, "a"));
        assert_eq!(schedule.next().map(|job| job.seq.0), Some(5));
        assert!(schedule.next().is_none());
    }
}

//! What handlers of hooks are still to be told. Bounded: when there is too much, the oldest goes, counted.
//! An occasion that was on its way to a worker that died is not told again: a handler that acts on it must
//! not act twice.

use std::collections::{BTreeSet, VecDeque};

use protocol::hook::HookEvent;

/// Occasions that the worker has and has not answered.
const WINDOW: usize = 64;

/// The occasions of one gateway.
#[derive(Debug)]
pub struct Backlog {
    most: usize,
    waiting: VecDeque<Box<HookEvent>>,
    under_way: BTreeSet<u64>,
    last: u64,
    is_up: bool,
    dropped: u64,
}

impl Backlog {
    /// At most `most` wait.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            waiting: VecDeque::new(),
            under_way: BTreeSet::new(),
            last: 0,
            is_up: false,
            dropped: 0,
        }
    }

    /// Goes on with what `former` has. The oldest of what finds no room is dropped.
    pub fn take_over(&mut self, former: &mut Self) {
        let most = self.most;
        *self = std::mem::replace(former, Self::new(0));
        self.most = most;
        let surplus = self.waiting.len().saturating_sub(most);
        self.waiting.drain(..surplus);
        self.dropped += surplus as u64;
    }

    /// Something happened. What had to go for it, if anything.
    pub fn offer(&mut self, event: Box<HookEvent>) -> Option<Box<HookEvent>> {
        self.waiting.push_back(event);
        if self.waiting.len() <= self.most {
            return None;
        }
        self.dropped += 1;
        self.waiting.pop_front()
    }

    /// The next one to send, with its number.
    pub fn send(&mut self) -> Option<(u64, Box<HookEvent>)> {
        if !self.is_up || self.under_way.len() >= WINDOW {
            return None;
        }
        let event = self.waiting.pop_front()?;
        self.last += 1;
        self.under_way.insert(self.last);
        Some((self.last, event))
    }

    /// The worker has told everybody; false: that was no number of ours.
    pub fn done(&mut self, number: u64) -> bool {
        self.under_way.remove(&number)
    }

    /// The worker listens.
    pub fn up(&mut self) {
        self.is_up = true;
    }

    /// The worker is gone. How many were on their way.
    pub fn down(&mut self) -> usize {
        self.is_up = false;
        let lost = std::mem::take(&mut self.under_way).len();
        self.dropped += lost as u64;
        lost
    }

    /// Those that wait, and the last number that was given: for a supervisor after this one.
    pub fn rest(&self) -> (u64, impl Iterator<Item = &HookEvent>) {
        (self.last, self.waiting.iter().map(AsRef::as_ref))
    }

    /// Numbers up to this one were given by a supervisor before this one.
    pub fn resume(&mut self, last: u64) {
        self.last = last;
    }

    /// Occasions that wait or are on their way.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// Nobody is being told anything.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Occasions that handlers were not told, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> Box<HookEvent> {
        Box::new(HookEvent::new("agent:start", number))
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much() {
        let mut backlog = Backlog::new(3);
        let gone: Vec<_> =
            (0..5).filter_map(|n| backlog.offer(event(n))).map(|gone| gone.time_ms).collect();
        assert_eq!((gone, backlog.dropped()), (vec![0, 1], 2));
        assert!(backlog.send().is_none(), "nobody listens yet");
        backlog.up();
        let sent: Vec<_> = std::iter::from_fn(|| backlog.send()).map(|(_, e)| e.time_ms).collect();
        assert_eq!(sent, [2, 3, 4]);
    }

    #[test]
    fn what_waits_waits_on_when_the_handlers_are_others() {
        let mut former = Backlog::new(5);
        (0..4).for_each(|n| drop(former.offer(event(n))));
        former.up();
        let first = former.send().map(|(number, _)| number);
        former.down();
        let mut backlog = Backlog::new(2);
        backlog.take_over(&mut former);
        assert_eq!((backlog.waiting(), backlog.dropped()), (2, 2), "one was on its way");
        backlog.up();
        let next = backlog.send().map(|(number, event)| (number, event.time_ms));
        assert_eq!(next, first.map(|first| (first + 1, 2)));
    }

    #[test]
    fn the_worker_has_a_window_and_what_dies_with_it_is_counted() {
        let mut backlog = Backlog::new(1000);
        backlog.up();
        (0..200).for_each(|n| drop(backlog.offer(event(n))));
        let sent: Vec<_> = std::iter::from_fn(|| backlog.send()).map(|(n, _)| n).collect();
        assert_eq!(sent.len(), WINDOW);
        assert!(backlog.done(sent[3]) && !backlog.done(sent[3]), "once");
        assert_eq!(backlog.send().map(|(_, e)| e.time_ms), Some(i64::try_from(WINDOW).unwrap()));
        assert_eq!(backlog.down(), WINDOW);
        assert_eq!((backlog.dropped(), backlog.waiting()), (WINDOW as u64, 200 - WINDOW - 1));
        assert!(!backlog.done(sent[0]), "an answer of a former worker");
    }
}

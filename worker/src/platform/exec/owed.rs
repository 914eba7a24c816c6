//! Events that were not stored and have not been told again, in the order in which they were first told. Pure.
//!
//! A resume point of something later would cover them, and then nobody would tell them again. What is owed itself may
//! bring its own when it is told again, once nothing older is owed.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use protocol::event::Inbound;

/// So many are known.
const MOST: usize = 65_536;

/// An event, as it is told again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mark(u64);

/// What is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    known: HashSet<Mark>,
    /// The same in order, with those that are not owed any more.
    order: VecDeque<Mark>,
    hasher: RandomState,
}

impl Owed {
    /// What `event` is known by.
    pub(super) fn mark(&self, event: &Inbound) -> Mark {
        Mark(self.hasher.hash_one(event.keys.first()))
    }

    /// One more is owed. False: they are too many.
    pub(super) fn add(&mut self, mark: Mark) -> bool {
        if self.known.insert(mark) {
            self.order.push_back(mark);
        }
        self.known.len() <= MOST
    }

    /// One is not any more.
    pub(super) fn settled(&mut self, mark: Mark) {
        self.known.remove(&mark);
        while self.order.front().is_some_and(|first| !self.known.contains(first)) {
            self.order.pop_front();
        }
    }

    /// Whether a resume point that comes with this event, or with none, would cover something that is owed.
    pub(super) fn bars(&self, own: Option<Mark>) -> bool {
        self.order.front().is_some_and(|first| Some(*first) != own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_bars_what_was_told_after_it_and_nothing_before() {
        let mut owed = Owed::default();
        let marks = [1, 2, 3].map(Mark);
        assert!(!owed.bars(None));
        assert!(marks.into_iter().all(|mark| owed.add(mark)));
        assert!(owed.add(marks[1]), "again");
        let bars = |owed: &Owed| marks.map(|mark| owed.bars(Some(mark)));
        assert_eq!((bars(&owed), owed.bars(None)), ([false, true, true], true));
        owed.settled(marks[1]);
        assert_eq!(bars(&owed), [false, true, true]);
        owed.settled(marks[0]);
        assert_eq!((bars(&owed), owed.bars(None)), ([true, true, false], true));
        owed.settled(marks[2]);
        assert!(!owed.bars(None));
    }
}

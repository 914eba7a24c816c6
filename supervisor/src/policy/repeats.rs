//! Counting what repeats itself instead of saying it again and again.
//!
//! What was said within the last window is counted; once the window is over, its number is told in one
//! go. Different things never hide each other, and what is counted is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Different things that are remembered at once; more are simply said.
const KNOWN: usize = 1024;

/// What was said lately.
#[derive(Clone, Debug)]
pub struct Repeats<K> {
    window: Duration,
    said: HashMap<K, Said>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    at: Instant,
    again: u64,
}

impl<K: Clone + Eq + Hash> Repeats<K> {
    /// Nothing yet.
    pub fn new(window: Duration) -> Self {
        Self { window, said: HashMap::new() }
    }

    /// `what` happened: whether to say it.
    pub fn on(&mut self, what: &K, now: Instant) -> bool {
        if let Some(said) = self.said.get_mut(what) {
            said.again += 1;
            return false;
        }
        if self.said.len() < KNOWN {
            self.said.insert(what.clone(), Said { at: now, again: 0 });
        }
        true
    }

    /// What was counted in windows that are over, and how often. It may be said again from now on.
    pub fn due(&mut self, now: Instant) -> Vec<(K, u64)> {
        let window = self.window;
        self.take(|said| said.at + window <= now)
    }

    /// What was counted so far, whether its window is over or not.
    pub fn rest(&mut self) -> Vec<(K, u64)> {
        self.take(|_| true)
    }

    /// When the next window is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.said.values().map(|said| said.at + self.window).min()
    }

    fn take(&mut self, over: impl Fn(&Said) -> bool) -> Vec<(K, u64)> {
        let mut counted = Vec::new();
        self.said.retain(|what, said| {
            let over = over(said);
            if over && said.again > 0 {
                counted.push((what.clone(), said.again));
            }
            !over
        });
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F70
    #[test]
    fn a_repetition_is_counted_and_told_once() {
        let start = crate::clock::now();
        let at = |s| start + Duration::from_secs(s);
        let mut repeats = Repeats::new(Duration::from_secs(60));
        assert!(repeats.on(&"down", at(0)) && repeats.on(&"up", at(1)));
        for s in 2..50 {
            assert!(!repeats.on(&"down", at(s)));
        }
        assert_eq!(repeats.due(at(59)), []);
        assert_eq!(repeats.deadline(), Some(at(60)));
        assert_eq!(repeats.due(at(60)), [("down", 48)]);
        assert!(repeats.on(&"down", at(60)), "a new window");
        assert!(!repeats.on(&"up", at(60)));
        assert_eq!(repeats.rest(), [("up", 1)]);
        assert_eq!(repeats.deadline(), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_hidden() {
        let now = crate::clock::now();
        let mut repeats = Repeats::new(Duration::from_secs(60));
        assert!((0..5 * KNOWN).all(|n| repeats.on(&n, now)));
        assert_eq!(repeats.said.len(), KNOWN);
    }
}

//! How many deaths within how long are too many: at most `limit` in any `window`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The deaths that still count.
#[derive(Clone, Debug)]
pub struct Intensity {
    limit: usize,
    window: Duration,
    deaths: VecDeque<Instant>,
}

impl Intensity {
    /// None yet.
    pub fn new(limit: usize, window: Duration) -> Self {
        Self { limit, window, deaths: VecDeque::new() }
    }

    /// One more death; true if that is too many.
    pub fn exceeded_by(&mut self, now: Instant) -> bool {
        while self.deaths.front().is_some_and(|at| now.duration_since(*at) > self.window) {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        self.deaths.len() > self.limit
    }

    /// Nothing before now counts any more.
    pub fn forget(&mut self) {
        self.deaths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deaths_within_the_window_count() {
        let start = crate::clock::now();
        let at = |s| start + Duration::from_secs(s);
        let mut intensity = Intensity::new(2, Duration::from_secs(10));
        assert!(!intensity.exceeded_by(at(0)));
        assert!(!intensity.exceeded_by(at(5)));
        assert!(!intensity.exceeded_by(at(11)), "the first is out of the window");
        assert!(intensity.exceeded_by(at(12)));
        intensity.forget();
        assert!(!intensity.exceeded_by(at(13)));
    }
}

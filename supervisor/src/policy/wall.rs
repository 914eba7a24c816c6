//! Notices that somebody has set the wall clock. Times that the store keeps are of that clock, and how old
//! something is must not change with it.

/// Less is not worth a word: a clock that is kept right by the network is moved much more slowly.
const LEAST_MS: i64 = 5000;
/// What forgets by it waits for so long: many machines know the time only once the network is there.
const TRUSTED_MS: i64 = 3_600_000;

/// The wall clock beside one that only counts, also while the machine sleeps.
#[derive(Debug)]
pub struct Wall {
    ahead_ms: i64,
    /// When the supervisor started, by this clock as it is now.
    started_ms: i64,
    /// What the counting one showed at first.
    seen_from: i64,
}

/// The wall clock was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set {
    /// How far: forward if more than 0.
    pub by_ms: i64,
    /// What it shows now.
    pub now_ms: i64,
}

impl Wall {
    /// When the supervisor started, and what both show at first, in milliseconds.
    pub fn new(started_ms: i64, wall_ms: i64, counted_ms: i64) -> Self {
        let ahead_ms = wall_ms.saturating_sub(counted_ms);
        Self { ahead_ms, started_ms, seen_from: counted_ms }
    }

    /// When the supervisor started, in Unix milliseconds.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// Whether what is old by it may be forgotten. One that was wrong when the machine started is right by then.
    pub fn is_trusted(&self, counted_ms: i64) -> bool {
        counted_ms.saturating_sub(self.seen_from) >= TRUSTED_MS
    }

    /// What both show now.
    pub fn look(&mut self, wall_ms: i64, counted_ms: i64) -> Option<Set> {
        let ahead_ms = wall_ms.saturating_sub(counted_ms);
        let by_ms = ahead_ms.saturating_sub(self.ahead_ms);
        self.ahead_ms = ahead_ms;
        let is_set = by_ms.saturating_abs() >= LEAST_MS;
        if is_set {
            self.started_ms = self.started_ms.saturating_add(by_ms);
        }
        is_set.then_some(Set { by_ms, now_ms: wall_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_time_that_passes_is_none() {
        let mut wall = Wall::new(0, 1_000_000, 500);
        assert_eq!(wall.look(1_001_000, 1500), None, "a second later");
        assert_eq!(wall.look(9_001_000, 8_001_500), None, "the machine slept");
        assert_eq!(wall.look(9_001_900, 8_001_600), None, "moved a little");
        let day = 86_400_000;
        let forth = Set { by_ms: day, now_ms: 9_003_000 + day };
        assert_eq!(wall.look(9_003_000 + day, 8_002_700), Some(forth));
        assert_eq!(wall.look(9_004_000 + day, 8_003_700), None);
        assert_eq!(wall.look(9_005_000, 8_004_700).map(|set| set.by_ms), Some(-day));
    }

    /// F27: what is accepted from now on was not accepted before the start.
    #[test]
    fn the_supervisor_has_started_as_long_ago_as_before() {
        let mut wall = Wall::new(900_000, 1_000_000, 500);
        assert_eq!(wall.look(1_001_000, 1500), None);
        assert_eq!(wall.started_ms(), 900_000);
        assert!(wall.look(601_000, 1500).is_some());
        assert_eq!(wall.started_ms(), 500_000);
    }

    /// F27: a machine whose clock is far ahead until the network is there forgets nothing.
    #[test]
    fn nothing_is_old_by_a_clock_that_was_not_seen_for_an_hour() {
        let wall = Wall::new(1_000_000, 1_000_000, 500);
        assert!(!wall.is_trusted(500 + 3_599_999));
        assert!(wall.is_trusted(500 + 3_600_000));
    }
}

//! Notices that somebody has set the wall clock. Times that the store keeps are of that clock, and how old
//! something is must not change with it.

/// Less is not worth a word: a clock that is kept right by the network is moved much more slowly.
const LEAST_MS: i64 = 5000;

/// The wall clock beside one that only counts, also while the machine sleeps.
#[derive(Debug)]
pub struct Wall {
    ahead_ms: i64,
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
    /// What both show at first, in milliseconds.
    pub fn new(wall_ms: i64, counted_ms: i64) -> Self {
        Self { ahead_ms: wall_ms.saturating_sub(counted_ms) }
    }

    /// What both show now.
    pub fn look(&mut self, wall_ms: i64, counted_ms: i64) -> Option<Set> {
        let ahead_ms = wall_ms.saturating_sub(counted_ms);
        let by_ms = ahead_ms.saturating_sub(self.ahead_ms);
        self.ahead_ms = ahead_ms;
        (by_ms.saturating_abs() >= LEAST_MS).then_some(Set { by_ms, now_ms: wall_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_time_that_passes_is_none() {
        let mut wall = Wall::new(1_000_000, 500);
        assert_eq!(wall.look(1_001_000, 1500), None, "a second later");
        assert_eq!(wall.look(9_001_000, 8_001_500), None, "the machine slept");
        assert_eq!(wall.look(9_001_900, 8_001_600), None, "moved a little");
        let day = 86_400_000;
        let forth = Set { by_ms: day, now_ms: 9_003_000 + day };
        assert_eq!(wall.look(9_003_000 + day, 8_002_700), Some(forth));
        assert_eq!(wall.look(9_004_000 + day, 8_003_700), None);
        assert_eq!(wall.look(9_005_000, 8_004_700).map(|set| set.by_ms), Some(-day));
    }
}

//! How long to wait before the next try: nothing, then longer and longer, never all at once.
//!
//! The delay is drawn evenly from zero to a limit that doubles ("full jitter"), so that workers which
//! fell together do not come back together. The draw comes from a seed, so a run can be repeated.

use std::time::Duration;

/// The shape of a backoff.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The limit of the second delay; the first is zero.
    pub first: Duration,
    /// The limit that no delay exceeds.
    pub cap: Duration,
}

/// Where a row of failures stands.
#[derive(Clone, Debug)]
pub struct Backoff {
    settings: Settings,
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// No failure yet.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self { settings, failures: 0, seed }
    }

    /// One more failure: how long to wait now.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(2) else { return Duration::ZERO };
        let limit = self.settings.first.saturating_mul(1_u32 << doublings.min(20));
        let limit = limit.min(self.settings.cap);
        let share = self.draw() % 1_000_001;
        let nanos = limit.as_nanos() * u128::from(share) / 1_000_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The row of failures is over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// `splitmix64`: small, well spread, and its whole state is one number.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings =
        Settings { first: Duration::from_millis(500), cap: Duration::from_secs(60) };

    #[test]
    fn the_first_retry_is_immediate_and_no_delay_exceeds_its_doubling_limit() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(SETTINGS, seed);
            assert_eq!(backoff.failed(), Duration::ZERO);
            for doubling in 0..40_u32 {
                let limit = (SETTINGS.first * (1 << doubling.min(20))).min(SETTINGS.cap);
                assert!(backoff.failed() <= limit);
            }
            backoff.reset();
            assert_eq!(backoff.failed(), Duration::ZERO);
        }
    }

    #[test]
    fn delays_are_spread() {
        let mut backoff = Backoff::new(SETTINGS, 7);
        let delays: Vec<_> = (0..200).map(|_| backoff.failed()).skip(20).collect();
        assert!(delays.iter().any(|d| *d < Duration::from_secs(15)));
        assert!(delays.iter().any(|d| *d > Duration::from_secs(45)));
    }
}

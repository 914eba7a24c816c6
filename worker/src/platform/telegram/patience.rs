//! How long a poll may take besides waiting. Pure.
//!
//! A dead line gives no sign: its poll is given up when its answer is late. Giving up early notices that
//! within five seconds; giving up too early would never let a slow line through. So patience is short until
//! polls fail in a row, and what a good poll took is remembered.

use std::time::Duration;

/// On a line of which nothing is known. Together with the time that the platform waits it is less than 5 s.
const SHORT: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_secs(6);
/// For a whole answer of a line that could not bring it before.
const WHOLE_MOST: Duration = Duration::from_mins(2);
/// So many lost polls in a row speak for a slow line rather than for a dead one.
const DOUBT: u32 = 3;

/// What is known of the line.
#[derive(Debug)]
pub(super) struct Patience {
    /// For a whole answer. One that trickles is given up; a slow line gets longer for what it could not bring.
    whole: Duration,
    /// What the latest good poll took besides waiting.
    took: Duration,
    /// Polls without an answer in a row.
    lost: u32,
    /// New connections take longer than usual.
    slow: bool,
}

impl Patience {
    /// For answers that may take so long as a whole.
    pub(super) fn new(whole: Duration) -> Self {
        Self { whole, took: Duration::ZERO, lost: 0, slow: false }
    }

    /// A poll was answered after this long, besides waiting; `None` if nobody can tell.
    pub(super) fn answered(&mut self, took: Option<Duration>) {
        self.lost = 0;
        self.took = took.unwrap_or(self.took);
    }

    /// A poll was not.
    pub(super) fn lost(&mut self) {
        self.lost += 1;
        self.slow = self.lost >= DOUBT;
    }

    /// Whether a new connection is given more time than usual: after some that failed, and as long as one that came of
    /// it serves.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// How many in a row.
    pub(super) fn losses(&self) -> u32 {
        self.lost
    }

    /// How long the whole answer to the next poll may take besides waiting.
    pub(super) fn whole(&self) -> Duration {
        (self.whole * 2_u32.pow(self.lost.min(4))).min(WHOLE_MOST)
    }

    /// For the next poll. `rival`: the platform slows its answers down because of one.
    pub(super) fn next(&self, rival: bool) -> Duration {
        if rival || self.lost >= DOUBT {
            return LONG;
        }
        let learned = SHORT.max(self.took * 2);
        let insisting = if self.lost + 1 == DOUBT { learned * 2 } else { learned };
        insisting.min(LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_losses_and_with_what_good_polls_took() {
        let mut patience = Patience::new(Duration::from_secs(20));
        let (mut found, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            found.push(patience.next(false).as_millis());
            whole.push(patience.whole().as_secs());
            patience.lost();
        }
        assert_eq!(found, [1500, 1500, 3000, 6000, 6000]);
        assert_eq!(whole, [20, 40, 80, 120, 120]);
        assert!(patience.is_slow());
        patience.answered(Some(Duration::from_secs(1)));
        assert_eq!(patience.next(false), Duration::from_secs(2));
        patience.answered(None);
        assert_eq!((patience.next(false), patience.losses()), (Duration::from_secs(2), 0));
        patience.answered(Some(Duration::from_mins(1)));
        assert_eq!(patience.next(false), LONG);
        assert!(patience.is_slow(), "the connection that serves took its time");
        patience.lost();
        assert!(!patience.is_slow(), "the next one need not");
        patience.answered(Some(Duration::ZERO));
        assert_eq!((patience.next(false), patience.next(true)), (SHORT, LONG));
    }
}

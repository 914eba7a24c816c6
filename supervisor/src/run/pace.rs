//! How long the store takes for its answers: a disk that is slow makes everything slow, and nobody would know why.
//! Whoever asks how everything is does not wait for it.

use std::time::{Duration, Instant};

use super::Gateway;
use crate::text;

/// An answer of the store that takes so long is the disk's fault: nothing else in it takes a second.
const SLOW: Duration = Duration::from_secs(2);
/// A disk that was slow is called so for so long.
const CALLED: Duration = Duration::from_secs(60);

/// What was seen of it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When an answer was late, and how late at most.
    slow: Option<(Instant, Duration)>,
    /// What was asked before then says nothing: this process did not run.
    since: Option<Instant>,
}

impl Pace {
    /// Whether answers were late just now.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    /// This process did not run until now.
    pub(super) fn slept(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The oldest answer that is awaited was asked for then: whether that is news.
    fn awaits(&mut self, oldest: Option<Instant>, now: Instant) -> bool {
        let was_slow = self.is_slow();
        self.slow = self.slow.filter(|(at, _)| now.duration_since(*at) < CALLED);
        let began = oldest.map(|oldest| self.since.map_or(oldest, |since| oldest.max(since)));
        let took = began.map_or(Duration::ZERO, |began| now.duration_since(began));
        if took >= SLOW {
            let most = self.slow.map_or(took, |(_, most)| most.max(took));
            self.slow = Some((now, most));
        }
        was_slow != self.is_slow()
    }
}

impl Gateway {
    /// When somebody is told what is known, since the store does not answer.
    pub(super) fn tired_at(&self) -> Option<Instant> {
        self.tickets.asked().map(|since| since + SLOW)
    }

    /// Notices that the store is slow, and keeps nobody waiting who only wants to know how everything is.
    pub(super) fn look_at_disk(&mut self, now: Instant) {
        // While a copy is made everything waits for that.
        let oldest = self.tickets.oldest().filter(|_| !self.tickets.is_backing_up());
        if self.pace.awaits(oldest, now) {
            if let Some((reason, remedy)) = self.slow_disk() {
                tracing::warn!(reason, remedy, "the disk is slow");
            } else {
                tracing::info!("the disk is slow no more");
            }
        }
        let Some(before) = now.checked_sub(SLOW) else { return };
        for reply in self.tickets.tired(before) {
            self.report(reply);
        }
    }

    /// What is wrong with the disk, and what helps.
    pub(super) fn slow_disk(&self) -> Option<(String, String)> {
        let (_, most) = self.pace.slow?;
        let most = text::span(i64::try_from(most.as_millis()).unwrap_or(i64::MAX));
        let dir = self.paths.state_dir.display();
        Some((
            format!("the disk of {dir} is slow: a sync has taken {most}, and the counts may be older"),
            "see what else writes to it, and what the kernel's log says of it; or move the state directory to \
             another disk"
                .into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_disk_is_slow_from_its_first_late_answer_until_a_minute_after_the_last() {
        let start = clock::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut pace = Pace::default();
        assert!(!pace.awaits(None, start) && !pace.awaits(Some(start), at(1)));
        assert!(pace.awaits(Some(start), at(2)) && pace.is_slow());
        assert!(!pace.awaits(Some(start), at(7)), "known");
        assert!(!pace.awaits(Some(at(10)), at(13)));
        assert_eq!(pace.slow, Some((at(13), Duration::from_secs(7))), "at most");
        assert!(!pace.awaits(None, at(72)));
        assert!(pace.awaits(None, at(73)) && !pace.is_slow());
        pace.slept(at(100));
        assert!(!pace.awaits(Some(at(80)), at(101)), "it did not run");
        assert!(pace.awaits(Some(at(80)), at(102)));
    }
}

//! Somebody else who reads the updates of the same bot. Pure.
//!
//! The platform lets one program poll: a newer poll ends an older one by 409, and a webhook ends all. Right
//! after a restart a 409 may be the echo of ourselves: a poll of the life before that arrives late. There is one of
//! those at most. If they go on there is a rival, and each of the two hears what the other does not, until a person
//! ends one.
//! Giving up would make the bot deaf for ever after the rival has left, and polling at once would only have
//! the two end each other faster.

use std::time::Duration;

use super::answer::Rival;
use crate::clock::Instant;

/// So many in a row are a rival. Fewer are echoes, or somebody who had a look.
const ENOUGH: u32 = 4;
/// The longest pause, in first ones. Beside a poller: the platform holds back every 409 that follows another by
/// three seconds, so we ask no more often than without a rival, and hear soon after it has left.
const POLLER_MOST: u32 = 2;
/// Beside a webhook, which brings its program everything meanwhile.
const WEBHOOK_MOST: u32 = 5;
/// Without any for so many first pauses, the rival has left.
const CALM: u32 = 20;
/// A webhook that was removed and is there again within so many is set by a program that looks after it, as we do
/// each half minute.
const SET_AGAIN: u32 = 600;

/// What is known of a rival.
#[derive(Debug)]
pub(super) struct Rivalry {
    first: Duration,
    /// 409s without a calm between them.
    times: u32,
    latest: Option<(Rival, Instant)>,
    /// When a webhook was removed last.
    removed: Option<Instant>,
    /// When one was that had been removed before.
    set_again: Option<Instant>,
}

impl Rivalry {
    /// None known. `first` is the pause after the first 409.
    pub(super) fn new(first: Duration) -> Self {
        Self { first, times: 0, latest: None, removed: None, set_again: None }
    }

    /// Another 409: how long to wait.
    pub(super) fn met(&mut self, rival: Rival, now: Instant) -> Duration {
        if self.latest.is_none_or(|(_, at)| now.duration_since(at) > self.first * CALM) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.latest = Some((rival, now));
        let (echoes, most) = match rival {
            Rival::Poller => (ENOUGH - 1, POLLER_MOST),
            Rival::Webhook => (0, WEBHOOK_MOST),
        };
        self.first * (1 << self.times.saturating_sub(echoes).min(8)).min(most)
    }

    /// Its webhook was removed: whether it had been before.
    pub(super) fn removed(&mut self, now: Instant) -> bool {
        let before = self.removed.replace(now);
        if before.is_some_and(|at| self.is_set_again(at, now)) {
            self.set_again = Some(now);
        }
        self.set_again == Some(now)
    }

    fn is_set_again(&self, at: Instant, now: Instant) -> bool {
        now.duration_since(at) <= self.first * SET_AGAIN
    }

    /// The queue answered: there is no webhook, or not any more.
    pub(super) fn heard(&mut self) {
        self.latest.take_if(|(rival, _)| *rival == Rival::Webhook);
    }

    /// The rival that a person should know of.
    pub(super) fn known(&self, now: Instant) -> Option<Rival> {
        if self.set_again.is_some_and(|at| self.is_set_again(at, now)) {
            return Some(Rival::Webhook);
        }
        let (rival, at) = self.latest?;
        let told = rival == Rival::Webhook || self.times >= ENOUGH;
        (told && now.duration_since(at) <= self.first * CALM).then_some(rival)
    }

    /// Whether an answer may be late because of one: the platform slows down all but the first 409.
    pub(super) fn is_near(&self, now: Instant) -> bool {
        self.latest.is_some_and(|(_, at)| now.duration_since(at) <= self.first * CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn echoes_are_no_rival_and_a_rival_is_known_until_it_has_left() {
        let start = clock::now();
        let mut rivalry = Rivalry::new(SECOND);
        let mut now = start;
        let mut pauses = Vec::new();
        for number in 1..10 {
            let pause = rivalry.met(Rival::Poller, now);
            assert_eq!(rivalry.known(now).is_some(), number >= ENOUGH);
            pauses.push(pause.as_secs());
            // It is no matter whether some of our polls succeed meanwhile.
            rivalry.heard();
            now += pause + 3 * SECOND;
        }
        assert_eq!(pauses, [1, 1, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(rivalry.known(now), Some(Rival::Poller));
        assert!(rivalry.known(now + 19 * SECOND).is_none() && !rivalry.is_near(now + 19 * SECOND));
        // Now and then somebody has a look.
        for seconds in [30, 60, 90, 120, 150] {
            rivalry.met(Rival::Poller, now + seconds * SECOND);
            assert!(rivalry.known(now + seconds * SECOND).is_none(), "a new story");
        }
    }

    #[test]
    fn a_webhook_is_known_at_once() {
        let now = clock::now();
        let mut rivalry = Rivalry::new(SECOND);
        rivalry.met(Rival::Webhook, now);
        assert_eq!(rivalry.known(now), Some(Rival::Webhook));
        rivalry.heard();
        assert_eq!(rivalry.known(now), None);
    }

    #[test]
    fn whoever_sets_a_webhook_again_is_known_until_none_has_been_there_for_long() {
        let now = clock::now();
        let mut rivalry = Rivalry::new(SECOND);
        assert!(!rivalry.removed(now) && rivalry.known(now).is_none());
        let late = now + 601 * SECOND;
        assert!(!rivalry.removed(late) && rivalry.known(late).is_none(), "a new story");
        let again = late + 30 * SECOND;
        assert!(rivalry.removed(again));
        rivalry.heard();
        assert_eq!(rivalry.known(again + 600 * SECOND), Some(Rival::Webhook));
        assert_eq!(rivalry.known(again + 601 * SECOND), None);
    }
}

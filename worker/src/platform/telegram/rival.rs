//! Somebody else who reads the updates of the same bot. Pure.
//!
//! The platform lets one program poll: a newer poll ends an older one by 409, and a webhook ends all. Right
//! after a restart a 409 may be the echo of ourselves, for as long as the platform may hold a poll. If they
//! go on there is a rival, and each of the two hears what the other does not, until a person ends one. Once a poll of
//! ours was held to its end, nothing of a former life is on its way any more, and a few 409s are enough.
//! Giving up would make the bot deaf for ever after the rival has left, and polling at once would only have
//! the two end each other faster.

use std::time::Duration;

use super::answer::Rival;
use crate::clock::Instant;

/// For so many first pauses they may be echoes.
const ECHOES: u32 = 48;
/// So many that cannot be echoes are a rival. One alone may be somebody who had a look.
const ENOUGH: u32 = 3;
/// The longest pause, in first ones. Beside a poller: the platform holds back every 409 that follows another by
/// three seconds, so we ask no more often than without a rival, and hear soon after it has left.
const POLLER_MOST: u32 = 2;
/// Beside a webhook, which brings its program everything meanwhile.
const WEBHOOK_MOST: u32 = 5;
/// Without any for so many first pauses, the rival has left.
const CALM: u32 = 20;

/// What is known of a rival.
#[derive(Debug)]
pub(super) struct Rivalry {
    first: Duration,
    /// 409s that were no echoes.
    times: u32,
    /// A poll was held to its end since the last one that may still be on its way.
    alone: bool,
    /// 409s after that.
    proofs: u32,
    since: Option<Instant>,
    latest: Option<(Rival, Instant)>,
}

impl Rivalry {
    /// None known. `first` is the pause after the first 409.
    pub(super) fn new(first: Duration) -> Self {
        Self { first, times: 0, alone: false, proofs: 0, since: None, latest: None }
    }

    /// Another 409: how long to wait.
    pub(super) fn met(&mut self, rival: Rival, now: Instant) -> Duration {
        if self.latest.is_none_or(|(_, at)| now.duration_since(at) > self.first * CALM) {
            self.times = 0;
            self.proofs = 0;
            self.since = Some(now);
        }
        self.proofs += u32::from(self.alone);
        self.latest = Some((rival, now));
        if rival == Rival::Poller && !self.lasts(now) {
            // Our own poll, most likely, which the platform holds a while longer.
            return self.first;
        }
        self.times += 1;
        let most = match rival {
            Rival::Poller => POLLER_MOST,
            Rival::Webhook => WEBHOOK_MOST,
        };
        self.first * (1 << self.times.min(8)).min(most)
    }

    /// A poll of ours was held to its end: there was no other one.
    pub(super) fn was_alone(&mut self) {
        self.alone = true;
    }

    /// A poll of ours was lost, and may still arrive.
    pub(super) fn lost(&mut self) {
        self.alone = false;
    }

    /// The queue answered: there is no webhook, or not any more.
    pub(super) fn heard(&mut self) {
        self.latest.take_if(|(rival, _)| *rival == Rival::Webhook);
    }

    /// The rival that a person should know of.
    pub(super) fn known(&self, now: Instant) -> Option<Rival> {
        let (rival, at) = self.latest?;
        let told = rival == Rival::Webhook || self.lasts(now);
        (told && now.duration_since(at) <= self.first * CALM).then_some(rival)
    }

    fn lasts(&self, now: Instant) -> bool {
        self.proofs >= ENOUGH
            || self.since.is_some_and(|since| now.duration_since(since) >= self.first * ECHOES)
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
        for _ in 0..60 {
            let pause = rivalry.met(Rival::Poller, now);
            assert_eq!(rivalry.known(now).is_some(), now >= start + 48 * SECOND);
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert!(pauses[..48].iter().all(|pause| *pause == 1), "{pauses:?}");
        assert_eq!(pauses[48..52], [2, 2, 2, 2]);
        assert_eq!(rivalry.known(now), Some(Rival::Poller));
        assert!(rivalry.known(now + 19 * SECOND).is_none() && !rivalry.is_near(now + 19 * SECOND));
        rivalry.met(Rival::Poller, now + 30 * SECOND);
        assert!(rivalry.known(now + 30 * SECOND).is_none(), "a new story");
    }

    #[test]
    fn a_rival_is_known_soon_where_nothing_of_ours_can_be_on_its_way() {
        let start = clock::now();
        let mut rivalry = Rivalry::new(SECOND);
        // An echo of the life before, then a poll that nobody disturbs.
        rivalry.met(Rival::Poller, start);
        rivalry.was_alone();
        let at = |seconds| start + seconds * SECOND;
        rivalry.met(Rival::Poller, at(5));
        rivalry.met(Rival::Poller, at(9));
        assert_eq!(rivalry.known(at(9)), None);
        rivalry.met(Rival::Poller, at(13));
        assert_eq!(rivalry.known(at(13)), Some(Rival::Poller));
        assert_eq!(rivalry.known(at(34)), None, "it has left");
        // Now and then somebody has a look.
        for seconds in [40, 70, 100, 130] {
            rivalry.met(Rival::Poller, at(seconds));
            assert_eq!(rivalry.known(at(seconds)), None);
        }
        // What was lost may come late, and end the next poll.
        rivalry.lost();
        for seconds in 0..47 {
            rivalry.met(Rival::Poller, at(200 + seconds));
            assert_eq!(rivalry.known(at(200 + seconds)), None);
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
}

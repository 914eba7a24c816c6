//! When to connect again after a connection was lost or refused. Pure: time is passed in, and chance
//! comes in as the caller's share of [`Retry::spread`].
//!
//! An outage is retried quickly for ever, because nobody can mend it here and every second of absence
//! may cost an event its next repetition. A refusal needs a person, so it is probed ever more slowly.
//! A platform's own wishes for pauses are not followed: they are written for thousands of clients at
//! once, and cost minutes after a hiccup.

use std::time::Duration;

use crate::clock::Instant;

/// A connection that served this long was a good one: what follows is a new story.
const STABLE: Duration = Duration::from_secs(3);
/// The spread of the first attempt after a good connection.
const AT_ONCE: Duration = Duration::from_millis(100);
const OUTAGE_FIRST: Duration = Duration::from_millis(500);
const OUTAGE_MOST: Duration = Duration::from_millis(3500);
/// The longest pause while the platform still answers each new connection, for so many in a row.
const ANSWERED_MOST: Duration = Duration::from_millis(800);
const ANSWERED_TIMES: u32 = 10;
/// An attempt takes so many times longer than usual after this many that were too slow; then as the last.
const LONGER: [u32; 4] = [1, 1, 2, 4];
/// And never longer than this.
const LONGEST: Duration = Duration::from_secs(30);
const REFUSED_FIRST: Duration = Duration::from_secs(5);
const REFUSED_MOST: Duration = Duration::from_mins(1);

/// What happened to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// The platform answered on a new connection: it works.
    Proven,
    /// An attempt failed, or the connection ended.
    Lost(Loss),
}

/// Why there is no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The network or the platform is out of order; it passes by itself.
    Outage,
    /// The same, noticed by the time that it took: perhaps only the line is slow.
    Late,
    /// The platform does not want us; it passes when a person acts.
    Refused,
}

/// When to try again: at `at`, plus a random share of `spread`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Not before.
    pub at: Instant,
    /// Not later than this after `at`.
    pub spread: Duration,
}

/// The history that decides.
#[derive(Debug, Default)]
pub struct Session {
    proven: Option<Instant>,
    outages: u32,
    refusals: u32,
    /// Attempts in a row that were too slow.
    late: usize,
    retry: Option<Retry>,
}

impl Session {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an input; the next attempt, if it is time to plan one.
    pub fn on(&mut self, input: Input, now: Instant) -> Option<Retry> {
        self.retry = match input {
            Input::Proven => {
                self.proven = Some(now);
                None
            }
            Input::Lost(loss) => Some(self.lost(loss, now)),
        };
        self.retry
    }

    /// The latest time of the planned attempt.
    pub fn deadline(&self) -> Option<Instant> {
        self.retry.map(|retry| retry.at + retry.spread)
    }

    /// What the next attempt may take, where `usual` is right for most lines. It stays so while a connection lasts.
    pub fn limit(&self, usual: Duration) -> Duration {
        (usual * self.times()).min(LONGEST.max(usual))
    }

    /// Whether the line has been too slow for what is usual.
    pub fn is_slow(&self) -> bool {
        self.times() > 1
    }

    fn times(&self) -> u32 {
        let [.., last] = LONGER;
        LONGER.get(self.late).copied().unwrap_or(last)
    }

    fn lost(&mut self, loss: Loss, now: Instant) -> Retry {
        let proven = self.proven.take();
        if proven.is_some() {
            (self.refusals, self.late) = (0, 0);
        }
        if loss == Loss::Late {
            self.late += 1;
        }
        if proven.is_some_and(|since| now.duration_since(since) >= STABLE) {
            self.outages = 0;
        }
        match loss {
            Loss::Refused => {
                let pause = doubled(REFUSED_FIRST, self.refusals).min(REFUSED_MOST);
                self.refusals += 1;
                Retry { at: now + pause.mul_f64(0.8), spread: pause.mul_f64(0.2) }
            }
            Loss::Outage | Loss::Late if self.outages == 0 => {
                self.outages = 1;
                Retry { at: now, spread: AT_ONCE }
            }
            Loss::Outage | Loss::Late => {
                let answered = proven.is_some() && self.outages <= ANSWERED_TIMES;
                let most = if answered { ANSWERED_MOST } else { OUTAGE_MOST };
                let pause = doubled(OUTAGE_FIRST, self.outages - 1).min(most);
                self.outages += 1;
                Retry { at: now + pause / 2, spread: pause / 2 }
            }
        }
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn pauses(session: &mut Session, loss: Loss, times: usize) -> Vec<Duration> {
        let now = clock::now();
        (0..times)
            .map(|_| {
                let retry = session.on(Input::Lost(loss), now).unwrap();
                assert_eq!(session.deadline(), Some(retry.at + retry.spread));
                retry.at + retry.spread - now
            })
            .collect()
    }

    #[test]
    fn an_outage_is_retried_at_once_and_then_ever_more_slowly_but_never_slowly() {
        let found = pauses(&mut Session::new(), Loss::Outage, 9);
        let expected = [100, 500, 1000, 2000, 3500, 3500, 3500, 3500, 3500];
        assert_eq!(found, expected.map(Duration::from_millis));
    }

    #[test]
    fn a_refusal_is_probed_ever_more_slowly_for_ever() {
        let found = pauses(&mut Session::new(), Loss::Refused, 70);
        assert_eq!(found[..5], [5, 10, 20, 40, 60].map(Duration::from_secs));
        assert!(found[5..].iter().all(|pause| *pause == 60 * SECOND));
    }

    #[test]
    fn a_good_connection_wipes_the_slate() {
        let mut session = Session::new();
        pauses(&mut session, Loss::Outage, 8);
        pauses(&mut session, Loss::Refused, 8);
        let now = clock::now();
        assert_eq!(session.on(Input::Proven, now), None);
        assert_eq!(session.deadline(), None);
        let later = now + 4 * SECOND;
        let retry = session.on(Input::Lost(Loss::Outage), later).unwrap();
        assert_eq!(retry, Retry { at: later, spread: AT_ONCE });
        let retry = session.on(Input::Lost(Loss::Refused), later).unwrap();
        assert_eq!(retry.at + retry.spread, later + 5 * SECOND);
    }

    /// F73
    #[test]
    fn a_server_that_answers_and_closes_cannot_make_us_spin() {
        let mut session = Session::new();
        let mut now = clock::now();
        let mut found = Vec::new();
        for _ in 0..14 {
            session.on(Input::Proven, now);
            let retry = session.on(Input::Lost(Loss::Outage), now).unwrap();
            found.push((retry.at + retry.spread - now).as_millis());
            now = retry.at;
        }
        assert_eq!(
            found,
            [100, 500, 800, 800, 800, 800, 800, 800, 800, 800, 800, 3500, 3500, 3500]
        );
    }

    #[test]
    fn attempts_that_were_too_slow_are_followed_by_longer_ones_until_the_next_story() {
        let mut session = Session::new();
        let (mut found, mut short) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            found.push((session.limit(8 * SECOND).as_secs(), session.is_slow()));
            short.push(session.limit(5 * SECOND).as_secs());
            pauses(&mut session, Loss::Late, 1);
        }
        assert_eq!(found, [(8, false), (8, false), (16, true), (30, true), (30, true), (30, true)]);
        assert_eq!(short, [5, 5, 10, 20, 20, 20]);
        pauses(&mut session, Loss::Outage, 2);
        session.on(Input::Proven, clock::now());
        assert!(session.is_slow(), "it is, as this connection took its time");
        pauses(&mut session, Loss::Late, 1);
        assert_eq!((session.limit(8 * SECOND), session.is_slow()), (8 * SECOND, false));
        assert_eq!(session.limit(60 * SECOND), 60 * SECOND);
    }

    #[test]
    fn a_connection_that_never_answered_does_not_count() {
        let mut session = Session::new();
        assert_eq!(pauses(&mut session, Loss::Outage, 3)[2], SECOND);
        // Accepted, closed, no answer in between: no `Proven`.
        assert_eq!(pauses(&mut session, Loss::Outage, 1)[0], 2 * SECOND);
    }
}

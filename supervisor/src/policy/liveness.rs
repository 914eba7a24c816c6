//! Whether a worker's event loop still turns: its heartbeats, judged by the supervisor's own clock.
//!
//! A pause of the supervisor itself (stopped, swapped out, suspended) is no evidence against anybody:
//! the shell reports it and it is taken off every wait. The silence of users proves nothing either; it
//! never comes here.

use std::time::{Duration, Instant};

/// A wake-up that comes later than this after its time means that we ourselves did not run.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// How long we ourselves did not run, if so: we were awake at `last`, were to wake at `due` and did at
/// `woken`. What was due before we went to sleep is no evidence.
pub fn overslept(last: Instant, due: Instant, woken: Instant) -> Option<Duration> {
    let pause = woken.saturating_duration_since(due.max(last));
    (pause > OVERSLEPT).then_some(pause)
}

/// The last sign of life of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    last: Instant,
    limit: Duration,
}

impl Liveness {
    /// Alive at `now`; stale after `limit` without a heartbeat.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { last: now, limit }
    }

    /// A heartbeat arrived.
    pub fn beat(&mut self, now: Instant) {
        self.last = self.last.max(now);
    }

    /// The supervisor itself did not run for `pause`.
    pub fn discount(&mut self, pause: Duration) {
        self.last += pause;
    }

    /// When the worker becomes stale.
    pub fn deadline(&self) -> Instant {
        self.last + self.limit
    }
}

/// Whether the receiving connection of a worker still gets on, as its heartbeats tell.
///
/// The worker looks after its connection itself, and knows more; this is the rung above, for an adapter
/// that says all is well and hears nothing. Time counts only while heartbeats come, and a gap between
/// two of them counts as one, so a pause of either process, or of the machine, proves nothing.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    limit: Duration,
    heartbeat: Duration,
    still: Duration,
    last: Option<Instant>,
}

impl Progress {
    /// For a connection that, on any platform's worst day, makes progress within `limit`.
    pub fn new(limit: Duration, heartbeat: Duration) -> Self {
        Self { limit, heartbeat, still: Duration::ZERO, last: None }
    }

    /// A heartbeat says that the last progress was `age` ago; true: the connection stands still.
    pub fn on(&mut self, age: Option<Duration>, now: Instant) -> bool {
        let since = self.last.replace(now).map(|last| now.duration_since(last));
        match (age, since) {
            (Some(age), Some(since)) if age >= since => self.still += since.min(self.heartbeat * 2),
            _ => self.still = Duration::ZERO,
        }
        self.still > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_day_of_silent_users_is_no_standstill_and_a_deaf_connection_is() {
        let mut progress = Progress::new(LIMIT, BEAT);
        let mut now = crate::clock::now();
        // Nobody writes for a day; a pong comes every 20 s.
        let mut pong = now;
        for _ in 0..24 * 3600 / 5 {
            now += BEAT;
            if now.duration_since(pong) >= Duration::from_secs(20) {
                pong = now;
            }
            assert!(!progress.on(Some(now.duration_since(pong)), now));
        }
        // Then it goes deaf, and says nothing of it.
        let deaf = now;
        let found = (0..100).find(|_| {
            now += BEAT;
            progress.on(Some(now.duration_since(pong)), now)
        });
        assert!(found.is_some());
        assert!(now.duration_since(deaf) <= LIMIT + 4 * BEAT, "{:?}", now.duration_since(deaf));
    }

    #[test]
    fn a_heartbeat_and_a_pause_of_our_own_put_the_end_off() {
        let start = crate::clock::now();
        let mut liveness = Liveness::new(LIMIT, start);
        liveness.beat(start + BEAT);
        assert_eq!(liveness.deadline(), start + BEAT + LIMIT);
        liveness.beat(start);
        assert_eq!(liveness.deadline(), start + BEAT + LIMIT, "it was read late");
        liveness.discount(LIMIT);
        assert_eq!(liveness.deadline(), start + BEAT + LIMIT + LIMIT);
    }

    #[test]
    fn only_time_in_which_we_did_not_run_is_a_pause() {
        let start = crate::clock::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(overslept(at(100), at(101), at(102)), None, "a little late");
        assert_eq!(overslept(at(100), at(101), at(141)), Some(Duration::from_secs(40)));
        assert_eq!(overslept(at(100), at(90), at(101)), None, "it was due long before");
        assert_eq!(overslept(at(100), at(90), at(140)), Some(Duration::from_secs(40)));
        assert_eq!(overslept(at(100), at(101), at(99)), None);
    }

    #[test]
    fn a_pause_of_everything_proves_nothing() {
        let mut progress = Progress::new(LIMIT, BEAT);
        let mut now = crate::clock::now();
        let pong = now;
        assert!(!progress.on(Some(Duration::ZERO), now));
        now += Duration::from_secs(40 * 60);
        assert!(!progress.on(Some(now.duration_since(pong)), now), "the machine slept");
        // The connection is found dead and made anew within seconds.
        now += BEAT;
        assert!(!progress.on(Some(now.duration_since(pong)), now));
        now += BEAT;
        assert!(!progress.on(Some(Duration::from_secs(1)), now));
        assert_eq!(progress.still, Duration::ZERO);
        // One that has never made progress is judged by how long it takes to start.
        assert!(!Progress::new(LIMIT, BEAT).on(None, now));
    }
}

//! Whether a connection is alive, and when to ask it. Pure.
//!
//! Any byte that arrives is a sign of life; silent users are no sign of anything. After a short silence
//! the connection is asked, first by a ping of WebSocket (cheap, answered by the next hop that speaks
//! it), then by one of the platform as well. No byte for a while after that means that it is dead,
//! whatever the socket says: half-open connections are the commonest way to go deaf unnoticed. A
//! connection that answers pings of WebSocket only is dead, too: what answers them may stand before the platform,
//! and one of the platform's own pings without any frame after it is enough to look for a better one.

use std::time::Duration;

use crate::clock::Instant;

/// The platform suggests 120 s, which would notice a deaf server after minutes.
const PING_MOST: Duration = Duration::from_secs(15);
const PING_LEAST: Duration = Duration::from_secs(1);

/// How long a connection may be silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Before the first question.
    pub(super) silence: Duration,
    /// From the first question to the second one.
    pub(super) insist: Duration,
    /// From the first question to giving up. A few seconds only would kill healthy connections on lines
    /// that lose packets.
    pub(super) patience: Duration,
    /// From a ping of the platform, the first of which goes out with the opening, to any frame.
    pub(super) frame: Duration,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// Bytes arrived.
    Bytes,
    /// A whole frame of the platform arrived.
    Frame,
    /// The platform named the interval of its pings.
    Interval(Duration),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Send a ping of the platform.
    Ping,
    /// Send a ping of WebSocket.
    Probe,
    /// Give the connection up.
    Dead(&'static str),
}

/// How far the questions have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Never,
    Once(Instant),
    Twice(Instant),
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Live {
    limits: Limits,
    bytes: Instant,
    pinged: Instant,
    /// The first ping since the latest frame.
    unanswered: Option<Instant>,
    interval: Duration,
    asked: Asked,
}

impl Live {
    /// A connection opened now, over which one ping of the platform is on its way.
    pub(super) fn new(limits: Limits, interval: Option<Duration>, now: Instant) -> Self {
        let interval = bounded(interval.unwrap_or(PING_MOST));
        let (asked, unanswered) = (Asked::Never, Some(now));
        Self { limits, bytes: now, pinged: now, unanswered, interval, asked }
    }

    /// Takes an input; what to do now.
    pub(super) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Bytes => {}
            Input::Frame => self.unanswered = None,
            Input::Interval(interval) => {
                self.interval = bounded(interval);
                return Vec::new();
            }
            Input::Tick => return self.tick(now),
        }
        self.bytes = now;
        self.asked = Asked::Never;
        Vec::new()
    }

    /// When to say [`Input::Tick`] next.
    pub(super) fn deadline(&self) -> Instant {
        let question = match self.asked {
            Asked::Never => self.bytes + self.limits.silence,
            Asked::Once(since) => since + self.limits.insist,
            Asked::Twice(since) => since + self.limits.patience,
        };
        let ping = question.min(self.pinged + self.interval);
        self.unanswered.map_or(ping, |since| ping.min(since + self.limits.frame))
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        if self.unanswered.is_some_and(|since| now >= since + self.limits.frame) {
            return vec![Action::Dead("the platform does not answer its own pings")];
        }
        let mut actions = Vec::new();
        match self.asked {
            Asked::Never if now >= self.bytes + self.limits.silence => {
                self.asked = Asked::Once(now);
                actions.push(Action::Probe);
            }
            Asked::Once(since) if now >= since + self.limits.insist => {
                self.asked = Asked::Twice(since);
                self.pings(now);
                return vec![Action::Probe, Action::Ping];
            }
            Asked::Twice(since) if now >= since + self.limits.patience => {
                return vec![Action::Dead("nothing arrives any more")];
            }
            Asked::Never | Asked::Once(_) | Asked::Twice(_) => {}
        }
        if now >= self.pinged + self.interval {
            self.pings(now);
            actions.push(Action::Ping);
        }
        actions
    }

    fn pings(&mut self, now: Instant) {
        self.pinged = now;
        self.unanswered.get_or_insert(now);
    }
}

fn bounded(interval: Duration) -> Duration {
    interval.clamp(PING_LEAST, PING_MOST)
}

#[cfg(test)]
mod tests {
    use super::super::LIMITS;
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs the clock for `span`; `reply` is asked after each action. What was done, at which second.
    fn run(
        live: &mut Live,
        start: Instant,
        span: Duration,
        reply: impl Fn(Action) -> Option<Input>,
    ) -> Vec<(u64, Action)> {
        let mut done = Vec::new();
        loop {
            let now = live.deadline();
            if now > start + span {
                return done;
            }
            let actions = live.on(Input::Tick, now);
            for action in actions {
                done.push(((now - start).as_secs(), action));
                if matches!(action, Action::Dead(_)) {
                    return done;
                }
                if let Some(input) = reply(action) {
                    live.on(input, now);
                }
            }
            assert!(live.deadline() > now, "a deadline lies in the future");
        }
    }

    fn serving(start: Instant) -> Live {
        let mut live = Live::new(LIMITS.live, Some(120 * SECOND), start);
        live.on(Input::Frame, start);
        live
    }

    #[test]
    fn a_black_hole_is_noticed_within_13_seconds() {
        let start = clock::now();
        let done = run(&mut serving(start), start, 60 * SECOND, |_| None);
        let expected = [(5, Action::Probe), (8, Action::Probe), (8, Action::Ping)];
        assert_eq!(done[..3], expected);
        assert!(matches!(done[3..], [(13, Action::Dead(_))]), "{done:?}");
    }

    #[test]
    fn silent_users_are_no_evidence() {
        let start = clock::now();
        let answers = |action| match action {
            Action::Ping => Some(Input::Frame),
            _ => Some(Input::Bytes),
        };
        let done = run(&mut serving(start), start, 3600 * SECOND, answers);
        assert!(!done.iter().any(|(_, action)| matches!(action, Action::Dead(_))));
        assert_eq!(done.iter().filter(|(_, action)| *action == Action::Ping).count(), 240);
    }

    #[test]
    fn the_platforms_pings_alone_keep_it_alive() {
        let start = clock::now();
        let only_frames = |action| (action == Action::Ping).then_some(Input::Frame);
        let done = run(&mut serving(start), start, 600 * SECOND, only_frames);
        assert!(!done.iter().any(|(_, action)| matches!(action, Action::Dead(_))));
    }

    #[test]
    fn one_that_only_answers_websocket_pings_is_dead_at_last() {
        let start = clock::now();
        let only_bytes = |action| (action == Action::Probe).then_some(Input::Bytes);
        let done = run(&mut serving(start), start, 600 * SECOND, only_bytes);
        assert!(matches!(done.last(), Some((27, Action::Dead(_)))), "{done:?}");
    }

    #[test]
    fn a_server_that_accepts_and_says_nothing_is_left() {
        let start = clock::now();
        let only_bytes = |action| (action == Action::Probe).then_some(Input::Bytes);
        let done = run(&mut Live::new(LIMITS.live, None, start), start, 60 * SECOND, only_bytes);
        assert!(matches!(done.last(), Some((12, Action::Dead(_)))), "{done:?}");
    }

    #[test]
    fn intervals_are_bounded_and_apply_at_once() {
        let start = clock::now();
        let mut live = serving(start);
        live.on(Input::Interval(Duration::ZERO), start);
        assert_eq!(live.deadline(), start + PING_LEAST);
        live.on(Input::Interval(Duration::from_secs(u64::MAX)), start);
        assert_eq!(live.deadline(), start + LIMITS.live.silence);
    }

    #[test]
    fn after_a_pause_of_ours_the_connection_is_asked_before_it_is_given_up() {
        let start = clock::now();
        let mut live = serving(start);
        let done = live.on(Input::Tick, start + 50 * SECOND);
        assert_eq!(done, [Action::Probe, Action::Ping]);
    }
}

//! The life of one worker, as a table.
//!
//! *Wanted* (up or down) is a field, *phase* is the state; a restart is "end it while wanted up".
//!
//! | phase ↓ input → | ready | exited | deadline | restart | restart --force | kill | kill --force |
//! |---|---|---|---|---|---|---|---|
//! | **down** | – | – | – | spawn | spawn | stay | stay |
//! | **starting** | → ready | judge | too slow: end politely | end politely | end at once | down, politely | down, at once |
//! | **ready** | – | judge | stale: end politely | end politely | end at once | down, politely | down, at once |
//! | **stopping** | – | wanted down → down; asked → spawn; slow or stale → judge | end at once | wanted up | at once, wanted up | wanted down | at once, wanted down |
//! | **backoff** | – | – | spawn | spawn | spawn, forget history | → down | → down |
//! | **held** | – | – | slow probe: spawn | spawn, forget history | same | → down | → down |
//!
//! A child that has *fallen* while processes that it started are still there is stopping until they
//! are gone; only then it has exited, and the next generation may be made.
//!
//! *Spawn* is backoff while the instance is *paced*: it was started often lately, and the next start has a
//! time. A command of a person ends that.
//!
//! *Judge* goes by the exit code: held (a person must act), backoff (counted as a crash or not), or by
//! the number of counted deaths within a window: held, with a probe that comes sooner, as such a worker may be
//! well by then. What could not be made yet is backoff and counts for nothing. Every input of a child names its generation; one
//! of a former generation changes nothing. `start` is restart's gentle twin: nothing if already up.

use std::time::{Duration, Instant};

use protocol::id::Generation;

use super::backoff::{self, Backoff};
use super::intensity::Intensity;

/// The rules for one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// From spawn to the first sign that the worker is at work.
    pub start: Duration,
    /// From the polite request to end to the impolite one.
    pub grace: Duration,
    /// How long until an impolite request is repeated and reported.
    pub kill: Duration,
    /// A worker that was ready for so long has its history forgotten.
    pub stable: Duration,
    /// Delays between deaths and starts.
    pub backoff: backoff::Settings,
    /// More counted deaths than this within `window` are too many.
    pub intensity: usize,
    /// See `intensity`.
    pub window: Duration,
    /// How long a held worker waits for its next probe.
    pub probe: Duration,
    /// How long one does that ended too often.
    pub crash_probe: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            kill: Duration::from_secs(2),
            stable: Duration::from_secs(10),
            backoff: backoff::Settings {
                first: Duration::from_millis(500),
                cap: Duration::from_secs(60),
            },
            intensity: 8,
            window: Duration::from_secs(600),
            probe: Duration::from_secs(1800),
            crash_probe: Duration::from_secs(120),
        }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A worker.
    Up,
    /// None.
    Down,
}

/// Why a worker that is stopping was told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Somebody asked.
    Asked,
    /// It did not get to work in time.
    Slow,
    /// Its event loop fell silent.
    Stale,
    /// It ended by itself, and left others behind.
    Fallen,
}

/// What the next start waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// A while after its end.
    Ended,
    /// Its turn: it was started often lately.
    Paced,
    /// What it needs and somebody else is about to give up.
    NotYet,
}

/// Where the worker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is none, and none is wanted.
    Down,
    /// A process exists. It has until then to get to work; `None`: it is at work, and its platform
    /// is what it waits for.
    Starting {
        /// When it is too slow.
        until: Option<Instant>,
    },
    /// It said that its outer connection works.
    Ready {
        /// Since when.
        since: Instant,
    },
    /// It was told to end.
    Stopping {
        /// Why.
        cause: Cause,
        /// Whether it was told impolitely.
        killed: bool,
        /// When to be impolite, or to repeat it.
        until: Instant,
    },
    /// There is none, and the next start has a time.
    Backoff {
        /// The time.
        until: Instant,
        /// What it waits for.
        wait: Wait,
    },
    /// There is none until a person acts, but for a slow probe.
    Held {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
        /// The next probe.
        until: Instant,
    },
}

impl Phase {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Held { .. } => "held",
        }
    }
}

/// How much grace an operator's command grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// The usual grace.
    No,
    /// None.
    Yes,
}

/// What a death means, by its exit code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Try again; it counts as a crash.
    Counted,
    /// Try again; an outage is no crash.
    Uncounted,
    /// It could not be made yet: try again after so long.
    NotYet(Duration),
    /// Another process may do better; if that one says the same, a person must act.
    HeldIfAgain {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A person must act.
    Held {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The supervisor starts, or the operator says `start`.
    Start,
    /// The worker is linked and at work, though its platform may be away.
    Working(Generation),
    /// The worker's outer connection works.
    Ready(Generation),
    /// The process is gone, and something that it started is not.
    Fallen(Generation),
    /// The process and everything it started is gone.
    Exited(Generation, Verdict),
    /// A process could not be made.
    SpawnFailed(Generation, Verdict),
    /// The worker's event loop fell silent.
    Stale(Generation),
    /// The operator says `restart`.
    Restart(Force),
    /// The operator says `kill`.
    Kill(Force),
    /// The supervisor itself did not run for so long.
    Slept(Duration),
    /// A deadline may have passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make a process of this generation.
    Spawn(Generation),
    /// Ask the process of this generation to end, and its whole group with a signal.
    End(Generation),
    /// Kill everything that belongs to this generation.
    Kill(Generation),
}

/// The life of one worker.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    wanted: Wanted,
    phase: Phase,
    since: Instant,
    generation: Generation,
    backoff: Backoff,
    deaths: Intensity,
    /// No start before then.
    paced: Option<Instant>,
    /// It has said [`Verdict::HeldIfAgain`] once.
    warned: bool,
}

impl Lifecycle {
    /// Down, and wanted down. `generation` is the last one that existed; `seed` spreads delays.
    pub fn new(settings: Settings, generation: Generation, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            wanted: Wanted::Down,
            phase: Phase::Down,
            since: now,
            generation,
            backoff: Backoff::new(settings.backoff, seed),
            deaths: Intensity::new(settings.intensity, settings.window),
            paced: None,
            warned: false,
        }
    }

    /// A process of `generation` is there already: a supervisor before this one made it, in the same
    /// process as ours. It was ready, or is on its way.
    pub fn resumed(
        settings: Settings,
        generation: Generation,
        seed: u64,
        ready: bool,
        now: Instant,
    ) -> Self {
        let phase = if ready {
            Phase::Ready { since: now }
        } else {
            Phase::Starting { until: Some(now + settings.start) }
        };
        let fresh = Self::new(settings, generation, seed, now);
        Self { wanted: Wanted::Up, phase, ..fresh }
    }

    /// When the next start is due at the earliest. `None`: at any time.
    pub fn pace(&mut self, until: Option<Instant>) {
        self.paced = until;
    }

    /// What the operator wants.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Where the worker is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The newest generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Down | Phase::Ready { .. } => None,
            Phase::Starting { until } => *until,
            Phase::Stopping { until, .. }
            | Phase::Backoff { until, .. }
            | Phase::Held { until, .. } => Some(*until),
        }
    }

    /// What follows from `input`: at most one action, since every cell of the table has one.
    pub fn on(&mut self, input: Input, now: Instant) -> Option<Action> {
        match input {
            Input::Start => self.start(now),
            Input::Working(of) => self.working(of),
            Input::Ready(of) => self.ready(of, now),
            Input::Exited(of, verdict) | Input::SpawnFailed(of, verdict) => {
                self.exited(of, verdict, now)
            }
            Input::Fallen(of) => self.fallen(of, now),
            Input::Stale(of) if of == self.generation => match self.phase {
                Phase::Starting { .. } | Phase::Ready { .. } => self.end(Cause::Stale, now),
                _ => None,
            },
            Input::Stale(_) => None,
            Input::Restart(force) => self.restart(force, now),
            Input::Kill(force) => self.kill(force, now),
            Input::Slept(pause) => {
                self.slept(pause);
                None
            }
            Input::Tick => self.tick(now),
        }
    }

    fn start(&mut self, now: Instant) -> Option<Action> {
        match self.phase {
            Phase::Down => self.spawn(now),
            Phase::Stopping { .. } => {
                self.wanted = Wanted::Up;
                None
            }
            Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. } => None,
        }
    }

    fn working(&mut self, of: Generation) -> Option<Action> {
        if of == self.generation
            && let Phase::Starting { until } = &mut self.phase
        {
            *until = None;
        }
        None
    }

    fn ready(&mut self, of: Generation, now: Instant) -> Option<Action> {
        if of == self.generation && matches!(self.phase, Phase::Starting { .. }) {
            self.enter(Phase::Ready { since: now }, now);
        }
        None
    }

    fn fallen(&mut self, of: Generation, now: Instant) -> Option<Action> {
        if of != self.generation {
            return None;
        }
        match self.phase {
            Phase::Down | Phase::Backoff { .. } | Phase::Held { .. } => None,
            Phase::Starting { .. } => self.kill_now(Cause::Fallen, now),
            Phase::Ready { since } => {
                self.forgive(since, now);
                self.kill_now(Cause::Fallen, now)
            }
            Phase::Stopping { cause, .. } => self.kill_now(cause, now),
        }
    }

    fn exited(&mut self, of: Generation, verdict: Verdict, now: Instant) -> Option<Action> {
        if of != self.generation {
            return None;
        }
        match self.phase {
            Phase::Down | Phase::Backoff { .. } | Phase::Held { .. } => None,
            Phase::Stopping { .. } if self.wanted == Wanted::Down => {
                self.enter(Phase::Down, now);
                None
            }
            Phase::Stopping { cause: Cause::Asked, .. } => self.spawn(now),
            Phase::Stopping { cause: Cause::Slow | Cause::Stale, .. } => {
                self.judge(Verdict::Counted, now)
            }
            Phase::Stopping { cause: Cause::Fallen, .. } => self.judge(verdict, now),
            Phase::Ready { since } => {
                self.forgive(since, now);
                self.judge(verdict, now)
            }
            Phase::Starting { .. } => self.judge(verdict, now),
        }
    }

    fn restart(&mut self, force: Force, now: Instant) -> Option<Action> {
        self.wanted = Wanted::Up;
        match (&mut self.phase, force) {
            (Phase::Down, _) | (Phase::Backoff { .. }, Force::No) => self.spawn(now),
            (Phase::Backoff { .. }, Force::Yes) | (Phase::Held { .. }, _) => {
                self.forget();
                self.spawn(now)
            }
            (Phase::Starting { .. } | Phase::Ready { .. }, Force::No) => {
                self.end(Cause::Asked, now)
            }
            (Phase::Stopping { cause, .. }, Force::No) => {
                *cause = Cause::Asked;
                None
            }
            (Phase::Starting { .. } | Phase::Ready { .. } | Phase::Stopping { .. }, Force::Yes) => {
                self.kill_now(Cause::Asked, now)
            }
        }
    }

    fn kill(&mut self, force: Force, now: Instant) -> Option<Action> {
        self.wanted = Wanted::Down;
        match (&self.phase, force) {
            (Phase::Down, _) => None,
            (Phase::Backoff { .. } | Phase::Held { .. }, _) => {
                self.enter(Phase::Down, now);
                None
            }
            (Phase::Starting { .. } | Phase::Ready { .. }, Force::No) => {
                self.end(Cause::Asked, now)
            }
            (Phase::Stopping { .. }, Force::No) => None,
            (Phase::Starting { .. } | Phase::Ready { .. } | Phase::Stopping { .. }, Force::Yes) => {
                self.kill_now(Cause::Asked, now)
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Action> {
        if self.deadline().is_none_or(|due| due > now) {
            return None;
        }
        match self.phase {
            Phase::Down | Phase::Ready { .. } => None,
            Phase::Starting { .. } => self.end(Cause::Slow, now),
            Phase::Stopping { cause, .. } => self.kill_now(cause, now),
            Phase::Backoff { .. } | Phase::Held { .. } => self.spawn(now),
        }
    }

    fn slept(&mut self, pause: Duration) {
        match &mut self.phase {
            Phase::Starting { until: Some(until) } | Phase::Stopping { until, .. } => {
                *until += pause;
            }
            Phase::Down
            | Phase::Starting { until: None }
            | Phase::Ready { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. } => {}
        }
    }

    fn judge(&mut self, verdict: Verdict, now: Instant) -> Option<Action> {
        match verdict {
            Verdict::Held { reason, remedy } => {
                let until = now + self.settings.probe;
                self.enter(Phase::Held { reason, remedy, until }, now);
                None
            }
            Verdict::NotYet(after) => self.wait(Wait::NotYet, now + after, now),
            Verdict::HeldIfAgain { .. } if !self.warned => {
                self.warned = true;
                self.spawn(now)
            }
            Verdict::HeldIfAgain { reason, remedy } => {
                self.judge(Verdict::Held { reason, remedy }, now)
            }
            Verdict::Counted if self.deaths.exceeded_by(now) => {
                let reason = format!(
                    "it ended more than {} times within {} s",
                    self.settings.intensity,
                    self.settings.window.as_secs()
                );
                let remedy = format!(
                    "see its last exits in `ctl status` and the log, then `ctl restart`; it is tried \
                     again every {} s",
                    self.settings.crash_probe.as_secs()
                );
                let until = now + self.settings.crash_probe;
                self.enter(Phase::Held { reason, remedy, until }, now);
                None
            }
            Verdict::Counted | Verdict::Uncounted => match self.backoff.failed() {
                Duration::ZERO => self.spawn(now),
                delay => self.wait(Wait::Ended, now + delay, now),
            },
        }
    }

    fn wait(&mut self, wait: Wait, until: Instant, now: Instant) -> Option<Action> {
        self.enter(Phase::Backoff { until, wait }, now);
        None
    }

    fn spawn(&mut self, now: Instant) -> Option<Action> {
        self.wanted = Wanted::Up;
        if let Some(until) = self.paced.filter(|until| *until > now) {
            return self.wait(Wait::Paced, until, now);
        }
        self.generation = Generation(self.generation.0 + 1);
        self.enter(Phase::Starting { until: Some(now + self.settings.start) }, now);
        Some(Action::Spawn(self.generation))
    }

    #[expect(clippy::unnecessary_wraps, reason = "every cell of the table yields the same")]
    fn end(&mut self, cause: Cause, now: Instant) -> Option<Action> {
        let until = now + self.settings.grace;
        self.enter(Phase::Stopping { cause, killed: false, until }, now);
        Some(Action::End(self.generation))
    }

    #[expect(clippy::unnecessary_wraps, reason = "every cell of the table yields the same")]
    fn kill_now(&mut self, cause: Cause, now: Instant) -> Option<Action> {
        let until = now + self.settings.kill;
        if let Phase::Stopping { cause: was, killed, until: was_until } = &mut self.phase {
            (*was, *killed, *was_until) = (cause, true, until);
        } else {
            self.enter(Phase::Stopping { cause, killed: true, until }, now);
        }
        Some(Action::Kill(self.generation))
    }

    /// A worker that was ready for long enough has its history forgotten.
    fn forgive(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= self.settings.stable {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.backoff.reset();
        self.deaths.forget();
        self.warned = false;
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;

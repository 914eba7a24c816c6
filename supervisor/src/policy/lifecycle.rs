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
//! the number of counted deaths within a window: held, too. Held is probed: after too many deaths at one pace, else
//! soon and then ever more slowly, since platforms refuse now and then for a moment what they take again. What could not be made yet is backoff and counts for nothing. Every input of a child names its generation; one
//! of a former generation changes nothing. `start` is restart's gentle twin: nothing if already up.

mod port;

use std::time::{Duration, Instant};

use protocol::id::Generation;

pub use self::port::{Action, Cause, Force, Input, Phase, Settings, Verdict, Wait, Wanted};
use super::backoff::Backoff;
use super::intensity::Intensity;

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
    /// So often it ended held since it was last well, or a person acted.
    holds: u32,
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
            holds: 0,
        }
    }

    /// A process of `generation` is there already: a supervisor before this one made it, in the same
    /// process as ours. It has been ready `since` then, or on its way.
    pub fn resumed(
        settings: Settings,
        generation: Generation,
        seed: u64,
        ready: bool,
        since: Instant,
        now: Instant,
    ) -> Self {
        let phase = if ready {
            Phase::Ready { since }
        } else {
            Phase::Starting { until: Some(now + settings.start) }
        };
        let fresh = Self::new(settings, generation, seed, since);
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

    /// Whether a probe only found what was told before.
    pub fn is_held_again(&self) -> bool {
        matches!(self.phase, Phase::Held { .. }) && self.holds > 1
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
            // Nobody outside was asked, so nobody will say something else in a moment.
            Input::SpawnFailed(of, Verdict::Held { reason, remedy })
                if of == self.generation && matches!(self.phase, Phase::Starting { .. }) =>
            {
                self.hold(reason, remedy, self.settings.probe, now)
            }
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
                let pause = self.settings.first_probe.saturating_mul(1 << self.holds.min(16));
                self.holds = self.holds.saturating_add(1);
                self.hold(reason, remedy, pause.min(self.settings.probe), now)
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
                self.hold(reason, remedy, self.settings.crash_probe, now)
            }
            Verdict::Counted | Verdict::Uncounted => match self.backoff.failed() {
                Duration::ZERO => self.spawn(now),
                delay => self.wait(Wait::Ended, now + delay, now),
            },
        }
    }

    fn hold(
        &mut self,
        reason: String,
        remedy: String,
        pause: Duration,
        now: Instant,
    ) -> Option<Action> {
        self.enter(Phase::Held { reason, remedy, until: now + pause }, now);
        None
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
        self.holds = 0;
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;

//! How the supervisor leaves: nothing new, what is under way may end, everybody is told, nobody is
//! waited for past the deadline. All of it fits into one budget, so that a service manager which kills
//! what takes too long never has to.
//!
//! | stage | entered when | what is done |
//! |---|---|---|
//! | serving | – | – |
//! | draining | first TERM or INT, `ctl kill` | gates shut; the agent may answer, replies may leave |
//! | ending | nothing is under way, or handlers of hooks alone for longer than their share, or the drain's share is used up | every worker is told to end |
//! | killing | ending's share is used up, or a second signal | everything is killed |
//! | gone | every worker is gone, or the budget is used up | the store is closed, the lock released |

use std::time::{Duration, Instant};

/// Where the supervisor is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// Not leaving.
    #[default]
    Serving,
    /// Nothing new is begun.
    Draining,
    /// Workers end.
    Ending,
    /// Workers are killed.
    Killing,
    /// No worker is left.
    Gone,
}

/// What is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// Nothing.
    No,
    /// Handlers of hooks are being told.
    Hooks,
    /// Something is between two durable states.
    Work,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Shut every gate.
    Drain,
    /// Tell every worker to end.
    End,
    /// Kill every worker.
    Kill,
    /// Leave.
    Leave,
}

/// What ending and killing may take together.
const END: Duration = Duration::from_secs(3);
/// How long handlers of hooks may be told of what has happened: they can delay nothing else.
const HOOKS: Duration = Duration::from_secs(2);
/// What killing may take: longer only where the kernel does not let go of a process.
const KILL: Duration = Duration::from_secs(1);

/// The supervisor's way out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closing {
    stage: Stage,
    /// When the stage is over.
    until: Option<Instant>,
    /// Until when handlers of hooks are waited for.
    hooks: Option<Instant>,
    /// When everything is.
    last: Option<Instant>,
}

impl Closing {
    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When something is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.hooks.into_iter().chain(self.until).min()
    }

    /// Somebody asks the supervisor to leave, within `budget`.
    pub fn ask(&mut self, budget: Duration, now: Instant) -> Option<Action> {
        match self.stage {
            Stage::Serving => {
                self.stage = Stage::Draining;
                let drain = budget.saturating_sub(END).max(budget / 2);
                (self.until, self.hooks) = (Some(now + drain), Some(now + HOOKS));
                self.last = Some(now + budget);
                Some(Action::Drain)
            }
            Stage::Draining | Stage::Ending | Stage::Killing => self.force(now),
            Stage::Gone => None,
        }
    }

    /// Somebody asks it to leave at once.
    pub fn force(&mut self, now: Instant) -> Option<Action> {
        if self.stage == Stage::Gone {
            return None;
        }
        let soon = now + KILL;
        let last = self.last.map_or(soon, |last| last.min(soon));
        (self.stage, self.until, self.last) = (Stage::Killing, Some(last), Some(last));
        Some(Action::Kill)
    }

    /// How things stand: what is under way, how many workers are left.
    pub fn on(&mut self, busy: Busy, workers: usize, now: Instant) -> Option<Action> {
        let over = self.until.is_some_and(|until| until <= now);
        self.hooks = self.hooks.filter(|until| *until > now);
        let idle = match busy {
            Busy::No => true,
            Busy::Hooks => self.hooks.is_none(),
            Busy::Work => false,
        };
        match self.stage {
            Stage::Draining if idle || over => {
                self.stage = Stage::Ending;
                self.until = self.last.map(|last| last.checked_sub(KILL).unwrap_or(now).max(now));
                Some(Action::End)
            }
            Stage::Ending | Stage::Killing if workers == 0 => self.leave(),
            Stage::Ending if over => {
                self.stage = Stage::Killing;
                self.until = self.last;
                Some(Action::Kill)
            }
            Stage::Killing if over => self.leave(),
            Stage::Serving | Stage::Draining | Stage::Ending | Stage::Killing | Stage::Gone => None,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "every row of the table yields the same")]
    fn leave(&mut self) -> Option<Action> {
        (self.stage, self.until) = (Stage::Gone, None);
        Some(Action::Leave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(8);

    #[test]
    fn the_way_out_row_by_row() {
        let now = crate::clock::now();
        let mut closing = Closing::default();
        assert_eq!(closing.on(Busy::No, 0, now), None, "idle is no reason to leave");
        assert_eq!(closing.ask(BUDGET, now), Some(Action::Drain));
        assert_eq!(closing.on(Busy::Work, 3, now), None);
        assert_eq!(closing.on(Busy::No, 3, now), Some(Action::End));
        assert_eq!(closing.on(Busy::No, 1, now), None);
        assert_eq!(closing.on(Busy::No, 0, now), Some(Action::Leave));
        assert_eq!(closing.ask(BUDGET, now), None);

        let mut closing = Closing::default();
        closing.ask(BUDGET, now);
        assert_eq!(closing.ask(BUDGET, now), Some(Action::Kill), "the second signal");
        assert_eq!(closing.force(now), Some(Action::Kill));
        assert_eq!(closing.on(Busy::No, 0, now), Some(Action::Leave));
        assert_eq!(Closing::default().force(now), Some(Action::Kill));
    }

    #[test]
    fn handlers_of_hooks_are_waited_for_less_than_work() {
        let now = crate::clock::now();
        let mut closing = Closing::default();
        closing.ask(BUDGET, now);
        assert_eq!(closing.deadline(), Some(now + HOOKS));
        assert_eq!(closing.on(Busy::Hooks, 3, now), None);
        assert_eq!(closing.on(Busy::Work, 3, now + HOOKS), None);
        assert!(closing.deadline() > Some(now + HOOKS), "the work has more time");
        assert_eq!(closing.on(Busy::Hooks, 3, now + HOOKS), Some(Action::End));

        let mut closing = Closing::default();
        closing.ask(BUDGET, now);
        closing.force(now);
        assert_eq!(closing.deadline(), Some(now + KILL), "and not at all by force");
    }

    #[test]
    fn whatever_does_not_end_the_budget_is_kept() {
        let now = crate::clock::now();
        for budget in [1, 2, 3, 8, 28, 88].map(Duration::from_secs) {
            let mut closing = Closing::default();
            closing.ask(budget, now);
            for action in [Action::End, Action::Kill, Action::Leave] {
                assert_eq!(closing.on(Busy::Work, 3, now), None);
                let mut due = closing.deadline().unwrap();
                let mut next = closing.on(Busy::Work, 3, due);
                if next.is_none() {
                    // Only the share of hooks was over.
                    due = closing.deadline().unwrap();
                    next = closing.on(Busy::Work, 3, due);
                }
                assert_eq!(next, Some(action), "{budget:?}");
                assert!(due <= now + budget);
            }
        }
    }
}

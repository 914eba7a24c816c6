//! How the supervisor leaves: nothing new, what is under way may end, everybody is told, nobody is
//! waited for past the deadline.
//!
//! | stage | entered when | what is done |
//! |---|---|---|
//! | serving | – | – |
//! | draining | first TERM or INT, `ctl kill` | gates shut; the agent may answer, replies may leave |
//! | ending | nothing is under way, or the drain limit | every worker is told to end |
//! | gone | every worker is gone | the store is closed, the lock released |
//!
//! A second signal skips what is left of the grace: everything is killed at once.

use std::time::{Duration, Instant};

/// Where the supervisor is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Not leaving.
    Serving,
    /// Nothing new is begun.
    Draining,
    /// Workers end.
    Ending,
    /// No worker is left.
    Gone,
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

/// The supervisor's way out.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    limit: Duration,
    stage: Stage,
    until: Option<Instant>,
}

impl Closing {
    /// Serving; a drain may take `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, stage: Stage::Serving, until: None }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When the drain is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Somebody asks the supervisor to leave.
    pub fn ask(&mut self, now: Instant) -> Option<Action> {
        match self.stage {
            Stage::Serving => {
                self.stage = Stage::Draining;
                self.until = Some(now + self.limit);
                Some(Action::Drain)
            }
            Stage::Draining | Stage::Ending => self.force(),
            Stage::Gone => None,
        }
    }

    /// Somebody asks it to leave at once.
    pub fn force(&mut self) -> Option<Action> {
        if self.stage == Stage::Gone {
            return None;
        }
        self.stage = Stage::Ending;
        self.until = None;
        Some(Action::Kill)
    }

    /// How things stand: is anything under way, how many workers are left.
    pub fn on(&mut self, idle: bool, workers: usize, now: Instant) -> Option<Action> {
        match self.stage {
            Stage::Draining if idle || self.until.is_some_and(|until| until <= now) => {
                self.stage = Stage::Ending;
                self.until = None;
                Some(Action::End)
            }
            Stage::Ending if workers == 0 => {
                self.stage = Stage::Gone;
                Some(Action::Leave)
            }
            Stage::Serving | Stage::Draining | Stage::Ending | Stage::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
    fn the_way_out_row_by_row() {
        let now = Instant::now();
        let limit = Duration::from_secs(5);
        let mut closing = Closing::new(limit);
        assert_eq!(closing.on(true, 0, now), None, "idle is no reason to leave");
        assert_eq!(closing.ask(now), Some(Action::Drain));
        assert_eq!(closing.on(false, 3, now), None);
        assert_eq!(closing.on(true, 3, now), Some(Action::End));
        assert_eq!(closing.on(true, 1, now), None);
        assert_eq!(closing.on(true, 0, now), Some(Action::Leave));
        assert_eq!(closing.ask(now), None);

        let mut closing = Closing::new(limit);
        closing.ask(now);
        assert_eq!(closing.on(false, 3, now + limit), Some(Action::End), "work that never ends");
        assert_eq!(closing.ask(now), Some(Action::Kill), "the second signal");
        assert_eq!(closing.force(), Some(Action::Kill));
    }
}

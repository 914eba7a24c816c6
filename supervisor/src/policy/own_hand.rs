//! Commands that come from within: an agent that restarts or stops the gateway it runs under.
//!
//! Done at once, such a command would end its own asker in the middle of its turn, and the turn, handed
//! out again, would ask again, without end. So it waits until what the agent holds is acknowledged, for
//! a while at most, and a second one soon after the first is refused.

use std::time::{Duration, Instant};

/// After one command from within was asked for, and after it was carried out, the next one is refused for so long.
pub const REST: Duration = Duration::from_secs(60);
/// The longest wait for an acknowledgement.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a command from within.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done once what is under way has ended, at the latest then.
    Queued {
        /// When.
        until: Instant,
    },
    /// There was one so long ago.
    Refused {
        /// How long ago.
        ago: Duration,
    },
}

/// The commands from within.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnHand {
    last: Option<Instant>,
}

impl OwnHand {
    /// One more.
    pub fn asks(&mut self, now: Instant) -> Answer {
        let ago = self.last.map(|last| now.saturating_duration_since(last));
        if let Some(ago) = ago.filter(|ago| *ago < REST) {
            return Answer::Refused { ago };
        }
        self.last = Some(now);
        Answer::Queued { until: now + PATIENCE }
    }

    /// One is carried out. A turn that it interrupts is handed out again, and asks again.
    pub fn carried_out(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_within_a_minute_is_refused() {
        let now = crate::clock::now();
        let mut own = OwnHand::default();
        assert_eq!(own.asks(now), Answer::Queued { until: now + PATIENCE });
        let soon = now + Duration::from_secs(59);
        assert_eq!(own.asks(soon), Answer::Refused { ago: Duration::from_secs(59) });
        assert!(matches!(own.asks(now + REST), Answer::Queued { .. }), "a refused one counts not");
    }

    #[test]
    fn a_turn_that_was_interrupted_by_its_own_command_asks_in_vain() {
        let mut now = crate::clock::now();
        let mut own = OwnHand::default();
        let Answer::Queued { until } = own.asks(now) else { panic!("the first one") };
        now = until;
        own.carried_out(now);
        let again = Duration::from_millis(200);
        assert_eq!(own.asks(now + again), Answer::Refused { ago: again });
        assert!(matches!(own.asks(now + REST), Answer::Queued { .. }));
    }
}

//! Which events an agent's deaths may be due to. Pure.
//!
//! What dies together tells nothing of any one of it, so nothing counts against those; each that was there
//! twice is then worked on alone, and the next death tells.

use std::collections::BTreeMap;

use protocol::id::EventId;
use protocol::worker::FromWorker;

/// Deaths from which on an event goes alone. One is what a restart costs: it must not slow everybody down.
const SUSPECT: u32 = 2;
/// Events that are remembered.
const REMEMBERED: usize = 1024;

/// How many deaths each event has seen.
#[derive(Debug, Default)]
pub(super) struct Blame(BTreeMap<EventId, u32>);

impl Blame {
    /// These were in work when the agent died; whether it counts against them.
    pub(super) fn died(&mut self, events: &[EventId]) -> bool {
        for id in events {
            *self.0.entry(*id).or_default() += 1;
        }
        while self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        events.len() == 1
    }

    /// Whether nothing else is to be in work beside it.
    pub(super) fn is_alone(&self, id: EventId) -> bool {
        self.0.get(&id).is_some_and(|deaths| *deaths >= SUSPECT)
    }

    /// What is said may be the end of an event.
    pub(super) fn note(&mut self, said: &FromWorker) {
        if let FromWorker::Ack { event_id } | FromWorker::SetAside { event_id, .. } = said {
            self.0.remove(event_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_died_alone_is_blamed_and_who_died_twice_goes_alone() {
        let (one, two) = (EventId(1), EventId(2));
        let mut blame = Blame::default();
        assert!(!blame.died(&[one, two]) && !blame.is_alone(one));
        assert!(!blame.died(&[one, two]) && blame.is_alone(one) && blame.is_alone(two));
        blame.note(&FromWorker::Ack { event_id: two });
        assert!(blame.died(&[one]) && blame.is_alone(one) && !blame.is_alone(two));
    }
}

//! Which events an agent's deaths may be due to.
//!
//! | an agent is lost with | then |
//! |---|---|
//! | one event | it counts against it |
//! | several | it counts against none: which of them it was cannot be told |
//! | an event for the second time | the event is offered alone from now on, and the next loss tells |
//!
//! So an event that kills its reader is set aside in the end (F22), and takes nobody along.

use std::collections::BTreeMap;

/// Losses from which on an event goes alone. One is what a restart costs: it must not slow everybody down.
const SUSPECT: u32 = 2;
/// Events that are remembered.
const REMEMBERED: usize = 4096;

/// How many losses each event has seen.
#[derive(Debug, Default)]
pub struct Blame(BTreeMap<u64, u32>);

impl Blame {
    /// These were with the agent when it was lost; whether that counts against them.
    pub fn died(&mut self, events: impl ExactSizeIterator<Item = u64>) -> bool {
        let counts = events.len() == 1;
        for id in events {
            *self.0.entry(id).or_default() += 1;
        }
        while self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        counts
    }

    /// Whether nothing else is to be with the agent beside it.
    pub fn is_alone(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|losses| *losses >= SUSPECT)
    }

    /// The event is over.
    pub fn ended(&mut self, id: u64) {
        self.0.remove(&id);
    }
}

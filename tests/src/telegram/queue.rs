//! The queue of updates of one bot, with the rules by which the real server reads and forgets. Pure.
//!
//! Asking from an offset deletes everything below it. An offset far above the tail or far below the head counts as none
//! and deletes nothing; one a little above the tail is honoured.

use std::collections::VecDeque;

use serde_json::Value;

/// An offset further above the tail counts as none.
const FUTURE: i64 = 10;
/// An offset further below the tail counts as none.
const PAST: i64 = 200_000;

/// Updates that wait to be confirmed.
#[derive(Debug)]
pub(crate) struct Queue {
    /// The id of the next update.
    tail: i64,
    updates: VecDeque<(i64, Value)>,
}

impl Queue {
    pub(crate) fn starting_at(id: i64) -> Self {
        Self { tail: id, updates: VecDeque::new() }
    }

    /// Adds an update; its id, which it gets unless it has one that is none.
    pub(crate) fn push(&mut self, mut update: Value) -> i64 {
        let id = self.tail;
        self.tail += 1;
        if let Some(members) = update.as_object_mut() {
            members.entry("update_id").or_insert(id.into());
        }
        self.updates.push_back((id, update));
        id
    }

    /// Lets the next update have this id, as after a week of silence.
    pub(crate) fn renumber(&mut self, id: i64) {
        self.tail = id;
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, id: i64) {
        self.updates.retain(|(known, _)| *known != id);
    }

    /// All that wait, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (i64, &Value)> {
        self.updates.iter().map(|(id, update)| (*id, update))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.updates.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.updates.len()
    }

    /// Forgets what `offset` confirms, and reads; the ids that were forgotten.
    pub(crate) fn read(&mut self, offset: i64, limit: usize) -> (Vec<i64>, Vec<Value>) {
        let mut forgotten = Vec::new();
        if offset < 0 {
            let keep = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            while self.updates.len() > keep {
                forgotten.extend(self.updates.pop_front().map(|(id, _)| id));
            }
        } else if offset > 0 && offset <= self.tail + FUTURE && offset >= self.tail - PAST {
            while self.updates.front().is_some_and(|(id, _)| *id < offset) {
                forgotten.extend(self.updates.pop_front().map(|(id, _)| id));
            }
        }
        let found = self.updates.iter().take(limit).map(|(_, update)| update.clone()).collect();
        (forgotten, found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn queue() -> Queue {
        let mut queue = Queue::starting_at(500);
        for _ in 0..5 {
            queue.push(json!({}));
        }
        queue
    }

    fn ids(found: &[Value]) -> Vec<i64> {
        found.iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
    }

    #[test]
    fn an_offset_deletes_what_is_below_it() {
        let mut queue = queue();
        assert_eq!(ids(&queue.read(0, 2).1), [500, 501]);
        let (forgotten, found) = queue.read(502, 100);
        assert_eq!((forgotten, ids(&found)), (vec![500, 501], vec![502, 503, 504]));
        assert_eq!(ids(&queue.read(0, 100).1), [502, 503, 504]);
    }

    #[test]
    fn an_offset_far_away_deletes_nothing_and_one_nearby_does() {
        let mut far = queue();
        assert_eq!(far.read(516, 100).0.len(), 0);
        assert_eq!(far.read(505 - 200_001, 100).1.len(), 5);
        assert_eq!(far.read(515, 100), (vec![500, 501, 502, 503, 504], vec![]));
    }

    #[test]
    fn a_negative_offset_keeps_the_latest() {
        assert_eq!(ids(&queue().read(-2, 100).1), [503, 504]);
    }
}

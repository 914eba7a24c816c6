//! What is said while the agent works in a conversation, on its way into that work.
//!
//! | what happens | then |
//! |---|---|
//! | something is said, and nothing waits behind the work | it is offered, one at a time |
//! | something is said, and something waits behind the work | it waits as well: nobody overtakes |
//! | what was offered is taken in | the next is offered |
//! | what was offered is refused | it waits behind the work, and so does everything after it |
//! | the work is over | what was not taken in waits for its turn |
//!
//! The answer to a question of the agent is offered in any case: the work waits for it.

use std::collections::VecDeque;

/// Beyond these, what is said waits.
const MOST: usize = 256;

/// Something that is on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The event.
    pub id: u64,
    /// The platform's id of the message.
    pub message_id: Option<String>,
}

/// The way into one work.
#[derive(Debug, Default)]
pub struct Steering {
    /// Something waits behind the work.
    is_behind: bool,
    coming: VecDeque<Said>,
    /// The first of them is offered.
    is_offered: bool,
}

impl Steering {
    /// The work begins; `is_behind`: something waits behind it.
    pub fn new(is_behind: bool) -> Self {
        Self { is_behind, ..Self::default() }
    }

    /// Whether something waits behind the work when it is over, as things are.
    pub fn is_behind(&self) -> bool {
        self.is_behind || !self.coming.is_empty()
    }

    /// Something waits behind the work.
    pub fn waits(&mut self) {
        self.is_behind = true;
    }

    /// Something is said that is to go into the work, or is an answer to what it asks. Gives it back if it waits.
    pub fn said(&mut self, said: Said, is_answer: bool) -> Option<Said> {
        if (self.is_behind && !is_answer) || self.coming.len() >= MOST {
            self.is_behind = true;
            return Some(said);
        }
        self.coming.push_back(said);
        None
    }

    /// What is to be offered now.
    pub fn offer(&mut self) -> Option<u64> {
        let next = self.coming.front().filter(|_| !self.is_offered)?;
        self.is_offered = true;
        Some(next.id)
    }

    /// Whether this one is offered.
    pub fn is_offered(&self, id: u64) -> bool {
        self.is_offered && self.coming.front().is_some_and(|said| said.id == id)
    }

    /// What was offered is taken in.
    pub fn taken(&mut self, id: u64) -> Option<Said> {
        let said = self.is_offered(id).then(|| self.coming.pop_front()).flatten()?;
        self.is_offered = false;
        Some(said)
    }

    /// What was offered is refused: what waits now.
    pub fn refused(&mut self, id: u64) -> Vec<Said> {
        if !self.is_offered(id) {
            return Vec::new();
        }
        self.is_behind = true;
        self.rest()
    }

    /// What is not taken in.
    pub fn rest(&mut self) -> Vec<Said> {
        self.is_offered = false;
        std::mem::take(&mut self.coming).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: u64) -> Said {
        Said { id, message_id: None }
    }

    fn ids(said: Vec<Said>) -> Vec<u64> {
        said.into_iter().map(|said| said.id).collect()
    }

    #[test]
    fn one_at_a_time_goes_in_and_nobody_overtakes() {
        let mut work = Steering::new(false);
        for id in 2..=5 {
            assert_eq!(work.said(said(id), false), None);
        }
        assert_eq!((work.offer(), work.offer()), (Some(2), None));
        assert_eq!(work.taken(3), None, "it was not offered");
        assert_eq!((work.taken(2), work.offer()), (Some(said(2)), Some(3)));
        assert!(work.refused(4).is_empty());
        assert_eq!(ids(work.refused(3)), [3, 4, 5]);
        assert_eq!(work.said(said(6), false), Some(said(6)), "behind those");
        assert!(work.is_behind() && work.offer().is_none());
    }

    #[test]
    fn behind_what_waits_only_answers_go_in() {
        let mut work = Steering::new(true);
        assert_eq!(work.said(said(2), false), Some(said(2)));
        assert_eq!(work.said(said(3), true), None);
        assert_eq!((work.offer(), work.is_offered(3)), (Some(3), true));
        assert_eq!(ids(work.rest()), [3], "the work ended before it was answered");
        assert!(!work.is_offered(3));

        let mut work = Steering::new(false);
        work.waits();
        assert_eq!(work.said(said(2), false), Some(said(2)));
        let mut work = Steering::new(false);
        let left = (0..300).filter_map(|id| work.said(said(id), false));
        assert_eq!(left.count(), 300 - MOST);
    }
}

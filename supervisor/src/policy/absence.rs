//! One word in each chat when the agent is away for long: what was said is kept, and will be answered.
//!
//! | | the agent is there | it is away, not for long yet | it is away for long |
//! |---|---|---|---|
//! | somebody speaks | – | the chat is told when it has been long | the chat is told at once |
//! | it comes back | – | nobody is told | whoever was told is told again next time |

use std::collections::HashSet;
use std::time::{Duration, Instant};

use protocol::id::Lane;

/// Chats that are told in one absence; more are not.
const MOST: usize = 10_000;

/// When to tell, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Away {
    /// After so long an absence.
    pub after: Duration,
    /// The words.
    pub text: String,
}

/// The absence of one agent.
#[derive(Debug)]
pub struct Absence {
    away: Option<Away>,
    /// Since when it is away.
    since: Option<Instant>,
    /// Those that spoke before it had been long.
    waiting: Vec<Lane>,
    known: HashSet<Lane>,
}

impl Absence {
    /// `None`: nobody is told anything.
    pub fn new(away: Option<Away>) -> Self {
        Self { away, since: None, waiting: Vec::new(), known: HashSet::new() }
    }

    /// The words.
    pub fn text(&self) -> Option<&str> {
        self.away.as_ref().map(|away| away.text.as_str())
    }

    /// The agent is there, or not.
    pub fn look(&mut self, is_there: bool, now: Instant) {
        if is_there {
            self.since = None;
            self.waiting.clear();
            self.known.clear();
        } else {
            self.since.get_or_insert(now);
        }
    }

    /// Somebody spoke; whether that chat is to be told now.
    pub fn spoke(&mut self, lane: &Lane, now: Instant) -> bool {
        let (Some(away), Some(since)) = (&self.away, self.since) else { return false };
        if self.known.len() >= MOST || !self.known.insert(lane.clone()) {
            return false;
        }
        let is_long = now >= since + away.after;
        if !is_long {
            self.waiting.push(lane.clone());
        }
        is_long
    }

    /// When those that wait are to be told.
    pub fn deadline(&self) -> Option<Instant> {
        let (away, since) = (self.away.as_ref()?, self.since?);
        (!self.waiting.is_empty()).then_some(since + away.after)
    }

    /// Who is to be told by now.
    pub fn due(&mut self, now: Instant) -> Vec<Lane> {
        if self.deadline().is_none_or(|at| at > now) {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(chat: &str) -> Lane {
        let instance = protocol::id::Instance::new("p").unwrap();
        Lane { instance, chat_id: chat.into(), thread_id: None }
    }

    #[test]
    fn a_chat_is_told_once_in_an_absence_that_is_long() {
        let start = crate::clock::now();
        let at = |s| start + Duration::from_secs(s);
        let away = Away { after: Duration::from_secs(60), text: "later".into() };
        let mut absence = Absence::new(Some(away));
        assert!(!absence.spoke(&lane("a"), at(0)), "it is there");
        absence.look(false, at(10));
        absence.look(false, at(20));
        assert!(!absence.spoke(&lane("a"), at(20)));
        assert_eq!((absence.deadline(), absence.due(at(69)).len()), (Some(at(70)), 0));
        assert_eq!(absence.due(at(70)), [lane("a")]);
        assert!(!absence.spoke(&lane("a"), at(80)), "once");
        assert!(absence.spoke(&lane("b"), at(80)));
        assert_eq!(absence.deadline(), None);
        absence.look(true, at(90));
        absence.look(false, at(100));
        assert!(!absence.spoke(&lane("a"), at(101)));
        absence.look(true, at(110));
        assert!(absence.due(at(500)).is_empty(), "a short one is told to nobody");
        assert!(!Absence::new(None).spoke(&lane("a"), at(0)));
    }
}

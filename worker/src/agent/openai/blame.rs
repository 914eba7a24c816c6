//! Whose fault a failure is that may be the question's and may be the server's. Pure.
//!
//! The evidence is what becomes of other conversations.
//!
//! | what happened | one conversation alone fails | several fail, none succeeds in between |
//! |---|---|---|
//! | no answer, an error, a turn that dies half way | the question | the server |
//! | denied, of no use, malformed | the question, once anything has worked | the settings |
//! | busy, or an unknown key | the server, until others were served so many times in between | the server |
//! | the server is gone behind it | the server, and from the second time the question as well | the server |
//!
//! The question: the attempt counts, and nobody else waits. The server: it takes nothing for a while, and no
//! question pays for that.

use std::collections::HashMap;
use std::time::Duration;

use protocol::id::Lane;

use super::status::Doubt;

/// Until a question is asked again that failed alone: long enough for a server that starts anew,
const PAUSES: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(60)];
/// where the first time need not be more than an accident.
const SOON: Duration = Duration::from_secs(1);
/// Refusals for want of time while others are served, from which on that is no accident.
const MANY: u32 = 5;
/// Conversations that fail and are remembered.
const REMEMBERED: usize = 1024;
/// Attempts at a question that is said to be malformed, where nothing has ever worked.
const TRIES: u32 = 5;

/// Who is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Culprit {
    /// The question: the attempt counts, and its conversation waits so long.
    Question(Duration),
    /// The server: it takes nothing now, and nothing counts.
    Server,
    /// The server is down, and this question was there each time: both.
    Both,
}

/// Who has failed since the last turn that came to its end.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
enum Failing {
    #[default]
    Nobody,
    One(Lane),
    Several,
}

/// What is known.
#[derive(Default, Debug)]
pub(super) struct Blame {
    /// Turns that came to their end.
    worked: u64,
    failing: Failing,
    /// Of each conversation that fails: how often it did with others served since the time before, and how many
    /// were served when it last did.
    beside: HashMap<Lane, (u32, u64)>,
}

impl Blame {
    /// A turn of this conversation came to its end.
    pub(super) fn worked(&mut self, lane: &Lane) {
        self.worked += 1;
        self.failing = Failing::Nobody;
        self.beside.remove(lane);
    }

    /// A question is said to be malformed: whether it is, and not the settings.
    pub(super) fn is_malformed(&self, attempt: u32) -> bool {
        self.worked > 0 || attempt >= TRIES
    }

    /// A turn failed, the `attempt`-th of its event, counted from 1.
    pub(super) fn failed(&mut self, doubt: Doubt, lane: &Lane, attempt: u32) -> Culprit {
        let before = std::mem::take(&mut self.failing);
        self.failing = match before {
            Failing::Nobody => Failing::One(lane.clone()),
            Failing::One(other) if other == *lane => Failing::One(other),
            Failing::One(_) | Failing::Several => Failing::Several,
        };
        let is_alone = self.failing != Failing::Several;
        let beside = self.beside(lane);
        let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let pause = |step: usize| PAUSES.get(step).or(PAUSES.last()).copied().unwrap_or_default();
        let pause = match doubt {
            Doubt::Broken => step.checked_sub(1).map_or(SOON, pause),
            _ => pause(step),
        };
        match doubt {
            Doubt::Away if attempt > 1 => Culprit::Both,
            Doubt::Failed | Doubt::Broken if is_alone => Culprit::Question(pause),
            // Before anything has worked the settings are the likelier mistake.
            Doubt::Denied if is_alone && self.worked > 0 => Culprit::Question(pause),
            Doubt::Busy | Doubt::Key if beside >= MANY => Culprit::Question(pause),
            Doubt::Away
            | Doubt::Failed
            | Doubt::Broken
            | Doubt::Denied
            | Doubt::Busy
            | Doubt::Key => Culprit::Server,
        }
    }

    fn beside(&mut self, lane: &Lane) -> u32 {
        if self.beside.len() >= REMEMBERED && !self.beside.contains_key(lane) {
            self.beside.clear();
        }
        let (times, served) = self.beside.entry(lane.clone()).or_insert((0, self.worked));
        *times += u32::from(*served < self.worked);
        *served = self.worked;
        *times
    }
}

#[cfg(test)]
mod tests {
    use protocol::id::Instance;

    use super::*;

    fn lane(chat: &str) -> Lane {
        let instance = Instance::new("local").unwrap();
        Lane { instance, chat_id: chat.into(), thread_id: None }
    }

    fn pause(secs: u64) -> Culprit {
        Culprit::Question(Duration::from_secs(secs))
    }

    /// F22: a question that always fails is counted each time, and nobody waits for it.
    #[test]
    fn one_that_fails_alone_is_counted_and_several_are_the_servers_fault() {
        let (ann, bob) = (lane("ann"), lane("bob"));
        let mut blame = Blame::default();
        for (attempt, secs) in [(1, 5), (2, 30), (3, 60), (9, 60)] {
            assert_eq!(blame.failed(Doubt::Failed, &ann, attempt), pause(secs));
        }
        assert_eq!(blame.failed(Doubt::Failed, &bob, 1), Culprit::Server);
        assert_eq!(blame.failed(Doubt::Failed, &ann, 4), Culprit::Server);
        blame.worked(&lane("cy"));
        assert_eq!(blame.failed(Doubt::Failed, &bob, 2), pause(30), "others are served");
        blame.worked(&lane("cy"));
        assert_eq!(blame.failed(Doubt::Failed, &ann, 2), pause(30));
    }

    #[test]
    fn what_is_denied_is_a_mistake_of_the_settings_until_something_has_worked() {
        let (ann, bob) = (lane("ann"), lane("bob"));
        let mut blame = Blame::default();
        assert_eq!(blame.failed(Doubt::Denied, &ann, 1), Culprit::Server);
        assert!(!blame.is_malformed(1) && blame.is_malformed(5));
        blame.worked(&bob);
        assert!(blame.is_malformed(1));
        assert_eq!(blame.failed(Doubt::Denied, &ann, 2), pause(30));
        assert_eq!(blame.failed(Doubt::Denied, &bob, 1), Culprit::Server);
    }

    #[test]
    fn a_server_that_falls_is_waited_for_and_a_question_that_fells_it_is_counted() {
        let mut blame = Blame::default();
        assert_eq!(blame.failed(Doubt::Away, &lane("ann"), 1), Culprit::Server);
        assert_eq!(blame.failed(Doubt::Away, &lane("ann"), 2), Culprit::Both);
    }

    /// F20: a server that cuts everybody off is waited for; an accident is tried again soon.
    #[test]
    fn turns_that_die_half_way_are_the_servers_fault_where_all_do() {
        let (ann, bob) = (lane("ann"), lane("bob"));
        let mut blame = Blame::default();
        assert_eq!(blame.failed(Doubt::Broken, &ann, 1), pause(1));
        assert_eq!(blame.failed(Doubt::Broken, &bob, 1), Culprit::Server);
        for attempt in 2..9 {
            assert_eq!(blame.failed(Doubt::Broken, &ann, attempt), Culprit::Server);
        }
        blame.worked(&bob);
        assert_eq!(blame.failed(Doubt::Broken, &ann, 9), pause(60));
    }

    /// F22: a question that makes the server say that it is busy does not keep everybody waiting for ever.
    #[test]
    fn who_is_sent_away_while_others_are_served_is_counted_in_the_end() {
        let (ann, bob) = (lane("ann"), lane("bob"));
        let mut blame = Blame::default();
        for attempt in 1..20 {
            assert_eq!(
                blame.failed(Doubt::Busy, &ann, attempt),
                Culprit::Server,
                "nobody is served"
            );
        }
        for attempt in 0..5 {
            assert_eq!(blame.failed(Doubt::Busy, &ann, 20 + attempt), Culprit::Server);
            blame.worked(&bob);
        }
        assert_eq!(blame.failed(Doubt::Key, &ann, 25), pause(60));
        blame.worked(&ann);
        assert_eq!(blame.failed(Doubt::Busy, &ann, 1), Culprit::Server, "it was served itself");
    }
}

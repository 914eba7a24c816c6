//! Whose fault a failure is that may be the question's and may be the server's. Pure.
//!
//! The evidence is what becomes of other conversations: while one alone fails it is its question, which
//! must not keep anybody else waiting; when several fail and none succeeds in between it is the server,
//! and no question is to pay for that. A question can also bring a server down, again and again.

use std::time::Duration;

use protocol::id::Lane;

use super::status::Doubt;

/// Until a question is asked again that failed alone: long enough for a server that starts anew.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(60)];

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
    has_worked: bool,
    failing: Failing,
}

impl Blame {
    /// A turn came to its end.
    pub(super) fn worked(&mut self) {
        (self.has_worked, self.failing) = (true, Failing::Nobody);
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
        let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let pause = PAUSES.get(step).or(PAUSES.last()).copied().unwrap_or_default();
        match doubt {
            Doubt::Away if attempt > 1 => Culprit::Both,
            Doubt::Failed if is_alone => Culprit::Question(pause),
            // Before anything has worked the settings are the likelier mistake.
            Doubt::Denied if is_alone && self.has_worked => Culprit::Question(pause),
            Doubt::Away | Doubt::Failed | Doubt::Denied => Culprit::Server,
        }
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
        blame.worked();
        assert_eq!(blame.failed(Doubt::Failed, &bob, 2), pause(30), "others are served");
        blame.worked();
        assert_eq!(blame.failed(Doubt::Failed, &ann, 2), pause(30));
    }

    #[test]
    fn what_is_denied_is_a_mistake_of_the_settings_until_something_has_worked() {
        let (ann, bob) = (lane("ann"), lane("bob"));
        let mut blame = Blame::default();
        assert_eq!(blame.failed(Doubt::Denied, &ann, 1), Culprit::Server);
        blame.worked();
        assert_eq!(blame.failed(Doubt::Denied, &ann, 2), pause(30));
        assert_eq!(blame.failed(Doubt::Denied, &bob, 1), Culprit::Server);
    }

    #[test]
    fn a_server_that_falls_is_waited_for_and_a_question_that_fells_it_is_counted() {
        let mut blame = Blame::default();
        assert_eq!(blame.failed(Doubt::Away, &lane("ann"), 1), Culprit::Server);
        assert_eq!(blame.failed(Doubt::Away, &lane("ann"), 2), Culprit::Both);
    }
}

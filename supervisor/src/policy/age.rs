//! What becomes of an event that reaches the agent late, by the time at which it was said.
//!
//! Age is counted by the platform's own timestamp, not by when we heard it: a platform that was down, or
//! a gateway that was, delivers hours later what looks new (F32). Nothing is ever dropped: *keep* sets
//! the event aside with its payload, and a person may still have it delivered.

use std::collections::BTreeMap;
use std::time::Duration;

/// What to do with a late event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Late {
    /// As if it were not late.
    Deliver,
    /// Deliver it and say how late it is.
    #[default]
    Mark,
    /// Set it aside.
    Keep,
}

/// The rule of an instance or a chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What to do.
    pub late: Late,
    /// Older than this is late.
    pub after: Duration,
}

impl Default for Rule {
    fn default() -> Self {
        Self { late: Late::default(), after: Duration::from_secs(600) }
    }
}

/// The rules of one platform instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ages {
    /// For chats without a rule of their own.
    pub rule: Rule,
    /// By the platform's id of the chat.
    pub chats: BTreeMap<String, Rule>,
}

/// Whether anybody has asked for an event by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Nobody.
    No,
    /// A person had it tried again: it is delivered, however old.
    Replayed,
}

/// What to do with one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Deliver it.
    Deliver,
    /// Deliver it, and say that it is so old.
    Mark(Duration),
    /// Set it aside: it is so old.
    Keep(Duration),
}

impl Ages {
    /// What becomes of an event of `chat` that was said `age` ago.
    pub fn judge(&self, chat: &str, age: Duration, asked: Asked) -> Verdict {
        let rule = self.chats.get(chat).unwrap_or(&self.rule);
        if age <= rule.after {
            return Verdict::Deliver;
        }
        match (rule.late, asked) {
            (Late::Deliver, _) => Verdict::Deliver,
            (Late::Mark, _) | (Late::Keep, Asked::Replayed) => Verdict::Mark(age),
            (Late::Keep, Asked::No) => Verdict::Keep(age),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_does_what_it_says_and_a_chat_may_have_its_own() {
        let after = Duration::from_secs(60);
        let rule = |late| Rule { late, after };
        let chats = BTreeMap::from([("c".to_owned(), rule(Late::Keep))]);
        let old = after * 2;
        for (late, verdict) in [
            (Late::Deliver, Verdict::Deliver),
            (Late::Mark, Verdict::Mark(old)),
            (Late::Keep, Verdict::Keep(old)),
        ] {
            let ages = Ages { rule: rule(late), chats: chats.clone() };
            assert_eq!(ages.judge("other", old, Asked::No), verdict);
            assert_eq!(ages.judge("other", after, Asked::No), Verdict::Deliver, "in time");
            assert_eq!(ages.judge("c", old, Asked::No), Verdict::Keep(old));
            assert_eq!(ages.judge("c", old, Asked::Replayed), Verdict::Mark(old));
        }
    }
}

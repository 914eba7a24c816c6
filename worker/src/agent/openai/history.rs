//! What was said in each conversation, for a server that remembers nothing. Pure, and bounded.
//!
//! It lives in the worker's memory: a restart forgets it, and with it nothing that is owed to anybody.
//! A question is kept only together with its answer.

use std::collections::{HashMap, VecDeque};

use protocol::id::Lane;
use serde_json::{Value, json};

/// Questions with their answers, of one conversation.
const TURNS: usize = 20;
/// Their bytes.
const BYTES: usize = 64 * 1024;
/// Conversations.
const LANES: usize = 1024;

/// One conversation.
#[derive(Debug, Default)]
struct Talk {
    turns: VecDeque<(String, String)>,
    used: u64,
}

/// All conversations.
#[derive(Debug, Default)]
pub(super) struct History {
    talks: HashMap<Lane, Talk>,
    clock: u64,
}

impl History {
    /// The messages of a request.
    pub(super) fn messages(&self, lane: &Lane, system: Option<&str>, question: &str) -> Vec<Value> {
        let say = |role: &str, text: &str| json!({ "role": role, "content": text });
        let mut messages: Vec<Value> = system.map(|text| say("system", text)).into_iter().collect();
        for (question, answer) in self.talks.get(lane).map(|talk| &talk.turns).into_iter().flatten()
        {
            messages.extend([say("user", question), say("assistant", answer)]);
        }
        messages.push(say("user", question));
        messages
    }

    /// A question has its answer.
    pub(super) fn add(&mut self, lane: &Lane, question: String, answer: String) {
        self.clock += 1;
        let talk = self.talks.entry(lane.clone()).or_default();
        talk.used = self.clock;
        talk.turns.push_back((question, answer));
        let size = |turns: &VecDeque<(String, String)>| {
            turns.iter().map(|(question, answer)| question.len() + answer.len()).sum::<usize>()
        };
        while talk.turns.len() > TURNS || size(&talk.turns) > BYTES {
            talk.turns.pop_front();
        }
        if self.talks.len() > LANES {
            let oldest = self.talks.iter().min_by_key(|(_, talk)| talk.used);
            if let Some(oldest) = oldest.map(|(lane, _)| lane.clone()) {
                self.talks.remove(&oldest);
            }
        }
    }

    /// Forgets the older half of a conversation; whether there was any.
    pub(super) fn halve(&mut self, lane: &Lane) -> bool {
        let Some(talk) = self.talks.get_mut(lane) else { return false };
        let half = talk.turns.len().div_ceil(2);
        talk.turns.drain(..half);
        half > 0
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

    fn texts(history: &History, chat: &str) -> Vec<String> {
        let messages = history.messages(&lane(chat), Some("be kind"), "now");
        messages.iter().map(|it| it["content"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn whole_turns_are_kept_within_bounds_and_apart() {
        let mut history = History::default();
        for n in 0..30 {
            history.add(&lane("a"), format!("q{n}"), format!("a{n}"));
        }
        let found = texts(&history, "a");
        assert_eq!((found.len(), found[0].as_str(), found[1].as_str()), (42, "be kind", "q10"));
        assert_eq!(texts(&history, "b"), ["be kind", "now"]);
        assert!(history.halve(&lane("a")) && !history.halve(&lane("b")));
        assert_eq!(texts(&history, "a")[1], "q20");
        history.add(&lane("a"), "q".into(), "x".repeat(BYTES));
        assert_eq!(texts(&history, "a"), ["be kind", "now"], "one that is too large is not kept");
        for n in 0..2000 {
            history.add(&lane(&n.to_string()), "q".into(), "a".into());
        }
        assert!(history.talks.len() <= LANES && texts(&history, "1999").len() == 4);
    }
}

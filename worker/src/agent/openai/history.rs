//! What was said in a conversation, for a server that remembers nothing. Pure, and bounded.
//!
//! It is kept by the supervisor as the conversation's note, in one transaction with the answer that it ends
//! with, and comes back with the next event. So nothing of it lies here, and an event that is answered in it
//! is not asked again. A question that was stopped before its answer goes with the next one.

use std::collections::VecDeque;

use protocol::event::NOTE_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Questions with their answers, of one conversation.
const TURNS: usize = 20;
/// Their bytes.
const BYTES: usize = 64 * 1024;

/// One conversation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct History {
    /// Questions and answers, the oldest first; an empty answer: it was stopped before there was one.
    turns: VecDeque<(String, String)>,
    /// The event that was answered last.
    last: Option<u64>,
}

impl History {
    /// From a conversation's note. One that cannot be read is empty.
    pub(super) fn read(note: &[u8]) -> Self {
        serde_json::from_slice(note).unwrap_or_default()
    }

    /// Whether it ends with the answer to this event.
    pub(super) fn has_answered(&self, event_id: u64) -> bool {
        self.last == Some(event_id)
    }

    /// The messages of a request; `question` is the content of the last one.
    pub(super) fn messages(&self, system: Option<&str>, question: Value) -> Vec<Value> {
        let say = |role: &str, text: &str| json!({ "role": role, "content": text });
        let mut messages: Vec<Value> = system.map(|text| say("system", text)).into_iter().collect();
        let mut open = String::new();
        for (question, answer) in &self.turns {
            open.push_str(question);
            if answer.is_empty() {
                open.push_str("\n\n");
            } else {
                messages.extend([say("user", &open), say("assistant", answer)]);
                open.clear();
            }
        }
        let question = match question {
            Value::String(text) => Value::String(format!("{open}{text}")),
            Value::Array(mut parts) if !open.is_empty() => {
                parts.insert(0, json!({ "type": "text", "text": open.trim_end() }));
                Value::Array(parts)
            }
            other => other,
        };
        messages.push(json!({ "role": "user", "content": question }));
        messages
    }

    /// The note with one more question and its answer.
    pub(super) fn note(&self, event_id: u64, question: &str, answer: &str) -> Vec<u8> {
        let mut next = self.clone();
        next.last = Some(event_id);
        next.turns.push_back((question.to_owned(), answer.to_owned()));
        let size = |turns: &VecDeque<(String, String)>| {
            turns.iter().map(|(question, answer)| question.len() + answer.len()).sum::<usize>()
        };
        loop {
            let whole = serde_json::to_vec(&next).unwrap_or_default();
            let fits = next.turns.len() <= TURNS && size(&next.turns) <= BYTES;
            if (fits && whole.len() <= NOTE_MAX) || next.turns.is_empty() {
                return whole;
            }
            next.turns.pop_front();
        }
    }

    /// Forgets the older half; whether there was any.
    pub(super) fn halve(&mut self) -> bool {
        let half = self.turns.len().div_ceil(2);
        self.turns.drain(..half);
        half > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(history: &History) -> Vec<String> {
        let messages = history.messages(Some("be kind"), json!("now"));
        messages.iter().map(|it| it["content"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn whole_turns_are_kept_within_bounds() {
        let mut history = History::read(b"no note");
        for n in 0..30_u64 {
            let note = history.note(n, &format!("q{n}"), &format!("a{n}"));
            assert!(note.len() <= NOTE_MAX);
            history = History::read(&note);
            assert!(history.has_answered(n) && !history.has_answered(n + 1));
        }
        let found = texts(&history);
        assert_eq!((found.len(), found[0].as_str(), found[1].as_str()), (42, "be kind", "q10"));
        assert!(history.halve());
        assert_eq!(texts(&history)[1], "q20");
        assert!(!History::default().halve());
        let large = History::read(&history.note(31, "q", &"x".repeat(BYTES)));
        assert_eq!(texts(&large), ["be kind", "now"], "one that is too large is not kept");
        assert!(large.has_answered(31));
        // As JSON each of them takes six bytes.
        let escaped = history.note(32, "q", &"\u{1}".repeat(BYTES / 2));
        assert!(escaped.len() <= NOTE_MAX);
    }

    #[test]
    fn a_question_without_an_answer_goes_with_the_next() {
        let history = History::read(&History::default().note(1, "first", ""));
        assert_eq!(texts(&history), ["be kind", "first\n\nnow"]);
        let parts = history.messages(None, json!([{ "type": "text", "text": "see" }]));
        assert_eq!(parts[0]["content"][0]["text"], "first");
        assert_eq!(parts[0]["content"][1]["text"], "see");
        let history = History::read(&history.note(2, "second", "answer"));
        assert_eq!(texts(&history), ["be kind", "first\n\nsecond", "answer", "now"]);
    }
}

//! Drafts on their way to one platform: only the newest of each reply matters.
//!
//! The platform shows each at its own pace and says so; what comes meanwhile replaces what waits. So
//! there is never more than one on its way and one waiting for each reply, however quickly an agent
//! writes.
//!
//! | input ↓ | nothing known | on its way | on its way, one waits |
//! |---|---|---|---|
//! | offered | send it | it waits | it replaces the waiting one |
//! | shown | – | forget | send the waiting one |
//! | over (the reply is accepted) | – | forget | forget both |
//! | down (the worker is gone) | – | forget | forget both |

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use protocol::content::Draft;

/// Replies that are in the making at once. Drafts of more are not shown.
const MOST: usize = 256;

/// The drafts of one platform instance.
#[derive(Debug, Default)]
pub struct Drafts {
    /// By key: a draft is on its way, and what waits for it to be shown.
    known: HashMap<String, Option<Box<Draft>>>,
    /// By key: replies that end what the draft of another one has shown, and its key.
    ends: HashMap<String, String>,
}

impl Drafts {
    /// An agent's reply has grown. What is to be sent.
    pub fn offered(&mut self, draft: Box<Draft>) -> Option<Box<Draft>> {
        let room = self.known.len() < MOST;
        match self.known.entry(draft.key.clone()) {
            Entry::Occupied(mut known) => {
                known.insert(Some(draft));
                None
            }
            Entry::Vacant(vacant) if room => {
                vacant.insert(None);
                Some(draft)
            }
            Entry::Vacant(_) => None,
        }
    }

    /// The platform has shown the one that was on its way. What is to be sent.
    pub fn shown(&mut self, key: &str) -> Option<Box<Draft>> {
        let next = self.known.get_mut(key)?.take();
        if next.is_none() {
            self.known.remove(key);
        }
        next
    }

    /// Its reply is there.
    pub fn over(&mut self, key: &str) {
        self.known.remove(key);
    }

    /// The reply of this key ends what the draft of another key has shown.
    pub fn ended_by(&mut self, draft: &str, key: String) {
        self.over(draft);
        if self.ends.len() >= MOST {
            self.ends.clear();
        }
        self.ends.insert(key, draft.to_owned());
    }

    /// The key of the draft that the reply of this key ends.
    pub fn of(&self, key: &str) -> Option<String> {
        self.ends.get(key).cloned()
    }

    /// Whether a draft was ended by another reply, and is not in the making again.
    pub fn has_ended(&self, key: &str) -> bool {
        !self.known.contains_key(key) && self.ends.values().any(|draft| draft == key)
    }

    /// The worker is gone, and what it had.
    pub fn down(&mut self) {
        self.known.clear();
        self.ends.clear();
    }
}

/// The messages that show drafts, by the keys of their replies, as the store has them: a worker that knows of
/// none goes on in the one that a worker before it has made.
#[derive(Debug, Default)]
pub struct Shown(HashMap<String, String>);

impl Shown {
    /// A message shows the newest draft.
    pub fn made(&mut self, key: &str, message_id: &str) {
        if self.0.len() >= 4 * MOST && !self.0.contains_key(key) {
            self.0.clear();
        }
        self.0.insert(key.to_owned(), message_id.to_owned());
    }

    /// The message that shows the draft of this key.
    pub fn of(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    /// Its reply is there, or another one ends it.
    pub fn over(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// Of a draft without a reply, so much is kept, in bytes.
const KEPT: usize = 32 * 1024;

/// What one agent has shown of replies that are not there yet, by the events that it works on: should an
/// event be set aside, what people see of its answer must not look as if more came.
#[derive(Debug, Default)]
pub struct Unfinished {
    known: HashMap<u64, Box<Draft>>,
}

impl Unfinished {
    /// A draft was shown while the agent worked on an event.
    pub fn grown(&mut self, event: u64, draft: &Draft) {
        if self.known.len() < MOST || self.known.contains_key(&event) {
            let text = draft.text.get(..draft.text.floor_char_boundary(KEPT)).unwrap_or_default();
            let Draft { key, lane, reply_to, .. } = draft;
            let (key, lane, reply_to) = (key.clone(), lane.clone(), reply_to.clone());
            self.known.insert(
                event,
                Box::new(Draft { key, lane, reply_to, text: text.to_owned(), message_id: None }),
            );
        }
    }

    /// The reply of a draft is there.
    pub fn over(&mut self, key: &str) {
        self.known.retain(|_, draft| draft.key != key);
    }

    /// An event has come to its end; what people still see of an answer.
    pub fn ended(&mut self, event: u64) -> Option<Box<Draft>> {
        self.known.remove(&event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_known_until_its_reply_or_its_event_is_over() {
        let mut unfinished = Unfinished::default();
        for (event, key, text) in [(1, "a", "one"), (1, "a", "one two"), (2, "b", "x")] {
            unfinished.grown(event, &draft(key, text));
        }
        unfinished.over("b");
        assert!(unfinished.ended(2).is_none());
        assert_eq!(unfinished.ended(1).unwrap().text, "one two");
        assert!(unfinished.ended(1).is_none());
        let long = draft("c", &"断".repeat(KEPT));
        unfinished.grown(3, &long);
        assert!(unfinished.ended(3).unwrap().text.len() <= KEPT);
    }

    fn draft(key: &str, text: &str) -> Box<Draft> {
        let instance = protocol::id::Instance::new("p").unwrap();
        let lane = protocol::id::Lane { instance, chat_id: "c".into(), thread_id: None };
        Box::new(Draft {
            key: key.into(),
            lane,
            reply_to: None,
            text: text.into(),
            message_id: None,
        })
    }

    fn text(draft: Option<Box<Draft>>) -> Option<String> {
        draft.map(|draft| draft.text)
    }

    #[test]
    fn only_the_newest_follows_what_was_shown() {
        let mut drafts = Drafts::default();
        assert_eq!(text(drafts.offered(draft("a", "1"))).as_deref(), Some("1"));
        assert_eq!(text(drafts.offered(draft("a", "2"))), None);
        assert_eq!(text(drafts.offered(draft("a", "3"))), None);
        assert_eq!(text(drafts.offered(draft("b", "1"))).as_deref(), Some("1"), "its own pace");
        assert_eq!(text(drafts.shown("a")).as_deref(), Some("3"));
        assert_eq!(text(drafts.shown("a")), None);
        assert_eq!(text(drafts.offered(draft("a", "4"))).as_deref(), Some("4"));
    }

    #[test]
    fn nothing_follows_a_reply_or_a_worker_that_is_gone() {
        let mut drafts = Drafts::default();
        for end in [|drafts: &mut Drafts| drafts.over("a"), Drafts::down] {
            let _ = drafts.offered(draft("a", "1"));
            let _ = drafts.offered(draft("a", "2"));
            end(&mut drafts);
            assert_eq!(text(drafts.shown("a")), None);
            assert!(drafts.known.is_empty());
        }
    }

    #[test]
    fn another_reply_may_end_a_draft() {
        let mut drafts = Drafts::default();
        let _ = drafts.offered(draft("a", "1"));
        let _ = drafts.offered(draft("a", "2"));
        drafts.ended_by("a", "z".into());
        assert_eq!(text(drafts.shown("a")), None, "nothing follows it");
        assert_eq!((drafts.of("z").as_deref(), drafts.of("b")), (Some("a"), None));
        assert!(drafts.has_ended("a") && !drafts.has_ended("b"));
        let _ = drafts.offered(draft("a", "again"));
        assert!(!drafts.has_ended("a"));
        drafts.down();
        assert_eq!(drafts.of("z"), None);
    }

    #[test]
    fn there_is_a_bound() {
        let mut drafts = Drafts::default();
        for number in 0..MOST {
            assert!(drafts.offered(draft(&number.to_string(), "")).is_some());
        }
        assert!(drafts.offered(draft("one more", "")).is_none());
        assert!(drafts.shown("0").is_none());
        assert!(drafts.offered(draft("one more", "")).is_some());
    }
}

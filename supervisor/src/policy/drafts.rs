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

    /// The worker is gone, and what it had.
    pub fn down(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(key: &str, text: &str) -> Box<Draft> {
        let instance = protocol::id::Instance::new("p").unwrap();
        let lane = protocol::id::Lane { instance, chat_id: "c".into(), thread_id: None };
        Box::new(Draft { key: key.into(), lane, reply_to: None, text: text.into() })
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

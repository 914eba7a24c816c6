//! Programs that answer one another for ever: in each chat they are heard a few times in a row, and then
//! not until a person has spoken or the chat was quiet for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What programs may say in a row.
const MOST: u32 = 5;
/// Quiet that long, they may begin anew.
const QUIET: Duration = Duration::from_secs(600);
/// Chats that are remembered. Only those in which a program spoke of late are.
const CHATS: usize = 1024;

/// The chats of one platform instance.
#[derive(Debug, Default)]
pub struct Loops {
    chats: HashMap<String, (u32, Instant)>,
}

impl Loops {
    /// Whether what a program says in `chat` is to be heard.
    pub fn program(&mut self, chat: &str, now: Instant) -> bool {
        let quiet = |since: Instant| now.saturating_duration_since(since) >= QUIET;
        if self.chats.len() >= CHATS {
            self.chats.retain(|_, (_, last)| !quiet(*last));
        }
        if self.chats.len() >= CHATS && !self.chats.contains_key(chat) {
            return false;
        }
        let (said, last) = self.chats.entry(chat.to_owned()).or_insert((0, now));
        if quiet(*last) {
            *said = 0;
        }
        *last = now;
        *said = said.saturating_add(1);
        *said <= MOST
    }

    /// What was to be heard in `chat` was not kept: it comes again, or had come before.
    pub fn take_back(&mut self, chat: &str) {
        if let Some((said, _)) = self.chats.get_mut(chat) {
            *said = said.saturating_sub(1);
        }
    }

    /// A person has spoken in `chat`.
    pub fn person(&mut self, chat: &str) {
        self.chats.remove(chat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_programs_in_one_group_come_to_an_end() {
        let start = crate::clock::now();
        let mut loops = Loops::default();
        let heard = |loops: &mut Loops, at| (0..20).filter(|_| loops.program("c", at)).count();
        assert_eq!(heard(&mut loops, start), 5);
        assert_eq!(heard(&mut loops, start + QUIET / 2), 0, "they have not been quiet");
        assert!(loops.program("d", start), "another chat");
        loops.person("c");
        assert_eq!(heard(&mut loops, start + QUIET / 2), 5);
        assert_eq!(heard(&mut loops, start + 2 * QUIET), 5);
    }

    /// Repetitions of one event are one event.
    #[test]
    fn what_is_refused_is_heard_when_it_comes_again() {
        let now = crate::clock::now();
        let mut loops = Loops::default();
        for _ in 0..20 {
            assert!(loops.program("c", now));
            loops.take_back("c");
        }
        assert_eq!((0..20).filter(|_| loops.program("c", now)).count(), 5);
    }

    #[test]
    fn a_flood_of_chats_is_bounded() {
        let start = crate::clock::now();
        let mut loops = Loops::default();
        for number in 0..2 * CHATS {
            loops.program(&number.to_string(), start);
        }
        assert_eq!(loops.chats.len(), CHATS);
        assert!(loops.program("late", start + QUIET));
    }
}

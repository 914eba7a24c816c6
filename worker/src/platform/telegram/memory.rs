//! What has to outlive a worker: it is the cursor, and nothing else is. Pure.
//!
//! The webhook that we have set, so that nobody takes it for another program's, and the groups that go on under
//! another id: the platform tells that once, and what people have decided about a group holds for ever.

use protocol::worker::Cursor;
use serde::{Deserialize, Serialize};

/// Groups that are remembered. Few ever move; the one that moved first is forgotten first.
const MOVED_MAX: usize = 1024;

/// What is remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The webhook that we have set ourselves, now or in an earlier life.
    #[serde(default)]
    pub(super) webhook: Option<String>,
    /// The old and the new id of each.
    #[serde(default)]
    moved: Vec<(i64, i64)>,
}

impl Memory {
    /// What an earlier life remembered.
    pub(super) fn read(cursor: Option<&Cursor>) -> Self {
        let Some(Cursor(bytes)) = cursor else { return Self::default() };
        serde_json::from_slice(bytes).unwrap_or_else(|_| {
            // Formerly the webhook alone.
            let webhook = String::from_utf8(bytes.clone()).ok().filter(|url| !url.is_empty());
            Self { webhook, moved: Vec::new() }
        })
    }

    /// For a later life.
    pub(super) fn cursor(&self) -> Cursor {
        if *self == Self::default() {
            return Cursor::default();
        }
        Cursor(serde_json::to_vec(self).unwrap_or_default())
    }

    /// A group goes on under another id.
    pub(super) fn moved(&mut self, from: i64, to: i64) {
        self.moved.retain(|(known, _)| *known != from);
        if self.moved.len() >= MOVED_MAX {
            self.moved.remove(0);
        }
        self.moved.push((from, to));
    }

    /// Under which id a chat goes on.
    pub(super) fn now_at(&self, chat: i64) -> i64 {
        self.moved.iter().find(|(from, _)| *from == chat).map_or(chat, |(_, to)| *to)
    }

    /// The id that a chat had before.
    pub(super) fn former(&self, chat: i64) -> Option<i64> {
        self.moved.iter().find(|(_, to)| *to == chat).map(|(from, _)| *from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let mut memory = Memory { webhook: Some("https://x.y/z".to_owned()), ..Memory::default() };
        memory.moved(-1, -1001);
        memory.moved(-2, -1002);
        memory.moved(-1, -1001);
        let read = Memory::read(Some(&memory.cursor()));
        assert_eq!(read, memory);
        assert_eq!((read.now_at(-1), read.now_at(-3), read.moved.len()), (-1001, -3, 2));
        assert_eq!((read.former(-1002), read.former(-2)), (Some(-2), None));
        assert_eq!(Memory::read(None), Memory::default());
        assert_eq!(Memory::read(Some(&Cursor(Vec::new()))), Memory::default());
    }

    #[test]
    fn a_webhook_alone_is_understood() {
        let memory = Memory::read(Some(&Cursor(b"https://x.y/z".to_vec())));
        assert_eq!(memory.webhook.as_deref(), Some("https://x.y/z"));
    }

    #[test]
    fn the_first_to_move_is_forgotten_first() {
        let mut memory = Memory::default();
        for chat in (0..).take(MOVED_MAX + 1) {
            memory.moved(-chat, -1000 - chat);
        }
        assert_eq!(
            (memory.moved.len(), memory.former(-1000), memory.former(-1001)),
            (MOVED_MAX, None, Some(-1))
        );
    }
}

//! What one run remembers to answer well: the bot's latest messages and the latest one in each thread.
//! Pure and bounded; losing it costs comfort, never a message.

use std::collections::{HashMap, HashSet, VecDeque};

const SENT_MAX: usize = 1024;
const THREADS_MAX: usize = 512;

/// Ids of messages.
#[derive(Debug, Default)]
pub(super) struct Memory {
    sent: HashSet<String>,
    sent_order: VecDeque<String>,
    threads: HashMap<String, String>,
    threads_order: VecDeque<String>,
}

impl Memory {
    /// The bot sent this message.
    pub(super) fn sent(&mut self, message_id: &str) {
        if self.sent.insert(message_id.to_owned()) {
            self.sent_order.push_back(message_id.to_owned());
        }
        if self.sent_order.len() > SENT_MAX
            && let Some(oldest) = self.sent_order.pop_front()
        {
            self.sent.remove(&oldest);
        }
    }

    /// Whether it did, not long ago.
    pub(super) fn is_ours(&self, message_id: &str) -> bool {
        self.sent.contains(message_id)
    }

    /// This message arrived in this thread.
    pub(super) fn heard_in(&mut self, thread_id: &str, message_id: &str) {
        if self.threads.insert(thread_id.to_owned(), message_id.to_owned()).is_none() {
            self.threads_order.push_back(thread_id.to_owned());
        }
        if self.threads_order.len() > THREADS_MAX
            && let Some(oldest) = self.threads_order.pop_front()
        {
            self.threads.remove(&oldest);
        }
    }

    /// The latest message in this thread.
    pub(super) fn latest_in(&self, thread_id: Option<&str>) -> Option<String> {
        self.threads.get(thread_id?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_latest_and_stays_small() {
        let mut memory = Memory::default();
        for i in 0..3000 {
            memory.sent(&format!("om_{i}"));
            memory.heard_in(&format!("omt_{i}"), "om_a");
            memory.heard_in(&format!("omt_{i}"), "om_b");
        }
        assert!(
            memory.is_ours("om_2999") && memory.is_ours("om_1976") && !memory.is_ours("om_1975")
        );
        assert_eq!(memory.latest_in(Some("omt_2999")).as_deref(), Some("om_b"));
        assert_eq!(memory.latest_in(Some("omt_1")), None);
        assert_eq!(memory.latest_in(None), None);
        assert_eq!((memory.sent.len(), memory.threads.len()), (SENT_MAX, THREADS_MAX));
    }
}

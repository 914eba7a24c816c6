//! What a worker has sent and has no verdict for: the credits of its link.
//!
//! A worker has a window of things and of bytes. Something that is larger than the whole window of
//! bytes may still go when nothing else is on its way, or it would wait for ever.

use std::collections::HashMap;

use protocol::id::Seq;

/// Things on their way, each with whoever waits for its verdict.
#[derive(Debug)]
pub struct Unacked<W> {
    window: usize,
    window_bytes: usize,
    bytes: usize,
    next: u64,
    waiting: HashMap<Seq, (usize, W)>,
}

impl<W> Unacked<W> {
    /// Nothing on its way.
    pub fn new(window: u32, window_bytes: u32) -> Self {
        Self {
            window: window.max(1) as usize,
            window_bytes: window_bytes as usize,
            bytes: 0,
            next: 1,
            waiting: HashMap::new(),
        }
    }

    /// May one more be sent?
    pub fn has_credit(&self) -> bool {
        self.waiting.is_empty()
            || (self.waiting.len() < self.window && self.bytes < self.window_bytes)
    }

    /// One more is sent: its number.
    pub fn sent(&mut self, bytes: usize, waiter: W) -> Seq {
        let seq = Seq(self.next);
        self.next += 1;
        self.bytes += bytes;
        self.waiting.insert(seq, (bytes, waiter));
        seq
    }

    /// Its verdict is here: who waits for it. `None`: nobody does, which the other side must not do.
    pub fn answered(&mut self, seq: Seq) -> Option<W> {
        let (bytes, waiter) = self.waiting.remove(&seq)?;
        self.bytes -= bytes;
        Some(waiter)
    }

    /// Nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_windows_hold_and_a_giant_passes_alone() {
        let mut unacked = Unacked::new(2, 100);
        let a = unacked.sent(10, 'a');
        assert!(unacked.has_credit());
        let b = unacked.sent(10, 'b');
        assert!(!unacked.has_credit(), "two are the window");
        assert_eq!(unacked.answered(a), Some('a'));
        assert_eq!(unacked.answered(a), None);
        let c = unacked.sent(500, 'c');
        assert!(!unacked.has_credit());
        assert_eq!(unacked.answered(b), Some('b'));
        assert!(!unacked.has_credit(), "too many bytes");
        assert_eq!(unacked.answered(c), Some('c'));
        assert!(unacked.has_credit() && unacked.is_empty());
    }
}

//! Events of one chat that must not overtake each other while the platform is asked about one of them.
//!
//! Whoever has to ask takes a place; whoever comes after in the same chat waits for that place, and so
//! on. Chats in which nobody asks cost nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A place in the row of one chat. Dropped, the next may go.
#[derive(Debug)]
pub(super) struct Place {
    chat: String,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    /// Its end is what the next one waits for.
    #[expect(dead_code, reason = "held until dropped")]
    done: oneshot::Sender<()>,
    rows: Rows,
}

type Rows = Arc<Mutex<HashMap<String, (u64, oneshot::Receiver<()>)>>>;

/// The chats in which somebody waits.
#[derive(Debug, Default)]
pub(super) struct Order {
    rows: Rows,
    last: Mutex<u64>,
}

impl Order {
    /// A place in the row of `chat`; none is needed if nobody is in it and this one need not wait.
    pub(super) fn place(&self, chat: &str, must_ask: bool) -> Option<Place> {
        let mut rows = lock(&self.rows);
        if !must_ask && !rows.contains_key(chat) {
            return None;
        }
        let mut last = lock(&self.last);
        *last += 1;
        let (done, over) = oneshot::channel();
        let before = rows.insert(chat.to_owned(), (*last, over)).map(|(_, before)| before);
        Some(Place { chat: chat.to_owned(), number: *last, before, done, rows: self.rows.clone() })
    }
}

impl Place {
    /// Waits until everybody before has gone.
    pub(super) async fn turn(&mut self) {
        if let Some(before) = self.before.take() {
            // Its end comes as an error: nothing is ever sent.
            let _ = before.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rows = lock(&self.rows);
        if rows.get(&self.chat).is_some_and(|(number, _)| *number == self.number) {
            rows.remove(&self.chat);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_after_waits_and_others_do_not() {
        let order = Order::default();
        assert!(order.place("a", false).is_none());
        let first = order.place("a", true).unwrap();
        let mut second = order.place("a", false).unwrap();
        assert!(order.place("b", false).is_none());
        let waits = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(waits, second.turn()).await.is_err());
        let mut third = order.place("a", false).unwrap();
        drop(first);
        drop(second);
        third.turn().await;
        drop(third);
        assert!(order.place("a", false).is_none(), "the row is empty again");
    }
}

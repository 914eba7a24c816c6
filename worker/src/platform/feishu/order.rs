//! Events of one chat that must not overtake each other while the platform is asked about one of them.
//!
//! Whoever has to ask takes a place; whoever comes after in the same chat waits for that place, and so
//! on. Chats in which nobody asks cost nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::clock::{self, Instant};

/// A place in the row of one chat. Dropped, the next may go.
#[derive(Debug)]
pub(super) struct Place {
    chat: String,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    /// Since when somebody waits for this one.
    awaited: watch::Receiver<Option<Instant>>,
    /// Its end is what the next one waits for.
    #[expect(dead_code, reason = "held until dropped")]
    done: oneshot::Sender<()>,
    rows: Rows,
}

type Rows = Arc<Mutex<HashMap<String, Last>>>;

/// The last place in a row.
#[derive(Debug)]
struct Last {
    number: u64,
    over: oneshot::Receiver<()>,
    awaited: watch::Sender<Option<Instant>>,
}

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
        let (tell, awaited) = watch::channel(None);
        let ours = Last { number: *last, over, awaited: tell };
        let before = rows.insert(chat.to_owned(), ours).map(|before| {
            before.awaited.send_replace(Some(clock::now()));
            before.over
        });
        let (chat, rows) = (chat.to_owned(), self.rows.clone());
        Some(Place { chat, number: *last, before, awaited, done, rows })
    }
}

impl Place {
    /// Waits until everybody before has gone.
    pub(super) async fn turn(&mut self) {
        self.before().await;
    }

    /// The same, to be waited for elsewhere.
    pub(super) fn before(&mut self) -> impl Future<Output = ()> + use<> {
        let before = self.before.take();
        async {
            if let Some(before) = before {
                // Its end comes as an error: nothing is ever sent.
                let _ = before.await;
            }
        }
    }
}

impl Place {
    /// Since when somebody waits for it.
    pub(super) fn awaited(&self) -> Option<Instant> {
        *self.awaited.borrow()
    }

    /// Whether somebody has waited for it for so long.
    pub(super) fn is_overdue(&self, patience: Duration) -> bool {
        self.awaited().is_some_and(|since| clock::now().duration_since(since) >= patience)
    }

    /// Comes when somebody has waited for it for so long.
    pub(super) fn overdue(&self, patience: Duration) -> impl Future<Output = ()> + use<> {
        let mut awaited = self.awaited.clone();
        async move {
            match awaited.wait_for(Option::is_some).await.map(|since| *since) {
                Ok(Some(since)) => tokio::time::sleep_until(since + patience).await,
                // Nobody can come behind it any more.
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rows = lock(&self.rows);
        if rows.get(&self.chat).is_some_and(|last| last.number == self.number) {
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
        assert!(first.awaited().is_some() && third.awaited().is_none());
        first.overdue(waits).await;
        assert!(tokio::time::timeout(waits, third.overdue(waits)).await.is_err());
        drop(first);
        drop(second);
        third.turn().await;
        drop(third);
        assert!(order.place("a", false).is_none(), "the row is empty again");
    }
}

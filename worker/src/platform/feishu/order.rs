//! Events of one chat that must not overtake each other while the platform is asked about one of them.
//!
//! Whoever has to ask takes a place; whoever comes after in the same chat waits for that place, and so
//! on, for a while at most. Who waits too long to be answered is taken in his turn all the same: the platform tells
//! him again, and he is known then. Chats in which nobody asks cost nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout_at;

use crate::clock::{self, Instant};

/// A place in the row of one chat. Dropped, the next may go.
#[derive(Debug)]
pub(super) struct Place {
    chat: String,
    number: u64,
    taken: Instant,
    /// As long as anybody waits for others; then they are passed.
    longest: Duration,
    before: Option<oneshot::Receiver<()>>,
    /// Since when somebody waits for this one.
    awaited: watch::Receiver<Option<Instant>>,
    /// Its end is what the next one waits for.
    done: Option<oneshot::Sender<()>>,
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
#[derive(Debug)]
pub(super) struct Order {
    longest: Duration,
    rows: Rows,
    last: Mutex<u64>,
}

impl Order {
    /// Nobody waits for longer.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, rows: Rows::default(), last: Mutex::default() }
    }

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
        let taken = clock::now();
        let ours = Last { number: *last, over, awaited: tell };
        let before = rows.insert(chat.to_owned(), ours).map(|before| {
            before.awaited.send_replace(Some(taken));
            before.over
        });
        let (chat, rows) = (chat.to_owned(), self.rows.clone());
        let (number, longest, done) = (*last, self.longest, Some(done));
        Some(Place { chat, number, taken, longest, before, awaited, done, rows })
    }
}

impl Place {
    /// Waits until everybody before has gone, or passes them. Whether they have gone.
    pub(super) async fn turn(&mut self) -> bool {
        let Some(before) = &mut self.before else { return true };
        // Its end comes as an error: nothing is ever sent.
        let have_gone = timeout_at(self.taken + self.longest, before).await.is_ok();
        self.before = None;
        have_gone
    }

    /// Since when somebody waits for it who has not passed it.
    pub(super) fn awaited(&self) -> Option<Instant> {
        let since = *self.awaited.borrow();
        since.filter(|since| clock::now().duration_since(*since) < self.longest)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (chat, number, rows) = (self.chat.clone(), self.number, self.rows.clone());
        let done = self.done.take();
        let leave = move || {
            let mut rows = lock(&rows);
            if rows.get(&chat).is_some_and(|last| last.number == number) {
                rows.remove(&chat);
            }
            drop(done);
        };
        // Whoever gives up before his turn lets nobody pass whom he was behind.
        match (self.before.take(), tokio::runtime::Handle::try_current()) {
            (Some(before), Ok(runtime)) => drop(runtime.spawn(async move {
                let _ = before.await;
                leave();
            })),
            _ => leave(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(15);

    #[tokio::test]
    async fn who_comes_after_waits_and_others_do_not() {
        let order = Order::new(LONGEST);
        assert!(order.place("a", false).is_none());
        let first = order.place("a", true).unwrap();
        let mut second = order.place("a", false).unwrap();
        assert!(order.place("b", false).is_none());
        assert!(poll!(std::pin::pin!(second.turn())).is_pending());
        let mut third = order.place("a", false).unwrap();
        assert!(first.awaited().is_some() && third.awaited().is_none());
        drop(first);
        drop(second);
        third.turn().await;
        drop(third);
        assert!(order.place("a", false).is_none(), "the row is empty again");
    }

    /// What takes too long is overtaken, and by all that come later.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let order = Order::new(LONGEST);
        let past = order.place("a", true).unwrap();
        let begun = clock::now();
        let mut first = order.place("a", false).unwrap();
        tokio::time::advance(LONGEST / 2).await;
        let mut second = order.place("a", false).unwrap();
        assert!(past.awaited().is_some());
        assert!(!first.turn().await);
        assert!(clock::now() - begun >= LONGEST);
        assert!(past.awaited().is_none(), "whoever waited has passed it");
        assert!(poll!(std::pin::pin!(second.turn())).is_pending(), "nobody overtakes the first");
        drop(first);
        assert!(second.turn().await);
        assert!(clock::now() - begun < LONGEST * 5 / 4, "it has not waited for the past as well");
        drop(second);
        assert!(order.place("a", false).is_none(), "nobody waits any more");
        drop(past);
    }

    /// Whoever gives up lets nobody pass.
    #[tokio::test]
    async fn giving_up_lets_nobody_pass() {
        let order = Order::new(LONGEST);
        let first = order.place("oc_1", true).unwrap();
        let mut second = order.place("oc_1", false).unwrap();
        assert!(poll!(std::pin::pin!(second.turn())).is_pending());
        drop(second);
        let mut third = order.place("oc_1", false).expect("the first is still there");
        assert!(poll!(std::pin::pin!(third.turn())).is_pending());
        tokio::task::yield_now().await;
        assert!(poll!(std::pin::pin!(third.turn())).is_pending());
        drop(first);
        third.turn().await;
        drop(third);
        tokio::task::yield_now().await;
        assert!(order.place("oc_1", false).is_none());
    }
}

//! Events of one chat that must not overtake each other while the platform is asked about one of them.
//!
//! Whoever has to ask takes a place; whoever comes after in the same chat waits for that place, and so
//! on. Chats in which nobody asks cost nothing.

use std::collections::{HashMap, HashSet};
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
#[derive(Debug, Default)]
pub(super) struct Order {
    rows: Rows,
    last: Mutex<u64>,
    /// Chats in which somebody could wait no longer, and was not heard.
    missed: Mutex<HashSet<String>>,
}

impl Order {
    /// Whether somebody in this chat was not heard since the last time that this was asked.
    pub(super) fn take_missed(&self, chat: &str) -> bool {
        lock(&self.missed).remove(chat)
    }

    /// Somebody waits to be heard in this chat: dropped before [`Waits::heard`], he was not.
    pub(super) fn waits(&self, chat: &str) -> Waits<'_> {
        Waits { order: self, chat: Some(chat.to_owned()) }
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
        let ours = Last { number: *last, over, awaited: tell };
        let before = rows.insert(chat.to_owned(), ours).map(|before| {
            before.awaited.send_replace(Some(clock::now()));
            before.over
        });
        let (chat, rows) = (chat.to_owned(), self.rows.clone());
        Some(Place { chat, number: *last, before, awaited, done: Some(done), rows })
    }
}

/// See [`Order::waits`].
pub(super) struct Waits<'a> {
    order: &'a Order,
    chat: Option<String>,
}

impl Waits<'_> {
    /// His turn has come.
    pub(super) fn heard(mut self) {
        self.chat = None;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Some(chat) = self.chat.take() else { return };
        // Nobody asks where nobody reads any more.
        if lock(&self.order.rows).contains_key(&chat) {
            lock(&self.order.missed).insert(chat);
        }
    }
}

impl Place {
    /// Waits until everybody before has gone.
    pub(super) async fn turn(&mut self) {
        if let Some(before) = &mut self.before {
            // Its end comes as an error: nothing is ever sent.
            let _ = before.await;
        }
        self.before = None;
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

    /// Comes when somebody waits for it, and has for `silence` from now on, or for `patience` in all.
    pub(super) fn overdue(
        &self,
        silence: Duration,
        patience: Duration,
    ) -> impl Future<Output = ()> + use<> {
        let (mut awaited, now) = (self.awaited.clone(), clock::now());
        async move {
            match awaited.wait_for(Option::is_some).await.map(|since| *since) {
                Ok(Some(since)) => {
                    let until = (since.max(now) + silence).min(since + patience);
                    tokio::time::sleep_until(until).await;
                }
                // Nobody can come behind it any more.
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
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
        first.overdue(waits, waits).await;
        assert!(tokio::time::timeout(waits, third.overdue(waits, waits)).await.is_err());
        drop(first);
        drop(second);
        third.turn().await;
        drop(third);
        assert!(order.place("a", false).is_none(), "the row is empty again");
    }

    /// Whoever gives up lets nobody pass, and is known to have been there.
    #[tokio::test]
    async fn giving_up_lets_nobody_pass() {
        let order = Order::default();
        let first = order.place("oc_1", true).unwrap();
        let mut second = order.place("oc_1", false).unwrap();
        let waits = order.waits("oc_1");
        assert!(futures_util::poll!(std::pin::pin!(second.turn())).is_pending());
        drop((waits, second));
        assert!(order.take_missed("oc_1") && !order.take_missed("oc_1"));
        let mut third = order.place("oc_1", false).expect("the first is still there");
        assert!(futures_util::poll!(std::pin::pin!(third.turn())).is_pending());
        tokio::task::yield_now().await;
        assert!(futures_util::poll!(std::pin::pin!(third.turn())).is_pending());
        order.waits("oc_1").heard();
        drop(first);
        third.turn().await;
        drop(third);
        tokio::task::yield_now().await;
        assert!(order.place("oc_1", false).is_none() && !order.take_missed("oc_1"));
    }
}

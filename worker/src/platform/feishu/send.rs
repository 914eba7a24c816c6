//! Replies on their way out: several chats at once, one chat in order, each reply with one outcome.
//!
//! Whatever goes wrong on the way, a repetition of the whole reply is safe, because the platform knows
//! each part by its `uuid`. So nothing here ever ends as unknown.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::poll_fn;
use protocol::event::{Outbound, Outcome};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::encode::{self, Said, To};
use crate::platform::Note;

/// Replies under way at once. The platform takes 50 a second of an app.
const AT_ONCE: usize = 16;
/// For one reply, all parts.
const LIMIT: Duration = Duration::from_secs(15);
/// For replies under way when the worker is told to stop.
const LAST: Duration = Duration::from_secs(3);

/// Sends what comes until the worker is told to stop, and reports what became of each.
pub(super) async fn run(shared: &Shared, mut outbound: mpsc::Receiver<Outbound>) {
    let turns = Turns::default();
    let arriving = poll_fn(|cx| outbound.poll_recv(cx)).take_until(shared.stop.cancelled());
    let sending = arriving.map(|outbound| one(shared, &turns, outbound)).buffer_unordered(AT_ONCE);
    sending.for_each(|()| std::future::ready(())).await;
    while let Ok(outbound) = outbound.try_recv() {
        report(shared, &outbound, retry("the worker is stopping")).await;
    }
}

async fn one(shared: &Shared, turns: &Turns, outbound: Outbound) {
    let outcome = turns.wait(&outbound.chat_id, async {
        match select(pin!(send(shared, &outbound)), pin!(too_late(&shared.stop))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((why, _)) => retry(why),
        }
    });
    let outcome = outcome.await;
    report(shared, &outbound, outcome).await;
}

async fn report(shared: &Shared, outbound: &Outbound, outcome: Outcome) {
    tracing::debug!(
        outbound_id = outbound.id.0,
        attempt = outbound.attempt,
        sent = matches!(outcome, Outcome::Sent { .. }),
        "reply"
    );
    shared.report.tell(Note::Outcome(outbound.id, outbound.attempt, outcome)).await;
}

async fn too_late(stop: &CancellationToken) -> &'static str {
    if tokio::time::timeout(LIMIT, stop.cancelled()).await.is_err() {
        return "no answer in time";
    }
    tokio::time::sleep(LAST).await;
    "the worker is stopping"
}

async fn send(shared: &Shared, outbound: &Outbound) -> Outcome {
    if let Some(reason) = outbound.content.beyond_text() {
        return Outcome::Failed { reason };
    }
    let parts = encode::parts(outbound);
    if parts.is_empty() {
        return Outcome::Failed { reason: "the reply is empty".to_owned() };
    }
    let latest = shared.memory().latest_in(outbound.thread_id.as_deref());
    let mut to = To::of(outbound, latest.as_deref());
    let mut message_ids = Vec::new();
    for (index, text) in parts.iter().enumerate() {
        let said = loop {
            let call = encode::call(outbound, to, index, text);
            let said = shared.api.post(&call.path, &call.body).await;
            match (&said, to) {
                (Said::Gone(_), To::Message { .. }) => to = To::Chat { instead: true },
                _ => break said,
            }
        };
        match said {
            Said::Done(id) => {
                if let Some(id) = &id {
                    shared.memory().sent(id);
                }
                message_ids.extend(id);
            }
            Said::Token => return retry("the platform refuses its own tokens"),
            Said::Later { reason, after_ms } => return Outcome::Retry { reason, after_ms },
            Said::Gone(reason) | Said::Never(reason) => return Outcome::Failed { reason },
        }
    }
    Outcome::Sent { message_ids }
}

fn retry(reason: &str) -> Outcome {
    Outcome::Retry { reason: reason.to_owned(), after_ms: None }
}

/// Chats in which a reply is under way, and who waits for it.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Turns {
    /// Does `work` when everything that came earlier for `chat` is done.
    async fn wait<T>(&self, chat: &str, work: impl Future<Output = T>) -> T {
        let turn = self
            .lock()
            .entry(chat.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(1)))
            .clone();
        // Never closed, and fair: who asks first is first.
        let permit = turn.acquire().await;
        let done = work.await;
        drop(permit);
        let mut turns = self.lock();
        // Ours and the table's: nobody waits.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(chat);
        }
        done
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_chat_keeps_its_order_and_the_table_stays_small() {
        let turns = Turns::default();
        let log = Mutex::new(Vec::new());
        let step = |chat, number, ms| {
            let log = &log;
            turns.wait(chat, async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                log.lock().unwrap().push(number);
            })
        };
        tokio::join!(step("a", 1, 50), step("a", 2, 1), step("b", 3, 10), step("a", 4, 1));
        assert_eq!(*log.lock().unwrap(), [3, 1, 2, 4]);
        assert!(turns.lock().is_empty());
    }
}

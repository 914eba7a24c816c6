//! What is asked besides replies: drafts, signs of work, bytes of files. None of it holds up another.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::sync::{Semaphore, mpsc};

use super::{Shared, drafts, fetch, react};
use crate::platform::{Ask, Note};

/// Asked at once.
const AT_ONCE: usize = 256;
/// Of these, files that are fetched.
const FETCHES: usize = 8;
/// For what is under way when the worker is told to stop.
const LAST: Duration = Duration::from_secs(1);

/// Does what is asked until the worker is told to stop.
pub(super) async fn run(shared: &Shared, mut asks: mpsc::Receiver<Ask>) {
    let fetches = Semaphore::new(FETCHES);
    let arriving = poll_fn(|cx| asks.poll_recv(cx)).take_until(shared.stop.cancelled());
    let doing = arriving.map(|ask| one(shared, &fetches, ask)).buffer_unordered(AT_ONCE);
    let doing = doing.for_each(|()| std::future::ready(()));
    let mut doing = pin!(doing);
    if shared.stop.run_until_cancelled(&mut doing).await.is_none() {
        // Of a draft that is just being shown the next worker must know.
        let _ = tokio::time::timeout(LAST, doing).await;
    }
}

async fn one(shared: &Shared, fetches: &Semaphore, ask: Ask) {
    match ask {
        Ask::Draft(draft) => {
            let message_id = drafts::show(shared, &draft).await;
            shared.report.tell(Note::Drafted(draft.key, message_id)).await;
        }
        Ask::Busy(busy) => react::busy(shared, &busy).await,
        Ask::Fetch(ticket, wish) => {
            // Never closed.
            let _permit = fetches.acquire().await;
            let result = fetch::fetch(shared, &wish).await;
            shared.report.tell(Note::Fetched(ticket, result)).await;
        }
        Ask::Order(ticket, _) => {
            let why = "Feishu keeps no queue that a person could change".to_owned();
            shared.report.tell(Note::Ordered(ticket, Err(why))).await;
        }
    }
}

//! What is done with an update, however it came.

use protocol::event::Inbound;
use protocol::worker::Verdict;
use tokio::sync::oneshot;

use super::Shared;
use super::decode::{Heard, Update};
use crate::platform::Note;

/// What an update is besides an event; whether the platform may forget that.
pub(super) async fn aside(shared: &Shared, update: &Update) -> bool {
    match &update.heard {
        Heard::Event(_) => {}
        Heard::Ignored => shared.report.tell(Note::Ignored).await,
        Heard::Malformed(why, _) => {
            tracing::warn!(
                reason = why,
                id = update.id,
                "an update cannot be understood; it is kept: once its turn has come, `hermes-gw ctl parked` shows it"
            );
            shared.report.tell(Note::Malformed).await;
        }
    }
    if let Some(button) = &update.button {
        // Whoever pressed waits for a sign; without room the sign is not worth waiting for.
        let _ = shared.pressed.try_send(button.clone());
    }
    match update.moved {
        Some((from, to)) => shared.keep_moved(from, to).await,
        None => true,
    }
}

/// Hands an event in.
pub(super) async fn submit(shared: &Shared, event: Inbound) -> oneshot::Receiver<Verdict> {
    let former = shared.former(&event);
    shared.events.submit_moved(event, former, None).await
}

/// Whether the platform may forget it.
pub(super) fn is_settled(verdict: Option<Verdict>) -> bool {
    match verdict {
        Some(Verdict::Accepted(_) | Verdict::Duplicate | Verdict::Denied) => true,
        // No verdict: the worker ends.
        Some(Verdict::Refused) | None => false,
    }
}

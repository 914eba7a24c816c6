//! What is done with an update, however it came.

use protocol::worker::Verdict;

use super::Shared;
use super::decode::{Heard, Update};
use crate::platform::Note;

/// What an update is besides an event.
pub(super) async fn aside(shared: &Shared, update: &Update) {
    match &update.heard {
        Heard::Event(_) => {}
        Heard::Ignored => shared.report.tell(Note::Ignored).await,
        Heard::Malformed(why, _) => {
            tracing::warn!(reason = why, id = update.id, "an update cannot be understood");
            shared.report.tell(Note::Malformed).await;
        }
    }
    if let Some((from, to)) = update.moved {
        shared.moved(from, to);
    }
    if let Some(button) = &update.button {
        // Whoever pressed waits for a sign; without room the sign is not worth waiting for.
        let _ = shared.pressed.try_send(button.clone());
    }
}

/// Whether the platform may forget it.
pub(super) fn is_settled(verdict: Option<Verdict>) -> bool {
    match verdict {
        Some(Verdict::Accepted(_) | Verdict::Duplicate | Verdict::Denied) => true,
        // No verdict: the worker ends.
        Some(Verdict::Refused) | None => false,
    }
}

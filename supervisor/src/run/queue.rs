//! What waits, shown to people.

use protocol::control::{Page, Refusal, SCHEMA, WaitingItem, WaitingList};
use protocol::id::ParkedId;

use super::Gateway;
use super::parked::fitting;
use super::tickets::Pending;
use crate::exit::Code;
use crate::link::Reply;
use crate::store::{Answer, Waits};

/// The most entries in one answer.
const LIST_MAX: u32 = 1000;

impl Gateway {
    /// What waits behind `after`, which also says in which direction.
    pub(super) fn list_waiting(&mut self, after: ParkedId, page: Page, reply: Reply) {
        let limit = usize::try_from(page.limit.clamp(1, LIST_MAX)).unwrap_or(1);
        self.ask(Pending::ListWaiting { after, limit, reply });
    }

    pub(super) fn waiting_listed(limit: usize, reply: Reply, answer: Answer) {
        let Answer::Waiting(found) = answer else {
            let message = format!("look at what waits: {answer:?}");
            return reply.refuse(Refusal { code: Code::Io.number(), message, hint: None });
        };
        let all = found.len();
        let items = fitting(found.into_iter().take(limit).map(item));
        let more = items.len() < all;
        reply.answer(&WaitingList { schema: SCHEMA, items, more });
    }
}

fn item(waits: Waits) -> WaitingItem {
    let state = match (waits.id, waits.is_begun) {
        (_, false) => "waiting",
        (ParkedId::Event(_), true) => "with_agent",
        (ParkedId::Reply(_), true) => "sending",
    };
    WaitingItem {
        id: waits.id,
        state: state.into(),
        instance: waits.lane.instance,
        chat_id: waits.lane.chat_id,
        thread_id: waits.lane.thread_id,
        attempts: waits.attempts,
        received_ms: waits.received_ms,
    }
}

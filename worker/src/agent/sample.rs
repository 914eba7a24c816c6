//! Deliveries for tests.

use protocol::event::{
    ChatType, Delivery, Inbound, InboundKind, Mention, Sender, SenderKind, Session,
};
use protocol::id::{EventId, Instance};

/// A text in a direct chat, heard for the first time.
pub(super) fn delivery(id: u64, platform: &str, chat: &str, text: &str) -> Delivery {
    let event = Inbound {
        kind: InboundKind::Message,
        keys: vec![format!("message:m{id}")],
        origin_ms: 0,
        chat_id: chat.into(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some(format!("m{id}")),
        reply_to: None,
        sender: Sender { user_id: "ou_1".into(), name: None, kind: SenderKind::User },
        mention: Mention::None,
        text: text.into(),
        parts: Vec::new(),
        raw: Vec::new(),
        chat_name: None,
        quote: None,
        album: None,
    };
    Delivery {
        event_id: EventId(id),
        lane: event.lane(Instance::new(platform).unwrap()),
        platform: platform.into(),
        attempt: 1,
        received_ms: 0,
        event,
        late_by_ms: None,
        session: Session::default(),
        joined: Vec::new(),
        before_restart: false,
    }
}

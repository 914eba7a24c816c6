//! Events of the first version, which apps of old still subscribe to, and pressed cards of that time.
//!
//! They have no header: `uuid` names the event, `event.type` says what happened.

use protocol::event::{
    ChatType, Inbound, InboundKind, Mention, Part, Sender, SenderKind, message_key,
};
use serde_json::Value;

use super::{Heard, Lack, Reading, id, member, milliseconds, text_of, user_id};
use crate::json::list_of;

impl Reading<'_> {
    /// An event without a header.
    pub(super) fn old(&self) -> Heard {
        let body = self.body();
        match text_of(body, "type") {
            "message" => self.old_message(),
            "add_bot" => self.old_member("[added]"),
            "remove_bot" => self.old_member("[removed]"),
            "p2p_chat_create" => self.old_entered(),
            "message_read" => Heard::Ignored,
            "" if self.event.get("action").is_some() => {
                self.pressed(self.event, text_of(self.event, "token"))
            }
            _ => self.unknown(),
        }
    }

    fn uuid(&self) -> Option<String> {
        id(self.event, "uuid").map(|id| format!("event:{id}"))
    }

    fn old_time(&self) -> Option<i64> {
        // Seconds with a fraction, as text.
        let text = text_of(self.event, "ts");
        let seconds: i64 = text.split('.').next()?.parse().ok()?;
        (seconds > 0).then(|| seconds.saturating_mul(1000))
    }

    fn old_message(&self) -> Heard {
        let body = self.body();
        let Some(chat_id) = id(body, "open_chat_id") else {
            return Heard::Malformed("a message without open_chat_id");
        };
        let message_id = id(body, "open_message_id");
        let message_key = message_id.as_ref().map(|id| message_key(id));
        let keys: Vec<_> = [self.uuid(), message_key].into_iter().flatten().collect();
        if keys.is_empty() {
            return Heard::Malformed("a message without uuid and open_message_id");
        }
        let chat_type = match text_of(body, "chat_type") {
            "private" => ChatType::Direct,
            _ => ChatType::Group,
        };
        let is_mention = body.get("is_mention").and_then(Value::as_bool).unwrap_or(false);
        let reply_to = id(body, "parent_id");
        let answers_us = reply_to.as_deref().is_some_and(|id| self.memory.is_ours(id));
        let user_id = ["open_id", "user_open_id"].iter().find_map(|name| id(body, name));
        let kind = if user_id.is_some() { SenderKind::User } else { SenderKind::System };
        if user_id.is_some() && user_id == self.own.open_id {
            return Heard::Ignored;
        }
        let mut parts = Vec::new();
        let mut part = |kind: &str, holder: &Value, name: &str| {
            if let Some(handle) = id(holder, name) {
                let (kind, name) = (kind.to_owned(), None);
                parts.push(Part { kind, handle, name, size: None, mime: None });
            }
        };
        part("image", body, "image_key");
        for key in list_of(body, "image_keys") {
            part("image", &serde_json::json!({ "key": key }), "key");
        }
        part("file", body, "file_key");
        let words = match text_of(body, "text_without_at_bot") {
            "" => text_of(body, "text"),
            words => words,
        };
        let title = text_of(body, "title");
        let text = match text_of(body, "msg_type") {
            "image" => "[image]".to_owned(),
            "file" => "[file]".to_owned(),
            _ if title.is_empty() => words.trim().to_owned(),
            _ => format!("{title}\n{}", words.trim()),
        };
        let inbound = Inbound {
            origin_ms: self.old_time().unwrap_or_else(|| self.time()),
            chat_type,
            message_id,
            sender: Sender { user_id: user_id.unwrap_or_default(), name: None, kind },
            mention: if is_mention || answers_us { Mention::Me } else { Mention::None },
            quote: reply_to
                .as_deref()
                .and_then(|id| self.memory.message(id))
                .map(|known| known.words.clone()),
            reply_to,
            text,
            parts,
            ..self.inbound(InboundKind::Message, keys, chat_id)
        };
        Heard::Event(Box::new(inbound), Lack::default())
    }

    fn old_member(&self, what: &str) -> Heard {
        let body = self.body();
        let (Some(chat_id), Some(key)) = (id(body, "open_chat_id"), self.uuid()) else {
            return Heard::Malformed("a change of members without open_chat_id");
        };
        let operator = id(body, "operator_open_id").or_else(|| id(body, "open_id"));
        self.old_change(chat_id, key, operator, what, ChatType::Group)
    }

    fn old_entered(&self) -> Heard {
        let body = self.body();
        let (Some(chat_id), Some(key)) = (id(body, "chat_id"), self.uuid()) else {
            return Heard::Malformed("a chat without chat_id");
        };
        let operator = user_id(member(body, "operator"));
        self.old_change(chat_id, key, operator, "[entered]", ChatType::Direct)
    }

    fn old_change(
        &self,
        chat_id: String,
        key: String,
        operator: Option<String>,
        what: &str,
        chat_type: ChatType,
    ) -> Heard {
        let kind = if operator.is_some() { SenderKind::User } else { SenderKind::System };
        let name = |name| Some(text_of(self.body(), name).to_owned()).filter(|it| !it.is_empty());
        let inbound = Inbound {
            origin_ms: self
                .old_time()
                .or_else(|| milliseconds(self.event, "ts"))
                .unwrap_or(self.now_ms),
            chat_type,
            sender: Sender { user_id: operator.unwrap_or_default(), name: None, kind },
            mention: Mention::Me,
            text: what.to_owned(),
            chat_name: name("chat_name"),
            ..self.inbound(InboundKind::Member, vec![key], chat_id)
        };
        Heard::Event(Box::new(inbound), Lack::default())
    }
}

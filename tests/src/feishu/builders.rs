//! Events as Feishu writes them, for the cases that tests need.

#![expect(clippy::indexing_slicing, reason = "assigning a member of a JSON object cannot fail")]

use serde_json::{Value, json};

use crate::clock;

/// A chat message on its way to a bot (`im.message.receive_v1`).
#[derive(Debug, Clone)]
pub struct Message {
    event_id: String,
    body: Value,
    sender_open_id: String,
    sender_type: String,
}

impl Message {
    /// A message in a chat between one user and the bot.
    pub fn direct(chat_id: &str, sender_open_id: &str) -> Self {
        Self::new("p2p", chat_id, sender_open_id)
    }

    /// A message in a group.
    pub fn group(chat_id: &str, sender_open_id: &str) -> Self {
        Self::new("group", chat_id, sender_open_id)
    }

    fn new(chat_type: &str, chat_id: &str, sender_open_id: &str) -> Self {
        let now = clock::wall_ms().to_string();
        let body = json!({
            "message_id": fresh("om_"),
            "create_time": now,
            "update_time": now,
            "chat_id": chat_id,
            "chat_type": chat_type,
            "message_type": "text",
            "content": json!({"text": ""}).to_string(),
            "user_agent": "",
        });
        Self {
            event_id: fresh(""),
            body,
            sender_open_id: sender_open_id.to_owned(),
            sender_type: "user".to_owned(),
        }
    }

    /// Makes it a text. A mention is written by its key (`@_user_1`), a call of all as `@_all`.
    pub fn text(self, text: &str) -> Self {
        self.content("text", &json!({"text": text}))
    }

    /// Makes it a post: paragraphs of elements, in the form in which posts are received (without a language level).
    pub fn post(self, title: &str, paragraphs: &Value) -> Self {
        self.content("post", &json!({"title": title, "content": paragraphs}))
    }

    /// Makes it a message of any type.
    pub fn content(mut self, message_type: &str, content: &Value) -> Self {
        self.body["message_type"] = json!(message_type);
        self.body["content"] = json!(content.to_string());
        self
    }

    /// Adds an entry to `mentions`.
    pub fn mention(mut self, key: &str, open_id: &str, name: &str) -> Self {
        let entry = json!({
            "key": key,
            "id": {"open_id": open_id, "union_id": format!("on_of_{open_id}"), "user_id": ""},
            "name": name,
            "tenant_key": "tenant",
        });
        match self.body.get_mut("mentions").and_then(Value::as_array_mut) {
            Some(list) => list.push(entry),
            None => self.body["mentions"] = json!([entry]),
        }
        self
    }

    /// Puts it into a topic, whose first message is `root_id`.
    pub fn in_thread(mut self, thread_id: &str, root_id: &str) -> Self {
        self.body["thread_id"] = json!(thread_id);
        self.reply_to(root_id, root_id)
    }

    /// Makes it a reply to `parent_id` in a chain that began with `root_id`.
    pub fn reply_to(mut self, parent_id: &str, root_id: &str) -> Self {
        self.body["parent_id"] = json!(parent_id);
        self.body["root_id"] = json!(root_id);
        self
    }

    pub fn message_id(mut self, message_id: &str) -> Self {
        self.body["message_id"] = json!(message_id);
        self
    }

    pub fn event_id(mut self, event_id: &str) -> Self {
        event_id.clone_into(&mut self.event_id);
        self
    }

    /// When it was written, in milliseconds since 1970; now by default.
    pub fn created_ms(mut self, ms: u128) -> Self {
        self.body["create_time"] = json!(ms.to_string());
        self.body["update_time"] = json!(ms.to_string());
        self
    }

    /// `user` by default; `app` and `bot` were seen, too.
    pub fn sender_type(mut self, sender_type: &str) -> Self {
        sender_type.clone_into(&mut self.sender_type);
        self
    }

    /// The event.
    pub fn build(self) -> Value {
        let sender = json!({
            "sender_id": {
                "open_id": self.sender_open_id,
                "union_id": format!("on_of_{}", self.sender_open_id),
                "user_id": "",
            },
            "sender_type": self.sender_type,
            "tenant_key": "tenant",
        });
        let body = json!({"sender": sender, "message": self.body});
        let mut event = event("im.message.receive_v1", &body);
        event["header"]["event_id"] = json!(self.event_id);
        event
    }
}

/// An event of any type, in the form 2.0, with a fresh id. The platform adds the `app_id` when it is pushed.
pub fn event(event_type: &str, body: &Value) -> Value {
    json!({
        "schema": "2.0",
        "header": {
            "event_id": fresh(""),
            "token": "",
            "create_time": clock::wall_ms().to_string(),
            "event_type": event_type,
            "tenant_key": "tenant",
        },
        "event": body,
    })
}

/// A user opened the chat with the bot.
pub fn chat_entered(chat_id: &str, open_id: &str) -> Value {
    let body = json!({
        "chat_id": chat_id,
        "operator_id": {"open_id": open_id, "union_id": "", "user_id": ""},
        "last_message_id": "",
        "last_message_create_time": "",
    });
    event("im.chat.access_event.bot_p2p_chat_entered_v1", &body)
}

/// A user read messages of the bot.
pub fn message_read(open_id: &str, message_ids: &[&str]) -> Value {
    let reader = json!({
        "reader_id": {"open_id": open_id, "union_id": "", "user_id": ""},
        "read_time": clock::wall_ms().to_string(),
        "tenant_key": "tenant",
    });
    event("im.message.message_read_v1", &json!({"reader": reader, "message_id_list": message_ids}))
}

/// Somebody put a reaction on a message; `operator_type` is `user`, or `app` for one of the bot's own.
pub fn reaction(message_id: &str, open_id: &str, emoji: &str, operator_type: &str) -> Value {
    let body = json!({
        "message_id": message_id,
        "reaction_type": {"emoji_type": emoji},
        "operator_type": operator_type,
        "user_id": {"open_id": open_id, "union_id": "", "user_id": ""},
        "app_id": "",
        "action_time": clock::wall_ms().to_string(),
    });
    event("im.message.reaction.created_v1", &body)
}

/// A user pressed something on a card; `action` is what the platform tells of it.
pub fn card_action(chat_id: &str, message_id: &str, open_id: &str, action: &Value) -> Value {
    let body = json!({
        "operator": {"open_id": open_id, "user_id": "", "union_id": "", "tenant_key": "tenant"},
        "token": fresh("c-"),
        "action": action,
        "host": "im_message",
        "context": {"open_message_id": message_id, "open_chat_id": chat_id},
    });
    event("card.action.trigger", &body)
}

/// A user pressed an entry of the bot's menu.
pub fn menu(open_id: &str, key: &str) -> Value {
    let body = json!({
        "operator": {"operator_name": "Ann", "operator_id": {"open_id": open_id}},
        "event_key": key,
        "timestamp": 1_700_000_000,
    });
    event("application.bot.menu_v6", &body)
}

/// Somebody took a message back.
pub fn recalled(chat_id: &str, message_id: &str) -> Value {
    let body = json!({
        "message_id": message_id,
        "chat_id": chat_id,
        "recall_time": clock::wall_ms().to_string(),
        "recall_type": "message_owner",
    });
    event("im.message.recalled_v1", &body)
}

/// Somebody added the bot to a chat, or removed it.
pub fn bot_member(chat_id: &str, open_id: &str, added: bool) -> Value {
    let word = if added { "added" } else { "deleted" };
    let body = json!({
        "chat_id": chat_id,
        "operator_id": {"open_id": open_id, "union_id": "", "user_id": ""},
        "external": false,
        "operator_tenant_key": "tenant",
        "name": "A chat",
    });
    event(&format!("im.chat.member.bot.{word}_v1"), &body)
}

/// A text in the form of the first version.
pub fn old_message(chat_type: &str, chat_id: &str, open_id: &str, text: &str) -> Value {
    json!({
        "uuid": fresh(""),
        "token": "",
        "ts": format!("{}.123", clock::wall_ms() / 1000),
        "type": "event_callback",
        "event": {
            "type": "message",
            "app_id": "",
            "tenant_key": "tenant",
            "chat_type": chat_type,
            "msg_type": "text",
            "open_chat_id": chat_id,
            "open_message_id": fresh("om_"),
            "open_id": open_id,
            "root_id": "",
            "parent_id": "",
            "is_mention": false,
            "text": text,
            "text_without_at_bot": text,
        },
    })
}

/// The same event under a new event id, as the platform may send it after a reconnect.
pub fn replayed(event: &Value) -> Value {
    let mut again = event.clone();
    match again.get_mut("uuid") {
        Some(uuid) => *uuid = json!(fresh("")),
        None => again["header"]["event_id"] = json!(fresh("")),
    }
    again
}

fn fresh(prefix: &str) -> String {
    format!("{prefix}{:032x}", fastrand::u128(..))
}

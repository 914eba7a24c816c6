//! Updates as the platform makes them.

use serde_json::{Value, json};

/// A message, to be completed and pushed.
#[derive(Debug, Clone)]
pub struct Message(Value);

impl Message {
    /// What a user writes to the bot directly. The chat has the user's id.
    pub fn direct(user: i64) -> Self {
        let chat = json!({"id": user, "type": "private", "first_name": "Ann"});
        Self::of(&chat, user)
    }

    /// What a user writes in a supergroup.
    pub fn group(chat: i64, user: i64) -> Self {
        Self::of(&json!({"id": chat, "type": "supergroup", "title": "A group"}), user)
    }

    fn of(chat: &Value, user: i64) -> Self {
        let from = json!({"id": user, "is_bot": false, "first_name": "Ann", "username": "ann"});
        let date = u64::try_from(crate::clock::wall_ms() / 1000).unwrap_or(0);
        Self(json!({"message_id": 0, "date": date, "chat": chat, "from": from}))
    }

    /// Any member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Some(members) = self.0.as_object_mut() {
            members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Its text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.with("text", text)
    }

    /// In a topic of a forum.
    #[must_use]
    pub fn in_topic(self, thread: i64) -> Self {
        self.with("is_topic_message", true).with("message_thread_id", thread)
    }

    pub(crate) fn chat_id(&self) -> i64 {
        self.0.pointer("/chat/id").and_then(Value::as_i64).unwrap_or_default()
    }

    pub(crate) fn text_of(&self) -> String {
        self.0.get("text").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub(crate) fn build(self, message_id: i64) -> Value {
        self.with("message_id", message_id).0
    }
}

//! What the handlers of hooks are told: one JSON object with every member each time, `null` where the
//! occasion has none. `docs/hooks.md` is the same for users.

use serde::{Deserialize, Serialize};

use crate::event::ChatType;

/// The version of [`HookEvent`]: members are only ever added.
pub const SCHEMA: u32 = 1;

/// Something that happened, for the programs of a user that want to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HookEvent {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `agent:start`: see [`KINDS`].
    pub event: String,
    /// When, in Unix milliseconds.
    pub time_ms: i64,
    /// The platform instance, or the instance that it is about.
    pub instance: Option<String>,
    /// The platform's kind.
    pub platform: Option<String>,
    /// The platform's id of the chat.
    pub chat_id: Option<String>,
    /// What sort of chat.
    pub chat_type: Option<ChatType>,
    /// The name of the chat.
    pub chat_name: Option<String>,
    /// The thread or topic.
    pub thread_id: Option<String>,
    /// Who spoke.
    pub user_id: Option<String>,
    /// Who, for people.
    pub user_name: Option<String>,
    /// Our name of the conversation: instance, chat and thread.
    pub session_id: Option<String>,
    /// The platform's id of the message that it is about.
    pub message_id: Option<String>,
    /// The message that it answers.
    pub reply_to: Option<String>,
    /// Our name for the event.
    pub event_id: Option<String>,
    /// Which attempt.
    pub attempt: Option<u32>,
    /// What was said.
    pub message: Option<String>,
    /// What the agent has replied.
    pub response: Option<String>,
    /// How it ended: `acknowledged`, `deferred`, `failed` or `parked`.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The agent that it is about.
    pub agent: Option<String>,
    /// Every platform instance that is configured.
    pub platforms: Option<Vec<String>>,
    /// The platform's ids of what a reply became.
    pub message_ids: Option<Vec<String>>,
    /// Lets its holder send to this chat over the supervisor's socket, with `message.send`.
    pub reply_token: Option<String>,
    /// Where that socket is.
    pub socket: Option<String>,
}

/// Every kind of occasion, and when it is one.
pub const KINDS: [(&str, &str); 14] = [
    ("gateway:startup", "the supervisor serves; `platforms`"),
    ("gateway:shutdown", "the supervisor begins to leave"),
    ("platform:connected", "a platform's connection works"),
    ("platform:disconnected", "a platform's connection does not work; `reason`"),
    (
        "worker:restarted",
        "an instance has a new process that is ready; `reason`: how the former one ended",
    ),
    ("worker:stale", "a process does not respond, or its connection stands still, and is replaced"),
    ("worker:held", "an instance is given up until a person acts; `reason`"),
    ("message:received", "an event is durable"),
    ("agent:start", "an event is handed to an agent; once for each attempt"),
    ("agent:end", "that is over; `outcome`, `response`; once for each attempt"),
    ("agent:error", "an attempt failed, or the event is parked; `reason`"),
    ("message:sent", "a reply is at the platform; `message_ids`"),
    ("message:failed", "a reply failed, or nobody knows its end; `reason`"),
    ("message:parked", "an event is set aside; `reason`"),
];

impl HookEvent {
    /// Of a kind, without anything else.
    pub fn new(event: &str, time_ms: i64) -> Self {
        Self {
            schema: SCHEMA,
            event: event.to_owned(),
            time_ms,
            instance: None,
            platform: None,
            chat_id: None,
            chat_type: None,
            chat_name: None,
            thread_id: None,
            user_id: None,
            user_name: None,
            session_id: None,
            message_id: None,
            reply_to: None,
            event_id: None,
            attempt: None,
            message: None,
            response: None,
            outcome: None,
            reason: None,
            agent: None,
            platforms: None,
            message_ids: None,
            reply_token: None,
            socket: None,
        }
    }

    /// Whether `pattern` means something that happens here, or inside a Hermes Agent.
    pub fn can_happen(pattern: &str) -> bool {
        let kinds = KINDS.iter().map(|(kind, _)| *kind);
        kinds.chain(["agent:step"]).any(|kind| Self::new(kind, 0).matches(pattern))
            || pattern.starts_with("command:")
            || pattern.starts_with("session:")
    }

    /// Whether `pattern` means it: its kind, all of a family (`agent:*`), or all (`*`).
    pub fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some("") => true,
            Some(family) if family.ends_with(':') => self.event.starts_with(family),
            _ => self.event == pattern,
        }
    }
}

/// What went wrong with a handler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Whose handler.
    pub hook: String,
    /// What.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_means_nothing() {
        for pattern in ["*", "agent:*", "message:sent", "session:*", "agent:step", "command:new"] {
            assert!(HookEvent::can_happen(pattern), "{pattern}");
        }
        for pattern in ["mesage:received", "agent", "agents:*", "", "message:"] {
            assert!(!HookEvent::can_happen(pattern), "{pattern}");
        }
    }

    #[test]
    fn patterns_mean_a_kind_a_family_or_all() {
        let event = HookEvent::new("agent:start", 0);
        for (pattern, is) in [
            ("agent:start", true),
            ("agent:*", true),
            ("*", true),
            ("agent:end", false),
            ("message:*", false),
            ("agent*", false),
            ("", false),
        ] {
            assert_eq!(event.matches(pattern), is, "{pattern}");
        }
    }

    #[test]
    fn every_member_is_there_each_time() {
        let value = serde_json::to_value(HookEvent::new("agent:start", 1)).unwrap();
        for member in ["chat_id", "thread_id", "user_id", "session_id", "message_id", "attempt"] {
            assert!(value.as_object().unwrap().contains_key(member), "{member}");
        }
    }
}

//! A message of each topic in which something was heard. Pure, bounded, and part of the instance's cursor.
//!
//! The platform takes no message for a topic, only an answer to one of its messages. Whoever has something to
//! say there that answers nothing answers the one that was heard last.

use protocol::event::{Inbound, InboundKind};
use serde_json::{Value, json};

/// Those in which something was heard last. In a cursor, each takes about a hundred bytes.
const MOST: usize = 128;

#[derive(Debug)]
struct Topic {
    chat: String,
    id: String,
    message: String,
}

impl Topic {
    fn is(&self, chat: &str, id: &str) -> bool {
        self.chat == chat && self.id == id
    }
}

/// Topics, the one in which something was heard last at the end.
#[derive(Debug, Default)]
pub(super) struct Topics(Vec<Topic>);

impl Topics {
    /// As [`Self::told`] told.
    pub(super) fn recall(told: &Value) -> Self {
        let topics = told.as_array().into_iter().flatten().filter_map(|it| {
            let text = |index: usize| it.get(index)?.as_str().map(str::to_owned);
            Some(Topic { chat: text(0)?, id: text(1)?, message: text(2)? })
        });
        Self(topics.collect())
    }

    /// For a cursor.
    pub(super) fn told(&self) -> Value {
        self.0.iter().map(|it| json!([it.chat, it.id, it.message])).collect()
    }

    /// Something was heard. Whether it is the first of its topic of which this is remembered; `None`: it is in
    /// none.
    pub(super) fn hear(&mut self, event: &Inbound) -> Option<bool> {
        let (Some(id), Some(message)) = (&event.thread_id, &event.message_id) else { return None };
        if event.kind != InboundKind::Message {
            return None;
        }
        let before = self.0.len();
        self.0.retain(|it| !it.is(&event.chat_id, id));
        let is_new = self.0.len() == before;
        let (chat, id, message) = (event.chat_id.clone(), id.clone(), message.clone());
        self.0.push(Topic { chat, id, message });
        if self.0.len() > MOST {
            self.0.remove(0);
        }
        Some(is_new)
    }

    /// The message that was heard last in a topic.
    pub(super) fn latest(&self, chat: &str, id: &str) -> Option<&str> {
        self.0.iter().find(|it| it.is(chat, id)).map(|it| it.message.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::unreadable;
    use super::*;

    fn said(chat: &str, topic: Option<&str>, message: &str) -> Inbound {
        Inbound {
            kind: InboundKind::Message,
            chat_id: chat.to_owned(),
            thread_id: topic.map(str::to_owned),
            message_id: Some(message.to_owned()),
            ..unreadable(b"{}", 1)
        }
    }

    #[test]
    fn the_latest_are_remembered_and_told() {
        let mut topics = Topics::default();
        assert_eq!(topics.hear(&said("oc_1", None, "om_0")), None);
        let edit = Inbound { kind: InboundKind::Edit, ..said("oc_1", Some("omt_1"), "om_0") };
        assert_eq!(topics.hear(&edit), None);
        assert_eq!(topics.hear(&said("oc_1", Some("omt_1"), "om_a")), Some(true));
        for number in 0..MOST - 1 {
            topics.hear(&said("oc_2", Some(&format!("omt_{number}")), "om_x"));
        }
        assert_eq!(topics.hear(&said("oc_1", Some("omt_1"), "om_b")), Some(false));
        topics.hear(&said("oc_1", Some("omt_2"), "om_c"));
        let topics = Topics::recall(&topics.told());
        assert_eq!(topics.latest("oc_1", "omt_1"), Some("om_b"));
        assert_eq!(topics.latest("oc_2", "omt_1"), Some("om_x"));
        assert_eq!(topics.latest("oc_2", "omt_0"), None, "the oldest is forgotten");
        assert_eq!(topics.0.len(), MOST);
        assert!(Topics::recall(&json!([["oc_1"], 3, null])).0.is_empty());
    }
}

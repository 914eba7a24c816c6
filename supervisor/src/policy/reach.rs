//! Which messages a handler of hooks may touch: it may change and take back what handlers have said in its
//! chat, and react to what it was told about there. Ids of messages are global on some platforms, so the token
//! of a chat alone would reach into others. And what kind of chat it is, which replies do not say.

use std::collections::{HashMap, VecDeque};

use protocol::content::Act;
use protocol::event::ChatType;

/// Messages that are remembered in each chat, and chats.
const MESSAGES: usize = 64;
const CHATS: usize = 1024;

/// A chat: its instance and its id.
type Chat = (String, String);

/// What is within reach. As short-lived as the tokens.
#[derive(Debug, Default)]
pub struct Reach {
    chats: HashMap<Chat, Known>,
    order: VecDeque<Chat>,
}

/// What is known of a chat.
#[derive(Debug, Default)]
struct Known {
    kind: Option<ChatType>,
    messages: VecDeque<(String, Origin)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Handlers were told about it.
    Told,
    /// Handlers have said it.
    Said,
}

impl Reach {
    /// Handlers are told about a message in a chat.
    pub fn told(&mut self, instance: &str, chat: &str, message_id: &str) {
        self.note(instance, chat, message_id, Origin::Told);
    }

    /// A message of a handler has arrived in a chat.
    pub fn said(&mut self, instance: &str, chat: &str, message_id: &str) {
        self.note(instance, chat, message_id, Origin::Said);
    }

    /// The kind of a chat: what an occasion there says of it, or what another one has said.
    pub fn kind(&mut self, instance: &str, chat: &str, said: Option<ChatType>) -> Option<ChatType> {
        let Some(known) = self.chats.get_mut(&(instance.to_owned(), chat.to_owned())) else {
            return said;
        };
        known.kind = said.or(known.kind);
        known.kind
    }

    /// Everything that is within reach, oldest first: instance, chat, message, and whether handlers have said it
    /// themselves.
    pub fn rest(&self) -> Vec<(String, String, String, bool)> {
        let chats = self.order.iter().filter_map(|chat| Some((chat, self.chats.get(chat)?)));
        let each = chats.flat_map(|((instance, chat), known)| {
            known.messages.iter().map(move |(message, origin)| {
                let is_said = *origin == Origin::Said;
                (instance.clone(), chat.clone(), message.clone(), is_said)
            })
        });
        each.collect()
    }

    /// Takes over what [`Reach::rest`] told.
    pub fn resume(&mut self, rest: Vec<(String, String, String, bool)>) {
        for (instance, chat, message, is_said) in rest {
            let origin = if is_said { Origin::Said } else { Origin::Told };
            self.note(&instance, &chat, &message, origin);
        }
    }

    /// Whether a handler with the token of this chat may do this there.
    pub fn allows(&self, instance: &str, chat: &str, act: &Act) -> bool {
        let known = |id: &str, origins: &[Origin]| {
            let chat = self.chats.get(&(instance.to_owned(), chat.to_owned()));
            chat.is_some_and(|chat| {
                chat.messages.iter().any(|(known, origin)| known == id && origins.contains(origin))
            })
        };
        match act {
            Act::Say => true,
            Act::Edit { message_id } | Act::Recall { message_id } => {
                known(message_id, &[Origin::Said])
            }
            Act::React { message_id, .. } => known(message_id, &[Origin::Said, Origin::Told]),
        }
    }

    fn note(&mut self, instance: &str, chat: &str, message_id: &str, origin: Origin) {
        let chat = (instance.to_owned(), chat.to_owned());
        if !self.chats.contains_key(&chat) {
            if self.order.len() >= CHATS
                && let Some(oldest) = self.order.pop_front()
            {
                self.chats.remove(&oldest);
            }
            self.order.push_back(chat.clone());
        }
        let messages = &mut self.chats.entry(chat).or_default().messages;
        if messages.iter().any(|(known, from)| known == message_id && *from == origin) {
            return;
        }
        if messages.len() >= MESSAGES {
            messages.pop_front();
        }
        messages.push_back((message_id.to_owned(), origin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(id: &str) -> Act {
        Act::Edit { message_id: id.into() }
    }

    fn react(id: &str) -> Act {
        Act::React { message_id: id.into(), emoji: "OK".into() }
    }

    #[test]
    fn only_what_handlers_said_in_this_chat_can_be_changed() {
        let mut reach = Reach::default();
        reach.told("feishu", "oc_1", "om_user");
        reach.said("feishu", "oc_1", "om_ours");
        assert!(reach.allows("feishu", "oc_1", &Act::Say));
        assert!(reach.allows("feishu", "oc_1", &edit("om_ours")));
        assert!(reach.allows("feishu", "oc_1", &Act::Recall { message_id: "om_ours".into() }));
        assert!(!reach.allows("feishu", "oc_1", &edit("om_user")), "told is not said");
        assert!(!reach.allows("feishu", "oc_2", &edit("om_ours")), "another chat");
        assert!(!reach.allows("lark", "oc_1", &edit("om_ours")), "another account");
        assert!(reach.allows("feishu", "oc_1", &react("om_user")));
        assert!(!reach.allows("feishu", "oc_1", &react("om_strange")));
        assert!(reach.allows("feishu", "oc_2", &Act::Say));
    }

    #[test]
    fn an_upgrade_forgets_nothing() {
        let mut reach = Reach::default();
        reach.told("feishu", "oc_1", "om_user");
        reach.said("feishu", "oc_1", "om_ours");
        reach.said("feishu", "oc_2", "om_other");
        let mut next = Reach::default();
        next.resume(reach.rest());
        assert_eq!(next.rest(), reach.rest());
        assert!(next.allows("feishu", "oc_1", &edit("om_ours")));
        assert!(!next.allows("feishu", "oc_1", &edit("om_user")));
        assert!(next.allows("feishu", "oc_1", &react("om_user")));
    }

    #[test]
    fn the_kind_of_a_chat_is_known_from_what_was_told_there() {
        let mut reach = Reach::default();
        assert_eq!(reach.kind("feishu", "oc_1", None), None);
        reach.told("feishu", "oc_1", "om_user");
        assert_eq!(reach.kind("feishu", "oc_1", Some(ChatType::Group)), Some(ChatType::Group));
        assert_eq!(reach.kind("feishu", "oc_1", None), Some(ChatType::Group));
        assert_eq!(reach.kind("lark", "oc_1", None), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut reach = Reach::default();
        for n in 0..CHATS + 10 {
            reach.said("a", &n.to_string(), "m");
        }
        assert_eq!((reach.chats.len(), reach.order.len()), (CHATS, CHATS));
        for n in 0..MESSAGES + 10 {
            reach.said("a", "1033", &n.to_string());
        }
        assert!(!reach.allows("a", "1033", &edit("0")) && reach.allows("a", "1033", &edit("70")));
    }
}

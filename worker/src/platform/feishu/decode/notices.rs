//! What happens around messages: reactions, recalls, members, pressed buttons and menus, and what is
//! unknown yet.

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind};
use serde_json::Value;

use super::{Heard, Lack, Reading, id, milliseconds, user_id};
use crate::json::{list_of, member, text_of};
use crate::platform::feishu::compose::DATA;
use crate::raw::feishu_ids;

/// Names in a list.
const NAMES_MAX: usize = 20;
/// A pressed button's data, in bytes.
const DATA_MAX: usize = 16 * 1024;

impl Reading<'_> {
    /// An event that is no message.
    pub(super) fn notice(&self, event_type: &str) -> Heard {
        let body = self.body();
        match event_type {
            // Comes for each message that is read, and nobody waits for it.
            "im.message.message_read_v1" => Heard::Ignored,
            "im.message.recalled_v1" => self.recalled(),
            "im.message.reaction.created_v1" => self.reaction(true),
            "im.message.reaction.deleted_v1" => self.reaction(false),
            "im.chat.member.bot.added_v1" => self.about_bot("[added]"),
            "im.chat.member.bot.deleted_v1" => self.about_bot("[removed]"),
            "im.chat.access_event.bot_p2p_chat_entered_v1" => self.entered(),
            "im.chat.member.user.added_v1" => self.members("joined"),
            "im.chat.member.user.deleted_v1" | "im.chat.member.user.withdrawn_v1" => {
                self.members("left")
            }
            "im.chat.disbanded_v1" => self.about_chat("[disbanded]"),
            "im.chat.updated_v1" => self.about_chat("[changed]"),
            "card.action.trigger" => self.pressed(body, text_of(body, "token")),
            "application.bot.menu_v6" => self.menu(),
            _ => self.unknown(),
        }
    }

    pub(super) fn event_keys(&self) -> Vec<String> {
        let header = member(self.event, "header");
        let found = id(header, "event_id").or_else(|| id(self.event, "uuid"));
        found.map(|id| format!("event:{id}")).into_iter().collect()
    }

    /// An event that somebody caused; nobody caused it who is not named.
    fn by(&self, kind: InboundKind, chat_id: String, operator: &Value) -> Inbound {
        let found = user_id(operator);
        let kind_of = if found.is_some() { SenderKind::User } else { SenderKind::System };
        let sender = Sender { user_id: found.unwrap_or_default(), name: None, kind: kind_of };
        Inbound { sender, ..self.inbound(kind, self.event_keys(), chat_id) }
    }

    /// Fills in what sort of chat it is in, or says that this is lacking.
    fn placed(&self, mut inbound: Inbound, mut lack: Lack) -> Heard {
        if inbound.keys.is_empty() {
            return Heard::Malformed("an event without event_id");
        }
        match self.memory.chat_type(&inbound.chat_id) {
            Some(chat_type) => inbound.chat_type = chat_type,
            None => lack.chat_type = !inbound.chat_id.is_empty(),
        }
        Heard::Event(Box::new(inbound), lack)
    }

    fn recalled(&self) -> Heard {
        let body = self.body();
        let Some(message_id) = id(body, "message_id") else {
            return Heard::Malformed("a recall without message_id");
        };
        let known = self.memory.message(&message_id);
        let chat_id = id(body, "chat_id").or_else(|| known.map(|known| known.chat_id.clone()));
        let Some(chat_id) = chat_id else { return Heard::Malformed("a recall without chat_id") };
        let mut inbound = self.inbound(InboundKind::Recall, self.event_keys(), chat_id);
        inbound.keys.push(format!("recall:{message_id}"));
        inbound.origin_ms = milliseconds(body, "recall_time").unwrap_or(inbound.origin_ms);
        if let Some(known) = known {
            inbound.thread_id.clone_from(&known.thread_id);
            if let Some(sender) = &known.sender {
                inbound.sender = sender.clone();
            }
            // Whoever heard the message hears that it is gone.
            inbound.mention = if known.to_bot { Mention::Me } else { Mention::None };
        }
        let mut lack = Lack::default();
        if known.is_none() {
            match self.memory.person_in(&inbound.chat_id) {
                Some(user_id) => {
                    inbound.sender = Sender { user_id, name: None, kind: SenderKind::User };
                    inbound.mention = Mention::Me;
                    inbound.chat_type = ChatType::Direct;
                    inbound.message_id = Some(message_id);
                    return Heard::Event(Box::new(inbound), lack);
                }
                None => lack.place = Some(message_id.clone()),
            }
        }
        inbound.message_id = Some(message_id);
        self.placed(inbound, lack)
    }

    fn reaction(&self, added: bool) -> Heard {
        let body = self.body();
        let Some(message_id) = id(body, "message_id") else {
            return Heard::Malformed("a reaction without message_id");
        };
        // Our own come back, too.
        if text_of(body, "operator_type") == "app" {
            return Heard::Ignored;
        }
        let word = text_of(member(body, "reaction_type"), "emoji_type");
        let known = self.memory.message(&message_id);
        let chat_id = known.map(|known| known.chat_id.clone());
        let lack = Lack { place: chat_id.is_none().then(|| message_id.clone()), ..Lack::default() };
        let operator = member(body, "user_id");
        let mut inbound = self.by(InboundKind::Reaction, chat_id.unwrap_or_default(), operator);
        let (who, when) = (&inbound.sender.user_id, text_of(body, "action_time"));
        let key = format!("reaction:{message_id}:{who}:{word}:{when}:{added}");
        if key.len() < 256 {
            inbound.keys.push(key);
        }
        if let Some(known) = known {
            inbound.thread_id.clone_from(&known.thread_id);
            inbound.mention = if known.sender.is_none() { Mention::Me } else { Mention::None };
        }
        inbound.origin_ms = milliseconds(body, "action_time").unwrap_or(inbound.origin_ms);
        inbound.text = if added { word.to_owned() } else { String::new() };
        inbound.message_id = Some(message_id);
        self.placed(inbound, lack)
    }

    /// The bot came into a chat, or left it.
    fn about_bot(&self, what: &str) -> Heard {
        let body = self.body();
        let Some(chat_id) = id(body, "chat_id") else {
            return Heard::Malformed("a change of members without chat_id");
        };
        let mut inbound = self.by(InboundKind::Member, chat_id, member(body, "operator_id"));
        inbound.mention = Mention::Me;
        inbound.chat_name = Some(text_of(body, "name").to_owned()).filter(|name| !name.is_empty());
        what.clone_into(&mut inbound.text);
        if inbound.keys.is_empty() {
            return Heard::Malformed("an event without event_id");
        }
        Heard::Event(Box::new(inbound), Lack::default())
    }

    fn entered(&self) -> Heard {
        let body = self.body();
        let Some(chat_id) = id(body, "chat_id") else {
            return Heard::Malformed("a chat without chat_id");
        };
        let mut inbound = self.by(InboundKind::Member, chat_id, member(body, "operator_id"));
        inbound.chat_type = ChatType::Direct;
        inbound.mention = Mention::Me;
        "[entered]".clone_into(&mut inbound.text);
        if inbound.keys.is_empty() {
            return Heard::Malformed("an event without event_id");
        }
        Heard::Event(Box::new(inbound), Lack::default())
    }

    fn members(&self, what: &str) -> Heard {
        let body = self.body();
        let names = list_of(body, "users").iter().map(|user| text_of(user, "name"));
        let names: Vec<_> = names.filter(|name| !name.is_empty()).take(NAMES_MAX).collect();
        match names.as_slice() {
            [] => self.about_chat(&format!("[{what}]")),
            names => self.about_chat(&format!("[{what}: {}]", names.join(", "))),
        }
    }

    fn about_chat(&self, what: &str) -> Heard {
        let body = self.body();
        let Some(chat_id) = id(body, "chat_id") else {
            return Heard::Malformed("a change of a chat without chat_id");
        };
        let mut inbound = self.by(InboundKind::Member, chat_id, member(body, "operator_id"));
        inbound.chat_name = Some(text_of(body, "name").to_owned()).filter(|name| !name.is_empty());
        what.clone_into(&mut inbound.text);
        self.placed(inbound, Lack::default())
    }

    /// Somebody pressed something on a card. `body` is what happened, in the present form or the old.
    pub(super) fn pressed(&self, body: &Value, token: &str) -> Heard {
        let (context, action) = (member(body, "context"), member(body, "action"));
        let chat_id = id(context, "open_chat_id").or_else(|| id(body, "open_chat_id"));
        let message_id = id(context, "open_message_id").or_else(|| id(body, "open_message_id"));
        let operator = member(body, "operator");
        let operator = if operator.is_object() { operator } else { body };
        let mut inbound = self.by(InboundKind::Button, chat_id.unwrap_or_default(), operator);
        if !token.is_empty() && token.len() <= super::ID_MAX {
            inbound.keys.push(format!("press:{token}"));
        }
        let known = message_id.as_deref().and_then(|id| self.memory.message(id));
        if let Some(known) = known {
            inbound.thread_id.clone_from(&known.thread_id);
            if inbound.chat_id.is_empty() {
                inbound.chat_id.clone_from(&known.chat_id);
            }
        }
        let lack = Lack {
            place: message_id.clone().filter(|_| inbound.chat_id.is_empty()),
            ..Lack::default()
        };
        if inbound.chat_id.is_empty() && lack.place.is_none() {
            return Heard::Malformed("a pressed button without a chat");
        }
        // Cards with buttons are ours.
        inbound.mention = Mention::Me;
        inbound.text = data_of(action);
        inbound.message_id = message_id;
        self.placed(inbound, lack)
    }

    fn menu(&self) -> Heard {
        let body = self.body();
        let operator = member(body, "operator");
        let ids = member(operator, "operator_id");
        let Some(open_id) = id(ids, "open_id") else {
            return Heard::Malformed("a menu without an operator");
        };
        // The menu stands in the chat with the bot, which the event does not name. A person is an
        // address as well.
        let chat_id = self.memory.chat_with(&open_id).unwrap_or(open_id);
        let mut inbound = self.by(InboundKind::Button, chat_id, ids);
        inbound.chat_type = ChatType::Direct;
        inbound.mention = Mention::Me;
        let name = text_of(operator, "operator_name");
        inbound.sender.name = Some(name.to_owned()).filter(|name| !name.is_empty());
        text_of(body, "event_key").clone_into(&mut inbound.text);
        if inbound.keys.is_empty() {
            return Heard::Malformed("an event without event_id");
        }
        Heard::Event(Box::new(inbound), Lack::default())
    }

    /// Something that this version has no word for: with a chat and somebody who did it, an agent may
    /// make something of it; without, it is kept for a person.
    pub(super) fn unknown(&self) -> Heard {
        let keys = self.event_keys();
        if keys.is_empty() {
            return Heard::Malformed("an event without event_id");
        }
        let body = self.body();
        let chat_id = [body, member(body, "message")]
            .iter()
            .find_map(|holder| id(holder, "chat_id").or_else(|| id(holder, "open_chat_id")));
        let operator = Some(feishu_ids(self.event)).filter(|ids| !ids.is_null());
        let (Some(chat_id), Some(operator)) = (chat_id, operator) else {
            let kept = self.inbound(InboundKind::Unreadable, keys, String::new());
            return Heard::Unknown(Box::new(kept), Lack::default());
        };
        match self.placed(self.by(InboundKind::Other, chat_id, operator), Lack::default()) {
            Heard::Event(inbound, lack) => Heard::Unknown(inbound, lack),
            other => other,
        }
    }
}

/// What a pressed element says: the data of a button of ours, else what the card's author gave it.
fn data_of(action: &Value) -> String {
    let value = member(action, "value");
    let text = if let Some(data) = value.get(DATA).and_then(Value::as_str).or(value.as_str()) {
        data.to_owned()
    } else {
        let parts = ["value", "option", "options", "input_value", "checked", "form_value"];
        let given: serde_json::Map<String, Value> = parts
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), action.get(*name)?.clone())))
            .filter(|(_, value)| !value.is_null() && *value != "")
            .collect();
        match given.len() {
            0 => text_of(action, "name").to_owned(),
            1 => given.into_values().next().map(plain).unwrap_or_default(),
            _ => Value::Object(given).to_string(),
        }
    };
    text.get(..text.floor_char_boundary(DATA_MAX)).unwrap_or_default().to_owned()
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

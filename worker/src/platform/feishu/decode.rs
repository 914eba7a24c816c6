//! An event of the platform, from JSON into our shape. Pure, and safe with any bytes.
//!
//! The delivery id in a frame names a delivery; what happened is named by the `event_id` of the event,
//! which a repetition keeps, and by the `message_id` in it, which even a replay under a new event id
//! keeps. So both are keys. Absent ids may be missing, null or empty. What an event does not tell (the
//! chat of a reaction, what an answered message said) is looked up in `memory`; what is not there
//! either is [`Lack`], and asked of the platform before the event is handed in.

mod notices;
mod old;

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind, message_key};
use protocol::id::hex;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::content::{self, ALL, Mentioned, calls_all};
use super::encode::handle;
use super::memory::Memory;
use crate::json::{lenient, member, text_of};

/// Larger ones are not handed on as they came.
const RAW_MAX: usize = 256 * 1024;
/// The bound on a key, less the longest prefix.
const ID_MAX: usize = 240;

/// What the bot knows about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Own {
    /// Its id, once the platform has told.
    pub(super) open_id: Option<String>,
}

/// What was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// An event for us, and what it lacks.
    Event(Box<Inbound>, Lack),
    /// An event without use here, handed on for what it may be worth.
    Unknown(Box<Inbound>, Lack),
    /// Well-formed and of no use here.
    Ignored,
    /// Not to be understood now or later: see [`unreadable`].
    Malformed(&'static str),
}

/// What is still to be found out about an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Lack {
    /// It mentions somebody who may be the bot: that cannot be told before the bot knows itself.
    pub(super) own: bool,
    /// What the message said that it answers.
    pub(super) quote: Option<String>,
    /// What it forwards: the messages within this one.
    pub(super) forwarded: Option<String>,
    /// Where this message is, and with it the event.
    pub(super) place: Option<String>,
    /// What sort of chat it is in.
    pub(super) chat_type: bool,
}

impl Lack {
    /// Whether the platform has to be asked.
    pub(super) fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

/// Reads an event. `now_ms` stands in for a missing time.
pub(super) fn decode(payload: &[u8], own: &Own, memory: &Memory, now_ms: i64) -> Heard {
    let Some(event) = lenient(payload) else {
        return Heard::Malformed("the payload is no JSON");
    };
    if !event.is_object() {
        return Heard::Malformed("the payload is no object");
    }
    let reading = Reading { event: &event, payload, own, memory, now_ms };
    let header = member(&event, "header");
    let mut heard = if header.is_object() {
        reading.current(text_of(header, "event_type"))
    } else {
        reading.old()
    };
    if let Heard::Event(inbound, _) = &mut heard
        && let Some(id) = &inbound.message_id
    {
        inbound.parts.iter_mut().for_each(|part| part.handle = handle(id, &part.handle));
    }
    heard
}

/// What remains of an event that is malformed: its bytes, for a person.
pub(super) fn unreadable(payload: &[u8], now_ms: i64) -> Inbound {
    let event = &lenient(payload).unwrap_or_default();
    let (own, memory) = (&Own::default(), &Memory::default());
    let reading = Reading { event, payload, own, memory, now_ms };
    let mut keys = reading.event_keys();
    if keys.is_empty() {
        // A repetition has the same bytes.
        let hash = digest(&SHA256, payload);
        keys.push(format!("raw:{}", hex(hash.as_ref().get(..16).unwrap_or_default())));
    }
    let kept = reading.inbound(InboundKind::Unreadable, keys, String::new());
    Inbound { raw: payload.to_vec(), ..kept }
}

/// Whether a payload can be an event.
pub(super) fn reads(payload: &[u8]) -> bool {
    lenient(payload).is_some_and(|event| event.is_object())
}

/// An event that is being read, and what helps to understand it.
struct Reading<'a> {
    event: &'a Value,
    payload: &'a [u8],
    own: &'a Own,
    memory: &'a Memory,
    now_ms: i64,
}

impl Reading<'_> {
    fn current(&self, event_type: &str) -> Heard {
        match event_type {
            "im.message.receive_v1" => self.message(InboundKind::Message),
            // Nobody documents one of them; where it exists, it is built like a message.
            "im.message.updated_v1" | "im.message.edited_v1" => self.message(InboundKind::Edit),
            _ => self.notice(event_type),
        }
    }

    fn body(&self) -> &Value {
        member(self.event, "event")
    }

    fn message(&self, kind: InboundKind) -> Heard {
        let (header, body) = (member(self.event, "header"), self.body());
        let (message, from) = (member(body, "message"), member(body, "sender"));
        let Some(chat_id) = id(message, "chat_id") else {
            return Heard::Malformed("a message without chat_id");
        };
        let message_id = id(message, "message_id");
        let event_key = id(header, "event_id").map(|id| format!("event:{id}"));
        let message_key = message_id.as_ref().map(|id| match kind {
            InboundKind::Edit => {
                let time = text_of(message, "update_time");
                format!("edit:{id}:{}", time.get(..20).unwrap_or(time))
            }
            _ => message_key(id),
        });
        let keys: Vec<_> = [event_key, message_key].into_iter().flatten().collect();
        if keys.is_empty() {
            return Heard::Malformed("a message without event_id and message_id");
        }
        let sender = self.sender(from);
        let own = self.own.open_id.as_ref();
        if own.is_some_and(|own| *own == text_of(member(from, "sender_id"), "open_id")) {
            // What the bot itself says must not come back to it, or it would talk to itself for ever.
            return Heard::Ignored;
        }
        let (words, inner) = inner(message);
        let mentions = content::mentions(message);
        let message_type = text_of(message, "message_type");
        let mut content = content::render(message_type, &inner, &mentions);
        let is_in_form = match message_type {
            "text" => member(&inner, "text").is_string(),
            _ => inner.is_object(),
        };
        if !is_in_form && content.text.is_empty() && content.parts.is_empty() {
            content.text = words;
        }
        let reply_to = id(message, "parent_id");
        let chat_type = match text_of(message, "chat_type") {
            "p2p" => ChatType::Direct,
            _ => ChatType::Group,
        };
        let answered = reply_to.as_deref().and_then(|id| self.memory.message(id));
        let answers_us = answered.is_some_and(|known| known.sender.is_none());
        let mention = mention(self.own, &mentions, &inner, answers_us);
        let thread_id = id(message, "thread_id");
        // In a topic, every message that answers nothing answers the topic's first one.
        let is_root = thread_id.is_some() && reply_to == id(message, "root_id");
        let quote = answered.filter(|_| !is_root).map(|known| known.words.clone());
        let mut lack = Lack {
            own: own.is_none() && chat_type == ChatType::Group && mention == Mention::Other,
            ..Lack::default()
        };
        if answered.is_none() && !is_root && kind == InboundKind::Message {
            lack.quote.clone_from(&reply_to);
        }
        if message_type == "merge_forward" {
            lack.forwarded.clone_from(&message_id);
        }
        let origin_ms = milliseconds(message, "create_time");
        let origin_ms = match kind {
            InboundKind::Edit => milliseconds(message, "update_time").or(origin_ms),
            _ => origin_ms,
        };
        let inbound = Inbound {
            origin_ms: origin_ms.unwrap_or_else(|| self.time()),
            chat_type,
            thread_id,
            message_id,
            reply_to,
            sender,
            mention,
            text: content.text,
            parts: content.parts,
            quote: quote.filter(|words| !words.is_empty()),
            ..self.inbound(kind, keys, chat_id)
        };
        Heard::Event(Box::new(inbound), lack)
    }

    /// An event about which nothing else is known yet.
    fn inbound(&self, kind: InboundKind, keys: Vec<String>, chat_id: String) -> Inbound {
        Inbound {
            kind,
            keys,
            origin_ms: self.time(),
            chat_id,
            chat_type: ChatType::Group,
            thread_id: None,
            message_id: None,
            reply_to: None,
            sender: Sender { user_id: String::new(), name: None, kind: SenderKind::System },
            mention: Mention::None,
            text: String::new(),
            parts: Vec::new(),
            raw: if self.payload.len() <= RAW_MAX { self.payload.to_vec() } else { Vec::new() },
            chat_name: None,
            quote: None,
            album: None,
        }
    }

    /// When it happened, as far as the event as a whole tells.
    fn time(&self) -> i64 {
        milliseconds(member(self.event, "header"), "create_time").unwrap_or(self.now_ms)
    }

    fn sender(&self, from: &Value) -> Sender {
        let found = user_id(member(from, "sender_id"));
        let kind = match text_of(from, "sender_type") {
            "user" | "" => SenderKind::User,
            // Without our own id, every program may be ourselves.
            "app" | "bot" if self.own.open_id.is_none() || self.own.open_id == found => {
                SenderKind::Own
            }
            "app" | "bot" => SenderKind::Bot,
            _ => SenderKind::System,
        };
        Sender { user_id: found.unwrap_or_default(), name: None, kind }
    }
}

/// Somebody, by the id that every app is told, else by another one.
fn user_id(ids: &Value) -> Option<String> {
    ["open_id", "union_id", "user_id"].iter().find_map(|name| id(ids, name))
}

/// Until the bot knows itself, nobody is it.
fn mention(own: &Own, mentions: &[Mentioned], inner: &Value, answers_us: bool) -> Mention {
    let everybody = |m: &Mentioned| m.key == ALL || m.user_id == "all";
    let us = |m: &Mentioned| own.open_id.as_ref().is_some_and(|own| *own == m.open_id);
    if answers_us || mentions.iter().any(us) {
        Mention::Me
    } else if mentions.iter().any(everybody) || mentions_all(inner) {
        Mention::All
    } else if mentions.is_empty() {
        Mention::None
    } else {
        Mention::Other
    }
}

/// A call of everybody often has no entry in the list.
fn mentions_all(inner: &Value) -> bool {
    match inner {
        Value::String(text) => calls_all(text),
        Value::Array(values) => values.iter().any(mentions_all),
        Value::Object(members) => {
            let at_all = text_of(inner, "tag") == "at" && text_of(inner, "user_id") == "all";
            at_all || members.values().any(mentions_all)
        }
        _ => false,
    }
}

/// The content is JSON in a string: as it came, and what is in it.
fn inner(message: &Value) -> (String, Value) {
    match member(message, "content") {
        Value::Null => (String::new(), Value::Null),
        Value::String(words) => (words.clone(), lenient(words.as_bytes()).unwrap_or_default()),
        other => (other.to_string(), other.clone()),
    }
}

fn id(holder: &Value, name: &str) -> Option<String> {
    let text = text_of(holder, name);
    (!text.is_empty() && text.len() <= ID_MAX).then(|| text.to_owned())
}

fn milliseconds(holder: &Value, name: &str) -> Option<i64> {
    let value = member(holder, name);
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests;

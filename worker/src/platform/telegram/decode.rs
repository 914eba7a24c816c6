//! One update, from the platform's JSON into our shape. Pure.
//!
//! An update has an id and one more member, whose name says what it is; new ones appear several times a
//! year. Ids are numbers of up to 52 bits. A message belongs to a topic only if it says so: outside of
//! forums the same number marks chains of answers. Whoever writes in the name of a chat (a channel, an
//! anonymous administrator) is known by that chat's id. Updates, and the messages of each direct chat, are numbered
//! for each bot anew: what identifies an event names the bot, whose token may make way for another's.

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::content::{Content, answered, as_it_came, content, is_root, mention};
use crate::json::{list_of, member, number_of, parse, text_of};

/// Who the bot is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Own {
    /// Its id.
    pub(super) id: i64,
    /// Its user name, without the `@`.
    pub(super) username: String,
}

impl Own {
    /// A text that identifies something among all that this instance hears, whose bot it is by then.
    fn key(&self, what: &str, id: impl std::fmt::Display) -> String {
        format!("{what}:{}:{id}", self.id)
    }
}

/// What is to be made of an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// An event.
    Event(Box<Inbound>),
    /// Nothing; it is well-formed.
    Ignored,
    /// Nobody knows; it is kept as it came.
    Malformed(&'static str, Box<Inbound>),
}

/// An update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Update {
    /// Its id in the queue.
    pub(super) id: Option<i64>,
    /// What is to be made of it.
    pub(super) heard: Heard,
    /// The album that it is a part of.
    pub(super) album: Option<String>,
    /// The pressed button whose presser waits for a sign.
    pub(super) button: Option<String>,
    /// A group that goes on under another id: the old and the new one.
    pub(super) moved: Option<(i64, i64)>,
}

/// Understands an update. It never fails: what cannot be understood says so.
pub(super) fn decode(raw: &[u8], own: &Own, now_ms: i64) -> Update {
    let update = parse(raw);
    let id = id(raw);
    let kept = || Box::new(unreadable(id, raw, own, now_ms));
    let malformed = |why| Update {
        id,
        heard: Heard::Malformed(why, kept()),
        album: None,
        button: None,
        moved: None,
    };
    let Some(members) = update.as_object() else { return malformed("it is no JSON object") };
    let Some(id) = id else { return malformed("it has no id") };
    let mut understood =
        Update { id: Some(id), heard: Heard::Ignored, album: None, button: None, moved: None };
    let (kind, value) = members
        .iter()
        .find(|(name, _)| *name != "update_id")
        .map_or(("", &Value::Null), |(name, value)| (name.as_str(), value));
    let decoded = match kind {
        "message" | "channel_post" => {
            understood.album =
                Some(text_of(value, "media_group_id").to_owned()).filter(|album| !album.is_empty());
            let here = number_of(member(value, "chat"), "id");
            // Told in both chats, each time.
            understood.moved = here
                .zip(number_of(value, "migrate_to_chat_id"))
                .or_else(|| number_of(value, "migrate_from_chat_id").zip(here));
            message(value, own, InboundKind::Message)
        }
        "edited_message" | "edited_channel_post" => message(value, own, InboundKind::Edit),
        "callback_query" => {
            understood.button = Some(text_of(value, "id").to_owned()).filter(|id| !id.is_empty());
            button(value, own)
        }
        "message_reaction" => reaction(value),
        "my_chat_member" => membership(value, Mention::Me),
        "chat_member" => membership(value, Mention::None),
        "stopped_message_generation" => stop(value),
        "business_connection" => connection(value),
        _ => other(value),
    };
    understood.heard = match decoded {
        Ok(Some(mut event)) => {
            if event.sender.kind == SenderKind::Bot && event.sender.user_id == own.id.to_string() {
                event.sender.kind = SenderKind::Own;
            }
            event.keys.insert(0, own.key("update", id));
            raw.clone_into(&mut event.raw);
            if event.origin_ms == 0 {
                event.origin_ms = now_ms;
            }
            Heard::Event(Box::new(event))
        }
        Ok(None) => Heard::Ignored,
        Err(why) => Heard::Malformed(why, kept()),
    };
    understood
}

/// The id, also where nothing else can be read, or where it is between quotes: by it the platform is told that it may
/// forget.
fn id(raw: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        update_id: &'a RawValue,
    }
    let head: Head<'_> = serde_json::from_slice(raw).ok()?;
    head.update_id.get().trim_matches('"').parse().ok()
}

/// Tells contents apart.
pub(super) fn digest(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    protocol::id::hex(digest.as_ref().get(..16).unwrap_or_default())
}

type Decoded = Result<Option<Inbound>, &'static str>;

fn message(message: &Value, own: &Own, kind: InboundKind) -> Decoded {
    let mut event = base(message, message, kind)?;
    let message_id = number_of(message, "message_id").ok_or("its message has no id")?;
    let chat = event.chat_id.clone();
    let (kind, date) = match kind {
        InboundKind::Edit => (kind, number_of(message, "edit_date").unwrap_or_default()),
        InboundKind::Message
        | InboundKind::Button
        | InboundKind::Reaction
        | InboundKind::Member
        | InboundKind::Other
        | InboundKind::Unreadable
        | InboundKind::Recall
        | InboundKind::Stop => (kind, number_of(message, "date").unwrap_or_default()),
    };
    event.keys = vec![match kind {
        // A message may be edited twice within a second.
        InboundKind::Edit => {
            let version = digest(message.to_string().as_bytes());
            own.key("edit", format_args!("{chat}:{message_id}:{date}:{version}"))
        }
        _ => own.key("message", format_args!("{chat}:{message_id}")),
    }];
    event.origin_ms = date.saturating_mul(1000);
    event.message_id = Some(message_id.to_string());
    let near = member(message, "reply_to_message");
    let is_root = is_root(message);
    if !is_root {
        event.reply_to = number_of(near, "message_id").map(|id| id.to_string());
    }
    match content(message) {
        Content::Words { text, parts } => (event.text, event.parts) = (text, parts),
        Content::Service => return Ok(None),
        Content::Unknown => {
            (event.kind, event.text) = (InboundKind::Other, as_it_came(message));
        }
    }
    let (quote, files) = answered(message);
    event.quote = quote;
    event.parts.extend(files);
    let is_ours = !is_root && number_of(member(near, "from"), "id") == Some(own.id);
    event.mention = if is_ours { Mention::Me } else { mention(message, own) };
    Ok(Some(event))
}

fn button(query: &Value, own: &Own) -> Decoded {
    let message = member(query, "message");
    if !message.is_object() {
        // The message was sent in the name of a user, or is too old: nowhere to answer.
        return Ok(None);
    }
    let mut event = base(message, query, InboundKind::Button)?;
    event.keys = vec![own.key("button", text_of(query, "id"))];
    text_of(query, "data").clone_into(&mut event.text);
    event.message_id = number_of(message, "message_id").map(|id| id.to_string());
    event.mention = Mention::Me;
    Ok(Some(event))
}

fn reaction(change: &Value) -> Decoded {
    let mut event = base(change, change, InboundKind::Reaction)?;
    if event.sender.user_id.is_empty() {
        event.sender = sender(&Value::Null, member(change, "actor_chat"));
    }
    let faces = list_of(change, "new_reaction").iter().map(|face| match text_of(face, "emoji") {
        "" => "[custom emoji]",
        emoji => emoji,
    });
    event.text = faces.collect();
    event.message_id = number_of(change, "message_id").map(|id| id.to_string());
    event.origin_ms = number_of(change, "date").unwrap_or_default().saturating_mul(1000);
    Ok(Some(event))
}

/// Of the bot itself, or of others, which is told to administrators and addresses nobody.
fn membership(change: &Value, mention: Mention) -> Decoded {
    let mut event = base(change, change, InboundKind::Member)?;
    let now = member(change, "new_chat_member");
    let whom = text_of(member(now, "user"), "first_name");
    event.text = if mention == Mention::Me {
        format!("[{}]", text_of(now, "status"))
    } else {
        format!("[{}: {whom}]", text_of(now, "status"))
    };
    event.mention = mention;
    event.origin_ms = number_of(change, "date").unwrap_or_default().saturating_mul(1000);
    Ok(Some(event))
}

/// The button below a preview of a reply. It names no person: there is one in a direct chat, whose id is the
/// chat's.
fn stop(stopped: &Value) -> Decoded {
    let mut event = base(stopped, stopped, InboundKind::Stop)?;
    if event.chat_type == ChatType::Direct {
        event.sender = sender(member(stopped, "chat"), &Value::Null);
    }
    event.thread_id = number_of(stopped, "message_thread_id").map(|id| id.to_string());
    event.mention = Mention::Me;
    Ok(Some(event))
}

/// A business lets the bot speak for it, or not any more: told where the bot speaks with that user.
fn connection(connection: &Value) -> Decoded {
    let chat = json!({"id": number_of(connection, "user_chat_id"), "type": "private"});
    let mut event = base(&json!({ "chat": chat }), connection, InboundKind::Other)?;
    event.origin_ms = number_of(connection, "date").unwrap_or_default().saturating_mul(1000);
    Ok(Some(event))
}

/// A kind that did not exist when this was written: whoever and wherever it names, as others do.
fn other(value: &Value) -> Decoded {
    let event = base(value, value, InboundKind::Other);
    event.map(Some).map_err(|_| "it is of a kind that is unknown here, and names no chat")
}

/// What remains of an update that nobody understands.
fn unreadable(id: Option<i64>, raw: &[u8], own: &Own, now_ms: i64) -> Inbound {
    let key = id.map_or_else(|| own.key("raw", digest(raw)), |id| own.key("update", id));
    Inbound {
        kind: InboundKind::Unreadable,
        keys: vec![key],
        origin_ms: now_ms,
        chat_id: String::new(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: None,
        reply_to: None,
        sender: sender(&Value::Null, &Value::Null),
        mention: Mention::None,
        text: String::new(),
        parts: Vec::new(),
        raw: raw.to_vec(),
        chat_name: None,
        quote: None,
        album: None,
    }
}

/// Chat, topic and sender, which `by` names.
fn base(message: &Value, by: &Value, kind: InboundKind) -> Result<Inbound, &'static str> {
    let chat = member(message, "chat");
    let chat_id = number_of(chat, "id").ok_or("its chat has no id")?;
    let chat_type = match text_of(chat, "type") {
        "private" => ChatType::Direct,
        "channel" => ChatType::Channel,
        _ => ChatType::Group,
    };
    let from = match member(by, "from") {
        Value::Null => member(by, "user"),
        from => from,
    };
    let in_topic = member(message, "is_topic_message").as_bool() == Some(true);
    let thread = number_of(message, "message_thread_id").filter(|_| in_topic);
    Ok(Inbound {
        kind,
        keys: Vec::new(),
        origin_ms: 0,
        chat_id: chat_id.to_string(),
        chat_type,
        thread_id: thread.map(|id| id.to_string()),
        message_id: None,
        reply_to: None,
        sender: sender(from, member(by, "sender_chat")),
        mention: Mention::None,
        text: String::new(),
        parts: Vec::new(),
        raw: Vec::new(),
        chat_name: (chat_type != ChatType::Direct).then(|| text_of(chat, "title").to_owned()),
        quote: None,
        album: None,
    })
}

fn sender(from: &Value, chat: &Value) -> Sender {
    if let Some(id) = number_of(chat, "id") {
        let name = [text_of(chat, "title"), text_of(chat, "username")];
        let name = name.into_iter().find(|name| !name.is_empty()).map(str::to_owned);
        return Sender { user_id: id.to_string(), name, kind: SenderKind::User };
    }
    let Some(id) = number_of(from, "id") else {
        return Sender { user_id: String::new(), name: None, kind: SenderKind::System };
    };
    let is_bot = member(from, "is_bot").as_bool() == Some(true);
    let name = format!("{} {}", text_of(from, "first_name"), text_of(from, "last_name"));
    Sender {
        user_id: id.to_string(),
        name: Some(name.trim().to_owned()).filter(|name| !name.is_empty()),
        kind: if is_bot { SenderKind::Bot } else { SenderKind::User },
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

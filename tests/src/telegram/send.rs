//! Messages that a bot sends: what the platform refuses, limits and makes of them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Answer;
use super::observe::{Observation, Rule, SentMessage};
use super::params::Params;
use super::state::{Bot, Mood, Shared};

const TEXT_MAX: usize = 4096;

/// `sendMessage`. `limit` is the least time between two messages of a chat.
pub(crate) fn message(
    shared: &Shared,
    bot: &mut Bot,
    params: &Params,
    limit: Option<(Duration, u64)>,
) -> Answer {
    let Some(chat_id) = params.number("chat_id") else {
        return Answer::bad(400, "Bad Request: chat_id is empty");
    };
    let raw = params.text("text").unwrap_or_default();
    if raw.is_empty() {
        return Answer::bad(400, "Bad Request: message text is empty");
    }
    let entities = match entities(params, &raw) {
        Ok(entities) => entities,
        Err(why) => {
            shared.violation(&bot.username, Rule::Entities, why.clone());
            return Answer::bad(400, &format!("Bad Request: can't parse entities: {why}"));
        }
    };
    let text = raw.trim().to_owned();
    if text.is_empty() {
        return Answer::bad(400, "Bad Request: text must be non-empty");
    }
    if text.encode_utf16().count() > TEXT_MAX {
        let units = text.encode_utf16().count();
        shared.violation(&bot.username, Rule::Length, format!("{units} units"));
        return Answer::bad(400, "Bad Request: message is too long");
    }
    let username = bot.username.clone();
    let Some(chat) = bot.chats.get_mut(&chat_id) else {
        return Answer::bad(400, "Bad Request: chat not found");
    };
    if let Some(refusal) = refusal(&chat.mood) {
        return refusal;
    }
    let reply = params.json("reply_parameters");
    let member = |name: &str| reply.as_ref().and_then(|reply| reply.get(name));
    let mut reply_to = member("message_id").and_then(Value::as_i64);
    if reply_to.is_some_and(|id| !chat.messages.contains_key(&id)) {
        if member("allow_sending_without_reply") != Some(&Value::Bool(true)) {
            return Answer::bad(400, "Bad Request: message to be replied not found");
        }
        reply_to = None;
    }
    let mut thread_id = params.number("message_thread_id");
    if chat.forum {
        if thread_id.is_some_and(|id| !chat.topics.contains(&id)) {
            return Answer::bad(400, "Bad Request: message thread not found");
        }
    } else if chat_id < 0 {
        thread_id = None;
    }
    let now = Instant::now();
    if let Some((least, seconds)) = limit
        && chat.sent.is_some_and(|at| now < at + least)
    {
        let seconds = seconds.max(1);
        bot.windows.insert(Some(chat_id), now + Duration::from_secs(seconds));
        return Answer::too_many(seconds);
    }
    chat.sent = Some(now);
    bot.next_message += 1;
    let message_id = bot.next_message;
    chat.messages.insert(message_id, text.clone());
    let result = json!({
        "message_id": message_id, "date": crate::clock::wall_ms() / 1000,
        "chat": {"id": chat_id, "type": if chat_id > 0 { "private" } else { "supergroup" }},
        "from": bot.me(), "text": text, "entities": entities,
    });
    let parse_mode = params.text("parse_mode");
    let sent = SentMessage { chat_id, message_id, text, entities, parse_mode, reply_to, thread_id };
    shared.journal.note(&username, Observation::Sent(sent));
    Answer::good(result)
}

/// `editMessageText`.
pub(crate) fn edit(shared: &Shared, bot: &mut Bot, params: &Params) -> Answer {
    let (Some(chat_id), Some(message_id)) = (params.number("chat_id"), params.number("message_id"))
    else {
        return Answer::bad(400, "Bad Request: message identifier is not specified");
    };
    let text = params.text("text").unwrap_or_default().trim().to_owned();
    let username = bot.username.clone();
    let Some(old) = bot.chats.get_mut(&chat_id).and_then(|it| it.messages.get_mut(&message_id))
    else {
        return Answer::bad(400, "Bad Request: message to edit not found");
    };
    if *old == text {
        return Answer::bad(
            400,
            "Bad Request: message is not modified: specified new message content and reply markup are exactly the same",
        );
    }
    if text.encode_utf16().count() > TEXT_MAX {
        return Answer::bad(400, "Bad Request: MESSAGE_TOO_LONG");
    }
    old.clone_from(&text);
    let result = json!({
        "message_id": message_id, "date": crate::clock::wall_ms() / 1000, "text": text,
        "chat": {"id": chat_id, "type": if chat_id > 0 { "private" } else { "supergroup" }},
    });
    shared.journal.note(&username, Observation::Edited { chat_id, message_id, text });
    Answer::good(result)
}

fn refusal(mood: &Mood) -> Option<Answer> {
    Some(match mood {
        Mood::Open => return None,
        Mood::Blocked => Answer::bad(403, "Forbidden: bot was blocked by the user"),
        Mood::Kicked => Answer::bad(403, "Forbidden: bot was kicked from the supergroup chat"),
        Mood::Muted => {
            Answer::bad(400, "Bad Request: not enough rights to send text messages to the chat")
        }
        Mood::Gone => Answer::bad(400, "Bad Request: chat not found"),
        Mood::Migrated(to) => {
            Answer::bad(400, "Bad Request: group chat was upgraded to a supergroup chat")
                .with_parameters(json!({"migrate_to_chat_id": to}))
        }
    })
}

/// The entities, if they lie within the text and cut no character. They count units of UTF-16.
fn entities(params: &Params, text: &str) -> Result<Vec<Value>, String> {
    let list = match params.json("entities") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("entities are no list: {other}")),
    };
    let mut borders = std::collections::BTreeSet::from([0]);
    let mut at = 0;
    for c in text.chars() {
        at += c.len_utf16() as u64;
        borders.insert(at);
    }
    for entity in &list {
        let number = |name: &str| entity.get(name).and_then(Value::as_u64);
        let (Some(offset), Some(length)) = (number("offset"), number("length")) else {
            return Err(format!("no place: {entity}"));
        };
        if length == 0 || !borders.contains(&offset) || !borders.contains(&(offset + length)) {
            return Err(format!("not in the text or inside a character: {entity}"));
        }
        if entity.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("no type: {entity}"));
        }
    }
    Ok(list)
}

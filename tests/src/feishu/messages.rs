//! Creating messages: what a send or a reply must look like, and what it becomes.
//!
//! At most one message comes of one `uuid`; the exact answer to a repeat is not documented, here it is the original
//! message with code 0. While the first request is still held, it is 230049: the message is being sent.

#![expect(clippy::indexing_slicing, reason = "assigning a member of a JSON object cannot fail")]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::observe::{Observation, SentMessage};
use super::rest::{Call, Reply};
use super::state::{KnownMessage, State};
use super::{cards, files};
use crate::clock;

const TEXT_LIMIT: usize = 150 * 1024;
const POST_LIMIT: usize = 30 * 1024;
const UUID_LIMIT: usize = 50;

const BAD_PARAMETER: i64 = 230_001;
const TOO_LONG: i64 = 230_025;
const FIELD_VALIDATION: i64 = 99_992_402;
const BEING_SENT: i64 = 230_049;
const BAD_CARD: i64 = 230_099;

const KINDS: [&str; 11] = [
    "text",
    "post",
    "image",
    "file",
    "audio",
    "media",
    "sticker",
    "interactive",
    "share_chat",
    "share_user",
    "system",
];

/// Kinds of receiver, and how their ids begin.
const RECEIVERS: [(&str, &str); 5] =
    [("open_id", "ou_"), ("union_id", "on_"), ("chat_id", "oc_"), ("user_id", ""), ("email", "")];

pub(crate) type Refusal = (i64, String);

/// The card that a message shows by its id.
fn shown_card(content: &str) -> Option<String> {
    let content: Value = serde_json::from_str(content).ok()?;
    let is_card = content.get("type")? == "card";
    let id = content.pointer("/data/card_id")?.as_str()?;
    is_card.then(|| id.to_owned())
}

/// A request of this `uuid` is at work.
pub(crate) fn hold(state: &mut State, app: &str, uuid: Option<&str>) {
    if let (Some(owner), Some(uuid)) = (state.apps.get_mut(app), uuid) {
        owner.being_sent.insert(uuid.to_owned());
    }
}

/// It is no longer.
pub(crate) fn release(state: &mut State, app: &str, uuid: Option<&str>) {
    if let (Some(owner), Some(uuid)) = (state.apps.get_mut(app), uuid) {
        owner.being_sent.remove(uuid);
    }
}

/// Applies a send or a reply.
pub(crate) fn create(state: &mut State, app: &str, call: &Call<'_>, at: Duration) -> Reply {
    match try_create(state, app, call, at) {
        Ok(reply) => reply,
        Err((code, why)) => Reply::refusal(400, code, &why),
    }
}

fn try_create(
    state: &mut State,
    app: &str,
    call: &Call<'_>,
    at: Duration,
) -> Result<Reply, Refusal> {
    let msg_type = required(&call.body, "msg_type")?;
    let content = required(&call.body, "content")?;
    check_content(msg_type, content, call.bytes)?;
    files::check_key(state, app, msg_type, content)?;
    let uuid = call.uuid();
    if uuid.is_some_and(|uuid| uuid.len() > UUID_LIMIT) {
        return Err((FIELD_VALIDATION, "uuid: the max length is 50".to_owned()));
    }
    let held = |uuid| state.apps.get(app).is_some_and(|owner| owner.being_sent.contains(uuid));
    if uuid.is_some_and(held) {
        return Err((BEING_SENT, "The message is being sent.".to_owned()));
    }
    let now = Instant::now();
    let memory = state.settings.uuid_memory;
    if let Some(uuid) = uuid
        && let Some(owner) = state.apps.get_mut(app)
        && let Some(message) = owner.known_uuid(uuid, memory, now).cloned()
    {
        let message_id = message.message_id.clone();
        let mut reply = Reply::data(&describe(state, app, &message));
        reply.notes.push(Observation::Deduplicated { uuid: uuid.to_owned(), message_id });
        return Ok(reply);
    }
    let message_id = state.fresh_id("om_");
    let place = place(state, call, &message_id)?;
    let message = SentMessage {
        app: app.to_owned(),
        message_id: message_id.clone(),
        receive_id_type: place.receive_id_type,
        receive_id: place.receive_id,
        reply_to: call.target.map(str::to_owned),
        in_thread: place.in_thread,
        msg_type: msg_type.to_owned(),
        content: content.to_owned(),
        uuid: uuid.map(str::to_owned),
        at,
    };
    let known = KnownMessage {
        app: Some(app.to_owned()),
        msg_type: msg_type.to_owned(),
        content: content.to_owned(),
        created_ms: clock::wall_ms(),
        parent_id: message.reply_to.clone(),
        ..place.known
    };
    state.messages.insert(message_id.clone(), known);
    if let Some(card) = shown_card(content) {
        cards::sent(state, app, &card, &message_id)?;
    }
    if let Some(uuid) = uuid
        && let Some(owner) = state.apps.get_mut(app)
    {
        owner.remember_uuid(uuid.to_owned(), message.clone(), now);
    }
    let mut reply = Reply::data(&describe(state, app, &message));
    reply.notes.push(Observation::Sent(message));
    Ok(reply)
}

struct Place {
    receive_id_type: String,
    receive_id: String,
    in_thread: bool,
    known: KnownMessage,
}

/// Where the message goes: a reply follows its target, anything else names a receiver.
fn place(state: &mut State, call: &Call<'_>, message_id: &str) -> Result<Place, Refusal> {
    let Some(target) = call.target else { return receiver(call) };
    let Some(parent) = state.messages.get(target).cloned() else {
        return Err((BAD_PARAMETER, format!("the message {target} does not exist")));
    };
    if let Some(code) = parent.gone {
        return Err((code, format!("the message {target} is gone")));
    }
    let in_thread = call.body.get("reply_in_thread").and_then(Value::as_bool).unwrap_or(false);
    let thread_id = match parent.thread_id {
        Some(thread) => Some(thread),
        None if in_thread => {
            let thread = message_id.replacen("om_", "omt_", 1);
            if let Some(parent) = state.messages.get_mut(target) {
                parent.thread_id = Some(thread.clone());
            }
            Some(thread)
        }
        None => None,
    };
    let root_id = Some(parent.root_id.unwrap_or_else(|| target.to_owned()));
    Ok(Place {
        receive_id_type: "chat_id".to_owned(),
        receive_id: parent.chat_id.clone(),
        in_thread,
        known: KnownMessage {
            chat_id: parent.chat_id,
            root_id,
            thread_id,
            ..KnownMessage::default()
        },
    })
}

fn receiver(call: &Call<'_>) -> Result<Place, Refusal> {
    let Some(kind) = &call.receive_id_type else {
        return Err((FIELD_VALIDATION, "receive_id_type is required".to_owned()));
    };
    let receive_id = required(&call.body, "receive_id")?;
    let prefix = RECEIVERS.iter().find(|(known, _)| known == kind).map(|(_, prefix)| *prefix);
    match prefix {
        None => return Err((FIELD_VALIDATION, format!("receive_id_type {kind} does not exist"))),
        Some(prefix) if !receive_id.starts_with(prefix) => {
            return Err((BAD_PARAMETER, format!("receive_id is no {kind}")));
        }
        Some(_) => {}
    }
    let chat_id = match kind.as_str() {
        "chat_id" => receive_id.to_owned(),
        _ => format!("oc_of_{receive_id}"),
    };
    Ok(Place {
        receive_id_type: kind.clone(),
        receive_id: receive_id.to_owned(),
        in_thread: false,
        known: KnownMessage { chat_id, ..KnownMessage::default() },
    })
}

pub(crate) fn required<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let found = body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.ok_or_else(|| (FIELD_VALIDATION, format!("{name} is required, as a string")))
}

/// `bytes` is the size of the whole request body, which is what the limits are about.
pub(crate) fn check_content(msg_type: &str, content: &str, bytes: usize) -> Result<(), Refusal> {
    let bad = |why: String| Err((BAD_PARAMETER, why));
    if !KINDS.contains(&msg_type) {
        return bad(format!("msg_type {msg_type} does not exist"));
    }
    let limit = match msg_type {
        "post" | "interactive" => POST_LIMIT,
        _ => TEXT_LIMIT,
    };
    if bytes > limit {
        return Err((TOO_LONG, format!("the body has {bytes} bytes, {limit} are allowed")));
    }
    let Ok(Value::Object(content)) = serde_json::from_str(content) else {
        return bad("content is no JSON object in a string".to_owned());
    };
    match msg_type {
        "text" if !content.get("text").is_some_and(Value::is_string) => {
            bad("a text needs the member text".to_owned())
        }
        "post" => check_post(&content).map_or_else(bad, Ok),
        "interactive" => cards::check(&Value::Object(content)).map_err(|why| (BAD_CARD, why)),
        _ => Ok(()),
    }
}

/// A post has a language level and below it title and paragraphs; a level named `post` above is refused.
fn check_post(content: &serde_json::Map<String, Value>) -> Result<(), String> {
    if content.is_empty() {
        return Err("a post needs a language".to_owned());
    }
    for (language, post) in content {
        let locale = language.split_once('_').is_some_and(|(left, right)| {
            [left, right].iter().all(|part| part.len() == 2 && part.is_ascii())
        });
        if !locale {
            return Err(format!("{language} is no language"));
        }
        let Some(paragraphs) = post.get("content").and_then(Value::as_array) else {
            return Err(format!("{language} has no list content"));
        };
        for paragraph in paragraphs {
            let elements = paragraph.as_array().ok_or("a paragraph is a list")?;
            if !elements.iter().all(|element| element.get("tag").is_some_and(Value::is_string)) {
                return Err("an element needs a tag".to_owned());
            }
        }
    }
    Ok(())
}

fn describe(state: &State, app: &str, message: &SentMessage) -> Value {
    let known = state.messages.get(&message.message_id);
    let time = clock::wall_ms().to_string();
    let mut data = json!({
        "message_id": message.message_id,
        "msg_type": message.msg_type,
        "create_time": time,
        "update_time": time,
        "deleted": false,
        "updated": false,
        "chat_id": known.map(|known| known.chat_id.as_str()),
        "sender": {"id": app, "id_type": "app_id", "sender_type": "app", "tenant_key": "tenant"},
        "body": {"content": message.content},
    });
    if let Some(parent) = &message.reply_to {
        data["parent_id"] = json!(parent);
        data["root_id"] = json!(known.and_then(|known| known.root_id.as_deref()));
    }
    if let Some(thread) = known.and_then(|known| known.thread_id.as_deref()) {
        data["thread_id"] = json!(thread);
    }
    data
}

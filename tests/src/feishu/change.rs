//! Messages that become others, are taken back, or are asked for.

use serde_json::{Value, json};

use super::faults::Route;
use super::messages::{Refusal, check_content, required};
use super::observe::Observation;
use super::rest::{Call, Reply};
use super::server::parameter;
use super::state::{KnownMessage, State};

const BAD_PARAMETER: i64 = 230_001;
const RECALLED: i64 = 230_011;
const RECALLED_WORDS: &str = "This message was recalled";
/// What clients see of a card that they do not know.
const UNTOLD: &str = "请升级至最新版本客户端，以查看内容";
const NOT_THIS_TYPE: i64 = 230_054;
const NOT_OURS: i64 = 230_071;
const TOO_OFTEN: i64 = 230_072;

/// `PUT` for texts and posts, `PATCH` for cards.
pub(crate) fn edit(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    match try_edit(state, app, call) {
        Ok(reply) => reply,
        Err((code, why)) => Reply::refusal(400, code, &why),
    }
}

fn try_edit(state: &mut State, app: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    let most = state.settings.edits;
    let message_id = call.target.unwrap_or_default();
    let message = own(state, app, message_id)?;
    let content = required(&call.body, "content")?;
    let is_card = message.msg_type == "interactive";
    let kind = match call.route {
        Route::Patch => "interactive",
        _ => required(&call.body, "msg_type")?,
    };
    let fits = match call.route {
        Route::Patch => is_card,
        _ => {
            !is_card
                && matches!(kind, "text" | "post")
                && matches!(&*message.msg_type, "text" | "post")
        }
    };
    if !fits {
        return Err((NOT_THIS_TYPE, format!("a {} cannot become this", message.msg_type)));
    }
    if is_card {
        let may = |content: &str| {
            let card: Value = serde_json::from_str(content).unwrap_or_default();
            card.pointer("/config/update_multi") == Some(&json!(true))
        };
        if !may(&message.content) || !may(content) {
            return Err((BAD_PARAMETER, "the card has no update_multi".to_owned()));
        }
    }
    check_content(kind, content, call.bytes)?;
    if message.edits >= most && !is_card {
        return Err((TOO_OFTEN, "the message has been edited too often".to_owned()));
    }
    message.edits += 1;
    kind.clone_into(&mut message.msg_type);
    content.clone_into(&mut message.content);
    let mut reply =
        Reply::data(&json!({"message_id": message_id, "msg_type": kind, "updated": true}));
    let (message_id, content) = (message_id.to_owned(), content.to_owned());
    reply.notes.push(Observation::Edited { message_id, msg_type: kind.to_owned(), content });
    Ok(reply)
}

fn own<'a>(state: &'a mut State, app: &str, id: &str) -> Result<&'a mut KnownMessage, Refusal> {
    let message = state.messages.get_mut(id);
    let message = message.ok_or_else(|| (BAD_PARAMETER, format!("no message {id}")))?;
    if let Some(code) = message.gone {
        return Err((code, format!("the message {id} is gone")));
    }
    if message.app.as_deref() != Some(app) {
        return Err((NOT_OURS, "another wrote it".to_owned()));
    }
    Ok(message)
}

/// Takes a message back.
pub(crate) fn recall(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    let message_id = call.target.unwrap_or_default();
    match own(state, app, message_id) {
        Ok(message) => {
            message.gone = Some(RECALLED);
            let mut reply = Reply::data(&json!({}));
            reply.notes.push(Observation::Recalled { message_id: message_id.to_owned() });
            reply
        }
        Err((code, why)) => Reply::refusal(400, code, &why),
    }
}

/// One message, and those that it forwards.
pub(crate) fn get(state: &State, call: &Call<'_>) -> Reply {
    let id = call.target.unwrap_or_default();
    let Some(message) = state.messages.get(id) else {
        return Reply::refusal(400, BAD_PARAMETER, "no such message");
    };
    if let Some(code) = message.gone {
        return Reply::refusal(400, code, "the message is gone");
    }
    let mut items = vec![item(id, message)];
    if message.msg_type == "interactive" {
        let shown = state.cards.values().find(|it| it.message_id.as_deref() == Some(id));
        let made = shown.map_or_else(|| message.content.clone(), |card| card.content.to_string());
        let untold = json!([[{"tag": "img"}, {"tag": "text", "text": UNTOLD}]]);
        let asked = parameter(call.query, "card_msg_content_type");
        let content = if asked.as_deref() == Some("user_card_content") {
            json!({"title": null, "elements": untold, "user_dsl": made})
        } else {
            json!({"title": null, "elements": untold})
        };
        let told = items.first_mut().and_then(|it| it.pointer_mut("/body/content"));
        if let Some(told) = told {
            *told = json!(content.to_string());
        }
    }
    items.extend(message.inside.iter().cloned());
    Reply::data(&json!({ "items": items }))
}

fn item(id: &str, message: &KnownMessage) -> Value {
    let sender = match &message.app {
        Some(app) => {
            json!({"id": app, "id_type": "app_id", "sender_type": "app", "tenant_key": "tenant"})
        }
        None => json!({
            "id": message.sender, "id_type": "open_id", "sender_type": "user", "tenant_key": "tenant",
        }),
    };
    json!({
        "message_id": id,
        "root_id": message.root_id.as_deref().unwrap_or_default(),
        "parent_id": message.parent_id.as_deref().unwrap_or_default(),
        "thread_id": message.thread_id.as_deref().unwrap_or_default(),
        "msg_type": message.msg_type,
        "create_time": message.created_ms.to_string(),
        "update_time": message.created_ms.to_string(),
        "deleted": message.gone.is_some() || message.recalled,
        "updated": message.edits > 0,
        "chat_id": message.chat_id,
        "sender": sender,
        "body": {"content": if message.recalled { RECALLED_WORDS } else { &message.content }},
        "mentions": if message.recalled { &[] } else { message.mentions.as_slice() },
    })
}

/// The messages of a chat, of a thread in it just the first, or those of a thread, page by page.
pub(crate) fn history(state: &State, call: &Call<'_>) -> Reply {
    let Some(container) = parameter(call.query, "container_id") else {
        return Reply::refusal(400, 99_992_402, "container_id is required");
    };
    let is_thread = match parameter(call.query, "container_id_type").as_deref() {
        Some("chat") => false,
        Some("thread") => true,
        _ => return Reply::refusal(400, 99_992_402, "container_id_type is chat or thread"),
    };
    let number = |name| parameter(call.query, name).and_then(|it| it.parse::<u128>().ok());
    let (since, until) = (number("start_time"), number("end_time"));
    if is_thread && (since.is_some() || until.is_some()) {
        return Reply::refusal(400, 99_992_402, "a thread is listed without times");
    }
    let is_inside = |it: &KnownMessage| {
        let is_first = it.thread_id.is_none() || it.root_id.is_none();
        let place = if is_thread { it.thread_id.as_deref() } else { Some(&*it.chat_id) };
        place == Some(&*container) && (is_thread || is_first)
    };
    let size = number("page_size").and_then(|it| usize::try_from(it).ok()).unwrap_or(20);
    if !(1..=50).contains(&size) {
        return Reply::refusal(400, 99_992_402, "page_size is 1 to 50");
    }
    let mut found: Vec<_> = state
        .messages
        .iter()
        .filter(|(_, it)| is_inside(it) && it.gone.is_none())
        .filter(|(_, it)| since.is_none_or(|since| it.created_ms / 1000 >= since))
        .filter(|(_, it)| until.is_none_or(|until| it.created_ms / 1000 <= until))
        .collect();
    found.sort_by_key(|(id, it)| (it.created_ms, *id));
    // The oldest first, unless asked otherwise.
    if parameter(call.query, "sort_type").as_deref() == Some("ByCreateTimeDesc") {
        found.reverse();
    }
    let page = parameter(call.query, "page_token").unwrap_or_default();
    let Ok(start) = page.strip_prefix("page-").unwrap_or("0").parse::<usize>() else {
        return Reply::refusal(400, BAD_PARAMETER, "no such page");
    };
    let items: Vec<_> = found.iter().skip(start).take(size).map(|(id, it)| item(id, it)).collect();
    let has_more = start + items.len() < found.len();
    let next = if has_more { format!("page-{}", start + items.len()) } else { String::new() };
    Reply::data(&json!({"has_more": has_more, "page_token": next, "items": items}))
}

/// What sort of chat it is.
pub(crate) fn chat(state: &State, call: &Call<'_>) -> Reply {
    let id = call.target.unwrap_or_default();
    let mode = if state.direct.contains(id) { "p2p" } else { "group" };
    Reply::data(&json!({"name": "A chat", "chat_mode": mode, "chat_type": "private"}))
}

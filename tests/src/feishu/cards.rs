//! Cards that can grow: made, sent once, changed under ever larger numbers, streaming for ten minutes.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::messages::{Refusal, required};
use super::observe::Observation;
use super::rest::{Call, Reply};
use super::state::{Card, State};

const BAD_CARD: i64 = 200_621;
const NO_CARD: i64 = 300_305;
const SENT_BEFORE: i64 = 300_308;
const NOT_STREAMING: i64 = 300_309;
const NO_ELEMENT: i64 = 300_313;
const SEQUENCE: i64 = 300_317;
const STREAM_OVER: i64 = 200_850;
const LIMIT: usize = 30 * 1024;
const TABLES_MAX: usize = 5;

type Changed = Result<(String, Observation), Refusal>;

/// What a card must look like.
pub(crate) fn check(card: &Value) -> Result<(), String> {
    let Some(members) = card.as_object() else { return Err("a card is an object".to_owned()) };
    match members.get("type").and_then(Value::as_str) {
        Some("template" | "card") => return Ok(()),
        Some(other) => return Err(format!("no card is of type {other}")),
        None => {}
    }
    if members.get("schema").and_then(Value::as_str) != Some("2.0") {
        let old = members.get("elements").is_some_and(Value::is_array)
            || members.get("i18n_elements").is_some();
        return if old { Ok(()) } else { Err("a card has elements".to_owned()) };
    }
    let elements = members.get("body").and_then(|body| body.get("elements"));
    let Some(elements) = elements.and_then(Value::as_array) else {
        return Err("a card has body.elements".to_owned());
    };
    let tables: usize = elements.iter().map(tables_in).sum();
    if tables > TABLES_MAX {
        return Err(format!("11310: card table number over limit: {tables}"));
    }
    elements.iter().try_for_each(check_element)
}

/// Tables in Markdown: the lines below their heads.
fn tables_in(element: &Value) -> usize {
    let words = element.get("content").and_then(Value::as_str).unwrap_or_default();
    let below =
        |line: &&str| line.starts_with("|-") && line.chars().all(|c| matches!(c, '|' | '-' | ':'));
    words.lines().filter(below).count()
}

fn check_element(element: &Value) -> Result<(), String> {
    let text = |name: &str| element.get(name).and_then(Value::as_str);
    match text("tag") {
        None => Err("an element has a tag".to_owned()),
        Some("markdown") if text("content").is_none() => Err("markdown has content".to_owned()),
        Some("action") => Err("cards of 2.0 know no action".to_owned()),
        Some("button") => {
            let label = element.pointer("/text/content").and_then(Value::as_str);
            let behaviors = element.get("behaviors").and_then(Value::as_array);
            let known = |it: &Value| match it.get("type").and_then(Value::as_str) {
                Some("callback") => it.get("value").is_some(),
                Some("open_url") => it.get("default_url").is_some_and(Value::is_string),
                _ => false,
            };
            match (label, behaviors) {
                (Some(label), Some(list)) if !label.is_empty() && list.iter().all(known) => Ok(()),
                _ => Err("a button has text and behaviors".to_owned()),
            }
        }
        Some("column_set") => {
            let columns = element.get("columns").and_then(Value::as_array);
            let columns = columns.ok_or("a column_set has columns")?;
            let inner = columns.iter().filter_map(|it| it.get("elements")?.as_array()).flatten();
            inner.into_iter().try_for_each(check_element)
        }
        Some(_) => Ok(()),
    }
}

/// Makes a card.
pub(crate) fn create(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    let card_id = state.fresh_number().to_string();
    let card = match card_in(&call.body, call.bytes) {
        Ok(card) => card,
        Err((code, why)) => return Reply::refusal(400, code, &why),
    };
    let content = card.to_string();
    let streams = is_streaming(&card).then(Instant::now);
    let made = Card { app: app.to_owned(), content: card, sequence: 0, message_id: None, streams };
    state.cards.insert(card_id.clone(), made);
    let mut reply = Reply::data(&json!({ "card_id": card_id }));
    reply.notes.push(Observation::Card { card_id, act: "create", sequence: None, content });
    reply
}

fn card_in(body: &Value, bytes: usize) -> Result<Value, Refusal> {
    let bad = |why: String| (BAD_CARD, why);
    if body.get("type").and_then(Value::as_str) != Some("card_json") {
        return Err(bad("type is card_json".to_owned()));
    }
    if bytes > LIMIT {
        return Err(bad(format!("{bytes} bytes are too many")));
    }
    let card: Value = serde_json::from_str(required(body, "data")?).unwrap_or_default();
    if card.get("schema").and_then(Value::as_str) != Some("2.0") {
        return Err(bad("a card entity has schema 2.0".to_owned()));
    }
    check(&card).map_err(bad)?;
    Ok(card)
}

fn is_streaming(card: &Value) -> bool {
    card.pointer("/config/streaming_mode") == Some(&json!(true))
}

/// A message shows it.
pub(crate) fn sent(state: &mut State, app: &str, id: &str, message: &str) -> Result<(), Refusal> {
    let card = state.cards.get_mut(id).filter(|card| card.app == app);
    let card = card.ok_or_else(|| (NO_CARD, format!("no card {id}")))?;
    if card.message_id.is_some() {
        return Err((SENT_BEFORE, "a card is sent once".to_owned()));
    }
    card.message_id = Some(message.to_owned());
    Ok(())
}

fn change(
    state: &mut State,
    app: &str,
    call: &Call<'_>,
    act: impl FnOnce(&mut Card, std::time::Duration) -> Changed,
) -> Reply {
    let streaming = state.settings.streaming;
    let id = call.target.unwrap_or_default();
    let Some(card) = state.cards.get_mut(id).filter(|card| card.app == app) else {
        return Reply::refusal(400, NO_CARD, "no such card");
    };
    let Some(sequence) = call.body.get("sequence").and_then(Value::as_i64) else {
        return Reply::refusal(400, 99_992_402, "sequence is required");
    };
    if sequence <= card.sequence || i32::try_from(sequence).is_err() {
        return Reply::refusal(400, SEQUENCE, "sequence number compare failed");
    }
    match act(card, streaming) {
        Ok((_, note)) => {
            card.sequence = sequence;
            let mut reply = Reply::data(&json!({}));
            reply.notes.push(note);
            reply
        }
        Err((code, why)) => Reply::refusal(400, code, &why),
    }
}

fn note(call: &Call<'_>, act: &'static str, content: &str) -> (String, Observation) {
    let card_id = call.target.unwrap_or_default().to_owned();
    let sequence = call.body.get("sequence").and_then(Value::as_i64);
    let content = content.to_owned();
    (String::new(), Observation::Card { card_id, act, sequence, content })
}

/// Shows more words in one element.
pub(crate) fn content(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    change(state, app, call, |card, streaming| {
        let content = required(&call.body, "content")?;
        match card.streams {
            None => return Err((NOT_STREAMING, "streaming mode is closed".to_owned())),
            Some(since) if since.elapsed() >= streaming => {
                card.streams = None;
                return Err((STREAM_OVER, "streaming has timed out".to_owned()));
            }
            Some(_) => {}
        }
        let elements = card.content.pointer_mut("/body/elements").and_then(Value::as_array_mut);
        let named = |it: &&mut Value| it.get("element_id").and_then(Value::as_str) == call.part;
        let Some(element) = elements.and_then(|all| all.iter_mut().find(named)) else {
            return Err((NO_ELEMENT, "no such element".to_owned()));
        };
        if let Some(members) = element.as_object_mut() {
            members.insert("content".to_owned(), json!(content));
        }
        Ok(note(call, "content", content))
    })
}

/// Changes how the card behaves.
pub(crate) fn settings(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    change(state, app, call, |card, _| {
        let text = required(&call.body, "settings")?;
        let settings: Value = serde_json::from_str(text).unwrap_or_default();
        match settings.pointer("/config/streaming_mode").and_then(Value::as_bool) {
            Some(true) => card.streams = Some(Instant::now()),
            Some(false) => card.streams = None,
            None => return Err((BAD_CARD, "settings is JSON in a string".to_owned())),
        }
        Ok(note(call, "settings", text))
    })
}

/// Makes it another card.
pub(crate) fn update(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    change(state, app, call, |card, _| {
        let body = call.body.get("card").cloned().unwrap_or_default();
        card.content = card_in(&body, call.bytes)?;
        card.streams = is_streaming(&card.content).then(Instant::now);
        Ok(note(call, "update", &card.content.to_string()))
    })
}

/// The card that a message shows.
pub(crate) fn convert(state: &State, app: &str, call: &Call<'_>) -> Reply {
    let message = call.body.get("message_id").and_then(Value::as_str);
    let shown = |card: &Card| card.app == app && card.message_id.as_deref() == message;
    match state.cards.iter().find(|(_, card)| message.is_some() && shown(card)) {
        Some((id, _)) => Reply::data(&json!({ "card_id": id })),
        None => Reply::refusal(400, NO_CARD, "this message shows no card entity"),
    }
}

/// Changes a card by what came with its callback.
pub(crate) fn by_token(state: &mut State, call: &Call<'_>) -> Reply {
    let token = call.body.get("token").and_then(Value::as_str).unwrap_or_default();
    let card = call.body.get("card").cloned().unwrap_or_default();
    if let Err(why) = check(&card) {
        return Reply::refusal(400, BAD_CARD, &why);
    }
    let Some(uses) = state.card_tokens.get_mut(token).filter(|uses| **uses > 0) else {
        return Reply::refusal(400, 300_000, "the token is not good");
    };
    *uses -= 1;
    let mut reply = Reply::data(&json!({}));
    let (card_id, content) = (token.to_owned(), card.to_string());
    reply.notes.push(Observation::Card { card_id, act: "token", sequence: None, content });
    reply
}

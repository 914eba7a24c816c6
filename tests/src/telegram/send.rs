//! Messages that a bot sends: what the platform refuses, limits and makes of them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Answer;
use super::observe::{Observation, Rule, SentFile, SentMessage};
use super::params::{Attached, Params};
use super::state::{Bot, Kept, Mood, Shared};

const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;
const DATA_MAX: usize = 64;

/// The least time between two messages of a chat, and what a 429 of it asks for.
pub(crate) type Limit = Option<(Duration, u64)>;

/// What is said, and how it looks.
pub(crate) struct Words {
    pub(crate) text: String,
    pub(crate) entities: Vec<Value>,
}

/// Reads text or caption.
pub(crate) fn words(
    shared: &Shared,
    bot: &Bot,
    params: &Params,
    (text, entities): (&str, &str),
    most: usize,
) -> Result<Words, Answer> {
    let raw = params.text(text).unwrap_or_default();
    let entities = self::entities(params, entities, &raw).map_err(|why| {
        shared.violation(&bot.username, Rule::Entities, why.clone());
        Answer::bad(400, &format!("Bad Request: can't parse entities: {why}"))
    })?;
    let text = raw.trim().to_owned();
    let units = text.encode_utf16().count();
    if units > most {
        shared.violation(&bot.username, Rule::Length, format!("{units} units"));
        let edits = params.number("message_id").is_some();
        return Err(Answer::bad(
            400,
            match (most, edits) {
                (CAPTION_MAX, _) => "Bad Request: message caption is too long",
                (_, true) => "Bad Request: MESSAGE_TOO_LONG",
                (_, false) => "Bad Request: message is too long",
            },
        ));
    }
    Ok(Words { text, entities })
}

pub(crate) fn text(shared: &Shared, bot: &Bot, params: &Params) -> Result<Words, Answer> {
    if params.text("text").unwrap_or_default().is_empty() {
        return Err(Answer::bad(400, "Bad Request: message text is empty"));
    }
    let words = words(shared, bot, params, ("text", "entities"), TEXT_MAX)?;
    if words.text.is_empty() {
        return Err(Answer::bad(400, "Bad Request: text must be non-empty"));
    }
    Ok(words)
}

pub(crate) fn caption(shared: &Shared, bot: &Bot, params: &Params) -> Result<Words, Answer> {
    words(shared, bot, params, ("caption", "caption_entities"), CAPTION_MAX)
}

/// The buttons, if they are such as the platform takes.
pub(crate) fn keyboard(shared: &Shared, bot: &Bot, params: &Params) -> Result<Value, Answer> {
    let Some(markup) = params.json("reply_markup") else { return Ok(Value::Null) };
    let Some(keyboard) = markup.get("inline_keyboard") else { return Ok(Value::Null) };
    let rows = keyboard.as_array().into_iter().flatten();
    for button in rows.flat_map(|row| row.as_array().into_iter().flatten()) {
        let member = |name: &str| button.get(name).and_then(Value::as_str);
        if member("text").is_none_or(str::is_empty) {
            return Err(Answer::bad(
                400,
                "Bad Request: inline keyboard button text must be non-empty",
            ));
        }
        if let Some(url) = member("url").filter(|url| !is_address(url)) {
            let why = format!("inline keyboard button URL '{url}' is invalid: Wrong HTTP URL");
            return Err(Answer::bad(400, &format!("Bad Request: {why}")));
        }
        if member("callback_data").is_some_and(|data| data.is_empty() || data.len() > DATA_MAX) {
            shared.violation(&bot.username, Rule::Length, format!("data of {button}"));
            return Err(Answer::bad(400, "Bad Request: BUTTON_DATA_INVALID"));
        }
    }
    Ok(keyboard.clone())
}

/// Whether a button may lead there: to the platform itself, or to a host with a dot.
fn is_address(url: &str) -> bool {
    let host = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    url.starts_with("tg://") || host.is_some_and(|host| host.contains('.'))
}

/// `sendMessage`.
pub(crate) fn message(shared: &Shared, bot: &mut Bot, params: &Params, limit: Limit) -> Answer {
    let made = (|| {
        let words = text(shared, bot, params)?;
        let buttons = keyboard(shared, bot, params)?;
        let place = place(bot, params, limit, 1)?;
        Ok(create(
            shared,
            bot,
            params,
            place,
            Made { kind: "text", words, buttons, ..Made::none() },
        ))
    })();
    made.map_or_else(|refused| refused, Answer::good)
}

/// `sendPhoto` and its like.
pub(crate) fn file(
    shared: &Shared,
    bot: &mut Bot,
    params: &Params,
    kind: &'static str,
    limit: Limit,
) -> Answer {
    let made = (|| {
        let file = attached(bot, params, kind, params.text(kind))?;
        let words = caption(shared, bot, params)?;
        let buttons = keyboard(shared, bot, params)?;
        let place = place(bot, params, limit, 1)?;
        let made = Made { kind, words, buttons, file: Some(file), album: None };
        Ok(create(shared, bot, params, place, made))
    })();
    made.map_or_else(|refused| refused, Answer::good)
}

/// `sendMediaGroup`.
pub(crate) fn album(shared: &Shared, bot: &mut Bot, params: &Params, limit: Limit) -> Answer {
    let made = (|| {
        let media = params.json("media");
        let media = media.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
        if !(2..=10).contains(&media.len()) {
            let why = "Bad Request: there must be 2 to 10 messages to send as an album";
            return Err(Answer::bad(400, why));
        }
        let kinds: Vec<_> = media.iter().map(|item| kind_of(item)).collect();
        let visual = |kind: &&str| ["photo", "video"].contains(kind);
        let same = kinds.iter().all(|kind| kinds.first() == Some(kind));
        if !(same || kinds.iter().all(visual)) {
            return Err(Answer::bad(400, "Bad Request: these media can't be mixed in an album"));
        }
        let mut all = Vec::new();
        for (item, kind) in media.iter().zip(&kinds) {
            let own = Params::of(item, params);
            let source = item.get("media").and_then(Value::as_str).map(str::to_owned);
            let file = attached(bot, params, kind, source)?;
            all.push((*kind, file, caption(shared, bot, &own)?));
        }
        let count = u32::try_from(all.len()).unwrap_or(1);
        let place = place(bot, params, limit, count)?;
        let group = format!("{}", bot.next_message + 1);
        let all = all.into_iter().map(|(kind, file, words)| {
            let album = Some(group.clone());
            let made = Made { kind, words, buttons: Value::Null, file: Some(file), album };
            create(shared, bot, params, place, made)
        });
        Ok(Value::Array(all.collect()))
    })();
    made.map_or_else(|refused| refused, Answer::good)
}

fn kind_of(item: &Value) -> &'static str {
    match item.get("type").and_then(Value::as_str).unwrap_or_default() {
        "photo" => "photo",
        "video" => "video",
        "audio" => "audio",
        _ => "document",
    }
}

/// The bytes of a file that goes with a call: attached under its own name, or under one that is told.
pub(crate) fn attached(
    bot: &Bot,
    params: &Params,
    kind: &str,
    source: Option<String>,
) -> Result<Attached, Answer> {
    let source = source.unwrap_or_default();
    let name = source.strip_prefix("attach://").unwrap_or(kind);
    if let Some(file) = params.file(name) {
        if file.bytes.is_empty() {
            return Err(Answer::bad(400, "Bad Request: file must be non-empty"));
        }
        return Ok(file.clone());
    }
    let known = bot.files.get(&source);
    let known = known.map(|bytes| Attached { name: source.clone(), bytes: bytes.clone() });
    known
        .ok_or_else(|| Answer::bad(400, &format!("Bad Request: there is no {kind} in the request")))
}

/// Where a message goes, once it may.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    chat_id: i64,
    reply_to: Option<i64>,
    thread_id: Option<i64>,
}

/// Whether `count` messages may go where `params` say.
pub(crate) fn place(
    bot: &mut Bot,
    params: &Params,
    limit: Limit,
    count: u32,
) -> Result<Place, Answer> {
    let Some(chat_id) = params.number("chat_id") else {
        return Err(Answer::bad(400, "Bad Request: chat_id is empty"));
    };
    let Some(chat) = bot.chats.get_mut(&chat_id) else {
        return Err(Answer::bad(400, "Bad Request: chat not found"));
    };
    if let Some(refusal) = refusal(&chat.mood) {
        return Err(refusal);
    }
    let reply = params.json("reply_parameters");
    let member = |name: &str| reply.as_ref().and_then(|reply| reply.get(name));
    let mut reply_to = member("message_id").and_then(Value::as_i64);
    if reply_to.is_some_and(|id| !chat.messages.contains_key(&id)) {
        if member("allow_sending_without_reply") != Some(&Value::Bool(true)) {
            return Err(Answer::bad(400, "Bad Request: message to be replied not found"));
        }
        reply_to = None;
    }
    let mut thread_id = params.number("message_thread_id");
    if chat.forum {
        if thread_id.is_some_and(|id| !chat.topics.contains(&id)) {
            return Err(Answer::bad(400, "Bad Request: message thread not found"));
        }
    } else if chat_id < 0 {
        thread_id = None;
    }
    count_in(bot, chat_id, limit, count)?;
    Ok(Place { chat_id, reply_to, thread_id })
}

/// Counts messages against the limit of a chat.
pub(crate) fn count_in(
    bot: &mut Bot,
    chat_id: i64,
    limit: Limit,
    count: u32,
) -> Result<(), Answer> {
    let now = Instant::now();
    let Some(chat) = bot.chats.get_mut(&chat_id) else { return Ok(()) };
    let (least, seconds) = limit.unwrap_or_default();
    if chat.sent.is_some_and(|at| now < at + least) {
        let seconds = seconds.max(1);
        bot.windows.insert(chat_id.to_string(), now + Duration::from_secs(seconds));
        return Err(Answer::too_many(seconds));
    }
    chat.sent = Some(now + least * count.saturating_sub(1));
    Ok(())
}

pub(crate) struct Made {
    kind: &'static str,
    words: Words,
    buttons: Value,
    file: Option<Attached>,
    album: Option<String>,
}

impl Made {
    fn none() -> Self {
        let words = Words { text: String::new(), entities: Vec::new() };
        Self { kind: "text", words, buttons: Value::Null, file: None, album: None }
    }
}

fn create(shared: &Shared, bot: &mut Bot, params: &Params, place: Place, made: Made) -> Value {
    let Place { chat_id, reply_to, thread_id } = place;
    let Made { kind, words, buttons, file, album } = made;
    bot.next_message += 1;
    let message_id = bot.next_message;
    let kept = Kept {
        text: words.text.clone(),
        buttons: buttons.clone(),
        is_text: kind == "text",
        is_ours: true,
    };
    bot.chat(chat_id).messages.insert(message_id, kept);
    let mut result = json!({
        "message_id": message_id, "date": crate::clock::wall_ms() / 1000,
        "chat": {"id": chat_id, "type": if chat_id > 0 { "private" } else { "supergroup" }},
        "from": bot.me(),
    });
    let (text, entities) =
        if kind == "text" { ("text", "entities") } else { ("caption", "caption_entities") };
    let mut add = |name: &str, value: Value| {
        if let Some(members) = result.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if kind == "text" || !words.text.is_empty() {
        add(text, words.text.clone().into());
        add(entities, words.entities.clone().into());
    }
    let mut sent_file = None;
    if let Some(file) = file {
        let id = format!("file-{message_id}");
        add(kind, described(kind, &id, &file));
        sent_file = Some(SentFile { name: file.name, size: file.bytes.len() });
        bot.files.insert(id, file.bytes);
    }
    if let Some(album) = &album {
        add("media_group_id", album.clone().into());
    }
    if !buttons.is_null() {
        add("reply_markup", json!({"inline_keyboard": buttons}));
    }
    let sent = SentMessage {
        chat_id,
        message_id,
        kind: kind.to_owned(),
        text: words.text,
        entities: words.entities,
        parse_mode: params.text("parse_mode"),
        reply_to,
        thread_id,
        file: sent_file,
        album,
        buttons,
    };
    shared.journal.note(&bot.username, Observation::Sent(sent));
    result
}

/// A file as the platform describes it.
fn described(kind: &str, id: &str, file: &Attached) -> Value {
    let size = file.bytes.len();
    let unique = format!("u-{id}");
    let own = json!({"file_id": id, "file_unique_id": unique, "file_size": size});
    let mut described = own.clone();
    let mut add = |more: Value| {
        if let (Some(members), Some(more)) = (described.as_object_mut(), more.as_object()) {
            members.extend(more.clone());
        }
    };
    match kind {
        "photo" => {
            add(json!({"width": 90, "height": 90}));
            return json!([described]);
        }
        "voice" => add(json!({"duration": 1})),
        "audio" => add(json!({"duration": 1, "file_name": file.name})),
        "video" => add(json!({"duration": 1, "width": 90, "height": 90, "file_name": file.name})),
        _ => add(json!({"file_name": file.name})),
    }
    described
}

pub(crate) fn refusal(mood: &Mood) -> Option<Answer> {
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
fn entities(params: &Params, name: &str, text: &str) -> Result<Vec<Value>, String> {
    let list = match params.json(name) {
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

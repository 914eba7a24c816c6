//! What a bot does with messages that are there: changing, deleting, reacting.

use serde_json::{Value, json};

use super::answer::Answer;
use super::observe::Observation;
use super::params::Params;
use super::send::{Limit, attached, caption, count_in, keyboard, text};
use super::state::{Bot, Mood, Shared};

/// Nothing is changed in a group that goes on under another id.
fn moved(bot: &Bot, chat_id: i64) -> Option<Answer> {
    let mood = &bot.chats.get(&chat_id)?.mood;
    super::send::refusal(mood).filter(|_| matches!(mood, Mood::Migrated(_)))
}

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Text,
    Caption,
    Media,
    Buttons,
}

/// `editMessageText` and its like.
pub(crate) fn edit(
    shared: &Shared,
    bot: &mut Bot,
    params: &Params,
    what: What,
    (limit, old_until): (Limit, i64),
) -> Answer {
    let changed = (|| {
        let bad = |why: &str| Answer::bad(400, &format!("Bad Request: {why}"));
        let (Some(chat_id), Some(message_id)) =
            (params.number("chat_id"), params.number("message_id"))
        else {
            return Err(bad("message identifier is not specified"));
        };
        if let Some(moved) = moved(bot, chat_id) {
            return Err(moved);
        }
        let buttons = keyboard(shared, bot, params)?;
        let old = bot.chats.get(&chat_id).and_then(|chat| chat.messages.get(&message_id)).cloned();
        let Some(old) = old else { return Err(bad("message to edit not found")) };
        if !old.is_ours || message_id <= old_until {
            return Err(bad("message can't be edited"));
        }
        let mut new = old.clone();
        new.buttons = buttons;
        match what {
            What::Text if !old.is_text => {
                return Err(bad("there is no text in the message to edit"));
            }
            What::Text => new.text = text(shared, bot, params)?.text,
            What::Caption if old.is_text => {
                return Err(bad("there is no caption in the message to edit"));
            }
            What::Caption => new.text = caption(shared, bot, params)?.text,
            What::Media => {
                let media = params.json("media").unwrap_or_default();
                let source = media.get("media").and_then(Value::as_str).map(str::to_owned);
                attached(bot, params, "document", source)?;
                new.text = caption(shared, bot, &Params::of(&media, params))?.text;
                new.is_text = false;
            }
            What::Buttons => {}
        }
        if new == old && what != What::Media {
            return Err(bad(
                "message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message",
            ));
        }
        count_in(bot, chat_id, limit, 1)?;
        let result = json!({
            "message_id": message_id, "date": crate::clock::wall_ms() / 1000, "text": new.text,
            "chat": {"id": chat_id, "type": if chat_id > 0 { "private" } else { "supergroup" }},
        });
        let edited = Observation::Edited {
            chat_id,
            message_id,
            text: new.text.clone(),
            buttons: new.buttons.clone(),
        };
        bot.chat(chat_id).messages.insert(message_id, new);
        shared.journal.note(&bot.username, edited);
        Ok(result)
    })();
    changed.map_or_else(|refused| refused, Answer::good)
}

/// `deleteMessage`.
pub(crate) fn delete(shared: &Shared, bot: &mut Bot, params: &Params, old_until: i64) -> Answer {
    let (Some(chat_id), Some(message_id)) = (params.number("chat_id"), params.number("message_id"))
    else {
        return Answer::bad(400, "Bad Request: message identifier is not specified");
    };
    if let Some(moved) = moved(bot, chat_id) {
        return moved;
    }
    if message_id <= old_until {
        return Answer::bad(400, "Bad Request: message can't be deleted for everyone");
    }
    let chat = bot.chats.get_mut(&chat_id);
    if chat.and_then(|chat| chat.messages.remove(&message_id)).is_none() {
        return Answer::bad(400, "Bad Request: message to delete not found");
    }
    shared.journal.note(&bot.username, Observation::Deleted { chat_id, message_id });
    Answer::good(true)
}

/// `setMessageReaction`.
pub(crate) fn react(shared: &Shared, bot: &mut Bot, params: &Params) -> Answer {
    let (Some(chat_id), Some(message_id)) = (params.number("chat_id"), params.number("message_id"))
    else {
        return Answer::bad(400, "Bad Request: message identifier is not specified");
    };
    let reaction = params.json("reaction").unwrap_or_else(|| json!([]));
    let faces: Vec<String> = reaction
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| Some(it.get("emoji").or(it.get("custom_emoji_id"))?.as_str()?.to_owned()))
        .collect();
    let known = ["👍", "👎", "❤", "🔥", "🎉", "👀", "😁", "🤔", "💯"];
    if faces.iter().any(|face| !known.contains(&face.as_str()) && face.parse::<u64>().is_err()) {
        return Answer::bad(400, "Bad Request: REACTION_INVALID");
    }
    let chat = bot.chats.get(&chat_id);
    if chat.is_none_or(|chat| !chat.messages.contains_key(&message_id)) {
        return Answer::bad(400, "Bad Request: message to react not found");
    }
    shared.journal.note(&bot.username, Observation::Reacted { chat_id, message_id, faces });
    Answer::good(true)
}

/// `sendMessageDraft`.
pub(crate) fn draft(shared: &Shared, bot: &mut Bot, params: &Params, possible: bool) -> Answer {
    let chat_id = params.number("chat_id").unwrap_or_default();
    if !possible {
        return Answer::bad(404, "Not Found: method not found");
    }
    if chat_id <= 0 {
        return Answer::bad(400, "Bad Request: TEXTDRAFT_PEER_INVALID");
    }
    let draft_id = params.number("draft_id").unwrap_or_default();
    if draft_id == 0 {
        return Answer::bad(400, "Bad Request: draft identifier must be non-zero");
    }
    let words = match text(shared, bot, params) {
        Ok(words) => words,
        Err(refused) => return refused,
    };
    let draft = Observation::Draft { chat_id, draft_id, text: words.text };
    shared.journal.note(&bot.username, draft);
    Answer::good(true)
}

/// `sendChatAction`.
pub(crate) fn action(shared: &Shared, bot: &mut Bot, params: &Params) -> Answer {
    let chat_id = params.number("chat_id").unwrap_or_default();
    let Some(chat) = bot.chats.get(&chat_id) else {
        return Answer::bad(400, "Bad Request: chat not found");
    };
    if let Some(refusal) = super::send::refusal(&chat.mood) {
        return refusal;
    }
    let thread_id = params.number("message_thread_id");
    let action = params.text("action").unwrap_or_default();
    shared.journal.note(&bot.username, Observation::Action { chat_id, thread_id, action });
    Answer::good(true)
}

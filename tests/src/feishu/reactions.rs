//! Reactions of apps to messages.

use serde_json::json;

use super::observe::Observation;
use super::rest::{Call, Reply};
use super::state::{Reaction, State};

const NO_MESSAGE: i64 = 231_003;
const NO_EMOJI: i64 = 231_001;
const NO_REACTION: i64 = 231_010;

/// Adds one.
pub(crate) fn add(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    let message_id = call.target.unwrap_or_default().to_owned();
    let emoji = call.body.pointer("/reaction_type/emoji_type").and_then(|it| it.as_str());
    let Some(emoji) = emoji.filter(|it| it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
    else {
        return Reply::refusal(400, NO_EMOJI, "no such emoji");
    };
    let id = state.fresh_id("ZCaCIjUBVVWSrm5L-");
    let Some(message) = state.messages.get_mut(&message_id).filter(|it| it.gone.is_none()) else {
        return Reply::refusal(400, NO_MESSAGE, "no such message");
    };
    let known = message.reactions.iter().find(|it| it.emoji == emoji && it.app == app);
    let id = known.map_or(id, |known| known.id.clone());
    let mut reply = Reply::data(&json!({
        "reaction_id": id,
        "operator": {"operator_id": app, "operator_type": "app"},
        "reaction_type": {"emoji_type": emoji},
    }));
    if known.is_none() {
        let (emoji, app) = (emoji.to_owned(), app.to_owned());
        message.reactions.push(Reaction { id: id.clone(), emoji: emoji.clone(), app });
        reply.notes.push(Observation::Reacted { message_id, emoji, reaction_id: id });
    }
    reply
}

/// Takes one back.
pub(crate) fn remove(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    let message_id = call.target.unwrap_or_default().to_owned();
    let Some(message) = state.messages.get_mut(&message_id) else {
        return Reply::refusal(400, NO_MESSAGE, "no such message");
    };
    let own = |it: &Reaction| Some(it.id.as_str()) == call.part && it.app == app;
    let Some(index) = message.reactions.iter().position(own) else {
        return Reply::refusal(400, NO_REACTION, "no such reaction");
    };
    let Reaction { id, emoji, .. } = message.reactions.remove(index);
    let mut reply = Reply::data(&json!({ "reaction_id": id }));
    reply.notes.push(Observation::Unreacted { message_id, emoji, reaction_id: id });
    reply
}

/// All of a message.
pub(crate) fn list(state: &State, call: &Call<'_>) -> Reply {
    let Some(message) = state.messages.get(call.target.unwrap_or_default()) else {
        return Reply::refusal(400, NO_MESSAGE, "no such message");
    };
    let items: Vec<_> = message
        .reactions
        .iter()
        .map(|it| {
            json!({
                "reaction_id": it.id,
                "operator": {"operator_id": it.app, "operator_type": "app"},
                "action_time": "1700000000000",
                "reaction_type": {"emoji_type": it.emoji},
            })
        })
        .collect();
    Reply::data(&json!({"items": items, "has_more": false, "page_token": ""}))
}

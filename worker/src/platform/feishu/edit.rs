//! Messages of ours that become others, or are taken back.
//!
//! What a message is decides how it can be changed: a text or a post by words, a card by a card. A card
//! that may not be changed by right may be by the token that came when somebody pressed it.

use protocol::event::{Outbound, Outcome, Rest};
use serde_json::Value;

use super::Shared;
use super::answer::Said;
use super::compose::{self, Form, Message, Step};
use super::encode::{self, Name};
use super::place::{Place, is_elsewhere};
use super::send::{Done, arrived, ids, is_of_form, later, tell};
use crate::clock;
use crate::json::{list_of, text_of};

/// Makes the message what `outbound` says.
pub(super) async fn edit(shared: &Shared, outbound: &Outbound, message_id: &str) -> Outcome {
    let content = &outbound.content;
    if !content.files.is_empty() {
        return failed("a message cannot become a file: send it as a new one");
    }
    if content.card.is_some() && !content.text.trim().is_empty() {
        return failed(
            "a message becomes a card or words, not both: send one of them as a new one",
        );
    }
    let kind = match kind_of(shared, &outbound.chat_id, message_id).await {
        Ok(kind) => kind,
        Err(said) => return told(said, message_id),
    };
    let is_card = kind == "interactive";
    let first = if is_card { Form::Card } else { Form::Post };
    let steps = match compose::steps(content, Some(first)) {
        Ok(steps) => steps,
        Err(reason) => return failed(&reason),
    };
    let of = steps.len();
    let mut steps = steps.into_iter();
    let said = match steps.next() {
        None => return failed("the reply is empty"),
        Some(Step::File(_)) => return failed("a message cannot become a file"),
        Some(Step::Card(card)) if is_card => {
            change_card(shared, message_id, &Message { kind: "interactive", content: card }).await
        }
        Some(Step::Words { text, form: Form::Card, buttons }) if is_card => {
            change_card(shared, message_id, &compose::say(&text, Form::Card, &buttons)).await
        }
        Some(Step::Words { text, form, .. }) if form != Form::Card => {
            // A text stays one as long as it needs no markup.
            let form = if kind == "text" { Form::of(&text).min(Form::Post) } else { form };
            change_words(shared, message_id, &text, form).await
        }
        Some(Step::Card(_) | Step::Words { .. } | Step::Buttons(_)) => {
            return failed("a text cannot become a card: send it as a new message");
        }
    };
    if said != Said::Done {
        return told(said, message_id);
    }
    let arrived = arrived(outbound);
    let mut done: Vec<Done> = vec![Ok(Some(message_id.to_owned()))];
    // What one message cannot hold follows it, in its topic if it is in one.
    let thread = outbound.thread_id.as_deref();
    let mut place = Place::new(&outbound.chat_id, thread, thread.map(|_| message_id));
    for (index, step) in steps.enumerate() {
        if let Some(Ok(id)) = arrived.get(index + 1) {
            done.push(Ok(id.clone()));
            continue;
        }
        let Step::Words { text, form, buttons } = step else {
            // Buttons are with the words before them.
            done.push(Ok(None));
            continue;
        };
        let message = compose::say(&text, form, &buttons);
        let name = Name::new(outbound, index + 1);
        let answered = place.send(shared, name, &message).await;
        match answered.said {
            Said::Done => {
                done.push(Ok(answered.id("message_id")));
                if done.len() < of {
                    tell(shared, outbound, &done).await;
                }
            }
            Said::Gone(reason) | Said::Never { reason, .. } => {
                let sent = index + 1;
                let reason = format!("{sent} of {of} parts were sent; part {}: {reason}", sent + 1);
                return Outcome::Partly { message_ids: ids(&done), rest: Rest::Failed, reason };
            }
            said => return later(said, None),
        }
    }
    Outcome::Sent { message_ids: ids(&done) }
}

/// Takes the message back. One that is gone is what was wanted.
pub(super) async fn recall(shared: &Shared, message_id: &str) -> Outcome {
    let Some(call) = encode::recall(message_id) else { return failed(NO_ID) };
    match shared.api.call(&call).await.said {
        Said::Done | Said::Gone(_) => Outcome::Sent { message_ids: Vec::new() },
        said => told(said, message_id),
    }
}

const NO_ID: &str = "this is no id of a message";

/// The platform's word for the type of a message of this chat.
async fn kind_of(shared: &Shared, chat: &str, message_id: &str) -> Result<String, Said> {
    let never = |reason: &str| Said::Never { code: 0, reason: reason.to_owned() };
    let of = |found: &str, kind: String| {
        let elsewhere = is_elsewhere(&shared.memory(), chat, found);
        if elsewhere { Err(never("the message is in another chat")) } else { Ok(kind) }
    };
    let known = shared.memory().message(message_id).cloned();
    if let Some(known) = known.filter(|known| !known.kind.is_empty()) {
        return of(&known.chat_id, known.kind);
    }
    let call = encode::message(message_id).ok_or_else(|| never(NO_ID))?;
    let answered = shared.api.call(&call).await;
    if answered.said != Said::Done {
        return Err(answered.said);
    }
    let items = list_of(answered.data(), "items");
    let Some(item) = items.first() else { return Ok(String::new()) };
    of(text_of(item, "chat_id"), text_of(item, "msg_type").to_owned())
}

async fn change_words(shared: &Shared, message_id: &str, text: &str, best: Form) -> Said {
    let mut form = best;
    loop {
        let message = compose::say(text, form, &[]);
        let Some(call) = encode::edit(message_id, &message) else {
            return Said::Never { code: 0, reason: NO_ID.to_owned() };
        };
        let said = shared.api.call(&call).await.said;
        match (&said, form.plainer()) {
            (Said::Never { code, .. }, Some(plainer)) if is_of_form(*code) => form = plainer,
            _ => return said,
        }
    }
}

async fn change_card(shared: &Shared, message_id: &str, message: &Message) -> Said {
    let Some(call) = encode::edit(message_id, message) else {
        return Said::Never { code: 0, reason: NO_ID.to_owned() };
    };
    let said = shared.api.call(&call).await.said;
    if !matches!(said, Said::Never { .. } | Said::Denied(_)) {
        return said;
    }
    // One that has streamed is changed as what it was made of.
    let card: Value = serde_json::from_str(&message.content).unwrap_or_default();
    let made = shared.api.call(&encode::card_of(message_id)).await;
    if made.said == Said::Done
        && let Some(id) = made.id("card_id")
        && let Some(call) = encode::card_whole(&id, &card, super::drafts::next(0))
        && shared.api.call(&call).await.said == Said::Done
    {
        return Said::Done;
    }
    let token = shared.memory().card_token(message_id, clock::now());
    if let Some(token) = token
        && shared.api.call(&encode::card_by_token(&token, &card)).await.said == Said::Done
    {
        return Said::Done;
    }
    said
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.to_owned() }
}

fn told(said: Said, message_id: &str) -> Outcome {
    match said {
        Said::Done => Outcome::Sent { message_ids: vec![message_id.to_owned()] },
        Said::Gone(reason) | Said::Never { reason, .. } => Outcome::Failed { reason },
        said => later(said, None),
    }
}

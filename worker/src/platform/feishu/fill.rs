//! What an event does not tell, asked of the platform: within the time that its answer leaves, and never
//! instead of the event. What cannot be found out is left out.

use std::time::Duration;

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind};
use serde_json::Value;

use super::Shared;
use super::answer::Said;
use super::api::Call;
use super::content::{forwarded, words};
use super::decode::Lack;
use super::encode;
use crate::clock;
use crate::json::{list_of, member, text_of};

/// For all questions about one event. The platform waits 3 s for its answer.
const LIMIT: Duration = Duration::from_millis(1200);
/// How long nothing is asked after the platform did not let us.
const NO_QUESTIONS: Duration = Duration::from_mins(10);
/// Of a quote, in bytes.
const QUOTE_MAX: usize = 4000;

/// Completes `inbound` as far as possible. Whether where it belongs may be told later.
pub(super) async fn fill(shared: &Shared, inbound: &mut Inbound, lack: &Lack) -> bool {
    let until = clock::now() + LIMIT;
    let place = match &lack.place {
        Some(message_id) => message(shared, message_id, until).await,
        None => Err(Silent::ForGood),
    };
    if let Ok(item) = &place {
        let chat = text_of(item, "chat_id");
        if !chat.is_empty() {
            chat.clone_into(&mut inbound.chat_id);
        }
        let thread = text_of(item, "thread_id");
        inbound.thread_id = Some(thread.to_owned()).filter(|id| !id.is_empty());
        if is_own(shared, item) {
            inbound.mention = Mention::Me;
        }
        if inbound.kind == InboundKind::Recall {
            recalled(shared, inbound, item);
        }
    }
    if (lack.chat_type || lack.place.is_some()) && !inbound.chat_id.is_empty() {
        let known = shared.memory().chat_type(&inbound.chat_id);
        let found = match known {
            Some(known) => Some(known),
            None => chat_type(shared, &inbound.chat_id, until).await,
        };
        if let Some(chat_type) = found {
            inbound.chat_type = chat_type;
        }
    }
    if let Some(message_id) = &lack.quote
        && let Ok(item) = message(shared, message_id, until).await
    {
        let words = words(&item);
        let words = words.get(..words.floor_char_boundary(QUOTE_MAX)).unwrap_or_default();
        inbound.quote = Some(words.to_owned()).filter(|words| !words.is_empty());
        if is_own(shared, &item) {
            inbound.mention = Mention::Me;
        }
    }
    if let Some(message_id) = &lack.forwarded
        && let Some(call) = encode::message(message_id)
        && let Ok(data) = ask(shared, &call, until).await
    {
        // The first is the message itself.
        let items = list_of(&data, "items").iter();
        let inside = items.filter(|item| !text_of(item, "upper_message_id").is_empty());
        let inside: Vec<_> = inside.collect();
        if !inside.is_empty() {
            inbound.text = forwarded(&inside);
        }
    }
    matches!(place, Err(Silent::ForNow))
}

/// Who wrote a message that is taken back, which the platform tells longer than what it said.
fn recalled(shared: &Shared, inbound: &mut Inbound, item: &Value) {
    let sender = member(item, "sender");
    if text_of(sender, "sender_type") == "user" && text_of(sender, "id_type") == "open_id" {
        let user_id = text_of(sender, "id").to_owned();
        inbound.sender = Sender { user_id, name: None, kind: SenderKind::User };
    }
    let is_bot = |it: &Value| shared.bot().is_some_and(|bot| bot.open_id == text_of(it, "id"));
    if list_of(item, "mentions").iter().any(is_bot) {
        inbound.mention = Mention::Me;
    }
}

/// Why the platform does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Silent {
    /// It may if it is asked again.
    ForNow,
    ForGood,
}

/// Whether an item that the platform tells of is a message of this app.
fn is_own(shared: &Shared, item: &Value) -> bool {
    let sender = member(item, "sender");
    text_of(sender, "sender_type") == "app" && text_of(sender, "id") == shared.api.settings.app_id
}

/// What the platform tells of a message.
pub(super) async fn message(
    shared: &Shared,
    id: &str,
    until: clock::Instant,
) -> Result<Value, Silent> {
    let call = encode::message(id).ok_or(Silent::ForGood)?;
    let data = ask(shared, &call, until).await?;
    list_of(&data, "items").first().cloned().ok_or(Silent::ForGood)
}

async fn chat_type(shared: &Shared, id: &str, until: clock::Instant) -> Option<ChatType> {
    let data = ask(shared, &encode::chat(id)?, until).await.ok()?;
    let found = match text_of(&data, "chat_mode") {
        "p2p" => ChatType::Direct,
        _ => ChatType::Group,
    };
    shared.memory().learn_chat(id, found);
    Some(found)
}

async fn ask(shared: &Shared, call: &Call, until: clock::Instant) -> Result<Value, Silent> {
    if shared.quiet(call.api) {
        return Err(Silent::ForGood);
    }
    let answered = tokio::time::timeout_at(until, shared.api.call(call)).await;
    let answered = answered.map_err(|_| Silent::ForNow)?;
    match answered.said {
        Said::Done => Ok(answered.data().clone()),
        said => {
            if matches!(said, Said::Denied(_)) {
                shared.be_quiet(call.api, NO_QUESTIONS);
            }
            let passes = matches!(said, Said::Later { .. } | Said::Token);
            tracing::debug!(reason = said.why(), "the platform does not tell more of an event");
            Err(if passes { Silent::ForNow } else { Silent::ForGood })
        }
    }
}

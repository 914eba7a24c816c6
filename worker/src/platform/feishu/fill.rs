//! What an event does not tell, asked of the platform, and asked again where that may help: for some seconds, during
//! which the event waits in its chat, and never instead of the event. What remains unread is said in its place.

use std::time::Duration;

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind};
use serde_json::Value;

use super::Shared;
use super::answer::{Answered, Said};
use super::api::Call;
use super::content::{forwarded, own_words, words};
use super::decode::Lack;
use super::encode;
use crate::clock;
use crate::json::{list_of, member, text_of};

/// How long nothing is asked after the platform did not let us.
const NO_QUESTIONS: Duration = Duration::from_mins(1);
/// Before a question is asked again; later ones wait twice as long each.
const AGAIN: Duration = Duration::from_millis(300);
/// Of a quote, in bytes.
const QUOTE_MAX: usize = 4000;

/// Completes `inbound` as far as possible. Whether where it belongs may be told later.
pub(super) async fn fill(shared: &Shared, inbound: &mut Inbound, lack: &Lack) -> bool {
    let until = clock::now() + shared.limits.asking;
    let place = match &lack.place {
        Some(message_id) => Some(message(shared, message_id, until).await),
        None => None,
    };
    if let Some(Ok(item)) = &place {
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
    if let Some(message_id) = &lack.quote {
        let words = match message(shared, message_id, until).await {
            Ok(item) if is_own(shared, &item) => {
                inbound.mention = Mention::Me;
                own_words(&item)
            }
            Ok(item) => words(&item),
            Err(silent) => format!("[{}]", silent.unread()),
        };
        let words = words.get(..words.floor_char_boundary(QUOTE_MAX)).unwrap_or_default();
        inbound.quote = Some(words.to_owned()).filter(|words| !words.is_empty());
    }
    if let Some(message_id) = &lack.forwarded {
        match within(shared, message_id, until).await {
            Ok(inside) if inside.is_empty() => {}
            Ok(inside) => inbound.text = forwarded(&inside),
            Err(silent) => inbound.text = format!("[forwarded messages: {}]", silent.unread()),
        }
    }
    matches!(place, Some(Err(Silent { for_now: true, .. })))
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

/// The platform does not tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Silent {
    /// It may if it is asked later.
    for_now: bool,
    why: String,
}

impl Silent {
    fn for_good(why: &str) -> Self {
        Self { for_now: false, why: why.to_owned() }
    }

    /// In place of what it should have told.
    fn unread(self) -> String {
        format!("not readable: {}", self.why)
    }
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
    let data = told(shared, id, until).await?;
    let item = list_of(&data, "items").first().cloned();
    item.ok_or_else(|| Silent::for_good("the platform tells nothing of it"))
}

/// The messages within one that forwards them.
async fn within(shared: &Shared, id: &str, until: clock::Instant) -> Result<Vec<Value>, Silent> {
    let data = told(shared, id, until).await?;
    // The first is the message itself.
    let items = list_of(&data, "items").iter();
    Ok(items.filter(|item| !text_of(item, "upper_message_id").is_empty()).cloned().collect())
}

async fn told(shared: &Shared, id: &str, until: clock::Instant) -> Result<Value, Silent> {
    let call = encode::message(id);
    let call = call.ok_or_else(|| Silent::for_good("it has no id of this platform"))?;
    ask(shared, &call, until).await
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

/// Asks, and again as long as there is time and it may help.
async fn ask(shared: &Shared, call: &Call, until: clock::Instant) -> Result<Value, Silent> {
    if let Some(why) = shared.quiet(call.api) {
        return Err(Silent { for_now: false, why });
    }
    let mut pause = AGAIN;
    loop {
        // Whatever swallows one question may let the next one through.
        let limit = until.min(clock::now() + shared.limits.asking / 2);
        let answered = tokio::time::timeout_at(limit, shared.api.call(call)).await;
        let (said, wish) = match answered {
            Ok(answered) if answered.said == Said::Done => return Ok(answered.data().clone()),
            Ok(Answered { said: Said::Later { reason, after_ms, .. }, .. }) => (reason, after_ms),
            Ok(Answered { said: said @ Said::Token, .. }) => (said.why(), None),
            Ok(Answered { said, .. }) => {
                let is_denied = matches!(said, Said::Denied(_));
                let why = said.why();
                if is_denied {
                    shared.be_quiet(call.api, NO_QUESTIONS, &why);
                }
                tracing::debug!(reason = why, "the platform does not tell more of an event");
                return Err(Silent { for_now: false, why });
            }
            Err(_) => ("no answer in time".to_owned(), None),
        };
        let next = clock::now() + wish.map_or(pause, Duration::from_millis);
        if next >= until {
            tracing::warn!(reason = said, "the platform does not tell more of an event");
            return Err(Silent { for_now: true, why: said });
        }
        tokio::time::sleep_until(next).await;
        pause *= 2;
    }
}

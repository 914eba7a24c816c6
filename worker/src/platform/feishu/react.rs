//! Reactions of the bot: those that an agent wishes, and the sign that it is at work.
//!
//! The platform has no sign of typing. A reaction to the message that is worked on says the same, and is
//! taken back at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::content::Busy;
use protocol::event::Outcome;
use tokio::sync::Mutex as AsyncMutex;

use super::Shared;
use super::answer::Said;
use super::compose::emoji;
use super::encode;
use super::send::later;
use crate::clock::{self, Instant};
use crate::json::{list_of, member, text_of};

/// How long no sign is given after the platform refused one.
const NO_SIGNS: Duration = Duration::from_mins(10);
/// And after it had other trouble.
const NO_SIGNS_NOW: Duration = Duration::from_secs(30);
/// Pages of reactions that are looked through for ours.
const PAGES: usize = 5;

/// Adds a reaction, or takes ours back.
pub(super) async fn react(shared: &Shared, message_id: &str, sign: &str) -> Outcome {
    if sign.is_empty() {
        return match take_back(shared, message_id, None).await {
            Said::Done | Said::Gone(_) => Outcome::Sent { message_ids: Vec::new() },
            said => ended(said),
        };
    }
    let Some(word) = emoji(sign) else {
        return Outcome::Failed { reason: format!("the platform has no reaction {sign:?}") };
    };
    match add(shared, message_id, &word).await {
        Said::Done => Outcome::Sent { message_ids: Vec::new() },
        said => ended(said),
    }
}

fn ended(said: Said) -> Outcome {
    match said {
        Said::Gone(reason) | Said::Never { reason, .. } => Outcome::Failed { reason },
        said => later(said, None),
    }
}

async fn add(shared: &Shared, message_id: &str, word: &str) -> Said {
    let Some(call) = encode::react(message_id, word) else { return no_id() };
    let answered = shared.api.call(&call).await;
    if let Some(id) = answered.id("reaction_id").filter(|_| answered.said == Said::Done) {
        shared.memory().reacted(message_id, word, &id);
    }
    answered.said
}

/// Takes our reactions back: those with this word, or all.
async fn take_back(shared: &Shared, message_id: &str, word: Option<&str>) -> Said {
    let known = word.and_then(|word| shared.memory().take_reaction(message_id, word));
    let ids = match known {
        Some(id) => vec![id],
        None => match ours(shared, message_id, word).await {
            Ok(ids) => ids,
            Err(said) => return said,
        },
    };
    for id in ids {
        let Some(call) = encode::unreact(message_id, &id) else { return no_id() };
        match shared.api.call(&call).await.said {
            // One that is gone is what was wanted.
            Said::Done | Said::Gone(_) | Said::Never { code: 231_000..232_000, .. } => {}
            said => return said,
        }
    }
    Said::Done
}

async fn ours(shared: &Shared, message_id: &str, word: Option<&str>) -> Result<Vec<String>, Said> {
    let app = &shared.api.settings.app_id;
    let mut ids = Vec::new();
    let mut page: Option<String> = None;
    for _ in 0..PAGES {
        let call = encode::reactions(message_id, page.as_deref()).ok_or_else(no_id)?;
        let answered = shared.api.call(&call).await;
        if answered.said != Said::Done {
            return Err(answered.said);
        }
        for item in list_of(answered.data(), "items") {
            let operator = member(item, "operator");
            let own = text_of(operator, "operator_type") == "app"
                && text_of(operator, "operator_id") == app;
            let kind = text_of(member(item, "reaction_type"), "emoji_type");
            if own && word.is_none_or(|word| word == kind) {
                ids.push(text_of(item, "reaction_id").to_owned());
            }
        }
        page = answered.id("page_token");
        let more = member(answered.data(), "has_more").as_bool().unwrap_or(false);
        if !more || page.is_none() {
            break;
        }
    }
    Ok(ids)
}

fn no_id() -> Said {
    Said::Never { code: 0, reason: "this is no id of a message".to_owned() }
}

/// Messages that are worked on.
#[derive(Default)]
pub(super) struct Working {
    signs: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
    off: Mutex<Option<Instant>>,
}

/// Shows that an agent is at work, or not any more.
pub(super) async fn busy(shared: &Shared, busy: &Busy) {
    let word = shared.api.settings.working.as_str();
    let Some(message_id) = busy.message_id.as_deref().filter(|_| !word.is_empty()) else { return };
    let turn = shared.working.turn(message_id);
    // One after the other, so that what is taken back has been given.
    let held = turn.lock().await;
    let is_off = shared.working.is_off(clock::now());
    if busy.on {
        let said = if is_off { Said::Done } else { add(shared, message_id, word).await };
        match said {
            Said::Done | Said::Gone(_) | Said::Token => {}
            said @ Said::Later { .. } => {
                tracing::debug!(reason = said.why(), "no sign of work is shown");
                shared.working.off(NO_SIGNS_NOW);
            }
            said @ (Said::Never { .. } | Said::Denied(_)) => {
                tracing::warn!(reason = said.why(), "no sign of work is shown");
                shared.working.off(NO_SIGNS);
            }
        }
    } else if !is_off || shared.memory().has_reacted(message_id, word) {
        let said = take_back(shared, message_id, Some(word)).await;
        if said != Said::Done {
            tracing::debug!(reason = said.why(), "a sign of work stays");
        }
    }
    drop(held);
    shared.working.done(message_id, &turn);
}

impl Working {
    fn turn(&self, message_id: &str) -> Arc<AsyncMutex<()>> {
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        signs.entry(message_id.to_owned()).or_default().clone()
    }

    fn done(&self, message_id: &str, turn: &Arc<AsyncMutex<()>>) {
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the table's: nobody waits.
        if Arc::strong_count(turn) == 2 {
            signs.remove(message_id);
        }
    }

    fn is_off(&self, now: Instant) -> bool {
        let mut off = self.off.lock().unwrap_or_else(PoisonError::into_inner);
        off.take_if(|until| now >= *until);
        off.is_some()
    }

    fn off(&self, span: Duration) {
        *self.off.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now() + span);
    }
}

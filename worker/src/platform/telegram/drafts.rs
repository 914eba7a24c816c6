//! Replies in the making, as people see them.
//!
//! In a direct chat the platform has previews of its own, which vanish when the reply comes; where it refuses
//! them, and in groups, a message is sent and changed as the reply grows, and becomes the reply. Of one that is too
//! long for a message its newest words are shown. The supervisor sends the next draft of a reply when one is shown, so there is never a second one under way.
//! A draft is only shown where no message would have to wait for it. When the reply comes, it waits for the
//! call that is under way, so that it knows what people see.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::content::Draft;
use protocol::event::Outbound;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::Said;
use super::buttons::Keys;
use super::encode::{To, marks, newest};
use super::steps::Step;
use crate::clock::{self, Instant};
use crate::json::number_of;

/// Replies in the making that are remembered.
const MOST: usize = 512;
/// Chats that refused previews and are remembered.
const REFUSED_MOST: usize = 1024;
/// Beyond the time that the platform wants.
const MARGIN: Duration = Duration::from_millis(300);

/// What people see of a reply.
#[derive(Debug, Default)]
struct Shown {
    /// The message that shows it, and its chat.
    message: Option<(i64, i64)>,
    /// What it says.
    text: String,
    /// Nobody knows what became of the first call: another could double it.
    lost: bool,
    /// The preview that shows it, which the platform takes away after a while.
    preview: Option<Preview>,
}

#[derive(Debug)]
struct Preview {
    chat: i64,
    body: Value,
    at: Instant,
}

#[derive(Debug, Default)]
struct Entry {
    /// The reply is there.
    over: CancellationToken,
    shown: tokio::sync::Mutex<Shown>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Drafts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Arc<Entry>>,
    /// Chats without previews of the platform's own.
    without: HashSet<i64>,
}

impl Drafts {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, key: &str) -> Arc<Entry> {
        let mut inner = self.inner();
        if inner.entries.len() >= MOST && !inner.entries.contains_key(key) {
            inner.entries.retain(|_, entry| !entry.over.is_cancelled());
        }
        if inner.entries.len() >= MOST && !inner.entries.contains_key(key) {
            // Their agents have died, or hand nothing in. What is under way keeps its own.
            inner.entries.clear();
        }
        inner.entries.entry(key.to_owned()).or_default().clone()
    }

    /// The reply of a draft goes out: the message that shows it in `chat`, once nothing is under way any more.
    pub(super) async fn over(&self, outbound: &Outbound, chat: i64) -> Option<i64> {
        let durable = durable(&outbound.chat_id, outbound.draft_id.as_ref());
        let durable = durable.and_then(|message| in_chat(message, chat));
        if outbound.draft_key.is_empty() {
            return durable;
        }
        // One that is still on its way here is too old.
        let entry = self.entry(&outbound.draft_key);
        entry.over.cancel();
        let shown = entry.shown.lock().await;
        shown.message.and_then(|message| in_chat(message, chat)).or(durable)
    }

    /// The reply has come to its end. What comes late is not shown.
    pub(super) fn forget(&self, key: &str) {
        if key.is_empty() {
            return;
        }
        // Also where no draft has come so far: one may be on its way here.
        self.entry(key);
        let over = Arc::<Entry>::default();
        over.over.cancel();
        self.inner().entries.insert(key.to_owned(), over);
    }

    fn has_previews(&self, chat: i64) -> bool {
        chat > 0 && !self.inner().without.contains(&chat)
    }

    fn no_previews(&self, chat: i64) {
        let mut inner = self.inner();
        if inner.without.len() >= REFUSED_MOST {
            inner.without.clear();
        }
        inner.without.insert(chat);
    }
}

/// What is remembered beyond this life has its number in the chat that it names.
fn durable(chat: &str, message: Option<&String>) -> Option<(i64, i64)> {
    Some((message?.parse().ok()?, chat.parse().ok()?))
}

/// Its number, if it is in this chat. A group that goes on under another id has new numbers.
fn in_chat((id, of): (i64, i64), chat: i64) -> Option<i64> {
    (of == chat).then_some(id)
}

/// Shows a draft; the message that does, if one does.
pub(super) async fn show(shared: &Shared, draft: &Draft) -> Option<String> {
    let entry = shared.drafts.entry(&draft.key);
    let mut shown = entry.shown.lock().await;
    if shown.message.is_none() {
        shown.message = durable(&draft.lane.chat_id, draft.message_id.as_ref());
    }
    let showing = step(shared, draft, &mut shown, &entry.over);
    showing.await;
    shown.message.map(|(id, _)| id.to_string())
}

/// Shows previews in this chat again before the platform takes them away. Whether there was one to show. The caller
/// has the chat's turn, and knows that somebody is still at work there.
pub(super) async fn again(shared: &Shared, chat: i64) -> bool {
    let entries: Vec<_> = shared.drafts.inner().entries.values().cloned().collect();
    let mut was_one = false;
    for entry in entries {
        let Ok(mut shown) = entry.shown.try_lock() else { continue };
        let is_due = |preview: &&mut Preview| {
            preview.chat == chat && clock::now().duration_since(preview.at) >= shared.preview
        };
        let Some(preview) = shown.preview.as_mut().filter(is_due) else { continue };
        if entry.over.is_cancelled() {
            continue;
        }
        was_one = true;
        match shared.api.ask("sendMessageDraft", &preview.body).await {
            Said::Done(_) => preview.at = clock::now(),
            Said::Limited(pause) => limited(shared, chat, pause),
            _ => {}
        }
    }
    was_one
}

async fn step(shared: &Shared, draft: &Draft, shown: &mut Shown, over: &CancellationToken) {
    let to =
        To::at(&draft.lane.chat_id, draft.lane.thread_id.as_deref(), draft.reply_to.as_deref());
    let Ok(mut to) = to else { return };
    to = shared.now_to(to);
    let message = shown.message.and_then(|message| in_chat(message, to.chat));
    let Some(part) = newest(&draft.text) else { return };
    if shown.lost || part.text == shown.text || shared.is_away() {
        return;
    }
    let turn = shared.turn(to.chat);
    let _turn = loop {
        let own = turn.lock().await;
        let Err(wait) = ({ shared.pace().spare(to.chat, clock::now()) }) else { break own };
        drop(own);
        let wait = over.run_until_cancelled(tokio::time::sleep(wait));
        if shared.stop.run_until_cancelled(wait).await.flatten().is_none() {
            return;
        }
    };
    if over.is_cancelled() {
        return;
    }
    if message.is_none() && shared.drafts.has_previews(to.chat) {
        // Below it people find a button that stops the agent: see `decode`. Older servers know of none.
        let mut body = json!({"draft_id": number(&draft.key), "text": part.text, "can_stop": true});
        if let Some(members) = body.as_object_mut() {
            members.insert("entities".to_owned(), marks(&part).into());
        }
        To { reply: None, ..to }.address(&mut body, true);
        match shared.api.ask("sendMessageDraft", &body).await {
            Said::Done(_) => {
                shown.text = part.text;
                shown.preview = Some(Preview { chat: to.chat, body, at: clock::now() });
                return;
            }
            Said::Limited(pause) => return limited(shared, to.chat, pause),
            Said::Away(_) | Said::Unclear(_) => return,
            // Too old a server, or none for this chat.
            _ => shared.drafts.no_previews(to.chat),
        }
        // The refused call was none; the pace is not asked twice.
    }
    let buttons = Keys::new();
    let text = part.text.clone();
    let step = match message {
        None => Step::Text { part, buttons },
        Some(id) => Step::Edit { id, part, buttons, draft: true },
    };
    match shared.api.perform(&step.call(to), &shared.exchange).await {
        Said::Done(made) => {
            let id = message.or(number_of(&made, "message_id"));
            shown.message = id.map(|id| (id, to.chat));
            shown.text = text;
        }
        Said::Limited(pause) => limited(shared, to.chat, pause),
        // It may stand there; nobody will ever know its id.
        Said::Unclear(_) => shown.lost = message.is_none(),
        Said::Moved(chat) => shared.moved(to.chat, chat),
        Said::Away(_) => {}
        // What is wrong is told when the reply itself is refused.
        Said::Refused(_) | Said::Credentials(_) | Said::Conflict(_) => shown.text = text,
    }
}

/// The platform wants a pause in a chat.
pub(super) fn limited(shared: &Shared, chat: i64, pause: Duration) {
    let pause = pause + MARGIN + clock::jitter(MARGIN);
    shared.pace().limited(chat, pause, clock::now());
}

/// The platform numbers previews; 0 is none. Only two replies in one chat at once must differ.
fn number(key: &str) -> i64 {
    i64::from(hash(key) >> 1).max(1)
}

/// FNV.
pub(super) fn hash(text: &str) -> u32 {
    text.bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

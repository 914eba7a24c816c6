//! What was said while nobody listened. What is remembered of it is pure, and the instance's cursor.
//!
//! The platform tells an event at once, after 15 s, 5 min, 1 h and 6 h, and then never again (F18). So after
//! an absence beyond the first repetition, the history of the chats that are known is read from the moment
//! on until which this app surely heard everything, and handed in like events; what comes again
//! later is known by its message id. Until that is done, the moment does not move, in this life or the
//! next.
//!
//! The history has messages only: no edits, reactions, pressed buttons, and of a topic just its first message.
//! A chat in which nothing was ever heard is unknown.

mod past;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::event::{ChatType, Inbound, InboundKind};
use protocol::worker::Cursor;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(super) use self::past::catch_up;
use super::Shared;
use super::accounts::Accounts;
use super::order::Place;
use crate::json::{list_of, member, number_of, parse, text_of};
use crate::platform::Note;
use crate::raw::feishu_ids;

/// Chats whose history is read: those in which something was heard last.
const CHATS_MAX: usize = 200;
/// The clocks of the platform and of this machine differ, and so does when a message was made and told.
const MARGIN_MS: i64 = 10_000;
/// From who is new until that is remembered.
const SOON: Duration = Duration::from_secs(1);

/// When to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// An absence that the platform's first repetition may not outlast.
    pub(super) least: Duration,
    /// Between two cursors.
    pub(super) save: Duration,
    /// Before what could not be read is tried again,
    pub(super) again: Duration,
    /// as long as nobody has to wait for it.
    pub(super) soon: Duration,
    /// What comes in a chat waits so long at most while its past cannot be read. What cannot be answered in time is
    /// in the history by then, and the platform says it again after 15 s.
    pub(super) patience: Duration,
}

/// What is known.
#[derive(Debug, Default)]
struct State {
    /// Until then everything was heard, in Unix milliseconds. 0: nothing was ever.
    heard_ms: i64,
    /// When the latest frame came.
    frame_ms: i64,
    chats: HashMap<String, Chat>,
    accounts: Accounts,
    /// Since this moment some is to be read.
    owed: Option<Owed>,
    /// Nor was anything heard since this moment, while that was being read.
    missed_ms: Option<i64>,
    /// The connection works.
    up: bool,
    changed: bool,
}

#[derive(Clone, Debug)]
struct Chat {
    kind: ChatType,
    /// Who speaks with the bot in it, if it is direct.
    with: Option<String>,
    /// When something was heard in it.
    at_ms: i64,
    /// The supervisor has kept a cursor that names it, with an event.
    kept: bool,
}

#[derive(Debug)]
struct Owed {
    since_ms: i64,
    places: HashMap<String, Place>,
}

impl State {
    fn cursor(&self) -> Cursor {
        let of = |kind: ChatType| {
            let chats = self.chats.iter().filter(|(_, chat)| chat.kind == kind);
            chats.map(|(id, _)| id.as_str()).collect::<Vec<_>>()
        };
        let with = self.chats.iter().filter_map(|(id, chat)| Some((id, chat.with.as_ref()?)));
        let told = json!({
            "heard_ms": self.heard_ms, "direct": of(ChatType::Direct), "groups": of(ChatType::Group),
            "with": with.collect::<HashMap<_, _>>(), "accounts": self.accounts.told(),
        });
        Cursor(told.to_string().into_bytes())
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Absence {
    state: Mutex<State>,
    due: Notify,
    news: Notify,
}

impl Absence {
    /// As the cursor says.
    pub(super) fn recall(cursor: Option<&Cursor>) -> Self {
        let told: Value =
            cursor.and_then(|it| serde_json::from_slice(&it.0).ok()).unwrap_or_default();
        let heard_ms = number_of(&told, "heard_ms").unwrap_or_default();
        let listed = |name: &str, kind: ChatType| {
            let chats = list_of(&told, name).iter().filter_map(Value::as_str);
            let with = |id| Some(text_of(member(&told, "with"), id).to_owned());
            let chat = |id| Chat {
                kind,
                with: with(id).filter(|user| !user.is_empty()),
                at_ms: heard_ms,
                kept: true,
            };
            chats.map(|id| (id.to_owned(), chat(id))).collect::<Vec<_>>()
        };
        let mut chats: HashMap<_, _> = listed("direct", ChatType::Direct).into_iter().collect();
        chats.extend(listed("groups", ChatType::Group));
        let accounts = Accounts::recall(member(&told, "accounts"));
        let state = State { heard_ms, chats, accounts, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// Who speaks with the bot, and in which chat.
    pub(super) fn people(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let people =
            state.chats.iter().filter_map(|(id, chat)| Some((chat.with.clone()?, id.clone())));
        people.collect()
    }

    /// Who caused an event has the ids that it names.
    pub(super) fn knows(&self, event: &Inbound) {
        let mut state = self.lock();
        if state.accounts.wants(&event.sender.user_id)
            && state.accounts.hear(feishu_ids(&parse(&event.raw)))
        {
            state.changed = true;
            self.news.notify_one();
        }
    }

    /// Something was heard in a chat.
    pub(super) fn spoke(&self, event: &Inbound, now_ms: i64) {
        if event.kind != InboundKind::Message || event.chat_id.is_empty() {
            return;
        }
        let mut state = self.lock();
        let known = state.chats.get(&event.chat_id);
        let (is_new, kept) = (known.is_none(), known.is_some_and(|chat| chat.kept));
        let with = match event.direct_user() {
            Some(user) => Some(user.to_owned()),
            None => known.and_then(|chat| chat.with.clone()),
        };
        let chat = Chat { kind: event.chat_type, with, at_ms: now_ms, kept };
        state.chats.insert(event.chat_id.clone(), chat);
        state.changed |= is_new;
        if state.chats.len() > CHATS_MAX {
            let oldest = state.chats.iter().min_by_key(|(_, chat)| chat.at_ms);
            let oldest = oldest.map(|(chat, _)| chat.clone());
            oldest.and_then(|chat| state.chats.remove(&chat));
        }
    }

    /// A frame of the platform came: the connection works.
    pub(super) fn alive(&self, shared: &Shared, now_ms: i64) {
        let mut state = self.lock();
        let was_up = std::mem::replace(&mut state.up, true);
        let before_ms = std::mem::replace(&mut state.frame_ms, now_ms);
        // What is not read yet has kept the other moment back.
        let is_reading = state.owed.is_some();
        let heard_ms = if is_reading { before_ms } else { state.heard_ms };
        let away_ms = now_ms.saturating_sub(heard_ms);
        let least = i64::try_from(shared.limits.absence.least.as_millis()).unwrap_or(i64::MAX);
        let most = i64::from(shared.api.settings.catch_up_h) * 3_600_000;
        let owes = !was_up && heard_ms > 0 && away_ms >= least && most > 0;
        let since_ms = (heard_ms - MARGIN_MS).max(now_ms - most);
        if owes && is_reading {
            state.missed_ms.get_or_insert(since_ms);
        } else if owes {
            let place = |chat: &String| Some((chat.clone(), shared.order.place(chat, true)?));
            let places = state.chats.keys().filter_map(place).collect();
            state.owed = Some(Owed { since_ms, places });
            self.due.notify_one();
        }
        if state.owed.is_none() {
            state.heard_ms = now_ms;
            state.changed = true;
        }
    }

    /// There is no connection any more.
    pub(super) fn gone(&self) {
        self.lock().up = false;
    }

    /// What was owed is read.
    fn paid(&self) {
        let mut state = self.lock();
        let missed_ms = state.missed_ms.take();
        state.owed = missed_ms.map(|since_ms| Owed { since_ms, places: HashMap::new() });
        if state.owed.is_some() {
            self.due.notify_one();
            return;
        }
        state.heard_ms = state.frame_ms;
        state.changed = true;
    }

    /// What is to be remembered, if that is new.
    fn cursor(&self) -> Option<Cursor> {
        let mut state = self.lock();
        std::mem::take(&mut state.changed).then(|| state.cursor())
    }

    /// What is to be remembered with an event: that its chat is known, unless that is kept already. Whatever
    /// ends us a moment later, what is said in it then is asked for.
    pub(super) fn with_event(&self, chat_id: &str) -> Option<Cursor> {
        let state = self.lock();
        let is_new = state.chats.get(chat_id).is_some_and(|chat| !chat.kept);
        is_new.then(|| state.cursor())
    }

    /// An event of this chat was kept, and the cursor with it.
    pub(super) fn kept(&self, chat_id: &str) {
        if let Some(chat) = self.lock().chats.get_mut(chat_id) {
            chat.kept = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the supervisor what to remember, now and then and at the end.
pub(super) async fn remember(shared: &Shared) {
    loop {
        let soon = async {
            shared.absence.news.notified().await;
            tokio::time::sleep(SOON).await;
        };
        let pause = tokio::time::timeout(shared.limits.absence.save, soon);
        let stopped = shared.stop.run_until_cancelled(pause).await.is_none();
        if let Some(cursor) = shared.absence.cursor() {
            shared.report.tell(Note::Cursor(cursor)).await;
        }
        if stopped {
            return;
        }
    }
}

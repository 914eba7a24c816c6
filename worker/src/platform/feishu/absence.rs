//! What was said while nobody listened. What is remembered of it is pure (`book`), and the instance's cursor.
//!
//! The platform tells an event at once, after 15 s, 5 min, 1 h and 6 h, and then never again (F18). So after
//! an absence beyond the first repetition, the history of the chats that are known is read from the moment
//! on until which this app surely heard everything, and handed in like events; what comes again
//! later is known by its message id. What is not read yet stays owed, in this life or the next.
//!
//! After a shorter one the repetition would come, but behind what is said meanwhile: only chats in which
//! something is said before it does are read.
//!
//! The history has messages only: no edits, reactions, pressed buttons, and of a topic just its first message. A topic
//! has a history of its own, which is read where something was refused in it.
//! A chat in which nothing was ever heard is unknown.

mod book;
mod past;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::event::Inbound;
use protocol::worker::Cursor;
use serde_json::Value;
use tokio::sync::Notify;

use self::book::{Book, Due};
pub(super) use self::past::catch_up;
use super::Shared;
use super::order::Place;
use crate::clock::{self, Instant};
use crate::platform::Note;

/// Between two cursors.
const SOON: Duration = Duration::from_secs(1);

/// When to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// An absence that the platform's first repetition may not outlast.
    pub(super) least: Duration,
    /// A cursor that is so old is told anew when the platform gives a sign of life, which it does at least as often
    /// as we ask for one: both together are less than `least`, or a kill would look like an absence.
    pub(super) save: Duration,
    /// Before what could not be read is tried again, at first
    pub(super) soon: Duration,
    /// and then.
    pub(super) again: Duration,
}

/// Where something was said, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    pub(super) chat: String,
    pub(super) topic: Option<String>,
    /// Unix milliseconds, by the platform's clock.
    pub(super) at_ms: i64,
}

impl Said {
    /// What has it in its history. That of a chat has of a topic just the first message.
    fn within(&self) -> &str {
        self.topic.as_ref().unwrap_or(&self.chat)
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Absence {
    book: Mutex<Book>,
    /// What the platform's clock said, and when. Histories are told by that clock, and ours may be wrong, or be set
    /// while nobody listens.
    time: Mutex<Option<(i64, Instant)>>,
    /// Behind these waits what comes in chats that are still to be read.
    places: Mutex<HashMap<String, Place>>,
    due: Notify,
    news: Notify,
}

impl Absence {
    /// As the cursor says.
    pub(super) fn recall(cursor: Option<&Cursor>) -> Self {
        let book = Mutex::new(Book::recall(cursor));
        let (due, news) = (Notify::new(), Notify::new());
        Self { book, time: Mutex::default(), places: Mutex::default(), due, news }
    }

    /// The platform told its time, if it did.
    pub(super) fn told(&self, date_ms: Option<i64>) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        *time = date_ms.map(|ms| (ms, clock::now()));
    }

    /// The platform's time; ours if it tells none.
    fn now_ms(&self) -> i64 {
        let time = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.map_or_else(clock::unix_ms, |(ms, at)| ms + book::millis(clock::now() - at))
    }

    /// Who speaks with the bot, and in which chat.
    pub(super) fn people(&self) -> Vec<(String, String)> {
        self.book().people()
    }

    /// Who caused an event has the ids that it names.
    pub(super) fn knows(&self, event: &Inbound) {
        if self.book().knows(event) {
            self.news.notify_one();
        }
    }

    /// Something was heard in a chat.
    pub(super) fn spoke(&self, event: &Inbound) {
        self.book().spoke(event, self.now_ms());
    }

    /// A frame of the platform came: the connection works.
    pub(super) fn alive(&self, shared: &Shared) {
        let back = Duration::from_hours(u64::from(shared.api.settings.catch_up_h));
        let alive = self.book().alive(self.now_ms(), &shared.limits.absence, back);
        if alive.news {
            self.news.notify_one();
        }
        if !alive.owed.is_empty() {
            let place = |chat: String| Some((chat.clone(), shared.order.place(&chat, true)?));
            self.places().extend(alive.owed.into_iter().filter_map(place));
            self.due.notify_one();
        }
    }

    /// Something comes in a chat, and waits behind what was said there a moment ago while nobody listened.
    pub(super) fn comes(&self, shared: &Shared, chat: &str) {
        if self.book().comes(chat, self.now_ms(), &shared.limits.absence)
            && let Some(place) = shared.order.place(chat, true)
        {
            self.places().insert(chat.to_owned(), place);
            self.due.notify_one();
        }
    }

    /// A message was refused, or comes behind such a one: it is read in its turn.
    pub(super) fn refused(&self, shared: &Shared, said: &Said) {
        // Nothing is read before the bot knows itself.
        if shared.api.settings.catch_up_h == 0 || shared.bot().is_none() {
            return;
        }
        if self.book().refused(said) {
            self.due.notify_one();
            self.news.notify_one();
        }
    }

    /// Whether a message would overtake one that was refused; then it is as good as refused.
    pub(super) fn overtakes(&self, shared: &Shared, said: &Said) -> bool {
        let overtakes = self.book().overtakes(said);
        if overtakes {
            self.refused(shared, said);
        }
        overtakes
    }

    /// The message that was heard last in a topic of a chat.
    pub(super) fn latest_in(&self, chat: &str, topic: &str) -> Option<String> {
        self.book().topics.latest(chat, topic).map(str::to_owned)
    }

    /// There is no connection any more.
    pub(super) fn gone(&self) {
        self.book().gone();
    }

    /// What is to be remembered with an event.
    pub(super) fn with_event(&self, chat: &str) -> Option<Cursor> {
        self.book().with_event(chat)
    }

    /// An event of this chat was kept, and the cursor with it.
    pub(super) fn kept(&self, chat: &str) {
        self.book().kept(chat);
    }

    /// All ids of whom a history names by `ids`.
    fn complete(&self, ids: Value) -> Value {
        self.book().accounts.complete(ids)
    }

    /// The next chat to read, which is in `taken` from then on.
    fn next(&self, shared: &Shared, taken: &mut HashSet<String>) -> Option<Due> {
        let mut places = self.places();
        let due = self.book().next(taken, |chat| places.get(chat)?.awaited())?;
        taken.insert(due.chat.clone());
        // What comes while it is read need not come again.
        if due.refused_ms.is_some()
            && !places.contains_key(&due.chat)
            && let Some(place) = shared.order.place(&due.chat, true)
        {
            places.insert(due.chat.clone(), place);
        }
        Some(due)
    }

    /// Whether any chat is to be read.
    fn is_owed(&self) -> bool {
        self.book().is_owed()
    }

    /// Some of what is due is read: whatever was said before then.
    fn reached(&self, due: &Due, ms: i64) {
        self.book().reached(due, ms);
        self.news.notify_one();
    }

    /// All of what is due is read, up to what was said then, or never can be.
    fn paid(&self, due: &Due, read_ms: Option<i64>) {
        if self.book().paid(due, read_ms) {
            self.let_go(&due.chat);
        }
        self.news.notify_one();
    }

    /// What was refused in this chat cannot be read, at least for now.
    fn shut(&self, chat: &str) {
        self.book().shut(chat);
        self.let_go(chat);
    }

    /// Nobody is to wait any longer for what was said in this chat.
    fn let_go(&self, chat: &str) {
        let place = self.places().remove(chat);
        drop(place);
    }

    /// Nor in any chat.
    fn let_all_go(&self) {
        self.places().clear();
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the supervisor what to remember, when there is news and at the end.
pub(super) async fn remember(shared: &Shared) {
    loop {
        let news = shared.stop.run_until_cancelled(shared.absence.news.notified()).await;
        let cursor = shared.absence.book().cursor();
        if let Some(cursor) = cursor {
            shared.report.tell(Note::Cursor(cursor)).await;
        }
        if news.is_none() {
            return;
        }
        shared.stop.run_until_cancelled(tokio::time::sleep(SOON)).await;
    }
}

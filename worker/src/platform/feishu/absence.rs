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

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use protocol::event::{ChatType, Inbound, InboundKind};
use protocol::worker::{Cursor, Verdict};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::accounts::Accounts;
use super::answer::Said;
use super::decode::{Heard, Own, decode};
use super::order::Place;
use super::{Shared, encode, fill, receive};
use crate::clock::{self, Instant};
use crate::json::{list_of, member, number_of, parse, text_of};
use crate::platform::Note;
use crate::raw::feishu_ids;

/// Chats whose history is read: those in which something was heard last.
const CHATS_MAX: usize = 200;
/// Read at once. The platform takes 50 such calls a second of an app.
const AT_ONCE: usize = 8;
/// The clocks of the platform and of this machine differ, and so does when a message was made and told.
const MARGIN_MS: i64 = 10_000;
/// While a chat's past is asked for and nothing comes, what comes in the chat waits no longer than that it can be
/// answered in time.
const IN_ORDER: Duration = Duration::from_millis(1600);
/// How often it is seen whether somebody has waited for so long.
const LOOK: Duration = Duration::from_millis(100);
/// From who is new until that is remembered.
const SOON: Duration = Duration::from_secs(1);
/// Of one chat: 50 messages each.
const PAGES: usize = 200;

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

/// Reads what is owed, until the worker is told to stop.
pub(super) async fn catch_up(shared: &Shared) {
    loop {
        shared.absence.due.notified().await;
        // Mentions cannot be told before.
        let patience = shared.limits.absence.patience;
        if tokio::time::timeout(IN_ORDER, shared.known()).await.is_err() {
            if let Some(owed) = &mut shared.absence.lock().owed {
                owed.places.clear();
            }
            shared.known().await;
        }
        let (since_ms, mut rows) = {
            let mut state = shared.absence.lock();
            let Some(owed) = &mut state.owed else { continue };
            let since_ms = owed.since_ms;
            let mut places = std::mem::take(&mut owed.places);
            let mut chats: Vec<_> = state.chats.iter().collect();
            chats.sort_by_key(|(_, chat)| std::cmp::Reverse(chat.at_ms));
            let row = |(id, chat): (&String, &Chat)| Row {
                place: places.remove(id),
                chat: id.clone(),
                kind: chat.kind,
                page: String::new(),
                found: 0,
            };
            (since_ms, chats.into_iter().map(row).collect::<Vec<_>>())
        };
        let chats = rows.len();
        let (mut found, mut closed) = (0, Vec::new());
        while !rows.is_empty() {
            let waiting = RefCell::new(std::mem::take(&mut rows));
            let answered = Cell::new(clock::now());
            let next = || {
                let row = most_urgent(&mut waiting.borrow_mut())?;
                Some(read(shared, row, since_ms, &answered))
            };
            let reading = futures_util::stream::iter(std::iter::from_fn(next));
            let reading = reading.buffer_unordered(AT_ONCE).collect::<Vec<_>>();
            let granted = || match clock::now().duration_since(answered.get()) {
                silence if silence < IN_ORDER => patience,
                _ => IN_ORDER,
            };
            let read = match select(pin!(reading), pin!(let_go(&waiting, granted))).await {
                Either::Left((read, _)) => read,
                Either::Right((never, _)) => match never {},
            };
            for end in read {
                match end {
                    End::Whole(count) => found += count,
                    End::Closed(why) => closed.push(why),
                    End::Again(row) => rows.push(row),
                }
            }
            if !rows.is_empty() {
                let limits = shared.limits.absence;
                let is_awaited = rows.iter().any(|row| row.place.is_some());
                let pause = if is_awaited { limits.soon } else { limits.again };
                let waiting = RefCell::new(std::mem::take(&mut rows));
                let pause = tokio::time::sleep(pause);
                let _ = select(pin!(pause), pin!(let_go(&waiting, || patience))).await;
                rows = waiting.into_inner();
            }
        }
        tracing::info!(found, chats, "read what was said while nobody listened");
        if let Some(reason) = closed.first() {
            let chats = closed.len();
            tracing::warn!(reason, chats, "what was said there while nobody listened is not told");
        }
        shared.absence.paid();
    }
}

/// A chat on its way through its history.
struct Row {
    chat: String,
    kind: ChatType,
    place: Option<Place>,
    page: String,
    found: usize,
}

/// What became of it.
enum End {
    /// All is handed in: so many messages.
    Whole(usize),
    /// The platform does not tell.
    Closed(String),
    /// Not now.
    Again(Row),
}

/// Whose past is not even being read yet is let go before it is too late for him.
async fn let_go(waiting: &RefCell<Vec<Row>>, granted: impl Fn() -> Duration) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        for row in waiting.borrow_mut().iter_mut() {
            row.place.take_if(|place| place.is_overdue(granted()));
        }
    }
}

/// The next chat to read: one in which somebody waits for its past, else the first.
fn most_urgent(rows: &mut Vec<Row>) -> Option<Row> {
    let awaited = |row: &Row| row.place.as_ref().and_then(Place::awaited);
    let longest = rows.iter().enumerate().filter_map(|(index, row)| Some((awaited(row)?, index)));
    let index = longest.min().map_or(0, |(_, index)| index);
    (!rows.is_empty()).then(|| rows.remove(index))
}

impl Row {
    /// Does `work`. Who waits behind it meanwhile is let go before it is too late for him.
    async fn hold<T>(&mut self, patience: Duration, work: impl Future<Output = T>) -> T {
        let Some(place) = &self.place else { return work.await };
        match select(pin!(work), pin!(place.overdue(IN_ORDER, patience))).await {
            Either::Left((done, _)) => done,
            Either::Right(((), work)) => {
                self.place = None;
                work.await
            }
        }
    }
}

async fn read(shared: &Shared, mut row: Row, since_ms: i64, at: &Cell<Instant>) -> End {
    let patience = shared.limits.absence.patience;
    if let Some(mut place) = row.place.take() {
        // Somebody before may be asking the platform something, too.
        let turn = place.before();
        row.place = Some(place);
        row.hold(patience, turn).await;
    }
    for _ in 0..PAGES {
        shared.order.take_missed(&row.chat);
        let call = encode::past(&row.chat, since_ms / 1000, &row.page);
        let Some(call) = call else { return End::Closed("it has no id of this platform".into()) };
        let answered = row.hold(patience, shared.api.call(&call)).await;
        at.set(clock::now());
        if answered.absent {
            return End::Closed("this server has no history".into());
        }
        match answered.said.clone() {
            Said::Done => {}
            Said::Denied(why) | Said::Gone(why) | Said::Never { reason: why, .. } => {
                return End::Closed(why);
            }
            Said::Token | Said::Later { .. } => return End::Again(row),
        }
        for item in list_of(answered.data(), "items") {
            let kind = row.kind;
            match row.hold(patience, hand_in(shared, kind, item)).await {
                Some(Verdict::Refused) | None => {
                    row.place = None;
                    return End::Again(row);
                }
                Some(Verdict::Accepted(_)) => row.found += 1,
                Some(Verdict::Duplicate | Verdict::Denied) => {}
            }
        }
        let next = text_of(answered.data(), "page_token");
        let has_more = member(answered.data(), "has_more").as_bool().unwrap_or(false);
        let is_last = !has_more || next.is_empty();
        if !is_last {
            next.clone_into(&mut row.page);
        } else if !shared.order.take_missed(&row.chat) {
            return End::Whole(row.found);
        }
        // Or what could wait no longer is in the history by now.
    }
    End::Closed(format!("more was said than {} messages", PAGES * 50))
}

/// Hands a message in as if its event had come.
async fn hand_in(shared: &Shared, kind: ChatType, item: &Value) -> Option<Verdict> {
    let event = event(item, kind, |ids| shared.absence.lock().accounts.complete(ids));
    let Some(event) = event else { return Some(Verdict::Denied) };
    let heard = {
        let own = Own { open_id: shared.bot().map(|bot| bot.open_id) };
        let memory = shared.memory();
        decode(event.to_string().as_bytes(), &own, &memory, clock::unix_ms())
    };
    let (Heard::Event(mut inbound, lack) | Heard::Unknown(mut inbound, lack)) = heard else {
        return Some(Verdict::Denied);
    };
    if lack.is_some() {
        fill::fill(shared, &mut inbound, &lack).await;
    }
    receive::remember(shared, &inbound);
    shared.events.submit(*inbound, None).await.await.ok()
}

/// The event that the platform would have told of a message; `None`: there was none, or not any more.
fn event(item: &Value, kind: ChatType, complete: impl Fn(Value) -> Value) -> Option<Value> {
    let sender = member(item, "sender");
    let is_gone = member(item, "deleted").as_bool().unwrap_or(false);
    // Another program is named by its app, which no event does; and we are one as well.
    if is_gone || text_of(sender, "sender_type") != "user" {
        return None;
    }
    let ids = |holder: &Value| {
        let name = match text_of(holder, "id_type") {
            "" => "open_id",
            name => name,
        };
        complete(json!({ name: text_of(holder, "id") }))
    };
    let mentions = list_of(item, "mentions")
        .iter()
        .map(|it| json!({"key": text_of(it, "key"), "id": ids(it), "name": text_of(it, "name")}));
    let mentions: Vec<_> = mentions.collect();
    let chat_type = if kind == ChatType::Direct { "p2p" } else { "group" };
    Some(json!({
        "schema": "2.0",
        "header": {"event_type": "im.message.receive_v1", "create_time": text_of(item, "create_time")},
        "event": {
            "sender": {"sender_id": ids(sender), "sender_type": "user"},
            "message": {
                "message_id": text_of(item, "message_id"),
                "root_id": text_of(item, "root_id"),
                "parent_id": text_of(item, "parent_id"),
                "thread_id": text_of(item, "thread_id"),
                "create_time": text_of(item, "create_time"),
                "update_time": text_of(item, "update_time"),
                "chat_id": text_of(item, "chat_id"),
                "chat_type": chat_type,
                "message_type": text_of(item, "msg_type"),
                "content": text_of(member(item, "body"), "content"),
                "mentions": mentions,
            },
        },
    }))
}

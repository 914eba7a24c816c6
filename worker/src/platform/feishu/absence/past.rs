//! What was said during an absence, read from the histories of the chats and handed in like events: the chats
//! in which somebody waits for it first, and nobody overtakes it as long as it comes in time.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use protocol::event::ChatType;
use protocol::worker::Verdict;
use serde_json::{Value, json};

use super::Chat;
use crate::clock::{self, Instant};
use crate::json::{list_of, member, text_of};
use crate::platform::feishu::answer::Said;
use crate::platform::feishu::decode::{Heard, Own, decode};
use crate::platform::feishu::order::Place;
use crate::platform::feishu::{Shared, encode, fill, receive};

/// Read at once. The platform takes 50 such calls a second of an app.
const AT_ONCE: usize = 8;
/// While a chat's past is asked for and nothing comes, what comes in the chat waits no longer than that it can be
/// answered in time.
const IN_ORDER: Duration = Duration::from_millis(1600);
/// How often it is seen whether somebody has waited for so long.
const LOOK: Duration = Duration::from_millis(100);
/// Of one chat: 50 messages each.
const PAGES: usize = 200;

/// Reads what is owed, until the worker is told to stop.
pub(in crate::platform::feishu) async fn catch_up(shared: &Shared) {
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

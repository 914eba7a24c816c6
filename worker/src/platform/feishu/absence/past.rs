//! What was said during an absence, read from the histories of the chats and handed in like events: the chats
//! in which somebody waits for it first. Whoever waits goes on by himself before it is too late for him.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use protocol::event::ChatType;
use protocol::worker::Verdict;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Due;
use crate::clock;
use crate::json::{list_of, member, text_of};
use crate::platform::feishu::answer::{Answered, Said};
use crate::platform::feishu::decode::{Heard, Own, decode};
use crate::platform::feishu::{Shared, encode, fill, receive};

/// Read at once. The platform takes 50 such calls a second of an app.
const AT_ONCE: usize = 8;
/// Attempts that follow each other soon. After them nobody waits any more for what they could not read.
const AT_FIRST: u32 = 4;
/// Of one chat: 50 messages each.
const PAGES: usize = 200;

/// Reads what is owed, until the worker is told to stop.
pub(in crate::platform::feishu) async fn catch_up(shared: &Shared) {
    let absence = &shared.absence;
    loop {
        absence.due.notified().await;
        // Mentions cannot be told before.
        if timeout(shared.limits.turn, shared.known()).await.is_err() {
            absence.let_all_go();
            shared.known().await;
        }
        let limits = shared.limits.absence;
        let (mut sum, mut failed, mut full) = (Sum::default(), 0, limits.soon);
        while let Some(rest) = round(shared, &mut sum, failed + 1 >= AT_FIRST).await {
            let mut pause = limits.soon;
            if let Some(wish) = rest.failed {
                failed += 1;
                if failed >= AT_FIRST {
                    absence.let_all_go();
                    pause = limits.again;
                }
                if !wish.is_zero() {
                    pause = wish.clamp(limits.soon, limits.again);
                }
            }
            if let Some(moved) = rest.full {
                full = if moved { full / 2 } else { full * 2 }.clamp(limits.soon, limits.again);
                pause = pause.max(full);
            }
            if timeout(pause, absence.due.notified()).await.is_ok() {
                // There is more to read since another absence.
                failed = 0;
            }
        }
        absence.let_all_go();
        let Sum { found, chats, closed } = sum;
        if !chats.is_empty() {
            let chats = chats.len();
            tracing::info!(found, chats, "read what was said while nobody listened");
        }
        if let Some(reason) = closed.first() {
            let chats = closed.len();
            tracing::warn!(reason, chats, "what was said there while nobody listened is not told");
        }
    }
}

/// What came of it.
#[derive(Default)]
struct Sum {
    /// Messages that nobody had heard.
    found: usize,
    /// Chats that were asked because of an absence, or had something to tell.
    chats: HashSet<String>,
    /// Why some tell nothing.
    closed: Vec<String>,
}

/// How far a chat is read.
enum End {
    /// To its end: what was said then.
    Whole(i64),
    /// The platform does not tell.
    Closed(String),
    /// Not now, but after so long, if the platform says it: else 0.
    Again(Duration),
    /// Until there is room for more; whether there was for some.
    Full(bool),
}

/// What is to be said of chats that are still owed something.
#[derive(Default)]
struct Rest {
    /// See [`End::Again`].
    failed: Option<Duration>,
    /// See [`End::Full`].
    full: Option<bool>,
}

/// Reads each chat that is owed something, once, while there is room. If some is owed still, what was in the
/// way. After the `last` failure nothing waits any more for what was refused.
async fn round(shared: &Shared, sum: &mut Sum, last: bool) -> Option<Rest> {
    let (taken, full) = (RefCell::new(HashSet::new()), Cell::new(false));
    let next = || {
        if full.get() {
            return None;
        }
        let due = shared.absence.next(shared, &mut taken.borrow_mut())?;
        let full = &full;
        Some(async move {
            let mut found = 0;
            let end = read(shared, &due, &mut found).await;
            match &end {
                End::Whole(read_ms) => shared.absence.paid(&due, Some(*read_ms)),
                End::Closed(_) => shared.absence.paid(&due, None),
                End::Again(_) if last && due.refused_ms.is_some() => shared.absence.shut(&due.chat),
                End::Again(_) => {}
                End::Full(_) => full.set(true),
            }
            (due, end, found)
        })
    };
    let reading = futures_util::stream::iter(std::iter::from_fn(next));
    let ends: Vec<_> = reading.buffer_unordered(AT_ONCE).collect().await;
    let mut rest = Rest::default();
    for (due, end, found) in ends {
        sum.found += found;
        match end {
            End::Closed(why) if !due.is_brief => sum.closed.push(why),
            End::Whole(_) | End::Closed(_) => {}
            End::Again(wish) => rest.failed = rest.failed.max(Some(wish)),
            End::Full(moved) => rest.full = rest.full.max(Some(moved)),
        }
        sum.chats.extend((found > 0 || !due.is_brief).then_some(due.chat));
    }
    shared.absence.is_owed().then_some(rest)
}

async fn read(shared: &Shared, due: &Due, found: &mut usize) -> End {
    let mut reading = Reading { read_ms: i64::MIN, moved: false, found };
    // A topic is told from its end.
    let (mut page, mut newest) = (String::new(), Vec::new());
    for _ in 0..PAGES {
        let told = match ask(shared, due, &page).await {
            Ok(told) => told,
            Err(end) => return end,
        };
        let items = list_of(told.data(), "items");
        let mut is_last = !member(told.data(), "has_more").as_bool().unwrap_or(false);
        if due.is_topic {
            let owed = items.iter().take_while(|item| said_ms(item) >= due.since_ms);
            let before = newest.len();
            newest.extend(owed.cloned());
            is_last |= newest.len() < before + items.len();
        } else if let Err(end) = reading.hand_in(shared, due, items).await {
            return end;
        }
        let next = text_of(told.data(), "page_token");
        if is_last || next.is_empty() {
            newest.reverse();
            if let Err(end) = reading.hand_in(shared, due, &newest).await {
                return end;
            }
            // What was told is not in it yet, or not any more.
            let read_ms = reading.read_ms;
            let lacks = due.refused_ms.is_some_and(|refused_ms| read_ms < refused_ms);
            return if lacks { End::Again(Duration::ZERO) } else { End::Whole(read_ms) };
        }
        next.clone_into(&mut page);
    }
    End::Closed(format!("more was said than {} messages", PAGES * 50))
}

/// One page of a history.
async fn ask(shared: &Shared, due: &Due, page: &str) -> Result<Answered, End> {
    let call = if due.is_topic {
        encode::topic(&due.chat, page)
    } else {
        encode::past(&due.chat, due.since_ms / 1000, page)
    };
    let none = || End::Closed("it has no id of this platform".into());
    let answered = shared.api.call(&call.ok_or_else(none)?).await;
    if answered.absent {
        return Err(End::Closed("this server has no history".into()));
    }
    match answered.said.clone() {
        Said::Done => Ok(answered),
        Said::Denied(why) | Said::Gone(why) | Said::Never { reason: why, .. } => {
            Err(End::Closed(why))
        }
        Said::Later { after_ms, .. } => {
            Err(End::Again(Duration::from_millis(after_ms.unwrap_or(0))))
        }
        Said::Token => Err(End::Again(Duration::ZERO)),
    }
}

fn said_ms(item: &Value) -> i64 {
    text_of(item, "create_time").parse().unwrap_or(0)
}

/// How far what is due has come.
struct Reading<'a> {
    read_ms: i64,
    /// There was room for some.
    moved: bool,
    /// Messages that nobody had heard.
    found: &'a mut usize,
}

impl Reading<'_> {
    /// Hands these in, the oldest first. The error: what keeps it from going on.
    async fn hand_in(&mut self, shared: &Shared, due: &Due, items: &[Value]) -> Result<(), End> {
        for item in items {
            let said_ms = said_ms(item);
            match hand_in(shared, due.kind, item).await {
                Some(Verdict::Refused) => {
                    shared.absence.let_go(&due.chat);
                    return Err(End::Full(self.moved));
                }
                None => {
                    shared.absence.let_go(&due.chat);
                    return Err(End::Again(Duration::ZERO));
                }
                Some(Verdict::Accepted(_)) => {
                    self.moved = true;
                    *self.found += usize::from(said_ms < due.until_ms);
                }
                Some(Verdict::Duplicate | Verdict::Denied) => {}
            }
            self.read_ms = self.read_ms.max(said_ms);
            shared.absence.reached(due, said_ms);
        }
        Ok(())
    }
}

/// Hands a message in as if its event had come.
async fn hand_in(shared: &Shared, kind: ChatType, item: &Value) -> Option<Verdict> {
    let event = event(item, kind, |ids| shared.absence.complete(ids));
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
    receive::submit(shared, *inbound).await.verdict(shared).await
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

//! `hermes-gw ctl inbox` and `ctl outbox`: what waits, oldest first.

use std::path::Path;

use protocol::control::{Page, Request, SCHEMA, WaitingItem, WaitingList};
use supervisor::clock;
use supervisor::error::Error;
use supervisor::text::span;

use super::{ANSWER, Client};
use crate::args::{Common, Queue};
use crate::command::{print, print_json, shown};

pub(super) async fn run(
    common: &Common,
    socket: &Path,
    of: fn(Page) -> Request,
    queue: &Queue,
) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    let mut items: Vec<WaitingItem> = Vec::new();
    let mut more = true;
    let wanted = if queue.all { u32::MAX } else { queue.limit };
    while more {
        let left = wanted.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        let page = Page { after: items.last().map(|item| item.id), limit: left.min(PAGE) };
        let list: WaitingList = client.ask(&of(page), ANSWER).await?;
        more = list.more && !list.items.is_empty();
        items.extend(list.items);
    }
    if common.json {
        print_json(&WaitingList { schema: SCHEMA, items, more });
        return Ok(());
    }
    if items.is_empty() {
        print("nothing waits");
    }
    for item in &items {
        print(&shown(line(item, clock::unix_ms())));
    }
    if more {
        print("… there is more: `--all`, or `--limit N`");
    }
    Ok(())
}

/// What one answer holds.
const PAGE: u32 = 1000;

fn line(item: &WaitingItem, now_ms: i64) -> String {
    let thread =
        item.thread_id.as_ref().map_or(String::new(), |thread| format!(" thread {thread}"));
    let state = item.state.replace('_', " ");
    let attempts = match item.attempts {
        0 => String::new(),
        n => format!("  attempt {n}"),
    };
    let age = span(now_ms - item.received_ms);
    format!(
        "{}  {state}  {} chat {}{thread}{attempts}  for {age}",
        item.id, item.instance, item.chat_id
    )
}

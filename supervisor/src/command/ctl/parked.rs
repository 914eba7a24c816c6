//! `hermes-gw ctl parked`: what was set aside, and what a person decides about it.

use std::path::Path;

use protocol::control::SCHEMA;
use protocol::control::{
    Decided, DecidedOne, Decision, IDS_MAX, Page, ParkedItem, ParkedList, Request,
};
use protocol::id::{EventId, OutboundId, ParkedId};
use supervisor::clock;
use supervisor::error::Error;
use supervisor::exit::{self, Code};
use supervisor::text::span;

use super::{ANSWER, Client};
use crate::args::{Common, Parked, Which};
use crate::command::{print, print_json, print_json_of, shown};

pub(super) async fn run(common: &Common, socket: &Path, what: Parked) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    match what {
        Parked::List => {
            let items = all(&mut client).await?;
            if common.json {
                print_json(&ParkedList { schema: SCHEMA, items, more: false });
            } else if items.is_empty() {
                print("nothing is set aside");
            } else {
                for item in items {
                    print(&line(&item, clock::unix_ms()));
                }
            }
            Ok(())
        }
        Parked::Show { id } => {
            let item: ParkedItem = client.ask(&Request::ParkedShow(id), ANSWER).await?;
            if common.json {
                print_json(&item);
                return Ok(());
            }
            print(&line(&item, clock::unix_ms()));
            print(&shown(item.text.clone().unwrap_or_default()));
            for rest in [&item.event, &item.content].into_iter().flatten() {
                print(&serde_json::to_string_pretty(rest).unwrap_or_default());
            }
            if !item.message_ids.is_empty() {
                print(&format!("a part of it has arrived as {}", item.message_ids.join(", ")));
            }
            Ok(())
        }
        Parked::Replay(which) => decide(common, &mut client, Decision::Replay, which).await,
        Parked::Drop(which) => decide(common, &mut client, Decision::Drop, which).await,
    }
}

/// Everything, page by page.
async fn all(client: &mut Client) -> Result<Vec<ParkedItem>, Error> {
    let mut items: Vec<ParkedItem> = Vec::new();
    loop {
        let page = Page { after: items.last().map(|item| item.id), ..Page::default() };
        let list: ParkedList = client.ask(&Request::ParkedList(page), ANSWER).await?;
        items.extend(list.items);
        if !list.more {
            return Ok(items);
        }
    }
}

/// Since when something is set aside; `None`: it is not.
async fn set_aside(client: &mut Client, id: ParkedId) -> Result<Option<i64>, Error> {
    // The one before it, so that the page begins with it.
    let after = match id {
        ParkedId::Event(EventId(n)) => n.checked_sub(1).map(EventId).map(ParkedId::Event),
        ParkedId::Reply(OutboundId(n)) => n.checked_sub(1).map(OutboundId).map(ParkedId::Reply),
    };
    let page = Page { after, limit: 1 };
    let list: ParkedList = client.ask(&Request::ParkedList(page), ANSWER).await?;
    let found = list.items.into_iter().find(|item| item.id == id);
    Ok(found.map(|item| item.parked_ms))
}

/// A supervisor that becomes another program before it answers has done it or not: what is still set aside as it
/// was is asked for once more. What was tried again and set aside again is not.
async fn decide_some(
    client: &mut Client,
    decision: Decision,
    items: &[(ParkedId, Option<i64>)],
) -> Result<Vec<DecidedOne>, Error> {
    let request = |ids| Request::Decide(decision, ids);
    let ids = items.iter().map(|(id, _)| *id).collect();
    let decided: Option<Decided> = client.ask_once(&request(ids), ANSWER).await?;
    if let Some(decided) = decided {
        return Ok(decided.results);
    }
    client.again().await?;
    let (mut results, mut left) = (Vec::new(), Vec::new());
    for (id, since) in items {
        if since.is_some() && set_aside(client, *id).await? != *since {
            let result = match decision {
                Decision::Replay => "replayed",
                Decision::Drop => "dropped",
            };
            results.push(DecidedOne { id: *id, result: result.into(), code: 0 });
        } else {
            left.push(*id);
        }
    }
    if !left.is_empty() {
        let decided: Decided = client.ask(&request(left), ANSWER).await?;
        results.extend(decided.results);
    }
    Ok(results)
}

async fn decide(
    common: &Common,
    client: &mut Client,
    decision: Decision,
    which: Which,
) -> Result<(), Error> {
    let mut items = Vec::new();
    if which.all {
        items =
            all(client).await?.into_iter().map(|item| (item.id, Some(item.parked_ms))).collect();
    } else {
        for id in which.ids {
            items.push((id, set_aside(client, id).await?));
        }
    }
    let mut results: Vec<DecidedOne> = Vec::new();
    for some in items.chunks(IDS_MAX) {
        results.extend(decide_some(client, decision, some).await?);
    }
    let failed = results.iter().find(|one| one.code != 0).map(|one| Error::Unfulfilled {
        code: exit::code(one.code).unwrap_or(Code::Software),
        message: became(one),
        hint: Some("`hermes-gw ctl parked list` shows what is".into()),
    });
    if common.json {
        print_json_of(&Decided { schema: SCHEMA, results }, failed.as_ref());
    } else if results.is_empty() {
        print("nothing is set aside");
    } else if !common.quiet {
        for one in &results {
            print(&became(one));
        }
    }
    failed.map_or(Ok(()), Err)
}

fn became(one: &DecidedOne) -> String {
    match one.result.as_str() {
        "unknown" => format!("{}: nothing of this id is set aside", one.id),
        done => format!("{}: {done}", one.id),
    }
}

fn line(item: &ParkedItem, now_ms: i64) -> String {
    let thread =
        item.thread_id.as_ref().map_or(String::new(), |thread| format!(" thread {thread}"));
    format!(
        "{}  {}  {} chat {}{thread}  {} attempts  accepted {} ago, set aside {} ago: {}",
        item.id,
        item.state,
        item.instance,
        item.chat_id,
        item.attempts,
        span(now_ms - item.received_ms),
        span(now_ms - item.parked_ms),
        item.reason.replace('\n', "; "),
    )
}

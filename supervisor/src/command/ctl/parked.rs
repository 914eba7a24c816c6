//! `hermes-gw ctl parked`: what was set aside, and what a person decides about it.

use std::path::Path;

use protocol::control::SCHEMA;
use protocol::control::{
    Decided, DecidedOne, Decision, IDS_MAX, Page, ParkedItem, ParkedList, Request,
};
use protocol::id::ParkedId;
use supervisor::clock;
use supervisor::error::Error;
use supervisor::exit::{self, Code};
use supervisor::text::span;

use super::{ANSWER, Client};
use crate::args::{Common, Parked, Which};
use crate::command::{print, print_json, print_json_of};

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
            print(item.text.as_deref().unwrap_or_default());
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

async fn decide(
    common: &Common,
    client: &mut Client,
    decision: Decision,
    which: Which,
) -> Result<(), Error> {
    let ids: Vec<ParkedId> = if which.all {
        all(client).await?.into_iter().map(|item| item.id).collect()
    } else {
        which.ids
    };
    let mut results: Vec<DecidedOne> = Vec::new();
    for some in ids.chunks(IDS_MAX) {
        let request = Request::Decide(decision, some.to_vec());
        let decided: Decided = client.ask(&request, ANSWER).await?;
        results.extend(decided.results);
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

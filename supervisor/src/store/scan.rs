//! Searches for what waits: in the order of ids over all lanes, and for the next one of a lane.
//!
//! Rows here are small (the payload lies elsewhere), yet a million of them may belong to another agent
//! or to one lane. So a search looks at a bounded number of rows within one group and goes on in the
//! next one, and of each lane it tells only the first.

use std::collections::HashSet;

use protocol::id::{EventId, Instance, Lane, OutboundId};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::answer::{Answer, Head, ReplyHead};
use super::op::{Op, Ticket};
use super::tables::{Outcome, Tables, row_id, wire_id};

/// Rows looked at within one group: about a millisecond.
const BUDGET: usize = 4096;

/// A row of either table.
struct Found {
    id: i64,
    lane: i64,
    attempts: u32,
    received_ms: i64,
}

enum Search {
    /// Something was found, or there is no more.
    Over { found: Vec<Found>, at_end: bool },
    /// Nothing up to this id.
    Nothing { upto: i64 },
}

fn search(db: &Connection, sql: &str, wanted: &[i64], after: i64, limit: usize) -> Result<Search> {
    let mut read = db.prepare_cached(sql)?;
    let mut rows = read.query(params![after, BUDGET])?;
    let mut lanes = HashSet::new();
    let mut found: Vec<Found> = Vec::new();
    let mut last = None;
    let (mut looked_at, mut upto) = (0, after);
    while let Some(row) = rows.next()? {
        looked_at += 1;
        upto = row.get(0)?;
        if !wanted.contains(&row.get(2)?) {
            continue;
        }
        let lane = row.get(1)?;
        let entry = Found { id: upto, lane, attempts: row.get(3)?, received_ms: row.get(4)? };
        if lanes.insert(lane) {
            found.push(entry);
            last = None;
            if found.len() >= limit {
                return Ok(Search::Over { found, at_end: false });
            }
        } else {
            last = Some(entry);
        }
    }
    let at_end = looked_at < BUDGET;
    found.extend(last);
    if found.is_empty() && !at_end {
        Ok(Search::Nothing { upto })
    } else {
        Ok(Search::Over { found, at_end })
    }
}

/// See [`Op::Heads`].
pub(super) fn heads(
    tables: &mut Tables,
    ticket: Ticket,
    instances: &[Instance],
    after: EventId,
    limit: usize,
) -> Result<Outcome> {
    let mut wanted = Vec::with_capacity(instances.len());
    for instance in instances {
        wanted.extend(tables.instance(instance)?);
    }
    let sql = "SELECT id, lane, instance, attempts, received_ms FROM inbox
               WHERE id > ?1 ORDER BY id LIMIT ?2";
    if wanted.is_empty() {
        return Ok(Answer::Heads { found: Vec::new(), at_end: true }.into());
    }
    match search(&tables.db, sql, &wanted, row_id(after.0), limit)? {
        Search::Nothing { upto } => Ok(Outcome::Continue(Op::Heads {
            ticket,
            instances: instances.to_vec(),
            after: EventId(wire_id(upto)),
            limit,
        })),
        Search::Over { found, at_end } => {
            let mut heads = Vec::with_capacity(found.len());
            for Found { id, lane, attempts, received_ms } in found {
                let user = tables.names.user_of(&tables.db, lane)?;
                let lane = tables.names.lane_name(&tables.db, lane)?;
                heads.push(Head { id: EventId(wire_id(id)), lane, user, attempts, received_ms });
            }
            Ok(Answer::Heads { found: heads, at_end }.into())
        }
    }
}

/// See [`Op::ReplyHeads`].
pub(super) fn reply_heads(
    tables: &mut Tables,
    ticket: Ticket,
    instance: &Instance,
    after: OutboundId,
    limit: usize,
) -> Result<Outcome> {
    let Some(wanted) = tables.instance(instance)? else {
        return Ok(Answer::ReplyHeads { found: Vec::new(), at_end: true }.into());
    };
    let sql = "SELECT id, lane, instance, 0, 0 FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2";
    match search(&tables.db, sql, &[wanted], row_id(after.0), limit)? {
        Search::Nothing { upto } => Ok(Outcome::Continue(Op::ReplyHeads {
            ticket,
            instance: instance.clone(),
            after: OutboundId(wire_id(upto)),
            limit,
        })),
        Search::Over { found, at_end } => {
            let mut heads = Vec::with_capacity(found.len());
            for Found { id, lane, .. } in found {
                let chat = tables.names.lane_name(&tables.db, lane)?;
                heads.push(ReplyHead { id: OutboundId(wire_id(id)), chat });
            }
            Ok(Answer::ReplyHeads { found: heads, at_end }.into())
        }
    }
}

/// See [`Op::NextInLane`].
pub(super) fn next_event(tables: &mut Tables, lane: &Lane, after: EventId) -> Result<Answer> {
    let db = &tables.db;
    let Some(no) = tables.names.lane(db, lane)? else {
        return Ok(Answer::Next { found: None, user: None });
    };
    let found = tables.lanes.next(db, no, row_id(after.0))?.map(|id| EventId(wire_id(id)));
    let user = tables.names.user_of(db, no)?;
    Ok(Answer::Next { found, user })
}

/// See [`Op::NextReply`].
pub(super) fn next_reply(tables: &mut Tables, chat: &Lane, after: OutboundId) -> Result<Answer> {
    let db = &tables.db;
    let chat = Lane { thread_id: None, ..chat.clone() };
    let Some(no) = tables.names.lane(db, &chat)? else { return Ok(Answer::NextReply(None)) };
    let next: Option<i64> = db
        .prepare_cached("SELECT id FROM outbox WHERE lane = ?1 AND id > ?2 ORDER BY id LIMIT 1")?
        .query_row([no, row_id(after.0)], |row| row.get(0))
        .optional()?;
    Ok(Answer::NextReply(next.map(|id| OutboundId(wire_id(id)))))
}

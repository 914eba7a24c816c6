//! What waits, in both directions, as people look at it: without payloads, in the order of ids.

use protocol::event::ReplyState;
use protocol::id::{EventId, Lane, OutboundId, ParkedId};
use rusqlite::{Result, params};

use super::answer::{Answer, Waits};
use super::outbox;
use super::tables::{Tables, row_id, wire_id};

/// What waits behind `after`: events if that is one, else replies.
pub(super) fn list(tables: &mut Tables, after: ParkedId, limit: usize) -> Result<Answer> {
    let list = match after {
        ParkedId::Event(id) => events(tables, row_id(id.0), limit)?,
        ParkedId::Reply(id) => replies(tables, row_id(id.0), limit)?,
    };
    Ok(Answer::Waiting(list))
}

fn events(tables: &mut Tables, after: i64, limit: usize) -> Result<Vec<Waits>> {
    let Tables { db, names, .. } = tables;
    let mut read = db.prepare_cached(
        "SELECT id, lane, attempts, received_ms, begun FROM inbox WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = read.query(params![after, limit])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(Waits {
            id: ParkedId::Event(EventId(wire_id(row.get(0)?))),
            lane: names.lane_name(db, row.get(1)?)?,
            is_begun: row.get(4)?,
            attempts: row.get(2)?,
            received_ms: row.get(3)?,
        });
    }
    Ok(list)
}

fn replies(tables: &mut Tables, after: i64, limit: usize) -> Result<Vec<Waits>> {
    let Tables { db, names, .. } = tables;
    let mut read = db.prepare_cached(
        "SELECT reply.id, reply.instance, chat, thread, attempts, created_ms, state
         FROM outbox CROSS JOIN reply ON reply.id = outbox.id
         WHERE outbox.id > ?1 ORDER BY outbox.id LIMIT ?2",
    )?;
    let mut rows = read.query(params![after, limit])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        let instance = names.instance_name(db, row.get(1)?)?;
        list.push(Waits {
            id: ParkedId::Reply(OutboundId(wire_id(row.get(0)?))),
            lane: Lane { instance, chat_id: row.get(2)?, thread_id: row.get(3)? },
            is_begun: row.get::<_, i64>(6)? == outbox::code(ReplyState::Sending),
            attempts: row.get(4)?,
            received_ms: row.get(5)?,
        });
    }
    Ok(list)
}

//! What was set aside until a person decides: events that no attempt could hand over, and replies that
//! failed or whose end nobody knows. Payloads stay untouched.
//!
//! An event leaves its lane for table `parked`. A reply stays where it is, in state failed or unknown;
//! dropping it empties its text, since its key must stay known.

use protocol::event::ReplyState;
use protocol::id::{EventId, Lane, OutboundId, ParkedId};
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, params};

use super::answer::{Answer, Parked, Payload};
use super::names::Names;
use super::tables::{Tables, row_id, wire_id};
use super::tally::Change;
use super::{body, inbox, outbox};

const EVENT: &str = "SELECT id, lane, attempts, received_ms, parked_ms, reason FROM parked";
const REPLY: &str =
    "SELECT id, instance, chat, thread, state, attempts, created_ms, ended_ms, reason,
      message_ids
    FROM reply INDEXED BY reply_undelivered WHERE state IN (3, 4) AND (text <> '' OR rest IS NOT NULL)";

/// Sets a waiting event aside, and what goes with it: to whoever stops or gives up that, it was one thing.
pub(super) fn park(tables: &mut Tables, id: EventId, reason: &str, now_ms: i64) -> Result<Answer> {
    let joined = inbox::joined(tables, id)?;
    if !set_aside(tables, id, reason, now_ms)? {
        return Ok(Answer::Gone);
    }
    let mut all = vec![id];
    for one in joined {
        if set_aside(tables, one, reason, now_ms)? {
            all.push(one);
        }
    }
    let mut told = Vec::with_capacity(all.len());
    for one in all {
        told.extend(whole(tables, ParkedId::Event(one))?);
    }
    Ok(Answer::Parked(told))
}

/// Whether it waited.
fn set_aside(tables: &mut Tables, id: EventId, reason: &str, now_ms: i64) -> Result<bool> {
    let row = row_id(id.0);
    let moved = tables
        .db
        .prepare_cached(
            "INSERT INTO parked
             SELECT id, lane, instance, attempts, origin_ms, received_ms, size, ?2, ?3, joined
             FROM inbox WHERE id = ?1",
        )?
        .execute(params![row, now_ms, reason])?;
    if moved == 0 {
        return Ok(false);
    }
    if let Some((instance, ..)) = known(tables, row)? {
        tables.tally.note(Change::Parked { instance, by: 1 });
    }
    inbox::leave(tables, id)
}

/// What is set aside behind `after`: events in the order of ids, then replies.
pub(super) fn list(tables: &mut Tables, after: Option<ParkedId>, limit: usize) -> Result<Answer> {
    let (events_after, replies_after) = match after {
        None => (Some(0), 0),
        Some(ParkedId::Event(id)) => (Some(row_id(id.0)), 0),
        Some(ParkedId::Reply(id)) => (None, row_id(id.0)),
    };
    let mut list = Vec::new();
    if let Some(after) = events_after {
        let sql = format!("{EVENT} WHERE id > ?1 ORDER BY id LIMIT ?2");
        read(tables, &sql, params![after, limit], event, &mut list)?;
    }
    if list.len() < limit {
        let sql = format!("{REPLY} AND id > ?1 ORDER BY id LIMIT ?2");
        let left = limit - list.len();
        read(tables, &sql, params![replies_after, left], reply, &mut list)?;
    }
    Ok(Answer::ParkedList(list))
}

/// One of them, whole.
pub(super) fn show(tables: &mut Tables, id: ParkedId) -> Result<Answer> {
    Ok(Answer::ParkedItem(whole(tables, id)?.map(Box::new)))
}

fn whole(tables: &mut Tables, id: ParkedId) -> Result<Option<(Parked, Payload)>> {
    let mut found = Vec::new();
    let payload = match id {
        ParkedId::Event(id) => {
            let row = row_id(id.0);
            read(tables, &format!("{EVENT} WHERE id = ?1"), params![row], event, &mut found)?;
            let read = "SELECT body FROM payload WHERE id = ?1";
            let body = |r: &Row<'_>| Ok(body::decode(r.get_ref(0)?.as_blob()?));
            let event = tables.db.prepare_cached(read)?.query_row([row], body).optional()?;
            Payload::Event(event.flatten().map(Box::new))
        }
        ParkedId::Reply(id) => {
            let row = row_id(id.0);
            read(tables, &format!("{REPLY} AND id = ?1"), params![row], reply, &mut found)?;
            let read = "SELECT text, rest FROM reply WHERE id = ?1";
            let content = |r: &Row<'_>| {
                let rest: Option<Vec<u8>> = r.get(1)?;
                Ok(body::decode_rest(r.get(0)?, rest.as_deref()))
            };
            let found = tables.db.prepare_cached(read)?.query_row([row], content).optional()?;
            Payload::Reply(found.flatten().map(Box::new))
        }
    };
    Ok(found.pop().map(|parked| (parked, payload)))
}

fn read(
    tables: &mut Tables,
    sql: &str,
    params: impl Params,
    of: fn(&Row<'_>, &Connection, &mut Names) -> Result<Parked>,
    list: &mut Vec<Parked>,
) -> Result<()> {
    let Tables { db, names, .. } = tables;
    let mut read = db.prepare_cached(sql)?;
    let mut rows = read.query(params)?;
    while let Some(row) = rows.next()? {
        list.push(of(row, db, names)?);
    }
    Ok(())
}

fn event(row: &Row<'_>, db: &Connection, names: &mut Names) -> Result<Parked> {
    Ok(Parked {
        id: ParkedId::Event(EventId(wire_id(row.get(0)?))),
        lane: names.lane_name(db, row.get(1)?)?,
        unknown: false,
        attempts: row.get(2)?,
        received_ms: row.get(3)?,
        parked_ms: row.get(4)?,
        reason: row.get(5)?,
        message_ids: Vec::new(),
    })
}

fn reply(row: &Row<'_>, db: &Connection, names: &mut Names) -> Result<Parked> {
    let instance = names.instance_name(db, row.get(1)?)?;
    Ok(Parked {
        id: ParkedId::Reply(OutboundId(wire_id(row.get(0)?))),
        lane: Lane { instance, chat_id: row.get(2)?, thread_id: row.get(3)? },
        unknown: row.get::<_, i64>(4)? == outbox::code(ReplyState::Unknown),
        attempts: row.get(5)?,
        received_ms: row.get(6)?,
        parked_ms: row.get::<_, Option<i64>>(7)?.unwrap_or_default(),
        reason: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
        message_ids: outbox::listed(row.get(9)?),
    })
}

/// Puts them back into their lanes.
pub(super) fn replay(tables: &mut Tables, ids: &[ParkedId], now_ms: i64) -> Result<Answer> {
    each(tables, ids, |tables, id| match id {
        ParkedId::Event(id) => replay_event(tables, row_id(id.0)),
        ParkedId::Reply(id) => outbox::replay(tables, row_id(id.0), now_ms),
    })
}

/// Removes them.
pub(super) fn discard(tables: &mut Tables, ids: &[ParkedId]) -> Result<Answer> {
    each(tables, ids, |tables, id| match id {
        ParkedId::Event(id) => discard_event(tables, row_id(id.0)),
        ParkedId::Reply(id) => outbox::discard(tables, row_id(id.0)),
    })
}

fn each(
    tables: &mut Tables,
    ids: &[ParkedId],
    mut decide: impl FnMut(&mut Tables, ParkedId) -> Result<Option<Lane>>,
) -> Result<Answer> {
    let mut decided = Vec::with_capacity(ids.len());
    for id in ids {
        let lane = decide(tables, *id)?;
        let (db, names) = (&tables.db, &mut tables.names);
        let no = lane.as_ref().map(|lane| names.lane(db, lane)).transpose()?.flatten();
        let user = no.map(|no| names.user_of(db, no)).transpose()?.flatten();
        decided.push((*id, lane, user));
    }
    Ok(Answer::Decided(decided))
}

/// At its old place.
fn replay_event(tables: &mut Tables, row: i64) -> Result<Option<Lane>> {
    let Some((instance, size, lane)) = known(tables, row)? else { return Ok(None) };
    let db = &tables.db;
    db.prepare_cached(
        "INSERT INTO inbox(id, lane, instance, attempts, origin_ms, received_ms, size, replayed, joined)
         SELECT id, lane, instance, attempts, origin_ms, received_ms, size, 1, joined FROM parked WHERE id = ?1",
    )?
    .execute([row])?;
    db.prepare_cached("DELETE FROM parked WHERE id = ?1")?.execute([row])?;
    tables.lanes.joins(db, lane, row)?;
    tables.tally.note(Change::Parked { instance, by: -1 });
    tables.tally.note(Change::Waits { instance, id: row, size });
    tables.names.lane_name(db, lane).map(Some)
}

/// For good; its lane, if it was here.
pub(super) fn discard_event(tables: &mut Tables, row: i64) -> Result<Option<Lane>> {
    let Some((instance, _, lane)) = known(tables, row)? else { return Ok(None) };
    let db = &tables.db;
    db.prepare_cached("DELETE FROM parked WHERE id = ?1")?.execute([row])?;
    db.prepare_cached("DELETE FROM payload WHERE id = ?1")?.execute([row])?;
    tables.tally.note(Change::Parked { instance, by: -1 });
    tables.names.lane_name(db, lane).map(Some)
}

/// Its instance, size and lane.
fn known(tables: &Tables, row: i64) -> Result<Option<(i64, u64, i64)>> {
    tables
        .db
        .prepare_cached("SELECT instance, size, lane FROM parked WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()
}

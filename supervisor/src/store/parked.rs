//! Events set aside: out of their lane, with a reason, payload untouched, until a person decides.

use protocol::id::EventId;
use rusqlite::{OptionalExtension, Result, params};

use super::inbox;
use super::op::{Answer, Parked};
use super::tables::{Tables, row_id, wire_id};
use super::tally::Change;

/// Sets a waiting event aside.
pub(super) fn park(tables: &mut Tables, id: EventId, reason: &str, now_ms: i64) -> Result<Answer> {
    let row = row_id(id.0);
    let moved = tables
        .db
        .prepare_cached(
            "INSERT INTO parked SELECT id, lane, instance, attempts, origin_ms, received_ms, size, ?2, ?3
             FROM inbox WHERE id = ?1",
        )?
        .execute(params![row, now_ms, reason])?;
    if moved == 0 {
        return Ok(Answer::Gone);
    }
    if let Some((instance, _)) = known(tables, row)? {
        tables.tally.note(Change::Parked { instance, by: 1 });
    }
    inbox::leave(tables, id)?;
    Ok(Answer::Parked)
}

/// What is parked behind `after`, in the order of ids.
pub(super) fn list(tables: &mut Tables, after: EventId, limit: usize) -> Result<Answer> {
    let db = &tables.db;
    let names = &mut tables.names;
    let mut read = db.prepare_cached(
        "SELECT id, lane, attempts, received_ms, parked_ms, reason FROM parked
         WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = read.query(params![row_id(after.0), limit])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(Parked {
            id: EventId(wire_id(row.get(0)?)),
            lane: names.lane_name(db, row.get(1)?)?,
            attempts: row.get(2)?,
            received_ms: row.get(3)?,
            parked_ms: row.get(4)?,
            reason: row.get(5)?,
        });
    }
    Ok(Answer::ParkedList(list))
}

/// Puts a parked event back into its lane, at its old place.
pub(super) fn replay(tables: &mut Tables, id: EventId) -> Result<Answer> {
    let row = row_id(id.0);
    let Some((instance, size)) = known(tables, row)? else { return Ok(Answer::Gone) };
    let db = &tables.db;
    db.prepare_cached(
        "INSERT INTO inbox(id, lane, instance, attempts, origin_ms, received_ms, size)
         SELECT id, lane, instance, attempts, origin_ms, received_ms, size FROM parked WHERE id = ?1",
    )?
    .execute([row])?;
    let lane = db
        .prepare_cached("SELECT lane FROM parked WHERE id = ?1")?
        .query_row([row], |r| r.get(0))?;
    db.prepare_cached("DELETE FROM parked WHERE id = ?1")?.execute([row])?;
    tables.lanes.joins(db, lane, row)?;
    tables.tally.note(Change::Parked { instance, by: -1 });
    tables.tally.note(Change::Waits { instance, id: row, size });
    Ok(Answer::Replayed { id, lane: tables.names.lane_name(db, lane)? })
}

/// Removes a parked event.
pub(super) fn discard(tables: &mut Tables, id: EventId) -> Result<Answer> {
    let row = row_id(id.0);
    let Some((instance, _)) = known(tables, row)? else { return Ok(Answer::Gone) };
    let db = &tables.db;
    db.prepare_cached("DELETE FROM parked WHERE id = ?1")?.execute([row])?;
    db.prepare_cached("DELETE FROM payload WHERE id = ?1")?.execute([row])?;
    tables.tally.note(Change::Parked { instance, by: -1 });
    Ok(Answer::Settled)
}

fn known(tables: &Tables, row: i64) -> Result<Option<(i64, u64)>> {
    tables
        .db
        .prepare_cached("SELECT instance, size FROM parked WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()
}

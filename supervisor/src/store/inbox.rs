//! Events that wait for an agent, and the keys by which a repetition is known.

use protocol::event::Inbound;
use protocol::id::{EventId, Instance};
use protocol::worker::Cursor;
use rusqlite::{OptionalExtension, Result, params};

use super::body;
use super::op::{Answer, Begun};
use super::seen::Verdict;
use super::tables::{Tables, row_id, wire_id};
use super::tally::Change;

/// Event, keys and cursor in one transaction.
pub(super) fn accept(
    tables: &mut Tables,
    instance: &Instance,
    event: &Inbound,
    cursor: Option<&Cursor>,
    received_ms: i64,
) -> Result<Answer> {
    let db = &tables.db;
    let no = tables.names.instance_made(db, instance)?;
    let verdict = tables.seen.note(db, no, &event.keys, received_ms)?;
    let answer = if verdict == Verdict::New {
        let lane = tables.names.lane_made(db, &event.lane(instance.clone()), received_ms)?;
        let bytes = match body::encode(event) {
            Ok(bytes) => bytes,
            Err(e) => return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(e))),
        };
        let size = bytes.len();
        let id = tables.events.take(db)?;
        db.prepare_cached("INSERT INTO payload(id, lane, body) VALUES(?1, ?2, ?3)")?
            .execute(params![id, lane, bytes])?;
        db.prepare_cached(
            "INSERT INTO inbox(id, lane, instance, attempts, origin_ms, received_ms, size)
             VALUES(?1, ?2, ?3, 0, ?4, ?5, ?6)",
        )?
        .execute(params![id, lane, no, event.origin_ms, received_ms, size])?;
        tables.lanes.joins(db, lane, id)?;
        tables.tally.note(Change::Waits { instance: no, id, size: size as u64 });
        Answer::Accepted(EventId(wire_id(id)))
    } else {
        Answer::Duplicate
    };
    if let Some(cursor) = cursor {
        tables.save_cursor(no, cursor);
    }
    Ok(answer)
}

/// Counts an attempt and reads the event.
pub(super) fn begin(tables: &mut Tables, id: EventId) -> Result<Answer> {
    let db = &tables.db;
    let row = row_id(id.0);
    let counted = db
        .prepare_cached("UPDATE inbox SET attempts = attempts + 1 WHERE id = ?1")?
        .execute([row])?;
    if counted == 0 {
        return Ok(Answer::Gone);
    }
    let (lane, attempts, received_ms) = db
        .prepare_cached("SELECT lane, attempts, received_ms FROM inbox WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
    let event = db
        .prepare_cached("SELECT body FROM payload WHERE id = ?1")?
        .query_row([row], |r| Ok(body::decode(r.get_ref(0)?.as_blob()?)))
        .optional()?
        .flatten();
    let lane = tables.names.lane_name(db, lane)?;
    Ok(match event {
        Some(event) => Answer::Begun(Box::new(Begun { id, lane, attempts, received_ms, event })),
        None => Answer::Unreadable(id),
    })
}

/// Takes back one counted attempt.
pub(super) fn refund(tables: &mut Tables, id: EventId) -> Result<()> {
    tables
        .db
        .prepare_cached("UPDATE inbox SET attempts = attempts - 1 WHERE id = ?1 AND attempts > 0")?
        .execute([row_id(id.0)])?;
    Ok(())
}

/// The event is the agent's from now on.
pub(super) fn settle(tables: &mut Tables, id: EventId) -> Result<Answer> {
    if !leave(tables, id)? {
        return Ok(Answer::Gone);
    }
    tables.db.prepare_cached("DELETE FROM payload WHERE id = ?1")?.execute([row_id(id.0)])?;
    Ok(Answer::Settled)
}

/// Takes an event out of the inbox; its payload stays. Whether there was one.
pub(super) fn leave(tables: &mut Tables, id: EventId) -> Result<bool> {
    let db = &tables.db;
    let row = row_id(id.0);
    let known: Option<(i64, i64, u64)> = db
        .prepare_cached("SELECT lane, instance, size FROM inbox WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((lane, instance, size)) = known else { return Ok(false) };
    db.prepare_cached("DELETE FROM inbox WHERE id = ?1")?.execute([row])?;
    tables.lanes.leaves(db, lane, row)?;
    tables.tally.note(Change::Leaves { instance, id: row, size });
    Ok(true)
}

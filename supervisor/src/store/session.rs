//! What an agent knows of a conversation: how often somebody began it anew, and what its worker noted.
//!
//! A conversation without a row was never begun anew and has no note, so agents that keep nothing here
//! cost nothing. A note about a conversation of before is dropped: its writer did not know yet.

use protocol::event::{NOTE_MAX, Note, Session};
use protocol::id::{Instance, Lane};
use rusqlite::{OptionalExtension, Result, params};

use super::tables::Tables;

/// The conversation `lane` as `agent` knows it.
pub(super) fn get(tables: &mut Tables, agent: &Instance, lane: i64) -> Result<Session> {
    let Some(agent) = tables.instance(agent)? else { return Ok(Session::default()) };
    let found = tables
        .db
        .prepare_cached("SELECT epoch, note FROM session WHERE lane = ?1 AND agent = ?2")?
        .query_row([lane, agent], |row| Ok(Session { epoch: row.get(0)?, note: row.get(1)? }))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Keeps a note.
pub(super) fn remember(
    tables: &mut Tables,
    agent: &Instance,
    lane: &Lane,
    note: &Note,
    now_ms: i64,
) -> Result<()> {
    if note.bytes.len() > NOTE_MAX {
        return Ok(());
    }
    let db = &tables.db;
    let agent = tables.names.instance_made(db, agent)?;
    let lane = tables.names.lane_made(db, lane, now_ms)?;
    // The first note makes the row, if the conversation is the first one.
    db.prepare_cached(
        "INSERT INTO session(lane, agent, epoch, note, used_ms) SELECT ?1, ?2, 0, ?4, ?5 WHERE ?3 = 0
         ON CONFLICT(lane, agent) DO NOTHING",
    )?
    .execute(params![lane, agent, note.epoch, note.bytes, now_ms])?;
    db.prepare_cached(
        "UPDATE session SET note = ?4, used_ms = ?5 WHERE lane = ?1 AND agent = ?2 AND epoch = ?3",
    )?
    .execute(params![lane, agent, note.epoch, note.bytes, now_ms])?;
    Ok(())
}

/// Begins a conversation anew.
pub(super) fn renew(tables: &mut Tables, agent: &Instance, lane: &Lane, now_ms: i64) -> Result<()> {
    let db = &tables.db;
    let agent = tables.names.instance_made(db, agent)?;
    let lane = tables.names.lane_made(db, lane, now_ms)?;
    db.prepare_cached(
        "INSERT INTO session(lane, agent, epoch, note, used_ms) VALUES(?1, ?2, 1, x'', ?3)
         ON CONFLICT(lane, agent) DO UPDATE SET epoch = epoch + 1, note = x'', used_ms = ?3",
    )?
    .execute(params![lane, agent, now_ms])?;
    Ok(())
}

//! The last ends of workers, with their cause.

use protocol::id::Generation;
use rusqlite::{Connection, Result, params};

use super::answer::{EXITS_KEPT, Exit};
use super::names::Names;
use super::tables::{row_id, wire_id};

/// Remembers one, and forgets the oldest of the same instance.
pub(super) fn record(db: &Connection, instance: i64, exit: &Exit) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO exits(instance, generation, at_ms, code, signal, cause)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        instance,
        row_id(exit.generation.0),
        exit.at_ms,
        exit.code,
        exit.signal,
        exit.cause
    ])?;
    db.prepare_cached(
        "DELETE FROM exits WHERE instance = ?1 AND id NOT IN
           (SELECT id FROM exits WHERE instance = ?1 ORDER BY id DESC LIMIT ?2)",
    )?
    .execute(params![instance, EXITS_KEPT])?;
    Ok(())
}

/// All that are remembered, oldest first.
pub(super) fn all(db: &Connection, names: &mut Names) -> Result<Vec<Exit>> {
    let mut read = db.prepare(
        "SELECT instance, generation, at_ms, code, signal, cause FROM exits ORDER BY id",
    )?;
    let mut rows = read.query([])?;
    let mut exits = Vec::new();
    while let Some(row) = rows.next()? {
        exits.push(Exit {
            instance: names.instance_name(db, row.get(0)?)?,
            generation: Generation(wire_id(row.get(1)?)),
            at_ms: row.get(2)?,
            code: row.get(3)?,
            signal: row.get(4)?,
            cause: row.get(5)?,
        });
    }
    Ok(exits)
}

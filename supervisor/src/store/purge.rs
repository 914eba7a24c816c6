//! Forgetting what is old: keys, replies at their end, names of conversations.
//!
//! One slice looks at a bounded number of neighbouring rows and stops. An index by age would be one
//! more page in every commit; walking each table in its own order costs nothing until it is due.

use rusqlite::{Result, params};

use super::answer::Answer;
use super::outbox;
use super::tables::Tables;
use crate::policy::wall::Set;

/// Rows looked at in one slice.
const SLICE: u32 = 512;
/// A conversation that nobody took up for so long is over for its agent, too.
const SESSION_MS: i64 = 180 * 24 * 3600 * 1000;

/// How far the current round has come.
#[derive(Clone, Copy, Default, Debug)]
pub(super) enum Position {
    #[default]
    Seen,
    Replies {
        after: i64,
    },
    Lanes {
        after: i64,
    },
}

/// See [`super::op::Op::Purge`].
pub(super) fn slice(
    tables: &mut Tables,
    seen_before_ms: i64,
    replies_before_ms: i64,
    failures_before_ms: i64,
) -> Result<Answer> {
    let (next, forgotten) = match tables.purge {
        Position::Seen => {
            let (forgotten, more) = tables.seen.forget(&tables.db, seen_before_ms)?;
            let next = if more { Position::Seen } else { Position::Replies { after: 0 } };
            (Some(next), forgotten)
        }
        Position::Replies { after } => {
            replies(tables, after, replies_before_ms, failures_before_ms)?
        }
        Position::Lanes { after } => lanes(tables, after, seen_before_ms)?,
    };
    tables.purge = next.unwrap_or_default();
    Ok(Answer::Purged { forgotten, more: next.is_some() })
}

/// The wall clock was set: what is kept is as old as before, or it would be forgotten at once.
pub(super) fn clock_set(tables: &mut Tables, set: Set) -> Result<()> {
    for (table, column) in [
        ("seen_log", "at_ms"),
        ("seen_part", "newest_ms"),
        ("reply", "ended_ms"),
        ("draft", "made_ms"),
        ("session", "used_ms"),
        ("conversation", "used_ms"),
    ] {
        let sql = format!(
            "UPDATE {table} SET {column} = {column} + ?1 WHERE {}",
            outbox::noted_before(column)
        );
        tables.db.prepare_cached(&sql)?.execute([set.by_ms, set.now_ms])?;
    }
    tables.seen.clock_set(&tables.db, set)
}

fn replies(
    tables: &Tables,
    after: i64,
    before_ms: i64,
    failures_before_ms: i64,
) -> Result<(Option<Position>, u64)> {
    let sql = format!(
        "SELECT id, coalesce(ended_ms < iif(state IN (3, 4) AND (text <> '' OR rest IS NOT NULL), {failures_before_ms}, ?3), 0)
         FROM reply WHERE id > ?1 ORDER BY id LIMIT ?2"
    );
    let found = read(tables, &sql, after, before_ms)?;
    let mut delete = tables.db.prepare_cached("DELETE FROM reply WHERE id = ?1")?;
    let mut progress = tables.db.prepare_cached("DELETE FROM progress WHERE id = ?1")?;
    let mut forgotten = 0;
    for (id, _) in found.iter().filter(|(_, old)| *old) {
        progress.execute([id])?;
        forgotten += delete.execute([id])? as u64;
    }
    let next =
        last(&found).map_or(Position::Lanes { after: 0 }, |after| Position::Replies { after });
    if last(&found).is_none() {
        // Drafts whose reply never came.
        let old = "DELETE FROM draft WHERE made_ms < ?1";
        forgotten += tables.db.prepare_cached(old)?.execute([before_ms])? as u64;
        let old = "DELETE FROM session WHERE used_ms < ?1";
        let long_ago = before_ms.saturating_sub(SESSION_MS);
        forgotten += tables.db.prepare_cached(old)?.execute([long_ago])? as u64;
    }
    Ok((Some(next), forgotten))
}

fn lanes(tables: &mut Tables, after: i64, before_ms: i64) -> Result<(Option<Position>, u64)> {
    let sql = "SELECT no, used_ms < ?3
          AND NOT EXISTS (SELECT 1 FROM parked WHERE lane = no)
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE lane = no)
          AND NOT EXISTS (SELECT 1 FROM session WHERE lane = no)
        FROM conversation WHERE no > ?1 ORDER BY no LIMIT ?2";
    let found = read(tables, sql, after, before_ms)?;
    let mut delete = tables.db.prepare_cached("DELETE FROM conversation WHERE no = ?1")?;
    let mut forgotten = 0;
    for (no, old) in &found {
        if *old && tables.lanes.next(&tables.db, *no, 0)?.is_none() {
            forgotten += delete.execute([no])? as u64;
        }
    }
    if forgotten > 0 {
        tables.names.forget();
    }
    Ok((last(&found).map(|after| Position::Lanes { after }), forgotten))
}

/// One slice of a table: ids, and whether each is old.
fn read(tables: &Tables, sql: &str, after: i64, before_ms: i64) -> Result<Vec<(i64, bool)>> {
    tables
        .db
        .prepare_cached(sql)?
        .query_map(params![after, SLICE, before_ms], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The last id of a slice, if there may be more behind it.
fn last(found: &[(i64, bool)]) -> Option<i64> {
    found.get(SLICE as usize - 1).map(|(id, _)| *id)
}

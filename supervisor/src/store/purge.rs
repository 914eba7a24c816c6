//! Forgetting what is old: keys, replies at their end, names of conversations.
//!
//! One slice looks at a bounded number of neighbouring rows and stops. An index by age would be one
//! more page in every commit; walking each table in its own order costs nothing until it is due, and
//! what is deleted together lies together.

use rusqlite::{Result, params};

use super::op::Answer;
use super::tables::Tables;

/// Rows looked at in one slice.
const SLICE: u32 = 512;

/// How far the current round has come.
#[derive(Clone, Debug)]
pub(super) enum Position {
    Seen { instance: i64, key: String },
    Replies { after: i64 },
    Lanes { after: i64 },
}

impl Default for Position {
    fn default() -> Self {
        Self::Seen { instance: 0, key: String::new() }
    }
}

/// See [`super::op::Op::Purge`].
pub(super) fn slice(
    tables: &mut Tables,
    seen_before_ms: i64,
    replies_before_ms: i64,
) -> Result<Answer> {
    let (next, forgotten) = match tables.purge.clone() {
        Position::Seen { instance, key } => seen(tables, instance, &key, seen_before_ms)?,
        Position::Replies { after } => replies(tables, after, replies_before_ms)?,
        Position::Lanes { after } => lanes(tables, after, seen_before_ms)?,
    };
    let more = next.is_some();
    tables.purge = next.unwrap_or_default();
    Ok(Answer::Purged { forgotten, more })
}

fn seen(
    tables: &Tables,
    instance: i64,
    key: &str,
    before_ms: i64,
) -> Result<(Option<Position>, u64)> {
    let db = &tables.db;
    let mut read = db.prepare_cached(
        "SELECT instance, key, at_ms FROM seen WHERE (instance, key) > (?1, ?2)
         ORDER BY instance, key LIMIT ?3",
    )?;
    let found = read
        .query_map(params![instance, key, SLICE], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<Vec<(i64, String, i64)>>>()?;
    let mut delete = db.prepare_cached("DELETE FROM seen WHERE instance = ?1 AND key = ?2")?;
    let mut forgotten = 0;
    for (instance, key, at_ms) in &found {
        if *at_ms < before_ms {
            forgotten += delete.execute(params![instance, key])? as u64;
        }
    }
    let last = found.into_iter().nth(SLICE as usize - 1);
    let next = match last {
        Some((instance, key, _)) => Position::Seen { instance, key },
        None => Position::Replies { after: 0 },
    };
    Ok((Some(next), forgotten))
}

fn replies(tables: &Tables, after: i64, before_ms: i64) -> Result<(Option<Position>, u64)> {
    let sql = "SELECT id, coalesce(ended_ms < ?3, 0) FROM reply WHERE id > ?1 ORDER BY id LIMIT ?2";
    let (last, forgotten) = walk(tables, sql, "DELETE FROM reply WHERE id = ?1", after, before_ms)?;
    let next = last.map_or(Position::Lanes { after: 0 }, |after| Position::Replies { after });
    Ok((Some(next), forgotten))
}

fn lanes(tables: &mut Tables, after: i64, before_ms: i64) -> Result<(Option<Position>, u64)> {
    let sql = "SELECT no, used_ms < ?3
          AND NOT EXISTS (SELECT 1 FROM inbox WHERE lane = no)
          AND NOT EXISTS (SELECT 1 FROM parked WHERE lane = no)
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE lane = no)
        FROM conversation WHERE no > ?1 ORDER BY no LIMIT ?2";
    let (last, forgotten) =
        walk(tables, sql, "DELETE FROM conversation WHERE no = ?1", after, before_ms)?;
    if forgotten > 0 {
        tables.names.forget();
    }
    Ok((last.map(|after| Position::Lanes { after }), forgotten))
}

/// Deletes the rows of one slice that `select` marks; tells the last id if there may be more.
fn walk(
    tables: &Tables,
    select: &str,
    delete: &str,
    after: i64,
    before_ms: i64,
) -> Result<(Option<i64>, u64)> {
    let mut read = tables.db.prepare_cached(select)?;
    let found = read
        .query_map(params![after, SLICE, before_ms], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, bool)>>>()?;
    let mut delete = tables.db.prepare_cached(delete)?;
    let mut forgotten = 0;
    for (id, old) in &found {
        if *old {
            forgotten += delete.execute([id])? as u64;
        }
    }
    Ok((found.get(SLICE as usize - 1).map(|(id, _)| *id), forgotten))
}

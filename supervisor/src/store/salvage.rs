//! Copies what can be read of a damaged file into a fresh one, row by row.
//!
//! Where a page cannot be read, the copy goes on behind it: ids are tried one after another with growing
//! steps, and from the far end backwards. Afterwards the tables are made to agree. An event needs its
//! payload; its small row, its conversation and its place in a lane can be made anew, and in doubt an
//! event waits: delivered twice is better than lost.
//!
//! Where a part of the log was lost, a page may be older than the others. Its rows are read like any, so
//! that of what it held only the newest is missing. An older page of `inbox` may name events that were
//! settled since: their payloads are gone, and they go too. An older page of `payload` may hold some: they
//! come again, as another attempt. An event that was handed out meanwhile may count fewer attempts, a reply
//! that was sent may be sent again, and keys that were noted meanwhile are forgotten with their page.

use std::path::Path;

use protocol::id::Lane;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Result, params, params_from_iter};

use super::answer::Damage;
use super::body;
use super::heard::{self, ACCOUNT};
use super::names::{INSTANCE, Names};
use super::reading::Reading;
use super::seen::SEEN_KEY;
use super::tables::{STORE_ID, STORE_ID_LEN};
use super::{meta, schema, shape};

/// Tables with numbered rows.
const NUMBERED: &[&str] = &[
    "instance",
    "conversation",
    "inbox",
    "payload",
    "parked",
    "cursor",
    "reply",
    "outbox",
    "exits",
    "draft",
    "progress",
    "session",
    "access",
    "pairing",
    "seen_log",
    "seen_part",
    "seen_bucket",
];

/// How far ids jump: the last one given out is unknown, or may be older than it says, and none is used twice.
const JUMP: i64 = 1 << 20;

/// Copies `damage.kept_as` into the new file `fresh`, and counts.
pub(super) fn copy(fresh: &Path, now_ms: i64, damage: &mut Damage) -> Result<()> {
    let new = schema::make(fresh, now_ms)?;
    new.execute_batch("BEGIN")?;
    let reading = Reading::of(&damage.kept_as);
    damage.unreadable += reading.missing();
    if let Ok((old, model)) = source(reading.path()) {
        // Random keys and ids of the old store, if they can be read; else the new ones stay.
        let mut lost = Vec::new();
        for name in [STORE_ID, "created_ms", SEEN_KEY, "last_event", "last_reply", "ids_ms"] {
            let value: Option<Value> = meta::find(&old, name).unwrap_or_default();
            let must_be = [STORE_ID, SEEN_KEY].contains(&name);
            if value.is_none() && !must_be {
                continue;
            }
            if let Some(value) = value.filter(|value| is_right(name, value)) {
                new.execute("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", params![name, value])?;
            } else {
                damage.unreadable += 1;
                lost.push(name);
            }
        }
        let named = "INSERT OR IGNORE INTO instance(no, name) VALUES(?1, ?2)";
        for (no, name) in noted(&old, INSTANCE) {
            new.execute(named, params![no, name])?;
        }
        for (no, accounts) in noted(&old, ACCOUNT) {
            if !heard::is_readable(&accounts) {
                damage.unreadable += 1;
                continue;
            }
            let row = params![format!("{ACCOUNT}{no}"), accounts];
            new.execute("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", row)?;
        }
        for table in NUMBERED {
            let table = Table::of(&model, table)?;
            // An older file does not have each of them.
            if !table.kinds.is_empty() {
                damage.unreadable += numbered(&old, &new, &table)?;
            }
        }
        if lost.contains(&SEEN_KEY) {
            // Nothing would be found in there.
            new.execute_batch(
                "DELETE FROM seen_log; DELETE FROM seen_part; DELETE FROM seen_bucket",
            )?;
        }
        if lost.contains(&STORE_ID) {
            // No platform knows their keys again: what may have arrived is not said once more.
            new.execute(
                "UPDATE reply SET ambiguous = 1, first_attempt_ms = 0 WHERE state IN (0, 1) AND attempts > 0",
                [],
            )?;
        }
    } else {
        damage.unreadable += 1;
    }
    mend(&new, now_ms, damage)?;
    count(&new, damage)?;
    new.execute_batch("COMMIT")
}

/// Counts what there is.
pub(super) fn count(db: &Connection, damage: &mut Damage) -> Result<()> {
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, u64>(0));
    damage.events = count("SELECT count(*) FROM inbox")?;
    damage.parked = count("SELECT count(*) FROM parked")?;
    damage.replies = count("SELECT count(*) FROM reply")?;
    damage.keys = count(
        "SELECT (SELECT coalesce(sum(length(hashes)), 0) FROM seen_log) / 16
              + (SELECT coalesce(sum(length(hashes)), 0) FROM seen_bucket) / 16",
    )?;
    Ok(())
}

/// The old file, and an empty store of its version.
fn source(path: &Path) -> Result<(Connection, Connection)> {
    let old = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    old.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    old.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // Lets a file be read that is shorter than it says.
    old.pragma_update(None, "writable_schema", true)?;
    old.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let model = shape::mended(&old)?;
    old.pragma_update(None, "writable_schema", true)?;
    Ok((old, model))
}

/// Whether it is of the kind that stands under `name`.
fn is_right(name: &str, value: &Value) -> bool {
    match (name, value) {
        (STORE_ID, Value::Text(id)) => id.len() == STORE_ID_LEN,
        (SEEN_KEY, Value::Blob(key)) => key.len() == 16,
        (STORE_ID | SEEN_KEY, _) => false,
        (_, value) => matches!(value, Value::Integer(_)),
    }
}

/// What stands in `meta` of each instance.
fn noted(old: &Connection, what: &str) -> Vec<(i64, String)> {
    let read = || -> Result<Vec<(i64, String)>> {
        let mut read = old.prepare(
            "SELECT CAST(substr(name, length(?1) + 1) AS INTEGER), value FROM meta
             WHERE name GLOB ?1 || '[0-9]*'",
        )?;
        read.query_map([what], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().unwrap_or_default()
}

/// What is copied.
struct Table {
    name: &'static str,
    /// The names of its columns, with commas between.
    columns: String,
    /// What stands in each of them, and whether it must.
    kinds: Vec<(String, bool)>,
}

impl Table {
    fn of(model: &Connection, name: &'static str) -> Result<Self> {
        let mut read =
            model.prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)")?;
        let column = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)));
        let columns = read.query_map([name], column)?.collect::<Result<Vec<(String, _)>>>()?;
        let (columns, kinds): (Vec<_>, _) = columns.into_iter().unzip();
        Ok(Self { name, columns: columns.join(", "), kinds })
    }

    /// Whether this is one of its rows. A page that was given back and used for another table may still be
    /// found through an older version of the page that led to it.
    fn has(&self, row: &[Value]) -> bool {
        row.iter().zip(&self.kinds).all(|(value, (kind, must))| match value {
            Value::Null => !must,
            Value::Integer(_) => kind == "INTEGER",
            Value::Text(_) => kind == "TEXT",
            Value::Blob(_) => kind == "BLOB",
            Value::Real(_) => false,
        })
    }
}

/// Copies a table whose rows are numbered. How many times it could not go on.
fn numbered(old: &Connection, new: &Connection, table: &Table) -> Result<u64> {
    let mut unreadable = 0;
    let mut from = i64::MIN;
    let mut step = 0;
    loop {
        match run(old, new, table, Way::Up, from)? {
            Run { last, whole: true } => {
                if step > 0 && last.is_none() {
                    // Behind the damage there was nothing more, from this side.
                    run(old, new, table, Way::Down, i64::MAX)?;
                }
                return Ok(unreadable);
            }
            Run { last: Some(last), whole: false } => {
                unreadable += 1;
                from = last.saturating_add(1);
                step = 1;
            }
            Run { last: None, whole: false } => {
                if step == 0 {
                    unreadable += 1;
                    from = 0;
                }
                step = (step * 2).max(1);
                from = from.saturating_add(step);
                if from == i64::MAX || step >= i64::MAX / 2 {
                    run(old, new, table, Way::Down, i64::MAX)?;
                    return Ok(unreadable);
                }
            }
        }
    }
}

struct Run {
    last: Option<i64>,
    whole: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Up,
    Down,
}

/// Copies rows until the end or the first that cannot be read. An error is one of the new file. A damaged
/// tree may lead in circles: an id out of order ends the run, so that every run ends.
fn run(old: &Connection, new: &Connection, table: &Table, way: Way, from: i64) -> Result<Run> {
    let which = match way {
        Way::Up => "rowid >= ?1 ORDER BY rowid",
        Way::Down => "rowid <= ?1 ORDER BY rowid DESC",
    };
    let mut last = None;
    let broken = |last| Ok(Run { last, whole: false });
    let Table { name, columns, .. } = table;
    let Ok(mut read) = old.prepare(&format!("SELECT rowid, {columns} FROM {name} WHERE {which}"))
    else {
        return broken(last);
    };
    let count = read.column_count();
    let places = vec!["?"; count - 1].join(", ");
    let mut insert =
        new.prepare(&format!("INSERT OR IGNORE INTO {name}({columns}) VALUES({places})"))?;
    let Ok(mut rows) = read.query([from]) else { return broken(last) };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let Ok(id) = row.get::<_, i64>(0) else { return broken(last) };
                let in_order = match way {
                    Way::Up => id >= from && last.is_none_or(|before| id > before),
                    Way::Down => id <= from && last.is_none_or(|before| id < before),
                };
                if !in_order {
                    return broken(last);
                }
                let values: Result<Vec<Value>> = (1..count).map(|at| row.get(at)).collect();
                if let Ok(values) = values
                    && table.has(&values)
                {
                    match insert.execute(params_from_iter(values)) {
                        // A row that breaks a rule is no row of ours.
                        Err(e) if is_rule(&e) => {}
                        other => drop(other?),
                    }
                }
                last = Some(id);
            }
            Ok(None) => return Ok(Run { last, whole: true }),
            Err(_) => return broken(last),
        }
    }
}

fn is_rule(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// Makes the tables agree with one another.
fn mend(new: &Connection, now_ms: i64, damage: &mut Damage) -> Result<()> {
    // Instances whose name is lost get one that says so.
    for table in
        ["conversation", "inbox", "parked", "cursor", "reply", "outbox", "access", "pairing"]
    {
        new.execute(
            &format!(
                "INSERT OR IGNORE INTO instance(no, name)
                 SELECT DISTINCT instance, 'lost-' || instance FROM {table}
                 WHERE instance NOT IN (SELECT no FROM instance)"
            ),
            [],
        )?;
    }
    // Without its payload an event is nothing.
    for table in ["inbox", "parked"] {
        let sql = format!("DELETE FROM {table} WHERE id NOT IN (SELECT id FROM payload)");
        damage.unreadable += new.execute(&sql, [])? as u64;
    }
    // One of them may be older than the other. In doubt it waits.
    new.execute("DELETE FROM parked WHERE id IN (SELECT id FROM inbox)", [])?;
    // A conversation whose row is lost is still named by the payloads.
    let mut read = new.prepare(
        "SELECT lane, instance, (SELECT body FROM payload WHERE payload.id = rows.id)
         FROM (SELECT id, lane, instance FROM inbox UNION ALL SELECT id, lane, instance FROM parked) rows
         WHERE lane NOT IN (SELECT no FROM conversation) GROUP BY lane",
    )?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (lane, instance): (i64, i64) = (row.get(0)?, row.get(1)?);
        let event = body::decode(row.get_ref(2)?.as_blob()?);
        let (chat, thread) = match event {
            Some(event) => (event.chat_id, event.thread_id),
            None => (format!("lost-{lane}"), None),
        };
        new.execute(
            "INSERT INTO conversation(no, instance, chat, thread, used_ms) VALUES(?1, ?2, ?3, ?4, ?5)",
            params![lane, instance, chat, thread, now_ms],
        )?;
    }
    // What an agent noted of a conversation must not become that of the next one with its number.
    new.execute("DELETE FROM session WHERE lane NOT IN (SELECT no FROM conversation)", [])?;
    // A payload that nobody owns belongs to an event whose small row is lost: it waits. Or it is one of an
    // older page, and its event was settled: so the agent is told that this may not be the first attempt.
    new.execute(
        "INSERT INTO inbox(id, lane, instance, attempts, origin_ms, received_ms, size)
         SELECT payload.id, lane, conversation.instance, 1, ?1, ?1, length(body)
         FROM payload JOIN conversation ON conversation.no = payload.lane
         WHERE payload.id NOT IN (SELECT id FROM inbox UNION ALL SELECT id FROM parked)",
        [now_ms],
    )?;
    new.execute(
        "INSERT OR IGNORE INTO waiting(lane, id) SELECT lane, id FROM inbox ORDER BY lane, id",
        [],
    )?;
    replies(new, now_ms)?;
    for (name, table) in [("last_event", "payload"), ("last_reply", "reply")] {
        new.execute(
            &format!(
                "INSERT OR REPLACE INTO meta SELECT ?1, ?2 + max(
                   coalesce((SELECT max(id) FROM {table}), 0),
                   coalesce((SELECT value FROM meta WHERE name = ?1), 0))"
            ),
            params![name, JUMP],
        )?;
    }
    new.execute(
        "INSERT OR REPLACE INTO meta SELECT 'waiting_upto', coalesce(max(id), 0) FROM inbox",
        [],
    )?;
    Ok(())
}

/// The outbox anew: what is not at its end waits in its chat.
fn replies(new: &Connection, now_ms: i64) -> Result<()> {
    new.execute("DELETE FROM outbox", [])?;
    let mut names = Names::default();
    let mut read =
        new.prepare("SELECT id, instance, chat FROM reply WHERE state IN (0, 1) ORDER BY id")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (id, instance): (i64, i64) = (row.get(0)?, row.get(1)?);
        let name = names.instance_name(new, instance)?;
        let chat = Lane { instance: name, chat_id: row.get(2)?, thread_id: None };
        let lane = names.lane_made(new, &chat, now_ms)?;
        new.execute(
            "INSERT INTO outbox(id, lane, instance) VALUES(?1, ?2, ?3)",
            [id, lane, instance],
        )?;
    }
    Ok(())
}

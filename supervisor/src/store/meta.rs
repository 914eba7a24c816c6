//! What a store keeps once, each under its name. What should be there and is not, or is something else, is damage:
//! taken for nothing it would let repetitions in, or have replies arrive twice.

use rusqlite::types::FromSql;
use rusqlite::{Connection, Error, OptionalExtension, Result, ffi};

/// What stands under `name`, if anything does.
pub(super) fn find<T: FromSql>(db: &Connection, name: &str) -> Result<Option<T>> {
    db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// What stands under `name` in each store.
pub(super) fn get<T: FromSql>(db: &Connection, name: &str) -> Result<T> {
    find(db, name)?.ok_or_else(|| damaged(name))
}

/// What stands under `name` is not what it was.
pub(super) fn damaged(name: &str) -> Error {
    let what = format!("what it keeps as {name} is damaged");
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(what))
}

//! What a file says of its own tables, beside what it should say. The engine takes damage in there for
//! another schema, and fails at whatever it is asked next.

use rusqlite::{Connection, Result, params};

use super::schema::{self, NEWEST};

/// A row of the schema: kind, name, table and text, as bytes, since damage is no text.
type Entry = [Option<Vec<u8>>; 4];

/// The rows by their numbers.
fn entries(db: &Connection) -> Result<Vec<(i64, Entry)>> {
    let mut read = db.prepare(
        "SELECT rowid, CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB)
         FROM sqlite_schema ORDER BY rowid",
    )?;
    let entry = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]))
    };
    read.query_map([], entry)?.collect()
}

fn sorted(entries: Vec<(i64, Entry)>) -> Vec<Entry> {
    let mut entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    entries.sort_unstable();
    entries
}

/// Whether the file has the tables of this version, and nothing else.
pub(super) fn is(db: &Connection, version: i64) -> Result<bool> {
    Ok(sorted(entries(db)?) == sorted(entries(&schema::model(version)?)?))
}

/// Whether nothing was ever made in the file.
pub(super) fn is_empty(db: &Connection) -> Result<bool> {
    Ok(entries(db)?.is_empty())
}

/// An empty store of the version that a damaged file seems to be of, and the file's own schema mended to be
/// like it, for this connection alone: in a transaction that nobody commits. Of a row it needs the number
/// and the place of the table.
pub(super) fn mended(db: &Connection) -> Result<Connection> {
    let found = entries(db).unwrap_or_default();
    let like = |model: &Connection| {
        let known = entries(model).unwrap_or_default();
        let same = known.iter().filter(|(_, entry)| found.iter().any(|(_, own)| own == entry));
        (same.count() * 2).saturating_sub(known.len())
    };
    let mut models = (1..=NEWEST).map(schema::model).collect::<Result<Vec<_>>>()?;
    models.sort_by_key(like);
    let Some(model) = models.pop() else { return schema::model(NEWEST) };
    // What would not fit into memory would be written, and the file is to stay as it is.
    db.execute_batch("PRAGMA cache_spill = OFF; BEGIN")?;
    let known = entries(&model)?;
    for (row, entry) in &known {
        let here = found.iter().find(|(number, _)| number == row).map(|(_, own)| own);
        let is_there = found.iter().any(|(_, own)| own == entry);
        let is_other = here.is_none_or(|own| known.iter().any(|(_, entry)| entry == own));
        if !is_there && !is_other {
            let [kind, name, table, sql] = entry;
            db.execute(
                "UPDATE sqlite_schema SET type = CAST(?2 AS TEXT), name = CAST(?3 AS TEXT),
                   tbl_name = CAST(?4 AS TEXT), sql = CAST(?5 AS TEXT) WHERE rowid = ?1",
                params![row, kind, name, table, sql],
            )?;
        }
    }
    db.pragma_update(None, "writable_schema", "RESET")?;
    Ok(model)
}

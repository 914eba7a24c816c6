//! Opening, and what is done about a damaged file.

use std::path::Path;

use super::Error;
use super::op::Opened;
use super::schema::{self, Paths, Refusal};
use super::tables::Tables;

/// Opens the store in `dir`.
pub(super) fn open(dir: &Path, now_ms: i64) -> Result<(Tables, Opened), Error> {
    let paths = Paths::new(dir);
    match try_open(&paths, now_ms) {
        Ok(open) => Ok(open),
        Err(Refusal::Other(error)) => Err(error),
        Err(Refusal::Damaged(reason)) => Err(Error::Engine { path: paths.file, reason }),
    }
}

fn try_open(paths: &Paths, now_ms: i64) -> Result<(Tables, Opened), Refusal> {
    let db = schema::open(paths, now_ms)?;
    let read = || {
        let mut tables = Tables::new(db, paths.clone())?;
        let opened = tables.opened()?;
        Ok((tables, opened))
    };
    read().map_err(|e| schema::refusal(&e, paths))
}

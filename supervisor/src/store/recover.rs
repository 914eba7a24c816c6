//! Opening, and what is done about a damaged file.
//!
//! Damage shows when the file is opened, in a full check of a small file, or while running: then the
//! owner leaves a note (`store.suspect`) and the next start comes here. The damaged file and its log are
//! set aside under a name of their own and never changed again; what can be read of them is copied into
//! a fresh file, which takes its place only when it is complete and synced. The note names the file set
//! aside, so that a crash half-way starts the copying anew from the same source.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use protocol::id::EventId;

use super::Error;
use super::answer::{Damage, Opened};
use super::inbox;
use super::salvage;
use super::schema::{self, Paths, Refusal};
use super::tables::Tables;

/// A file up to this size is read through and checked at each start: some ten milliseconds.
const CHECKED: u64 = 4 << 20;

/// Opens the store in `dir`.
pub(super) fn open(
    dir: &Path,
    now_ms: i64,
    with_agents: &[EventId],
) -> Result<(Tables, Opened), Error> {
    let paths = Paths::new(dir);
    let reason = if paths.suspect.exists() {
        "damage was met while running".to_owned()
    } else {
        match try_open(&paths, now_ms, with_agents) {
            Ok(open) => return Ok(open),
            Err(Refusal::Other(error)) => return Err(error),
            Err(Refusal::Damaged(reason)) => reason,
        }
    };
    let damage = replace(&paths, now_ms, reason)?;
    match try_open(&paths, now_ms, with_agents) {
        Ok((tables, opened)) => Ok((tables, Opened { damage: Some(damage), ..opened })),
        Err(Refusal::Other(error)) => Err(error),
        Err(Refusal::Damaged(reason)) => Err(Error::Engine { path: paths.file, reason }),
    }
}

fn try_open(
    paths: &Paths,
    now_ms: i64,
    with_agents: &[EventId],
) -> Result<(Tables, Opened), Refusal> {
    let db = schema::open(paths, now_ms)?;
    let read = || {
        let mut tables = Tables::new(db, paths.clone(), now_ms)?;
        let opened = tables.opened()?;
        inbox::give_all_back(&tables.db, with_agents)?;
        Ok((tables, opened))
    };
    let (tables, opened) = read().map_err(|e| schema::refusal(&e, paths))?;
    if fs::metadata(&paths.file).is_ok_and(|m| m.len() <= CHECKED) {
        let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let found = tables
            .db
            .query_row("PRAGMA quick_check(1)", [], check)
            .map_err(|e| schema::refusal(&e, paths))?;
        if found != "ok" {
            return Err(Refusal::Damaged(found));
        }
    }
    Ok((tables, opened))
}

/// Sets the file aside and puts a fresh one with what is readable in its place.
fn replace(paths: &Paths, now_ms: i64, reason: String) -> Result<Damage, Error> {
    let kept = set_aside(paths, now_ms)?;
    let fresh = paths.dir.join("store.db.salvage");
    remove(&fresh)?;
    let mut damage = Damage {
        kept_as: kept,
        error: reason,
        events: 0,
        parked: 0,
        replies: 0,
        keys: 0,
        unreadable: 0,
    };
    salvage::copy(&fresh, now_ms, &mut damage)
        .map_err(|e| Error::Engine { path: fresh.clone(), reason: e.to_string() })?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    File::open(&fresh).and_then(|f| f.sync_all()).map_err(io(&fresh))?;
    fs::rename(&fresh, &paths.file).map_err(io(&paths.file))?;
    schema::sync_dir(&paths.dir)?;
    remove(&paths.suspect)?;
    schema::sync_dir(&paths.dir)?;
    Ok(damage)
}

/// Moves the file and its log away; the second time as well as the first.
fn set_aside(paths: &Paths, now_ms: i64) -> Result<PathBuf, Error> {
    let io = |source| Error::Io { path: paths.file.clone(), source };
    let named = fs::read_to_string(&paths.suspect).unwrap_or_default();
    let name = if named.trim().is_empty() { free_name(paths, now_ms) } else { named };
    fs::write(&paths.suspect, &name).map_err(io)?;
    File::open(&paths.suspect).and_then(|f| f.sync_all()).map_err(io)?;
    schema::sync_dir(&paths.dir)?;
    let kept = paths.dir.join(&name);
    let kept_log = paths.dir.join(format!("{name}-wal"));
    if !kept.exists() {
        // The log first: a file without its log would look whole, and older than it is.
        for (from, to) in [(&paths.wal, &kept_log), (&paths.file, &kept)] {
            match fs::rename(from, to) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
                _ => {}
            }
        }
    }
    schema::sync_dir(&paths.dir)?;
    Ok(kept)
}

fn free_name(paths: &Paths, now_ms: i64) -> String {
    // Two damages within a millisecond, and not many more.
    (0..1000)
        .map(|n: u32| match n {
            0 => format!("store.db.damaged-{now_ms}"),
            n => format!("store.db.damaged-{now_ms}-{n}"),
        })
        .find(|name| !paths.dir.join(name).exists())
        .unwrap_or_default()
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

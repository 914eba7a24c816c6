//! Opening, and what is done about a damaged file.
//!
//! Damage shows in the log before the engine sees it (`log`), when the file is opened, in a full check of
//! a small file, or while running: then the owner leaves a note (`store.suspect`) and the next start comes
//! here. A log of which nothing is lost is written anew, and the damaged one kept. Else the file and its
//! log are set aside under a name of their own and never changed again; what can be read of them is copied
//! into a fresh file, which takes its place only when it is complete and synced. The note names the file
//! set aside, so that a crash half-way starts the copying anew from the same source.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use protocol::id::EventId;

use super::Error;
use super::answer::{Damage, Opened};
use super::inbox;
use super::log::{self, Found};
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
    refuse_link(&paths)?;
    let log_is_missing = log::is_missing(&paths.wal, &paths.file);
    let (tables, opened) = open_at(&paths, now_ms, with_agents)?;
    Ok((tables, Opened { log_is_missing, ..opened }))
}

/// The engine looks for the log beside what a link names, where nobody else does.
fn refuse_link(paths: &Paths) -> Result<(), Error> {
    match fs::symlink_metadata(&paths.file) {
        Ok(found) if found.is_symlink() => Err(Error::Link { path: paths.file.clone() }),
        _ => Ok(()),
    }
}

fn open_at(paths: &Paths, now_ms: i64, with_agents: &[EventId]) -> Result<(Tables, Opened), Error> {
    let log = if paths.suspect.exists() {
        Log::Damaged("damage was met while running".to_owned())
    } else {
        see_to_log(paths, now_ms)?
    };
    let reason = match log {
        Log::Damaged(reason) => reason,
        Log::Whole(mended) => match try_open(paths, now_ms, with_agents) {
            Ok((tables, opened)) => return told(tables, opened, mended),
            Err(Refusal::Other(error)) => return Err(error),
            Err(Refusal::Damaged(reason)) => reason,
        },
    };
    let damage = replace(paths, now_ms, reason)?;
    match try_open(paths, now_ms, with_agents) {
        Ok((tables, opened)) => Ok((tables, Opened { damage: Some(damage), ..opened })),
        Err(Refusal::Other(error)) => Err(error),
        Err(Refusal::Damaged(reason)) => Err(Error::Engine { path: paths.file.clone(), reason }),
    }
}

/// What is to be done about the log.
enum Log {
    /// Nothing, any more. It was damaged, and is kept there for this reason.
    Whole(Option<(PathBuf, String)>),
    /// Something of it is lost, for this reason.
    Damaged(String),
}

/// Looks at the log before the engine does, and puts right what can be put right without loss.
fn see_to_log(paths: &Paths, now_ms: i64) -> Result<Log, Error> {
    if matches!(log::examine(&paths.wal, &paths.file), Found::Sound) {
        return Ok(Log::Whole(None));
    }
    // What is written meanwhile looks like damage.
    schema::is_unused(paths)?;
    let io = |source| Error::Io { path: paths.wal.clone(), source };
    let broken = match log::examine(&paths.wal, &paths.file) {
        Found::Sound => return Ok(Log::Whole(None)),
        Found::Void => {
            match File::open(&paths.file).and_then(|main| main.sync_all()) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Io { path: paths.file.clone(), source });
                }
                _ => {}
            }
            let wal = File::options().write(true).open(&paths.wal).map_err(io)?;
            wal.set_len(0).and_then(|()| wal.sync_data()).map_err(io)?;
            return Ok(Log::Whole(None));
        }
        Found::Broken(broken) => broken,
    };
    if broken.missing() > 0 {
        return Ok(Log::Damaged(broken.reason()));
    }
    let kept = paths.dir.join(free_name(&paths.wal, now_ms));
    let copy = |_| fs::copy(&paths.wal, &kept).and_then(|_| File::open(&kept)?.sync_all());
    fs::hard_link(&paths.wal, &kept).or_else(copy).map_err(io)?;
    let fresh = paths.dir.join("store.db-wal.mended");
    remove(&fresh)?;
    broken.write(&fresh).map_err(io)?;
    schema::sync_dir(&paths.dir)?;
    fs::rename(&fresh, &paths.wal).map_err(io)?;
    schema::sync_dir(&paths.dir)?;
    Ok(Log::Whole(Some((kept, broken.reason()))))
}

/// The store that was opened, and what was put right before.
fn told(
    tables: Tables,
    opened: Opened,
    mended: Option<(PathBuf, String)>,
) -> Result<(Tables, Opened), Error> {
    let Some((kept, reason)) = mended else { return Ok((tables, opened)) };
    let mut damage = Damage::new(kept, reason);
    let engine = |e: rusqlite::Error| Error::Engine {
        path: tables.paths.file.clone(),
        reason: e.to_string(),
    };
    salvage::count(&tables.db, &mut damage).map_err(engine)?;
    Ok((tables, Opened { damage: Some(damage), ..opened }))
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
    let mut damage = Damage::new(kept, reason);
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
    let name = if named.trim().is_empty() { free_name(&paths.file, now_ms) } else { named };
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

/// A name in its directory for `path` when it is set aside.
fn free_name(path: &Path, now_ms: i64) -> String {
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    // Two damages within a millisecond, and not many more.
    (0..1000)
        .map(|n: u32| match n {
            0 => format!("{own}.damaged-{now_ms}"),
            n => format!("{own}.damaged-{now_ms}-{n}"),
        })
        .find(|name| !path.with_file_name(name).exists())
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

//! The file: how it is made, opened and brought up to date.
//!
//! Settings, each measured or needed: exclusive locking (one opener, and the index of the write-ahead
//! log lives in our memory), WAL with `synchronous=FULL` (a commit that returned survives power loss),
//! no automatic checkpoint (see `space`), incremental vacuum (a drained backlog gives its disk back),
//! full flushes on macOS. Pages of 4 KiB: against raw appends in equal groups, one event at a time runs
//! at 0.99 of their rate, with 8 KiB at 0.93, with 16 KiB at 0.90; at 256 in flight all are alike.
//!
//! An accepted event appends to few pages: the payload never moves, and what changes is in small rows.
//!
//! `user_version` is the schema version. A migration is one step in [`STEPS`], forward only; a released
//! step never changes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Error, frames, shape, space};

/// "hgw1": tells `file` and us whose database it is.
const APPLICATION_ID: i64 = 0x6867_7731;

pub(super) const PAGE_SIZE: u32 = 4096;

/// Page cache, in KiB. Together with the log's index it is nearly all the memory that the store needs.
const CACHE_KIB: u32 = 1024;

const STEPS: &[&str] = &["
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE instance(no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- A lane of the inbox (thread may be NULL: none) or of the outbox (thread is NULL).
CREATE TABLE conversation(
  no INTEGER PRIMARY KEY, instance INTEGER NOT NULL, chat TEXT NOT NULL, thread TEXT, used_ms INTEGER NOT NULL
);
CREATE INDEX conversation_name ON conversation(instance, chat, thread);

-- Events that wait. The order within a lane is the order of ids.
CREATE TABLE inbox(
  id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, instance INTEGER NOT NULL, attempts INTEGER NOT NULL,
  origin_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, size INTEGER NOT NULL,
  -- What counts against it, in quarters of an attempt, and whether it is with the agent: see inbox.rs.
  strikes INTEGER NOT NULL DEFAULT 0, begun INTEGER NOT NULL DEFAULT 0,
  -- A person had it tried again.
  replayed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX inbox_begun ON inbox(id) WHERE begun;
-- The order within each lane, for ids up to meta.waiting_upto; the rest is held in memory.
CREATE TABLE waiting(lane INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(lane, id)) WITHOUT ROWID;
-- Of events that wait and of parked ones: one byte of version, then the event. The lane once more, so
-- that an event whose small row is damaged is not lost.
CREATE TABLE payload(id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE parked(
  id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, instance INTEGER NOT NULL, attempts INTEGER NOT NULL,
  origin_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, size INTEGER NOT NULL,
  parked_ms INTEGER NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX parked_lane ON parked(lane);

-- Keys of accepted events, hashed with meta.seen_key: appended, then sealed into sorted parts.
CREATE TABLE seen_log(id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, hashes BLOB NOT NULL);
CREATE TABLE seen_part(no INTEGER PRIMARY KEY, newest_ms INTEGER NOT NULL, filter BLOB NOT NULL);
CREATE TABLE seen_bucket(id INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE cursor(instance INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- Every reply of late, and of those the ones that are not at their end.
CREATE TABLE reply(
  id INTEGER PRIMARY KEY, agent INTEGER NOT NULL, key TEXT NOT NULL, instance INTEGER NOT NULL,
  chat TEXT NOT NULL, thread TEXT, reply_to TEXT, text TEXT NOT NULL,
  state INTEGER NOT NULL, attempts INTEGER NOT NULL, ambiguous INTEGER NOT NULL, created_ms INTEGER NOT NULL,
  first_attempt_ms INTEGER, ended_ms INTEGER, message_ids TEXT, reason TEXT
);
CREATE UNIQUE INDEX reply_key ON reply(agent, key);
-- Those that failed or whose end is unknown, until somebody decides: dropping one empties its text.
CREATE INDEX reply_undelivered ON reply(id, instance) WHERE state IN (3, 4) AND text <> '';
CREATE TABLE outbox(id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, instance INTEGER NOT NULL);
CREATE INDEX outbox_lane ON outbox(lane);

CREATE TABLE exits(
  id INTEGER PRIMARY KEY, instance INTEGER NOT NULL, generation INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  code INTEGER, signal INTEGER, cause TEXT NOT NULL
);
", "
-- What a reply does and has besides its text: one byte of version, then the rest. NULL: nothing.
ALTER TABLE reply ADD COLUMN rest BLOB;
-- Its agent knows how it ended.
ALTER TABLE reply ADD COLUMN told INTEGER NOT NULL DEFAULT 1;
CREATE INDEX reply_untold ON reply(agent, id) WHERE NOT told;
-- Dropping an undelivered one empties both.
DROP INDEX reply_undelivered;
CREATE INDEX reply_undelivered ON reply(id, instance)
  WHERE state IN (3, 4) AND (text <> '' OR rest IS NOT NULL);
-- The messages that show drafts of replies, until the replies are sent.
CREATE TABLE draft(
  agent INTEGER NOT NULL, key TEXT NOT NULL, message_id TEXT NOT NULL, made_ms INTEGER NOT NULL,
  PRIMARY KEY(agent, key)
);
-- What people have decided about users (what = 0) and chats (what = 1).
CREATE TABLE access(
  instance INTEGER NOT NULL, what INTEGER NOT NULL, id TEXT NOT NULL, allowed INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, PRIMARY KEY(instance, what, id)
);
-- Codes that strangers were told.
CREATE TABLE pairing(
  instance INTEGER NOT NULL, user TEXT NOT NULL, chat TEXT NOT NULL, code TEXT NOT NULL,
  until_ms INTEGER NOT NULL, PRIMARY KEY(instance, user)
);
", "
-- What an agent knows of a conversation: how often it was begun anew, and what its worker noted.
CREATE TABLE session(
  lane INTEGER NOT NULL, agent INTEGER NOT NULL, epoch INTEGER NOT NULL, note BLOB NOT NULL,
  used_ms INTEGER NOT NULL, PRIMARY KEY(lane, agent)
);
-- Who is at the other end of a direct chat.
ALTER TABLE conversation ADD COLUMN user TEXT;
", "
-- How far replies of several messages have come that are not sent as a whole: which have arrived, and what their
-- worker has to know to go on.
CREATE TABLE progress(id INTEGER PRIMARY KEY, message_ids TEXT NOT NULL, note BLOB NOT NULL);
", "
-- The pause before the next attempt: which agent made the last one, when it ended, and how long to wait.
ALTER TABLE inbox ADD COLUMN tried_by INTEGER;
ALTER TABLE inbox ADD COLUMN tried_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN pause_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX inbox_paused ON inbox(id) WHERE pause_ms > 0;
", "
-- Whom a reply answers, as the handlers of hooks are told of its end. NULL: nobody asked.
ALTER TABLE reply ADD COLUMN answers TEXT;
-- The account that it leaves through, and no other. NULL: whichever its instance has.
ALTER TABLE reply ADD COLUMN account TEXT;
", "
-- The events that go with it, as a list of their ids: decided when it is handed out for the first time. NULL: none.
ALTER TABLE inbox ADD COLUMN joined TEXT;
", "
-- What was set aside with it, likewise: whoever acknowledges it late has had those, too.
ALTER TABLE parked ADD COLUMN joined TEXT;
"];

/// The schema after all steps.
#[expect(clippy::cast_possible_wrap, reason = "a handful of steps")]
pub(super) const NEWEST: i64 = STEPS.len() as i64;

/// Where the parts of a store are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) dir: PathBuf,
    pub(super) file: PathBuf,
    pub(super) wal: PathBuf,
    /// Present when damage was met while running: the next start salvages.
    pub(super) suspect: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            file: dir.join("store.db"),
            wal: dir.join("store.db-wal"),
            suspect: dir.join("store.suspect"),
        }
    }
}

/// Why a file could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is damaged: set it aside.
    Damaged(String),
    /// Anything else.
    Other(Error),
}

/// Makes `path` durable as a name.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|source| Error::Io { path: dir.to_owned(), source })
}

/// Opens the file at `paths`, making it if there is none.
pub(super) fn open(paths: &Paths, now_ms: i64) -> Result<Connection, Refusal> {
    let io = |source| Refusal::Other(Error::Io { path: paths.file.clone(), source });
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&paths.file) {
        Ok(_) => sync_dir(&paths.dir).map_err(Refusal::Other)?,
        // The engine would not say why it cannot open it. No connection has it open yet: to close it costs
        // nobody a lock.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).write(true).open(&paths.file).map_err(io)?;
        }
        Err(e) => return Err(io(e)),
    }
    if std::fs::metadata(&paths.file).map_err(io)?.len() == 0 {
        if frames::has_frames(&paths.wal) {
            return Err(Refusal::Damaged("it is empty, and its log is not".into()));
        }
        // The engine deletes the log of an empty file, so the file comes first.
        let mut db = connect(paths)?;
        migrate(&mut db, paths, now_ms)?;
    }
    let log = |source| Refusal::Other(Error::Io { path: paths.wal.clone(), source });
    space::grow_log(&paths.wal, space::LOG_AT_REST).map_err(log)?;
    // A commit that a kill cut short of its sync is found all the same. What is told of it must last.
    File::open(&paths.wal).and_then(|wal| wal.sync_data()).map_err(log)?;
    let mut db = connect(paths)?;
    migrate(&mut db, paths, now_ms)?;
    sync_dir(&paths.dir).map_err(Refusal::Other)?;
    Ok(db)
}

fn connect(paths: &Paths) -> Result<Connection, Refusal> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(&paths.file, flags)?;
        db.busy_timeout(Duration::ZERO)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.set_prepared_statement_cache_capacity(96);
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.pragma_update(None, "page_size", PAGE_SIZE)?;
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "fullfsync", true)?;
        db.pragma_update(None, "checkpoint_fullfsync", true)?;
        db.pragma_update(None, "wal_autocheckpoint", 0)?;
        db.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "trusted_schema", false)?;
        // Takes the lock, which is kept until the connection ends.
        db.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        Ok(db)
    };
    open().map_err(|e| refusal(&e, paths))
}

/// Proves that no other process has the store open. Nothing is changed.
pub(super) fn is_unused(paths: &Paths) -> Result<(), Error> {
    // The engine would delete the log of an empty file.
    if std::fs::metadata(&paths.file).map_or(true, |file| file.len() == 0) {
        return Ok(());
    }
    let look = || -> rusqlite::Result<()> {
        let db = Connection::open_with_flags(&paths.file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.busy_timeout(Duration::ZERO)?;
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    match look().map_err(|e| refusal(&e, paths)) {
        Err(Refusal::Other(error @ Error::InUse { .. })) => Err(error),
        _ => Ok(()),
    }
}

/// Sorts an error of the engine met while opening.
pub(super) fn refusal(error: &rusqlite::Error, paths: &Paths) -> Refusal {
    let path = paths.file.clone();
    match error.sqlite_error_code() {
        // The last one: what it finds makes no sense to it, such as a format that does not exist. None: it is we
        // who find something else than what we wrote, or nothing.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
            Refusal::Damaged(error.to_string())
        }
        // The engine says so, and the system does not.
        Some(ErrorCode::ReadOnly) if OpenOptions::new().write(true).open(&path).is_ok() => {
            Refusal::Damaged(error.to_string())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Refusal::Other(Error::InUse { path })
        }
        _ => Refusal::Other(Error::Engine { path, reason: error.to_string() }),
    }
}

fn migrate(db: &mut Connection, paths: &Paths, now_ms: i64) -> Result<(), Refusal> {
    let engine = |e: rusqlite::Error| refusal(&e, paths);
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let known = NEWEST;
    let found = pragma("user_version").map_err(engine)?;
    let application = pragma("application_id").map_err(engine)?;
    let path = paths.file.clone();
    if application == APPLICATION_ID && found > known {
        return Err(Refusal::Other(Error::Newer { path, found, known }));
    }
    let is_fresh = || Ok(application == 0 && found == 0 && shape::is_empty(db)?);
    if (application != APPLICATION_ID || found < 1) && !is_fresh().map_err(engine)? {
        // Everything in it may be ours, and only a number in its head damaged.
        for version in 1..=known {
            if shape::is(db, version).map_err(engine)? {
                return Err(Refusal::Damaged("its head is damaged".into()));
            }
        }
        return Err(Refusal::Other(Error::Foreign { path }));
    }
    if found > 0 && !shape::is(db, found).map_err(engine)? {
        return Err(Refusal::Damaged("its list of tables is damaged".into()));
    }
    let steps = usize::try_from(found).ok().and_then(|done| STEPS.get(done..)).unwrap_or_default();
    if steps.is_empty() {
        return Ok(());
    }
    step(db, steps, found == 0, now_ms).map_err(engine)
}

fn step(db: &mut Connection, steps: &[&str], fresh: bool, now_ms: i64) -> rusqlite::Result<()> {
    let all = db.transaction()?;
    for step in steps {
        all.execute_batch(step)?;
    }
    if fresh {
        all.execute(
            "INSERT INTO meta VALUES('store_id', lower(hex(randomblob(8)))), ('created_ms', ?1),
               ('seen_key', randomblob(16))",
            [now_ms],
        )?;
        all.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    all.pragma_update(None, "user_version", NEWEST)?;
    all.commit()
}

/// An empty store of this version, in memory.
pub(super) fn model(version: i64) -> rusqlite::Result<Connection> {
    let model = Connection::open_in_memory()?;
    let steps = usize::try_from(version).ok().and_then(|version| STEPS.get(..version));
    for step in steps.unwrap_or_default() {
        model.execute_batch(step)?;
    }
    Ok(model)
}

/// Makes a new file that nobody relies on before it is complete: no journal, no sync.
pub(super) fn make(path: &Path, now_ms: i64) -> rusqlite::Result<Connection> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    let mut db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.pragma_update(None, "page_size", PAGE_SIZE)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "OFF")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    step(&mut db, STEPS, true, now_ms)?;
    Ok(db)
}

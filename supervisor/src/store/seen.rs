//! Which events were accepted before: the memory that suppresses repetitions.
//!
//! Keys are random texts, and a tree of random keys writes one page for each of them: at a million it
//! costs sixteen times what the event itself does. So a key is kept as 128 bits of a keyed hash, and
//! only ever appended: to `seen_log`, whose keys are also held in memory. When the log is long, it is
//! sealed into a *part*: sorted into buckets, with a filter that is held in memory instead of the keys.
//! A new key is looked for in memory, and on disk only where a filter says *maybe*.
//!
//! Parts are forgotten whole, once their newest key is old.

mod filter;
mod hash;

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use rusqlite::{Connection, OptionalExtension, Result, params};

use filter::{Filter, Filters};
pub(super) use hash::HashKey;
use hash::Ready;

use super::meta;
use crate::policy::wall::Set as ClockSet;

/// What keys are hashed with, in `meta`.
pub(super) const SEEN_KEY: &str = "seen_key";

/// Keys in a part. The set in memory is sized so that it never grows beyond 32768 slots.
const PART: usize = 26_000;
const CAPACITY: usize = 28_672;

/// Buckets in a part: about a hundred keys each.
const BUCKETS: i64 = 256;

/// Rows of the log that one slice of forgetting looks at.
const SLICE: u32 = 512;

type Set = HashSet<u128, BuildHasherDefault<Ready>>;

#[derive(Debug)]
pub(super) struct Seen {
    key: HashKey,
    /// The keys of the log.
    recent: Set,
    newest_ms: i64,
    parts: Vec<Part>,
    filters: Filters,
    /// What this transaction added.
    added: Vec<u128>,
    /// This transaction forgot something: after a rollback, read anew.
    forgot: bool,
}

#[derive(Debug)]
struct Part {
    no: i64,
    newest_ms: i64,
}

/// What the keys of an event say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    New,
    Known,
}

impl Seen {
    pub(super) fn read(db: &Connection) -> Result<Self> {
        let key: [u8; 16] = meta::get(db, SEEN_KEY)?;
        let mut seen = Self {
            key: HashKey::new(key),
            recent: Set::with_capacity_and_hasher(CAPACITY, BuildHasherDefault::default()),
            newest_ms: 0,
            parts: Vec::new(),
            filters: Filters::default(),
            added: Vec::new(),
            forgot: false,
        };
        seen.reload(db)?;
        Ok(seen)
    }

    pub(super) fn hash_key(&self) -> HashKey {
        self.key
    }

    fn reload(&mut self, db: &Connection) -> Result<()> {
        self.recent.clear();
        self.parts.clear();
        self.filters = Filters::default();
        self.added.clear();
        self.forgot = false;
        let mut read = db.prepare("SELECT at_ms, hashes FROM seen_log")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            self.newest_ms = self.newest_ms.max(row.get(0)?);
            self.recent.extend(hash::unpack(row.get_ref(1)?.as_blob()?));
        }
        let mut read = db.prepare("SELECT no, newest_ms, filter FROM seen_part ORDER BY no")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let no = row.get(0)?;
            self.filters.add(no, &Filter::from_bytes(row.get_ref(2)?.as_blob()?));
            self.parts.push(Part { no, newest_ms: row.get(1)? });
        }
        Ok(())
    }

    /// Looks for the keys of an event and notes the new ones. A new key of a known event is noted
    /// too: it names the same event from now on.
    pub(super) fn note(&mut self, db: &Connection, keys: &[u128], now_ms: i64) -> Result<Verdict> {
        let mut verdict = Verdict::New;
        let mut new: Vec<u128> = Vec::with_capacity(keys.len());
        for hash in keys.iter().copied() {
            if self.knows(db, hash)? {
                verdict = Verdict::Known;
                break;
            }
            if !new.contains(&hash) {
                new.push(hash);
            }
        }
        if !new.is_empty() {
            self.newest_ms = self.newest_ms.max(now_ms);
            self.recent.extend(new.iter().copied());
            self.added.append(&mut new);
        }
        Ok(verdict)
    }

    /// Whether any of these is known.
    pub(super) fn any(&self, db: &Connection, keys: &[u128]) -> Result<bool> {
        for hash in keys {
            if self.knows(db, *hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn knows(&self, db: &Connection, hash: u128) -> Result<bool> {
        if self.recent.contains(&hash) {
            return Ok(true);
        }
        for part in self.filters.may_hold(hash) {
            let held = db
                .prepare_cached("SELECT hashes FROM seen_bucket WHERE id = ?1")?
                .query_row([part * BUCKETS + bucket(hash)], |row| {
                    Ok(hash::unpack(row.get_ref(0)?.as_blob()?).any(|held| held == hash))
                })
                .optional()?;
            if held == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes what this transaction noted: one row.
    pub(super) fn flush(&self, db: &Connection) -> Result<()> {
        if !self.added.is_empty() {
            db.prepare_cached("INSERT INTO seen_log(at_ms, hashes) VALUES(?1, ?2)")?
                .execute(params![self.newest_ms, hash::pack(&self.added)])?;
        }
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        self.added.clear();
        self.forgot = false;
    }

    pub(super) fn rolled_back(&mut self, db: &Connection) -> Result<()> {
        if self.forgot {
            return self.reload(db);
        }
        for hash in self.added.drain(..) {
            self.recent.remove(&hash);
        }
        Ok(())
    }

    /// Whether the log is long enough to be sealed.
    pub(super) fn is_long(&self) -> bool {
        self.recent.len() >= PART
    }

    /// Makes a part of the log, in a transaction of its own.
    pub(super) fn seal(&mut self, db: &Connection) -> Result<()> {
        let mut hashes: Vec<u128> = self.recent.iter().copied().collect();
        hashes.sort_unstable();
        let filter = Filter::of(&hashes);
        let all = db.unchecked_transaction()?;
        let no: i64 =
            all.query_row("SELECT coalesce(max(no), 0) + 1 FROM seen_part", [], |row| row.get(0))?;
        all.prepare_cached("INSERT INTO seen_part(no, newest_ms, filter) VALUES(?1, ?2, ?3)")?
            .execute(params![no, self.newest_ms, filter.to_bytes()])?;
        for group in hashes.chunk_by(|a, b| bucket(*a) == bucket(*b)) {
            let at = no * BUCKETS + group.first().map_or(0, |hash| bucket(*hash));
            all.prepare_cached("INSERT INTO seen_bucket(id, hashes) VALUES(?1, ?2)")?
                .execute(params![at, hash::pack(group)])?;
        }
        all.execute("DELETE FROM seen_log", [])?;
        all.commit()?;
        self.filters.add(no, &filter);
        self.parts.push(Part { no, newest_ms: self.newest_ms });
        self.recent.clear();
        Ok(())
    }

    /// The times of what is kept are other ones.
    pub(super) fn clock_set(&mut self, db: &Connection, set: ClockSet) -> Result<()> {
        // A rollback reads all of it anew.
        self.forgot = true;
        if set.by_ms < 0 {
            self.newest_ms = self.newest_ms.min(set.now_ms);
        }
        let mut read = db.prepare_cached("SELECT newest_ms FROM seen_part WHERE no = ?1")?;
        for part in &mut self.parts {
            part.newest_ms = read.query_row([part.no], |row| row.get(0))?;
        }
        Ok(())
    }

    /// Forgets some keys of before `before_ms`. How many, and whether there may be more.
    pub(super) fn forget(&mut self, db: &Connection, before_ms: i64) -> Result<(u64, bool)> {
        if let Some(at) = self.parts.iter().position(|part| part.newest_ms < before_ms) {
            let no = self.parts.remove(at).no;
            self.filters.remove(no);
            self.forgot = true;
            db.prepare_cached("DELETE FROM seen_part WHERE no = ?1")?.execute([no])?;
            let rows = db
                .prepare_cached("DELETE FROM seen_bucket WHERE id >= ?1 AND id < ?2")?
                .execute([no * BUCKETS, (no + 1) * BUCKETS])?;
            return Ok((rows as u64, true));
        }
        let mut read =
            db.prepare_cached("SELECT id, at_ms, hashes FROM seen_log ORDER BY id LIMIT ?1")?;
        let mut rows = read.query([SLICE])?;
        let (mut forgotten, mut last) = (0, None);
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? >= before_ms {
                break;
            }
            last = Some(row.get::<_, i64>(0)?);
            for hash in hash::unpack(row.get_ref(2)?.as_blob()?) {
                forgotten += u64::from(self.recent.remove(&hash));
            }
        }
        let Some(last) = last else { return Ok((0, false)) };
        self.forgot = true;
        drop(rows);
        db.prepare_cached("DELETE FROM seen_log WHERE id <= ?1")?.execute([last])?;
        Ok((forgotten, true))
    }
}

/// The bucket of a hash: its eight highest bits, so that sorted hashes lie bucket by bucket.
fn bucket(hash: u128) -> i64 {
    i64::try_from(hash >> 120).unwrap_or(0)
}

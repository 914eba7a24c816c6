//! How much there is, kept in memory so that asking costs nothing.
//!
//! A store of a million events must open at once, and a row of counters would be one more page in every
//! commit. So the rows of before the start are counted in slices while the store is idle: those up to
//! `position` are counted, those up to `horizon` are not yet, and everything behind it is counted as it
//! comes and goes.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, params};

use super::answer::{Answer, Count, Files};
use super::names::Names;
use super::op::Quota;

/// Rows counted in one slice, and rows looked at for the oldest one: about a millisecond.
const SLICE: u32 = 4096;

#[derive(Debug)]
pub(super) struct Tally {
    instances: BTreeMap<i64, Entry>,
    /// What to take back if the transaction is rolled back.
    journal: Vec<Change>,
    position: i64,
    horizon: i64,
    /// Parked events and replies of before the start are counted all at once.
    others: bool,
    pub(super) files: Files,
}

#[derive(Clone, Copy, Default, Debug)]
struct Entry {
    waiting: i64,
    bytes: i64,
    parked: i64,
    replies: i64,
    /// No waiting event of this instance is before this id.
    oldest: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// An event waits.
    Waits { instance: i64, id: i64, size: u64 },
    /// An event waits no more.
    Leaves { instance: i64, id: i64, size: u64 },
    /// So many more are parked.
    Parked { instance: i64, by: i64 },
    /// So many more replies are on their way.
    Replies { instance: i64, by: i64 },
}

impl Tally {
    /// Of a store whose events have ids up to `horizon`.
    pub(super) fn new(horizon: i64) -> Self {
        Self {
            instances: BTreeMap::new(),
            journal: Vec::new(),
            position: 0,
            horizon,
            others: false,
            files: Files::default(),
        }
    }

    pub(super) fn note(&mut self, change: Change) {
        self.journal.push(change);
        self.apply(change, 1);
    }

    /// Whether one more event of this size would be too much. Rows of before the start that are not
    /// counted yet are not counted here either.
    pub(super) fn is_full(&self, instance: i64, size: u64, quota: Quota) -> bool {
        let known = |n: i64| u64::try_from(n).unwrap_or(0);
        self.instances.get(&instance).is_some_and(|entry| {
            known(entry.waiting) >= quota.events || known(entry.bytes) + size > quota.bytes
        })
    }

    pub(super) fn committed(&mut self) {
        self.journal.clear();
    }

    pub(super) fn rolled_back(&mut self) {
        for change in std::mem::take(&mut self.journal) {
            self.apply(change, -1);
        }
    }

    fn apply(&mut self, change: Change, sign: i64) {
        let others = self.others;
        match change {
            Change::Waits { instance, id, size } => self.waiting(instance, id, size, sign),
            Change::Leaves { instance, id, size } => self.waiting(instance, id, size, -sign),
            Change::Parked { instance, by } if others => self.entry(instance).parked += sign * by,
            Change::Replies { instance, by } if others => self.entry(instance).replies += sign * by,
            Change::Parked { .. } | Change::Replies { .. } => {}
        }
    }

    fn waiting(&mut self, instance: i64, id: i64, size: u64, sign: i64) {
        let still_to_be_counted = id > self.position && id <= self.horizon;
        let counting = self.is_counting();
        let entry = self.entry(instance);
        if sign > 0 {
            let first = entry.waiting == 0 && !counting;
            entry.oldest = if first { id } else { entry.oldest.min(id) };
        }
        if !still_to_be_counted {
            entry.waiting += sign;
            entry.bytes += sign * i64::try_from(size).unwrap_or(0);
        }
    }

    fn entry(&mut self, instance: i64) -> &mut Entry {
        self.instances.entry(instance).or_default()
    }

    /// Whether rows of before the start are still to be counted.
    pub(super) fn is_counting(&self) -> bool {
        self.position < self.horizon || !self.others
    }

    /// Counts some of them.
    pub(super) fn slice(&mut self, db: &Connection) -> Result<()> {
        if !self.others {
            self.others = true;
            let mut read = db.prepare("SELECT instance, count(*) FROM parked GROUP BY instance")?;
            let mut rows = read.query([])?;
            while let Some(row) = rows.next()? {
                self.entry(row.get(0)?).parked = row.get(1)?;
            }
            let mut read = db.prepare("SELECT instance, count(*) FROM outbox GROUP BY instance")?;
            let mut rows = read.query([])?;
            while let Some(row) = rows.next()? {
                self.entry(row.get(0)?).replies = row.get(1)?;
            }
        }
        if self.position < self.horizon {
            let mut read = db.prepare_cached(
                "SELECT id, instance, size FROM inbox WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
            )?;
            let mut rows = read.query(params![self.position, self.horizon, SLICE])?;
            let mut counted = 0;
            while let Some(row) = rows.next()? {
                self.position = row.get(0)?;
                let size: i64 = row.get(2)?;
                let entry = self.entry(row.get(1)?);
                entry.waiting += 1;
                entry.bytes += size;
                counted += 1;
            }
            if counted < SLICE {
                self.position = self.horizon;
            }
        }
        Ok(())
    }

    /// Answers [`super::op::Op::Counts`].
    pub(super) fn counts(&mut self, db: &Connection, names: &mut Names) -> Result<Answer> {
        // Whoever asks again and again gets on, however busy the store is.
        self.slice(db)?;
        let counting = self.is_counting();
        let undelivered = undelivered(db)?;
        let of = |no: &i64| undelivered.get(no).copied().unwrap_or(0);
        for no in undelivered.keys() {
            self.entry(*no);
        }
        let mut instances = Vec::new();
        for (no, entry) in &mut self.instances {
            let known = |n: i64| u64::try_from(n).unwrap_or(0);
            if entry.waiting + entry.parked + entry.replies <= 0 && of(no) == 0 && !counting {
                continue;
            }
            instances.push(Count {
                instance: names.instance_name(db, *no)?,
                waiting: known(entry.waiting),
                waiting_bytes: known(entry.bytes),
                oldest_ms: if entry.waiting > 0 { oldest(db, *no, entry)? } else { None },
                parked: known(entry.parked),
                undelivered: of(no),
                replies: known(entry.replies),
            });
        }
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let page = pragma("page_size")?;
        let files = Files {
            counting,
            bytes: page * pragma("page_count")?,
            free_bytes: page * pragma("freelist_count")?,
            ..self.files
        };
        Ok(Answer::Counts { instances, files })
    }
}

/// Replies of each instance that failed or whose end is unknown: a walk over their own small index.
fn undelivered(db: &Connection) -> Result<BTreeMap<i64, u64>> {
    db.prepare_cached(
        "SELECT instance, count(*) FROM reply INDEXED BY reply_undelivered
         WHERE state IN (3, 4) AND (text <> '' OR rest IS NOT NULL) GROUP BY instance",
    )?
    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

/// When the oldest waiting event was accepted. Ids only grow, so the search goes on where the last one
/// ended; after a bounded number of rows it answers with a time that no waiting event is older than.
fn oldest(db: &Connection, instance: i64, entry: &mut Entry) -> Result<Option<i64>> {
    let mut read = db.prepare_cached(
        "SELECT id, instance, received_ms FROM inbox WHERE id >= ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = read.query(params![entry.oldest, SLICE])?;
    let mut oldest_ms = None;
    while let Some(row) = rows.next()? {
        entry.oldest = row.get(0)?;
        oldest_ms = row.get(2)?;
        if row.get::<_, i64>(1)? == instance {
            break;
        }
    }
    Ok(oldest_ms)
}

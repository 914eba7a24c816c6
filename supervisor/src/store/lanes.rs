//! The order of waiting events within their lanes.
//!
//! An index by lane on disk writes one page for each lane that a group touches, and most events leave
//! within seconds. So the index covers only events that have waited for long (table `waiting`, ids up to
//! `upto`); those behind are held in memory, and read from the inbox at the start. When they become
//! many, they move to the disk all at once, sorted.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::meta;

/// Events held in memory.
const FRESH: usize = 8192;

#[derive(Debug)]
pub(super) struct Lanes {
    /// (lane, id)
    fresh: BTreeSet<(i64, i64)>,
    upto: i64,
    /// What this transaction did to `fresh`: put in or taken out.
    journal: Vec<(Moved, (i64, i64))>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moved {
    In,
    Out,
}

impl Lanes {
    pub(super) fn read(db: &Connection) -> Result<Self> {
        let upto = meta::find(db, "waiting_upto")?.unwrap_or(0);
        let mut read = db.prepare("SELECT lane, id FROM inbox WHERE id > ?1")?;
        let fresh = read
            .query_map([upto], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<BTreeSet<_>>>()?;
        drop(read);
        Ok(Self { fresh, upto, journal: Vec::new() })
    }

    /// An event waits.
    pub(super) fn joins(&mut self, db: &Connection, lane: i64, id: i64) -> Result<()> {
        if id > self.upto {
            self.fresh.insert((lane, id));
            self.journal.push((Moved::In, (lane, id)));
        } else {
            db.prepare_cached("INSERT OR IGNORE INTO waiting(lane, id) VALUES(?1, ?2)")?
                .execute([lane, id])?;
        }
        Ok(())
    }

    /// An event waits no more.
    pub(super) fn leaves(&mut self, db: &Connection, lane: i64, id: i64) -> Result<()> {
        if id > self.upto {
            self.fresh.remove(&(lane, id));
            self.journal.push((Moved::Out, (lane, id)));
        } else {
            db.prepare_cached("DELETE FROM waiting WHERE lane = ?1 AND id = ?2")?
                .execute([lane, id])?;
        }
        Ok(())
    }

    /// The first event of a lane behind `after`.
    pub(super) fn next(&self, db: &Connection, lane: i64, after: i64) -> Result<Option<i64>> {
        if after < self.upto {
            let old = db
                .prepare_cached(
                    "SELECT id FROM waiting WHERE lane = ?1 AND id > ?2 ORDER BY id LIMIT 1",
                )?
                .query_row([lane, after], |row| row.get(0))
                .optional()?;
            if old.is_some() {
                return Ok(old);
            }
        }
        let behind = (lane, after.saturating_add(1))..=(lane, i64::MAX);
        Ok(self.fresh.range(behind).next().map(|(_, id)| *id))
    }

    pub(super) fn committed(&mut self) {
        self.journal.clear();
    }

    pub(super) fn rolled_back(&mut self) {
        for (moved, entry) in std::mem::take(&mut self.journal).into_iter().rev() {
            match moved {
                Moved::In => self.fresh.remove(&entry),
                Moved::Out => self.fresh.insert(entry),
            };
        }
    }

    /// Whether memory holds enough of them to be moved.
    pub(super) fn is_long(&self) -> bool {
        self.fresh.len() >= FRESH
    }

    /// Moves what is in memory to the disk, in a transaction of its own.
    pub(super) fn settle(&mut self, db: &Connection) -> Result<()> {
        let upto = self.fresh.iter().map(|(_, id)| *id).max().unwrap_or(self.upto);
        let all = db.unchecked_transaction()?;
        {
            let mut insert =
                all.prepare_cached("INSERT OR IGNORE INTO waiting(lane, id) VALUES(?1, ?2)")?;
            for (lane, id) in &self.fresh {
                insert.execute([lane, id])?;
            }
        }
        all.prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES('waiting_upto', ?1)")?
            .execute(params![upto])?;
        all.commit()?;
        self.upto = upto;
        self.fresh.clear();
        Ok(())
    }
}

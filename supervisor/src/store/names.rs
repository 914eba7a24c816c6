//! Numbers for the names that rows refer to: instances and conversations.
//!
//! Instances are few and all held. Conversations may be many: a bounded number is held, and forgotten
//! all at once when there is no more room or a transaction is rolled back.

use std::collections::HashMap;

use protocol::id::{Instance, Lane};
use rusqlite::{Connection, OptionalExtension, Result, params};

/// Conversations held in memory.
const HELD: usize = 1024;

/// Names in `meta` that hold the names of instances: this and a number.
pub(super) const INSTANCE: &str = "instance ";

/// How stale the note of the last use may be.
const USED_STEP_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Default)]
pub(super) struct Names {
    instances: HashMap<Instance, i64>,
    numbered_instances: HashMap<i64, Instance>,
    lanes: HashMap<Lane, (i64, i64)>,
    numbered_lanes: HashMap<i64, Lane>,
    users: HashMap<i64, Option<String>>,
}

impl Names {
    /// Forgets what is held: it may tell of rows that were rolled back or purged.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The number of an instance, if it has one.
    pub(super) fn instance(&mut self, db: &Connection, name: &Instance) -> Result<Option<i64>> {
        if let Some(no) = self.instances.get(name) {
            return Ok(Some(*no));
        }
        let found = db
            .prepare_cached("SELECT no FROM instance WHERE name = ?1")?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(no) = found {
            self.hold_instance(no, name);
        }
        Ok(found)
    }

    /// The number of an instance, which gets one if it has none.
    pub(super) fn instance_made(&mut self, db: &Connection, name: &Instance) -> Result<i64> {
        if let Some(no) = self.instance(db, name)? {
            return Ok(no);
        }
        db.prepare_cached("INSERT INTO instance(name) VALUES(?1)")?.execute([name.as_str()])?;
        let no = db.last_insert_rowid();
        // Once more elsewhere: without its name nothing that it has heard finds its agent.
        db.prepare_cached("INSERT OR REPLACE INTO meta VALUES(?1, ?2)")?
            .execute(params![format!("{INSTANCE}{no}"), name.as_str()])?;
        self.hold_instance(no, name);
        Ok(no)
    }

    /// The name behind the number of an instance.
    pub(super) fn instance_name(&mut self, db: &Connection, no: i64) -> Result<Instance> {
        if let Some(name) = self.numbered_instances.get(&no) {
            return Ok(name.clone());
        }
        let name = db
            .prepare_cached("SELECT name FROM instance WHERE no = ?1")?
            .query_row([no], |row| row.get::<_, String>(0))?;
        let name = parse_instance(name)?;
        self.hold_instance(no, &name);
        Ok(name)
    }

    fn hold_instance(&mut self, no: i64, name: &Instance) {
        self.instances.insert(name.clone(), no);
        self.numbered_instances.insert(no, name.clone());
    }

    /// The number of a conversation, if it has one.
    pub(super) fn lane(&mut self, db: &Connection, lane: &Lane) -> Result<Option<i64>> {
        Ok(self.find_lane(db, lane)?.map(|(no, _)| no))
    }

    /// The number of a conversation, which gets one if it has none, and is noted as in use.
    pub(super) fn lane_made(&mut self, db: &Connection, lane: &Lane, now_ms: i64) -> Result<i64> {
        match self.find_lane(db, lane)? {
            Some((no, used_ms)) if now_ms.saturating_sub(used_ms) < USED_STEP_MS => Ok(no),
            Some((no, _)) => {
                db.prepare_cached("UPDATE conversation SET used_ms = ?2 WHERE no = ?1")?
                    .execute([no, now_ms])?;
                self.hold_lane(no, lane, now_ms);
                Ok(no)
            }
            None => {
                let instance = self.instance_made(db, &lane.instance)?;
                db.prepare_cached(
                    "INSERT INTO conversation(instance, chat, thread, used_ms) VALUES(?1, ?2, ?3, ?4)",
                )?
                .execute(params![instance, lane.chat_id, lane.thread_id, now_ms])?;
                let no = db.last_insert_rowid();
                self.hold_lane(no, lane, now_ms);
                Ok(no)
            }
        }
    }

    /// The conversation behind a number.
    pub(super) fn lane_name(&mut self, db: &Connection, no: i64) -> Result<Lane> {
        if let Some(lane) = self.numbered_lanes.get(&no) {
            return Ok(lane.clone());
        }
        let (instance, chat_id, thread_id, used_ms) = db
            .prepare_cached(
                "SELECT instance, chat, thread, used_ms FROM conversation WHERE no = ?1",
            )?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let lane = Lane { instance: self.instance_name(db, instance)?, chat_id, thread_id };
        self.hold_lane(no, &lane, used_ms);
        Ok(lane)
    }

    /// Who is at the other end of a direct chat, as far as anybody has spoken there.
    pub(super) fn user_of(&mut self, db: &Connection, no: i64) -> Result<Option<String>> {
        if let Some(user) = self.users.get(&no) {
            return Ok(user.clone());
        }
        let user = db
            .prepare_cached("SELECT user FROM conversation WHERE no = ?1")?
            .query_row([no], |row| row.get(0))
            .optional()?
            .flatten();
        if self.users.len() >= HELD {
            self.users.clear();
        }
        self.users.insert(no, user);
        Ok(self.users.get(&no).cloned().flatten())
    }

    /// Notes who is at the other end of a direct chat.
    pub(super) fn note_user(&mut self, db: &Connection, no: i64, user: &str) -> Result<()> {
        if self.user_of(db, no)?.as_deref() != Some(user) {
            db.prepare_cached("UPDATE conversation SET user = ?2 WHERE no = ?1")?
                .execute(params![no, user])?;
            self.users.insert(no, Some(user.to_owned()));
        }
        Ok(())
    }

    fn find_lane(&mut self, db: &Connection, lane: &Lane) -> Result<Option<(i64, i64)>> {
        if let Some(held) = self.lanes.get(lane) {
            return Ok(Some(*held));
        }
        let Some(instance) = self.instance(db, &lane.instance)? else { return Ok(None) };
        let found: Option<(i64, i64)> = db
            .prepare_cached(
                "SELECT no, used_ms FROM conversation WHERE instance = ?1 AND chat = ?2 AND thread IS ?3",
            )?
            .query_row(params![instance, lane.chat_id, lane.thread_id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        if let Some((no, used_ms)) = found {
            self.hold_lane(no, lane, used_ms);
        }
        Ok(found)
    }

    fn hold_lane(&mut self, no: i64, lane: &Lane, used_ms: i64) {
        if self.lanes.len() >= HELD {
            self.lanes.clear();
            self.numbered_lanes.clear();
            self.users.clear();
        }
        self.lanes.insert(lane.clone(), (no, used_ms));
        self.numbered_lanes.insert(no, lane.clone());
    }
}

/// Reads an instance name out of a row.
pub(super) fn parse_instance(name: String) -> Result<Instance> {
    Instance::new(name).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e))
    })
}

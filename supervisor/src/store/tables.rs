//! All tables behind one connection, and which operation touches which.
//!
//! Everything held in memory beside the connection (numbers of names, counts, the next ids, the last
//! cursors) follows the transaction: [`Tables::rolled_back`] makes it agree with the disk again.

use std::collections::HashMap;

use protocol::id::{EventId, Instance};
use protocol::worker::Cursor;
use rusqlite::{Connection, Result, params};

use super::answer::{Answer, Exit, Opened};
use super::lanes::Lanes;
use super::names::Names;
use super::op::Op;
use super::schema::Paths;
use super::seen::Seen;
use super::tally::Tally;
use super::{access, backlog, exits, heard, inbox, meta, outbox, parked, purge, scan, session};

/// Ids are given out in blocks: the end of a block is durable before its first id is, so that no id is
/// ever used twice, and most commits need not write it. A crash skips the rest of a block.
///
/// A store may be an older copy of itself that somebody has put back. So a start skips [`SKIPPED`] ids for each
/// millisecond since the latest one is known to have been given out.
const BLOCK: i64 = 1024;

/// More than a store gives out in a millisecond: with hundreds in flight it comes to 80.
const SKIPPED: i64 = 100;

/// What keeps keys of replies apart from those of other stores: so many hexadecimal digits.
pub(super) const STORE_ID: &str = "store_id";
pub(super) const STORE_ID_LEN: usize = 16;

/// When an id was given out, as far as that is known, in Unix milliseconds.
const IDS_MS: &str = "ids_ms";

#[derive(Debug)]
pub(super) struct Tables {
    pub(super) db: Connection,
    pub(super) paths: Paths,
    pub(super) store_id: String,
    pub(super) names: Names,
    pub(super) events: Ids,
    pub(super) replies: Ids,
    pub(super) tally: Tally,
    pub(super) lanes: Lanes,
    pub(super) seen: Seen,
    pub(super) purge: purge::Position,
    cursors: HashMap<i64, Cursor>,
    /// Instances whose cursor this transaction moved.
    moved: Vec<i64>,
}

/// What an operation came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// To be told once committed.
    Answer(Answer),
    /// A search that is not over: the rest of it belongs into the next group.
    Continue(Op),
    /// Nobody asked.
    Silent,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Tables {
    pub(super) fn new(db: Connection, paths: Paths, now_ms: i64) -> Result<Self> {
        let store_id: String = meta::get(&db, STORE_ID)?;
        if store_id.len() != STORE_ID_LEN {
            return Err(meta::damaged(STORE_ID));
        }
        let given_ms = meta::find(&db, IDS_MS)?.or(meta::find(&db, "created_ms")?);
        let given_ms: i64 = given_ms.unwrap_or(now_ms);
        let skip = now_ms.saturating_sub(given_ms).max(0).saturating_mul(SKIPPED);
        let events = Ids::read(&db, "last_event", &["inbox", "parked"], skip)?;
        let replies = Ids::read(&db, "last_reply", &["reply"], skip)?;
        let tally = Tally::new(events.last_used());
        let lanes = Lanes::read(&db)?;
        let seen = Seen::read(&db)?;
        Ok(Self {
            db,
            paths,
            store_id,
            names: Names::default(),
            events,
            replies,
            tally,
            lanes,
            seen,
            purge: purge::Position::default(),
            cursors: HashMap::new(),
            moved: Vec::new(),
        })
    }

    /// What a supervisor that just started wants to know.
    pub(super) fn opened(&mut self) -> Result<Opened> {
        let cursors: Vec<(i64, Vec<u8>)> = self
            .db
            .prepare("SELECT instance, body FROM cursor")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        let mut named = Vec::new();
        for (no, body) in cursors {
            named.push((self.names.instance_name(&self.db, no)?, Cursor(body)));
        }
        heard::check(&self.db)?;
        Ok(Opened {
            last_event: EventId(wire_id(self.events.last_used())),
            cursors: named,
            exits: exits::all(&self.db, &mut self.names)?,
            drafts: outbox::drafts(&self.db, &mut self.names)?,
            grants: access::grants(&self.db, &mut self.names)?,
            pairs: access::pairs(&self.db, &mut self.names)?,
            damage: None,
            log_is_missing: false,
        })
    }

    /// Performs one operation within the open transaction.
    pub(super) fn perform(&mut self, op: &Op) -> Result<Outcome> {
        let done = match op {
            Op::Accept { arrival, cursor, received_ms, quota, .. } => {
                inbox::accept(self, arrival, cursor.as_ref(), *received_ms, *quota)?
            }
            Op::Deny { keys, now_ms, .. } => {
                self.seen.note(&self.db, keys, *now_ms)?;
                Answer::Denied
            }
            Op::Heads { ticket, instances, after, limit } => {
                return scan::heads(self, *ticket, instances, *after, *limit);
            }
            Op::NextInLane { lane, after, .. } => scan::next_event(self, lane, *after)?,
            Op::Begin { id, hand, .. } => inbox::begin(self, *id, hand.as_ref())?,
            Op::Beside { id, is_shown, .. } => inbox::beside(self, *id, *is_shown)?,
            Op::Refund { id } => {
                inbox::refund(self, *id)?;
                return Ok(Outcome::Silent);
            }
            Op::Withhold { id } => {
                inbox::withhold(self, *id)?;
                return Ok(Outcome::Silent);
            }
            Op::Fail { id, pause } => {
                inbox::fail(self, *id, pause)?;
                return Ok(Outcome::Silent);
            }
            Op::Settle { id, .. } => inbox::settle(self, *id)?,
            Op::Park { id, reason, now_ms, .. } => parked::park(self, *id, reason, *now_ms)?,
            Op::ListWaiting { after, limit, .. } => backlog::list(self, *after, *limit)?,
            Op::ListParked { after, limit, .. } => parked::list(self, *after, *limit)?,
            Op::ShowParked { id, .. } => parked::show(self, *id)?,
            Op::Replay { ids, now_ms, .. } => parked::replay(self, ids, *now_ms)?,
            Op::Discard { ids, .. } => parked::discard(self, ids)?,
            Op::AcceptReply { agent, reply, note, beside, now_ms, .. } => {
                let answer = outbox::accept(self, agent, reply, beside, *now_ms)?;
                if let (Some(note), Answer::Reply { fresh: true, .. }) = (note, &answer) {
                    session::remember(self, agent, &reply.lane, note, *now_ms)?;
                }
                answer
            }
            Op::Remember { agent, lane, note, now_ms } => {
                session::remember(self, agent, lane, note, *now_ms)?;
                return Ok(Outcome::Silent);
            }
            Op::Renew { agent, lane, now_ms } => {
                session::renew(self, agent, lane, *now_ms)?;
                return Ok(Outcome::Silent);
            }
            Op::ReplyHeads { ticket, instance, after, limit } => {
                return scan::reply_heads(self, *ticket, instance, *after, *limit);
            }
            Op::NextReply { chat, after, .. } => scan::next_reply(self, chat, *after)?,
            Op::Account { instance, account, .. } => heard::account(self, instance, account)?,
            Op::BeginSend { id, now_ms, .. } => outbox::begin(self, *id, *now_ms)?,
            Op::FinishSend { id, end, now_ms, .. } => outbox::finish(self, *id, end, *now_ms)?,
            Op::Reached { instance, id, progress } => {
                outbox::reached(self, instance, *id, progress)?;
                return Ok(Outcome::Silent);
            }
            Op::Drafted { agent, key, message_id, now_ms } => {
                outbox::drafted(self, agent, key, message_id, *now_ms)?;
                return Ok(Outcome::Silent);
            }
            Op::Redraft { from, to } => {
                outbox::redraft(self, from, to)?;
                return Ok(Outcome::Silent);
            }
            Op::ClockSet(set) => {
                outbox::clock_set(self, *set)?;
                inbox::clock_set(self, *set)?;
                purge::clock_set(self, *set)?;
                return Ok(Outcome::Silent);
            }
            Op::Told { id } => {
                outbox::told(self, *id)?;
                return Ok(Outcome::Silent);
            }
            Op::Untold { agent, after, limit, .. } => outbox::untold(self, agent, *after, *limit)?,
            Op::Grant { grant, .. } => access::grant(self, grant)?,
            Op::Pair(pair) => {
                access::pair(self, pair)?;
                return Ok(Outcome::Silent);
            }
            Op::SaveCursor { instance, cursor, .. } => {
                let no = self.names.instance_made(&self.db, instance)?;
                self.save_cursor(no, cursor);
                Answer::Kept
            }
            Op::RecordExit(exit) => {
                self.record_exit(exit)?;
                return Ok(Outcome::Silent);
            }
            Op::Counts { .. } => self.tally.counts(&self.db, &mut self.names)?,
            // The owner has taken it out of the group.
            Op::Backup { .. } => return Ok(Outcome::Silent),
            Op::Purge { seen_before_ms, replies_before_ms, failures_before_ms, .. } => {
                purge::slice(self, *seen_before_ms, *replies_before_ms, *failures_before_ms)?
            }
        };
        Ok(Outcome::Answer(done))
    }

    /// Keeps a resume point, unless it is the one that is kept.
    pub(super) fn save_cursor(&mut self, instance: i64, cursor: &Cursor) {
        if self.cursors.get(&instance) != Some(cursor) {
            self.cursors.insert(instance, cursor.clone());
            if !self.moved.contains(&instance) {
                self.moved.push(instance);
            }
        }
    }

    /// Writes what the operations of this transaction share: the last cursor of each instance and the
    /// keys of all events. Before the commit.
    pub(super) fn flush(&mut self) -> Result<()> {
        for instance in self.moved.drain(..) {
            if let Some(cursor) = self.cursors.get(&instance) {
                self.db
                    .prepare_cached("INSERT OR REPLACE INTO cursor(instance, body) VALUES(?1, ?2)")?
                    .execute(params![instance, cursor.0])?;
            }
        }
        self.seen.flush(&self.db)
    }

    fn record_exit(&mut self, exit: &Exit) -> Result<()> {
        let no = self.names.instance_made(&self.db, &exit.instance)?;
        exits::record(&self.db, no, exit)
    }

    /// The transaction is durable.
    pub(super) fn committed(&mut self) {
        self.tally.committed();
        self.lanes.committed();
        self.seen.committed();
        self.events.committed();
        self.replies.committed();
    }

    /// The transaction never happened.
    pub(super) fn rolled_back(&mut self) -> Result<()> {
        self.tally.rolled_back();
        self.lanes.rolled_back();
        self.names.forget();
        self.cursors.clear();
        self.moved.clear();
        self.events.rolled_back();
        self.replies.rolled_back();
        self.purge = purge::Position::default();
        self.seen.rolled_back(&self.db)
    }

    /// Gives the rest of the blocks of ids back, before a polite end.
    pub(super) fn settle_ids(&mut self) -> Result<()> {
        self.events.give_back(&self.db)?;
        self.replies.give_back(&self.db)
    }

    /// The number of `instance`, for those that only ask.
    pub(super) fn instance(&mut self, instance: &Instance) -> Result<Option<i64>> {
        self.names.instance(&self.db, instance)
    }
}

/// Numbers that grow and are never used twice.
#[derive(Debug)]
pub(super) struct Ids {
    name: &'static str,
    next: i64,
    /// No id above this one may be given out before it is raised in the same transaction.
    reserved: i64,
    /// The value that is known to be durable.
    durable: i64,
    /// When the latest one was given out; 0: none was.
    given_ms: i64,
}

impl Ids {
    fn read(db: &Connection, name: &'static str, tables: &[&str], skip: i64) -> Result<Self> {
        let reserved = meta::find(db, name)?.unwrap_or(0);
        let mut last = reserved;
        for table in tables {
            let max: Option<i64> =
                db.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))?;
            last = last.max(max.unwrap_or(0));
        }
        let next = last.saturating_add(skip).saturating_add(1);
        Ok(Self { name, next, reserved, durable: reserved, given_ms: 0 })
    }

    pub(super) fn last_used(&self) -> i64 {
        self.next - 1
    }

    pub(super) fn take(&mut self, db: &Connection, now_ms: i64) -> Result<i64> {
        self.given_ms = now_ms;
        if self.next > self.reserved {
            self.write(db, self.next + BLOCK - 1)?;
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn give_back(&mut self, db: &Connection) -> Result<()> {
        // Those that a start has skipped stay so.
        let is_used = self.given_ms > 0 && self.next <= self.reserved;
        if is_used { self.write(db, self.next - 1) } else { Ok(()) }
    }

    fn write(&mut self, db: &Connection, reserved: i64) -> Result<()> {
        let mut write =
            db.prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES(?1, ?2)")?;
        write.execute(params![self.name, reserved])?;
        write.execute(params![IDS_MS, self.given_ms])?;
        self.reserved = reserved;
        Ok(())
    }

    fn committed(&mut self) {
        self.durable = self.reserved;
    }

    fn rolled_back(&mut self) {
        self.reserved = self.durable;
    }
}

/// An id of the wire as one of a row. Ids beyond the range of rows name none.
pub(super) fn row_id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// An id of a row as one of the wire.
pub(super) fn wire_id(id: i64) -> u64 {
    u64::try_from(id).unwrap_or(0)
}

//! Replies: from the agent's hand to their end at the platform.
//!
//! Table `reply` knows every reply of late, so that a repeated key finds its receipt; `outbox` holds
//! those that are not at their end. The text of a sent reply is dropped: the platform has it. A reply
//! found in state *sending* had an attempt that nobody answered: it stays ambiguous through all later
//! attempts, for a later refusal says nothing about the earlier one.

use protocol::event::{Outbound, Progress, Receipt, Reply, ReplyState, Rest};
use protocol::id::{Instance, Lane, OutboundId};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::answer::{Answer, Finished, Sending};
use super::body;
use super::names::Names;
use super::op::{Beside, SendEnd};
use super::tables::{Tables, row_id, wire_id};
use super::tally::Change;
use crate::policy::wall::Set;

struct State(ReplyState);

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(match value.as_i64()? {
            0 => ReplyState::Waiting,
            1 => ReplyState::Sending,
            2 => ReplyState::Sent,
            3 => ReplyState::Failed,
            4 => ReplyState::Unknown,
            other => return Err(FromSqlError::OutOfRange(other)),
        }))
    }
}

pub(super) fn code(state: ReplyState) -> i64 {
    match state {
        ReplyState::Waiting => 0,
        ReplyState::Sending => 1,
        ReplyState::Sent => 2,
        ReplyState::Failed => 3,
        ReplyState::Unknown => 4,
    }
}

/// How long after the wall clock was set nobody may have noticed it.
const FRESH_MS: i64 = 60_000;

/// Messages of drafts that are known again after a start.
const DRAFTS: i64 = 1024;
const RECEIPT: &str = "SELECT id, key, state, message_ids, reason FROM reply WHERE id = ?1";

/// The platform's messages, as a column lists them.
pub(super) fn listed(ids: Option<String>) -> Vec<String> {
    ids.and_then(|ids| serde_json::from_str(&ids).ok()).unwrap_or_default()
}

fn receipt(row: &Row<'_>) -> Result<Receipt> {
    Ok(Receipt {
        id: OutboundId(wire_id(row.get(0)?)),
        key: row.get(1)?,
        state: row.get::<_, State>(2)?.0,
        message_ids: listed(row.get(3)?),
        reason: row.get(4)?,
    })
}

/// Makes a reply durable, or finds the one with the same key in this chat.
pub(super) fn accept(
    tables: &mut Tables,
    agent: &Instance,
    reply: &Reply,
    beside: &Beside,
    now_ms: i64,
) -> Result<Answer> {
    let db = &tables.db;
    let agent = tables.names.instance_made(db, agent)?;
    let chat = Lane { thread_id: None, ..reply.lane.clone() };
    let instance = tables.names.instance_made(db, &chat.instance)?;
    let former: Option<(i64, bool)> = db
        .prepare_cached(
            "SELECT id, instance = ?3 AND chat = ?4 FROM reply WHERE agent = ?1 AND key = ?2",
        )?
        .query_row(params![agent, reply.key, instance, chat.chat_id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((id, here)) = former {
        if !here {
            return Ok(Answer::KeyTaken);
        }
        let receipt = db.prepare_cached(RECEIPT)?.query_row([id], receipt)?;
        return Ok(Answer::Reply { receipt, chat, fresh: false });
    }
    let lane = tables.names.lane_made(db, &chat, now_ms)?;
    let id = tables.replies.take(db, now_ms)?;
    db.prepare_cached(
        "INSERT INTO reply(id, agent, key, instance, chat, thread, reply_to, text, rest, state,
           attempts, ambiguous, created_ms, answers, account)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, 0, ?10, ?11, ?12)",
    )?
    .execute(params![
        id,
        agent,
        reply.key,
        instance,
        chat.chat_id,
        reply.lane.thread_id,
        reply.reply_to,
        reply.content.text,
        body::encode_rest(&reply.content),
        now_ms,
        beside.answers,
        beside.account
    ])?;
    db.prepare_cached("INSERT INTO outbox(id, lane, instance) VALUES(?1, ?2, ?3)")?
        .execute([id, lane, instance])?;
    tables.tally.note(Change::Replies { instance, by: 1 });
    let receipt = Receipt {
        id: OutboundId(wire_id(id)),
        key: reply.key.clone(),
        state: ReplyState::Waiting,
        message_ids: Vec::new(),
        reason: None,
    };
    Ok(Answer::Reply { receipt, chat, fresh: true })
}

/// Makes the intent to send durable and reads the reply.
pub(super) fn begin(tables: &mut Tables, id: OutboundId, now_ms: i64) -> Result<Answer> {
    let db = &tables.db;
    let row = row_id(id.0);
    let begun = db
        .prepare_cached(
            "UPDATE reply SET attempts = attempts + 1, ambiguous = ambiguous OR state = 1, state = 1,
               first_attempt_ms = coalesce(first_attempt_ms, ?2)
             WHERE id = ?1 AND state IN (0, 1)",
        )?
        .execute([row, now_ms])?;
    if begun == 0 {
        return Ok(Answer::Gone);
    }
    // The same for each attempt, and no other store's.
    let key = format!("{}-{id}", tables.store_id);
    let mut read = db.prepare_cached(
        "SELECT instance, chat, thread, reply_to, text, attempts, created_ms, first_attempt_ms, ambiguous,
           rest, agent, key, (SELECT message_id FROM draft WHERE draft.agent = reply.agent
             AND draft.key = reply.key), progress.message_ids, progress.note,
           account
         FROM reply LEFT JOIN progress USING(id) WHERE id = ?1",
    )?;
    let mut rows = read.query([row])?;
    let Some(r) = rows.next()? else { return Ok(Answer::Gone) };
    let text = r.get(4)?;
    let rest: Option<Vec<u8>> = r.get(9)?;
    let Some(content) = body::decode_rest(text, rest.as_deref()) else {
        return Ok(Answer::Unsendable(id));
    };
    let agent = tables.names.instance_name(db, r.get(10)?)?;
    let note: Option<Vec<u8>> = r.get(14)?;
    let message_ids = listed(r.get(13)?);
    let progress = note.map(|note| Progress { message_ids, note });
    Ok(Answer::Sending(Box::new(Sending {
        instance: tables.names.instance_name(db, r.get(0)?)?,
        outbound: Outbound {
            id,
            key,
            chat_id: r.get(1)?,
            thread_id: r.get(2)?,
            reply_to: r.get(3)?,
            content,
            attempt: r.get(5)?,
            draft_key: draft_key(&agent, &r.get::<_, String>(11)?),
            draft_id: r.get(12)?,
            progress,
        },
        now_ms,
        created_ms: r.get(6)?,
        first_attempt_ms: r.get(7)?,
        ambiguous: r.get(8)?,
        account: r.get(15)?,
    })))
}

/// The name of a draft on its way to a platform: keys of two agents are never the same.
pub fn draft_key(agent: &Instance, key: &str) -> String {
    format!("{agent}/{key}")
}

/// A part of a reply has arrived. What is at its end already is told by that.
pub(super) fn reached(
    tables: &mut Tables,
    instance: &Instance,
    id: OutboundId,
    progress: &Progress,
) -> Result<()> {
    let Some(instance) = tables.instance(instance)? else { return Ok(()) };
    let message_ids = serde_json::to_string(&progress.message_ids).unwrap_or_default();
    tables
        .db
        .prepare_cached(
            "INSERT OR REPLACE INTO progress SELECT id, ?3, ?4 FROM reply
             WHERE id = ?1 AND instance = ?2 AND state IN (0, 1)",
        )?
        .execute(params![row_id(id.0), instance, message_ids, progress.note])?;
    Ok(())
}

/// Records what became of a reply.
pub(super) fn finish(
    tables: &mut Tables,
    id: OutboundId,
    end: &SendEnd,
    now_ms: i64,
) -> Result<Answer> {
    let db = &tables.db;
    let row = row_id(id.0);
    let known = db
        .prepare_cached(
            "SELECT state, agent, instance, chat, thread, reply_to, text, answers FROM reply
             WHERE id = ?1",
        )?
        .query_row([row], |r| {
            let place: (String, Option<String>) = (r.get(3)?, r.get(4)?);
            let said: (Option<String>, String, Option<String>) = (r.get(5)?, r.get(6)?, r.get(7)?);
            Ok((r.get::<_, State>(0)?.0, r.get(1)?, r.get(2)?, place, said))
        })
        .optional()?;
    let Some((state, agent, instance, (chat_id, thread_id), (reply_to, text, answers))) = known
    else {
        return Ok(Answer::Gone);
    };
    let (agent, instance): (i64, i64) = (agent, instance);
    let open = matches!(state, ReplyState::Waiting | ReplyState::Sending);
    let list = |message_ids: &Vec<String>| serde_json::to_string(message_ids).ok();
    let (next, message_ids, reason) = match end {
        SendEnd::Waiting => (ReplyState::Waiting, None, None),
        SendEnd::Sent { message_ids } => (ReplyState::Sent, list(message_ids), None),
        SendEnd::Partly { message_ids, rest, reason } => {
            let state = match rest {
                Rest::Failed => ReplyState::Failed,
                Rest::Unknown => ReplyState::Unknown,
            };
            (state, list(message_ids), Some(reason))
        }
        SendEnd::Failed { reason } => (ReplyState::Failed, None, Some(reason)),
        SendEnd::Unknown { reason } => (ReplyState::Unknown, None, Some(reason)),
    };
    let ends = next != ReplyState::Waiting;
    // Late knowledge about an unknown end is welcome; any other end stays what it was.
    if open || (state == ReplyState::Unknown && ends) {
        db.prepare_cached(
            "UPDATE reply SET state = ?2, reason = ?4, ended_ms = ?5,
               message_ids = coalesce(?3, (SELECT message_ids FROM progress WHERE progress.id = ?1)),
               text = iif(?2 = 2, '', text), rest = iif(?2 = 2, NULL, rest),
               answers = iif(?2 = 2, NULL, answers), told = ?6
             WHERE id = ?1",
        )?
        .execute(params![
            row,
            code(next),
            message_ids,
            reason,
            ends.then_some(now_ms),
            !ends
        ])?;
    }
    if next == ReplyState::Sent {
        db.prepare_cached(
            "DELETE FROM draft WHERE agent = ?2 AND key = (SELECT key FROM reply WHERE id = ?1)",
        )?
        .execute([row, agent])?;
        forget_progress(tables, row)?;
    }
    if open && ends {
        db.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([row])?;
        tables.tally.note(Change::Replies { instance, by: -1 });
    }
    let receipt = db.prepare_cached(RECEIPT)?.query_row([row], receipt)?;
    let agent = tables.names.instance_name(db, agent)?;
    let instance = tables.names.instance_name(db, instance)?;
    let lane = Lane { instance, chat_id, thread_id };
    Ok(Answer::Finished(Box::new(Finished { agent, receipt, lane, reply_to, text, answers })))
}

/// Sends a reply that failed, or whose end is unknown, once more: what is missing of it. Its key stays, so a platform that
/// still knows it sends nothing twice; a person has decided that nothing is ambiguous any more.
pub(super) fn replay(tables: &mut Tables, row: i64, now_ms: i64) -> Result<Option<Lane>> {
    let Some((instance, chat)) = undelivered(tables, row)? else { return Ok(None) };
    let db = &tables.db;
    db.prepare_cached(
        "UPDATE reply SET state = 0, ambiguous = 0, reason = NULL, ended_ms = NULL,
           first_attempt_ms = NULL, created_ms = ?2, account = NULL
         WHERE id = ?1",
    )?
    .execute([row, now_ms])?;
    let lane = tables.names.lane_made(db, &chat, now_ms)?;
    db.prepare_cached("INSERT INTO outbox(id, lane, instance) VALUES(?1, ?2, ?3)")?
        .execute([row, lane, instance])?;
    tables.tally.note(Change::Replies { instance, by: 1 });
    Ok(Some(chat))
}

/// Nobody wants it any more. Its key stays known.
pub(super) fn discard(tables: &mut Tables, row: i64) -> Result<Option<Lane>> {
    let Some((_, chat)) = undelivered(tables, row)? else { return Ok(None) };
    tables
        .db
        .prepare_cached("UPDATE reply SET text = '', rest = NULL, answers = NULL WHERE id = ?1")?
        .execute([row])?;
    forget_progress(tables, row)?;
    Ok(Some(chat))
}

/// Nobody will go on there.
fn forget_progress(tables: &Tables, row: i64) -> Result<()> {
    tables.db.prepare_cached("DELETE FROM progress WHERE id = ?1")?.execute([row])?;
    Ok(())
}

/// The instance and the chat of a reply that failed or whose end is unknown.
fn undelivered(tables: &mut Tables, row: i64) -> Result<Option<(i64, Lane)>> {
    let found: Option<(i64, String)> = tables
        .db
        .prepare_cached(
            "SELECT instance, chat FROM reply WHERE id = ?1 AND state IN (3, 4) AND (text <> '' OR rest IS NOT NULL)",
        )?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let Some((no, chat_id)) = found else { return Ok(None) };
    let instance = tables.names.instance_name(&tables.db, no)?;
    Ok(Some((no, Lane { instance, chat_id, thread_id: None })))
}

/// A draft is shown by this message.
pub(super) fn drafted(
    tables: &mut Tables,
    agent: &Instance,
    key: &str,
    message_id: &str,
    now_ms: i64,
) -> Result<()> {
    let db = &tables.db;
    let agent = tables.names.instance_made(db, agent)?;
    db.prepare_cached("INSERT OR REPLACE INTO draft VALUES(?1, ?2, ?3, ?4)")?
        .execute(params![agent, key, message_id, now_ms])?;
    Ok(())
}

/// The newest messages that show drafts, the oldest of them first.
pub(super) fn drafts(db: &Connection, names: &mut Names) -> Result<Vec<(String, String)>> {
    let mut rows =
        db.prepare("SELECT agent, key, message_id FROM draft ORDER BY made_ms DESC LIMIT ?1")?;
    let rows = rows.query_map([DRAFTS], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut found = Vec::new();
    for row in rows.collect::<Result<Vec<(i64, String, String)>>>()?.into_iter().rev() {
        let (agent, key, message_id) = row;
        found.push((draft_key(&names.instance_name(db, agent)?, &key), message_id));
    }
    Ok(found)
}

/// Another reply ends what a draft has shown.
pub(super) fn redraft(
    tables: &mut Tables,
    from: &(Instance, String),
    to: &(Instance, String),
) -> Result<()> {
    let db = &tables.db;
    let (agent, other) =
        (tables.names.instance_made(db, &from.0)?, tables.names.instance_made(db, &to.0)?);
    db.prepare_cached(
        "UPDATE OR REPLACE draft SET agent = ?3, key = ?4 WHERE agent = ?1 AND key = ?2",
    )?
    .execute(params![agent, from.1, other, to.1])?;
    Ok(())
}

/// In SQL: whether `column` was noted before the wall clock was set by `?1` milliseconds to `?2`. What was noted
/// since a clock was set back, a moment ago, is told from what is older by being quite fresh.
pub(super) fn noted_before(column: &str) -> String {
    format!("{column} <= ?2 - ?1 AND (?1 > 0 OR {column} NOT BETWEEN ?2 - {FRESH_MS} AND ?2)")
}

/// Replies that wait, and first attempts at them, are as old as before.
pub(super) fn clock_set(tables: &Tables, set: Set) -> Result<()> {
    let Set { by_ms, now_ms } = set;
    for column in ["created_ms", "first_attempt_ms"] {
        let sql = format!(
            "UPDATE reply SET {column} = {column} + ?1 WHERE id IN (SELECT id FROM outbox) AND {}",
            noted_before(column)
        );
        tables.db.prepare_cached(&sql)?.execute([by_ms, now_ms])?;
    }
    Ok(())
}

/// Its agent knows how a reply ended.
pub(super) fn told(tables: &Tables, id: OutboundId) -> Result<()> {
    let told = "UPDATE reply SET told = 1 WHERE id = ?1 AND NOT told AND state IN (2, 3, 4)";
    tables.db.prepare_cached(told)?.execute([row_id(id.0)])?;
    Ok(())
}

/// How replies of an agent ended that it was not told of, behind `after`, in the order of ids.
pub(super) fn untold(
    tables: &mut Tables,
    agent: &Instance,
    after: OutboundId,
    limit: usize,
) -> Result<Answer> {
    let Some(agent) = tables.instance(agent)? else { return Ok(Answer::Untold(Vec::new())) };
    let receipts = tables
        .db
        .prepare_cached(
            "SELECT id, key, state, message_ids, reason FROM reply INDEXED BY reply_untold
             WHERE agent = ?1 AND id > ?2 AND NOT told ORDER BY id LIMIT ?3",
        )?
        .query_map(params![agent, row_id(after.0), limit], receipt)?
        .collect::<Result<_>>()?;
    Ok(Answer::Untold(receipts))
}

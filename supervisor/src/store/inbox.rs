//! Events that wait for an agent, and the keys by which a repetition is known.
//!
//! An event knows how often it was handed out (`attempts`, which only grows and which the agent is
//! told) and how much of that counts against it (`strikes`, in quarters). Handing out is a whole
//! strike, so that an event which kills its reader is counted; what was no fault of the event is taken
//! back, and what was not handed out after all was no attempt. When this process itself dies in between, a quarter stays: an innocent event survives many
//! such deaths, but one that brings everything down is parked in the end.
//!
//! The pause before the next attempt is kept with it, so that no restart makes that attempt too early. It
//! is kept as its beginning and its length: whatever the wall clock is set to, nothing waits for longer.
//! Another agent than the one that failed need not wait.
//!
//! What was said in one go is one event to whoever reads it, so what goes with an event (`joined`) is decided
//! when it is handed out for the first time, in the transaction that counts that.

use std::time::Duration;

use protocol::event::{Inbound, Session};
use protocol::id::EventId;
use protocol::worker::Cursor;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::answer::{Answer, Begun, Follower};
use super::body;
use super::op::{Arrival, Behind, Hand, Pause, Quota};
use super::parked;
use super::seen::Verdict;
use super::session;
use super::tables::{Tables, row_id, wire_id};
use super::tally::Change;
use crate::policy::bursts;
use crate::policy::wall::Set;

/// One attempt, in quarters.
const STRIKE: i64 = 4;

/// Event, keys and cursor in one transaction.
pub(super) fn accept(
    tables: &mut Tables,
    arrival: &Arrival,
    cursor: Option<&Cursor>,
    received_ms: i64,
    quota: Quota,
) -> Result<Answer> {
    let db = &tables.db;
    let Arrival { lane, user, origin_ms, keys, behind, body } = arrival;
    if let Some(Behind { heard, denied }) = behind
        && (!tables.seen.any(db, &[*heard])? || tables.seen.any(db, &[*denied])?)
    {
        return Ok(Answer::Unheard);
    }
    let no = tables.names.instance_made(db, &lane.instance)?;
    if tables.tally.is_full(no, body.len() as u64, quota) && !tables.seen.any(db, keys)? {
        // Nothing is noted: when the platform repeats it, it is new.
        return Ok(Answer::OverQuota);
    }
    let verdict = tables.seen.note(db, keys, received_ms)?;
    let answer = if verdict == Verdict::New {
        let lane = tables.names.lane_made(db, lane, received_ms)?;
        let known = match user {
            Some(user) => {
                tables.names.note_user(db, lane, user)?;
                None
            }
            None => tables.names.user_of(db, lane)?,
        };
        let size = body.len();
        let id = tables.events.take(db, received_ms)?;
        db.prepare_cached("INSERT INTO payload(id, lane, body) VALUES(?1, ?2, ?3)")?
            .execute(params![id, lane, body])?;
        db.prepare_cached(
            "INSERT INTO inbox(id, lane, instance, attempts, origin_ms, received_ms, size)
             VALUES(?1, ?2, ?3, 0, ?4, ?5, ?6)",
        )?
        .execute(params![id, lane, no, origin_ms, received_ms, size])?;
        tables.lanes.joins(db, lane, id)?;
        tables.tally.note(Change::Waits { instance: no, id, size: size as u64 });
        Answer::Accepted { id: EventId(wire_id(id)), user: known }
    } else {
        Answer::Duplicate
    };
    if let Some(cursor) = cursor {
        tables.save_cursor(no, cursor);
    }
    Ok(answer)
}

/// Counts an attempt and reads the event, with what `hand` wants to know.
pub(super) fn begin(tables: &mut Tables, id: EventId, hand: Option<&Hand>) -> Result<Answer> {
    let row = row_id(id.0);
    if let Some(hand) = hand
        && let Some(left) = pause_left(tables, row, hand)?
    {
        return Ok(Answer::Pauses { id, left });
    }
    let db = &tables.db;
    let counted = db
        .prepare_cached(
            "UPDATE inbox SET attempts = attempts + 1, strikes = strikes + ?2, begun = 1, pause_ms = 0
             WHERE id = ?1",
        )?
        .execute([row, STRIKE])?;
    if counted == 0 {
        return Ok(Answer::Gone);
    }
    let (lane, attempts, strikes, received_ms, replayed, joined) = db
        .prepare_cached(
            "SELECT lane, attempts, strikes, received_ms, replayed, joined FROM inbox WHERE id = ?1",
        )?
        .query_row([row], |r| {
            let strikes: i64 = r.get(2)?;
            Ok((r.get(0)?, r.get(1)?, strikes, r.get(3)?, r.get(4)?, listed(r.get(5)?)))
        })?;
    let counted = u32::try_from(strikes / STRIKE).unwrap_or(u32::MAX);
    let Some((event, size)) = payload(db, row)? else { return Ok(Answer::Unreadable(id)) };
    let session = match hand {
        Some(hand) => session::get(tables, &hand.agent, lane)?,
        None => Session::default(),
    };
    let followers = match hand {
        Some(hand) if attempts == 1 => {
            let found = followers(tables, lane, (row, received_ms, size), &event, hand)?;
            keep_joined(&tables.db, row, &found)?;
            found
        }
        _ => joined_before(&tables.db, &joined)?,
    };
    let last = followers.last().map_or(row, |follower| row_id(follower.id.0));
    let is_last = tables.lanes.next(&tables.db, lane, last)?.is_none();
    let lane = tables.names.lane_name(&tables.db, lane)?;
    Ok(Answer::Begun(Box::new(Begun {
        id,
        lane,
        attempts,
        counted,
        received_ms,
        event,
        replayed,
        session,
        followers,
        is_last,
    })))
}

/// What is left of the pause before an agent's next attempt.
fn pause_left(tables: &mut Tables, row: i64, hand: &Hand) -> Result<Option<Duration>> {
    let Tables { db, names, .. } = tables;
    let read = "SELECT tried_by, tried_ms, pause_ms FROM inbox WHERE id = ?1 AND pause_ms > 0";
    let paused: Option<(Option<i64>, i64, i64)> = db
        .prepare_cached(read)?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((tried_by, tried_ms, pause_ms)) = paused else { return Ok(None) };
    if tried_by != names.instance(db, &hand.agent)? {
        return Ok(None);
    }
    let since = hand.now_ms.saturating_sub(tried_ms).max(0);
    let left = pause_ms.saturating_sub(since);
    Ok((left > 0).then(|| Duration::from_millis(left.unsigned_abs())))
}

/// Counts that an event goes to the agent beside another one, if that sees it. Whatever becomes of that, it is not to
/// blame.
pub(super) fn beside(tables: &mut Tables, id: EventId, is_shown: bool) -> Result<Answer> {
    let row = row_id(id.0);
    let db = &tables.db;
    let counted = db
        .prepare_cached("UPDATE inbox SET attempts = attempts + ?2 WHERE id = ?1 AND NOT begun")?
        .execute(params![row, is_shown])?;
    if counted == 0 {
        return Ok(Answer::Gone);
    }
    let (lane, attempts, received_ms, replayed) = db
        .prepare_cached("SELECT lane, attempts, received_ms, replayed FROM inbox WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?;
    let Some((event, _)) = payload(db, row)? else { return Ok(Answer::Unreadable(id)) };
    let lane = tables.names.lane_name(&tables.db, lane)?;
    let (session, followers) = (Session::default(), Vec::new());
    Ok(Answer::Begun(Box::new(Begun {
        id,
        lane,
        attempts,
        counted: 0,
        received_ms,
        event,
        replayed,
        session,
        followers,
        is_last: false,
    })))
}

/// An event and the bytes it takes; `None`: it cannot be read.
fn payload(db: &Connection, row: i64) -> Result<Option<(Inbound, usize)>> {
    let found = db
        .prepare_cached("SELECT body FROM payload WHERE id = ?1")?
        .query_row([row], |r| {
            let bytes = r.get_ref(0)?.as_blob()?;
            Ok(body::decode(bytes).map(|event| (event, bytes.len())))
        })
        .optional()?;
    Ok(found.flatten())
}

/// What goes with an event that was never handed out: what follows it in its lane without a pause, up to
/// what cannot be read or was handed out on its own.
fn followers(
    tables: &Tables,
    lane: i64,
    (mut row, mut at_ms, mut bytes): (i64, i64, usize),
    first: &Inbound,
    hand: &Hand,
) -> Result<Vec<Follower>> {
    let db = &tables.db;
    let within = if first.album.is_some() { Some(hand.album_ms) } else { hand.within_ms };
    let Some(within_ms) = within else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    while found.len() < hand.followers {
        let Some(next) = tables.lanes.next(db, lane, row)? else { break };
        let (received_ms, attempts): (i64, u32) = db
            .prepare_cached("SELECT received_ms, attempts FROM inbox WHERE id = ?1")?
            .query_row([next], |r| Ok((r.get(0)?, r.get(1)?)))?;
        if attempts > 0 || received_ms.saturating_sub(at_ms) > within_ms {
            break;
        }
        let Some((event, size)) = payload(db, next)? else { break };
        bytes += size;
        if bytes > hand.bytes
            || !bursts::joins(first, &event, hand.within_ms.is_some(), &hand.commands)
        {
            break;
        }
        found.push(Follower { id: EventId(wire_id(next)), event });
        (row, at_ms) = (next, received_ms);
    }
    Ok(found)
}

/// What goes with an event from now on. It is handed out, too: should it ever come alone, that is another attempt.
fn keep_joined(db: &Connection, row: i64, followers: &[Follower]) -> Result<()> {
    if followers.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = followers.iter().map(|follower| follower.id.0.to_string()).collect();
    let ids = format!("[{}]", ids.join(","));
    db.prepare_cached("UPDATE inbox SET joined = ?2 WHERE id = ?1")?.execute(params![row, ids])?;
    let mut counted =
        db.prepare_cached("UPDATE inbox SET attempts = attempts + 1 WHERE id = ?1")?;
    for follower in followers {
        counted.execute([row_id(follower.id.0)])?;
    }
    Ok(())
}

fn listed(ids: Option<String>) -> Vec<EventId> {
    let ids: Option<Vec<u64>> = ids.and_then(|ids| serde_json::from_str(&ids).ok());
    ids.into_iter().flatten().map(EventId).collect()
}

/// What went with an event when it was handed out before, but for what was set aside since.
fn joined_before(db: &Connection, ids: &[EventId]) -> Result<Vec<Follower>> {
    let mut found = Vec::new();
    let mut waits = db.prepare_cached("SELECT 1 FROM inbox WHERE id = ?1")?;
    for id in ids {
        let row = row_id(id.0);
        if waits.exists([row])?
            && let Some((event, _)) = payload(db, row)?
        {
            found.push(Follower { id: *id, event });
        }
    }
    Ok(found)
}

/// What goes with an event that waits, or was set aside with one that is.
pub(super) fn joined(tables: &Tables, id: EventId) -> Result<Vec<EventId>> {
    let joined: Option<Option<String>> = tables
        .db
        .prepare_cached(
            "SELECT joined FROM inbox WHERE id = ?1 UNION ALL SELECT joined FROM parked WHERE id = ?1",
        )?
        .query_row([row_id(id.0)], |r| r.get(0))
        .optional()?;
    Ok(listed(joined.flatten()))
}

/// The attempt that was begun does not count.
pub(super) fn refund(tables: &mut Tables, id: EventId) -> Result<()> {
    let back = "UPDATE inbox SET strikes = strikes - ?2, begun = 0 WHERE id = ?1 AND begun";
    tables.db.prepare_cached(back)?.execute([row_id(id.0), STRIKE])?;
    Ok(())
}

/// What was begun was no attempt: nobody has seen the event, nor, if it was the first one, what goes with it.
pub(super) fn withhold(tables: &mut Tables, id: EventId) -> Result<()> {
    let db = &tables.db;
    let row = row_id(id.0);
    let back = "UPDATE inbox SET attempts = attempts - 1, strikes = strikes - ?2, begun = 0
         WHERE id = ?1 AND begun";
    if db.prepare_cached(back)?.execute([row, STRIKE])? == 0 {
        return Ok(());
    }
    let unseen = "SELECT joined FROM inbox WHERE id = ?1 AND attempts = 0";
    let joined = db.prepare_cached(unseen)?.query_row([row], |r| r.get(0)).optional()?;
    let mut back = db.prepare_cached("UPDATE inbox SET attempts = attempts - 1 WHERE id = ?1")?;
    for follower in listed(joined.flatten()) {
        back.execute([row_id(follower.0)])?;
    }
    let alone = "UPDATE inbox SET joined = NULL WHERE id = ?1 AND attempts = 0";
    db.prepare_cached(alone)?.execute([row])?;
    Ok(())
}

/// The attempt that was begun counts, and the next one is not made before the pause is over.
pub(super) fn fail(tables: &mut Tables, id: EventId, pause: &Pause) -> Result<()> {
    let Tables { db, names, .. } = tables;
    let agent = names.instance_made(db, &pause.agent)?;
    db.prepare_cached(
        "UPDATE inbox SET begun = 0, tried_by = ?2, tried_ms = ?3, pause_ms = ?4
         WHERE id = ?1 AND begun",
    )?
    .execute(params![row_id(id.0), agent, pause.now_ms, pause.for_ms])?;
    Ok(())
}

/// The wall clock was set: pauses that began before that are over when they would have been.
pub(super) fn clock_set(tables: &Tables, set: Set) -> Result<()> {
    let moved = "UPDATE inbox SET tried_ms = tried_ms + ?1 WHERE pause_ms > 0";
    tables.db.prepare_cached(moved)?.execute([set.by_ms])?;
    Ok(())
}

/// What was with the agent when the last run ended, but for what still is.
pub(super) fn give_all_back(db: &Connection, but: &[EventId]) -> Result<()> {
    let mut begun = db.prepare("SELECT id FROM inbox WHERE begun")?;
    let begun: Vec<i64> = begun.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    let still: Vec<i64> = but.iter().map(|id| row_id(id.0)).collect();
    let mut update =
        db.prepare("UPDATE inbox SET strikes = strikes - ?2, begun = 0 WHERE id = ?1")?;
    let back = db.unchecked_transaction()?;
    for id in begun.into_iter().filter(|id| !still.contains(id)) {
        update.execute([id, STRIKE - 1])?;
    }
    back.commit()
}

/// The event, and what goes with it, is the agent's from now on, also what was parked meanwhile.
pub(super) fn settle(tables: &mut Tables, id: EventId) -> Result<Answer> {
    let mut known = false;
    for one in joined(tables, id)?.iter().chain([&id]) {
        let row = row_id(one.0);
        known = leave(tables, *one)?;
        if known {
            tables.db.prepare_cached("DELETE FROM payload WHERE id = ?1")?.execute([row])?;
        } else {
            known = parked::discard_event(tables, row)?.is_some();
        }
    }
    Ok(if known { Answer::Settled } else { Answer::Gone })
}

/// Takes an event out of the inbox; its payload stays. Whether there was one.
pub(super) fn leave(tables: &mut Tables, id: EventId) -> Result<bool> {
    let db = &tables.db;
    let row = row_id(id.0);
    let known: Option<(i64, i64, u64)> = db
        .prepare_cached("SELECT lane, instance, size FROM inbox WHERE id = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((lane, instance, size)) = known else { return Ok(false) };
    db.prepare_cached("DELETE FROM inbox WHERE id = ?1")?.execute([row])?;
    tables.lanes.leaves(db, lane, row)?;
    tables.tally.note(Change::Leaves { instance, id: row, size });
    Ok(true)
}

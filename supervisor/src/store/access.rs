//! What people have decided about users and chats while the gateway ran, and the codes that strangers were
//! told.

use rusqlite::{Connection, Result, params};

use super::answer::Answer;
use super::names::Names;
use super::op::{Grant, Pair, Subject};
use super::tables::Tables;

fn number(subject: Subject) -> i64 {
    match subject {
        Subject::User => 0,
        Subject::Chat => 1,
    }
}

/// Keeps a decision; one about a user ends that user's code.
pub(super) fn grant(tables: &mut Tables, grant: &Grant) -> Result<Answer> {
    let instance = tables.names.instance_made(&tables.db, &grant.instance)?;
    let (db, what) = (&tables.db, number(grant.subject));
    match grant.allowed {
        Some(allowed) => {
            db.prepare_cached("INSERT OR REPLACE INTO access VALUES(?1, ?2, ?3, ?4, ?5)")?
                .execute(params![instance, what, grant.id, allowed, grant.at_ms])?;
        }
        None => {
            db.prepare_cached("DELETE FROM access WHERE instance = ?1 AND what = ?2 AND id = ?3")?
                .execute(params![instance, what, grant.id])?;
        }
    }
    if grant.subject == Subject::User {
        db.prepare_cached("DELETE FROM pairing WHERE instance = ?1 AND user = ?2")?
            .execute(params![instance, grant.id])?;
    }
    Ok(Answer::Granted)
}

/// Keeps a code. Those that have long ceased to hold go.
pub(super) fn pair(tables: &mut Tables, pair: &Pair) -> Result<()> {
    let instance = tables.names.instance_made(&tables.db, &pair.instance)?;
    let db = &tables.db;
    db.prepare_cached("INSERT OR REPLACE INTO pairing VALUES(?1, ?2, ?3, ?4, ?5)")?
        .execute(params![instance, pair.user, pair.chat_id, pair.code, pair.until_ms])?;
    db.prepare_cached("DELETE FROM pairing WHERE until_ms < ?1 - 86400000")?
        .execute([pair.until_ms])?;
    Ok(())
}

/// Every decision.
pub(super) fn grants(db: &Connection, names: &mut Names) -> Result<Vec<Grant>> {
    let mut read = db.prepare("SELECT instance, what, id, allowed, at_ms FROM access")?;
    let mut rows = read.query([])?;
    let mut grants = Vec::new();
    while let Some(row) = rows.next()? {
        let subject = if row.get::<_, i64>(1)? == 0 { Subject::User } else { Subject::Chat };
        grants.push(Grant {
            instance: names.instance_name(db, row.get(0)?)?,
            subject,
            id: row.get(2)?,
            allowed: Some(row.get(3)?),
            at_ms: row.get(4)?,
        });
    }
    Ok(grants)
}

/// Every code.
pub(super) fn pairs(db: &Connection, names: &mut Names) -> Result<Vec<Pair>> {
    let mut read = db.prepare("SELECT instance, user, chat, code, until_ms FROM pairing")?;
    let mut rows = read.query([])?;
    let mut pairs = Vec::new();
    while let Some(row) = rows.next()? {
        pairs.push(Pair {
            instance: names.instance_name(db, row.get(0)?)?,
            user: row.get(1)?,
            chat_id: row.get(2)?,
            code: row.get(3)?,
            until_ms: row.get(4)?,
        });
    }
    Ok(pairs)
}

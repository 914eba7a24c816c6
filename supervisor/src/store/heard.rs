//! Which account has heard which events, where another one has taken the place of the first. Ids of events grow,
//! so a change is one number.

use protocol::id::{EventId, Instance};
use rusqlite::{Connection, Result, params};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::meta;
use super::tables::{Tables, wire_id};

/// Names in `meta`: this and the number of an instance.
pub(super) const ACCOUNT: &str = "account ";

/// Former accounts that are remembered.
const FORMER: usize = 16;

#[derive(Default, Serialize, Deserialize)]
struct Accounts {
    /// Who hears now.
    own: Option<String>,
    /// Who has heard the events up to an id and behind that of the one before, oldest first.
    former: Vec<(String, u64)>,
}

fn parse(text: &str) -> Option<Accounts> {
    serde_json::from_str(text).ok()
}

/// Whether this is what is kept of an instance.
pub(super) fn is_readable(text: &str) -> bool {
    parse(text).is_some()
}

/// Finds damage in what is kept of any instance.
pub(super) fn check(db: &Connection) -> Result<()> {
    let mut read = db.prepare("SELECT name, value FROM meta WHERE name GLOB ?1 || '[0-9]*'")?;
    let mut rows = read.query([ACCOUNT])?;
    while let Some(row) = rows.next()? {
        let (name, text): (String, String) = (row.get(0)?, row.get(1)?);
        parse(&text).ok_or_else(|| meta::damaged(&name))?;
    }
    Ok(())
}

/// From now on `account` hears for an instance: who did before.
pub(super) fn account(tables: &mut Tables, instance: &Instance, account: &str) -> Result<Answer> {
    let db = &tables.db;
    let name = format!("{ACCOUNT}{}", tables.names.instance_made(db, instance)?);
    let known: Option<String> = meta::find(db, &name)?;
    let mut accounts = match known {
        Some(text) => parse(&text).ok_or_else(|| meta::damaged(&name))?,
        None => Accounts::default(),
    };
    if accounts.own.as_deref() != Some(account) {
        if let Some(former) = accounts.own.replace(account.to_owned()) {
            accounts.former.push((former, wire_id(tables.events.last_used())));
        }
        let many = accounts.former.len().saturating_sub(FORMER);
        accounts.former.drain(..many);
        let text = serde_json::to_string(&accounts).unwrap_or_default();
        db.prepare_cached("INSERT OR REPLACE INTO meta VALUES(?1, ?2)")?
            .execute(params![name, text])?;
    }
    let former = accounts.former.into_iter().map(|(account, upto)| (account, EventId(upto)));
    Ok(Answer::Heard(former.collect()))
}

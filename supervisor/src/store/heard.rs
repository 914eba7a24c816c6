//! Which account has heard which events, where another one has taken the place of the first. Ids of events grow,
//! so a change is one number.

use protocol::id::{EventId, Instance};
use rusqlite::{OptionalExtension, Result, params};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
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

/// From now on `account` hears for an instance: who did before.
pub(super) fn account(tables: &mut Tables, instance: &Instance, account: &str) -> Result<Answer> {
    let db = &tables.db;
    let name = format!("{ACCOUNT}{}", tables.names.instance_made(db, instance)?);
    let known: Option<String> = db
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([&name], |row| row.get(0))
        .optional()?;
    let known = known.and_then(|text| serde_json::from_str(&text).ok());
    let mut accounts: Accounts = known.unwrap_or_default();
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

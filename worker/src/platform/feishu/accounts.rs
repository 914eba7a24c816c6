//! The other ids of whoever was heard. Pure, bounded, and part of the instance's cursor.
//!
//! An event names a person by several ids, a chat's history by one. Agents tell people, and so conversations,
//! apart by any of them: what is read from a history names everybody as the events did.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::json::text_of;

/// Who was heard last. In a cursor, each takes about a hundred bytes.
const MOST: usize = 1000;
/// Beside the `open_id`.
const OTHERS: [&str; 2] = ["union_id", "user_id"];

#[derive(Debug)]
struct Account {
    /// As in [`OTHERS`]; empty: the platform does not tell it.
    others: [String; 2],
    /// When it was heard, counted in events.
    at: u64,
    /// In this life.
    fresh: bool,
}

/// Accounts by their `open_id`.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    known: HashMap<String, Account>,
    heard: u64,
}

impl Accounts {
    /// As [`Self::told`] told.
    pub(super) fn recall(told: &Value) -> Self {
        let mut accounts = Self::default();
        for (open_id, others) in told.as_object().into_iter().flatten() {
            accounts.hear(&with(open_id, |name| text_of(others, name)));
        }
        accounts.known.values_mut().for_each(|account| account.fresh = false);
        accounts
    }

    /// For a cursor.
    pub(super) fn told(&self) -> Value {
        let told = self.known.iter().map(|(open_id, account)| {
            let others = OTHERS.iter().zip(&account.others).filter(|(_, id)| !id.is_empty());
            let others = others.map(|(name, id)| ((*name).to_owned(), json!(id)));
            (open_id.clone(), Value::Object(others.collect()))
        });
        Value::Object(told.collect())
    }

    /// An event came from this person. Whether [`Self::hear`] is to be told the ids in it.
    pub(super) fn wants(&mut self, open_id: &str) -> bool {
        self.heard += 1;
        let account = self.known.get_mut(open_id);
        account.is_none_or(|account| {
            account.at = self.heard;
            !account.fresh
        })
    }

    /// An event named somebody by these ids. Whether that is news.
    pub(super) fn hear(&mut self, ids: &Value) -> bool {
        let open_id = text_of(ids, "open_id");
        let others = OTHERS.map(|name| text_of(ids, name).to_owned());
        if open_id.is_empty() || others.iter().all(String::is_empty) {
            return false;
        }
        let account = Account { others, at: self.heard, fresh: true };
        let others = account.others.clone();
        let before = self.known.insert(open_id.to_owned(), account);
        if self.known.len() > MOST {
            let oldest = self.known.iter().min_by_key(|(_, account)| account.at);
            let oldest = oldest.map(|(open_id, _)| open_id.clone());
            oldest.and_then(|open_id| self.known.remove(&open_id));
        }
        before.is_none_or(|before| before.others != others)
    }

    /// All ids of whom the platform names by `ids`.
    pub(super) fn complete(&self, ids: Value) -> Value {
        let Some(account) = self.known.get(text_of(&ids, "open_id")) else { return ids };
        let others = OTHERS.iter().zip(&account.others);
        let other = |name| others.clone().find(|(it, _)| **it == name).map_or("", |(_, id)| id);
        with(text_of(&ids, "open_id"), other)
    }
}

fn with<'a>(open_id: &str, other: impl Fn(&'static str) -> &'a str) -> Value {
    let others = OTHERS.iter().map(|name| ((*name).to_owned(), json!(other(name))));
    let mut ids: Map<_, _> = others.collect();
    ids.insert("open_id".to_owned(), json!(open_id));
    Value::Object(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_knows_it_names_as_the_events_did_also_in_another_life() {
        let mut accounts = Accounts::default();
        let ann = json!({"open_id": "ou_1", "union_id": "on_1", "user_id": "u1"});
        let bob = json!({"open_id": "ou_2", "union_id": "on_2", "user_id": ""});
        assert!(accounts.hear(&ann) && accounts.hear(&bob));
        assert!(!accounts.hear(&ann), "no news");
        assert!(!accounts.hear(&json!({"open_id": "ou_3", "union_id": "", "user_id": null})));
        assert!(!accounts.hear(&json!({"open_id": "", "union_id": "on_4"})));
        for accounts in [&accounts, &Accounts::recall(&accounts.told())] {
            assert_eq!(accounts.complete(json!({"open_id": "ou_1"})), ann);
            assert_eq!(accounts.complete(json!({"open_id": "ou_2"})), bob);
            for other in [json!({"open_id": "ou_3"}), json!({"union_id": "on_1"})] {
                assert_eq!(accounts.complete(other.clone()), other);
            }
        }
        let moved = json!({"open_id": "ou_1", "union_id": "on_1", "user_id": "u9"});
        assert!(accounts.hear(&moved), "another number at the company");
        assert_eq!(accounts.complete(json!({"open_id": "ou_1"})), moved);
        assert_eq!(Accounts::recall(&json!(null)).known.len(), 0);
        assert_eq!(Accounts::recall(&json!({"ou_1": 5})).known.len(), 0);
    }

    #[test]
    fn it_forgets_who_was_not_heard_for_longest() {
        let mut accounts = Accounts::default();
        let heard = |accounts: &mut Accounts, open_id: &str| {
            let wanted = accounts.wants(open_id);
            if wanted {
                accounts.hear(&json!({"open_id": open_id, "union_id": "on"}));
            }
            wanted
        };
        for number in 0..MOST {
            assert!(heard(&mut accounts, &format!("ou_{number}")));
        }
        assert!(!heard(&mut accounts, "ou_0"), "its ids are known");
        assert!(heard(&mut accounts, "ou_new"));
        assert_eq!(accounts.known.len(), MOST);
        assert!(accounts.known.contains_key("ou_0") && !accounts.known.contains_key("ou_1"));
        let mut later = Accounts::recall(&accounts.told());
        assert!(heard(&mut later, "ou_0"), "they may have changed");
        assert!(!heard(&mut later, "ou_0"));
    }
}

//! Somebody else who is connected as the same app.
//!
//! The platform gives each event to one of an app's connections, by chance, and tells nobody. So a second
//! copy of the bot, on a developer's laptop say, takes its share unnoticed: half of the messages are never
//! answered here. What gives it away is the chat itself: now and then the latest messages of a direct chat
//! are listed, and if several that people wrote while this connection stood have never been heard here,
//! somebody else has heard them.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::Shared;
use super::answer::Said;
use super::encode;
use crate::clock;
use crate::json::{list_of, member, text_of};

/// So many make a case, if they are this share of all.
const MISSED: u32 = 2;
const SHARE: u32 = 5;
/// Looks without a missing message until the case is closed.
const CALM: u32 = 2;
/// More messages than this within one look, and memory may have lost some.
const CROWD: u64 = 500;
const CHATS_MAX: usize = 1000;
/// How long nothing is listed after the platform did not let us.
const NO_LISTS: Duration = Duration::from_hours(1);

/// When to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// How often, at most.
    pub(super) every: Duration,
    /// How old a message must be: an event that nobody answered comes again meanwhile.
    pub(super) settled: Duration,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Rivalry {
    missed: u32,
    heard: u32,
    calm: u32,
}

impl Rivalry {
    /// Another look: messages that were heard here, and others. The case, if there is one.
    pub(super) fn on(&mut self, heard: u32, missed: u32) -> Option<String> {
        self.calm = if missed > 0 { 0 } else { self.calm + u32::from(heard > 0) };
        if self.calm >= CALM {
            *self = Self::default();
            return None;
        }
        self.heard += heard;
        self.missed += missed;
        let all = self.heard + self.missed;
        (self.missed >= MISSED && self.missed * SHARE >= all).then(|| {
            format!(
                "another program is connected as this app: {} of {all} messages went to it",
                self.missed
            )
        })
    }
}

/// Looks now and then, until the worker is told to stop.
pub(super) async fn watch(shared: &Shared) {
    let mut rivalry = Rivalry::default();
    let mut before = 0;
    // Up to when each chat has been looked at: no message counts twice.
    let mut looked: HashMap<String, i64> = HashMap::new();
    loop {
        tokio::time::sleep(shared.limits.rival.every).await;
        let Some(since_ms) = shared.api.health.connected_since() else {
            rivalry = Rivalry::default();
            continue;
        };
        let (count, chat) = {
            let memory = shared.memory();
            (memory.heard_count(), memory.latest_direct())
        };
        let crowd = count - before > CROWD;
        let idle = count == before;
        before = count;
        let Some(chat) = chat.filter(|_| !idle && !crowd && shared.quiet("history").is_none())
        else {
            continue;
        };
        let settled = i64::try_from(shared.limits.rival.settled.as_millis()).unwrap_or(i64::MAX);
        // The platform counts in seconds.
        let until_ms = (clock::unix_ms() - settled) / 1000 * 1000 - 1;
        // What was said while the connection was being opened may have gone anywhere.
        let from_ms = looked.get(&chat).copied().unwrap_or(0).max(since_ms + settled);
        if let Some((heard, missed)) = look(shared, &chat, from_ms, until_ms).await {
            if looked.len() >= CHATS_MAX {
                looked.clear();
            }
            looked.insert(chat, until_ms);
            shared.api.health.rival(rivalry.on(heard, missed));
        }
    }
}

/// How many messages of people in `chat`, within that time, were heard here, and how many were not.
async fn look(shared: &Shared, chat: &str, from_ms: i64, until_ms: i64) -> Option<(u32, u32)> {
    let answered = shared.api.call(&encode::history(chat, from_ms / 1000, until_ms / 1000)?).await;
    if answered.said != Said::Done {
        if matches!(answered.said, Said::Denied(_) | Said::Never { .. } | Said::Gone(_)) {
            shared.be_quiet("history", NO_LISTS, &answered.said.why());
        }
        return None;
    }
    let memory = shared.memory();
    let (mut heard, mut missed) = (0, 0);
    for item in list_of(answered.data(), "items") {
        let created: i64 = text_of(item, "create_time").parse().unwrap_or(0);
        let is_of_people = text_of(member(item, "sender"), "sender_type") == "user";
        if !is_of_people || created <= from_ms || created > until_ms || is_deleted(item) {
            continue;
        }
        match memory.message(text_of(item, "message_id")) {
            Some(_) => heard += 1,
            None => missed += 1,
        }
    }
    Some((heard, missed))
}

fn is_deleted(item: &Value) -> bool {
    member(item, "deleted").as_bool().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_takes_several_and_is_closed_when_none_is_missing_any_more() {
        let mut rivalry = Rivalry::default();
        assert_eq!(rivalry.on(5, 1), None, "one may be an accident");
        assert!(rivalry.on(3, 2).unwrap().contains("3 of 11 messages"));
        assert!(rivalry.on(1, 0).is_some(), "not over yet");
        assert_eq!(rivalry.on(1, 0), None);
        assert_eq!(rivalry.on(0, 1), None, "a new story");
        let mut rivalry = Rivalry::default();
        assert_eq!(rivalry.on(100, 2), None, "too few of many");
    }
}

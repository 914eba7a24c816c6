//! What was heard until when, and of which chats some is still to be read: pure, bounded, and the instance's
//! cursor.
//!
//! A cursor is told when a connection begins to work and then every few seconds, so that whoever comes after
//! a kill knows how long nobody listened. What is owed is kept for each chat and shrinks while it is read, so
//! that reading it goes on where a kill cut it short.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use protocol::event::{ChatType, Inbound, InboundKind};
use protocol::worker::Cursor;
use serde_json::{Value, json};

use super::{Limits, Said};
use crate::clock::Instant;
use crate::json::{list_of, member, number_of, parse, text_of};
use crate::platform::feishu::accounts::Accounts;
use crate::platform::feishu::topics::Topics;
use crate::raw::feishu_ids;

/// Chats whose history is read: those in which something was heard last.
const CHATS_MAX: usize = 200;
/// Topics in which something was refused.
const TOPICS_MAX: usize = 50;
/// The clocks of the platform and of this machine differ, and so does when a message was made and told.
const MARGIN_MS: i64 = 10_000;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Until then everything was heard but what chats are owed, in Unix milliseconds. 0: nothing was ever.
    heard_ms: i64,
    /// And topics, while something that was refused in them is to be read.
    chats: HashMap<String, Chat>,
    pub(super) accounts: Accounts,
    pub(super) topics: Topics,
    /// The connection works, since then.
    up_ms: Option<i64>,
    /// It did before, in this life.
    has_begun: bool,
    /// What chats are owed since it does; nothing if nothing was ever heard before.
    missed: Option<Owed>,
    /// How often in this life nobody had listened.
    gaps: u64,
    /// When the last cursor was told.
    told_ms: i64,
    changed: bool,
}

#[derive(Debug)]
struct Chat {
    /// It is a topic of such a chat.
    is_topic: bool,
    kind: ChatType,
    /// Who speaks with the bot in it, if it is direct.
    with: Option<String>,
    /// When something was heard in it.
    at_ms: i64,
    /// The supervisor has kept a cursor that names it, with an event.
    kept: bool,
    /// It was owed what was said in this gap, and may be still.
    gap: u64,
    owed: Option<Owed>,
    /// Its history did not tell what was refused: nothing waits for that.
    is_shut: bool,
}

/// What was said since then is to be read.
#[derive(Clone, Copy, Debug)]
struct Owed {
    since_ms: i64,
    /// Because of this gap. Whoever reads because of an earlier one does not know all.
    gap: u64,
    /// It was so short that the platform tells all of it again.
    is_brief: bool,
    /// Until then something was refused: nothing is taken in the chat but what is read.
    refused_ms: Option<i64>,
}

/// What a frame means.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Alive {
    /// The cursor is to be told.
    pub(super) news: bool,
    /// Chats that are to be read from now on.
    pub(super) owed: Vec<String>,
}

/// A chat to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// Or topic.
    pub(super) chat: String,
    pub(super) is_topic: bool,
    pub(super) kind: ChatType,
    pub(super) since_ms: i64,
    /// From then on somebody listens.
    pub(super) until_ms: i64,
    /// The platform tells all of it again.
    pub(super) is_brief: bool,
    /// Until then something was refused.
    pub(super) refused_ms: Option<i64>,
    gap: u64,
}

impl Chat {
    fn new(kind: ChatType, at_ms: i64) -> Self {
        Self {
            is_topic: false,
            kind,
            with: None,
            at_ms,
            kept: false,
            gap: 0,
            owed: None,
            is_shut: false,
        }
    }
}

impl Owed {
    /// To the life before.
    fn of_before(since_ms: i64) -> Self {
        Self { since_ms, gap: 0, is_brief: false, refused_ms: None }
    }
}

impl Book {
    /// As the cursor says.
    pub(super) fn recall(cursor: Option<&Cursor>) -> Self {
        let told: Value =
            cursor.and_then(|it| serde_json::from_slice(&it.0).ok()).unwrap_or_default();
        let heard_ms = number_of(&told, "heard_ms").unwrap_or_default();
        let mut chats = HashMap::new();
        for (name, kind) in [("direct", ChatType::Direct), ("groups", ChatType::Group)] {
            let ids = list_of(&told, name).iter().filter_map(Value::as_str);
            for (id, age_ms) in ids.zip(0..) {
                let with = Some(text_of(member(&told, "with"), id).to_owned());
                let since_ms = number_of(member(&told, "owed"), id);
                let chat = Chat {
                    with: with.filter(|user| !user.is_empty()),
                    kept: true,
                    owed: since_ms.map(Owed::of_before),
                    ..Chat::new(kind, heard_ms - age_ms)
                };
                chats.insert(id.to_owned(), chat);
            }
        }
        for (name, kind) in [("direct", ChatType::Direct), ("groups", ChatType::Group)] {
            let topics = member(member(&told, "owed_topics"), name).as_object();
            for (id, since_ms) in topics.into_iter().flatten() {
                let owed = since_ms.as_i64().map(Owed::of_before);
                let topic = Chat { is_topic: true, owed, ..Chat::new(kind, heard_ms) };
                chats.insert(id.clone(), topic);
            }
        }
        let accounts = Accounts::recall(member(&told, "accounts"));
        let topics = Topics::recall(member(&told, "topics"));
        Self { heard_ms, chats, accounts, topics, ..Self::default() }
    }

    /// What [`Self::recall`] understands.
    fn told(&self) -> Cursor {
        // Those in which something was heard last come first.
        let mut all: Vec<_> = self.chats.iter().collect();
        all.sort_by_key(|(_, chat)| Reverse(chat.at_ms));
        let (topics, chats): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, it)| it.is_topic);
        let of = |kind: ChatType| {
            let chats = chats.iter().filter(|(_, chat)| chat.kind == kind);
            chats.map(|(id, _)| id.as_str()).collect::<Vec<_>>()
        };
        let with = chats.iter().filter_map(|(id, chat)| Some((id.as_str(), chat.with.as_ref()?)));
        let owed = chats.iter().filter_map(|(id, chat)| Some((id.as_str(), chat.owed?.since_ms)));
        let within = |kind: ChatType| {
            let topics = topics.iter().filter(|(_, topic)| topic.kind == kind);
            let owed = topics.filter_map(|(id, it)| Some((id.as_str(), it.owed?.since_ms)));
            owed.collect::<HashMap<_, _>>()
        };
        let told = json!({
            "heard_ms": self.heard_ms, "direct": of(ChatType::Direct), "groups": of(ChatType::Group),
            "with": with.collect::<HashMap<_, _>>(), "owed": owed.collect::<HashMap<_, _>>(),
            "owed_topics": {"direct": within(ChatType::Direct), "groups": within(ChatType::Group)},
            "accounts": self.accounts.told(), "topics": self.topics.told(),
        });
        Cursor(told.to_string().into_bytes())
    }

    /// What is to be remembered, if that is new.
    pub(super) fn cursor(&mut self) -> Option<Cursor> {
        let is_new = std::mem::take(&mut self.changed);
        self.told_ms = self.heard_ms;
        is_new.then(|| self.told())
    }

    /// What is to be remembered with an event: that its chat and its topic are known, unless that is kept already. Whatever
    /// ends us a moment later, what is said in it then is asked for.
    pub(super) fn with_event(&self, chat: &str) -> Option<Cursor> {
        let is_new = self.chats.get(chat).is_some_and(|chat| !chat.kept);
        is_new.then(|| self.told())
    }

    /// An event of this chat was kept, and the cursor with it.
    pub(super) fn kept(&mut self, chat: &str) {
        if let Some(chat) = self.chats.get_mut(chat) {
            chat.kept = true;
        }
    }

    /// Who speaks with the bot, and in which chat.
    pub(super) fn people(&self) -> Vec<(String, String)> {
        let chats = self.chats.iter();
        chats.filter_map(|(id, chat)| Some((chat.with.clone()?, id.clone()))).collect()
    }

    /// Who caused an event has the ids that it names. Whether that is news.
    pub(super) fn knows(&mut self, event: &Inbound) -> bool {
        let is_news = self.accounts.wants(&event.sender.user_id)
            && self.accounts.hear(feishu_ids(&parse(&event.raw)));
        self.changed |= is_news;
        is_news
    }

    /// Something was heard in a chat.
    pub(super) fn spoke(&mut self, event: &Inbound, now_ms: i64) {
        if event.kind != InboundKind::Message || event.chat_id.is_empty() {
            return;
        }
        let topic = self.topics.hear(event);
        self.changed |= topic.is_some();
        let user = event.direct_user().map(str::to_owned);
        if let Some(chat) = self.chats.get_mut(&event.chat_id) {
            chat.kind = event.chat_type;
            chat.with = user.or(chat.with.take());
            chat.at_ms = now_ms;
            // A cursor with this event names the topic as well.
            chat.kept &= topic != Some(true);
            return;
        }
        let chat = Chat { with: user, ..Chat::new(event.chat_type, now_ms) };
        self.chats.insert(event.chat_id.clone(), chat);
        self.changed = true;
        let chats = || self.chats.iter().filter(|(_, chat)| !chat.is_topic);
        if chats().count() > CHATS_MAX {
            let oldest = chats().min_by_key(|(_, chat)| (chat.owed.is_some(), chat.at_ms));
            let oldest = oldest.map(|(chat, _)| chat.clone());
            oldest.and_then(|chat| self.chats.remove(&chat));
        }
    }

    /// A frame of the platform came: the connection works. Nothing is read that is older than `back`.
    pub(super) fn alive(&mut self, now_ms: i64, limits: &Limits, back: Duration) -> Alive {
        let mut before_ms = std::mem::replace(&mut self.heard_ms, now_ms);
        self.changed = true;
        if self.up_ms.is_some() {
            let news = now_ms.abs_diff(self.told_ms) >= millis(limits.save).unsigned_abs();
            return Alive { news, owed: Vec::new() };
        }
        self.up_ms = Some(now_ms);
        // By a clock that was wrong: nobody knows how long nobody listened.
        if before_ms > now_ms + MARGIN_MS {
            before_ms = now_ms - millis(back);
        }
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let was_away = before_ms > 0 && now_ms.saturating_sub(before_ms) >= millis(limits.least);
        self.gaps += 1;
        let since_ms = (before_ms - MARGIN_MS).max(now_ms - millis(back));
        let missed = Owed { since_ms, gap: self.gaps, is_brief: !was_away, refused_ms: None };
        self.missed = (before_ms > 0 && !back.is_zero()).then_some(missed);
        let mut owed = Vec::new();
        for (id, chat) in &mut self.chats {
            chat.owed = match chat.owed {
                _ if back.is_zero() => None,
                Some(Owed { since_ms, refused_ms, .. }) if was_away => {
                    Some(Owed { since_ms: since_ms.min(missed.since_ms), refused_ms, ..missed })
                }
                None if was_away && !chat.is_topic => Some(missed),
                owed => owed,
            };
            if let Some(owed) = &mut chat.owed {
                let since_ms = if owed.since_ms > now_ms { since_ms } else { owed.since_ms };
                owed.since_ms = since_ms.max(now_ms - millis(back));
            }
            if (was_away || is_first) && chat.owed.is_some() {
                chat.gap = self.gaps;
                owed.push(id.clone());
            }
        }
        Alive { news: true, owed }
    }

    /// Something comes in a chat. Whether it must wait for what was said there while nobody listened, if only for
    /// a moment: the platform tells that again after what comes now.
    pub(super) fn comes(&mut self, chat: &str, now_ms: i64, limits: &Limits) -> bool {
        let (Some(missed), Some(up_ms)) = (self.missed, self.up_ms) else { return false };
        let Some(chat) = self.chats.get_mut(chat) else { return false };
        if chat.gap == missed.gap || now_ms.saturating_sub(up_ms) >= millis(limits.least) {
            return false;
        }
        chat.gap = missed.gap;
        self.changed = true;
        let is_read = chat.owed.is_some();
        let Owed { since_ms, is_brief, refused_ms, .. } = chat.owed.unwrap_or(missed);
        let since_ms = since_ms.min(missed.since_ms);
        chat.owed = Some(Owed { since_ms, is_brief, refused_ms, ..missed });
        !is_read
    }

    /// A message was refused, or would overtake such a one. Whether now, and in no chat before, something is to be
    /// read for that.
    pub(super) fn refused(&mut self, said: &Said) -> bool {
        let refused = |chat: &Chat| chat.owed.is_some_and(|owed| owed.refused_ms.is_some());
        let is_first = !self.chats.values().any(refused);
        self.make_known(said);
        let Some(chat) = self.chats.get_mut(said.within()).filter(|chat| !chat.is_shut) else {
            return false;
        };
        let new = Owed { since_ms: said.at_ms, gap: self.gaps, is_brief: true, refused_ms: None };
        let owed = chat.owed.get_or_insert(new);
        owed.since_ms = owed.since_ms.min(said.at_ms);
        owed.refused_ms = owed.refused_ms.max(Some(said.at_ms));
        self.changed = true;
        is_first
    }

    /// A topic is known from the first refusal in it on.
    fn make_known(&mut self, said: &Said) {
        let (Some(topic), Some(chat)) = (&said.topic, self.chats.get(&said.chat)) else { return };
        let new = Chat { is_topic: true, ..Chat::new(chat.kind, said.at_ms) };
        if self.chats.contains_key(topic) {
            return;
        }
        if self.chats.values().filter(|it| it.is_topic).count() >= TOPICS_MAX {
            self.chats.retain(|_, it| !it.is_topic || it.owed.is_some());
        }
        if self.chats.values().filter(|it| it.is_topic).count() < TOPICS_MAX {
            self.chats.insert(topic.clone(), new);
        }
    }

    /// Whether a message would overtake one that was refused. What is read already would not.
    pub(super) fn overtakes(&self, said: &Said) -> bool {
        let owed = self.chats.get(said.within()).and_then(|chat| chat.owed);
        owed.is_some_and(|owed| owed.refused_ms.is_some() && said.at_ms >= owed.since_ms)
    }

    /// What was refused in this chat cannot be read, at least for now: nothing waits for it.
    pub(super) fn shut(&mut self, chat: &str) {
        let Some(chat) = self.chats.get_mut(chat) else { return };
        chat.is_shut = true;
        if let Some(owed) = &mut chat.owed {
            owed.refused_ms = None;
        }
    }

    /// There is no connection any more.
    pub(super) fn gone(&mut self) {
        self.up_ms = None;
    }

    /// The next chat to read that is not in `taken`: the one in which somebody has `waited` longest for his past,
    /// else the one in which something was heard last.
    pub(super) fn next(
        &self,
        taken: &HashSet<String>,
        waited: impl Fn(&str) -> Option<Instant>,
    ) -> Option<Due> {
        let chats = self.chats.iter().filter(|(id, _)| !taken.contains(*id));
        let owed = chats.filter_map(|(id, chat)| Some((id, chat, chat.owed?)));
        let urgency = |(id, chat, _): &(&String, &Chat, Owed)| {
            let since = waited(id);
            (since.is_none(), since, Reverse(chat.at_ms))
        };
        let (id, chat, owed) = owed.min_by_key(urgency)?;
        Some(Due {
            chat: id.clone(),
            is_topic: chat.is_topic,
            kind: chat.kind,
            since_ms: owed.since_ms,
            until_ms: self.up_ms.unwrap_or(self.heard_ms),
            is_brief: owed.is_brief,
            refused_ms: owed.refused_ms,
            gap: owed.gap,
        })
    }

    /// Whether any chat is to be read.
    pub(super) fn is_owed(&self) -> bool {
        self.chats.values().any(|chat| chat.owed.is_some())
    }

    /// Some of what is due is read: whatever was said before then.
    pub(super) fn reached(&mut self, due: &Due, ms: i64) {
        if let Some(owed) = self.owed(due) {
            owed.since_ms = owed.since_ms.max(ms);
            self.changed = true;
        }
    }

    /// All that is due is read, up to what was said then, or never can be. Whether nothing is owed any more in
    /// this chat.
    pub(super) fn paid(&mut self, due: &Due, read_ms: Option<i64>) -> bool {
        let is_all = self.owed(due).is_some_and(|owed| {
            read_ms.is_none_or(|read_ms| owed.refused_ms.is_none_or(|ms| ms <= read_ms))
        });
        let chat = self.chats.get_mut(&due.chat);
        let Some(chat) = chat.filter(|chat| chat.owed.is_some()) else { return true };
        if is_all {
            chat.owed = None;
            chat.is_shut = read_ms.is_none();
            self.changed = true;
            if chat.is_topic && !chat.is_shut {
                self.chats.remove(&due.chat);
            }
        }
        is_all
    }

    /// What is owed, if no later gap has made it more.
    fn owed(&mut self, due: &Due) -> Option<&mut Owed> {
        let owed = self.chats.get_mut(&due.chat)?.owed.as_mut();
        owed.filter(|owed| owed.gap == due.gap)
    }
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

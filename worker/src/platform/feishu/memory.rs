//! What one run remembers to answer well: recent messages, what sort of chat a chat is, and what came with a pressed card. Pure and bounded; losing it costs comfort or a
//! question to the platform, never a message.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender};

use crate::clock::Instant;

const MESSAGES_MAX: usize = 1024;
const CHATS_MAX: usize = 2048;
const TOKENS_MAX: usize = 256;
const REACTIONS_MAX: usize = 512;
/// Of the words of a message.
const WORDS_MAX: usize = 1000;
/// The platform takes a token of a pressed card for 30 minutes, twice.
const TOKEN_LIFE: Duration = Duration::from_mins(29);
const TOKEN_USES: u32 = 2;

/// A message that was heard or sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    /// Where it is.
    pub(super) chat_id: String,
    /// The thread that it is in.
    pub(super) thread_id: Option<String>,
    /// Who wrote it; `None`: the bot.
    pub(super) sender: Option<Sender>,
    /// Whether it addressed the bot.
    pub(super) to_bot: bool,
    /// The platform's word for the type of one of ours.
    pub(super) kind: String,
    /// The beginning of what it says.
    pub(super) words: String,
}

/// A map that forgets the oldest.
#[derive(Debug)]
struct Recent<V> {
    most: usize,
    values: HashMap<String, V>,
    order: VecDeque<String>,
}

impl<V> Recent<V> {
    fn new(most: usize) -> Self {
        Self { most, values: HashMap::new(), order: VecDeque::new() }
    }

    fn put(&mut self, key: &str, value: V) {
        if self.values.insert(key.to_owned(), value).is_none() {
            self.order.push_back(key.to_owned());
        }
        while self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    fn get(&self, key: &str) -> Option<&V> {
        self.values.get(key)
    }

    fn take(&mut self, key: &str) -> Option<V> {
        let value = self.values.remove(key)?;
        self.order.retain(|known| known != key);
        Some(value)
    }
}

/// What came with a pressed card.
#[derive(Debug)]
struct CardToken {
    token: String,
    at: Instant,
    uses: u32,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Memory {
    messages: Recent<Known>,
    chats: Recent<ChatType>,
    /// The chat of a person with the bot.
    direct: Recent<String>,
    tokens: Recent<CardToken>,
    /// Our reactions, by message and word.
    reactions: Recent<String>,
    heard: u64,
    latest_direct: Option<String>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            messages: Recent::new(MESSAGES_MAX),
            chats: Recent::new(CHATS_MAX),
            direct: Recent::new(CHATS_MAX),
            tokens: Recent::new(TOKENS_MAX),
            reactions: Recent::new(REACTIONS_MAX),
            heard: 0,
            latest_direct: None,
        }
    }
}

impl Memory {
    /// The bot sent this message.
    pub(super) fn sent(
        &mut self,
        id: &str,
        chat: &str,
        thread: Option<&str>,
        kind: &str,
        words: &str,
    ) {
        let known = Known {
            chat_id: chat.to_owned(),
            thread_id: thread.map(str::to_owned),
            sender: None,
            to_bot: true,
            kind: kind.to_owned(),
            words: beginning(words),
        };
        self.messages.put(id, known);
    }

    /// This person speaks with the bot in this chat.
    pub(super) fn speaks(&mut self, open_id: &str, chat_id: &str) {
        // Where the chat is not known, a person stands in for it.
        if open_id.starts_with("ou_") && chat_id != open_id {
            self.direct.put(open_id, chat_id.to_owned());
        }
    }

    /// A message was heard, or something else.
    pub(super) fn heard(&mut self, event: &Inbound) {
        if event.chat_type == ChatType::Direct {
            self.speaks(&event.sender.user_id, &event.chat_id);
        }
        let Some(id) = &event.message_id else { return };
        if event.kind != InboundKind::Message {
            return;
        }
        self.heard += 1;
        if event.chat_type == ChatType::Direct {
            self.latest_direct = Some(event.chat_id.clone());
        }
        self.chats.put(&event.chat_id, event.chat_type);
        let known = Known {
            chat_id: event.chat_id.clone(),
            thread_id: event.thread_id.clone(),
            sender: Some(event.sender.clone()),
            to_bot: event.mention == Mention::Me,
            kind: String::new(),
            words: beginning(&event.text),
        };
        self.messages.put(id, known);
    }

    /// Messages heard so far.
    pub(super) fn heard_count(&self) -> u64 {
        self.heard
    }

    /// The direct chat in which a message was heard last.
    pub(super) fn latest_direct(&self) -> Option<String> {
        self.latest_direct.clone()
    }

    /// A message of not long ago.
    pub(super) fn message(&self, id: &str) -> Option<&Known> {
        self.messages.get(id)
    }

    /// Whether the bot sent it, not long ago.
    pub(super) fn is_ours(&self, id: &str) -> bool {
        self.message(id).is_some_and(|known| known.sender.is_none())
    }

    /// The latest message of this topic but those that are `gone`.
    pub(super) fn latest_in(&self, chat: &str, topic: &str, gone: &[String]) -> Option<String> {
        let is_in = |id: &&String| {
            !gone.contains(id)
                && self.message(id).is_some_and(|known| {
                    known.chat_id == chat && known.thread_id.as_deref() == Some(topic)
                })
        };
        self.messages.order.iter().rev().find(is_in).cloned()
    }

    /// What sort of chat this is.
    pub(super) fn chat_type(&self, chat_id: &str) -> Option<ChatType> {
        self.chats.get(chat_id).copied()
    }

    /// The platform has told.
    pub(super) fn learn_chat(&mut self, chat_id: &str, chat_type: ChatType) {
        self.chats.put(chat_id, chat_type);
    }

    /// The chat of this person with the bot.
    pub(super) fn chat_with(&self, open_id: &str) -> Option<String> {
        self.direct.get(open_id).cloned()
    }

    /// The person whose chat with the bot this is.
    pub(super) fn person_in(&self, chat_id: &str) -> Option<String> {
        let mut people = self.direct.values.iter();
        people.find_map(|(person, chat)| (chat == chat_id).then(|| person.clone()))
    }

    /// A card was pressed.
    pub(super) fn pressed(&mut self, message_id: &str, token: &str, now: Instant) {
        let kept = CardToken { token: token.to_owned(), at: now, uses: 0 };
        self.tokens.put(message_id, kept);
    }

    /// What lets the card be changed once more without a right to it.
    pub(super) fn card_token(&mut self, message_id: &str, now: Instant) -> Option<String> {
        let kept = self.tokens.values.get_mut(message_id)?;
        if kept.uses >= TOKEN_USES || now.duration_since(kept.at) >= TOKEN_LIFE {
            return None;
        }
        kept.uses += 1;
        Some(kept.token.clone())
    }

    /// We reacted.
    pub(super) fn reacted(&mut self, message_id: &str, emoji: &str, reaction_id: &str) {
        self.reactions.put(&format!("{message_id} {emoji}"), reaction_id.to_owned());
    }

    /// Whether we did.
    pub(super) fn has_reacted(&self, message_id: &str, emoji: &str) -> bool {
        self.reactions.get(&format!("{message_id} {emoji}")).is_some()
    }

    /// Our reaction, which is about to be taken back.
    pub(super) fn take_reaction(&mut self, message_id: &str, emoji: &str) -> Option<String> {
        self.reactions.take(&format!("{message_id} {emoji}"))
    }
}

fn beginning(words: &str) -> String {
    words.get(..words.floor_char_boundary(WORDS_MAX)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn it_remembers_the_latest_and_stays_small() {
        let mut memory = Memory::default();
        for i in 0..3000 {
            memory.sent(&format!("om_{i}"), "oc_1", None, "text", "x");
        }
        assert!(
            memory.is_ours("om_2999") && memory.is_ours("om_1976") && !memory.is_ours("om_1975")
        );
        assert_eq!(memory.messages.values.len(), MESSAGES_MAX);
        memory.sent("om_a", "oc_1", Some("omt_1"), "text", "x");
        memory.sent("om_b", "oc_1", Some("omt_1"), "text", "x");
        memory.sent("om_c", "oc_2", Some("omt_1"), "text", "x");
        let latest = |gone: &[&str]| {
            let gone: Vec<_> = gone.iter().map(|id| (*id).to_owned()).collect();
            memory.latest_in("oc_1", "omt_1", &gone)
        };
        assert_eq!(latest(&[]).as_deref(), Some("om_b"));
        assert_eq!(latest(&["om_b"]).as_deref(), Some("om_a"));
        assert_eq!(latest(&["om_b", "om_a"]), None);
    }

    #[test]
    fn a_token_is_good_twice_and_not_for_ever() {
        let mut memory = Memory::default();
        let now = clock::now();
        memory.pressed("om_1", "c-1", now);
        assert_eq!(memory.card_token("om_2", now), None);
        assert_eq!(memory.card_token("om_1", now).as_deref(), Some("c-1"));
        assert_eq!(memory.card_token("om_1", now).as_deref(), Some("c-1"));
        assert_eq!(memory.card_token("om_1", now), None);
        memory.pressed("om_1", "c-2", now);
        assert_eq!(memory.card_token("om_1", now + TOKEN_LIFE), None);
    }

    #[test]
    fn a_reaction_is_taken_back_once() {
        let mut memory = Memory::default();
        memory.reacted("om_1", "OK", "r1");
        assert_eq!(memory.take_reaction("om_1", "LOL"), None);
        assert_eq!(memory.take_reaction("om_1", "OK").as_deref(), Some("r1"));
        assert_eq!(memory.take_reaction("om_1", "OK"), None);
        assert!(memory.reactions.order.is_empty());
    }
}

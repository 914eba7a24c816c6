//! Where a reply goes: to its chat, to the message that it answers, into its topic, and nowhere else.
//!
//! The platform sends an answer to wherever the answered message is, whichever chat was meant. So that is found
//! out first, and looked at once more in what the platform says of the answer. A topic takes nothing but answers
//! to its messages: where the answered one is gone, another one of the topic is answered, and where none is to be
//! had, the reply fails. What belongs to no topic goes to the chat instead.

use std::time::Duration;

use protocol::event::{ChatType, Outcome};

use super::answer::{Answered, Said};
use super::compose::Message;
use super::encode::{self, Name, To, is_plain};
use super::memory::Memory;
use super::{Shared, edit, fill};
use crate::clock;
use crate::json::{list_of, member, text_of};

/// For the question where a message is.
const ASK: Duration = Duration::from_secs(3);
const ELSEWHERE: &str = "the message that it answers is in another chat";
/// Messages that are tried.
const MOST: usize = 8;

/// The place of a reply.
#[derive(Clone, Debug)]
pub(super) struct Place {
    chat: String,
    thread: Option<String>,
    answers: Option<String>,
    /// As far as it is found.
    to: Option<To>,
    /// Messages that it could not answer.
    gone: Vec<String>,
}

impl Place {
    /// In this chat, in this thread of it, and in answer to this message.
    pub(super) fn new(chat: &str, thread: Option<&str>, answers: Option<&str>) -> Self {
        let thread = thread.map(str::to_owned);
        // What is no id of this platform is no message of it.
        let answers = answers.filter(|id| is_plain(id)).map(str::to_owned);
        Self { chat: chat.to_owned(), thread, answers, to: None, gone: Vec::new() }
    }

    /// Sends a message there.
    pub(super) async fn send(
        &mut self,
        shared: &Shared,
        name: Name<'_>,
        message: &Message,
    ) -> Answered {
        loop {
            let to = match self.find(shared).await {
                Ok(to) => to,
                Err(said) => return Answered::bare(said),
            };
            let name = Name { instead: self.gone.len(), ..name };
            let answered = shared.api.call(&encode::send(name, &self.chat, &to, message)).await;
            match (&answered.said, to) {
                (said, To::Message { id, .. }) if said.is_of_target() => {
                    self.gone.push(id);
                    self.to = None;
                }
                (Said::Done, To::Message { .. }) => return self.kept(shared, answered).await,
                _ => return answered,
            }
        }
    }

    async fn find(&mut self, shared: &Shared) -> Result<To, Said> {
        if let Some(to) = &self.to {
            return Ok(to.clone());
        }
        let to = match self.answers.clone().filter(|_| self.gone.is_empty()) {
            Some(id) => {
                let in_thread = self.thread.is_some();
                self.look(shared, &id).await?;
                To::Message { id, in_thread }
            }
            None => match self.thread.clone() {
                Some(topic) => {
                    To::Message { id: self.within(shared, &topic).await?, in_thread: true }
                }
                None => To::Chat,
            },
        };
        self.to = Some(to.clone());
        Ok(to)
    }

    /// Whether it may answer this message, as far as anybody can tell. What the message tells of its topic holds
    /// for what may have to be said instead.
    async fn look(&mut self, shared: &Shared, id: &str) -> Result<(), Said> {
        let Some((chat, thread)) = whereabouts(shared, id).await else { return Ok(()) };
        if is_elsewhere(&shared.memory(), &self.chat, &chat) {
            return Err(never(ELSEWHERE));
        }
        match (&self.thread, thread) {
            (Some(wanted), Some(found)) if *wanted != found => {
                Err(never("the message that it answers is in another topic"))
            }
            (None, found) => {
                self.thread = found;
                Ok(())
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// A message of this topic.
    async fn within(&self, shared: &Shared, topic: &str) -> Result<String, Said> {
        if self.gone.len() >= MOST {
            return Err(never("the messages of its topic are gone"));
        }
        let known = {
            let memory = shared.memory();
            let chat = known_chat(&memory, &self.chat).unwrap_or_else(|| self.chat.clone());
            let latest = shared.absence.latest_in(&chat, topic);
            latest
                .filter(|id| !self.gone.contains(id))
                .or_else(|| memory.latest_in(&chat, topic, &self.gone))
        };
        match known {
            Some(id) => Ok(id),
            None => self.asked(shared, topic).await,
        }
    }

    /// As the platform tells.
    async fn asked(&self, shared: &Shared, topic: &str) -> Result<String, Said> {
        let unknown = |why: &str| {
            never(&format!(
                "no message of its topic is known, without which nothing can be said there: {why}"
            ))
        };
        let Some(call) = encode::topic(topic, "") else {
            return Err(unknown("this is no id of a topic"));
        };
        let answered = shared.api.call(&call).await;
        match &answered.said {
            Said::Done => {}
            Said::Later { .. } if answered.absent => {
                return Err(unknown("this server has no history"));
            }
            Said::Later { .. } | Said::Token => return Err(answered.said),
            Said::Never { reason: why, .. } | Said::Denied(why) | Said::Gone(why) => {
                return Err(unknown(why));
            }
        }
        let memory = shared.memory();
        let mut there = list_of(answered.data(), "items").iter().filter(|it| {
            let is_gone = member(it, "deleted").as_bool().unwrap_or(false);
            !is_gone && !is_elsewhere(&memory, &self.chat, text_of(it, "chat_id"))
        });
        let ids = there.by_ref().map(|it| text_of(it, "message_id"));
        let mut ids = ids.filter(|id| is_plain(id) && !self.gone.iter().any(|gone| gone == id));
        let id = ids.next().map(str::to_owned);
        id.ok_or_else(|| unknown("the platform tells of none in this chat"))
    }

    /// What the platform says of the answer: if it is in another chat or topic after all, it goes.
    async fn kept(&self, shared: &Shared, answered: Answered) -> Answered {
        let (chat, thread) = (text_of(answered.data(), "chat_id"), answered.id("thread_id"));
        let why = if is_elsewhere(&shared.memory(), &self.chat, chat) {
            ELSEWHERE
        } else if self.thread.is_some() && thread.is_some() && self.thread != thread {
            "the message that it answers is not in this topic"
        } else {
            return answered;
        };
        let id = answered.id("message_id").unwrap_or_default();
        let end = match edit::recall(shared, &id).await {
            Outcome::Sent { .. } => "was taken back",
            _ => "cannot be taken back",
        };
        Answered::bare(never(&format!("{why}; what was said there ({id}) {end}")))
    }
}

/// The chat and the topic of a message, if anybody tells.
async fn whereabouts(shared: &Shared, id: &str) -> Option<(String, Option<String>)> {
    let known = shared.memory().message(id).map(|it| (it.chat_id.clone(), it.thread_id.clone()));
    if known.is_some() {
        return known;
    }
    let item = fill::message(shared, id, clock::now() + ASK).await.ok()?;
    let text = |name| Some(text_of(&item, name).to_owned()).filter(|text| !text.is_empty());
    Some((text("chat_id")?, text("thread_id")))
}

/// Whether what was found in `found` is surely not in `wanted`, the chat or the person that a reply is for.
pub(super) fn is_elsewhere(memory: &Memory, wanted: &str, found: &str) -> bool {
    if found.is_empty() || wanted == found {
        return false;
    }
    match (known_chat(memory, wanted), known_chat(memory, found)) {
        (Some(wanted), Some(found)) => wanted != found,
        // A person of whom no chat is known: not in one with others, nor in that of somebody else.
        (None, Some(chat)) => {
            memory.chat_type(&chat) == Some(ChatType::Group)
                || (encode::receiver(wanted) == "open_id" && memory.person_in(&chat).is_some())
        }
        (_, None) => false,
    }
}

/// The chat that is meant by an id of it, or of the person whose chat with the bot it is.
fn known_chat(memory: &Memory, id: &str) -> Option<String> {
    match encode::receiver(id) {
        "chat_id" => Some(id.to_owned()),
        _ => memory.chat_with(id),
    }
}

fn never(reason: &str) -> Said {
    Said::Never { code: 0, reason: reason.to_owned() }
}

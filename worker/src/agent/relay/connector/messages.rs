//! What the agent wants said: the answer to an event, other words, or its word that it did not work.

use std::time::Duration;

use protocol::content::Content;
use protocol::event::Reply;
use protocol::id::{EventId, Instance};
use protocol::worker::{FromWorker, ReplyVerdict};

use super::super::book::{self, Answered};
use super::super::wire::{self, Send};
use super::{Action, Conn, Connector, Ends, PROBE, STOP};
use crate::clock::Instant;

/// How long a message waits for the event that it may answer. The agent gives up after 30 s.
const EARLY: Duration = Duration::from_secs(10);
/// Messages that wait at once.
const EARLIES: usize = 64;

/// A final message in a thread. In a thread no name tells what it answers, and the event may be on its way to
/// us again, from a worker before this one. Once an event of that thread has come, no other can.
#[derive(Debug)]
pub(super) struct Early {
    conn: Conn,
    request: String,
    platform: String,
    send: Send,
    until: Instant,
}

impl Connector {
    /// An event has come again: its first copy may be answered already.
    pub(super) fn answered_early(&mut self, id: EventId, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.book.entries.get(&id) else { return };
        let source = &entry.source;
        let found = self.early.iter().position(|it| {
            it.platform == source.platform
                && it.send.chat_id == source.chat_id
                && it.send.thread_id == source.thread_id
        });
        if let Some(at) = found {
            let Early { conn, request, platform, send, .. } = self.early.remove(at);
            tracing::info!(event_id = id.0, "its first copy was answered meanwhile");
            self.pass(conn, request, &platform, &send, now, out);
        }
    }

    /// What has waited long enough is no answer.
    pub(super) fn let_go(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(at) = self.early.iter().position(|it| it.until <= now) {
            let Early { conn, request, platform, send, .. } = self.early.remove(at);
            self.pass(conn, request, &platform, &send, now, out);
        }
    }

    /// A message of the agent.
    pub(super) fn send(
        &mut self,
        conn: Conn,
        request: String,
        platform: Option<String>,
        send: &Send,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let platform = platform.or_else(|| self.live.as_ref()?.platforms.first().cloned());
        let platform = platform.unwrap_or_default();
        if send.chat_id.starts_with(PROBE) {
            out.push(Action::Line(conn, wire::accepted(&request, &send.chat_id)));
            self.probed(conn, &send.chat_id, now, out);
            return;
        }
        let stopped = send.reply_to.as_ref().and_then(|id| id.strip_prefix(STOP));
        if let Some(id) = stopped {
            out.push(Action::Line(conn, wire::accepted(&request, "stopped")));
            let id = id.parse().map(EventId).ok().filter(|_| send.is_final);
            if let Some(event_id) = id.filter(|id| self.book.done(*id)) {
                out.push(Action::Say(FromWorker::Ack { event_id }));
            }
            return;
        }
        let event = send.is_final.then(|| self.book.answered_by(&platform, send)).flatten();
        if let Some(id) = event
            && refuses_work(&send.text)
        {
            out.push(Action::Line(conn, wire::accepted(&request, "held")));
            self.refuse(id, "the agent is shutting down", out);
            self.leave("it is shutting down", now, out);
            return;
        }
        if let Some(id) = event
            && says_unprocessed(&send.text)
        {
            out.push(Action::Line(conn, wire::accepted(&request, "held")));
            self.book.entries.remove(&id);
            let reason = "the agent says that it did not begin".to_owned();
            out.push(Action::Say(FromWorker::Nack { event_id: id, reason, after_ms: None }));
            return;
        }
        if event.is_none() && send.is_final && self.book.is_of_another_copy(send) {
            tracing::warn!(
                chat = send.chat_id,
                "the answer to a second copy of an answered message; not passed on"
            );
            out.push(Action::Line(conn, wire::accepted(&request, "answered")));
            return;
        }
        let may_be_early = event.is_none()
            && send.is_final
            && send.thread_id.is_some()
            && now < self.former_until
            && !self.book.has_heard(&platform, send)
            && self.early.len() < EARLIES;
        if may_be_early {
            let (send, until) = (send.clone(), now + EARLY);
            self.early.push(Early { conn, request, platform, send, until });
            return;
        }
        self.pass(conn, request, &platform, send, now, out);
    }

    /// It goes to the chat, as the answer to an event or as words of its own.
    fn pass(
        &mut self,
        conn: Conn,
        request: String,
        platform: &str,
        send: &Send,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let event = send.is_final.then(|| self.book.answered_by(platform, send)).flatten();
        if send.text.trim().is_empty() || request.is_empty() || request.len() > 100 {
            out.push(Action::Line(conn, wire::failed(&request, "nothing to send")));
            return;
        }
        let answer = event.and_then(|id| Some((Ends::Event(id), self.book.answer(id, send)?)));
        let words = || {
            let lane = self.book.lane(platform, send, &self.rules.platforms)?;
            let own = (format!("relay:{request}"), Ends::Nothing);
            let (key, ends) = self.of_a_former_copy(&lane.instance, send, now).unwrap_or(own);
            let (reply_to, text) = (send.reply_to.clone(), send.text.clone());
            Some((ends, Reply { key, lane, reply_to, content: Content::text(text) }))
        };
        let Some((ends, reply)) = answer.or_else(words) else {
            out.push(Action::Line(conn, wire::failed(&request, "chat not found")));
            return;
        };
        if let Ends::Message(answered) = &ends {
            self.book.answering((**answered).clone());
        }
        out.push(Action::Submit { conn, request, ends, reply: Box::new(reply) });
    }

    /// The answer to an event that a former worker sent and that is not offered again yet, or that was given up:
    /// it gets the key that the answer to the second copy would get.
    fn of_a_former_copy(
        &self,
        instance: &Instance,
        send: &Send,
        now: Instant,
    ) -> Option<(String, Ends)> {
        // In a thread the target is its root, which many answers share.
        let message =
            send.reply_to.as_ref().filter(|_| send.is_final && send.thread_id.is_none())?;
        let may_be =
            now < self.former_until || self.book.given_up(&send.chat_id, message).is_some();
        // What is said once more in the same turn is no repetition.
        (may_be && !self.book.is_answered(&send.chat_id, message)).then(|| {
            let answered = Answered {
                instance: instance.clone(),
                chat_id: send.chat_id.clone(),
                message_id: message.clone(),
                copy: send.copy.clone(),
            };
            let key = book::key(instance, &send.chat_id, message);
            (key, Ends::Message(Box::new(answered)))
        })
    }

    /// The store has a message, or not.
    pub(super) fn judged(
        &mut self,
        conn: Conn,
        request: &str,
        ends: Ends,
        verdict: Option<ReplyVerdict>,
        out: &mut Vec<Action>,
    ) {
        let accepted = matches!(verdict, Some(ReplyVerdict::Accepted(_)));
        let told = match verdict {
            Some(ReplyVerdict::Accepted(receipt)) => {
                wire::accepted(request, &receipt.id.to_string())
            }
            Some(ReplyVerdict::Rejected(why)) => wire::failed(request, &why),
            // The agent sends it again.
            Some(ReplyVerdict::Refused) | None => {
                wire::failed(request, "network: the gateway cannot store it now")
            }
        };
        out.push(Action::Line(conn, told));
        if let Ends::Message(answered) = &ends {
            self.book.not_answering(answered);
        }
        match ends {
            Ends::Event(id) if !accepted => self.refuse(id, "its answer could not be stored", out),
            Ends::Event(id) if self.book.done(id) => {
                out.push(Action::Say(FromWorker::Ack { event_id: id }));
            }
            Ends::Message(answered) if accepted => {
                // It may wait to be offered again.
                let Answered { chat_id, message_id, .. } = &*answered;
                if let Some(event_id) = self.book.given_up(chat_id, message_id) {
                    out.push(Action::Say(FromWorker::Ack { event_id }));
                }
                self.book.answered(*answered);
            }
            Ends::Event(_) | Ends::Message(_) | Ends::Nothing => {}
        }
    }
}

/// What the agent says, in some language, instead of working while it shuts down.
fn refuses_work(text: &str) -> bool {
    let start: String = text.chars().take(16).collect();
    start.starts_with('⏳') && start.contains("Gateway")
}

/// What the agent says instead of an answer when a turn ended before it began, as when it is told to end:
/// the person is asked to send the message again, which is our work.
fn says_unprocessed(text: &str) -> bool {
    text.starts_with("⚠️ Your message w") && text.ends_with("Please send it again.")
}

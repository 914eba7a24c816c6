//! Telling the handlers of hooks what happens, and what they may say in return.
//!
//! Without `[hooks]` none of this costs anything. An occasion is told after the fact and waited for by
//! nobody.

use std::hash::Hasher;
use std::time::{Duration, Instant};

use protocol::control::{HooksStatus, Refusal, SendAsked};
use protocol::event::{ChatType, Inbound, Receipt, Reply as Said, ReplyState};
use protocol::frame;
use protocol::hook::{Failure, HookEvent};
use protocol::id::{Instance, Lane, OutboundId, ParkedId, Seq, hex};
use protocol::rpc::Message;
use protocol::secret;
use protocol::worker::{Outside, ToWorker};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::Gateway;
use super::desk::{Desk, HooksDesk, Turn};
use super::outbound::KEY_TAKEN;
use super::tickets::Pending;
use crate::clock;
use crate::exit::Code;
use crate::link::Reply;
use crate::policy::lifecycle::Phase;
use crate::policy::outbox::Input;
use crate::store::{Answer, Beside, Finished, Op, Parked, Payload};

/// The instance that tells handlers.
const HOOKS: &str = "hooks";
/// The longest that a handler waits for what became of its message.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Of what was said, at most so many bytes.
const TEXT_MAX: usize = 16 * 1024;

/// A handler that waits for the end of what it sent.
#[derive(Debug)]
pub(super) struct Sender {
    id: OutboundId,
    pub(super) until: Instant,
    receipt: Receipt,
    reply: Reply,
}

/// Whom a reply answers: kept with it until it is at its end, in this process or in a later one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answered {
    chat_type: Option<ChatType>,
    chat_name: Option<String>,
    user_id: Option<String>,
    user_name: Option<String>,
    event_id: Option<String>,
    attempt: Option<u32>,
}

/// Whom a reply to the event that `told` is about answers, as it is kept with the reply.
pub(super) fn answers(told: &HookEvent) -> Option<String> {
    let HookEvent { chat_type, chat_name, user_id, user_name, event_id, attempt, .. } =
        told.clone();
    let answered = Answered { chat_type, chat_name, user_id, user_name, event_id, attempt };
    serde_json::to_string(&answered).ok()
}

impl HooksDesk {
    /// For `ctl status`.
    pub(super) fn status(&self) -> HooksStatus {
        HooksStatus {
            waiting: self.backlog.waiting() as u64,
            told: self.told,
            failed: self.failed,
            dropped: self.backlog.dropped(),
            last_failure: self.last_failure.clone(),
        }
    }
}

impl Gateway {
    /// Where handlers are told, if there are any.
    fn hooks(&self) -> Option<usize> {
        let index = self.by_name.get(&Instance::new(HOOKS).ok()?).copied()?;
        let slot = self.slots.get(index)?;
        (!slot.removed && matches!(slot.desk, Desk::Hooks(_))).then_some(index)
    }

    /// Tells the handlers that want to know.
    pub(super) fn hook(&mut self, mut event: HookEvent) {
        event.reason = event.reason.map(secret::cleaned);
        if let (Some(instance), Some(chat), Some(message)) =
            (&event.instance, &event.chat_id, &event.message_id)
        {
            self.reach.told(instance, chat, message);
        }
        if let (Some(instance), Some(chat)) = (&event.instance, &event.chat_id) {
            event.chat_type = self.reach.kind(instance, chat, event.chat_type);
        }
        let Some(index) = self.hooks() else { return };
        let Some(Desk::Hooks(desk)) = self.desk(index) else { return };
        if let Some(gone) = desk.backlog.offer(Box::new(event)) {
            let dropped = desk.backlog.dropped();
            if dropped.is_power_of_two() {
                tracing::error!(
                    dropped,
                    event = gone.event,
                    chat = gone.chat_id,
                    "handlers of hooks are too slow: the oldest occasion was dropped"
                );
            }
        }
        self.pass_on(index);
    }

    fn pass_on(&mut self, index: usize) {
        while self.slots.get_mut(index).is_some_and(|slot| slot.current_link().is_some())
            && let Some(Desk::Hooks(desk)) = self.desk(index)
        {
            let Some((number, event)) = desk.backlog.send() else { return };
            let Some(link) = self.slots.get_mut(index).and_then(|slot| slot.current_link()) else {
                return;
            };
            link.handle.send(ToWorker::Hook { seq: Seq(number), event });
        }
    }

    /// The worker listens.
    pub(super) fn hooks_up(&mut self, index: usize) {
        if let Some(Desk::Hooks(desk)) = self.desk(index) {
            desk.backlog.up();
            self.pass_on(index);
        }
    }

    /// The worker is gone.
    pub(super) fn hooks_down(&mut self, index: usize) {
        if let Some(Desk::Hooks(desk)) = self.desk(index) {
            let lost = desk.backlog.down();
            if lost > 0 {
                tracing::error!(lost, "the handlers of hooks ended with these occasions");
            }
        }
    }

    /// Handlers were told.
    pub(super) fn hook_done(&mut self, index: usize, seq: Seq, told: u32, failures: Vec<Failure>) {
        let Some(Desk::Hooks(desk)) = self.desk(index) else { return };
        if !desk.backlog.done(seq.0) {
            return;
        }
        desk.told += u64::from(told);
        for Failure { hook, reason } in failures {
            desk.failed += 1;
            desk.last_failure = Some(format!("{hook}: {reason}"));
        }
        let (failed, last) = (desk.failed, desk.last_failure.clone());
        if failed > desk.announced
            && let Some(last) = last
        {
            desk.announced = failed;
            self.announce_hook_failed(&last);
        }
        self.pass_on(index);
    }

    /// An occasion in a conversation.
    fn in_lane(&self, kind: &str, lane: &Lane) -> HookEvent {
        let thread = lane.thread_id.as_ref().map(|thread| format!(":{thread}"));
        let session = format!("{}:{}{}", lane.instance, lane.chat_id, thread.unwrap_or_default());
        HookEvent {
            instance: Some(lane.instance.to_string()),
            platform: Some(self.platform_of(&lane.instance)),
            chat_id: Some(lane.chat_id.clone()),
            thread_id: lane.thread_id.clone(),
            session_id: Some(session),
            reply_token: Some(self.token(&lane.instance, &lane.chat_id)),
            socket: Some(self.paths.socket().display().to_string()),
            ..HookEvent::new(kind, clock::unix_ms())
        }
    }

    /// An occasion about an event; `None`: nobody wants to know.
    pub(super) fn occasion(&self, kind: &str, lane: &Lane, event: &Inbound) -> Option<HookEvent> {
        self.hooks()?;
        Some(HookEvent {
            chat_type: Some(event.chat_type),
            chat_name: event.chat_name.clone(),
            user_id: Some(event.sender.user_id.clone()),
            user_name: event.sender.name.clone(),
            message_id: event.message_id.clone(),
            reply_to: event.reply_to.clone(),
            message: Some(clipped(&event.text)),
            ..self.in_lane(kind, lane)
        })
    }

    /// An event is set aside.
    pub(super) fn hook_parked(&mut self, agent: usize, parked: Parked, payload: Payload) {
        let ParkedId::Event(id) = parked.id else { return };
        let kind = "message:parked";
        let told = match payload {
            Payload::Event(Some(event)) => self.occasion(kind, &parked.lane, &event),
            Payload::Event(None) | Payload::Reply(_) => {
                self.hooks().map(|_| self.in_lane(kind, &parked.lane))
            }
        };
        let Some(told) = told else { return };
        self.hook(HookEvent {
            event_id: Some(id.to_string()),
            attempt: (parked.attempts > 0).then_some(parked.attempts),
            agent: self.slots.get(agent).map(|slot| slot.name.to_string()),
            reason: Some(parked.reason),
            ..told
        });
    }

    /// The turn of an event is over.
    pub(super) fn turn_over(&mut self, turn: Turn, outcome: &str, reason: Option<&str>) {
        let Some(told) = turn.told else { return };
        let said: Vec<String> = turn.replies.into_iter().map(|(_, text)| text).collect();
        let now = clock::unix_ms();
        let end = HookEvent {
            event: "agent:end".into(),
            time_ms: now,
            response: (!said.is_empty()).then(|| clipped(&said.join("\n\n"))),
            outcome: Some(outcome.into()),
            reason: reason.map(str::to_owned),
            ..told
        };
        let failed = matches!(outcome, "failed" | "parked");
        let error = failed.then(|| HookEvent { event: "agent:error".into(), ..end.clone() });
        self.hook(end);
        if let Some(error) = error {
            self.hook(error);
        }
    }

    /// A reply came to its end.
    pub(super) fn hook_reply(&mut self, finished: &Finished) {
        let Finished { agent, receipt, lane, reply_to, text, answers } = finished;
        if self.hooks().is_none() {
            return;
        }
        let kind = match receipt.state {
            ReplyState::Sent => "message:sent",
            ReplyState::Failed | ReplyState::Unknown => "message:failed",
            ReplyState::Waiting | ReplyState::Sending => return,
        };
        let answered = answers.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let answered: Answered = answered.unwrap_or_default();
        let event = HookEvent {
            chat_type: answered.chat_type,
            chat_name: answered.chat_name,
            user_id: answered.user_id,
            user_name: answered.user_name,
            event_id: answered.event_id,
            attempt: answered.attempt,
            message_id: receipt.message_ids.first().cloned(),
            message_ids: Some(receipt.message_ids.clone()),
            reply_to: reply_to.clone(),
            message: Some(clipped(text)),
            agent: Some(agent.to_string()),
            reason: receipt.reason.clone(),
            ..self.in_lane(kind, lane)
        };
        self.hook(event);
    }

    /// The phase of an instance is another.
    pub(super) fn hook_phase(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (kind, reason) = match slot.life.phase() {
            Phase::Held { .. } if slot.life.is_held_again() => return,
            Phase::Held { reason, .. } => ("worker:held", Some(reason.clone())),
            Phase::Ready { .. } if slot.starts > 1 => {
                ("worker:restarted", slot.exits.front().map(|exit| exit.cause.clone()))
            }
            _ => return,
        };
        self.hook_instance(index, kind, reason);
    }

    /// Something about an instance.
    pub(super) fn hook_instance(&mut self, index: usize, kind: &str, reason: Option<String>) {
        let Some(slot) = self.slots.get(index) else { return };
        let name = slot.name.clone();
        let is_platform = matches!(slot.desk, Desk::Platform(_));
        let is_agent = matches!(slot.desk, Desk::Agent(_));
        let event = HookEvent {
            platform: is_platform.then(|| self.platform_of(&name)),
            agent: is_agent.then(|| name.to_string()),
            instance: Some(name.to_string()),
            reason,
            ..HookEvent::new(kind, clock::unix_ms())
        };
        self.hook(event);
    }

    /// The connection of a platform may have changed.
    pub(super) fn hook_outside(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !matches!(slot.desk, Desk::Platform(_)) {
            return;
        }
        let up = matches!(slot.outside, Some(Outside::Up | Outside::Limited { .. }));
        if std::mem::replace(&mut slot.told_up, up) == up {
            return;
        }
        let reason = match &slot.outside {
            Some(Outside::Down { reason, .. } | Outside::Conflict { reason, .. }) => {
                Some(reason.clone())
            }
            Some(Outside::Up | Outside::Limited { .. }) => None,
            None => Some("its process is gone".to_owned()),
        };
        let kind = if up { "platform:connected" } else { "platform:disconnected" };
        self.hook_instance(index, kind, reason);
    }

    /// The supervisor itself.
    pub(super) fn hook_gateway(&mut self, kind: &str) {
        let platforms = self.slots.iter().filter(|slot| !slot.removed);
        let platforms = platforms.filter(|slot| matches!(slot.desk, Desk::Platform(_)));
        let platforms = platforms.map(|slot| slot.name.to_string()).collect();
        self.hook(HookEvent {
            platforms: Some(platforms),
            ..HookEvent::new(kind, clock::unix_ms())
        });
    }

    /// What lets its holder speak in one chat, as long as this supervisor lives.
    fn token(&self, instance: &Instance, chat_id: &str) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.token_key);
        hasher.write(instance.as_str().as_bytes());
        hasher.write_u8(0);
        hasher.write(chat_id.as_bytes());
        hex(&hasher.finish128().as_bytes())
    }

    /// A handler says something.
    pub(super) fn send_asked(&mut self, asked: SendAsked, reply: Reply) {
        let SendAsked { token, wait_ms, send } = asked;
        let refuse = |code: Code, message: String, hint: Option<&str>| Refusal {
            code: code.number(),
            message,
            hint: hint.map(str::to_owned),
        };
        let instance = match Instance::new(send.instance.clone()) {
            Ok(instance) => instance,
            Err(e) => return reply.refuse(refuse(Code::Usage, e.to_string(), None)),
        };
        let ours = self.token(&instance, &send.chat_id);
        // Compared by a hash of both: how long it takes tells nothing.
        let same = self.token(&instance, &token) == self.token(&instance, &ours);
        if !same {
            let hint = "use the reply_token of an occasion in this very chat, since the last start";
            let message =
                format!("send to {} chat {}: the token does not allow it", instance, send.chat_id);
            return reply.refuse(refuse(Code::NoPermission, message, Some(hint)));
        }
        if self.platform(&instance).is_none() {
            let message = format!("no platform instance is called {:?}", instance.as_str());
            return reply.refuse(refuse(Code::Usage, message, None));
        }
        if send.key.is_empty() || send.key.len() > 200 {
            let message = "a key has 1 to 200 bytes".to_owned();
            return reply.refuse(refuse(Code::Usage, message, None));
        }
        let content = match send.content() {
            Ok(content) => content,
            Err(why) => return reply.refuse(refuse(Code::Usage, why, None)),
        };
        if !self.reach.allows(instance.as_str(), &send.chat_id, &content.act) {
            let message = "touch that message: it is none of a handler's in this chat".to_owned();
            let hint =
                "a handler may change what handlers have said, and react to what it was told about";
            return reply.refuse(refuse(Code::NoPermission, message, Some(hint)));
        }
        let Ok(agent) = Instance::new(HOOKS) else { return };
        let lane = Lane { instance, chat_id: send.chat_id, thread_id: send.thread_id };
        let said = Box::new(Said { key: send.key, lane, reply_to: send.reply_to, content });
        let bytes = frame::size(&*said).unwrap_or(usize::MAX);
        if bytes > frame::CARRIED_MAX {
            let most = frame::CARRIED_MAX;
            let message = format!("the reply has {bytes} bytes, at most {most} are possible");
            return reply.refuse(refuse(Code::Usage, message, Some("send it in several")));
        }
        let ticket = self.tickets.name();
        let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
        self.tickets.hold(ticket, Pending::HooksReply { wait, reply });
        let beside =
            Beside { answers: None, account: self.leaves_through(&said.lane.instance, None) };
        self.store.submit(Op::AcceptReply {
            ticket,
            agent,
            reply: said,
            note: None,
            beside,
            now_ms: clock::unix_ms(),
        });
    }

    /// The store has it, or not.
    pub(super) fn hooks_reply_accepted(&mut self, wait: Duration, reply: Reply, answer: Answer) {
        if matches!(answer, Answer::KeyTaken) {
            return reply.refuse(Refusal {
                code: Code::Usage.number(),
                message: format!("send this: {KEY_TAKEN}"),
                hint: None,
            });
        }
        let Answer::Reply { receipt, chat, fresh } = answer else {
            tracing::error!(?answer, "a handler's message was not stored");
            return reply.refuse(Refusal {
                code: Code::Io.number(),
                message: "keep the message: the store did not take it".into(),
                hint: Some("try again".into()),
            });
        };
        if fresh && let Some(platform) = self.by_name.get(&chat.instance).copied() {
            self.send(platform, Input::Accepted(receipt.id.0, chat));
        }
        let ended = !matches!(receipt.state, ReplyState::Waiting | ReplyState::Sending);
        if ended || wait.is_zero() {
            return reply.answer(&Message::from(receipt));
        }
        let until = clock::now() + wait;
        self.senders.push(Sender { id: receipt.id, until, receipt, reply });
    }

    /// What a handler has said is within its reach from now on.
    pub(super) fn note_said(&mut self, lane: &Lane, agent: &Instance, receipt: &Receipt) {
        if agent.as_str() == HOOKS {
            for id in &receipt.message_ids {
                self.reach.said(lane.instance.as_str(), &lane.chat_id, id);
            }
        }
    }

    /// A reply ended; a handler may wait for that.
    pub(super) fn tell_senders(&mut self, receipt: &Receipt) {
        for sender in self.senders.extract_if(.., |sender| sender.id == receipt.id) {
            sender.reply.answer(&Message::from(receipt.clone()));
        }
    }

    /// Who has waited long enough hears how far it has come.
    pub(super) fn tick_senders(&mut self, now: Instant) {
        for sender in self.senders.extract_if(.., |sender| sender.until <= now) {
            sender.reply.answer(&Message::from(sender.receipt));
        }
    }
}

fn clipped(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default().to_owned()
}

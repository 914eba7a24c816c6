//! From an agent's reply to the platform: accepting it, performing what `policy::outbox` decides, and
//! telling the agent how it ended.

use std::time::Duration;

use protocol::event::{Note, Outcome, Receipt, Reply, ReplyState};
use protocol::id::{EventId, Generation, Instance, OutboundId, Seq};
use protocol::rpc::KEY_MAX;
use protocol::worker::{ReplyVerdict, ToWorker};

use super::Gateway;
use super::desk::Desk;
use super::tickets::Pending;
use super::welcome::WINDOW;
use crate::clock;
use crate::policy::outbox::{Action, Begun, End, Input};
use crate::store::{Answer, Beside, Finished, Op, SendEnd, Sending};

/// What is told to whoever gives a reply the key of one in another chat.
pub(super) const KEY_TAKEN: &str = "its key is that of an earlier message in another chat: give each \
    message a key of its own, for example one that begins with the event's id";

impl Gateway {
    /// An agent hands a reply in.
    pub(super) fn reply(
        &mut self,
        index: usize,
        generation: Generation,
        seq: Seq,
        reply: Box<Reply>,
        note: Option<Note>,
    ) {
        let is_platform = self.platform(&reply.lane.instance).is_some();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let agent = slot.name.clone();
        if !matches!(slot.desk, Desk::Agent(_)) {
            return;
        }
        if let Some(link) = slot.link.as_mut().filter(|link| link.generation == generation) {
            link.unanswered += 1;
            if link.unanswered > WINDOW {
                tracing::error!(%agent, "a worker sent more replies than its window; link cut");
                link.handle.cut();
                return;
            }
        }
        let wrong = if is_platform {
            (reply.key.is_empty() || reply.key.len() > KEY_MAX)
                .then(|| format!("a key has 1 to {KEY_MAX} bytes"))
        } else {
            Some(format!("no platform instance is called {:?}", reply.lane.instance.as_str()))
        };
        if let Some(why) = wrong {
            self.reply_verdict(index, generation, seq, ReplyVerdict::Rejected(why));
            return;
        }
        let (answers, event) = self.note_reply(index, &reply);
        let account = self.leaves_through(&reply.lane.instance, event);
        let beside = Beside { answers, account };
        let ticket = self.tickets.name();
        self.tickets.hold(ticket, Pending::AcceptReply { slot: index, generation, seq });
        let now_ms = clock::unix_ms();
        self.store.submit(Op::AcceptReply { ticket, agent, reply, note, beside, now_ms });
    }

    /// The store has it, or not.
    pub(super) fn reply_accepted(
        &mut self,
        index: usize,
        generation: Generation,
        seq: Seq,
        answer: Answer,
    ) {
        let verdict = match answer {
            Answer::Reply { receipt, chat, fresh } => {
                if fresh && let Some(platform) = self.by_name.get(&chat.instance).copied() {
                    self.draft_over(index, &receipt.key, platform);
                    self.send(platform, Input::Accepted(receipt.id.0, chat));
                }
                ReplyVerdict::Accepted(receipt)
            }
            Answer::KeyTaken => ReplyVerdict::Rejected(KEY_TAKEN.into()),
            other => {
                tracing::error!(answer = ?other, "a reply was not stored");
                if let Some(desk) = self.agent_desk(index) {
                    desk.refused += 1;
                }
                ReplyVerdict::Refused
            }
        };
        self.reply_verdict(index, generation, seq, verdict);
    }

    fn reply_verdict(
        &mut self,
        index: usize,
        generation: Generation,
        seq: Seq,
        verdict: ReplyVerdict,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(link) = slot.link.as_mut().filter(|link| link.generation == generation) {
            link.unanswered = link.unanswered.saturating_sub(1);
            link.handle.send(ToWorker::ReplyVerdict { seq, verdict });
        }
    }

    /// Feeds a platform's outbox and performs what follows.
    pub(super) fn send(&mut self, index: usize, input: Input) {
        self.send_with(index, input, None);
    }

    fn send_with(&mut self, index: usize, input: Input, mut payload: Option<Box<Sending>>) {
        let now = clock::now();
        let Some(Desk::Platform(desk)) = self.desk(index) else { return };
        for action in desk.outbox.on(input, now) {
            match action {
                Action::Scan { after } => {
                    self.ask(Pending::ReplyHeads { slot: index, after: OutboundId(after) });
                }
                Action::Load(load) => self.ask(Pending::NextReply {
                    slot: index,
                    chat: load.lane,
                    after: OutboundId(load.after),
                }),
                Action::Begin(id) => {
                    self.ask(Pending::BeginSend { slot: index, id: OutboundId(id) });
                }
                Action::Send(_) => {
                    let Some(sending) = payload.take() else { continue };
                    let mut outbound = sending.outbound;
                    if let Some(Desk::Platform(desk)) = self.desk(index)
                        && let Some(key) = desk.drafts.of(&outbound.draft_key)
                    {
                        outbound.draft_key = key;
                    }
                    let link = self.slots.get_mut(index).and_then(|slot| slot.current_link());
                    if let Some(link) = link {
                        link.handle.send(ToWorker::Send(Box::new(outbound)));
                    }
                }
                Action::Again(id) => self.finish(index, id, SendEnd::Waiting),
                Action::End(id, end) => {
                    let end = match end {
                        End::Sent(message_ids) => SendEnd::Sent { message_ids },
                        End::Failed(reason) => SendEnd::Failed { reason },
                        End::Unknown(reason) => SendEnd::Unknown { reason },
                        End::Partly(message_ids, rest, reason) => {
                            SendEnd::Partly { message_ids, rest, reason }
                        }
                    };
                    self.finish(index, id, end);
                }
            }
        }
    }

    /// The account that a reply leaves through: the one that has heard what it answers.
    pub(super) fn leaves_through(
        &self,
        instance: &Instance,
        event: Option<EventId>,
    ) -> Option<String> {
        let slot = self.slots.get(*self.by_name.get(instance)?)?;
        let Desk::Platform(desk) = &slot.desk else { return None };
        let former = desk.heard.iter().find(|(_, upto)| event.is_some_and(|event| event <= *upto));
        former.map(|(account, _)| account.clone()).or_else(|| desk.settings.identity())
    }

    /// Who hears for a platform from now on. No worker of it runs yet that another account was for.
    pub(super) fn say_who_hears(&mut self, index: usize) {
        let Some(Desk::Platform(desk)) = self.desk(index) else { return };
        if let Some(account) = desk.settings.identity() {
            self.ask(Pending::Account { slot: index, account });
        }
    }

    /// Who did before.
    pub(super) fn heard_before(&mut self, index: usize, answer: Answer) {
        match (self.desk(index), answer) {
            (Some(Desk::Platform(desk)), Answer::Heard(former)) => desk.heard = former,
            (_, answer) => tracing::error!(?answer, "who heard before is not known"),
        }
    }

    /// How a reply ends that is another account's (F40): the one that is configured now may not even know the
    /// chat, and people would hear a stranger.
    fn strays(&self, index: usize, sending: &Sending) -> Option<SendEnd> {
        let Some(Desk::Platform(desk)) = self.slots.get(index).map(|slot| &slot.desk) else {
            return None;
        };
        let (own, wanted) = (desk.settings.identity()?, sending.account.as_deref()?);
        if own == wanted {
            return None;
        }
        let reason = format!("it was to leave through {wanted}; configured now is {own}");
        Some(if sending.ambiguous {
            SendEnd::Unknown { reason }
        } else {
            SendEnd::Failed { reason }
        })
    }

    fn finish(&mut self, index: usize, id: u64, end: SendEnd) {
        self.ask(Pending::FinishSend { slot: index, id: OutboundId(id), end });
    }

    /// A platform answered an attempt, the last one or one before.
    pub(super) fn outcome(&mut self, index: usize, id: OutboundId, outcome: Outcome) {
        self.send(index, Input::Outcome(id.0, outcome));
    }

    /// The store answers about the outbox.
    pub(super) fn outbox_answered(&mut self, index: usize, pending: Pending, answer: Answer) {
        let input = match (pending, answer) {
            (_, Answer::ReplyHeads { found, at_end }) => {
                let found = found.into_iter().map(|head| (head.id.0, head.chat)).collect();
                Input::Scanned { found, at_end }
            }
            (Pending::NextReply { chat, .. }, Answer::NextReply(found)) => {
                Input::Loaded(chat, found.map(|id| id.0))
            }
            (_, Answer::Sending(sending)) => {
                if let Some(end) = self.strays(index, &sending) {
                    self.finish(index, sending.outbound.id.0, end);
                    return;
                }
                // Both of one clock, which may have been set since.
                let since = |ms: i64| {
                    Duration::from_millis(sending.now_ms.saturating_sub(ms).max(0).unsigned_abs())
                };
                let begun = Begun {
                    id: sending.outbound.id.0,
                    attempt: sending.outbound.attempt,
                    age: since(sending.created_ms),
                    ambiguous: sending.ambiguous.then(|| since(sending.first_attempt_ms)),
                };
                self.send_with(index, Input::Begun(begun), Some(sending));
                return;
            }
            (Pending::BeginSend { .. }, Answer::Unsendable(id)) => {
                let reason = "this program cannot read it".to_owned();
                self.finish(index, id.0, SendEnd::Failed { reason });
                return;
            }
            (Pending::FinishSend { id, end, .. }, Answer::Finished(finished)) => {
                if end == SendEnd::Waiting {
                    return;
                }
                self.hook_reply(&finished);
                let Finished { agent, receipt, lane, .. } = *finished;
                self.count(index, &receipt);
                self.note_said(&lane, &agent, &receipt);
                self.tell_senders(&receipt);
                self.tell_agent(&agent, receipt);
                Input::Ended(id.0)
            }
            (Pending::BeginSend { id, .. } | Pending::FinishSend { id, .. }, Answer::Gone) => {
                Input::Ended(id.0)
            }
            (pending, answer) => {
                tracing::error!(?pending, ?answer, "the store cannot answer; trying again");
                self.tickets.postpone(pending, clock::now());
                return;
            }
        };
        self.send(index, input);
    }

    fn count(&mut self, index: usize, receipt: &Receipt) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Desk::Platform(desk) = &mut slot.desk else { return };
        match receipt.state {
            ReplyState::Sent => desk.sent += 1,
            ReplyState::Failed => desk.failed += 1,
            ReplyState::Unknown => desk.unknown += 1,
            ReplyState::Waiting | ReplyState::Sending => {}
        }
        if receipt.state != ReplyState::Sent {
            let (id, reason) = (receipt.id.0, receipt.reason.as_deref());
            tracing::warn!(instance = %slot.name, id, state = ?receipt.state, reason, "a reply ended");
        }
    }

    /// How replies ended that an agent was not told of while it was away.
    pub(super) fn untold(&mut self, index: usize, answer: Answer) {
        let Answer::Untold(receipts) = answer else {
            tracing::error!(?answer, "the store does not know what an agent was not told");
            return;
        };
        let Some(after) = receipts.last().map(|receipt| receipt.id) else { return };
        let Some(link) = self.slots.get_mut(index).and_then(|slot| slot.current_link()) else {
            return;
        };
        for receipt in receipts {
            link.handle.send(ToWorker::Receipt(receipt));
        }
        self.ask(Pending::Untold { slot: index, after });
    }

    fn tell_agent(&mut self, agent: &Instance, receipt: Receipt) {
        let slot = self.by_name.get(agent).copied().and_then(|index| self.slots.get_mut(index));
        if let Some(link) = slot.and_then(|slot| slot.current_link()) {
            link.handle.send(ToWorker::Receipt(receipt));
        }
    }
}

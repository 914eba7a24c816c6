//! From a worker's event to the store and back to its verdict.

use protocol::event::{Inbound, SenderKind};
use protocol::hook::HookEvent;
use protocol::id::{Generation, Instance, Lane, Seq};
use protocol::worker::{Cursor, ToWorker, Verdict};

use super::Gateway;
use super::desk::{Desk, PlatformDesk, Refusing};
use super::tickets::{Arrived, Pending};
use super::welcome::WINDOW;
use crate::clock;
use crate::policy::access::Denial;
use crate::policy::bursts;
use crate::policy::told::Word;
use crate::store::{Answer, Op, Quota};

impl Gateway {
    /// An event arrives.
    pub(super) fn inbound(
        &mut self,
        index: usize,
        generation: Generation,
        seq: Seq,
        event: &Inbound,
        cursor: Option<Cursor>,
        former: Option<&str>,
    ) {
        if !self.has_credit(index, generation) {
            return;
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        let instance = slot.name.clone();
        let Desk::Platform(desk) = &mut slot.desk else { return };
        if event.keys.is_empty() {
            tracing::error!(%instance, "an event without a key; refused");
            self.verdict(index, generation, seq, Verdict::Refused);
            return;
        }
        let judged = desk.judge(event, former);
        let behind = judged.err().and_then(|denial| desk.with_message(denial, event, former));
        if let Err(denial) = judged
            && behind.is_none()
        {
            let for_good = desk.access.could_admit(event, former);
            desk.turn_away(&instance, event, denial);
            if denial == Denial::Unpaired {
                self.knock(index, event);
            }
            if !for_good {
                self.verdict(index, generation, seq, Verdict::Denied);
                return;
            }
            let keys = self.store.denied_keys(&instance, event);
            let (ticket, now_ms) = (self.tickets.name(), clock::unix_ms());
            self.tickets.hold(ticket, Pending::Deny { slot: index, generation, seq });
            self.store.submit(Op::Deny { ticket, keys, now_ms });
            return;
        }
        let received_ms = clock::unix_ms();
        desk.last_inbound_ms = Some(received_ms);
        let quota = Quota { events: desk.inbox.max_events, bytes: desk.inbox.max_bytes };
        let own = event.lane(instance.clone());
        let occasion = self.occasion("message:received", &own, event).map(Box::new);
        let arrived = Box::new(self.arrived(own, event, cursor.clone(), occasion));
        let arrival = match behind {
            Some(message_id) => self.store.arrival_behind(&instance, event, &message_id),
            None => self.store.arrival(&instance, event),
        };
        let ticket = self.tickets.name();
        self.tickets.hold(ticket, Pending::Accept { slot: index, generation, seq, arrived });
        self.store.submit(Op::Accept { ticket, arrival, cursor, received_ms, quota });
    }

    /// Counts what is to have a verdict. A worker that sends more than it may is cut off.
    fn has_credit(&mut self, index: usize, generation: Generation) -> bool {
        let Some(slot) = self.slots.get_mut(index) else { return false };
        if let Some(link) = slot.link.as_mut().filter(|link| link.generation == generation) {
            link.unanswered += 1;
            if link.unanswered > WINDOW {
                let instance = &slot.name;
                tracing::error!(%instance, "a worker sent more events than its window; link cut");
                link.handle.cut();
                return false;
            }
        }
        true
    }

    /// A resume point that the platform's acknowledgement waits for.
    pub(super) fn keep(&mut self, index: usize, generation: Generation, seq: Seq, cursor: Cursor) {
        if !self.has_credit(index, generation) {
            return;
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.life.generation() != generation {
            self.verdict(index, generation, seq, Verdict::Refused);
            return;
        }
        slot.cursor = Some(cursor.clone());
        let (ticket, instance) = (self.tickets.name(), slot.name.clone());
        self.tickets.hold(ticket, Pending::Keep { slot: index, generation, seq });
        self.store.submit(Op::SaveCursor { ticket: Some(ticket), instance, cursor });
    }

    /// The store has it, or not.
    pub(super) fn kept(&mut self, index: usize, generation: Generation, seq: Seq, answer: &Answer) {
        let is_durable = matches!(answer, Answer::Kept);
        let verdict = if is_durable { Verdict::Duplicate } else { Verdict::Refused };
        self.verdict(index, generation, seq, verdict);
    }

    fn arrived(
        &self,
        lane: Lane,
        event: &Inbound,
        cursor: Option<Cursor>,
        occasion: Option<Box<HookEvent>>,
    ) -> Arrived {
        let user = event.direct_user().map(str::to_owned);
        let agent = self.agent_of(&lane, user.as_deref());
        let command = self.command_in(agent, event);
        let (is_said, message_id) = (event.kind.is_said(), event.message_id.clone());
        let (is_alone, is_part) = (bursts::is_alone(event), event.album.is_some());
        let sender = event.sender.kind;
        Arrived {
            lane,
            user,
            message_id,
            cursor,
            occasion,
            command,
            is_said,
            is_alone,
            is_part,
            sender,
        }
    }

    /// The store has it, or not.
    pub(super) fn accepted(
        &mut self,
        index: usize,
        generation: Generation,
        seq: Seq,
        mut arrived: Arrived,
        answer: Answer,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let cursor = arrived.cursor.take();
        if matches!(answer, Answer::Accepted { .. } | Answer::Duplicate) && cursor.is_some() {
            // What the next generation goes on from, now that it is durable.
            slot.cursor = cursor;
        }
        let Desk::Platform(desk) = &mut slot.desk else { return };
        if arrived.sender == SenderKind::Bot && !matches!(answer, Answer::Accepted { .. }) {
            desk.loops.take_back(&arrived.lane.chat_id);
        }
        match answer {
            Answer::Accepted { id, user } => {
                desk.accepted += 1;
                desk.refusing = None;
                self.verdict(index, generation, seq, Verdict::Accepted(id));
                if let Some(mut occasion) = arrived.occasion.take() {
                    occasion.event_id = Some(id.to_string());
                    self.hook(*occasion);
                }
                // A conversation is one agent's, also where the event names nobody.
                arrived.user = arrived.user.or(user);
                self.heard(index, id, arrived);
            }
            Answer::Duplicate => {
                desk.duplicates += 1;
                self.verdict(index, generation, seq, Verdict::Duplicate);
            }
            Answer::Unheard => {
                desk.denied += 1;
                self.verdict(index, generation, seq, Verdict::Denied);
            }
            Answer::OverQuota => {
                desk.refused += 1;
                desk.refusing = Some(Refusing::Full);
                if desk.refused.is_power_of_two() {
                    tracing::error!(
                        instance = %slot.name, refused = desk.refused,
                        "as many events wait as may wait; new ones are refused, so that the platform \
                         repeats them. Look after the agent, or raise inbox.max_events or inbox.max_mib"
                    );
                }
                self.verdict(index, generation, seq, Verdict::Refused);
            }
            other => {
                desk.refused += 1;
                desk.refusing = Some(Refusing::Unstored);
                if desk.refused.is_power_of_two() {
                    tracing::error!(
                        instance = %slot.name, answer = ?other, refused = desk.refused,
                        "events are not stored; the platform repeats them"
                    );
                }
                self.verdict(index, generation, seq, Verdict::Refused);
            }
        }
    }

    /// Answers over the link that the event came by, if it is still there.
    pub(super) fn verdict(
        &mut self,
        index: usize,
        generation: Generation,
        seq: Seq,
        verdict: Verdict,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(link) = slot.link.as_mut().filter(|link| link.generation == generation) {
            link.unanswered = link.unanswered.saturating_sub(1);
            link.handle.send(ToWorker::Verdict { seq, verdict });
        }
    }
}

impl PlatformDesk {
    /// Counts what is not heard, and says whose it is where that is news.
    fn turn_away(&mut self, instance: &Instance, event: &Inbound, denial: Denial) {
        let (user, chat) = (event.sender.user_id.as_str(), event.chat_id.as_str());
        let (remedy, now) = (denial.remedy(), clock::now());
        if denial.is_overheard() {
            self.unaddressed += 1;
            match self.bystanders.on(user, denial, now) {
                Word::Sender => {
                    tracing::info!(%instance, user, chat, remedy, "not said to the bot");
                }
                Word::More => tracing::info!(
                    %instance, chat,
                    "more people than are named here do not speak to the bot: for an hour they are counted only"
                ),
                Word::Nothing => {}
            }
        } else {
            self.denied += 1;
            match self.strangers.on(user, denial, now) {
                Word::Sender => tracing::warn!(%instance, user, chat, ?denial, remedy, "denied"),
                Word::More => tracing::warn!(
                    %instance, chat, ?denial,
                    "more senders than are named here are denied: for an hour they are counted only"
                ),
                Word::Nothing => {}
            }
        }
    }
}

//! What the store is asked, and who gets its answers.

use std::time::Duration;

use protocol::control::Decision;
use protocol::worker::Verdict;

use super::Gateway;
use super::desk::Desk;
use super::tickets::Pending;
use crate::clock;
use crate::store::{Answer, Op, Quota};

pub(super) const PURGE_FIRST: Duration = Duration::from_secs(60);
pub(super) const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// How long keys of events and ended replies are remembered: twice what the promise says.
const REMEMBER_MS: i64 = 48 * 3600 * 1000;
/// How long a reply that did not arrive waits for somebody to decide about it.
const KEEP_FAILURES_MS: i64 = 30 * 24 * 3600 * 1000;
/// Lanes looked for at once.
const SCAN: usize = 256;
/// Receipts told at once to an agent that was away.
const UNTOLD: usize = 64;

impl Gateway {
    /// Asks the store, and remembers what for.
    pub(super) fn ask(&mut self, pending: Pending) {
        self.look_at_the_clock();
        let ticket = self.tickets.name();
        let now_ms = clock::unix_ms();
        let op = match &pending {
            Pending::Heads { slot, after } => {
                let Some(Desk::Agent(desk)) = self.slots.get(*slot).map(|slot| &slot.desk) else {
                    return;
                };
                let instances = desk.hears.clone();
                Op::Heads { ticket, instances, after: *after, limit: SCAN }
            }
            Pending::Next { lane, after, .. } => {
                Op::NextInLane { ticket, lane: lane.clone(), after: *after }
            }
            Pending::Begin { slot, id } => {
                Op::Begin { ticket, id: *id, hand: self.hand(*slot, *id) }
            }
            Pending::Beside { slot, id, .. } => {
                let desk = self.slots.get(*slot).map(|slot| &slot.desk);
                let is_shown = matches!(desk, Some(Desk::Agent(desk)) if desk.settings.sees_all());
                Op::Beside { ticket, id: *id, is_shown }
            }
            Pending::Settle { id, .. } => Op::Settle { ticket, id: *id },
            Pending::Park { id, reason, .. } => {
                Op::Park { ticket, id: *id, reason: reason.clone(), now_ms }
            }
            Pending::ReplyHeads { slot, after } => {
                let Some(slot) = self.slots.get(*slot) else { return };
                let instance = slot.name.clone();
                Op::ReplyHeads { ticket, instance, after: *after, limit: SCAN }
            }
            Pending::NextReply { chat, after, .. } => {
                Op::NextReply { ticket, chat: chat.clone(), after: *after }
            }
            Pending::Untold { slot, after } => {
                let Some(slot) = self.slots.get(*slot) else { return };
                let agent = slot.name.clone();
                Op::Untold { ticket, agent, after: *after, limit: UNTOLD }
            }
            Pending::BeginSend { id, .. } => Op::BeginSend { ticket, id: *id, now_ms },
            Pending::FinishSend { id, end, .. } => {
                Op::FinishSend { ticket, id: *id, end: end.clone(), now_ms }
            }
            Pending::Counts { .. } => Op::Counts { ticket },
            Pending::Backup { path, .. } => Op::Backup { ticket, path: path.clone() },
            // One more tells whether there is more.
            Pending::ListWaiting { after, limit, .. } => {
                Op::ListWaiting { ticket, after: *after, limit: *limit + 1 }
            }
            Pending::ListParked { after, limit, .. } => {
                Op::ListParked { ticket, after: *after, limit: *limit }
            }
            Pending::ShowParked { id, .. } => Op::ShowParked { ticket, id: *id },
            Pending::Decide { decision: Decision::Replay, ids, .. } => {
                Op::Replay { ticket, ids: ids.clone(), now_ms }
            }
            Pending::Decide { decision: Decision::Drop, ids, .. } => {
                Op::Discard { ticket, ids: ids.clone() }
            }
            Pending::Purge => {
                let before = now_ms - REMEMBER_MS;
                Op::Purge {
                    ticket,
                    seen_before_ms: before,
                    replies_before_ms: before,
                    failures_before_ms: now_ms - KEEP_FAILURES_MS,
                }
            }
            Pending::Report { slot, event, .. } => {
                let Some(slot) = self.slots.get(*slot) else { return };
                let arrival = self.store.arrival(&slot.name, event);
                let quota = Quota::NONE;
                Op::Accept { ticket, arrival, cursor: None, received_ms: now_ms, quota }
            }
            Pending::Account { slot, account } => {
                let Some(slot) = self.slots.get(*slot) else { return };
                let (instance, account) = (slot.name.clone(), account.clone());
                Op::Account { ticket, instance, account }
            }
            Pending::Grant { grant, .. } => Op::Grant { ticket, grant: grant.clone() },
            Pending::Accept { .. }
            | Pending::Deny { .. }
            | Pending::AcceptReply { .. }
            | Pending::Keep { .. }
            | Pending::OwnReply
            | Pending::HooksReply { .. } => return,
        };
        self.tickets.hold(ticket, pending);
        self.store.submit(op);
    }

    /// The store's answer, to whoever asked.
    pub(super) fn settle(&mut self, pending: Pending, answer: Answer) {
        match pending {
            Pending::Accept { slot, generation, seq, arrived } => {
                self.accepted(slot, generation, seq, *arrived, answer);
            }
            // Where the disk is full it is not noted, and denied all the same.
            Pending::Deny { slot, generation, seq } => {
                self.verdict(slot, generation, seq, Verdict::Denied);
            }
            Pending::AcceptReply { slot, generation, seq } => {
                self.reply_accepted(slot, generation, seq, answer);
            }
            Pending::Keep { slot, generation, seq } => self.kept(slot, generation, seq, &answer),
            Pending::OwnReply => self.own_reply_accepted(answer),
            Pending::HooksReply { wait, reply } => self.hooks_reply_accepted(wait, reply, answer),
            Pending::Grant { slot, grant, subject, reply } => {
                self.granted(slot, &grant, subject, reply, &answer);
            }
            Pending::Counts { reply } => self.counted(reply, answer),
            Pending::Backup { path, reply } => Self::backed_up(path, reply, answer),
            Pending::ListWaiting { limit, reply, .. } => Self::waiting_listed(limit, reply, answer),
            Pending::ListParked { .. } | Pending::ShowParked { .. } | Pending::Decide { .. } => {
                self.parked_answered(pending, answer);
            }
            Pending::Untold { slot, .. } => self.untold(slot, answer),
            Pending::Purge => {
                if let Answer::Purged { more: true, .. } = answer {
                    self.ask(Pending::Purge);
                }
            }
            pending if matches!(answer, Answer::Full) => {
                tracing::error!(?pending, "the disk is full; trying again");
                self.tickets.postpone(pending, clock::now());
            }
            Pending::Account { slot, .. } => self.heard_before(slot, answer),
            Pending::Beside { slot, id, running } => self.goes_beside(slot, id, running, answer),
            Pending::Report { id, event, slot } => self.reported(&id, slot, event, answer),
            Pending::Heads { slot, .. }
            | Pending::Next { slot, .. }
            | Pending::Begin { slot, .. }
            | Pending::Settle { slot, .. }
            | Pending::Park { slot, .. } => self.inbox_answered(slot, pending, answer),
            Pending::ReplyHeads { slot, .. }
            | Pending::NextReply { slot, .. }
            | Pending::BeginSend { slot, .. }
            | Pending::FinishSend { slot, .. } => self.outbox_answered(slot, pending, answer),
        }
    }
}

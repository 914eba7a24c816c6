//! From the inbox to the agent: performing what `policy::delivery` decides.

use std::time::Duration;

use protocol::event::{Delivery, InboundKind, Joined};
use protocol::id::EventId;
use protocol::worker::ToWorker;

use super::Gateway;
use super::desk::Desk;
use super::tickets::Pending;
use crate::clock;
use crate::policy::access::Denial;
use crate::policy::age::{Asked, Verdict};
use crate::policy::bursts;
use crate::policy::delivery::{Action, Input, UNREADABLE};
use crate::store::{Answer, Begun, Follower, Hand, Head, Op, Pause};
use crate::text;

/// Why an event of somebody whom a person has denied meanwhile is set aside.
const DENIED_SINCE: &str = "its sender or its chat was denied since";

impl Gateway {
    /// Feeds an agent's deliveries and performs what follows.
    pub(super) fn deliver(&mut self, index: usize, input: Input) {
        self.deliver_with(index, input, None);
    }

    fn deliver_with(&mut self, index: usize, input: Input, mut payload: Option<Box<Delivery>>) {
        let now = clock::now();
        let Some(Desk::Agent(desk)) = self.desk(index) else { return };
        for action in desk.delivery.on(input, now) {
            let payload = payload.take_if(|read| action == Action::Deliver(read.event_id.0));
            self.perform_delivery(index, action, payload);
        }
    }

    pub(super) fn perform_delivery(
        &mut self,
        index: usize,
        action: Action,
        payload: Option<Box<Delivery>>,
    ) {
        match &action {
            Action::Refund(id) => self.not_at_work(index, *id, "deferred", None),
            Action::Lost(id) => {
                self.not_at_work(
                    index,
                    *id,
                    "deferred",
                    Some("the agent was lost with it and others"),
                );
            }
            Action::Failed { id, reason, .. } => {
                self.not_at_work(index, *id, "failed", Some(reason));
            }
            Action::Settle(id) => {
                if let Some(Desk::Agent(desk)) = self.desk(index) {
                    desk.unfinished.ended(*id);
                }
                self.not_at_work(index, *id, "acknowledged", None);
            }
            Action::Park { id, reason } => {
                self.end_draft(index, *id);
                self.not_at_work(index, *id, "parked", Some(reason));
            }
            Action::Scan { .. }
            | Action::Load(_)
            | Action::Begin(_)
            | Action::Withhold(_)
            | Action::Deliver(_)
            | Action::Settled(_) => {}
        }
        match action {
            Action::Scan { after } => {
                self.ask(Pending::Heads { slot: index, after: EventId(after) });
            }
            Action::Load(load) => {
                self.ask(Pending::Next {
                    slot: index,
                    lane: load.lane,
                    after: EventId(load.after),
                });
            }
            Action::Begin(id) => self.ask(Pending::Begin { slot: index, id: EventId(id) }),
            Action::Deliver(id) => {
                let Some(delivery) = payload else { return };
                self.at_work(index, &delivery);
                let link = self.slots.get_mut(index).and_then(|slot| slot.current_link());
                match link {
                    Some(link) => link.handle.send(ToWorker::Deliver(delivery)),
                    None => {
                        tracing::debug!(event_id = id, "the agent's worker left before its event");
                    }
                }
            }
            Action::Refund(id) | Action::Lost(id) => {
                self.store.submit(Op::Refund { id: EventId(id) });
            }
            Action::Withhold(id) => self.store.submit(Op::Withhold { id: EventId(id) }),
            Action::Failed { id, pause, .. } => {
                let Some(slot) = self.slots.get(index) else { return };
                let pause = Pause {
                    agent: slot.name.clone(),
                    now_ms: clock::unix_ms(),
                    for_ms: i64::try_from(pause.as_millis()).unwrap_or(i64::MAX),
                };
                self.store.submit(Op::Fail { id: EventId(id), pause });
            }
            Action::Settle(id) => {
                self.not_followed(index, id);
                self.ask(Pending::Settle { slot: index, id: EventId(id) });
            }
            Action::Park { id, reason } => {
                if [bursts::WITHDRAWN, bursts::GIVEN_UP].contains(&&*reason) {
                    tracing::info!(event_id = id, reason, "an event is parked");
                } else {
                    tracing::error!(event_id = id, reason, "an event is parked");
                }
                self.not_followed(index, id);
                self.ask(Pending::Park { slot: index, id: EventId(id), reason });
            }
            Action::Settled(id) => {
                let Some(slot) = self.slots.get_mut(index) else { return };
                if let Desk::Agent(desk) = &mut slot.desk {
                    desk.acknowledged += 1;
                }
                if let Some(link) = slot.current_link() {
                    link.handle.send(ToWorker::Settled { event_id: EventId(id) });
                }
            }
        }
    }

    /// The store answers about the inbox.
    pub(super) fn inbox_answered(&mut self, index: usize, pending: Pending, answer: Answer) {
        let input = match (pending, answer) {
            (_, Answer::Heads { found, at_end }) => {
                let upto = found.last().map_or(0, |head| head.id.0);
                let ours =
                    |head: &Head| self.agent_of(&head.lane, head.user.as_deref()) == Some(index);
                let found = found.into_iter().filter(ours);
                let found = found.map(|head| (head.id.0, head.lane)).collect();
                Input::Scanned { found, upto, at_end }
            }
            (Pending::Next { lane, .. }, Answer::Next { found, user }) => {
                let is_ours = self.agent_of(&lane, user.as_deref()) == Some(index);
                Input::Loaded(lane, found.filter(|_| is_ours).map(|id| id.0))
            }
            (_, Answer::Begun(begun)) => {
                if let Some(command) = self.command_in(Some(index), &begun.event) {
                    let message_id = begun.event.message_id.clone();
                    self.obey(Some(index), begun.id, command, &begun.lane, message_id);
                    self.deliver(index, Input::Taken(begun.id.0));
                    return;
                }
                let is_readable = begun.event.kind != InboundKind::Unreadable;
                let counted = if is_readable { begun.counted } else { UNREADABLE };
                let id = begun.id.0;
                let (verdict, is_denied) = (self.judge_age(&begun), self.is_denied(&begun));
                let platform = self.platform_of(&begun.lane.instance);
                let Begun { lane, attempts, received_ms, mut event, session, followers, .. } =
                    *begun;
                let mut joined = Vec::new();
                for Follower { id, event: next } in followers {
                    let (message_id, origin_ms) = (next.message_id.clone(), next.origin_ms);
                    joined.push(Joined { event_id: id, message_id, origin_ms });
                    bursts::join(&mut event, next);
                }
                if let Some(Desk::Agent(desk)) = self.desk(index) {
                    if begun.is_last {
                        desk.followed.remove(&id);
                    } else {
                        desk.followed.insert(id);
                    }
                }
                let delivery = Delivery {
                    event_id: EventId(id),
                    lane,
                    platform,
                    attempt: attempts,
                    received_ms,
                    event,
                    session,
                    joined,
                    before_restart: EventId(id) <= self.former_events,
                    late_by_ms: match verdict {
                        Verdict::Mark(age) => {
                            Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
                        }
                        Verdict::Deliver | Verdict::Keep(_) => None,
                    },
                };
                let input = match verdict {
                    _ if is_denied => Input::Expired(id, DENIED_SINCE.to_owned()),
                    Verdict::Keep(age) => {
                        let age = text::span(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
                        Input::Expired(id, format!("too late: said {age} ago"))
                    }
                    Verdict::Deliver | Verdict::Mark(_) => Input::Begun { id, counted },
                };
                self.deliver_with(index, input, Some(Box::new(delivery)));
                return;
            }
            (_, Answer::Pauses { id, left }) => Input::Pauses { id: id.0, left },
            (_, Answer::Unreadable(id)) => Input::Begun { id: id.0, counted: UNREADABLE },
            (Pending::Park { id, .. }, Answer::Parked(all)) => {
                for (parked, payload) in all {
                    self.announce_parked(&parked);
                    self.hook_parked(index, parked, payload);
                }
                Input::Ended(id.0)
            }
            (
                Pending::Begin { id, .. } | Pending::Settle { id, .. } | Pending::Park { id, .. },
                Answer::Gone | Answer::Settled,
            ) => Input::Ended(id.0),
            (pending, answer) => {
                tracing::error!(?pending, ?answer, "the store cannot answer; trying again");
                self.tickets.postpone(pending, clock::now());
                return;
            }
        };
        self.deliver(index, input);
    }

    /// An event comes to its end.
    fn not_followed(&mut self, index: usize, id: u64) {
        if let Some(Desk::Agent(desk)) = self.desk(index) {
            desk.followed.remove(&id);
        }
    }

    /// What is to be known of an event that is handed to an agent.
    pub(super) fn hand(&self, index: usize, id: EventId) -> Option<Hand> {
        let slot = self.slots.get(index)?;
        let Desk::Agent(desk) = &slot.desk else { return None };
        let lane = desk.delivery.lane_of(id.0);
        let platform = lane.and_then(|lane| self.by_name.get(&lane.instance));
        let rule = platform.and_then(|platform| self.burst(*platform));
        let quiet = |rule: bursts::Rule| i64::try_from(rule.quiet.as_millis()).unwrap_or(i64::MAX);
        Some(Hand {
            agent: slot.name.clone(),
            followers: bursts::MOST,
            within_ms: rule.map(quiet),
            album_ms: quiet(bursts::Rule::of_album(rule)),
            bytes: bursts::BYTES,
            commands: self.commands_for(Some(index)),
            now_ms: clock::unix_ms(),
        })
    }

    /// By the platform's clock; one that runs ahead of ours makes nothing old.
    fn judge_age(&self, begun: &Begun) -> Verdict {
        let slot = self.by_name.get(&begun.lane.instance).and_then(|i| self.slots.get(*i));
        let Some(Desk::Platform(desk)) = slot.map(|slot| &slot.desk) else {
            return Verdict::Deliver;
        };
        let age_ms = clock::unix_ms().saturating_sub(begun.event.origin_ms).max(0);
        let asked = if begun.replayed { Asked::Replayed } else { Asked::No };
        let age = Duration::from_millis(age_ms.unsigned_abs());
        desk.inbox.ages.judge(&begun.lane.chat_id, age, asked)
    }

    /// Whether somebody has denied its sender or its chat since it was accepted. Who replays it means it.
    fn is_denied(&self, begun: &Begun) -> bool {
        let slot = self.by_name.get(&begun.lane.instance).and_then(|i| self.slots.get(*i));
        let Some(Desk::Platform(desk)) = slot.map(|slot| &slot.desk) else { return false };
        let admitted = desk.access.admit(&desk.grants, &begun.event, None);
        !begun.replayed && admitted == Err(Denial::Refused)
    }

    pub(super) fn platform_of(&self, instance: &protocol::id::Instance) -> String {
        let slot = self.by_name.get(instance).and_then(|index| self.slots.get(*index));
        slot.map_or_else(String::new, |slot| slot.kind.told(instance))
    }
}

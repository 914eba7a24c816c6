//! What travels beside messages and is not kept: drafts of replies, that an agent is at work, and wishes
//! for the bytes of files.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::content::{Busy, Draft, Fetch, Fetched};
use protocol::event::{Delivery, Reply};
use protocol::hook::HookEvent;
use protocol::id::{EventId, Generation, Instance, Seq};
use protocol::worker::ToWorker;

use super::Gateway;
use super::desk::{Desk, Turn};
use super::door::GATEWAY;
use super::{hooks, within};
use crate::clock;
use crate::policy::busy::Mode;
use crate::policy::steering::Steering;
use crate::store::{self, Op};

/// How long a platform may take to fetch one file.
const FETCH: Duration = Duration::from_secs(300);
/// Files fetched at once, for all agents together.
const FETCHES: usize = 64;

/// Replies of one turn that handlers of hooks are told.
const REPLIES: usize = 100;

/// Who waits for a file.
#[derive(Debug)]
pub(super) struct Wish {
    agent: usize,
    generation: Generation,
    seq: Seq,
    platform: usize,
    until: Instant,
}

/// Files that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    last: u64,
    open: HashMap<u64, Wish>,
}

impl Wishes {
    /// When somebody has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|wish| wish.until).min()
    }

    /// Nobody waits for a file.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn make(&mut self, wish: Wish) -> Option<u64> {
        if self.open.len() >= FETCHES {
            return None;
        }
        self.last += 1;
        self.open.insert(self.last, wish);
        Some(self.last)
    }
}

impl Gateway {
    /// The slot of a platform, unless a reload has removed it.
    pub(super) fn platform(&self, instance: &Instance) -> Option<usize> {
        let index = self.by_name.get(instance).copied()?;
        let slot = self.slots.get(index)?;
        (!slot.removed && matches!(slot.desk, Desk::Platform(_))).then_some(index)
    }

    pub(super) fn pass(&mut self, index: usize, frame: ToWorker) -> bool {
        let link = self.slots.get_mut(index).and_then(|slot| slot.current_link());
        link.is_some_and(|link| {
            link.handle.send(frame);
            true
        })
    }

    /// An agent's reply has grown.
    pub(super) fn draft(&mut self, index: usize, mut draft: Box<Draft>) {
        if let Some(Desk::Agent(desk)) = self.desk(index)
            && let Some((event, _)) = desk.at_work.iter().find(|(_, turn)| turn.lane == draft.lane)
        {
            desk.unfinished.grown(*event, &draft);
        }
        let Some(slot) = self.slots.get(index) else { return };
        draft.key = store::draft_key(&slot.name, &draft.key);
        let Some(platform) = self.platform(&draft.lane.instance) else { return };
        let connected = self.slots.get(platform).is_some_and(super::slot::Slot::is_connected);
        if !connected {
            return;
        }
        draft.message_id = self.shown.of(&draft.key);
        let Some(Desk::Platform(desk)) = self.desk(platform) else { return };
        if let Some(draft) = desk.drafts.offered(draft) {
            self.pass(platform, ToWorker::Draft(draft));
        }
    }

    /// A platform shows a draft, or has decided not to.
    pub(super) fn drafted(&mut self, index: usize, key: &str, message_id: Option<String>) {
        let has_ended = match self.desk(index) {
            Some(Desk::Platform(desk)) => desk.drafts.has_ended(key),
            _ => false,
        };
        // The message that says how it ended is no draft of what may come when it is asked again.
        if let Some(message_id) = message_id.filter(|_| !has_ended)
            && let Some((agent, own)) = key.split_once('/')
            && let Ok(agent) = Instance::new(agent)
        {
            self.shown.made(key, &message_id);
            let key = own;
            let (key, now_ms) = (key.to_owned(), clock::unix_ms());
            self.store.submit(Op::Drafted { agent, key, message_id, now_ms });
        }
        let Some(Desk::Platform(desk)) = self.desk(index) else { return };
        if let Some(draft) = desk.drafts.shown(key) {
            self.pass(index, ToWorker::Draft(draft));
        }
    }

    /// The reply of a draft is accepted.
    pub(super) fn draft_over(&mut self, agent: usize, key: &str, platform: usize) {
        if let Some(Desk::Agent(desk)) = self.desk(agent) {
            desk.unfinished.over(key);
        }
        let Some(slot) = self.slots.get(agent) else { return };
        let key = store::draft_key(&slot.name, key);
        self.shown.over(&key);
        if let Some(Desk::Platform(desk)) = self.desk(platform) {
            desk.drafts.over(&key);
        }
    }

    /// An event is set aside. What people see of an answer to it becomes a message that says so: it would
    /// look for ever as if more came. Its key is another one, since the event may be offered again.
    pub(super) fn end_draft(&mut self, agent: usize, event: u64) {
        let Some(Desk::Agent(desk)) = self.desk(agent) else { return };
        let Some(draft) = desk.unfinished.ended(event) else { return };
        let Draft { key, lane, reply_to, text, .. } = *draft;
        let Some(name) = self.slots.get(agent).map(|slot| slot.name.clone()) else { return };
        let own = format!("broken:{event}:{}", clock::unix_ms());
        let Ok(gateway) = Instance::new(GATEWAY) else { return };
        let (shown, whole) = (store::draft_key(&name, &key), store::draft_key(&gateway, &own));
        self.shown.over(&shown);
        let platform = self.platform(&lane.instance);
        if let Some(Desk::Platform(desk)) = platform.and_then(|platform| self.desk(platform)) {
            desk.drafts.ended_by(&shown, whole);
        }
        self.store.submit(Op::Redraft { from: (name, key), to: (gateway, own.clone()) });
        let text = format!("{}\n\n(broken off)", text.trim_end());
        self.say_in_reply(&own, lane, reply_to, text);
    }

    /// An agent works on an event from now on.
    pub(super) fn at_work(&mut self, agent: usize, delivery: &Delivery) {
        let platform = self.platform(&delivery.lane.instance);
        let busy = platform.filter(|_| delivery.event.kind.is_said()).map(|platform| {
            let busy = Busy {
                chat_id: delivery.lane.chat_id.clone(),
                thread_id: delivery.lane.thread_id.clone(),
                message_id: delivery.event.message_id.clone(),
                on: true,
            };
            (platform, busy)
        });
        let name = self.slots.get(agent).map(|slot| slot.name.to_string());
        let told = self.occasion("agent:start", &delivery.lane, &delivery.event);
        let told = told.map(|told| HookEvent {
            event_id: Some(delivery.event_id.to_string()),
            attempt: Some(delivery.attempt),
            agent: name,
            ..told
        });
        let turn = Turn {
            busy: busy.clone(),
            lane: delivery.lane.clone(),
            epoch: delivery.session.epoch,
            since: clock::now(),
            interrupted: false,
            asking: false,
            told_busy: false,
            steering: Steering::default(),
            told: told.clone(),
            replies: Vec::new(),
            event: Some(Box::new(within::frame(&delivery.event))),
        };
        if let Some(Desk::Agent(desk)) = self.desk(agent) {
            let id = delivery.event_id.0;
            let steering = Steering::new(desk.followed.remove(&id));
            let _ = desk.at_work.insert(id, Turn { steering, ..turn });
        }
        if let Some((platform, busy)) = busy {
            if let Some(Desk::Platform(desk)) = self.desk(platform) {
                desk.signs.begun(&busy);
            }
            self.pass(platform, ToWorker::Busy(busy));
        }
        if let Some(told) = told {
            self.hook(told);
        }
    }

    /// What an agent replies belongs to what it works on in that conversation: whom it answers, as it is kept
    /// with the reply, and which event.
    pub(super) fn note_reply(
        &mut self,
        agent: usize,
        reply: &Reply,
    ) -> (Option<String>, Option<EventId>) {
        let Some(Desk::Agent(desk)) = self.desk(agent) else { return (None, None) };
        let turn = desk.at_work.iter_mut().find(|(_, turn)| turn.lane == reply.lane);
        let Some((event, turn)) = turn else { return (None, None) };
        let event = Some(EventId(*event));
        let Some(told) = &turn.told else { return (None, event) };
        let answers = hooks::answers(told);
        let known = turn.replies.iter().any(|(key, _)| *key == reply.key);
        if !known && turn.replies.len() < REPLIES {
            turn.replies.push((reply.key.clone(), reply.content.text.clone()));
        }
        (answers, event)
    }

    /// The agent does not work on an event any more.
    pub(super) fn not_at_work(
        &mut self,
        agent: usize,
        id: u64,
        outcome: &str,
        reason: Option<&str>,
    ) {
        let Some(Desk::Agent(desk)) = self.desk(agent) else { return };
        let Some(mut turn) = desk.at_work.remove(&id) else { return };
        let left = turn.steering.rest();
        for _ in left {
            self.note_busy(agent, Mode::Queue, &turn.lane);
        }
        if let Some((platform, busy)) = turn.busy.clone() {
            let over = ToWorker::Busy(Busy { on: false, ..busy.clone() });
            let was_told = self.pass(platform, over);
            if let Some(Desk::Platform(desk)) = self.desk(platform) {
                desk.signs.ended(&busy, was_told, clock::now());
            }
            if matches!(outcome, "deferred" | "failed") {
                // It waits again, perhaps for an agent that is away.
                self.meet_absence(agent, EventId(id), &turn.lane);
            }
        }
        self.turn_over(turn, outcome, reason);
    }

    /// A platform's worker is there: what the last one may have left behind.
    pub(super) fn signs_up(&mut self, platform: usize) {
        let Some(Desk::Platform(desk)) = self.desk(platform) else { return };
        for busy in desk.signs.again(clock::now()) {
            self.pass(platform, ToWorker::Busy(busy));
        }
    }

    /// An agent wants the bytes of a part.
    pub(super) fn fetch(
        &mut self,
        agent: usize,
        generation: Generation,
        seq: Seq,
        fetch: Box<Fetch>,
    ) {
        let platform = self.platform(&fetch.instance);
        let connected = |index: &usize| {
            self.slots.get(*index).is_some_and(|slot| slot.is_connected() && slot.link.is_some())
        };
        let refused = match platform.filter(connected) {
            Some(platform) => {
                let until = clock::now() + FETCH;
                let wish = Wish { agent, generation, seq, platform, until };
                match self.wishes.make(wish) {
                    Some(ticket) => {
                        self.pass(platform, ToWorker::Fetch { ticket, fetch });
                        return;
                    }
                    None => format!("{FETCHES} files are being fetched: try again"),
                }
            }
            None if platform.is_some() => {
                format!("{} is not connected now: try again", fetch.instance)
            }
            None => format!("no platform instance is called {:?}", fetch.instance.as_str()),
        };
        self.wish_answered(agent, generation, seq, Err(refused));
    }

    /// A platform has fetched a file, or not.
    pub(super) fn fetched(&mut self, index: usize, ticket: u64, result: Result<Fetched, String>) {
        // What came too late is cleaned away in time.
        if self.wishes.open.get(&ticket).is_some_and(|wish| wish.platform == index)
            && let Some(wish) = self.wishes.open.remove(&ticket)
        {
            self.wish_answered(wish.agent, wish.generation, wish.seq, result);
        }
    }

    fn wish_answered(
        &mut self,
        agent: usize,
        generation: Generation,
        seq: Seq,
        result: Result<Fetched, String>,
    ) {
        let Some(slot) = self.slots.get_mut(agent) else { return };
        if let Some(link) = slot.link.as_ref().filter(|link| link.generation == generation) {
            link.handle.send(ToWorker::Fetched { seq, result });
        }
    }

    /// The link of a platform is over: nothing that it was doing beside comes any more.
    pub(super) fn beside_down(&mut self, index: usize) {
        if let Some(Desk::Platform(desk)) = self.desk(index) {
            desk.drafts.down();
        }
        self.give_up(|wish| wish.platform == index, "the platform's worker is gone: try again");
        self.orders_down(index);
    }

    /// Who has waited long enough is told so.
    pub(super) fn tick_wishes(&mut self, now: Instant) {
        self.give_up(|wish| wish.until <= now, "it took too long");
    }

    fn give_up(&mut self, which: impl Fn(&Wish) -> bool, why: &str) {
        let given_up: Vec<_> =
            self.wishes.open.extract_if(|_, wish| which(wish)).map(|(_, wish)| wish).collect();
        for wish in given_up {
            self.wish_answered(wish.agent, wish.generation, wish.seq, Err(why.to_owned()));
        }
    }
}

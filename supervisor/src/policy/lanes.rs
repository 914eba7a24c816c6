//! Which conversation has what at its head: the order of the inbox and of the outbox.
//!
//! A lane offers one item at a time, its oldest; the next one is looked at when that has ended. Lanes
//! do not wait for one another. Only the heads of at most `capacity` lanes are held here: the rest
//! stays in the store and is found by a scan in the order of ids, so memory does not grow with the
//! backlog.
//!
//! The scan stands either at the end of the store (new items are told by [`Lanes::accepted`]) or
//! somewhere before it (new items will be found). A lane whose next item is ahead of the scan gives its room
//! to those that wait there for longer. An item ahead of the scan that came back is held all the same; the scan
//! then meets a lane that it knows and goes on. What it meets there before a head was replayed in a life before
//! this one.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use protocol::id::Lane;

/// The heads of one scheduler's lanes.
#[derive(Debug)]
pub struct Lanes {
    capacity: usize,
    slots: HashMap<Lane, Slot>,
    heads: HashMap<u64, Lane>,
    waiting: BTreeSet<u64>,
    delayed: BTreeSet<(Instant, u64)>,
    due: HashMap<u64, Instant>,
    scan: Scan,
}

#[derive(Debug)]
struct Slot {
    /// `None` while the next one is being looked up.
    head: Option<u64>,
    /// Whether anything may stand behind the head.
    more: bool,
    /// The oldest item that came back to a place before the head.
    before: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scan {
    AtEnd,
    Behind { after: u64, asked: bool },
}

/// Look up the item of `lane` that follows `after`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// The lane.
    pub lane: Lane,
    /// The item that has ended.
    pub after: u64,
}

impl Lanes {
    /// Nothing known yet: a scan from the start of the store is wanted.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            slots: HashMap::new(),
            heads: HashMap::new(),
            waiting: BTreeSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            scan: Scan::Behind { after: 0, asked: false },
        }
    }

    /// A new item is durable.
    pub fn accepted(&mut self, id: u64, lane: Lane) {
        if let Some(slot) = self.slots.get_mut(&lane) {
            slot.more = true;
        } else if self.scan == Scan::AtEnd {
            if self.slots.len() < self.capacity {
                self.insert(lane, id, false);
            } else {
                self.scan = Scan::Behind { after: id.saturating_sub(1), asked: false };
            }
        }
    }

    /// An older item waits again, at its old place; a head that is busy ends first. A person asks for
    /// this, so the few lanes beyond the capacity do no harm.
    pub fn rejoined(&mut self, id: u64, lane: Lane) {
        let Some(slot) = self.slots.get_mut(&lane) else {
            // There may be others between it and the newest.
            self.insert(lane, id, true);
            return;
        };
        match slot.head {
            Some(head) if head <= id => slot.more = true,
            Some(head) if self.waiting.contains(&head) || self.due.contains_key(&head) => {
                self.heads.remove(&head);
                self.seize(head);
                self.insert(lane, id, true);
            }
            _ => slot.before = Some(slot.before.map_or(id, |other| other.min(id))),
        }
    }

    /// A head that was busy before this scheduler existed, and still is.
    pub fn resumed(&mut self, id: u64, lane: Lane) {
        self.insert(lane, id, true);
        self.seize(id);
    }

    /// Others than before may be for us: of what is known only the busy heads stay, and the store is scanned
    /// from its start. Nothing may be under way: no scan, no [`Load`].
    pub fn begin_again(&mut self) {
        let Self { waiting, due, slots, .. } = self;
        self.heads.retain(|id, _| !waiting.contains(id) && !due.contains_key(id));
        let heads = &self.heads;
        slots.retain(|_, slot| slot.head.is_some_and(|id| heads.contains_key(&id)));
        for slot in slots.values_mut() {
            slot.more = true;
        }
        self.waiting.clear();
        self.delayed.clear();
        self.due.clear();
        self.scan = Scan::Behind { after: 0, asked: false };
    }

    /// Where to go on scanning, if there is room for what may be found. The answer goes to
    /// [`Lanes::scanned`].
    pub fn wants_scan(&mut self) -> Option<u64> {
        match &mut self.scan {
            Scan::Behind { after, asked: asked @ false } if self.slots.len() < self.capacity => {
                *asked = true;
                Some(*after)
            }
            _ => None,
        }
    }

    /// What a scan found, in the order of ids; `at_end`: there is nothing behind it.
    pub fn scanned(&mut self, found: Vec<(u64, Lane)>, at_end: bool) {
        self.scanned_upto(found, 0, at_end);
    }

    /// [`Lanes::scanned`] for a scan that also saw what is not for us, up to this id.
    pub fn scanned_upto(&mut self, found: Vec<(u64, Lane)>, upto: u64, at_end: bool) {
        let Scan::Behind { mut after, .. } = self.scan else { return };
        for (id, lane) in found {
            if self.slots.contains_key(&lane) {
                self.rejoined(id, lane);
            } else if self.slots.len() < self.capacity {
                self.insert(lane, id, true);
            } else {
                self.scan = Scan::Behind { after, asked: false };
                return;
            }
            after = id;
        }
        after = after.max(upto);
        self.scan = if at_end { Scan::AtEnd } else { Scan::Behind { after, asked: false } };
    }

    /// The oldest head that waits, which is busy from now on.
    pub fn take(&mut self) -> Option<u64> {
        self.waiting.pop_first()
    }

    /// A busy head waits again.
    pub fn release(&mut self, id: u64) {
        if self.heads.contains_key(&id) {
            self.unpark(id);
            self.waiting.insert(id);
        }
    }

    /// A busy head waits again from `until` on.
    pub fn delay(&mut self, id: u64, until: Instant) {
        if self.heads.contains_key(&id) {
            self.unpark(id);
            self.waiting.remove(&id);
            self.delayed.insert((until, id));
            self.due.insert(id, until);
        }
    }

    /// A head that waits is busy from now on, out of turn.
    pub fn seize(&mut self, id: u64) {
        self.unpark(id);
        self.waiting.remove(&id);
    }

    /// A head has ended; what to look up next, if there may be anything.
    pub fn finished(&mut self, id: u64) -> Option<Load> {
        let lane = self.heads.remove(&id)?;
        self.seize(id);
        let slot = self.slots.get_mut(&lane)?;
        if let Some(before) = slot.before.take() {
            self.insert(lane, before, true);
            None
        } else if slot.more {
            slot.head = None;
            slot.more = false;
            Some(Load { lane, after: id })
        } else {
            self.slots.remove(&lane);
            None
        }
    }

    /// The answer to a [`Load`].
    pub fn loaded(&mut self, lane: Lane, found: Option<u64>) {
        let before = self.slots.remove(&lane).and_then(|slot| slot.before);
        // The scan will find it in its turn: else a lane that never ends would keep its room for ever.
        let found = found.filter(|id| before.is_some() || !self.is_ahead(*id));
        if let Some(id) = before.into_iter().chain(found).min() {
            self.insert(lane, id, true);
        }
    }

    /// Whether the scan has not come to `id` yet.
    fn is_ahead(&self, id: u64) -> bool {
        matches!(self.scan, Scan::Behind { after, .. } if after < id)
    }

    /// The head of a lane that waits for a time to come, and until when.
    pub fn delayed(&self, lane: &Lane) -> Option<(u64, Instant)> {
        let head = self.slots.get(lane)?.head?;
        Some((head, *self.due.get(&head)?))
    }

    /// Delays that are over by `now` end.
    pub fn tick(&mut self, now: Instant) {
        while let Some((until, id)) = self.delayed.first().copied() {
            if until > now {
                break;
            }
            self.delayed.pop_first();
            self.due.remove(&id);
            self.waiting.insert(id);
        }
    }

    /// When the next delay ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.delayed.first().map(|(until, _)| *until)
    }

    /// Whether `id` is the head of a lane.
    pub fn is_head(&self, id: u64) -> bool {
        self.heads.contains_key(&id)
    }

    /// The lane whose head is `id`.
    pub fn lane_of(&self, id: u64) -> Option<&Lane> {
        self.heads.get(&id)
    }

    fn insert(&mut self, lane: Lane, id: u64, more: bool) {
        self.heads.insert(id, lane.clone());
        self.waiting.insert(id);
        self.slots.insert(lane, Slot { head: Some(id), more, before: None });
        debug_assert!(self.slots.values().filter(|s| s.head.is_some()).count() >= self.heads.len());
    }

    fn unpark(&mut self, id: u64) {
        if let Some(until) = self.due.remove(&id) {
            self.delayed.remove(&(until, id));
        }
    }
}

/// A model of a store with lanes, to check schedulers against.
#[cfg(test)]
pub(crate) mod model {
    use std::collections::BTreeMap;

    use super::*;

    /// Items by id.
    #[derive(Default)]
    pub(crate) struct Model(pub(crate) BTreeMap<u64, Lane>);

    impl Model {
        pub(crate) fn scan(&self, after: u64, limit: usize) -> (Vec<(u64, Lane)>, bool) {
            let found: Vec<_> = self
                .0
                .range(after + 1..)
                .take(limit)
                .map(|(id, lane)| (*id, lane.clone()))
                .collect();
            let at_end = found.len() < limit;
            (found, at_end)
        }

        pub(crate) fn next(&self, load: &Load) -> Option<u64> {
            self.0.iter().find(|(id, lane)| **id > load.after && **lane == load.lane).map(|f| *f.0)
        }
    }

    pub(crate) fn lane(n: u64) -> Lane {
        let instance = protocol::id::Instance::new("feishu").unwrap();
        Lane { instance, chat_id: format!("chat{n}"), thread_id: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::model::{Model, lane};
    use super::*;

    /// What the store says, in the order in which it was asked.
    enum Told {
        Accepted(u64, Lane),
        Rejoined(u64, Lane),
        Scanned(Vec<(u64, Lane)>, bool),
        Loaded(Lane, Option<u64>),
        Ended(u64),
    }

    /// Lanes before a store that answers late.
    struct World {
        model: Model,
        lanes: Lanes,
        told: VecDeque<Told>,
        busy: Vec<u64>,
    }

    impl World {
        fn end(&mut self, index: usize) -> (u64, Lane) {
            let id = self.busy.remove(index);
            self.told.push_back(Told::Ended(id));
            (id, self.model.0.remove(&id).unwrap())
        }

        /// The next answer arrives, if there is one.
        fn hear(&mut self) -> bool {
            match self.told.pop_front() {
                None => return false,
                Some(Told::Accepted(id, lane)) => self.lanes.accepted(id, lane),
                Some(Told::Rejoined(id, lane)) => self.lanes.rejoined(id, lane),
                Some(Told::Scanned(found, at_end)) => self.lanes.scanned(found, at_end),
                Some(Told::Loaded(lane, found)) => self.lanes.loaded(lane, found),
                Some(Told::Ended(id)) => {
                    if let Some(load) = self.lanes.finished(id) {
                        let found = self.model.next(&load);
                        self.told.push_back(Told::Loaded(load.lane, found));
                    }
                }
            }
            self.pump();
            true
        }

        fn pump(&mut self) {
            if let Some(after) = self.lanes.wants_scan() {
                let (found, at_end) = self.model.scan(after, 5);
                self.told.push_back(Told::Scanned(found, at_end));
            }
            while let Some(id) = self.lanes.take() {
                let lane = &self.model.0[&id];
                assert!(self.busy.iter().all(|b| self.model.0[b] != *lane), "two of one lane");
                self.busy.push(id);
            }
        }
    }

    proptest! {
        /// Whatever arrives when, with room for few lanes, whatever was busy before and at which place, whatever
        /// is set aside and comes back, and however often it begins again: every item ends exactly once, in order
        /// within its lane, and never two of one lane are offered at a time.
        #[test]
        fn every_item_is_offered_once_and_in_order(
            before in prop::collection::vec(0..12_u64, 0..60),
            resumed in prop::collection::vec(1..60_u64, 0..4),
            steps in prop::collection::vec((0..12_u64, 0..9_u8), 0..300),
            capacity in 1..6_usize,
        ) {
            let model = Model((1..).zip(before.into_iter().map(lane)).collect());
            let mut next_id = model.0.len() as u64 + 1;
            let lanes = Lanes::new(capacity);
            let mut world = World { model, lanes, told: VecDeque::new(), busy: Vec::new() };
            let mut ended: Vec<(u64, Lane)> = Vec::new();
            let mut aside: Vec<(u64, Lane)> = Vec::new();
            // What has another place than the one in which it was begun.
            let mut returned = BTreeSet::new();
            for id in resumed {
                let Some(lane) = world.model.0.get(&id).cloned() else { continue };
                if world.busy.iter().all(|busy| world.model.0[busy] != lane) {
                    world.busy.push(id);
                    world.lanes.resumed(id, lane.clone());
                    let own = world.model.0.range(..=id).filter(|(_, other)| **other == lane);
                    returned.extend(own.map(|(id, _)| *id));
                }
            }
            world.pump();
            for (n, step) in steps {
                match step {
                    0 | 1 => {
                        world.model.0.insert(next_id, lane(n));
                        world.told.push_back(Told::Accepted(next_id, lane(n)));
                        next_id += 1;
                    }
                    2 if !world.busy.is_empty() => ended.push(world.end(0)),
                    3 if !world.busy.is_empty() => aside.push(world.end(0)),
                    4 => if let Some((id, lane)) = aside.pop() {
                        returned.insert(id);
                        world.model.0.insert(id, lane.clone());
                        world.told.push_back(Told::Rejoined(id, lane));
                    }
                    5 if n < 3 => {
                        while world.hear() {}
                        world.lanes.begin_again();
                        world.pump();
                    }
                    _ => {
                        world.hear();
                    }
                }
            }
            loop {
                while world.hear() {}
                if world.busy.is_empty() {
                    break;
                }
                ended.push(world.end(world.busy.len() - 1));
            }
            prop_assert!(world.model.0.is_empty(), "left over: {:?}", world.model.0);
            prop_assert!(world.lanes.slots.is_empty());
            let mut last: HashMap<Lane, u64> = HashMap::new();
            let mut once = BTreeSet::new();
            prop_assert!(ended.iter().all(|(id, _)| once.insert(*id)), "ended twice");
            for (id, lane) in ended.into_iter().filter(|(id, _)| !returned.contains(id)) {
                prop_assert!(last.insert(lane, id).is_none_or(|before| before < id));
            }
        }
    }

    /// An upgrade finds what was replayed before a head that is busy.
    #[test]
    fn what_stands_before_a_busy_head_is_next() {
        let mut lanes = Lanes::new(10);
        lanes.resumed(10, lane(1));
        lanes.scanned(vec![(5, lane(1)), (10, lane(1)), (12, lane(1))], true);
        assert_eq!(lanes.take(), None);
        assert_eq!(lanes.finished(10), None);
        assert_eq!(lanes.take(), Some(5));
        assert_eq!(lanes.finished(5), Some(Load { lane: lane(1), after: 5 }));
    }

    /// What comes back while the next one is looked up takes its place behind what is older.
    #[test]
    fn what_comes_back_overtakes_nothing() {
        let mut lanes = Lanes::new(10);
        lanes.scanned(vec![(1, lane(1)), (2, lane(1))], true);
        assert_eq!(lanes.take(), Some(1));
        assert_eq!(lanes.finished(1), Some(Load { lane: lane(1), after: 1 }));
        lanes.rejoined(3, lane(1));
        lanes.loaded(lane(1), Some(2));
        assert_eq!(lanes.take(), Some(2));
    }

    /// Lanes in which something always waits leave room for those that wait longer.
    #[test]
    fn a_lane_that_finds_no_room_is_served_when_it_is_the_oldest() {
        let before = [1, 2, 1, 2, 3, 1, 2];
        let model = Model((1..).zip(before.map(lane)).collect());
        let lanes = Lanes::new(2);
        let mut world = World { model, lanes, told: VecDeque::new(), busy: Vec::new() };
        world.pump();
        let mut served = Vec::new();
        for id in 8..30 {
            while world.hear() {}
            served.push(world.end(0).0);
            let lane = lane(1 + id % 2);
            world.model.0.insert(id, lane.clone());
            world.told.push_back(Told::Accepted(id, lane));
        }
        assert_eq!(served, (1..23).collect::<Vec<_>>());
    }

    #[test]
    fn a_delayed_head_holds_its_lane_and_no_other() {
        let now = crate::clock::now();
        let later = now + std::time::Duration::from_secs(1);
        let mut lanes = Lanes::new(10);
        lanes.scanned(vec![(1, lane(1)), (2, lane(1)), (3, lane(2))], true);
        assert_eq!(lanes.take(), Some(1));
        lanes.delay(1, later);
        assert_eq!((lanes.take(), lanes.take()), (Some(3), None));
        assert_eq!(lanes.deadline(), Some(later));
        lanes.tick(later);
        assert_eq!(lanes.take(), Some(1));
        assert_eq!(lanes.finished(1), Some(Load { lane: lane(1), after: 1 }));
        assert_eq!(lanes.finished(3), Some(Load { lane: lane(2), after: 3 }));
    }
}

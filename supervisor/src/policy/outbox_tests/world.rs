//! A store that answers late, workers that come and go, and a platform whose answers are lost.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::policy::lanes::model::Model;

/// What the store keeps of a reply.
#[derive(Default)]
struct Kept {
    is_sending: bool,
    is_ambiguous: bool,
    attempts: u32,
}

#[derive(Default)]
struct World {
    open: Model,
    kept: BTreeMap<u64, Kept>,
    failed: BTreeMap<u64, Lane>,
    ended: u64,
    asked: VecDeque<Action>,
    told: VecDeque<Input>,
    /// With the worker.
    out: BTreeMap<u64, Lane>,
    /// Replies that have arrived, in order.
    arrived: Vec<u64>,
}

impl World {
    /// The supervisor performs what follows from `input`.
    fn does(&mut self, outbox: &mut Outbox, input: Input, now: Instant) {
        for action in outbox.on(input, now) {
            if let Action::Send(id) = action {
                let lane = self.open.0.get(&id).unwrap_or_else(|| panic!("{id} is at its end"));
                assert!(self.out.values().all(|other| other != lane), "two of a chat");
                self.out.insert(id, lane.clone());
            } else {
                self.asked.push_back(action);
            }
        }
    }

    /// The store does the next thing that it was asked for.
    fn store(&mut self) -> bool {
        let Some(action) = self.asked.pop_front() else { return false };
        let told = match action {
            Action::Scan { after } => {
                let (found, at_end) = self.open.scan(after, 3);
                Input::Scanned { found, at_end }
            }
            Action::Load(load) => {
                let found = self.open.next(&load);
                Input::Loaded(load.lane, found)
            }
            Action::Begin(id) if self.open.0.contains_key(&id) => {
                let kept = self.kept.entry(id).or_default();
                kept.is_ambiguous |= kept.is_sending;
                (kept.is_sending, kept.attempts) = (true, kept.attempts + 1);
                let ambiguous = kept.is_ambiguous.then_some(Duration::ZERO);
                Input::Begun(Begun { id, attempt: kept.attempts, age: Duration::ZERO, ambiguous })
            }
            Action::Begin(id) => Input::Ended(id),
            Action::Again(id) => {
                self.kept.entry(id).or_default().is_sending = false;
                return true;
            }
            Action::End(id, end) => {
                let lane = self.open.0.remove(&id).unwrap_or_else(|| panic!("{id} ends twice"));
                self.kept.remove(&id);
                self.ended += 1;
                if !matches!(end, End::Sent(_)) {
                    self.failed.insert(id, lane);
                }
                Input::Ended(id)
            }
            Action::Send(_) => panic!("{action:?}"),
        };
        self.told.push_back(told);
        true
    }

    fn hear(&mut self, outbox: &mut Outbox, now: Instant) -> bool {
        let Some(input) = self.told.pop_front() else { return false };
        self.does(outbox, input, now);
        true
    }

    /// The platform has one that is with the worker.
    fn arrives(&mut self, n: u64) -> Option<u64> {
        let at = usize::try_from(n).unwrap() % self.out.len().max(1);
        let id = *self.out.keys().nth(at)?;
        self.arrived.push(id);
        self.out.remove(&id);
        Some(id)
    }
}

proptest! {
    /// Whatever is lost when: each reply ends once; none arrives twice where the platform knows no keys; and what
    /// arrives in a chat does so in order, but for what a person sent once more.
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(
        steps in prop::collection::vec((0..24_u8, 0..64_u64), 0..250),
        lanes in 1..4_usize,
        concurrency in 1..4_usize,
        knows_keys in any::<bool>(),
    ) {
        let mut now = start();
        let settings = Settings { lanes, concurrency, waiting: 1, ..Settings::default() };
        let up = Input::Up { idempotent: knows_keys.then_some(HOUR) };
        let mut outbox = Outbox::new(settings);
        let mut world = World::default();
        world.does(&mut outbox, up.clone(), now);
        let (mut next, mut again) = (1, Vec::new());
        let lane_of = |id: u64| lane(id * 7 % 5);
        for (step, n) in steps {
            match step {
                0..=3 => {
                    world.open.0.insert(next, lane_of(next));
                    world.told.push_back(Input::Accepted(next, lane_of(next)));
                    next += 1;
                }
                4..=6 => if let Some(id) = world.arrives(n) {
                    let sent = Outcome::Sent { message_ids: Vec::new() };
                    world.does(&mut outbox, Input::Outcome(id, sent), now);
                }
                7 => if world.arrives(n).is_some() {
                    // Its answer is lost, with the worker.
                    world.out.clear();
                    world.does(&mut outbox, Input::Down, now);
                }
                8 | 9 => if let Some(id) = world.out.keys().next().copied() {
                    world.out.remove(&id);
                    let after_ms = (step == 8).then_some(100 * n);
                    let retry = Outcome::Retry { reason: "no".into(), after_ms };
                    world.does(&mut outbox, Input::Outcome(id, retry), now);
                }
                10 => if let Some(id) = world.out.keys().next().copied() {
                    world.out.remove(&id);
                    let failed = Outcome::Failed { reason: "no".into() };
                    world.does(&mut outbox, Input::Outcome(id, failed), now);
                }
                11 => if let Some(id) = world.out.keys().last().copied() {
                    world.does(&mut outbox, Input::Waits(id), now);
                }
                12 => {
                    world.out.clear();
                    world.does(&mut outbox, Input::Down, now);
                }
                13 => world.does(&mut outbox, Input::Leaving, now),
                14 | 15 => world.does(&mut outbox, up.clone(), now),
                16 => world.does(&mut outbox, Input::Hold(n % 2 == 0), now),
                17 => {
                    now += Duration::from_millis(100 * n);
                    world.does(&mut outbox, Input::Tick, now);
                }
                18 => if let Some((id, lane)) = world.failed.pop_first() {
                    again.push(id);
                    world.open.0.insert(id, lane.clone());
                    world.ended -= 1;
                    world.told.push_back(Input::Replayed(id, lane));
                }
                19..=21 => drop(world.store()),
                _ => drop(world.hear(&mut outbox, now)),
            }
        }
        world.does(&mut outbox, Input::Hold(false), now);
        world.does(&mut outbox, up, now);
        for _ in 0..2000 {
            while world.store() || world.hear(&mut outbox, now) {}
            if let Some(id) = world.arrives(0) {
                let sent = Outcome::Sent { message_ids: Vec::new() };
                world.does(&mut outbox, Input::Outcome(id, sent), now);
            } else if world.open.0.is_empty() {
                break;
            } else {
                now += Duration::from_secs(16);
                world.does(&mut outbox, Input::Tick, now);
            }
        }
        prop_assert!(world.open.0.is_empty(), "left: {:?}", world.open.0);
        prop_assert!(outbox.is_quiet());
        prop_assert_eq!(world.ended, next - 1);
        let mut last: BTreeMap<Lane, u64> = BTreeMap::new();
        for id in world.arrived.into_iter().filter(|id| !again.contains(id)) {
            let before = last.insert(lane_of(id), id);
            let is_next = before.is_none_or(|before| before < id || (knows_keys && before == id));
            prop_assert!(is_next, "{id} after {before:?}");
        }
    }
}

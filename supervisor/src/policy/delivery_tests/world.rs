//! A store that answers late and an agent that does what it likes: acknowledges late or beside its work, refuses,
//! sets aside, vanishes; people replay and stop.

use std::collections::{BTreeSet, VecDeque};

use super::*;

#[derive(Default)]
struct World {
    /// What waits, and what is set aside.
    waiting: Model,
    parked: BTreeMap<u64, Lane>,
    settled: BTreeSet<u64>,
    /// Of what is settled the agent knows that it is.
    known: BTreeSet<u64>,
    counted: BTreeMap<u64, u32>,
    /// Attempts as the store knows them, and as the agent does.
    attempts: BTreeMap<u64, u32>,
    handed: BTreeMap<u64, u32>,
    asked: VecDeque<Action>,
    told: VecDeque<Input>,
    /// With the agent, and what it was told of beside.
    out: BTreeMap<u64, Lane>,
    beside: BTreeSet<u64>,
    had: BTreeSet<u64>,
    replayed: BTreeSet<u64>,
}

impl World {
    /// The supervisor performs what follows from `input`.
    fn does(&mut self, delivery: &mut Delivery, input: Input, now: Instant) {
        for action in delivery.on(input, now) {
            match action {
                Action::Deliver(id) => {
                    let lane = self.waiting.0.get(&id).unwrap_or_else(|| panic!("{id} is gone"));
                    assert!(self.out.values().all(|other| other != lane), "two of a lane");
                    assert!(!self.settled.contains(&id), "{id} comes after its end");
                    *self.handed.entry(id).or_default() += 1;
                    assert_eq!(self.attempts.get(&id), self.handed.get(&id), "attempts at {id}");
                    self.out.insert(id, lane.clone());
                    self.had.insert(id);
                }
                Action::Refund(id) | Action::Lost(id) | Action::Failed { id, .. } => {
                    self.out.remove(&id);
                }
                Action::Withhold(id) => {
                    assert!(!self.out.contains_key(&id), "{id} was handed out");
                    *self.attempts.get_mut(&id).unwrap() -= 1;
                }
                Action::Settle(id) | Action::Park { id, .. } => {
                    self.out.remove(&id);
                    self.asked.push_back(action);
                }
                Action::Scan { .. } | Action::Load(_) | Action::Begin(_) => {
                    self.asked.push_back(action);
                }
                Action::Settled(id) => {
                    assert!(self.settled.contains(&id), "{id} is not settled");
                    self.known.insert(id);
                }
            }
        }
    }

    /// The store does the next thing that it was asked for.
    fn store(&mut self) -> bool {
        let Some(action) = self.asked.pop_front() else { return false };
        self.told.push_back(match action {
            Action::Scan { after } => {
                let (found, at_end) = self.waiting.scan(after, 3);
                Input::Scanned { found, upto: 0, at_end }
            }
            Action::Load(load) => {
                let found = self.waiting.next(&load);
                Input::Loaded(load.lane, found)
            }
            Action::Begin(id) if self.waiting.0.contains_key(&id) => {
                *self.attempts.entry(id).or_default() += 1;
                let counted = self.counted.entry(id).or_default();
                *counted += 1;
                if id % 11 == 0 && !self.replayed.contains(&id) {
                    Input::Expired(id, "too late".into())
                } else if id % 13 == 0 && *counted == 1 {
                    Input::Begun { id, counted: UNREADABLE }
                } else {
                    Input::Begun { id, counted: (*counted).min(3) }
                }
            }
            Action::Begin(id) => Input::Ended(id),
            Action::Settle(id) => {
                if self.waiting.0.remove(&id).or_else(|| self.parked.remove(&id)).is_some() {
                    assert!(self.settled.insert(id), "{id} ends twice");
                }
                Input::Ended(id)
            }
            Action::Park { id, .. } => {
                if let Some(lane) = self.waiting.0.remove(&id) {
                    self.parked.insert(id, lane);
                }
                Input::Ended(id)
            }
            other => panic!("{other:?}"),
        });
        true
    }

    fn hear(&mut self, delivery: &mut Delivery, now: Instant) -> bool {
        let Some(input) = self.told.pop_front() else { return false };
        self.does(delivery, input, now);
        true
    }
}

fn nth<T: Clone>(mut of: impl Iterator<Item = T> + Clone, n: u64) -> Option<T> {
    let count = of.clone().count() as u64;
    (count > 0).then(|| of.nth(usize::try_from(n % count).unwrap())).flatten()
}

proptest! {
    /// Every event ends once, is the agent's once it has said so, and is told as that; or it is set aside.
    #[test]
    fn nothing_is_lost_or_doubled_whatever_anybody_does(
        steps in prop::collection::vec((0..24_u8, 0..64_u64), 0..250),
        capacity in 1..4_usize,
    ) {
        let mut now = start();
        let settings = Settings { lanes: capacity, ..Settings::default() };
        let mut delivery = Delivery::new(settings);
        let mut world = World::default();
        let lease = Input::Lease { ttl: TTL * 1000, concurrency: 3 };
        world.does(&mut delivery, lease.clone(), now);
        let rule = Rule { quiet: Duration::from_secs(2), most: Duration::from_secs(5) };
        let mut next = 1;
        for (step, n) in steps {
            let out = nth(world.out.keys().copied(), n);
            match step {
                0..=3 => {
                    world.waiting.0.insert(next, lane(n % 5));
                    if step == 3 {
                        world.does(&mut delivery, Input::Said(next, lane(n % 5), rule), now);
                    }
                    world.told.push_back(Input::Accepted(next, lane(n % 5)));
                    next += 1;
                }
                4 | 5 => if let Some(id) = out {
                    world.does(&mut delivery, Input::Ack(id), now);
                }
                6 => if let Some(id) = out {
                    let nack = Input::Nack { id, reason: "no".into(), after: None };
                    world.does(&mut delivery, nack, now);
                }
                7 => if let Some(id) = out {
                    world.does(&mut delivery, Input::SetAside { id, reason: "?".into() }, now);
                }
                8 => if let Some(lane) = nth(world.out.values().cloned(), n) {
                    let busy = world.out.iter().find(|(_, other)| **other == lane).map(|(id, _)| *id);
                    let load = Load { lane: lane.clone(), after: busy.unwrap() };
                    if let Some(id) = world.waiting.next(&load) {
                        world.beside.insert(id);
                        world.had.insert(id);
                        world.does(&mut delivery, Input::Beside(id, lane), now);
                    }
                }
                9 | 10 => if let Some(id) = nth(world.beside.iter().copied(), n) {
                    world.beside.remove(&id);
                    world.does(&mut delivery, Input::Ack(id), now);
                }
                11 => if let Some(id) = nth(world.had.iter().copied(), n) {
                    world.does(&mut delivery, Input::Ack(id), now);
                }
                12 => if let Some((id, lane)) = nth(world.parked.iter(), n).map(|(id, lane)| (*id, lane.clone())) {
                    world.parked.remove(&id);
                    world.replayed.insert(id);
                    world.waiting.0.insert(id, lane.clone());
                    world.told.push_back(Input::Replayed(id, lane));
                }
                13 => {
                    world.does(&mut delivery, Input::Paused(Pause::Lost), now);
                    world.does(&mut delivery, lease.clone(), now);
                }
                14 => {
                    world.does(&mut delivery, Input::Paused(Pause::Asked), now);
                    world.does(&mut delivery, lease.clone(), now);
                }
                15 => world.does(&mut delivery, Input::Withdraw(lane(n % 5)), now),
                16 => world.does(&mut delivery, Input::Flush(lane(n % 5)), now),
                17 => {
                    now += Duration::from_millis(500 * n);
                    world.does(&mut delivery, Input::Tick, now);
                }
                18 => if delivery.is_quiet() && world.asked.is_empty() && world.told.is_empty() {
                    delivery.regroup();
                    world.does(&mut delivery, Input::Tick, now);
                }
                19..=21 => drop(world.store()),
                _ => drop(world.hear(&mut delivery, now)),
            }
        }
        // In the end the agent takes everything.
        for _ in 0..2000 {
            while world.store() || world.hear(&mut delivery, now) {}
            let Some(id) = world.out.keys().next().copied() else {
                if world.waiting.0.is_empty() {
                    break;
                }
                now += Duration::from_secs(61);
                world.does(&mut delivery, Input::Tick, now);
                continue;
            };
            world.does(&mut delivery, Input::Ack(id), now);
        }
        prop_assert!(world.waiting.0.is_empty(), "left: {:?}", world.waiting.0);
        prop_assert!(delivery.is_idle());
        prop_assert_eq!(&world.known, &world.settled);
        for id in world.parked.keys() {
            let [attempts, handed] = [&world.attempts, &world.handed].map(|of| of.get(id).unwrap_or(&0));
            prop_assert_eq!(attempts, handed, "attempts at {}", id);
        }
        prop_assert_eq!((world.settled.len() + world.parked.len()) as u64, next - 1);
    }
}

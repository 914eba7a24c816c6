//! Each row of the table in `delivery`, and a world of random agents.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::bursts::Rule;
use super::*;
use crate::policy::lanes::Load;
use crate::policy::lanes::model::{Model, lane};

#[path = "delivery_tests/late.rs"]
mod late;
#[path = "delivery_tests/world.rs"]
mod world;

const TTL: Duration = Duration::from_secs(3600);

fn start() -> Instant {
    crate::clock::now()
}

fn ready(now: Instant, concurrency: u32) -> Delivery {
    let mut delivery = Delivery::new(Settings::default());
    assert_eq!(delivery.on(Input::Tick, now), [Action::Scan { after: 0 }]);
    assert!(delivery.on(Input::Scanned { found: vec![], upto: 0, at_end: true }, now).is_empty());
    assert!(delivery.on(Input::Lease { ttl: TTL, concurrency }, now).is_empty());
    delivery
}

fn leased(now: Instant, counted: u32) -> Delivery {
    let mut delivery = ready(now, 4);
    assert_eq!(delivery.on(Input::Accepted(1, lane(1)), now), [Action::Begin(1)]);
    assert_eq!(delivery.on(Input::Begun { id: 1, counted }, now), [Action::Deliver(1)]);
    delivery
}

fn failed(id: u64, reason: &str, pause_s: u64) -> Action {
    Action::Failed { id, reason: reason.to_owned(), pause: Duration::from_secs(pause_s) }
}

#[test]
fn a_shut_gate_keeps_events_and_opening_it_lets_them_go_in_order() {
    let now = start();
    let mut delivery = Delivery::new(Settings::default());
    delivery.on(Input::Tick, now);
    let found = vec![(1, lane(1)), (2, lane(1)), (3, lane(2))];
    assert!(delivery.on(Input::Scanned { found, upto: 0, at_end: true }, now).is_empty());
    assert!(delivery.on(Input::Accepted(4, lane(3)), now).is_empty());
    let opened = delivery.on(Input::Lease { ttl: TTL, concurrency: 8 }, now);
    assert_eq!(opened, [Action::Begin(1), Action::Begin(3), Action::Begin(4)]);
}

/// F20: an hour without the agent costs an event no attempt, and wakes nobody.
#[test]
fn an_hour_without_the_agent_is_waited_for() {
    let now = start();
    let mut delivery = leased(now, 1);
    delivery.on(Input::Lease { ttl: Duration::from_secs(30), concurrency: 4 }, now);
    let failed = delivery.on(Input::Paused(Pause::Asked), now);
    assert_eq!(failed, [Action::Refund(1)], "without a mark");
    let mut at = now;
    for minute in 0..60 {
        at = now + Duration::from_secs(60 * minute);
        let id = 2 + minute;
        assert!(delivery.on(Input::Accepted(id, lane(id % 3)), at).is_empty());
        assert!(!delivery.is_open(at));
        assert_eq!(delivery.deadline(), None, "nothing is due");
    }
    let opened = delivery.on(Input::Lease { ttl: TTL, concurrency: 8 }, at);
    assert_eq!(
        opened,
        [Action::Begin(1), Action::Begin(2), Action::Begin(3)],
        "the oldest of each"
    );
}

#[test]
fn the_agents_concurrency_bounds_what_it_holds() {
    let now = start();
    let mut delivery = ready(now, 2);
    for id in 1..=5 {
        delivery.on(Input::Accepted(id, lane(id)), now);
    }
    assert_eq!(delivery.in_flight(), 2);
}

#[test]
fn an_acknowledgement_settles_then_the_lane_goes_on() {
    let now = start();
    let mut delivery = leased(now, 1);
    assert!(delivery.on(Input::Accepted(2, lane(1)), now).is_empty(), "one of a lane at a time");
    assert_eq!(delivery.on(Input::Ack(1), now), [Action::Settle(1)]);
    assert!(delivery.on(Input::Ack(1), now).is_empty());
    let load = Action::Load(Load { lane: lane(1), after: 1 });
    assert_eq!(delivery.on(Input::Ended(1), now), [Action::Settled(1), load]);
    assert_eq!(delivery.on(Input::Loaded(lane(1), Some(2)), now), [Action::Begin(2)]);
}

/// F99: what is said in one go waits for its end, and holds nobody else.
#[test]
fn a_lane_in_which_somebody_speaks_is_held_for_a_moment() {
    let now = start();
    let later = |ms| now + Duration::from_millis(ms);
    let rule = Rule { quiet: Duration::from_secs(1), most: Duration::from_millis(1500) };
    let mut delivery = ready(now, 4);
    delivery.on(Input::Said(1, lane(1), rule), now);
    assert!(delivery.on(Input::Accepted(1, lane(1)), now).is_empty());
    assert_eq!(delivery.on(Input::Accepted(2, lane(2)), now), [Action::Begin(2)]);
    delivery.on(Input::Said(3, lane(1), rule), later(900));
    assert!(delivery.on(Input::Accepted(3, lane(1)), later(900)).is_empty());
    assert_eq!(delivery.deadline(), Some(later(1000)));
    assert!(delivery.on(Input::Tick, later(1000)).is_empty(), "somebody went on");
    assert_eq!(delivery.on(Input::Tick, later(1500)), [Action::Begin(1)], "the bound");
}

#[test]
fn what_waits_for_another_attempt_can_be_given_up() {
    let now = start();
    let mut delivery = leased(now, 1);
    delivery.on(Input::Accepted(2, lane(1)), now);
    assert_eq!(delivery.waits_again(&lane(1), now), None, "it is at work");
    let after = Some(Duration::from_secs(60));
    delivery.on(Input::Nack { id: 1, reason: "no".into(), after }, now);
    assert_eq!(delivery.waits_again(&lane(1), now), after.map(|after| now + after));
    let park = Action::Park { id: 1, reason: bursts::GIVEN_UP.into() };
    assert_eq!(delivery.on(Input::Withdraw(lane(1)), now), [park]);
    assert_eq!(delivery.waits_again(&lane(1), now), None);
    let load = Action::Load(Load { lane: lane(1), after: 1 });
    assert_eq!(delivery.on(Input::Ended(1), now), [load]);
    assert_eq!(delivery.on(Input::Loaded(lane(1), Some(2)), now), [Action::Begin(2)]);
}

/// F99: a command finds what is held as said already.
#[test]
fn a_command_lets_what_is_held_go_or_has_it_set_aside() {
    let now = start();
    let rule = Rule { quiet: Duration::from_secs(1), most: Duration::from_secs(9) };
    let held = || {
        let mut delivery = ready(now, 4);
        for id in [1, 2] {
            delivery.on(Input::Said(id, lane(1), rule), now);
            assert!(delivery.on(Input::Accepted(id, lane(1)), now).is_empty());
        }
        assert!(delivery.is_held(&lane(1), now));
        delivery
    };
    let mut delivery = held();
    assert_eq!(delivery.on(Input::Flush(lane(1)), now), [Action::Begin(1)]);
    assert!(delivery.on(Input::Withdraw(lane(1)), now).is_empty(), "nothing is held");

    let mut delivery = held();
    let park = |id| Action::Park { id, reason: bursts::WITHDRAWN.into() };
    assert_eq!(delivery.on(Input::Withdraw(lane(1)), now), [park(1), park(2)]);
    let load = Action::Load(Load { lane: lane(1), after: 1 });
    assert_eq!(delivery.on(Input::Ended(1), now), [load]);
    assert!(delivery.on(Input::Ended(2), now).is_empty());
    assert!(delivery.on(Input::Accepted(3, lane(1)), now).is_empty());
    assert_eq!(delivery.on(Input::Loaded(lane(1), Some(3)), now), [Action::Begin(3)]);
}

/// What is for the gateway itself never reaches the agent.
#[test]
fn a_command_that_is_found_in_a_lane_is_settled_and_the_lane_goes_on() {
    let now = start();
    let mut delivery = ready(now, 4);
    delivery.on(Input::Accepted(1, lane(1)), now);
    delivery.on(Input::Accepted(2, lane(1)), now);
    assert_eq!(delivery.on(Input::Taken(1), now), [Action::Settle(1)]);
    let load = Action::Load(Load { lane: lane(1), after: 1 });
    assert_eq!(delivery.on(Input::Ended(1), now), [load], "the agent is not told of it");
}

#[test]
fn a_scan_goes_on_behind_what_is_for_another_agent() {
    let now = start();
    let mut delivery = Delivery::new(Settings::default());
    delivery.on(Input::Tick, now);
    let scanned = Input::Scanned { found: vec![], upto: 7, at_end: false };
    assert_eq!(delivery.on(scanned, now), [Action::Scan { after: 7 }]);
}

#[test]
fn a_nack_counts_waits_and_comes_again() {
    let now = start();
    let mut delivery = leased(now, 2);
    let nack = Input::Nack { id: 1, reason: "busy".into(), after: None };
    assert_eq!(delivery.on(nack, now), [failed(1, "refused by the agent: busy", 2)]);
    assert!(delivery.on(Input::Tick, now + Duration::from_millis(1999)).is_empty());
    let due = now + Duration::from_secs(2);
    assert_eq!(delivery.deadline(), Some(due));
    assert_eq!(delivery.on(Input::Tick, due), [Action::Begin(1)]);
}

/// F17: a scheduler of before said how long to wait.
#[test]
fn what_is_found_before_its_time_waits_without_an_attempt() {
    let now = start();
    let mut delivery = ready(now, 1);
    assert_eq!(delivery.on(Input::Accepted(1, lane(1)), now), [Action::Begin(1)]);
    delivery.on(Input::Accepted(2, lane(2)), now);
    let left = Duration::from_secs(600);
    let pauses = delivery.on(Input::Pauses { id: 1, left }, now);
    assert_eq!(pauses, [Action::Begin(2)], "it takes nobody's place");
    assert_eq!(delivery.waits_again(&lane(1), now), Some(now + left));
    delivery.on(Input::Ack(2), now);
    delivery.on(Input::Ended(2), now);
    assert_eq!(delivery.on(Input::Tick, now + left), [Action::Begin(1)]);
    assert!(delivery.on(Input::Ack(1), now + left).is_empty(), "late");
    assert_eq!(delivery.on(Input::Pauses { id: 1, left }, now + left), [Action::Settle(1)]);
}

/// F15
#[test]
fn a_silent_agent_loses_its_lease_and_progress_renews_it() {
    let now = start();
    let mut delivery = leased(now, 1);
    let half = now + Settings::default().lease / 2;
    assert!(delivery.on(Input::Progress(1), half).is_empty());
    assert!(delivery.on(Input::Tick, now + Settings::default().lease).is_empty());
    let over = half + Settings::default().lease;
    assert_eq!(delivery.on(Input::Tick, over), [failed(1, "the agent fell silent about it", 1)]);
    assert_eq!(delivery.on(Input::Ack(1), over), [Action::Settle(1)], "a late answer is an answer");
}

#[test]
fn what_is_set_aside_is_parked_at_once_and_an_expired_lease_wakes_nobody() {
    let now = start();
    let mut delivery = leased(now, 1);
    let reason = "who knows".to_owned();
    let parked = Action::Park { id: 1, reason: reason.clone() };
    assert_eq!(delivery.on(Input::SetAside { id: 1, reason }, now), [parked]);
    delivery.on(Input::Ended(1), now);
    delivery.on(Input::Lease { ttl: Duration::ZERO, concurrency: 1 }, now);
    assert_eq!(delivery.deadline(), None, "a deadline that is over would be looked at for ever");
}

#[test]
fn what_is_deferred_waits_and_does_not_count() {
    let now = start();
    let mut delivery = leased(now, 1);
    let after = Duration::from_secs(7);
    assert_eq!(delivery.on(Input::Defer { id: 1, after }, now), [Action::Refund(1)]);
    assert!(delivery.on(Input::Tick, now + after / 2).is_empty());
    assert_eq!(delivery.on(Input::Tick, now + after), [Action::Begin(1)]);
}

#[test]
fn our_own_sleep_is_no_silence_of_the_agent() {
    let now = start();
    let mut delivery = leased(now, 1);
    let slept = Duration::from_secs(2400);
    assert!(delivery.on(Input::Slept(slept), now + slept).is_empty());
}

/// F17
#[test]
fn pausing_costs_no_attempt_and_being_lost_does() {
    let now = start();
    let mut delivery = leased(now, 1);
    assert_eq!(delivery.on(Input::Paused(Pause::Asked), now), [Action::Refund(1)]);
    assert_eq!(delivery.on(Input::Lease { ttl: TTL, concurrency: 1 }, now), [Action::Begin(1)]);

    let mut delivery = leased(now, 1);
    assert_eq!(
        delivery.on(Input::Paused(Pause::Lost), now),
        [failed(1, "the agent was lost with it", 1)]
    );
    assert!(!delivery.is_open(now));
}

/// F22: who kills its reader is found among those that were there, and they are not to pay for it.
#[test]
fn who_is_lost_with_others_is_not_blamed_and_goes_alone_the_third_time() {
    let mut now = start();
    let mut delivery = ready(now, 3);
    delivery.settings.max_attempts = 2;
    let mut counted = BTreeMap::new();
    let mut queue = Vec::new();
    for id in 1..=4 {
        queue.extend(delivery.on(Input::Accepted(id, lane(id)), now));
    }
    let (mut with, mut parked, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let mut beside = 0;
    // The third is the one. Whoever has it is lost before it has done anything.
    while ended.len() + parked.len() < 4 {
        for action in std::mem::take(&mut queue) {
            let input = match action {
                Action::Begin(id) => {
                    let count = counted.entry(id).or_insert(0);
                    *count += 1;
                    Input::Begun { id, counted: *count }
                }
                Action::Deliver(id) => {
                    with.push(id);
                    continue;
                }
                Action::Refund(id) | Action::Withhold(id) | Action::Lost(id) => {
                    *counted.get_mut(&id).unwrap() -= 1;
                    continue;
                }
                Action::Settle(id) => {
                    ended.push(id);
                    Input::Ended(id)
                }
                Action::Park { id, .. } => {
                    parked.push(id);
                    Input::Ended(id)
                }
                _ => continue,
            };
            queue.extend(delivery.on(input, now));
        }
        if !queue.is_empty() {
            continue;
        }
        if with.contains(&3) {
            beside = beside.max(with.len());
            with.clear();
            queue.extend(delivery.on(Input::Paused(Pause::Lost), now));
            queue.extend(delivery.on(Input::Lease { ttl: TTL, concurrency: 3 }, now));
        } else if let Some(id) = with.pop() {
            queue.extend(delivery.on(Input::Ack(id), now));
        } else {
            now += Duration::from_secs(61);
            queue.extend(delivery.on(Input::Tick, now));
        }
    }
    ended.sort_unstable();
    assert_eq!((ended, parked, beside), (vec![1, 2, 4], vec![3], 3));
}

#[test]
fn a_gate_that_shuts_while_an_attempt_is_counted_makes_it_none() {
    let now = start();
    let mut delivery = ready(now, 1);
    assert_eq!(delivery.on(Input::Accepted(1, lane(1)), now), [Action::Begin(1)]);
    assert!(delivery.on(Input::Paused(Pause::Lost), now).is_empty());
    assert_eq!(delivery.on(Input::Begun { id: 1, counted: 1 }, now), [Action::Withhold(1)]);
}

#[test]
fn poison_is_parked_and_its_lane_goes_on() {
    let now = start();
    let most = Settings::default().max_attempts;
    let mut delivery = leased(now, most);
    delivery.on(Input::Accepted(2, lane(1)), now);
    let parked = delivery.on(Input::Nack { id: 1, reason: "no".into(), after: None }, now);
    assert!(matches!(parked.as_slice(), [Action::Park { id: 1, .. }]), "{parked:?}");
    assert_eq!(
        delivery.on(Input::Ended(1), now),
        [Action::Load(Load { lane: lane(1), after: 1 })],
        "nothing is settled"
    );

    let mut delivery = ready(now, 1);
    delivery.on(Input::Accepted(1, lane(1)), now);
    let parked = delivery.on(Input::Begun { id: 1, counted: most + 1 }, now);
    let aside = matches!(parked.as_slice(), [Action::Withhold(1), Action::Park { id: 1, .. }]);
    assert!(aside, "it killed us each time: {parked:?}");

    let mut delivery = ready(now, 1);
    delivery.on(Input::Accepted(1, lane(1)), now);
    let parked = delivery.on(Input::Begun { id: 1, counted: UNREADABLE }, now);
    let aside = Action::Park { id: 1, reason: "it cannot be read".into() };
    assert_eq!(parked, [Action::Withhold(1), aside]);
}

#[test]
fn draining_lets_the_agent_answer_but_hands_out_nothing() {
    let now = start();
    let mut delivery = leased(now, 1);
    assert!(delivery.on(Input::Drain, now).is_empty());
    assert!(delivery.on(Input::Accepted(2, lane(2)), now).is_empty());
    assert_eq!(delivery.on(Input::Ack(1), now), [Action::Settle(1)]);
    assert_eq!(delivery.on(Input::Ended(1), now), [Action::Settled(1)]);
    assert!(delivery.is_idle());

    let mut delivery = leased(now, 1);
    assert_eq!(delivery.close(), [Action::Refund(1)]);
}

proptest! {
    /// Random agents that answer, refuse, fall silent, vanish and return: no event is dropped, none
    /// is settled twice, none of a lane overtakes another, and never two of a lane are out at once.
    #[test]
    fn nothing_is_lost_whatever_the_agent_does(
        arrivals in prop::collection::vec(0..5_u64, 1..40),
        faults in prop::collection::vec(0..8_u8, 0..200),
        capacity in 1..5_usize,
    ) {
        let mut now = start();
        let mut model = Model::default();
        let mut counted: BTreeMap<u64, u32> = BTreeMap::new();
        let mut ended: Vec<(u64, Lane)> = Vec::new();
        let total = arrivals.len();
        let mut arrivals = arrivals.into_iter().enumerate();
        let mut faults = faults.into_iter();
        let settings = Settings { lanes: capacity, max_attempts: 3, ..Settings::default() };
        let mut delivery = Delivery::new(settings);
        let mut out: Vec<u64> = Vec::new();
        let mut queue = delivery.on(Input::Lease { ttl: TTL * 1000, concurrency: 3 }, now);
        for _ in 0..20_000 {
            if let Some((i, n)) = arrivals.next() {
                let id = i as u64 + 1;
                model.0.insert(id, lane(n));
                queue.extend(delivery.on(Input::Accepted(id, lane(n)), now));
            }
            for action in std::mem::take(&mut queue) {
                let input = match action {
                    Action::Scan { after } => {
                        let (found, at_end) = model.scan(after, 3);
                        Input::Scanned { found, upto: 0, at_end }
                    }
                    Action::Load(load) => {
                        let found = model.next(&load);
                        Input::Loaded(load.lane, found)
                    }
                    Action::Begin(id) => {
                        let count = counted.entry(id).or_default();
                        *count += 1;
                        Input::Begun { id, counted: *count }
                    }
                    Action::Deliver(id) => {
                        prop_assert!(out.iter().all(|o| model.0[o] != model.0[&id]));
                        out.push(id);
                        continue;
                    }
                    Action::Refund(id) | Action::Withhold(id) | Action::Lost(id) => {
                        *counted.get_mut(&id).unwrap() -= 1;
                        out.retain(|o| *o != id);
                        continue;
                    }
                    Action::Failed { id, .. } => {
                        out.retain(|o| *o != id);
                        continue;
                    }
                    Action::Settle(id) | Action::Park { id, .. } => {
                        out.retain(|o| *o != id);
                        ended.push((id, model.0.remove(&id).expect("ends once")));
                        Input::Ended(id)
                    }
                    Action::Settled(_) => continue,
                };
                queue.extend(delivery.on(input, now));
            }
            if let Some(id) = out.first().copied() {
                let fault = faults.next().unwrap_or(0);
                let step = match fault {
                    0..=2 => delivery.on(Input::Ack(id), now),
                    3 => delivery.on(Input::Nack { id, reason: "no".into(), after: None }, now),
                    4 => delivery.on(Input::Paused(Pause::Asked), now),
                    5 => delivery.on(Input::Paused(Pause::Lost), now),
                    6 => {
                        now += settings.lease;
                        delivery.on(Input::Tick, now)
                    }
                    _ => delivery.on(Input::Progress(id), now),
                };
                queue.extend(step);
                queue.extend(delivery.on(Input::Lease { ttl: TTL * 1000, concurrency: 3 }, now));
            } else if queue.is_empty() {
                if ended.len() == total {
                    break;
                }
                now += Duration::from_secs(61);
                queue.extend(delivery.on(Input::Tick, now));
            }
        }
        prop_assert_eq!(ended.len(), total, "not all ended");
        prop_assert!(delivery.is_idle());
        let mut last: BTreeMap<Lane, u64> = BTreeMap::new();
        for (id, lane) in ended {
            prop_assert!(last.insert(lane, id).is_none_or(|before| before < id));
        }
    }
}

//! Acknowledgements of what is not with the agent any more.

use super::*;

#[test]
fn what_is_answered_after_it_was_set_aside_is_settled_also_as_one_that_came_back() {
    let now = start();
    let aside = |delivery: &mut Delivery| {
        delivery.on(Input::SetAside { id: 1, reason: "who knows".to_owned() }, now);
        delivery.on(Input::Ended(1), now);
    };
    let mut delivery = leased(now, 1);
    aside(&mut delivery);
    assert_eq!(delivery.on(Input::Ack(2), now), [], "what it never had is not its to end");
    assert_eq!(delivery.on(Input::Ack(1), now), [Action::Settle(1)]);
    assert_eq!(delivery.on(Input::Ended(1), now), [Action::Settled(1)]);
    assert_eq!(delivery.on(Input::Ack(1), now), []);

    let mut delivery = leased(now, 1);
    let reason = "who knows".to_owned();
    delivery.on(Input::SetAside { id: 1, reason }, now);
    assert_eq!(delivery.on(Input::Ack(1), now), [], "it is still on its way there");
    assert_eq!(delivery.on(Input::Ended(1), now), [Action::Settle(1)]);

    let mut delivery = leased(now, 1);
    aside(&mut delivery);
    delivery.on(Input::Lease { ttl: Duration::ZERO, concurrency: 1 }, now);
    delivery.on(Input::Replayed(1, lane(1)), now);
    assert_eq!(delivery.on(Input::Ack(1), now), [Action::Settle(1)], "as one that waits again");
    let ended = delivery.on(Input::Ended(1), now);
    assert_eq!(ended, [Action::Settled(1), Action::Load(Load { lane: lane(1), after: 1 })]);
    assert_eq!(delivery.on(Input::Ack(1), now), []);
}

/// An event whose lease is over, in a lane in which another one is replayed before it.
fn displaced(now: Instant) -> Delivery {
    let mut delivery = ready(now, 1);
    assert_eq!(delivery.on(Input::Accepted(10, lane(1)), now), [Action::Begin(10)]);
    delivery.on(Input::Begun { id: 10, counted: 1 }, now);
    let over = Input::Nack { id: 10, reason: "no".into(), after: None };
    delivery.on(over, now);
    assert_eq!(delivery.on(Input::Replayed(5, lane(1)), now), [Action::Begin(5)]);
    delivery
}

#[test]
fn what_another_one_was_replayed_before_is_settled() {
    let now = start();
    let mut delivery = displaced(now);
    assert_eq!(delivery.on(Input::Ack(10), now), [Action::Settle(10)]);
    assert_eq!(delivery.on(Input::Ended(10), now), [Action::Settled(10)]);
    assert_eq!(delivery.on(Input::Ack(10), now), []);
    delivery.on(Input::Begun { id: 5, counted: 1 }, now);
    assert_eq!(delivery.on(Input::Ack(5), now), [Action::Settle(5)]);
    let load = Action::Load(Load { lane: lane(1), after: 5 });
    assert_eq!(delivery.on(Input::Ended(5), now), [Action::Settled(5), load]);
}

#[test]
fn what_is_found_again_while_it_is_settled_is_not_begun() {
    let now = start();
    let mut delivery = displaced(now);
    delivery.on(Input::Begun { id: 5, counted: 1 }, now);
    delivery.on(Input::Ack(5), now);
    delivery.on(Input::Ended(5), now);
    assert_eq!(delivery.on(Input::Ack(10), now), [Action::Settle(10)]);
    assert_eq!(delivery.on(Input::Loaded(lane(1), Some(10)), now), []);
    let load = Action::Load(Load { lane: lane(1), after: 10 });
    assert_eq!(delivery.on(Input::Ended(10), now), [Action::Settled(10), load]);
}

#[test]
fn what_is_looked_for_anew_is_settled() {
    let now = start();
    let mut delivery = leased(now, 1);
    delivery.on(Input::Nack { id: 1, reason: "no".into(), after: None }, now);
    delivery.regroup();
    let settled = delivery.on(Input::Ack(1), now);
    assert_eq!(settled, [Action::Settle(1), Action::Scan { after: 0 }]);
}

/// F97: it ends before its turn has come, and is not held any more.
#[test]
fn what_went_beside_is_settled_and_told() {
    let now = start();
    let rule = Rule { quiet: Duration::from_secs(60), most: Duration::from_secs(60) };
    let mut delivery = leased(now, 1);
    for id in [2, 3] {
        delivery.on(Input::Said(id, lane(1), rule), now);
        delivery.on(Input::Accepted(id, lane(1)), now);
    }
    assert_eq!(delivery.on(Input::Beside(2, lane(1)), now), []);
    assert!(delivery.is_held(&lane(1), now), "what was said behind it is");
    assert_eq!(delivery.on(Input::Ack(2), now), [Action::Settle(2)]);
    assert_eq!(delivery.on(Input::Ended(2), now), [Action::Settled(2)]);
    delivery.on(Input::Beside(3, lane(1)), now);
    assert!(!delivery.is_held(&lane(1), now));
    assert_eq!(delivery.on(Input::Withdraw(lane(1)), now), []);
}

//! What becomes of a reply, row by row.

use super::*;
use crate::policy::lanes::model::lane;

#[path = "outbox_tests/world.rs"]
mod world;

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> Instant {
    crate::clock::now()
}

fn begun(ambiguous: Option<Duration>) -> Input {
    Input::Begun(Begun { id: 1, attempt: 1, age: Duration::ZERO, ambiguous })
}

fn beginning(now: Instant, idempotent: Option<Duration>) -> Outbox {
    let mut outbox = Outbox::new(Settings::default());
    assert_eq!(outbox.on(Input::Tick, now), [Action::Scan { after: 0 }]);
    outbox.on(Input::Scanned { found: vec![(1, lane(1)), (2, lane(1))], at_end: true }, now);
    assert_eq!(outbox.on(Input::Up { idempotent }, now), [Action::Begin(1)]);
    outbox
}

#[test]
fn a_chat_stays_in_order_and_the_next_reply_follows_the_end() {
    let now = start();
    let mut outbox = beginning(now, None);
    assert_eq!(outbox.on(begun(None), now), [Action::Send(1)]);
    let sent = Outcome::Sent { message_ids: vec!["m".into()] };
    let end = Action::End(1, End::Sent(vec!["m".into()]));
    assert_eq!(outbox.on(Input::Outcome(1, sent), now), [end]);
    let load = Action::Load(Load { lane: lane(1), after: 1 });
    assert_eq!(outbox.on(Input::Ended(1), now), [load]);
    assert_eq!(outbox.on(Input::Loaded(lane(1), Some(2)), now), [Action::Begin(2)]);
}

#[test]
fn an_ambiguous_reply_is_repeated_only_while_its_key_is_known() {
    let now = start();
    for (idempotent, since, again) in
        [(Some(HOUR), HOUR / 2, true), (Some(HOUR), HOUR, false), (None, Duration::ZERO, false)]
    {
        let mut outbox = beginning(now, idempotent);
        let actions = outbox.on(begun(Some(since)), now);
        if again {
            assert_eq!(actions, [Action::Send(1)]);
        } else {
            assert!(matches!(actions.as_slice(), [Action::End(1, End::Unknown(_))]));
        }
    }
}

#[test]
fn what_would_be_too_old_by_its_next_attempt_is_given_up_now() {
    let now = start();
    let second = Duration::from_secs(1);
    for (wait, given_up) in [(4000, false), (6000, true)] {
        let mut outbox = beginning(now, None);
        let age = Settings::default().max_age.saturating_sub(10 * second);
        let begun = Begun { id: 1, attempt: 1, age, ambiguous: None };
        assert_eq!(outbox.on(Input::Begun(begun), now), [Action::Send(1)]);
        let retry = Outcome::Retry { reason: "later".into(), after_ms: Some(wait) };
        let actions = outbox.on(Input::Outcome(1, retry), now + 5 * second);
        let end = matches!(actions.as_slice(), [Action::End(1, End::Failed(why))] if why.contains("later"));
        assert_eq!(end, given_up, "{actions:?}");
    }
}

#[test]
fn a_worker_that_dies_leaves_its_reply_ambiguous() {
    let now = start();
    let mut outbox = beginning(now, Some(HOUR));
    outbox.on(begun(None), now);
    assert!(outbox.on(Input::Down, now).is_empty(), "nothing is recorded: it may have left");
    assert_eq!(outbox.on(Input::Up { idempotent: Some(HOUR) }, now), [Action::Begin(1)]);
    assert_eq!(outbox.on(begun(Some(Duration::ZERO)), now), [Action::Send(1)]);
}

#[test]
fn a_worker_that_leaves_is_given_nothing_more_and_answers_what_it_has() {
    let now = start();
    let mut outbox = beginning(now, None);
    outbox.on(Input::Accepted(3, lane(3)), now);
    outbox.on(begun(None), now);
    assert!(outbox.on(Input::Leaving, now).is_empty());
    let begun = Begun { id: 3, attempt: 1, age: Duration::ZERO, ambiguous: None };
    assert_eq!(outbox.on(Input::Begun(begun), now), [Action::Again(3)], "it never left");
    let not_sent = Outcome::Retry { reason: "leaving".into(), after_ms: Some(0) };
    assert_eq!(outbox.on(Input::Outcome(1, not_sent), now), [Action::Again(1)]);
    assert!(outbox.on(Input::Down, now).is_empty());
    let up = outbox.on(Input::Up { idempotent: None }, now);
    assert_eq!(up, [Action::Begin(1), Action::Begin(3)]);
}

#[test]
fn a_worker_that_dies_before_the_intent_is_durable_costs_nothing() {
    let now = start();
    let mut outbox = beginning(now, None);
    outbox.on(Input::Down, now);
    assert_eq!(outbox.on(begun(None), now), [Action::Again(1)]);
    assert_eq!(outbox.on(Input::Up { idempotent: None }, now), [Action::Begin(1)]);
}

#[test]
fn who_waits_in_the_middle_gives_its_room_away_and_not_more_than_that() {
    let now = start();
    let settings = Settings { concurrency: 1, waiting: 1, ..Settings::default() };
    let mut outbox = Outbox::new(settings);
    let found = (1..=4).map(|id| (id, lane(id))).collect();
    outbox.on(Input::Scanned { found, at_end: true }, now);
    assert_eq!(outbox.on(Input::Up { idempotent: None }, now), [Action::Begin(1)]);
    let begun = |id| Input::Begun(Begun { id, attempt: 1, age: Duration::ZERO, ambiguous: None });
    assert!(outbox.on(Input::Waits(1), now).is_empty(), "it has not left");
    outbox.on(begun(1), now);
    assert_eq!(outbox.on(Input::Waits(1), now), [Action::Begin(2)]);
    assert!(outbox.on(Input::Waits(1), now).is_empty(), "once is once");
    outbox.on(begun(2), now);
    assert!(outbox.on(Input::Waits(2), now).is_empty(), "as many wait as may");
    let sent = || Outcome::Sent { message_ids: Vec::new() };
    let ended = outbox.on(Input::Outcome(1, sent()), now);
    assert_eq!(ended, [Action::End(1, End::Sent(Vec::new()))]);
    assert_eq!(outbox.in_flight(), 1);
    let ended = outbox.on(Input::Outcome(2, sent()), now);
    assert_eq!(ended, [Action::End(2, End::Sent(Vec::new())), Action::Begin(3)]);
}

fn in_vain() -> Outcome {
    Outcome::Retry { reason: "503".into(), after_ms: None }
}

#[test]
fn when_the_platform_is_heard_again_nobody_waits_longer_but_by_its_own_wish() {
    let now = start();
    let mut outbox = Outbox::new(Settings::default());
    let found = (1..=4).map(|id| (id, lane(id))).collect();
    outbox.on(Input::Scanned { found, at_end: true }, now);
    outbox.on(Input::Up { idempotent: None }, now);
    let begun = |id| Input::Begun(Begun { id, attempt: 5, age: Duration::ZERO, ambiguous: None });
    for id in 1..=4 {
        outbox.on(begun(id), now);
    }
    let wish = Outcome::Retry { reason: "429".into(), after_ms: Some(9000) };
    outbox.on(Input::Outcome(4, wish), now);
    outbox.on(Input::Outcome(1, in_vain()), now);
    outbox.on(Input::Outcome(2, in_vain()), now);
    // One success between failures says nothing about the platform.
    let sent = || Outcome::Sent { message_ids: Vec::new() };
    assert_eq!(outbox.on(Input::Outcome(3, sent()), now).len(), 1);
    let heard = outbox.on(Input::Heard, now);
    assert_eq!(heard, [Action::Begin(1), Action::Begin(2)]);
    assert_eq!(outbox.deadline(), Some(now + Duration::from_secs(9)), "its wish holds");

    // And three failures in a row say that it is ill.
    for id in [1, 2] {
        outbox.on(begun(id), now);
        outbox.on(Input::Outcome(id, in_vain()), now);
    }
    let due = now + Duration::from_secs(9);
    assert_eq!(outbox.on(Input::Tick, due), [Action::Begin(4)]);
    outbox.on(begun(4), due);
    outbox.on(Input::Outcome(4, in_vain()), due);
    outbox.on(Input::Accepted(5, lane(5)), due);
    outbox.on(begun(5), due);
    let next = outbox.on(Input::Outcome(5, sent()), due);
    assert!(next.ends_with(&[Action::Begin(1), Action::Begin(2), Action::Begin(4)]), "{next:?}");
}

#[test]
fn the_platforms_wish_is_obeyed_and_an_old_reply_given_up() {
    let now = start();
    let mut outbox = beginning(now, None);
    outbox.on(begun(None), now);
    let wait = Outcome::Retry { reason: "429".into(), after_ms: Some(7000) };
    assert_eq!(outbox.on(Input::Outcome(1, wait), now), [Action::Again(1)]);
    assert_eq!(outbox.deadline(), Some(now + Duration::from_secs(7)));
    assert!(outbox.on(Input::Tick, now + Duration::from_secs(6)).is_empty());
    let due = now + Duration::from_secs(7);
    assert_eq!(outbox.on(Input::Tick, due), [Action::Begin(1)]);
    let old = Begun { id: 1, attempt: 2, age: 25 * HOUR, ambiguous: None };
    let given_up = outbox.on(Input::Begun(old), due);
    assert!(matches!(given_up.as_slice(), [Action::End(1, End::Failed(_))]));
}

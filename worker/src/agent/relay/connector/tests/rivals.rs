//! Two agents of one id, strangers, and what an agent says when nobody waits for it any more.

use super::*;

fn hello(world: &mut World, conn: Conn) {
    world.on(Input::Heard(conn, Heard::Hello("feishu".into())));
}

/// The one that is served says that it lives.
fn lives(world: &mut World, conn: Conn) {
    let probe = world.probe(conn);
    world.say(conn, &probe, "help", None, None);
}

/// What was told of the outer connection since the last look.
fn outside(world: &mut World) -> Vec<&'static str> {
    let mut told = Vec::new();
    world.out.retain(|action| match action {
        Action::Say(FromWorker::Outside(outside)) => {
            told.push(match outside {
                Outside::Up => "up",
                Outside::Down { .. } => "down",
                Outside::Limited { reason, remedy: Some(remedy) } => {
                    assert!(reason.contains("twice") && remedy.contains("end one"), "{reason}");
                    "two"
                }
                other => panic!("{other:?}"),
            });
            false
        }
        _ => true,
    });
    told
}

#[test]
fn of_two_that_live_the_first_is_served_and_the_second_waits() {
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    assert_eq!(world.sent(1), ["m1"]);
    hello(&mut world, 2);
    lives(&mut world, 1);
    world.pass(60 * S);
    assert_eq!(outside(&mut world), ["two"], "it is named once");
    world.deliver(2, "oc_2", 1);
    assert_eq!((world.sent(1), world.sent(2)), (vec!["m2".to_owned()], vec![]));
    world.say(1, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.told(), ["ack 1"], "nobody is closed, nothing is given up");
    // A third changes nothing.
    hello(&mut world, 3);
    lives(&mut world, 1);
    world.pass(10 * S);
    assert!(outside(&mut world).is_empty() && world.told().is_empty());
    world.on(Input::Closed(3));
    assert!(outside(&mut world).is_empty());
    world.on(Input::Closed(2));
    assert_eq!(outside(&mut world), ["up"]);
}

#[test]
fn the_one_that_waits_is_served_when_the_first_has_left() {
    let mut world = World::open(process(7, 1));
    hello(&mut world, 2);
    lives(&mut world, 1);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.out.clear();
    world.on(Input::Closed(1));
    assert_eq!(world.told(), ["shut"]);
    hello(&mut world, 2);
    world.pass(S);
    lives(&mut world, 2);
    assert!(world.is_open());
    // Both may write to the same state file, so it does not tell that this is the same process.
    assert_eq!(world.told(), ["nack 1"]);
    world.deliver(1, "oc_1", 2);
    assert_eq!(world.sent(2), ["m1~hgw2"]);
}

/// A half-open connection, or a reader that died: the newer one gets in quickly.
#[test]
fn one_that_does_not_answer_gives_way_and_that_is_no_fault_of_its_events() {
    for (file, told) in [(process(7, 1), vec![]), (process(8, 0), vec!["later 1"])] {
        let mut world = World::open(process(7, 1));
        world.deliver(1, "oc_1", 1);
        world.take(1, 1, 1);
        world.file = file;
        world.out.clear();
        hello(&mut world, 2);
        world.deliver(2, "oc_2", 1);
        assert!(world.sent(1).is_empty(), "nothing goes where perhaps nobody is");
        assert!(world.told().is_empty());
        world.pass(3 * S);
        let probe = world.probe(2);
        assert_eq!(world.told(), ["close 1", "shut"]);
        world.say(2, &probe, "help", None, None);
        assert!(world.is_open());
        assert_eq!(world.sent(2), ["m2"]);
        assert_eq!(world.told(), told);
    }
}

#[test]
fn two_that_are_slow_change_places_more_and_more_rarely() {
    let mut world = World::open(None);
    let (mut waits, mut last, mut changes) = (2, 2, 0);
    hello(&mut world, waits);
    for _ in 0..120 {
        world.pass(S);
        if world.told().iter().any(|told| told.starts_with("close")) {
            changes += 1;
            // As Hermes does: a second later it is back.
            last += 1;
            waits = last;
            hello(&mut world, waits);
        }
    }
    assert!((2..=7).contains(&changes), "{changes}");
}

#[test]
fn the_state_file_of_another_ends_no_turn() {
    let mut world = World::open(process(7, 1));
    hello(&mut world, 2);
    lives(&mut world, 1);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.file = process(8, 0);
    world.out.clear();
    world.pass(60 * S);
    assert!(world.told().is_empty());
    world.on(Input::Closed(2));
    world.pass(60 * S);
    assert!(world.told().is_empty());
    world.file = process(7, 0);
    world.pass(12 * S);
    assert_eq!(world.told(), ["ack 1"]);
}

/// What was given up is answered late: once, and it is not asked again.
#[test]
fn a_late_answer_to_what_was_given_up_is_its_answer() {
    let mut known = World::open(None);
    known.deliver(1, "oc_1", 1);
    known.say(1, "oc_1", "answer", Some("m1"), None);
    let key = known.replies()[0].key.clone();

    let mut world = World::open(process(7, 1));
    world.pass(FORMER);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.pass(1801 * S);
    assert_eq!(world.told(), ["doubt 1"]);
    world.say(1, "oc_1", "late", Some("m1"), None);
    assert_eq!(world.replies()[0].key, key);
    assert_eq!(world.told(), ["ack 1"], "if it waits to be offered again, it is settled");
    world.deliver(1, "oc_1", 2);
    assert_eq!(world.told(), ["ack 1"]);
    world.say(1, "oc_1", "of another copy", Some("m1~hgw2"), None);
    assert!(world.replies().is_empty());
    world.say(1, "oc_1", "and more", Some("m1"), None);
    assert_eq!(world.replies().len(), 1, "nothing that it says is lost");
}

#[test]
fn a_connection_that_is_turned_away_or_says_no_hello_is_told() {
    let mut world = World::new(None);
    let reason = |world: &World| match &world.connector.told {
        Outside::Down { reason, remedy } => format!("{reason} {remedy:?}"),
        other => format!("{other:?}"),
    };
    world.on(Input::TurnedAway("unauthorized"));
    assert!(reason(&world).contains("turned away: unauthorized"), "{}", reason(&world));
    world.on(Input::Closed(1));
    assert!(reason(&world).contains("turned away"), "its end changes nothing");
    assert_eq!(world.connector.deadline(), None);
    world.on(Input::Entered(2));
    assert!(world.connector.deadline().is_some(), "it is looked after");
    world.on(Input::Tick);
    assert!(reason(&world).contains("turned away"), "it has a moment");
    world.now += 3 * S;
    world.on(Input::Tick);
    assert!(reason(&world).contains("does not say hello"), "{}", reason(&world));
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    world.on(Input::Closed(2));
    assert!(!reason(&world).contains("turned away"), "{}", reason(&world));
    assert_eq!(world.connector.deadline(), None);
}

//! Connections, agents and workers that go and come, and what becomes of what they held.

use super::*;

#[test]
fn an_agent_that_restarted_gets_its_events_again() {
    for file in [None, process(7, 0)] {
        let mut world = World::open(file.clone());
        world.deliver(1, "oc_1", 1);
        world.take(1, 1, 1);
        world.on(Input::Closed(1));
        assert_eq!(world.told(), ["shut"], "what it holds stays with it for now");
        world.file = file.and(process(8, 0));
        world.on(Input::Heard(2, Heard::Hello("feishu".into())));
        assert!(world.told().is_empty());
        world.pass(S);
        let probe = world.probe(2);
        world.say(2, &probe, "help", None, None);
        assert_eq!(world.told(), ["nack 1"]);
        world.deliver(1, "oc_1", 2);
        assert_eq!(world.sent(2), ["m1~hgw2"]);
    }
}

/// P6: one message that kills the agent is found among its neighbours, and they pay nothing.
#[test]
fn what_is_lost_together_does_not_count_and_is_tried_alone() {
    let mut world = World::open(process(1, 0));
    for pid in [2, 3] {
        for (id, chat) in [(1, "oc_1"), (2, "oc_2")] {
            world.deliver(id, chat, 1);
            world.take(pid - 1, id, 1);
        }
        assert_eq!(world.sent(pid - 1).len(), 2);
        world.on(Input::Closed(pid - 1));
        world.told();
        world.file = process(pid, 0);
        world.on(Input::Heard(pid, Heard::Hello("feishu".into())));
        let probe = world.probe(pid);
        world.out.clear();
        world.say(pid, &probe, "help", None, None);
        assert_eq!(world.told(), ["later 1", "later 2"]);
    }
    for (id, chat) in [(1, "oc_1"), (2, "oc_2"), (3, "oc_3")] {
        world.deliver(id, chat, 1);
    }
    assert_eq!(world.sent(3), ["m1"]);
    world.say(3, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.sent(3), ["m2"]);
    world.on(Input::Closed(3));
    world.told();
    world.file = process(4, 0);
    world.on(Input::Heard(4, Heard::Hello("feishu".into())));
    let probe = world.probe(4);
    world.out.clear();
    world.say(4, &probe, "help", None, None);
    assert_eq!(world.sent(4), ["m3"], "and who was not there goes on");
    assert_eq!(world.told(), ["nack 2"]);
}

#[test]
fn lost_answers_keep_nobody_else_out() {
    let mut world = World::open(process(7, 2));
    for (id, chat) in [(1, "oc_1"), (2, "oc_2")] {
        world.deliver(id, chat, 1);
        world.take(1, id, 1);
    }
    world.on(Input::Closed(1));
    world.file = process(7, 1);
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.say(2, &probe, "help", None, None);
    let places = |world: &World| {
        world.out.iter().rev().find_map(|action| match action {
            Action::Say(FromWorker::Lease { ttl_ms: 1.., concurrency }) => Some(*concurrency),
            _ => None,
        })
    };
    assert_eq!(places(&world), Some(9), "one of the two has no turn any more");
    world.file = process(7, 0);
    world.pass(S);
    assert_eq!(places(&world), Some(10));
    world.out.clear();
    world.pass(STUCK + 3 * S);
    assert_eq!(places(&world), Some(8));
    let later = world.told();
    assert_eq!(later, ["later 1", "later 2"], "an end of a connection counts against nobody");
}

#[test]
fn an_agent_that_dialled_again_finishes_what_it_holds() {
    let mut world = World::open(process(7, 1));
    for (id, chat) in [(1, "oc_1"), (2, "oc_2"), (3, "oc_3")] {
        world.deliver(id, chat, 1);
    }
    world.take(1, 1, 1);
    world.take(1, 2, 1);
    world.on(Input::Closed(1));
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.out.clear();
    world.say(2, &probe, "help", None, None);
    assert_eq!(world.told(), ["nack 3"], "what it never took");
    world.deliver(3, "oc_3", 2);
    world.say(2, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.replies().len(), 1);
    assert_eq!(world.told(), ["ack 1"]);
    world.pass(20 * S);
    assert!(world.told().is_empty(), "a turn still runs");
    world.file = process(7, 0);
    world.pass(8 * S);
    assert!(world.told().is_empty(), "it may wait for a result that was lost");
    world.pass(8 * S);
    assert_eq!(world.sent(2), ["m3~hgw2"], "no copy while the first may be in work");
    assert_eq!(world.told(), ["nack 2"], "its answer was lost with the connection");
}

/// Newer agents acknowledge a message whose name they have seen, and do nothing.
#[test]
fn what_is_offered_again_has_another_name_and_its_answer_is_known() {
    let mut world = World::open(process(7, 0));
    world.deliver(1, "oc_1", 2);
    world.pass(STUCK + 3 * S);
    let name = world.sent(1).remove(0);
    assert_ne!(name, "m1");
    world.take(1, 1, 2);
    world.say(1, "oc_1", "answer", Some(&name), None);
    let replies = world.replies();
    assert_eq!(replies[0].reply_to.as_deref(), Some("m1"));
    assert_eq!(world.told().last().unwrap(), "ack 1");
    let mut first = World::open(None);
    first.deliver(1, "oc_1", 1);
    first.say(1, "oc_1", "answer", Some("m1"), None);
    assert_eq!(first.replies()[0].key, replies[0].key, "the chat gets one of the two");
}

#[test]
fn a_new_worker_waits_for_the_first_copy_and_its_answer_is_good() {
    let mut world = World::open(process(7, 2));
    world.deliver(1, "oc_1", 2);
    world.deliver(2, "oc_2", 1);
    world.deliver(3, "oc_3", 2);
    assert_eq!(world.sent(1), ["m2"]);
    world.say(1, "oc_3", "of the first copy", Some("m3"), None);
    assert_eq!(world.told().last().unwrap(), "ack 3");
    world.file = process(7, 0);
    world.pass(STUCK);
    assert!(world.sent(1).is_empty());
    world.pass(3 * S);
    assert_eq!(world.sent(1), ["m1~hgw2"]);
    world.say(1, "oc_1", "answer", Some("m1"), None);
    world.out.clear();
    world.say(1, "oc_1", "of a second copy", Some("m1~hgw2"), None);
    assert!(world.replies().is_empty(), "nobody is answered twice");
    world.say(1, "oc_1", "and one more thing", Some("m1"), None);
    assert_eq!(world.replies().len(), 1, "its turn says more");
}

/// In a thread an answer names no message, and nobody is answered twice there either.
#[test]
fn in_a_thread_a_new_worker_takes_the_answer_to_the_first_copy() {
    let topic = |attempt| {
        let mut topic = delivery(1, "feishu", "oc_1", "hello");
        topic.attempt = attempt;
        topic.event.chat_type = ChatType::Group;
        topic.event.thread_id = Some("omt_1".into());
        topic.lane.thread_id = Some("omt_1".into());
        Box::new(topic)
    };
    let mut known = World::open(None);
    known.on(Input::Deliver(topic(1)));
    known.say(1, "oc_1", "answer", None, Some("omt_1"));
    let key = known.replies()[0].key.clone();

    // It comes again, and waits since its first copy may be in work: it was.
    let mut world = World::open(process(7, 1));
    world.on(Input::Deliver(topic(2)));
    world.say(1, "oc_1", "of the first copy", None, Some("omt_1"));
    assert_eq!(world.replies()[0].key, key);
    assert_eq!(world.told(), ["ack 1"]);

    // The answer is there before the event.
    let mut world = World::open(process(7, 1));
    world.say(1, "oc_1", "of the first copy", None, Some("omt_1"));
    world.pass(2 * S);
    assert!(world.replies().is_empty(), "it waits for what it may answer");
    world.on(Input::Deliver(topic(2)));
    assert_eq!(world.replies()[0].key, key);
    assert!(world.sent(1).is_empty(), "the agent is not asked again");
    assert_eq!(world.told(), ["ack 1"]);

    // Nothing comes again: it was a word of its own.
    let mut world = World::open(process(7, 0));
    world.say(1, "oc_1", "by the way", None, Some("omt_1"));
    world.pass(11 * S);
    assert_eq!(world.replies()[0].content.text, "by the way");
    world.pass(FORMER);
    world.say(1, "oc_1", "at once", None, Some("omt_1"));
    assert_eq!(world.replies()[0].content.text, "at once");
}

#[test]
fn a_new_worker_knows_the_answer_to_what_is_not_offered_again_yet() {
    let mut world = World::open(process(7, 1));
    world.say(1, "oc_1", "of the first copy", Some("m1"), None);
    let first = world.replies().remove(0);
    world.out.clear();
    world.deliver(1, "oc_1", 2);
    assert_eq!(world.told(), ["ack 1"], "and the agent is not asked again");
    // A worker that had it would have given it the same key.
    let mut other = World::open(None);
    other.deliver(1, "oc_1", 1);
    other.say(1, "oc_1", "of the first copy", Some("m1"), None);
    assert_eq!(other.replies()[0].key, first.key);
    // Later a second message about it is one.
    world.pass(FORMER);
    for _ in 0..2 {
        world.say(1, "oc_1", "by the way", Some("m7"), None);
    }
    let replies = world.replies();
    assert_ne!(replies[0].key, replies[1].key);
}

#[test]
fn an_agent_that_leaves_gets_nothing_more_and_loses_nothing() {
    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.on(Input::Heard(1, Heard::GoingIdle));
    assert_eq!(world.told(), ["shut"]);
    world.deliver(2, "oc_2", 1);
    assert!(world.sent(1).is_empty());
    world.say(1, "oc_1", "last words", Some("m1"), None);
    assert_eq!(world.told(), ["ack 1"]);

    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.say(
        1,
        "oc_1",
        "⏳ Gateway is shutting down and is not accepting new work",
        Some("m1"),
        None,
    );
    assert_eq!(world.replies().len(), 0, "the chat need not know");
    assert_eq!(world.told(), ["nack 1", "shut"]);
    // A model has said it: the agent is still here, and is asked whether it listens.
    world.pass(179 * S);
    assert!(!world.is_open());
    world.pass(2 * S);
    let chat = world.probe(1);
    world.say(1, &chat, "help", None, None);
    assert!(world.is_open());
    world.deliver(3, "oc_3", 1);
    assert!(world.sent(1).contains(&"m3".to_owned()));
}

#[test]
fn nobody_is_asked_to_send_again_what_we_have() {
    let mut world = World::open(None);
    for (id, text) in [
        (
            1,
            "⚠️ Your message was interrupted before processing started (likely by a recent /stop). Please send it again.",
        ),
        (
            2,
            "⚠️ Your message wasn't processed (the previous turn was still being cleaned up). Please send it again.",
        ),
    ] {
        world.deliver(id, "oc_1", 1);
        world.say(1, "oc_1", text, Some(&format!("m{id}")), None);
        assert!(world.replies().is_empty());
        assert_eq!(world.told(), [format!("nack {id}")]);
    }
}

#[test]
fn one_that_is_away_for_long_hands_everything_back() {
    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.on(Input::Closed(1));
    world.told();
    world.pass(59 * S);
    assert!(world.told().is_empty());
    world.pass(2 * S);
    assert_eq!(world.told(), ["Asked"]);
}

/// F20: an hour without the agent costs nothing but time.
#[test]
fn an_agent_that_is_away_for_an_hour_gets_its_events_when_it_is_back() {
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.on(Input::Closed(1));
    assert_eq!(world.told(), ["shut"]);
    world.pass(AWAY + 2 * S);
    assert_eq!(world.told(), ["Asked"], "handed back, without a mark");
    // The supervisor keeps it from then on, and nothing is done in the rest of the hour.
    assert_eq!(world.connector.deadline().map(|due| due < world.now + 3600 * S), None);
    world.pass(3600 * S);
    assert!(!world.is_open() && world.out.is_empty());
    world.file = process(8, 0);
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.say(2, &probe, "help", None, None);
    assert!(world.is_open());
    world.out.clear();
    world.deliver(1, "oc_1", 2);
    assert_eq!(world.sent(2), ["m1~hgw2"]);
    world.say(2, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.told(), ["ack 1"]);
}

/// A turn that a person has stopped while the agent that is at it was away.
fn stopped_while_away() -> World {
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.on(Input::Closed(1));
    world.on(Input::Interrupt(EventId(1)));
    world
}

/// "Stopped." is a promise, whatever becomes of the connection or the process meanwhile.
#[test]
fn what_a_person_has_ended_is_not_offered_again() {
    let stop = |world: &mut World, conn| {
        let events = world.events(conn);
        let stops: Vec<_> = events.iter().filter(|event| event["text"] == "/stop").collect();
        let name = stops.first().map(|event| event["message_id"].as_str().unwrap().to_owned());
        assert!(stops.len() <= 1, "{events:?}");
        world.out.clear();
        name
    };
    // In work at an agent that is away: the same process is told when it is back.
    let mut world = stopped_while_away();
    world.out.clear();
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.say(2, &probe, "help", None, None);
    let name = stop(&mut world, 2).expect("it is told");
    world.say(2, "oc_1", "stopped", Some(&name), None);
    assert_eq!(world.told(), ["ack 1"]);
    // Another process has forgotten it.
    let mut world = stopped_while_away();
    world.file = process(8, 0);
    world.out.clear();
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.say(2, &probe, "help", None, None);
    assert!(world.told().iter().any(|told| told == "ack 1"));
    // Nobody came back.
    let mut world = stopped_while_away();
    world.out.clear();
    world.pass(AWAY + S);
    assert_eq!(world.told(), ["ack 1", "Asked"]);
    // Offered once more, and not sent yet, since its first copy may be in work.
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 2);
    assert!(world.sent(1).is_empty());
    world.on(Input::Interrupt(EventId(1)));
    let name = stop(&mut world, 1).expect("its first copy ends");
    world.file = process(7, 0);
    world.pass(STUCK + 3 * S);
    assert!(world.sent(1).is_empty(), "it is not begun");
    world.say(1, "oc_1", "nothing to stop", Some(&name), None);
    assert!(world.told().iter().any(|told| told == "ack 1"));
}

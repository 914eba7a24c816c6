//! What an agent is told and when, and which of its words end what.

use super::*;

#[test]
fn nothing_goes_before_the_agent_proves_that_it_listens() {
    let mut world = World::new(None);
    world.on(Input::Heard(1, Heard::Hello("feishu".into())));
    let first = world.probe(1);
    world.pass(2 * S);
    let second = world.probe(1);
    assert_ne!(first, second, "the name of a probe is never used again");
    world.deliver(1, "oc_1", 1);
    assert!(world.sent(1).is_empty());
    // An answer to another connection's probe proves nothing.
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    world.pass(2 * S);
    assert_eq!(world.told(), ["close 1", "shut"]);
    world.say(1, &second, "help", None, None);
    world.say(2, &second, "help", None, None);
    assert!(!world.is_open());
    world.pass(S);
    let own = world.probe(2);
    world.say(2, &own, "help", None, None);
    assert!(world.is_open() && world.replies().is_empty(), "and its answer goes nowhere");
    assert_eq!(world.sent(2), ["m1"]);
}

#[test]
fn an_event_is_kept_until_its_answer_is_stored() {
    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    assert!(world.told().is_empty(), "taken is not done");
    world.say(1, "oc_2", "elsewhere", Some("m9"), None);
    world.say(1, "oc_1", "aside", None, None);
    assert!(!world.told().iter().any(|told| told.starts_with("ack")));
    world.say(1, "oc_1", "answer", Some("m1"), None);
    let replies = world.replies();
    let last = replies.last().unwrap();
    assert_eq!((last.content.text.as_str(), last.reply_to.as_deref()), ("answer", Some("m1")));
    assert_eq!(world.told(), ["ack 1"]);
}

#[test]
fn what_nobody_says_is_acknowledged_and_not_asked() {
    let mut world = World::open(None);
    let mut reaction = delivery(1, "feishu", "oc_1", "hello");
    reaction.event.kind = InboundKind::Reaction;
    world.on(Input::Deliver(Box::new(reaction)));
    assert!(world.sent(1).is_empty());
    assert!(world.told().iter().any(|told| told.starts_with("ack")));
}

#[test]
fn a_session_has_one_event_at_a_time_and_sessions_do_not_wait() {
    let mut world = World::open(None);
    for (id, chat) in [(1, "oc_1"), (2, "oc_1"), (3, "oc_2")] {
        world.deliver(id, chat, 1);
    }
    assert_eq!(world.sent(1), ["m1", "m3"]);
    world.say(1, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.sent(1), ["m2"]);
}

#[test]
fn in_a_thread_an_answer_without_a_target_is_its_events() {
    let mut world = World::open(None);
    let mut topic = delivery(1, "feishu", "oc_1", "hello");
    topic.event.chat_type = ChatType::Group;
    topic.event.thread_id = Some("omt_1".into());
    topic.event.reply_to = Some("om_root".into());
    topic.lane.thread_id = Some("omt_1".into());
    let mut other = topic.clone();
    (other.event_id, other.event.thread_id) = (EventId(2), Some("omt_2".into()));
    other.event.message_id = Some("m2".into());
    world.on(Input::Deliver(Box::new(topic.clone())));
    world.on(Input::Deliver(Box::new(other)));
    world.say(1, "oc_1", "second", None, Some("omt_2"));
    world.say(1, "oc_1", "first", Some("om_root"), Some("omt_1"));
    assert_eq!(
        world.replies().iter().map(|r| r.content.text.as_str()).collect::<Vec<_>>(),
        ["second", "first"]
    );
    assert_eq!(world.told(), ["ack 2", "ack 1"]);
    // Later words to that thread find its lane.
    world.say(1, "oc_1", "more", None, Some("omt_1"));
    assert_eq!(world.replies()[0].lane, topic.lane);
}

/// A turn may say several things that look like its end.
#[test]
fn what_a_turn_says_behind_its_answer_is_passed_on() {
    let mut world = World::open(process(7, 1));
    // Of an event that is here, also before the store has the answer.
    world.deliver(1, "oc_1", 1);
    world.on_hold = true;
    for text in ["answer", "more"] {
        world.say(1, "oc_1", text, Some("m1"), None);
    }
    world.judge();
    world.say(1, "oc_1", "and more", Some("m1"), None);
    // Of one that a former worker had.
    for text in ["answer", "more"] {
        world.say(1, "oc_2", text, Some("m2"), None);
    }
    world.judge();
    world.say(1, "oc_2", "and more", Some("m2"), None);
    let keys: BTreeSet<_> = world.replies().into_iter().map(|reply| reply.key).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    // Two copies, and the second one's turn is the first to answer.
    world.judge();
    world.deliver(3, "oc_3", 2);
    world.file = process(7, 0);
    world.pass(STUCK + 3 * S);
    world.say(1, "oc_3", "answer", Some("m3~hgw2"), None);
    world.judge();
    world.say(1, "oc_3", "more", Some("m3~hgw2"), None);
    world.say(1, "oc_3", "of the first copy", Some("m3"), None);
    let texts: Vec<_> = world.replies().into_iter().map(|reply| reply.content.text).collect();
    assert_eq!(texts, ["answer", "more"]);
    // In a thread the root is the target of many.
    let mut root = World::open(process(7, 1));
    root.deliver(4, "oc_4", 2);
    root.say(1, "oc_4", "answer", Some("m4"), None);
    root.say(1, "oc_4", "in its thread", Some("m4"), Some("omt_4"));
    root.pass(11 * S);
    assert_eq!(root.replies().len(), 2);
}

/// Two bots of one platform may meet one person, in a chat of the same number, at a message of the same number.
#[test]
fn the_answers_of_two_bots_are_two() {
    let mut world = World::open(None);
    for (id, instance) in [(1, "feishu"), (2, "other")] {
        let mut heard = delivery(id, "feishu", "9", "hello");
        heard.lane.instance = Instance::new(instance).unwrap();
        heard.event.message_id = Some("m5".into());
        world.on(Input::Deliver(Box::new(heard)));
        world.say(1, "9", "answer", Some("m5"), None);
    }
    let replies = world.replies();
    assert_ne!(replies[0].key, replies[1].key);
    assert_eq!(replies[1].lane.instance.as_str(), "other");
}

#[test]
fn a_turn_that_says_nothing_ends_and_one_that_cannot_be_seen_is_doubted() {
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.pass(60 * S);
    assert!(world.told().is_empty());
    world.file = process(7, 0);
    world.pass(12 * S);
    assert_eq!(world.told(), ["ack 1"]);

    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.on(Input::Heard(1, Heard::Unreadable));
    world.file = process(7, 0);
    world.pass(60 * S);
    assert_eq!(world.told(), ["nack 1"], "what nobody could read may have been the answer");

    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.pass(1799 * S);
    assert!(world.told().is_empty());
    world.pass(2 * S);
    assert_eq!(world.told(), ["doubt 1"]);
}

#[test]
fn words_to_a_chat_that_was_never_heard_of_find_their_platform() {
    let mut world = World::open(None);
    world.say(1, "oc_new", "a reminder", None, None);
    let reply = &world.replies()[0];
    assert_eq!((reply.lane.instance.as_str(), reply.key.as_str()), ("feishu", "relay:r2"));
    let unknown = Heard::Outbound {
        request: "r".into(),
        platform: Some("discord".into()),
        op: Op::Send(Send {
            chat_id: "c".into(),
            text: "t".into(),
            reply_to: None,
            copy: None,
            thread_id: None,
            is_final: true,
        }),
    };
    world.on(Input::Heard(1, unknown));
    assert!(world.replies().is_empty());
    let told = world
        .out
        .iter()
        .any(|action| matches!(action, Action::Line(1, line) if line.contains("chat not found")));
    assert!(told);
}

/// Files may take minutes to come.
#[test]
fn what_is_ended_while_its_files_come_never_goes() {
    let mut world = World::open(None);
    world.on(Input::Coming(EventId(1)));
    world.on(Input::Coming(EventId(2)));
    world.on(Input::Interrupt(EventId(1)));
    world.on(Input::Interrupt(EventId(1)));
    assert_eq!(world.told(), ["ack 1"]);
    world.pass(11 * S);
    let renewed = |action: &Action| match action {
        Action::Say(FromWorker::Progress { event_id }) => Some(event_id.0),
        _ => None,
    };
    assert_eq!(world.out.iter().filter_map(renewed).collect::<Vec<_>>(), [2], "it is no silence");
    world.out.clear();
    world.deliver(1, "oc_1", 1);
    world.deliver(2, "oc_2", 1);
    assert_eq!(world.sent(1), ["m2"]);
    assert!(world.told().is_empty());
    // Handed back and offered once more meanwhile, so that its files come twice.
    world.on(Input::Coming(EventId(3)));
    world.on(Input::Coming(EventId(3)));
    world.on(Input::Interrupt(EventId(3)));
    world.deliver(3, "oc_3", 1);
    world.deliver(3, "oc_3", 2);
    assert!(world.sent(1).is_empty());
    assert_eq!(world.told(), ["ack 3"]);
}

//! Processes and sessions: who dies, falls silent, forgets or cannot begin, and how it goes on.

use super::*;

/// F12: what was in work when a process died is asked once more, and the agent is not told it twice.
#[test]
fn a_process_that_dies_is_replaced_and_its_session_goes_on() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "half way")));
    world.on(Input::Ended(1, "signal 9".into()));
    assert!(world.nacked(1) && world.lease() == 0);
    let note = world.note();
    world.asked.clear();
    world.pass(2);
    world.introduce();
    let mut again = delivery(1, "a", "half way");
    (again.attempt, again.session.note) = (2, note.clone());
    world.on(Input::Deliver(again));
    let (_, _, method, params) = world.asked[0].clone();
    assert_eq!((method.as_str(), params["sessionId"].as_str()), ("session/load", Some("spare1")));
    world.update(2, "spare1", "user_message_chunk", "before\n\nhalf way");
    world.answer("session/load", Ok(Value::Null));
    assert_eq!(world.prompt(), GO_ON);
    world.end_turn("end_turn");
    // Another event of that session is a message like any other.
    let mut next = delivery(2, "a", "next");
    next.session.note = note;
    world.on(Input::Deliver(next));
    assert_eq!(world.prompt(), "next");
}

#[test]
fn a_session_that_the_agent_forgot_is_told_of_and_made_anew() {
    for how in ["load", "resume", "refusal"] {
        let mut world = World::new(settings());
        world.able = match how {
            "load" => json!({ "loadSession": true }),
            "resume" => json!({ "sessionCapabilities": { "resume": {} } }),
            _ => json!({}),
        };
        world.hermes = how == "refusal";
        world.introduce();
        let mut event = delivery(2, "a", "hello");
        event.session.note = br#"{"session":"old","asked":1}"#.to_vec();
        world.on(Input::Deliver(event));
        match how {
            // An agent that does not know it answers as if it did.
            "load" => drop(world.answer("session/load", Ok(json!({})))),
            "resume" => {
                let other = json!({ "_meta": { "hermes": { "sessionProvenance": { "acpSessionId": "new" } } } });
                world.answer("session/resume", Ok(other));
            }
            _ => {}
        }
        let session = world.asked[0].3["sessionId"].as_str().unwrap().to_owned();
        assert_eq!(session, if how == "resume" { "new" } else { "spare1" }, "{how}");
        if how == "refusal" {
            world.end_turn("refusal");
            world.answer("session/new", Ok(json!({ "sessionId": "new" })));
        }
        world.update(1, if how == "load" { "spare1" } else { "new" }, "agent_message_chunk", "hi");
        world.end_turn("end_turn");
        let text = &world.replies[0].1.content.text;
        assert!(text.starts_with("(The agent has lost") && text.ends_with("hi"), "{how}: {text}");
    }
}

/// P6: one message that kills the agent is found among its neighbours, and they pay nothing.
#[test]
fn who_dies_together_is_not_blamed_and_is_tried_alone() {
    let mut world = World::ready(settings());
    for round in 1..=2 {
        for (id, chat) in [(1, "a"), (2, "b")] {
            world.on(Input::Deliver(delivery(id, chat, "hello")));
        }
        while world.methods().contains(&"session/new") {
            world.answer("session/new", Ok(json!({ "sessionId": format!("n{round}") })));
        }
        for session in ["spare1", "n1"].iter().take(2 * (round - 1)) {
            world.update(world.machine.last, session, "user_message_chunk", "hello");
            world.answer("session/load", Ok(Value::Null));
        }
        assert_eq!(world.methods(), ["session/prompt"; 2], "{round}");
        world.asked.clear();
        world.said.clear();
        let number = world.machine.last;
        world.on(Input::Ended(number, "signal 9".into()));
        assert!(!world.nacked(1) && !world.nacked(2));
        for id in [1, 2] {
            assert!(world.said.contains(&FromWorker::Defer { event_id: EventId(id), after_ms: 0 }));
        }
        world.pass(2);
        world.introduce();
    }
    for (id, chat) in [(2, "b"), (1, "a")] {
        world.on(Input::Deliver(delivery(id, chat, "hello")));
    }
    world.on(Input::Deliver(delivery(3, "c", "hello")));
    assert_eq!(world.methods(), ["session/load"], "alone, also while it is opened");
    world.asked.clear();
    let number = world.machine.last;
    world.update(number, "n1", "user_message_chunk", "hello");
    world.on(Input::Ended(number, "signal 9".into()));
    assert!(!world.nacked(2), "it was told nothing");
}

#[test]
fn a_session_that_kills_the_agent_is_left_and_nobody_is_blamed() {
    let mut world = World::ready(settings());
    let mut event = delivery(2, "a", "hello");
    event.session.note = br#"{"session":"old","asked":1}"#.to_vec();
    world.on(Input::Deliver(event));
    for _ in 0..3 {
        assert_eq!(world.methods(), ["session/load"]);
        world.asked.clear();
        let number = world.machine.last;
        world.on(Input::Ended(number, "signal 11".into()));
        world.pass(6);
        world.introduce();
    }
    assert_eq!(world.prompt(), "hello");
    world.update(
        world.machine.last,
        &format!("spare{}", world.machine.last),
        "agent_message_chunk",
        "hi",
    );
    world.end_turn("end_turn");
    assert!(!world.nacked(2) && world.replies[0].1.content.text.starts_with("(The agent has lost"));
}

#[test]
fn an_agent_that_died_with_the_first_message_has_lost_nothing() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    world.on(Input::Ended(1, "signal 9".into()));
    let note = world.note();
    world.asked.clear();
    world.pass(2);
    world.introduce();
    let mut again = delivery(1, "a", "hello");
    again.session.note = note;
    world.on(Input::Deliver(again));
    world.answer("session/load", Err((-32602, "no such session")));
    world.update(2, "spare2", "agent_message_chunk", "hi");
    world.end_turn("end_turn");
    assert_eq!(world.replies[0].1.content.text, "hi");
}

/// F98: a turn that never ends frees its conversation.
#[test]
fn an_agent_that_falls_silent_is_cancelled_then_replaced() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    world.on(Input::Deliver(delivery(2, "b", "hello")));
    world.answer("session/new", Ok(json!({ "sessionId": "s2" })));
    world.pass(119);
    world.update(1, "s2", "agent_thought_chunk", "hm");
    world.pass(2);
    assert_eq!(world.told.len(), 1, "only the silent one is cancelled");
    assert!(!world.nacked(1));
    world.pass(11);
    assert!(world.nacked(1) && !world.nacked(2) && world.killed == [1]);
    world.on(Input::Ended(1, "killed".into()));
    let deferred = FromWorker::Defer { event_id: EventId(2), after_ms: 0 };
    assert!(world.said.contains(&deferred), "the other one is innocent");
    assert!(world.methods().contains(&"initialize"), "a new process comes at once");
}

#[test]
fn an_agent_that_cannot_work_shuts_the_gate_and_says_why() {
    let mut world = World::new(settings());
    world.answer("initialize", Ok(json!({ "protocolVersion": 2 })));
    assert!(world.killed == [1] && world.lease() == 0);
    let mut world = World::new(settings());
    let methods = json!([{ "id": "l", "name": "Log in" }]);
    world.answer("initialize", Ok(json!({ "protocolVersion": 1, "authMethods": methods })));
    world.answer("session/new", Err((-32000, "authentication required")));
    let told = world.said.iter().any(|frame| {
        matches!(frame, FromWorker::Outside(Outside::Down { reason, remedy: Some(_) }) if reason.contains("Log in"))
    });
    assert!(told);
    world.on(Input::Ended(1, "killed".into()));
    world.pass(70);
    assert_eq!(world.methods(), ["initialize"], "it is looked at again");
    world.pass(121);
    assert_eq!(world.killed, [1, 2], "one that says nothing is ended");
}

#[test]
fn a_new_conversation_has_a_new_session_and_commands_of_the_agent_are_the_operators() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "/reset everything")));
    assert_eq!(world.prompt(), "The message is: /reset everything");
    world.end_turn("end_turn");
    let mut anew = delivery(2, "a", "hello");
    anew.session.epoch = 1;
    world.on(Input::Deliver(anew));
    assert_eq!(world.methods(), ["session/new"]);
    let mut world = World::ready(AcpSettings { own_commands: true, ..settings() });
    world.on(Input::Deliver(delivery(1, "a", "/reset")));
    assert_eq!(world.prompt(), "/reset");
    // A command stays one where it is said to words of before.
    let mut world = World::ready(AcpSettings { own_commands: true, ..settings() });
    let mut answering = delivery(1, "a", "/reset");
    answering.event.quote = Some("some words".into());
    world.on(Input::Deliver(answering));
    assert_eq!(world.prompt(), "/reset");
}

//! One turn: what it says, how it ends, and what it asks of people.

use protocol::event::Mention;

use super::*;

#[test]
fn a_turn_is_its_chunks_and_its_event_is_kept_until_they_are_stored() {
    let mut world = World::ready(settings());
    assert_eq!(world.lease(), LEASE_MS);
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    assert_eq!(world.prompt(), "hello");
    world.update(1, "spare1", "agent_message_chunk", "good ");
    world.update(1, "spare1", "agent_thought_chunk", "hm");
    world.update(1, "another", "agent_message_chunk", "not mine");
    world.update(1, "spare1", "agent_message_chunk", "day");
    world.pass(1);
    assert!(world.said.iter().any(|it| matches!(it, FromWorker::Draft(d) if d.text == "good day")));
    world.end_turn("end_turn");
    let (event, reply) = world.replies.pop().unwrap();
    assert_eq!((event, reply.content.text.as_str()), (Some(EventId(1)), "good day"));
    assert!(!world.acked(1));
    world.accept(1);
    assert!(world.acked(1));
    world.on(Input::Deliver(delivery(2, "a", "more")));
    assert_eq!(world.methods(), ["session/prompt"], "its session is open");
    world.end_turn("end_turn");
    assert!(world.acked(2) && world.replies.is_empty(), "a turn may say nothing");
}

#[test]
fn as_many_turns_at_once_as_a_process_takes_and_more_processes_for_more() {
    let mut world = World::ready(AcpSettings { processes: 2, ..settings() });
    for (id, chat) in [(1, "a"), (2, "b"), (3, "c")] {
        world.on(Input::Deliver(delivery(id, chat, "hello")));
    }
    // One has the spare session, one gets its own, one waits for a second process.
    assert_eq!(world.methods(), ["session/prompt", "session/new", "initialize"]);
    world.answer("session/new", Ok(json!({ "sessionId": "s2" })));
    world.introduce();
    let prompts: Vec<_> = world.asked.iter().map(|(number, ..)| *number).collect();
    assert_eq!((world.methods(), prompts), (vec!["session/prompt"; 3], vec![1, 1, 2]));
}

#[test]
fn who_is_refused_learns_it_and_keeps_the_session() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    world.end_turn("refusal");
    assert_eq!(world.replies[0].1.content.text, "(refused)");
    world.accept(1);
    world.on(Input::Deliver(delivery(2, "a", "more")));
    assert_eq!(world.asked[0].3["sessionId"], "spare1");
}

#[test]
fn a_turn_with_a_line_that_nobody_can_read_is_no_answer() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    world.update(1, "spare1", "agent_message_chunk", "AAA");
    world.on(Input::Line(1, r#"{"jsonrpc":"2.0","method":"session/upd"#.into()));
    world.end_turn("end_turn");
    assert!(world.nacked(1) && world.replies.is_empty());
}

#[test]
fn failures_that_look_like_answers_are_none() {
    let hermes = || {
        let mut world = World::new(settings());
        world.hermes = true;
        world.introduce();
        world.on(Input::Deliver(delivery(1, "a", "hello")));
        world
    };
    let mut world = hermes();
    world.update(1, "spare1", "agent_message_chunk", "HTTP 400: no such model");
    world.end_turn("end_turn");
    assert!(world.nacked(1) && world.replies.is_empty());
    // A session that thinks it is busy: a fork has its history and none of its trouble.
    let mut world = hermes();
    world.update(1, "spare1", "agent_message_chunk", "Queued for the next turn. (1 queued)");
    world.end_turn("end_turn");
    let (_, params) = world.answer("session/fork", Ok(json!({ "sessionId": "fork" })));
    assert_eq!(params["sessionId"], "spare1");
    assert_eq!(world.asked[0].3["sessionId"], "fork");
    world.update(1, "fork", "agent_message_chunk", "hi");
    world.end_turn("end_turn");
    assert_eq!(world.replies[0].1.content.text, "hi");
    // Another agent may say what it likes.
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    world.update(1, "spare1", "agent_message_chunk", "HTTP 400: means a bad request.");
    world.end_turn("end_turn");
    assert_eq!(world.replies.len(), 1);
}

#[test]
fn a_turn_is_ended_by_a_person_and_what_it_said_stays() {
    let mut world = World::ready(settings());
    world.on(Input::Interrupt(EventId(1)));
    assert!(world.told.is_empty(), "nothing is cancelled where nothing runs");
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    world.update(1, "spare1", "agent_message_chunk", "once upon");
    world.on(Input::Interrupt(EventId(1)));
    world.on(Input::Interrupt(EventId(1)));
    let cancels: Vec<_> = world.told.iter().map(|(_, line)| line["method"].clone()).collect();
    assert_eq!(cancels, ["session/cancel"]);
    world.end_turn("cancelled");
    assert_eq!(world.replies[0].1.content.text, "once upon\n\n(stopped)");
    world.accept(1);
    world.on(Input::Deliver(delivery(2, "a", "next")));
    assert_eq!(world.methods(), ["session/prompt"], "a clean end leaves a clean session");
    // One that crossed the end of the turn leaves a session that may be stuck.
    world.on(Input::Interrupt(EventId(2)));
    world.end_turn("end_turn");
    world.on(Input::Deliver(delivery(3, "a", "third")));
    assert_eq!(world.methods(), ["session/fork"]);
    // And an agent that does not answer the cancel holds nobody up.
    world.answer("session/fork", Ok(json!({ "sessionId": "fork" })));
    world.on(Input::Interrupt(EventId(3)));
    world.pass(11);
    assert!(world.acked(3));
}

fn question(world: &mut World) {
    ask(world, "rm -rf /");
}

fn ask(world: &mut World, title: &str) {
    let options = json!([
        { "optionId": "o1", "name": "Always", "kind": "allow_always" },
        { "optionId": "o2", "name": "Yes", "kind": "allow_once" },
        { "optionId": "o3", "name": "No", "kind": "reject_once" },
    ]);
    let params =
        json!({ "sessionId": "spare1", "toolCall": { "title": title }, "options": options });
    let line = json!({ "id": "q", "method": "session/request_permission", "params": params });
    world.on(Input::Line(1, line.to_string()));
}

fn outcome(world: &mut World) -> String {
    let (_, line) = world.told.pop().unwrap();
    assert_eq!(line["id"], "q");
    line["result"]["outcome"]["optionId"].as_str().unwrap().to_owned()
}

#[test]
fn permission_is_asked_of_whoever_the_agent_works_for_and_is_no_without_an_answer() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    question(&mut world);
    let asked = world.replies.pop().unwrap().1;
    assert!(asked.content.text.contains("rm -rf /") && asked.content.buttons[0].len() == 2);
    assert!(world.said.contains(&FromWorker::Asking { event_id: EventId(1), on: true }));
    let answers = |text: &str, user: &str| {
        let mut more = delivery(9, "a", text);
        more.event.sender.user_id = user.into();
        Input::Said { event_id: EventId(1), more }
    };
    world.on(answers("1", "mallory"));
    world.on(answers("what is that?", "ann"));
    assert!(world.told.is_empty() && !world.acked(9), "it waits like any other message");
    let Press::Data(data) = asked.content.buttons[0][0].press.clone() else { panic!() };
    world.on(answers(&data, "ann"));
    assert_eq!(outcome(&mut world), "o2");
    assert!(world.acked(9));
    question(&mut world);
    world.on(answers("2", "ann"));
    assert_eq!(outcome(&mut world), "o3");
    question(&mut world);
    world.pass(51);
    assert_eq!(outcome(&mut world), "o3", "in time, before the agent decides");
    let mut late = delivery(10, "a", &data);
    late.event.kind = InboundKind::Button;
    world.on(Input::Deliver(late));
    assert!(world.acked(10), "a press that comes too late is no message");
    // To be stopped while it asks: first no, then the end.
    question(&mut world);
    world.on(Input::Interrupt(EventId(1)));
    assert_eq!(outcome(&mut world), "o3");
    world.update(1, "spare1", "agent_thought_chunk", "hm");
    assert_eq!(world.told.pop().unwrap().1["method"], "session/cancel");
    for (permission, option) in [(Permission::Allow, "o2"), (Permission::Reject, "o3")] {
        let mut world = World::ready(AcpSettings { permission, ..settings() });
        world.on(Input::Deliver(delivery(1, "a", "hello")));
        question(&mut world);
        assert_eq!(outcome(&mut world), option);
    }
}

/// A button stays in the chat, and a worker that is started anew asks its first question again.
#[test]
fn a_button_of_an_earlier_life_permits_nothing() {
    let asked = |event: u64| {
        let mut world = World::ready(settings());
        world.on(Input::Deliver(delivery(event, "a", "hello")));
        question(&mut world);
        let reply = world.replies.pop().unwrap().1;
        let Press::Data(data) = reply.content.buttons[0][0].press.clone() else { panic!() };
        (world, data)
    };
    let (_, old) = asked(1);
    let (mut world, new) = asked(2);
    assert!(new.len() <= 64, "Telegram takes no more: {new}");
    let mut press = delivery(9, "a", &old);
    press.event.kind = InboundKind::Button;
    // Whoever pressed it is told, or would wait for what they have permitted.
    for input in
        [Input::Said { event_id: EventId(2), more: press.clone() }, Input::Deliver(press.clone())]
    {
        world.on(input);
        assert_eq!(world.told, [], "it was another question");
        assert_eq!(world.replies.pop().unwrap().1.content.text, "That question is over.");
        assert_eq!(world.said.pop(), Some(FromWorker::Ack { event_id: EventId(9) }));
    }
    press.event.sender.user_id = "mallory".into();
    world.on(Input::Said { event_id: EventId(2), more: press });
    let waits = FromWorker::Steered { event_id: EventId(9), taken: false };
    assert_eq!(world.said.pop(), Some(waits), "it is for another one to answer");
}

/// In a group that wants it, an answer names the bot, or nobody would hear it.
#[test]
fn an_answer_may_name_the_bot() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    for (text, mention, option) in [
        ("@bot 1", Mention::Me, Some("o2")),
        ("2 @bot", Mention::Me, Some("o3")),
        ("@bot reject", Mention::Me, Some("o3")),
        ("@ann 1", Mention::Other, None),
        ("@bot 1 is right", Mention::Me, None),
    ] {
        question(&mut world);
        let mut more = delivery(9, "a", text);
        more.event.mention = mention;
        world.on(Input::Said { event_id: EventId(1), more });
        assert_eq!(option.map(|_| outcome(&mut world)).as_deref(), option, "{text}");
        assert!(world.told.is_empty(), "{text}");
    }
}

/// What stands between two lines of nothing but the same backticks: of that, nothing is markup.
fn code(text: &str) -> Option<&str> {
    let (before, rest) = text.split_once("```")?;
    let ticks = rest.len() - rest.trim_start_matches('`').len();
    let fence = format!("\n{}\n", "`".repeat(3 + ticks));
    let (code, _) = text.get(before.len() - 1 + fence.len()..)?.split_once(&fence)?;
    (text.matches(&fence).count() == 2).then_some(code)
}

/// Who permits a command has seen it, with every star and backtick, and all of it.
#[test]
fn what_is_to_be_permitted_is_shown_character_for_character() {
    let mut world = World::ready(settings());
    world.on(Input::Deliver(delivery(1, "a", "hello")));
    let mut shown = |title: &str| {
        ask(&mut world, title);
        world.replies.pop().unwrap().1.content.text
    };
    for title in [
        "rm -rf /tmp/*.log /home/*.bak `id -u`",
        "**hi** __x__ [y](https://evil.org) ~a~ \\n $HOME &amp; <b>",
        "```\nfenced\n```\nline2 # not head",
        "  a\n\n    b\n````` c\n~~~\n1. Reject",
    ] {
        let text = shown(title);
        assert_eq!(code(&text), Some(title), "{text}");
        assert!(text.contains("\n\n1. Allow once\n2. Reject\n\n"), "{text}");
    }
    // What nobody sees, or what turns a line around, is told by its name.
    let text = shown("ls \u{202e}fr- mr\r\u{200b}\u{0}");
    assert_eq!(code(&text), Some("ls \\u{202e}fr- mr\\u{d}\\u{200b}\\u{0}"));
    // Not even one person is mentioned: the platform would write a name in the place of the words.
    let text = shown("<at id=\"ou_1\">rm</at>");
    assert_eq!(code(&text), Some("<\u{200b}at id=\"ou_1\">rm</at>"));
    let text = shown(&"L".repeat(6000));
    assert_eq!(code(&text), Some("L".repeat(3000).as_str()));
    assert!(text.contains("3000 more bytes of it are not shown"), "{text}");
    assert!(shown(" ").starts_with("The agent wants to use a tool."));
}

//! The machine against agents that behave, hide their failures, hang and die: as measured with real ones.

use protocol::content::Press;
use protocol::event::{Receipt, ReplyState};
use protocol::id::OutboundId;
use protocol::worker::Permission;

use super::*;
use crate::clock;

fn settings() -> AcpSettings {
    AcpSettings {
        command: vec!["agent".into()],
        dir: "/work".into(),
        variables: Vec::new(),
        processes: 1,
        turns: 2,
        permission: Permission::Ask,
        permission_s: 50,
        silent_s: 120,
        turn_limit_s: 1800,
        own_commands: false,
    }
}

fn delivery(id: u64, chat: &str, text: &str) -> Box<Delivery> {
    let mut delivery = crate::agent::sample::delivery(id, "feishu", chat, text);
    delivery.event.sender.user_id = "ann".into();
    Box::new(delivery)
}

/// The machine, and the agent's side of it.
struct World {
    machine: Machine,
    now: Instant,
    /// Requests that are not answered: process, id, method, parameters.
    asked: Vec<(Number, u64, String, Value)>,
    /// Notifications and answers to the agent.
    told: Vec<(Number, Value)>,
    said: Vec<FromWorker>,
    replies: Vec<(Option<EventId>, Reply)>,
    killed: Vec<Number>,
    hermes: bool,
    able: Value,
}

impl World {
    fn new(settings: AcpSettings) -> Self {
        let now = clock::now();
        let mut world = Self {
            machine: Machine::new(settings, now),
            now,
            asked: Vec::new(),
            told: Vec::new(),
            said: Vec::new(),
            replies: Vec::new(),
            killed: Vec::new(),
            hermes: false,
            able: json!({ "loadSession": true, "sessionCapabilities": { "fork": {} } }),
        };
        world.on(Input::Tick);
        world
    }

    fn ready(settings: AcpSettings) -> Self {
        let mut world = Self::new(settings);
        world.introduce();
        world
    }

    fn introduce(&mut self) {
        let name = if self.hermes { "hermes-agent" } else { "other" };
        let able = self.able.clone();
        let told = json!({ "protocolVersion": 1, "agentInfo": { "name": name }, "agentCapabilities": able });
        self.answer("initialize", Ok(told));
        let session = format!("spare{}", self.machine.last);
        self.answer("session/new", Ok(json!({ "sessionId": session })));
    }

    fn on(&mut self, input: Input) {
        for action in self.machine.on(input, self.now) {
            match action {
                Action::Start(_) => {}
                Action::Write(number, line) => {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    match (line["id"].as_u64(), line["method"].as_str()) {
                        (Some(id), Some(method)) => {
                            self.asked.push((number, id, method.into(), line["params"].clone()));
                        }
                        _ => self.told.push((number, line)),
                    }
                }
                Action::Kill(number) => self.killed.push(number),
                Action::Say(frame) => self.said.push(frame),
                Action::Fetch { .. } => {}
                Action::Reply { event_id, reply, .. } => self.replies.push((event_id, *reply)),
            }
        }
    }

    /// Answers the oldest request of this method; its process and parameters.
    fn answer(&mut self, method: &str, result: Result<Value, (i64, &str)>) -> (Number, Value) {
        let at = self.asked.iter().position(|(_, _, asked, _)| asked == method);
        let at = at.unwrap_or_else(|| panic!("{method} was not asked: {:?}", self.asked));
        let (number, id, _, params) = self.asked.remove(at);
        let line = match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err((code, text)) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } })
            }
        };
        self.on(Input::Line(number, line.to_string()));
        (number, params)
    }

    fn update(&mut self, number: Number, session: &str, kind: &str, text: &str) {
        let update = json!({ "sessionUpdate": kind, "content": { "type": "text", "text": text } });
        let params = json!({ "sessionId": session, "update": update });
        let line = json!({ "method": "session/update", "params": params });
        self.on(Input::Line(number, line.to_string()));
    }

    fn end_turn(&mut self, reason: &str) {
        self.answer("session/prompt", Ok(json!({ "stopReason": reason })));
    }

    fn methods(&self) -> Vec<&str> {
        self.asked.iter().map(|(_, _, method, _)| method.as_str()).collect()
    }

    fn prompt(&self) -> String {
        let prompt = self.asked.iter().find(|(_, _, method, _)| method == "session/prompt");
        prompt.unwrap().3["prompt"][0]["text"].as_str().unwrap().to_owned()
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now += BEAT;
            self.on(Input::Tick);
        }
    }

    fn accept(&mut self, id: u64) {
        let receipt = Receipt {
            id: OutboundId(1),
            key: "k".into(),
            state: ReplyState::Waiting,
            message_ids: Vec::new(),
            reason: None,
        };
        self.on(Input::Judged(EventId(id), Some(ReplyVerdict::Accepted(receipt))));
    }

    fn acked(&self, id: u64) -> bool {
        self.said.contains(&FromWorker::Ack { event_id: EventId(id) })
    }

    fn nacked(&self, id: u64) -> bool {
        self.said
            .iter()
            .any(|frame| matches!(frame, FromWorker::Nack { event_id, .. } if event_id.0 == id))
    }

    fn note(&self) -> Vec<u8> {
        let notes = self.said.iter().rev().filter_map(|frame| match frame {
            FromWorker::Remember { note, .. } => Some(note.bytes.clone()),
            _ => None,
        });
        notes.into_iter().next().unwrap()
    }

    fn lease(&self) -> u32 {
        let leases = self.said.iter().rev().filter_map(|frame| match frame {
            FromWorker::Lease { ttl_ms, .. } => Some(*ttl_ms),
            _ => None,
        });
        leases.into_iter().next().unwrap()
    }
}

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

fn question(world: &mut World) {
    let options = json!([
        { "optionId": "o1", "name": "Always", "kind": "allow_always" },
        { "optionId": "o2", "name": "Yes", "kind": "allow_once" },
        { "optionId": "o3", "name": "No", "kind": "reject_once" },
    ]);
    let params =
        json!({ "sessionId": "spare1", "toolCall": { "title": "rm -rf /" }, "options": options });
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
}

//! An agent that speaks the Agent Client Protocol: its processes die, hang and ask (F12, F63, F98).

use serde_json::Value;

use crate::gateway::{Gateway, is_alive, root, signal};
use crate::terminal::Terminal;

fn gateway(more: &str) -> Gateway {
    let program = root().join("tests/it/agents/acp.py");
    let command = ["python3", program.to_str().unwrap()];
    let config =
        format!("[platform.local]\n[agent.coder]\nkind = \"acp\"\ncommand = {command:?}\n{more}\n");
    let gateway = Gateway::running(&config);
    ready(&gateway);
    gateway
}

fn ready(gateway: &Gateway) {
    gateway.wait("coder", "gate open", |i| i["gate"]["open"] == true);
}

fn settled(gateway: &Gateway) {
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
}

/// What the agent remembers: of each session who said what.
fn sessions(gateway: &Gateway) -> Value {
    // None before the first one.
    let kept = std::fs::read_to_string(gateway.path("sessions.json"));
    kept.map_or(Value::Null, |kept| serde_json::from_str(&kept).unwrap())
}

/// The process of the agent.
fn agent(gateway: &Gateway) -> u64 {
    let worker = gateway.instance("coder")["pid"].as_u64().unwrap();
    gateway.until("the agent has a process", || {
        let children = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    })
}

#[test]
fn a_conversation_goes_on_in_its_session_through_kills_of_everything() {
    let mut gateway = gateway("");
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "one");
    assert_eq!(terminal.shown(), "You said: one [1]");
    settled(&gateway);
    signal(agent(&gateway), "KILL");
    terminal.typed("2", "two");
    assert_eq!(terminal.shown(), "You said: two [3]", "it remembers");
    settled(&gateway);
    let former = agent(&gateway);
    gateway.kill_supervisor();
    gateway.until("the agent ends with its gateway", || (!is_alive(former)).then_some(()));
    gateway.start();
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("3", "three");
    assert_eq!(terminal.shown(), "You said: three [5]");
    terminal.typed("4", "/new");
    assert_eq!(terminal.shown(), "A new conversation.");
    terminal.typed("5", "four");
    assert_eq!(terminal.shown(), "You said: four [1]", "it begins anew");
    settled(&gateway);
}

/// F12: a process that dies with an event gets it again, and hears the person's words once.
#[test]
fn a_turn_that_dies_is_taken_up_without_saying_it_twice() {
    let gateway = gateway("");
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "please crash");
    let answer = terminal.shown();
    assert!(
        answer.starts_with("You said: (Your work on my last message was interrupted"),
        "{answer}"
    );
    settled(&gateway);
    let told = sessions(&gateway);
    let told = told.as_object().unwrap().values().flat_map(|it| it.as_array().unwrap().clone());
    let users: Vec<_> = told.filter(|it| it[0] == "user").map(|it| it[1].clone()).collect();
    assert_eq!(users.iter().filter(|text| **text == "please crash").count(), 1, "{users:?}");
}

#[test]
fn a_turn_is_stopped_or_ends_by_its_limit_and_the_conversation_goes_on() {
    let gateway = gateway("silent_s = 2\nmax_attempts = 1");
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "hang");
    gateway.wait("coder", "at work", |i| i["gate"]["in_flight"] == 1);
    gateway.until("it thinks", || sessions(&gateway)["s0"][0][1].as_str().map(drop));
    terminal.typed("2", "/stop");
    let mut shown = [terminal.shown(), terminal.shown()];
    shown.sort();
    assert_eq!(shown, ["Stopped.", "thinking…\n\n(stopped)"]);
    terminal.typed("3", "hang again");
    terminal.typed("4", "after it");
    assert_eq!(terminal.shown(), "thinking…\n\n(broken off)", "what it said is told as that");
    let shown = terminal.shown();
    assert!(shown.starts_with("You said: after it"), "{shown}");
    let told = gateway.wait("local", "set aside", |i| i["store"]["parked"] == 1);
    assert_eq!(told["store"]["undelivered"], 0);
}

#[test]
fn permission_is_asked_in_the_chat() {
    let gateway = gateway("permission_s = 30");
    let mut terminal = Terminal::join(&gateway);
    // What is no answer waits, and is nothing that the agent has seen before.
    terminal.typed("0", "permit it");
    terminal.shown();
    terminal.typed("0a", "also this");
    gateway.wait("coder", "it waits", |i| i["gate"]["busy"]["queued"] == 1);
    terminal.typed("0b", "1");
    assert_eq!(terminal.shown(), "done: yes");
    let shown = terminal.shown();
    assert!(shown.starts_with("You said: also this"), "{shown}");
    assert!(!gateway.log().contains("asked again"), "{}", gateway.log());
    for (id, answer, outcome) in [("1", "1", "yes"), ("2", "no", "no")] {
        terminal.typed(id, "permit it");
        let question = terminal.shown();
        assert!(
            question.contains("format the disk") && question.contains("2. Reject"),
            "{question}"
        );
        terminal.typed(&format!("{id}a"), answer);
        assert_eq!(terminal.shown(), format!("done: {outcome}"));
    }
    settled(&gateway);
}

#[test]
fn a_program_that_is_no_agent_is_told_of() {
    let gateway = Gateway::running(
        "[platform.local]\n[agent.none]\nkind = \"acp\"\ncommand = [\"/no/such/program\"]\n\
         [agent.mute]\nkind = \"acp\"\ncommand = [\"sh\", \"-c\", \"echo out of order >&2; exit 3\"]\n\
         [[route]]\nplatform = \"local\"\nagent = \"mute\"\n",
    );
    let held = gateway.wait("none", "held", |i| i["phase"] == "held");
    assert!(held["reason"].as_str().unwrap().contains("/no/such/program"), "{held}");
    gateway.wait("mute", "told", |i| {
        i["gate"]["open"] == false
            && i["reason"].as_str().is_some_and(|it| it.contains("out of order"))
    });
}

/// The final text in the chat is the agent's, whatever was shown before; drafts go away with a turn.
#[test]
fn several_conversations_at_once() {
    let gateway = gateway("turns = 2");
    let mut terminals: Vec<_> = (0..6)
        .map(|n| Terminal::join_as(&gateway, &format!("chat{n}"), &format!("user{n}")))
        .collect();
    for (n, terminal) in terminals.iter_mut().enumerate() {
        terminal.typed(&format!("{n}"), &format!("slow {n}"));
    }
    for (n, terminal) in terminals.iter_mut().enumerate() {
        assert_eq!(terminal.shown(), format!("You said: slow {n} [1]"));
    }
    settled(&gateway);
}

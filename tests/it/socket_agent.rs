//! The `socket` endpoint, spoken to by hand (F20, F21, F22, F98).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::{Gateway, PATIENCE, signal};
use crate::storm::pause;

const CONFIG: &str = "[platform.local]\n[agent.mine]\nkind = \"socket\"\nmax_attempts = 2\n";

/// One JSON object a line, both ways.
pub(crate) struct Lines {
    pub(crate) reader: BufReader<UnixStream>,
}

impl Lines {
    pub(crate) fn dial(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn agent(gateway: &Gateway) -> Self {
        gateway.wait("mine", "listening", |i| i["phase"] == "ready");
        Self::dial(&gateway.state().join("agent-mine.sock"))
    }

    /// An agent that is ready.
    pub(crate) fn ready(gateway: &Gateway) -> Self {
        let mut agent = Self::agent(gateway);
        agent.call("initialize", &json!({ "protocol": 1 }));
        agent.call("ready", &json!({ "lease_ms": 600_000 }));
        agent
    }

    pub(crate) fn say(&mut self, line: &Value) {
        self.raw(&line.to_string());
    }

    pub(crate) fn raw(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn hear(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the connection is closed");
        serde_json::from_str(&line).unwrap()
    }

    /// The next line of this method, or the answer to the request of this id.
    pub(crate) fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.hear();
            if is(&line) {
                return line;
            }
        }
    }

    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.say(&json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params }));
        self.until(|line| line["id"] == method)
    }

    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    pub(crate) fn fault(&mut self, method: &str, params: &Value) -> i64 {
        self.ask(method, params)["error"]["code"].as_i64().expect("a fault")
    }

    pub(crate) fn event(&mut self) -> Value {
        self.until(|line| line["method"] == "event.deliver")
    }

    pub(crate) fn acknowledge(&mut self, delivery: &Value) {
        self.say(&json!({ "jsonrpc": "2.0", "id": delivery["id"], "result": {} }));
        let settled = self.until(|line| line["method"] == "event.settled");
        assert_eq!(settled["params"]["event_id"], delivery["params"]["event_id"]);
    }

    pub(crate) fn refuse(&mut self, delivery: &Value) {
        let error = json!({ "code": 1, "message": "no", "data": { "retry_after_ms": 1 } });
        self.say(&json!({ "jsonrpc": "2.0", "id": delivery["id"], "error": error }));
    }
}

/// A terminal that has joined a conversation.
pub(crate) fn terminal(gateway: &Gateway, chat: &str) -> Lines {
    joined(gateway, &json!({ "type": "join", "chat": chat, "user": "ann" }))
}

fn joined(gateway: &Gateway, join: &Value) -> Lines {
    gateway.wait_ready("local");
    let mut terminal = Lines::dial(&gateway.state().join("chat-local.sock"));
    terminal.say(join);
    assert_eq!(terminal.hear()["type"], "joined");
    terminal
}

pub(crate) fn typed(terminal: &mut Lines, id: &str) {
    terminal.say(&json!({ "type": "say", "id": id, "text": format!("text of {id}") }));
    assert_eq!(terminal.until(|line| line["type"] == "accepted")["id"], id);
}

pub(crate) fn reply(delivery: &Value, key: &str, text: &str) -> Value {
    let event = &delivery["params"];
    json!({
        "key": key, "instance": event["instance"], "chat_id": event["chat_id"],
        "thread_id": event["thread_id"], "reply_to": event["message_id"], "text": text,
    })
}

#[test]
fn a_reply_has_arrived_when_a_terminal_says_that_it_is_shown() {
    let gateway = Gateway::running(CONFIG);
    let mut agent = Lines::ready(&gateway);
    let join = json!({ "type": "join", "chat": "home", "user": "ann", "confirms": true });
    let mut first = joined(&gateway, &join);
    typed(&mut first, "m1");
    let delivery = agent.event();
    agent.call("message.send", &reply(&delivery, "k", "hello"));
    agent.acknowledge(&delivery);
    let written = first.until(|line| line["type"] == "message");
    drop(first);
    let mut second = joined(&gateway, &join);
    assert_eq!(second.until(|line| line["type"] == "message"), written, "nobody has seen it");
    assert_eq!(gateway.instance("local")["store"]["replies"], 1);
    second.say(&json!({ "type": "shown", "message_id": written["message_id"] }));
    let receipt = agent.until(|line| line["method"] == "message.receipt");
    assert_eq!(receipt["params"]["state"], "sent");
}

/// As many as the supervisor sends at once.
#[test]
fn what_nobody_looks_at_keeps_no_other_conversation_waiting() {
    let gateway = Gateway::running(CONFIG);
    let mut agent = Lines::ready(&gateway);
    for number in 0..16 {
        let chat_id = format!("job-{number}");
        let reply =
            json!({ "key": chat_id, "instance": "local", "chat_id": chat_id, "text": "done" });
        agent.call("message.send", &reply);
    }
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "m1");
    let delivery = agent.event();
    agent.call("message.send", &reply(&delivery, "k", "hello"));
    agent.acknowledge(&delivery);
    assert_eq!(terminal.until(|line| line["type"] == "message")["text"], "hello");
    assert_eq!(gateway.instance("local")["store"]["replies"], 16, "they wait for somebody");
}

#[test]
fn a_terminal_shows_a_reply_of_full_length_and_fails_what_it_cannot_show() {
    let gateway = Gateway::running(CONFIG);
    let mut agent = Lines::ready(&gateway);
    let mut chat = gateway.command();
    chat.arg("chat").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut chat = chat.spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let delivery = agent.event();
    let with = |key: &str, member: &str, value: Value| {
        let mut reply = reply(&delivery, key, "text");
        reply[member] = value;
        reply
    };
    for (key, member, value) in [
        ("card", "card", json!({ "a": 1 })),
        ("file", "files", json!([{ "kind": "image", "file": "none.png" }])),
        ("edit", "edit", json!("om_1")),
    ] {
        agent.call("message.send", &with(key, member, value));
        let receipt = agent.until(|line| line["method"] == "message.receipt");
        assert_eq!(
            (&receipt["params"]["key"], &receipt["params"]["state"]),
            (&key.into(), &"failed".into())
        );
    }
    std::fs::write(gateway.state().join("exchange/chart.png"), "bytes").unwrap();
    let files = json!([{ "kind": "image", "file": "chart.png" }]);
    agent.call("message.send", &with("there", "files", files));
    let long = "x".repeat(900_000);
    agent.call("message.send", &reply(&delivery, "long", &long));
    agent.acknowledge(&delivery);
    let shown = chat.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(shown.stdout).unwrap(),
        format!("text\n[picture: chart.png]\n{long}\n")
    );
}

#[test]
fn an_event_carries_its_whole_identity_and_a_reply_comes_back_once() {
    let gateway = Gateway::running(CONFIG);
    let mut terminal = terminal(&gateway, "home");
    let mut agent = Lines::ready(&gateway);
    typed(&mut terminal, "m1");
    let delivery = agent.event();
    let event = &delivery["params"];
    for (member, value) in [
        ("attempt", json!(1)),
        ("instance", json!("local")),
        ("platform", json!("local")),
        ("chat_id", json!("home")),
        ("chat_type", json!("direct")),
        ("thread_id", Value::Null),
        ("message_id", json!("m1")),
        ("user_id", json!("ann")),
        ("user_kind", json!("user")),
        ("mention", json!("me")),
        ("text", json!("text of m1")),
    ] {
        assert_eq!(event[member], value, "{member}");
    }
    let sent = agent.call("message.send", &reply(&delivery, "k1", "first"));
    assert!(sent["state"] == "waiting" || sent["state"] == "sending", "{sent}");
    let receipt = agent.until(|line| line["method"] == "message.receipt");
    assert_eq!(
        (&receipt["params"]["key"], &receipt["params"]["state"]),
        (&json!("k1"), &json!("sent"))
    );
    let again = agent.call("message.send", &reply(&delivery, "k1", "another text"));
    assert_eq!((&again["id"], &again["state"]), (&sent["id"], &json!("sent")));
    agent.call("message.send", &reply(&delivery, "k2", "second"));
    agent.acknowledge(&delivery);
    let shown: Vec<Value> = (0..2).map(|_| terminal.hear()["text"].clone()).collect();
    assert_eq!(shown, ["first", "second"], "and nothing of the repetition");
}

#[test]
fn what_an_agent_says_wrong_is_told_and_costs_nothing() {
    let gateway = Gateway::running(CONFIG);
    let mut agent = Lines::agent(&gateway);
    assert_eq!(agent.fault("ready", &json!({})), -32002, "initialize comes first");
    agent.raw("this is not JSON");
    assert_eq!(agent.hear()["error"]["code"], -32700);
    assert_eq!(agent.fault("initialize", &json!({ "protocol": 9 })), -32602);
    agent.call("initialize", &json!({ "later": true }));
    assert_eq!(agent.fault("dance", &json!({})), -32601);
    assert_eq!(agent.fault("ready", &json!({ "lease_ms": "long" })), -32602);
    assert_eq!(agent.fault("message.send", &json!({ "key": "k" })), -32602);
    let send = |key: &str, instance: &str| json!({ "key": key, "instance": instance, "chat_id": "c", "text": "t" });
    assert_eq!(agent.fault("message.send", &send("k", "nobody")), -32602);
    assert_eq!(agent.fault("message.send", &send("", "local")), -32602);
    assert_eq!(agent.fault("message.send", &send(&"k".repeat(201), "local")), -32602);
    agent.say(&json!({ "jsonrpc": "2.0", "id": 77, "result": {} }));
    assert_eq!(agent.hear()["error"]["code"], -32600, "an answer to no request");
    for (line, code) in [("{", -32700), ("5", -32600), ("null", -32600), ("[{}]", -32600)] {
        agent.raw(line);
        assert_eq!(agent.hear()["error"]["code"], code, "{line}");
    }
    assert_eq!(agent.call("ready", &json!({ "lease_ms": 5 }))["lease_ms"], 1000, "within bounds");
}

/// F46: while the supervisor itself stands still, no agent falls silent.
#[test]
fn a_supervisor_that_was_stopped_takes_no_work_away() {
    let config =
        "[platform.local]\n[agent.mine]\nkind = \"socket\"\nmax_attempts = 1\nlease_s = 3\n";
    let gateway = Gateway::running(config);
    let mut agent = Lines::ready(&gateway);
    let mut work = Vec::new();
    for chat in ["home", "office"] {
        typed(&mut terminal(&gateway, chat), chat);
        work.push(agent.event());
    }
    signal(gateway.pid().into(), "STOP");
    // Both are at their end while nobody reads it.
    for delivery in &work {
        agent.say(&json!({ "jsonrpc": "2.0", "id": delivery["id"], "result": {} }));
    }
    pause(Duration::from_secs(4));
    signal(gateway.pid().into(), "CONT");
    for _ in &work {
        agent.until(|line| line["method"] == "event.settled");
    }
    assert!(!gateway.log().contains("is parked"), "{}", gateway.log());
}

#[test]
fn a_pause_hands_back_and_a_refusal_counts_until_the_event_is_parked() {
    let gateway = Gateway::running(CONFIG);
    let mut terminal = terminal(&gateway, "home");
    let mut agent = Lines::ready(&gateway);
    typed(&mut terminal, "poison");
    typed(&mut terminal, "next");
    for _ in 0..4 {
        agent.event();
        // Costs no attempt, however often.
        agent.call("paused", &json!({}));
        agent.call("ready", &json!({ "lease_ms": 600_000 }));
    }
    let fifth = agent.event();
    assert_eq!(fifth["params"]["attempt"], 5, "but it tells that it may have been seen");
    agent.refuse(&fifth);
    let sixth = agent.event();
    assert_eq!(sixth["params"]["message_id"], "poison");
    agent.refuse(&sixth);
    let next = agent.event();
    assert_eq!(next["params"]["message_id"], "next", "the conversation goes on");
    agent.acknowledge(&next);
    gateway.wait("local", "parked, and nothing waits", |i| {
        i["store"]["parked"] == 1 && i["store"]["waiting"] == 0
    });
}

#[test]
fn an_agent_that_dies_is_offered_its_events_again() {
    let mut gateway = Gateway::running(CONFIG);
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "m1");
    let mut agent = Lines::ready(&gateway);
    assert_eq!(agent.event()["params"]["attempt"], 1);
    drop(agent);
    gateway.wait("mine", "gate shut", |i| i["gate"]["open"] == false);
    let mut agent = Lines::ready(&gateway);
    assert_eq!(agent.event()["params"]["attempt"], 2);
    // A death of ours says nothing against the event: it is not parked after the second one.
    gateway.kill_supervisor();
    gateway.start();
    let mut agent = Lines::ready(&gateway);
    let third = agent.event();
    assert_eq!(third["params"]["attempt"], 3);
    agent.acknowledge(&third);
}

#[test]
fn a_second_agent_is_turned_away_while_the_first_is_ready() {
    let gateway = Gateway::running(CONFIG);
    let mut first = Lines::ready(&gateway);
    let mut second = Lines::agent(&gateway);
    assert_eq!(second.hear()["error"]["code"], -32003);
    let told = gateway.wait("mine", "told of the second", |i| i["outside"] == "limited");
    let why = told["reason"].as_str().unwrap();
    assert!(why.contains(&format!("a second agent (pid {})", std::process::id())), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("end one of the two"), "{told}");
    for example in EXAMPLES {
        let mut second = Example::start(example, &gateway.state().join("agent-mine.sock"));
        second.says("another agent is connected and ready");
    }
    assert_eq!(gateway.instance("mine")["gate"]["open"], true, "the first one serves on");
    first.call("paused", &json!({}));
    let mut third = Lines::ready(&gateway);
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "m1");
    let delivery = third.event();
    third.acknowledge(&delivery);
}

const EXAMPLES: [[&str; 2]; 2] = [["python3", "docs/agent.py"], ["node", "docs/agent.js"]];

/// A documented agent, and what it says to people.
struct Example {
    child: std::process::Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Example {
    fn start([with, script]: [&str; 2], socket: &std::path::Path) -> Self {
        let mut command = std::process::Command::new(with);
        command.arg(crate::gateway::root().join(script)).arg(socket);
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said }
    }

    /// The next thing that it says.
    fn says(&mut self, words: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(line.contains(words), "{line:?}");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Once for each trouble, however often it dials.
#[test]
fn the_examples_say_why_they_are_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    for example in EXAMPLES {
        let mut agent = Example::start(example, &path);
        agent.says("agent.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut peer = BufReader::new(peer);
        peer.read_line(&mut String::new()).unwrap();
        let mut peer = peer.into_inner();
        peer.write_all(b"{\"id\":null,\"error\":{\"code\":-32003,\"message\":\"not you\"}}\n")
            .unwrap();
        drop(peer);
        agent.says("not you");
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn of_an_agent_that_is_there_and_not_ready_the_status_says_so() {
    let gateway = Gateway::running(CONFIG);
    let mut agent = Lines::ready(&gateway);
    gateway.wait("mine", "at work", |i| i["gate"]["open"] == true && i["reason"].is_null());
    agent.call("paused", &json!({}));
    gateway.wait("mine", "told of", |i| {
        let reason = i["reason"].as_str().unwrap_or_default();
        i["connected"] == true && reason.contains("does not say that it is ready")
    });
    agent.call("ready", &json!({ "lease_ms": 30_000 }));
    gateway.wait("mine", "at work again", |i| i["gate"]["open"] == true && i["reason"].is_null());
}

#[test]
fn an_oversized_line_ends_only_that_agents_connection() {
    let gateway = Gateway::running(CONFIG);
    let before = gateway.wait("mine", "listening", |i| i["phase"] == "ready")["pid"].clone();
    let mut agent = Lines::ready(&gateway);
    let block = vec![b'x'; 64 * 1024];
    while agent.reader.get_mut().write_all(&block).is_ok() {}
    gateway.wait("mine", "gate shut", |i| i["gate"]["open"] == false);
    Lines::ready(&gateway);
    assert_eq!(gateway.instance("mine")["pid"], before);
}

/// F29. More than any queue between the agent and the store holds.
#[test]
fn replies_that_are_handed_in_all_at_once_keep_their_order() {
    const MANY: usize = 3000;
    let gateway = Gateway::running("[platform.local]\n[agent.mine]\nkind = \"socket\"\n");
    let mut agent = Lines::ready(&gateway);
    let mut writer = agent.reader.get_ref().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let call = |n: usize| {
            let params =
                json!({ "key": n.to_string(), "instance": "local", "chat_id": "c", "text": "x" });
            json!({ "jsonrpc": "2.0", "id": n, "method": "message.send", "params": params })
                .to_string()
        };
        let lines = (0..MANY).map(call).collect::<Vec<_>>().join("\n") + "\n";
        std::io::Write::write_all(&mut writer, lines.as_bytes()).unwrap();
    });
    // Our own names for them are given in the order in which they are stored.
    let mut names: Vec<(u64, u64)> = Vec::new();
    while names.len() < MANY {
        let line = agent.hear();
        if line["method"].is_null() {
            assert!(line["error"].is_null(), "{line}");
            let name = line["result"]["id"].as_str().unwrap();
            let name = name.trim_start_matches(|it: char| !it.is_ascii_digit());
            names.push((line["id"].as_u64().unwrap(), name.parse().unwrap()));
        }
    }
    writing.join().unwrap();
    names.sort_unstable();
    assert!(names.is_sorted_by_key(|(_, name)| *name), "a reply overtook another: {names:?}");
}

//! `hermes-gw agent-test -- COMMAND`: plays the gateway's part towards a program that wants to be an `exec`
//! or `socket` agent, and tells rule by rule what it does wrong. Nothing is stored, nothing is sent to anybody.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use protocol::event::{ChatType, InboundKind, Mention, SenderKind};
use protocol::rpc::{
    self, Event, INVALID_PARAMS, LEASE_MS, LINE_MAX, METHOD_NOT_FOUND, PROTOCOL, Send,
};
use serde_json::{Value, json};
use supervisor::Error;
use worker::family;

use super::print;

/// For whatever the program should do next.
const PATIENCE: Duration = Duration::from_secs(30);
/// From the end of its input to its own end, as the gateway grants it.
const GRACE: Duration = Duration::from_millis(800);
/// Lines that may come before the one that is waited for.
const LINES_MAX: usize = 1000;

/// Why a command cannot be started in `dir`, as far as that can be seen.
pub(super) fn missing(command: &[String], dir: &Path) -> Option<String> {
    family::missing(command, dir)
}

pub(super) fn run(command: &[String]) -> Result<(), Error> {
    family::adopt();
    let mut kit = Kit::start(command)?;
    kit.play();
    kit.end();
    family::end_all();
    match kit.wrong {
        0 => Ok(()),
        wrong => Err(Error::Nonconforming { wrong }),
    }
}

struct Kit {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    sent: Vec<Send>,
    /// Answers that came before they were waited for.
    early: BTreeSet<String>,
    wrong: u32,
}

/// A line that was waited for.
enum Awaited {
    Request(&'static str),
    Answer(String),
}

impl Kit {
    fn start(command: &[String]) -> Result<Self, Error> {
        let mut words = command.iter();
        let program = words.next().map_or("", String::as_str);
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Os { what: "start the program", source })?;
        let (tell, lines) = mpsc::sync_channel(256);
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines();
                for line in lines.map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let input = child.stdin.take();
        Ok(Self { child, input, lines, sent: Vec::new(), early: BTreeSet::new(), wrong: 0 })
    }

    fn rule(&mut self, holds: bool, rule: &str) {
        print(&format!("{} {rule}", if holds { "ok   " } else { "WRONG" }));
        self.wrong += u32::from(!holds);
    }

    fn play(&mut self) {
        let began = self.wait(&Awaited::Request("initialize"));
        self.rule(began, "it says initialize first");
        if !began {
            return;
        }
        let ready = self.wait(&Awaited::Request("ready"));
        self.rule(ready, "it says that it is ready");
        if !ready {
            return;
        }
        let answered = self.deliver(&[(1, 1, "home")]);
        self.rule(answered, "it answers the delivery of an event");
        let sent = std::mem::take(&mut self.sent);
        let to_it = sent
            .iter()
            .all(|send| (send.instance.as_str(), send.chat_id.as_str()) == ("test", "home"));
        self.rule(to_it, "its replies name the account and the chat of the event");
        let keys =
            |sent: &[Send]| sent.iter().map(|send| send.key.clone()).collect::<BTreeSet<_>>();
        let first = keys(&sent);
        self.rule(first.len() == sent.len(), "each of its replies has a key of its own");
        let again = self.deliver(&[(1, 2, "home")]);
        self.rule(again, "it answers an event that comes again");
        let second = keys(&std::mem::take(&mut self.sent));
        self.rule(second.is_subset(&first), "a repeated event gives replies with the same keys");
        let both = self.deliver(&[(2, 1, "home"), (3, 1, "garden")]);
        self.rule(both, "it answers two conversations at once");
        self.say(&json!({ "jsonrpc": "2.0", "method": "some.news", "params": { "later": true } }));
        let after = self.deliver(&[(4, 1, "home")]);
        self.rule(after, "it ignores a notification that it does not know");
    }

    /// Delivers events and waits for the answers to all.
    fn deliver(&mut self, events: &[(u64, u32, &str)]) -> bool {
        for (id, attempt, chat) in events {
            let event = event(*id, *attempt, chat);
            let name = format!("{id}.{attempt}");
            self.say(&json!({
                "jsonrpc": "2.0", "id": name, "method": "event.deliver", "params": event,
            }));
        }
        let mut names: Vec<_> =
            events.iter().map(|(id, attempt, _)| format!("{id}.{attempt}")).collect();
        while let Some(name) = names.pop() {
            if !self.wait(&Awaited::Answer(name)) {
                return false;
            }
        }
        for (id, ..) in events {
            let params = json!({ "event_id": id.to_string() });
            self.say(&json!({ "jsonrpc": "2.0", "method": "event.settled", "params": params }));
        }
        true
    }

    /// Answers what the program asks until what is awaited comes. Answers may come in any order.
    fn wait(&mut self, awaited: &Awaited) -> bool {
        for _ in 0..LINES_MAX {
            if let Awaited::Answer(name) = awaited
                && self.early.remove(name)
            {
                return true;
            }
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else { return false };
            let Some(line) = object(&line) else {
                let shown: String = line.chars().take(100).collect();
                self.rule(false, &format!("every line on its standard output is JSON: {shown}"));
                continue;
            };
            if let Some(method) = line.get("method").and_then(Value::as_str) {
                self.answer(method, &line);
                if matches!(awaited, Awaited::Request(name) if *name == method) {
                    return true;
                }
                continue;
            }
            if let Some(fault) = line.get("error") {
                self.rule(false, &format!("it takes what is sent to it: {fault}"));
            }
            self.early.extend(line.get("id").and_then(Value::as_str).map(str::to_owned));
        }
        false
    }

    fn answer(&mut self, method: &str, line: &Value) {
        let params = line.get("params").cloned().unwrap_or_default();
        let result = match method {
            "initialize" => {
                let exchange = std::env::temp_dir();
                Ok(json!({
                    "protocol": PROTOCOL, "gateway": "agent-test", "concurrency": 16, "exchange": exchange
                }))
            }
            "ready" => Ok(json!({ "lease_ms": LEASE_MS })),
            "paused" | "delivery.progress" => Ok(json!({})),
            "message.draft" => match serde_json::from_value::<rpc::Draft>(params) {
                Ok(_) => Ok(json!({})),
                Err(e) => Err((INVALID_PARAMS, e.to_string())),
            },
            "file.fetch" => Err((rpc::NO_FILE, "agent-test has no files".to_owned())),
            "message.send" => match serde_json::from_value::<Send>(params) {
                Ok(send) if send.key.is_empty() => {
                    Err((INVALID_PARAMS, "key must not be empty".to_owned()))
                }
                Ok(send) => send.content().map_err(|why| (INVALID_PARAMS, why)).map(|_| {
                    let key = send.key.clone();
                    self.sent.push(send);
                    json!({ "id": "1", "key": key, "state": "waiting", "message_ids": [] })
                }),
                Err(e) => Err((INVALID_PARAMS, e.to_string())),
            },
            other => Err((METHOD_NOT_FOUND, format!("there is no method {other:?}"))),
        };
        let id = line.get("id").cloned().unwrap_or_default();
        match result {
            Ok(result) if !id.is_null() => {
                self.say(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            }
            Ok(_) => {}
            Err((code, message)) => {
                self.rule(false, &format!("{method} is as documented: {message}"));
                let error = json!({ "code": code, "message": message });
                self.say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
            }
        }
    }

    fn say(&mut self, line: &Value) {
        if let Some(input) = &mut self.input {
            // One that does not read any more does not answer either, and that is told.
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// Ends the program as the gateway would.
    fn end(&mut self) {
        self.input = None;
        let mut output = false;
        for _ in 0..LINES_MAX {
            match self.lines.recv_timeout(GRACE) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    output = true;
                    break;
                }
            }
        }
        self.rule(output, "it ends when its input ends");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn object(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.is_object() && line.len() <= LINE_MAX).then_some(value)
}

fn event(id: u64, attempt: u32, chat: &str) -> Event {
    Event {
        event_id: id.to_string(),
        attempt,
        kind: InboundKind::Message,
        instance: "test".into(),
        platform: "local".into(),
        chat_id: chat.into(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some(format!("m{id}")),
        reply_to: None,
        user_id: "ann".into(),
        user_name: Some("Ann".into()),
        user_kind: SenderKind::User,
        mention: Mention::Me,
        text: format!("Hello {id}, \"quoted\", 世界"),
        parts: Vec::new(),
        origin_ms: 1_700_000_000_000,
        received_ms: 1_700_000_000_000,
        late_by_ms: None,
        chat_name: None,
        quote: None,
        session_id: "try:chat".into(),
        joined: Vec::new(),
        before_restart: false,
        steers: None,
    }
}

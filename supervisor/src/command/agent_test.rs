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
    self, Event, INVALID_PARAMS, KEY_MAX, LEASE_MS, LEASE_RANGE, LINE_MAX, METHOD_NOT_FOUND,
    PROTOCOL, Send,
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
/// For a reply that comes behind the answer to its event, where it must not.
const BEHIND: Duration = Duration::from_millis(300);

/// Why a command cannot be started in `dir`, as far as that can be seen.
pub(super) fn missing(command: &[String], dir: &Path) -> Option<String> {
    family::missing(command, dir)
}

pub(super) fn run(command: &[String]) -> Result<(), Error> {
    if let Some(why) = missing(command, Path::new(".")) {
        let hint =
            "behind `--` stands the command as in `command` of the agent, word by word".into();
        return Err(Error::Usage { message: why, hint });
    }
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
    /// What it has called, in order.
    called: Vec<String>,
    /// It has ended.
    is_gone: bool,
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
        Ok(Self {
            child,
            input,
            lines,
            sent: Vec::new(),
            early: BTreeSet::new(),
            called: Vec::new(),
            is_gone: false,
            wrong: 0,
        })
    }

    fn rule(&mut self, holds: bool, rule: &str) {
        print(&format!("{} {rule}", if holds { "ok   " } else { "WRONG" }));
        self.wrong += u32::from(!holds);
    }

    /// Plays until a rule is broken without which the rest tells nothing.
    fn play(&mut self) {
        self.try_to_play();
        if self.is_gone {
            let status = self.child.wait().map_or_else(|e| e.to_string(), |it| it.to_string());
            self.rule(false, &format!("it goes on running (it has ended: {status})"));
        }
    }

    fn try_to_play(&mut self) -> Option<()> {
        let began = self.wait(&Awaited::Request("initialize"));
        let is_first = self.called.first().is_none_or(|first| first == "initialize");
        self.needs(began && is_first, "it says initialize first")?;
        let ready = self.wait(&Awaited::Request("ready"));
        self.needs(ready, "it says that it is ready")?;
        let answered = self.deliver(&[(1, 1, "home")]);
        self.needs(answered, "it answers the delivery of an event")?;
        let sent = std::mem::take(&mut self.sent);
        self.listen(BEHIND);
        let is_behind = !self.sent.is_empty();
        self.rule(
            !is_behind,
            "its replies come before its answer to the event, or they may be lost",
        );
        let to_it = sent
            .iter()
            .all(|send| (send.instance.as_str(), send.chat_id.as_str()) == ("test", "home"));
        self.rule(to_it, "its replies name the account and the chat of the event");
        let keys =
            |sent: &[Send]| sent.iter().map(|send| send.key.clone()).collect::<BTreeSet<_>>();
        let mut first = keys(&sent);
        self.rule(first.len() == sent.len(), "each of its replies has a key of its own");
        first.extend(keys(&std::mem::take(&mut self.sent)));
        let again = self.deliver(&[(1, 2, "home")]);
        self.needs(again, "it answers an event that comes again")?;
        if is_behind {
            self.listen(BEHIND);
        }
        let second = keys(&std::mem::take(&mut self.sent));
        self.rule(second.is_subset(&first), "a repeated event gives replies with the same keys");
        let both = self.deliver(&[(2, 1, "home"), (3, 1, "garden")]);
        self.needs(both, "it answers two conversations at once")?;
        let others = keys(&std::mem::take(&mut self.sent));
        self.rule(others.is_disjoint(&first), "other events give replies with other keys");
        self.say(&json!({ "jsonrpc": "2.0", "method": "some.news", "params": { "later": true } }));
        let after = self.deliver(&[(4, 1, "home")]);
        self.needs(after, "it ignores a notification that it does not know")?;
        for (n, kind) in (5..).zip([
            InboundKind::Edit,
            InboundKind::Recall,
            InboundKind::Reaction,
            InboundKind::Member,
            InboundKind::Button,
            InboundKind::Other,
        ]) {
            let answered = self.deliver_as(&[(n, 1, "home")], kind);
            let kind = serde_json::to_value(kind).unwrap_or_default();
            self.needs(answered, &format!("it answers an event of the kind {kind}"))?;
        }
        Some(())
    }

    /// A rule that the next ones are built on.
    fn needs(&mut self, holds: bool, rule: &str) -> Option<()> {
        self.rule(holds, rule);
        holds.then_some(())
    }

    /// Delivers events and waits for the answers to all.
    fn deliver(&mut self, events: &[(u64, u32, &str)]) -> bool {
        self.deliver_as(events, InboundKind::Message)
    }

    fn deliver_as(&mut self, events: &[(u64, u32, &str)], kind: InboundKind) -> bool {
        for (id, attempt, chat) in events {
            let event = Event { kind, ..event(*id, *attempt, chat) };
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
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.is_gone = true;
                    return false;
                }
            };
            let called = self.hear(&line);
            if let (Awaited::Request(name), Some(method)) = (awaited, called)
                && *name == method
            {
                return true;
            }
        }
        false
    }

    /// Hears what comes within `time`.
    fn listen(&mut self, time: Duration) {
        while let Ok(line) = self.lines.recv_timeout(time) {
            self.hear(&line);
        }
    }

    /// Takes a line; the method that it calls.
    fn hear(&mut self, line: &str) -> Option<String> {
        let Some(line) = object(line) else {
            let shown: String = line.chars().take(100).collect();
            self.rule(false, &format!("every line on its standard output is JSON: {shown}"));
            return None;
        };
        if let Some(method) = line.get("method").and_then(Value::as_str) {
            self.called.push(method.to_owned());
            self.answer(method, &line);
            return Some(method.to_owned());
        }
        if let Some(fault) = line.get("error") {
            self.rule(false, &format!("it takes what is sent to it: {fault}"));
        }
        self.early.extend(line.get("id").and_then(Value::as_str).map(str::to_owned));
        None
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
            "ready" => {
                let wish = serde_json::from_value::<rpc::Ready>(params);
                match wish.map(|ready| ready.lease_ms.unwrap_or(LEASE_MS)) {
                    Ok(ms) if LEASE_RANGE.contains(&ms) => Ok(json!({ "lease_ms": ms })),
                    Ok(ms) => Err((
                        INVALID_PARAMS,
                        format!("lease_ms is 1000 to 600000 milliseconds, not {ms}"),
                    )),
                    Err(e) => Err((INVALID_PARAMS, e.to_string())),
                }
            }
            "paused" | "delivery.progress" => Ok(json!({})),
            "message.draft" => match serde_json::from_value::<rpc::Draft>(params) {
                Ok(_) => Ok(json!({})),
                Err(e) => Err((INVALID_PARAMS, e.to_string())),
            },
            "file.fetch" => Err((rpc::NO_FILE, "agent-test has no files".to_owned())),
            "message.send" => match serde_json::from_value::<Send>(params) {
                Ok(send) if send.key.is_empty() || send.key.len() > KEY_MAX => {
                    Err((INVALID_PARAMS, format!("key must have 1 to {KEY_MAX} bytes")))
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

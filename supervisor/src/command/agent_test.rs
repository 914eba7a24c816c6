//! `hermes-gw agent-test -- COMMAND`: plays the gateway's part towards a program that wants to be an `exec`
//! or `socket` agent, and tells rule by rule what it does wrong. Nothing is stored, nothing is sent to anybody.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use protocol::event::{ChatType, InboundKind, Mention, SenderKind};
use protocol::rpc::{
    self, Event, INVALID_PARAMS, KEY_MAX, LEASE_MS, LEASE_RANGE, LINE_MAX, METHOD_NOT_FOUND,
    PROTOCOL, Send,
};
use serde_json::{Value, json};
use supervisor::{Error, clock};
use worker::agent::webhook;
use worker::family;

use super::print;

/// For whatever the program should do next. What it does for it begins the time anew; to be ready again does not.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same, whatever it does meanwhile.
const LONGEST: Duration = Duration::from_secs(300);
/// Work that is over sooner was not interrupted in vain.
const SWIFT: Duration = Duration::from_secs(1);
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

/// Why a URL that is an agent cannot have this secret.
pub(super) fn no_secret(text: &str) -> Option<&'static str> {
    (!webhook::is_secret(text)).then_some(webhook::SECRET)
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
    /// Requests that it has answered.
    answered: BTreeSet<String>,
    /// A request that it may refuse.
    refusable: Option<String>,
    /// What it says it can.
    can: rpc::Initialize,
    /// Until when it is ready.
    ready_until: Option<Instant>,
    /// It has ended.
    is_gone: bool,
    /// Rules that are broken.
    broken: BTreeSet<String>,
    wrong: u32,
}

/// What an agent calls while it works on an event.
const WORK: [&str; 4] = ["delivery.progress", "message.send", "message.draft", "file.fetch"];

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
            answered: BTreeSet::new(),
            refusable: None,
            can: rpc::Initialize::default(),
            ready_until: None,
            is_gone: false,
            broken: BTreeSet::new(),
            wrong: 0,
        })
    }

    fn rule(&mut self, holds: bool, rule: &str) {
        print(&format!("{} {rule}", if holds { "ok   " } else { "WRONG" }));
        self.wrong += u32::from(!holds);
    }

    /// A rule is broken; told once, however often it is.
    fn breaks(&mut self, rule: &str, how: &str) {
        if self.broken.insert(rule.to_owned()) {
            self.rule(false, &format!("{rule}: {how}"));
        }
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
        let to_it = sent.iter().all(|send| {
            let chat = (send.instance.as_str(), send.chat_id.as_str());
            chat == ("test", "home") && send.thread_id.is_none()
        });
        self.rule(to_it, "its replies name the account, the chat and the thread of the event");
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
        self.abilities()?;
        self.renewal()
    }

    /// What it says it can, it does.
    fn abilities(&mut self) -> Option<()> {
        if self.can.interrupt {
            let began = clock::now();
            let answered = self.deliver(&[(11, 1, "home")]);
            self.needs(answered, "it answers the delivery of an event")?;
            let plain = clock::now() - began;
            let began = clock::now();
            self.offer(&event(12, 1, "home"));
            let which = json!({ "event_id": "12" });
            self.say(&json!({ "jsonrpc": "2.0", "method": "event.interrupt", "params": which }));
            let answered = self.wait(&Awaited::Answer("12.1".into()));
            self.needs(answered, "it answers an event that is interrupted")?;
            let spent = clock::now() - began;
            let is_ended = spent < SWIFT || spent < plain * 3 / 4;
            self.rule(is_ended, "event.interrupt ends its work, as it says by interrupt: true");
        }
        if self.can.steer {
            self.offer(&event(13, 1, "home"));
            self.offer(&Event { steers: Some("13".into()), ..event(14, 1, "home") });
            // It may come too late to be taken in.
            self.refusable = Some("14.1".into());
            let both = ["14.1", "13.1"].map(|name| self.wait(&Awaited::Answer(name.into())));
            self.refusable = None;
            self.needs(
                both == [true, true],
                "it answers an event that steers its work, as it says by steer: true",
            )?;
        }
        Some(())
    }

    /// Waits for it to be ready again, if nothing else is wrong and that takes no longer than anything else may.
    fn renewal(&mut self) -> Option<()> {
        let now = clock::now();
        let until = self.ready_until?;
        if until <= now || (self.wrong == 0 && until <= now + PATIENCE) {
            let left = until.saturating_duration_since(now);
            let renewed = self.wait_for(&Awaited::Request("ready"), left.min(PATIENCE));
            self.rule(renewed, "it says again that it is ready before that runs out");
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
            self.offer(&Event { kind, ..event(*id, *attempt, chat) });
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

    fn offer(&mut self, event: &Event) {
        let name = format!("{}.{}", event.event_id, event.attempt);
        self.say(&json!({
            "jsonrpc": "2.0", "id": name, "method": "event.deliver", "params": event,
        }));
    }

    /// Answers what the program asks until what is awaited comes. Answers may come in any order.
    fn wait(&mut self, awaited: &Awaited) -> bool {
        self.wait_for(awaited, PATIENCE)
    }

    fn wait_for(&mut self, awaited: &Awaited, patience: Duration) -> bool {
        let began = clock::now();
        let mut until = began + patience;
        for _ in 0..LINES_MAX {
            if let Awaited::Answer(name) = awaited
                && self.early.remove(name)
            {
                return true;
            }
            let left = until.min(began + LONGEST).saturating_duration_since(clock::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.is_gone = true;
                    return false;
                }
            };
            let Some(called) = self.hear(&line) else { continue };
            match awaited {
                Awaited::Request(name) if *name == called => return true,
                Awaited::Answer(_) if WORK.contains(&called.as_str()) => {
                    until = clock::now() + patience;
                }
                Awaited::Request(_) | Awaited::Answer(_) => {}
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
            self.breaks("every line on its standard output is JSON", &shown);
            return None;
        };
        if let Some(method) = line.get("method").and_then(Value::as_str) {
            self.called.push(method.to_owned());
            self.answer(method, &line);
            return Some(method.to_owned());
        }
        let name = line.get("id").and_then(Value::as_str).map(str::to_owned);
        let (result, fault) = (line.get("result"), line.get("error"));
        if result.is_some() == fault.is_some() {
            let shown = Value::Object(line.as_object().cloned().unwrap_or_default()).to_string();
            self.breaks("its answers have either a result or an error", &shown);
        } else if let Some(fault) = fault
            && (name.is_none() || name != self.refusable)
        {
            self.breaks("it takes what is sent to it", &fault.to_string());
        }
        if let Some(name) = name {
            if !self.answered.insert(name.clone()) {
                self.breaks("it answers each request once", &name);
            }
            self.early.insert(name);
        }
        None
    }

    fn answer(&mut self, method: &str, line: &Value) {
        let params = line.get("params").cloned().unwrap_or_default();
        let result = match method {
            "initialize" => match serde_json::from_value::<rpc::Initialize>(params) {
                Ok(own) if own.protocol.is_some_and(|protocol| protocol != PROTOCOL) => {
                    Err((INVALID_PARAMS, format!("protocol must be {PROTOCOL}, or be left out")))
                }
                Ok(own) => {
                    self.can = own;
                    let exchange = std::env::temp_dir();
                    Ok(json!({
                        "protocol": PROTOCOL, "gateway": "agent-test", "concurrency": 16, "exchange": exchange
                    }))
                }
                Err(e) => Err((INVALID_PARAMS, e.to_string())),
            },
            "ready" => {
                let wish = serde_json::from_value::<rpc::Ready>(params);
                match wish.map(|ready| ready.lease_ms.unwrap_or(LEASE_MS)) {
                    Ok(ms) if LEASE_RANGE.contains(&ms) => {
                        self.ready_until = Some(clock::now() + Duration::from_millis(ms.into()));
                        Ok(json!({ "lease_ms": ms }))
                    }
                    Ok(ms) => Err((
                        INVALID_PARAMS,
                        format!("lease_ms is 1000 to 600000 milliseconds, not {ms}"),
                    )),
                    Err(e) => Err((INVALID_PARAMS, e.to_string())),
                }
            }
            "paused" => {
                self.ready_until = None;
                Ok(json!({}))
            }
            "delivery.progress" => Ok(json!({})),
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
                self.breaks(&format!("{method} is as documented"), &message);
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
        // The same in all: a key that is made of it is one for two events.
        text: "Hello, \"quoted\", 世界".into(),
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

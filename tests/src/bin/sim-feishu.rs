//! The simulated Feishu as a program: commands come as JSON lines on stdin, observations leave as JSON lines on stdout.
//!
//! It ends when stdin ends.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tests::feishu::{
    ClientConfig, EventHandle, Fault, FaultId, Feishu, Message, Posted, Push, Schedule, Scope,
    Times, Webhook,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const HELP: &str = r#"A simulated Feishu platform on loopback.

Usage: sim-feishu --app ID:SECRET:BOT_OPEN_ID [--app ...] [options]

Options:
  --listen ADDR:PORT    where to listen (default 127.0.0.1:0)
  --app A:S:O           register an app: id, secret, open id of its bot
  --client-config R,N,P reconnect interval, nonce and ping interval in seconds (default 120,30,120)
  --repush-scale F      multiply the pauses between re-pushes (default 1: 15 s, 5 min, 1 h, 6 h)
  --help

Stdout: one JSON object a line. The first is {"seen":"listening","base_url":...}; then every observation as it
happens ("seen": discovery, handshake_refused, opened, closed, ping, pushed, missed, answered, unanswered, given_up,
token, sent, deduplicated, edited, recalled, reacted, unreacted, uploaded, downloaded, card, call, violation), and for each command an answer with "did" or "error".

Stdin: one JSON object a line; "app" may be left out when there is only one.
  {"do":"push_text","chat":"oc_1","sender":"ou_1","text":"hello"}      add "group":true for a group
  {"do":"push_event","event":{...}}                                    an event of any kind, whole
  {"do":"push_event","event":{...},"parts":3}                          cut into frames, last part first
  {"do":"burst","count":3000,"per_second":200}                         texts in a row; 0: all at once
  {"do":"replay","event_id":"..."}                                     the same under a new event id
  {"do":"event","event_id":"..."}                                      how far it has come
  {"do":"fault","fault":{"kind":"no_pongs"},"times":2}                 lie in wait; always without "times"
  {"do":"clear","id":1}                                                take back one fault; all without "id"
  {"do":"reset"} {"do":"drop"} {"do":"close","code":1001}              end connections: RST, FIN, close frame
  {"do":"hold"}                                                        swallow what the present connections carry
  {"do":"grant","scope":"im:resource","granted":false}                 take a scope from the app, or grant it
  {"do":"put_resource","key":"img_1","kind":"image","text":"..."}      the bytes behind a key in a message
  {"do":"post","hook":{"url":...,"encrypt_key":...,"token":...},"event":{...}}   post an event
  {"do":"challenge","hook":{...},"challenge":"..."}                    ask whether an address is the app's
  {"do":"shown","message_id":"om_1"}                                   what people see of a message by now
  {"do":"stop_listening"} {"do":"listen"}                              refuse TCP connections; accept them
  {"do":"revoke"}                                                      make the tokens of the app invalid
  {"do":"client_config","payload":"{\"PingInterval\":5}"}              push a configuration to the clients
  {"do":"send_text","text":"..."}                                      send a text message over the connections
  {"do":"violations"} {"do":"sent"}                                    what is known so far

Kinds of fault:
  black_hole {existing}, reset_new, discovery_status {status, body}, discovery_code {code, status, data}, discovery_hang,
  handshake_hang, handshake_refuse {status, handshake_status, autherrcode}, no_pongs, pong_payload {payload},
  rest {route: token|send|reply|bot_info|edit|patch|recall|message|history|chat|react|unreact|reactions|image|file|
    resource|card|card_content|card_settings|card_update|card_convert|card_by_token|other, trouble: html {status} | code {status, code} |
    rate_limit {reset_s, status} | lost_answer | lost_request | delay {ms} | hang}
"#;

struct Args {
    listen: SocketAddr,
    apps: Vec<[String; 3]>,
    config: ClientConfig,
    repush_scale: f64,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    PushText {
        app: Option<String>,
        chat: String,
        sender: String,
        text: String,
        #[serde(default)]
        group: bool,
    },
    PushEvent {
        app: Option<String>,
        event: Value,
        parts: Option<usize>,
    },
    Burst {
        app: Option<String>,
        count: u32,
        per_second: u32,
    },
    Hold {
        app: Option<String>,
    },
    Grant {
        app: Option<String>,
        scope: String,
        granted: bool,
    },
    PutResource {
        key: String,
        kind: String,
        text: String,
    },
    Shown {
        message_id: String,
    },
    Post {
        hook: Webhook,
        event: Value,
    },
    Challenge {
        hook: Webhook,
        challenge: String,
    },
    Replay {
        event_id: String,
    },
    Event {
        event_id: String,
    },
    Fault {
        app: Option<String>,
        fault: Fault,
        times: Option<u32>,
    },
    Clear {
        id: Option<usize>,
    },
    Reset {
        app: Option<String>,
    },
    Drop {
        app: Option<String>,
    },
    Close {
        app: Option<String>,
        code: u16,
        #[serde(default)]
        reason: String,
    },
    StopListening,
    Listen,
    Revoke {
        app: Option<String>,
    },
    ClientConfig {
        app: Option<String>,
        payload: String,
    },
    SendText {
        app: Option<String>,
        text: String,
    },
    Violations,
    Sent,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print(HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    let args = match parse(&words) {
        Ok(args) => args,
        Err(why) => return fail(64, &format!("{why}; see --help")),
    };
    let feishu = match Feishu::start_on(args.listen).await {
        Ok(feishu) => feishu,
        Err(error) => return fail(71, &format!("listen on {}: {error}", args.listen)),
    };
    for [id, secret, open_id] in &args.apps {
        feishu.add_app(id, secret, open_id);
    }
    feishu.configure(|settings| {
        settings.client_config = args.config;
        settings.schedule = Schedule::with_pauses_scaled(args.repush_scale);
    });
    print(&json!({"seen": "listening", "base_url": feishu.base_url()}).to_string());

    let first = args.apps.first().map(|[id, ..]| id.clone()).unwrap_or_default();
    let mut control =
        Control { feishu: feishu.clone(), first, events: HashMap::new(), faults: Vec::new() };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut seen = 0;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => print(&control.obey(&line).await.to_string()),
                Ok(None) | Err(_) => return ExitCode::SUCCESS,
            },
            entries = feishu.entries_after(seen) => {
                seen += entries.len();
                for entry in entries {
                    print(&serde_json::to_string(&entry).expect("an entry is plain data"));
                }
            }
        }
    }
}

fn parse(words: &[String]) -> Result<Args, String> {
    let mut args = Args {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        apps: Vec::new(),
        config: ClientConfig::default(),
        repush_scale: 1.0,
    };
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--listen" => {
                args.listen = value()?.parse().map_err(|error| format!("--listen: {error}"))?;
            }
            "--app" => {
                let parts: Vec<String> = value()?.splitn(3, ':').map(str::to_owned).collect();
                let app = parts.try_into().map_err(|_| "--app wants ID:SECRET:BOT_OPEN_ID")?;
                args.apps.push(app);
            }
            "--client-config" => {
                let numbers: Result<Vec<i64>, _> = value()?.split(',').map(str::parse).collect();
                let Ok(&[interval, nonce, ping]) = numbers.as_deref() else {
                    return Err("--client-config wants three numbers".to_owned());
                };
                args.config.reconnect_interval = interval;
                args.config.reconnect_nonce = nonce;
                args.config.ping_interval = ping;
            }
            "--repush-scale" => {
                let factor = value()?.parse().ok().filter(|factor| (0.0..=1e3).contains(factor));
                args.repush_scale = factor.ok_or("--repush-scale wants a number from 0 to 1000")?;
            }
            other => return Err(format!("unknown flag {other}")),
        }
    }
    if args.apps.is_empty() { Err("no --app given".to_owned()) } else { Ok(args) }
}

struct Control {
    feishu: Feishu,
    first: String,
    events: HashMap<String, EventHandle>,
    faults: Vec<FaultId>,
}

impl Control {
    /// Carries out one line and says what came of it.
    #[expect(clippy::too_many_lines, reason = "one of each kind")]
    async fn obey(&mut self, line: &str) -> Value {
        let command = match serde_json::from_str(line) {
            Ok(command) => command,
            Err(error) => return json!({"error": error.to_string()}),
        };
        let scope = |app: Option<String>| app.map_or(Scope::All, Scope::App);
        match command {
            Command::PushText { app, chat, sender, text, group } => {
                let message = if group { Message::group } else { Message::direct };
                self.push(app, message(&chat, &sender).text(&text).build(), None)
            }
            Command::PushEvent { app, event, parts } => self.push(app, event, parts),
            Command::Burst { app, count, per_second } => {
                let app = app.unwrap_or_else(|| self.first.clone());
                tokio::spawn(burst(self.feishu.clone(), app, count, per_second));
                json!({"did": "burst"})
            }
            Command::Hold { app } => {
                json!({"did": "hold", "connections": self.feishu.hold_connections(scope(app))})
            }
            Command::Grant { app, scope, granted } => {
                let app = app.unwrap_or_else(|| self.first.clone());
                self.feishu.grant(&app, &scope, granted);
                json!({"did": "grant"})
            }
            Command::PutResource { key, kind, text } => {
                self.feishu.put_resource(&key, &kind, "text/plain", text.as_bytes());
                json!({"did": "put_resource"})
            }
            Command::Post { hook, event } => posted("post", &hook, hook.request(event)).await,
            Command::Challenge { hook, challenge } => {
                posted("challenge", &hook, hook.challenge(&challenge)).await
            }
            Command::Shown { message_id } => {
                json!({"did": "shown", "shown": self.feishu.shown(&message_id)})
            }
            Command::Replay { event_id } => match self.events.get(&event_id) {
                Some(earlier) => {
                    let handle = self.feishu.replay(earlier);
                    self.pushed(handle)
                }
                None => json!({"error": "unknown event_id"}),
            },
            Command::Event { event_id } => match self.events.get(&event_id) {
                Some(event) => {
                    let progress = event.progress();
                    json!({
                        "did": "event",
                        "event_id": event_id,
                        "acked": event.is_acked(),
                        "ended": progress.end.is_some(),
                        "attempts": progress.attempts,
                        "pushes": progress.pushes,
                        "late": progress.late,
                    })
                }
                None => json!({"error": "unknown event_id"}),
            },
            Command::Fault { app, fault, times } => {
                let times = times.map_or(Times::Always, Times::Only);
                self.faults.push(self.feishu.fault(scope(app), fault, times));
                json!({"did": "fault", "id": self.faults.len()})
            }
            Command::Clear { id } => {
                match id.map(|id| self.faults.get(id.wrapping_sub(1))) {
                    None => self.feishu.clear_faults(),
                    Some(Some(fault)) => self.feishu.clear(*fault),
                    Some(None) => return json!({"error": "unknown fault"}),
                }
                json!({"did": "clear"})
            }
            Command::Reset { app } => {
                json!({"did": "reset", "connections": self.feishu.reset_connections(scope(app))})
            }
            Command::Drop { app } => {
                json!({"did": "drop", "connections": self.feishu.drop_connections(scope(app))})
            }
            Command::Close { app, code, reason } => {
                self.feishu.close_connections(scope(app), code, &reason);
                json!({"did": "close"})
            }
            Command::StopListening => {
                self.feishu.stop_listening().await;
                json!({"did": "stop_listening"})
            }
            Command::Listen => {
                self.feishu.listen_again().await;
                json!({"did": "listen"})
            }
            Command::Revoke { app } => {
                self.feishu.revoke_tokens(&app.unwrap_or_else(|| self.first.clone()));
                json!({"did": "revoke"})
            }
            Command::ClientConfig { app, payload } => {
                self.feishu.send_client_config(scope(app), &payload);
                json!({"did": "client_config"})
            }
            Command::SendText { app, text } => {
                self.feishu.send_text_frame(scope(app), &text);
                json!({"did": "send_text"})
            }
            Command::Violations => {
                json!({"did": "violations", "violations": self.feishu.violations()})
            }
            Command::Sent => {
                // With what people see of each by now.
                let messages = self.feishu.sent().into_iter().map(|sent| {
                    let shown = self.feishu.shown(&sent.message_id);
                    let mut message = json!(sent);
                    if let Some(members) = message.as_object_mut() {
                        members.insert("shown".into(), json!(shown));
                    }
                    message
                });
                json!({"did": "sent", "messages": messages.collect::<Vec<_>>()})
            }
        }
    }

    fn push(&mut self, app: Option<String>, event: Value, parts: Option<usize>) -> Value {
        if event.pointer("/header/event_id").or_else(|| event.get("uuid")).is_none() {
            return json!({"error": "the event has neither header.event_id nor uuid"});
        }
        let app = app.unwrap_or_else(|| self.first.clone());
        let push = match parts {
            Some(parts) if parts > 1 => Push::chunked(event.to_string().len(), parts),
            _ => Push::default(),
        };
        let handle = self.feishu.push_event_as(&app, event, push);
        self.pushed(handle)
    }

    fn pushed(&mut self, handle: EventHandle) -> Value {
        let answer = json!({
            "did": "push",
            "event_id": handle.event_id(),
            "message_id": handle.message_id(),
        });
        self.events.insert(handle.event_id().to_owned(), handle);
        answer
    }
}

async fn posted(did: &str, hook: &Webhook, posted: Posted) -> Value {
    match hook.post(&posted).await {
        Ok((status, body)) => json!({"did": did, "status": status, "body": body}),
        // Some peers hang up on what they do not believe.
        Err(error) => json!({"did": did, "status": null, "body": error.to_string()}),
    }
}

/// Pushes texts, so many a second, or all at once.
async fn burst(feishu: Feishu, app: String, count: u32, per_second: u32) {
    let pause = Duration::from_secs(1).checked_div(per_second);
    let mut due = tokio::time::Instant::now();
    for number in 0..count {
        let chat = format!("oc_{}", number % 50);
        feishu.push_text(&app, &chat, "ou_user", &format!("burst {number}"));
        if let Some(pause) = pause {
            due += pause;
            tokio::time::sleep_until(due).await;
        }
    }
}

fn print(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // Whoever stops reading has stopped caring; the end of stdin follows.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn fail(code: u8, why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "sim-feishu: {why}");
    ExitCode::from(code)
}

//! The simulated Feishu as a program: see [`console`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tests::console;
use tests::feishu::frame::Frame;
use tests::feishu::{
    ClientConfig, EventHandle, Fault, FaultId, Feishu, Message, Posted, Push, Schedule, Scope,
    Times, Webhook,
};

const NAME: &str = "sim-feishu";
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
token, sent, deduplicated, edited, recalled, reacted, unreacted, uploaded, downloaded, card, held, call, violation), and for each command an answer with "did" or "error".

Stdin: one JSON object a line; "app" may be left out when there is only one.
  {"do":"push_text","chat":"oc_1","sender":"ou_1","text":"hello"}      add "group":true for a group, "thread":"omt_1" for a
                                                                       topic of it, "picture":"img_1" for a picture above
  {"do":"push_event","event":{...}}                                    an event of any kind, whole
  {"do":"push_event","event":{...},"parts":3}                          cut into frames, last part first
  {"do":"push_event","event":{...},"push":{"parts":2,"order":[1,0],"gap_ms":3000,"repeat_last":true,"omit":["sum"]}}
  {"do":"push_event","event":{...},"push":{"within":["é"]}}            cut behind the first byte of each of these
  {"do":"burst","count":3000,"per_second":200}                         texts in a row; 0: all at once
  {"do":"replay","event_id":"..."}                                     the same under a new event id
  {"do":"event","event_id":"..."}                                      how far it has come
  {"do":"fault","fault":{"kind":"no_pongs"},"times":2}                 lie in wait; always without "times"
  {"do":"clear","id":1}                                                take back one fault; all without "id"
  {"do":"reset"} {"do":"drop"} {"do":"close","code":1001}              end connections: RST, FIN, close frame
  {"do":"hold"}                                                        swallow what the present connections carry
  {"do":"grant","scope":"im:resource","granted":false}                 take a scope from the app, or grant it
  {"do":"put_resource","key":"img_1","kind":"image","text":"..."}      the bytes behind a key in a message; or "base64"
  {"do":"post","hook":{"url":...,"encrypt_key":...,"token":...},"event":{...}}   post an event
  {"do":"challenge","hook":{...},"challenge":"..."}                    ask whether an address is the app's
  {"do":"shown","message_id":"om_1"}                                   what people see of a message by now
  {"do":"stop_listening"} {"do":"listen"}                              refuse TCP connections; accept them
  {"do":"revoke"}                                                      make the tokens of the app invalid
  {"do":"client_config","payload":"{\"PingInterval\":5}"}              push a configuration to the clients
  {"do":"send_text","text":"..."}                                      send a text message over the connections
  {"do":"send_odd"}                                                    send bytes that are no frame, and a frame of an unknown method
  {"do":"violations"} {"do":"sent"}                                    what is known so far

Kinds of fault:
  black_hole {existing}, reset_new, discovery_status {status, body}, discovery_code {code, status, data}, discovery_hang,
  handshake_hang, handshake_refuse {status, handshake_status, autherrcode}, no_pongs, pong_payload {payload},
  rest {route: token|send|reply|bot_info|edit|patch|recall|message|history|chat|react|unreact|reactions|image|file|
    resource|card|card_content|card_settings|card_update|card_convert|card_by_token|other, trouble: html {status} | code {status, code} |
    rate_limit {reset_s, status} | lost_answer | lost_request | delay {ms} | trickle | hang | hold}
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
        thread: Option<String>,
        picture: Option<String>,
    },
    PushEvent {
        app: Option<String>,
        event: Value,
        parts: Option<usize>,
        /// How, if not in one piece or in those parts.
        push: Option<Pieces>,
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
        #[serde(default)]
        text: String,
        base64: Option<String>,
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
    SendOdd {
        app: Option<String>,
    },
    Violations,
    Sent,
}

/// An event in odd pieces.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Pieces {
    /// So many of about the same size.
    parts: usize,
    /// Cut behind the first byte of each of these, in their order: what is sent is not what the command looks like, so
    /// nobody else can count its bytes.
    within: Vec<String>,
    /// The order of the pieces.
    order: Vec<usize>,
    /// Between two of them.
    gap_ms: u64,
    repeat_last: bool,
    /// Headers to leave out.
    omit: Vec<String>,
}

impl Pieces {
    /// The error names what the payload does not contain.
    fn push(self, payload: &str) -> Result<Push, String> {
        const HEADERS: [&str; 5] = ["trace_id", "sum", "seq", "message_id", "timestamp"];
        let Self { parts, within, order, gap_ms, repeat_last, omit } = self;
        let mut cuts = Push::chunked(payload.len(), parts).cuts;
        for word in within {
            let at = payload.find(&word).ok_or_else(|| format!("the event has no {word:?}"))?;
            cuts.push(at + 1);
        }
        cuts.sort_unstable();
        let omit = HEADERS.into_iter().filter(|name| omit.iter().any(|it| it == name)).collect();
        let gap = Duration::from_millis(gap_ms);
        Ok(Push { cuts, order, gap, repeat_last, omit, ..Push::default() })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match console::arguments(NAME, HELP, parse) {
        Ok(args) => args,
        Err(end) => return end,
    };
    let feishu = match Feishu::start_on(args.listen).await {
        Ok(feishu) => feishu,
        Err(error) => {
            return console::fail(NAME, 71, &format!("listen on {}: {error}", args.listen));
        }
    };
    for [id, secret, open_id] in &args.apps {
        feishu.add_app(id, secret, open_id);
    }
    feishu.configure(|settings| {
        settings.client_config = args.config;
        settings.schedule = Schedule::with_pauses_scaled(args.repush_scale);
    });
    console::print(&json!({"seen": "listening", "base_url": feishu.base_url()}).to_string());

    let first = args.apps.first().map(|[id, ..]| id.clone()).unwrap_or_default();
    let mut control =
        Control { feishu: feishu.clone(), first, events: HashMap::new(), faults: Vec::new() };
    console::serve(
        async |line: &str| control.obey(line).await,
        async |seen| feishu.entries_after(seen).await,
    )
    .await
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
            Command::PushText { app, chat, sender, text, group, thread, picture } => {
                let message = if group { Message::group } else { Message::direct };
                let message = message(&chat, &sender);
                let message = match picture {
                    Some(key) => message.post(
                        "",
                        &json!([
                            [{"tag": "img", "image_key": key}],
                            [{"tag": "text", "text": text}],
                        ]),
                    ),
                    None => message.text(&text),
                };
                let message = match thread {
                    Some(thread) => message.in_thread(&thread, &format!("om_root_of_{thread}")),
                    None => message,
                };
                self.push(app, message.build(), None)
            }
            Command::PushEvent { app, event, parts, push: None } => self.push(app, event, parts),
            Command::PushEvent { app, event, push: Some(pieces), .. } => {
                let app = app.unwrap_or_else(|| self.first.clone());
                match pieces.push(&event.to_string()) {
                    Ok(push) => {
                        let handle = self.feishu.push_event_as(&app, event, push);
                        self.pushed(handle)
                    }
                    Err(error) => json!({"error": error}),
                }
            }
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
            Command::PutResource { key, kind, text, base64 } => {
                let Ok(bytes) = STANDARD.decode(base64.unwrap_or_default()) else {
                    return json!({"error": "no base64"});
                };
                let (mime, bytes) = if bytes.is_empty() {
                    ("text/plain", text.as_bytes())
                } else {
                    ("image/png", bytes.as_slice())
                };
                self.feishu.put_resource(&key, &kind, mime, bytes);
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
            Command::SendOdd { app } => {
                self.feishu.send_bytes(scope(app.clone()), &[0xff; 40]);
                let odd = Frame { method: 7, ..Frame::default() };
                self.feishu.send_frame(scope(app), &odd);
                json!({"did": "send_odd"})
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

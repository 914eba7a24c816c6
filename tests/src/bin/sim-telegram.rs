//! The simulated Telegram as a program: see [`console`].

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tests::console;
use tests::telegram::{Fault, Message, Mood, Telegram};

const NAME: &str = "sim-telegram";
const HELP: &str = r#"A simulated Telegram Bot API on loopback.

Usage: sim-telegram --bot TOKEN=USERNAME [--listen ADDR:PORT] [--per-chat-ms MS]

Stdout: one JSON object a line. The first is {"seen":"listening","base_url":...}; then every observation as it
happens ("seen": poll, handed, confirmed, conflict, sent, edited, deleted, reacted, draft, action, read, posted, dropped, held,
menu, call, violation), and for each command an answer with "did" or "error".

Stdin: one JSON object a line.
  {"do":"push_text","user":9,"text":"hello"}                add "chat":-100 for a group, "topic":7 for a topic
  {"do":"push","update":{...}}                              an update of any kind, without its id
  {"do":"mood","chat":9,"mood":"blocked"}                   open, blocked, kicked, muted, gone; "to":-100: migrated
  {"do":"forum","chat":-100,"topics":[7]}                   make a chat a forum
  {"do":"fault","method":"sendMessage","fault":{"kind":"html","status":502},"times":1}
  {"do":"clear"}                                            take back all faults
  {"do":"reset"} {"do":"open_hole"} {"do":"close_hole"}     RST; nothing comes through; new connections work again
  {"do":"webhook","url":"https://..."}                      set by another program; empty: none
  {"do":"file","id":"f1","size":1000}                       a file that somebody has sent; or "base64"
  {"do":"drafts","possible":false}                          whether the server knows previews of messages
  {"do":"old","until":5000}                                 messages up to this id are too old to be changed
  {"do":"limit","ms":1000,"retry_after_s":1}                the least time between messages of a chat; 0: none
  {"do":"violations"} {"do":"pending"} {"do":"sent"}        what is known so far

Kinds of fault:
  html {status}, empty {status}, refuse {code, description, parameters}, rate_limit {seconds}, lost_answer, lost_request,
  truncated, trickle, hang, hold
"#;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    PushText { user: i64, text: String, chat: Option<i64>, topic: Option<i64> },
    Push { update: Value },
    Mood { chat: i64, mood: Option<String>, to: Option<i64> },
    Forum { chat: i64, topics: Vec<i64> },
    Fault { method: Option<String>, fault: Fault, times: Option<u32> },
    Clear,
    Reset,
    OpenHole,
    CloseHole,
    Webhook { url: String },
    Limit { ms: u64, retry_after_s: u64 },
    File { id: String, size: Option<usize>, base64: Option<String> },
    Drafts { possible: bool },
    Old { until: i64 },
    Violations,
    Pending,
    Sent,
}

struct Args {
    listen: SocketAddr,
    bot: (String, String),
    per_chat: Option<Duration>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match console::arguments(NAME, HELP, parse) {
        Ok(args) => args,
        Err(end) => return end,
    };
    let telegram = match Telegram::start_on(args.listen).await {
        Ok(telegram) => telegram,
        Err(error) => {
            return console::fail(NAME, 71, &format!("listen on {}: {error}", args.listen));
        }
    };
    let (token, username) = args.bot;
    telegram.add_bot(&token, &username);
    telegram.configure(|settings| {
        settings.per_chat = args.per_chat;
        settings.retry_after_s = 1;
    });
    console::print(&json!({"seen": "listening", "base_url": telegram.base_url()}).to_string());
    console::serve(
        async |line: &str| obey(&telegram, &token, line),
        async |seen| telegram.entries_after(seen).await,
    )
    .await
}

fn parse(words: &[String]) -> Result<Args, String> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let (mut bot, mut per_chat) = (None, None);
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--listen" => {
                listen = value()?.parse().map_err(|error| format!("--listen: {error}"))?;
            }
            "--bot" => {
                let (token, name) = value()?.split_once('=').ok_or("--bot wants TOKEN=USERNAME")?;
                bot = Some((token.to_owned(), name.to_owned()));
            }
            "--per-chat-ms" => {
                let ms = value()?.parse().map_err(|error| format!("--per-chat-ms: {error}"))?;
                per_chat = Some(Duration::from_millis(ms));
            }
            other => return Err(format!("unknown flag {other}")),
        }
    }
    Ok(Args { listen, bot: bot.ok_or("no --bot given")?, per_chat })
}

/// Carries out one line and says what came of it.
fn obey(telegram: &Telegram, token: &str, line: &str) -> Value {
    let command = match serde_json::from_str(line) {
        Ok(command) => command,
        Err(error) => return json!({"error": error.to_string()}),
    };
    match command {
        Command::PushText { user, text, chat, topic } => {
            let message = chat.map_or(Message::direct(user), |chat| Message::group(chat, user));
            let message = topic.into_iter().fold(message, Message::in_topic).text(&text);
            let (update_id, message_id) = telegram.push_message(token, message);
            return json!({"did": "push_text", "update_id": update_id, "message_id": message_id});
        }
        Command::Push { update } => {
            return json!({"did": "push", "update_id": telegram.push(token, update)});
        }
        Command::Mood { chat, mood, to } => {
            let mood = match (mood.as_deref(), to) {
                (_, Some(to)) => Mood::Migrated(to),
                (Some("blocked"), _) => Mood::Blocked,
                (Some("kicked"), _) => Mood::Kicked,
                (Some("muted"), _) => Mood::Muted,
                (Some("gone"), _) => Mood::Gone,
                _ => Mood::Open,
            };
            telegram.set_mood(token, chat, mood);
        }
        Command::Forum { chat, topics } => telegram.set_forum(token, chat, &topics),
        Command::Fault { method, fault, times } => {
            telegram.fault(method.as_deref(), fault, times);
        }
        Command::Clear => telegram.clear_faults(),
        Command::Reset => telegram.reset_connections(),
        Command::OpenHole => telegram.open_hole(),
        Command::CloseHole => telegram.close_hole(),
        Command::Webhook { url } => telegram.set_webhook(token, &url),
        Command::Limit { ms, retry_after_s } => telegram.configure(|settings| {
            settings.per_chat = (ms > 0).then(|| Duration::from_millis(ms));
            settings.retry_after_s = retry_after_s;
        }),
        Command::File { id, size, base64 } => {
            let Ok(bytes) = base64.map(|text| STANDARD.decode(text)).transpose() else {
                return json!({"error": "no base64"});
            };
            let bytes = bytes.unwrap_or_else(|| vec![b'x'; size.unwrap_or_default()]);
            telegram.add_file(token, &id, bytes);
        }
        Command::Drafts { possible } => {
            telegram.configure(|settings| settings.without_drafts = !possible);
        }
        Command::Old { until } => telegram.configure(|settings| settings.old_until = until),
        Command::Violations => {
            return json!({"did": "violations", "violations": telegram.violations()});
        }
        Command::Pending => return json!({"did": "pending", "updates": telegram.pending(token)}),
        Command::Sent => return json!({"did": "sent", "messages": telegram.sent()}),
    }
    let did = serde_json::from_str::<Value>(line).ok();
    json!({"did": did.as_ref().and_then(|line| line.get("do"))})
}

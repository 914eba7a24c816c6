//! A simulated Matrix homeserver, as far as `docs/matrix.py` needs one: one account of a bot, rooms of the bot and one
//! other, /sync by tokens that count events, and sends that are known again by their transaction ids. HTTP/1.1 on
//! loopback, a request a connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The account of the bot.
pub const BOT: &str = "@bot:sim";
/// Everybody else.
pub const ANN: &str = "@ann:sim";
/// A room of a homeserver that is far away.
pub const FAR: &str = "!far:away";
/// What proves the bot.
pub const TOKEN: &str = "syt_sim";

/// What happens to the next send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is done, and the connection is closed without an answer.
    Lost,
    /// 429, to be tried again after so many milliseconds.
    Limited(u32),
    /// 503.
    Down,
}

#[derive(Debug, Default)]
struct State {
    /// All events of all rooms, in order: the room, and the event.
    events: Vec<(String, Value)>,
    /// What transaction ids have become.
    sent: HashMap<String, String>,
    /// The ones that were asked for, as often as they were.
    asked: Vec<String>,
    faults: Vec<Fault>,
    synced: usize,
    /// No token is known until one is asked for.
    forgot: bool,
    /// Who the bot is now, if not [`BOT`].
    renamed: Option<String>,
    /// Rooms to which the bot is invited by the next /sync.
    invites: Vec<String>,
    /// Attempts to join that have ended: the room, and whether it was joined.
    joins: Vec<(String, bool)>,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<(Mutex<State>, Notify)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts it.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new((Mutex::default(), Notify::new()));
        let own = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&own);
                tokio::spawn(async move {
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Ok(Self { addr, shared, task })
    }

    /// Where it is.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody says something.
    pub fn say(&self, room: &str, text: &str) {
        self.put(room, "m.room.message", &json!({ "msgtype": "m.text", "body": text }));
    }

    /// Somebody does something, in whatever form: nobody checks that of what an event says.
    pub fn put(&self, room: &str, kind: &str, content: &Value) {
        put(&mut self.state(), room, ANN, kind, content);
        self.shared.1.notify_waiters();
    }

    /// What happens to the next sends, in order.
    pub fn faults(&self, faults: &[Fault]) {
        self.state().faults = faults.to_vec();
    }

    /// What the bot has said in a room.
    pub fn said(&self, room: &str) -> Vec<String> {
        let state = self.state();
        let own = state.events.iter().filter(|(place, event)| {
            place == room && event.get("sender").and_then(Value::as_str) != Some(ANN)
        });
        let body = |event: &Value| {
            event.pointer("/content/body").and_then(Value::as_str).map(str::to_owned)
        };
        own.filter_map(|(_, event)| body(event)).collect()
    }

    /// The transaction ids of all sends, also of those that came to nothing.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// It loses what its tokens mean.
    pub fn forget(&self) {
        self.state().forgot = true;
        self.shared.1.notify_waiters();
    }

    /// Whether somebody was told a token since.
    pub fn is_known(&self) -> bool {
        !self.state().forgot
    }

    /// The token is of another account.
    pub fn rename(&self, name: &str) {
        self.state().renamed = Some(name.to_owned());
    }

    /// The bot is invited: into [`FAR`], which answers when the bot has said something, or into another room, which
    /// can be joined at the second attempt.
    pub fn invite(&self, room: &str) {
        self.state().invites.push(room.to_owned());
        self.shared.1.notify_waiters();
    }

    /// Attempts to join that have ended: the room, and whether it was joined.
    pub fn joins(&self) -> Vec<(String, bool)> {
        self.state().joins.clone()
    }

    /// How many /sync were answered.
    pub fn synced(&self) -> usize {
        self.state().synced
    }
}

fn put(state: &mut State, room: &str, sender: &str, kind: &str, content: &Value) -> String {
    let id = format!("${}", state.events.len());
    let event = json!({
        "event_id": id, "type": kind, "sender": sender, "content": content,
        "origin_server_ts": 1_700_000_000_000_u64 + state.events.len() as u64,
    });
    state.events.push((room.to_owned(), event));
    id
}

async fn serve(stream: TcpStream, shared: &(Mutex<State>, Notify)) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let (mut length, mut is_bot) = (0, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => is_bot = value == format!("Bearer {TOKEN}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let url = url::Url::parse(&format!("http://sim{target}")).map_err(io::Error::other)?;
    let answer = if is_bot {
        answer(method, &url, &body, shared).await
    } else {
        Some((401, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "who are you" })))
    };
    let Some((status, body)) = answer else { return Ok(()) };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).await?;
    stream.get_mut().shutdown().await
}

/// The status and the body. `None`: the connection is closed without a byte.
async fn answer(
    method: &str,
    url: &url::Url,
    body: &[u8],
    shared: &(Mutex<State>, Notify),
) -> Option<(u16, Value)> {
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    let parts: Vec<_> = url.path().split('/').skip(4).map(decoded).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    match (method, parts.as_slice()) {
        ("GET", ["account", "whoami"]) => {
            let state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            Some((200, json!({ "user_id": state.renamed.as_deref().unwrap_or(BOT) })))
        }
        ("GET", ["sync"]) => Some(sync(&query, shared).await),
        ("POST", ["join", room]) => Some(join(room, shared).await),
        ("GET", ["rooms", room, "messages"]) => Some((200, messages(room, &query, shared))),
        ("GET", ["rooms", _, "joined_members"]) => {
            Some((200, json!({ "joined": { BOT: {}, ANN: { "display_name": "Ann" } } })))
        }
        ("PUT", ["rooms", room, "send", kind, name]) => send((room, kind, name), body, shared),
        ("PUT", ["rooms", _, "typing", _]) => Some((200, json!({}))),
        _ => Some((404, json!({ "errcode": "M_NOT_FOUND", "error": url.path() }))),
    }
}

fn decoded(part: &str) -> String {
    let query = format!("x={part}");
    url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map_or_else(String::new, |(_, it)| it.into_owned())
}

fn number(query: &HashMap<String, String>, name: &str) -> Option<usize> {
    query.get(name)?.trim_start_matches('s').parse().ok()
}

/// What has happened since the token, at most so much of each room as the filter says.
async fn sync(query: &HashMap<String, String>, shared: &(Mutex<State>, Notify)) -> (u16, Value) {
    let since = number(query, "since");
    let filter: Value =
        query.get("filter").and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
    let limit = filter.pointer("/room/timeline/limit").and_then(Value::as_u64).unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(10);
    let wait = Duration::from_millis(number(query, "timeout").unwrap_or(0) as u64);
    let grown = shared.1.notified();
    let lock = || shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let is_idle = |state: &State| {
        state.events.len() <= since.unwrap_or(0) && state.invites.is_empty() && !state.forgot
    };
    let waits = since.is_some() && is_idle(&lock());
    if waits {
        let _ = tokio::time::timeout(wait, grown).await;
    }
    let mut state = lock();
    if state.forgot && since.is_some() {
        return (400, json!({ "errcode": "M_UNKNOWN", "error": "an invalid token" }));
    }
    state.forgot = false;
    state.synced += 1;
    let invites = std::mem::take(&mut state.invites);
    let mut rooms: HashMap<&str, Vec<(usize, &Value)>> = HashMap::new();
    for (at, (room, event)) in state.events.iter().enumerate().skip(since.unwrap_or(0)) {
        rooms.entry(room).or_default().push((at, event));
    }
    let timeline = |events: Vec<(usize, &Value)>| {
        let from = events.len().saturating_sub(limit);
        let last = events.get(from..).unwrap_or_default();
        let prev = last.first().map_or(0, |(at, _)| *at);
        let events: Vec<_> = last.iter().map(|(_, event)| event).collect();
        json!({ "timeline": { "events": events, "limited": from > 0, "prev_batch": format!("s{prev}") } })
    };
    let joined: serde_json::Map<_, _> =
        rooms.into_iter().map(|(room, events)| (room.to_owned(), timeline(events))).collect();
    let invited = |room| (room, json!({ "invite_state": { "events": [] } }));
    let invited: serde_json::Map<_, _> = invites.into_iter().map(invited).collect();
    let rooms = json!({ "join": joined, "invite": invited });
    (200, json!({ "next_batch": format!("s{}", state.events.len()), "rooms": rooms }))
}

async fn join(room: &str, shared: &(Mutex<State>, Notify)) -> (u16, Value) {
    let lock = || shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let speaks = |state: &State| {
        state.events.iter().any(|(_, event)| event.get("sender").is_some_and(|it| it == BOT))
    };
    // Whoever does not wait so long is gone.
    while room == FAR && !speaks(&lock()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut state = lock();
    let is_joined = room == FAR || state.joins.iter().any(|(other, _)| other == room);
    state.joins.push((room.to_owned(), is_joined));
    if is_joined { (200, json!({ "room_id": room })) } else { (503, json!({})) }
}

/// Backwards from one token to another.
fn messages(room: &str, query: &HashMap<String, String>, shared: &(Mutex<State>, Notify)) -> Value {
    let state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (from, to) = (number(query, "from").unwrap_or(0), number(query, "to").unwrap_or(0));
    let limit = number(query, "limit").unwrap_or(10);
    let before = state.events.iter().enumerate().take(from).skip(to).rev();
    let chunk: Vec<_> = before.filter(|(_, (place, _))| place == room).take(limit).collect();
    let end = chunk.last().map(|(at, _)| format!("s{at}"));
    let chunk: Vec<_> = chunk.into_iter().map(|(_, (_, event))| event).collect();
    json!({ "chunk": chunk, "end": end })
}

fn send(
    (room, kind, name): (&str, &str, &str),
    body: &[u8],
    shared: &(Mutex<State>, Notify),
) -> Option<(u16, Value)> {
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    state.asked.push(name.to_owned());
    let fault = (!state.faults.is_empty()).then(|| state.faults.remove(0));
    match fault {
        Some(Fault::Limited(ms)) => {
            return Some((429, json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": ms })));
        }
        Some(Fault::Down) => return Some((503, json!({}))),
        Some(Fault::Lost) | None => {}
    }
    let known = state.sent.get(name).cloned();
    let id = known.unwrap_or_else(|| {
        let content: Value = serde_json::from_slice(body).unwrap_or_default();
        // Under its own name: who is heard as somebody else is answered, for ever.
        let bot = state.renamed.clone().unwrap_or_else(|| BOT.to_owned());
        let id = put(&mut state, room, &bot, kind, &content);
        state.sent.insert(name.to_owned(), id.clone());
        id
    });
    (fault != Some(Fault::Lost)).then(|| (200, json!({ "event_id": id })))
}

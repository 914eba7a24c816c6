//! A simulated server of chat completions: it does what its script says, else it answers `You said: …`
//! as a stream. HTTP/1.1 on loopback, a request a connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::bench::clock;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
}

impl Asked {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// What was asked, message by message.
    pub fn texts(&self) -> Vec<String> {
        let messages = self.body.get("messages").and_then(Value::as_array);
        let text =
            |message: &Value| message.get("content").and_then(Value::as_str).map(str::to_owned);
        messages.into_iter().flatten().filter_map(text).collect()
    }
}

/// What a chat completion is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The usual answer.
    Usual,
    /// This status, these headers, this body.
    Whole(u16, &'static str, String),
    /// A stream of these bytes, which then ends.
    Stream(Vec<String>),
    /// The same, each part after a pause.
    Slow(std::time::Duration, Vec<String>),
    /// The same at once, and then the connection breaks.
    Broken(Vec<String>),
    /// The same, and then nothing, until the client closes.
    Silent(Vec<String>),
    /// The same, and then comments until the client closes.
    KeptAlive(Vec<String>),
    /// No byte: the connection is closed.
    Nothing,
}

/// What is closed without a byte, once it has been read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Away {
    /// Nothing.
    #[default]
    Nothing,
    /// Requests for turns.
    Turns,
    /// Every request, as a proxy does whose server is away.
    All,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    /// Answered so whenever it is asked.
    always: Vec<(String, Answer)>,
    away: Away,
    asked: Vec<Asked>,
    health: u16,
    abandoned: u32,
    pace: std::time::Duration,
    turns: usize,
    most_turns: usize,
    /// When the first and the last word of each streamed answer had been written.
    words: Vec<(Instant, Instant)>,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    grown: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event of a stream that says this.
pub fn delta(text: &str) -> String {
    let choice = json!({ "index": 0, "delta": { "content": text } });
    format!("data: {}\n\n", json!({ "choices": [choice] }))
}

/// The end of a stream.
pub fn finish(reason: &str) -> String {
    let choice = json!({ "index": 0, "delta": {}, "finish_reason": reason });
    format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [choice] }))
}

/// An address that is a file itself.
pub fn data_url(mime: &str, bytes: &[u8]) -> String {
    format!("data:{mime};base64,{}", STANDARD.encode(bytes))
}

impl Server {
    /// When the first and the last word of each answer that came as a stream had been written.
    pub fn words(&self) -> Vec<(Instant, Instant)> {
        self.state().words.clone()
    }

    /// Counts and notes anew.
    pub fn forget_words(&self) {
        let mut state = self.state();
        state.words.clear();
        state.most_turns = 0;
    }

    /// Starts it.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts it where another one was.
    pub async fn start_on(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { health: 200, ..State::default() }));
        let grown = Arc::new(Notify::new());
        let (shared, grow) = (state.clone(), grown.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, grow) = (shared.clone(), grow.clone());
                connections.spawn(async move {
                    let _ = serve(stream, &shared, &grow).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { addr, state, grown, task })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Up to and with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// How the next requests are answered.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script.extend(answers);
    }

    /// How this question is answered each time.
    pub fn always(&self, question: &str, answer: Answer) {
        self.state().always.push((question.to_owned(), answer));
    }

    /// What is closed without a byte from now on.
    pub fn away(&self, away: Away) {
        self.state().away = away;
    }

    /// The status of looks at its health.
    pub fn health(&self, status: u16) {
        self.state().health = status;
    }

    /// How long each turn takes from now on.
    pub fn pace(&self, pace: std::time::Duration) {
        self.state().pace = pace;
    }

    /// The most turns that there were at once.
    pub fn most_turns(&self) -> usize {
        self.state().most_turns
    }

    /// Every chat completion that was asked for.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Streams that the client closed before their end.
    pub fn abandoned(&self) -> u32 {
        self.state().abandoned
    }

    /// Waits until so many were asked for.
    pub async fn wait_asked(&self, count: usize) -> Vec<Asked> {
        loop {
            let grown = self.grown.notified();
            let asked = self.asked();
            if asked.len() >= count {
                return asked;
            }
            grown.await;
        }
    }
}

async fn serve(stream: TcpStream, state: &Mutex<State>, grown: &Notify) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream).await?;
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    if !asked.path.ends_with("/chat/completions") {
        if lock().away == Away::All {
            return Ok(());
        }
        let health = lock().health;
        return whole(stream.get_mut(), health, "", "{}").await;
    }
    let texts = asked.texts();
    let (answer, pace) = {
        let mut state = lock();
        state.asked.push(asked);
        state.turns += 1;
        state.most_turns = state.most_turns.max(state.turns);
        let said = texts.last();
        let always = state.always.iter().find(|(question, _)| Some(question) == said);
        let always = always.map(|(_, answer)| answer.clone());
        let answer = match (state.away, always) {
            (Away::Turns | Away::All, _) => Answer::Nothing,
            (Away::Nothing, Some(answer)) => answer,
            (Away::Nothing, None) => state.script.pop_front().unwrap_or(Answer::Usual),
        };
        (answer, state.pace)
    };
    grown.notify_waiters();
    tokio::time::sleep(pace).await;
    lock().turns -= 1;
    let said = texts.last().cloned().unwrap_or_default();
    let usual =
        || vec![": keep-alive\n\n".into(), delta("You said: "), delta(&said), finish("stop")];
    match answer {
        Answer::Whole(status, headers, body) => {
            return whole(stream.get_mut(), status, headers, &body).await;
        }
        Answer::Nothing => {}
        Answer::Usual => {
            chunks(&mut stream, &usual(), true).await?;
            lock().words.push((clock::now(), clock::now()));
        }
        Answer::Stream(parts) => chunks(&mut stream, &parts, true).await?,
        Answer::Slow(pause, parts) => {
            chunks(&mut stream, &[], false).await?;
            let mut first = None;
            for part in parts {
                tokio::time::sleep(pause).await;
                let part = format!("{:x}\r\n{part}\r\n", part.len());
                stream.get_mut().write_all(part.as_bytes()).await?;
                first.get_or_insert_with(clock::now);
            }
            stream.get_mut().write_all(b"0\r\n\r\n").await?;
            let last = clock::now();
            lock().words.push((first.unwrap_or(last), last));
        }
        Answer::Broken(parts) => chunks(&mut stream, &parts, false).await?,
        Answer::Silent(parts) => {
            chunks(&mut stream, &parts, false).await?;
            let _ = stream.read_u8().await;
            lock().abandoned += 1;
        }
        Answer::KeptAlive(parts) => {
            chunks(&mut stream, &parts, false).await?;
            let mut beat = tokio::time::interval(std::time::Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = stream.read_u8() => break,
                    _ = beat.tick() => {
                        stream.get_mut().write_all(b"5\r\n: ka\n\r\n").await?;
                    }
                }
            }
            lock().abandoned += 1;
        }
    }
    Ok(())
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Asked { path, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

async fn whole(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> io::Result<()> {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

async fn chunks(stream: &mut BufReader<TcpStream>, parts: &[String], end: bool) -> io::Result<()> {
    let stream = stream.get_mut();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for part in parts {
        stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await?;
    }
    if end {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.flush().await
}

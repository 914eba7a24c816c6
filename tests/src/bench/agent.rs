//! An agent that thinks for no time at all: a client of the `socket` endpoint in this process.

#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for what it has not")]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, clock, fault};

const LEASE_MS: u64 = 600_000;
/// It says again that it is ready after this long.
const RENEW: Duration = Duration::from_millis(LEASE_MS / 4);

/// A connection that is ready.
pub(super) struct Agent {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    lines: Vec<u8>,
    /// When it said that it is ready.
    ready: Instant,
}

/// One event that was handed out.
pub(super) struct Offer {
    request: Value,
    pub(super) chat: String,
}

impl Agent {
    /// Connects and says that it is ready for so many events at once, as soon as no other agent is.
    pub(super) fn join(socket: &Path, concurrency: usize) -> io::Result<Self> {
        let connect = || Self::connect(socket, concurrency).ok();
        clock::until("the agent is let in", PATIENCE, connect)
    }

    fn connect(socket: &Path, concurrency: usize) -> io::Result<Self> {
        let writer = UnixStream::connect(socket)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut agent = Self { reader, writer, lines: Vec::new(), ready: clock::now() };
        let params = json!({ "concurrency": concurrency });
        agent.say(&json!({"id": "hello", "method": "initialize", "params": params}))?;
        agent.read()?;
        agent.ready()?;
        agent.flush()?;
        Ok(agent)
    }

    fn ready(&mut self) -> io::Result<()> {
        self.ready = clock::now();
        let params = json!({ "lease_ms": LEASE_MS });
        self.say(&json!({"id": "ready", "method": "ready", "params": params}))
    }

    /// The next event. What was said before leaves together.
    pub(super) fn next(&mut self) -> io::Result<Offer> {
        if clock::now().duration_since(self.ready) > RENEW {
            self.ready()?;
        }
        loop {
            let message = self.read()?;
            if message["method"] == "event.deliver" {
                let chat = message["params"]["chat_id"].as_str().unwrap_or_default().to_owned();
                return Ok(Offer { request: message["id"].clone(), chat });
            }
        }
    }

    /// It is done with an event.
    pub(super) fn done(&mut self, offer: &Offer) -> io::Result<()> {
        self.say(&json!({"id": offer.request, "result": {}}))
    }

    /// Says something of its own accord in a chat of `instance`.
    pub(super) fn send(&mut self, instance: &str, chat: &str, text: &str) -> io::Result<()> {
        let key = format!("{chat}:{text}");
        let params = json!({"key": key, "instance": instance, "chat_id": chat, "text": text});
        self.say(&json!({"id": key, "method": "message.send", "params": params}))
    }

    /// Lets everything that was said leave at once, and waits for the ends of so many replies.
    pub(super) fn receipts(&mut self, count: usize) -> io::Result<()> {
        let (mut writer, lines) = (self.writer.try_clone()?, std::mem::take(&mut self.lines));
        // Whoever says much has to listen meanwhile.
        let writing = std::thread::spawn(move || writer.write_all(&lines));
        let mut seen = 0;
        while seen < count {
            let message = self.read()?;
            if message["method"] == "message.receipt" {
                if message["params"]["state"] != "sent" {
                    return Err(fault(format!("a reply ended so: {message}")));
                }
                seen += 1;
            }
        }
        writing.join().map_err(|_| fault("the writer is gone"))?
    }

    /// Lets everything that was said leave.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }

    fn say(&mut self, message: &Value) -> io::Result<()> {
        let mut message = message.clone();
        message["jsonrpc"] = json!("2.0");
        serde_json::to_writer(&mut self.lines, &message)?;
        self.lines.push(b'\n');
        Ok(())
    }

    fn read(&mut self) -> io::Result<Value> {
        if !self.reader.buffer().contains(&b'\n') {
            self.flush()?;
        }
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(fault("the agent's worker hung up"));
        }
        let message: Value = serde_json::from_str(&line)?;
        if message.get("error").is_some() {
            return Err(fault(format!("the agent was refused: {line}")));
        }
        Ok(message)
    }
}

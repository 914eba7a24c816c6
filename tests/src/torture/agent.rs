//! The agent: a process that answers every message once it was offered, and writes down what it saw.
//!
//! It speaks the `socket` endpoint. Each line of its log is one write of one thing that happened, so
//! that whatever kills it leaves whole lines: `offer EVENT ATTEMPT TEXT`, `settled EVENT`,
//! `receipt KEY STATE`.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for what it has not")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::clock;

/// The first argument of this role.
pub const ROLE: &str = "agent";

/// Longer than any round.
const LEASE_MS: u64 = 600_000;

/// Serves until it is killed, or whoever started it is gone. Answers one message of `every`, told by the number that the message is.
pub fn run(socket: &Path, log: &Path, every: usize) -> io::Result<()> {
    let mut log = File::options().append(true).open(log)?;
    std::thread::Builder::new().name("leash".into()).spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    })?;
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            // The gateway is killed all the time: what ends here goes on with the next connection.
            let _ = serve(&stream, &mut log, every);
        }
        clock::pause(Duration::from_millis(10));
    }
}

fn serve(stream: &UnixStream, log: &mut File, every: usize) -> io::Result<()> {
    let say = |mut message: Value| {
        message["jsonrpc"] = json!("2.0");
        let line = format!("{message}\n");
        (&*stream).write_all(line.as_bytes())
    };
    say(json!({"id": "hello", "method": "initialize", "params": {"concurrency": 16}}))?;
    say(json!({"id": "ready", "method": "ready", "params": {"lease_ms": LEASE_MS}}))?;
    // Replies that are not accepted yet, with the requests that they answer.
    let mut accepting: HashMap<String, Value> = HashMap::new();
    for line in BufReader::new(stream).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        let params = &message["params"];
        match message["method"].as_str() {
            Some("event.deliver") => {
                let (event, text) = (word(&params["event_id"]), word(&params["text"]));
                writeln_at_once(log, &format!("offer {event} {} {text}", params["attempt"]))?;
                if text.parse::<usize>().is_ok_and(|number| number % every != 0) {
                    say(json!({"id": message["id"], "result": {}}))?;
                    continue;
                }
                accepting.insert(event.clone(), message["id"].clone());
                say(json!({"id": event, "method": "message.send", "params": {
                    "key": text,
                    "instance": params["instance"],
                    "chat_id": params["chat_id"],
                    "text": text,
                }}))?;
            }
            Some("event.settled") => {
                writeln_at_once(log, &format!("settled {}", word(&params["event_id"])))?;
            }
            Some("message.receipt") => {
                let (key, state) = (word(&params["key"]), word(&params["state"]));
                writeln_at_once(log, &format!("receipt {key} {state}"))?;
            }
            Some(_) => {}
            None => {
                let Some(request) = accepting.remove(&word(&message["id"])) else { continue };
                if message.get("result").is_some() {
                    say(json!({"id": request, "result": {}}))?;
                } else {
                    say(json!({"id": request, "error": {"code": 1, "message": "not accepted"}}))?;
                }
            }
        }
    }
    Ok(())
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn writeln_at_once(log: &mut File, line: &str) -> io::Result<()> {
    log.write_all(format!("{line}\n").as_bytes())
}

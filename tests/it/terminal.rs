//! A terminal at platform `local`, spoken for by a test.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::gateway::{Gateway, PATIENCE};

/// A terminal in one conversation.
pub(crate) struct Terminal {
    stream: BufReader<UnixStream>,
    /// What came while something else was waited for: an answer may overtake the word that what it
    /// answers is accepted.
    early: VecDeque<Value>,
}

impl Terminal {
    pub(crate) fn join(gateway: &Gateway) -> Self {
        Self::join_as(gateway, "home", "ann")
    }

    pub(crate) fn join_as(gateway: &Gateway, chat: &str, user: &str) -> Self {
        gateway.wait_ready("local");
        let stream = UnixStream::connect(gateway.state().join("chat-local.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut terminal = Self { stream: BufReader::new(stream), early: VecDeque::new() };
        terminal.say(&json!({ "type": "join", "chat": chat, "user": user }));
        terminal.until("joined");
        terminal
    }

    fn say(&mut self, line: &Value) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn until(&mut self, kind: &str) -> Value {
        if let Some(at) = self.early.iter().position(|line| line["type"] == kind) {
            return self.early.remove(at).unwrap();
        }
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the terminal is closed");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["type"] == kind {
                return line;
            }
            self.early.push_back(line);
        }
    }

    /// Types something, and waits for nothing.
    pub(crate) fn says(&mut self, id: &str, text: &str) {
        self.say(&json!({ "type": "say", "id": id, "text": text }));
    }

    /// Types something and waits until it is accepted.
    pub(crate) fn typed(&mut self, id: &str, text: &str) {
        self.say(&json!({ "type": "say", "id": id, "text": text }));
        assert_eq!(self.until("accepted")["id"], id);
    }

    /// The next message that is shown.
    pub(crate) fn shown(&mut self) -> String {
        self.until("message")["text"].as_str().unwrap().to_owned()
    }
}

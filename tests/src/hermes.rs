//! A simulated Hermes Agent at a relay: it dials, says hello, and then says what its test says.
//!
//! As the real one it acknowledges an event as soon as it has it in memory, and answers a command in
//! any chat, which is how a connector finds out that it listens.
#![expect(clippy::indexing_slicing, reason = "a missing member of JSON reads as null")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub struct Hermes {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    requests: u32,
    name: String,
}

/// What the relay said.
#[derive(Debug)]
pub enum Said {
    /// A line.
    Line(Value),
    /// It closed, with this code.
    Closed(Option<u16>),
}

/// The header that proves `id`, valid until the Unix second `until`.
pub fn bearer(id: &str, secret: &str, until: u64) -> String {
    let signed = format!("{id}:{until}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = protocol::id::hex(hmac::sign(&key, signed.as_bytes()).as_ref());
    format!("Bearer {}", URL_SAFE_NO_PAD.encode(format!("{signed}:{signature}")))
}

impl Hermes {
    /// Dials `url` with this proof. `name` makes its requests its own.
    pub async fn dial(url: &str, bearer: &str, name: &str) -> Result<Self, tungstenite::Error> {
        let mut request = url.into_client_request()?;
        let header = bearer.parse().map_err(|_| tungstenite::Error::Utf8("header".into()))?;
        request.headers_mut().insert("authorization", header);
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket, requests: 0, name: name.into() })
    }

    /// Writes a line.
    pub async fn say(&mut self, line: Value) {
        self.raw(&format!("{line}\n")).await;
    }

    /// Writes a message that may be less or more than a line.
    pub async fn raw(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// The next thing that the relay says.
    pub async fn hear(&mut self) -> Said {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next());
            match next.await.expect("the relay says something") {
                Some(Ok(Message::Text(text))) => {
                    assert!(text.ends_with('\n'), "a line without its end: {text}");
                    return Said::Line(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Said::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Said::Closed(None),
            }
        }
    }

    /// The next line of this type.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            match self.hear().await {
                Said::Line(line) if line["type"] == kind => return line,
                Said::Line(_) => {}
                Said::Closed(code) => panic!("closed ({code:?}) before {kind:?}"),
            }
        }
    }

    /// Says hello and waits for the descriptor.
    pub async fn hello(&mut self, platform: &str) -> Value {
        self.say(json!({ "type": "hello", "platform": platform, "botId": "bot" })).await;
        self.until("descriptor").await["descriptor"].take()
    }

    /// The next event that is no probe; probes are answered, events acknowledged as taken.
    pub async fn event(&mut self) -> Value {
        loop {
            let mut line = self.until("inbound").await;
            let event = line["event"].take();
            let Some(buffer) = line["bufferId"].as_str() else {
                let chat = event["source"]["chat_id"].clone();
                self.send(&event["source"]["platform"], &chat, &Value::Null, "help").await;
                continue;
            };
            self.say(json!({ "type": "inbound_ack", "bufferId": buffer })).await;
            return event;
        }
    }

    /// A final message. Its request's name is returned.
    pub async fn send(
        &mut self,
        platform: &Value,
        chat: &Value,
        reply_to: &Value,
        text: &str,
    ) -> String {
        self.requests += 1;
        let request = format!("{}-{}", self.name, self.requests);
        let action = json!({
            "op": "send", "chat_id": chat, "content": text, "reply_to": reply_to,
            "metadata": { "notify": true },
        });
        let line = json!({
            "type": "outbound", "requestId": request, "platform": platform, "action": action,
        });
        self.say(line).await;
        request
    }

    /// Answers an event and waits for the result.
    pub async fn answer(&mut self, event: &Value, text: &str) -> Value {
        let source = &event["source"];
        let request =
            self.send(&source["platform"], &source["chat_id"], &event["message_id"], text).await;
        self.result(&request).await
    }

    /// The result of a request.
    pub async fn result(&mut self, request: &str) -> Value {
        loop {
            let mut line = self.until("outbound_result").await;
            if line["requestId"] == request {
                return line["result"].take();
            }
        }
    }
}

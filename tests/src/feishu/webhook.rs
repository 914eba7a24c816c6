//! Events posted to a URL, sealed and signed as the platform does it.

#![expect(clippy::indexing_slicing, reason = "assigning a member of a JSON object cannot fail")]

use std::io;

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use ring::digest::{Context, SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock;

/// Where an app wants its events posted, and how.
#[derive(Debug, Clone, Deserialize)]
pub struct Webhook {
    /// `http://…`
    pub url: String,
    /// Stands in every event.
    #[serde(default)]
    pub token: String,
    /// With it, bodies are sealed and signed.
    #[serde(default)]
    pub encrypt_key: Option<String>,
    /// How much the clock of the platform is ahead, in seconds.
    #[serde(default)]
    pub ahead: i64,
}

/// A request as it is posted.
#[derive(Debug, Clone)]
pub struct Posted {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Webhook {
    /// An event as it is posted.
    pub fn request(&self, mut event: Value) -> Posted {
        match event.get_mut("header") {
            Some(header) => header["token"] = json!(self.token),
            None => event["token"] = json!(self.token),
        }
        self.seal(&event)
    }

    /// The question whether the address is the app's.
    pub fn challenge(&self, challenge: &str) -> Posted {
        let asked =
            json!({"challenge": challenge, "token": self.token, "type": "url_verification"});
        Posted { headers: Vec::new(), ..self.seal(&asked) }
    }

    fn seal(&self, event: &Value) -> Posted {
        let Some(key) = &self.encrypt_key else {
            return Posted { headers: Vec::new(), body: event.to_string().into_bytes() };
        };
        let start: [u8; 16] = fastrand::u128(..).to_le_bytes();
        let hash = digest(&SHA256, key.as_bytes());
        let sealer = Encryptor::<Aes256>::new_from_slices(hash.as_ref(), &start);
        let sealer = sealer.expect("both have their length");
        let sealed = sealer.encrypt_padded_vec_mut::<Pkcs7>(event.to_string().as_bytes());
        let body = json!({"encrypt": BASE64.encode([&start[..], &sealed].concat())}).to_string();
        let seconds = i64::try_from(clock::wall_ms() / 1000).unwrap_or(0) + self.ahead;
        let (timestamp, nonce) = (seconds.to_string(), fastrand::u64(..).to_string());
        let mut context = Context::new(&SHA256);
        for part in [&timestamp, &nonce, key, &body] {
            context.update(part.as_bytes());
        }
        let signature = protocol::id::hex(context.finish().as_ref());
        let headers = [
            ("X-Lark-Request-Timestamp", timestamp),
            ("X-Lark-Request-Nonce", nonce),
            ("X-Lark-Signature", signature),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Posted { headers, body: body.into_bytes() }
    }

    /// Posts it; status and body of the answer. What is no JSON is a text.
    pub async fn post(&self, posted: &Posted) -> io::Result<(u16, Value)> {
        let rest = self.url.strip_prefix("http://").ok_or(io::ErrorKind::InvalidInput)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = TcpStream::connect(host).await?;
        let mut head = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            posted.body.len()
        );
        for (name, value) in &posted.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&posted.body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let body = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
        Ok((status.ok_or(io::ErrorKind::UnexpectedEof)?, body))
    }
}

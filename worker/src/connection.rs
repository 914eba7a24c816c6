//! Lines of JSON-RPC to and from one program. Writing never waits: what the program does not read is kept up to a
//! bound, and one that goes beyond it has stopped reading.

use bytes::{BufMut, BytesMut};
use futures_util::StreamExt;
use protocol::rpc::{Fault, INVALID_PARAMS, INVALID_REQUEST, LINE_MAX, Line, PARSE_ERROR};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use crate::json;

const UNREAD_MAX: usize = 16 * 1024 * 1024;
/// Of what is wrong, so much is shown, in characters.
const SHOWN: usize = 60;
/// For last words.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(500);

/// One connection.
pub(crate) struct Connection<R, W> {
    reader: FramedRead<R, LinesCodec>,
    writer: W,
    unread: BytesMut,
    /// What was said so far and what of it is written, in bytes.
    said: u64,
    written: u64,
    /// Why it hears nothing any more. What it has said before that still counts.
    deaf: Option<String>,
}

/// What came.
pub(crate) enum Read {
    /// A line of JSON.
    Line(Line),
    /// A line that is none: what is wrong with it, as a code and for people.
    Wrong(i32, String),
    /// The end, and why.
    End(String),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    pub(crate) fn new((receive, send): (R, W)) -> Self {
        let reader = FramedRead::new(receive, LinesCodec::new_with_max_length(LINE_MAX));
        Self { reader, writer: send, unread: BytesMut::new(), said: 0, written: 0, deaf: None }
    }

    /// The next line, while what waits to be written is written.
    pub(crate) async fn read(&mut self) -> Read {
        loop {
            if self.unread.len() > UNREAD_MAX {
                return Read::End("it does not read what is sent to it".into());
            }
            tokio::select! {
                () = tokio::time::sleep(MOMENT), if self.deaf.is_some() => {
                    return Read::End(self.deaf.take().unwrap_or_default());
                }
                line = self.reader.next() => return match line {
                    None => Read::End(self.deaf.take().unwrap_or("it closed its end".into())),
                    Some(Ok(line)) => match meant(&line) {
                        Ok(line) => Read::Line(line),
                        Err(e) => {
                            let (code, why) = wrong(&line, &e);
                            Read::Wrong(code, why)
                        }
                    },
                    Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                        Read::End(format!("it sent a line of more than {LINE_MAX} bytes"))
                    }
                    Some(Err(LinesCodecError::Io(e))) => {
                        if e.kind() == std::io::ErrorKind::InvalidData {
                            self.fault(&serde_json::Value::Null, PARSE_ERROR, "it is no UTF-8");
                            let _ = tokio::time::timeout(MOMENT, self.finish()).await;
                        }
                        Read::End(e.to_string())
                    }
                },
                written = self.writer.write_buf(&mut self.unread), if !self.unread.is_empty() => {
                    match written {
                        Ok(bytes) => self.written += bytes as u64,
                        Err(e) => {
                            // It may have acknowledged something and left: that is read first.
                            self.deaf = Some(e.to_string());
                            self.unread.clear();
                        }
                    }
                }
            }
        }
    }

    /// Writes what is left, as far as the program reads it.
    pub(crate) async fn finish(&mut self) {
        while !self.unread.is_empty() {
            let Ok(bytes @ 1..) = self.writer.write_buf(&mut self.unread).await else { break };
            self.written += bytes as u64;
        }
    }

    /// Tells why this program is not served, and keeps the connection until it has said its first words: one that
    /// writes to a connection that is over already does not read why.
    pub(crate) async fn turn_away(mut self, code: i32, why: &str) {
        self.fault(&serde_json::Value::Null, code, why);
        let told = async {
            self.finish().await;
            self.read().await;
        };
        let _ = tokio::time::timeout(MOMENT, told).await;
    }

    pub(crate) fn request<T: Serialize>(&mut self, id: &str, method: &str, params: &T) {
        self.put(&serde_json::json!({
            "jsonrpc": "2.0", "id": id, "method": method, "params": params
        }));
    }

    pub(crate) fn notify<T: Serialize>(&mut self, method: &str, params: &T) {
        self.put(&serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    pub(crate) fn result<T: Serialize>(&mut self, id: &serde_json::Value, result: &T) {
        self.put(&serde_json::json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }

    pub(crate) fn fault(&mut self, id: &serde_json::Value, code: i32, message: impl Into<String>) {
        let fault = Fault { code, message: message.into(), data: None };
        self.put(&serde_json::json!({ "jsonrpc": "2.0", "id": id, "error": fault }));
    }

    /// Where what was said last ends.
    pub(crate) fn end(&self) -> u64 {
        self.said
    }

    /// Whether everything up to there is written: else nobody can have read the line that ends there.
    pub(crate) fn is_written(&self, end: u64) -> bool {
        end <= self.written
    }

    fn put(&mut self, line: &serde_json::Value) {
        let line = line.to_string();
        self.said += line.len() as u64 + 1;
        if self.deaf.is_some() {
            return;
        }
        self.unread.put_slice(line.as_bytes());
        self.unread.put_u8(b'\n');
    }
}

/// What is wrong with a line that cannot be read: JSON that is no request, or no JSON.
fn wrong(line: &str, why: &serde_json::Error) -> (i32, String) {
    match serde_json::from_str::<serde::de::IgnoredAny>(line) {
        Ok(_) if line.trim_start().starts_with('[') => {
            (INVALID_REQUEST, "a line is one object: there are no batches".to_owned())
        }
        Ok(_) => (INVALID_REQUEST, why.to_string()),
        Err(_) => (PARSE_ERROR, why.to_string()),
    }
}

/// What a call has as its parameters; it may have none. Else what is wrong with them, as a code and for people.
pub(crate) fn read<T: DeserializeOwned + Default>(params: &str) -> Result<T, (i32, String)> {
    if params == "null" { Ok(T::default()) } else { read_required(params) }
}

/// The same where there must be some. A character that was cut in half costs nobody the rest: what a platform or a
/// model says may end in one.
pub(crate) fn read_required<T: DeserializeOwned>(params: &str) -> Result<T, (i32, String)> {
    meant(params)
        .map_err(|why| (INVALID_PARAMS, format!("{why}: {}", before(params, why.column()))))
}

/// JSON of ours, also where half a character makes it none for a strict reader.
pub(crate) fn meant<T: DeserializeOwned>(said: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(said).or_else(|why| {
        let meant = json::lenient(said.as_bytes());
        meant.and_then(|it| serde_json::from_value(it).ok()).ok_or(why)
    })
}

/// The last words before a column of a line, which begin with 1: errors do not name the member that they are about.
fn before(line: &str, column: usize) -> String {
    let words = line.as_bytes().get(..column).unwrap_or(line.as_bytes());
    let words = String::from_utf8_lossy(words);
    let skipped = words.chars().count().saturating_sub(SHOWN);
    let shown: String = words.chars().skip(skipped).collect();
    if skipped > 0 { format!("…{shown}") } else { shown }
}

#[cfg(test)]
mod tests {
    use protocol::rpc::platform::Event;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    #[test]
    fn half_a_character_costs_nothing_and_a_wrong_member_is_shown() {
        let event = |chat: &str, text: &str| {
            let chat = format!(r#""chat_id": {chat}, "chat_type": "direct", "user_id": "u""#);
            read_required::<Event>(&format!(
                r#"{{{chat}, "origin_ms": 1, "message_id": "m", "text": {text}}}"#
            ))
        };
        assert_eq!(event(r#""c""#, r#""cut \ud83d""#).unwrap().text.unwrap(), "cut \u{fffd}");
        let (code, why) = event("5", r#""t""#).unwrap_err();
        assert_eq!(code, INVALID_PARAMS);
        assert!(why.ends_with(r#": {"chat_id": 5"#), "{why}");
        let (_, why) = event(&format!("\"{}\"", "日".repeat(300)), "[7]").unwrap_err();
        assert!(why.ends_with(r#" "message_id": "m", "text": "#) && why.len() < 200, "{why}");
        assert!(read::<protocol::rpc::Ready>("null").is_ok());
    }

    /// Also of one that goes on speaking.
    #[tokio::test]
    async fn what_a_program_does_not_read_is_kept_up_to_a_bound() {
        let (ours, mut agent) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(tokio::io::split(ours));
        let answer = "x".repeat(UNREAD_MAX / 16);
        for _ in 0..20 {
            agent.write_all(b"{}\n").await.unwrap();
            match connection.read().await {
                Read::End(why) => return assert_eq!(why, "it does not read what is sent to it"),
                _ => connection.fault(&serde_json::Value::Null, INVALID_REQUEST, answer.as_str()),
            }
        }
        panic!("{} bytes are kept", connection.unread.len());
    }

    /// A fault has words in it that a platform has cut; without its answer a request would wait for ever.
    #[tokio::test]
    async fn half_a_character_costs_no_answer() {
        let (ours, mut agent) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(tokio::io::split(ours));
        let answers =
            [r#""error":{"code":5,"message":"cut \ud83d"}"#, r#""result":["cut \ud83d"]"#];
        for answer in answers {
            agent.write_all(format!("{{\"id\":\"1\",{answer}}}\n").as_bytes()).await.unwrap();
        }
        let Read::Line(refused) = connection.read().await else { panic!("it is none") };
        assert_eq!(refused.error.unwrap().message, "cut \u{fffd}");
        let Read::Line(done) = connection.read().await else { panic!("it is none") };
        let ids: Vec<String> = meant(done.result.unwrap().get()).unwrap();
        assert_eq!(ids, ["cut \u{fffd}"]);
    }

    /// Whether the end or the last words are met first is chance: hence many times.
    #[tokio::test]
    async fn last_words_are_heard_although_nothing_can_be_said_any_more() {
        for _ in 0..100 {
            let (ours, mut agent) = UnixStream::pair().unwrap();
            let mut connection = Connection::new(tokio::io::split(ours));
            agent.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"result\":{}}\n").await.unwrap();
            drop(agent);
            connection.notify("event.settled", &());
            assert!(matches!(connection.read().await, Read::Line(_)));
            connection.notify("event.settled", &());
            assert!(matches!(connection.read().await, Read::End(_)));
        }
    }
}

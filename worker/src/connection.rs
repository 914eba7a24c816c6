//! Lines of JSON-RPC to and from one program. Writing never waits: what the program does not read is kept up to a
//! bound, and one that goes beyond it has stopped reading.

use bytes::{BufMut, BytesMut};
use futures_util::StreamExt;
use protocol::rpc::{Fault, INVALID_REQUEST, LINE_MAX, Line, PARSE_ERROR};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

const UNREAD_MAX: usize = 16 * 1024 * 1024;
/// For last words.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(500);

/// One connection.
pub(crate) struct Connection<R, W> {
    reader: FramedRead<R, LinesCodec>,
    writer: W,
    unread: BytesMut,
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
        Self { reader, writer: send, unread: BytesMut::new(), deaf: None }
    }

    /// The next line, while what waits to be written is written.
    pub(crate) async fn read(&mut self) -> Read {
        loop {
            tokio::select! {
                () = tokio::time::sleep(MOMENT), if self.deaf.is_some() => {
                    return Read::End(self.deaf.take().unwrap_or_default());
                }
                line = self.reader.next() => return match line {
                    None => Read::End(self.deaf.take().unwrap_or("it closed its end".into())),
                    Some(Ok(line)) => match serde_json::from_str(&line) {
                        Ok(line) => Read::Line(line),
                        Err(e) => Read::Wrong(wrong(&line), e.to_string()),
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
                    if let Err(e) = written {
                        // It may have acknowledged something and left: that is read first.
                        self.deaf = Some(e.to_string());
                        self.unread.clear();
                    }
                }
            }
            if self.unread.len() > UNREAD_MAX {
                return Read::End("it does not read what is sent to it".into());
            }
        }
    }

    /// Writes what is left, as far as the program reads it.
    pub(crate) async fn finish(&mut self) {
        while !self.unread.is_empty() {
            if !self.writer.write_buf(&mut self.unread).await.is_ok_and(|n| n > 0) {
                break;
            }
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

    fn put(&mut self, line: &serde_json::Value) {
        if self.deaf.is_some() {
            return;
        }
        self.unread.put_slice(line.to_string().as_bytes());
        self.unread.put_u8(b'\n');
    }
}

/// What is wrong with a line that cannot be read: JSON that is no request, or no JSON.
fn wrong(line: &str) -> i32 {
    match serde_json::from_str::<serde::de::IgnoredAny>(line) {
        Ok(_) => INVALID_REQUEST,
        Err(_) => PARSE_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

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

//! One connection of an agent: who it is, its lines, its end.
//!
//! Reading and writing do not wait for one another: the agent stops reading while it waits for an
//! answer, and the answer must then still find its way. A wrong token is told by close code 4401 after
//! the upgrade; after an earlier success the agent takes that code as final, so nothing else uses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use protocol::worker::Secret;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::connector::Conn;
use super::token::{self, Token};
use super::wire::{self, Heard};
use crate::clock;

/// From the connection to the end of the upgrade.
const UPGRADE: Duration = Duration::from_secs(10);
/// The agent pings every 20 or 30 s, but not while its loop is blocked for 30 s.
const SILENCE: Duration = Duration::from_secs(120);
/// For the last frames.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
/// The longest message and the longest line of an agent.
const MESSAGE_MAX: usize = 8 * 1024 * 1024;
const UNAUTHORIZED: u16 = 4401;

/// Who comes, and has shown nothing yet.
pub(super) struct Stranger {
    pub(super) conn: Conn,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Cancelled: it is to make room, unless it has come in.
    pub(super) leave: CancellationToken,
}

/// Who may come in.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) id: String,
    pub(super) secret: Secret,
}

/// What is written.
pub(super) enum Line {
    Text(String),
    Close,
}

/// What a connection tells.
pub(super) enum News {
    /// It has shown the secret.
    Entered,
    /// It was turned away, whence it came, and why.
    TurnedAway(SocketAddr, &'static str),
    Heard(Heard),
    Closed,
}

type Socket = WebSocketStream<TcpStream>;

/// Serves a connection to its end, which is told last.
pub(super) async fn serve(
    Stranger { conn, stream, peer, leave }: Stranger,
    keeper: Arc<Keeper>,
    lines: mpsc::Receiver<Line>,
    tell: mpsc::Sender<(Conn, News)>,
) {
    let upgraded = leave.run_until_cancelled(upgrade(stream, &keeper));
    match tokio::time::timeout(UPGRADE, upgraded).await.map_err(|_| "no upgrade in time") {
        Ok(Some(Ok((socket, Token::Good)))) => {
            tracing::info!(%peer, conn, "an agent connected");
            let _ = tell.send((conn, News::Entered)).await;
            let why = talk(conn, socket, lines, &tell).await;
            tracing::info!(conn, why, "the connection of the agent is over");
        }
        Ok(Some(Ok((socket, token)))) => {
            let (code, why) = match token {
                Token::Expired => (CloseCode::Again, "expired token"),
                Token::Good | Token::Wrong => (CloseCode::from(UNAUTHORIZED), "unauthorized"),
            };
            let _ = tell.send((conn, News::TurnedAway(peer, why))).await;
            let mut socket = socket;
            let frame = CloseFrame { code, reason: why.into() };
            let close = async {
                let _ = socket.close(Some(frame)).await;
                while let Some(Ok(_)) = socket.next().await {}
            };
            let _ = leave.run_until_cancelled(tokio::time::timeout(GOODBYE, close)).await;
        }
        Ok(Some(Err(e))) => tracing::debug!(%peer, error = %e, "no upgrade"),
        Ok(None) => tracing::debug!(%peer, "no upgrade before others came"),
        Err(why) => tracing::debug!(%peer, why),
    }
    let _ = tell.send((conn, News::Closed)).await;
}

#[expect(clippy::result_large_err, reason = "the library's own error")]
async fn upgrade(stream: TcpStream, keeper: &Keeper) -> Result<(Socket, Token), Error> {
    let _ = stream.set_nodelay(true);
    let mut judged = Token::Wrong;
    let check = |request: &Request, response: Response| {
        if request.uri().path() != "/relay" {
            let mut refused = ErrorResponse::new(Some("the relay is at /relay\n".to_owned()));
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            return Err(refused);
        }
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let now_s = clock::unix_ms() / 1000;
        judged = token::judge(header, &keeper.id, keeper.secret.expose(), now_s);
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let upgraded =
        tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await;
    upgraded.map(|socket| (socket, judged))
}

async fn talk(
    conn: Conn,
    socket: Socket,
    lines: mpsc::Receiver<Line>,
    tell: &mpsc::Sender<(Conn, News)>,
) -> &'static str {
    let (sink, stream) = socket.split();
    tokio::select! {
        why = read(conn, stream, tell) => why,
        why = write(sink, lines) => why,
    }
}

async fn read(
    conn: Conn,
    mut stream: SplitStream<Socket>,
    tell: &mpsc::Sender<(Conn, News)>,
) -> &'static str {
    let mut begun = Vec::new();
    loop {
        let bytes = match tokio::time::timeout(SILENCE, stream.next()).await {
            Err(_) => return "it fell silent",
            Ok(None | Some(Ok(Message::Close(_)))) => return "it closed",
            Ok(Some(Err(_))) => return "it broke",
            Ok(Some(Ok(Message::Text(text)))) => text.as_bytes().to_vec(),
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes.to_vec(),
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
        };
        // Lines and messages need not end together. What was there before ends none.
        let mut seen = begun.len();
        begun.extend_from_slice(&bytes);
        let mut done = 0;
        while let Some(end) = end_of_line(&begun, seen) {
            let line = begun.get(done..end).unwrap_or_default();
            (done, seen) = (end, end);
            match wire::decode(line) {
                Some(heard) => {
                    if tell.send((conn, News::Heard(heard))).await.is_err() {
                        return "the worker ends";
                    }
                }
                None if line.trim_ascii().is_empty() => {}
                None => {
                    tracing::warn!(conn, bytes = line.len(), "a line that is no JSON object");
                    if tell.send((conn, News::Heard(Heard::Unreadable))).await.is_err() {
                        return "the worker ends";
                    }
                }
            }
        }
        begun.drain(..done);
        if begun.len() > MESSAGE_MAX {
            return "it sent a line that is too long";
        }
    }
}

/// Behind the first line end from `seen` on.
fn end_of_line(begun: &[u8], seen: usize) -> Option<usize> {
    let rest = begun.get(seen..)?;
    rest.iter().position(|byte| *byte == b'\n').map(|at| seen + at + 1)
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut lines: mpsc::Receiver<Line>,
) -> &'static str {
    while let Some(Line::Text(line)) = lines.recv().await {
        if sink.send(Message::text(line)).await.is_err() {
            return "it broke";
        }
    }
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = tokio::time::timeout(GOODBYE, sink.send(Message::Close(Some(frame)))).await;
    "closed by us"
}

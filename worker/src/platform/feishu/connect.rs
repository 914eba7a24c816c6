//! Opening the long connection: name, TCP, TLS and the WebSocket handshake, all within one limit.
//!
//! A refused handshake explains itself in headers of its own. A second line of defence against dead
//! connections is set in the kernel; the first is in `live`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::discovery::{Endpoint, Failure};
use crate::http::Http;
use crate::http::way::{Step, Way};
use crate::proxy::Proxy;
use crate::session::{Loss, Session};
use crate::trust;

const TCP_LIMIT: Duration = Duration::from_secs(5);
/// How much later each further address of a host is tried while the earlier ones have not answered.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
const ADDRESSES_MAX: u32 = 4;
/// Larger messages end the connection. Events are cut into frames far below this.
const MESSAGE_MAX: usize = 8 * 1024 * 1024;
const BUFFER: usize = 16 * 1024;
/// For bytes that were sent and not confirmed.
const UNCONFIRMED: Duration = Duration::from_secs(15);
const TOO_MANY: &str = "1000040350";

/// An open connection.
pub(super) struct Connection {
    pub(super) socket: WebSocketStream<MaybeTlsStream<Counted>>,
    /// How many bytes have arrived.
    pub(super) arrived: Arrived,
}

/// Opens it, within `limit`, or the longer one that `session` grants after attempts that were too slow.
pub(super) async fn connect(
    http: &Http,
    endpoint: &Endpoint,
    session: &Session,
    limit: Duration,
) -> Result<Connection, Failure> {
    let (tcp, limit) = (session.limit(TCP_LIMIT), session.limit(limit));
    let way = Way::to(&endpoint.url);
    way.through(http.proxy().map(Proxy::place));
    match tokio::time::timeout(limit, open(http, endpoint, tcp, &way)).await {
        Ok(done) => done,
        Err(_) => Err(late(&way)),
    }
}

fn late(way: &Way) -> Failure {
    Failure::late(format!("open the connection: {}", way.late()))
}

async fn open(
    http: &Http,
    endpoint: &Endpoint,
    limit: Duration,
    way: &Way,
) -> Result<Connection, Failure> {
    let failed =
        |e: io::Error| Failure::outage(format!("open the connection: {}: {e}", way.closed()));
    let no_host = || io::Error::new(io::ErrorKind::InvalidInput, "the URL has no host");
    let host = endpoint.url.host_str().ok_or_else(no_host).map_err(failed)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = endpoint.url.port_or_known_default().unwrap_or(443);
    let proxy = http.proxy();
    let first = proxy.map_or((host, port), |proxy| (proxy.host.as_str(), proxy.port));
    let tcp = match tokio::time::timeout(limit, dial(first.0, first.1, way)).await {
        Ok(done) => done.map_err(failed)?,
        Err(_) => return Err(late(way)),
    };
    let tcp = match proxy {
        Some(proxy) => proxy.tunnel(tcp, host, port).await.map_err(failed)?,
        None => tcp,
    };
    way.at(Step::Handshake);
    let arrived = Arrived::default();
    let tcp = Counted { tcp, arrived: arrived.clone() };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let connector = Connector::Rustls(http.tls());
    let url = endpoint.url.as_str();
    let opened = client_async_tls_with_config(url, tcp, Some(config), Some(connector)).await;
    match opened {
        Ok((socket, _)) => Ok(Connection { socket, arrived }),
        Err(WsError::Http(answer)) => Err(refusal(answer.status().as_u16(), answer.headers())),
        Err(e) => {
            let why = format!("open the connection: {}: {}", way.closed(), trust::told(&e));
            Err(Failure::outage(why))
        }
    }
}

/// The first of the host's addresses that answers.
async fn dial(host: &str, port: u16, way: &Way) -> io::Result<TcpStream> {
    way.at(Step::Name(host.to_owned()));
    let addresses = tokio::net::lookup_host((host, port)).await?;
    way.at(Step::Connect);
    let mut attempts: FuturesUnordered<_> = (0..ADDRESSES_MAX)
        .zip(addresses)
        .map(|(turn, address)| async move {
            tokio::time::sleep(NEXT_ADDRESS * turn).await;
            TcpStream::connect(address).await
        })
        .collect();
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    while let Some(attempt) = attempts.next().await {
        result = attempt;
        if result.is_ok() {
            break;
        }
    }
    let tcp = result?;
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(&tcp);
    let keepalive =
        TcpKeepalive::new().with_time(UNCONFIRMED).with_interval(Duration::from_secs(5));
    // Not every system has them, and none needs them.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNCONFIRMED));
    Ok(tcp)
}

/// Why the handshake was refused.
fn refusal(status: u16, headers: &HeaderMap) -> Failure {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = header("handshake-status").parse().unwrap_or(status);
    let msg = crate::json::brief(header("handshake-msg"));
    let reason = format!("open the connection: HTTP {status}, {said} {msg}");
    match said {
        403 => Failure::refused(
            reason,
            "the platform has banned this connection: check the app's state in the developer console",
        ),
        514 if header("handshake-autherrcode") == TOO_MANY => Failure::code(1_000_040_350, &msg),
        429 => Failure { loss: Loss::Refused, ..Failure::outage(reason) },
        // Another 514 concerns this one URL; the next attempt has a new one.
        _ => Failure::outage(reason),
    }
}

/// How many bytes have arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrived(Arc<AtomicU64>);

impl Arrived {
    /// The number so far.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A TCP connection that counts what arrives, so that half a message is a sign of life.
pub(super) struct Counted {
    tcp: TcpStream,
    arrived: Arrived,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tcp.fmt(f)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        self.arrived.0.fetch_add(bytes as u64, Ordering::Relaxed);
        done
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_sorted_by_their_headers() {
        let cases = [
            (502, None, None, Loss::Outage),
            (403, Some("403"), None, Loss::Refused),
            (403, None, None, Loss::Refused),
            (401, Some("514"), None, Loss::Outage),
            (401, Some("514"), Some("1000040345"), Loss::Outage),
            (403, Some("514"), Some("1000040350"), Loss::Refused),
            (429, None, None, Loss::Refused),
            (400, Some("nonsense"), None, Loss::Outage),
        ];
        for (status, said, code, loss) in cases {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert("Handshake-Status", said.parse().unwrap());
            }
            if let Some(code) = code {
                headers.insert("Handshake-Autherrcode", code.parse().unwrap());
            }
            assert_eq!(refusal(status, &headers).loss, loss, "{status} {said:?} {code:?}");
        }
    }
}

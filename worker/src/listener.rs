//! What platforms post to us: an HTTP server for one adapter, bounded in everything.
//!
//! Whoever reaches the port may send what he likes, so each step has a limit: the head of a request, its
//! body, the time for either, the time for the answer, connections at once. A [`Site`] looks at the head
//! first and may refuse without a byte of the body being read. Where as many are connected as may be, the one
//! that has been still for longest makes room for the next, unless it is being answered. There is no TLS here:
//! a reverse proxy has the certificate, and by default only this machine can connect. Connections live within
//! the adapter's own task, so that they end with it.

mod held;
mod seat;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::held::Held;
use self::seat::{Noted, Seat, Seats};
use crate::Error;
use crate::clock;

/// Everything of a request but its body.
pub type Head = hyper::http::request::Parts;

/// Out of descriptors, most likely: the next try would fail the same way.
const DEAF: Duration = Duration::from_millis(200);
/// Between two attempts at a port that is taken.
const AGAIN: Duration = Duration::from_secs(2);
/// Headers of one request.
const HEADERS: usize = 64;
/// From a connection to its first byte.
const FIRST: Duration = Duration::from_secs(5);
/// Whoever was still for so long makes room for the next.
const STILL: Duration = Duration::from_secs(1);
/// The least that the server buffers.
const BUFFER_MIN: usize = 8192;
/// Bytes of all bodies that are in memory at once, of requests and of answers.
const BODIES: usize = 192 * 1024 * 1024;
/// In seconds, for whoever finds no room for what he posts.
const NO_ROOM: u32 = 1;

/// What answers.
pub trait Site {
    /// Looks at a request before its body is read. An error is the answer, and the body is not read.
    fn admit(&self, head: &Head) -> Result<(), Answer>;

    /// Answers a request. Dropped if the peer goes away or the time for an answer is over.
    fn answer(&self, head: Head, body: Bytes) -> impl Future<Output = Answer>;
}

/// The limits of a site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head: usize,
    /// Bytes of its body.
    pub body: usize,
    /// Until the head has arrived, and how long a connection may rest.
    pub head_within: Duration,
    /// Until the body has arrived.
    pub body_within: Duration,
    /// Until there is an answer; after that the answer is 503.
    pub answer_within: Duration,
    /// Connections at once. Where all are being answered, more wait in the system's queue.
    pub connections: usize,
    /// What is under way when the adapter is told to stop has so long.
    pub last: Duration,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub kind: &'static str,
    /// The body.
    pub body: Bytes,
    /// How many seconds to wait before another try.
    pub retry_after: Option<u32>,
}

impl Answer {
    /// A status with a few words for people.
    pub fn plain(status: u16, words: &'static str) -> Self {
        Self {
            status,
            kind: "text/plain",
            body: Bytes::from_static(words.as_bytes()),
            retry_after: None,
        }
    }

    /// JSON.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, kind: "application/json", body: body.into(), retry_after: None }
    }

    /// Not now.
    pub fn later(seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::plain(503, "not now") }
    }

    fn respond(self, close: bool) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Takes the port, as soon as it is free. `taken` hears why it is not, once for each reason. None: the worker is
/// told to stop.
pub async fn bind(
    addr: SocketAddr,
    stop: &CancellationToken,
    mut taken: impl AsyncFnMut(String),
) -> Option<TcpListener> {
    let mut told = String::new();
    loop {
        let reason = match TcpListener::bind(addr).await {
            Ok(listener) => return Some(listener),
            Err(source) => Error::Os { what: format!("listen on {addr}"), source }.to_string(),
        };
        if reason != told {
            told.clone_from(&reason);
            taken(reason).await;
        }
        stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await?;
    }
}

/// Serves until `stop`, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    limits: Limits,
    site: &impl Site,
    stop: &CancellationToken,
) {
    let held = Held::new(BODIES);
    let mut lines = FuturesUnordered::new();
    let mut seats = Seats::default();
    let turns = seats.turns();
    let mut deaf_until = clock::now();
    loop {
        let deaf = deaf_until > clock::now();
        let is_full = lines.len() >= limits.connections;
        // Those that have only just come are to be heard first.
        let room_at = if is_full {
            seats.resting().map(|(_, since)| since + STILL)
        } else {
            Some(clock::now())
        };
        let has_room = room_at.is_some_and(|at| at <= clock::now());
        tokio::select! {
            () = stop.cancelled() => break,
            Some(()) = lines.next() => {}
            () = sleep_until(deaf_until), if deaf => {}
            () = turns.notified(), if is_full => {}
            () = sleep_until(room_at.unwrap_or(deaf_until)), if room_at.is_some() && !has_room => {}
            accepted = listener.accept(), if !deaf && has_room => {
                match accepted {
                    Ok((stream, _)) => {
                        if is_full && let Some((resting, _)) = seats.resting() {
                            resting.lost.cancel();
                        }
                        let seat = seats.take();
                        lines.push(line(stream, limits, site, stop, seat, held.share()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        deaf_until = clock::now() + DEAF;
                    }
                }
            }
        }
    }
    // Whoever comes now is to find nobody, and to try again.
    drop(listener);
    while lines.next().await.is_some() {}
}

/// One connection, to its end or to that of its place.
async fn line(
    stream: TcpStream,
    limits: Limits,
    site: &impl Site,
    stop: &CancellationToken,
    seat: Arc<Seat>,
    held: Held,
) {
    let talk = async {
        // Without it the system still delivers, only later.
        let _ = stream.set_nodelay(true);
        // Whoever connects has something to say; one that has not keeps no place.
        let mut byte = [0];
        let first = timeout(FIRST.min(limits.head_within), stream.peek(&mut byte));
        if !matches!(stop.run_until_cancelled(first).await, Some(Ok(Ok(1)))) {
            return;
        }
        let (seat, held) = (&seat, &held);
        let answer = |request| async move {
            Ok::<_, Infallible>(answer(request, limits, site, seat, held).await)
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .max_headers(HEADERS)
            .max_buf_size(limits.head.max(BUFFER_MIN))
            .serve_connection(
                TokioIo::new(Noted { stream, seat: seat.clone() }),
                service_fn(answer),
            );
        let mut connection = pin!(connection);
        // A connection that breaks is its peer's affair.
        if stop.run_until_cancelled(connection.as_mut()).await.is_none() {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(limits.last, connection).await;
        }
    };
    seat.lost.run_until_cancelled(talk).await;
}

async fn answer(
    request: Request<Incoming>,
    limits: Limits,
    site: &impl Site,
    seat: &Arc<Seat>,
    held: &Held,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if let Err(refusal) = site.admit(&head) {
        return refusal.respond(true);
    }
    if body.size_hint().lower() > limits.body as u64 {
        return Answer::plain(413, "too large").respond(true);
    }
    let mut heard = held.share();
    let reading = read(Limited::new(body, limits.body), &mut heard);
    let body = match timeout(limits.body_within, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refusal.respond(true),
        Err(_) => return Answer::plain(408, "too slow").respond(true),
    };
    let _work = seat.work();
    let answer = timeout(limits.answer_within, site.answer(head, body)).await;
    let mut answer = answer.unwrap_or_else(|_| Answer::later(1));
    drop(heard);
    let mut said = held.share();
    if !said.more(answer.body.len()) {
        return Answer::later(NO_ROOM).respond(false);
    }
    answer.body = said.keep(answer.body);
    answer.respond(false)
}

/// A whole body, which counts as it comes. An error is the answer.
async fn read(mut body: Limited<Incoming>, held: &mut Held) -> Result<Bytes, Answer> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let is_long = error.is::<LengthLimitError>();
            if is_long {
                Answer::plain(413, "too large")
            } else {
                Answer::plain(400, "the body is not whole")
            }
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        if !held.more(piece.len()) {
            return Err(Answer::later(NO_ROOM));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests;

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
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(20);
    const LIMITS: Limits = Limits {
        head: 8192,
        body: 100,
        head_within: LONG,
        body_within: LONG,
        answer_within: LONG,
        connections: 2,
        last: LONG,
    };

    /// Says what it was posted, as soon as it may.
    struct Echo {
        asked: Semaphore,
        may: Semaphore,
    }

    impl Site for Echo {
        fn admit(&self, head: &Head) -> Result<(), Answer> {
            let known = head.headers.get("x-secret").is_some_and(|it| it == "s");
            if known { Ok(()) } else { Err(Answer::plain(401, "who are you?")) }
        }

        async fn answer(&self, _: Head, body: Bytes) -> Answer {
            self.asked.add_permits(1);
            self.may.acquire().await.unwrap().forget();
            Answer::json(200, body)
        }
    }

    struct Rig {
        addr: SocketAddr,
        site: &'static Echo,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<()>,
    }

    impl Rig {
        async fn new(change: impl FnOnce(&mut Limits), may: usize) -> Self {
            let mut limits = LIMITS;
            change(&mut limits);
            let stop = CancellationToken::new();
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = bind(any, &stop, async |why| panic!("{why}")).await.unwrap();
            let addr = listener.local_addr().unwrap();
            let echo = Echo { asked: Semaphore::new(0), may: Semaphore::new(may) };
            let site: &'static Echo = Box::leak(Box::new(echo));
            let told = stop.clone();
            let ended = tokio::spawn(async move { serve(listener, limits, site, &told).await });
            Self { addr, site, stop, ended }
        }

        async fn say(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.addr).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }
    }

    fn post(body: &str) -> String {
        let length = body.len();
        format!(
            "POST / HTTP/1.1\r\nhost: x\r\nx-secret: s\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }

    /// Everything up to the end of the connection, or of the first answer.
    async fn heard(stream: &mut TcpStream) -> String {
        let mut all = Vec::new();
        loop {
            let mut piece = [0; 1024];
            let read = tokio::time::timeout(LONG, stream.read(&mut piece)).await.expect("in time");
            let Ok(read @ 1..) = read else { break };
            all.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&all);
            if text.contains("\r\n\r\n{") && text.ends_with('}') {
                break;
            }
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn one_connection_carries_several_requests() {
        let rig = Rig::new(|_| {}, 9).await;
        let mut stream = rig.say(&post("{\"a\":1}")).await;
        assert!(heard(&mut stream).await.ends_with("{\"a\":1}"));
        stream.write_all(post("{\"b\":1}").as_bytes()).await.unwrap();
        assert!(heard(&mut stream).await.ends_with("{\"b\":1}"));
    }

    #[tokio::test]
    async fn whoever_is_not_admitted_is_not_read() {
        let rig = Rig::new(|_| {}, 9).await;
        // The body never comes.
        let mut stream = rig.say("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n").await;
        assert!(heard(&mut stream).await.starts_with("HTTP/1.1 401 "));
    }

    #[tokio::test]
    async fn whatever_is_too_large_or_too_slow_is_cut() {
        let rig = Rig::new(|_| {}, 9).await;
        let declared = post(&"x".repeat(101));
        let chunked = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nx-secret: s\r\ntransfer-encoding: chunked\r\n\r\n80\r\n{}",
            "x".repeat(128)
        );
        let head = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(9000));
        let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(65));
        for (text, status) in [(declared, "413"), (chunked, "413"), (head, "4"), (many, "431")] {
            let mut stream = rig.say(&text).await;
            let told = heard(&mut stream).await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
        }
        let rig = Rig::new(|it| (it.head_within, it.body_within) = (SOON, SOON), 9).await;
        let mut stream = rig.say("POST / HTTP/1.1\r\nhost").await;
        assert!(heard(&mut stream).await.is_empty(), "closed without a word");
        let mut idle = rig.say("").await;
        assert!(heard(&mut idle).await.is_empty(), "as is one that rests");
        let half = post(&"x".repeat(50));
        let mut stream = rig.say(&half[..half.len() - 1]).await;
        assert!(heard(&mut stream).await.starts_with("HTTP/1.1 408 "));
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_asked_for_again() {
        let rig = Rig::new(|it| it.answer_within = SOON, 0).await;
        let mut stream = rig.say(&(post("{}").replace("host", "connection: close\r\nhost"))).await;
        let told = heard(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 1"), "{told}");
    }

    #[tokio::test]
    async fn more_connections_than_allowed_wait_for_their_turn() {
        let rig = Rig::new(|_| {}, 0).await;
        let mut first = rig.say(&post("{\"n\":1}")).await;
        let mut second = rig.say(&post("{\"n\":2}")).await;
        let mut third = rig.say(&post("{\"n\":3}")).await;
        let mut byte = [0];
        assert!(tokio::time::timeout(SOON, third.peek(&mut byte)).await.is_err());
        rig.site.may.add_permits(9);
        assert!(heard(&mut first).await.ends_with("{\"n\":1}"));
        assert!(heard(&mut second).await.ends_with("{\"n\":2}"));
        assert!(heard(&mut third).await.ends_with("{\"n\":3}"), "one of them rests");
    }

    /// Of those that rest after an answer, said half a head or half a body, and of none that is answered.
    #[tokio::test]
    async fn whoever_has_been_still_for_longest_makes_room_for_the_next() {
        let rig = Rig::new(|it| it.connections = 3, 0).await;
        let mut asked = rig.say(&post("{\"n\":1}")).await;
        drop(rig.site.asked.acquire().await);
        let mut half = rig.say("POST / HTTP/1.1\r\nhost").await;
        let body = post("{\"n\":2}");
        let mut slow = rig.say(&body[..body.len() - 1]).await;
        let mut next = rig.say(&post("{\"n\":3}")).await;
        let mut after = rig.say(&post("{\"n\":4}")).await;
        assert!(heard(&mut half).await.is_empty() && heard(&mut slow).await.is_empty());
        rig.site.may.add_permits(9);
        for (stream, n) in [(&mut asked, 1), (&mut next, 3), (&mut after, 4)] {
            assert!(heard(stream).await.ends_with(&format!("{{\"n\":{n}}}")));
        }
        let mut last = rig.say(&post("{\"n\":5}")).await;
        assert!(heard(&mut last).await.ends_with("{\"n\":5}"), "one that rests made room");
    }

    #[test]
    fn bodies_count_together_until_they_are_gone() {
        let all = Held::new(10);
        let (mut one, mut other) = (all.share(), all.share());
        assert!(one.more(6) && !other.more(5) && other.more(4));
        let kept = one.keep(Bytes::from_static(b"123456"));
        assert!(!other.more(1));
        drop(kept);
        assert!(other.more(6) && !other.more(1));
    }

    #[tokio::test]
    async fn whoever_says_nothing_keeps_no_place() {
        let rig = Rig::new(|it| (it.connections, it.head_within) = (2, LONG * 10), 9).await;
        let silent = [rig.say("").await, rig.say("").await];
        let mut stream = rig.say(&post("{}")).await;
        let mut byte = [0];
        tokio::time::timeout(FIRST + LONG, stream.peek(&mut byte)).await.expect("in time").unwrap();
        assert!(heard(&mut stream).await.ends_with("{}"));
        drop(silent);
    }

    #[tokio::test]
    async fn what_is_under_way_at_the_end_is_finished_and_nothing_new_begun() {
        let rig = Rig::new(|_| {}, 0).await;
        rig.site.may.add_permits(1);
        let mut resting = rig.say(&post("{}")).await;
        assert!(heard(&mut resting).await.ends_with("{}"));
        let mut stream = rig.say(&post("{}")).await;
        drop(rig.site.asked.acquire_many(2).await);
        rig.stop.cancel();
        assert!(heard(&mut resting).await.is_empty());
        rig.site.may.add_permits(9);
        assert!(heard(&mut stream).await.ends_with("{}"));
        rig.ended.await.unwrap();
        assert!(TcpStream::connect(rig.addr).await.is_err());
    }
}

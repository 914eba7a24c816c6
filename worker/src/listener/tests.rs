//! The bounds of the HTTP server, each with a peer that tries it.

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
    format!("POST / HTTP/1.1\r\nhost: x\r\nx-secret: s\r\ncontent-length: {length}\r\n\r\n{body}")
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

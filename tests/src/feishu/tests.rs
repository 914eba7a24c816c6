//! The platform's own rules, tried by a small client that does only what a test tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as WsMessage};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::frame::{DATA, Frame, decode};
use super::{
    Ending, Entry, Fault, Feishu, Message, Observation, Push, Route, Rule, Schedule, Scope, Times,
    Trouble, chat_entered,
};

const APP: &str = "cli_a";
const SOON: Duration = Duration::from_secs(10);

async fn platform() -> Feishu {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    feishu
}

async fn call(
    feishu: &Feishu,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> hyper::Result<Response<Bytes>> {
    let stream = TcpStream::connect(feishu.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", feishu.addr().to_string())
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

async fn post(feishu: &Feishu, path: &str, token: &str, body: &Value) -> Value {
    let response = call(feishu, "POST", path, token, body).await.unwrap();
    serde_json::from_slice(response.body()).unwrap()
}

async fn token(feishu: &Feishu) -> String {
    let path = "/open-apis/auth/v3/tenant_access_token/internal";
    let answer = post(feishu, path, "", &json!({"app_id": APP, "app_secret": "secret"})).await;
    answer["tenant_access_token"].as_str().unwrap().to_owned()
}

async fn send(feishu: &Feishu, token: &str, uuid: &str, text: &str) -> Value {
    let content = json!({"text": text}).to_string();
    let body = json!({"receive_id": "oc_1", "msg_type": "text", "content": content, "uuid": uuid});
    post(feishu, "/open-apis/im/v1/messages?receive_id_type=chat_id", token, &body).await
}

async fn discover(feishu: &Feishu) -> Value {
    let body = json!({"AppID": APP, "AppSecret": "secret"});
    post(feishu, "/callback/ws/endpoint", "", &body).await
}

struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn connect(feishu: &Feishu) -> Self {
        let opened = |entry: &Entry| matches!(entry.what, Observation::Opened { .. });
        let before = feishu.count(opened);
        let client = Self::try_connect(feishu).await.unwrap();
        feishu.wait_count("the connection", SOON, before + 1, opened).await;
        client
    }

    async fn try_connect(feishu: &Feishu) -> Result<Self, tungstenite::Error> {
        let answer = discover(feishu).await;
        let (stream, _) = connect_async(answer["data"]["URL"].as_str().unwrap()).await?;
        Ok(Self { stream })
    }

    async fn next(&mut self) -> Frame {
        loop {
            let message = tokio::time::timeout(SOON, self.stream.next()).await.unwrap();
            if let WsMessage::Binary(bytes) = message.unwrap().unwrap() {
                return decode(&bytes).unwrap();
            }
        }
    }

    async fn answer(&mut self, frame: Frame, code: i64) {
        let payload = Some(json!({"code": code}).to_string().into_bytes());
        let frame = Frame { payload, ..frame }.with("biz_rt", "1");
        self.stream.send(WsMessage::Binary(frame.encode().into())).await.unwrap();
    }
}

fn rules(feishu: &Feishu) -> Vec<Rule> {
    feishu.violations().iter().map(|violation| violation.rule).collect()
}

#[tokio::test]
async fn an_event_is_acknowledged_by_its_echo() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    let frame = client.next().await;
    let payload: Value = serde_json::from_slice(frame.payload.as_deref().unwrap()).unwrap();
    assert_eq!(payload["header"]["app_id"], APP);
    assert_eq!(payload["event"]["message"]["content"], r#"{"text":"hello"}"#);
    client.answer(frame, 200).await;
    let ack = event.acked_within(SOON).await;
    assert_eq!((ack.attempt, ack.biz_rt), (1, Some(1)));
    assert_eq!(rules(&feishu), []);
}

type Spoil = fn(&mut Frame);

#[tokio::test]
async fn a_wrong_echo_acknowledges_nothing() {
    let feishu = platform().await;
    feishu.configure(|settings| {
        settings.schedule = Schedule { answer_within: SOON, pauses: vec![] };
    });
    let mut client = Client::connect(&feishu).await;
    let spoilers: [(Spoil, Rule); 6] = [
        (|frame| frame.method = 0, Rule::Frame),
        (|frame| frame.seq_id += 1, Rule::SeqId),
        (|frame| frame.service += 1, Rule::Service),
        (|frame| drop(frame.headers.pop()), Rule::Headers),
        (|frame| frame.headers.swap(0, 1), Rule::Headers),
        (|frame| frame.headers[1].value.push('0'), Rule::Unknown),
    ];
    for (spoil, rule) in spoilers {
        let before = feishu.violations().len();
        let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
        let mut frame = client.next().await;
        spoil(&mut frame);
        client.answer(frame, 200).await;
        let broken = |entry: &Entry| matches!(entry.what, Observation::Violation(_));
        feishu.wait_count("a violation", SOON, before + 1, broken).await;
        assert_eq!(rules(&feishu)[before..], [rule]);
        assert!(!event.is_acked());
    }
}

#[tokio::test]
async fn an_imprecise_log_id_is_noted_and_counts() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    let mut frame = client.next().await;
    frame.log_id -= 1;
    client.answer(frame.clone(), 200).await;
    event.acked_within(SOON).await;
    client.answer(frame, 200).await;
    feishu
        .wait_for("a second answer", SOON, |_| rules(&feishu).contains(&Rule::Twice).then_some(()))
        .await;
}

#[tokio::test]
async fn an_unanswered_event_comes_again_by_the_schedule() {
    let feishu = platform().await;
    feishu.configure(|settings| settings.schedule = Schedule::scaled(0.0001));
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    event.ended().await;
    assert_eq!(event.pushes(), 5);
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        let frame = client.next().await;
        let payload: Value = serde_json::from_slice(frame.payload.as_deref().unwrap()).unwrap();
        assert_eq!(payload["header"]["event_id"], event.event_id());
        ids.insert(frame.header("message_id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), 5, "each push has a delivery id of its own");
    let pushed =
        |entry: &Entry| matches!(entry.what, Observation::Pushed { .. }).then_some(entry.at);
    let at: Vec<_> = feishu.journal().iter().filter_map(pushed).collect();
    let factor = |pair: &[Duration]| (pair[1].as_secs_f64() - pair[0].as_secs_f64()) / 0.0001;
    for (pair, least) in at.windows(2).zip([18.0, 303.0, 3603.0, 21_603.0]) {
        assert!(factor(pair) >= least, "{at:?}");
    }
}

#[tokio::test]
async fn a_failure_comes_again_and_a_late_answer_does_not_count() {
    let feishu = platform().await;
    let limit = Duration::from_millis(20);
    let pauses = vec![Duration::from_millis(1), Duration::from_millis(1), SOON];
    feishu.configure(|settings| {
        settings.schedule = Schedule { answer_within: limit, pauses };
    });
    let mut client = Client::connect(&feishu).await;
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    let failed = client.next().await;
    client.answer(failed, 500).await;
    let late = client.next().await;
    let last = client.next().await;
    let silent = |count| move |entry: &Entry| matches!(entry.what, Observation::Unanswered { attempt, .. } if attempt == count);
    client.answer(late, 200).await;
    let is_late = |entry: &Entry| matches!(entry.what, Observation::Answered { late: true, .. });
    feishu.wait_count("a late answer", SOON, 1, is_late).await;
    assert!(!event.is_acked());
    feishu.configure(|settings| settings.late_answers_count = true);
    feishu.wait_count("the end of the third limit", SOON, 1, silent(3)).await;
    client.answer(last, 200).await;
    assert_eq!(event.acked_within(SOON).await.attempt, 3);
}

#[tokio::test]
async fn events_wait_for_a_connection() {
    let feishu = platform().await;
    feishu.configure(|settings| settings.push_on_connect = true);
    let event = feishu.push_event(APP, chat_entered("oc_1", "ou_1"));
    let missed = |entry: &Entry| matches!(entry.what, Observation::Missed { .. });
    feishu.wait_count("a missed push", SOON, 1, missed).await;
    let mut client = Client::connect(&feishu).await;
    let frame = client.next().await;
    client.answer(frame, 200).await;
    assert_eq!(event.acked_within(SOON).await.attempt, 2);
    assert_eq!(event.pushes(), 1);
}

#[tokio::test]
async fn each_event_goes_to_one_connection_by_chance() {
    let feishu = platform().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(&feishu).await);
    }
    feishu.wait_connected(APP, 4, SOON).await;
    let events: Vec<_> = (0..400).map(|_| feishu.push_text(APP, "oc_1", "ou_1", "hello")).collect();
    for event in &events {
        event.pushed_within(1, SOON).await;
    }
    let mut counts = BTreeMap::new();
    for entry in feishu.journal() {
        if let Observation::Pushed { connection, .. } = entry.what {
            *counts.entry(connection).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.values().sum::<u32>(), 400);
    // 100 each with a deviation of 9: below 50 means that it is not chance.
    assert!(counts.len() == 4 && counts.values().all(|count| *count > 50), "{counts:?}");
}

#[tokio::test]
async fn the_limit_of_connections_refuses_with_a_code() {
    let feishu = platform().await;
    feishu.configure(|settings| settings.connection_limit = 1);
    let _first = Client::connect(&feishu).await;
    let refused = Client::try_connect(&feishu).await.err();
    let Some(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.headers()["Handshake-Status"], "514");
    assert_eq!(response.headers()["Handshake-Autherrcode"], "1000040350");
}

#[tokio::test]
async fn parts_come_in_the_order_told() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let message = Message::direct("oc_1", "ou_1").text("你好").build();
    let push = Push { repeat_last: true, ..Push::chunked(message.to_string().len(), 3) };
    let event = feishu.push_event_as(APP, message, push);
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.push(client.next().await);
    }
    let seq = |frame: &Frame| frame.header("seq").unwrap().to_owned();
    assert_eq!(frames.iter().map(seq).collect::<Vec<_>>(), ["2", "1", "0", "0"]);
    let parts = [&frames[2], &frames[1], &frames[0]];
    let whole: Vec<u8> = parts.iter().flat_map(|part| part.payload.clone().unwrap()).collect();
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["event"]["message"]["content"], r#"{"text":"你好"}"#);
    client.answer(frames.swap_remove(2), 200).await;
    event.acked_within(SOON).await;
    assert_eq!(rules(&feishu), []);
}

#[tokio::test]
async fn frames_without_required_fields_are_refused() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    client.stream.send(WsMessage::Binary(Bytes::from_static(&[32, 1]))).await.unwrap();
    client.stream.send(WsMessage::text("hello")).await.unwrap();
    let broken = |entry: &Entry| matches!(entry.what, Observation::Violation(_));
    feishu.wait_count("two violations", SOON, 2, broken).await;
    assert_eq!(rules(&feishu), [Rule::Frame, Rule::Frame]);
}

#[tokio::test]
async fn a_ping_gets_the_configuration() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    let service = 33_554_678;
    let ping = Frame { service, ..Frame::default() }.with("type", "ping").encode();
    client.stream.send(WsMessage::Binary(ping.into())).await.unwrap();
    let answer = client.next().await;
    assert_eq!(answer.header("type"), Some("pong"));
    let config: Value = serde_json::from_slice(answer.payload.as_deref().unwrap()).unwrap();
    assert_eq!(config["PingInterval"], 120);
    assert_eq!(rules(&feishu), []);
}

#[tokio::test]
async fn wrong_credentials_have_their_codes() {
    let feishu = platform().await;
    for (id, secret, code) in
        [(APP, "wrong", 1_000_040_345), ("cli_b", "secret", 1_000_040_345), ("", "", 1_000_040_344)]
    {
        let body = json!({"AppID": id, "AppSecret": secret});
        assert_eq!(post(&feishu, "/callback/ws/endpoint", "", &body).await["code"], code);
    }
    let path = "/open-apis/auth/v3/tenant_access_token/internal";
    for (id, secret, code) in
        [(APP, "wrong", 10_015), ("cli_b", "secret", 10_014), ("b", "secret", 10_003)]
    {
        let body = json!({"app_id": id, "app_secret": secret});
        assert_eq!(post(&feishu, path, "", &body).await["code"], code);
    }
}

#[tokio::test]
async fn a_token_lives_until_it_is_revoked() {
    let feishu = platform().await;
    let first = token(&feishu).await;
    assert_eq!(token(&feishu).await, first);
    assert_eq!(send(&feishu, &first, "", "a").await["code"], 0);
    feishu.revoke_tokens(APP);
    assert_eq!(send(&feishu, &first, "", "b").await["code"], 99_991_663);
    assert_ne!(token(&feishu).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_half_an_hour_before_its_end() {
    let feishu = platform().await;
    let first = token(&feishu).await;
    tokio::time::advance(Duration::from_secs(5399)).await;
    assert_eq!(token(&feishu).await, first);
    tokio::time::advance(Duration::from_secs(2)).await;
    let second = token(&feishu).await;
    assert_ne!(second, first);
    assert_eq!(send(&feishu, &first, "", "both are valid").await["code"], 0);
    tokio::time::advance(Duration::from_mins(30)).await;
    assert_eq!(send(&feishu, &first, "", "the old one is over").await["code"], 99_991_663);
    assert_eq!(send(&feishu, &second, "", "the new one is not").await["code"], 0);
}

#[tokio::test(start_paused = true)]
async fn one_uuid_makes_one_message_an_hour() {
    let feishu = platform().await;
    let token = token(&feishu).await;
    let first = send(&feishu, &token, "u-1", "a").await;
    let again = send(&feishu, &token, "u-1", "a").await;
    assert_eq!(
        (&again["code"], &again["data"]["message_id"]),
        (&json!(0), &first["data"]["message_id"])
    );
    let other = send(&feishu, &token, "u-2", "a").await;
    assert_ne!(other["data"]["message_id"], first["data"]["message_id"]);
    assert_eq!(feishu.sent().len(), 2);
    tokio::time::advance(Duration::from_secs(3601)).await;
    send(&feishu, &token, "u-1", "a").await;
    assert_eq!(feishu.sent().len(), 3);
}

#[tokio::test]
async fn a_reply_follows_its_message() {
    let feishu = platform().await;
    let token = token(&feishu).await;
    let event = feishu.push_text(APP, "oc_7", "ou_1", "hello");
    let target = event.message_id().unwrap();
    let path = format!("/open-apis/im/v1/messages/{target}/reply");
    let content = json!({"text": "hi"}).to_string();
    let body = json!({"msg_type": "text", "content": content, "reply_in_thread": true});
    let answer = post(&feishu, &path, &token, &body).await;
    assert_eq!(answer["data"]["root_id"], target);
    assert!(answer["data"]["thread_id"].as_str().unwrap().starts_with("omt_"));
    let sent = feishu.wait_sent(SOON, |sent| sent.text().as_deref() == Some("hi")).await;
    assert_eq!((sent.receive_id.as_str(), sent.reply_to.as_deref()), ("oc_7", Some(target)));
    assert!(sent.in_thread);
    feishu.message_gone(target, 230_011);
    assert_eq!(post(&feishu, &path, &token, &body).await["code"], 230_011);
}

#[tokio::test]
async fn content_is_checked() {
    let feishu = platform().await;
    let token = token(&feishu).await;
    let post_of = |level: Value| level.to_string();
    let paragraphs = json!({"title": "t", "content": [[{"tag": "text", "text": "x"}]]});
    let big = json!({"zh_cn": {"content": [[{"tag": "text", "text": "x".repeat(31_000)}]]}});
    for (msg_type, content, code) in [
        ("text", json!({"text": "x"}).to_string(), 0),
        ("text", json!({"text": "x".repeat(151 * 1024)}).to_string(), 230_025),
        ("text", "x".to_owned(), 230_001),
        ("text", "{}".to_owned(), 230_001),
        ("poem", "{}".to_owned(), 230_001),
        ("post", post_of(json!({"zh_cn": paragraphs})), 0),
        ("post", post_of(json!({"post": {"zh_cn": paragraphs}})), 230_001),
        ("post", post_of(big), 230_025),
    ] {
        let body = json!({"receive_id": "oc_1", "msg_type": msg_type, "content": content});
        let path = "/open-apis/im/v1/messages?receive_id_type=chat_id";
        let answer = post(&feishu, path, &token, &body).await;
        assert_eq!(answer["code"], code, "{msg_type}: {answer}");
    }
    let body = json!({"receive_id": "ou_1", "msg_type": "text", "content": {"text": "x"}});
    let answer = post(&feishu, "/open-apis/im/v1/messages?receive_id_type=open_id", &token, &body);
    assert_eq!(answer.await["code"], 99_992_402, "content is a string");
}

#[tokio::test]
async fn a_lost_answer_leaves_a_message() {
    let feishu = platform().await;
    let token = token(&feishu).await;
    let trouble = Trouble::LostAnswer;
    feishu.fault(APP, Fault::Rest { route: Some(Route::Send), trouble }, Times::Only(1));
    let content = json!({"text": "x"}).to_string();
    let body = json!({"receive_id": "oc_1", "msg_type": "text", "content": content, "uuid": "u"});
    let path = "/open-apis/im/v1/messages?receive_id_type=chat_id";
    assert!(call(&feishu, "POST", path, &token, &body).await.is_err());
    assert_eq!(feishu.sent().len(), 1);
    assert_eq!(
        send(&feishu, &token, "u", "x").await["data"]["message_id"],
        feishu.sent()[0].message_id
    );
    assert_eq!(feishu.sent().len(), 1);
}

#[tokio::test]
async fn a_rate_limit_says_how_long() {
    let feishu = platform().await;
    let token = token(&feishu).await;
    let trouble = Trouble::RateLimit { reset_s: 60, status: 429 };
    feishu.fault(APP, Fault::Rest { route: Some(Route::Send), trouble }, Times::Only(1));
    let path = "/open-apis/im/v1/messages?receive_id_type=chat_id";
    let answer = call(&feishu, "POST", path, &token, &json!({})).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["x-ogw-ratelimit-reset"], "60");
    assert_eq!(send(&feishu, &token, "", "x").await["code"], 99_991_400);
    let inside =
        |entry: &Entry| matches!(entry.what, Observation::Call { inside_window: true, .. });
    assert_eq!(feishu.count(inside), 1);
}

#[tokio::test]
async fn connections_end_in_every_way() {
    let feishu = platform().await;
    let mut reset = Client::connect(&feishu).await;
    feishu.wait_connected(APP, 1, SOON).await;
    feishu.reset_connections(APP);
    let error = reset.stream.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, tungstenite::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );

    let mut closed = Client::connect(&feishu).await;
    feishu.wait_connected(APP, 1, SOON).await;
    feishu.close_connections(APP, 1001, "away");
    let message = closed.stream.next().await.unwrap().unwrap();
    assert!(
        matches!(&message, WsMessage::Close(Some(frame)) if u16::from(frame.code) == 1001),
        "{message:?}"
    );
    drop(closed);

    let mut polite = Client::connect(&feishu).await;
    polite.stream.close(None).await.unwrap();
    let rude = Client::connect(&feishu).await;
    drop(rude);
    let ending = |entry: &Entry| match &entry.what {
        Observation::Closed { ending, .. } => Some(ending.clone()),
        _ => None,
    };
    let endings = feishu
        .wait_for("four endings", SOON, |entries| {
            let endings: Vec<_> = entries.iter().filter_map(ending).collect();
            (endings.len() == 4).then_some(endings)
        })
        .await;
    for expected in [Ending::Ours, Ending::Close { code: None }, Ending::Dropped { reset: false }] {
        assert!(endings.contains(&expected), "{endings:?}");
    }
}

#[tokio::test]
async fn a_black_hole_swallows_and_gives_back() {
    let feishu = platform().await;
    let mut client = Client::connect(&feishu).await;
    feishu.wait_connected(APP, 1, SOON).await;
    let hole = feishu.fault(Scope::All, Fault::BlackHole { existing: true }, Times::Always);
    let event = feishu.push_text(APP, "oc_1", "ou_1", "hello");
    event.pushed_within(1, SOON).await;
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, client.next()).await.is_err());
    assert!(tokio::time::timeout(short, discover(&feishu)).await.is_err());
    feishu.clear(hole);
    let frame = client.next().await;
    client.answer(Frame { method: DATA, ..frame }, 200).await;
    event.acked_within(SOON).await;
    assert_eq!(discover(&feishu).await["code"], 0);
}

#[tokio::test]
async fn new_connections_can_be_reset() {
    let feishu = platform().await;
    feishu.fault(Scope::All, Fault::ResetNew, Times::Only(1));
    assert!(call(&feishu, "GET", "/", "", &json!({})).await.is_err());
    assert_eq!(discover(&feishu).await["code"], 0);
}

#[tokio::test]
async fn refusals_and_silence_are_as_told() {
    let feishu = platform().await;
    let code = Fault::DiscoveryCode { code: 1, status: 200, data: false };
    feishu.fault(APP, code, Times::Only(1));
    assert_eq!(discover(&feishu).await, json!({"code": 1, "msg": "refused by a test"}));
    let refuse =
        Fault::HandshakeRefuse { status: 403, handshake_status: Some(403), autherrcode: None };
    feishu.fault(APP, refuse, Times::Only(1));
    assert!(Client::try_connect(&feishu).await.is_err());
    let hang = feishu.fault(APP, Fault::HandshakeHang, Times::Always);
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, Client::try_connect(&feishu)).await.is_err());
    feishu.clear(hang);
    let mut client = Client::connect(&feishu).await;
    feishu.send_text_frame(APP, "hello");
    feishu.send_bytes(APP, b"garbage");
    feishu.send_client_config(APP, r#"{"PingInterval":0}"#);
    assert_eq!(client.stream.next().await.unwrap().unwrap(), WsMessage::text("hello"));
    assert_eq!(client.stream.next().await.unwrap().unwrap(), WsMessage::binary(&b"garbage"[..]));
    assert_eq!(client.next().await.payload.as_deref(), Some(br#"{"PingInterval":0}"#.as_slice()));
}

#[tokio::test]
async fn a_platform_that_does_not_listen_refuses() {
    let feishu = platform().await;
    feishu.stop_listening().await;
    assert!(TcpStream::connect(feishu.addr()).await.is_err());
    feishu.listen_again().await;
    assert_eq!(discover(&feishu).await["code"], 0);
}

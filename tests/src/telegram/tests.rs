//! The simulated platform itself, asked over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Fault, Message, Mood, Observation, Telegram};

const TOKEN: &str = "77:test";
const LONG: Duration = Duration::from_secs(10);

async fn platform() -> Telegram {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    telegram
}

async fn call(telegram: &Telegram, method: &str, params: Value) -> (u16, Value) {
    let stream = TcpStream::connect(telegram.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("/bot{TOKEN}/{method}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(params.to_string())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

fn texts(answer: &Value) -> Vec<String> {
    let updates = answer["result"].as_array().unwrap().iter();
    updates.map(|update| update["message"]["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_poll_is_woken_by_an_update_and_an_offset_confirms() {
    let telegram = platform().await;
    let poll = call(&telegram, "getUpdates", json!({"timeout": 30}));
    let push = async {
        telegram
            .wait_count("a poll", LONG, 1, |it| matches!(it.what, Observation::Poll { .. }))
            .await;
        telegram.push_text(TOKEN, 9, "one")
    };
    let ((_, answer), (id, _)) = tokio::join!(poll, push);
    assert_eq!(texts(&answer), ["one"]);
    assert_eq!(telegram.pending(TOKEN), 1, "handing out confirms nothing");
    call(&telegram, "GETUPDATES", json!({"offset": id + 1})).await;
    assert_eq!(telegram.pending(TOKEN), 0);
    assert!(telegram.violations().is_empty());
}

#[tokio::test]
async fn the_older_of_two_polls_loses_and_the_third_refusal_is_late() {
    let telegram = platform().await;
    let polls = |count| {
        let telegram = telegram.clone();
        async move {
            telegram
                .wait_count("polls", LONG, count, |it| matches!(it.what, Observation::Poll { .. }))
                .await;
        }
    };
    let first = call(&telegram, "getUpdates", json!({"timeout": 20}));
    let second = async {
        polls(1).await;
        call(&telegram, "getUpdates", json!({"timeout": 20})).await
    };
    let end = async {
        polls(2).await;
        telegram.push_text(TOKEN, 9, "one");
    };
    let (first, second, ()) = tokio::join!(first, second, end);
    assert_eq!((first.0, second.0), (409, 200));
    assert!(first.1["description"].as_str().unwrap().contains("other getUpdates"));
    telegram.set_webhook(TOKEN, "https://example.org");
    let before = telegram.now();
    assert_eq!(call(&telegram, "getUpdates", json!({})).await.0, 409);
    assert!(telegram.now() >= before + Duration::from_secs(2), "the second one is slowed down");
}

#[tokio::test]
async fn messages_are_refused_and_limited_as_documented() {
    let telegram = platform().await;
    let send = async |params| call(&telegram, "sendMessage", params).await;
    let said = |answer: (u16, Value)| answer.1["description"].as_str().unwrap().to_owned();
    assert!(said(send(json!({"chat_id": 9, "text": "x"})).await).contains("chat not found"));
    telegram.push_text(TOKEN, 9, "one");
    assert!(said(send(json!({"chat_id": 9, "text": " "})).await).contains("non-empty"));
    let gone = json!({"chat_id": 9, "text": "x", "reply_parameters": {"message_id": 1}});
    assert!(said(send(gone).await).contains("to be replied not found"));
    let bad = json!({"chat_id": 9, "text": "😀", "entities": [{"type": "bold", "offset": 1, "length": 1}]});
    assert!(said(send(bad).await).contains("can't parse entities"));
    assert!(said(send(json!({"chat_id": 9, "text": "x".repeat(4097)})).await).contains("too long"));
    assert_eq!(send(json!({"chat_id": "9", "text": "x"})).await.0, 200);
    telegram.set_mood(TOKEN, 9, Mood::Blocked);
    assert_eq!(send(json!({"chat_id": 9, "text": "x"})).await.0, 403);
    telegram.set_mood(TOKEN, 9, Mood::Migrated(-100));
    let moved = send(json!({"chat_id": 9, "text": "x"})).await.1;
    assert_eq!(moved["parameters"]["migrate_to_chat_id"], -100);
    telegram.set_forum(TOKEN, -5, &[7]);
    let topic = |id| json!({"chat_id": -5, "text": "x", "message_thread_id": id});
    assert!(said(send(topic(1)).await).contains("thread not found"), "General has no number");
    assert_eq!(send(topic(7)).await.0, 200);
    telegram.configure(|it| it.per_chat = Some(LONG));
    let limited = send(topic(7)).await;
    assert_eq!((limited.0, &limited.1["parameters"]["retry_after"]), (429, &json!(1)));
    assert_eq!(telegram.violations().len(), 2, "of entities and of length");
    send(topic(7)).await;
    assert_eq!(telegram.violations().len(), 3, "inside the window");
}

#[tokio::test]
async fn faults_strike_their_method() {
    let telegram = platform().await;
    let refuse = Fault::Refuse { code: 500, description: "no".into(), parameters: Value::Null };
    telegram.fault(Some("getMe"), refuse, Some(1));
    assert_eq!(call(&telegram, "getMe", json!({})).await.0, 500);
    let (_, me) = call(&telegram, "getMe", json!({})).await;
    assert_eq!((&me["result"]["id"], &me["result"]["username"]), (&json!(77), &json!("test_bot")));
    assert_eq!(call(&telegram, "noSuch", json!({})).await.0, 404);
    telegram.revoke(TOKEN);
    assert_eq!(call(&telegram, "getMe", json!({})).await.0, 401);
    telegram.add_bot(TOKEN, "test_bot");
    let message = Message::group(-5, 9).text("in a topic").in_topic(3);
    assert_eq!(telegram.push_message(TOKEN, message).0, 700_000_001);
}

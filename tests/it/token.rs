//! Telegram's token: wrong, revoked, refused for a moment, or another bot's.

use serde_json::{Value, json};
use tests::telegram::{Fault, Observation};

use crate::gateway::{PATIENCE, stdout};
use crate::socket_agent::Lines;
use crate::telegram::{ECHO, TOKEN, gateway, platform};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_held_with_a_remedy_and_never_shown() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, "7700:wr0ng-t0ken", ECHO);
    let held = gateway.wait("telegram", "held", |i| i["phase"] == "held");
    let reason = held["reason"].as_str().unwrap();
    assert!(reason.contains("401 Unauthorized") && reason.contains("BotFather"), "{reason}");
    let status = gateway.status().unwrap().to_string();
    assert!(!status.contains("wr0ng") && !gateway.log().contains("wr0ng"));
    let restarted = gateway.run(&["ctl", "restart", "telegram"]);
    assert_eq!(restarted.status.code(), Some(77), "the code that its worker ended with");
    gateway.wait("echo", "ready", |i| i["phase"] == "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_is_held_until_there_is_another() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    telegram.revoke(TOKEN);
    let held = gateway.wait("telegram", "held", |i| i["phase"] == "held");
    let reason = held["reason"].as_str().unwrap();
    assert!(reason.contains("401 Unauthorized") && reason.contains("BotFather"), "{reason}");
    assert!(held["remedy"].is_string(), "{held}");
    let other = "7700:an0ther-Token";
    telegram.add_bot(other, "test_bot");
    telegram.push_text(other, 9, "hello");
    std::fs::write(gateway.path("token"), other).unwrap();
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    gateway.wait_ready("telegram");
    telegram.wait_sent(PATIENCE, 1).await;
}

/// F49: a refusal that passes by itself needs nobody, also where it comes at the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_for_a_moment_is_tried_again_soon() {
    let telegram = platform().await;
    telegram.revoke(TOKEN);
    let gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait("telegram", "held", |i| i["phase"] == "held");
    telegram.add_bot(TOKEN, "test_bot");
    telegram.push_text(TOKEN, 9, "hello");
    gateway.wait_ready("telegram");
    telegram.wait_sent(PATIENCE, 1).await;
}

/// Messages of direct chats are numbered for each bot anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_bot_takes_no_message_for_a_repetition() {
    const OTHER: &str = "8800:an0ther-Token";
    let telegram = platform().await;
    telegram.add_bot(OTHER, "other_bot");
    let gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    let message = telegram.push_text(TOKEN, 9, "to the first").1;
    telegram.wait_sent(PATIENCE, 1).await;
    std::fs::write(gateway.path("token"), OTHER).unwrap();
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    gateway.wait("telegram", "the other bot", |i| i["account"] == "@other_bot (8800)");
    assert_eq!(telegram.push_text(OTHER, 9, "to the second").1, message, "the same number");
    assert_eq!(telegram.wait_sent(PATIENCE, 2).await[1].text, "to the second");
}

/// Outages were seen to say such things.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_refused_as_by_a_wrong_token_is_tried_again_soon_and_the_status_says_why() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    let fault = Fault::Refuse {
        code: 401,
        description: "Unauthorized".to_owned(),
        parameters: Value::Null,
    };
    telegram.fault(Some("sendMessage"), fault, None);
    telegram.push_text(TOKEN, 9, "hello");
    let told = gateway.wait("telegram", "why", |i| i["reason"].is_string());
    assert!(told["reason"].as_str().unwrap().contains("401 Unauthorized"), "{told}");
    assert_eq!((&told["phase"], &told["outside"]), (&json!("ready"), &json!("limited")));
    telegram.clear_faults();
    assert_eq!(telegram.wait_sent(PATIENCE, 1).await[0].text, "hello");
    gateway.wait("telegram", "all is well", |i| i["outside"] == "up" && i["reason"].is_null());
}

/// F40: what waits for one bot does not leave through the one that takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_waits_for_one_bot_never_leaves_through_another() {
    const OTHER: &str = "8800:an0ther-Token";
    let telegram = platform().await;
    telegram.add_bot(OTHER, "other_bot");
    let mut gateway = gateway(&telegram, TOKEN, "[agent.mine]\nkind = \"socket\"");
    gateway.wait_ready("telegram");
    let mut agent = Lines::ready(&gateway);
    let later = Fault::Refuse {
        code: 429,
        description: "Too Many Requests: retry after 600".into(),
        parameters: json!({ "retry_after": 600 }),
    };
    telegram.fault(Some("sendMessage"), later, None);
    telegram.push_text(TOKEN, 9, "to the first");
    let event = agent.event();
    agent.call("message.send", &crate::socket_agent::reply(&event, "k-1", "from the first"));
    agent.acknowledge(&event);
    let tried = |it: &tests::telegram::Entry| matches!(&it.what, Observation::Call { method, status: Some(429), .. } if method == "sendmessage");
    telegram.wait_count("an attempt", PATIENCE, 1, tried).await;
    agent.call("paused", &json!({}));
    telegram.push_text(TOKEN, 9, "to the first, too");
    gateway.wait("telegram", "heard by the first", |i| i["store"]["waiting"] == 1);
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    std::fs::write(gateway.path("token"), OTHER).unwrap();
    telegram.clear_faults();
    gateway.start();
    let mut agent = Lines::ready(&gateway);
    // They come in any order.
    let (mut told, mut event) = (Value::Null, Value::Null);
    while told.is_null() || event.is_null() {
        let mut line = agent.hear();
        match line["method"].as_str() {
            Some("message.receipt") => told = line["params"].take(),
            Some("event.deliver") => event = line,
            _ => {}
        }
    }
    assert_eq!(told["state"], "failed", "{told}");
    let why = told["reason"].as_str().unwrap();
    assert!(why.contains("bot 7700") && why.contains("bot 8800"), "{why}");
    // What the first has heard is answered by nobody else.
    assert_eq!(event["params"]["text"], "to the first, too");
    agent.call("message.send", &crate::socket_agent::reply(&event, "k-too", "late"));
    let told = agent.until(|line| line["params"]["key"] == "k-too");
    assert_eq!(told["params"]["reason"].as_str(), Some(why), "{told}");
    agent.acknowledge(&event);
    // What is said now is the other bot's, and what waited is a person's to decide.
    telegram.push_text(OTHER, 9, "to the second");
    let event = agent.event();
    agent.call("message.send", &crate::socket_agent::reply(&event, "k-2", "from the second"));
    agent.acknowledge(&event);
    let sent = telegram.wait_sent(PATIENCE, 1).await;
    assert_eq!((sent.len(), sent[0].text.as_str()), (1, "from the second"));
    let listed = stdout(&gateway.run(&["ctl", "parked", "list"]));
    assert!(listed.contains("r1 ") && listed.contains("bot 7700"), "{listed}");
    let replayed = gateway.run(&["ctl", "parked", "replay", "r1"]);
    assert_eq!(stdout(&replayed), "r1: replayed\n");
    assert_eq!(telegram.wait_sent(PATIENCE, 2).await[1].text, "from the first");
}

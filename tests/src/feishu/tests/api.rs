//! The open API: credentials, tokens, messages, and what it refuses.

use super::*;

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
async fn what_is_still_held_is_being_sent() {
    let feishu = platform().await;
    let token = token(&feishu).await;
    let hold = Fault::Rest { route: Some(Route::Send), trouble: Trouble::Hold };
    let fault = feishu.fault(APP, hold, Times::Only(1));
    let held = |entry: &Entry| matches!(entry.what, Observation::Held { .. });
    tokio::select! {
        _ = send(&feishu, &token, "u", "a") => panic!("it is not held"),
        () = feishu.wait_count("the first request", SOON, 1, held) => {}
    }
    assert_eq!(send(&feishu, &token, "u", "a").await["code"], 230_049);
    assert_eq!(feishu.sent().len(), 0);
    // Whoever asked first has left, and the message comes all the same.
    feishu.clear(fault);
    let first = feishu.wait_sent(SOON, |_| true).await;
    let again = send(&feishu, &token, "u", "a").await;
    assert_eq!(again["data"]["message_id"], first.message_id);
    assert_eq!(feishu.sent().len(), 1);
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

//! Events that are posted: who is believed, and what 2xx means.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ::tests::feishu::Webhook;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;

/// A free port, and how the platform reaches it.
fn hook(key: Option<&str>, token: &str) -> (FeishuWebhook, Webhook) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen: SocketAddr = free.local_addr().unwrap();
    let secret = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
    let ours = FeishuWebhook {
        listen,
        path: "/feishu".to_owned(),
        encrypt_key: key.and_then(secret),
        verification_token: secret(token),
    };
    let theirs = Webhook {
        url: format!("http://{listen}/feishu"),
        token: token.to_owned(),
        encrypt_key: key.map(str::to_owned),
        ahead: 0,
    };
    (ours, theirs)
}

async fn rig(ours: FeishuWebhook) -> Rig {
    let mut rig = Rig::with(Rig::sim().await, &Network::default(), Some(ours));
    let ready = rig.until_ready().await;
    assert!(ready.account.contains("listening on http://127.0.0.1:"), "{}", ready.account);
    rig
}

fn text(words: &str) -> serde_json::Value {
    Message::direct("oc_1", "ou_ann").text(words).build()
}

#[tokio::test]
async fn what_is_posted_is_answered_after_its_verdict() {
    for (key, token) in [(Some("key"), "token"), (Some("key"), ""), (None, "token")] {
        let (ours, theirs) = hook(key, token);
        let mut rig = rig(ours).await;
        let asked = theirs.post(&theirs.challenge("prove it")).await.unwrap();
        assert_eq!(asked, (200, json!({"challenge": "prove it"})));
        for (verdict, status) in [
            (Verdict::Accepted(EventId(1)), 200),
            (Verdict::Duplicate, 200),
            (Verdict::Denied, 200),
            (Verdict::Refused, 503),
        ] {
            let request = theirs.request(text("hello"));
            let (answer, ()) = tokio::join!(theirs.post(&request), async {
                let submitted = rig.heard().await;
                assert_eq!(submitted.event.text, "hello");
                submitted.verdict.send(verdict).unwrap();
            });
            assert_eq!(answer.unwrap().0, status, "{verdict:?}");
        }
        // Without a verdict in time there is no 2xx.
        let request = theirs.request(text("slow"));
        let (answer, _kept) = tokio::join!(theirs.post(&request), rig.heard());
        assert_eq!(answer.unwrap().0, 503);
        let pressed = theirs.request(card_action("oc_1", "om_1", "ou_ann", &json!({"value": "x"})));
        let (answer, _) = tokio::join!(theirs.post(&pressed), async { accept(rig.heard().await) });
        assert_eq!(answer.unwrap(), (200, json!({})));
        sent(rig.send(outbound(1, |_| {})).await);
        let sim = rig.end().await;
        assert_eq!(sim.count(opened), 0, "there is no long connection");
    }
}

/// What the platform is asked about an event may take longer than it waits for the answer to it: each repetition would
/// begin anew, and what was said behind it come before it.
#[tokio::test]
async fn what_takes_long_to_find_out_is_handed_on_in_its_turn_though_nobody_waits() {
    let (ours, theirs) = hook(None, "token");
    let webhook = Some(Box::new(ours));
    let mut rig = Rig::limited(Rig::sim().await, &Network::default(), LIMITS, None, |settings| {
        settings.webhook = webhook;
    });
    rig.until_ready().await;
    rig.sim.fault(APP, rest(Route::Message, Trouble::Hold), Times::Only(1));
    let why = Message::direct("oc_1", "ou_ann").text("why?").reply_to("om_x", "om_x").build();
    let first = theirs.request(why);
    let (answer, second) = tokio::join!(theirs.post(&first), async {
        rig.sim.wait_count("it is asked", LONG, 1, held).await;
        theirs.post(&theirs.request(text("behind it"))).await
    });
    assert_eq!((answer.unwrap().0, second.unwrap().0), (503, 503));
    rig.sim.clear_faults();
    assert_eq!(accept(rig.heard().await).text, "why?");
    assert_eq!(accept(rig.heard().await).text, "behind it");
    rig.end().await;
}

/// A mistyped key makes the bot deaf: the status says so, and when it is over.
#[tokio::test]
async fn a_secret_that_is_another_is_told() {
    let (ours, theirs) = hook(Some("key"), "token");
    let mut rig = rig(ours).await;
    let mut other = theirs.clone();
    other.encrypt_key = Some("another".to_owned());
    for _ in 0..3 {
        assert_eq!(other.post(&other.request(text("x"))).await.unwrap().0, 401);
    }
    let (reason, remedy) = rig
        .note(|note| match note {
            Note::Outside(Outside::Limited { reason, remedy }) => Some((reason, remedy)),
            _ => None,
        })
        .await;
    assert!(reason.contains("the signature is wrong"), "{reason}");
    assert!(remedy.unwrap().contains("encrypt_key"));
    let asked = theirs.post(&theirs.challenge("prove it")).await.unwrap();
    assert_eq!(asked.0, 200);
    rig.note(|note| matches!(note, Note::Outside(Outside::Up)).then_some(())).await;
    rig.end().await;
}

#[tokio::test]
async fn whoever_knows_no_secret_is_not_heard() {
    let (ours, theirs) = hook(Some("key"), "token");
    let mut rig = rig(ours).await;
    let good = theirs.request(text("hello"));
    let with = |change: fn(&mut Webhook)| {
        let mut other = theirs.clone();
        change(&mut other);
        other
    };
    let changed = |name: &str, value: &str| {
        let mut posted = good.clone();
        for (key, known) in &mut posted.headers {
            if key == name {
                value.clone_into(known);
            }
        }
        posted
    };
    let mut longer = good.clone();
    longer.body.push(b' ');
    let mut bare = good.clone();
    bare.headers.clear();
    let mut open = theirs.clone();
    open.encrypt_key = None;
    let forged = [
        with(|it| it.encrypt_key = Some("another".to_owned())).request(text("x")),
        with(|it| it.token = "another".to_owned()).request(text("x")),
        with(|it| it.ahead = -400).request(text("x")),
        with(|it| it.ahead = 400).request(text("x")),
        with(|it| it.token = "another".to_owned()).challenge("x"),
        changed("X-Lark-Signature", "00"),
        changed("X-Lark-Request-Nonce", "1"),
        changed("X-Lark-Request-Timestamp", "1"),
        longer,
        bare,
        open.request(text("x")),
    ];
    for (number, posted) in forged.iter().enumerate() {
        let (status, _) = theirs.post(posted).await.unwrap();
        assert!((400..500).contains(&status), "{number}: {status}");
    }
    let elsewhere = with(|it| it.url = it.url.replace("/feishu", "/other"));
    assert_eq!(elsewhere.post(&good).await.unwrap().0, 404);
    let mut other_app = text("x");
    other_app["header"]["app_id"] = json!("cli_other");
    assert_eq!(theirs.post(&theirs.request(other_app)).await.unwrap().0, 401);
    let (answer, inbound) = tokio::join!(theirs.post(&good), async { accept(rig.heard().await) });
    assert_eq!(
        (answer.unwrap().0, inbound.text.as_str()),
        (200, "hello"),
        "only this one is heard"
    );
    rig.end().await;
}

/// A recorded body of which one byte is another: whether it still opens is nobody's business.
#[tokio::test]
async fn what_is_wrong_with_a_request_is_not_told_to_whoever_posts_it() {
    let (ours, theirs) = hook(Some("key"), "token");
    let rig = rig(ours).await;
    let good = theirs.request(text("hello"));
    let body: serde_json::Value = serde_json::from_slice(&good.body).unwrap();
    let sealed = BASE64.decode(body["encrypt"].as_str().unwrap()).unwrap();
    let mut answers = BTreeSet::new();
    for change in 0..32 {
        let mut sealed = sealed.clone();
        // The block before the last decides about the padding.
        let at = sealed.len() - 17;
        sealed[at] ^= change;
        let mut posted = good.clone();
        posted.body = json!({"encrypt": BASE64.encode(sealed)}).to_string().into_bytes();
        let signed = change % 2 == 0;
        if !signed || change == 0 {
            posted.headers.clear();
        }
        let (status, words) = theirs.post(&posted).await.unwrap();
        answers.insert((status, words.to_string()));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    rig.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_of_and_taken_when_it_is_free() {
    let (ours, theirs) = hook(None, "token");
    let taken = std::net::TcpListener::bind(ours.listen).unwrap();
    let mut rig = Rig::with(Rig::sim().await, &Network::default(), Some(ours));
    let (reason, remedy) = rig.until_down().await;
    assert!(reason.contains("listen on 127.0.0.1:"), "{reason}");
    assert!(remedy.unwrap().contains("`listen`"));
    sent(rig.send(outbound(1, |_| {})).await);
    drop(taken);
    rig.until_ready().await;
    let request = theirs.request(text("hello"));
    let (answer, ()) = tokio::join!(theirs.post(&request), async {
        accept(rig.heard().await);
    });
    assert_eq!(answer.unwrap().0, 200);
    rig.end().await;
}

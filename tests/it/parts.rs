//! Replies of several messages, and an end in the middle of them: what has arrived is known, and does not come
//! again (F35, F36).

use serde_json::{Value, json};
use tests::telegram::{Entry, Fault, Mood, Observation, Telegram};

use crate::gateway::{Gateway, PATIENCE, stdout};
use crate::socket_agent::Lines;

const TOKEN: &str = "7700:s3cret-Token_of-a-b0t";
const ANN: i64 = 9;
const PARTS: usize = 6;

async fn platform() -> (Telegram, Gateway) {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    telegram.set_mood(TOKEN, ANN, Mood::Open);
    let config = format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n[agent.mine]\nkind = \"socket\"\n",
        telegram.base_url()
    );
    let mut gateway = Gateway::new(&config);
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    gateway.start();
    gateway.wait_ready("telegram");
    (telegram, gateway)
}

/// Hands a reply in that becomes [`PARTS`] messages; some leave at once, the others one after another.
fn say(agent: &mut Lines) {
    let words: Vec<_> = (0..PARTS * 400).map(|n| format!("word{n:05}")).collect();
    let text = words.join(" ");
    let (chat, key) = (ANN.to_string(), "long");
    agent.call(
        "message.send",
        &json!({"key": key, "instance": "telegram", "chat_id": chat, "text": text}),
    );
}

fn receipt(agent: &mut Lines) -> Value {
    agent.until(|line| line["method"] == "message.receipt")["params"].clone()
}

/// The ids of what stands in the chat.
fn ids(telegram: &Telegram) -> Value {
    telegram.sent().iter().map(|it| it.message_id.to_string()).collect()
}

/// Every word is there once, in order.
fn is_whole(telegram: &Telegram) {
    let sent = telegram.sent();
    let words: Vec<_> = sent.iter().flat_map(|it| it.text.split_whitespace()).collect();
    let expected: Vec<_> = (0..PARTS * 400).map(|n| format!("word{n:05}")).collect();
    assert_eq!((sent.len(), words), (PARTS, expected.iter().map(String::as_str).collect()));
    assert!(telegram.violations().is_empty(), "{:?}", telegram.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_reply_loses_nothing_and_repeats_nothing() {
    let (telegram, gateway) = platform().await;
    let mut agent = Lines::ready(&gateway);
    say(&mut agent);
    telegram.wait_sent(PATIENCE, 2).await;
    assert!(gateway.run(&["ctl", "restart", "telegram"]).status.success());
    telegram.wait_sent(PATIENCE, 4).await;
    let path = gateway.path("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let other = config.replace("[agent.mine]", "other_webhook = \"remove\"\n[agent.mine]");
    std::fs::write(path, other).unwrap();
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    let receipt = receipt(&mut agent);
    assert_eq!(receipt["state"], "sent", "{receipt}");
    assert_eq!(receipt["message_ids"], ids(&telegram));
    is_whole(&telegram);
}

/// After a kill one call is a mystery. What arrived before it is told, and a person gets what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_reply_leaves_known_what_has_arrived() {
    let (telegram, mut gateway) = platform().await;
    let mut agent = Lines::ready(&gateway);
    say(&mut agent);
    telegram.wait_sent(PATIENCE, 3).await;
    telegram.fault(Some("sendMessage"), Fault::Hang, Some(1));
    let unanswered = |it: &Entry| matches!(&it.what, Observation::Call { method, status: None, .. } if method == "sendmessage");
    telegram.wait_count("a call without an answer", PATIENCE, 1, unanswered).await;
    let there = ids(&telegram);
    gateway.kill_supervisor();
    gateway.start();
    gateway.wait_ready("telegram");
    gateway.wait("telegram", "its end", |i| i["store"]["unknown"] == 1);
    let mut agent = Lines::agent(&gateway);
    // It may be told before either is answered.
    for (method, params) in
        [("initialize", json!({"protocol": 1})), ("ready", json!({"lease_ms": 600_000}))]
    {
        agent.say(&json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params}));
    }
    let told = receipt(&mut agent);
    assert_eq!((&told["state"], &told["message_ids"]), (&json!("unknown"), &there), "{told}");
    let id = told["id"].as_str().unwrap();
    let shown = stdout(&gateway.run(&["ctl", "parked", "show", &format!("r{id}")]));
    assert!(shown.contains("a part of it has arrived as"), "{shown}");
    assert!(gateway.run(&["ctl", "parked", "replay", "--all"]).status.success());
    let told = receipt(&mut agent);
    assert_eq!((&told["state"], &told["message_ids"]), (&json!("sent"), &ids(&telegram)), "{told}");
    is_whole(&telegram);
}

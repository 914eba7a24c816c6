//! Telegram, from its queue to the agent and back: cold starts, kills, rivals, and a token that must not
//! be seen (F13, F14, F23, F81).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tests::telegram::{Observation, Telegram};

use crate::gateway::{Gateway, PATIENCE, signal};
use crate::line::Agent;

const TOKEN: &str = "7700:s3cret-Token_of-a-b0t";
const KEY: &str = "s3cret-Token_of-a-b0t";
const UPDATES: usize = 200;

async fn platform() -> Telegram {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    telegram
}

/// With everything in the log that can be there.
fn gateway(telegram: &Telegram, token: &str, agent: &str) -> Gateway {
    let config = format!(
        "[gateway]\nlog = \"trace\"\n\
         [platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n\
         [platform.local]\n{agent}\n",
        telegram.base_url()
    );
    let mut gateway = Gateway::new(&config);
    std::fs::write(gateway.path("token"), format!("{token}\n")).unwrap();
    gateway.start();
    gateway
}

const ECHO: &str = "[agent.echo]";
const SOCKET: &str = "[agent.hermes]\nkind = \"socket\"\nmax_attempts = 50";

fn push(telegram: &Telegram, from: usize, to: usize) {
    for n in from..to {
        // Two messages each, so that there is an order to keep.
        let user = 1000 + i64::try_from(n / 2).unwrap();
        telegram.push_text(TOKEN, user, &format!("m{n}"));
    }
}

fn text(event: &Value) -> &str {
    event["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_hears_what_waited() {
    let telegram = platform().await;
    for n in 0..30 {
        telegram.push_text(TOKEN, 1000 + n, &format!("m{n}"));
    }
    let gateway = gateway(&telegram, TOKEN, ECHO);
    let sent = telegram.wait_sent(PATIENCE, 30).await;
    let texts: BTreeSet<_> = sent.iter().map(|it| it.text.clone()).collect();
    assert_eq!((texts.len(), sent.len()), (30, 30));
    gateway.wait("telegram", "all settled", |i| {
        i["store"]["accepted"] == 30 && i["store"]["replies"] == 0
    });
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    assert_eq!(gateway.wait_ready("telegram")["account"], "@test_bot (7700)");
    assert!(telegram.violations().is_empty(), "{:?}", telegram.violations());
    assert!(!gateway.log().contains(KEY), "the token is in the log");
}

/// Waits until everything is heard and settled; what the agent was offered, in order.
fn all_settled(telegram: &Telegram, gateway: &Gateway, agent: Agent) -> Vec<Value> {
    let mut offered = Vec::new();
    let mut texts = BTreeSet::new();
    while texts.len() < UPDATES {
        let event = agent.offered.recv_timeout(PATIENCE).expect("an offer in time");
        texts.insert(text(&event).to_owned());
        offered.push(event);
    }
    gateway.wait("telegram", "nothing waits", |i| {
        i["store"]["waiting"] == 0 && i["store"]["parked"] == 0
    });
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    offered.extend(agent.kill());
    // Every update became one event, in the order of its chat.
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &offered {
        let (text, id) = (text(event), event["event_id"].as_str().unwrap());
        if let Some(known) = ids.insert(text, id) {
            assert_eq!(known, id, "{text} became two events");
            assert!(event["attempt"].as_u64().unwrap() > 1, "{text} came again unannounced");
            continue;
        }
        let number = text[1..].parse().unwrap();
        let before = latest.insert(event["chat_id"].as_str().unwrap(), number);
        assert!(before.is_none_or(|before| before < number), "{text} came too early");
    }
    assert_eq!(ids.len(), UPDATES);
    assert!(telegram.violations().is_empty(), "{:?}", telegram.violations());
    assert!(!gateway.log().contains(KEY), "the token is in the log");
    offered
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_is_killed_again_and_again_within_its_batches() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, TOKEN, SOCKET);
    let agent = Agent::start(&gateway);
    gateway.wait_ready("telegram");
    for round in 0..5 {
        let (from, to) = (round * UPDATES / 5, (round + 1) * UPDATES / 5);
        push(&telegram, from, to);
        // At the moment at which a batch was handed out.
        let ids = |it: &Observation| match it {
            Observation::Handed { ids } => ids.len(),
            _ => 0,
        };
        telegram
            .wait_for("a batch", PATIENCE, |all| {
                (all.iter().map(|it| ids(&it.what)).sum::<usize>() > from).then_some(())
            })
            .await;
        let generation = gateway.instance("telegram")["generation"].as_u64().unwrap();
        if let Some(pid) = gateway.instance("telegram")["pid"].as_u64() {
            signal(pid, "KILL");
            gateway.wait("telegram", "another worker", |i| {
                i["generation"].as_u64() > Some(generation)
            });
        }
    }
    let offered = all_settled(&telegram, &gateway, agent);
    assert_eq!(offered.len(), UPDATES, "what the agent had was not offered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_is_killed_within_a_batch() {
    let telegram = platform().await;
    let mut gateway = gateway(&telegram, TOKEN, SOCKET);
    let agent = Agent::start(&gateway);
    gateway.wait_ready("telegram");
    push(&telegram, 0, UPDATES / 2);
    telegram
        .wait_count("a batch", PATIENCE, 1, |it| matches!(it.what, Observation::Handed { .. }))
        .await;
    gateway.kill_supervisor();
    push(&telegram, UPDATES / 2, UPDATES);
    gateway.start();
    all_settled(&telegram, &gateway, agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unknown_and_one_malformed_update_are_kept_and_harm_no_other() {
    let telegram = platform().await;
    telegram.push(TOKEN, json!({"brand_new": {"x": 1}}));
    telegram.push(TOKEN, json!({"message": {"text": "no chat"}}));
    telegram.push_text(TOKEN, 9, "hello");
    let gateway = gateway(&telegram, TOKEN, ECHO);
    let sent = telegram.wait_sent(PATIENCE, 1).await;
    assert_eq!((sent[0].text.as_str(), sent[0].chat_id), ("hello", 9));
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    gateway.wait("telegram", "both are counted and kept for a person", |i| {
        i["store"]["accepted"] == 3 && i["store"]["malformed"] == 2 && i["store"]["parked"] == 2
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_held_with_a_remedy_and_never_shown() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, "7700:wr0ng-t0ken", ECHO);
    let held = gateway.wait("telegram", "held", |i| i["phase"] == "held");
    let reason = held["reason"].as_str().unwrap();
    assert!(reason.contains("401 Unauthorized") && reason.contains("BotFather"), "{reason}");
    let status = gateway.status().unwrap().to_string();
    assert!(!status.contains("wr0ng") && !gateway.log().contains("wr0ng"));
    gateway.wait("echo", "ready", |i| i["phase"] == "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_another_program_is_told_until_it_is_gone() {
    let telegram = platform().await;
    telegram.set_webhook(TOKEN, "https://other.example.org/path");
    let gateway = gateway(&telegram, TOKEN, ECHO);
    let told = gateway.wait("telegram", "a conflict", |i| i["reason"].is_string());
    assert!(told["reason"].as_str().unwrap().contains("other.example.org"), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("other_webhook"), "{told}");
    assert_eq!(told["connected"], false);
    telegram.set_webhook(TOKEN, "");
    gateway.wait_ready("telegram");
    telegram.push_text(TOKEN, 9, "hello");
    telegram.wait_sent(PATIENCE, 1).await;
}

//! What was set aside: shown, tried again, removed, in both directions (F22, F35, F98).

use serde_json::{Value, json};
use tests::feishu::{Fault, Feishu, Route, Times, Trouble};

use crate::gateway::{Gateway, PATIENCE, stderr, stdout};
use crate::socket_agent::{Lines, terminal, typed};

const CONFIG: &str = "[platform.local]\n[agent.mine]\nkind = \"socket\"\nmax_attempts = 1\n";
const APP: &str = "cli_parked";

fn list(gateway: &Gateway) -> Vec<Value> {
    let told = gateway.run(&["ctl", "parked", "list", "--json"]);
    assert!(told.status.success(), "{}", stderr(&told));
    let list: Value = serde_json::from_str(&stdout(&told)).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Reasons are for people: one without end keeps nobody from what is set aside, and handlers from nothing that happens.
#[test]
fn a_reason_without_end_is_cut() {
    let hooks = "[[hooks.command]]\nevents = [\"agent:error\"]\ncommand = [\"true\"]\n";
    let gateway = Gateway::running(&format!("{CONFIG}{hooks}"));
    gateway.wait_ready("hooks");
    let mut terminal = terminal(&gateway, "home");
    let mut agent = Lines::ready(&gateway);
    for id in ["1", "2"] {
        typed(&mut terminal, id);
        let event = agent.event();
        let error = json!({ "code": 1, "message": "ä".repeat(500_000) });
        agent.say(&json!({ "jsonrpc": "2.0", "id": event["id"], "error": error }));
    }
    gateway.wait("local", "parked", |i| i["store"]["parked"] == 2);
    let found = list(&gateway);
    assert_eq!(found.len(), 2);
    let reason = found[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("refused by the agent: ää") && reason.len() < 5000, "{reason}");
    let hooks = gateway.wait("hooks", "told", |i| i["hooks"]["told"] == 2);
    assert_eq!(hooks["generation"], 1, "{}", gateway.log());
}

#[test]
fn a_parked_event_is_shown_and_delivered_again_at_its_old_place() {
    let mut gateway = Gateway::running(CONFIG);
    let mut terminal = terminal(&gateway, "home");
    let mut agent = Lines::ready(&gateway);
    typed(&mut terminal, "poison");
    typed(&mut terminal, "unwanted");
    for _ in 0..2 {
        let event = agent.event();
        agent.refuse(&event);
    }
    gateway.wait("local", "parked", |i| i["store"]["parked"] == 2);
    // What was set aside survives; two newer ones wait when the older comes back.
    agent.call("paused", &serde_json::json!({}));
    gateway.kill_supervisor();
    gateway.start();
    let mut terminal = crate::socket_agent::terminal(&gateway, "home");
    typed(&mut terminal, "third");
    typed(&mut terminal, "fourth");

    let found = list(&gateway);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0]["state"], &found[0]["chat_id"]), (&"parked".into(), &"home".into()));
    assert!(found[0]["reason"].as_str().unwrap().contains("refused by the agent"), "{found:?}");
    let id = found[0]["id"].as_str().unwrap();
    let shown = gateway.run(&["ctl", "parked", "show", id, "--json"]);
    let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(shown["text"], "text of poison");
    assert_eq!(shown["event"]["message_id"], "poison");
    assert_eq!(shown["received_ms"], found[0]["received_ms"]);

    let replayed = gateway.run(&["ctl", "parked", "replay", id]);
    assert_eq!(stdout(&replayed), format!("{id}: replayed\n"));
    let other = found[1]["id"].as_str().unwrap();
    let dropped = gateway.run(&["ctl", "parked", "drop", other]);
    assert_eq!(stdout(&dropped), format!("{other}: dropped\n"));
    let again = gateway.run(&["ctl", "parked", "drop", other]);
    assert_eq!(again.status.code(), Some(64));
    assert!(list(&gateway).is_empty());

    let mut agent = Lines::ready(&gateway);
    for text in ["poison", "third", "fourth"] {
        let event = agent.event();
        assert_eq!(event["params"]["message_id"], text, "in the order of the conversation");
        if text == "poison" {
            assert_eq!(event["params"]["event_id"], id[1..], "the old id");
            assert_eq!(event["params"]["received_ms"], found[0]["received_ms"], "the old time");
            assert_eq!(event["params"]["attempt"], 2);
        }
        agent.acknowledge(&event);
    }
}

#[test]
fn a_mistyped_id_is_explained() {
    let gateway = Gateway::running(CONFIG);
    let mistyped = gateway.run(&["ctl", "parked", "show", "17"]);
    assert_eq!(mistyped.status.code(), Some(64));
    assert!(stderr(&mistyped).contains("no id such as e17 or r5"), "{}", stderr(&mistyped));
    let missing = gateway.run(&["ctl", "parked", "show", "e17"]);
    assert_eq!(missing.status.code(), Some(64));
    assert!(stderr(&missing).contains("hint: `hermes-gw ctl parked list`"), "{}", stderr(&missing));
    let none = gateway.run(&["ctl", "parked", "replay", "--all"]);
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(0), "nothing is set aside\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_failed_is_sent_again_when_a_person_says_so() {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ direct = \"open\" }}\n[agent.mine]\nkind = \"socket\"\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    let mut gateway = gateway;
    gateway.start();
    let mut agent = Lines::ready(&gateway);
    feishu.wait_connected(APP, 1, PATIENCE).await;
    // The bot is not in this chat.
    let refusal = Fault::Rest {
        route: Some(Route::Send),
        trouble: Trouble::Code { status: 400, code: 230_002 },
    };
    let fault = feishu.fault(APP, refusal, Times::Always);
    let reply = serde_json::json!({
        "key": "k", "instance": "feishu", "chat_id": "oc_1", "text": "the answer"
    });
    agent.call("message.send", &reply);
    let receipt = agent.until(|line| line["method"] == "message.receipt");
    assert_eq!(receipt["params"]["state"], "failed");
    gateway.wait("feishu", "undelivered", |i| i["store"]["undelivered"] == 1);
    let found = list(&gateway);
    assert_eq!((&found[0]["id"], &found[0]["state"]), (&"r1".into(), &"failed".into()));
    let shown = gateway.run(&["ctl", "parked", "show", "r1"]);
    assert!(stdout(&shown).contains("the answer"), "{}", stdout(&shown));

    feishu.clear(fault);
    let replayed = gateway.run(&["ctl", "parked", "replay", "--all", "--json"]);
    let told: Value = serde_json::from_str(&stdout(&replayed)).unwrap();
    assert_eq!(told["results"][0]["result"], "replayed");
    let sent = feishu.wait_sent(PATIENCE, |sent| sent.receive_id == "oc_1").await;
    assert_eq!(sent.text().as_deref(), Some("the answer"));
    let receipt = agent.until(|line| line["method"] == "message.receipt");
    assert_eq!(receipt["params"]["state"], "sent");
    assert!(list(&gateway).is_empty());
    gateway.wait("feishu", "nothing left", |i| i["store"]["undelivered"] == 0);
}

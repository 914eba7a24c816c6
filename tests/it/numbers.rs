//! What a dashboard shows (F77): every number is there from the first answer on, and outlives workers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::socket_agent::Lines;
use crate::terminal::Terminal;

const OF_A_PLATFORM: [&str; 14] = [
    "accepted",
    "denied",
    "duplicates",
    "failed",
    "ignored",
    "malformed",
    "parked",
    "refused",
    "replies",
    "sent",
    "unaddressed",
    "undelivered",
    "unknown",
    "waiting",
];

fn numbers(gateway: &Gateway, name: &str, of: &str) -> Value {
    gateway.instance(name)[of].clone()
}

#[test]
fn every_number_is_there_from_the_first_answer_and_outlives_workers() {
    let gateway = Gateway::running("[platform.local]\n[agent.mine]\nkind = \"socket\"\n");
    // Whatever phase they are in, and although nothing has happened.
    let first = numbers(&gateway, "local", "store");
    assert_eq!(first, json!(BTreeMap::from(OF_A_PLATFORM.map(|name| (name, 0)))));
    let busy = json!({ "queued": 0, "interrupted": 0, "steered": 0 });
    let gate =
        json!({ "open": false, "in_flight": 0, "acknowledged": 0, "refused": 0, "busy": busy });
    assert_eq!(numbers(&gateway, "mine", "gate"), gate);
    let status = gateway.status().unwrap();
    for number in ["bytes", "free_bytes", "commits", "checkpoints"] {
        assert!(status["store"][number].is_u64(), "{status}");
    }

    let mut terminal = Terminal::join(&gateway);
    for n in 0..3 {
        terminal.typed(&format!("t{n}"), "hello");
    }
    let waiting = numbers(&gateway, "local", "store");
    assert_eq!((&waiting["accepted"], &waiting["waiting"]), (&json!(3), &json!(3)));
    let oldest = waiting["oldest_ms"].as_i64().unwrap();
    assert!(oldest >= status["started_ms"].as_i64().unwrap(), "{waiting}");
    assert!(gateway.run(&["ctl", "restart"]).status.success());
    assert_eq!(numbers(&gateway, "local", "store"), waiting, "another worker, the same numbers");

    let mut agent = Lines::ready(&gateway);
    for _ in 0..3 {
        let event = agent.event();
        agent.acknowledge(&event);
    }
    gateway.wait("mine", "all is acknowledged", |i| i["gate"]["acknowledged"] == 3);
    assert!(gateway.run(&["ctl", "restart"]).status.success());
    let after = numbers(&gateway, "local", "store");
    assert_eq!((&after["accepted"], &after["waiting"]), (&json!(3), &json!(0)));
    assert_eq!(numbers(&gateway, "mine", "gate")["acknowledged"], 3);
}

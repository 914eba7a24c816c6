//! Workers that speak another version than the program that takes over: replaced one by one.

use serde_json::Value;

use crate::gateway::{PATIENCE, stderr};
use crate::socket_agent::Lines;
use crate::upgrade::{APP, gateway, pids, through, upgrade};

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_another_version_are_replaced_one_by_one() {
    let (feishu, gateway) = gateway().await;
    let before = pids(&gateway);
    // As if it had spoken another version with its workers.
    let told = upgrade(&gateway, &through(&gateway, "state['protocol'] = 999"));
    assert!(told.status.success(), "{}{}", stderr(&told), gateway.log());
    for (name, old) in ["feishu", "local", "mine"].into_iter().zip(&before) {
        let new = gateway.wait(name, "another", |i| i["phase"] == "ready" && i["pid"] != *old);
        assert_eq!(new["generation"], 2, "{new}");
    }
    let journal = std::fs::read_to_string(gateway.state().join("journal.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let since = lines.skip_while(|line| line["now"] != "upgraded");
    let phases: Vec<_> = since
        .filter(|line| line["event"] == "phase")
        .map(|line| (line["instance"].as_str().unwrap().to_owned(), line["now"].clone()))
        .collect();
    let mut open: Option<&str> = None;
    for (instance, now) in &phases {
        match now.as_str() {
            Some("stopping") => {
                assert_eq!(open, None, "one after the other: {phases:?}");
                open = Some(instance);
            }
            Some("ready") => open = None,
            _ => assert_eq!(open, Some(instance.as_str()), "{phases:?}"),
        }
    }
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let mut agent = Lines::ready(&gateway);
    feishu.push_text(APP, "oc_1", "ou_ann", "hello").acked().await;
    assert_eq!(agent.event()["params"]["text"], "hello");
}

/// What a person, or the end of all, has told a worker that was to be replaced in its turn.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_told_to_stay_down_is_not_replaced() {
    let (_feishu, mut gateway) = gateway().await;
    let next = through(&gateway, "state['protocol'] = 999");
    assert!(upgrade(&gateway, &next).status.success(), "{}", gateway.log());
    let killed = gateway.run(&["ctl", "kill", "mine"]);
    assert!(killed.status.success(), "{}", stderr(&killed));
    for name in ["feishu", "local"] {
        gateway.wait(name, "another", |i| i["phase"] == "ready" && i["generation"] == 2);
    }
    assert!(gateway.run(&["ctl", "restart", "local"]).status.success());
    let mine = gateway.instance("mine");
    assert_eq!((&mine["phase"], &mine["generation"]), (&"down".into(), &1.into()), "{mine}");

    assert!(gateway.run(&["ctl", "start", "mine"]).status.success());
    assert!(upgrade(&gateway, &next).status.success(), "{}", gateway.log());
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    assert_eq!(gateway.left(), Some(0));
    let journal = std::fs::read_to_string(gateway.state().join("journal.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_stop = |line: &Value| line["event"] == "supervisor" && line["now"] == "stopping";
    let started: Vec<_> =
        lines.skip_while(|line| !is_stop(line)).filter(|line| line["now"] == "starting").collect();
    assert!(started.is_empty(), "{started:?}");
}

//! `ctl inbox` and `ctl outbox`: what waits, in both directions.

use serde_json::Value;

use crate::gateway::{Gateway, stderr, stdout};
use crate::socket_agent::{Lines, reply, terminal, typed};

const CONFIG: &str = "[platform.local]\n[agent.mine]\nkind = \"socket\"\n";

/// What waits there: ids, states and attempts.
fn waiting(gateway: &Gateway, words: &[&str]) -> (Vec<(String, String, i64)>, bool) {
    let told = gateway.run(&[&["ctl"], words, &["--json"]].concat());
    assert!(told.status.success(), "{}", stderr(&told));
    let list: Value = serde_json::from_str(&stdout(&told)).unwrap();
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let items = list["items"].as_array().unwrap().iter();
    let items = items.map(|item| {
        assert_eq!((&item["instance"], &item["chat_id"]), (&"local".into(), &"home".into()));
        (text(item, "id"), text(item, "state"), item["attempts"].as_i64().unwrap())
    });
    (items.collect(), list["more"] == true)
}

fn row(id: &str, state: &str, attempts: i64) -> (String, String, i64) {
    (id.into(), state.into(), attempts)
}

#[test]
fn what_waits_is_shown_in_both_directions_and_until_its_end() {
    let gateway = Gateway::running(CONFIG);
    assert_eq!(stdout(&gateway.run(&["ctl", "inbox"])), "nothing waits\n");
    let mut terminal = terminal(&gateway, "home");
    for id in ["one", "two", "three"] {
        typed(&mut terminal, id);
    }
    gateway.wait("local", "accepted", |i| i["store"]["waiting"] == 3);
    let all = |states: [&str; 3]| {
        ["e1", "e2", "e3"]
            .iter()
            .zip(states)
            .map(|(id, state)| row(id, state, i64::from(state == "with_agent")))
            .collect::<Vec<_>>()
    };
    assert_eq!(waiting(&gateway, &["inbox"]), (all(["waiting"; 3]), false));
    // Page by page, and what is left is told.
    assert_eq!(
        waiting(&gateway, &["inbox", "--limit", "2"]),
        (all(["waiting"; 3])[..2].to_vec(), true)
    );
    assert!(
        stdout(&gateway.run(&["ctl", "inbox", "--limit", "2"]))
            .ends_with("`--all`, or `--limit N`\n")
    );

    let mut agent = Lines::ready(&gateway);
    let event = agent.event();
    assert_eq!(waiting(&gateway, &["inbox", "--all"]).0, all(["with_agent", "waiting", "waiting"]));
    let said = stdout(&gateway.run(&["ctl", "inbox"]));
    assert!(said.starts_with("e1  with agent  local chat home  attempt 1  for "), "{said}");

    // Nobody carries the reply: it waits.
    assert!(gateway.run(&["ctl", "kill", "local"]).status.success());
    agent.call("message.send", &reply(&event, "k", "hello"));
    agent.acknowledge(&event);
    agent.event();
    assert_eq!(
        waiting(&gateway, &["inbox"]).0,
        all(["with_agent", "with_agent", "waiting"])[1..].to_vec()
    );
    assert_eq!(waiting(&gateway, &["outbox"]), (vec![row("r1", "waiting", 0)], false));
    assert!(gateway.run(&["ctl", "start", "local"]).status.success());
    let mut terminal = crate::socket_agent::terminal(&gateway, "home");
    terminal.until(|line| line["text"] == "hello");
    gateway.wait("local", "sent", |i| i["store"]["replies"] == 0);
    assert_eq!(waiting(&gateway, &["outbox"]).0, []);
}

/// What is listed ends where it ends, and fits into lines whatever chats are called.
#[test]
fn a_list_is_whole_and_tells_of_more_only_if_there_is_more() {
    let gateway = Gateway::running(CONFIG);
    let mut terminal = terminal(&gateway, &"\u{1}".repeat(256));
    let times = 700;
    for n in 0..times {
        let id = n.to_string();
        terminal.say(&serde_json::json!({ "type": "say", "id": id, "text": "x" }));
    }
    gateway.wait("local", "accepted", |i| i["store"]["waiting"] == times);
    let list = |words: &[&str]| {
        let told = gateway.run(&[&["ctl", "inbox", "--json"], words].concat());
        assert!(told.status.success(), "{}", stderr(&told));
        let list: Value = serde_json::from_str(&stdout(&told)).unwrap();
        let ids: Vec<String> =
            list["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()).collect();
        (ids, list["more"] == true)
    };
    let (all, more) = list(&["--all"]);
    assert!(
        all.len() == times
            && !more
            && all.iter().collect::<std::collections::HashSet<_>>().len() == times
    );
    assert_eq!(list(&["--limit", "700"]), (all.clone(), false));
    assert_eq!(list(&["--limit", "699"]), (all[..699].to_vec(), true));
    let none = gateway.run(&["ctl", "inbox", "--limit", "0"]);
    assert_eq!(none.status.code(), Some(64), "{}", stdout(&none));
}

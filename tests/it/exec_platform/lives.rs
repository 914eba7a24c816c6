//! For how long one program serves: to which changes of the gateway it is a witness, and which ones start another.

use serde_json::json;

use super::{ALL, ECHO, OPEN, append, by_chat, chat_of, gateway, program, read, said, wait};
use crate::gateway::{PROGRAM, stderr, stdout};
use crate::upgrade::upgrade;

#[test]
fn an_upgrade_leaves_the_program_and_what_it_says_alone() {
    let options = json!({ "initialize": { "idempotent_ms": 3_600_000 } });
    let gateway = gateway(&options, &format!("{OPEN}{ECHO}"));
    let first = program(&gateway, 0);
    let upgraded = gateway.path("hermes-gw");
    std::fs::copy(PROGRAM, &upgraded).unwrap();
    for round in 0..3 {
        let all = round * 40..(round + 1) * 40;
        let events: Vec<_> =
            all.map(|n| said(&chat_of(n), &format!("m{n}"), &n.to_string())).collect();
        append(&gateway, "queue", &events);
        let told = upgrade(&gateway, &upgraded);
        assert!(told.status.success(), "{}", stderr(&told));
    }
    wait(&gateway, "sent", ALL);
    assert_eq!(program(&gateway, 0), first);
    for (chat, said) in by_chat(&read(&gateway, "sent")) {
        assert_eq!(said, (0..ALL).filter(|n| chat_of(*n) == chat).collect::<Vec<_>>(), "{chat}");
    }
    assert_eq!(read(&gateway, "told").len(), 1, "it introduced itself once");
}

#[test]
fn another_command_starts_that_program_anew_and_no_other() {
    let gateway = gateway(&json!({}), &format!("{OPEN}[platform.local]\n{ECHO}"));
    let pids = || ["files", "local"].map(|name| gateway.wait_ready(name)["pid"].clone());
    let before = pids();
    let config = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
    let changed = config.replace("[platform.local]", "variables = [\"HOME\"]\n[platform.local]");
    let changed = changed.replace(OPEN, &format!("settings = {{ a = 1 }}\n{OPEN}"));
    std::fs::write(gateway.path("config.toml"), changed.replace("variables = [\"HOME\"]\n", ""))
        .unwrap();
    let told = gateway.run(&["ctl", "reload"]);
    assert_eq!(stdout(&told), "configuration: reloaded: changed files\n", "{}", stderr(&told));
    let after = gateway.until("a new worker", || {
        let after = pids();
        (after[0] != before[0]).then_some(after)
    });
    assert_eq!(after[1], before[1]);
    assert_eq!(wait(&gateway, "told", 2)[1]["settings"], json!({ "a": 1 }));
}

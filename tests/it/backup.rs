//! A copy of the store while it is in use (F71).

use std::process::Command;

use crate::gateway::{Gateway, stderr, stdout};
use crate::socket_agent::{Lines, terminal, typed};

const CONFIG: &str = "[platform.local]\n[agent.mine]\nkind = \"socket\"\n";

/// What a foreign program is told that wants to write to the store.
fn intrude(gateway: &Gateway) -> String {
    let script = "import sqlite3, sys\n\
                  try:\n\
                  \x20   sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')\n\
                  \x20   print('it let me in')\n\
                  except sqlite3.OperationalError as e:\n\
                  \x20   print(e)\n";
    let mut python = Command::new("python3");
    let output = python.args(["-c", script]).arg(gateway.state().join("store.db")).output();
    stdout(&output.unwrap()).trim().to_owned()
}

#[test]
fn a_backup_is_whole_and_the_store_stays_locked() {
    let mut gateway = Gateway::running(CONFIG);
    let mut said = terminal(&gateway, "home");
    typed(&mut said, "first");
    typed(&mut said, "second");
    assert_eq!(intrude(&gateway), "database is locked");
    for name in ["one.db", "two.db"] {
        let file = gateway.path(name);
        let done = gateway.run(&["ctl", "backup", file.to_str().unwrap()]);
        assert!(done.status.success(), "{}", stderr(&done));
        assert!(stdout(&done).contains(name) && stdout(&done).contains("KiB"), "{}", stdout(&done));
        assert_eq!(intrude(&gateway), "database is locked", "reading it gave no lock up");
        typed(&mut said, name);
    }
    let again = gateway.run(&["ctl", "backup", gateway.path("one.db").to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(73));
    assert!(stderr(&again).contains("File exists"), "{}", stderr(&again));
    assert!(stderr(&again).contains("hint: name a new file"), "{}", stderr(&again));

    // Two at once, by hand: both are asked for before either is done.
    let mut round = 0;
    let told = gateway.until("two at once", || {
        use std::io::{BufRead, Write};
        round += 1;
        let ask = |name: &str| {
            let path = gateway.path(&format!("{name}-{round}.db"));
            let params = serde_json::json!({ "path": path });
            let line = serde_json::json!({ "id": 1, "method": "backup", "params": params });
            let mut tool = std::os::unix::net::UnixStream::connect(gateway.socket()).unwrap();
            tool.write_all(format!("{line}\n").as_bytes()).unwrap();
            tool
        };
        let asked = [ask("three"), ask("four")].map(|tool| {
            let mut line = String::new();
            std::io::BufReader::new(tool).read_line(&mut line).unwrap();
            serde_json::from_str::<serde_json::Value>(&line).unwrap()
        });
        asked.into_iter().find(|told| !told["error"].is_null())
    });
    assert_eq!(told["error"]["code"], 75, "{told}");
    assert!(told["error"]["message"].as_str().unwrap().ends_with("another backup is under way"));
    assert!(told["error"]["hint"].as_str().unwrap().starts_with("try again"), "{told}");

    // The first copy in place of the store: it knows what it knew then.
    gateway.kill_supervisor();
    std::fs::copy(gateway.path("one.db"), gateway.state().join("store.db")).unwrap();
    std::fs::remove_file(gateway.state().join("store.db-wal")).unwrap();
    gateway.start();
    let mut agent = Lines::ready(&gateway);
    for text in ["first", "second"] {
        let event = agent.event();
        assert_eq!(event["params"]["message_id"], text);
        agent.acknowledge(&event);
    }
    let told = gateway.wait("local", "nothing waits", |i| i["store"]["waiting"] == 0);
    assert_eq!(told["store"]["parked"], 0);
}

//! What changed, and who asked for it, stands in the journal and comes as it happens.

use serde_json::Value;

use crate::gateway::{Gateway, signal};

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";

fn journal(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.state().join("journal.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn phases(lines: &[Value], instance: &str) -> Vec<String> {
    let own = lines.iter().filter(|l| l["event"] == "phase" && l["instance"] == instance);
    own.map(|l| format!("{} {}", l["now"].as_str().unwrap(), l["generation"])).collect()
}

#[test]
fn it_tells_what_changed_and_who_asked() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let mut events = gateway.events();
    let mut tool = gateway.command();
    let tool = tool.args(["ctl", "restart", "local", "-q"]).spawn().unwrap();
    let asked = events.wait(|event| event["event"] == "asked");
    events.wait(|event| event["instance"] == "local" && event["now"] == "ready");
    assert_eq!((&asked["now"], &asked["instance"]), (&"restart".into(), &"local".into()));
    let by = &asked["by"];
    assert_eq!(by["pid"], tool.id());
    assert_eq!(by["uid"], nix::unistd::geteuid().as_raw());
    let command = by["command"].as_str().unwrap();
    assert!(command.starts_with("hermes-gw --config /"), "{command}");
    assert!(command.ends_with("ctl restart local -q"), "{command}");
    assert!(tool.wait_with_output().unwrap().status.success());

    signal(gateway.pid().into(), "TERM");
    gateway.left();
    let lines = journal(&gateway);
    assert!(lines.contains(&asked), "the journal and the events say the same");
    let told = phases(&lines, "local");
    let all =
        ["starting 1", "ready 1", "stopping 1", "starting 2", "ready 2", "stopping 2", "down 2"];
    assert_eq!(told, all);
    let own: Vec<_> = lines.iter().filter(|l| l["event"] == "supervisor").collect();
    assert_eq!(own.iter().map(|l| &l["now"]).collect::<Vec<_>>(), ["started", "stopping", "left"]);
    assert_eq!(own[1]["reason"], "SIGTERM");

    gateway.start();
    gateway.until("it goes on", || (journal(&gateway).len() > lines.len()).then_some(()));
}

#[test]
fn a_journal_that_cannot_be_written_is_no_reason_not_to_serve() {
    let mut gateway = Gateway::new(CONFIG);
    std::fs::create_dir_all(gateway.state().join("journal.jsonl")).unwrap();
    std::fs::write(gateway.state().join("lock"), "").unwrap();
    gateway.start();
    gateway.wait_ready("local");
    assert!(gateway.log().contains("cannot write the journal"));
}

#[test]
fn a_stranger_who_asks_is_named_without_its_arguments() {
    let gateway = Gateway::running(CONFIG);
    let mut events = gateway.events();
    gateway.ask(r#"{"id":1,"method":"restart","params":{"instances":["local"]}}"#).unwrap();
    let asked = events.wait(|event| event["event"] == "asked");
    let name = std::env::current_exe().unwrap();
    assert_eq!(asked["by"]["command"], name.file_name().unwrap().to_str().unwrap());
}

//! An agent that restarts or ends the gateway it runs under, from its own turn (F63).

use serde_json::{Value, json};

use crate::gateway::{Gateway, stderr, stdout};
use crate::socket_agent::{Lines, terminal, typed};

const CONFIG: &str = "[platform.local]\n[agent.mine]\nkind = \"socket\"\nmax_attempts = 2\n";

/// What a process of the agent worker's family bears, as far as anybody can tell.
fn mark(gateway: &Gateway) -> Option<String> {
    let worker = gateway.wait("mine", "has a process", |i| i["phase"] == "ready");
    let environment = std::fs::read(format!("/proc/{}/environ", worker["pid"])).unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let mark = environment.split('\0').find_map(|v| v.strip_prefix("HERMES_GW_WORKER="));
    if mark.is_none() {
        eprintln!("skipped: only root can see the mark of a worker");
    }
    mark.map(str::to_owned)
}

fn within(gateway: &Gateway, mark: &str, args: &[&str]) -> std::process::Output {
    gateway.command().args(args).env("HERMES_GW_WORKER", mark).output().unwrap()
}

/// The event that tells what became of a command.
fn told(agent: &mut Lines) -> Value {
    let event = agent.event();
    let params = &event["params"];
    for (member, value) in [
        ("instance", "local"),
        ("chat_id", "home"),
        ("kind", "message"),
        ("user_id", "ann"),
        ("user_name", "hermes-gw"),
        ("user_kind", "system"),
    ] {
        assert_eq!(params[member], value, "{event}");
    }
    event
}

#[test]
fn a_command_waits_for_the_end_of_the_turn_and_its_outcome_is_told() {
    let gateway = Gateway::running(CONFIG);
    let worker = gateway.wait("mine", "has a process", |i| i["phase"] == "ready");
    let Some(mark) = mark(&gateway) else { return };
    let mut agent = Lines::ready(&gateway);
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "restart yourself");
    let event = agent.event();

    let done = within(&gateway, &mark, &["ctl", "restart", "mine"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(stdout(&done), "mine: when this turn is over\n");
    for args in [&["ctl", "restart"][..], &["ctl", "kill"]] {
        let refused = within(&gateway, &mark, args);
        assert_eq!(refused.status.code(), Some(75));
        let refused = stderr(&refused);
        assert!(refused.contains("from within: there was such a command"), "{refused}");
    }
    assert!(within(&gateway, &mark, &["ctl", "status"]).status.success(), "who only looks");
    assert_eq!(gateway.instance("mine")["pid"], worker["pid"], "nothing has happened yet");

    let mut events = gateway.events();
    agent.say(&json!({ "jsonrpc": "2.0", "id": event["id"], "result": {} }));
    events.wait(|event| event["instance"] == "mine" && event["now"] == "stopping");
    events.wait(|event| event["now"] == "restart mine, from within: over");
    let after = gateway.wait("mine", "is another", |i| i["phase"] == "ready");
    assert_ne!(after["pid"], worker["pid"]);
    assert_eq!(after["generation"], 2);

    // The one that was restarted is the one that is told.
    let mut agent = Lines::ready(&gateway);
    let event = told(&mut agent);
    let text = event["params"]["text"].as_str().unwrap();
    assert!(text.starts_with("[hermes-gw] `restart mine`, asked for from here "), "{text}");
    assert!(text.contains(" ago: mine restarted after "), "{text}");
    agent.acknowledge(&event);
    gateway.wait("local", "everything is settled", |i| i["store"]["waiting"] == 0);
    let owed = std::fs::read_to_string(gateway.state().join("owed.json")).unwrap();
    assert_eq!(owed, "[]");
}

/// What changes the asker's own block would end it in the middle of its turn.
#[test]
fn a_reload_waits_for_the_end_of_the_turn_as_well() {
    let gateway = Gateway::running(CONFIG);
    let Some(mark) = mark(&gateway) else { return };
    let before = gateway.instance("mine")["pid"].clone();
    let mut agent = Lines::ready(&gateway);
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "be another one");
    let event = agent.event();
    std::fs::write(gateway.path("config.toml"), format!("{CONFIG}lease_s = 400\n")).unwrap();
    let done = within(&gateway, &mark, &["ctl", "reload"]);
    assert_eq!(stdout(&done), "configuration: when this turn is over\n", "{}", stderr(&done));
    assert_eq!(gateway.instance("mine")["pid"], before, "nothing has happened yet");
    let mut events = gateway.events();
    agent.acknowledge(&event);
    events.wait(|event| event["now"] == "reload, from within: over");
    let mut agent = Lines::ready(&gateway);
    let event = told(&mut agent);
    let text = event["params"]["text"].as_str().unwrap();
    assert!(text.contains("`reload`") && text.ends_with(": reloaded mine"), "{text}");
    assert_ne!(gateway.instance("mine")["pid"], before);
    agent.acknowledge(&event);
    gateway.wait("local", "everything is settled", |i| i["store"]["waiting"] == 0);
}

/// Whoever has made the mistake is told of it, and what helps.
#[test]
fn a_reload_that_is_refused_is_told_with_what_helps() {
    let gateway = Gateway::running(CONFIG);
    let Some(mark) = mark(&gateway) else { return };
    let mut agent = Lines::ready(&gateway);
    let mut terminal = terminal(&gateway, "home");
    typed(&mut terminal, "be another one");
    let event = agent.event();
    std::fs::write(gateway.path("config.toml"), format!("{CONFIG}leese_s = 400\n")).unwrap();
    within(&gateway, &mark, &["ctl", "reload"]);
    agent.acknowledge(&event);
    let event = told(&mut agent);
    let text = event["params"]["text"].as_str().unwrap();
    assert!(text.contains("nothing is changed") && text.contains("leese_s"), "{text}");
    assert!(text.contains("`hermes-gw check` explains it"), "{text}");
    agent.acknowledge(&event);
}

#[test]
fn what_ends_the_supervisor_is_told_by_the_next_one_once() {
    let mut gateway = Gateway::running(CONFIG);
    // Carried out, and killed before it could be: both are told.
    for (ends, expected) in [(true, ": done; the gateway ended"), (false, ": not done, since")] {
        let Some(mark) = mark(&gateway) else { return };
        let mut agent = Lines::ready(&gateway);
        let mut terminal = terminal(&gateway, "home");
        typed(&mut terminal, if ends { "end" } else { "die" });
        let event = agent.event();
        let done = within(&gateway, &mark, &["ctl", "kill"]);
        assert!(done.status.success(), "{}", stderr(&done));
        if ends {
            agent.say(&json!({ "jsonrpc": "2.0", "id": event["id"], "result": {} }));
            assert_eq!(gateway.left(), Some(0), "done once the turn is over");
        } else {
            gateway.kill_supervisor();
        }
        gateway.start();
        let mut agent = Lines::ready(&gateway);
        if !ends {
            // In its place behind the turn that a crash interrupted.
            let again = agent.event();
            assert_eq!(again["params"]["message_id"], "die");
            agent.acknowledge(&again);
        }
        let event = told(&mut agent);
        let text = event["params"]["text"].as_str().unwrap();
        assert!(text.starts_with("[hermes-gw] `kill`") && text.contains(expected), "{text}");
        agent.acknowledge(&event);
        drop(agent);
        gateway.wait("mine", "is without an agent", |i| i["gate"]["open"] == false);
    }
    gateway.kill_supervisor();
    gateway.start();
    gateway.wait("local", "told once, each", |i| i["store"]["waiting"] == 0);
}

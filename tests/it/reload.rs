//! Another configuration while the gateway serves (F28).

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::gateway::{Gateway, is_alive, signal, stderr, stdout};
use crate::socket_agent::{Lines, reply};

const CONFIG: &str = "[platform.one]\nkind = \"local\"\n[platform.two]\nkind = \"local\"\n\
                      [agent.hermes]\nkind = \"socket\"\n";

fn write(gateway: &Gateway, config: &str) {
    // As an editor does it: nobody reads half a file.
    std::fs::write(gateway.path("new.toml"), config).unwrap();
    std::fs::rename(gateway.path("new.toml"), gateway.path("config.toml")).unwrap();
}

fn pid(gateway: &Gateway, name: &str) -> Value {
    gateway.wait(name, "ready", |i| i["phase"] == "ready")["pid"].clone()
}

fn reload(gateway: &Gateway) -> String {
    let output = gateway.run(&["ctl", "reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

/// Says something and hears it back.
fn chat(gateway: &Gateway, instance: &str, text: &str) -> String {
    let mut command = gateway.command();
    command.args(["chat", "--instance", instance]);
    let mut chat =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(chat.stdin.take().unwrap(), "{text}").unwrap();
    stdout(&chat.wait_with_output().unwrap())
}

/// F87
#[test]
fn only_what_differs_is_started_anew() {
    let gateway = Gateway::running(CONFIG);
    let before = ["one", "two", "hermes"].map(|name| pid(&gateway, name));
    assert_eq!(reload(&gateway), "configuration: unchanged\n");

    write(&gateway, &CONFIG.replace("\"socket\"", "\"socket\"\nlease_s = 7"));
    assert_eq!(reload(&gateway), "configuration: reloaded: changed hermes\n");
    assert_ne!(pid(&gateway, "hermes"), before[2]);
    assert_eq!([pid(&gateway, "one"), pid(&gateway, "two")], before[..2]);

    // A second agent comes, and one platform moves to it; what waited for the first one goes along.
    let waiting = chat_without_answer(&gateway, "two");
    let moved = CONFIG
        .replace("[agent", "agent = \"echo\"\n[agent")
        .replace("[platform.two]", "agent = \"hermes\"\n[platform.two]")
        + "[agent.echo]\n";
    write(&gateway, &moved);
    assert_eq!(reload(&gateway), "configuration: reloaded: added echo; changed hermes, two\n");
    assert_eq!(pid(&gateway, "one"), before[0]);
    assert_eq!(waiting.wait_with_output().unwrap().stdout, b"it waits\n");
    assert_eq!(chat(&gateway, "two", "hello"), "hello\n");

    // One goes, and comes back.
    let former = pid(&gateway, "two").as_u64().unwrap();
    write(&gateway, &CONFIG.replace("[platform.two]\nkind = \"local\"\n", ""));
    assert_eq!(reload(&gateway), "configuration: reloaded: removed echo, two\n");
    assert!(!is_alive(former));
    let names = gateway.status().unwrap()["instances"].as_array().unwrap().len();
    assert_eq!(names, 2);
    assert_eq!(gateway.run(&["ctl", "restart", "two"]).status.code(), Some(64));
    write(&gateway, &moved);
    assert!(reload(&gateway).contains("added echo, two"));
    assert_eq!(chat(&gateway, "two", "again"), "again\n");
    assert_eq!(pid(&gateway, "one"), before[0], "through all of that");
}

/// F87: an agent goes on with what it works on while platforms go and come, and hears what waited of them.
#[test]
fn platforms_come_and_go_beside_the_work_of_an_agent() {
    let config = CONFIG.replace("agent.hermes", "agent.mine");
    let gateway = Gateway::running(&config);
    let before = ["one", "mine"].map(|name| pid(&gateway, name));
    pid(&gateway, "two");
    let mut chats = ["two", "one"].map(|name| chat_without_answer(&gateway, name));
    let without = config.replace("[platform.two]\nkind = \"local\"\n", "");
    write(&gateway, &without);
    assert_eq!(reload(&gateway), "configuration: reloaded: removed two\n");

    let mut agent = Lines::ready(&gateway);
    let of_one = agent.event();
    assert_eq!(of_one["params"]["instance"], "one");
    write(&gateway, &config);
    assert_eq!(reload(&gateway), "configuration: reloaded: added two\n");
    let of_two = agent.event();
    assert_eq!(of_two["params"]["instance"], "two");
    agent.acknowledge(&of_one);
    gateway.wait("one", "the work is done", |i| i["store"]["waiting"] == 0);
    assert_eq!(["one", "mine"].map(|name| pid(&gateway, name)), before);

    // What it works on comes from one that goes.
    write(&gateway, &without);
    let told = reload(&gateway);
    assert_eq!(told, "configuration: reloaded: removed two; changed mine\n");
    assert_ne!(pid(&gateway, "mine"), before[1]);
    write(&gateway, &config);
    reload(&gateway);
    let mut agent = Lines::ready(&gateway);
    let again = agent.event();
    assert_eq!(again["params"]["event_id"], of_two["params"]["event_id"]);
    for chat in &mut chats {
        let _ = chat.kill();
        chat.wait().unwrap();
    }
}

/// Says something that nobody answers yet.
fn chat_without_answer(gateway: &Gateway, instance: &str) -> std::process::Child {
    let mut command = gateway.command();
    command.args(["chat", "--instance", instance, "--name", "waiting"]);
    let mut chat =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(chat.stdin.take().unwrap(), "it waits").unwrap();
    gateway.wait(instance, "has accepted it", |i| i["store"]["waiting"] == 1);
    chat
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why() {
    let gateway = Gateway::running(CONFIG);
    let before = ["one", "two", "hermes"].map(|name| pid(&gateway, name));
    for (config, why) in [
        ("[platform", "read the configuration"),
        ("[platfrom.x]\n", "did you mean \"platform\"?"),
        (&CONFIG.replace("local", "slack"), "kind must be one of local, feishu"),
        (&format!("[gateway]\nstate_dir = \"x\"\n{CONFIG}"), "cannot change while"),
    ] {
        write(&gateway, config);
        let output = gateway.run(&["ctl", "reload"]);
        assert_eq!(output.status.code(), Some(78));
        let told = stderr(&output);
        assert!(told.contains("nothing is changed: ") && told.contains(why), "{told}");
    }
    assert_eq!(["one", "two", "hermes"].map(|name| pid(&gateway, name)), before);
    gateway.until("the refusal is in the journal", || {
        let journal = std::fs::read_to_string(gateway.state().join("journal.jsonl")).unwrap();
        journal.contains("\"now\":\"refused\"").then_some(())
    });
}

/// F87: who hears it as well goes on with its work.
#[test]
fn a_block_that_was_wrong_is_mended() {
    let config = CONFIG.replace("agent.hermes", "agent.mine");
    let gateway = Gateway::running(&config.replace("[platform.two]\nkind", "[platform.two]\nknid"));
    let before = ["one", "mine"].map(|name| pid(&gateway, name));
    gateway.wait("two", "held", |i| i["phase"] == "held");
    assert_eq!(reload(&gateway), "configuration: unchanged\n", "what is as wrong as before");
    let mut agent = Lines::ready(&gateway);
    let mut chats = vec![chat_without_answer(&gateway, "one")];
    let of_one = agent.event();
    write(&gateway, &config);
    assert_eq!(reload(&gateway), "configuration: reloaded: changed two\n");
    pid(&gateway, "two");
    chats.push(chat_without_answer(&gateway, "two"));
    let of_two = agent.event();
    assert_eq!(of_two["params"]["instance"], "two");
    agent.acknowledge(&of_two);
    agent.acknowledge(&of_one);
    assert_eq!(["one", "mine"].map(|name| pid(&gateway, name)), before);
    for chat in &mut chats {
        let _ = chat.kill();
        chat.wait().unwrap();
    }
}

/// What is everybody's is taken over, and told.
#[test]
fn settings_that_are_everybodys_are_taken_over_and_told() {
    let gateway = Gateway::running(CONFIG);
    let before = ["one", "two", "hermes"].map(|name| pid(&gateway, name));
    let head = "[gateway]\nlog = \"warn\"\nstop_s = 7\n[commands]\nstatus = [\"/how\"]\n";
    write(&gateway, &format!("{head}{CONFIG}"));
    assert_eq!(
        reload(&gateway),
        "configuration: reloaded: settings gateway.log, gateway.stop_s, [commands]\n\
         gateway.log holds for what starts from now on\n"
    );
    assert_eq!(reload(&gateway), "configuration: unchanged\n");
    assert!(chat(&gateway, "one", "/how").contains("hermes"));
    assert_eq!(["one", "two", "hermes"].map(|name| pid(&gateway, name)), before);
}

/// What the configuration refers to is read by a reload, and the environment by a start alone.
#[test]
fn what_is_missing_is_told_with_what_helps() {
    let needs = |key: &str| {
        format!("{CONFIG}[agent.flow]\nkind = \"webhook\"\nurl = \"http://h/\"\nsecret_{key}\n")
    };
    let gateway = Gateway::running(&needs("file = \"key\""));
    let helps = |words: &str| {
        let held = gateway.wait("flow", "held", |i| i["phase"] == "held");
        assert!(held["remedy"].as_str().unwrap().contains(words), "{held}");
    };
    helps("put it into that file");
    std::fs::write(gateway.path("key"), crate::webhook_agent::SECRET).unwrap();
    assert_eq!(gateway.run(&["ctl", "restart", "flow"]).status.code(), Some(66));
    helps("then `hermes-gw ctl reload`");
    assert!(reload(&gateway).contains("changed flow"));
    pid(&gateway, "flow");
    write(&gateway, &needs("env = \"HERMES_GW_TEST_UNSET\""));
    let refused = gateway.run(&["ctl", "reload"]);
    assert_eq!(refused.status.code(), Some(66));
    assert!(stderr(&refused).contains("hint: put it into the environment"), "{refused:?}");
}

/// F87: nobody speaks to a platform that is gone, and nobody hears of it, until it comes back.
#[test]
fn a_platform_that_is_gone_is_neither_spoken_to_nor_heard() {
    let config = CONFIG.replace("agent.hermes", "agent.mine") + "max_attempts = 1\n";
    let gateway = Gateway::running(&config);
    pid(&gateway, "two");
    let mut agent = Lines::ready(&gateway);
    let mut chats = vec![chat_without_answer(&gateway, "two")];
    let of_two = agent.event();
    agent.refuse(&of_two);
    gateway.wait("two", "set aside", |i| i["store"]["parked"] == 1);
    write(&gateway, &config.replace("[platform.two]\nkind = \"local\"\n", ""));
    assert_eq!(reload(&gateway), "configuration: reloaded: removed two\n");

    let refused = agent.ask("message.send", &reply(&of_two, "k", "hello"));
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(why.contains("no platform instance is called \"two\""), "{refused}");
    let wish =
        json!({ "instance": "two", "message_id": "m", "part": { "kind": "file", "handle": "h" } });
    let fetched = agent.ask("file.fetch", &wish);
    let why = fetched["error"]["message"].as_str().unwrap_or_default();
    assert!(why.contains("no platform instance is called \"two\""), "{fetched}");
    let replayed = gateway.run(&["ctl", "parked", "replay", "--all"]);
    assert_eq!(replayed.status.code(), Some(0), "{}", stderr(&replayed));
    chats.push(chat_without_answer(&gateway, "one"));
    let next = agent.event();
    assert_eq!(next["params"]["instance"], "one", "{next}");
    agent.acknowledge(&next);
    write(&gateway, &config);
    reload(&gateway);
    let back = agent.event();
    assert_eq!(back["params"]["event_id"], of_two["params"]["event_id"]);
    agent.acknowledge(&back);
    for chat in &mut chats {
        let _ = chat.kill();
        chat.wait().unwrap();
    }
}

/// P4: what was accepted under a name that is gone is not out of sight.
#[test]
fn what_waits_of_a_platform_that_is_gone_is_told() {
    let gateway = Gateway::running(CONFIG);
    pid(&gateway, "two");
    let mut said = chat_without_answer(&gateway, "two");
    let status = gateway.status().unwrap();
    assert!(status.get("unconfigured").is_none(), "{status}");
    write(&gateway, &CONFIG.replace("platform.two", "platform.three"));
    let told = reload(&gateway);
    assert!(told.contains("removed two"), "{told}");
    let left = serde_json::json!([{"name": "two", "waiting": 1, "replies": 0}]);
    let is_told = |status: &Value| status["unconfigured"] == left;
    gateway.until("it is told", || gateway.status().filter(is_told));
    let shown = stdout(&gateway.run(&["ctl", "status"]));
    assert!(shown.contains("two: not in the configuration; waiting 1, replies 0"), "{shown}");
    write(&gateway, CONFIG);
    reload(&gateway);
    gateway.wait("two", "goes on", |i| i["store"]["waiting"] == 1);
    let _ = said.kill();
    said.wait().unwrap();
}

#[test]
fn a_hundred_wishes_are_one_reading() {
    let gateway = Gateway::running(CONFIG);
    gateway.wait("one", "ready", |i| i["phase"] == "ready");
    let mut events = gateway.events();
    let mut wish = |n| {
        write(&gateway, &CONFIG.replace("[agent", &format!("agent = \"hermes\"\n# {n}\n[agent")));
        let two = CONFIG.replace("[platform.one]", "[platform.one]\nagent = \"hermes\"");
        write(&gateway, &two.replace("hermes", &format!("hermes{n}")));
        signal(gateway.pid().into(), "HUP");
    };
    // How many of these are read depends on how quickly they come. The last one is.
    (0..100).for_each(&mut wish);
    events.wait(|event| event["event"] == "config" && event["now"] == "reloaded");
    gateway.wait("hermes99", "ready", |i| i["phase"] == "ready");
    let before = gateway.wait("one", "ready", |i| i["phase"] == "ready")["generation"].clone();
    // These come before it can read any.
    signal(gateway.pid().into(), "STOP");
    (100..200).for_each(&mut wish);
    signal(gateway.pid().into(), "CONT");
    gateway.wait("hermes199", "ready", |i| i["phase"] == "ready");
    let after = gateway.wait("one", "ready", |i| i["phase"] == "ready")["generation"].clone();
    assert_eq!(after.as_u64().unwrap() - before.as_u64().unwrap(), 1, "restarts");
}

#[test]
fn an_instance_that_was_killed_stays_down() {
    let gateway = Gateway::running(CONFIG);
    pid(&gateway, "one");
    assert!(gateway.run(&["ctl", "kill", "one"]).status.success());
    write(&gateway, &CONFIG.replace("[platform.one]", "[platform.one]\nagent = \"hermes\""));
    // The only agent was its agent before: that is no difference.
    assert_eq!(reload(&gateway), "configuration: unchanged\n");
    write(&gateway, &CONFIG.replace("hermes", "other"));
    assert!(reload(&gateway).contains("changed one, two"));
    pid(&gateway, "two");
    assert_eq!(gateway.instance("one")["phase"], "down");
    assert!(gateway.run(&["ctl", "start", "one"]).status.success());
}

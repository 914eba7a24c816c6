//! Commands in the chat, messages that come while the agent works or is away, what is said in one go, and
//! which agent hears whom.

use serde_json::{Value, json};

use crate::gateway::{Gateway, root, signal, stderr};
use crate::socket_agent::Lines;
use crate::terminal::Terminal;

/// A gateway whose agent writes down what it hears. `able`: what it says it can do.
fn gateway(able: &str, more: &str) -> Gateway {
    let program = root().join("tests/it/agents/talker.py");
    let command = ["python3", program.to_str().unwrap()].into_iter();
    let command: Vec<_> = command.chain(able.split_whitespace()).collect();
    let agent = format!("[agent.mine]\nkind = \"exec\"\ncommand = {command:?}\n");
    let more = more.replace("{agent}", &agent);
    let config = if more.contains("[agent.mine]") {
        more
    } else {
        format!("[platform.local]\n{agent}{more}")
    };
    let gateway = Gateway::running(&config);
    gateway.wait("mine", "gate open", |i| i["gate"]["open"] == true);
    gateway
}

/// What the agent has heard.
fn heard(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.path("heard")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(gateway: &Gateway) -> Vec<String> {
    heard(gateway).iter().map(|event| event["text"].as_str().unwrap().to_owned()).collect()
}

fn until_heard(gateway: &Gateway, count: usize) {
    gateway.until("the agent hears it", || (heard(gateway).len() >= count).then_some(()));
}

fn go(gateway: &Gateway) {
    std::fs::write(gateway.path("go"), "").unwrap();
}

fn acknowledged(gateway: &Gateway, count: u64) {
    gateway.wait("mine", "acknowledged", |i| i["gate"]["acknowledged"] == count);
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
}

fn both(terminal: &mut Terminal) -> [String; 2] {
    let mut both = [terminal.shown(), terminal.shown()];
    both.sort();
    both
}

#[test]
fn commands_are_the_gateways_own_whatever_the_agent_does() {
    let gateway = gateway("interrupt", "[commands]\nstop = [\"/stop\", \"halt\"]\n");
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "/status");
    let status = terminal.shown();
    assert!(status.contains("mine (exec): ready, idle here"), "{status}");
    assert!(status.contains("local (local): connected"), "{status}");
    terminal.typed("2", "halt");
    assert_eq!(terminal.shown(), "Nothing to stop here.");
    terminal.typed("3", "work");
    until_heard(&gateway, 1);
    terminal.typed("4", "/status");
    assert!(terminal.shown().contains("at work here"));
    terminal.typed("5", "/STOP");
    assert_eq!(both(&mut terminal), ["Stopped.", "interrupted: work"]);
    acknowledged(&gateway, 1);
    terminal.typed("6", "/new");
    assert_eq!(terminal.shown(), "A new conversation.");
    terminal.typed("7", "hello");
    assert_eq!(terminal.shown(), "said: hello");
    terminal.typed("8", "/new is what I want");
    assert_eq!(terminal.shown(), "said: /new is what I want");
    let sessions: Vec<_> = heard(&gateway).iter().map(|it| it["session_id"].clone()).collect();
    assert_eq!(sessions, ["local:home", "local:home#1", "local:home#1"]);
    acknowledged(&gateway, 3);
}

#[test]
fn commands_are_answered_while_the_agent_is_away_and_a_new_beginning_survives_a_kill() {
    let mut gateway = Gateway::running(
        "[platform.local]\n[agent.hermes]\nkind = \"socket\"\n[agent.hermes.away]\nafter_s = 1\ntext = \"later\"\n",
    );
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "hello");
    assert_eq!(terminal.shown(), "later");
    terminal.typed("2", "hello?");
    terminal.typed("3", "/status");
    assert!(terminal.shown().contains("hermes (socket): away"), "told once, then answered");
    terminal.typed("4", "/new");
    assert_eq!(terminal.shown(), "A new conversation.");
    gateway.kill_supervisor();
    gateway.start();
    let told = gateway.wait("local", "two wait", |i| i["store"]["waiting"] == 2);
    assert_eq!(told["store"]["parked"], 0, "commands do not wait");
    let agent = gateway.path("s/agent-hermes.sock");
    let mut client = std::process::Command::new("python3");
    client.arg(root().join("docs/agent.py")).arg(agent);
    let mut client = client.spawn().unwrap();
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
    client.kill().unwrap();
    client.wait().unwrap();
}

/// F97: what happens to a message during a turn is what was configured, is told, and loses nothing.
#[test]
fn what_comes_while_the_agent_works_waits() {
    // The agent cannot be told more, so it waits.
    let gateway = gateway("", "[platform.local.busy]\nmode = \"steer\"\ntell = true\n{agent}");
    let mut terminal = Terminal::join(&gateway);
    let mut events = gateway.events();
    terminal.typed("1", "work");
    until_heard(&gateway, 1);
    terminal.typed("2", "two");
    assert_eq!(terminal.shown(), "I am still at work; this comes next.");
    let told = events.wait(|event| event["event"] == "busy");
    assert_eq!((&told["now"], &told["instance"]), (&"queued".into(), &"mine".into()));
    terminal.typed("3", "/stop");
    assert!(terminal.shown().contains("cannot be stopped"));
    terminal.typed("4", "three");
    go(&gateway);
    for expected in ["worked: work", "said: two", "said: three"] {
        assert_eq!(terminal.shown(), expected);
    }
    acknowledged(&gateway, 3);
    assert_eq!(gateway.instance("mine")["gate"]["busy"]["queued"], 2);
}

/// F97
#[test]
fn what_comes_while_the_agent_works_ends_the_work() {
    let busy = "[platform.local.busy.chats.home]\nmode = \"interrupt\"\n{agent}";
    let gateway = gateway("interrupt steer", busy);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "work");
    until_heard(&gateway, 1);
    terminal.typed("2", "two");
    assert_eq!(terminal.shown(), "interrupted: work");
    assert_eq!(terminal.shown(), "said: two");
    acknowledged(&gateway, 2);
    assert_eq!(gateway.instance("mine")["gate"]["busy"]["interrupted"], 1);
}

/// F97
#[test]
fn what_comes_while_the_agent_works_goes_into_the_work_and_is_not_lost_with_it() {
    let gateway = gateway("steer", "[platform.local.busy]\nmode = \"steer\"\n{agent}");
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "work");
    until_heard(&gateway, 1);
    terminal.typed("2", "more");
    terminal.typed("3", "later, please");
    until_heard(&gateway, 3);
    let steers = heard(&gateway)[1]["steers"].clone();
    assert_eq!(steers, heard(&gateway)[0]["event_id"]);
    // The work dies with the agent, and with it what was taken into it.
    let pid = gateway.instance("mine")["pid"].as_u64().unwrap();
    signal(pid, "KILL");
    gateway.wait("mine", "back", |i| i["generation"] == 2 && i["gate"]["open"] == true);
    until_heard(&gateway, 4);
    // What was said before it waits behind the work, so it does, too.
    terminal.typed("4", "again");
    gateway.wait("mine", "queued", |i| i["gate"]["busy"]["queued"] == 2);
    go(&gateway);
    for expected in ["worked: work", "said: more", "said: later, please", "said: again"] {
        assert_eq!(terminal.shown(), expected);
    }
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
    let attempts = |text: &str| {
        let heard = heard(&gateway);
        let of = heard.iter().filter(|event| event["text"] == text);
        of.map(|event| event["attempt"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(attempts("work"), [1, 2]);
    assert_eq!(attempts("more"), [1, 2], "it was there before, whatever became of it");
    assert_eq!(attempts("again"), [1]);
}

/// F97: an agent that leaves something to wait, by a word or by none, gets nothing that was said later before it.
#[test]
fn nobody_overtakes_on_the_way_into_the_work() {
    let steer = "[platform.local.busy]\nmode = \"steer\"\ntell = true\n{agent}";
    for (second, taken, told) in [
        ("more", 1, Some("I take this into what I am at.")),
        ("later, please", 0, Some("I am still at work; this comes next.")),
        ("silence", 0, None),
    ] {
        let gateway = gateway("steer", steer);
        let mut terminal = Terminal::join(&gateway);
        terminal.typed("1", "work");
        until_heard(&gateway, 1);
        terminal.typed("2", second);
        until_heard(&gateway, 2);
        if let Some(told) = told {
            assert_eq!(terminal.shown(), told, "{second}");
        }
        terminal.typed("3", "later, too");
        terminal.typed("4", "last");
        if taken == 1 {
            until_heard(&gateway, 3);
        }
        go(&gateway);
        let work = if taken == 1 { "worked: work + more" } else { "worked: work" };
        let after = [second, "later, too", "last"].into_iter().skip(taken);
        let expected = after.map(|text| format!("said: {text}"));
        for expected in std::iter::once(work.to_owned()).chain(expected) {
            assert_eq!(terminal.shown(), expected, "{second}");
        }
        acknowledged(&gateway, 4);
        let busy = gateway.instance("mine")["gate"]["busy"].clone();
        assert_eq!(busy["steered"], taken, "{second}: {busy}");
        assert_eq!(busy["queued"], 3 - taken, "{second}: {busy}");
    }
}

/// F97: what went into the work ends with it, also over an upgrade; the agent is told so, and no command finds it
/// as held.
#[test]
fn what_went_into_the_work_ends_with_it() {
    let config = "[platform.local]\n[platform.local.busy]\nmode = \"steer\"\n\
        [platform.local.burst]\nquiet_ms = 60000\nmost_ms = 60000\n[agent.mine]\nkind = \"socket\"\n";
    for upgraded in [false, true] {
        let gateway = Gateway::running(config);
        let mut agent = Lines::agent(&gateway);
        agent.call("initialize", &json!({ "protocol": 1, "steer": true }));
        agent.call("ready", &json!({ "lease_ms": 600_000 }));
        let mut terminal = Terminal::join(&gateway);
        terminal.typed("1", "/work");
        let work = agent.event();
        terminal.typed("2", "more");
        let more = agent.event();
        assert_eq!(more["params"]["steers"], work["params"]["event_id"]);
        if upgraded {
            assert!(gateway.run(&["ctl", "upgrade"]).status.success());
        }
        for delivery in [&more, &work] {
            agent.say(&json!({ "jsonrpc": "2.0", "id": delivery["id"], "result": {} }));
        }
        acknowledged(&gateway, 2);
        terminal.typed("3", "/stop");
        assert_eq!(terminal.shown(), "Nothing to stop here.");
        for delivery in [&more, &work] {
            let settled = agent.until(|line| line["method"] == "event.settled");
            assert_eq!(settled["params"]["event_id"], delivery["params"]["event_id"]);
        }
    }
}

/// F99: nothing waits for more to be joined with it that never is, and nothing waits with what came after it.
#[test]
fn what_stands_alone_goes_at_once() {
    let burst = "[platform.local.burst]\nquiet_ms = 60000\nmost_ms = 60000\n{agent}";
    let gateway = gateway("", burst);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "one");
    terminal.typed("2", "/help");
    assert_eq!(terminal.shown(), "said: one");
    assert_eq!(terminal.shown(), "said: /help");
    terminal.typed("3", "work");
    terminal.typed("4", "/help");
    until_heard(&gateway, 3);
    // The row that begins now is not in the way of what was there before it.
    terminal.typed("5", "two");
    go(&gateway);
    assert_eq!(terminal.shown(), "worked: work");
    assert_eq!(terminal.shown(), "said: /help");
    assert_eq!(heard(&gateway).len(), 4);
}

/// F99: what is said in one go is one turn, and a crash within the pause loses nothing of it.
#[test]
fn what_is_said_in_one_go_is_one_turn() {
    let burst = "[platform.local.burst]\nquiet_ms = 2500\nmost_ms = 60000\n{agent}";
    let mut gateway = gateway("", burst);
    let mut terminal = Terminal::join(&gateway);
    for (id, text) in [("1", "one"), ("2", "two"), ("3", "three")] {
        terminal.typed(id, text);
    }
    terminal.typed("4", "/status");
    assert!(terminal.shown().contains("idle here"), "a command does not wait");
    assert_eq!(terminal.shown(), "said: one\ntwo\nthree");
    acknowledged(&gateway, 1);
    let first = &heard(&gateway)[0];
    assert_eq!(first["joined"].as_array().unwrap().len(), 2);
    terminal.typed("5", "four");
    terminal.typed("6", "five");
    gateway.kill_supervisor();
    gateway.start();
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
    assert_eq!(texts(&gateway).last().unwrap(), "four\nfive");
    assert_eq!(heard(&gateway).last().unwrap()["before_restart"], true);
}

/// F27: what was accepted before the start is known as such, also where the clock stands behind what it showed then.
#[test]
fn what_was_accepted_before_a_restart_is_no_matter_of_the_wall_clock() {
    let mut gateway = gateway("", "");
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "work");
    terminal.typed("2", "behind");
    until_heard(&gateway, 1);
    gateway.wait("local", "accepted", |i| i["store"]["accepted"] == 2);
    gateway.kill_supervisor();
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  db.execute('UPDATE inbox SET received_ms = received_ms + 3600000')\n\
                  db.commit()\n";
    let mut python = std::process::Command::new("python3");
    let python = python.args(["-c", script]).arg(gateway.state().join("store.db"));
    assert!(python.status().unwrap().success());
    gateway.start();
    until_heard(&gateway, 2);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("3", "later");
    gateway.wait("local", "accepted", |i| i["store"]["accepted"] == 1);
    let upgraded = gateway.run(&["ctl", "upgrade"]);
    assert!(upgraded.status.success(), "{}", stderr(&upgraded));
    go(&gateway);
    acknowledged(&gateway, 3);
    let before = heard(&gateway).into_iter().map(|event| event["before_restart"].clone());
    assert_eq!(before.collect::<Vec<_>>(), [false, true, true, false]);
}

/// F99: an agent that knows the event answers for what it was handed with it, and for nothing that was said since.
#[test]
fn another_attempt_is_at_what_the_first_one_was() {
    let burst = "[platform.local.burst]\nquiet_ms = 60000\nmost_ms = 60000\n{agent}";
    let mut gateway = gateway("", burst);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "work");
    terminal.typed("2", "one");
    // It lets go what is held.
    terminal.typed("3", "/new");
    until_heard(&gateway, 1);
    terminal.typed("4", "two");
    gateway.wait("local", "all of it waits", |i| i["store"]["waiting"] == 3);
    gateway.kill_supervisor();
    gateway.start();
    until_heard(&gateway, 2);
    go(&gateway);
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
    assert_eq!(texts(&gateway), ["work\none", "work\none", "two"]);
}

/// F99: to the person who gives it, a command comes after what was said, held or not.
#[test]
fn a_command_finds_what_is_held_as_said() {
    let burst = "[platform.local.burst]\nquiet_ms = 60000\nmost_ms = 60000\n{agent}";
    let gateway = gateway("interrupt", burst);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "one");
    terminal.typed("2", "two");
    terminal.typed("3", "/new");
    // It does not wait for the end of the pause, and belongs to the conversation that begins.
    assert_eq!(both(&mut terminal), ["A new conversation.", "said: one\ntwo"]);
    acknowledged(&gateway, 1);
    terminal.typed("4", "delete everything");
    terminal.typed("5", "at once");
    terminal.typed("6", "/stop");
    assert_eq!(terminal.shown(), "Stopped. What you just said is not begun.");
    gateway.wait("local", "set aside, and nothing waits", |i| {
        i["store"]["parked"] == 2 && i["store"]["waiting"] == 0
    });
    // The agent's own command is a turn of its own, at once, and so is what was said before it.
    terminal.typed("7", "three");
    terminal.typed("8", "/model x");
    for expected in ["said: three", "said: /model x"] {
        assert_eq!(terminal.shown(), expected);
    }
    acknowledged(&gateway, 3);
    assert_eq!(texts(&gateway), ["one\ntwo", "three", "/model x"]);
    let shown = crate::gateway::stdout(&gateway.run(&["ctl", "parked", "list"]));
    assert!(shown.contains("stopped in the chat before the agent began"), "{shown}");
    gateway.run(&["ctl", "parked", "replay", "--all"]);
    assert_eq!(terminal.shown(), "said: delete everything\nat once", "nothing of it is lost");
}

/// F99: what a person stops is the turn, and not its first message.
#[test]
fn what_waits_for_another_attempt_is_stopped_as_a_whole() {
    let gateway = Gateway::running(
        "[platform.local]\n[platform.local.burst]\nquiet_ms = 60000\nmost_ms = 60000\n\
         [agent.mine]\nkind = \"socket\"\n",
    );
    let mut agent = Lines::ready(&gateway);
    let mut events = gateway.events();
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("1", "delete everything");
    terminal.typed("2", "at once");
    // It lets go what is held.
    terminal.typed("3", "/new");
    assert_eq!(terminal.shown(), "A new conversation.");
    let turn = agent.event();
    assert_eq!(turn["params"]["text"], "delete everything\nat once");
    let later = json!({ "code": 1, "message": "no", "data": { "retry_after_ms": 600_000 } });
    agent.say(&json!({ "jsonrpc": "2.0", "id": turn["id"], "error": later }));
    gateway.wait("mine", "given back", |i| i["gate"]["in_flight"] == 0);
    terminal.typed("4", "/stop");
    assert_eq!(terminal.shown(), "Stopped. What waited for another attempt is set aside.");
    gateway.wait("local", "all of it is set aside", |i| i["store"]["parked"] == 2);
    for id in ["1", "2"] {
        events.wait(|event| event["event"] == "parked" && event["now"] == id);
    }
    terminal.typed("5", "/help");
    assert_eq!(agent.event()["params"]["text"], "/help");
}

/// F95
#[test]
fn the_first_route_that_fits_leads_to_the_agent() {
    let gateway = gateway(
        "",
        "[[route]]\nplatform = \"local\"\nchat = \"home\"\nagent = \"echo\"\n\
         [[route]]\nuser = \"ann\"\nagent = \"mine\"\n\
         [platform.local]\nagent = \"echo\"\n[agent.echo]\n{agent}",
    );
    let mut home = Terminal::join(&gateway);
    home.typed("1", "hello");
    assert_eq!(home.shown(), "hello", "the chat comes first");
    let mut office = Terminal::join_as(&gateway, "office", "ann");
    office.typed("2", "hello");
    assert_eq!(office.shown(), "said: hello");
    let mut other = Terminal::join_as(&gateway, "other", "bob");
    other.typed("3", "hello");
    assert_eq!(other.shown(), "hello");
    // What waits is found by its own agent after a restart.
    office.typed("4", "work");
    until_heard(&gateway, 2);
    let mut gateway = gateway;
    gateway.kill_supervisor();
    go(&gateway);
    gateway.start();
    gateway.wait("local", "settled", |i| i["store"]["waiting"] == 0);
    assert_eq!(texts(&gateway), ["hello", "work", "work"]);
}

/// F17: for the agent that hears it from now on it is as new.
#[test]
fn what_an_agent_leaves_behind_that_is_taken_out_counts_for_nothing() {
    let gateway = Gateway::running("[platform.local]\n[agent.mine]\nkind = \"socket\"\n");
    let mut agent = Lines::ready(&gateway);
    Terminal::join(&gateway).typed("1", "hello");
    agent.event();
    let other = "[platform.local]\n[agent.other]\nkind = \"socket\"\nmax_attempts = 1\n";
    std::fs::write(gateway.path("config.toml"), other).unwrap();
    assert!(gateway.run(&["ctl", "upgrade"]).status.success());
    gateway.wait("other", "listening", |i| i["phase"] == "ready");
    let mut other = Lines::dial(&gateway.state().join("agent-other.sock"));
    other.call("initialize", &json!({ "protocol": 1 }));
    other.call("ready", &json!({ "lease_ms": 600_000 }));
    gateway.until("it is handed out, or set aside", || {
        let local = gateway.instance("local");
        let at_work = gateway.instance("other")["gate"]["in_flight"] == 1;
        (at_work || local["store"]["parked"] == 1).then_some(())
    });
    assert_eq!(gateway.instance("local")["store"]["parked"], 0, "{}", gateway.log());
    let delivery = other.event();
    assert_eq!(delivery["params"]["attempt"], 2);
    other.acknowledge(&delivery);
}

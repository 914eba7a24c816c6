//! The `exec` endpoint: a program of the user's that lives and dies with its worker (F20, F67).

use std::path::Path;

use crate::gateway::{Gateway, is_alive, root, signal};
use crate::terminal::Terminal;

/// A gateway whose agent is this program. It finds the documented example in `AGENT`, and writes down
/// its process number.
fn gateway(program: &str) -> Gateway {
    let example = root().join("docs");
    let start = format!(
        "import os, runpy, sys, time\n\
         sys.path.insert(0, '{}')\n\
         open('pid', 'w').write(str(os.getpid()))\n\
         {program}",
        example.display()
    );
    let gateway = Gateway::new(
        "[platform.local]\n[agent.mine]\nkind = \"exec\"\ncommand = [\"python3\", \"start.py\"]\n",
    );
    std::fs::write(gateway.path("start.py"), start).unwrap();
    let mut gateway = gateway;
    gateway.start();
    gateway
}

const EXAMPLE: &str = "import agent; agent.main()\n";

fn program(gateway: &Gateway, former: u64) -> u64 {
    let path = gateway.path("pid");
    gateway.until("another program", || {
        let pid = std::fs::read_to_string(Path::new(&path)).ok()?.parse().ok()?;
        (pid != former).then_some(pid)
    })
}

#[test]
fn a_program_of_the_user_answers_and_is_started_again_when_it_is_killed() {
    let gateway = gateway(EXAMPLE);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("m1", "hello");
    assert_eq!(terminal.shown(), "You said: hello");
    let first = program(&gateway, 0);
    signal(first, "KILL");
    let back = gateway.wait("mine", "back", |i| i["generation"] == 2 && i["gate"]["open"] == true);
    assert!(back["exits"][0]["cause"].as_str().unwrap().contains("signal: 9"), "{back}");
    terminal.typed("m2", "again");
    assert_eq!(terminal.shown(), "You said: again");
    assert_ne!(program(&gateway, first), first);
    gateway.wait("mine", "settled", |i| i["gate"]["acknowledged"] == 2);
}

/// F44: what it has started may hold its output for as long as it likes.
#[test]
fn the_end_of_a_program_is_its_end_whoever_holds_its_output() {
    let gateway = gateway(
        "import subprocess\n\
         subprocess.Popen(['sleep', '600'])\n\
         import agent\n\
         agent.main()\n",
    );
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("m1", "hello");
    assert_eq!(terminal.shown(), "You said: hello");
    let first = program(&gateway, 0);
    signal(first, "KILL");
    program(&gateway, first);
    terminal.typed("m2", "again");
    assert_eq!(terminal.shown(), "You said: again");
}

#[test]
fn an_event_that_a_program_died_with_comes_again_and_says_so() {
    let gateway = gateway(
        "import agent\n\
         def answer(event):\n\
         \x20   if event['attempt'] == 1: os.abort()\n\
         \x20   return f\"attempt {event['attempt']}\"\n\
         agent.answer = answer\n\
         agent.main()\n",
    );
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("m1", "hello");
    assert_eq!(terminal.shown(), "attempt 2");
}

/// F16, F22, F98.
#[test]
fn an_event_that_ends_the_program_each_time_is_set_aside_and_those_behind_it_arrive_in_order() {
    let gateway = gateway(
        "import agent\n\
         def answer(event):\n\
         \x20   open('seen', 'a').write(event['text'] + '\\n')\n\
         \x20   if event['text'] == 'poison': os.abort()\n\
         \x20   return 'got ' + event['text']\n\
         agent.answer = answer\n\
         agent.main()\n",
    );
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("m0", "poison");
    for n in 1..=7 {
        terminal.typed(&format!("m{n}"), &n.to_string());
    }
    let shown: Vec<String> = (1..=7).map(|_| terminal.shown()).collect();
    assert_eq!(shown, (1..=7).map(|n| format!("got {n}")).collect::<Vec<_>>());
    gateway.wait("local", "set aside and nothing waits", |i| {
        i["store"]["parked"] == 1 && i["store"]["waiting"] == 0
    });
    let seen = std::fs::read_to_string(gateway.path("seen")).unwrap();
    assert_eq!(seen.lines().collect::<Vec<_>>()[..4], ["poison", "poison", "poison", "1"]);
}

/// F22: what was with the program beside it is not set aside as well.
#[test]
fn an_event_that_ends_the_program_takes_nobody_along() {
    let gateway = gateway(
        "import agent\n\
         had = []\n\
         def answer(event):\n\
         \x20   had.append(event['text'])\n\
         \x20   until = time.time() + 2\n\
         \x20   while len(had) < 4 and time.time() < until: time.sleep(0.01)\n\
         \x20   if event['text'] == 'poison': os.abort()\n\
         \x20   if 'poison' in had: time.sleep(60)\n\
         \x20   return 'got ' + event['text']\n\
         agent.answer = answer\n\
         agent.main()\n",
    );
    let mut terminals: Vec<_> =
        (0..4).map(|n| Terminal::join_as(&gateway, &format!("chat{n}"), "ann")).collect();
    for (n, terminal) in terminals.iter_mut().enumerate() {
        terminal.typed(&format!("m{n}"), if n == 1 { "poison" } else { "well" });
    }
    for n in [0, 2, 3] {
        assert_eq!(terminals[n].shown(), "got well");
    }
    gateway.wait("local", "set aside and nothing waits", |i| {
        i["store"]["parked"] == 1 && i["store"]["waiting"] == 0
    });
}

#[test]
fn a_program_that_says_that_a_person_must_act_is_not_started_again() {
    let told = gateway("sys.exit(78)\n");
    let held = told.wait("mine", "held", |i| i["phase"] == "held");
    assert!(held["reason"].as_str().unwrap().contains("exit status: 78"), "{held}");

    let missing = Gateway::running(
        "[platform.local]\n[agent.mine]\nkind = \"exec\"\ncommand = [\"/nowhere/agent\"]\n",
    );
    let held = missing.wait("mine", "held", |i| i["phase"] == "held");
    assert!(held["reason"].as_str().unwrap().contains("/nowhere/agent"), "{held}");

    for dir in ["nowhere", "config.toml"] {
        let nowhere = Gateway::running(&format!(
            "[platform.local]\n[agent.mine]\nkind = \"exec\"\ncommand = [\"true\"]\ndir = \"{dir}\"\n"
        ));
        let held = nowhere.wait("mine", "held", |i| i["phase"] == "held");
        let why = format!("there is no directory {}", nowhere.path(dir).display());
        assert!(held["reason"].as_str().unwrap().contains(&why), "{held}");
    }
}

#[test]
fn a_program_that_ends_at_once_does_not_spin() {
    let gateway = gateway("sys.exit(0)\n");
    let backoff = gateway.wait("mine", "backoff", |i| i["phase"] == "backoff");
    assert!(backoff["exits"][0]["cause"].as_str().unwrap().contains("exit status: 0"), "{backoff}");
}

/// Neither the end of its input nor a polite signal ends these two.
const STUBBORN: &str = "import signal, subprocess\n\
     signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
     child = subprocess.Popen(['sleep', '1000'], stdin=subprocess.DEVNULL)\n\
     open('child', 'w').write(str(child.pid))\n\
     time.sleep(1000)\n";

fn stubborn(gateway: &Gateway) -> [u64; 2] {
    let child = gateway.path("child");
    let child =
        gateway.until("its child", || std::fs::read_to_string(&child).ok()?.parse::<u64>().ok());
    [program(gateway, 0), child]
}

#[test]
fn a_stubborn_program_and_what_it_started_end_with_a_restart() {
    let gateway = gateway(STUBBORN);
    let pids = stubborn(&gateway);
    assert!(gateway.run(&["ctl", "kill", "mine"]).status.success());
    gateway.until("all are gone", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

#[test]
fn a_stubborn_program_and_what_it_started_do_not_outlive_a_killed_supervisor() {
    let mut gateway = gateway(STUBBORN);
    let pids = stubborn(&gateway);
    gateway.kill_supervisor();
    gateway.until("all are gone", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

fn tested(script: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("start.py");
    let example = root().join("docs");
    let start = format!("import sys\nsys.path.insert(0, '{}')\n{script}", example.display());
    std::fs::write(&path, start).unwrap();
    let output = std::process::Command::new(crate::gateway::PROGRAM)
        .args(["agent-test", "--", "python3"])
        .arg(path)
        .output()
        .unwrap();
    (output.status.code(), crate::gateway::stdout(&output))
}

/// The documented example, with a change to what it asks the gateway.
fn calling(change: &str) -> String {
    format!(
        "import agent, time\n\
         plain = agent.Gateway.call\n\
         def call(self, method, **params):\n\
         \x20   {change}\n\
         \x20   return plain(self, method, **params)\n\
         agent.Gateway.call = call\n\
         agent.main()\n"
    )
}

#[test]
fn the_documented_example_keeps_every_rule_and_breaches_are_told() {
    let (code, told) = tested(EXAMPLE);
    assert_eq!((code, told.contains("WRONG")), (Some(0), false), "{told}");
    assert!(told.contains("ok    a repeated event gives replies with the same keys"), "{told}");
    for (script, wrong) in [
        (
            "import agent\nprint('hello')\nagent.main()\n",
            "every line on its standard output is JSON: hello",
        ),
        (
            &*calling("if 'key' in params: params['key'] += str(time.time())"),
            "a repeated event gives replies with the same keys",
        ),
        (
            "import agent\ndef answer(event): raise ValueError('no')\nagent.answer = answer\nagent.main()\n",
            "it takes what is sent to it",
        ),
        ("pass\n", "it says initialize first"),
        ("sys.exit(3)\n", "it goes on running (it has ended: exit status: 3)"),
        (
            "import agent\nagent.LEASE_MS = 5\nagent.main()\n",
            "ready is as documented: lease_ms is 1000 to 600000",
        ),
        (
            &*calling("if 'key' in params: params['key'] = 'same'"),
            "other events give replies with other keys",
        ),
        (
            &*calling("if method == 'initialize': plain(self, 'ready', lease_ms=30000)"),
            "it says initialize first",
        ),
        (
            "import agent, os\n\
             def answer(event):\n\
             \x20   if event['kind'] != 'message': os._exit(1)\n\
             \x20   return 'x'\n\
             agent.answer = answer\n\
             agent.main()\n",
            "it answers an event of the kind \"edit\"",
        ),
        (
            &*calling("if method == 'initialize': params['protocol'] = 2"),
            "initialize is as documented: protocol must be 1",
        ),
        (
            &*calling("if method == 'initialize': params['concurrency'] = 'many'"),
            "initialize is as documented: ",
        ),
        (
            &*calling("if method == 'message.send': params['thread_id'] = 'x'"),
            "its replies name the account, the chat and the thread of the event",
        ),
        (
            &*calling("if method == 'message.send': params['key'] = 'k' + params['text']"),
            "other events give replies with other keys",
        ),
        (
            "import agent\n\
             agent.LEASE_MS = 1000\n\
             agent.Gateway.renew = lambda self: None\n\
             agent.main()\n",
            "it says again that it is ready before that runs out",
        ),
        (
            "import agent\n\
             plain = agent.Gateway.send\n\
             def send(self, line):\n\
             \x20   if line.get('result') == {} and 'method' not in line: del line['result']\n\
             \x20   plain(self, line)\n\
             agent.Gateway.send = send\n\
             agent.main()\n",
            "its answers have either a result or an error",
        ),
        (
            "import agent\n\
             plain = agent.Gateway.send\n\
             def send(self, line):\n\
             \x20   if line.get('result') == {} and 'method' not in line: plain(self, line)\n\
             \x20   plain(self, line)\n\
             agent.Gateway.send = send\n\
             agent.main()\n",
            "it answers each request once",
        ),
        (
            "import agent, time\n\
             plain = agent.Gateway.call\n\
             def call(self, method, **params):\n\
             \x20   if method == 'initialize': params['interrupt'] = True\n\
             \x20   return plain(self, method, **params)\n\
             def answer(event):\n\
             \x20   if event['event_id'] in ('11', '12'): time.sleep(1.2)\n\
             \x20   return 'x'\n\
             agent.Gateway.call = call\n\
             agent.answer = answer\n\
             agent.main()\n",
            "event.interrupt ends its work, as it says by interrupt: true",
        ),
        (
            "import agent\n\
             agent.LEASE_MS = 3000\n\
             agent.Gateway.handle = lambda self, request: None\n\
             agent.main()\n",
            "it answers the delivery of an event",
        ),
        (
            "import agent, threading\n\
             plain, send = agent.Gateway.call, agent.Gateway.send\n\
             def call(self, method, **params):\n\
             \x20   if 'key' not in params: return plain(self, method, **params)\n\
             \x20   late = lambda: plain(self, method, **params)\n\
             \x20   threading.Timer(0.05, late).start()\n\
             agent.Gateway.call = call\n\
             agent.main()\n",
            "its replies come before its answer to the event",
        ),
    ] {
        let (code, told) = tested(script);
        assert_eq!(code, Some(76), "{told}");
        assert!(told.contains(&format!("WRONG {wrong}")), "{told}");
    }
}

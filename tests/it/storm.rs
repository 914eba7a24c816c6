//! Many hands at once, and processes that do their worst (F01, F02, F04, F05, F08, F47, F55).

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::feishu::{Feishu, Observation};

use crate::gateway::{Gateway, PATIENCE, is_alive, signal, stderr};
use crate::traced::Trace;

const CONFIG: &str = "[platform.local]\n[platform.other]\nkind = \"local\"\n[agent.echo]\n";

fn pid(gateway: &Gateway, name: &str) -> u64 {
    gateway.wait_ready(name)["pid"].as_u64().unwrap()
}

/// Says lines and reads the answers, until its input ends.
fn chat(gateway: &Gateway, name: &str) -> Child {
    let mut command = gateway.command();
    command.args(["chat", "--name", name, "--timeout", "60s"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "figures for people")]
fn now() -> Instant {
    Instant::now()
}

pub(crate) fn pause(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

#[test]
fn after_each_of_a_hundred_kills_the_next_start_serves_without_help() {
    let mut gateway = Gateway::running(CONFIG);
    let mut random = fastrand::Rng::with_seed(7);
    let mut longest = Duration::ZERO;
    for round in 0..100 {
        let mut load = chat(&gateway, "load");
        let mut input = load.stdin.take().unwrap();
        // As fast as they are accepted, until the kill.
        let talk = std::thread::spawn(move || {
            let mut said = 0;
            while writeln!(input, "round {round} line {said}").is_ok() {
                said += 1;
            }
        });
        pause(Duration::from_millis(random.u64(0..60)));
        gateway.kill_supervisor();
        let since = now();
        gateway.start();
        longest = longest.max(since.elapsed());
        let _ = load.kill();
        let _ = talk.join();
        let _ = load.wait();
    }
    gateway.wait_ready("local");
    eprintln!("the longest start after a kill took {} ms", longest.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_commands_at_once_leave_one_supervisor_and_one_worker_each() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_storm", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"cli_storm\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ direct = \"open\" }}\n{CONFIG}",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    let Some(trace) = Trace::new(&gateway) else { return };
    trace.start(&mut gateway);
    gateway.wait_ready("feishu");
    let commands: [&[&str]; 5] = [
        &["supervise", "-q"],
        &["supervise", "--replace", "-q"],
        &["ctl", "restart"],
        &["ctl", "restart", "feishu", "--force"],
        &["ctl", "kill", "local"],
    ];
    let spawn = |args: &[&str]| {
        let mut command = gateway.command();
        command.args(args);
        let mut command = trace.of(&command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut storm: Vec<Child> = (0..50).map(|n| spawn(commands[n % commands.len()])).collect();
    // All but one end by themselves; that one is the supervisor, or the first one still is.
    let mut left = Vec::new();
    gateway.until("one supervisor is left", || {
        left.extend(storm.extract_if(.., |child| child.try_wait().unwrap().is_some()));
        (storm.len() <= 1).then_some(())
    });
    let first = u64::from(gateway.pid());
    let status = gateway.until("it serves", || gateway.status());
    let supervisor = status["pid"].as_u64().unwrap();
    match storm.first() {
        Some(successor) => assert_eq!(supervisor, u64::from(successor.id())),
        None => assert_eq!(supervisor, first),
    }
    assert!(gateway.run(&["ctl", "start"]).status.success());
    for name in ["feishu", "local", "other", "echo"] {
        gateway.wait_ready(name);
    }
    let workers = supervisor::identity::children(u32::try_from(supervisor).unwrap());
    assert_eq!(workers.len(), 4, "{workers:?}");
    feishu.wait_connections("cli_storm", 1, PATIENCE).await;
    if let Some(mut successor) = storm.pop() {
        signal(supervisor, "TERM");
        assert_eq!(successor.wait().unwrap().code(), Some(0));
        assert_eq!(gateway.left(), Some(0), "replaced politely");
    }
    // None of the commands was forced against a supervisor: only workers of theirs were signalled.
    let (sent, made) = (trace.sent(), trace.made());
    let strange: Vec<_> = sent.iter().filter(|sent| !made.contains(&sent.to)).collect();
    assert!(strange.is_empty() && !sent.is_empty(), "{strange:?}");
}

#[test]
fn decoys_are_never_signalled() {
    // One that sits on our port.
    let sits = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); \
                print(s.getsockname()[1], flush=True); time.sleep(600)";
    let mut sitter = Command::new("python3");
    let mut sitter = sitter.args(["-c", sits]).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(sitter.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\nagent = \"echo\"\n[platform.other]\nkind = \"local\"\nagent = \"echo\"\n\
         [agent.echo]\n[agent.hermes]\nkind = \"relay\"\nlisten = \"127.0.0.1:{}\"\n\
         id = \"hermes\"\nsecret_file = \"secret\"\n",
        port.trim()
    ));
    std::fs::write(gateway.path("secret"), "0123456789abcdef0123456789abcdef").unwrap();
    let Some(trace) = Trace::new(&gateway) else {
        sitter.kill().unwrap();
        sitter.wait().unwrap();
        return;
    };
    trace.start(&mut gateway);
    let mut supervisors = BTreeSet::from([gateway.pid()]);
    gateway.wait_ready("local");
    gateway.wait("hermes", "has no port", |i| {
        i["reason"].as_str().is_some_and(|why| why.contains("Address already in use"))
    });
    // Processes that look exactly like ours, one of them named by a left-over file.
    let decoy = |words: &str| {
        let script = format!("exec -a \"$0\" sleep 600 # {words}");
        let name = format!(
            "{} --state-dir {} {words}",
            crate::gateway::PROGRAM,
            gateway.state().display()
        );
        Command::new("bash").args(["-c", &script, &name]).spawn().unwrap()
    };
    let mut decoys = vec![decoy("supervise"), decoy("worker local"), decoy("worker echo"), sitter];
    let named = supervisor::identity::of(decoys[0].id()).unwrap();
    let stale = serde_json::json!({
        "pid": named.pid, "start": named.start, "boot": named.boot, "version": "0.1.0",
        "started_ms": 0, "manager": "none", "socket": gateway.socket(),
    });
    let names = ["local", "other", "echo"];
    for args in [
        &["ctl", "restart", "local", "other", "echo"][..],
        &["ctl", "restart", "local", "other", "echo", "--force"],
        &["ctl", "kill", "local"],
    ] {
        let output = trace.run(&gateway, args);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    gateway.kill_supervisor();
    std::fs::write(gateway.state().join("lock"), stale.to_string()).unwrap();
    let output = trace.run(&gateway, &["ctl", "kill", "--force"]);
    assert!(output.status.success(), "nobody is there: {}", stderr(&output));
    std::fs::write(gateway.state().join("lock"), stale.to_string()).unwrap();
    trace.start(&mut gateway);
    supervisors.insert(gateway.pid());
    for name in names {
        gateway.wait_ready(name);
    }
    assert!(trace.run(&gateway, &["ctl", "kill", "--force"]).status.success());
    gateway.left();

    // The kernel says that somebody holds the lock, and the file names another: nobody is signalled.
    let lock = std::fs::File::open(gateway.state().join("lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(gateway.state().join("lock"), stale.to_string()).unwrap();
    let output = trace.run(&gateway, &["ctl", "kill", "--force", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(71));
    assert!(stderr(&output).contains("nothing was signalled"), "{}", stderr(&output));
    assert_eq!(trace.run(&gateway, &["supervise"]).status.code(), Some(75));
    for decoy in &mut decoys {
        assert!(decoy.try_wait().unwrap().is_none(), "a stranger was signalled");
        decoy.kill().unwrap();
        decoy.wait().unwrap();
    }
    // Whoever was signalled was a child of ours, or the proven holder of the lock.
    let (sent, ours) = (trace.sent(), &trace.made() | &supervisors);
    let strange: Vec<_> = sent.iter().filter(|sent| !ours.contains(&sent.to)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(sent.iter().any(|sent| supervisors.contains(&sent.to)), "the last one was killed");
    assert!(sent.len() > 10, "{sent:?}");
}

/// F04: two managers that start with default options, again and again: one serves, nobody is signalled.
#[test]
fn two_managers_exchange_no_signal() {
    let mut gateway = Gateway::new(CONFIG);
    let Some(trace) = Trace::new(&gateway) else { return };
    trace.start(&mut gateway);
    let workers = ["local", "other", "echo"].map(|name| pid(&gateway, name));
    for _ in 0..20 {
        let second = trace.run(&gateway, &["supervise"]);
        assert_eq!(second.status.code(), Some(75));
        let told = stderr(&second);
        assert!(told.contains(&format!("pid {}", gateway.pid())), "{told}");
    }
    assert_eq!(["local", "other", "echo"].map(|name| pid(&gateway, name)), workers);
    assert_eq!(trace.sent(), []);
}

/// F55: what happens to one worker is nobody else's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_trouble_troubles_no_other() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_calm", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"cli_calm\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ direct = \"open\" }}\n{CONFIG}",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    let calm = ["feishu", "echo"].map(|name| pid(&gateway, name));
    let connections = feishu.connections("cli_calm");
    let supervisor = gateway.pid();
    let mut random = fastrand::Rng::with_seed(11);
    // Longer for a torture run.
    let rounds = std::env::var("HERMES_GW_CHAOS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut said = 0;
    for _ in 0..rounds {
        let victim = ["local", "other"][random.usize(0..2)];
        if let Some(pid) = gateway.instance(victim)["pid"].as_u64() {
            let name = ["KILL", "STOP", "TERM", "ABRT"][random.usize(0..4)];
            let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
            if name == "STOP" {
                let _ = gateway.run(&["ctl", "restart", victim, "--force"]);
            }
        }
        let push = feishu.push_text("cli_calm", "oc_calm", "ou_user", &format!("message {said}"));
        // The platform itself promises no order of what it sends at the same moment.
        push.pushed_within(1, PATIENCE).await;
        said += 1;
        pause(Duration::from_millis(random.u64(0..60)));
        if random.u8(0..8) == 0 {
            // What has died too often is held until somebody acts.
            let _ = gateway.run(&["ctl", "restart", victim, "--no-wait"]);
        }
    }
    let is_sent = |what: &Observation| matches!(what, Observation::Sent(_));
    feishu.wait_count("replies", PATIENCE, said, |entry| is_sent(&entry.what)).await;
    let texts: Vec<_> = feishu.sent().iter().map(|sent| sent.text().unwrap()).collect();
    let expected: Vec<_> = (0..said).map(|n| format!("message {n}")).collect();
    assert_eq!(texts, expected, "every one once, in order");
    assert_eq!(["feishu", "echo"].map(|name| pid(&gateway, name)), calm);
    assert_eq!(feishu.connections("cli_calm"), connections);
    assert_eq!(gateway.status().unwrap()["pid"], Value::from(supervisor));
    assert!(gateway.run(&["ctl", "restart", "local", "other"]).status.success());
    assert!(is_alive(supervisor.into()));
}

//! Disks that are full, disks that fail to sync, and files that somebody takes away: nothing is acknowledged
//! that is not there, and nothing that is there is lost (F14, F72, F102).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::feishu::{EventHandle, Feishu, Schedule};

use crate::gateway::{Gateway, PATIENCE, PROGRAM, is_alive};
use crate::socket_agent::{Lines, reply};

const APP: &str = "cli_disk";

async fn platform() -> Feishu {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    // Repeated soon and often, until it is acknowledged.
    feishu.configure(|settings| {
        settings.schedule = Schedule {
            answer_within: std::time::Duration::from_millis(500),
            pauses: vec![std::time::Duration::from_millis(200); 500],
        };
    });
    feishu
}

fn gateway(feishu: &Feishu) -> Gateway {
    let gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n[agent.hermes]\nkind = \"socket\"\nmax_attempts = 50\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway
}

/// An agent that answers everything, and acknowledges what it has answered, until it has heard `all`. What
/// it has acknowledged does not come again; what comes again says so.
fn answer_all(gateway: &Gateway, all: &BTreeSet<String>) {
    gateway.wait("hermes", "listening", |i| i["phase"] == "ready");
    let mut agent = Lines::dial(&gateway.state().join("agent-hermes.sock"));
    agent.call("initialize", &json!({ "protocol": 1 }));
    agent.call("ready", &json!({ "lease_ms": 600_000 }));
    let (mut under_way, mut offered) = (BTreeMap::new(), BTreeSet::new());
    let mut answered = BTreeSet::new();
    while answered.len() < all.len() {
        let line = agent.hear();
        if line["method"] == "event.deliver" {
            let text = line["params"]["text"].as_str().unwrap();
            let name = text.split(' ').next().unwrap().to_owned();
            assert!(all.contains(&name) && !answered.contains(&name), "{name}");
            let again = !offered.insert(name.clone());
            assert!(!again || line["params"]["attempt"].as_u64() > Some(1), "{name} unmarked");
            let params = reply(&line, &name, "done");
            agent.say(&json!({ "jsonrpc": "2.0", "id": name, "method": "message.send", "params": params }));
            under_way.insert(name, line["id"].clone());
        } else if let Some((name, id)) =
            line["id"].as_str().and_then(|name| under_way.remove_entry(name))
        {
            if line["error"].is_null() {
                agent.say(&json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
                answered.insert(name);
            } else {
                let error =
                    json!({ "code": 1, "message": "no room", "data": { "retry_after_ms": 100 } });
                agent.say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
            }
        }
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A small disk of its own, taken away with the test.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn all_are_answered(gateway: &Gateway, pushed: Vec<(String, EventHandle)>) {
    let all: BTreeSet<String> = pushed.iter().map(|(name, _)| name.clone()).collect();
    answer_all(gateway, &all);
    for (_, event) in pushed {
        event.acked().await;
    }
    gateway.wait("feishu", "nothing waits", |i: &Value| {
        i["store"]["waiting"] == 0 && i["store"]["replies"] == 0
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_and_recovers_by_itself() {
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    let Some(disk) = Disk::mount(&gateway.state(), "6m") else {
        eprintln!("skipped: only root can make a small disk");
        return;
    };
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let mut pushed: Vec<(String, EventHandle)> = Vec::new();
    let filler = "x".repeat(30_000);
    // More than fits, to an agent that is away.
    for n in 0..300 {
        let chat = format!("oc_{}", n % 10);
        let text = format!("m{n} {filler}");
        pushed.push((format!("m{n}"), feishu.push_text(APP, &chat, "ou_ann", &text)));
    }
    // In each chat; what is said behind a refused one waits at the platform.
    let status = gateway.wait("feishu", "refusals", |i| {
        i["store"]["refused"].as_u64() > Some(10) && i["store"]["waiting"].as_u64() > Some(10)
    });
    assert!(status["store"]["waiting"].as_u64() < Some(300), "{status}");
    assert_eq!(status["phase"], "ready", "{status}");
    // Who looks at the whole alone sees it, too.
    gateway.until("the whole is no better", || {
        (gateway.status()?["state"] == "degraded").then_some(())
    });
    // What it holds goes out: settlements find room, and then what was refused does.
    all_are_answered(&gateway, pushed).await;
    assert!(is_alive(gateway.pid().into()));
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    drop(disk);
}

/// F72
#[test]
fn replies_for_which_there_is_no_room_are_refused_and_counted() {
    let mut gateway = Gateway::new("[platform.local]\n[agent.mine]\nkind = \"socket\"\n");
    let Some(disk) = Disk::mount(&gateway.state(), "6m") else {
        eprintln!("skipped: only root can make a small disk");
        return;
    };
    gateway.start();
    let mut agent = Lines::ready(&gateway);
    let text = "x".repeat(300_000);
    let mut refused = 0;
    for n in 0..100 {
        let send =
            json!({ "key": n.to_string(), "instance": "local", "chat_id": "c", "text": text });
        let answer = agent.ask("message.send", &send);
        if !answer["error"].is_null() {
            assert_eq!(answer["error"]["code"], -32001, "{answer}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert_eq!(gateway.instance("mine")["gate"]["refused"], refused);
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    drop(disk);
}

/// The program on a disk where this call fails from the n-th on.
fn failing(gateway: &Gateway, call: &str, from: usize) -> Command {
    let inject = format!("inject={call}:error=EIO:when={from}+");
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", &format!("trace={call}"), "-e", &inject]).arg(PROGRAM);
    command.arg("--config").arg(gateway.path("config.toml"));
    command.arg("--state-dir").arg(gateway.state());
    command
}

#[test]
fn a_file_system_that_cannot_keep_anything_is_refused_before_anything_is_promised() {
    if !has("strace") {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let mut gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    let refused = failing(&gateway, "fdatasync", 1).arg("supervise").output().unwrap();
    let log = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(74), "{log}");
    assert!(log.contains("not fit") && log.contains("on a local disk"), "{log}");
    assert!(!gateway.state().join("store.db").exists());
    // Nothing is left in the way.
    gateway.start();
    gateway.wait("local", "ready", |i| i["phase"] == "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_the_supervisor_and_nothing_was_acknowledged_that_is_not_there() {
    if !has("strace") {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    let mut pushed: Vec<(String, EventHandle)> = Vec::new();
    for (round, call) in ["fdatasync", "pwrite64", "fdatasync"].into_iter().enumerate() {
        // From some call on, every one fails: a disk that has died does not come back.
        let command = failing(&gateway, call, 20 + 17 * round);
        gateway.start_as(command);
        // One after the other, so that each needs a commit; the last one has none.
        let mut n = 0;
        while is_alive(gateway.pid().into()) {
            assert!(n < 1000, "it goes on without a disk: {}", gateway.log());
            let name = format!("m{round}-{n}");
            let chat = format!("oc_{}", n % 6);
            let event = feishu.push_text(APP, &chat, "ou_ann", &name);
            let next = std::time::Duration::from_millis(50);
            let _ = tokio::time::timeout(next, event.acked()).await;
            pushed.push((name, event));
            n += 1;
        }
        assert_eq!(gateway.left(), Some(74), "{}", gateway.log());
        assert!(gateway.log().contains("the store can keep nothing more"), "{}", gateway.log());
    }
    gateway.start();
    all_are_answered(&gateway, pushed).await;
}

/// How many frames of the store's log are of the log in use.
fn frames(log: &[u8]) -> usize {
    let salts = &log[16..24];
    log[32..].chunks_exact(4120).take_while(|frame| &frame[8..16] == salts).count()
}

/// The engine ends the log there, and takes what is behind it for a leftover (F71).
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_byte_in_the_stores_log_costs_nothing_and_is_told() {
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let path = gateway.state().join("store.db-wal");
    let mut pushed = Vec::new();
    // Where there is a pause, the log begins anew.
    while pushed.len() < 300 || frames(&std::fs::read(&path).unwrap()) < 100 {
        let name = format!("m{}", pushed.len());
        let event = feishu.push_text(APP, &format!("oc_{}", pushed.len() % 10), "ou_ann", &name);
        event.acked().await;
        pushed.push((name, event));
    }
    gateway.kill_supervisor();
    let mut log = std::fs::read(&path).unwrap();
    let middle = 32 + frames(&log) / 2 * 4120 + 24 + 2000;
    log[middle] ^= 1;
    std::fs::write(&path, &log).unwrap();
    gateway.start();
    all_are_answered(&gateway, pushed).await;
    let told = gateway.log();
    assert!(told.contains("damaged") && told.contains("events=300"), "{told}");
    let mut kept = std::fs::read_dir(gateway.state())
        .unwrap()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("store.db-wal.damaged-"));
    assert_eq!(std::fs::read(kept.next().unwrap().path()).unwrap(), log, "it is kept as it was");
}

/// Messages, until the gateway has left.
async fn load(feishu: &Feishu, gateway: &Gateway, round: &str) -> Vec<(String, EventHandle)> {
    let mut pushed = Vec::new();
    while is_alive(gateway.pid().into()) {
        assert!(pushed.len() < 2000, "it goes on without its files: {}", gateway.log());
        let name = format!("{round}-{}", pushed.len());
        let chat = format!("oc_{}", pushed.len() % 6);
        let event = feishu.push_text(APP, &chat, "ou_ann", &name);
        let next = std::time::Duration::from_millis(20);
        let _ = tokio::time::timeout(next, event.acked()).await;
        pushed.push((name, event));
    }
    pushed
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_taken_away_under_load_end_the_supervisor_and_nothing_is_lost() {
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    let mut pushed: Vec<(String, EventHandle)> = Vec::new();
    for (round, says) in [("everything", "put back"), ("lock", "nothing is lost")] {
        gateway.start();
        feishu.wait_connected(APP, 1, PATIENCE).await;
        gateway.wait_ready("feishu");
        let state = gateway.state();
        let remove = async {
            // Some are accepted before, some are under way.
            let first = feishu.push_text(APP, "oc_1", "ou_ann", &format!("{round}-first"));
            first.acked().await;
            let accepted = (format!("{round}-first"), first);
            match round {
                "everything" => std::fs::remove_dir_all(&state).unwrap(),
                file => std::fs::remove_file(state.join(file)).unwrap(),
            }
            accepted
        };
        let (first, rest) = tokio::join!(remove, load(&feishu, &gateway, round));
        pushed.push(first);
        pushed.extend(rest);
        assert_eq!(gateway.left(), Some(74), "{}", gateway.log());
        let hint =
            gateway.log().lines().rfind(|line| line.starts_with("hint: ")).map(str::to_owned);
        assert!(hint.is_some_and(|hint| hint.contains(says)), "{round}: {}", gateway.log());
        assert!(state.join("store.db").exists() && !state.join("store.suspect").exists());
    }
    gateway.start();
    all_are_answered(&gateway, pushed).await;
}

/// As when a disk is unmounted, or its content replaced by a backup: what was accepted stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn another_state_in_its_place_is_left_alone_and_the_former_one_goes_on_when_it_is_back() {
    let feishu = platform().await;
    let mut gateway = gateway(&feishu);
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let before = feishu.push_text(APP, "oc_1", "ou_ann", "before");
    before.acked().await;
    let moved = gateway.path("moved");
    std::fs::rename(gateway.state(), &moved).unwrap();
    assert_eq!(gateway.left(), Some(74), "{}", gateway.log());
    let log = gateway.log();
    assert!(log.contains(moved.join("store.db").to_str().unwrap()), "{log}");
    // The service manager starts it again: it serves, and knows nothing of what was before.
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    let after = feishu.push_text(APP, "oc_1", "ou_ann", "after");
    after.acked().await;
    answer_all(&gateway, &BTreeSet::from(["after".to_owned()]));
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    gateway.left();
    std::fs::remove_dir_all(gateway.state()).unwrap();
    std::fs::rename(moved, gateway.state()).unwrap();
    gateway.start();
    answer_all(&gateway, &BTreeSet::from(["before".to_owned()]));
}

/// A sync takes five seconds: nothing hangs, and what is slow is told.
#[test]
fn a_slow_disk_keeps_nobody_waiting_who_asks_how_everything_is() {
    let mut gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    if !has("strace") {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let supervise = gateway.command();
    let mut slowed = Command::new("strace");
    slowed.args([
        "-D",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
    ]);
    // The first ones make the store.
    slowed.args(["-e", "inject=fdatasync,fsync:delay_enter=9000000:when=30+"]);
    slowed.arg(supervise.get_program()).args(supervise.get_args());
    gateway.start_as(slowed);
    let mut terminal = crate::terminal::Terminal::join(&gateway);
    gateway.wait_ready("echo");
    for n in 0..30 {
        terminal.says(&format!("t{n}"), "hello");
    }
    let told = gateway.until("a sync is slow", || {
        let output = gateway.run(&["ctl", "status"]);
        assert!(output.status.success(), "{}", crate::gateway::stderr(&output));
        let told = crate::gateway::stdout(&output);
        told.contains("is slow: a sync has taken").then_some(told)
    });
    assert!(told.contains(": degraded, pid") && told.contains("hint: see what else"), "{told}");
    let output = gateway.run(&["ctl", "restart", "echo"]);
    assert!(output.status.success(), "{}", crate::gateway::stderr(&output));
}

//! Who asks, waits or listens while one supervisor goes and another comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tests::telegram::Telegram;

use crate::gateway::{Gateway, PROGRAM, stderr, stdout};
use crate::upgrade::script;

const CONFIG: &str = "[platform.local]\n[agent.echo]\n";

fn begin(gateway: &Gateway, args: &[&str]) -> Child {
    let mut command = gateway.command();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn who_follows_events_goes_on_with_what_comes_and_is_told_when_nobody_does() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let mut follower = begin(&gateway, &["ctl", "events"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut heard = |words: &str| {
        let found = lines.find(|line| line.as_ref().unwrap().contains(words));
        assert!(found.is_some(), "{words}");
    };
    heard("subscribed");
    let told = gateway.run(&["ctl", "upgrade"]);
    assert!(told.status.success(), "{}", stderr(&told));
    heard("subscribed");
    // What happened when nobody could listen.
    heard("\"upgraded\"");
    assert!(gateway.run(&["ctl", "restart", "local"]).status.success());
    heard("\"ready\"");
    gateway.kill_supervisor();
    gateway.start();
    heard("subscribed");
    heard("\"started\"");
    heard("\"ready\"");
    gateway.wait_ready("local");
    assert!(gateway.run(&["ctl", "restart", "local"]).status.success());
    heard("\"ready\"");
    follower.kill().unwrap();
    let mut told = String::new();
    follower.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    follower.wait().unwrap();
    assert_eq!(
        told.matches("connected again; what happened meanwhile follows").count(),
        2,
        "{told}"
    );

    let mut follower = begin(&gateway, &["ctl", "events", "--timeout", "0s"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    gateway.kill_supervisor();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: start one"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_restart_gets_it_from_the_program_that_takes_over() {
    let telegram = Telegram::start().await;
    telegram.add_bot("7700:secret", "test_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n{CONFIG}",
        telegram.base_url()
    ));
    std::fs::write(gateway.path("token"), "7700:secret\n").unwrap();
    gateway.start();
    gateway.wait_ready("telegram");
    telegram.stop_listening().await;
    let waiting = begin(&gateway, &["ctl", "restart", "telegram", "--timeout", "60s"]);
    let starting = |i: &Value| i["phase"] == "starting" && i["generation"] == 2;
    gateway.wait("telegram", "starting", |i| starting(i) && i["outside"] == "down");
    let told = gateway.run(&["ctl", "upgrade"]);
    assert!(told.status.success(), "{}", stderr(&told));
    telegram.listen_again().await;
    let told = waiting.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{}{}", stdout(&told), stderr(&told));
    assert!(stdout(&told).starts_with("telegram: restarted, ready in "), "{}", stdout(&told));
    assert_eq!(gateway.instance("telegram")["generation"], 2, "not once more");
}

/// A supervisor played by hand: what it answers to each request, connection by connection; `None` ends
/// the connection. What it was asked.
fn played(gateway: &Gateway, script: Vec<Vec<Option<Value>>>) -> JoinHandle<Vec<String>> {
    let answer = |result: Option<Value>| Some(json!({ "id": 1, "result": result? }));
    let script = script.into_iter().map(|lines| lines.into_iter().map(answer).collect());
    let supervisor = played_lines(gateway, script.collect());
    std::thread::spawn(move || {
        let heard = supervisor.join().unwrap().into_iter();
        heard.map(|asked| asked["method"].as_str().unwrap().to_owned()).collect()
    })
}

/// The same with whole lines.
fn played_lines(gateway: &Gateway, script: Vec<Vec<Option<Value>>>) -> JoinHandle<Vec<Value>> {
    std::fs::create_dir_all(gateway.state()).unwrap();
    let listener = UnixListener::bind(gateway.socket()).unwrap();
    let path = gateway.socket();
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        for answers in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let asked: Value = serde_json::from_str(&line).unwrap();
                heard.push(asked);
                let Some(answer) = answer else { break };
                stream.write_all((answer.to_string() + "\n").as_bytes()).unwrap();
            }
        }
        std::fs::remove_file(path).unwrap();
        heard
    })
}

/// Otherwise it would be said to have stopped, and go on.
#[test]
fn who_stops_a_supervisor_that_becomes_another_program_asks_that_one() {
    let status = Gateway::running(CONFIG).status().unwrap();
    let gateway = Gateway::new(CONFIG);
    let once = || vec![Some(status.clone()), None];
    let supervisor = played(&gateway, vec![once(), once()]);
    let told = gateway.run(&["ctl", "kill"]);
    assert!(told.status.success(), "{}", stderr(&told));
    assert!(stdout(&told).starts_with("supervisor: stopped in "), "{}", stdout(&told));
    assert_eq!(supervisor.join().unwrap(), ["status", "stop", "status", "stop"]);
}

/// Whoever follows goes on where an older supervisor, which knows no numbers, takes the place of a newer one.
#[test]
fn events_of_an_older_supervisor_are_followed_as_well() {
    let gateway = Gateway::new(CONFIG);
    let notice = |seq: Option<u64>| {
        let mut notice = json!({ "event": "subscribed", "at_ms": 1, "now": "serving" });
        if let Some(seq) = seq {
            notice["seq"] = json!(seq);
        }
        Some(notice)
    };
    let refused = json!({ "error": { "code": 64, "message": "unknown field `after`" } });
    let script = vec![vec![notice(Some(7))], vec![Some(refused)], vec![notice(None)]];
    let supervisor = played_lines(&gateway, script);
    let output = gateway.run(&["ctl", "events", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert_eq!(stdout(&output).matches("subscribed").count(), 2, "{}", stdout(&output));
    assert!(stderr(&output).contains("stands in journal.jsonl"), "{}", stderr(&output));
    let asked: Vec<_> = supervisor
        .join()
        .unwrap()
        .into_iter()
        .map(|asked| asked["params"]["after"].clone())
        .collect();
    assert_eq!(asked, [Value::Null, json!(7), Value::Null]);
}

fn parked(id: &str, parked_ms: u64) -> Value {
    json!({
        "id": id, "state": "parked", "instance": "local", "chat_id": "home", "attempts": 1,
        "received_ms": 1, "parked_ms": parked_ms, "reason": "why",
    })
}

fn page(items: &[Value]) -> Value {
    json!({ "schema": 1, "items": items, "more": false })
}

/// What was done before the answer got lost is not done once more, and the rest is.
#[test]
fn a_decision_that_an_upgrade_cuts_off_is_carried_out_once() {
    let gateway = Gateway::new(CONFIG);
    let (e1, e2, again) = (parked("e1", 5), parked("e2", 6), parked("e1", 9));
    let unknown = json!({ "id": "e3", "result": "unknown", "code": 64 });
    let replayed = json!({ "id": "e2", "result": "replayed", "code": 0 });
    let decided = json!({ "schema": 1, "results": [replayed, unknown] });
    let before = [page(&[e1]), page(std::slice::from_ref(&e2)), page(&[])].map(Some);
    let before = before.into_iter().chain([None]).collect();
    let after = [page(&[again]), page(&[e2]), decided].map(Some).to_vec();
    let supervisor = played(&gateway, vec![before, after]);
    let told = gateway.run(&["ctl", "parked", "replay", "e1", "e2", "e3"]);
    let words = "e1: replayed\ne2: replayed\ne3: nothing of this id is set aside\n";
    assert_eq!(
        (told.status.code(), stdout(&told).as_str()),
        (Some(64), words),
        "{}",
        stderr(&told)
    );
    let (look, decide) = ("parked.list", "parked.replay");
    assert_eq!(supervisor.join().unwrap(), [look, look, look, decide, look, look, decide]);
}

/// A copy that is not whole is none.
#[test]
fn a_backup_that_an_upgrade_cuts_off_is_made_anew() {
    let gateway = Gateway::new(CONFIG);
    let file = gateway.path("copy.db");
    let done = json!({ "schema": 1, "path": file, "bytes": 4096 });
    std::fs::create_dir_all(gateway.state()).unwrap();
    let listener = UnixListener::bind(gateway.socket()).unwrap();
    let half = file.clone();
    let supervisor = std::thread::spawn(move || {
        for answer in [None, Some(done)] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut String::new()).unwrap();
            assert!(!half.exists(), "what is there of it is removed");
            std::fs::write(&half, "half").unwrap();
            if let Some(result) = answer {
                let answer = json!({ "id": 1, "result": result }).to_string() + "\n";
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    let told = gateway.run(&["ctl", "backup", file.to_str().unwrap()]);
    assert!(told.status.success(), "{}", stderr(&told));
    supervisor.join().unwrap();
}

#[test]
fn an_upgrade_is_not_told_of_another_supervisor_that_has_come_instead() {
    let status = Gateway::running(CONFIG).status().unwrap();
    let gateway = Gateway::new(CONFIG);
    let mut other = status.clone();
    other["pid"] = json!(1);
    let supervisor = played(&gateway, vec![vec![Some(status), None], vec![Some(other)]]);
    let told = gateway.run(&["ctl", "upgrade"]);
    assert_eq!(told.status.code(), Some(75), "{}", stderr(&told));
    assert!(stderr(&told).contains("has ended, and pid 1 runs instead"), "{}", stderr(&told));
    assert_eq!(supervisor.join().unwrap(), ["status", "upgrade", "status"]);
}

/// It could take over, said the program, and then it ended.
#[test]
fn an_upgrade_ends_at_once_where_nobody_is_left() {
    let mut gateway = Gateway::running(CONFIG);
    gateway.wait_ready("local");
    let text = format!("case $* in *upgrade-check*) exec {PROGRAM} \"$@\";; esac\nexit 3");
    let next = script(&gateway, "next", &text);
    let told = gateway.run(&["ctl", "upgrade", "--program", next.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(69), "{}", stderr(&told));
    assert!(stderr(&told).contains("it ended without a word"), "{}", stderr(&told));
    assert_eq!(gateway.left(), Some(3));
}

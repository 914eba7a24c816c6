//! `ctl upgrade`: another program in the same process, with the same workers, links, lock and listener;
//! what agents work on stays with them, and a program that cannot take over is not used.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::feishu::{Feishu, Schedule};
use tests::telegram::Telegram;

use crate::gateway::{Gateway, PATIENCE, PROGRAM, stderr, stdout};
use crate::socket_agent::{Lines, reply};

pub(crate) const APP: &str = "cli_upgrade";
const MESSAGES: usize = 200;
const UPGRADES: usize = 5;

pub(crate) async fn gateway() -> (Feishu, Gateway) {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n[platform.local]\n[agent.mine]\nkind = \"socket\"\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    gateway.wait_ready("feishu");
    (feishu, gateway)
}

pub(crate) fn pids(gateway: &Gateway) -> Vec<Value> {
    ["feishu", "local", "mine"].map(|name| gateway.instance(name)["pid"].clone()).to_vec()
}

/// Another file with the same program.
fn copy(gateway: &Gateway, name: &str) -> PathBuf {
    let path = gateway.path(name);
    std::fs::copy(PROGRAM, &path).unwrap();
    path
}

/// Says nothing, and neither ends nor lets what it has started end.
pub(crate) const HANGS: &str =
    "setsid sleep 600 &\necho $! $$ > $0.tmp\nmv $0.tmp $0.pids\nsleep 600 & wait";

/// The processes of a script that is about to write them down.
pub(crate) fn pids_of(gateway: &Gateway, name: &str) -> Vec<u64> {
    let file = gateway.path(&format!("{name}.pids"));
    let text = gateway.until("it runs", || std::fs::read_to_string(&file).ok());
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

pub(crate) fn script(gateway: &Gateway, name: &str, text: &str) -> PathBuf {
    let path = gateway.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

pub(crate) fn upgrade(gateway: &Gateway, program: &std::path::Path) -> std::process::Output {
    gateway.run(&["ctl", "upgrade", "--program", program.to_str().unwrap()])
}

/// The program that a process runs.
fn runs(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_is_lost_and_no_connection_ends() {
    let (feishu, gateway) = gateway().await;
    let (connections, before) = (feishu.connections(APP), pids(&gateway));
    let supervisor = gateway.pid();
    let mut agent = Lines::ready(&gateway);
    // The agent answers everything while supervisors come and go.
    let answering = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut accepted = 0;
        while heard.len() < MESSAGES || accepted < MESSAGES {
            let line = agent.hear();
            if line["method"] == "event.deliver" {
                assert_eq!(line["params"]["attempt"], 1, "{line}");
                let text = line["params"]["text"].as_str().unwrap().to_owned();
                let params = reply(&line, &text, &text);
                agent.say(&json!({ "jsonrpc": "2.0", "id": text, "method": "message.send", "params": params }));
                let (chat, id) = (&line["params"]["chat_id"], &line["params"]["event_id"]);
                let id: u64 = id.as_str().unwrap().parse().unwrap();
                heard.push((chat.as_str().unwrap().to_owned(), id, text));
                agent.say(&json!({ "jsonrpc": "2.0", "id": line["id"], "result": {} }));
            } else if line["id"].is_string() {
                assert!(line["result"]["id"].is_string(), "{line}");
                accepted += 1;
            }
        }
        (agent, heard)
    });
    for round in 0..UPGRADES {
        let program = copy(&gateway, &format!("hermes-gw-{round}"));
        let from = round * MESSAGES / UPGRADES;
        let pushed: Vec<_> = (from..from + MESSAGES / UPGRADES)
            .map(|n| feishu.push_text(APP, &format!("oc_{}", n % 8), "ou_ann", &format!("m{n}")))
            .collect();
        let told = upgrade(&gateway, &program);
        assert!(told.status.success(), "{}{}", stderr(&told), gateway.log());
        assert!(stdout(&told).starts_with("supervisor: upgraded from "), "{}", stdout(&told));
        assert_eq!(runs(supervisor), program);
        for one in pushed {
            one.acked().await;
        }
    }
    let (_agent, heard) = answering.join().unwrap();
    gateway.wait("feishu", "every reply is sent", |i| {
        i["store"]["replies"] == 0 && i["store"]["waiting"] == 0
    });
    // Those of a chat come in the order in which they were accepted.
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (chat, id, _) in &heard {
        assert!(last.insert(chat, *id).is_none_or(|before| before < *id), "{heard:?}");
    }
    let mut heard: Vec<_> = heard.iter().map(|(_, _, text)| text.clone()).collect();
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), MESSAGES);
    let mut sent: Vec<_> =
        feishu.sent().iter().filter_map(tests::feishu::SentMessage::text).collect();
    sent.sort();
    assert_eq!(sent, heard, "one reply each");
    assert_eq!((gateway.pid(), pids(&gateway)), (supervisor, before), "the same processes");
    assert_eq!(feishu.connections(APP), connections, "the same connections");
    let second = gateway.run(&["supervise"]);
    assert_eq!(second.status.code(), Some(75), "the lock was never free");
    let children = std::fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count();
    assert!(children < 60, "{children} descriptors are open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_goes_on_and_workers_are_still_ours() {
    let (feishu, mut gateway) = gateway().await;
    let mut agent = Lines::ready(&gateway);
    feishu.push_text(APP, "oc_1", "ou_ann", "think about it").acked().await;
    let event = agent.event();
    let told = upgrade(&gateway, &copy(&gateway, "next"));
    assert!(told.status.success(), "{}", stderr(&told));
    // The second of the conversation waits for the first, which is still with the agent.
    feishu.push_text(APP, "oc_1", "ou_ann", "and about that").acked().await;
    assert_eq!(gateway.instance("mine")["gate"]["in_flight"], 1);
    agent.call("message.send", &reply(&event, "k", "thought"));
    agent.acknowledge(&event);
    let second = agent.event();
    assert_eq!(
        (&second["params"]["text"], &second["params"]["attempt"]),
        (&json!("and about that"), &json!(1))
    );
    agent.acknowledge(&second);
    feishu.wait_sent(PATIENCE, |sent| sent.text().as_deref() == Some("thought")).await;
    // Its children are the new program's to restart, judge and end.
    let pid = gateway.instance("feishu")["pid"].as_u64().unwrap();
    crate::gateway::signal(pid, "KILL");
    gateway.wait("feishu", "another", |i| i["phase"] == "ready" && i["generation"] == 2);
    let restarted = gateway.run(&["ctl", "restart", "local"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    let workers: Vec<_> = pids(&gateway).iter().filter_map(Value::as_u64).collect();
    assert!(gateway.run(&["ctl", "kill"]).status.success());
    assert_eq!(gateway.left(), Some(0));
    assert!(workers.into_iter().all(|pid| !crate::gateway::is_alive(pid)));
}

/// F88
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_take_over_is_not_used() {
    let (feishu, gateway) = gateway().await;
    let (connections, before) = (feishu.connections(APP), pids(&gateway));
    let garbage = gateway.path("garbage");
    std::fs::write(&garbage, "no program").unwrap();
    let not_executable = copy(&gateway, "not-executable");
    std::fs::set_permissions(&not_executable, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (program, code, why) in [
        (gateway.path("nowhere"), 66, "hint: name a program that is there"),
        (not_executable, 66, "hint: name a program that is there"),
        (garbage, 66, "hint: name a program that is there"),
        (script(&gateway, "crashes", "exit 3"), 75, "no hermes-gw"),
        (script(&gateway, "older", r#"echo '{"version":"0","format":0,"schema":9}'"#), 76, "older"),
        (
            script(
                &gateway,
                "wrong",
                r#"echo '{"version":"9","format":9,"schema":9,"problem":"no x"}'"#,
            ),
            75,
            "no x",
        ),
        (
            // It says that it could, and then it is not there any more.
            script(&gateway, "gone", &format!("{PROGRAM} upgrade-check; rm \"$0\"")),
            66,
            "start it",
        ),
    ] {
        let told = upgrade(&gateway, &program);
        assert_eq!(told.status.code(), Some(code), "{}: {}", program.display(), stdout(&told));
        let told = stderr(&told);
        assert!(told.contains(why) && told.contains("goes on as before"), "{told}");
    }
    assert_eq!(pids(&gateway), before);
    assert_eq!(feishu.connections(APP), connections);
    // It does go on: links that were paused are read again.
    let mut agent = Lines::ready(&gateway);
    feishu.push_text(APP, "oc_1", "ou_ann", "still there?").acked().await;
    let event = agent.event();
    agent.call("message.send", &reply(&event, "k", "yes"));
    agent.acknowledge(&event);
    feishu.wait_sent(PATIENCE, |sent| sent.text().as_deref() == Some("yes")).await;
    // It would not serve what is served now.
    std::fs::rename(gateway.path("secret"), gateway.path("away")).unwrap();
    let told = upgrade(&gateway, &copy(&gateway, "next"));
    assert_eq!(told.status.code(), Some(75));
    assert!(stderr(&told).contains("it would give feishu up: "), "{}", stderr(&told));
    std::fs::rename(gateway.path("away"), gateway.path("secret")).unwrap();
    let config = gateway.path("config.toml");
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + "[broken").unwrap();
    let told = upgrade(&gateway, &copy(&gateway, "next"));
    assert_eq!(told.status.code(), Some(75));
    assert!(stderr(&told).contains("line "), "{}", stderr(&told));
    assert_eq!(pids(&gateway), before);
}

/// What was asked whether it could take over is gone when that is known, with all that it has started.
#[test]
fn a_program_that_hangs_is_ended_and_so_is_what_it_started() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    gateway.wait_ready("local");
    // One has said nothing that helps and stays, the other never says anything.
    let silent = HANGS.replace("600 &", "600 > /dev/null &").replace("wait", "exec >&-\nwait");
    for (name, text) in [("silent", silent.as_str()), ("hangs", HANGS)] {
        let told = upgrade(&gateway, &script(&gateway, name, text));
        assert_eq!(told.status.code(), Some(75), "{}", stderr(&told));
        let pids = pids_of(&gateway, name);
        gateway.until("they are ended, and collected", || {
            let gone = |pid: &u64| !std::path::Path::new(&format!("/proc/{pid}")).exists();
            pids.iter().all(gone).then_some(())
        });
    }
    assert!(upgrade(&gateway, &copy(&gateway, "next")).status.success());
}

/// A program that changes what the old one left, as `change` says in Python, and becomes the usual one.
pub(crate) fn through(gateway: &Gateway, change: &str) -> PathBuf {
    let tamper = format!(
        "import sys, os, json\n\
        if '--resume' in sys.argv:\n    \
            fd = int(sys.argv[sys.argv.index('--resume') + 1])\n    \
            state = json.loads(os.pread(fd, 1 << 24, 0))\n    \
            {change}\n    \
            text = json.dumps(state).encode()\n    \
            os.ftruncate(fd, 0), os.pwrite(fd, text, 0)\n\
        os.execv(sys.argv[1], sys.argv[1:])\n"
    );
    let path = gateway.path("tamper.py");
    std::fs::write(&path, tamper).unwrap();
    script(gateway, "next", &format!("exec python3 {} {PROGRAM} \"$@\"", path.display()))
}

/// Nobody can set the clock of the machine for a test: what was noted by that clock is moved in its place.
#[test]
fn how_long_it_runs_survives_and_is_no_matter_of_the_wall_clock() {
    let gateway = Gateway::running("[platform.local]\n[agent.echo]\n");
    let since = |name: &str| gateway.wait_ready(name)["since_ms"].as_i64().unwrap();
    let before = ["local", "echo"].map(since);
    let up = |status: &Value| status["up_ms"].as_u64().expect("it says how long it runs");
    let was_up = up(&gateway.status().unwrap());
    for (name, hours) in [("back", -1000), ("forth", 1000)] {
        let change = format!("state['started_ms'] += {hours} * 3600000");
        let told = upgrade(&gateway, &through(&gateway, &change));
        assert!(told.status.success(), "{name}: {}{}", stderr(&told), gateway.log());
        let status = gateway.status().unwrap();
        assert!((was_up..3_600_000).contains(&up(&status)), "{name}: {status}");
        let told = stdout(&gateway.run(&["ctl", "status"]));
        let first = told.lines().next().unwrap();
        assert!(first.contains(", up ") && !first.contains(" d,"), "{name}: {first}");
        // Rounded twice.
        let after = ["local", "echo"].map(since);
        let is_kept = |(before, after): (i64, i64)| (before - after).abs() <= 3;
        assert!(before.into_iter().zip(after).all(is_kept), "{name}: {before:?} {after:?}");
    }
}

/// Telegram recognises no keys of replies, unlike Feishu and terminals.
#[tokio::test(flavor = "multi_thread")]
async fn replies_still_leave_where_the_platform_knows_no_keys() {
    let telegram = Telegram::start().await;
    telegram.add_bot("7700:secret", "test_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n[agent.echo]\n",
        telegram.base_url()
    ));
    std::fs::write(gateway.path("token"), "7700:secret\n").unwrap();
    gateway.start();
    let pid = gateway.wait_ready("telegram")["pid"].clone();
    for n in 1..=2 {
        let told = upgrade(&gateway, &copy(&gateway, &format!("next{n}")));
        assert!(told.status.success(), "{}{}", stderr(&told), gateway.log());
        telegram.push_text("7700:secret", 1000, &format!("m{n}"));
        telegram.wait_sent(PATIENCE, n).await;
    }
    assert_eq!(gateway.instance("telegram")["pid"], pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_called_off_half_way_loses_nothing() {
    let strace = std::process::Command::new("strace").arg("--version").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    // On a slow machine the second push is not heard either, and the third would come after five minutes.
    let pauses = vec![std::time::Duration::from_secs(5); 20];
    feishu.configure(|settings| settings.schedule = Schedule { pauses, ..Schedule::default() });
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n[agent.mine]\nkind = \"socket\"\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    // One sync of the store takes longer than an upgrade waits for answers, on a slow machine too.
    let slow = "inject=fdatasync:delay_enter=20000000:when=30";
    let mut command = std::process::Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", slow]);
    command.arg(PROGRAM).arg("--config").arg(gateway.path("config.toml"));
    command.arg("--state-dir").arg(gateway.state());
    gateway.start_as(command);
    feishu.wait_connected(APP, 1, PATIENCE).await;
    gateway.wait_ready("feishu");
    let mut pushed = Vec::new();
    loop {
        assert!(pushed.len() < 100, "no sync was slow");
        let text = format!("m{}", pushed.len());
        let event = feishu.push_text(APP, "oc_1", "ou_ann", &text);
        let soon = tokio::time::timeout(std::time::Duration::from_secs(2), event.acked()).await;
        pushed.push(event);
        if soon.is_err() {
            break;
        }
    }
    // By hand: `ctl` would first ask how it is, and wait for the store.
    let params = json!({ "program": copy(&gateway, "next"), "wait_ms": 1000 });
    let line = json!({ "id": 1, "method": "upgrade", "params": params });
    let told = gateway.ask(&line.to_string()).expect("it is not upgraded");
    assert_eq!(told["error"]["code"], 75, "{told}");
    assert!(told.to_string().contains("answered in time"), "{told}");
    // What was under way comes again over another worker, and all of it is heard once.
    let mut agent = Lines::ready(&gateway);
    for n in 0..pushed.len() {
        let event = agent.event();
        assert_eq!(event["params"]["text"], format!("m{n}"));
        agent.acknowledge(&event);
    }
    for event in pushed {
        event.acked().await;
    }
    gateway.wait("feishu", "nothing waits", |i| i["store"]["waiting"] == 0);
    // A verdict may have been half on its way: the former worker would have waited for it for ever.
    let feishu = gateway.wait_ready("feishu");
    assert_eq!(feishu["generation"], 2, "{feishu}");
    let cause = feishu["exits"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("an upgrade was called off"), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_files_it_does_not_become_another_program_with_nothing() {
    let (feishu, mut gateway) = gateway().await;
    feishu.push_text(APP, "oc_1", "ou_ann", "accepted").acked().await;
    let params = json!({ "program": copy(&gateway, "next"), "wait_ms": 1000 });
    let line = json!({ "id": 1, "method": "upgrade", "params": params });
    let mut tool = std::os::unix::net::UnixStream::connect(gateway.socket()).unwrap();
    // Most likely it would become the other program before it looks by itself.
    std::fs::remove_dir_all(gateway.state()).unwrap();
    std::io::Write::write_all(&mut tool, format!("{line}\n").as_bytes()).unwrap();
    assert_eq!(gateway.left(), Some(74), "{}", gateway.log());
    assert!(gateway.log().contains("put back"), "{}", gateway.log());
    gateway.start();
    gateway.wait_ready("feishu");
    assert_eq!(Lines::ready(&gateway).event()["params"]["text"], "accepted");
}

/// Whoever asks at the very moment has its connection ended, and asks again; what could do harm
/// twice is not.
#[test]
fn a_question_that_an_upgrade_cuts_off_is_asked_again() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n");
    std::fs::create_dir(gateway.state()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(gateway.state().join("gw.sock")).unwrap();
    let server = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let changed =
            json!({ "schema": 1, "instance": "local", "user": "ann", "result": "allowed" });
        let code = json!({ "code": "22222222", "user": "ann", "chat": "c", "until_ms": 0 });
        let rules = json!({ "schema": 1, "instances": [{
            "instance": "local", "direct": "pairing", "groups": "off", "users": [], "chats": [],
            "decided": [], "codes": [code]
        }] });
        let list = json!({ "schema": 1, "items": [], "more": false });
        // A connection each; it ends with its last answer, or where there is none.
        for answers in [
            vec![None],
            vec![Some(list)],
            vec![Some(rules.clone()), None],
            vec![Some(changed.clone())],
            vec![Some(rules)],
            vec![Some(changed)],
            vec![None],
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            for answer in answers {
                let mut line = String::new();
                std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
                heard.push(serde_json::from_str::<Value>(&line).unwrap()["method"].clone());
                if let Some(answer) = answer {
                    let answer = json!({ "id": 1, "result": answer }).to_string() + "\n";
                    std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
                }
            }
        }
        heard
    });
    let list = gateway.run(&["ctl", "parked", "list"]);
    assert!(list.status.success(), "{}", stderr(&list));
    assert_eq!(stdout(&list).trim(), "nothing is set aside");
    // A code holds once, but whom it was told to is known.
    for _ in 0..2 {
        let approved = gateway.run(&["ctl", "access", "approve", "2222-2222"]);
        assert!(approved.status.success(), "{}", stderr(&approved));
        assert_eq!(stdout(&approved), "local user ann: allowed\n");
    }
    // Nobody can tell whether it was done.
    let dropped = gateway.run(&["ctl", "telegram", "drop-pending", "local"]);
    assert_eq!(dropped.status.code(), Some(69), "{}", stderr(&dropped));
    let told = stderr(&dropped);
    assert!(told.contains("it may have been done, or not\nhint: "), "{told}");
    assert_eq!(
        server.join().unwrap(),
        [
            "parked.list",
            "parked.list",
            "access.list",
            "access.approve",
            "access.allow",
            "access.list",
            "access.allow",
            "telegram.drop_pending"
        ]
    );
}

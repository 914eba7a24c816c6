//! Platform `exec`: a program of the user's is the platform (`docs/exec-platform.md`). The platform of the program here
//! is files in the gateway's directory: `tests/it/platforms/files.py`.

mod lives;

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::gateway::{Gateway, is_alive, root, signal, stderr, stdout};
use crate::socket_agent::{Lines, reply};

const ECHO: &str = "[agent.echo]\n";
const SOCKET: &str = "[agent.mine]\nkind = \"socket\"\n";
const OPEN: &str = "access = { direct = \"open\", groups = \"all\" }\n";

/// The block of a platform in files.
fn block(rest: &str) -> String {
    let path = |name: &str| root().join(name).display().to_string();
    let (program, docs) = (path("tests/it/platforms/files.py"), path("docs"));
    format!(
        "[platform.files]\nkind = \"exec\"\ncommand = [\"python3\", {program:?}, {docs:?}]\n{rest}"
    )
}

/// A gateway whose platform is in files; `options` say what is special about that.
fn gateway(options: &Value, rest: &str) -> Gateway {
    let mut gateway = Gateway::new(&block(rest));
    std::fs::write(gateway.path("options.json"), format!("{options}\n")).unwrap();
    gateway.start();
    gateway
}

/// What somebody says in a chat of their own.
fn said(chat: &str, id: &str, text: &str) -> Value {
    json!({ "chat_id": chat, "chat_type": "direct", "user_id": chat, "message_id": id, "text": text,
        "origin_ms": 1_700_000_000_000_i64 })
}

fn append(gateway: &Gateway, name: &str, lines: &[Value]) {
    let options = std::fs::OpenOptions::new().create(true).append(true).open(gateway.path(name));
    let mut text = Vec::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    options.unwrap().write_all(&text).unwrap();
}

fn read(gateway: &Gateway, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.path(name)).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// So many lines of a file, once they are there.
fn wait(gateway: &Gateway, name: &str, count: usize) -> Vec<Value> {
    gateway.until(&format!("{count} lines of {name}"), || {
        let lines = read(gateway, name);
        (lines.len() >= count).then_some(lines)
    })
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

/// What the program calls, and what it is answered.
fn call(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let before = read(gateway, "calls").len();
    append(gateway, "calls", &[json!({ "method": method, "params": params })]);
    wait(gateway, "called", before + 1).pop().unwrap()
}

fn program(gateway: &Gateway, former: u64) -> u64 {
    gateway.until("another program", || {
        let pid = std::fs::read_to_string(gateway.path("pid")).ok()?.parse().ok()?;
        (pid != former && is_alive(pid)).then_some(pid)
    })
}

#[test]
fn a_program_is_a_platform() {
    let gateway = gateway(&json!({}), &format!("{OPEN}{ECHO}"));
    append(&gateway, "queue", &[said("ann", "m1", "hello"), said("ann", "m1", "hello")]);
    assert_eq!(wait(&gateway, "verdicts", 2), ["accepted", "duplicate"]);
    let sent = wait(&gateway, "sent", 1);
    assert_eq!(texts(&sent), ["hello"]);
    let whole = [&sent[0]["chat_id"], &sent[0]["reply_to"], &sent[0]["part"], &sent[0]["parts"]];
    assert_eq!(whole, [&json!("ann"), &json!("m1"), &json!(1), &json!(1)]);
    let ready = gateway.wait_ready("files");
    assert_eq!((&ready["kind"], &ready["account"]), (&json!("exec"), &json!("bot")));
    let told = &read(&gateway, "told")[0];
    assert_eq!((&told["instance"], &told["protocol"]), (&json!("files"), &json!(1)));
    assert!(told["cursor"].is_null(), "{told}");
    gateway.wait("files", "the reply is sent", |i| i["store"]["sent"] == 1);
}

#[test]
fn nobody_may_speak_who_is_not_let_in() {
    let gateway = gateway(&json!({}), ECHO);
    append(&gateway, "queue", &[said("ann", "m1", "hello")]);
    assert_eq!(wait(&gateway, "verdicts", 1), ["denied"]);
    assert!(gateway.run(&["ctl", "access", "allow", "files", "ann"]).status.success());
    append(&gateway, "queue", &[said("ann", "m2", "hello again")]);
    assert_eq!(wait(&gateway, "verdicts", 2)[1], "accepted");
    assert_eq!(texts(&wait(&gateway, "sent", 1)), ["hello again"]);
}

#[test]
fn what_is_said_while_no_agent_is_ready_arrives_once_and_in_order() {
    let gateway = gateway(&json!({}), &format!("{OPEN}{SOCKET}"));
    let events: Vec<_> = (0..200)
        .map(|n| said(&format!("chat{}", n % 10), &format!("m{n}"), &n.to_string()))
        .collect();
    append(&gateway, "queue", &events);
    let verdicts = wait(&gateway, "verdicts", 200);
    assert!(verdicts.iter().all(|verdict| verdict == "accepted"));
    let mut agent = Lines::ready(&gateway);
    let mut heard: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for _ in 0..200 {
        let delivery = agent.event();
        let event = &delivery["params"];
        assert_eq!((&event["attempt"], &event["platform"]), (&json!(1), &json!("files")));
        let chat = event["chat_id"].as_str().unwrap().to_owned();
        heard.entry(chat).or_default().push(event["text"].as_str().unwrap().parse().unwrap());
        agent.say(&json!({ "jsonrpc": "2.0", "id": delivery["id"], "result": {} }));
    }
    let expected =
        (0..10).map(|chat| (format!("chat{chat}"), (0..20).map(|n| n * 10 + chat).collect()));
    assert_eq!(heard, expected.collect());
    gateway.wait("files", "nothing waits", |i| i["store"]["waiting"] == 0);
}

#[test]
fn what_is_not_stored_is_not_acknowledged_and_said_again() {
    let gateway = gateway(&json!({}), &format!("inbox = {{ max_events = 5 }}\n{OPEN}{SOCKET}"));
    let events: Vec<_> = (0..12).map(|n| said("ann", &format!("m{n}"), &n.to_string())).collect();
    append(&gateway, "queue", &events);
    gateway.wait("files", "one is refused", |i| i["store"]["refused"].as_u64() > Some(0));
    assert_eq!(read(&gateway, "verdicts").len(), 5);
    let mut agent = Lines::ready(&gateway);
    for n in 0..12 {
        let delivery = agent.event();
        assert_eq!(delivery["params"]["text"], n.to_string());
        agent.acknowledge(&delivery);
    }
    assert!(wait(&gateway, "verdicts", 12).iter().all(|verdict| verdict == "accepted"));
}

const ALL: usize = 120;

fn chat_of(n: usize) -> String {
    format!("chat{}", n % 6)
}

/// Kills the program, its worker and the supervisor by turns while messages are said and answered.
fn killed(options: &Value) -> Gateway {
    let mut gateway = gateway(options, &format!("{OPEN}{ECHO}"));
    for n in 0..ALL {
        append(&gateway, "queue", &[said(&chat_of(n), &format!("m{n}"), &n.to_string())]);
        if n % 20 != 10 {
            continue;
        }
        wait(&gateway, "sent", n / 2);
        let pid = program(&gateway, 0);
        match n / 20 % 3 {
            0 => signal(pid, "KILL"),
            1 => signal(gateway.wait_ready("files")["pid"].as_u64().unwrap(), "KILL"),
            _ => {
                gateway.kill_supervisor();
                gateway.start();
            }
        }
        program(&gateway, pid);
    }
    append(&gateway, "queue", &[said("last", "last", "last")]);
    gateway
        .until("the last one", || texts(&read(&gateway, "sent")).contains(&"last").then_some(()));
    gateway.wait("files", "all is settled", |i| {
        i["store"]["waiting"] == 0 && i["store"]["replies"] == 0
    });
    gateway
}

/// What was said to each chat.
fn by_chat(sent: &[Value]) -> BTreeMap<&str, Vec<usize>> {
    let mut chats: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in sent.iter().filter(|line| line["text"] != "last") {
        let said = line["text"].as_str().unwrap().parse().unwrap();
        chats.entry(line["chat_id"].as_str().unwrap()).or_default().push(said);
    }
    chats
}

#[test]
fn whoever_is_killed_nothing_is_lost_and_no_reply_comes_twice() {
    let gateway = killed(&json!({ "initialize": { "idempotent_ms": 3_600_000 } }));
    for (chat, said) in by_chat(&read(&gateway, "sent")) {
        let expected: Vec<_> = (0..ALL).filter(|n| chat_of(*n) == chat).collect();
        assert_eq!(said, expected, "{chat}");
    }
    // What is handed over at each start is what was durable.
    let told = read(&gateway, "told");
    let cursors: Vec<_> = told.iter().map(|told| told["cursor"].as_u64().unwrap_or(0)).collect();
    assert!(cursors.len() > 6 && cursors.is_sorted() && cursors[1] > 0, "{cursors:?}");
}

/// A platform that knows no repetition gets none.
#[test]
fn whoever_is_killed_a_reply_comes_once_or_nobody_knows() {
    let gateway = killed(&json!({}));
    let sent = read(&gateway, "sent");
    let said = by_chat(&sent);
    let all: usize = said.values().map(Vec::len).sum();
    // Of each kill at most those that were on their way.
    assert!((ALL - 6 * 6..=ALL).contains(&all), "{all}");
    for (chat, said) in said {
        assert!(said.is_sorted_by(|a, b| a < b), "{chat}: {said:?}");
    }
}

#[test]
fn a_reply_whose_end_nobody_knows_is_not_sent_again() {
    let gateway = gateway(&json!({ "dies_after_sending": true }), &format!("{OPEN}{ECHO}"));
    append(&gateway, "queue", &[said("ann", "m1", "hello")]);
    let state = gateway.wait("files", "it is told", |i| i["store"]["unknown"] == 1);
    assert_eq!(state["store"]["sent"], 0, "{state}");
    assert_eq!(read(&gateway, "sent").len(), 1);
}

/// It is told so before its input ends, and its last answers are heard.
#[test]
fn a_restart_lets_a_program_finish_what_it_sends() {
    let gateway = gateway(&json!({ "slow": 0.7 }), &format!("{OPEN}{ECHO}"));
    append(&gateway, "queue", &[said("ann", "m1", "hello")]);
    wait(&gateway, "begun", 1);
    assert!(gateway.run(&["ctl", "restart", "files"]).status.success());
    let state = gateway.wait("files", "the reply has ended", |i| {
        ["sent", "unknown", "failed"].iter().any(|how| i["store"][how] != 0)
    });
    assert_eq!(state["store"]["sent"], 1, "{state}");
    assert_eq!(texts(&read(&gateway, "sent")), ["hello"]);
}

#[test]
fn a_long_reply_goes_in_parts_and_on_where_it_was_interrupted() {
    let limits = json!({ "text_limit": 20, "text_unit": "utf16" });
    let options = json!({ "initialize": limits,
        "faults": { "two": { "message": "wait", "after_ms": 200, "times": 1 } } });
    let gateway = gateway(&options, &format!("{OPEN}{ECHO}"));
    append(
        &gateway,
        "queue",
        &[said("ann", "m1", "one one one one\n\ntwo two two two\n\nthree three")],
    );
    let sent = wait(&gateway, "sent", 3);
    let of = |name: &str| sent.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("text"), ["one one one one\n\n", "two two two two\n\n", "three three"]);
    assert_eq!(
        (of("part"), of("attempt")),
        (vec![json!(1), json!(2), json!(3)], vec![json!(1), json!(2), json!(2)])
    );
    let key = sent[0]["key"].as_str().unwrap();
    assert_eq!(of("key"), [key.to_owned(), format!("{key}-2"), format!("{key}-3")]);
    assert_eq!((of("reply_to")), [json!("m1"), Value::Null, Value::Null]);
    gateway.wait("files", "the reply is sent", |i| i["store"]["sent"] == 1);
}

#[test]
fn what_a_program_cannot_do_is_refused_and_what_it_can_is_asked_of_it() {
    let can = ["edit", "files", "drafts", "busy", "fetch"];
    let options = json!({ "initialize": { "can": can }, "numbers": true });
    let gateway = gateway(&options, &format!("{OPEN}{SOCKET}"));
    let mut agent = Lines::ready(&gateway);
    let mut event = said("ann", "m1", "hello");
    event["parts"] = json!([{ "kind": "image", "handle": "h1", "mime": "image/png" }]);
    append(&gateway, "queue", &[event]);
    let delivery = agent.event();
    assert_eq!(wait(&gateway, "busy", 1)[0]["on"], true);

    let part = &delivery["params"]["parts"][0];
    let wish = json!({ "instance": "files", "message_id": "m1", "part": part });
    let file = agent.call("file.fetch", &wish);
    assert_eq!((&file["size"], &file["mime"]), (&json!(15), &json!("image/png")));
    assert_eq!(std::fs::read_to_string(file["path"].as_str().unwrap()).unwrap(), "the bytes of h1");

    let mut draft = reply(&delivery, "k1", "so far");
    agent.call("message.draft", &draft);
    assert_eq!(texts(&wait(&gateway, "drafts", 1)), ["so far"]);
    draft["text"] = json!("so far and no further");
    draft["files"] = json!([{ "kind": "file", "file": "brought" }]);
    agent.call("message.send", &draft);
    let sent = wait(&gateway, "sent", 1);
    assert_eq!(
        (&sent[0]["draft"], &sent[0]["files"][0]["content"]),
        (&json!("d1"), &json!("the bytes of h1"))
    );
    let arrived = agent.until(|line| line["method"] == "message.receipt");
    assert_eq!(arrived["params"]["message_ids"], json!(["0"]), "a number is an id, too");

    let mut edit = reply(&delivery, "k2", "better");
    edit["edit"] = json!("0");
    agent.call("message.send", &edit);
    assert_eq!(wait(&gateway, "sent", 2)[1]["edit"], "0");
    let mut recall = reply(&delivery, "k3", "");
    recall["recall"] = json!("0");
    agent.call("message.send", &recall);
    let ended = agent.until(|line| line["params"]["key"] == "k3");
    assert_eq!(ended["params"]["state"], "failed");
    let why = ended["params"]["reason"].as_str().unwrap();
    assert!(why.contains("does not say that it can \"recall\""), "{why}");
    agent.acknowledge(&delivery);
    assert_eq!(wait(&gateway, "busy", 2)[1]["on"], false);
}

#[test]
fn what_a_program_says_wrongly_is_told_and_costs_nothing_else() {
    let gateway = gateway(&json!({}), &format!("{OPEN}{ECHO}"));
    let code = |method: &str, params: &Value| call(&gateway, method, params)["code"].clone();
    assert_eq!(code("no.such", &json!({})), -32601);
    assert_eq!(code("event.deliver", &json!({ "chat_id": "c" })), -32602);
    let mut nameless = said("ann", "", "x");
    let told = call(&gateway, "event.deliver", &nameless);
    assert!(told["message"].as_str().unwrap().contains("key must be set"), "{told}");
    let why = call(&gateway, "event.deliver", &json!({ "chat_id": 5 }));
    assert!(why["message"].as_str().unwrap().ends_with(": {\"chat_id\": 5"), "{why}");
    gateway.wait("files", "mistakes are counted", |i| i["store"]["malformed"] == 4);
    assert!(gateway.log().contains("cannot be taken what=\"event.deliver\" code=-32602 times=4"));
    nameless["key"] = json!("k");
    assert_eq!(call(&gateway, "event.deliver", &nameless)["verdict"], "accepted");
    assert_eq!(code("cursor.keep", &json!({ "cursor": "x".repeat(70_000) })), -32602);
    assert_eq!(call(&gateway, "cursor.keep", &json!({ "cursor": {"a": [1]} })), json!({}));
    assert_eq!(code("initialize", &json!({})), -32600, "once is enough");
    let first = program(&gateway, 0);
    signal(first, "KILL");
    program(&gateway, first);
    assert_eq!(wait(&gateway, "told", 2)[1]["cursor"], json!({ "a": [1] }));
}

/// The worker lives as long as what is said is a line.
#[test]
fn nonsense_is_answered_and_what_is_no_line_ends_the_program() {
    let script = "import sys\n\
        say = sys.stdout.buffer\n\
        said = open('said', 'a')\n\
        for text in [b'no JSON', b'[]', b'{}', b'{\"id\":1,\"method\":\"ready\"}', \
         b'{\"id\":2,\"method\":\"initialize\",\"params\":{\"protocol\":2}}']:\n\
        \x20   say.write(text + b'\\n'); say.flush(); said.write(sys.stdin.readline()); said.flush()\n\
        say.write(b'x' * 1100000 + b'\\n'); say.flush()\n\
        sys.stdin.read()\n";
    let mut gateway = Gateway::new(&format!(
        "[platform.files]\nkind = \"exec\"\ncommand = [\"python3\", \"start.py\"]\n{ECHO}"
    ));
    std::fs::write(gateway.path("start.py"), script).unwrap();
    gateway.start();
    let told: Vec<_> =
        wait(&gateway, "said", 5)[..5].iter().map(|line| line["error"]["code"].clone()).collect();
    assert_eq!(told, [-32700, -32600, -32600, -32002, -32602]);
    let state = gateway.wait("files", "it has ended", |i| i["exits"][0]["cause"].is_string());
    assert!(
        state["exits"][0]["cause"].as_str().unwrap().contains("a line of more than"),
        "{state}"
    );
}

#[test]
fn a_program_tells_how_its_platform_is() {
    let options = json!({ "ready": { "lease_ms": 1000 }, "silent": true });
    let gateway = gateway(&options, &format!("{OPEN}{ECHO}"));
    let is =
        |state: &Value, what: &str| state["reason"].as_str().is_some_and(|it| it.contains(what));
    gateway.wait("files", "its readiness has run out", |i| {
        i["connected"] == false && is(i, "does not say any more that it hears")
    });
    // A reply that is sent proves nothing.
    append(&gateway, "queue", &[said("ann", "m1", "hello")]);
    wait(&gateway, "sent", 1);
    assert_eq!(gateway.instance("files")["connected"], false);
    assert_eq!(call(&gateway, "ready", &json!({ "lease_ms": 700_000 }))["lease_ms"], 600_000);
    gateway.wait_ready("files");
    let down = json!({ "reason": "503", "remedy": "wait, or ask INSTANCE" });
    call(&gateway, "down", &down);
    let state = gateway.wait("files", "down", |i| is(i, "503"));
    assert_eq!(state["remedy"], "wait, or ask files", "{state}");
    call(&gateway, "ready", &json!({ "reason": "half of it" }));
    gateway.wait("files", "limited", |i| is(i, "half of it") && i["connected"] == true);
}

#[test]
fn a_program_may_tell_what_would_help() {
    for (code, phase) in [(78, "held"), (77, "held"), (1, "backoff"), (69, "backoff")] {
        let gateway = Gateway::running(&format!(
            "[platform.files]\nkind = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo last words >&2; exit {code}\"]\n{ECHO}"
        ));
        let state = gateway.wait("files", phase, |i| i["phase"] == phase);
        let cause = state["exits"][0]["cause"].as_str().unwrap();
        assert!(cause.contains(&format!("exit status: {code}")), "{state}");
        assert!(gateway.log().contains("last words"));
    }
}

/// The log may be far away.
#[test]
fn what_a_program_said_of_its_platform_last_is_why_it_has_ended() {
    let mut gateway = Gateway::new(&format!(
        "[platform.files]\nkind = \"exec\"\ncommand = [\"sh\", \"end.sh\"]\n{ECHO}"
    ));
    let down = json!({ "id": 2, "method": "down", "params": { "reason": "no such bot" } });
    let said = format!("{}\n{down}", json!({ "id": 1, "method": "initialize" }));
    std::fs::write(gateway.path("end.sh"), format!("echo '{said}'\nexit 77\n")).unwrap();
    gateway.start();
    let state = gateway.wait("files", "held", |i| i["phase"] == "held");
    assert!(
        state["reason"].as_str().unwrap().contains("(no such bot), exit status: 77"),
        "{state}"
    );
}

#[test]
fn an_account_is_used_once_on_this_host() {
    let account = format!("account = \"bot of {}\"\n", std::process::id());
    let first = gateway(&json!({}), &format!("{account}{OPEN}{ECHO}"));
    first.wait_ready("files");
    let second = gateway(&json!({}), &format!("{account}{OPEN}[platform.local]\n{ECHO}"));
    let held = second.wait("files", "held", |i| i["phase"] == "held");
    let holder =
        format!("credential in use by pid {} ({}, files)", first.pid(), first.state().display());
    assert!(held["reason"].as_str().unwrap().starts_with(&holder), "{held}");
    second.wait_ready("local");
    assert!(first.run(&["ctl", "kill", "files"]).status.success());
    second.wait_ready("files");
}

const SECRET: &str = "s3cr3t-of-the-platform-0815";

#[test]
fn a_secret_is_told_to_the_program_and_to_nobody_else() {
    let rest = format!(
        "secrets = {{ token_file = \"token\" }}\nsettings = {{ url = \"u\" }}\n{OPEN}{ECHO}"
    );
    let mut gateway = Gateway::new(&block(&rest));
    std::fs::write(gateway.path("token"), SECRET).unwrap();
    let options = json!({ "ready": { "account": format!("bot with {SECRET}") } });
    std::fs::write(gateway.path("options.json"), format!("{options}\n")).unwrap();
    gateway.start();
    let ready = gateway.wait_ready("files");
    assert_eq!(ready["account"], "bot with ***");
    let told = &wait(&gateway, "told", 1)[0];
    assert_eq!(
        (&told["secrets"]["token"], &told["settings"]["url"]),
        (&json!(SECRET), &json!("u"))
    );
    for pid in [program(&gateway, 0), ready["pid"].as_u64().unwrap()] {
        for place in ["environ", "cmdline"] {
            let seen = std::fs::read(format!("/proc/{pid}/{place}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&seen).contains(SECRET), "{place} of {pid}");
        }
    }
    assert!(!gateway.log().contains(SECRET));
    let checked = gateway.run(&["check"]);
    assert!(!stdout(&checked).contains(SECRET), "{}", stdout(&checked));
    assert!(stdout(&checked).contains("runs python3"), "{}{}", stdout(&checked), stderr(&checked));
}

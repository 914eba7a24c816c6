//! What handlers of hooks are told, and that they disturb nobody (F100).

use std::path::Path;

use serde_json::{Value, json};
use tests::feishu::{Fault, Feishu, Message, Times, Trouble};
use tests::telegram::{self as tg, Telegram};

use crate::gateway::{Gateway, PATIENCE, root, stderr, stdout};
use crate::socket_agent::{Lines, reply};

const APP: &str = "cli_hooks";

/// Writes what it hears, a line each, into `heard` beside it.
const LISTENER: &str = "import json\n\
    def handle(event, context):\n    \
        with open('heard', 'a') as file:\n        \
            file.write(json.dumps(context) + '\\n')\n";

/// A gateway with an agent called `mine`, and the hook directory `NAME` that hears `events`.
async fn gateway(hooks: &[(&str, &str, &str)], more: &str) -> (Feishu, Gateway) {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\", groups = \"all\" }}\n\
         [agent.mine]\nkind = \"socket\"\nmax_attempts = 1\n[hooks]\ndir = \"hooks\"\n{more}",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    for (name, events, handler) in hooks {
        let dir = gateway.path("hooks").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("HOOK.yaml"), format!("name: {name}\nevents: [{events}]\n"))
            .unwrap();
        std::fs::write(dir.join("handler.py"), handler).unwrap();
    }
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    (feishu, gateway)
}

fn heard(gateway: &Gateway, name: &str) -> Vec<Value> {
    let file = gateway.path("hooks").join(name).join("heard");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until a hook has heard of `event` in `chat`.
fn hears(gateway: &Gateway, name: &str, event: &str, chat: &str) -> Value {
    gateway.until(&format!("{name} hears {event} of {chat:?}"), || {
        let mut all = heard(gateway, name).into_iter();
        all.find(|one| one["event"] == event && one["chat_id"].as_str().unwrap_or("") == chat)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_occasion_is_told_once_with_the_whole_identity() {
    let (feishu, mut gateway) = gateway(&[("all", "'*'", LISTENER)], "").await;
    let mut agent = Lines::ready(&gateway);
    let said = [
        ("oc_direct", Message::direct("oc_direct", "ou_ann").text("in a direct chat")),
        ("oc_group", Message::group("oc_group", "ou_bob").text("in a group")),
        (
            "oc_thread",
            Message::group("oc_thread", "ou_cy").text("in a thread").in_thread("omt_1", "om_root"),
        ),
    ];
    let mut ids = Vec::new();
    for (_, message) in &said {
        let pushed = feishu.push_message(APP, message.clone());
        pushed.acked().await;
        ids.push(pushed.message_id().unwrap().to_owned());
        let event = agent.event();
        agent.call("message.send", &reply(&event, &format!("k-{}", ids.len()), "the answer"));
        agent.acknowledge(&event);
    }
    let users = ["ou_ann", "ou_bob", "ou_cy"];
    for (at, (chat, _)) in said.iter().enumerate() {
        told(
            &gateway,
            &Told {
                platform: "feishu",
                chat,
                chat_type: if at == 0 { "dm" } else { "group" },
                thread: if at == 2 { json!("omt_1") } else { Value::Null },
                user: users[at],
                message: &ids[at],
            },
        );
    }
    // An attempt that fails, and what becomes of its event.
    feishu.push_text(APP, "oc_poison", "ou_ann", "poison").acked().await;
    let event = agent.event();
    agent.refuse(&event);
    for kind in ["agent:end", "agent:error", "message:parked"] {
        let one = hears(&gateway, "all", kind, "oc_poison");
        assert!(one["reason"].as_str().is_some_and(|why| why.contains("refused")), "{one}");
    }
    // Processes and connections.
    let startup = hears(&gateway, "all", "gateway:startup", "");
    assert_eq!(startup["platforms"], json!(["feishu"]));
    hears(&gateway, "all", "platform:connected", "");
    let pid = gateway.instance("feishu")["pid"].as_u64().unwrap();
    crate::gateway::signal(pid, "KILL");
    hears(&gateway, "all", "platform:disconnected", "");
    let restarted = hears(&gateway, "all", "worker:restarted", "");
    assert!(restarted["reason"].as_str().is_some_and(|why| why.contains('9')), "{restarted}");
    let told = gateway.run(&["ctl", "kill"]);
    assert!(told.status.success(), "{}", stderr(&told));
    gateway.left();
    let all = heard(&gateway, "all");
    for (kind, times) in [
        ("gateway:startup", 1),
        ("gateway:shutdown", 1),
        ("message:received", 4),
        ("agent:start", 4),
        ("agent:end", 4),
        ("agent:error", 1),
        ("message:sent", 3),
        ("message:parked", 1),
        ("worker:restarted", 1),
        ("worker:held", 0),
    ] {
        assert_eq!(all.iter().filter(|one| one["event"] == kind).count(), times, "{kind}: {all:?}");
    }
}

/// F100: whether nobody had begun with it, or it went with another one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_told_as_what_it_is() {
    let burst = "[platform.feishu.burst]\nquiet_ms = 60000\nmost_ms = 60000\n";
    let (feishu, gateway) = gateway(&[("all", "message:parked", LISTENER)], burst).await;
    let mut agent = Lines::ready(&gateway);
    let (held, lost) = (["delete", "all of it"], ["look", "at this"]);
    let mut ids = Vec::new();
    for text in held.into_iter().chain(["/stop"]).chain(lost).chain(["/new"]) {
        let pushed = feishu.push_text(APP, "oc_1", "ou_ann", text);
        pushed.acked().await;
        ids.push((text, pushed.message_id().unwrap().to_owned()));
    }
    let turn = agent.event();
    assert_eq!(turn["params"]["text"], "look\nat this");
    agent.refuse(&turn);
    for (text, id) in ids.iter().filter(|(text, _)| !text.starts_with('/')) {
        let one = gateway.until(&format!("{text} is told"), || {
            heard(&gateway, "all").into_iter().find(|one| one["message"] == *text)
        });
        assert_eq!((&one["chat_id"], &one["user_id"]), (&json!("oc_1"), &json!("ou_ann")), "{one}");
        assert_eq!((&one["message_id"], &one["agent"]), (&json!(id), &json!("mine")), "{one}");
        let attempt = lost.contains(text).then_some(1);
        assert_eq!(one["attempt"], json!(attempt), "{one}");
    }
    assert_eq!(heard(&gateway, "all").len(), 4, "each once");
}

/// A reply may wait for its platform longer than the gateway lives.
#[tokio::test(flavor = "multi_thread")]
async fn whom_a_reply_answers_is_told_also_by_the_next_supervisor() {
    let (feishu, mut gateway) = gateway(&[("all", "'*'", LISTENER)], "").await;
    let fault = Fault::Rest { route: None, trouble: Trouble::Html { status: 503 } };
    let down = feishu.fault(APP, fault, Times::Always);
    let mut agent = Lines::ready(&gateway);
    let message = Message::group("oc_group", "ou_bob").text("hello");
    feishu.push_message(APP, message).acked().await;
    let event = agent.event();
    let answer = reply(&event, "k-late", "the answer");
    assert_eq!(agent.call("message.send", &answer)["state"], "waiting");
    agent.acknowledge(&event);
    let start = hears(&gateway, "all", "agent:start", "oc_group");
    hears(&gateway, "all", "agent:end", "oc_group");
    gateway.kill_supervisor();
    feishu.clear(down);
    gateway.start();
    let sent = hears(&gateway, "all", "message:sent", "oc_group");
    let members =
        ["chat_type", "chat_name", "user_id", "user_name", "event_id", "attempt", "agent"];
    for member in members.into_iter().chain(["session_id", "thread_id"]) {
        assert_eq!(sent[member], start[member], "{member}: {sent}");
    }
    assert_eq!((&sent["user_id"], &sent["message"]), (&json!("ou_bob"), &json!("the answer")));
}

/// What a conversation of one message and one answer is to be told as.
struct Told<'a> {
    platform: &'a str,
    chat: &'a str,
    chat_type: &'a str,
    thread: Value,
    user: &'a str,
    message: &'a str,
}

/// Everything that is documented about `expected` has been told.
fn told(gateway: &Gateway, expected: &Told) {
    for kind in ["message:received", "agent:start", "agent:end", "message:sent"] {
        let one = hears(gateway, "all", kind, expected.chat);
        assert_eq!(one["instance"], expected.platform, "{one}");
        assert_eq!(one["platform"], expected.platform, "{one}");
        // To a directory written for Hermes Agent it is an empty text.
        let thread = if expected.thread.is_null() { &json!("") } else { &expected.thread };
        assert_eq!(&one["thread_id"], thread, "{one}");
        assert!(one["time_ms"].as_i64() > Some(1_600_000_000_000), "{one}");
        assert!(one["session_id"].as_str().is_some_and(|s| s.contains(expected.chat)), "{one}");
        assert!(one["reply_token"].is_string() && one["socket"].is_string(), "{one}");
        assert_eq!(one["schema"], 1);
        assert_eq!(one["chat_type"], expected.chat_type, "{one}");
        if kind == "message:sent" {
            assert_eq!(one["message"], "the answer");
            assert!(one["message_ids"].as_array().is_some_and(|ids| !ids.is_empty()), "{one}");
            let start = hears(gateway, "all", "agent:start", expected.chat);
            for member in ["user_id", "user_name", "chat_name", "event_id", "attempt", "agent"] {
                assert_eq!(one[member], start[member], "{member}: {one}");
            }
            assert!(one["event_id"].is_string(), "{one}");
            continue;
        }
        assert_eq!(one["user_id"], expected.user);
        assert_eq!(one["message_id"], json!(expected.message), "{one}");
        assert!(one["event_id"].is_string(), "{one}");
        if kind != "message:received" {
            assert_eq!((&one["attempt"], &one["agent"]), (&json!(1), &json!("mine")), "{one}");
        }
        if kind == "agent:end" {
            assert_eq!(one["response"], "the answer");
            assert_eq!(one["outcome"], "acknowledged");
        }
    }
}

const TOKEN: &str = "7702:hooks-of-a-telegram-bot";

#[tokio::test(flavor = "multi_thread")]
async fn telegram_is_told_about_in_the_same_words() {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    telegram.set_forum(TOKEN, -1_003, &[7]);
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\", groups = \"all\", chats = [-1002, -1003] }}\n\
         [agent.mine]\nkind = \"socket\"\n[hooks]\ndir = \"hooks\"\n",
        telegram.base_url()
    ));
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    let dir = gateway.path("hooks").join("all");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("HOOK.yaml"), "name: all\nevents: ['*']\n").unwrap();
    std::fs::write(dir.join("handler.py"), LISTENER).unwrap();
    gateway.start();
    let mut agent = Lines::ready(&gateway);
    let said = [
        (tg::Message::direct(1001), "1001", "dm", Value::Null),
        (tg::Message::group(-1_002, 1002), "-1002", "group", Value::Null),
        (tg::Message::group(-1_003, 1003).in_topic(7), "-1003", "forum", json!("7")),
    ];
    for (n, (message, chat, chat_type, thread)) in said.into_iter().enumerate() {
        let (_, id) = telegram.push_message(TOKEN, message.text("hello"));
        let event = agent.event();
        agent.call("message.send", &reply(&event, &format!("k-{n}"), "the answer"));
        agent.acknowledge(&event);
        let (user, message) = ((1001 + n).to_string(), id.to_string());
        let (user, message) = (user.as_str(), message.as_str());
        told(&gateway, &Told { platform: "telegram", chat, chat_type, thread, user, message });
    }
    // A reply that cannot arrive.
    telegram.set_mood(TOKEN, 1001, tests::telegram::Mood::Blocked);
    telegram.push_text(TOKEN, 1001, "who blocks the bot");
    let event = agent.event();
    agent.call("message.send", &reply(&event, "k-blocked", "never seen"));
    agent.acknowledge(&event);
    let failed = hears(&gateway, "all", "message:failed", "1001");
    assert!(failed["reason"].as_str().is_some_and(|why| why.contains("blocked")), "{failed}");
    assert_eq!(failed["message"], "never seen", "{failed}");
    hears(&gateway, "all", "agent:end", "1001");
    // A worker that falls silent, and one whose token is refused.
    let pid = gateway.instance("telegram")["pid"].as_u64().unwrap();
    crate::gateway::signal(pid, "STOP");
    let stale = hears(&gateway, "all", "worker:stale", "");
    assert_eq!((&stale["instance"], &stale["chat_id"]), (&json!("telegram"), &Value::Null));
    let restarted = hears(&gateway, "all", "worker:restarted", "");
    assert!(
        restarted["reason"].as_str().is_some_and(|why| why.contains("fell silent")),
        "{restarted}"
    );
    telegram.revoke(TOKEN);
    let held = hears(&gateway, "all", "worker:held", "");
    assert!(held["reason"].as_str().is_some_and(|why| why.contains("401")), "{held}");
    let all = heard(&gateway, "all");
    for (kind, times) in [
        ("message:received", 4),
        ("agent:start", 4),
        ("agent:end", 4),
        ("message:sent", 3),
        ("message:failed", 1),
        ("worker:stale", 1),
        ("worker:restarted", 1),
        ("worker:held", 1),
    ] {
        assert_eq!(all.iter().filter(|one| one["event"] == kind).count(), times, "{kind}: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_fails_floods_or_is_killed_delays_no_message() {
    let hang = "import time\ndef handle(event, context): time.sleep(600)\n";
    let fail = "def handle(event, context): raise ValueError('no')\n";
    let flood = "def handle(event, context): print('x' * 10_000_000)\n";
    let killed = "import os\ndef handle(event, context): os.kill(os.getpid(), 9)\n";
    let hooks = [
        ("hang", "'*'", hang),
        ("fail", "'*'", fail),
        ("flood", "'*'", flood),
        ("killed", "'*'", killed),
    ];
    let more = "timeout_s = 2\n[[hooks.command]]\nevents = [\"agent:start\"]\n\
        command = [\"sh\", \"-c\", \"sleep 600 & sleep 600\"]\n";
    let (feishu, gateway) = gateway(&hooks, more).await;
    let mut agent = Lines::ready(&gateway);
    for number in 0..20 {
        feishu.push_text(APP, "oc_1", "ou_ann", &number.to_string()).acked().await;
        let event = agent.event();
        assert_eq!(event["params"]["text"], number.to_string());
        agent.acknowledge(&event);
    }
    let hooks = gateway.wait("hooks", "failures", |i| {
        i["hooks"]["failed"].as_u64() > Some(2) && i["hooks"]["told"].as_u64() > Some(0)
    });
    assert!(hooks["hooks"]["last_failure"].is_string(), "{hooks}");
    gateway.until("a failure is in the journal, which is written by a thread of its own", || {
        let journal = std::fs::read_to_string(gateway.state().join("journal.jsonl")).unwrap();
        journal.contains("\"event\":\"hook\"").then_some(())
    });
    assert_eq!(gateway.instance("feishu")["restarts"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_speaks_in_the_chat_that_it_was_told_about_and_in_no_other() {
    let (feishu, gateway) = gateway(&[("all", "'*'", LISTENER)], "").await;
    let example = gateway.path("hooks").join("progress");
    copy(&root().join("docs/hooks/progress"), &example);
    assert!(gateway.run(&["ctl", "restart", "hooks"]).status.success());
    let own = hears(&gateway, "all", "worker:restarted", "");
    assert_eq!((&own["instance"], &own["agent"]), (&json!("hooks"), &Value::Null), "no agent");
    let mut agent = Lines::ready(&gateway);
    feishu.push_text(APP, "oc_1", "ou_ann", "how long does it take?").acked().await;
    let event = agent.event();
    feishu.wait_sent(PATIENCE, |sent| sent.text().as_deref() == Some("at work …")).await;

    let told = hears(&gateway, "all", "agent:start", "oc_1");
    let ask = |chat: &str, token: &Value, key: &str| {
        let params = json!({
            "token": token, "instance": "feishu", "chat_id": chat, "key": key, "text": "by hand",
            "wait_ms": 20_000,
        });
        let line = json!({ "id": 1, "method": "message.send", "params": params });
        gateway.ask(&line.to_string()).unwrap()
    };
    let sent = ask("oc_1", &told["reply_token"], "a");
    assert_eq!(sent["result"]["state"], "sent", "{sent}");
    let again = ask("oc_1", &told["reply_token"], "a");
    assert_eq!(again["result"]["message_ids"], sent["result"]["message_ids"], "the same key");
    let params = json!({
        "token": told["reply_token"], "instance": "feishu", "chat_id": "oc_1", "key": "long",
        "text": "x".repeat(960_000),
    });
    let long = json!({ "id": 1, "method": "message.send", "params": params });
    let long = gateway.ask(&long.to_string()).unwrap();
    assert_eq!(long["error"]["code"], 64, "no frame could hold it and how far it has come: {long}");
    let elsewhere = ask("oc_2", &told["reply_token"], "b");
    assert_eq!(elsewhere["error"]["code"], 77, "{elsewhere}");
    assert_eq!(ask("oc_1", &json!("guessed"), "c")["error"]["code"], 77);
    // Ids of messages are global on Feishu; the token is for one chat.
    feishu.push_text(APP, "oc_2", "ou_bob", "elsewhere").acked().await;
    let other = agent.event();
    let edit = |chat: &str, token: &Value, key: &str, id: &Value| {
        let params = json!({
            "token": token, "instance": "feishu", "chat_id": chat, "key": key, "text": "changed",
            "edit": id, "wait_ms": 20_000,
        });
        let line = json!({ "id": 1, "method": "message.send", "params": params });
        gateway.ask(&line.to_string()).unwrap()
    };
    let elsewhere = hears(&gateway, "all", "agent:start", "oc_2");
    let taken = ask("oc_2", &elsewhere["reply_token"], "a");
    assert_eq!(taken["error"]["code"], 64, "what is said here is not what was said there: {taken}");
    let ours = &sent["result"]["message_ids"][0];
    let strange = edit("oc_2", &elsewhere["reply_token"], "d", ours);
    assert_eq!(strange["error"]["code"], 77, "{strange}");
    let theirs = edit("oc_1", &told["reply_token"], "e", &told["message_id"]);
    assert_eq!(theirs["error"]["code"], 77, "{theirs}");
    let changed = edit("oc_1", &told["reply_token"], "f", ours);
    assert_eq!(changed["result"]["state"], "sent", "{changed}");
    assert!(feishu.shown(ours.as_str().unwrap()).is_some_and(|shown| shown.contains("changed")));
    agent.acknowledge(&other);
    let by_hand = feishu.sent().iter().filter(|s| s.text().as_deref() == Some("by hand")).count();
    assert_eq!(by_hand, 1);
    agent.acknowledge(&event);
    // The example's own message says it now.
    let sent = feishu.sent();
    let at_work = sent.iter().find(|sent| sent.text().as_deref() == Some("at work …")).unwrap();
    gateway.until("the example's message is changed", || {
        let shown = feishu.shown(&at_work.message_id)?;
        shown.contains("acknowledged after").then_some(())
    });
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn what_would_run_is_shown_and_can_be_tried() {
    let gateway = Gateway::new("[platform.local]\n[agent.echo]\n[hooks]\ndir = \"hooks\"\n");
    let dir = gateway.path("hooks").join("listen");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("HOOK.yaml"), "name: listen\nevents: [agent:start]\n").unwrap();
    std::fs::write(dir.join("handler.py"), LISTENER).unwrap();
    let list = gateway.run(&["hooks", "list"]);
    assert_eq!(stdout(&list), "listen: agent:start\n");
    let tried = gateway.run(&["hooks", "test", "agent:start"]);
    assert_eq!((stdout(&tried).as_str(), tried.status.code()), ("listen: told\n", Some(0)));
    let sample = &heard(&gateway, "listen")[0];
    for member in ["chat_id", "thread_id", "user_id", "session_id", "message_id", "platform"] {
        assert!(sample[member].is_string(), "{member}: {sample}");
    }
    let none = gateway.run(&["hooks", "test", "agent:end"]);
    assert_eq!(stdout(&none), "no hook wants to know of agent:end\n");
    let mistyped = gateway.run(&["hooks", "test", "agent:begin"]);
    assert_eq!(mistyped.status.code(), Some(64));
    assert!(stderr(&mistyped).contains("agent:start"), "{}", stderr(&mistyped));

    std::fs::write(dir.join("handler.py"), "def handle(event, context): return 1 / 0\n").unwrap();
    let failed = gateway.run(&["hooks", "test", "agent:start"]);
    assert!(
        stdout(&failed).starts_with("listen: failed: ZeroDivisionError"),
        "{}",
        stdout(&failed)
    );
    assert_eq!(failed.status.code(), Some(69));
    let leaves = "import subprocess\n\
        def handle(event, context):\n    \
            child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n    \
            open('left', 'w').write(str(child.pid))\n";
    std::fs::write(dir.join("handler.py"), leaves).unwrap();
    assert!(gateway.run(&["hooks", "test", "agent:start"]).status.success());
    let left = std::fs::read_to_string(dir.join("left")).unwrap().parse().unwrap();
    assert!(!crate::gateway::is_alive(left), "nothing is left of it");
    std::fs::write(dir.join("HOOK.yaml"), "name: listen\n").unwrap();
    let wrong = gateway.run(&["hooks", "list"]);
    assert_eq!(wrong.status.code(), Some(78));
    assert!(stdout(&wrong).contains("WRONG: HOOK.yaml: events"), "{}", stdout(&wrong));
}

#[test]
fn a_mistyped_occasion_and_a_program_that_is_not_there_are_shown() {
    let command = |events: &str, program: &str| {
        format!("[[hooks.command]]\nevents = [\"{events}\"]\ncommand = [\"{program}\"]\n")
    };
    let gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.echo]\n{}{}{}",
        command("message:*", "true"),
        command("mesage:received", "true"),
        command("*", "/no/such")
    ));
    let list = gateway.run(&["hooks", "list"]);
    assert_eq!(
        stdout(&list),
        "true: message:*\ntrue: WRONG: nothing is called \"mesage:received\"\n\
         /no/such: WRONG: there is no program \"/no/such\"\n"
    );
    assert_eq!(list.status.code(), Some(78));
}

#[test]
fn the_table_of_the_documentation_is_whole() {
    let text = std::fs::read_to_string(root().join("docs/hooks.md")).unwrap();
    for (kind, when) in protocol::hook::KINDS {
        assert!(text.contains(&format!("| `{kind}` | {when} |")), "{kind}");
    }
}

//! Telegram, from its queue to the agent and back: cold starts, kills, rivals, and a token that must not
//! be seen (F13, F14, F23, F81).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tests::telegram::{Fault, Observation, Telegram};

use crate::gateway::{Gateway, PATIENCE, signal, stderr, stdout};
use crate::line::Agent;
use crate::socket_agent::Lines;

pub(crate) const TOKEN: &str = "7700:s3cret-Token_of-a-b0t";
const KEY: &str = "s3cret-Token_of-a-b0t";
const UPDATES: usize = 200;
/// Some authority's.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBcjCCARmgAwIBAgIUCtGeu4souCWt280qj2ywGHmzTuswCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjkwMzM2MDJaFw0zNjExMjYwMzM2MDJa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQvIiDG
WO+myX++vbg6siHbuDGV+ObrmRTtafBDm65rQhp8eAZnK64fzEmBwxdbUewpn0Ns
yM593pZ3tRz7ZkpNo1MwUTAdBgNVHQ4EFgQUm2kf9qP6oyXIT0eXc+FuEbiZwrkw
HwYDVR0jBBgwFoAUm2kf9qP6oyXIT0eXc+FuEbiZwrkwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNHADBEAiBUFwuuKaecV8Hy0trd8ILYkePwtLr0ILtnf6TO
owcBQQIgfvw0pVOnJ6ve5LuVKXaBPcWGshyo1FfSd/fpq8xzrfM=
-----END CERTIFICATE-----
";

pub(crate) async fn platform() -> Telegram {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    telegram
}

/// With everything in the log that can be there.
pub(crate) fn gateway(telegram: &Telegram, token: &str, agent: &str) -> Gateway {
    let config = format!(
        "[gateway]\nlog = \"trace\"\n\
         [platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n\
         [platform.local]\n{agent}\n",
        telegram.base_url()
    );
    let mut gateway = Gateway::new(&config);
    std::fs::write(gateway.path("token"), format!("{token}\n")).unwrap();
    gateway.start();
    gateway
}

pub(crate) const ECHO: &str = "[agent.echo]";
const SOCKET: &str = "[agent.hermes]\nkind = \"socket\"\nmax_attempts = 50";

fn push(telegram: &Telegram, from: usize, to: usize) {
    for n in from..to {
        // Two messages each, so that there is an order to keep.
        let user = 1000 + i64::try_from(n / 2).unwrap();
        telegram.push_text(TOKEN, user, &format!("m{n}"));
    }
}

fn text(event: &Value) -> &str {
    event["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_hears_what_waited() {
    let telegram = platform().await;
    for n in 0..30 {
        telegram.push_text(TOKEN, 1000 + n, &format!("m{n}"));
    }
    let gateway = gateway(&telegram, TOKEN, ECHO);
    let sent = telegram.wait_sent(PATIENCE, 30).await;
    let texts: BTreeSet<_> = sent.iter().map(|it| it.text.clone()).collect();
    assert_eq!((texts.len(), sent.len()), (30, 30));
    gateway.wait("telegram", "all settled", |i| {
        i["store"]["accepted"] == 30 && i["store"]["replies"] == 0
    });
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    assert_eq!(gateway.wait_ready("telegram")["account"], "@test_bot (7700)");
    assert!(telegram.violations().is_empty(), "{:?}", telegram.violations());
    assert!(!gateway.log().contains(KEY), "the token is in the log");
}

/// Waits until everything is heard and settled; what the agent was offered, in order.
fn all_settled(telegram: &Telegram, gateway: &Gateway, agent: Agent) -> Vec<Value> {
    let mut offered = Vec::new();
    let mut texts = BTreeSet::new();
    while texts.len() < UPDATES {
        let event = agent.offered.recv_timeout(PATIENCE).expect("an offer in time");
        texts.insert(text(&event).to_owned());
        offered.push(event);
    }
    gateway.wait("telegram", "nothing waits", |i| {
        i["store"]["waiting"] == 0 && i["store"]["parked"] == 0
    });
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    offered.extend(agent.kill());
    // Every update became one event, in the order of its chat.
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &offered {
        let (text, id) = (text(event), event["event_id"].as_str().unwrap());
        if let Some(known) = ids.insert(text, id) {
            assert_eq!(known, id, "{text} became two events");
            assert!(event["attempt"].as_u64().unwrap() > 1, "{text} came again unannounced");
            continue;
        }
        let number = text[1..].parse().unwrap();
        let before = latest.insert(event["chat_id"].as_str().unwrap(), number);
        assert!(before.is_none_or(|before| before < number), "{text} came too early");
    }
    assert_eq!(ids.len(), UPDATES);
    assert!(telegram.violations().is_empty(), "{:?}", telegram.violations());
    assert!(!gateway.log().contains(KEY), "the token is in the log");
    offered
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_is_killed_again_and_again_within_its_batches() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, TOKEN, SOCKET);
    let agent = Agent::start(&gateway);
    gateway.wait_ready("telegram");
    for round in 0..5 {
        let (from, to) = (round * UPDATES / 5, (round + 1) * UPDATES / 5);
        push(&telegram, from, to);
        // At the moment at which a batch was handed out.
        let ids = |it: &Observation| match it {
            Observation::Handed { ids } => ids.len(),
            _ => 0,
        };
        telegram
            .wait_for("a batch", PATIENCE, |all| {
                (all.iter().map(|it| ids(&it.what)).sum::<usize>() > from).then_some(())
            })
            .await;
        let generation = gateway.instance("telegram")["generation"].as_u64().unwrap();
        if let Some(pid) = gateway.instance("telegram")["pid"].as_u64() {
            signal(pid, "KILL");
            gateway.wait("telegram", "another worker", |i| {
                i["generation"].as_u64() > Some(generation)
            });
        }
    }
    let offered = all_settled(&telegram, &gateway, agent);
    assert_eq!(offered.len(), UPDATES, "what the agent had was not offered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_is_killed_within_a_batch() {
    let telegram = platform().await;
    let mut gateway = gateway(&telegram, TOKEN, SOCKET);
    let agent = Agent::start(&gateway);
    gateway.wait_ready("telegram");
    push(&telegram, 0, UPDATES / 2);
    telegram
        .wait_count("a batch", PATIENCE, 1, |it| matches!(it.what, Observation::Handed { .. }))
        .await;
    gateway.kill_supervisor();
    push(&telegram, UPDATES / 2, UPDATES);
    gateway.start();
    all_settled(&telegram, &gateway, agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unknown_and_one_malformed_update_are_kept_and_harm_no_other() {
    let telegram = platform().await;
    telegram.push(TOKEN, json!({"brand_new": {"x": 1}}));
    telegram.push(TOKEN, json!({"message": {"text": "no chat"}}));
    telegram.push_text(TOKEN, 9, "hello");
    let gateway = gateway(&telegram, TOKEN, ECHO);
    let sent = telegram.wait_sent(PATIENCE, 1).await;
    assert_eq!((sent[0].text.as_str(), sent[0].chat_id), ("hello", 9));
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    gateway.wait("telegram", "both are counted and kept for a person", |i| {
        i["store"]["accepted"] == 3 && i["store"]["malformed"] == 2 && i["store"]["parked"] == 2
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_another_program_is_told_until_it_is_gone() {
    let telegram = platform().await;
    telegram.set_webhook(TOKEN, "https://other.example.org/path");
    let gateway = gateway(&telegram, TOKEN, ECHO);
    let told = gateway.wait("telegram", "a conflict", |i| i["outside"] == "conflict");
    assert!(told["reason"].as_str().unwrap().contains("other.example.org"), "{told}");
    assert!(
        told["remedy"].as_str().unwrap().contains("ctl telegram delete-webhook telegram`"),
        "{told}"
    );
    assert_eq!(told["connected"], false);
    let shown = stdout(&gateway.run(&["ctl", "status"]));
    assert!(shown.contains("  conflict  "), "{shown}");
    telegram.push_text(TOKEN, 9, "hello");
    let done = gateway.run(&["ctl", "telegram", "delete-webhook", "telegram"]);
    let told = stdout(&done);
    assert!(told.contains("removed the webhook at other.example.org; 1 updates wait"), "{told}");
    gateway.wait_ready("telegram");
    telegram.wait_sent(PATIENCE, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_dropped_only_when_a_person_says_so() {
    let telegram = platform().await;
    telegram.set_webhook(TOKEN, "https://other.example.org/path");
    let gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait("telegram", "a conflict", |i| i["outside"] == "conflict");
    telegram.push_text(TOKEN, 9, "dropped");
    let refused = gateway.run(&["ctl", "telegram", "drop-pending", "telegram"]);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(stderr(&refused).contains("remove it first"), "{refused:?}");
    let unknown = gateway.run(&["ctl", "telegram", "drop-pending", "telegran"]);
    assert_eq!(unknown.status.code(), Some(64), "{unknown:?}");
    assert!(stderr(&unknown).contains("did you mean \"telegram\""), "{unknown:?}");
    let agent = gateway.run(&["ctl", "telegram", "drop-pending", "echo"]);
    assert_eq!(agent.status.code(), Some(64), "{agent:?}");
    assert_eq!(telegram.pending(TOKEN), 1);
    telegram.set_webhook(TOKEN, "");
    telegram.wait_sent(PATIENCE, 1).await;
    gateway.wait_ready("telegram");
    let done = gateway.run(&["ctl", "--json", "telegram", "drop-pending", "telegram"]);
    let told: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert!(told["result"].as_str().unwrap().contains("dropped 0 updates"), "{told}");
    assert!(gateway.log().contains("telegram drop-pending"), "who asked is written down");
}

/// Files out and in, drafts and signs of work, through everything between an agent and the platform.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sends_and_fetches_files_and_shows_what_it_writes() {
    let telegram = platform().await;
    telegram.add_file(TOKEN, "f1", b"hello".to_vec());
    let gateway = gateway(&telegram, TOKEN, SOCKET);
    gateway.wait("hermes", "listening", |i| i["phase"] == "ready");
    let mut agent = Lines::dial(&gateway.state().join("agent-hermes.sock"));
    let told = agent.call("initialize", &json!({ "protocol": 1 }));
    let exchange = told["exchange"].as_str().unwrap().to_owned();
    agent.call("ready", &json!({ "lease_ms": 600_000 }));
    gateway.wait_ready("telegram");
    let document = tests::telegram::Message::direct(9)
        .with("document", json!({"file_id": "f1", "file_name": "a.txt", "file_size": 5}));
    telegram.push_message(TOKEN, document);
    let delivery = agent.event();
    let event = &delivery["params"];
    telegram
        .wait_count("a sign of work", PATIENCE, 1, |it| {
            matches!(it.what, Observation::Action { chat_id: 9, .. })
        })
        .await;
    let part = &event["parts"][0];
    let wish = json!({"instance": "telegram", "message_id": event["message_id"], "part": part});
    let fetched = agent.call("file.fetch", &wish);
    assert_eq!(std::fs::read(fetched["path"].as_str().unwrap()).unwrap(), b"hello");
    let place = |more: Value| {
        let mut all = json!({"key": "k", "instance": "telegram", "chat_id": event["chat_id"]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    agent.call("message.draft", &place(json!({"text": "half"})));
    telegram
        .wait_count("a draft", PATIENCE, 1, |it| matches!(it.what, Observation::Draft { .. }))
        .await;
    std::fs::write(std::path::Path::new(&exchange).join("chart.png"), b"1234").unwrap();
    let files = json!([{"kind": "image", "file": "chart.png", "title": null}]);
    let buttons = json!([[{"label": "More", "data": "more"}]]);
    let whole = json!({"text": "whole", "files": files, "buttons": buttons});
    agent.call("message.send", &place(whole));
    let sent = telegram.wait_sent(PATIENCE, 1).await;
    assert_eq!((sent[0].kind.as_str(), sent[0].text.as_str()), ("photo", "whole"));
    assert_eq!(sent[0].buttons[0][0]["callback_data"], "more");
    agent.acknowledge(&delivery);
    gateway.wait("telegram", "all is told", |i| i["store"]["sent"] == 1);
    assert!(telegram.violations().is_empty(), "{:?}", telegram.violations());
}

/// What a name means belongs to the agent again as soon as `message.send` is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_as_it_was_when_its_reply_was_accepted() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, TOKEN, SOCKET);
    gateway.wait("hermes", "listening", |i| i["phase"] == "ready");
    let mut agent = Lines::dial(&gateway.state().join("agent-hermes.sock"));
    let told = agent.call("initialize", &json!({ "protocol": 1 }));
    let exchange = std::path::PathBuf::from(told["exchange"].as_str().unwrap());
    agent.call("ready", &json!({ "lease_ms": 600_000 }));
    gateway.wait_ready("telegram");
    let send = |agent: &mut Lines, key: &str, chat: &str, file: &str| {
        let files = json!([{ "kind": "file", "file": file }]);
        let reply = json!({"key": key, "instance": "telegram", "chat_id": chat, "text": key, "files": files});
        agent.call("message.send", &reply)
    };
    let there = || std::fs::read_dir(&exchange).unwrap().count();
    telegram.push_text(TOKEN, 9, "hello");
    agent.event();
    telegram.fault(Some("sendDocument"), Fault::Hold, None);
    std::fs::write(exchange.join("first.bin"), "1").unwrap();
    send(&mut agent, "first", "9", "first.bin");
    std::fs::write(exchange.join("my-chart v1.bin"), "for one").unwrap();
    std::fs::write(exchange.join("gone.bin"), "gone").unwrap();
    send(&mut agent, "one", "9", "my-chart v1.bin");
    send(&mut agent, "two", "9", "gone.bin");
    let copies = there();
    send(&mut agent, "one", "9", "my-chart v1.bin");
    assert_eq!(there(), copies, "the same reply has one copy");
    // In place, as a hard link would show it, too.
    std::fs::write(exchange.join("my-chart v1.bin"), "for somebody else").unwrap();
    send(&mut agent, "one", "9", "my-chart v1.bin");
    std::fs::remove_file(exchange.join("gone.bin")).unwrap();
    telegram.clear_faults();
    let sent = telegram.wait_sent(PATIENCE, 3).await;
    let sent: Vec<_> = sent
        .iter()
        .map(|it| (it.text.as_str(), it.file.as_ref().map(|file| (file.name.as_str(), file.size))))
        .collect();
    assert_eq!(
        sent[1..],
        [("one", Some(("my-chart v1.bin", 7))), ("two", Some(("gone.bin", 4)))],
        "as they were"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_menu_of_commands_is_set_where_it_is_configured_and_left_alone_elsewhere() {
    let telegram = platform().await;
    let menus = || {
        let journal = telegram.journal().into_iter();
        let menus = journal.filter_map(|entry| match entry.what {
            Observation::Menu { commands } => Some(commands),
            _ => None,
        });
        menus.collect::<Vec<_>>()
    };
    let mut gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    telegram.push_text(TOKEN, 9, "hello");
    telegram.wait_sent(PATIENCE, 1).await;
    assert!(menus().is_empty());
    let config = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
    let menu = "[platform.telegram.menu]\nstop = \"Stop it\"\nmodel = \"Choose a model\"\n[platform.local]";
    std::fs::write(gateway.path("config.toml"), config.replace("[platform.local]", menu)).unwrap();
    telegram.fault(Some("setMyCommands"), Fault::Html { status: 502 }, Some(1));
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    gateway.until("the menu is set", || (!menus().is_empty()).then_some(()));
    let expected = json!([
        {"command": "model", "description": "Choose a model"},
        {"command": "stop", "description": "Stop it"},
    ]);
    assert_eq!(menus(), std::slice::from_ref(&expected));
    // What somebody chooses there is what he would have written.
    telegram.push_text(TOKEN, 9, "/stop");
    let sent = telegram.wait_sent(PATIENCE, 2).await;
    assert_eq!(sent[1].text, "Nothing to stop here.");
    gateway.kill_supervisor();
    gateway.start();
    gateway.wait_ready("telegram");
    gateway.until("and once in each life", || {
        (menus() == [expected.clone(), expected.clone()]).then_some(())
    });
}

/// Whatever the platform tells at whatever length, what comes behind it is heard.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_frame_can_hold_is_cut_and_holds_nothing_up() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    let long = "N".repeat(1_200_000);
    let said = |change: Value| {
        let mut message = json!({
            "message_id": 1, "date": 1, "text": "large", "chat": {"id": 9, "type": "private"},
            "from": {"id": 9, "is_bot": false, "first_name": "Ann"},
        });
        message.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "message": message })
    };
    let pressed = json!({"callback_query": {
        "id": long, "data": "press", "from": {"id": 9},
        "message": {"message_id": 6, "date": 1, "chat": {"id": 9, "type": "private"}},
    }});
    for update in [
        said(json!({"from": {"id": 9, "is_bot": false, "first_name": long}})),
        said(json!({"message_id": 2, "quote": {"text": long, "position": 0}})),
        said(json!({"message_id": 3, "reply_to_message": {"message_id": 1, "text": long}})),
        said(json!({"message_id": 4, "document": {"file_id": "f", "file_name": long}})),
        pressed,
    ] {
        telegram.push(TOKEN, update);
    }
    telegram.push_text(TOKEN, 10, "behind");
    gateway.until("what is behind is heard", || {
        telegram.sent().iter().any(|it| it.text == "behind").then_some(())
    });
    gateway.wait("telegram", "all are accepted, by one worker", |i| {
        i["store"]["accepted"] == 6 && i["generation"] == 1
    });
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
}

/// By a webhook, and back to polling by a changed configuration: nothing is lost on the way.
#[tokio::test(flavor = "multi_thread")]
async fn the_way_of_hearing_is_changed_without_losing_an_update() {
    let telegram = platform().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    telegram.push_text(TOKEN, 9, "polled");
    telegram.wait_sent(PATIENCE, 1).await;
    let config = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
    let hooked = config.replace(
        "[platform.local]",
        &format!("webhook = {{ url = \"http://{port}/telegram\", listen = \"{port}\" }}\n[platform.local]"),
    );
    std::fs::write(gateway.path("config.toml"), hooked).unwrap();
    telegram.push_text(TOKEN, 9, "between");
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    gateway.until("the webhook is set", || (!telegram.webhook(TOKEN).is_empty()).then_some(()));
    gateway.wait_ready("telegram");
    telegram.push_text(TOKEN, 9, "posted");
    telegram.wait_sent(PATIENCE, 3).await;
    // Killed, and what is posted meanwhile waits at the platform.
    gateway.kill_supervisor();
    telegram.push_text(TOKEN, 9, "meanwhile");
    gateway.start();
    telegram.wait_sent(PATIENCE, 4).await;
    std::fs::write(gateway.path("config.toml"), config).unwrap();
    telegram.push_text(TOKEN, 9, "last");
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    gateway.until("the webhook is gone", || telegram.webhook(TOKEN).is_empty().then_some(()));
    let sent = telegram.wait_sent(PATIENCE, 5).await;
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    let texts: BTreeSet<_> = sent.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(texts, BTreeSet::from(["polled", "between", "posted", "meanwhile", "last"]));
    assert_eq!(sent.len(), 5);
    assert!(!gateway.log().contains(KEY), "the token is in the log");
}

/// A port that somebody else has costs no worker, and is taken when it is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_waited_for() {
    let telegram = platform().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let mut gateway = gateway(&telegram, TOKEN, ECHO);
    gateway.wait_ready("telegram");
    let config = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
    let hooked = config.replace(
        "[platform.local]",
        &format!(
            "webhook = {{ url = \"http://{port}/t\", listen = \"{port}\" }}\n[platform.local]"
        ),
    );
    std::fs::write(gateway.path("config.toml"), hooked).unwrap();
    gateway.kill_supervisor();
    gateway.start();
    let told = gateway.wait("telegram", "told", |i| {
        i["phase"] == "ready" && i["reason"].as_str().is_some_and(|it| it.contains("listen on"))
    });
    drop(taken);
    gateway.until("the webhook is set", || (!telegram.webhook(TOKEN).is_empty()).then_some(()));
    telegram.push_text(TOKEN, 9, "posted");
    telegram.wait_sent(PATIENCE, 1).await;
    assert_eq!(gateway.instance("telegram")["pid"], told["pid"]);
}

/// A slim container: the system has no certificates, and the company's own are named.
#[tokio::test(flavor = "multi_thread")]
async fn a_companys_certificates_are_enough() {
    let config = "[gateway]\nca_file = \"ca\"\n\
         [platform.telegram]\ntoken_file = \"token\"\nbase_url = \"https://127.0.0.1:1\"\n\
         access = { direct = \"open\" }\n[agent.echo]\n";
    let mut gateway = Gateway::new(config);
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    std::fs::write(gateway.path("ca"), CERTIFICATE).unwrap();
    std::fs::write(gateway.path("none"), "").unwrap();
    let mut command = gateway.command();
    command.env("SSL_CERT_FILE", gateway.path("none")).env_remove("SSL_CERT_DIR");
    gateway.start_as(command);
    let told = gateway.wait("telegram", "told", |i| i["reason"].is_string());
    assert!(told["reason"].as_str().unwrap().contains("no connection"), "{told}");
}

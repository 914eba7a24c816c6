//! Feishu as an operator sees it: what is refused, what that means, and that it passes.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::feishu::frame::{DATA, Frame};
use tests::feishu::{
    Entry, Fault, Feishu, Message, Observation, Route, Schedule, SentMessage, Times, Trouble,
    Webhook, menu, recalled,
};

use crate::gateway::{Gateway, PATIENCE, stdout};
use crate::line::Agent;
use crate::socket_agent::Lines;

fn config(feishu: &Feishu, apps: &[&str]) -> String {
    let mut config = String::new();
    for app in apps {
        config += &format!(
            "[platform.{app}]\nkind = \"feishu\"\napp_id = \"cli_{app}\"\napp_secret_file = \"{app}.secret\"\n\
             base_url = \"{}\"\naccess = {{ direct = \"open\" }}\n",
            feishu.base_url()
        );
    }
    config + "[agent.echo]\n"
}

async fn gateway(apps: &[&str]) -> (Feishu, Gateway) {
    let feishu = Feishu::start().await;
    feishu.configure(|settings| settings.schedule = Schedule::with_pauses_scaled(0.02));
    let mut gateway = Gateway::new(&config(&feishu, apps));
    for app in apps {
        feishu.add_app(&format!("cli_{app}"), "secret", &format!("ou_{app}"));
        std::fs::write(gateway.path(&format!("{app}.secret")), "secret").unwrap();
    }
    gateway.start();
    (feishu, gateway)
}

async fn answered(feishu: &Feishu, app: &str, text: &str) {
    feishu.push_text(&format!("cli_{app}"), &format!("oc_{app}"), "ou_user", text).acked().await;
    feishu.wait_sent(PATIENCE, |sent| sent.text().is_some_and(|it| it.contains(text))).await;
}

/// Each with its reason, none at the cost of another, and each passes once its cause is gone.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_pass_by_themselves() {
    let feishu = Feishu::start().await;
    let discovery = |code| Fault::DiscoveryCode { code, status: 200, data: false };
    let handshake = |status, autherrcode| Fault::HandshakeRefuse {
        status: 403,
        handshake_status: Some(status),
        autherrcode,
    };
    let cases = [
        ("unpublished", discovery(1_000_040_345), "published"),
        ("domain", discovery(1_000_040_351), "https://open.larksuite.com"),
        ("crowd", discovery(1_000_040_350), "stop other programs"),
        ("many", handshake(514, Some(1_000_040_350)), "stop other programs"),
        ("banned", handshake(403, None), "developer console"),
    ];
    let mut apps: Vec<&str> = cases.iter().map(|(app, ..)| *app).collect();
    apps.extend(["wrong", "good"]);
    let mut gateway = Gateway::new(&config(&feishu, &apps));
    for app in &apps {
        let secret = if *app == "wrong" { "another" } else { "secret" };
        feishu.add_app(&format!("cli_{app}"), secret, &format!("ou_{app}"));
        std::fs::write(gateway.path(&format!("{app}.secret")), "secret").unwrap();
    }
    let mut faults = Vec::new();
    for (app, fault, _) in &cases {
        faults.push(feishu.fault(format!("cli_{app}").as_str(), fault.clone(), Times::Always));
    }
    gateway.start();
    gateway.wait_ready("good");
    let told = |app: &str, words: &str| {
        let found = gateway.wait(app, "says what to do", |it| it["remedy"].is_string());
        assert_eq!(found["connected"], false, "{found}");
        assert!(found["remedy"].as_str().unwrap().contains(words), "{found}");
    };
    for (app, _, words) in &cases {
        told(app, words);
    }
    told("wrong", "secret");
    answered(&feishu, "good", "undisturbed").await;
    for fault in faults {
        feishu.clear(fault);
    }
    feishu.set_secret("cli_wrong", "secret");
    for app in &apps {
        let found = gateway.wait_ready(app);
        assert!(found["reason"].is_null(), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_named_in_the_status_and_its_grant_noticed() {
    let (feishu, gateway) = gateway(&["one", "two"]).await;
    feishu.grant("cli_one", "im:message:send_as_bot", false);
    feishu.push_text("cli_one", "oc_one", "ou_user", "hello").acked().await;
    let found = gateway.wait("one", "names the scope", |it| it["reason"].is_string());
    assert!(found["reason"].as_str().unwrap().contains("im:message:send_as_bot"), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("Permissions"), "{found}");
    assert_eq!(found["connected"], true);
    answered(&feishu, "two", "undisturbed").await;
    feishu.grant("cli_one", "im:message:send_as_bot", true);
    feishu.wait_sent(PATIENCE, |sent| sent.app == "cli_one").await;
    gateway.wait("one", "is well again", |it| it["reason"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_withdrawn_is_nobodys_trouble() {
    let (feishu, gateway) = gateway(&["one"]).await;
    for round in 0..5 {
        answered(&feishu, "one", &format!("round {round}")).await;
        feishu.revoke_tokens("cli_one");
    }
    assert!(gateway.instance("one")["reason"].is_null());
    let sent = |entry: &Entry| matches!(entry.what, Observation::Sent(_));
    assert_eq!(feishu.count(sent), 5);
}

/// F24: whatever the platform says again after a reconnect, under new ids, nobody is told twice.
#[tokio::test(flavor = "multi_thread")]
async fn replays_after_reconnects_reach_nobody() {
    const MESSAGES: usize = 200;
    let (feishu, gateway) = gateway(&["one"]).await;
    gateway.wait_ready("one");
    let push = |n: usize| {
        feishu.push_text("cli_one", &format!("oc_{}", n % 10), "ou_user", &format!("m{n}"))
    };
    let pushed: Vec<_> = (0..MESSAGES).map(push).collect();
    let sent = |entry: &Entry| matches!(entry.what, Observation::Sent(_));
    feishu.wait_count("every answer", PATIENCE, MESSAGES, sent).await;
    for _ in 0..5 {
        let opened = |entry: &Entry| matches!(entry.what, Observation::Opened { .. });
        let before = feishu.count(opened);
        feishu.reset_connections("cli_one");
        feishu.wait_count("another connection", PATIENCE, before + 1, opened).await;
        for event in &pushed {
            feishu.replay(event).acked().await;
        }
    }
    // Whatever would have been said has been said before this.
    answered(&feishu, "one", "the last").await;
    assert_eq!(feishu.count(sent), MESSAGES + 1);
}

/// One app and an agent that is ready, and the directory by which they exchange files.
async fn with_agent() -> (Feishu, Gateway, Lines, PathBuf) {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_one", "secret", "ou_one");
    let config = config(&feishu, &["one"]);
    let config = config.replace("[agent.echo]", "[agent.mine]\nkind = \"socket\"");
    let mut gateway = Gateway::new(&config);
    std::fs::write(gateway.path("one.secret"), "secret").unwrap();
    gateway.start();
    gateway.wait_ready("one");
    let mut agent = Lines::agent(&gateway);
    let told = agent.call("initialize", &json!({ "protocol": 1 }));
    let exchange = PathBuf::from(told["exchange"].as_str().unwrap());
    agent.call("ready", &json!({ "lease_ms": 600_000 }));
    (feishu, gateway, agent, exchange)
}

/// F39: the agent and a person are told which parts of a reply are there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_of_a_reply_that_failed_half_way_is_told_to_everybody() {
    let (feishu, gateway, mut agent, exchange) = with_agent().await;
    let refused = Trouble::Code { status: 400, code: 234_006 };
    let refused = Fault::Rest { route: Some(Route::File), trouble: refused };
    feishu.fault("cli_one", refused, Times::Always);
    std::fs::write(exchange.join("a.bin"), "1").unwrap();
    let files = json!([{"kind": "file", "file": "a.bin"}]);
    let reply =
        json!({"key": "k", "instance": "one", "chat_id": "oc_1", "text": "see", "files": files});
    agent.call("message.send", &reply);
    let receipt = agent.until(|line| line["method"] == "message.receipt")["params"].clone();
    let there = feishu.sent().remove(0).message_id;
    assert_eq!(receipt["state"], "failed", "{receipt}");
    assert_eq!(receipt["message_ids"], json!([there]), "{receipt}");
    let known = agent.call("message.send", &reply);
    assert_eq!(known["message_ids"], json!([there]), "whoever asks again is told the same");
    gateway.wait("one", "a person is to look", |i| i["store"]["undelivered"] == 1);
    let parked = stdout(&gateway.run(&["ctl", "parked", "list"]));
    let told = format!("1 of 2 parts were sent ({there}); file a.bin: 234006");
    assert!(parked.contains(&told), "{parked}");
    assert!(gateway.log().contains(&told), "{}", gateway.log());
}

/// Files out and in, drafts and signs of work, through everything between an agent and the platform.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sends_and_fetches_files_and_shows_what_it_writes() {
    let (feishu, gateway, mut agent, exchange) = with_agent().await;
    feishu.put_resource("file_1", "file", "text/plain", b"hello");
    let file = json!({"file_key": "file_1", "file_name": "a.txt"});
    feishu.push_message("cli_one", Message::direct("oc_1", "ou_ann").content("file", &file));
    let delivery = agent.event();
    let event = delivery["params"].clone();
    let working = |entry: &Entry| matches!(&entry.what, Observation::Reacted { emoji, .. } if emoji == "Typing");
    feishu.wait_count("a sign of work", PATIENCE, 1, working).await;
    let wish =
        json!({"instance": "one", "message_id": event["message_id"], "part": event["parts"][0]});
    let fetched = agent.call("file.fetch", &wish);
    assert_eq!(std::fs::read(fetched["path"].as_str().unwrap()).unwrap(), b"hello");

    let place = |more: Value| {
        let mut all = json!({"key": "k", "instance": "one", "chat_id": event["chat_id"]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    agent.call("message.draft", &place(json!({"text": "half"})));
    let draft = feishu.wait_sent(PATIENCE, |sent| sent.msg_type == "interactive").await;
    let shows = |text: &str| {
        gateway.until(text, || (feishu.shown(&draft.message_id)? == text).then_some(()));
    };
    shows("half");
    agent.call("message.draft", &place(json!({"text": "half a"})));
    shows("half a");
    std::fs::write(exchange.join("chart.png"), b"\x89PNG and more").unwrap();
    let files = json!([{"kind": "image", "file": "chart.png", "title": null}]);
    agent.call("message.send", &place(json!({"text": "half a **loaf**", "files": files})));
    feishu.wait_sent(PATIENCE, |sent| sent.msg_type == "image").await;
    shows("half a **loaf**");
    assert!(!feishu.streams(&draft.message_id));
    assert_eq!(feishu.sent().len(), 2, "the draft became the reply");
    agent.acknowledge(&delivery);
    let over = |entry: &Entry| matches!(entry.what, Observation::Unreacted { .. });
    feishu.wait_count("work is over", PATIENCE, 1, over).await;
    gateway.wait("one", "all is told", |i| i["store"]["sent"] == 1);
    assert!(feishu.violations().is_empty(), "{:?}", feishu.violations());
}

/// The platform names nobody in a recall, and need not say who wrote the message.
#[tokio::test(flavor = "multi_thread")]
async fn that_a_message_is_taken_back_is_heard_if_the_message_was() {
    let (feishu, gateway, mut agent, _) = with_agent().await;
    let said = |id: &str| Message::group("oc_2", "ou_ann").message_id(id);
    let heard = said("om_heard").text("@_user_1 hi").mention("@_user_1", "ou_one", "bot");
    feishu.push_message("cli_one", heard).acked().await;
    let delivery = agent.event();
    agent.acknowledge(&delivery);
    feishu.push_message("cli_one", said("om_other").text("among us")).acked().await;
    for route in [Route::Message, Route::History] {
        let trouble = Trouble::Code { status: 400, code: 99_991_672 };
        let denied = Fault::Rest { route: Some(route), trouble };
        feishu.fault("cli_one", denied, Times::Always);
    }
    assert!(gateway.run(&["ctl", "restart", "one"]).status.success());
    for id in ["om_other", "om_heard"] {
        feishu.push_event("cli_one", recalled("oc_2", id)).acked().await;
    }
    let event = agent.event()["params"].clone();
    assert_eq!((&event["kind"], &event["message_id"]), (&json!("recall"), &json!("om_heard")));
    gateway.wait("one", "the other is for nobody", |i| i["store"]["denied"] == 1);
}

/// F70: a broken peer in between is one matter, however many parts it spoils.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_make_no_sense_are_counted_in_the_log() {
    let (feishu, gateway) = gateway(&["one"]).await;
    feishu.wait_connected("cli_one", 1, PATIENCE).await;
    let part = Frame { method: DATA, payload: Some(b"{}".to_vec()), ..Frame::default() };
    let part = part.with("type", "event").with("message_id", "m").with("seq", "0");
    let (wide, odd) = (part.clone().with("sum", "1000000000"), part.with("sum", "x"));
    for _ in 0..100 {
        feishu.send_frame("cli_one", &wide);
        feishu.send_frame("cli_one", &odd);
    }
    feishu.push_text("cli_one", "oc_1", "ou_ann", "hello").acked_within(PATIENCE).await;
    assert_eq!(gateway.log().matches("a part of an event is dropped").count(), 14);
}

/// F95: in a direct chat, too, where whoever is at the other end is named by what was said before.
#[tokio::test(flavor = "multi_thread")]
async fn what_names_nobody_goes_to_the_agent_of_its_chat() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_one", "secret", "ou_one");
    let routed = "agent = \"echo\"\n[agent.echo]\n[agent.mine]\nkind = \"socket\"\n\
                  [[route]]\nuser = \"ou_ann\"\nagent = \"mine\"\n";
    let mut gateway = Gateway::new(&config(&feishu, &["one"]).replace("[agent.echo]\n", routed));
    std::fs::write(gateway.path("one.secret"), "secret").unwrap();
    gateway.start();
    gateway.wait_ready("one");
    let mut agent = Lines::ready(&gateway);
    let said = Message::direct("oc_1", "ou_ann").message_id("om_heard").text("hi");
    feishu.push_message("cli_one", said).acked().await;
    let delivery = agent.event();
    agent.acknowledge(&delivery);
    // More chats than the worker remembers over a restart.
    let others = (2..=250)
        .map(|n| feishu.push_text("cli_one", &format!("oc_{n}"), &format!("ou_{n}"), "hi"));
    for other in others.collect::<Vec<_>>() {
        other.acked().await;
    }
    for route in [Route::Message, Route::History] {
        let trouble = Trouble::Code { status: 400, code: 99_991_672 };
        let denied = Fault::Rest { route: Some(route), trouble };
        feishu.fault("cli_one", denied, Times::Always);
    }
    assert!(gateway.run(&["ctl", "restart", "one"]).status.success());
    feishu.push_event("cli_one", recalled("oc_1", "om_heard")).acked().await;
    let event = agent.event()["params"].clone();
    assert_eq!((&event["kind"], &event["user_id"]), (&json!("recall"), &json!("")));
}

/// What an agent says there without an answer to anything, after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_into_a_topic_stays_there_whoever_says_it() {
    let (feishu, gateway, mut agent, _) = with_agent().await;
    let topic = Message::group("oc_2", "ou_ann").in_thread("omt_1", "om_root").message_id("om_1");
    let topic = topic.text("@_user_1 hi").mention("@_user_1", "ou_one", "bot");
    feishu.push_message("cli_one", topic).acked().await;
    let delivery = agent.event();
    agent.acknowledge(&delivery);
    for key in ["before", "after"] {
        let place = json!({
            "key": key, "instance": "one", "chat_id": "oc_2", "thread_id": "omt_1", "text": key,
        });
        agent.call("message.send", &place);
        let sent = feishu.wait_sent(PATIENCE, |it| it.text().as_deref() == Some(key)).await;
        assert_eq!((sent.reply_to.as_deref(), sent.in_thread), (Some("om_1"), true), "{key}");
        assert!(gateway.run(&["ctl", "restart", "--force", "one"]).status.success());
    }
}

/// Whoever shows that somebody is at work may be gone when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_work_goes_also_if_its_worker_was_away_at_the_end() {
    let (feishu, gateway, mut agent, _) = with_agent().await;
    let working = |entry: &Entry| matches!(entry.what, Observation::Reacted { .. });
    let over = |entry: &Entry| matches!(entry.what, Observation::Unreacted { .. });
    feishu.push_text("cli_one", "oc_1", "ou_ann", "hello").acked().await;
    let delivery = agent.event();
    feishu.wait_count("a sign of work", PATIENCE, 1, working).await;
    assert!(gateway.run(&["ctl", "kill", "one"]).status.success());
    agent.acknowledge(&delivery);
    gateway.wait("mine", "it is acknowledged", |i| i["gate"]["acknowledged"] == 1);
    assert!(gateway.run(&["ctl", "start", "one"]).status.success());
    feishu.wait_count("work is over", PATIENCE, 1, over).await;
    assert!(feishu.violations().is_empty(), "{:?}", feishu.violations());
}

/// Whoever waits for the answer does not care for the card that was to become it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_wait_for_a_card_that_is_out_of_order() {
    let (feishu, gateway, mut agent, _) = with_agent().await;
    feishu.push_text("cli_one", "oc_1", "ou_ann", "hello").acked().await;
    let chat = agent.event()["params"]["chat_id"].clone();
    let place = |text: &str| json!({"key": "k", "instance": "one", "chat_id": chat, "text": text});
    agent.call("message.draft", &place("half"));
    let draft = feishu.wait_sent(PATIENCE, |sent| sent.msg_type == "interactive").await;
    assert!(gateway.run(&["ctl", "restart", "one"]).status.success());
    gateway.wait_ready("one");
    let trouble = Trouble::Html { status: 500 };
    let broken = Fault::Rest { route: Some(Route::CardConvert), trouble };
    feishu.fault("cli_one", broken, Times::Always);
    agent.call("message.send", &place("half a loaf"));
    gateway.wait("one", "it is sent", |i| i["store"]["sent"] == 1);
    assert_eq!(feishu.shown(&draft.message_id), None);
    let last = feishu.sent().pop().unwrap();
    assert_eq!(feishu.shown(&last.message_id).as_deref(), Some("half a loaf"));
}

/// From the long connection to a webhook by a changed configuration.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_reaches_the_agent() {
    let (feishu, gateway) = gateway(&["one"]).await;
    gateway.wait_ready("one");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(gateway.path("key"), "a key").unwrap();
    let config = std::fs::read_to_string(gateway.path("config.toml")).unwrap();
    let hooked = config.replace(
        "[agent.echo]",
        &format!("webhook = {{ listen = \"{free}\", encrypt_key_file = \"key\" }}\n[agent.echo]"),
    );
    std::fs::write(gateway.path("config.toml"), hooked).unwrap();
    assert!(gateway.run(&["ctl", "reload"]).status.success());
    let listening = |i: &Value| i["account"].as_str().is_some_and(|it| it.contains("listening on"));
    gateway.wait("one", "listens", listening);
    let (url, key) = (format!("http://{free}/"), Some("a key".to_owned()));
    let hook = Webhook { url, token: String::new(), encrypt_key: key, ahead: 0 };
    let event = Message::direct("oc_1", "ou_ann").text("posted").build();
    for _ in 0..2 {
        let (status, _) = feishu.post_event(&hook, event.clone()).await.unwrap();
        assert_eq!(status, 200, "the second time as well");
    }
    feishu.wait_sent(PATIENCE, |sent| sent.text().is_some_and(|it| it.contains("posted"))).await;
    let forged = Webhook { encrypt_key: Some("another".to_owned()), ..hook };
    assert_eq!(forged.post(&forged.request(event)).await.unwrap().0, 401);
    assert_eq!(gateway.instance("one")["store"]["accepted"], 1);
    feishu.wait_connections("cli_one", 0, PATIENCE).await;
}

/// A menu of the bot says with its `event_key` what `[commands]` may name.
#[tokio::test(flavor = "multi_thread")]
async fn a_menu_commands_the_gateway_by_its_event_key() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_menu", "secret", "ou_menu");
    let commands = "[commands]\nstop = [\"/stop\", \"menu_stop\"]\n";
    let mut gateway = Gateway::new(&(commands.to_owned() + &config(&feishu, &["menu"])));
    std::fs::write(gateway.path("menu.secret"), "secret").unwrap();
    gateway.start();
    feishu.wait_connected("cli_menu", 1, PATIENCE).await;
    // From it the gateway knows in which chat this person speaks with the bot.
    answered(&feishu, "menu", "hello").await;
    feishu.push_event("cli_menu", menu("ou_user", "menu_stop")).acked_within(PATIENCE).await;
    let stopped = |it: &SentMessage| it.text().as_deref() == Some("Nothing to stop here.");
    let sent = feishu.wait_sent(PATIENCE, stopped).await;
    assert_eq!(sent.receive_id, "oc_menu", "in the chat in which the menu stands");
}

/// An hour of the platform's own schedule passes in two seconds here: what is said meanwhile is acknowledged
/// at once, told again or not, and reaches the agent once, in order, when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_the_agent_is_no_trouble() {
    const MESSAGES: usize = 200;
    let feishu = Feishu::start().await;
    feishu.add_app("cli_one", "secret", "ou_one");
    feishu.configure(|settings| settings.schedule = Schedule::with_pauses_scaled(1.0 / 1800.0));
    let agent = "[agent.hermes]\nkind = \"socket\"\n";
    let config = config(&feishu, &["one"]).replace("[agent.echo]\n", agent);
    let mut gateway = Gateway::new(&config);
    std::fs::write(gateway.path("one.secret"), "secret").unwrap();
    gateway.start();
    gateway.wait_ready("one");
    let mut pushed = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_secs(2) / u32::try_from(MESSAGES).unwrap());
    for n in 0..MESSAGES {
        pace.tick().await;
        let chat = format!("oc_{}", n % 10);
        pushed.push(feishu.push_text("cli_one", &chat, "ou_user", &format!("m{n}")));
        if n % 20 == 19 {
            // Under another id, as after a reconnect.
            feishu.replay(&pushed[n / 2]).acked().await;
        }
    }
    for event in &pushed {
        assert_eq!(
            event.acked_within(PATIENCE).await.attempt,
            1,
            "told once, and answered in time"
        );
    }
    assert_eq!(gateway.instance("one")["store"]["waiting"], MESSAGES);
    let agent = Agent::start(&gateway);
    let sent = |entry: &Entry| matches!(entry.what, Observation::Sent(_));
    feishu.wait_count("every answer", PATIENCE, MESSAGES, sent).await;
    gateway.wait("one", "nothing waits", |it| it["store"]["waiting"] == 0);
    let offered = agent.kill();
    assert_eq!(offered.len(), MESSAGES);
    assert!(offered.iter().all(|event| event["attempt"] == 1));
    assert_eq!(feishu.count(sent), MESSAGES);
    assert!(feishu.violations().is_empty(), "{:?}", feishu.violations());
}

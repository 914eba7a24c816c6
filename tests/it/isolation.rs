//! One instance's trouble stays its own (F40, F50, F53, F57, F67, F84).

use serde_json::Value;
use tests::feishu::{Ending, Fault, Feishu, Message, Observation, Times};

use crate::gateway::{Gateway, PATIENCE, is_alive, signal};

fn two_apps(feishu: &Feishu, second_secret: &str) -> Gateway {
    for app in ["cli_one", "cli_two"] {
        feishu.add_app(app, "secret", &format!("ou_{app}"));
    }
    let block = |name: &str, secret: &str| {
        format!(
            "[platform.{name}]\nkind = \"feishu\"\napp_id = \"cli_{name}\"\n\
             app_secret_file = \"{secret}\"\nbase_url = \"{}\"\n\
             access = {{ direct = \"open\", groups = \"all\" }}\n",
            feishu.base_url()
        )
    };
    let config = format!(
        "{}{}[platform.local]\n[agent.echo]\n",
        block("one", "good"),
        block("two", second_secret)
    );
    let mut gateway = Gateway::new(&config);
    std::fs::write(gateway.path("good"), "secret").unwrap();
    std::fs::write(gateway.path("bad"), "wrong").unwrap();
    gateway.start();
    gateway
}

fn pid(instance: &Value) -> u64 {
    instance["pid"].as_u64().unwrap()
}

/// F56
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_comes_back_and_its_siblings_notice_nothing() {
    let feishu = Feishu::start().await;
    let gateway = two_apps(&feishu, "good");
    let names = ["one", "two", "local", "echo"];
    let before: Vec<u64> = names.iter().map(|name| pid(&gateway.wait_ready(name))).collect();
    let connection = feishu.connections("cli_two");
    let mut events = gateway.events();

    signal(before[0], "KILL");
    let starting = events.wait(|event| event["instance"] == "one" && event["now"] == "starting");
    let back = events.wait(|event| event["instance"] == "one" && event["now"] == "ready");
    assert_eq!((&starting["generation"], &starting["pid"]), (&back["generation"], &back["pid"]));

    let one = gateway.instance("one");
    assert_ne!(pid(&one), before[0]);
    assert_eq!(one["exits"][0]["cause"], "signal 9 (KILL)");
    assert_eq!((&one["restarts"], &one["exits"][0]["generation"]), (&1.into(), &1.into()));
    for (name, before) in names.iter().zip(before).skip(1) {
        assert_eq!(pid(&gateway.instance(name)), before, "{name} keeps its process");
    }
    assert_eq!(feishu.connections("cli_two"), connection, "and its connection");
}

/// F54
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_hangs_at_the_start_delays_no_other() {
    let feishu = Feishu::start().await;
    let hangs = feishu.fault("cli_one", Fault::DiscoveryHang, Times::Always);
    let gateway = two_apps(&feishu, "good");
    for name in ["two", "local", "echo"] {
        gateway.wait_ready(name);
    }
    let heard = feishu.push_text("cli_two", "oc_1", "ou_user", "hello");
    heard.acked_within(PATIENCE).await;
    let reply = feishu.wait_sent(PATIENCE, |_| true).await;
    assert_eq!(reply.app, "cli_two");
    let one = gateway.instance("one");
    assert_eq!((&one["connected"], &one["restarts"]), (&false.into(), &0.into()), "{one}");
    feishu.clear(hangs);
    gateway.wait_ready("one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_leaves_through_the_app_that_heard_the_message() {
    let feishu = Feishu::start().await;
    let gateway = two_apps(&feishu, "good");
    for app in ["one", "two"] {
        gateway.wait_ready(app);
    }
    let rounds = 50;
    for n in 0..rounds {
        for app in ["cli_one", "cli_two"] {
            feishu.push_text(app, "oc_same_chat", "ou_user", &format!("{app} {n}"));
        }
    }
    feishu
        .wait_count("replies", PATIENCE, 2 * rounds, |entry| {
            matches!(entry.what, Observation::Sent(_))
        })
        .await;
    for sent in feishu.sent() {
        let text = sent.text().unwrap();
        assert!(text.starts_with(&format!("{} ", sent.app)), "{text} left through {}", sent.app);
    }
    assert!(feishu.violations().is_empty(), "{:?}", feishu.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_troubles_only_its_own_instance() {
    let feishu = Feishu::start().await;
    let gateway = two_apps(&feishu, "bad");
    gateway.wait_ready("one");
    let two = gateway.wait("two", "says what is wrong", |i| i["reason"].is_string());
    assert_eq!(two["connected"], false);
    assert!(two["remedy"].is_string(), "{two}");
    assert_eq!(gateway.status().unwrap()["state"], "degraded");
    let event = feishu.push_text("cli_one", "oc_1", "ou_1", "hello");
    event.acked_within(PATIENCE).await;
    feishu.wait_sent(PATIENCE, |sent| sent.receive_id == "oc_1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_killed_supervisor() {
    let feishu = Feishu::start().await;
    let mut gateway = two_apps(&feishu, "good");
    let names = ["one", "two", "local", "echo"];
    let pids: Vec<u64> = names.iter().map(|name| pid(&gateway.wait_ready(name))).collect();
    gateway.kill_supervisor();
    for pid in pids {
        gateway.until("the workers leave", || (!is_alive(pid)).then_some(()));
    }
    feishu
        .wait_count("a close frame on each connection", PATIENCE, 2, |entry| {
            matches!(entry.what, Observation::Closed { ending: Ending::Close { .. }, .. })
        })
        .await;
    for app in ["cli_one", "cli_two"] {
        assert!(feishu.connections(app).is_empty());
    }
}

/// F70: somebody adds the bot to a busy group.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_strangers_fills_no_log() {
    const MANY: usize = 300;
    let feishu = Feishu::start().await;
    feishu.add_app("cli_busy", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"cli_busy\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ users = [\"ou_friend\"] }}\n[agent.echo]\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    gateway.wait_ready("feishu");
    for _ in 0..2 {
        for n in 0..MANY {
            let user = format!("ou_{n}");
            let chatter = Message::group("oc_busy", &user).text("to one another");
            feishu.push_message("cli_busy", chatter).acked_within(PATIENCE).await;
            let asks = Message::direct(&format!("oc_{n}"), &user).text("to the bot");
            feishu.push_message("cli_busy", asks).acked_within(PATIENCE).await;
        }
    }
    let store = &gateway.instance("feishu")["store"];
    assert_eq!((&store["denied"], &store["unaddressed"]), (&600.into(), &600.into()));
    let log = gateway.log();
    let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((said(" denied "), said("not said to the bot")), (256, 256));
    assert_eq!(said("for an hour they are counted only"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_heard_by_nobody_until_let_in() {
    let feishu = Feishu::start().await;
    feishu.add_app("cli_closed", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"cli_closed\"\napp_secret_file = \"secret\"\n\
         base_url = \"{}\"\naccess = {{ users = [\"ou_friend\"] }}\n[agent.echo]\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    gateway.wait_ready("feishu");
    for n in 0..3 {
        let stranger =
            feishu.push_text("cli_closed", "oc_s", "ou_stranger", &format!("let me in {n}"));
        // Acknowledged, so that the platform does not repeat what nobody wants.
        stranger.acked_within(PATIENCE).await;
    }
    let group = Message::group("oc_g", "ou_friend").text("not for the bot");
    feishu.push_message("cli_closed", group).acked_within(PATIENCE).await;
    feishu.push_text("cli_closed", "oc_f", "ou_friend", "hello").acked_within(PATIENCE).await;
    let reply = feishu.wait_sent(PATIENCE, |_| true).await;
    assert_eq!(reply.receive_id, "oc_f");
    let told = gateway.instance("feishu");
    assert_eq!((&told["store"]["denied"], &told["store"]["accepted"]), (&3.into(), &1.into()));
    assert_eq!(told["store"]["unaddressed"], 1, "nobody was turned away who may speak");
    assert_eq!(gateway.log().matches(" denied ").count(), 1, "once a sender and reason");
    assert_eq!(gateway.log().matches("not said to the bot").count(), 1);
    let shown = crate::gateway::stdout(&gateway.run(&["ctl", "status"]));
    assert!(shown.contains("denied 3  not to the bot 1"), "{shown}");
}

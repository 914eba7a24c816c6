//! Too many events, and events that come too late (F26, F32).

use serde_json::{Value, json};
use tests::feishu::{Feishu, Message, Schedule};
use tests::telegram::{self, Telegram};

use crate::gateway::{Gateway, PATIENCE, stdout};
use crate::socket_agent::Lines;

const APP: &str = "cli_late";

async fn start(inbox: &str) -> (Feishu, Gateway) {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    feishu.configure(|settings| settings.schedule = Schedule::with_pauses_scaled(0.02));
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n[platform.feishu.inbox]\n{inbox}\n\
         [agent.mine]\nkind = \"socket\"\nconcurrency = 1\n",
        feishu.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret\n").unwrap();
    gateway.start();
    feishu.wait_connected(APP, 1, PATIENCE).await;
    (feishu, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_quota_is_refused_and_comes_again_when_there_is_room() {
    let (feishu, gateway) = start("max_events = 3").await;
    let push = |n: usize| feishu.push_text(APP, &format!("oc_{n}"), "ou_1", &format!("m{n}"));
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(push(n));
        events[n].acked_within(PATIENCE).await;
    }
    events.push(push(3));
    let told = gateway.wait("feishu", "refused", |i| i["store"]["refused"].as_u64() > Some(0));
    assert!(told["reason"].as_str().unwrap().contains("as many wait as may wait"), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("inbox.max_events"), "{told}");
    let again = feishu.replay(&events[0]);
    again.acked_within(PATIENCE).await;
    assert!(!events[3].is_acked(), "what is not kept is not acknowledged");
    assert_eq!(gateway.instance("feishu")["store"]["waiting"], 3);

    let mut agent = Lines::ready(&gateway);
    for _ in 0..4 {
        let event = agent.event();
        agent.acknowledge(&event);
    }
    let ack = events[3].acked_within(PATIENCE).await;
    assert!(ack.attempt > 1);
    assert!(gateway.instance("feishu")["reason"].is_null());
}

/// What a program says counts once towards what programs may say in a row, however often it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_refused_is_heard_when_there_is_room() {
    const TOKEN: &str = "7700:token";
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\", groups = \"all\", bots = true }}\n\
         inbox = {{ max_events = 1 }}\n[agent.mine]\nkind = \"socket\"\n",
        telegram.base_url()
    ));
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    gateway.start();
    telegram.push_text(TOKEN, 9, "first");
    gateway.wait("telegram", "it waits", |i| i["store"]["waiting"] == 1);
    let program = json!({"id": 77, "is_bot": true, "first_name": "P", "username": "p_bot"});
    let said = telegram::Message::group(-100, 77).text("from a program").with("from", program);
    telegram.push_message(TOKEN, said);
    // Refused again and again, or let go.
    let told = gateway.wait("telegram", "many times", |i| {
        i["store"]["refused"].as_u64() > Some(6) || i["store"]["denied"] != 0
    });
    assert_eq!(told["store"]["denied"], 0, "{told}");
    let mut agent = Lines::ready(&gateway);
    for text in ["first", "from a program"] {
        let event = agent.event();
        assert_eq!(event["params"]["text"], text);
        agent.acknowledge(&event);
    }
}

fn said(chat: &str, text: &str, at_ms: i64) -> Value {
    let mut event = Message::direct(chat, "ou_1").text(text).build();
    event["event"]["message"]["create_time"] = json!(at_ms.to_string());
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_is_marked_or_kept_aside_as_its_chat_wants() {
    let rules = "late_after_s = 3600\n\
                 [platform.feishu.inbox.chats.oc_strict]\nlate = \"keep\"\nlate_after_s = 60";
    let (feishu, gateway) = start(rules).await;
    let mut agent = Lines::ready(&gateway);
    let fresh = Message::direct("oc_mild", "ou_1").text("now").build();
    let time = &fresh["event"]["message"]["create_time"];
    let now_ms: i64 = time.as_str().unwrap().parse().unwrap();
    let two_hours = now_ms - 2 * 3600 * 1000;
    for (chat, text, at_ms) in [
        ("oc_mild", "old", two_hours),
        ("oc_mild", "young", now_ms),
        ("oc_strict", "stale", two_hours),
        ("oc_strict", "from the future", now_ms + 3_600_000),
    ] {
        feishu.push_event(APP, said(chat, text, at_ms)).acked_within(PATIENCE).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let event = agent.event();
        let late = event["params"]["late_by_ms"].as_i64();
        heard.push((event["params"]["text"].as_str().unwrap().to_owned(), late));
        agent.acknowledge(&event);
    }
    heard.sort();
    assert_eq!(heard[0], ("from the future".into(), None));
    assert_eq!(heard[1].0, "old");
    assert!(heard[1].1.unwrap() >= 7_200_000, "{heard:?}");
    assert_eq!(heard[2], ("young".into(), None));

    gateway.wait("feishu", "kept, and nothing waits", |i| {
        i["store"]["parked"] == 1 && i["store"]["waiting"] == 0
    });
    let list = stdout(&gateway.run(&["ctl", "parked", "list"]));
    assert!(list.contains("oc_strict") && list.contains("too late: said 2 h ago"), "{list}");
    assert!(list.contains("0 attempts"), "{list}");
    gateway.run(&["ctl", "parked", "replay", "--all"]);
    let event = agent.event();
    assert_eq!(event["params"]["text"], "stale", "whoever asks for it gets it");
    assert!(event["params"]["late_by_ms"].as_i64() >= Some(7_200_000));
    assert_eq!(event["params"]["attempt"], 1, "nobody has seen it before");
}

//! What a person does with a bot of Telegram, and what becomes of replies that Telegram does not take: from
//! the queue to the agent and back.

use serde_json::{Value, json};
use tests::telegram::{Message, Mood, Observation, Telegram};

use crate::gateway::{Gateway, PATIENCE, root, stdout};
use crate::socket_agent::Lines;

const TOKEN: &str = "7700:s3cret-Token_of-a-b0t";
const ANN: i64 = 9;
const SOCKET: &str = "[agent.mine]\nkind = \"socket\"\n";

async fn platform() -> Telegram {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    telegram
}

fn gateway(telegram: &Telegram, platform: &str, agent: &str) -> Gateway {
    let base_url = telegram.base_url();
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{base_url}\"\n{platform}\
         access = {{ direct = \"open\", groups = \"mention\", chats = [-5] }}\n{agent}"
    ));
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    gateway.start();
    gateway.wait_ready("telegram");
    gateway
}

fn picture(message: Message, album: &str, file: &str) -> Message {
    message.with("media_group_id", album).with("photo", json!([{"file_id": file, "width": 1}]))
}

/// Telegram posts the next picture when the one before is stored, and names no last one.
#[tokio::test(flavor = "multi_thread")]
async fn an_album_that_is_posted_picture_by_picture_is_one_event() {
    let telegram = platform().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hook = format!("webhook = {{ url = \"http://{port}/t\", listen = \"{port}\" }}\n");
    let gateway = gateway(&telegram, &hook, SOCKET);
    let mut agent = Lines::ready(&gateway);
    // Of a group only what is said to the bot is heard, which the caption of one picture says.
    let mention = json!([{"type": "mention", "offset": 0, "length": 9}]);
    let in_group = |file: &str| picture(Message::group(-5, ANN), "g", file);
    let captioned =
        in_group("g1").with("caption", "@test_bot look").with("caption_entities", mention);
    telegram.push_message(TOKEN, captioned);
    for file in ["g2", "g3"] {
        telegram.push_message(TOKEN, in_group(file));
    }
    for file in ["a1", "a2", "a3", "a4"] {
        telegram.push_message(TOKEN, picture(Message::direct(ANN), "a", file));
    }
    telegram.push_message(TOKEN, picture(Message::direct(ANN), "b", "b1"));
    telegram.push_text(TOKEN, ANN, "which is best?");
    let mut heard: Vec<(String, Vec<String>)> = Vec::new();
    while heard.len() < 4 {
        let delivery = agent.event();
        let event = &delivery["params"];
        let parts = event["parts"].as_array().unwrap().iter();
        let handles = parts.map(|part| part["handle"].as_str().unwrap().to_owned()).collect();
        heard.push((event["chat_id"].as_str().unwrap().to_owned(), handles));
        // Of the other chat something may come before this is settled.
        agent.say(&json!({ "jsonrpc": "2.0", "id": delivery["id"], "result": {} }));
    }
    let of = |chat: &str| -> Vec<_> {
        heard.iter().filter(|(of, _)| of == chat).map(|(_, handles)| handles.join(" ")).collect()
    };
    assert_eq!(of("-5"), ["g1 g2 g3"]);
    assert_eq!(of("9"), ["a1 a2 a3 a4", "b1", ""]);
    gateway.wait("telegram", "all is settled", |i| i["store"]["waiting"] == 0);
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    assert_eq!(gateway.instance("telegram")["store"]["accepted"], 9);
}

/// The button that Telegram shows below the preview of a reply, from Bot API 10.3 on.
#[tokio::test(flavor = "multi_thread")]
async fn the_stop_button_of_a_preview_ends_the_agents_work() {
    let telegram = platform().await;
    let program = root().join("tests/it/agents/talker.py");
    let agent = format!(
        "[agent.mine]\nkind = \"exec\"\ncommand = [\"python3\", {program:?}, \"interrupt\"]\n\
         [commands]\nstop = []\n"
    );
    let gateway = gateway(&telegram, "", &agent);
    telegram.push_text(TOKEN, ANN, "work");
    gateway.wait("mine", "at work", |i| i["gate"]["in_flight"] == 1);
    let stopped = |user: i64| {
        let chat = json!({"id": user, "type": "private", "first_name": "A"});
        telegram.push(TOKEN, json!({"stopped_message_generation": {"chat": chat, "draft_id": 5}}));
    };
    telegram.set_mood(TOKEN, 10, Mood::Open);
    // Another person's button is about another person's conversation.
    stopped(10);
    telegram.wait_sent(PATIENCE, 1).await;
    stopped(ANN);
    let sent = telegram.wait_sent(PATIENCE, 3).await;
    let mut said: Vec<_> = sent.iter().map(|it| (it.chat_id, it.text.as_str())).collect();
    said.sort_unstable();
    let expected = [(ANN, "Stopped."), (ANN, "interrupted: work"), (10, "Nothing to stop here.")];
    assert_eq!(said, expected);
    gateway.wait("telegram", "all is settled", |i| i["store"]["waiting"] == 0);
}

fn to(chat: i64, key: &str, text: &str) -> Value {
    json!({"key": key, "instance": "telegram", "chat_id": chat.to_string(), "text": text})
}

/// A long reply that waits for its group's pace holds up nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn replies_that_wait_in_the_middle_leave_room_for_other_chats() {
    const PARTS: usize = 15;
    let telegram = platform().await;
    let gateway = gateway(&telegram, "", SOCKET);
    let mut agent = Lines::ready(&gateway);
    // Five messages of a group go at once, and then one in three seconds: half a minute for all.
    let long = "x".repeat(4096 * PARTS);
    for group in 1..=20 {
        telegram.set_mood(TOKEN, -group, Mood::Open);
        agent.call("message.send", &to(-group, &format!("long {group}"), &long));
    }
    telegram.set_mood(TOKEN, ANN, Mood::Open);
    agent.call("message.send", &to(ANN, "short", "short"));
    let is_short = |it: &Observation| matches!(it, Observation::Sent(sent) if sent.text == "short");
    telegram.wait_count("the short one", PATIENCE, 1, |it| is_short(&it.what)).await;
    let sent = telegram.sent();
    let whole =
        (1..=20_i64).filter(|group| sent.iter().filter(|it| it.chat_id == -group).count() == PARTS);
    assert_eq!(whole.count(), 0, "not one of the long replies was over by then");
}

/// What Telegram refuses ends as failed, with words that help; the platform is no worse for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reply_says_what_a_person_can_do_and_is_kept() {
    let telegram = platform().await;
    let gateway = gateway(&telegram, "", SOCKET);
    let mut agent = Lines::agent(&gateway);
    let known = agent.call("initialize", &json!({ "protocol": 1 }));
    let exchange = std::path::PathBuf::from(known["exchange"].as_str().unwrap());
    let mut told = |message: &Value| {
        agent.call("message.send", message);
        let receipt = agent.until(|line| line["method"] == "message.receipt");
        assert_eq!(receipt["params"]["key"], message["key"]);
        receipt["params"].clone()
    };
    for (chat, mood, hint) in [
        (21, Mood::Blocked, "start the bot again"),
        (-22, Mood::Kicked, "add the bot"),
        (-23, Mood::Muted, "let the bot write"),
        (24, Mood::Gone, "write to the bot first"),
    ] {
        telegram.set_mood(TOKEN, chat, mood);
        let receipt = told(&to(chat, &format!("to {chat}"), "hello"));
        assert_eq!(receipt["state"], "failed", "{receipt}");
        assert!(receipt["reason"].as_str().unwrap().contains(hint), "{receipt}");
    }
    telegram.set_mood(TOKEN, ANN, Mood::Open);
    let receipt = told(&to(ANN, "good", "hello"));
    assert_eq!(receipt["state"], "sent", "{receipt}");
    let mut edit = to(ANN, "edit", "other");
    edit["edit"] = receipt["message_ids"][0].clone();
    let old = "Bad Request: message can't be edited";
    let parameters = Value::Null;
    let refuse = tests::telegram::Fault::Refuse { code: 400, description: old.into(), parameters };
    telegram.fault(Some("editMessageText"), refuse.clone(), None);
    let receipt = told(&edit);
    assert_eq!(receipt["state"], "failed", "{receipt}");
    assert!(receipt["reason"].as_str().unwrap().contains("48 hours"), "{receipt}");
    // Of a reply in several messages the receipt names those that are there.
    telegram.set_mood(TOKEN, -25, Mood::Open);
    telegram.fault(Some("sendDocument"), refuse, None);
    std::fs::write(exchange.join("a.ogg"), "1").unwrap();
    std::fs::write(exchange.join("b.bin"), "1").unwrap();
    let mut parts = to(-25, "parts", "");
    parts["files"] = json!([{"kind": "voice", "file": "a.ogg"}, {"kind": "file", "file": "b.bin"}]);
    let receipt = told(&parts);
    assert_eq!(receipt["state"], "failed", "{receipt}");
    let there = telegram.sent().last().unwrap().message_id.to_string();
    assert_eq!(receipt["message_ids"], json!([&there]), "{receipt}");
    let told = format!("1 of 2 messages were sent ({there})");
    assert!(receipt["reason"].as_str().unwrap().contains(&told), "{receipt}");
    let state = gateway.wait("telegram", "all are kept", |i| i["store"]["undelivered"] == 6);
    let parked = stdout(&gateway.run(&["ctl", "parked", "list"]));
    assert!(parked.contains(&told), "{parked}");
    assert_eq!((&state["phase"], &state["outside"]), (&json!("ready"), &json!("up")));
}

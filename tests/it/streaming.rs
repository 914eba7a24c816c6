//! Answers in the making at Telegram, and how they end: whole, as the endpoint said them, or with a word
//! that no more comes. `openai_agent` has the same for Feishu's cards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tests::openai::{Answer, Server, data_url, delta, finish};
use tests::telegram::{Message, Observation, Telegram};

use crate::gateway::{Gateway, signal};

const TOKEN: &str = "7700:s3cret-Token_of-a-b0t";
const GROUP: i64 = -1005;
const USER: i64 = 9;

struct World {
    server: Server,
    telegram: Telegram,
    gateway: Gateway,
}

impl World {
    async fn new(more: &str) -> Self {
        let server = Server::start().await.unwrap();
        let telegram = Telegram::start().await;
        telegram.add_bot(TOKEN, "test_bot");
        // The platform's own limit, beyond which it is no less than 429.
        telegram.configure(|settings| {
            settings.per_chat = Some(Duration::from_millis(900));
            settings.retry_after_s = 1;
        });
        let mut gateway = Gateway::new(&format!(
            "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
             access = {{ direct = \"open\", groups = \"all\", chats = [{GROUP}] }}\n\
             [agent.model]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"m\"\n{more}\n",
            telegram.base_url(),
            server.base_url()
        ));
        std::fs::write(gateway.path("token"), TOKEN).unwrap();
        gateway.start();
        gateway.wait_ready("telegram");
        gateway.wait("model", "gate open", |i| i["gate"]["open"] == true);
        Self { server, telegram, gateway }
    }

    fn say(&self, chat: i64, text: &str) {
        let message =
            if chat == GROUP { Message::group(GROUP, USER) } else { Message::direct(USER) };
        self.telegram.push_message(TOKEN, message.text(text));
    }

    /// What people see in a chat by now, message by message.
    fn shown(&self, chat: i64) -> Vec<String> {
        let mut shown = BTreeMap::new();
        for entry in self.telegram.journal() {
            match entry.what {
                Observation::Sent(it) if it.chat_id == chat => {
                    shown.insert(it.message_id, it.text);
                }
                Observation::Edited { chat_id, message_id, text, .. } if chat_id == chat => {
                    shown.insert(message_id, text);
                }
                Observation::Deleted { chat_id, message_id } if chat_id == chat => {
                    shown.remove(&message_id);
                }
                _ => {}
            }
        }
        shown.into_values().map(|text| text.trim().to_owned()).collect()
    }

    fn settled(&self) {
        self.gateway.wait("telegram", "settled", |i| {
            i["store"]["waiting"] == 0 && i["store"]["replies"] == 0
        });
    }

    /// Waits until a part of an answer is seen, which begins with `start`.
    fn until_begun(&self, start: &str) {
        self.gateway.until("a part of it is seen", || {
            self.shown(GROUP).last()?.starts_with(start).then_some(())
        });
    }

    fn count(&self, what: impl Fn(&Observation) -> bool) -> usize {
        self.telegram.journal().iter().filter(|entry| what(&entry.what)).count()
    }
}

/// Words that take a while.
fn words(count: usize, pause: Duration) -> (String, Answer) {
    let words: Vec<String> = (0..count).map(|n| format!("word{n} ")).collect();
    let parts = words.iter().map(|word| delta(word)).chain([finish("stop")]).collect();
    (words.concat().trim().to_owned(), Answer::Slow(pause, parts))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_while_it_comes_becomes_the_answer() {
    let world = World::new("").await;
    for chat in [GROUP, USER] {
        let (whole, slow) = words(20, Duration::from_millis(200));
        world.server.script([slow]);
        world.say(chat, "hello");
        world.gateway.until("it is whole", || (world.shown(chat) == [&*whole]).then_some(()));
        world.settled();
        assert_eq!(world.shown(chat), [&*whole], "one message, and all of it");
        for entry in world.telegram.journal() {
            let part = match entry.what {
                Observation::Edited { text, .. } | Observation::Draft { text, .. } => text,
                Observation::Sent(it) => it.text,
                _ => continue,
            };
            assert!(whole.starts_with(part.trim()), "{part:?}");
        }
    }
    let edits = world.count(|it| matches!(it, Observation::Edited { chat_id: GROUP, .. }));
    let previews = world.count(|it| matches!(it, Observation::Draft { chat_id: USER, .. }));
    assert!(edits > 0 && previews > 0, "{edits} edits, {previews} previews");
    let calls = world.count(|it| matches!(it, Observation::Call { inside_window: true, .. }));
    assert_eq!(calls, 0, "no call in a pause that the platform wants");
    assert!(world.telegram.violations().is_empty(), "{:?}", world.telegram.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_kill_cuts_is_made_whole() {
    for victim in ["model", "telegram", "supervisor"] {
        let mut world = World::new("").await;
        let (whole, slow) = words(12, Duration::from_millis(300));
        let slowly = || words(12, Duration::from_millis(300)).1;
        world.server.script(match victim {
            "model" => vec![Answer::Silent(vec![delta("word0 word1 ")])],
            "telegram" => vec![slow],
            // Asked again, it is shown in the making again.
            _ => vec![slow, slowly()],
        });
        world.say(GROUP, "hello");
        world.until_begun("word0");
        // Until the message that shows it is known by the supervisor, too.
        world.gateway.until("it goes on", || {
            let edited = world.count(|it| matches!(it, Observation::Edited { .. }));
            (victim == "model" || edited > 0).then_some(())
        });
        if victim == "supervisor" {
            world.gateway.kill_supervisor();
            world.gateway.start();
        } else {
            signal(world.gateway.instance(victim)["pid"].as_u64().unwrap(), "KILL");
        }
        let expected = if victim == "model" { "You said: Ann: hello" } else { &*whole };
        world
            .gateway
            .until("it is whole", || (world.shown(GROUP).last()? == expected).then_some(()));
        world.settled();
        assert_eq!(world.shown(GROUP), [expected], "{victim}: in the message that began it");
    }
}

/// F98: what no attempt has finished does not look as if more came.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_given_up_says_so_in_its_place() {
    let world = World::new("max_attempts = 2").await;
    let half = |text: &str| {
        Answer::Slow(Duration::from_millis(700), vec![delta(text), delta("and "), delta("more ")])
    };
    world.server.script([half("first half "), half("second half ")]);
    world.say(GROUP, "hello");
    world.until_begun("first half");
    let told = world.gateway.wait("telegram", "set aside", |i| i["store"]["parked"] == 1);
    assert_eq!(told["store"]["waiting"], 0);
    world.settled();
    let shown = world.shown(GROUP);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(
        shown[0].starts_with("second half") && shown[0].ends_with("\n\n(broken off)"),
        "{shown:?}"
    );
    // Asked again by a person, it is answered by a message of its own.
    world.gateway.run(&["ctl", "parked", "replay", "--all"]);
    world
        .gateway
        .until("answered", || (world.shown(GROUP).last()? == "You said: Ann: hello").then_some(()));
    assert_eq!(world.shown(GROUP).len(), 2, "{:?}", world.shown(GROUP));
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_an_answer_are_sent_and_their_bytes_shown_to_nobody() {
    let world = World::new("").await;
    let png = b"\x89PNG\r\n\x1a\nand so on";
    let url = data_url("image/png", png);
    let beside = json!([{ "type": "image_url", "image_url": { "url": url } }]);
    let beside = json!({ "choices": [{ "index": 0, "delta": { "images": beside } }] });
    let (start, end) = url.split_at(40);
    world.server.script([Answer::Slow(
        Duration::from_millis(400),
        vec![
            delta("Here: ![a cat]("),
            delta(start),
            delta(&format!("{end}) and another. ")),
            format!("data: {beside}\n\n"),
            finish("stop"),
        ],
    )]);
    world.say(USER, "draw");
    let sent = world.gateway.until("both are sent", || {
        let sent = world.telegram.sent();
        let photos = sent.iter().filter(|it| it.file.is_some()).count();
        (photos == 2).then_some(sent)
    });
    world.settled();
    let sizes: Vec<_> = sent.iter().filter_map(|it| it.file.as_ref()).map(|it| it.size).collect();
    assert_eq!(sizes, [png.len(); 2]);
    assert!(sent.iter().any(|it| it.text.contains("Here:") && it.text.contains("and another.")));
    let everything = format!("{:?}", world.telegram.journal());
    assert!(!everything.contains("base64"), "{everything}");
    // What the model is told of its own answer next time.
    world.say(USER, "thanks");
    let asked = world.server.wait_asked(2).await;
    let told = asked[1].texts();
    assert_eq!(told[1].matches("[picture]").count(), 2, "{told:?}");
}

//! A group of Telegram that becomes a supergroup has another id: what people have decided about it goes with it.

use serde_json::json;
use tests::telegram::{Message, Mood, Telegram};

use crate::gateway::{Gateway, PATIENCE, stderr};

const TOKEN: &str = "7700:token";
const EVE: i64 = 99;
/// Listed in the configuration, let in by a person, listed and denied by a person; and their new ids.
const GROUPS: [(i64, i64); 3] = [(-1, -1001), (-2, -1002), (-3, -1003)];

fn says(telegram: &Telegram, chat: i64, text: &str) {
    let command = json!([{"type": "bot_command", "offset": 0, "length": text.len()}]);
    telegram.set_mood(TOKEN, chat, Mood::Open);
    telegram.push_message(TOKEN, Message::group(chat, EVE).text(text).with("entities", command));
}

/// Who is heard saying something in each group: the denied one first, so that it is judged when others answer.
async fn heard(telegram: &Telegram, chats: [i64; 3], text: &str) -> Vec<i64> {
    for chat in chats.into_iter().rev() {
        says(telegram, chat, text);
    }
    let before = telegram.sent().into_iter().filter(|sent| sent.text != text).count();
    let sent = telegram.wait_sent(PATIENCE, before + 2).await;
    let mut chats: Vec<_> = sent.iter().filter(|it| it.text == text).map(|it| it.chat_id).collect();
    chats.sort_unstable();
    chats.reverse();
    chats
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_gets_another_id_stays_let_in_or_denied() {
    let telegram = Telegram::start().await;
    telegram.add_bot(TOKEN, "test_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"off\", chats = [-1, -3] }}\n[agent.echo]\n",
        telegram.base_url()
    ));
    std::fs::write(gateway.path("token"), TOKEN).unwrap();
    gateway.start();
    gateway.wait_ready("telegram");
    for (decision, chat) in [("allow", "-2"), ("deny", "-3")] {
        let done = gateway.run(&["ctl", "access", decision, "telegram", "--chat", chat]);
        assert!(done.status.success(), "{}", stderr(&done));
    }
    assert_eq!(heard(&telegram, GROUPS.map(|it| it.0), "/before").await, [-1, -2]);
    for (number, (old, new)) in GROUPS.into_iter().enumerate() {
        // Either chat tells it.
        let moved = match number {
            1 => Message::group(new, EVE).with("migrate_from_chat_id", old),
            _ => Message::group(old, EVE).with("migrate_to_chat_id", new),
        };
        telegram.push_message(TOKEN, moved);
    }
    let new = GROUPS.map(|it| it.1);
    assert_eq!(heard(&telegram, new, "/after").await, [-1001, -1002]);
    // The platform tells it once; another worker and another supervisor know it.
    gateway.until("all confirmed", || (telegram.pending(TOKEN) == 0).then_some(()));
    let done = gateway.run(&["ctl", "restart", "telegram"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(heard(&telegram, new, "/worker").await, [-1001, -1002]);
    gateway.kill_supervisor();
    gateway.start();
    gateway.wait_ready("telegram");
    assert_eq!(heard(&telegram, new, "/supervisor").await, [-1001, -1002]);
    // What is said of the new id counts more.
    for (decision, chat) in [("deny", "-1001"), ("allow", "-1003")] {
        let done = gateway.run(&["ctl", "access", decision, "telegram", "--chat", chat]);
        assert!(done.status.success(), "{}", stderr(&done));
    }
    assert_eq!(heard(&telegram, new, "/decided").await, [-1002, -1003]);
}

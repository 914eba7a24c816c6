//! Ten thousand events of every kind, with contents that nobody would send, and some that are huge.

use std::collections::HashMap;

use serde_json::Value;

use super::*;

const EVENTS: usize = 10_000;
const AT_ONCE: usize = 250;
/// As the decoder keeps them.
const RAW_MAX: usize = 256 * 1024;

struct Chaos(fastrand::Rng);

impl Chaos {
    fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.0.usize(..of.len())]
    }

    fn words(&mut self) -> String {
        let large = self.0.usize(..400) == 0;
        let pieces = [
            "a", "中", "😀", "@_user_1", "@_all", "\\", "\"", "\n", "{x}", "\u{0}", "\u{202e}",
            "<at>", "```",
        ];
        let count = if large { self.0.usize(..200_000) } else { self.0.usize(..12) };
        (0..count).map(|_| self.one_of(&pieces)).collect()
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.0.u8(..if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.0.bool()),
            2 => json!(self.0.i64(..)),
            3 => json!(self.0.f64() * 1e300),
            4 | 5 => json!(self.words()),
            6 | 7 => (0..self.0.usize(..4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let names = [
                    "text",
                    "content",
                    "title",
                    "elements",
                    "tag",
                    "image_key",
                    "file_key",
                    "user_id",
                    "summary",
                    "template",
                    "options",
                    "topic",
                    "zh_cn",
                    "start_time",
                    "name",
                    "chat_id",
                    "users",
                    "x",
                ];
                let mut members = serde_json::Map::new();
                for _ in 0..self.0.usize(..5) {
                    members.insert(self.one_of(&names).to_owned(), self.value(depth - 1));
                }
                Value::Object(members)
            }
        }
    }

    /// A content as people send it.
    fn real(&mut self) -> (&'static str, Value) {
        let words = self.words();
        let shapes = [
            ("text", json!({"text": words})),
            (
                "post",
                json!({"title": words, "content": [[{"tag": "text", "text": words}, {"tag": "at", "user_id": "@_user_1"}], [{"tag": "img", "image_key": "k"}]]}),
            ),
            ("image", json!({"image_key": "img"})),
            ("file", json!({"file_key": "f", "file_name": words})),
            ("audio", json!({"file_key": "f", "duration": 1})),
            ("media", json!({"file_key": "f", "image_key": "i", "file_name": words})),
            ("sticker", json!({"file_key": "f"})),
            (
                "interactive",
                json!({"title": words, "elements": [[{"tag": "text", "text": words}]]}),
            ),
            ("share_chat", json!({"chat_id": "oc"})),
            ("share_user", json!({"user_id": "ou"})),
            ("location", json!({"name": words, "latitude": "1", "longitude": "2"})),
            (
                "todo",
                json!({"summary": {"content": [[{"tag": "text", "text": words}]]}, "due_time": "1700000000000"}),
            ),
            ("vote", json!({"topic": words, "options": ["a", "b"]})),
            ("system", json!({"template": "{from_user} {x}", "from_user": [words]})),
            ("hongbao", json!({"text": words})),
            ("video_chat", json!({"topic": words, "start_time": "1"})),
            ("share_calendar_event", json!({"summary": words, "start_time": "1", "end_time": "2"})),
            ("folder", json!({"file_key": "f", "file_name": words})),
        ];
        shapes[self.0.usize(..shapes.len())].clone()
    }

    /// Something in it becomes something else.
    fn spoil(&mut self, value: &mut Value) {
        match value {
            Value::Array(values) if !values.is_empty() && self.0.u8(..4) > 0 => {
                let index = self.0.usize(..values.len());
                self.spoil(&mut values[index]);
            }
            Value::Object(members) if !members.is_empty() && self.0.u8(..4) > 0 => {
                let index = self.0.usize(..members.len());
                if let Some((_, inner)) = members.iter_mut().nth(index) {
                    self.spoil(inner);
                }
            }
            other => *other = self.value(4),
        }
    }

    fn event(&mut self) -> Value {
        let (kind, content) = self.real();
        let mut content = content;
        for _ in 0..self.0.usize(..4) {
            self.spoil(&mut content);
        }
        let chat = format!("oc_{}", self.0.u8(..20));
        let message = if self.0.bool() {
            Message::direct(&chat, "ou_ann")
        } else {
            Message::group(&chat, "ou_ann").mention("@_user_1", "ou_bot", "Bot")
        };
        let mut whole = message.content(kind, &content).build();
        match self.0.u8(..10) {
            0 => {
                let kinds = [
                    "im.message.recalled_v1",
                    "im.message.reaction.created_v1",
                    "im.chat.member.bot.added_v1",
                    "im.chat.member.user.added_v1",
                    "card.action.trigger",
                    "application.bot.menu_v6",
                    "im.message.updated_v1",
                    "im.message.message_read_v1",
                    "brand.new_v1",
                ];
                whole["header"]["event_type"] = json!(self.one_of(&kinds));
                whole["event"] = self.value(5);
            }
            1 => self.spoil(&mut whole["event"]["message"]),
            2 => whole["event"]["message"]["mentions"] = self.value(4),
            3 => self.spoil(&mut whole["event"]),
            _ => {}
        }
        whole
    }
}

#[tokio::test]
async fn ten_thousand_strange_events_are_answered_and_kept() {
    let mut rig = Rig::ready().await;
    // A failure tells the seed.
    let seed = std::env::var("GW_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("GW_SEED={seed}");
    let mut chaos = Chaos(fastrand::Rng::with_seed(seed));
    let mut pushed = 0;
    while pushed < EVENTS {
        let batch: Vec<_> = (0..AT_ONCE).map(|_| rig.sim.push_event(APP, chaos.event())).collect();
        pushed += batch.len();
        let sent: HashMap<String, String> = batch
            .iter()
            .map(|it| (format!("event:{}", it.event_id()), it.event().to_string()))
            .collect();
        let answered = async {
            for event in &batch {
                assert_eq!(event.acked().await.attempt, 1, "{}", event.event());
            }
        };
        let mut answered = std::pin::pin!(tokio::time::timeout(3 * LONG, answered));
        loop {
            tokio::select! {
                done = &mut answered => {
                    done.expect("answers in time");
                    break;
                }
                Some(submitted) = rig.events.recv() => {
                    let inbound = accept(submitted);
                    let key = inbound.keys.first().expect("a key");
                    let payload = &sent[key];
                    // What nobody understands is kept whatever its size; see `decode::unreadable`.
                    let is_kept = payload.len() <= RAW_MAX || !inbound.raw.is_empty();
                    let kept = if is_kept { payload.as_bytes() } else { b"" };
                    assert!(inbound.raw == kept, "the raw form of {key} is not what was pushed");
                }
                Some(_) = rig.notes.recv() => {}
            }
        }
    }
    rig.end().await;
}

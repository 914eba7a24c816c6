//! An answer of the queue, cut into updates and those into what is handed in together. Pure.
//!
//! Each update is decoded on its own, so that one that nobody understands harms no other. The photos of an
//! album come as updates of their own, without a word about which is the last: what comes at the end of an
//! answer may still grow, and is left in the queue until it does not.

use protocol::event::Inbound;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::Said;
use super::decode::{Heard, Own, Update, decode};

/// An album has at most so many.
const ALBUM_MAX: usize = 10;

/// What the queue answered.
#[derive(Debug)]
pub(super) enum Fetched {
    /// Updates, maybe none.
    Updates(Vec<Box<RawValue>>),
    /// Something else.
    Other(Said),
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    result: Vec<Box<RawValue>>,
}

/// The updates of a good answer.
pub(super) fn read(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    serde_json::from_slice(body)
        .ok()
        .filter(|answer: &Answer| answer.ok)
        .map(|answer| answer.result)
}

/// Updates that become one event, or none.
#[derive(Debug)]
pub(super) struct Group {
    /// The id of the first of them, if it has one.
    pub(super) first: Option<i64>,
    /// One, or the parts of an album.
    pub(super) updates: Vec<Update>,
}

impl Group {
    /// Its event, where it has one.
    pub(super) fn event(&self) -> Option<Inbound> {
        let mut events = self.updates.iter().filter_map(|update| match &update.heard {
            Heard::Event(event) | Heard::Malformed(_, Some(event)) => Some(event.as_ref()),
            Heard::Ignored | Heard::Malformed(_, None) => None,
        });
        let mut whole = events.next()?.clone();
        for event in events {
            whole.keys.extend(event.keys.iter().cloned());
            whole.parts.extend(event.parts.iter().cloned());
            whole.text.push('\n');
            whole.text.push_str(&event.text);
            if whole.mention == protocol::event::Mention::None {
                whole.mention = event.mention;
            }
            whole.raw.push(b'\n');
            whole.raw.extend_from_slice(&event.raw);
        }
        Some(whole)
    }
}

/// An answer, understood.
#[derive(Debug)]
pub(super) struct Batch {
    /// What to hand in, in order.
    pub(super) groups: Vec<Group>,
    /// An album at the end that may still grow: its first id and how many there are. It stays in the
    /// queue.
    pub(super) growing: Option<(i64, usize)>,
    /// The highest id of what is to be handed in.
    pub(super) last: Option<i64>,
}

/// Understands an answer. `seen` is the album that was left in the queue last time: if it is no larger
/// now, it is complete.
pub(super) fn understand(
    updates: &[Box<RawValue>],
    seen: Option<(i64, usize)>,
    own: &Own,
    now_ms: i64,
) -> Batch {
    let mut groups: Vec<Group> = Vec::new();
    for raw in updates {
        let update = decode(raw.get(), own, now_ms);
        match groups.last_mut() {
            Some(group) if belongs(group, &update) => group.updates.push(update),
            _ => groups.push(Group { first: update.id, updates: vec![update] }),
        }
    }
    let growing = groups.last().and_then(|group| {
        let is_album = group.updates.first().is_some_and(|update| update.album.is_some());
        let size = (group.first?, group.updates.len());
        (is_album && size.1 < ALBUM_MAX && seen != Some(size)).then_some(size)
    });
    if growing.is_some() {
        groups.pop();
    }
    let last = groups.iter().flat_map(|group| &group.updates).filter_map(|it| it.id).max();
    Batch { groups, growing, last }
}

fn belongs(group: &Group, update: &Update) -> bool {
    let album = group.updates.first().and_then(|first| first.album.as_ref());
    album.is_some() && album == update.album.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn own() -> Own {
        Own { id: 7, username: "test_bot".to_owned() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
    fn updates(list: Value) -> Vec<Box<RawValue>> {
        read(json!({"ok": true, "result": list}).to_string().as_bytes()).unwrap()
    }

    fn photo(id: i64, album: &str) -> Value {
        json!({"update_id": id, "message": {
            "message_id": id, "date": 1, "chat": {"id": 9, "type": "private"}, "from": {"id": 9},
            "media_group_id": album, "caption": format!("c{id}"), "photo": [{"file_id": format!("f{id}")}],
        }})
    }

    #[test]
    fn an_update_that_nobody_understands_harms_no_other() {
        let text = |id: i64| {
            json!({"update_id": id, "message": {
                "message_id": id, "date": 1, "chat": {"id": 9, "type": "private"}, "from": {"id": 9}, "text": "x",
            }})
        };
        let list = updates(json!([
            text(1),
            {"update_id": 2, "brand_new": {"x": 1}},
            {"update_id": 3, "message": "oops"},
            "nonsense",
            text(4),
        ]));
        let batch = understand(&list, None, &own(), 0);
        let heard: Vec<_> = batch.groups.iter().map(|group| group.event().is_some()).collect();
        assert_eq!(
            heard,
            [true, true, true, false, true],
            "kept as they came, but for the one without id"
        );
        assert_eq!((batch.last, batch.growing), (Some(4), None));
    }

    #[test]
    fn an_album_is_one_event_when_it_has_stopped_growing() {
        let first = updates(json!([photo(1, "a"), photo(2, "b"), photo(3, "b")]));
        let batch = understand(&first, None, &own(), 0);
        assert_eq!((batch.last, batch.growing), (Some(1), Some((2, 2))));
        let second = updates(json!([photo(2, "b"), photo(3, "b"), photo(4, "b")]));
        let batch = understand(&second, batch.growing, &own(), 0);
        assert_eq!((batch.groups.len(), batch.growing), (0, Some((2, 3))));
        let batch = understand(&second, batch.growing, &own(), 0);
        let album = batch.groups[0].event().unwrap();
        assert_eq!((batch.last, album.parts.len(), album.keys.len()), (Some(4), 3, 6));
        assert_eq!(album.text, "[photo] c2\n[photo] c3\n[photo] c4");
    }

    #[test]
    fn a_full_album_waits_for_nothing() {
        let list: Vec<_> = (1..=10).map(|id| photo(id, "a")).collect();
        assert_eq!(understand(&updates(list.into()), None, &own(), 0).growing, None);
    }

    #[test]
    fn what_is_no_list_of_updates_is_none() {
        for body in [
            "",
            "{}",
            r#"{"ok":true}"#,
            r#"{"ok":true,"result":{}}"#,
            r#"{"ok":false,"result":[]}"#,
        ] {
            assert!(read(body.as_bytes()).is_none(), "{body}");
        }
    }
}

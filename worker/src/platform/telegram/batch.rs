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
    // One letter that is none must not spoil all the others.
    serde_json::from_slice(body)
        .or_else(|_| serde_json::from_str(&String::from_utf8_lossy(body)))
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
            Heard::Event(event) | Heard::Malformed(_, event) => Some(event.as_ref()),
            Heard::Ignored => None,
        });
        let mut whole = events.next()?.clone();
        for event in events {
            whole.keys.extend(event.keys.iter().cloned());
            // What they answer is the same, and comes behind them.
            whole.parts.retain(|part| !event.parts.contains(part));
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
    /// Everything below is to be handed in; `None`: nobody can say.
    pub(super) next: Option<i64>,
    /// What comes behind that has no id, and stays in the queue until something that has one is behind it: whatever
    /// offset might pass it might delete something else, if it is no update at all.
    pub(super) stays: bool,
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
    // The group that has the last update. What somebody else says between two photos comes behind all of them.
    let mut last = 0;
    for raw in updates {
        let update = decode(raw.get().as_bytes(), own, now_ms);
        last = groups.iter().rposition(|group| belongs(group, &update)).unwrap_or(groups.len());
        match groups.get_mut(last) {
            Some(group) => group.updates.push(update),
            None => groups.push(Group { first: update.id, updates: vec![update] }),
        }
    }
    let growing = groups.get(last).and_then(|group| {
        let is_album = group.updates.first().is_some_and(|update| update.album.is_some());
        let size = (group.first?, group.updates.len());
        (is_album && size.1 < ALBUM_MAX && seen != Some(size)).then_some(size)
    });
    if growing.is_some() {
        groups.truncate(last);
    }
    let ids = groups.iter().flat_map(|group| &group.updates).map(|update| update.id);
    let stays = ids.clone().next_back().is_some_and(|id| id.is_none());
    let next = ids.filter_map(|id| id?.checked_add(1)).max();
    Batch { groups, growing, next, stays }
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
            [true, true, true, true, true],
            "those that nobody understands as they came"
        );
        assert_eq!((batch.next, batch.growing), (Some(5), None));
    }

    /// Nothing is confirmed that has not come.
    #[test]
    fn what_has_no_id_is_passed_with_what_comes_behind_it() {
        let (a, b) = (json!({"update_id": 5}), json!({"update_id": "9"}));
        for (list, next, stays) in [
            (json!([]), None, false),
            (json!([a, b]), Some(10), false),
            (json!([null, a]), Some(6), false),
            (json!([a, null, {"update_id": {}}]), Some(6), true),
            (json!([null]), None, true),
            (json!([{"update_id": i64::MAX}, 1]), None, true),
        ] {
            let batch = understand(&updates(list.clone()), None, &own(), 0);
            assert_eq!((batch.next, batch.stays), (next, stays), "{list}");
        }
    }

    #[test]
    fn an_album_is_one_event_when_it_has_stopped_growing() {
        let first = updates(json!([photo(1, "a"), photo(2, "b"), photo(3, "b")]));
        let batch = understand(&first, None, &own(), 0);
        assert_eq!((batch.next, batch.growing), (Some(2), Some((2, 2))));
        let second = updates(json!([photo(2, "b"), photo(3, "b"), photo(4, "b")]));
        let batch = understand(&second, batch.growing, &own(), 0);
        assert_eq!((batch.groups.len(), batch.growing), (0, Some((2, 3))));
        let batch = understand(&second, batch.growing, &own(), 0);
        let album = batch.groups[0].event().unwrap();
        assert_eq!((batch.next, album.parts.len(), album.keys.len()), (Some(5), 3, 6));
        assert_eq!(album.text, "[photo] c2\n[photo] c3\n[photo] c4");
    }

    /// Somebody else may speak between two of its pictures.
    #[test]
    fn an_album_is_whole_though_somebody_speaks_in_between() {
        let text = json!({"update_id": 2, "message": {
            "message_id": 2, "date": 1, "chat": {"id": 9, "type": "private"}, "from": {"id": 8}, "text": "x",
        }});
        let list = updates(json!([photo(1, "a"), text, photo(3, "a")]));
        let batch = understand(&list, Some((1, 1)), &own(), 0);
        assert_eq!((batch.groups.len(), batch.next), (0, None), "it may still grow");
        assert_eq!(batch.growing, Some((1, 2)));
        let batch = understand(&list, batch.growing, &own(), 0);
        let texts: Vec<_> = batch.groups.iter().map(|group| group.event().unwrap().text).collect();
        assert_eq!(
            (texts, batch.next),
            (vec!["[photo] c1\n[photo] c3".to_owned(), "x".into()], Some(4))
        );
    }

    /// Each picture of it says anew what it answers.
    #[test]
    fn what_an_album_answers_is_told_once() {
        let answering = |id: i64| {
            let mut update = photo(id, "a");
            let answered = json!({"message_id": 1, "photo": [{"file_id": "answered"}]});
            update["message"]["reply_to_message"] = answered;
            update
        };
        let list = updates(json!([answering(2), answering(3)]));
        let album = understand(&list, Some((2, 2)), &own(), 0).groups[0].event().unwrap();
        let handles: Vec<_> = album.parts.iter().map(|part| part.handle.as_str()).collect();
        assert_eq!(handles, ["f2", "f3", "answered"]);
        assert_eq!(album.quote.as_deref(), Some("[photo]"));
    }

    #[test]
    fn a_full_album_waits_for_nothing() {
        let list: Vec<_> = (1..=10).map(|id| photo(id, "a")).collect();
        assert_eq!(understand(&updates(list.into()), None, &own(), 0).growing, None);
    }

    #[test]
    fn a_letter_that_is_none_spoils_no_other_update() {
        let body = b"{\"ok\":true,\"result\":[{\"update_id\":1,\"x\":\"\xff\"},{\"update_id\":2}]}";
        let updates = read(body).unwrap();
        assert_eq!(understand(&updates, None, &own(), 0).next, Some(3));
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

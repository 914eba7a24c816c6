//! Stores that older versions of the program left behind, as SQL; and what the newest has beyond them.

use protocol::content::{Act, Button, File, FileKind, Press};
use protocol::event::Part;
use rusqlite::Connection;

use super::*;

/// A store as the SQL in `text` makes it.
fn left_behind(dir: &Path, text: &str) {
    Connection::open(dir.join("store.db")).unwrap().execute_batch(text).unwrap();
}

#[test]
fn the_first_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_1.sql"));
    let mut rig = Rig::open(dir.path());
    assert_eq!(rig.opened.cursors, [(instance("feishu"), Cursor(vec![1, 2, 3]))]);
    assert!(rig.opened.damage.is_none());
    let counts = rig.settled_counts();
    let feishu = counts.iter().find(|count| count.instance == instance("feishu")).unwrap();
    assert_eq!((feishu.waiting, feishu.parked), (1, 1));
    assert_eq!((feishu.replies, feishu.undelivered), (1, 1));

    let expected = Inbound {
        parts: vec![Part {
            kind: "image".into(),
            handle: "img_1".into(),
            name: Some("a.png".into()),
            size: None,
            mime: None,
        }],
        ..event("1", "chat")
    };
    assert_eq!(rig.begin(EventId(1)).event, expected);
    for known in ["1", "2", "3"] {
        let again = rig.offer(&event(known, "chat"), None);
        assert!(matches!(again, Answer::Duplicate), "{known}: {again:?}");
    }
    assert_eq!(rig.accept(&event("4", "chat")).0, 4);
    let sending = rig.begin_send(OutboundId(1), 9_000);
    assert_eq!(sending.outbound.content, Content::text("hello"));
    let failed = ParkedId::Reply(OutboundId(2));
    match rig.ask(|ticket| Op::ShowParked { ticket, id: failed }) {
        Answer::ParkedItem(Some(found)) => assert_eq!(found.0.reason, "kicked"),
        other => panic!("{other:?}"),
    }
    assert!(untold(&mut rig).is_empty(), "nobody is told again what ended long ago");
    rig.close();
    Rig::open(dir.path()).close();
}

fn untold(rig: &mut Rig) -> Vec<Receipt> {
    let agent = instance("hermes");
    match rig.ask(|ticket| Op::Untold { ticket, agent, after: OutboundId(0), limit: 9 }) {
        Answer::Untold(receipts) => receipts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_of_content_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let id = "om_1".to_owned();
    let contents = [
        Content::text("plain"),
        Content { act: Act::Edit { message_id: id.clone() }, ..Content::text("edited") },
        Content { act: Act::Recall { message_id: id.clone() }, ..Content::text("") },
        Content { act: Act::React { message_id: id, emoji: "👍".into() }, ..Content::text("") },
        Content {
            files: vec![File { kind: FileKind::Image, file: "f".into(), title: Some("t".into()) }],
            buttons: vec![vec![Button { label: "b".into(), press: Press::Data("d".into()) }]],
            card: Some("{}".into()),
            ..Content::text("")
        },
    ];
    let mut ids = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let reply = Reply {
            key: number.to_string(),
            lane: lane("chat"),
            reply_to: None,
            content: content.clone(),
        };
        ids.push(rig.submit_reply(reply).0.id);
    }
    rig.close();
    let mut rig = Rig::open(dir.path());
    for (id, content) in ids.iter().zip(&contents) {
        assert_eq!(rig.begin_send(*id, 1).outbound.content, *content);
        rig.finish(*id, SendEnd::Failed { reason: "no".into() });
        match rig.ask(|ticket| Op::ShowParked { ticket, id: ParkedId::Reply(*id) }) {
            Answer::ParkedItem(Some(found)) => {
                assert_eq!(found.1, Payload::Reply(Some(Box::new(content.clone()))));
            }
            other => panic!("{other:?}"),
        }
    }
    let all: Vec<_> = ids.iter().map(|id| ParkedId::Reply(*id)).collect();
    rig.ask(|ticket| Op::Discard { ticket, ids: all });
    assert!(rig.settled_counts().iter().all(|count| count.undelivered == 0));
    rig.close();
}

#[test]
fn a_reply_knows_the_message_that_showed_its_draft() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let drafted = |key: &str, message_id: &str| Op::Drafted {
        agent: instance("hermes"),
        key: key.into(),
        message_id: message_id.into(),
        now_ms: 1,
    };
    rig.store.submit(drafted("k", "om_1"));
    rig.store.submit(drafted("k", "om_2"));
    rig.close();
    let mut rig = Rig::open(dir.path());
    let id = rig.reply("k", "chat", None).0.id;
    let other = rig.reply("l", "chat", None).0.id;
    let sending = rig.begin_send(id, 1).outbound;
    assert_eq!(
        (sending.draft_key.as_str(), sending.draft_id.as_deref()),
        ("hermes/k", Some("om_2"))
    );
    assert_eq!(rig.begin_send(other, 1).outbound.draft_id, None);
    rig.close();
}

/// F35: what became of a reply is told, however late.
#[test]
fn how_replies_ended_is_kept_until_their_agent_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let ids: Vec<_> = ["a", "b", "c"].map(|key| rig.reply(key, "chat", None).0.id).into();
    rig.begin_send(ids[0], 1);
    rig.finish(ids[0], SendEnd::Sent { message_ids: vec!["om_1".into()] });
    rig.begin_send(ids[1], 1);
    rig.finish(ids[1], SendEnd::Unknown { reason: "no answer".into() });
    rig.close();
    let mut rig = Rig::open(dir.path());
    let states: Vec<_> = untold(&mut rig).into_iter().map(|one| (one.id, one.state)).collect();
    assert_eq!(states, [(ids[0], ReplyState::Sent), (ids[1], ReplyState::Unknown)]);
    for id in &ids {
        rig.store.submit(Op::Told { id: *id });
    }
    assert!(untold(&mut rig).is_empty());
    // Later knowledge is news.
    rig.finish(ids[1], SendEnd::Sent { message_ids: vec![] });
    assert_eq!(untold(&mut rig)[0].id, ids[1]);
    rig.begin_send(ids[2], 1);
    rig.finish(ids[2], SendEnd::Sent { message_ids: vec![] });
    assert_eq!(untold(&mut rig).len(), 2, "what was told before it ended is not told");
    rig.close();
}

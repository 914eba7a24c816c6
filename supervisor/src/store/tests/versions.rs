//! Stores that older versions of the program left behind, as SQL; and what the newest has beyond them.

use protocol::content::{Act, Button, File, FileKind, Press};
use protocol::event::{NOTE_MAX, Note, Part, Progress, Session};
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

#[test]
fn the_second_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_2.sql"));
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_none());
    assert_eq!((rig.opened.grants.len(), rig.opened.pairs.len()), (1, 1));
    assert_eq!(rig.begin_send(OutboundId(1), 9_000).outbound.draft_id.as_deref(), Some("om_draft"));
    assert_eq!(untold(&mut rig)[0].id, OutboundId(2));
    // A conversation of before is one that nobody began anew.
    let begun = rig.hand(EventId(1), hand(0));
    assert_eq!(begun.session, Session::default());
    rig.close();
    Rig::open(dir.path()).close();
}

#[test]
fn the_third_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_3.sql"));
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_none());
    let begun = rig.hand(EventId(1), hand(0));
    assert_eq!((begun.session.epoch, begun.session.note), (3, vec![1, 2]));
    let waiting = rig.begin_send(OutboundId(1), 9_000);
    assert_eq!(waiting.outbound.draft_id.as_deref(), Some("om_draft"));
    assert_eq!(untold(&mut rig)[0].id, OutboundId(2));
    rig.close();
    Rig::open(dir.path()).close();
}

#[test]
fn the_fourth_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_4.sql"));
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_none());
    let waiting = rig.begin_send(OutboundId(1), 9_000).outbound;
    assert_eq!(waiting.progress.map(|progress| progress.message_ids), Some(vec!["om_1".into()]));
    // What was tried before knows of no pause.
    assert_eq!(rig.hand(EventId(1), hand(0)).attempts, 2);
    rig.close();
    Rig::open(dir.path()).close();
}

#[test]
fn the_fifth_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_5.sql"));
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_none());
    let (id, hand) = (EventId(1), Some(Hand { now_ms: 6_000, ..hand(0) }));
    let left = rig.ask(|ticket| Op::Begin { ticket, id, hand });
    assert!(matches!(left, Answer::Pauses { .. }), "{left:?}");
    // Replies of before go through whichever account there is.
    assert_eq!(rig.begin_send(OutboundId(1), 9_000).account, None);
    assert_eq!(rig.finished(OutboundId(1), SendEnd::Sent { message_ids: vec![] }).answers, None);
    rig.close();
    Rig::open(dir.path()).close();
}

#[test]
fn the_sixth_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_6.sql"));
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_none());
    // Nobody knows what went with what was handed out before.
    let begun = rig.hand(EventId(1), hand(9));
    assert_eq!((begun.attempts, begun.followers, begun.is_last), (2, vec![], false));
    rig.settle(EventId(1));
    assert_eq!(rig.hand(EventId(4), hand(9)).attempts, 1);
    let account = rig.begin_send(OutboundId(1), 9_000).account;
    assert_eq!(account.as_deref(), Some("feishu cli_a"));
    rig.close();
    Rig::open(dir.path()).close();
}

#[test]
fn the_seventh_version_is_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path(), include_str!("version_7.sql"));
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_none());
    let begun = rig.hand(EventId(1), hand(9));
    let with: Vec<_> = begun.followers.iter().map(|one| one.id).collect();
    assert_eq!((begun.attempts, with), (2, vec![EventId(4)]));
    // What was set aside before knows of nothing that went with it.
    rig.settle(EventId(2));
    rig.close();
    Rig::open(dir.path()).close();
}

/// F40: what a reply was accepted for is known as long as it may still leave.
#[test]
fn whom_a_reply_answers_and_whose_it_is_outlives_restarts_and_failures() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let id = rig.reply("a", "chat", None).0.id;
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(rig.begin_send(id, 4_000).account.as_deref(), Some("feishu cli_a"));
    let failed = rig.finished(id, SendEnd::Failed { reason: "kicked".into() });
    assert_eq!(failed.answers.as_deref(), Some("ou_1"));
    rig.ask(|ticket| Op::Replay { ticket, ids: vec![ParkedId::Reply(id)], now_ms: 6_000 });
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(rig.begin_send(id, 7_000).account, None, "a person has decided");
    let sent = rig.finished(id, SendEnd::Sent { message_ids: vec!["om_1".into()] });
    assert_eq!(sent.answers.as_deref(), Some("ou_1"));
    rig.close();
    let db = Connection::open(dir.path().join("store.db")).unwrap();
    let kept = "SELECT count(*) FROM reply WHERE answers IS NOT NULL";
    assert_eq!(db.query_row(kept, [], |row| row.get(0)), Ok(0), "nobody needs it any more");
}

/// F40: an event is its account's, also when another one has taken its place, and again.
#[test]
fn who_has_heard_an_event_is_known_after_another_took_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let become_it = |rig: &mut Rig, account: &str| {
        let (instance, account) = (instance("feishu"), account.to_owned());
        match rig.ask(|ticket| Op::Account { ticket, instance, account }) {
            Answer::Heard(former) => former,
            other => panic!("{other:?}"),
        }
    };
    rig.accept(&event("0", "chat"));
    assert_eq!(become_it(&mut rig, "a"), [], "who heard before that is not known");
    let by_a = rig.accept(&event("1", "chat"));
    assert_eq!(become_it(&mut rig, "a"), []);
    assert_eq!(become_it(&mut rig, "b"), [("a".into(), by_a)]);
    let by_b = rig.accept(&event("2", "chat"));
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(become_it(&mut rig, "b"), [("a".into(), by_a)]);
    let former = become_it(&mut rig, "a");
    assert_eq!(former[0], ("a".into(), by_a));
    assert!(former[1].0 == "b" && former[1].1 >= by_b, "{former:?}");
    rig.close();
}

fn note(epoch: u64, text: &str) -> Note {
    Note { epoch, bytes: text.into() }
}

/// What an agent's worker noted comes back after restarts, and never after a new beginning.
#[test]
fn a_conversation_is_remembered_until_it_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let id = rig.accept(&event("1", "chat"));
    let agent = instance("hermes");
    let remember =
        |note| Op::Remember { agent: instance("hermes"), lane: lane("chat"), note, now_ms: 5 };
    rig.store.submit(remember(note(7, "of a conversation that never was")));
    assert_eq!(rig.hand(id, hand(0)).session, Session::default());
    rig.store.submit(remember(note(0, "one")));
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(rig.hand(id, hand(0)).session, Session { epoch: 0, note: b"one".to_vec() });
    let other = Hand { agent: instance("other"), ..hand(0) };
    assert_eq!(rig.hand(id, other).session, Session::default(), "each agent has its own");
    rig.store.submit(Op::Renew { agent: agent.clone(), lane: lane("chat"), now_ms: 6 });
    rig.store.submit(remember(note(0, "late")));
    assert_eq!(rig.hand(id, hand(0)).session, Session { epoch: 1, note: Vec::new() });
    rig.store.submit(remember(note(1, "two")));
    rig.store.submit(remember(note(1, &"x".repeat(NOTE_MAX + 1))));
    assert_eq!(rig.hand(id, hand(0)).session.note, b"two");
    // A note that comes with a reply is kept with it, and not with a repetition of it.
    let reply = || {
        let content = Content::text("hello");
        Box::new(Reply { key: "k".into(), lane: lane("chat"), reply_to: None, content })
    };
    for (text, kept) in [("three", b"three".as_slice()), ("again", b"three")] {
        let (agent, reply, note) = (agent.clone(), reply(), Some(note(1, text)));
        rig.ask(|ticket| Op::AcceptReply {
            ticket,
            agent,
            reply,
            note,
            beside: Beside::default(),
            now_ms: 7,
        });
        assert_eq!(rig.hand(id, hand(0)).session.note, kept);
    }
    rig.settle(id);
    rig.purge(i64::MAX / 2);
    let id = rig.accept(&event("2", "chat"));
    assert_eq!(rig.hand(id, hand(0)).session, Session::default(), "after half a year it is over");
    rig.close();
}

/// F17: a restart makes no attempt earlier, whatever the clock is set to, and another agent need not wait.
#[test]
fn the_pause_before_the_next_attempt_outlives_restarts() {
    let hour = 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let id = rig.accept(&event("1", "chat"));
    assert_eq!(rig.hand(id, hand(0)).attempts, 1);
    let pause = Pause { agent: instance("hermes"), now_ms: 5_000, for_ms: hour };
    rig.store.submit(Op::Fail { id, pause });
    rig.close();
    let mut rig = Rig::open(dir.path());
    let left = |rig: &mut Rig, now_ms: i64| {
        let hand = Hand { now_ms, ..hand(0) };
        match rig.ask(|ticket| Op::Begin { ticket, id, hand: Some(hand) }) {
            Answer::Pauses { id: paused, left } if paused == id => left.as_millis(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(left(&mut rig, 6_000), 3_599_000);
    assert_eq!(left(&mut rig, 5_000 + hour - 1), 1);
    assert_eq!(left(&mut rig, 5_000 - 24 * hour), 3_600_000, "set back, and nobody saw it");
    rig.store.submit(Op::ClockSet(Set { by_ms: 24 * hour, now_ms: 6_000 + 24 * hour }));
    assert_eq!(left(&mut rig, 6_000 + 24 * hour), 3_599_000);
    rig.store.submit(Op::ClockSet(Set { by_ms: -24 * hour, now_ms: 6_000 }));
    let other = Hand { agent: instance("other"), now_ms: 6_000, ..hand(0) };
    assert_eq!(rig.hand(id, other).attempts, 2, "no look was an attempt");
    rig.store.submit(Op::Refund { id });
    let begun = rig.hand(id, Hand { now_ms: 6_000, ..hand(0) });
    assert_eq!((begun.attempts, begun.counted), (3, 2), "it was tried since");
    let pause = Pause { agent: instance("hermes"), now_ms: 7_000, for_ms: hour };
    rig.store.submit(Op::Fail { id, pause });
    assert_eq!(rig.hand(id, Hand { now_ms: 7_000 + hour, ..hand(0) }).attempts, 4);
    rig.close();
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
    rig.store.submit(drafted("m", "om_3"));
    let pair = |key: &str| (instance("hermes"), key.to_owned());
    rig.store.submit(Op::Redraft { from: pair("m"), to: pair("n") });
    let [m, n] = ["m", "n"].map(|key| rig.reply(key, "chat", None).0.id);
    assert_eq!(rig.begin_send(m, 1).outbound.draft_id, None);
    assert_eq!(rig.begin_send(n, 1).outbound.draft_id.as_deref(), Some("om_3"));
    rig.close();
}

/// F33, F35: what became of a reply is told, however late.
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

/// F36: what has arrived of a reply is known to later attempts, to its receipt, and to whoever has it sent again.
#[test]
fn how_far_a_reply_has_come_outlives_the_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let id = rig.reply("a", "chat", None).0.id;
    let reach = |rig: &mut Rig, by: &str, ids: &[&str]| {
        let message_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let progress = Progress { message_ids, note: vec![7] };
        rig.store.submit(Op::Reached { instance: instance(by), id, progress: progress.clone() });
        Some(progress)
    };
    assert_eq!(rig.begin_send(id, 4_000).outbound.progress, None);
    reach(&mut rig, "feishu", &["om_1"]);
    let known = reach(&mut rig, "feishu", &["om_1", "om_2"]);
    rig.offer_to("other", &event("1", "chat"), None);
    reach(&mut rig, "other", &["om_9"]);
    rig.finish(id, SendEnd::Waiting);
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(rig.begin_send(id, 5_000).outbound.progress, known);
    let unknown = rig.finish(id, SendEnd::Unknown { reason: "killed".into() });
    assert_eq!(unknown.message_ids, ["om_1", "om_2"]);
    reach(&mut rig, "feishu", &["om_1", "om_2", "om_3"]);
    rig.ask(|ticket| Op::Replay { ticket, ids: vec![ParkedId::Reply(id)], now_ms: 6_000 });
    assert_eq!(rig.begin_send(id, 6_500).outbound.progress, known, "an end is one");
    let sent = rig.finish(id, SendEnd::Sent { message_ids: vec!["om_1".into(), "om_4".into()] });
    assert_eq!(sent.message_ids, ["om_1", "om_4"]);
    rig.close();
    let db = Connection::open(dir.path().join("store.db")).unwrap();
    let left = db.query_row("SELECT count(*) FROM progress", [], |row| row.get::<_, u32>(0));
    assert_eq!(left, Ok(0));
}

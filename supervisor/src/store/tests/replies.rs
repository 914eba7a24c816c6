//! Replies: what is kept until it has left, and what is known of it.

use super::*;

/// F36
#[test]
fn a_reply_that_did_not_arrive_waits_for_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let ended = |rig: &mut Rig, key: &str, end: SendEnd| {
        let id = rig.reply(key, "chat", Some("thread")).0.id;
        rig.begin_send(id, 4_000);
        rig.finish(id, end);
        ParkedId::Reply(id)
    };
    let begun = SendEnd::Partly {
        message_ids: vec!["om_1".into()],
        rest: Rest::Failed,
        reason: "kicked".into(),
    };
    let failed = ended(&mut rig, "a", begun);
    let unknown = ended(&mut rig, "b", SendEnd::Unknown { reason: "no answer".into() });
    ended(&mut rig, "c", SendEnd::Sent { message_ids: vec![] });
    rig.close();

    let mut rig = Rig::open(dir.path());
    let list =
        |rig: &mut Rig, after| match rig.ask(|ticket| Op::ListParked { ticket, after, limit: 9 }) {
            Answer::ParkedList(list) => list,
            other => panic!("{other:?}"),
        };
    let found = list(&mut rig, None);
    let told: Vec<_> = found.iter().map(|one| (one.id, one.unknown, one.reason.as_str())).collect();
    assert_eq!(told, [(failed, false, "kicked"), (unknown, true, "no answer")]);
    assert_eq!(found[0].lane.thread_id.as_deref(), Some("thread"));
    assert_eq!(found[0].message_ids, ["om_1"]);
    assert_eq!(list(&mut rig, Some(failed)).len(), 1);
    assert_eq!(rig.settled_counts()[0].undelivered, 2);
    match rig.ask(|ticket| Op::ShowParked { ticket, id: failed }) {
        Answer::ParkedItem(Some(found)) => {
            assert_eq!(found.1, Payload::Reply(Some(Box::new(Content::text("hello")))));
        }
        other => panic!("{other:?}"),
    }

    let ParkedId::Reply(id) = unknown else { unreachable!() };
    rig.ask(|ticket| Op::Replay { ticket, ids: vec![unknown], now_ms: 9_000 });
    let sending = rig.begin_send(id, 9_500);
    assert!(!sending.ambiguous, "a person has decided");
    assert_eq!((sending.created_ms, sending.outbound.content.text.as_str()), (9_000, "hello"));
    rig.ask(|ticket| Op::Discard { ticket, ids: vec![failed] });
    assert!(list(&mut rig, None).is_empty());
    let (receipt, fresh) = rig.reply("a", "chat", None);
    assert!(!fresh && receipt.state == ReplyState::Failed, "its key stays known");
    rig.close();
}

#[test]
fn replies_that_wait_are_as_old_as_before_when_the_clock_is_set() {
    let day = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let (reply, _) = rig.reply("a", "chat", None);
    let first = rig.begin_send(reply.id, 4_000);
    let age = |sending: &Sending, since: i64| sending.now_ms - since;
    let before = (age(&first, first.created_ms), age(&first, first.first_attempt_ms));
    rig.finish(reply.id, SendEnd::Waiting);
    // A day forward, back again, and a day before that; each takes no time.
    for (by_ms, now_ms) in [(day, day + 4_000), (-day, 4_000), (-day, 4_000 - day)] {
        rig.store.submit(Op::ClockSet(Set { by_ms, now_ms }));
        let again = rig.begin_send(reply.id, now_ms);
        let ages = (age(&again, again.created_ms), age(&again, again.first_attempt_ms));
        assert_eq!(ages, before, "{by_ms}");
        rig.finish(reply.id, SendEnd::Waiting);
    }
    // What is noted since the step is of the new clock already.
    let (late, _) = rig.reply("b", "chat", None);
    rig.store.submit(Op::ClockSet(Set { by_ms: day, now_ms: day + 2_900 }));
    assert_eq!(rig.begin_send(late.id, day + 4_000).created_ms, 3_000);
    rig.close();
}

#[test]
fn a_reply_with_a_known_key_is_the_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let (first, fresh) = rig.reply("k", "chat", None);
    assert!(fresh);
    let (second, fresh) = rig.reply("k", "chat", None);
    assert_eq!((second.id, fresh), (first.id, false));
    let content = Content::text("hello");
    let elsewhere = Reply { key: "k".into(), lane: lane("elsewhere"), reply_to: None, content };
    let elsewhere = rig.answer_to_reply(elsewhere);
    assert!(matches!(elsewhere, Answer::KeyTaken), "{elsewhere:?}");
    rig.begin_send(first.id, 4_000);
    let sent = SendEnd::Sent { message_ids: vec!["om_1".into(), "om_2".into()] };
    rig.finish(first.id, sent);
    rig.close();
    let mut rig = Rig::open(dir.path());
    let (third, fresh) = rig.reply("k", "chat", None);
    assert!(!fresh);
    assert_eq!((third.id, third.state), (first.id, ReplyState::Sent));
    assert_eq!(third.message_ids, ["om_1", "om_2"]);
    assert!(matches!(
        rig.ask(|ticket| Op::BeginSend { ticket, id: first.id, now_ms: 1 }),
        Answer::Gone
    ));
    rig.close();
}

#[test]
fn a_reply_that_was_being_sent_is_found_at_the_next_start_and_stays_ambiguous() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let (one, _) = rig.reply("1", "chat", Some("thread"));
    let (two, _) = rig.reply("2", "chat", None);
    let sending = rig.begin_send(one.id, 4_000);
    assert!(!sending.ambiguous);
    assert_eq!(sending.outbound.thread_id.as_deref(), Some("thread"));
    let key = sending.outbound.key.clone();
    assert!(key.len() <= 40 && key.is_ascii());
    rig.close();

    let mut rig = Rig::open(dir.path());
    let sending = rig.begin_send(one.id, 8_000);
    assert!(sending.ambiguous);
    assert_eq!((sending.first_attempt_ms, sending.outbound.attempt), (4_000, 2));
    assert_eq!(sending.outbound.key, key, "the same key in every attempt");
    assert_eq!(rig.finish(one.id, SendEnd::Waiting).state, ReplyState::Waiting);
    assert!(rig.begin_send(one.id, 9_000).ambiguous, "the first attempt is still unanswered");
    let unknown = SendEnd::Unknown { reason: "no answer".into() };
    assert_eq!(rig.finish(one.id, unknown).state, ReplyState::Unknown);
    assert_eq!(rig.finish(one.id, SendEnd::Waiting).state, ReplyState::Unknown, "an end is one");
    let late = SendEnd::Sent { message_ids: vec!["om".into()] };
    assert_eq!(rig.finish(one.id, late).state, ReplyState::Sent, "late knowledge");
    let failed = SendEnd::Failed { reason: "no".into() };
    assert_eq!(rig.finish(one.id, failed).state, ReplyState::Sent);
    assert!(rig.begin_send(two.id, 9_000).outbound.key != key);
    rig.close();
}

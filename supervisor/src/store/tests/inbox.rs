//! Events: what is accepted once, tried, set aside and told again.

use super::*;

/// F27
#[test]
fn a_repetition_is_known_after_reopening_even_under_a_new_event_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let id = rig.accept(&event("1", "chat"));
    rig.settle(id);
    rig.close();

    let mut rig = Rig::open(dir.path());
    assert!(matches!(rig.offer(&event("1", "chat"), None), Answer::Duplicate));
    let mut again = event("1", "chat");
    again.keys[0] = "event:new".into();
    assert!(matches!(rig.offer(&again, None), Answer::Duplicate));
    again.keys.pop();
    assert!(matches!(rig.offer(&again, None), Answer::Duplicate), "the new id is known by now");
    assert!(matches!(rig.offer_to("other", &event("1", "chat"), None), Answer::Accepted { .. }));
    rig.close();
}

#[test]
fn what_belongs_to_another_event_is_kept_only_behind_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let said = |id: &str| Inbound { message_id: Some(id.into()), ..event(id, "chat") };
    let id = rig.accept(&said("1"));
    rig.settle(id);
    // Also that it came once more when nobody was let in any more.
    for id in ["1", "denied"] {
        let keys = rig.store.denied_keys(&instance("feishu"), &said(id));
        let answer = rig.ask(|ticket| Op::Deny { ticket, keys, now_ms: 2_000 });
        assert!(matches!(answer, Answer::Denied));
    }
    rig.close();

    let mut rig = Rig::open(dir.path());
    let mut offer = |key: &str, behind: &str| {
        let arrival = rig.store.arrival_behind(&instance("feishu"), &event(key, "chat"), behind);
        let (received_ms, quota) = (2_000, Quota::NONE);
        rig.ask(|ticket| Op::Accept { ticket, arrival, cursor: None, received_ms, quota })
    };
    for other in ["other", "denied"] {
        assert!(matches!(offer("2", other), Answer::Unheard), "{other}");
    }
    assert!(matches!(offer("2", "1"), Answer::Accepted { .. }), "nothing was noted of it");
    assert!(matches!(offer("2", "1"), Answer::Duplicate));
    rig.close();
}

#[test]
fn two_of_one_key_in_one_group_are_one_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    for n in 0..100 {
        rig.submit(n, "feishu", &event(&format!("{}", n / 2), "chat"));
    }
    for n in 0..100 {
        let (ticket, answer) = rig.answer();
        assert_eq!(ticket, Ticket(n));
        assert_eq!(matches!(answer, Answer::Duplicate), n % 2 == 1, "{n}");
    }
    rig.close();
}

#[test]
fn the_cursor_is_kept_with_the_event_and_with_a_repetition() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    rig.offer(&event("1", "chat"), Some(Cursor(vec![1])));
    rig.offer(&event("1", "chat"), Some(Cursor(vec![2])));
    let telegram = instance("telegram");
    let kept = rig.ask(|ticket| Op::SaveCursor {
        ticket: Some(ticket),
        instance: telegram,
        cursor: Cursor(vec![7]),
    });
    assert!(matches!(kept, Answer::Kept), "{kept:?}");
    rig.close();
    let rig = Rig::open(dir.path());
    let expected =
        vec![(instance("feishu"), Cursor(vec![2])), (instance("telegram"), Cursor(vec![7]))];
    assert_eq!(rig.opened.cursors, expected);
    rig.close();
}

#[test]
fn an_attempt_is_counted_before_the_event_is_handed_out_and_can_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let sent = event("1", "chat");
    let id = rig.accept(&sent);
    let begun = rig.begin(id);
    assert_eq!((begun.attempts, begun.received_ms), (1, 2_000));
    assert_eq!((begun.lane, begun.event), (lane("chat"), sent));
    rig.close();
    let mut rig = Rig::open(dir.path());
    // The end of the process was no fault of the event, but too many of them would be.
    let again = rig.begin(id);
    assert_eq!((again.attempts, again.counted), (2, 1));
    for _ in 0..3 {
        rig.store.submit(Op::Refund { id });
    }
    let refunded = rig.begin(id);
    assert_eq!((refunded.attempts, refunded.counted), (3, 1));
    let pause = Pause { agent: instance("hermes"), now_ms: 0, for_ms: 0 };
    rig.store.submit(Op::Fail { id, pause });
    rig.store.submit(Op::Refund { id });
    let failed = rig.begin(id);
    assert_eq!((failed.attempts, failed.counted), (4, 2), "a fault stands");
    for _ in 0..2 {
        rig.store.submit(Op::Withhold { id });
    }
    let withheld = rig.begin(id);
    assert_eq!((withheld.attempts, withheld.counted), (4, 2), "nobody has seen it");
    rig.close();
    let mut counted = 2;
    for _ in 0..8 {
        let mut rig = Rig::open(dir.path());
        counted = rig.begin(id).counted;
        rig.close();
    }
    assert_eq!(counted, 4, "what brings everything down is parked in the end");
    let mut rig = Rig::open(dir.path());
    let gone = |ticket| Op::Begin { ticket, id: EventId(99), hand: None };
    assert!(matches!(rig.ask(gone), Answer::Gone));
    rig.close();
}

#[test]
fn a_parked_event_keeps_every_byte_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let mut sent = event("1", "chat");
    sent.raw = (0..=255).cycle().take(100_000).collect();
    let id = rig.accept(&sent);
    let next = rig.accept(&event("2", "chat"));
    rig.begin(id);
    let reason = "the agent refused it".to_owned();
    let park = |ticket| Op::Park { ticket, id, reason: reason.clone(), now_ms: 5_000 };
    assert!(matches!(rig.ask(park), Answer::Parked { .. }));
    assert_eq!(rig.heads(0, 10), (vec![next.0], true));
    rig.close();

    let mut rig = Rig::open(dir.path());
    match rig.ask(|ticket| Op::ListParked { ticket, after: None, limit: 10 }) {
        Answer::ParkedList(list) => {
            assert_eq!(list.len(), 1);
            assert_eq!(list[0].id, ParkedId::Event(id));
            assert_eq!((list[0].attempts, list[0].parked_ms), (1, 5_000));
            assert_eq!(list[0].reason, "the agent refused it");
        }
        other => panic!("{other:?}"),
    }
    let parked = rig.settled_counts();
    assert_eq!((parked[0].waiting, parked[0].parked), (1, 1));
    match rig.ask(|ticket| Op::ShowParked { ticket, id: ParkedId::Event(id) }) {
        Answer::ParkedItem(Some(found)) => {
            assert_eq!(found.1, Payload::Event(Some(Box::new(sent.clone()))));
        }
        other => panic!("{other:?}"),
    }
    let ids = vec![ParkedId::Event(id), ParkedId::Event(EventId(99))];
    match rig.ask(|ticket| Op::Replay { ticket, ids, now_ms: 6_000 }) {
        Answer::Decided(found) => {
            assert_eq!(found[0], (ParkedId::Event(id), Some(lane("chat")), Some("ou_1".into())));
            assert_eq!(found[1].1, None);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.heads(0, 10), (vec![id.0, next.0], true), "its old place");
    let begun = rig.begin(id);
    assert_eq!((begun.attempts, begun.counted, begun.event), (2, 1, sent));
    let counts = rig.settled_counts();
    assert_eq!((counts[0].waiting, counts[0].parked), (2, 0));
    // One that is answered after all does not stay.
    assert!(matches!(rig.ask(park), Answer::Parked { .. }));
    rig.settle(id);
    let counts = rig.settled_counts();
    assert_eq!((counts[0].waiting, counts[0].parked), (1, 0));
    rig.close();
}

/// F95
#[test]
fn who_is_at_the_other_end_is_told_where_the_event_does_not_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let nameless = |key: &str| {
        let mut event = event(key, "chat");
        event.sender.user_id.clear();
        event
    };
    let told = |answer: Answer| match answer {
        Answer::Accepted { user, .. } => user,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(rig.offer(&nameless("1"), None)), None, "nobody has spoken yet");
    rig.accept(&event("2", "chat"));
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(told(rig.offer(&nameless("3"), None)).as_deref(), Some("ou_1"));
    match rig.ask(|ticket| Op::NextInLane { ticket, lane: lane("chat"), after: EventId(1) }) {
        Answer::Next { found, user } => {
            assert_eq!((found, user.as_deref()), (Some(EventId(2)), Some("ou_1")));
        }
        other => panic!("{other:?}"),
    }
    rig.close();
}

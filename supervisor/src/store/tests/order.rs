//! Ids, lanes, and how much there is.

use super::*;

const OTHERS: u64 = 10_000;

#[test]
fn ids_grow_across_reopening_and_after_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..4 {
        let mut rig = Rig::open(dir.path());
        for n in 0..3 {
            let id = rig.accept(&event(&format!("{round}-{n}"), "chat"));
            assert_eq!(id.0, last + 1, "a polite end leaves no gap");
            last = id.0;
            rig.settle(id);
        }
        rig.close();
    }
}

#[test]
fn lanes_keep_their_order_and_are_found_by_their_first_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let a: Vec<_> = (0..5).map(|n| rig.accept(&event(&format!("a{n}"), "a"))).collect();
    let b: Vec<_> = (0..2).map(|n| rig.accept(&event(&format!("b{n}"), "b"))).collect();
    rig.offer_to("other", &event("c", "c"), None);
    let mut threaded = event("t", "a");
    threaded.thread_id = Some(String::new());
    let t = rig.accept(&threaded);

    assert_eq!(rig.heads(0, 10), (vec![a[0].0, b[0].0, t.0], true));
    assert_eq!(rig.heads(0, 2), (vec![a[0].0, b[0].0], false));
    assert_eq!(rig.heads(b[0].0, 10), (vec![b[1].0, t.0], true));
    assert_eq!(rig.heads(t.0, 10), (vec![], true));

    let next = |rig: &mut Rig, chat: &str, after: EventId| {
        let lane = lane(chat);
        match rig.ask(|ticket| Op::NextInLane { ticket, lane, after }) {
            Answer::Next { found, .. } => found,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(next(&mut rig, "a", EventId(0)), Some(a[0]));
    rig.settle(a[0]);
    assert_eq!(next(&mut rig, "a", a[0]), Some(a[1]));
    assert_eq!(next(&mut rig, "a", a[4]), None, "the thread is a lane of its own");
    assert_eq!(next(&mut rig, "nowhere", EventId(0)), None);
    rig.close();
}

#[test]
fn a_search_passes_over_any_number_of_events_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let first = rig.accept(&event("first", "a"));
    for n in 0..OTHERS {
        rig.submit(n, "other", &event(&format!("{n}"), "x"));
    }
    for _ in 0..OTHERS {
        rig.answer();
    }
    let last = rig.accept(&event("last", "a"));
    assert_eq!(rig.heads(0, 10), (vec![first.0], false));
    assert_eq!(rig.heads(first.0, 10), (vec![last.0], true));
    rig.close();

    // Counted in slices, while events come and go.
    let mut rig = Rig::open(dir.path());
    rig.settle(first);
    rig.settle(EventId(first.0 + 5));
    rig.accept(&event("later", "a"));
    let counts = rig.settled_counts();
    let of = |name: &str| counts.iter().find(|c| c.instance == instance(name)).unwrap().clone();
    assert_eq!(of("feishu").waiting, 2);
    assert_eq!(of("other").waiting, OTHERS - 1);
    assert_eq!(of("other").oldest_ms, Some(1));
    rig.close();
}

#[test]
fn replies_of_one_chat_keep_their_order_whatever_their_thread() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let (a1, _) = rig.reply("1", "a", Some("t"));
    let (b1, _) = rig.reply("2", "b", None);
    let (a2, _) = rig.reply("3", "a", None);
    let heads = |rig: &mut Rig, after| {
        let instance = instance("feishu");
        match rig.ask(|ticket| Op::ReplyHeads { ticket, instance, after, limit: 10 }) {
            Answer::ReplyHeads { found, at_end: true } => {
                found.iter().map(|h| h.id).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        heads(&mut rig, OutboundId(0)),
        [a1.id, b1.id, a2.id],
        "the last one ends the search"
    );
    let next = |rig: &mut Rig, after| match rig.ask(|ticket| Op::NextReply {
        ticket,
        chat: lane("a"),
        after,
    }) {
        Answer::NextReply(next) => next,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut rig, OutboundId(0)), Some(a1.id));
    rig.begin_send(a1.id, 1);
    assert_eq!(next(&mut rig, OutboundId(0)), Some(a1.id), "still not at its end");
    rig.finish(a1.id, SendEnd::Sent { message_ids: vec![] });
    assert_eq!(next(&mut rig, OutboundId(0)), Some(a2.id));
    assert_eq!(heads(&mut rig, OutboundId(0)), [b1.id, a2.id]);
    let counts = rig.settled_counts();
    assert_eq!(counts[0].replies, 2);
    rig.close();
}

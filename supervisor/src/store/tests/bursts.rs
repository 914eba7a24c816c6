//! What was said in one go: read together, handed out together, gone together.

use super::*;
use crate::policy::commands::Commands;

fn said(rig: &mut Rig, key: &str, chat: &str, received_ms: i64) -> EventId {
    let arrival = rig.store.arrival(&instance("feishu"), &event(key, chat));
    let (cursor, quota) = (None, Quota::NONE);
    match rig.ask(|ticket| Op::Accept { ticket, arrival, cursor, received_ms, quota }) {
        Answer::Accepted { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

fn ids(begun: &Begun) -> Vec<EventId> {
    begun.followers.iter().map(|one| one.id).collect()
}

fn next(rig: &mut Rig, after: EventId) -> Option<EventId> {
    match rig.ask(|ticket| Op::NextInLane { ticket, lane: lane("chat"), after }) {
        Answer::Next { found, .. } => found,
        other => panic!("{other:?}"),
    }
}

/// F99: what belongs together is told by when it was accepted, and leaves together or not at all.
#[test]
fn what_follows_without_a_pause_is_read_and_settled_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let first = said(&mut rig, "1", "chat", 10_000);
    let second = said(&mut rig, "2", "chat", 10_900);
    said(&mut rig, "3", "other", 10_950);
    let third = said(&mut rig, "4", "chat", 11_900);
    let late = said(&mut rig, "5", "chat", 13_000);
    let begun = rig.hand(first, hand(9));
    assert_eq!((ids(&begun), begun.is_last), (vec![second, third], false));
    rig.settle(first);
    assert_eq!(next(&mut rig, first), Some(late));
    let begun = rig.hand(late, hand(9));
    assert_eq!((ids(&begun), begun.attempts, begun.is_last), (vec![], 1, true));
    rig.close();
}

/// F99: whoever knows an event by its id knows with it what was said then, and nothing that was said since.
#[test]
fn a_later_attempt_takes_along_what_the_first_one_did() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let [first, second] = ["1", "2"].map(|key| said(&mut rig, key, "chat", 10_000));
    assert_eq!(ids(&rig.hand(first, hand(9))), [second]);
    let third = said(&mut rig, "3", "chat", 10_500);
    assert_eq!(ids(&rig.hand(first, hand(9))), [second], "another attempt");
    rig.close();
    let mut rig = Rig::open(dir.path());
    let begun = rig.hand(first, Hand { within_ms: None, ..hand(1) });
    assert_eq!(ids(&begun), [second], "whatever was configured since");
    assert!(!begun.is_last);
    rig.settle(first);
    assert_eq!(next(&mut rig, first), Some(third));
    assert_eq!(ids(&rig.hand(third, hand(9))), []);
    let fourth = said(&mut rig, "4", "chat", 10_600);
    assert_eq!(ids(&rig.hand(third, hand(9))), [], "it was alone");
    rig.settle(third);
    assert_eq!(next(&mut rig, third), Some(fourth));
    rig.close();
}

/// F99
#[test]
fn what_was_handed_out_joins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let [first, second] = ["1", "2"].map(|key| said(&mut rig, key, "chat", 10_000));
    let park = |ticket| Op::Park { ticket, id: first, reason: "no".into(), now_ms: 1 };
    rig.ask(park);
    assert_eq!(ids(&rig.hand(second, hand(9))), []);
    rig.store.submit(Op::Refund { id: second });
    rig.ask(|ticket| Op::Replay { ticket, ids: vec![ParkedId::Event(first)], now_ms: 2 });
    assert_eq!(ids(&rig.hand(first, hand(9))), []);
    rig.settle(first);
    assert_eq!(rig.hand(second, hand(9)).attempts, 2);
    rig.close();
}

/// F99: what is stopped, or given up, is the turn and not its first message.
#[test]
fn what_was_said_in_one_go_is_set_aside_together_and_counts_as_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let [first, second] = ["1", "2"].map(|key| said(&mut rig, key, "chat", 10_000));
    assert_eq!(ids(&rig.hand(first, hand(9))), [second]);
    let third = said(&mut rig, "3", "chat", 10_500);
    rig.ask(|ticket| Op::Park { ticket, id: first, reason: "no".into(), now_ms: 1 });
    let counts = rig.settled_counts();
    assert_eq!((counts[0].waiting, counts[0].parked), (1, 2));
    assert_eq!(next(&mut rig, first), Some(third));
    let replayed = vec![ParkedId::Event(second)];
    rig.ask(|ticket| Op::Replay { ticket, ids: replayed, now_ms: 2 });
    let again = rig.hand(second, hand(9));
    assert_eq!((again.attempts, ids(&again)), (2, vec![]), "the agent had it before");
    rig.close();
}

/// F23: the agent has had all of it, and says so late; a replay of the rest would have it act twice.
#[test]
fn a_late_acknowledgement_settles_what_was_set_aside_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let [first, second] = ["1", "2"].map(|key| said(&mut rig, key, "chat", 10_000));
    assert_eq!(ids(&rig.hand(first, hand(9))), [second]);
    rig.ask(|ticket| Op::Park { ticket, id: first, reason: "no".into(), now_ms: 1 });
    rig.settle(first);
    let counts = rig.settled_counts();
    assert!(counts.iter().all(|count| (count.waiting, count.parked) == (0, 0)), "{counts:?}");
    rig.close();
}

/// F23, F99: what is replayed is what the agent has had as one, and its late acknowledgement is of all of it.
#[test]
fn what_was_set_aside_together_is_replayed_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let [first, second] = ["1", "2"].map(|key| said(&mut rig, key, "chat", 10_000));
    assert_eq!(ids(&rig.hand(first, hand(9))), [second]);
    let aside = |rig: &mut Rig, id| {
        rig.ask(|ticket| Op::Park { ticket, id, reason: "no".into(), now_ms: 1 });
    };
    let replay = |rig: &mut Rig, ids: &[EventId]| {
        let ids = ids.iter().map(|id| ParkedId::Event(*id)).collect();
        rig.ask(|ticket| Op::Replay { ticket, ids, now_ms: 2 });
    };
    aside(&mut rig, first);
    replay(&mut rig, &[first]);
    assert_eq!(ids(&rig.hand(first, hand(9))), [], "the other one is still set aside");
    aside(&mut rig, first);
    replay(&mut rig, &[first, second]);
    assert_eq!(ids(&rig.hand(first, hand(9))), [second]);
    aside(&mut rig, first);
    replay(&mut rig, &[first, second]);
    rig.settle(first);
    let counts = rig.settled_counts();
    assert!(counts.iter().all(|count| (count.waiting, count.parked) == (0, 0)), "{counts:?}");
    rig.close();
}

/// F99: nobody has seen what was begun and not handed out, so it is as new, and so is what went with it.
#[test]
fn what_was_withheld_is_joined_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let [first, second] = ["1", "2"].map(|key| said(&mut rig, key, "chat", 10_000));
    assert_eq!(ids(&rig.hand(first, hand(9))), [second]);
    rig.store.submit(Op::Withhold { id: first });
    let third = said(&mut rig, "3", "chat", 10_500);
    let begun = rig.hand(first, hand(9));
    assert_eq!((begun.attempts, ids(&begun)), (1, vec![second, third]));
    rig.store.submit(Op::Withhold { id: first });
    rig.ask(|ticket| Op::Park { ticket, id: first, reason: "no".into(), now_ms: 1 });
    let begun = rig.hand(second, hand(9));
    assert_eq!((begun.attempts, ids(&begun)), (1, vec![third]), "it was not set aside");
    // What was seen stays that when a later attempt is none.
    rig.store.submit(Op::Refund { id: second });
    assert_eq!(rig.hand(second, hand(9)).attempts, 2);
    rig.store.submit(Op::Withhold { id: second });
    let aside = rig.ask(|ticket| Op::Park { ticket, id: second, reason: "no".into(), now_ms: 1 });
    let Answer::Parked(aside) = aside else { panic!("{aside:?}") };
    let attempts: Vec<_> = aside.iter().map(|(parked, _)| (parked.id, parked.attempts)).collect();
    assert_eq!(attempts, [second, third].map(|id| (ParkedId::Event(id), 1)));
    rig.close();
}

#[test]
fn a_row_is_bounded_and_ends_before_what_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let begins = |rig: &mut Rig, chat: &str, next: Inbound, hand: Hand| {
        let first = said(rig, &format!("{chat}-1"), chat, 10_000);
        let arrival = rig.store.arrival(&instance("feishu"), &next);
        let (cursor, quota, received_ms) = (None, Quota::NONE, 10_000);
        rig.ask(|ticket| Op::Accept { ticket, arrival, cursor, received_ms, quota });
        let begun = rig.hand(first, hand);
        let joined = begun.followers.len();
        assert_eq!(begun.is_last, joined == 1);
        rig.settle(first);
        let left = rig.ask(|ticket| Op::NextInLane { ticket, lane: lane(chat), after: first });
        assert_eq!(matches!(left, Answer::Next { found: None, .. }), joined == 1, "{left:?}");
        joined
    };
    let plain = |chat: &str| event(&format!("{chat}-2"), chat);
    assert_eq!(begins(&mut rig, "a", plain("a"), hand(9)), 1);
    assert_eq!(begins(&mut rig, "b", plain("b"), hand(0)), 0);
    assert_eq!(begins(&mut rig, "c", plain("c"), Hand { bytes: 10, ..hand(9) }), 0);
    assert_eq!(begins(&mut rig, "d", plain("d"), Hand { within_ms: None, ..hand(9) }), 0);
    let stop = Inbound { text: "/stop".into(), ..plain("e") };
    assert_eq!(begins(&mut rig, "e", stop, hand(9)), 0);
    let halt = |chat: &str| Inbound { text: "halt".into(), ..plain(chat) };
    assert_eq!(begins(&mut rig, "f", halt("f"), hand(9)), 1);
    let halts = Commands { stop: vec!["halt".into()], ..Commands::default() };
    let hand = Hand { commands: halts.into(), ..hand(9) };
    assert_eq!(begins(&mut rig, "g", halt("g"), hand.clone()), 0);
    // A crash left it in its lane.
    let halts = rig.accept(&halt("h"));
    rig.accept(&event("h-3", "h"));
    assert_eq!(rig.hand(halts, hand).followers, []);
    rig.close();
}

//! The store as its callers see it. Damage and power are in the files beside.

mod damage;
mod killed;
mod log;
mod order;
mod refused;
mod removed;
mod torn;
mod versions;

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use protocol::content::Content;
use protocol::event::{
    ChatType, Inbound, InboundKind, Mention, Receipt, Reply, ReplyState, Rest, Sender, SenderKind,
};
use protocol::id::{EventId, Generation, Instance, Lane, OutboundId, ParkedId};
use protocol::worker::Cursor;
use tokio::sync::mpsc;

use super::*;
use crate::policy::wall::Set;

/// A store and its answers, one operation at a time.
struct Rig {
    store: Store,
    answers: mpsc::Receiver<Vec<Done>>,
    waiting: VecDeque<Done>,
    opened: Opened,
    tickets: u64,
}

impl Rig {
    fn open(dir: &Path) -> Self {
        Self::try_open(dir).unwrap()
    }

    fn try_open(dir: &Path) -> Result<Self, Error> {
        Self::open_at(dir, 1_000)
    }

    fn open_at(dir: &Path, now_ms: i64) -> Result<Self, Error> {
        let (send, answers) = mpsc::channel(64);
        let (store, opened) = Store::open(dir, now_ms, send)?;
        Ok(Self { store, answers, waiting: VecDeque::new(), opened, tickets: 0 })
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn done(&mut self) -> Done {
        while self.waiting.is_empty() {
            self.waiting.extend(self.answers.blocking_recv().unwrap());
        }
        self.waiting.pop_front().unwrap()
    }

    fn answer(&mut self) -> (Ticket, Answer) {
        match self.done() {
            Done::Answered { ticket, answer } => (ticket, answer),
            Done::Poisoned { error } => panic!("poisoned: {error}"),
        }
    }

    fn ask(&mut self, op: impl FnOnce(Ticket) -> Op) -> Answer {
        let ticket = self.ticket();
        self.store.submit(op(ticket));
        let (told, answer) = self.answer();
        assert_eq!(told, ticket);
        answer
    }

    fn accept(&mut self, event: &Inbound) -> EventId {
        match self.offer(event, None) {
            Answer::Accepted(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn offer(&mut self, event: &Inbound, cursor: Option<Cursor>) -> Answer {
        self.offer_to("feishu", event, cursor)
    }

    fn offer_to(&mut self, name: &str, event: &Inbound, cursor: Option<Cursor>) -> Answer {
        let arrival = self.store.arrival(&instance(name), event);
        self.ask(|ticket| Op::Accept {
            ticket,
            arrival,
            cursor,
            received_ms: 2_000,
            quota: Quota::NONE,
        })
    }

    /// Hands an event in and does not wait.
    fn submit(&self, ticket: u64, name: &str, event: &Inbound) {
        let arrival = self.store.arrival(&instance(name), event);
        let ticket = Ticket(ticket);
        self.store.submit(Op::Accept {
            ticket,
            arrival,
            cursor: None,
            received_ms: 1,
            quota: Quota::NONE,
        });
    }

    fn heads(&mut self, after: u64, limit: usize) -> (Vec<u64>, bool) {
        let instances = vec![instance("feishu")];
        match self.ask(|ticket| Op::Heads { ticket, instances, after: EventId(after), limit }) {
            Answer::Heads { found, at_end } => (found.iter().map(|h| h.id.0).collect(), at_end),
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, id: EventId) -> Begun {
        match self.ask(|ticket| Op::Begin { ticket, id, hand: None }) {
            Answer::Begun(begun) => *begun,
            other => panic!("{other:?}"),
        }
    }

    fn hand(&mut self, id: EventId, hand: Hand) -> Begun {
        match self.ask(|ticket| Op::Begin { ticket, id, hand: Some(hand) }) {
            Answer::Begun(begun) => *begun,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, id: EventId) {
        assert!(matches!(
            self.ask(|ticket| Op::Settle { ticket, id, also: Vec::new() }),
            Answer::Settled
        ));
    }

    fn reply(&mut self, key: &str, chat: &str, thread: Option<&str>) -> (Receipt, bool) {
        let lane = Lane { thread_id: thread.map(str::to_owned), ..lane(chat) };
        let content = Content::text("hello");
        self.submit_reply(Reply { key: key.into(), lane, reply_to: None, content })
    }

    fn answer_to_reply(&mut self, reply: Reply) -> Answer {
        let reply = Box::new(reply);
        let agent = instance("hermes");
        let beside = Beside { answers: Some("ou_1".into()), account: Some("feishu cli_a".into()) };
        let accept =
            |ticket| Op::AcceptReply { ticket, agent, reply, note: None, beside, now_ms: 3_000 };
        self.ask(accept)
    }

    fn submit_reply(&mut self, reply: Reply) -> (Receipt, bool) {
        match self.answer_to_reply(reply) {
            Answer::Reply { receipt, fresh, .. } => (receipt, fresh),
            other => panic!("{other:?}"),
        }
    }

    fn begin_send(&mut self, id: OutboundId, now_ms: i64) -> Sending {
        match self.ask(|ticket| Op::BeginSend { ticket, id, now_ms }) {
            Answer::Sending(sending) => *sending,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, id: OutboundId, end: SendEnd) -> Receipt {
        self.finished(id, end).receipt
    }

    fn finished(&mut self, id: OutboundId, end: SendEnd) -> Finished {
        match self.ask(|ticket| Op::FinishSend { ticket, id, end, now_ms: 9_000 }) {
            Answer::Finished(finished) => {
                assert_eq!(finished.agent, instance("hermes"));
                *finished
            }
            other => panic!("{other:?}"),
        }
    }

    fn counts(&mut self) -> (Vec<Count>, Files) {
        match self.ask(|ticket| Op::Counts { ticket }) {
            Answer::Counts { instances, files } => (instances, files),
            other => panic!("{other:?}"),
        }
    }

    /// Counts, once the rows of before the start are in.
    fn settled_counts(&mut self) -> Vec<Count> {
        loop {
            let (counts, files) = self.counts();
            if !files.counting {
                return counts;
            }
            std::thread::yield_now();
        }
    }

    fn purge(&mut self, before_ms: i64) -> u64 {
        let mut sum = 0;
        loop {
            let op = |ticket| Op::Purge {
                ticket,
                seen_before_ms: before_ms,
                replies_before_ms: before_ms,
                failures_before_ms: before_ms,
            };
            match self.ask(op) {
                Answer::Purged { forgotten, more } => {
                    sum += forgotten;
                    if !more {
                        return sum;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn close(self) {
        drop(self.answers);
        self.store.close().unwrap();
    }
}

fn instance(name: &str) -> Instance {
    Instance::new(name).unwrap()
}

fn lane(chat: &str) -> Lane {
    Lane { instance: instance("feishu"), chat_id: chat.into(), thread_id: None }
}

fn event(key: &str, chat: &str) -> Inbound {
    Inbound {
        kind: InboundKind::Message,
        keys: vec![format!("event:{key}"), format!("message:{key}")],
        origin_ms: 1_500,
        chat_id: chat.into(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some(key.into()),
        reply_to: None,
        sender: Sender { user_id: "ou_1".into(), name: None, kind: SenderKind::User },
        mention: Mention::None,
        text: format!("text of {key}"),
        parts: Vec::new(),
        raw: b"{}".to_vec(),
        chat_name: None,
        quote: None,
        album: None,
    }
}

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
    assert!(matches!(rig.offer_to("other", &event("1", "chat"), None), Answer::Accepted(_)));
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
    assert!(matches!(offer("2", "1"), Answer::Accepted(_)), "nothing was noted of it");
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
    assert!(matches!(rig.ask(park), Answer::Parked));
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
    assert!(matches!(rig.ask(park), Answer::Parked));
    rig.settle(id);
    let counts = rig.settled_counts();
    assert_eq!((counts[0].waiting, counts[0].parked), (1, 0));
    rig.close();
}

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
    assert_eq!(rig.opened.sending.len(), 1);
    assert_eq!((rig.opened.sending[0].id, &rig.opened.sending[0].chat), (one.id, &lane("chat")));
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

#[test]
fn ends_of_workers_are_remembered_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let exit = |n: u64| Exit {
        instance: instance("feishu"),
        generation: Generation(n),
        at_ms: 1,
        code: Some(70),
        signal: None,
        cause: "panicked".into(),
    };
    for n in 0..u64::from(EXITS_KEPT) + 5 {
        rig.store.submit(Op::RecordExit(exit(n)));
    }
    rig.close();
    let rig = Rig::open(dir.path());
    assert_eq!(rig.opened.exits.len(), EXITS_KEPT as usize);
    assert_eq!(rig.opened.exits[0], exit(5));
    rig.close();
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    assert!(matches!(Rig::try_open(dir.path()), Err(Error::InUse { .. })));
    rig.close();
    Rig::open(dir.path()).close();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    Rig::open(dir.path()).close();
    let set = |pragma: &str, value: i64| {
        let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        db.pragma_update(None, pragma, value).unwrap();
    };
    set("user_version", 99);
    match Rig::try_open(dir.path()) {
        Err(Error::Newer { found: 99, .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    // Whose else should these tables be.
    set("user_version", 1);
    set("application_id", 7);
    assert!(Rig::open(dir.path()).opened.damage.is_some());
}

#[test]
fn a_group_of_repetitions_and_reads_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    rig.offer(&event("1", "chat"), Some(Cursor(vec![1])));
    let (_, before) = rig.counts();
    for _ in 0..10 {
        rig.offer(&event("1", "chat"), Some(Cursor(vec![1])));
        rig.heads(0, 10);
    }
    let (_, after) = rig.counts();
    assert_eq!(before.commits, after.commits);
    assert!(after.groups >= before.groups + 20);
    rig.close();
}

/// F27: whatever the clock is set to, what is a minute old stays known, in the log and in parts, also after a restart.
#[test]
fn a_clock_that_is_set_makes_nothing_old() {
    const MINUTE: i64 = 60_000;
    let year = 365 * 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    // More keys than a part holds.
    for n in 0..30 {
        let mut said = event(&n.to_string(), "chat");
        said.keys.extend((0..1000).map(|more| format!("{n}.{more}")));
        let id = rig.accept(&said);
        rig.settle(id);
    }
    let (sent, _) = rig.reply("sent", "chat", None);
    rig.finish(sent.id, SendEnd::Sent { message_ids: Vec::new() });
    let known = |rig: &mut Rig| {
        for n in ["0", "29"] {
            let again = rig.offer(&event(n, "chat"), None);
            assert!(matches!(again, Answer::Duplicate), "{n}: {again:?}");
        }
        assert!(!rig.reply("sent", "chat", None).1);
    };
    let mut now_ms = 2_000 + MINUTE;
    for by_ms in [year, -2 * year, 3 * year] {
        now_ms += by_ms;
        rig.store.submit(Op::ClockSet(Set { by_ms, now_ms }));
        rig.purge(now_ms - 2 * MINUTE);
        known(&mut rig);
        rig.close();
        rig = Rig::open(dir.path());
        rig.purge(now_ms - 2 * MINUTE);
        known(&mut rig);
    }
    // It is forgotten when its time has come.
    rig.purge(now_ms + MINUTE);
    assert!(matches!(rig.offer(&event("0", "chat"), None), Answer::Accepted(_)));
    rig.close();
}

#[test]
fn what_is_old_is_forgotten_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let kept = rig.accept(&event("kept", "busy"));
    for n in 0..700 {
        let id = rig.accept(&event(&format!("{n}"), &format!("chat{n}")));
        rig.settle(id);
    }
    let (sent, _) = rig.reply("sent", "chat", None);
    rig.finish(sent.id, SendEnd::Failed { reason: "no".into() });
    rig.reply("waiting", "chat", None);
    assert_eq!(rig.purge(2_000), 0, "nothing is that old");
    let forgotten = rig.purge(100_000);
    // Two keys an event, a conversation for each of the 700, one reply.
    assert_eq!(forgotten, 2 * 701 + 700 + 1);
    assert_eq!(rig.begin(kept).lane, lane("busy"));
    assert!(!rig.reply("waiting", "chat", None).1);
    assert!(rig.reply("sent", "chat", None).1);
    assert!(matches!(rig.offer(&event("5", "chat5"), None), Answer::Accepted(_)));
    rig.close();
}

#[test]
fn a_backup_grows_while_events_come_and_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let mut large = event("0", "chat");
    large.raw = vec![b'x'; 500_000];
    for n in 0..8 {
        large.keys = vec![format!("large {n}")];
        rig.accept(&large);
    }
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("store.db");
    rig.store.submit(Op::Backup { ticket: Ticket(5000), path: path.clone() });
    rig.store.submit(Op::Backup { ticket: Ticket(5001), path: other.path().join("second") });
    for n in 0..100 {
        rig.submit(6000 + n, "feishu", &event(&format!("{n}"), "chat"));
    }
    let mut accepted = 0;
    let size = loop {
        match rig.answer() {
            (Ticket(5000), Answer::BackedUp { bytes }) => break bytes,
            (Ticket(5001), answer) => assert!(matches!(answer, Answer::Busy), "one at a time"),
            (_, answer) => {
                assert!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
                accepted += 1;
            }
        }
    };
    assert!(size > 4_000_000 && std::fs::metadata(&path).unwrap().len() == size);
    for _ in accepted..100 {
        rig.answer();
    }
    rig.close();
    let mut copy = Rig::open(other.path());
    let waiting = copy.settled_counts()[0].waiting;
    assert!((8..=108).contains(&waiting), "{waiting}");
    copy.close();
}

/// By its id a platform and an agent tell a repetition from something new.
#[test]
fn a_backup_that_is_put_back_gives_no_id_out_again() {
    const SINCE: u64 = 3000;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut rig = Rig::open(dir.path());
    let mut given = vec![rig.accept(&event("before", "chat"))];
    let mut replies = vec![rig.reply("before", "chat", None).0.id];
    let path = other.path().join("store.db");
    let backed_up = rig.ask(|ticket| Op::Backup { ticket, path });
    assert!(matches!(backed_up, Answer::BackedUp { .. }));
    for n in 0..SINCE {
        given.push(rig.accept(&event(&n.to_string(), "chat")));
        replies.push(rig.reply(&n.to_string(), "chat", None).0.id);
    }
    rig.close();
    // So many milliseconds later: it can have been no more.
    let mut copy = Rig::open_at(other.path(), 3_000 + i64::try_from(SINCE).unwrap()).unwrap();
    let again = copy.accept(&event("after", "chat"));
    assert!(!given.contains(&again), "{again}");
    let again = copy.reply("after", "chat", None).0.id;
    assert!(!replies.contains(&again), "{again}");
    copy.close();
}

//! The store as its callers see it. Damage and power are in the files beside.

mod backup;
mod bursts;
mod damage;
mod inbox;
mod killed;
mod log;
mod order;
mod refused;
mod removed;
mod replies;
mod torn;
mod versions;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

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
            Answer::Accepted { id, .. } => id,
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
        assert!(matches!(self.ask(|ticket| Op::Settle { ticket, id }), Answer::Settled));
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

/// To an agent that takes along `followers` events at most.
fn hand(followers: usize) -> Hand {
    let within_ms = Some(1000);
    let agent = instance("hermes");
    let commands = Arc::default();
    Hand { agent, followers, within_ms, album_ms: 1000, bytes: 10_000, commands, now_ms: 0 }
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
    assert!(matches!(rig.offer(&event("0", "chat"), None), Answer::Accepted { .. }));
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
    assert!(matches!(rig.offer(&event("5", "chat5"), None), Answer::Accepted { .. }));
    rig.close();
}

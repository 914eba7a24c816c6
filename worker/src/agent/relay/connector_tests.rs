//! The connector against an agent played by hand, with time at will (F20, F98).

use protocol::event::{ChatType, InboundKind, Receipt, ReplyState};
use protocol::id::OutboundId;

use super::super::wire::Send;
use super::*;
use crate::agent::sample::delivery;

#[path = "connector/rival_tests.rs"]
mod rivals;

const S: Duration = Duration::from_secs(1);

struct World {
    connector: Connector,
    now: Instant,
    /// What the state file tells.
    file: Option<Process>,
    out: Vec<Action>,
    requests: u32,
    /// The store takes its time: see `judge`.
    on_hold: bool,
    held: Vec<Input>,
}

#[expect(clippy::unnecessary_wraps, reason = "read where there may be none")]
fn process(pid: u64, active: u64) -> Option<Process> {
    Some(Process { identity: format!("{pid} 1"), active })
}

impl World {
    fn new(file: Option<Process>) -> Self {
        let rules = Rules {
            platforms: vec![(Instance::new("feishu").unwrap(), "feishu".into())],
            concurrency: 8,
            turn: 1800 * S,
            nonce: "n".into(),
        };
        let now = crate::clock::now();
        let connector = Connector::new(rules, now);
        Self {
            connector,
            now,
            file,
            out: Vec::new(),
            requests: 0,
            on_hold: false,
            held: Vec::new(),
        }
    }

    /// A world whose agent listens on connection 1.
    fn open(file: Option<Process>) -> Self {
        let mut world = Self::new(file);
        world.connect(1);
        world
    }

    fn on(&mut self, input: Input) {
        let mut next = vec![input];
        while let Some(input) = next.pop() {
            for action in self.connector.on(input, self.now) {
                match action {
                    Action::Look => next.push(Input::Seen(self.file.clone())),
                    Action::Submit { conn, request, ends, reply } => {
                        let receipt = Receipt {
                            id: OutboundId(5),
                            key: reply.key.clone(),
                            state: ReplyState::Waiting,
                            message_ids: vec![],
                            reason: None,
                        };
                        let verdict = Some(ReplyVerdict::Accepted(receipt));
                        let judged = (request.clone(), ends.clone());
                        let judged =
                            Input::Judged { conn, request: judged.0, ends: judged.1, verdict };
                        let into = if self.on_hold { &mut self.held } else { &mut next };
                        into.push(judged);
                        self.out.push(Action::Submit { conn, request, ends, reply });
                    }
                    other => self.out.push(other),
                }
            }
        }
    }

    /// The store has what was handed in.
    fn judge(&mut self) {
        for judged in std::mem::take(&mut self.held) {
            self.on(judged);
        }
    }

    /// Time passes, beat by beat.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.connector.deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.on(Input::Tick);
        }
        self.now = until;
    }

    fn connect(&mut self, conn: Conn) {
        self.on(Input::Heard(conn, Heard::Hello("feishu".into())));
        let probe = self.probe(conn);
        self.say(conn, &probe, "help", None, None);
        self.out.clear();
    }

    /// The chat of the last probe.
    fn probe(&self, conn: Conn) -> String {
        let chat = self.events(conn).into_iter().rev().find_map(|event| {
            let chat = event["source"]["chat_id"].as_str()?.to_owned();
            chat.starts_with(PROBE).then_some(chat)
        });
        chat.expect("a probe")
    }

    fn events(&self, on: Conn) -> Vec<serde_json::Value> {
        let lines = self.out.iter().filter_map(|action| match action {
            Action::Line(conn, line) if *conn == on => serde_json::from_str(line).ok(),
            _ => None,
        });
        lines
            .filter_map(|mut line: serde_json::Value| {
                (line["type"] == "inbound").then(|| line["event"].take())
            })
            .collect()
    }

    /// The messages that were written since the last look, by id.
    fn sent(&mut self, conn: Conn) -> Vec<String> {
        let events = self.events(conn);
        let ids = events.iter().map(|event| event["message_id"].as_str().unwrap().to_owned());
        let ids = ids.filter(|id| !id.starts_with(PROBE)).collect();
        self.out.retain(|action| !matches!(action, Action::Line(..)));
        ids
    }

    fn deliver(&mut self, id: u64, chat: &str, attempt: u32) {
        let mut delivery = delivery(id, "feishu", chat, "hello");
        delivery.attempt = attempt;
        self.on(Input::Deliver(Box::new(delivery)));
    }

    fn take(&mut self, conn: Conn, id: u64, attempt: u32) {
        self.on(Input::Heard(conn, Heard::Taken(format!("{id}.{attempt}.{conn}"))));
    }

    fn say(&mut self, conn: Conn, chat: &str, text: &str, to: Option<&str>, thread: Option<&str>) {
        self.requests += 1;
        let send = Send {
            chat_id: chat.into(),
            text: text.into(),
            reply_to: to.map(|name| super::super::source::own_name(name).to_owned()),
            copy: to.map(str::to_owned),
            thread_id: thread.map(str::to_owned),
            is_final: true,
        };
        let request = format!("r{}", self.requests);
        let platform = Some("feishu".to_owned());
        self.on(Input::Heard(conn, Heard::Outbound { request, platform, op: Op::Send(send) }));
    }

    fn replies(&mut self) -> Vec<Reply> {
        let (replies, rest) = std::mem::take(&mut self.out)
            .into_iter()
            .partition::<Vec<_>, _>(|action| matches!(action, Action::Submit { .. }));
        self.out = rest;
        let replies = replies.into_iter().map(|action| match action {
            Action::Submit { reply, .. } => *reply,
            _ => unreachable!(),
        });
        replies.collect()
    }

    /// What the supervisor was told since the last look, but for renewals.
    fn told(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.out).into_iter().filter_map(|action| match action {
            Action::Say(FromWorker::Ack { event_id }) => Some(format!("ack {event_id}")),
            Action::Say(FromWorker::Nack { event_id, .. }) => Some(format!("nack {event_id}")),
            Action::Say(FromWorker::Defer { event_id, .. }) => Some(format!("later {event_id}")),
            Action::Say(FromWorker::SetAside { event_id, .. }) => Some(format!("doubt {event_id}")),
            Action::Say(FromWorker::Paused(pause)) => Some(format!("{pause:?}")),
            Action::Say(FromWorker::Lease { ttl_ms: 0, .. }) => Some("shut".into()),
            Action::Close(conn) => Some(format!("close {conn}")),
            _ => None,
        });
        told.collect()
    }

    fn is_open(&self) -> bool {
        self.connector.live.as_ref().is_some_and(|live| matches!(live.phase, Phase::Open { .. }))
    }
}

#[test]
fn nothing_goes_before_the_agent_proves_that_it_listens() {
    let mut world = World::new(None);
    world.on(Input::Heard(1, Heard::Hello("feishu".into())));
    let first = world.probe(1);
    world.pass(2 * S);
    let second = world.probe(1);
    assert_ne!(first, second, "the name of a probe is never used again");
    world.deliver(1, "oc_1", 1);
    assert!(world.sent(1).is_empty());
    // An answer to another connection's probe proves nothing.
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    world.pass(2 * S);
    assert_eq!(world.told(), ["close 1", "shut"]);
    world.say(1, &second, "help", None, None);
    world.say(2, &second, "help", None, None);
    assert!(!world.is_open());
    world.pass(S);
    let own = world.probe(2);
    world.say(2, &own, "help", None, None);
    assert!(world.is_open() && world.replies().is_empty(), "and its answer goes nowhere");
    assert_eq!(world.sent(2), ["m1"]);
}

#[test]
fn an_event_is_kept_until_its_answer_is_stored() {
    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    assert!(world.told().is_empty(), "taken is not done");
    world.say(1, "oc_2", "elsewhere", Some("m9"), None);
    world.say(1, "oc_1", "aside", None, None);
    assert!(!world.told().iter().any(|told| told.starts_with("ack")));
    world.say(1, "oc_1", "answer", Some("m1"), None);
    let replies = world.replies();
    let last = replies.last().unwrap();
    assert_eq!((last.content.text.as_str(), last.reply_to.as_deref()), ("answer", Some("m1")));
    assert_eq!(world.told(), ["ack 1"]);
}

#[test]
fn what_nobody_says_is_acknowledged_and_not_asked() {
    let mut world = World::open(None);
    let mut reaction = delivery(1, "feishu", "oc_1", "hello");
    reaction.event.kind = InboundKind::Reaction;
    world.on(Input::Deliver(Box::new(reaction)));
    assert!(world.sent(1).is_empty());
    assert!(world.told().iter().any(|told| told.starts_with("ack")));
}

#[test]
fn a_session_has_one_event_at_a_time_and_sessions_do_not_wait() {
    let mut world = World::open(None);
    for (id, chat) in [(1, "oc_1"), (2, "oc_1"), (3, "oc_2")] {
        world.deliver(id, chat, 1);
    }
    assert_eq!(world.sent(1), ["m1", "m3"]);
    world.say(1, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.sent(1), ["m2"]);
}

#[test]
fn in_a_thread_an_answer_without_a_target_is_its_events() {
    let mut world = World::open(None);
    let mut topic = delivery(1, "feishu", "oc_1", "hello");
    topic.event.chat_type = ChatType::Group;
    topic.event.thread_id = Some("omt_1".into());
    topic.event.reply_to = Some("om_root".into());
    topic.lane.thread_id = Some("omt_1".into());
    let mut other = topic.clone();
    (other.event_id, other.event.thread_id) = (EventId(2), Some("omt_2".into()));
    other.event.message_id = Some("m2".into());
    world.on(Input::Deliver(Box::new(topic.clone())));
    world.on(Input::Deliver(Box::new(other)));
    world.say(1, "oc_1", "second", None, Some("omt_2"));
    world.say(1, "oc_1", "first", Some("om_root"), Some("omt_1"));
    assert_eq!(
        world.replies().iter().map(|r| r.content.text.as_str()).collect::<Vec<_>>(),
        ["second", "first"]
    );
    assert_eq!(world.told(), ["ack 2", "ack 1"]);
    // Later words to that thread find its lane.
    world.say(1, "oc_1", "more", None, Some("omt_1"));
    assert_eq!(world.replies()[0].lane, topic.lane);
}

#[test]
fn an_agent_that_restarted_gets_its_events_again() {
    for file in [None, process(7, 0)] {
        let mut world = World::open(file.clone());
        world.deliver(1, "oc_1", 1);
        world.take(1, 1, 1);
        world.on(Input::Closed(1));
        assert_eq!(world.told(), ["shut"], "what it holds stays with it for now");
        world.file = file.and(process(8, 0));
        world.on(Input::Heard(2, Heard::Hello("feishu".into())));
        assert!(world.told().is_empty());
        world.pass(S);
        let probe = world.probe(2);
        world.say(2, &probe, "help", None, None);
        assert_eq!(world.told(), ["nack 1"]);
        world.deliver(1, "oc_1", 2);
        assert_eq!(world.sent(2), ["m1~hgw2"]);
    }
}

/// P6: one message that kills the agent is found among its neighbours, and they pay nothing.
#[test]
fn what_is_lost_together_does_not_count_and_is_tried_alone() {
    let mut world = World::open(process(1, 0));
    for pid in [2, 3] {
        for (id, chat) in [(1, "oc_1"), (2, "oc_2")] {
            world.deliver(id, chat, 1);
            world.take(pid - 1, id, 1);
        }
        assert_eq!(world.sent(pid - 1).len(), 2);
        world.on(Input::Closed(pid - 1));
        world.told();
        world.file = process(pid, 0);
        world.on(Input::Heard(pid, Heard::Hello("feishu".into())));
        let probe = world.probe(pid);
        world.out.clear();
        world.say(pid, &probe, "help", None, None);
        assert_eq!(world.told(), ["later 1", "later 2"]);
    }
    for (id, chat) in [(1, "oc_1"), (2, "oc_2"), (3, "oc_3")] {
        world.deliver(id, chat, 1);
    }
    assert_eq!(world.sent(3), ["m1"]);
    world.say(3, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.sent(3), ["m2"]);
    world.on(Input::Closed(3));
    world.told();
    world.file = process(4, 0);
    world.on(Input::Heard(4, Heard::Hello("feishu".into())));
    let probe = world.probe(4);
    world.out.clear();
    world.say(4, &probe, "help", None, None);
    assert_eq!(world.sent(4), ["m3"], "and who was not there goes on");
    assert_eq!(world.told(), ["nack 2"]);
}

#[test]
fn lost_answers_keep_nobody_else_out() {
    let mut world = World::open(process(7, 2));
    for (id, chat) in [(1, "oc_1"), (2, "oc_2")] {
        world.deliver(id, chat, 1);
        world.take(1, id, 1);
    }
    world.on(Input::Closed(1));
    world.file = process(7, 1);
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.say(2, &probe, "help", None, None);
    let places = |world: &World| {
        world.out.iter().rev().find_map(|action| match action {
            Action::Say(FromWorker::Lease { ttl_ms: 1.., concurrency }) => Some(*concurrency),
            _ => None,
        })
    };
    assert_eq!(places(&world), Some(9), "one of the two has no turn any more");
    world.file = process(7, 0);
    world.pass(S);
    assert_eq!(places(&world), Some(10));
    world.out.clear();
    world.pass(STUCK + 3 * S);
    assert_eq!(places(&world), Some(8));
    let later = world.told();
    assert_eq!(later, ["later 1", "later 2"], "an end of a connection counts against nobody");
}

#[test]
fn an_agent_that_dialled_again_finishes_what_it_holds() {
    let mut world = World::open(process(7, 1));
    for (id, chat) in [(1, "oc_1"), (2, "oc_2"), (3, "oc_3")] {
        world.deliver(id, chat, 1);
    }
    world.take(1, 1, 1);
    world.take(1, 2, 1);
    world.on(Input::Closed(1));
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.out.clear();
    world.say(2, &probe, "help", None, None);
    assert_eq!(world.told(), ["nack 3"], "what it never took");
    world.deliver(3, "oc_3", 2);
    world.say(2, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.replies().len(), 1);
    assert_eq!(world.told(), ["ack 1"]);
    world.pass(20 * S);
    assert!(world.told().is_empty(), "a turn still runs");
    world.file = process(7, 0);
    world.pass(8 * S);
    assert!(world.told().is_empty(), "it may wait for a result that was lost");
    world.pass(8 * S);
    assert_eq!(world.sent(2), ["m3~hgw2"], "no copy while the first may be in work");
    assert_eq!(world.told(), ["nack 2"], "its answer was lost with the connection");
}

/// Newer agents acknowledge a message whose name they have seen, and do nothing.
#[test]
fn what_is_offered_again_has_another_name_and_its_answer_is_known() {
    let mut world = World::open(process(7, 0));
    world.deliver(1, "oc_1", 2);
    world.pass(STUCK + 3 * S);
    let name = world.sent(1).remove(0);
    assert_ne!(name, "m1");
    world.take(1, 1, 2);
    world.say(1, "oc_1", "answer", Some(&name), None);
    let replies = world.replies();
    assert_eq!(replies[0].reply_to.as_deref(), Some("m1"));
    assert_eq!(world.told().last().unwrap(), "ack 1");
    let mut first = World::open(None);
    first.deliver(1, "oc_1", 1);
    first.say(1, "oc_1", "answer", Some("m1"), None);
    assert_eq!(first.replies()[0].key, replies[0].key, "the chat gets one of the two");
}

#[test]
fn a_new_worker_waits_for_the_first_copy_and_its_answer_is_good() {
    let mut world = World::open(process(7, 2));
    world.deliver(1, "oc_1", 2);
    world.deliver(2, "oc_2", 1);
    world.deliver(3, "oc_3", 2);
    assert_eq!(world.sent(1), ["m2"]);
    world.say(1, "oc_3", "of the first copy", Some("m3"), None);
    assert_eq!(world.told().last().unwrap(), "ack 3");
    world.file = process(7, 0);
    world.pass(STUCK);
    assert!(world.sent(1).is_empty());
    world.pass(3 * S);
    assert_eq!(world.sent(1), ["m1~hgw2"]);
    world.say(1, "oc_1", "answer", Some("m1"), None);
    world.out.clear();
    world.say(1, "oc_1", "of a second copy", Some("m1~hgw2"), None);
    assert!(world.replies().is_empty(), "nobody is answered twice");
    world.say(1, "oc_1", "and one more thing", Some("m1"), None);
    assert_eq!(world.replies().len(), 1, "its turn says more");
}

/// A turn may say several things that look like its end.
#[test]
fn what_a_turn_says_behind_its_answer_is_passed_on() {
    let mut world = World::open(process(7, 1));
    // Of an event that is here, also before the store has the answer.
    world.deliver(1, "oc_1", 1);
    world.on_hold = true;
    for text in ["answer", "more"] {
        world.say(1, "oc_1", text, Some("m1"), None);
    }
    world.judge();
    world.say(1, "oc_1", "and more", Some("m1"), None);
    // Of one that a former worker had.
    for text in ["answer", "more"] {
        world.say(1, "oc_2", text, Some("m2"), None);
    }
    world.judge();
    world.say(1, "oc_2", "and more", Some("m2"), None);
    let keys: BTreeSet<_> = world.replies().into_iter().map(|reply| reply.key).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    // Two copies, and the second one's turn is the first to answer.
    world.judge();
    world.deliver(3, "oc_3", 2);
    world.file = process(7, 0);
    world.pass(STUCK + 3 * S);
    world.say(1, "oc_3", "answer", Some("m3~hgw2"), None);
    world.judge();
    world.say(1, "oc_3", "more", Some("m3~hgw2"), None);
    world.say(1, "oc_3", "of the first copy", Some("m3"), None);
    let texts: Vec<_> = world.replies().into_iter().map(|reply| reply.content.text).collect();
    assert_eq!(texts, ["answer", "more"]);
    // In a thread the root is the target of many.
    let mut root = World::open(process(7, 1));
    root.deliver(4, "oc_4", 2);
    root.say(1, "oc_4", "answer", Some("m4"), None);
    root.say(1, "oc_4", "in its thread", Some("m4"), Some("omt_4"));
    root.pass(11 * S);
    assert_eq!(root.replies().len(), 2);
}

/// Two bots of one platform may meet one person, in a chat of the same number, at a message of the same number.
#[test]
fn the_answers_of_two_bots_are_two() {
    let mut world = World::open(None);
    for (id, instance) in [(1, "feishu"), (2, "other")] {
        let mut heard = delivery(id, "feishu", "9", "hello");
        heard.lane.instance = Instance::new(instance).unwrap();
        heard.event.message_id = Some("m5".into());
        world.on(Input::Deliver(Box::new(heard)));
        world.say(1, "9", "answer", Some("m5"), None);
    }
    let replies = world.replies();
    assert_ne!(replies[0].key, replies[1].key);
    assert_eq!(replies[1].lane.instance.as_str(), "other");
}

/// In a thread an answer names no message, and nobody is answered twice there either.
#[test]
fn in_a_thread_a_new_worker_takes_the_answer_to_the_first_copy() {
    let topic = |attempt| {
        let mut topic = delivery(1, "feishu", "oc_1", "hello");
        topic.attempt = attempt;
        topic.event.chat_type = ChatType::Group;
        topic.event.thread_id = Some("omt_1".into());
        topic.lane.thread_id = Some("omt_1".into());
        Box::new(topic)
    };
    let mut known = World::open(None);
    known.on(Input::Deliver(topic(1)));
    known.say(1, "oc_1", "answer", None, Some("omt_1"));
    let key = known.replies()[0].key.clone();

    // It comes again, and waits since its first copy may be in work: it was.
    let mut world = World::open(process(7, 1));
    world.on(Input::Deliver(topic(2)));
    world.say(1, "oc_1", "of the first copy", None, Some("omt_1"));
    assert_eq!(world.replies()[0].key, key);
    assert_eq!(world.told(), ["ack 1"]);

    // The answer is there before the event.
    let mut world = World::open(process(7, 1));
    world.say(1, "oc_1", "of the first copy", None, Some("omt_1"));
    world.pass(2 * S);
    assert!(world.replies().is_empty(), "it waits for what it may answer");
    world.on(Input::Deliver(topic(2)));
    assert_eq!(world.replies()[0].key, key);
    assert!(world.sent(1).is_empty(), "the agent is not asked again");
    assert_eq!(world.told(), ["ack 1"]);

    // Nothing comes again: it was a word of its own.
    let mut world = World::open(process(7, 0));
    world.say(1, "oc_1", "by the way", None, Some("omt_1"));
    world.pass(11 * S);
    assert_eq!(world.replies()[0].content.text, "by the way");
    world.pass(FORMER);
    world.say(1, "oc_1", "at once", None, Some("omt_1"));
    assert_eq!(world.replies()[0].content.text, "at once");
}

#[test]
fn a_new_worker_knows_the_answer_to_what_is_not_offered_again_yet() {
    let mut world = World::open(process(7, 1));
    world.say(1, "oc_1", "of the first copy", Some("m1"), None);
    let first = world.replies().remove(0);
    world.out.clear();
    world.deliver(1, "oc_1", 2);
    assert_eq!(world.told(), ["ack 1"], "and the agent is not asked again");
    // A worker that had it would have given it the same key.
    let mut other = World::open(None);
    other.deliver(1, "oc_1", 1);
    other.say(1, "oc_1", "of the first copy", Some("m1"), None);
    assert_eq!(other.replies()[0].key, first.key);
    // Later a second message about it is one.
    world.pass(FORMER);
    for _ in 0..2 {
        world.say(1, "oc_1", "by the way", Some("m7"), None);
    }
    let replies = world.replies();
    assert_ne!(replies[0].key, replies[1].key);
}

#[test]
fn a_turn_that_says_nothing_ends_and_one_that_cannot_be_seen_is_doubted() {
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.pass(60 * S);
    assert!(world.told().is_empty());
    world.file = process(7, 0);
    world.pass(12 * S);
    assert_eq!(world.told(), ["ack 1"]);

    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.on(Input::Heard(1, Heard::Unreadable));
    world.file = process(7, 0);
    world.pass(60 * S);
    assert_eq!(world.told(), ["nack 1"], "what nobody could read may have been the answer");

    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.pass(1799 * S);
    assert!(world.told().is_empty());
    world.pass(2 * S);
    assert_eq!(world.told(), ["doubt 1"]);
}

#[test]
fn an_agent_that_leaves_gets_nothing_more_and_loses_nothing() {
    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.on(Input::Heard(1, Heard::GoingIdle));
    assert_eq!(world.told(), ["shut"]);
    world.deliver(2, "oc_2", 1);
    assert!(world.sent(1).is_empty());
    world.say(1, "oc_1", "last words", Some("m1"), None);
    assert_eq!(world.told(), ["ack 1"]);

    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.say(
        1,
        "oc_1",
        "⏳ Gateway is shutting down and is not accepting new work",
        Some("m1"),
        None,
    );
    assert_eq!(world.replies().len(), 0, "the chat need not know");
    assert_eq!(world.told(), ["nack 1", "shut"]);
}

#[test]
fn nobody_is_asked_to_send_again_what_we_have() {
    let mut world = World::open(None);
    for (id, text) in [
        (
            1,
            "⚠️ Your message was interrupted before processing started (likely by a recent /stop). Please send it again.",
        ),
        (
            2,
            "⚠️ Your message wasn't processed (the previous turn was still being cleaned up). Please send it again.",
        ),
    ] {
        world.deliver(id, "oc_1", 1);
        world.say(1, "oc_1", text, Some(&format!("m{id}")), None);
        assert!(world.replies().is_empty());
        assert_eq!(world.told(), [format!("nack {id}")]);
    }
}

#[test]
fn one_that_is_away_for_long_hands_everything_back() {
    let mut world = World::open(None);
    world.deliver(1, "oc_1", 1);
    world.on(Input::Closed(1));
    world.told();
    world.pass(59 * S);
    assert!(world.told().is_empty());
    world.pass(2 * S);
    assert_eq!(world.told(), ["Asked"]);
}

/// F20: an hour without the agent costs nothing but time.
#[test]
fn an_agent_that_is_away_for_an_hour_gets_its_events_when_it_is_back() {
    let mut world = World::open(process(7, 1));
    world.deliver(1, "oc_1", 1);
    world.take(1, 1, 1);
    world.on(Input::Closed(1));
    assert_eq!(world.told(), ["shut"]);
    world.pass(AWAY + 2 * S);
    assert_eq!(world.told(), ["Asked"], "handed back, without a mark");
    // The supervisor keeps it from then on, and nothing is done in the rest of the hour.
    assert_eq!(world.connector.deadline().map(|due| due < world.now + 3600 * S), None);
    world.pass(3600 * S);
    assert!(!world.is_open() && world.out.is_empty());
    world.file = process(8, 0);
    world.on(Input::Heard(2, Heard::Hello("feishu".into())));
    let probe = world.probe(2);
    world.say(2, &probe, "help", None, None);
    assert!(world.is_open());
    world.out.clear();
    world.deliver(1, "oc_1", 2);
    assert_eq!(world.sent(2), ["m1~hgw2"]);
    world.say(2, "oc_1", "answer", Some("m1"), None);
    assert_eq!(world.told(), ["ack 1"]);
}

#[test]
fn words_to_a_chat_that_was_never_heard_of_find_their_platform() {
    let mut world = World::open(None);
    world.say(1, "oc_new", "a reminder", None, None);
    let reply = &world.replies()[0];
    assert_eq!((reply.lane.instance.as_str(), reply.key.as_str()), ("feishu", "relay:r2"));
    let unknown = Heard::Outbound {
        request: "r".into(),
        platform: Some("discord".into()),
        op: Op::Send(Send {
            chat_id: "c".into(),
            text: "t".into(),
            reply_to: None,
            copy: None,
            thread_id: None,
            is_final: true,
        }),
    };
    world.on(Input::Heard(1, unknown));
    assert!(world.replies().is_empty());
    let told = world
        .out
        .iter()
        .any(|action| matches!(action, Action::Line(1, line) if line.contains("chat not found")));
    assert!(told);
}

//! The connector against an agent played by hand, with time at will (F20, F98).

mod losses;
mod rivals;
mod turns;

use protocol::event::{ChatType, InboundKind, Receipt, Reply, ReplyState};
use protocol::id::{Instance, OutboundId};
use protocol::worker::ReplyVerdict;

use super::super::wire::Send;
use super::*;
use crate::agent::sample::delivery;

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

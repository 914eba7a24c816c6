//! The machine against agents that behave, hide their failures, hang and die: as measured with real ones.

mod lives;
mod turns;

use protocol::content::Press;
use protocol::event::{Receipt, ReplyState};
use protocol::id::OutboundId;
use protocol::worker::Permission;

use super::*;
use crate::clock;

fn settings() -> AcpSettings {
    AcpSettings {
        command: vec!["agent".into()],
        dir: "/work".into(),
        variables: Vec::new(),
        processes: 1,
        turns: 2,
        permission: Permission::Ask,
        permission_s: 50,
        silent_s: 120,
        turn_limit_s: 1800,
        own_commands: false,
    }
}

fn delivery(id: u64, chat: &str, text: &str) -> Box<Delivery> {
    let mut delivery = crate::agent::sample::delivery(id, "feishu", chat, text);
    delivery.event.sender.user_id = "ann".into();
    Box::new(delivery)
}

/// The machine, and the agent's side of it.
struct World {
    machine: Machine,
    now: Instant,
    /// Requests that are not answered: process, id, method, parameters.
    asked: Vec<(Number, u64, String, Value)>,
    /// Notifications and answers to the agent.
    told: Vec<(Number, Value)>,
    said: Vec<FromWorker>,
    replies: Vec<(Option<EventId>, Reply)>,
    killed: Vec<Number>,
    hermes: bool,
    able: Value,
}

impl World {
    fn new(settings: AcpSettings) -> Self {
        let now = clock::now();
        let mut world = Self {
            machine: Machine::new(settings, now),
            now,
            asked: Vec::new(),
            told: Vec::new(),
            said: Vec::new(),
            replies: Vec::new(),
            killed: Vec::new(),
            hermes: false,
            able: json!({ "loadSession": true, "sessionCapabilities": { "fork": {} } }),
        };
        world.on(Input::Tick);
        world
    }

    fn ready(settings: AcpSettings) -> Self {
        let mut world = Self::new(settings);
        world.introduce();
        world
    }

    fn introduce(&mut self) {
        let name = if self.hermes { "hermes-agent" } else { "other" };
        let able = self.able.clone();
        let told = json!({ "protocolVersion": 1, "agentInfo": { "name": name }, "agentCapabilities": able });
        self.answer("initialize", Ok(told));
        let session = format!("spare{}", self.machine.last);
        self.answer("session/new", Ok(json!({ "sessionId": session })));
    }

    fn on(&mut self, input: Input) {
        for action in self.machine.on(input, self.now) {
            match action {
                Action::Start(_) => {}
                Action::Write(number, line) => {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    match (line["id"].as_u64(), line["method"].as_str()) {
                        (Some(id), Some(method)) => {
                            self.asked.push((number, id, method.into(), line["params"].clone()));
                        }
                        _ => self.told.push((number, line)),
                    }
                }
                Action::Kill(number) => self.killed.push(number),
                Action::Say(frame) => self.said.push(frame),
                Action::Fetch { .. } => {}
                Action::Reply { event_id, reply, .. } => self.replies.push((event_id, *reply)),
            }
        }
    }

    /// Answers the oldest request of this method; its process and parameters.
    fn answer(&mut self, method: &str, result: Result<Value, (i64, &str)>) -> (Number, Value) {
        let at = self.asked.iter().position(|(_, _, asked, _)| asked == method);
        let at = at.unwrap_or_else(|| panic!("{method} was not asked: {:?}", self.asked));
        let (number, id, _, params) = self.asked.remove(at);
        let line = match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err((code, text)) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } })
            }
        };
        self.on(Input::Line(number, line.to_string()));
        (number, params)
    }

    fn update(&mut self, number: Number, session: &str, kind: &str, text: &str) {
        let update = json!({ "sessionUpdate": kind, "content": { "type": "text", "text": text } });
        let params = json!({ "sessionId": session, "update": update });
        let line = json!({ "method": "session/update", "params": params });
        self.on(Input::Line(number, line.to_string()));
    }

    fn end_turn(&mut self, reason: &str) {
        self.answer("session/prompt", Ok(json!({ "stopReason": reason })));
    }

    fn methods(&self) -> Vec<&str> {
        self.asked.iter().map(|(_, _, method, _)| method.as_str()).collect()
    }

    fn prompt(&self) -> String {
        let prompt = self.asked.iter().find(|(_, _, method, _)| method == "session/prompt");
        prompt.unwrap().3["prompt"][0]["text"].as_str().unwrap().to_owned()
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now += BEAT;
            self.on(Input::Tick);
        }
    }

    fn accept(&mut self, id: u64) {
        let receipt = Receipt {
            id: OutboundId(1),
            key: "k".into(),
            state: ReplyState::Waiting,
            message_ids: Vec::new(),
            reason: None,
        };
        self.on(Input::Judged(EventId(id), Some(ReplyVerdict::Accepted(receipt))));
    }

    fn acked(&self, id: u64) -> bool {
        self.said.contains(&FromWorker::Ack { event_id: EventId(id) })
    }

    fn nacked(&self, id: u64) -> bool {
        self.said
            .iter()
            .any(|frame| matches!(frame, FromWorker::Nack { event_id, .. } if event_id.0 == id))
    }

    fn note(&self) -> Vec<u8> {
        let notes = self.said.iter().rev().filter_map(|frame| match frame {
            FromWorker::Remember { note, .. } => Some(note.bytes.clone()),
            _ => None,
        });
        notes.into_iter().next().unwrap()
    }

    fn lease(&self) -> u32 {
        let leases = self.said.iter().rev().filter_map(|frame| match frame {
            FromWorker::Lease { ttl_ms, .. } => Some(*ttl_ms),
            _ => None,
        });
        leases.into_iter().next().unwrap()
    }
}

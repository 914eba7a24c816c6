//! Commands that descendants of our own workers give: they wait for what the agent has under way, and
//! are then carried out by the supervisor, whether their askers still live or not. What became of one is told
//! as an event of the conversation in which it was asked for, since whoever asked may be gone by then.

use std::time::Instant;

use protocol::control::{Act, Acted, Done, Notice, Refusal, SCHEMA, Stop, Verb};
use protocol::event::{Inbound, InboundKind, Mention, Sender, SenderKind};
use protocol::id::{EventId, hex};

use super::Gateway;
use super::control::{Asker, Named};
use super::desk::Desk;
use super::reload;
use super::tickets::Pending;
use crate::clock;
use crate::exit::Code;
use crate::identity;
use crate::link::Reply;
use crate::owed::Report;
use crate::policy::delivery;
use crate::policy::own_hand::{self, REST};
use crate::process::kin;
use crate::socket::Peer;
use crate::store::Answer;
use crate::text;

/// The longest that a command from within may take, in milliseconds: then it is told how far it has come.
const PATIENCE_MS: u64 = 120_000;
/// The most of a platform's own JSON that is kept with what an agent works on.
const RAW_MAX: usize = 16 * 1024;

/// What may end its own asker.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// For instances.
    Act(Verb, Act),
    /// For the supervisor.
    Stop(Stop),
    /// For the configuration: the asker's own block may be another one.
    Reload,
}

impl Command {
    /// For people.
    fn words(&self) -> String {
        let (verb, force, names) = match self {
            Self::Act(verb, act) => (verb.word(), act.force, act.instances.join(" ")),
            Self::Stop(stop) => ("kill", stop.force, String::new()),
            Self::Reload => ("reload", false, String::new()),
        };
        let force = if force { " --force" } else { "" };
        let space = if names.is_empty() { "" } else { " " };
        format!("{verb}{force}{space}{names}")
    }
}

/// A command on its way.
#[derive(Debug)]
pub(super) struct Queued {
    /// The name of its report.
    id: String,
    command: Command,
    peer: Peer,
    /// The slot of the worker that its asker comes from.
    from: usize,
    until: Instant,
}

impl Queued {
    pub(super) fn deadline(&self) -> Instant {
        self.until
    }
}

impl Gateway {
    /// Queues or refuses a command from within. Gives the reply back if it comes from outside.
    pub(super) fn defer(&mut self, command: &Command, peer: Peer, reply: Reply) -> Option<Reply> {
        let Some(from) = peer.pid.and_then(|pid| self.worker_of(pid)) else { return Some(reply) };
        let queued = |name: &str| Done::new(name, "queued");
        let results = match command {
            Command::Act(_, act) => match self.named(&act.instances) {
                Ok(named) => {
                    let named = named.into_iter().filter_map(|found| match found {
                        Named::Slot(index) => Some(queued(self.slots.get(index)?.name.as_str())),
                        Named::Unknown(unknown) => Some(unknown),
                    });
                    named.collect()
                }
                Err(refusal) => {
                    reply.refuse(refusal);
                    return None;
                }
            },
            Command::Stop(_) => vec![queued("supervisor")],
            Command::Reload => Vec::new(),
        };
        let wish = match command {
            Command::Act(verb, _) => verb.word(),
            Command::Stop(_) => "stop",
            Command::Reload => "reload",
        };
        match self.own_hand.asks(clock::now()) {
            own_hand::Answer::Refused { ago } => {
                let (ago, rest) = (ago.as_secs(), REST.as_secs());
                reply.refuse(Refusal {
                    code: Code::Temporary.number(),
                    message: format!(
                        "{wish} from within: there was such a command {ago} s ago, and one in {rest} s is enough"
                    ),
                    hint: Some("a person can do it from outside at any time".into()),
                });
            }
            own_hand::Answer::Queued { until } => {
                self.announce_asked(Some(from), &format!("{wish}, from within: queued"), peer);
                let id = self.owe(command, from);
                match command {
                    Command::Act(..) | Command::Stop(_) => {
                        reply.answer(&Acted { schema: SCHEMA, results });
                    }
                    Command::Reload => reply.answer(&reload::told("queued")),
                }
                self.queued.push(Queued { id, command: command.clone(), peer, from, until });
            }
        }
        None
    }

    /// Carries out what was queued, once its asker's agent holds nothing, or has held it too long.
    pub(super) fn tick_queued(&mut self, now: Instant) {
        let mut ready = Vec::new();
        for queued in std::mem::take(&mut self.queued) {
            let busy = self.slots.iter().enumerate().any(|(index, slot)| match &slot.desk {
                Desk::Agent(desk) => index == queued.from && desk.delivery.in_flight() > 0,
                Desk::Platform(_) | Desk::Hooks(_) | Desk::Broken(_) => false,
            });
            if busy && queued.until > now {
                self.queued.push(queued);
            } else {
                ready.push(queued);
            }
        }
        for Queued { id, command, peer, .. } in ready {
            self.own_hand.carried_out(now);
            self.owed.begin(&id);
            match command {
                Command::Act(verb, act) => {
                    let act = Act { wait_ms: PATIENCE_MS, ..act };
                    self.act(verb, &act, peer, Asker::Within(id));
                }
                Command::Stop(stop) => self.stop_asked(stop.force, peer, None),
                Command::Reload => {
                    self.announce_asked(None, "reload", peer);
                    self.wish_reload(Some(Asker::Within(id)));
                }
            }
        }
    }

    /// Notes that the outcome of a command is to be told, where it was asked for: in the conversation that
    /// its agent took up last.
    fn owe(&mut self, command: &Command, from: usize) -> String {
        let id = clock::random::<8>().map_or_else(|_| clock::unix_ms().to_string(), |id| hex(&id));
        let Some(slot) = self.slots.get(from) else { return id };
        let place = match &slot.desk {
            Desk::Agent(desk) => {
                let turn = desk.at_work.values().max_by_key(|turn| turn.since);
                turn.and_then(|turn| Some((turn.lane.instance.clone(), turn.event.clone()?)))
            }
            Desk::Platform(_) | Desk::Hooks(_) | Desk::Broken(_) => None,
        };
        let (wish, asked_ms, from) = (command.words(), clock::unix_ms(), slot.name.clone());
        self.owed.add(Report { id: id.clone(), wish, from, asked_ms, begun: false, place });
        id
    }

    /// Tells what became of a command.
    pub(super) fn report_within(&mut self, id: &str, became: &str) {
        let Some(report) = self.owed.find(id).cloned() else { return };
        let Report { wish, from, asked_ms, place, .. } = report;
        let ago = text::span(clock::unix_ms().saturating_sub(asked_ms));
        let notice = Notice {
            instance: Some(from),
            reason: Some(became.to_owned()),
            ..Notice::new("asked", &format!("{wish}, from within: over"), clock::unix_ms())
        };
        tracing::info!(wish, became, "a command from within");
        self.tell(notice);
        let place = place.and_then(|(instance, event)| Some((self.platform(&instance)?, event)));
        let Some((slot, event)) = place else { return self.owed.settle(id) };
        let text = format!("[hermes-gw] `{wish}`, asked for from here {ago} ago: {became}");
        let event = Box::new(spoken(*event, id, text));
        self.ask(Pending::Report { slot, id: id.to_owned(), event });
    }

    /// What was to be told is durable, or not.
    pub(super) fn reported(&mut self, id: &str, slot: usize, event: Box<Inbound>, answer: Answer) {
        let accepted = match answer {
            Answer::Accepted { id, .. } => Some(id),
            Answer::Duplicate => None,
            answer => {
                tracing::error!(?answer, "an outcome is not stored; trying again");
                let again = Pending::Report { slot, id: id.to_owned(), event };
                return self.tickets.postpone(again, clock::now());
            }
        };
        self.owed.settle(id);
        if let Some(event_id) = accepted {
            self.offer(slot, event_id, &event);
        }
    }

    fn offer(&mut self, platform: usize, id: EventId, event: &Inbound) {
        let Some(instance) = self.slots.get(platform).map(|slot| slot.name.clone()) else { return };
        let lane = event.lane(instance);
        let user = event.direct_user();
        if let Some(agent) = self.agent_of(&lane, user) {
            self.deliver(agent, delivery::Input::Accepted(id.0, lane));
        }
    }

    /// What the supervisor before this one did not get to tell. `begins`: its process has ended.
    pub(super) fn report_leftovers(&mut self, begins: bool) {
        for Report { id, begun, .. } in self.owed.all().to_vec() {
            let became = match (begun, begins) {
                (false, _) => "not done, since the gateway ended before it; it runs again",
                (true, true) => "done; the gateway ended with it, or soon after, and runs again",
                (true, false) => "done; the gateway has become another build since",
            };
            self.report_within(&id, became);
        }
    }

    /// The slot of the worker that this process descends from: by its parents, or by its mark.
    fn worker_of(&self, pid: u32) -> Option<usize> {
        let mut family = std::iter::once(pid).chain(identity::ancestors(pid));
        if let Some((index, _)) = family.find_map(|pid| self.by_pid.get(&pid)) {
            return Some(*index);
        }
        let mark = kin::mark(pid)?;
        self.slots.iter().position(|slot| {
            slot.child.as_ref().is_some_and(|running| running.child.mark() == mark)
        })
    }
}

/// An event without what it says, in whose place something else can be said.
pub(super) fn frame(event: &Inbound) -> Inbound {
    let is_small = event.raw.len() <= RAW_MAX;
    Inbound {
        text: String::new(),
        parts: Vec::new(),
        quote: None,
        album: None,
        keys: Vec::new(),
        sender: event.sender.clone(),
        chat_id: event.chat_id.clone(),
        thread_id: event.thread_id.clone(),
        message_id: None,
        reply_to: None,
        raw: if is_small { event.raw.clone() } else { Vec::new() },
        chat_name: event.chat_name.clone(),
        ..*event
    }
}

/// What the gateway says in the place of an event: to the same agent, in the same conversation, about what
/// was asked for there.
fn spoken(frame: Inbound, id: &str, text: String) -> Inbound {
    Inbound {
        kind: InboundKind::Message,
        keys: vec![format!("from-within:{id}")],
        origin_ms: clock::unix_ms(),
        mention: Mention::Me,
        // Agents that tell their conversations apart by people must find the same one.
        sender: Sender {
            user_id: frame.sender.user_id,
            name: Some("hermes-gw".into()),
            kind: SenderKind::System,
        },
        text,
        ..frame
    }
}

/// What became of instances, in a sentence.
pub(super) fn told(results: &[Done]) -> String {
    let one = |done: &Done| {
        let Done { instance, result, took_ms, reason, .. } = done;
        let (word, took) = (result.replace('_', " "), *took_ms);
        let why = reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{instance} {word} after {}.{} s{why}", took / 1000, took % 1000 / 100)
    };
    results.iter().map(one).collect::<Vec<_>>().join(", ")
}

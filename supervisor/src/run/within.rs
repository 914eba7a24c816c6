//! Commands that descendants of our own workers give: they wait for what the agent has under way, and
//! are then carried out by the supervisor, whether their askers still live or not.

use std::time::Instant;

use protocol::control::{Act, Acted, Done, Refusal, SCHEMA, Stop, Verb};

use super::Gateway;
use super::slot::Desk;
use crate::clock;
use crate::exit::Code;
use crate::identity;
use crate::link::Reply;
use crate::policy::own_hand::{Answer, REST};
use crate::process::kin;
use crate::socket::Peer;

/// What may end its own asker.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// For instances.
    Act(Verb, Act),
    /// For the supervisor.
    Stop(Stop),
}

/// A command on its way.
#[derive(Debug)]
pub(super) struct Queued {
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
        let names = match command {
            Command::Act(_, act) => match self.named(&act.instances) {
                Ok(slots) => {
                    let slots = slots.iter().filter_map(|index| self.slots.get(*index));
                    slots.map(|slot| slot.name.to_string()).collect()
                }
                Err(refusal) => {
                    reply.refuse(refusal);
                    return None;
                }
            },
            Command::Stop(_) => vec!["supervisor".to_owned()],
        };
        let wish = match command {
            Command::Act(verb, _) => verb.word(),
            Command::Stop(_) => "stop",
        };
        match self.own_hand.asks(clock::now()) {
            Answer::Refused { ago } => {
                let (ago, rest) = (ago.as_secs(), REST.as_secs());
                reply.refuse(Refusal {
                    code: Code::Temporary.number(),
                    message: format!(
                        "{wish} from within: there was such a command {ago} s ago, and one in {rest} s is enough"
                    ),
                    hint: Some("a person can do it from outside at any time".into()),
                });
            }
            Answer::Queued { until } => {
                self.announce_asked(Some(from), &format!("{wish}, from within: queued"), peer);
                let done = |instance| Done {
                    instance,
                    result: "queued".into(),
                    code: 0,
                    phase: String::new(),
                    pid: None,
                    took_ms: 0,
                    reason: None,
                    remedy: None,
                };
                let results = names.into_iter().map(done).collect();
                reply.answer(&Acted { schema: SCHEMA, results });
                self.queued.push(Queued { command: command.clone(), peer, from, until });
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
        for Queued { command, peer, .. } in ready {
            match command {
                Command::Act(verb, act) => self.act(verb, &act, peer, None),
                Command::Stop(stop) => self.stop_asked(stop.force, peer, None),
            }
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

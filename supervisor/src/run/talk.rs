//! Who talks to whom, and what the gateway itself hears: routes, commands, and messages that come while the
//! agent works.
//!
//! A command is stored like every event, so that the platform's repetition of it is known; it takes effect
//! when it is durable, whatever its conversation waits for. One that a crash left in its lane takes effect
//! when its turn comes.

use std::sync::Arc;
use std::time::Instant;

use protocol::event::Inbound;
use protocol::id::{EventId, Instance, Lane};
use protocol::worker::{Outside, ToWorker};

use super::Gateway;
use super::desk::{AgentDesk, Desk};
use super::tickets::{Arrived, Pending};
use crate::clock;
use crate::config::{AgentKind, Kind};
use crate::policy::bursts::Rule;
use crate::policy::commands::{Command, Commands};
use crate::policy::delivery;
use crate::store::Op;
use crate::text;

impl Gateway {
    /// The slot of the agent that hears a conversation. Nobody hears a platform that a reload has removed.
    pub(super) fn agent_of(&self, lane: &Lane, user: Option<&str>) -> Option<usize> {
        let slot = self.slots.get(self.platform(&lane.instance)?)?;
        let Desk::Platform(desk) = &slot.desk else { return None };
        desk.agent_of(lane, user)
    }

    /// What `event` commands, if it is for the gateway itself.
    pub(super) fn command_in(&self, agent: Option<usize>, event: &Inbound) -> Option<Command> {
        self.commands_for(agent).find(event)
    }

    /// The gateway's own words before an agent.
    pub(super) fn commands_for(&self, agent: Option<usize>) -> Arc<Commands> {
        let kind = agent.and_then(|index| self.slots.get(index)).map(|slot| slot.kind);
        if kind != Some(Kind::Agent(Some(AgentKind::Relay))) {
            return self.commands.clone();
        }
        // A Hermes Agent that dials in keeps its conversations itself, and has the other words for them.
        let stop = self.commands.stop.clone();
        Arc::new(Commands { stop, new: Vec::new(), status: Vec::new() })
    }

    /// An event is durable: it commands, or it waits for its agent.
    pub(super) fn heard(&mut self, platform: usize, id: EventId, arrived: Arrived) {
        let agent = self.agent_of(&arrived.lane, arrived.user.as_deref());
        if let Some(command) = arrived.command {
            self.obey(agent, id, command, &arrived.lane, arrived.message_id);
            let slot = agent.unwrap_or(platform);
            self.ask(Pending::Settle { slot, id });
            return;
        }
        let Some(agent) = agent else { return };
        self.meet_busy(platform, agent, id, &arrived);
        if arrived.is_said {
            self.meet_absence(agent, id, &arrived.lane);
            let own = self.burst(platform);
            let rule = if arrived.is_part { Some(Rule::of_album(own)) } else { own };
            if let Some(rule) = rule {
                let lane = arrived.lane.clone();
                // What stands alone is a turn of its own, and what was said before it is another.
                let input = if arrived.is_alone && !arrived.is_part {
                    delivery::Input::Flush(lane)
                } else {
                    delivery::Input::Said(id.0, lane, rule)
                };
                self.deliver(agent, input);
            }
        }
        self.deliver(agent, delivery::Input::Accepted(id.0, arrived.lane));
    }

    /// Whether something that was just said in a conversation is held there.
    fn is_held(&mut self, agent: usize, lane: &Lane) -> bool {
        let now = clock::now();
        self.agent_desk(agent).is_some_and(|desk| desk.delivery.is_held(lane, now))
    }

    /// Until when the first of what waits in a conversation waits for another attempt.
    fn again(&mut self, agent: usize, lane: &Lane) -> Option<Instant> {
        self.agent_desk(agent)?.delivery.waits_again(lane, clock::now())
    }

    pub(super) fn burst(&self, platform: usize) -> Option<Rule> {
        match &self.slots.get(platform)?.desk {
            Desk::Platform(desk) => desk.manners.burst,
            Desk::Agent(_) | Desk::Hooks(_) | Desk::Broken(_) => None,
        }
    }

    pub(super) fn agent_desk(&mut self, index: usize) -> Option<&mut AgentDesk> {
        match &mut self.slots.get_mut(index)?.desk {
            Desk::Agent(desk) => Some(desk),
            Desk::Platform(_) | Desk::Hooks(_) | Desk::Broken(_) => None,
        }
    }

    /// Tells the agent to end what it does in a conversation. `None`: it does nothing there.
    pub(super) fn interrupt(&mut self, agent: usize, lane: &Lane) -> Option<Interrupted> {
        let desk = self.agent_desk(agent)?;
        let can = desk.abilities.interrupt;
        let (id, turn) = desk.at_work.iter_mut().find(|(_, turn)| turn.lane == *lane)?;
        if !can {
            return Some(Interrupted::Cannot);
        }
        let again = std::mem::replace(&mut turn.interrupted, true);
        let event_id = EventId(*id);
        if !again {
            self.pass(agent, ToWorker::Interrupt { event_id });
        }
        Some(Interrupted::Told)
    }

    /// Does what was commanded, and answers.
    pub(super) fn obey(
        &mut self,
        agent: Option<usize>,
        id: EventId,
        command: Command,
        lane: &Lane,
        message_id: Option<String>,
    ) {
        let name = agent.and_then(|index| self.slots.get(index)).map(|slot| slot.name.clone());
        let ended = agent.and_then(|agent| match command {
            Command::New | Command::Stop => self.interrupt(agent, lane),
            Command::Status => None,
        });
        let is_held = ended.is_none()
            && command != Command::Status
            && agent.is_some_and(|agent| self.is_held(agent, lane));
        let is_again = ended.is_none()
            && command == Command::Stop
            && agent.is_some_and(|agent| self.again(agent, lane).is_some());
        let text = match (command, name) {
            (_, None) => "No agent is configured here. What you say is kept.".to_owned(),
            (Command::Stop, Some(_)) if is_held => {
                "Stopped. What you just said is not begun.".to_owned()
            }
            (Command::Stop, Some(_)) if is_again => {
                "Stopped. What waited for another attempt is set aside.".to_owned()
            }
            (Command::Stop, Some(_)) => match ended {
                Some(Interrupted::Told) => "Stopped.".to_owned(),
                Some(Interrupted::Cannot) => {
                    "This agent cannot be stopped in its work. Its answer will still come.".into()
                }
                None => "Nothing to stop here.".into(),
            },
            (Command::New, Some(agent)) => {
                let (lane, now_ms) = (lane.clone(), clock::unix_ms());
                self.store.submit(Op::Renew { agent, lane, now_ms });
                match ended {
                    Some(Interrupted::Cannot) => {
                        "A new conversation. The answer to what you said before will still come."
                    }
                    Some(Interrupted::Told) | None => "A new conversation.",
                }
                .to_owned()
            }
            (Command::Status, Some(_)) => self.told_status(agent, lane),
        };
        if (is_held || is_again)
            && let Some(agent) = agent
        {
            self.deliver(
                agent,
                match command {
                    Command::Stop => delivery::Input::Withdraw(lane.clone()),
                    Command::New | Command::Status => delivery::Input::Flush(lane.clone()),
                },
            );
        }
        tracing::info!(event_id = id.0, ?command, "a command in a chat");
        self.say_in_reply(&format!("command:{id}"), lane.clone(), message_id, text);
    }

    fn told_status(&mut self, agent: Option<usize>, lane: &Lane) -> String {
        let now = clock::now();
        let platform = self.by_name.get(&lane.instance).and_then(|index| self.slots.get(*index));
        let platform = platform.map_or("unknown", |slot| {
            if slot.is_connected() { "connected" } else { "not connected" }
        });
        let span = |since: Instant| {
            let ms = now.saturating_duration_since(since).as_millis();
            text::span(i64::try_from(ms).unwrap_or(i64::MAX))
        };
        let again = agent.and_then(|agent| self.again(agent, lane));
        let Some(slot) = agent.and_then(|index| self.slots.get(index)) else {
            return String::new();
        };
        let Desk::Agent(desk) = &slot.desk else {
            return format!("{}: not usable; see `hermes-gw check`.", slot.name);
        };
        let gate = if desk.delivery.is_open(now) {
            match &slot.outside {
                Some(Outside::Limited { reason, .. }) => format!("ready ({reason})"),
                _ => "ready".to_owned(),
            }
        } else {
            let why = match &slot.outside {
                Some(Outside::Down { reason, .. }) => format!(" ({reason})"),
                _ => String::new(),
            };
            format!("away{why}; what you say is kept")
        };
        let work = match desk.at_work.values().find(|turn| turn.lane == *lane) {
            Some(turn) => format!("at work here for {}", span(turn.since)),
            None => match again {
                Some(until) => {
                    let ms = until.saturating_duration_since(now).as_millis();
                    let span = text::span(i64::try_from(ms).unwrap_or(i64::MAX));
                    format!("another attempt here in {span}")
                }
                None => "idle here".to_owned(),
            },
        };
        format!(
            "{} ({}): {gate}, {work}, at work on {} in all.\n{} ({}): {platform}.",
            slot.name,
            slot.kind.word(),
            desk.at_work.len(),
            lane.instance,
            self.platform_of(&lane.instance),
        )
    }

    /// Something is said while the agent may be away.
    pub(super) fn meet_absence(&mut self, agent: usize, id: EventId, lane: &Lane) {
        let now = clock::now();
        let Some(desk) = self.agent_desk(agent) else { return };
        let is_there = desk.delivery.is_open(now);
        desk.absence.look(is_there, now);
        if desk.absence.spoke(lane, now) {
            self.tell_absence(agent, &id.to_string(), lane.clone());
        }
    }

    /// Whoever spoke to an agent that has been away for long by now is told so.
    pub(super) fn tick_absence(&mut self, agent: usize, now: Instant) {
        let Some(desk) = self.agent_desk(agent) else { return };
        let is_there = desk.delivery.is_open(now);
        desk.absence.look(is_there, now);
        let due = desk.absence.due(now);
        let at = clock::unix_ms();
        for lane in due {
            let name = format!("{at}:{}:{}", lane.chat_id, lane.thread_id.as_deref().unwrap_or(""));
            self.tell_absence(agent, &name, lane);
        }
    }

    fn tell_absence(&mut self, agent: usize, name: &str, lane: Lane) {
        let Some(desk) = self.agent_desk(agent) else { return };
        let Some(text) = desk.absence.text().map(str::to_owned) else { return };
        self.say_in_reply(&format!("away:{name}"), lane, None, text);
    }

    /// What an agent's worker wants to have kept.
    pub(super) fn remember(&mut self, index: usize, lane: Lane, note: protocol::event::Note) {
        let Some(agent) = self.agent_name(index) else { return };
        self.store.submit(Op::Remember { agent, lane, note, now_ms: clock::unix_ms() });
    }

    fn agent_name(&self, index: usize) -> Option<Instance> {
        let slot = self.slots.get(index)?;
        matches!(slot.desk, Desk::Agent(_)).then(|| slot.name.clone())
    }
}

/// What became of the wish that an agent ends its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Interrupted {
    /// It was told.
    Told,
    /// It cannot.
    Cannot,
}

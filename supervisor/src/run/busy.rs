//! What comes while the agent works in its conversation (F97): it waits, ends the work or goes into it, and
//! is told as what it was. See [`Steering`](crate::policy::steering::Steering) for the way into the work.

use protocol::control::{BusyCounts, Notice};
use protocol::event::{Delivery, Session};
use protocol::id::{EventId, Lane};
use protocol::worker::ToWorker;

use super::Gateway;
use super::desk::Desk;
use super::tickets::{Arrived, Pending};
use crate::clock;
use crate::policy::busy::Mode;
use crate::policy::delivery;
use crate::policy::steering::Said;
use crate::store::Answer;

impl Gateway {
    /// An event is durable, and the agent may be at work in its conversation.
    pub(super) fn meet_busy(
        &mut self,
        platform: usize,
        agent: usize,
        id: EventId,
        arrived: &Arrived,
    ) {
        let Some(Desk::Platform(desk)) = self.slots.get(platform).map(|slot| &slot.desk) else {
            return;
        };
        let lane = &arrived.lane;
        let wanted = desk.manners.busy.mode(&lane.chat_id);
        let Some(desk) = self.agent_desk(agent) else { return };
        let abilities = desk.abilities;
        let turn = desk.at_work.iter_mut().find(|(_, turn)| turn.lane == *lane);
        let Some((running, turn)) = turn else { return };
        if !arrived.is_said {
            turn.steering.waits();
            return;
        }
        let (running, is_answer) = (EventId(*running), turn.asking);
        let mode = if is_answer { Mode::Steer } else { wanted.possible(abilities) };
        let said = Said { id: id.0, message_id: arrived.message_id.clone() };
        let waits = match mode {
            Mode::Steer => turn.steering.said(said, is_answer).map(|said| (Mode::Queue, said)),
            Mode::Queue | Mode::Interrupt => {
                turn.steering.waits();
                Some((mode, said))
            }
        };
        if let Some((mode, said)) = waits {
            if mode == Mode::Interrupt {
                self.interrupt(agent, lane);
            }
            self.note_busy(agent, mode, lane);
            self.tell_busy(agent, running, mode, said);
        } else {
            self.offer_beside(agent, running);
        }
    }

    /// What is next on its way into a work goes there, once it is counted.
    fn offer_beside(&mut self, agent: usize, running: EventId) {
        let Some(desk) = self.agent_desk(agent) else { return };
        let Some(turn) = desk.at_work.get_mut(&running.0) else { return };
        if let Some(id) = turn.steering.offer() {
            self.ask(Pending::Beside { slot: agent, id: EventId(id), running });
        }
    }

    /// An event that was to go into a work is counted.
    pub(super) fn goes_beside(
        &mut self,
        agent: usize,
        id: EventId,
        running: EventId,
        answer: Answer,
    ) {
        let before_restart = id <= self.former_events;
        let Some(desk) = self.agent_desk(agent) else { return };
        let turn = desk.at_work.get(&running.0);
        let Some(turn) = turn.filter(|turn| turn.steering.is_offered(id.0)) else { return };
        let epoch = turn.epoch;
        let Answer::Begun(begun) = answer else {
            return self.steered(agent, id, false);
        };
        self.deliver(agent, delivery::Input::Beside(id.0, begun.lane.clone()));
        let more = Box::new(Delivery {
            event_id: id,
            platform: self.platform_of(&begun.lane.instance),
            lane: begun.lane,
            attempt: begun.attempts.max(1),
            received_ms: begun.received_ms,
            event: begun.event,
            late_by_ms: None,
            session: Session { epoch, note: Vec::new() },
            joined: Vec::new(),
            before_restart,
        });
        self.pass(agent, ToWorker::Steer { event_id: running, more });
    }

    /// The agent has taken something into its work, or leaves it to wait.
    pub(super) fn steered(&mut self, agent: usize, id: EventId, taken: bool) {
        let Some(desk) = self.agent_desk(agent) else { return };
        let offered = |turn: &super::desk::Turn| turn.steering.is_offered(id.0);
        let turn = desk.at_work.iter_mut().find(|(_, turn)| offered(turn));
        let Some((running, turn)) = turn else { return };
        let (running, lane) = (EventId(*running), turn.lane.clone());
        let (mode, ended) = if taken {
            (Mode::Steer, turn.steering.taken(id.0).into_iter().collect())
        } else {
            (Mode::Queue, turn.steering.refused(id.0))
        };
        for said in ended {
            self.note_busy(agent, mode, &lane);
            self.tell_busy(agent, running, mode, said);
        }
        self.offer_beside(agent, running);
    }

    /// Counts what was done, and tells whoever watches.
    pub(super) fn note_busy(&mut self, agent: usize, mode: Mode, lane: &Lane) {
        let Some(desk) = self.agent_desk(agent) else { return };
        let BusyCounts { queued, interrupted, steered } = &mut desk.busy;
        match mode {
            Mode::Queue => *queued += 1,
            Mode::Interrupt => *interrupted += 1,
            Mode::Steer => *steered += 1,
        }
        let instance = self.slots.get(agent).map(|slot| slot.name.clone());
        let reason = Some(format!("in {} chat {}", lane.instance, lane.chat_id));
        let notice =
            Notice { instance, reason, ..Notice::new("busy", mode.done(), clock::unix_ms()) };
        self.tell(notice);
    }

    /// Tells the chat what was done, once in each work, where it is to know.
    fn tell_busy(&mut self, agent: usize, running: EventId, mode: Mode, said: Said) {
        let Some(desk) = self.agent_desk(agent) else { return };
        let Some(turn) = desk.at_work.get_mut(&running.0) else { return };
        let lane = turn.lane.clone();
        if std::mem::replace(&mut turn.told_busy, true) {
            return;
        }
        let platform = self.by_name.get(&lane.instance).and_then(|index| self.slots.get(*index));
        let tells = matches!(platform.map(|slot| &slot.desk), Some(Desk::Platform(desk)) if desk.manners.busy.tell);
        if !tells {
            return;
        }
        let text = match mode {
            Mode::Queue => "I am still at work; this comes next.",
            Mode::Interrupt => "I leave what I was at, and turn to this.",
            Mode::Steer => "I take this into what I am at.",
        };
        let Said { id, message_id } = said;
        self.say_in_reply(&format!("busy:{}", EventId(id)), lane, message_id, text.to_owned());
    }
}

//! What workers say over their links, and the end of a link.

use std::time::Duration;

use protocol::event::{Abilities, Pause};
use protocol::id::{Generation, OutboundId};
use protocol::worker::{Cursor, FromWorker, Heartbeat, Outside};

use super::Gateway;
use super::desk::Desk;
use super::tickets::Pending;
use super::welcome::HEARTBEAT;
use crate::clock;
use crate::config::Kind;
use crate::link::Who;
use crate::policy::lifecycle::{Cause, Input, Phase, Wanted};
use crate::policy::liveness::{Liveness, Progress};
use crate::policy::{delivery, outbox};
use crate::process::limits;
use crate::store::Op;

/// A worker whose link is over is on its way out, or must be helped.
const LINKLESS: Duration = Duration::from_secs(3);
/// Stands in the commands that a worker tells a person for its own name, which it does not know.
const OWN_NAME: &str = "INSTANCE";

impl Gateway {
    /// A worker says something. What concerns its life counts only from the newest generation; what
    /// it knows of events and replies is true whoever says it.
    pub(super) fn frame(&mut self, from: &Who, frame: FromWorker) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let newest = slot.life.generation() == from.generation;
        match frame {
            FromWorker::Inbound { seq, event, cursor, former } => {
                self.inbound(index, from.generation, seq, &event, cursor, former.as_deref());
            }
            FromWorker::Keep { seq, cursor } => self.keep(index, from.generation, seq, cursor),
            FromWorker::Waits { id } => self.send(index, outbox::Input::Waits(id.0)),
            FromWorker::Reached { id, progress } => {
                let instance = slot.name.clone();
                self.store.submit(Op::Reached { instance, id, progress });
            }
            FromWorker::Outcome { id, outcome, .. } => self.outcome(index, id, outcome),
            FromWorker::Reply { seq, reply, note } => {
                self.reply(index, from.generation, seq, reply, note);
            }
            FromWorker::Ack { event_id } => {
                self.deliver(index, delivery::Input::Ack(event_id.0));
            }
            FromWorker::Remember { lane, note } => self.remember(index, lane, note),
            FromWorker::Asking { event_id, on } => {
                if let Desk::Agent(desk) = &mut slot.desk
                    && let Some(turn) = desk.at_work.get_mut(&event_id.0)
                {
                    turn.asking = on;
                }
            }
            FromWorker::Steered { event_id, taken } => self.steered(index, event_id, taken),
            FromWorker::Can(abilities) if newest => {
                if let Desk::Agent(desk) = &mut slot.desk {
                    desk.abilities = abilities;
                }
            }
            FromWorker::Nack { event_id, reason, after_ms } => {
                let after = after_ms.map(Duration::from_millis);
                self.deliver(index, delivery::Input::Nack { id: event_id.0, reason, after });
            }
            FromWorker::SetAside { event_id, reason } => {
                self.deliver(index, delivery::Input::SetAside { id: event_id.0, reason });
            }
            FromWorker::Defer { event_id, after_ms } => {
                let after = Duration::from_millis(after_ms);
                self.deliver(index, delivery::Input::Defer { id: event_id.0, after });
            }
            FromWorker::Progress { event_id } => {
                self.deliver(index, delivery::Input::Progress(event_id.0));
            }
            FromWorker::Bye { reason } if newest => slot.last_words = Some(reason),
            FromWorker::Heartbeat(beat) if newest => self.beat(index, from.generation, beat),
            FromWorker::Ready(ready) if newest => {
                slot.account = Some(ready.account);
                slot.outside = Some(Outside::Up);
                self.live(index, Input::Ready(from.generation));
                self.hook_outside(index);
                self.hooks_up(index);
                self.signs_up(index);
                let idempotent = ready.idempotent_ms.map(Duration::from_millis);
                self.send(index, outbox::Input::Up { idempotent });
            }
            FromWorker::Outside(outside) if newest => self.outside(index, outside),
            FromWorker::Lease { ttl_ms, concurrency } if newest => {
                let ttl = Duration::from_millis(u64::from(ttl_ms));
                let was_shut = matches!(&slot.desk, Desk::Agent(desk) if !desk.was_open);
                if ttl_ms > 0 && was_shut {
                    self.ask(Pending::Untold { slot: index, after: OutboundId(0) });
                }
                self.deliver(index, delivery::Input::Lease { ttl, concurrency });
            }
            FromWorker::Paused(pause) if newest => {
                self.deliver(index, delivery::Input::Paused(pause));
            }
            FromWorker::Confined { to } if newest => slot.confined = Some(to),
            FromWorker::Draft(draft) if newest => self.draft(index, draft),
            FromWorker::Drafted { key, message_id } => self.drafted(index, &key, message_id),
            FromWorker::Fetch { seq, fetch } => self.fetch(index, from.generation, seq, fetch),
            FromWorker::Fetched { ticket, result } => self.fetched(index, ticket, result),
            FromWorker::Ordered { ticket, result } => self.ordered(index, ticket, result),
            FromWorker::Cursor(cursor) => self.go_on_from(index, from.generation, cursor),
            FromWorker::HookDone { seq, told, failures } => {
                self.hook_done(index, seq, told, failures);
            }
            FromWorker::Told { id } => self.store.submit(Op::Told { id }),
            FromWorker::Bye { .. }
            | FromWorker::Can(_)
            | FromWorker::Confined { .. }
            | FromWorker::Draft(_)
            | FromWorker::Heartbeat(_)
            | FromWorker::Ready(_)
            | FromWorker::Outside(_)
            | FromWorker::Lease { .. }
            | FromWorker::Paused(_) => {}
        }
    }

    /// A worker's event loop turns.
    fn beat(&mut self, index: usize, generation: Generation, beat: Heartbeat) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(liveness) = &mut slot.liveness {
            liveness.beat(clock::now());
        }
        slot.heartbeat = Some((beat, clock::unix_ms()));
        self.live(index, Input::Working(generation));
        self.weigh(index, generation);
        self.look_at_progress(index, generation, &beat);
    }

    /// The state of a worker's outer connection, or the words for it, changed.
    fn outside(&mut self, index: usize, mut outside: Outside) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Outside::Down { remedy: Some(remedy), .. }
        | Outside::Limited { remedy: Some(remedy), .. }
        | Outside::Conflict { remedy, .. } = &mut outside
        {
            *remedy = remedy.replace(OWN_NAME, slot.name.as_str());
        }
        let was = slot.outside.replace(outside);
        let is_news = match (&was, &slot.outside) {
            (Some(was), Some(now)) => !is_same_trouble(was, now),
            _ => true,
        };
        let is_up = slot.outside == Some(Outside::Up);
        let is_platform = matches!(slot.desk, Desk::Platform(_));
        if is_news {
            self.announce_outside(index);
            self.hook_outside(index);
        }
        if is_news && is_up && is_platform {
            self.send(index, outbox::Input::Heard);
        }
    }

    /// What the next generation goes on from.
    fn go_on_from(&mut self, index: usize, generation: Generation, cursor: Cursor) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.life.generation() == generation {
            slot.cursor = Some(cursor.clone());
            let instance = slot.name.clone();
            self.store.submit(Op::SaveCursor { ticket: None, instance, cursor });
        }
    }

    /// A worker whose receiving connection stands still, and that does not notice, is replaced.
    fn look_at_progress(&mut self, index: usize, generation: Generation, beat: &Heartbeat) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Kind::Platform(Some(kind)) = slot.kind else { return };
        let Some(limit) = kind.progress_limit() else { return };
        if !slot.is_connected() {
            // It is at it.
            slot.progress = None;
            return;
        }
        let progress = slot.progress.get_or_insert(Progress::new(limit, HEARTBEAT));
        if progress.on(beat.progress_age_ms.map(Duration::from_millis), clock::now()) {
            tracing::warn!(instance = %slot.name, generation = generation.0, "its connection stands still");
            slot.replaced = Some("replaced: its connection stood still".into());
            self.hook_instance(index, "worker:stale", Some("its connection stood still".into()));
            self.live(index, Input::Stale(generation));
        }
    }

    /// A worker that has grown too large is replaced before the kernel does it: politely, so that
    /// nothing is lost.
    fn weigh(&mut self, index: usize, generation: Generation) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(running) = &slot.child else { return };
        slot.memory = limits::memory(running.child.pid());
        let limit = self.memory;
        if let Some(memory) = slot.memory.filter(|memory| *memory > limit) {
            let (mib, most) = (memory >> 20, limit >> 20);
            tracing::warn!(instance = %slot.name, generation = generation.0, mib, most, "grew too large");
            slot.replaced = Some(format!("replaced: it used {mib} MiB of memory, at most {most}"));
            self.live(index, Input::Stale(generation));
        }
    }

    /// The link is over, and everything that came over it has been heard.
    pub(super) fn link_down(&mut self, from: &Who, why: &str) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.link.as_ref().is_none_or(|link| link.generation != from.generation) {
            return;
        }
        tracing::debug!(instance = %from.instance, generation = from.generation.0, why, "link over");
        let asked = matches!(slot.life.phase(), Phase::Stopping { cause: Cause::Asked, .. })
            || slot.life.wanted() == Wanted::Down;
        self.link_lost(index, if asked { Pause::Asked } else { Pause::Lost });
    }

    /// Nothing comes over the link any more, and nothing goes.
    pub(super) fn link_lost(&mut self, index: usize, pause: Pause) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.link = None;
        slot.outside = None;
        if let Desk::Agent(desk) = &mut slot.desk {
            desk.abilities = Abilities::default();
        }
        // Without a process there is nobody to be helped out, and nothing to be woken for.
        slot.liveness = slot.child.is_some().then(|| Liveness::new(LINKLESS, clock::now()));
        self.deliver(index, delivery::Input::Paused(pause));
        self.send(index, outbox::Input::Down);
        self.beside_down(index);
        self.hooks_down(index);
        self.hook_outside(index);
        self.judge_death(index);
    }
}

/// Whether nothing has changed but the words for it: each attempt at a platform that is down may fail in
/// words of its own.
fn is_same_trouble(was: &Outside, now: &Outside) -> bool {
    match (was, now) {
        (Outside::Up, Outside::Up) => true,
        (Outside::Down { remedy: was, .. }, Outside::Down { remedy: now, .. })
        | (Outside::Limited { remedy: was, .. }, Outside::Limited { remedy: now, .. }) => {
            was == now
        }
        (Outside::Conflict { remedy: was, .. }, Outside::Conflict { remedy: now, .. }) => {
            was == now
        }
        _ => false,
    }
}

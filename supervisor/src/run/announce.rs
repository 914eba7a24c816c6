//! Saying what has changed: one line in the log, one in the journal, one notice to whoever listens,
//! once a change.

use std::path::Path;
use std::time::Instant;

use protocol::control::{Asker, Follow, Notice};
use protocol::id::ParkedId;
use protocol::secret;
use protocol::worker::Outside;

use super::Gateway;
use super::desk::Desk;
use super::slot::Slot;
use crate::clock;
use crate::identity;
use crate::link::Listener;
use crate::policy::lifecycle::{Phase, Wait, Wanted};
use crate::socket::Peer;
use crate::store::Parked;

impl Gateway {
    /// Tells if the phase of an instance is another than was told last.
    pub(super) fn observe(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let (phase, generation) = (slot.life.phase().word(), slot.life.generation());
        let waits = slot.waits();
        let waits_still = matches!(slot.announced, Some((_, _, Some(Wait::NotYet))));
        if slot.announced == Some((phase, generation, waits))
            || (waits_still && waits == Some(Wait::NotYet))
        {
            return;
        }
        slot.announced = Some((phase, generation, waits));
        let pid = slot.child.as_ref().map(|running| running.child.pid());
        let wanted = match slot.life.wanted() {
            Wanted::Up => "up",
            Wanted::Down => "down",
        };
        let delay = slot.life.deadline().map(|due| due.duration_since(clock::now()).as_millis());
        let reason = match slot.life.phase() {
            Phase::Held { reason, .. } if slot.life.is_held_again() => {
                tracing::warn!(
                    instance = %slot.name, generation = generation.0, phase, reason, delay_ms = delay,
                    "still held"
                );
                Some(reason.clone())
            }
            Phase::Held { reason, remedy, .. } => {
                tracing::error!(
                    instance = %slot.name, generation = generation.0, phase, reason, remedy,
                    "an instance is held: a person must act"
                );
                Some(reason.clone())
            }
            Phase::Backoff { wait: Wait::NotYet, .. } if slot.unmade.is_none() => {
                let (reason, _) = slot.waiting().unzip();
                tracing::info!(
                    instance = %slot.name, generation = generation.0, phase, wanted, reason, "phase"
                );
                reason
            }
            Phase::Backoff { .. } => {
                let (reason, remedy) = slot.waiting().unzip();
                tracing::warn!(
                    instance = %slot.name, generation = generation.0, phase, wanted, reason, remedy,
                    delay_ms = delay, "waiting before the next start"
                );
                reason
            }
            Phase::Down | Phase::Starting { .. } | Phase::Ready { .. } | Phase::Stopping { .. } => {
                tracing::info!(
                    instance = %slot.name, generation = generation.0, phase, wanted, pid, "phase"
                );
                None
            }
        };
        let notice = notice_of(slot, "phase", phase, reason);
        self.tell(notice);
        self.hook_phase(index);
        self.look_at_waiters();
    }

    /// The outer connection of a worker changed.
    pub(super) fn announce_outside(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (now, reason) = match &slot.outside {
            Some(Outside::Down { reason, remedy }) => {
                tracing::warn!(instance = %slot.name, reason, remedy, "outer connection down");
                ("down", Some(reason.clone()))
            }
            Some(Outside::Conflict { reason, remedy }) => {
                tracing::error!(instance = %slot.name, reason, remedy, "somebody else uses this account");
                ("conflict", Some(reason.clone()))
            }
            Some(Outside::Up) => {
                tracing::info!(instance = %slot.name, "outer connection up");
                ("up", None)
            }
            Some(Outside::Limited { reason, remedy }) => {
                tracing::warn!(instance = %slot.name, reason, remedy, "outer connection limited");
                ("limited", Some(reason.clone()))
            }
            None => return,
        };
        let notice = notice_of(slot, "outside", now, reason);
        self.tell(notice);
    }

    /// The gate of an agent may have opened or shut.
    pub(super) fn observe_gate(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Desk::Agent(desk) = &mut slot.desk else { return };
        let open = desk.delivery.is_open(now);
        if open == desk.was_open {
            return;
        }
        desk.was_open = open;
        let word = if open { "open" } else { "shut" };
        tracing::info!(instance = %slot.name, gate = word, "gate");
        let notice = notice_of(slot, "gate", word, None);
        self.tell(notice);
    }

    /// An event is parked.
    pub(super) fn announce_parked(&mut self, parked: &Parked) {
        let ParkedId::Event(id) = parked.id else { return };
        let reason = Some(parked.reason.clone());
        self.tell(Notice { reason, ..notice("parked", &id.0.to_string()) });
    }

    /// A handler of hooks failed.
    pub(super) fn announce_hook_failed(&mut self, reason: &str) {
        tracing::warn!(reason, "a handler of hooks failed");
        self.tell(Notice { reason: Some(reason.to_owned()), ..notice("hook", "failed") });
    }

    /// An operator asks for something.
    pub(super) fn announce_asked(&mut self, instance: Option<usize>, wish: &str, peer: Peer) {
        let command = peer.pid.and_then(identity::command);
        let by = Asker { uid: peer.uid, pid: peer.pid, command };
        let slot = instance.and_then(|index| self.slots.get(index));
        tracing::info!(
            instance = slot.map(|slot| slot.name.as_str()),
            wish,
            uid = by.uid,
            pid = by.pid,
            command = by.command,
            "told by an operator"
        );
        let notice = match slot {
            Some(slot) => notice_of(slot, "asked", wish, None),
            None => notice("asked", wish),
        };
        self.tell(Notice { by: Some(by), ..notice });
    }

    /// The configuration was read anew.
    pub(super) fn announce_config(&mut self, now: &str, reason: Option<String>) {
        tracing::info!(now, reason, "configuration");
        self.tell(Notice { reason, ..notice("config", now) });
    }

    /// The supervisor itself.
    pub(super) fn announce_supervisor(
        &mut self,
        now: &str,
        reason: Option<String>,
        by: Option<Asker>,
    ) {
        let (pid, command) = by.as_ref().map(|by| (by.pid, by.command.clone())).unzip();
        tracing::info!(now, reason, by = pid.flatten(), command = command.flatten(), "supervisor");
        let pid = Some(std::process::id());
        self.tell(Notice { pid, reason, by, ..notice("supervisor", now) });
    }

    /// Somebody has removed the supervisor's socket, and it was made anew or could not be.
    pub(super) fn announce_socket(&mut self, made: Result<(), String>) {
        let path = self.paths.socket();
        let (now, reason) = match made {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "somebody removed the socket: made anew");
                ("made anew", format!("somebody removed {}", path.display()))
            }
            Err(reason) => {
                tracing::error!(
                    reason,
                    "the socket is gone: no tool and no new worker can connect"
                );
                ("gone", reason)
            }
        };
        self.tell(Notice { reason: Some(reason), ..notice("socket", now) });
    }

    /// Somebody has taken the exchange directory away, and it was made anew or could not be.
    pub(super) fn announce_exchange(&mut self, path: &Path, made: Result<(), String>) {
        let (now, reason) = match made {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "somebody took the exchange directory away: made anew");
                ("made anew", format!("somebody took {} away", path.display()))
            }
            Err(reason) => {
                tracing::error!(reason, "the exchange directory is gone: no files come or go");
                ("gone", reason)
            }
        };
        self.tell(Notice { reason: Some(reason), ..notice("exchange", now) });
    }

    /// Sends notices to a listener from now on, and says so first; then what it has missed.
    pub(super) fn subscribe(&mut self, follow: Follow, listener: Listener) {
        // While there is nothing to tell, this is where those who left are noticed.
        self.listeners.retain(|listener| !listener.is_gone());
        let pid = Some(std::process::id());
        let seq = Some(self.recent.last());
        let first = Notice { pid, seq, ..notice("subscribed", self.state()) };
        let Ok(first) = serde_json::to_string(&first) else { return };
        let missed = follow.after.map(|after| self.recent.since(after));
        let mut lines =
            std::iter::once(first).chain(missed.into_iter().flatten().map(str::to_owned));
        if lines.all(|line| listener.tell(line)) {
            self.listeners.push(listener);
        }
    }

    /// A listener that is behind, or gone, is dropped.
    pub(super) fn tell(&mut self, mut notice: Notice) {
        notice.reason = notice.reason.map(secret::cleaned);
        if let Some(by) = &mut notice.by {
            by.command = by.command.take().map(secret::cleaned);
        }
        let seq = self.recent.number();
        notice.seq = Some(seq);
        if let Ok(line) = serde_json::to_string(&notice) {
            self.listeners.retain(|listener| listener.tell(line.clone()));
            self.recent.keep(seq, line);
        }
        // What differs only in its time is the same.
        let what = Notice { at_ms: 0, seq: None, ..notice.clone() };
        if self.repeats.on(&what, clock::now()) {
            self.journal.note(notice);
        }
    }

    /// What repeated itself is noted with its number.
    pub(super) fn note_repeated(&mut self, counted: Vec<(Notice, u64)>) {
        for (what, again) in counted {
            let at_ms = clock::unix_ms();
            self.journal.note(Notice { at_ms, repeated: Some(again), ..what });
        }
    }
}

fn notice(event: &str, now: &str) -> Notice {
    Notice::new(event, now, clock::unix_ms())
}

fn notice_of(slot: &Slot, event: &str, now: &str, reason: Option<String>) -> Notice {
    Notice {
        instance: Some(slot.name.clone()),
        generation: Some(slot.life.generation().0),
        pid: slot.child.as_ref().map(|running| running.child.pid()),
        reason,
        ..notice(event, now)
    }
}

//! What becomes of the dead: their last words are waited for, what they left is looked for, and then
//! their end is judged.

use std::time::{Duration, Instant};

use super::Gateway;
use super::slot::{Departed, Fallen};
use crate::clock;
use crate::exit::{self, Ended};
use crate::policy::lifecycle::{Input, Phase};
use crate::process::reap::Dead;
use crate::store::{Exit, Op};

/// From the end of a worker to the end of its link, at most.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// When to look first whether what a dead worker left is gone, and the longest wait until the next look.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_LATE: Duration = Duration::from_secs(1);

impl Gateway {
    /// A child is gone, and perhaps not everything that it started. Its last words may still be on the
    /// way: they are waited for, as they may say what a person must do.
    pub(super) fn buried(&mut self, dead: Dead) {
        let Some((index, generation)) = self.by_pid.remove(&dead.pid) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(running) = slot.child.take() else { return };
        slot.liveness = None;
        let remains = running.child.remains();
        remains.sweep(|pid| self.by_pid.contains_key(&pid));
        let until = clock::now() + LAST_WORDS;
        slot.departed = Some(Departed { dead, generation, remains, until });
        if slot.link.as_ref().is_none_or(|link| link.generation != generation) {
            self.judge_death(index);
        }
    }

    pub(super) fn judge_death(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(departed) = slot.departed.take() else { return };
        let Departed { dead, generation, remains, .. } = departed;
        let (cause, at_ms) = (slot.cause(dead.ended), clock::unix_ms());
        let asked = matches!(slot.life.phase(), Phase::Stopping { .. });
        if asked {
            tracing::info!(instance = %slot.name, generation = generation.0, cause, "ended");
        } else {
            tracing::warn!(instance = %slot.name, generation = generation.0, cause, "died");
        }
        slot.bury(generation, cause.clone(), at_ms);
        slot.fault = exit::fault(dead.ended);
        let verdict = exit::judge(dead.ended, slot.last_words.as_deref());
        let (code, signal) = match dead.ended {
            Ended::Exit(code) => (Some(code), None),
            Ended::Signal(signal) => (None, Some(signal)),
        };
        let instance = slot.name.clone();
        self.store.submit(Op::RecordExit(Exit {
            instance,
            generation,
            at_ms,
            code,
            signal,
            cause,
        }));
        let left = remains.sweep(|pid| self.by_pid.contains_key(&pid));
        if left.is_empty() {
            return self.live(index, Input::Exited(generation, verdict));
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        let (look_at, after) = (clock::now() + LOOK, LOOK);
        slot.fallen = Some(Fallen { generation, verdict, remains, look_at, after });
        self.live(index, Input::Fallen(generation));
    }

    /// Looks whether everything that a dead child had started is gone. `now`: looks only if it is
    /// time to.
    pub(super) fn look_at_fallen(&mut self, index: usize, now: Option<Instant>) {
        let by_pid = &self.by_pid;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(fallen) = &mut slot.fallen else { return };
        if now.is_some_and(|now| now < fallen.look_at) {
            return;
        }
        let left = fallen.remains.sweep(|pid| by_pid.contains_key(&pid));
        if let Some(first) = left.first() {
            if fallen.after >= LOOK_LATE {
                if slot.stuck.is_none() {
                    tracing::error!(
                        instance = %slot.name, stuck = %first, "killed, and still there"
                    );
                }
                slot.stuck = Some(first.to_string());
            }
            fallen.after = (fallen.after * 2).min(LOOK_LATE);
            fallen.look_at = clock::now() + fallen.after;
            return;
        }
        if let Some(Fallen { generation, verdict, .. }) = slot.fallen.take() {
            slot.stuck = None;
            self.live(index, Input::Exited(generation, verdict));
        }
    }
}

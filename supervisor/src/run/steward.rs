//! Performing the lifecycle: children are made and ended, and looked after while they live.

use std::time::{Duration, Instant};

use protocol::hello::Leash;
use protocol::id::{Generation, Nonce, hex};
use protocol::worker::ToWorker;

use super::Gateway;
use super::desk::Desk;
use super::slot::{Running, Slot};
use crate::clock;
use crate::credential::{Credential, Refused, User};
use crate::exit::Code;
use crate::policy::lifecycle::{Action, Force, Input, Phase, Verdict, Wait};
use crate::policy::{delivery, outbox};
use crate::process::{kin, spawn};

/// Three missed heartbeats and a little.
pub(super) const STALE: Duration = Duration::from_secs(16);
/// How soon a process that the system has no room for is tried again: that costs nothing.
const UNMADE: Duration = Duration::from_secs(1);
/// How often to look whether an account that somebody else uses is free.
const CONTESTED: Duration = Duration::from_secs(2);
/// How long a worker whose supervisor was killed may hold its account before that is a person's matter, and
/// how often to look. It leaves within two seconds.
const FOLLOWS: Duration = Duration::from_secs(5);
const FOLLOWS_LOOK: Duration = Duration::from_millis(100);

impl Gateway {
    /// Feeds the lifecycle of one instance, performs what follows and announces what changed.
    pub(super) fn live(&mut self, index: usize, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let Some(slot) = self.slots.get_mut(index) else { return };
            let action = slot.life.on(input, clock::now());
            match action {
                Some(Action::Spawn(generation)) => next = self.spawn(index, generation),
                Some(Action::End(generation)) => self.end(index, generation),
                Some(Action::Kill(generation)) => self.kill(index, generation),
                None => {}
            }
            // What could not be made has not begun.
            if next.is_none() {
                self.observe(index);
            }
        }
    }

    fn spawn(&mut self, index: usize, generation: Generation) -> Option<Input> {
        let slot = self.slots.get_mut(index)?;
        if let Desk::Broken(trouble) = &slot.desk {
            let (reason, remedy) = (trouble.reason.clone(), trouble.remedy.into());
            slot.fault = trouble.code;
            let verdict = Verdict::Held { reason, remedy };
            return Some(Input::SpawnFailed(generation, verdict));
        }
        if let Err(refused) = self.take_account(index) {
            if let Some(left) = self.account_follows(index, &refused) {
                return Some(Input::SpawnFailed(generation, Verdict::NotYet(left)));
            }
            let other = "stop the other one, or remove this instance; it starts by itself as soon as that one has left";
            let (reason, remedy, fault) = match refused {
                Refused::Used(user) => {
                    let user = user.map_or("another gateway".into(), |user| user.to_string());
                    (format!("credential in use by {user}"), other.into(), Code::Temporary)
                }
                Refused::Io { why, remedy } => {
                    (format!("cannot lock the credential: {why}"), remedy, Code::CannotCreate)
                }
            };
            self.slots.get_mut(index)?.fault = fault;
            let verdict = Verdict::Held { reason, remedy };
            return Some(Input::SpawnFailed(generation, verdict));
        }
        let slot = self.slots.get_mut(index)?;
        let made = clock::random().and_then(|bytes| {
            let nonce = Nonce(bytes);
            let leash = Leash {
                socket: self.paths.socket(),
                instance: slot.name.clone(),
                generation,
                nonce: nonce.to_hex(),
            };
            let mark = format!("{}.{generation}.{}", slot.name, hex(&clock::random::<8>()?));
            let lock = slot.credential.as_ref().map(Credential::share).transpose()?;
            Ok((spawn::spawn(&leash, &self.ways, mark, lock)?, nonce))
        });
        match made {
            Ok((child, nonce)) => {
                self.by_pid.insert(child.pid(), (index, generation));
                slot.child = Some(Running { child, generation, nonce: Some(nonce), killed: false });
                slot.starts += 1;
                slot.last_words = None;
                slot.outside = None;
                slot.heartbeat = None;
                (slot.memory, slot.replaced, slot.confined) = (None, None, None);
                slot.progress = None;
                slot.liveness = None;
                (slot.stuck, slot.unmade) = (None, None);
                // Who has no account logs in nowhere.
                if slot.credential.is_some() {
                    self.starts.note(slot.name.as_str(), clock::unix_ms());
                    self.pace(index);
                }
                None
            }
            // It never was: that is no start, and no end.
            Err(e) if spawn::is_short(&e) => {
                slot.unmade = Some(e.to_string());
                Some(Input::SpawnFailed(generation, Verdict::NotYet(UNMADE)))
            }
            Err(e) => {
                tracing::error!(instance = %slot.name, error = %e, "cannot make a process");
                let cause = format!("cannot make a process: {e}");
                slot.bury(generation, cause, clock::unix_ms());
                Some(Input::SpawnFailed(generation, Verdict::Counted))
            }
        }
    }

    /// Takes the account that this instance logs in with, unless it is ours already.
    fn take_account(&mut self, index: usize) -> Result<(), Refused> {
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        let Some(account) = slot.account_wanted() else { return Ok(()) };
        if slot.credential.is_none() {
            let user = User {
                pid: std::process::id(),
                state_dir: self.paths.state_dir.clone(),
                instance: slot.name.to_string(),
            };
            slot.contested = Some(clock::now() + CONTESTED);
            slot.credential = Some(Credential::take(&account, &user)?);
        }
        (slot.contested, slot.follows) = (None, None);
        Ok(())
    }

    /// How long to wait for an account that a worker of a supervisor before us still holds: nobody else has
    /// our state directory, and that one leaves since its supervisor is gone.
    fn account_follows(&mut self, index: usize, refused: &Refused) -> Option<Duration> {
        let Refused::Used(Some(user)) = refused else { return None };
        let account = self.slots.get(index)?.account_wanted()?;
        let is_ours = |slot: &Slot| {
            slot.credential.is_some() && slot.account_wanted().as_ref() == Some(&account)
        };
        if user.state_dir != self.paths.state_dir || self.slots.iter().any(is_ours) {
            return None;
        }
        let now = clock::now();
        let slot = self.slots.get_mut(index)?;
        let until = *slot.follows.get_or_insert(now + FOLLOWS);
        slot.contested = Some(now + FOLLOWS_LOOK);
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// When the next start of an instance is due, as its former ones tell.
    pub(super) fn pace(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let wait = self.starts.wait(slot.name.as_str(), clock::unix_ms());
        slot.life.pace(wait.map(|wait| clock::now() + wait));
    }

    /// An instance that nobody wants leaves its account to others. One that could not have it looks
    /// again, without a generation for each look.
    fn look_at_account(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match slot.life.phase() {
            Phase::Down => {
                slot.credential = None;
                (slot.contested, slot.follows) = (None, None);
            }
            Phase::Held { .. } if slot.contested.is_none() => slot.credential = None,
            Phase::Held { .. } | Phase::Backoff { wait: Wait::NotYet, .. } => {
                if slot.contested.is_none_or(|at| at > now) {
                    return;
                }
                match self.take_account(index) {
                    Ok(()) => self.live(index, Input::Restart(Force::No)),
                    Err(refused) => drop(self.account_follows(index, &refused)),
                }
            }
            Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Stopping { .. }
            | Phase::Backoff { .. } => slot.contested = None,
        }
    }

    fn end(&mut self, index: usize, generation: Generation) {
        if matches!(self.desk(index), Some(Desk::Platform(_))) {
            self.send(index, outbox::Input::Leaving);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(link) = &slot.link
            && link.generation == generation
        {
            link.handle.send(ToWorker::Stop);
        }
        if let Some(running) = &slot.child
            && running.generation == generation
        {
            running.child.end();
        }
    }

    fn kill(&mut self, index: usize, generation: Generation) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(running) = &mut slot.child
            && running.generation == generation
        {
            if running.killed {
                let still = kin::look(running.child.pid());
                slot.stuck = still.map(|left| left.to_string());
            }
            running.killed = true;
            running.child.kill();
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(stuck) = &slot.stuck {
            tracing::error!(instance = %slot.name, generation = generation.0, stuck, "killed, and still there");
        }
    }

    pub(super) fn tick_slot(&mut self, index: usize, now: Instant) {
        self.look_at_fallen(index, Some(now));
        self.look_at_account(index, now);
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.life.deadline().is_some_and(|due| due <= now) {
            self.live(index, Input::Tick);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.departed.as_ref().is_some_and(|departed| departed.until <= now) {
            self.judge_death(index);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.child.is_some() && slot.liveness.as_ref().is_some_and(|l| l.deadline() <= now) {
            slot.liveness = None;
            let generation = slot.life.generation();
            tracing::warn!(instance = %slot.name, generation = generation.0, "fell silent");
            slot.replaced = Some("replaced: it fell silent".into());
            self.hook_instance(index, "worker:stale", Some("it fell silent".into()));
            self.live(index, Input::Stale(generation));
        }
        match self.desk(index) {
            Some(Desk::Platform(_)) => self.send(index, outbox::Input::Tick),
            Some(Desk::Agent(_)) => {
                self.deliver(index, delivery::Input::Tick);
                self.observe_gate(index, now);
                self.tick_absence(index, now);
            }
            Some(Desk::Hooks(_) | Desk::Broken(_)) | None => {}
        }
    }

    /// No new deliveries.
    pub(super) fn drain(&mut self, index: usize) {
        self.deliver(index, delivery::Input::Drain);
    }

    /// What is still handed out when we leave does not count as tried.
    pub(super) fn take_back(&mut self, index: usize) {
        let Some(Desk::Agent(desk)) = self.desk(index) else { return };
        for action in desk.delivery.close() {
            self.perform_delivery(index, action, None);
        }
    }
}

//! Performing the lifecycle: children are made and ended, let in and buried, and the store is asked.

use std::time::{Duration, Instant};

use protocol::control::Decision;
use protocol::event::{Abilities, Pause};
use protocol::hello::{Hello, Leash};
use protocol::id::{Generation, Instance, Nonce, OutboundId, hex};
use protocol::worker::{
    Adapter, Configure, Cursor, Exchange, ExecSettings, FromWorker, Heartbeat, LocalSettings,
    Network, Outside, RelaySettings, SocketSettings, ToWorker,
};
use tokio::sync::oneshot;

use super::Gateway;
use super::slot::{Departed, Desk, Fallen, Link, Running};
use super::tickets::Pending;
use crate::clock;
use crate::config::{AgentSettings, Kind, PlatformSettings};
use crate::credential::{Credential, Refused, User};
use crate::exit::{self, Ended};
use crate::link::{Handle, Who};
use crate::policy::lifecycle::{Action, Cause, Force, Input, Phase, Verdict, Wanted};
use crate::policy::liveness::{Liveness, Progress};
use crate::policy::{delivery, outbox};
use crate::process::reap::Dead;
use crate::process::{kin, limits, spawn};
use crate::socket::Peer;
use crate::starts;
use crate::store::{Answer, Exit, Op};

pub(super) const PURGE_FIRST: Duration = Duration::from_secs(60);
pub(super) const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// How long keys of events and ended replies are remembered: twice what the promise says.
const REMEMBER_MS: i64 = 48 * 3600 * 1000;
/// How long a reply that did not arrive waits for somebody to decide about it.
const KEEP_FAILURES_MS: i64 = 30 * 24 * 3600 * 1000;
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Three missed heartbeats and a little.
pub(super) const STALE: Duration = Duration::from_secs(16);
/// A worker whose link is over is on its way out, or must be helped.
const LINKLESS: Duration = Duration::from_secs(3);
/// From the end of a worker to the end of its link, at most.
const LAST_WORDS: Duration = Duration::from_millis(500);
const WORKER_GRACE: Duration = Duration::from_secs(4);
/// Events (or replies) of one worker without a verdict, and their bytes.
pub(super) const WINDOW: u32 = 256;
/// When to look first whether what a dead worker left is gone, and the longest wait until the next look.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_LATE: Duration = Duration::from_secs(1);
/// How often to look whether an account that somebody else uses is free.
const CONTESTED: Duration = Duration::from_secs(2);
/// Lanes looked for at once.
const SCAN: usize = 256;
/// Receipts told at once to an agent that was away.
const UNTOLD: usize = 64;
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

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
            self.observe(index);
        }
    }

    fn spawn(&mut self, index: usize, generation: Generation) -> Option<Input> {
        let slot = self.slots.get_mut(index)?;
        if let Desk::Broken(trouble) = &slot.desk {
            let reason = trouble.reason.clone();
            let remedy = "mend this block of the configuration, then `hermes-gw ctl reload`; \
                          `hermes-gw check` explains it";
            let verdict = Verdict::Held { reason, remedy: remedy.into() };
            return Some(Input::SpawnFailed(generation, verdict));
        }
        if let Err(refused) = self.take_account(index) {
            let verdict = Verdict::Held {
                reason: match refused {
                    Refused::Used(Some(user)) => format!("credential in use by {user}"),
                    Refused::Used(None) => "credential in use by another gateway".into(),
                    Refused::Io(e) => format!("cannot lock the credential: {e}"),
                },
                remedy:
                    "stop the other one, or remove this instance; it is looked for again by itself"
                        .into(),
            };
            return Some(Input::SpawnFailed(generation, verdict));
        }
        let slot = self.slots.get_mut(index)?;
        // Who has no account logs in nowhere.
        if slot.credential.is_some() && !self.starts.may(slot.name.as_str(), clock::unix_ms()) {
            let reason = format!(
                "started {} times within {} min, also by supervisors before this one",
                starts::MOST,
                starts::WITHIN_MS / 60_000
            );
            let remedy = "see its last exits in `ctl status` and the journal, then `ctl restart`";
            return Some(Input::SpawnFailed(
                generation,
                Verdict::Held { reason, remedy: remedy.into() },
            ));
        }
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
                slot.stuck = None;
                None
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
        let Desk::Platform(desk) = &slot.desk else { return Ok(()) };
        let Some(account) = desk.settings.account() else { return Ok(()) };
        if slot.credential.is_none() {
            let user = User {
                pid: std::process::id(),
                state_dir: self.paths.state_dir.clone(),
                instance: slot.name.to_string(),
            };
            slot.contested = Some(clock::now() + CONTESTED);
            slot.credential = Some(Credential::take(&account, &user)?);
        }
        slot.contested = None;
        Ok(())
    }

    /// An instance that nobody wants leaves its account to others. One that could not have it looks
    /// again, without a generation for each look.
    fn look_at_account(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match slot.life.phase() {
            Phase::Down => (slot.credential, slot.contested) = (None, None),
            Phase::Held { .. } if slot.contested.is_none() => slot.credential = None,
            Phase::Held { .. } if slot.contested.is_some_and(|at| at <= now) => {
                if self.take_account(index).is_ok() {
                    self.live(index, Input::Restart(Force::No));
                }
            }
            Phase::Held { .. } => {}
            Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Stopping { .. }
            | Phase::Backoff { .. } => slot.contested = None,
        }
    }

    fn end(&mut self, index: usize, generation: Generation) {
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

    /// Lets a worker in if it is the child that was made, and tells it what to be.
    pub(super) fn welcome(
        &mut self,
        hello: &Hello,
        peer: Peer,
        handle: Handle,
        welcome: oneshot::Sender<()>,
    ) {
        let Some(index) = self.by_name.get(&hello.instance).copied() else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let known = slot.child.as_mut().filter(|running| {
            let pid = peer.pid.unwrap_or(hello.pid);
            let same = running.generation == hello.generation && running.child.pid() == pid;
            same && running.nonce.as_ref().is_some_and(|nonce| nonce.matches(&hello.nonce))
        });
        let Some(running) = known else {
            tracing::warn!(instance = %hello.instance, pid = ?peer.pid, "turned away a stranger");
            return;
        };
        running.nonce = None;
        let Some(adapter) = self.adapter(index) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        let configure = Configure {
            adapter,
            cursor: slot.cursor.clone(),
            window: WINDOW,
            window_bytes: WINDOW_BYTES,
            heartbeat_ms: millis(HEARTBEAT),
            grace_ms: millis(WORKER_GRACE),
            log: self.log.clone(),
            exchange: Exchange { dir: self.paths.exchange(), max_bytes: self.files.max_bytes },
            network: match &slot.desk {
                Desk::Platform(desk) => desk.network.clone(),
                Desk::Agent(_) | Desk::Hooks(_) | Desk::Broken(_) => Network::default(),
            },
        };
        handle.send(ToWorker::Configure(Box::new(configure)));
        slot.link = Some(Link { generation: hello.generation, handle, unanswered: 0 });
        slot.liveness = Some(Liveness::new(STALE, clock::now()));
        // The link task may have ended meanwhile; then its end follows.
        let _ = welcome.send(());
    }

    pub(super) fn adapter(&self, index: usize) -> Option<Adapter> {
        let slot = self.slots.get(index)?;
        Some(match &slot.desk {
            Desk::Broken(_) => return None,
            Desk::Hooks(desk) => Adapter::Hooks(desk.settings.clone()),
            Desk::Platform(desk) => match &desk.settings {
                PlatformSettings::Local => {
                    Adapter::Local(LocalSettings { socket: self.paths.chat_socket(&slot.name) })
                }
                PlatformSettings::Feishu(settings) => Adapter::Feishu(settings.clone()),
                PlatformSettings::Telegram(settings) => Adapter::Telegram(settings.clone()),
            },
            Desk::Agent(desk) => match &desk.settings {
                AgentSettings::Echo => Adapter::Echo,
                AgentSettings::Socket { listen, concurrency } => Adapter::Socket(SocketSettings {
                    socket: listen.clone().unwrap_or_else(|| self.paths.agent_socket(&slot.name)),
                    concurrency: *concurrency,
                }),
                AgentSettings::Exec { command, dir, variables, concurrency } => {
                    Adapter::Exec(ExecSettings {
                        command: command.clone(),
                        dir: dir.clone(),
                        variables: variables.clone(),
                        concurrency: *concurrency,
                    })
                }
                AgentSettings::Webhook(settings) => Adapter::Webhook(settings.clone()),
                AgentSettings::OpenAi(settings) => Adapter::OpenAi(settings.clone()),
                AgentSettings::Acp(settings) => Adapter::Acp(settings.clone()),
                AgentSettings::Relay { listen, id, secret, home, concurrency, turn_limit_s } => {
                    let kind = |name: &Instance| (name.clone(), self.platform_of(name));
                    Adapter::Relay(RelaySettings {
                        listen: *listen,
                        id: id.clone(),
                        secret: secret.clone(),
                        home: home.clone(),
                        platforms: desk.hears.iter().map(kind).collect(),
                        concurrency: *concurrency,
                        turn_limit_s: *turn_limit_s,
                    })
                }
            },
        })
    }

    /// A worker says something. What concerns its life counts only from the newest generation; what
    /// it knows of events and replies is true whoever says it.
    pub(super) fn frame(&mut self, from: &Who, frame: FromWorker) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let newest = slot.life.generation() == from.generation;
        match frame {
            FromWorker::Inbound { seq, event, cursor } => {
                self.inbound(index, from.generation, seq, &event, cursor);
            }
            FromWorker::Outcome { id, attempt, outcome } => {
                self.outcome(index, id, attempt, outcome);
            }
            FromWorker::Reply { seq, reply, note } => {
                self.reply(index, from.generation, seq, reply, note);
            }
            FromWorker::Ack { event_id } => self.acknowledged(index, event_id),
            FromWorker::Remember { lane, note } => self.remember(index, lane, note),
            FromWorker::Asking { event_id, on } => {
                if let Desk::Agent(desk) = &mut slot.desk
                    && let Some(turn) = desk.at_work.get_mut(&event_id.0)
                {
                    turn.asking = on;
                }
            }
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
            FromWorker::Heartbeat(beat) if newest => {
                let now = clock::now();
                if let Some(liveness) = &mut slot.liveness {
                    liveness.beat(now);
                }
                slot.heartbeat = Some((beat, clock::unix_ms()));
                self.live(index, Input::Working(from.generation));
                self.weigh(index, from.generation);
                self.look_at_progress(index, from.generation, &beat);
            }
            FromWorker::Ready(ready) if newest => {
                slot.account = Some(ready.account);
                slot.outside = Some(Outside::Up);
                self.live(index, Input::Ready(from.generation));
                self.hook_outside(index);
                self.hooks_up(index);
                let idempotent = ready.idempotent_ms.map(Duration::from_millis);
                self.send(index, outbox::Input::Up { idempotent });
            }
            FromWorker::Outside(outside) if newest => {
                if slot.outside.as_ref() != Some(&outside) {
                    slot.outside = Some(outside);
                    self.announce_outside(index);
                    self.hook_outside(index);
                }
            }
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

    /// What the next generation goes on from.
    fn go_on_from(&mut self, index: usize, generation: Generation, cursor: Cursor) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.life.generation() == generation {
            slot.cursor = Some(cursor.clone());
            let instance = slot.name.clone();
            self.store.submit(Op::SaveCursor { instance, cursor });
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
            // What it was told of beside comes again in its place.
            desk.steered.clear();
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

    fn judge_death(&mut self, index: usize) {
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

    /// Asks the store, and remembers what for.
    pub(super) fn ask(&mut self, pending: Pending) {
        let ticket = self.tickets.name();
        let now_ms = clock::unix_ms();
        let op = match &pending {
            Pending::Heads { slot, after } => {
                let Some(Desk::Agent(desk)) = self.slots.get(*slot).map(|slot| &slot.desk) else {
                    return;
                };
                let instances = desk.hears.clone();
                Op::Heads { ticket, instances, after: *after, limit: SCAN }
            }
            Pending::Next { lane, after, .. } => {
                Op::NextInLane { ticket, lane: lane.clone(), after: *after }
            }
            Pending::Begin { slot, id } => {
                Op::Begin { ticket, id: *id, hand: self.hand(*slot, *id) }
            }
            Pending::Settle { id, also, .. } => Op::Settle { ticket, id: *id, also: also.clone() },
            Pending::Park { id, reason, .. } => {
                Op::Park { ticket, id: *id, reason: reason.clone(), now_ms }
            }
            Pending::ReplyHeads { slot, after } => {
                let Some(slot) = self.slots.get(*slot) else { return };
                let instance = slot.name.clone();
                Op::ReplyHeads { ticket, instance, after: *after, limit: SCAN }
            }
            Pending::NextReply { chat, after, .. } => {
                Op::NextReply { ticket, chat: chat.clone(), after: *after }
            }
            Pending::Untold { slot, after } => {
                let Some(slot) = self.slots.get(*slot) else { return };
                let agent = slot.name.clone();
                Op::Untold { ticket, agent, after: *after, limit: UNTOLD }
            }
            Pending::BeginSend { id, .. } => Op::BeginSend { ticket, id: *id, now_ms },
            Pending::FinishSend { id, end, .. } => {
                Op::FinishSend { ticket, id: *id, end: end.clone(), now_ms }
            }
            Pending::Counts { .. } => Op::Counts { ticket },
            Pending::Backup { path, .. } => Op::Backup { ticket, path: path.clone() },
            Pending::ListParked { after, limit, .. } => {
                Op::ListParked { ticket, after: *after, limit: *limit }
            }
            Pending::ShowParked { id, .. } => Op::ShowParked { ticket, id: *id },
            Pending::Decide { decision: Decision::Replay, ids, .. } => {
                Op::Replay { ticket, ids: ids.clone(), now_ms }
            }
            Pending::Decide { decision: Decision::Drop, ids, .. } => {
                Op::Discard { ticket, ids: ids.clone() }
            }
            Pending::Purge => {
                let before = now_ms - REMEMBER_MS;
                Op::Purge {
                    ticket,
                    seen_before_ms: before,
                    replies_before_ms: before,
                    failures_before_ms: now_ms - KEEP_FAILURES_MS,
                }
            }
            Pending::Grant { grant, .. } => Op::Grant { ticket, grant: grant.clone() },
            Pending::Accept { .. }
            | Pending::AcceptReply { .. }
            | Pending::OwnReply
            | Pending::HooksReply { .. } => return,
        };
        self.tickets.hold(ticket, pending);
        self.store.submit(op);
    }

    /// The store's answer, to whoever asked.
    pub(super) fn settle(&mut self, pending: Pending, answer: Answer) {
        match pending {
            Pending::Accept { slot, generation, seq, arrived } => {
                self.accepted(slot, generation, seq, *arrived, answer);
            }
            Pending::AcceptReply { slot, generation, seq } => {
                self.reply_accepted(slot, generation, seq, answer);
            }
            Pending::OwnReply => self.own_reply_accepted(answer),
            Pending::HooksReply { wait, reply } => self.hooks_reply_accepted(wait, reply, answer),
            Pending::Grant { slot, grant, subject, reply } => {
                self.granted(slot, &grant, subject, reply, &answer);
            }
            Pending::Counts { reply } => self.report(reply, answer),
            Pending::Backup { path, reply } => Self::backed_up(path, reply, answer),
            Pending::ListParked { .. } | Pending::ShowParked { .. } | Pending::Decide { .. } => {
                self.parked_answered(pending, answer);
            }
            Pending::Untold { slot, .. } => self.untold(slot, answer),
            Pending::Purge => {
                if let Answer::Purged { more: true, .. } = answer {
                    self.ask(Pending::Purge);
                }
            }
            pending if matches!(answer, Answer::Full) => {
                tracing::error!(?pending, "the disk is full; trying again");
                self.tickets.postpone(pending, clock::now());
            }
            Pending::Heads { slot, .. }
            | Pending::Next { slot, .. }
            | Pending::Begin { slot, .. }
            | Pending::Settle { slot, .. }
            | Pending::Park { slot, .. } => self.inbox_answered(slot, pending, answer),
            Pending::ReplyHeads { slot, .. }
            | Pending::NextReply { slot, .. }
            | Pending::BeginSend { slot, .. }
            | Pending::FinishSend { slot, .. } => self.outbox_answered(slot, pending, answer),
        }
    }
}

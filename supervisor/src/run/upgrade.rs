//! Becoming another build of ourselves: same process, same lock, listener, children and links.
//!
//! | stage | entered when | what is done |
//! |---|---|---|
//! | none | – | – |
//! | checking | somebody asks | the other program says whether it could take over; nothing has changed yet |
//! | waiting | it could | nothing new goes to platforms; what is on its way to them may end |
//! | pausing | nothing is on its way | links are read no more; the store answers what was heard |
//! | flushing | everything is answered | links write what they have |
//! | – | everything is written | `exec` |
//!
//! Whatever fails on the way leads back to none, with the links as they were. Events that agents work on
//! stay with them: that is what a restart could not offer.

use std::collections::HashMap;
use std::hash::Hasher;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use protocol::content::Busy;
use protocol::control::{Refusal, Upgrade as Asked, Upgraded};
use protocol::event::Abilities;
use protocol::hello;
use protocol::id::{EventId, hex};
use protocol::worker::{Adapter, Outside};
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::sync::mpsc;

use super::Gateway;
use super::slot::{Desk, Link, Running, Slot, Turn};
use super::steward::STALE;
use crate::clock;
use crate::credential::Credential;
use crate::exit::Code;
use crate::journal::Journal;
use crate::link::{Handle, Reply, Who};
use crate::lock::Lock;
use crate::policy::closing::Stage as Closing;
use crate::policy::lifecycle::{Force, Input, Lifecycle, Phase, Settings, Wanted};
use crate::policy::liveness::Liveness;
use crate::policy::{delivery, outbox};
use crate::process::cgroup::Cgroup;
use crate::process::spawn::Child;
use crate::socket::{Peer, Socket};
use crate::store::{self, Op};
use crate::upgrade::{self, AtWork, Check, FORMAT, State, Worker};

/// How long the other program may take to say whether it could take over.
const CHECK: Duration = Duration::from_secs(20);
/// The most that it may say.
const CHECK_MAX: u64 = 64 * 1024;
/// How long what was heard may take to be answered and written.
const PAUSE: Duration = Duration::from_secs(3);
/// How long a worker of another version may take to be replaced before the next one is.
const IN_TURN: Duration = Duration::from_secs(30);

/// What is under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    result: mpsc::Sender<Result<Check, String>>,
    stage: Stage,
    program: PathBuf,
    reply: Option<Reply>,
    /// When the stage has taken too long.
    until: Instant,
    /// How long to wait for what is on its way to platforms.
    wait: Duration,
    paused_usec: u64,
    /// Links that are read no more, by slot.
    paused: HashMap<usize, Paused>,
    /// Links to go on with.
    adopt: Vec<Adopted>,
    /// Workers of another version, to be replaced one by one.
    foreign: Vec<Foreign>,
    /// The last time that it was done.
    pub(super) done: Option<Upgraded>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    None,
    Checking,
    Waiting,
    Pausing,
    Flushing,
}

#[derive(Debug)]
struct Paused {
    connection: OwnedFd,
    rest: Vec<u8>,
    flushed: bool,
}

/// A link to go on with.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) index: usize,
    pub(super) who: Who,
    pub(super) connection: OwnedFd,
    pub(super) rest: Vec<u8>,
}

/// A worker that we cannot speak with: it is to be replaced in its turn.
#[derive(Debug)]
struct Foreign {
    index: usize,
    /// Kept open, so that it lives until then.
    _connection: OwnedFd,
    told: Option<Instant>,
}

impl Upgrade {
    pub(super) fn new(result: mpsc::Sender<Result<Check, String>>, now: Instant) -> Self {
        Self {
            result,
            stage: Stage::None,
            program: PathBuf::new(),
            reply: None,
            until: now,
            wait: PAUSE,
            paused_usec: 0,
            paused: HashMap::new(),
            adopt: Vec::new(),
            foreign: Vec::new(),
            done: None,
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stage = (self.stage != Stage::None).then_some(self.until);
        let foreign = self.foreign.first().and_then(|first| first.told).map(|told| told + IN_TURN);
        stage.into_iter().chain(foreign).min()
    }

    /// Workers are neither made nor judged meanwhile.
    pub(super) fn stands_still(&self) -> bool {
        matches!(self.stage, Stage::Pausing | Stage::Flushing)
    }

    /// Nothing is left to do but `exec`.
    pub(super) fn is_flushed(&self) -> bool {
        self.stage == Stage::Flushing && self.paused.values().all(|paused| paused.flushed)
    }
}

impl Gateway {
    /// Somebody asks to become another program.
    pub(super) fn wish_upgrade(&mut self, asked: Asked, peer: Peer, reply: Reply) {
        let busy = match (self.upgrade.stage, self.closing.stage()) {
            (_, Closing::Draining | Closing::Ending | Closing::Killing | Closing::Gone) => {
                Some("the supervisor is on its way out")
            }
            (Stage::None, Closing::Serving) => None,
            (_, Closing::Serving) => Some("an upgrade is under way already"),
        };
        if let Some(message) = busy {
            return reply.refuse(Refusal {
                code: Code::Temporary.number(),
                message: message.into(),
                hint: Some("try again a little later".into()),
            });
        }
        self.announce_asked(None, &format!("upgrade to {}", asked.program.display()), peer);
        self.upgrade.stage = Stage::Checking;
        self.upgrade.program = asked.program;
        self.upgrade.reply = Some(reply);
        self.upgrade.wait = Duration::from_millis(asked.wait_ms).max(PAUSE);
        self.upgrade.until = clock::now() + CHECK;
        let mut command = Command::new(&self.upgrade.program);
        command.arg("upgrade-check");
        if let Some(config) = &self.config_source {
            command.arg("--config").arg(config);
        }
        let result = self.upgrade.result.clone();
        let check = move || drop(result.blocking_send(check(command)));
        let thread = std::thread::Builder::new().name("upgrade".into()).spawn(check);
        if let Err(e) = thread {
            self.call_off(&format!("start a thread: {e}"));
        }
    }

    /// The other program has said whether it could take over.
    pub(super) fn upgrade_checked(&mut self, found: Result<Check, String>) {
        if self.upgrade.stage != Stage::Checking {
            return;
        }
        match found.map(|check| check.refusal(FORMAT, store::SCHEMA)) {
            Err(why) | Ok(Some(why)) => self.call_off(&why),
            Ok(None) => {
                self.upgrade.stage = Stage::Waiting;
                self.upgrade.until = clock::now() + self.upgrade.wait;
                self.hold(true);
            }
        }
    }

    /// What goes to platforms and to agents waits here, or not any more.
    fn hold(&mut self, on: bool) {
        for index in 0..self.slots.len() {
            match self.desk(index) {
                Some(Desk::Platform(_)) => self.send(index, outbox::Input::Hold(on)),
                Some(Desk::Agent(_)) => self.deliver(index, delivery::Input::Hold(on)),
                Some(Desk::Hooks(_) | Desk::Broken(_)) | None => {}
            }
        }
    }

    /// Goes on with what is under way.
    pub(super) fn tick_upgrade(&mut self, now: Instant) {
        self.tick_foreign(now);
        let late = self.upgrade.until <= now;
        match self.upgrade.stage {
            Stage::None => {}
            Stage::Checking if late => {
                self.call_off("the program did not say in time whether it could take over");
            }
            Stage::Checking => {}
            Stage::Waiting => {
                if let Some(what) = self.under_way() {
                    if late {
                        self.call_off(&format!("{what}: nothing is changed"));
                    }
                    return;
                }
                self.upgrade.stage = Stage::Pausing;
                self.upgrade.until = now + PAUSE;
                self.upgrade.paused_usec = clock::monotonic_usec();
                self.manager.reloading(self.upgrade.paused_usec);
                for slot in &self.slots {
                    if let Some(link) = &slot.link {
                        link.handle.pause();
                    }
                }
                self.look_at_pause();
            }
            Stage::Pausing | Stage::Flushing if late => {
                self.call_off("what was heard could not be answered in time: nothing is changed");
            }
            Stage::Pausing => self.look_at_pause(),
            Stage::Flushing => {}
        }
    }

    /// What has to end before links can be paused.
    fn under_way(&self) -> Option<String> {
        if self.closing.stage() != Closing::Serving {
            return Some("the supervisor is on its way out".into());
        }
        if self.reload.is_busy() || !self.queued.is_empty() || !self.wishes.is_empty() {
            return Some("a command or a file is still under way".into());
        }
        self.slots.iter().find_map(|slot| {
            let name = &slot.name;
            let changes = slot.departed.is_some()
                || slot.fallen.is_some()
                || matches!(slot.life.phase(), Phase::Stopping { .. })
                || slot.child.as_ref().is_some_and(|running| {
                    running.nonce.is_some()
                        || slot.link.as_ref().is_none_or(|l| l.generation != running.generation)
                });
            if changes {
                return Some(format!("{name} is just being started or ended"));
            }
            let sends = matches!(&slot.desk, Desk::Platform(desk) if !desk.outbox.is_quiet());
            sends.then(|| format!("replies are still on their way to {name}"))
        })
    }

    /// A link is read no more.
    pub(super) fn link_paused(&mut self, from: &Who, rest: Vec<u8>, connection: OwnedFd) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        if self.upgrade.stands_still() {
            self.upgrade.paused.insert(index, Paused { connection, rest, flushed: false });
            self.look_at_pause();
        } else {
            let who = from.clone();
            self.upgrade.adopt.push(Adopted { index, who, connection, rest });
        }
    }

    /// A paused link has written what it had.
    pub(super) fn link_flushed(&mut self, from: &Who, all: bool) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        if let Some(paused) = self.upgrade.paused.get_mut(&index) {
            paused.flushed = all;
        }
        if !all && self.upgrade.stands_still() {
            self.call_off(&format!("the link of {} is over: nothing is changed", from.instance));
        }
    }

    /// Once everything that was heard is answered, links write what they have and end.
    fn look_at_pause(&mut self) {
        if self.upgrade.stage != Stage::Pausing {
            return;
        }
        let paused = |(index, slot): (usize, &Slot)| {
            slot.link.is_none() || self.upgrade.paused.contains_key(&index)
        };
        let answered = |slot: &Slot| match &slot.desk {
            Desk::Platform(desk) => desk.outbox.is_quiet(),
            Desk::Agent(desk) => desk.delivery.is_quiet(),
            Desk::Hooks(_) | Desk::Broken(_) => true,
        };
        if self.slots.iter().enumerate().all(paused)
            && self.slots.iter().all(answered)
            && self.tickets.is_empty()
        {
            self.upgrade.stage = Stage::Flushing;
            for slot in &mut self.slots {
                slot.link = None;
            }
        }
    }

    /// Everything goes on as before, and whoever asked is told why.
    fn call_off(&mut self, why: &str) {
        tracing::error!(why, program = %self.upgrade.program.display(), "no upgrade");
        self.announce_supervisor("not upgraded", Some(why.to_owned()), None);
        let stood_still = self.upgrade.stands_still();
        self.upgrade.stage = Stage::None;
        for (index, Paused { connection, rest, .. }) in std::mem::take(&mut self.upgrade.paused) {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            slot.link = None;
            let Some(running) = &slot.child else { continue };
            let who = Who { instance: slot.name.clone(), generation: running.generation };
            self.upgrade.adopt.push(Adopted { index, who, connection, rest });
        }
        if stood_still {
            self.manager.ready();
        }
        self.hold(false);
        if let Some(reply) = self.upgrade.reply.take() {
            let program = self.upgrade.program.display();
            reply.refuse(Refusal {
                code: Code::Temporary.number(),
                message: format!("upgrade to {program}: {why}"),
                hint: Some("everything goes on as before; see the log, and try again".into()),
            });
        }
    }

    /// Links to go on with.
    pub(super) fn adoptions(&mut self) -> Vec<Adopted> {
        std::mem::take(&mut self.upgrade.adopt)
    }

    /// A link goes on.
    pub(super) fn link_resumed(&mut self, index: usize, who: &Who, handle: Handle) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.link = Some(Link { generation: who.generation, handle, unanswered: 0 });
        slot.liveness = Some(Liveness::new(STALE, clock::now()));
        self.hooks_up(index);
    }

    /// Becomes the other program. Returns only if that fails: then everything goes on as before.
    pub(super) fn become_another(&mut self, socket: &Socket, lock: &Lock) {
        let program = self.upgrade.program.clone();
        let from = env!("CARGO_PKG_VERSION");
        self.announce_supervisor(
            "upgrading",
            Some(format!("from {from} to {}", program.display())),
            None,
        );
        let counted = self.repeats.rest();
        self.note_repeated(counted);
        // What is to be read afterwards has to be written before.
        if let Ok(next) = Journal::open(&self.paths.state_dir) {
            std::mem::replace(&mut self.journal, next).finish();
        }
        let why = match self.legacy(socket, lock) {
            Ok(state) => state.exec(&program),
            Err(e) => e,
        };
        upgrade::close_in_children(socket.listening());
        upgrade::close_in_children(lock.held());
        for slot in &self.slots {
            let leash = slot.child.as_ref().and_then(|running| running.child.leash());
            leash.into_iter().for_each(upgrade::close_in_children);
            let held = slot.credential.iter().flat_map(Credential::held);
            held.for_each(upgrade::close_in_children);
        }
        for paused in self.upgrade.paused.values() {
            upgrade::close_in_children(paused.connection.as_fd());
        }
        self.call_off(&format!("start it: {why}"));
    }

    /// Everything that the next program needs.
    fn legacy(&self, socket: &Socket, lock: &Lock) -> io::Result<State> {
        let now = clock::now();
        let is_down = |slot: &&Slot| !slot.removed && slot.life.wanted() == Wanted::Down;
        let mut workers = Vec::new();
        for (index, paused) in &self.upgrade.paused {
            let Some(slot) = self.slots.get(*index) else { continue };
            let Some(running) = &slot.child else { continue };
            workers.push(self.worker(*index, slot, running, paused, now)?);
        }
        Ok(State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: hello::VERSION,
            paused_usec: self.upgrade.paused_usec,
            started_ms: self.started_ms,
            mask: self.ways.mask.bits(),
            limits: self.ways.limits.numbers(),
            token_key: self.token_key,
            lock: upgrade::keep(lock.held())?,
            socket: (upgrade::keep(socket.listening())?, self.paths.socket()),
            down: self.slots.iter().filter(is_down).map(|slot| slot.name.clone()).collect(),
            workers,
        })
    }

    fn worker(
        &self,
        index: usize,
        slot: &Slot,
        running: &Running,
        paused: &Paused,
        now: Instant,
    ) -> io::Result<Worker> {
        let Running { child, generation, .. } = running;
        let leash = child.leash().ok_or_else(|| io::Error::other("a worker without a leash"))?;
        let keep_all = |fds: &mut dyn Iterator<Item = BorrowedFd<'_>>| -> io::Result<Vec<_>> {
            fds.map(upgrade::keep).collect()
        };
        let credential = keep_all(&mut slot.credential.iter().flat_map(Credential::held))?;
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let (mut takes_replies, mut lease, mut at_work) = (None, None, Vec::new());
        let (mut occasions, mut abilities, mut steered) = (None, Abilities::default(), Vec::new());
        match &slot.desk {
            Desk::Platform(desk) => {
                takes_replies = desk.outbox.up().map(|window| window.map(millis));
            }
            Desk::Agent(desk) => {
                abilities = desk.abilities;
                steered = desk.steered.iter().copied().collect();
                lease = desk.delivery.lease(now).map(|(left, most)| (millis(left), most));
                for (id, counted) in desk.delivery.leased() {
                    let Some(turn) = desk.at_work.get(&id) else { continue };
                    at_work.push(AtWork {
                        id,
                        lane: turn.lane.clone(),
                        counted,
                        message_id: turn
                            .busy
                            .as_ref()
                            .and_then(|(_, busy)| busy.message_id.clone()),
                        busy: turn.busy.is_some(),
                        joined: desk.joined.get(&id).into_iter().flatten().map(|id| id.0).collect(),
                        epoch: turn.epoch,
                        state: (turn.interrupted, turn.asking, turn.told_busy),
                        told: turn.told.clone(),
                        replies: turn.replies.clone(),
                    });
                }
            }
            Desk::Hooks(desk) => {
                let (last, waiting) = desk.backlog.rest();
                occasions = Some((last, waiting.cloned().collect()));
            }
            Desk::Broken(_) => {}
        }
        Ok(Worker {
            instance: slot.name.clone(),
            generation: *generation,
            pid: child.pid(),
            mark: child.mark().to_owned(),
            cgroup: child.cgroup().map(ToOwned::to_owned),
            settings: self.adapter(index).map(|adapter| digest(&adapter)).unwrap_or_default(),
            leash: upgrade::keep(leash)?,
            credential,
            link: upgrade::keep(paused.connection.as_fd())?,
            rest: paused.rest.clone(),
            ready: matches!(slot.life.phase(), Phase::Ready { .. }),
            account: slot.account.clone(),
            outside: slot.outside.clone(),
            confined: slot.confined.clone(),
            takes_replies,
            lease,
            at_work,
            abilities,
            steered,
            occasions,
        })
    }

    /// Takes over from the program that we were, and tells which instances are to be started.
    pub(super) fn take_over(&mut self, state: State) -> io::Result<Vec<usize>> {
        let pause_ms = clock::monotonic_usec().saturating_sub(state.paused_usec) / 1000;
        self.token_key = state.token_key;
        let speaks = state.protocol == hello::VERSION;
        let mut start: Vec<usize> = (0..self.slots.len()).collect();
        start.retain(|index| {
            self.slots.get(*index).is_some_and(|slot| !state.down.contains(&slot.name))
        });
        for worker in state.workers {
            if let Some(index) = self.take_worker(worker, speaks)? {
                start.retain(|other| *other != index);
            }
        }
        let done = Upgraded { at_ms: clock::unix_ms(), from: state.version, pause_ms };
        let reason = format!("from {}, paused {pause_ms} ms", done.from);
        self.announce_supervisor("upgraded", Some(reason), None);
        self.upgrade.done = Some(done);
        Ok(start)
    }

    /// `None`: its instance is not configured any more, and it leaves with its leash.
    fn take_worker(&mut self, worker: Worker, speaks: bool) -> io::Result<Option<usize>> {
        let (leash, connection) = (upgrade::take(worker.leash)?, upgrade::take(worker.link)?);
        let credential = worker
            .credential
            .iter()
            .map(|fd| upgrade::take(*fd))
            .collect::<io::Result<Vec<_>>>()?;
        let index = self.by_name.get(&worker.instance).copied();
        let same = index.and_then(|index| self.adapter(index)).map(|adapter| digest(&adapter));
        let Some(index) = index else { return Ok(None) };
        let (now, generation) = (clock::now(), worker.generation);
        let platforms = self.by_name.clone();
        let Some(slot) = self.slots.get_mut(index) else { return Ok(None) };
        let seed = clock::random().map_or(0, u64::from_le_bytes);
        slot.life = Lifecycle::resumed(Settings::default(), generation, seed, worker.ready, now);
        let cgroup = worker.cgroup.map(Cgroup::resumed);
        let child = Child::resumed(worker.pid, leash, worker.mark, cgroup);
        slot.child = Some(Running { child, generation, nonce: None, killed: false });
        slot.credential = (!credential.is_empty()).then(|| Credential::resumed(credential));
        slot.starts = 1;
        slot.told_up = worker.outside == Some(Outside::Up);
        slot.announced = Some((slot.life.phase().word(), generation));
        (slot.account, slot.outside) = (worker.account, worker.outside);
        slot.confined = worker.confined;
        self.by_pid.insert(worker.pid, (index, generation));
        if !speaks || same.as_ref() != Some(&worker.settings) {
            for at_work in &worker.at_work {
                self.store.submit(Op::Refund { id: EventId(at_work.id) });
            }
            if speaks {
                slot.replaced = Some("replaced: its configuration has changed".into());
                self.live(index, Input::Restart(Force::No));
            } else {
                slot.replaced = Some("replaced: it is of another version".into());
                let foreign = Foreign { index, _connection: connection, told: None };
                self.upgrade.foreign.push(foreign);
            }
            return Ok(Some(index));
        }
        if let Desk::Agent(desk) = &mut slot.desk {
            for event in worker.at_work {
                desk.delivery.resume(event.id, event.lane.clone(), event.counted, now);
                let platform = platforms.get(&event.lane.instance).copied();
                let busy = platform.filter(|_| event.busy).map(|platform| {
                    let busy = Busy {
                        chat_id: event.lane.chat_id.clone(),
                        thread_id: event.lane.thread_id.clone(),
                        message_id: event.message_id,
                        on: true,
                    };
                    (platform, busy)
                });
                let AtWork { lane, told, replies, epoch, .. } = event;
                let (interrupted, asking, told_busy) = event.state;
                let joined = event.joined.into_iter().map(EventId).collect();
                desk.joined.insert(event.id, joined);
                let turn = Turn {
                    busy,
                    lane,
                    epoch,
                    since: now,
                    interrupted,
                    asking,
                    told_busy,
                    told,
                    replies,
                };
                desk.at_work.insert(event.id, turn);
            }
            desk.abilities = worker.abilities;
            desk.steered = worker.steered.into_iter().collect();
            desk.was_open = worker.lease.is_some();
        }
        if let (Desk::Hooks(desk), Some((last, waiting))) = (&mut slot.desk, worker.occasions) {
            desk.backlog.resume(last);
            for event in waiting {
                let _ = desk.backlog.offer(Box::new(event));
            }
        }
        let who = Who { instance: worker.instance, generation };
        self.upgrade.adopt.push(Adopted { index, who, connection, rest: worker.rest });
        if let Some(window) = worker.takes_replies {
            let idempotent = window.map(Duration::from_millis);
            self.send(index, outbox::Input::Up { idempotent });
        }
        if let Some((ttl_ms, concurrency)) = worker.lease {
            let ttl = Duration::from_millis(ttl_ms);
            self.deliver(index, delivery::Input::Lease { ttl, concurrency });
        }
        Ok(Some(index))
    }

    /// Replaces workers that we cannot speak with, one after the other.
    fn tick_foreign(&mut self, now: Instant) {
        loop {
            let Some(first) = self.upgrade.foreign.first_mut() else { return };
            let index = first.index;
            match first.told {
                None => {
                    first.told = Some(now);
                    self.live(index, Input::Restart(Force::No));
                    return;
                }
                Some(told) => {
                    let phase = self.slots.get(index).map(|slot| slot.life.phase());
                    let settled = matches!(
                        phase,
                        Some(Phase::Ready { .. } | Phase::Held { .. } | Phase::Down) | None
                    );
                    if !settled && now < told + IN_TURN {
                        return;
                    }
                    self.upgrade.foreign.remove(0);
                }
            }
        }
    }
}

/// What an instance is, so that another configuration is noticed.
fn digest(adapter: &Adapter) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(&postcard::to_stdvec(adapter).unwrap_or_default());
    hex(&hasher.finish128().as_bytes())
}

/// Asks another program whether it could take over. Its end is collected with that of any other child.
fn check(mut command: Command) -> Result<Check, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| format!("start it: {e}"))?;
    let output = child.stdout.take().ok_or("it has no standard output")?;
    let mut said = String::new();
    let read = output.take(CHECK_MAX).read_to_string(&mut said);
    read.map_err(|e| format!("read what it says: {e}"))?;
    let found = said.lines().find_map(|line| serde_json::from_str(line).ok());
    found.ok_or_else(|| "it is no hermes-gw that knows how to take over".to_owned())
}

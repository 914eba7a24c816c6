//! What another build of ourselves is left, and what it makes of it: workers that go on, events that agents
//! work on, and workers that cannot be spoken with any more, which are replaced one by one.

use std::hash::Hasher;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use protocol::content::Busy;
use protocol::control::Upgraded;
use protocol::event::Abilities;
use protocol::hello;
use protocol::id::{EventId, Generation, hex};
use protocol::worker::Outside;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::Gateway;
use super::desk::{Desk, Turn};
use super::slot::{Running, Slot};
use super::upgrade::{Adopted, IN_TURN, Paused};
use crate::clock;
use crate::credential::Credential;
use crate::link::Who;
use crate::lock::Lock;
use crate::policy::lifecycle::{Force, Input, Lifecycle, Phase, Settings, Wanted};
use crate::policy::steering::Steering;
use crate::policy::{delivery, outbox};
use crate::process::cgroup::Cgroup;
use crate::process::spawn::Child;
use crate::socket::Socket;
use crate::store::Op;
use crate::upgrade::{self, AtWork, FORMAT, State, Takes, Worker};

/// A worker that we cannot speak with: it is to be replaced in its turn.
#[derive(Debug)]
pub(super) struct Foreign {
    index: usize,
    generation: Generation,
    /// Kept open, so that it lives until then.
    _connection: OwnedFd,
    pub(super) told: Option<Instant>,
}

impl Gateway {
    /// Everything that the next program needs.
    pub(super) fn legacy(&self, socket: &Socket, lock: &Lock) -> io::Result<State> {
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
            started_ms: self.wall.started_ms(),
            started_usec: Some(clock::usec_of(self.started)),
            former_events: self.former_events.0,
            mask: self.ways.mask.bits(),
            limits: self.ways.limits.numbers(),
            token_key: self.token_key,
            reach: self.reach.rest(),
            recent: self.recent.rest(),
            lock: upgrade::keep(lock.held())?,
            socket: (upgrade::keep(socket.listening())?, self.paths.socket()),
            socket_file: socket.file(),
            store_files: Some(self.store.inodes()),
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
        let (mut takes, mut lease, mut at_work) = (Takes::None, None, Vec::new());
        let (mut occasions, mut abilities, mut given) = (None, Abilities::default(), Vec::new());
        match &slot.desk {
            Desk::Platform(desk) => {
                takes = desk.outbox.up().into();
            }
            Desk::Agent(desk) => {
                abilities = desk.abilities;
                given = desk.delivery.given().collect();
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
                        epoch: turn.epoch,
                        state: (turn.interrupted, turn.asking, turn.told_busy),
                        is_followed: turn.steering.is_behind(),
                        told: turn.told.clone(),
                        replies: turn.replies.clone(),
                        event: turn.event.clone(),
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
            settings: self.digest(index).unwrap_or_default(),
            leash: upgrade::keep(leash)?,
            credential,
            link: upgrade::keep(paused.connection.as_fd())?,
            rest: paused.rest.clone(),
            ready: matches!(slot.life.phase(), Phase::Ready { .. }),
            since_usec: Some(clock::usec_of(slot.life.since())),
            account: slot.account.clone(),
            outside: slot.outside.clone(),
            confined: slot.confined.clone(),
            takes,
            lease,
            at_work,
            abilities,
            steered: given,
            occasions,
        })
    }

    /// Takes over from the program that we were, and tells which instances are to be started.
    pub(super) fn take_over(&mut self, state: State) -> io::Result<Vec<usize>> {
        let pause_ms = clock::monotonic_usec().saturating_sub(state.paused_usec) / 1000;
        self.former_events = EventId(state.former_events);
        self.token_key = state.token_key;
        self.reach.resume(state.reach);
        self.recent.resume(state.recent);
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

    /// What an instance is, so that another configuration is noticed.
    fn digest(&self, index: usize) -> Option<String> {
        let what = (self.adapter(index)?, self.slots.get(index)?.network());
        let mut hasher = SipHasher13::new();
        hasher.write(&postcard::to_stdvec(&what).unwrap_or_default());
        Some(hex(&hasher.finish128().as_bytes()))
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
        let same = index.and_then(|index| self.digest(index));
        let goes_on = speaks && same.as_ref() == Some(&worker.settings);
        if !goes_on {
            for at_work in &worker.at_work {
                self.store.submit(Op::Refund { id: EventId(at_work.id) });
            }
        }
        let Some(index) = index else { return Ok(None) };
        let (now, generation) = (clock::now(), worker.generation);
        let platforms = self.by_name.clone();
        let Some(slot) = self.slots.get_mut(index) else { return Ok(None) };
        let seed = clock::random().map_or(0, u64::from_le_bytes);
        let (settings, since) =
            (Settings::default(), worker.since_usec.map_or(now, clock::at_usec));
        slot.life = Lifecycle::resumed(settings, generation, seed, worker.ready, since, now);
        let cgroup = worker.cgroup.map(Cgroup::resumed);
        let child = Child::resumed(worker.pid, leash, worker.mark, cgroup);
        slot.child = Some(Running { child, generation, nonce: None, killed: false });
        slot.credential = (!credential.is_empty()).then(|| Credential::resumed(credential));
        slot.starts = 1;
        slot.told_up = worker.outside == Some(Outside::Up);
        slot.announced = Some((slot.life.phase().word(), generation, None));
        (slot.account, slot.outside) = (worker.account, worker.outside);
        slot.confined = worker.confined;
        self.by_pid.insert(worker.pid, (index, generation));
        if !goes_on {
            if speaks {
                slot.replaced = Some("replaced: its configuration has changed".into());
                self.live(index, Input::Restart(Force::No));
            } else {
                slot.replaced = Some("replaced: it is of another version".into());
                let foreign = Foreign { index, generation, _connection: connection, told: None };
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
                let AtWork { lane, told, replies, epoch, event: said, .. } = event;
                let (interrupted, asking, told_busy) = event.state;
                let turn = Turn {
                    busy,
                    lane,
                    epoch,
                    since: now,
                    interrupted,
                    asking,
                    told_busy,
                    steering: Steering::new(event.is_followed),
                    told,
                    replies,
                    event: said,
                };
                desk.at_work.insert(event.id, turn);
            }
            desk.abilities = worker.abilities;
            desk.delivery.resume_given(worker.steered);
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
        if let Some(idempotent) = worker.takes.up() {
            self.send(index, outbox::Input::Up { idempotent });
        }
        if let Some((ttl_ms, concurrency)) = worker.lease {
            let ttl = Duration::from_millis(ttl_ms);
            self.deliver(index, delivery::Input::Lease { ttl, concurrency });
        }
        Ok(Some(index))
    }

    /// Replaces workers that we cannot speak with, one after the other.
    pub(super) fn tick_foreign(&mut self, now: Instant) {
        loop {
            let Some(first) = self.upgrade.foreign.first_mut() else { return };
            let index = first.index;
            let slot = self.slots.get(index);
            match first.told {
                // Meanwhile it was told to stay down, or has a successor already.
                None if !slot.is_some_and(|slot| {
                    slot.life.wanted() == Wanted::Up && slot.life.generation() == first.generation
                }) =>
                {
                    self.upgrade.foreign.remove(0);
                }
                None => {
                    first.told = Some(now);
                    self.live(index, Input::Restart(Force::No));
                    return;
                }
                Some(told) => {
                    let phase = slot.map(|slot| slot.life.phase());
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

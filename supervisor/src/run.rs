//! The supervisor's only event loop: gather what has happened, let the policies decide, perform.
//!
//! Nothing here waits but the loop itself. Every retry is a deadline; every request to the store has
//! its answer looked up by ticket; every child's word is known by its generation.

mod announce;
mod asking;
mod begin;
mod beside;
mod burial;
mod busy;
mod control;
mod desk;
mod dispatch;
mod door;
mod exchanging;
mod files;
mod hearing;
mod hooks;
mod ingest;
mod leave;
mod listening;
mod orders;
mod outbound;
mod pace;
mod parked;
mod queue;
mod reload;
mod slot;
mod status;
mod steward;
mod takeover;
mod talk;
mod tickets;
mod upgrade;
mod welcome;
mod within;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::control::Notice;
use protocol::id::{EventId, Instance};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use self::begin::Parts;
use self::beside::Wishes;
use self::control::Waiter;
use self::desk::Desk;
use self::exchanging::Exchanging;
use self::listening::Listening;
use self::orders::Orders;
use self::pace::Pace;
pub use self::reload::Reader;
use self::reload::Reload;
use self::slot::Slot;
use self::tickets::{Pending, Tickets};
use self::upgrade::{Adopted, Upgrade};
use self::within::Queued;
use crate::clock;
use crate::config::Files;
use crate::error::Error;
use crate::exchange;
use crate::journal::Journal;
use crate::link::{self, Input};
use crate::notify::Manager;
use crate::owed::Owed;
use crate::paths::Paths;
use crate::policy::closing::{Busy, Closing, Stage};
use crate::policy::commands::Commands;
use crate::policy::delivery;
use crate::policy::drafts::Shown;
use crate::policy::liveness;
use crate::policy::own_hand::OwnHand;
use crate::policy::reach::Reach;
use crate::policy::recent::Recent;
use crate::policy::repeats::Repeats;
use crate::policy::wall::Wall;
use crate::process::limits;
use crate::process::signals::Wish;
use crate::process::spawn::Ways;
use crate::process::{kin, memory, reap};
use crate::starts::Starts;
use crate::store::{Count, Done, Files as FileCounts, Op, Store};

/// A store that has not answered for so long does not get on.
const STUCK: Duration = Duration::from_secs(20);
/// The longest the loop waits, so that it notices its own pauses.
const TICK: Duration = Duration::from_secs(1);
/// How often free memory is given back.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(30);
const INPUTS: usize = 1024;
const CONNECTIONS: usize = 512;
/// How long nobody is let in after that has failed.
const DEAF: Duration = Duration::from_millis(200);
/// Inputs taken before the policies' deadlines are looked at again.
const BATCH: usize = 256;

/// Everything the supervisor holds.
#[derive(Debug)]
pub struct Gateway {
    paths: Paths,
    config_source: Option<String>,
    log: String,
    ways: Ways,
    /// A worker that uses more is replaced.
    memory: u64,
    started: Instant,
    /// Events up to this one were accepted before that, whatever the wall clock showed.
    former_events: EventId,
    /// What the configuration says of state and runtime directory: they cannot change.
    dirs: (Option<PathBuf>, Option<PathBuf>),
    reload: Reload,
    slots: Vec<Slot>,
    by_name: HashMap<Instance, usize>,
    by_pid: HashMap<u32, (usize, protocol::id::Generation)>,
    closing: Closing,
    store: Store,
    tickets: Tickets,
    listeners: Vec<link::Listener>,
    recent: Recent,
    /// What the store has said last of how much there is.
    counts: (Vec<Count>, FileCounts),
    pace: Pace,
    waiters: Vec<Waiter>,
    own_hand: OwnHand,
    queued: Vec<Queued>,
    /// What became of them, where that is not told yet.
    owed: Owed,
    leaving: Vec<link::Reply>,
    journal: Journal,
    starts: Starts,
    wishes: Wishes,
    shown: Shown,
    orders: Orders,
    /// Handlers that wait for the end of what they sent.
    senders: Vec<hooks::Sender>,
    /// What they may touch.
    reach: Reach,
    /// What their tokens are made with.
    token_key: [u8; 16],
    files: Files,
    commands: Arc<Commands>,
    repeats: Repeats<Notice>,
    manager: Manager,
    stop: Duration,
    /// A stranger told us to leave, so whoever manages us should start us anew.
    come_back: bool,
    /// A second Ctrl-C came.
    interrupted: bool,
    purge_at: Instant,
    give_back_at: Instant,
    wall: Wall,
    /// When the loop turned last.
    awake: Instant,
    files_at: Instant,
    exchanging: Exchanging,
    upgrade: Upgrade,
    /// It was told that few descriptors are left.
    crowded: bool,
    fatal: Option<Error>,
}

/// Serves until somebody asks the supervisor to leave.
pub async fn run(parts: Parts) -> Result<(), Error> {
    let Parts {
        paths,
        config,
        reader,
        lock,
        store,
        answers,
        journal,
        manager,
        mut signals,
        mask,
        limits,
        build,
        started_ms,
        started,
        released,
        former,
    } = parts;
    let os = |what| move |source| Error::Os { what, source };
    kin::adopt_orphans().map_err(os("become the parent of orphans"))?;
    let mut child = signal(SignalKind::child()).map_err(os("listen to signals"))?;
    let mut listening = Listening::begin(&paths, former.as_ref(), clock::now()).await?;
    let (tell, mut inputs) = mpsc::channel(INPUTS);
    let (result, mut reloads) = mpsc::channel(1);
    let (checked, mut checks) = mpsc::channel(1);
    let mut answers = answers;
    let ways = begin::ways(mask, limits, former.as_ref());
    let mut gateway = Gateway::new(
        paths,
        config,
        store,
        (reader, result),
        (journal, manager),
        (ways, Upgrade::new(checked, clock::now())),
        (started_ms, started),
    )?;
    let mut links = JoinSet::new();
    let mut released = std::pin::pin!(released.cancelled_owned());
    let mut let_go = false;
    let mut deaf_until = clock::now();
    // The rest is for the store, for children and for files that are read.
    let connections = CONNECTIONS.min(limits::descriptors() / 2);
    gateway.start(former).map_err(os("go on with the workers"))?;
    loop {
        gateway.resume_links(&mut links, &tell);
        let now = clock::now();
        let due = gateway.deadline().min(now + TICK);
        tokio::select! {
            biased;
            _ = child.recv() => {}
            asked = signals.next() => match asked.map_err(os("listen to signals"))? {
                asked if asked.wish == Wish::Leave => gateway.woken(due).told_to_leave(asked),
                // A terminal that closes must not end a gateway that somebody left running.
                _ => gateway.woken(due).wish_reload(None),
            },
            () = &mut released, if !let_go => {
                let_go = true;
                gateway.woken(due).ask_to_leave("whoever started it let go", None);
            }
            Some(read) = reloads.recv() => gateway.woken(due).reloaded(read),
            Some(found) = checks.recv() => gateway.woken(due).upgrade_checked(found),
            Some(batch) = answers.recv() => gateway.woken(due).answered(batch),
            Some(input) = inputs.recv() => gateway.woken(due).hear(input),
            accepted = listening.socket.accept(), if links.len() < connections && deaf_until <= now => match accepted {
                Ok((stream, peer)) => {
                    links.spawn(link::serve(stream, peer, build, tell.clone()));
                    if links.len() == connections {
                        gateway.look_at_descriptors();
                    }
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection");
                    // Out of descriptors, most likely: the next try would fail the same way.
                    deaf_until = now + DEAF;
                }
            },
            Some(_) = links.join_next() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
        gateway.woken(due);
        for _ in 0..BATCH {
            if let Ok(batch) = answers.try_recv() {
                gateway.answered(batch);
            } else if let Ok(input) = inputs.try_recv() {
                gateway.hear(input);
            } else {
                break;
            }
        }
        gateway.reap();
        gateway.tick();
        gateway.look_at_files(&lock, clock::now());
        gateway.look_at_socket(&mut listening, clock::now()).await;
        if gateway.upgrade.is_flushed() {
            gateway.become_another(&listening.socket, &lock);
        }
        if gateway.closing.stage() == Stage::Gone || gateway.fatal.is_some() {
            break;
        }
    }
    gateway.leave(listening, answers, lock).await
}

impl Gateway {
    /// Goes on with links that were paused.
    fn resume_links(&mut self, links: &mut JoinSet<()>, tell: &mpsc::Sender<Input>) {
        for Adopted { index, who, connection, rest } in self.adoptions() {
            match link::resume(connection, &rest, who.clone(), tell.clone()) {
                Ok((handle, serve)) => {
                    links.spawn(serve);
                    self.link_resumed(index, &who, handle);
                }
                Err(e) => {
                    tracing::error!(instance = %who.instance, error = %e, "a link is lost");
                    self.give_up_link(index, "its link was lost in an upgrade");
                }
            }
        }
    }

    /// Collects the dead.
    fn reap(&mut self) {
        let dead = reap::reap(|pid| self.by_pid.contains_key(&pid));
        if dead.is_empty() {
            return;
        }
        for dead in dead {
            self.buried(dead);
        }
        for index in 0..self.slots.len() {
            self.look_at_fallen(index, None);
        }
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::Hello { hello, peer, handle, welcome } => {
                self.welcome(&hello, peer, handle, welcome);
            }
            Input::Frame { from, frame } => self.frame(&from, frame),
            Input::LinkDown { from, why } => self.link_down(&from, &why),
            Input::LinkPaused { from, rest, connection } => {
                self.link_paused(&from, rest, connection);
            }
            Input::LinkFlushed { from, all } => self.link_flushed(&from, all),
            Input::Request { request, peer, token, reply } => {
                if let Some(reply) = self.admit(&request, token.as_deref(), reply) {
                    self.request(request, peer, reply);
                }
            }
        }
    }

    fn answered(&mut self, batch: Vec<Done>) {
        self.look_at_disk(clock::now());
        for done in batch {
            match done {
                Done::Answered { ticket, answer } => {
                    if let Some(pending) = self.tickets.take(ticket) {
                        self.settle(pending, answer);
                    }
                }
                Done::Poisoned { error } => {
                    tracing::error!(error, "the store can keep nothing more");
                    self.fatal = Some(Error::Poisoned(error));
                }
            }
        }
    }

    /// When something is due that [`Gateway::tick`] looks at.
    fn deadline(&self) -> Instant {
        if self.upgrade.stands_still() {
            let due = [self.upgrade.deadline(), self.manager.deadline()];
            return due.into_iter().flatten().min().unwrap_or(self.purge_at);
        }
        let slots = self.slots.iter().filter_map(Slot::deadline);
        let waiters = self.waiters.iter().map(|waiter| waiter.until);
        let waiters = waiters.chain(self.queued.iter().map(Queued::deadline));
        let waiters = waiters.chain(self.senders.iter().map(|sender| sender.until));
        let rest = [
            self.tired_at(),
            self.closing.deadline(),
            self.tickets.deadline(),
            self.repeats.deadline(),
            self.manager.deadline(),
            self.reload.deadline(),
            self.wishes.deadline(),
            self.orders.deadline(),
            self.upgrade.deadline(),
        ];
        let rest = rest.into_iter().flatten();
        let own = [self.purge_at, self.give_back_at];
        slots.chain(waiters).chain(rest).chain(own).min().unwrap_or(self.purge_at)
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.tick_upgrade(now);
        if self.upgrade.stands_still() {
            return self.report_to_manager(now);
        }
        for index in 0..self.slots.len() {
            self.tick_slot(index, now);
        }
        for pending in self.tickets.due(now) {
            self.ask(pending);
        }
        // Before anything is called old.
        self.look_at_the_clock();
        if self.purge_at <= now {
            self.purge_at = now + asking::PURGE_EVERY;
            if self.wall.is_trusted(clock::boot_ms()) {
                self.ask(Pending::Purge);
            }
        }
        self.look_at_exchange(now);
        if self.give_back_at <= now {
            self.give_back_at = now + GIVE_BACK_EVERY;
            self.tickets.shrink();
            memory::give_back();
            exchange::clean(self.paths.exchange(), self.files);
        }
        self.expire_waiters(now);
        self.look_at_disk(now);
        self.tick_reload(now);
        self.tick_queued(now);
        self.tick_wishes(now);
        self.tick_orders(now);
        self.tick_senders(now);
        let counted = self.repeats.due(now);
        self.note_repeated(counted);
        let workers = self.slots.iter().filter(|slot| slot.is_alive()).count();
        let workers = workers + usize::from(self.upgrade.asked.is_some());
        if let Some(action) = self.closing.on(self.busy(), workers, now) {
            self.close(action);
        }
        self.report_to_manager(now);
    }

    fn busy(&self) -> Busy {
        let is_hooks = |slot: &&Slot| matches!(slot.desk, Desk::Hooks(_));
        let mut busy = self.slots.iter().filter(|slot| !slot.is_idle());
        if !self.tickets.is_empty() || busy.clone().any(|slot| !is_hooks(&slot)) {
            Busy::Work
        } else if busy.next().is_some() {
            Busy::Hooks
        } else {
            Busy::No
        }
    }

    /// Whatever is submitted from now on is of the clock as it is now.
    fn look_at_the_clock(&mut self) {
        if let Some(set) = self.wall.look(clock::unix_ms(), clock::boot_ms()) {
            tracing::warn!(by_ms = set.by_ms, "the wall clock was set");
            self.store.submit(Op::ClockSet(set));
        }
    }

    /// Tells once that few descriptors are left, before anything fails of it.
    fn look_at_descriptors(&mut self) {
        let (open, allowed) = (limits::open(), limits::descriptors());
        if open > allowed / 4 * 3 && !std::mem::replace(&mut self.crowded, true) {
            tracing::warn!(
                open,
                allowed,
                "few open files are left: raise that limit (`ulimit -Hn`, LimitNOFILE=)"
            );
        }
    }

    /// The loop turns; it was to at `due`. Before anything is performed: what was to come meanwhile may lie
    /// in a socket.
    fn woken(&mut self, due: Instant) -> &mut Self {
        let now = clock::now();
        let last = std::mem::replace(&mut self.awake, now);
        if let Some(pause) = liveness::overslept(last, due, now) {
            tracing::warn!(pause_ms = pause.as_millis(), "this process did not run for a while");
            self.pace.slept(now);
            for index in 0..self.slots.len() {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.slept(pause, now);
                }
                self.deliver(index, delivery::Input::Slept(pause));
            }
        }
        self
    }

    /// What the service manager shows of us, and whether we are alive: the loop turns, and the store
    /// answers.
    fn report_to_manager(&mut self, now: Instant) {
        let configured = self.slots.iter().filter(|slot| !slot.removed);
        let well = configured.clone().filter(|slot| slot.is_connected()).count();
        let all = configured.count();
        let mut text = format!("{}: {well} of {all} instances connected", self.state());
        let since = self.tickets.oldest();
        let is_stuck = since.is_some_and(|since| since + STUCK < now);
        if is_stuck {
            text = "the store does not answer".into();
        }
        self.manager.turns(!is_stuck, now);
        self.manager.status(&text);
    }

    fn desk(&mut self, index: usize) -> Option<&mut Desk> {
        self.slots.get_mut(index).map(|slot| &mut slot.desk)
    }
}

//! The supervisor's only event loop: gather what has happened, let the policies decide, perform.
//!
//! Nothing here waits but the loop itself. Every retry is a deadline; every request to the store has
//! its answer looked up by ticket; every child's word is known by its generation.

mod announce;
mod beside;
mod control;
mod dispatch;
mod door;
mod hooks;
mod ingest;
mod orders;
mod outbound;
mod parked;
mod reload;
mod slot;
mod steward;
mod takeover;
mod talk;
mod tickets;
mod upgrade;
mod within;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use protocol::control::{Asker, Notice};
use protocol::hello::BuildId;
use protocol::id::Instance;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::beside::Wishes;
use self::control::Waiter;
use self::orders::Orders;
pub use self::reload::Reader;
use self::reload::Reload;
use self::slot::{Desk, Slot};
use self::tickets::{Pending, Tickets};
use self::upgrade::{Adopted, Upgrade};
use self::within::Queued;
use crate::clock;
use crate::config::{Config, Files};
use crate::error::Error;
use crate::exchange;
use crate::identity;
use crate::journal::Journal;
use crate::link::{self, Input};
use crate::lock::{Left, Lock};
use crate::notify::{self, Manager};
use crate::paths::Paths;
use crate::policy::closing::{self, Closing, Stage};
use crate::policy::commands::Commands;
use crate::policy::lifecycle;
use crate::policy::own_hand::OwnHand;
use crate::policy::reach::Reach;
use crate::policy::repeats::Repeats;
use crate::process::cgroup::Delegated;
use crate::process::limits::{self, Limits};
use crate::process::signals::{Asked, Signals, Wish};
use crate::process::spawn::{UsersMask, Ways};
use crate::process::{kin, reap};
use crate::socket::Socket;
use crate::starts::Starts;
use crate::store::{Done, Opened, Store};
use crate::upgrade::State;

/// What is left of the service manager's limit when we have left.
const STOP_MARGIN: Duration = Duration::from_secs(2);
/// A store that has not answered for so long does not get on.
const STUCK: Duration = Duration::from_secs(20);
/// A wake-up that comes later than this after its time means that we ourselves did not run.
const OVERSLEPT: Duration = Duration::from_secs(2);
/// The longest the loop waits, so that it notices its own pauses.
const TICK: Duration = Duration::from_secs(1);
/// How long what repeats itself is counted before its number is noted.
const REPEATS: Duration = Duration::from_secs(60);
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
    started_ms: i64,
    store_id: String,
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
    waiters: Vec<Waiter>,
    own_hand: OwnHand,
    queued: Vec<Queued>,
    leaving: Vec<link::Reply>,
    journal: Journal,
    starts: Starts,
    wishes: Wishes,
    orders: Orders,
    /// Handlers that wait for the end of what they sent.
    senders: Vec<hooks::Sender>,
    /// What they may touch.
    reach: Reach,
    /// What their tokens are made with.
    token_key: [u8; 16],
    files: Files,
    commands: Commands,
    repeats: Repeats<Notice>,
    manager: Manager,
    stop: Duration,
    /// A stranger told us to leave, so whoever manages us should start us anew.
    come_back: bool,
    purge_at: Instant,
    upgrade: Upgrade,
    fatal: Option<Error>,
}

/// What a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where things are.
    pub paths: Paths,
    /// What is configured.
    pub config: Config,
    /// Reads it anew.
    pub reader: Reader,
    /// The instance lock, held from before the store was opened until everything is gone.
    pub lock: Lock,
    /// The store, and what was found in it.
    pub store: (Store, Opened),
    /// Its answers.
    pub answers: mpsc::Receiver<Vec<Done>>,
    /// What changes is noted there.
    pub journal: Journal,
    /// Who started us, if it listens.
    pub manager: Manager,
    /// The signals, blocked since before the first thread.
    pub signals: Signals,
    /// The file mode mask that children get.
    pub mask: UsersMask,
    /// The limits that children get.
    pub limits: Limits,
    /// This build.
    pub build: BuildId,
    /// When this process started.
    pub started_ms: i64,
    /// Cancelled when whoever started us lets go.
    pub released: tokio_util::sync::CancellationToken,
    /// What the program left that we were before, if this process was one.
    pub former: Option<State>,
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
        released,
        former,
    } = parts;
    let os = |what| move |source| Error::Os { what, source };
    kin::adopt_orphans().map_err(os("become the parent of orphans"))?;
    let mut child = signal(SignalKind::child()).map_err(os("listen to signals"))?;
    let socket = socket(&paths, former.as_ref())?;
    let (tell, mut inputs) = mpsc::channel(INPUTS);
    let (result, mut reloads) = mpsc::channel(1);
    let (checked, mut checks) = mpsc::channel(1);
    let mut answers = answers;
    let ways = ways(mask, limits, former.as_ref());
    let mut gateway = Gateway::new(
        paths,
        config,
        store,
        (reader, result),
        (journal, manager),
        (ways, Upgrade::new(checked, clock::now())),
        started_ms,
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
                asked if asked.wish == Wish::Leave => gateway.told_to_leave(asked),
                // A terminal that closes must not end a gateway that somebody left running.
                _ => gateway.wish_reload(None),
            },
            () = &mut released, if !let_go => {
                let_go = true;
                gateway.ask_to_leave("whoever started it let go", None);
            }
            Some(read) = reloads.recv() => gateway.reloaded(read),
            Some(found) = checks.recv() => gateway.upgrade_checked(found),
            Some(batch) = answers.recv() => gateway.answered(batch),
            Some(input) = inputs.recv() => gateway.hear(input),
            accepted = socket.accept(), if links.len() < connections && deaf_until <= now => match accepted {
                Ok((stream, peer)) => {
                    links.spawn(link::serve(stream, peer, build, tell.clone()));
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
        let woken = clock::now();
        if woken > due + OVERSLEPT {
            gateway.overslept(woken.duration_since(due));
        }
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
        if gateway.upgrade.is_flushed() {
            gateway.become_another(&socket, &lock);
        }
        if gateway.closing.stage() == Stage::Gone || gateway.fatal.is_some() {
            break;
        }
    }
    gateway.leave(socket, answers, lock).await
}

/// Where tools and workers connect.
fn socket(paths: &Paths, former: Option<&State>) -> Result<Socket, Error> {
    let Some(State { socket: (number, path), .. }) = former else {
        return Socket::listen(&paths.socket());
    };
    let listening = crate::upgrade::take(*number);
    let listening = listening.map_err(|source| Error::Os { what: "keep the socket", source })?;
    Socket::resumed(listening, path)
}

/// What children are given. The control groups of those that go on are no leftovers.
fn ways(mask: UsersMask, limits: Limits, former: Option<&State>) -> Ways {
    let workers = former.into_iter().flat_map(|state| &state.workers);
    let ours: Vec<_> = workers.filter_map(|worker| worker.cgroup.clone()).collect();
    Ways { mask, limits, cgroups: Delegated::find(&ours) }
}

impl Gateway {
    fn new(
        paths: Paths,
        config: Config,
        (store, opened): (Store, Opened),
        (reader, result): (Reader, mpsc::Sender<Result<Config, Error>>),
        (journal, manager): (Journal, Manager),
        (ways, upgrade): (Ways, Upgrade),
        started_ms: i64,
    ) -> Result<Self, Error> {
        let now = clock::now();
        let mut slots = Vec::new();
        for spec in config.instances {
            let seed = u64::from_le_bytes(
                clock::random()
                    .map_err(|source| Error::Os { what: "draw random numbers", source })?,
            );
            slots.push(Slot::new(spec, &opened, seed, now));
        }
        let by_name: HashMap<_, _> =
            slots.iter().enumerate().map(|(i, slot)| (slot.name.clone(), i)).collect();
        slot::connect(&mut slots, &by_name);
        for slot in &mut slots {
            slot.recall(&opened);
        }
        if let Some(damage) = &opened.damage {
            tracing::error!(
                kept_as = %damage.kept_as.display(),
                error = damage.error,
                events = damage.events,
                replies = damage.replies,
                unreadable = damage.unreadable,
                "the store was damaged: it was set aside and what could be read of it was saved"
            );
        }
        let state_dir = paths.state_dir.clone();
        Ok(Self {
            paths,
            config_source: config.source.map(|path| path.display().to_string()),
            log: config.log,
            ways,
            memory: config.memory,
            started_ms,
            store_id: opened.store_id.clone(),
            dirs: (config.state_dir, config.runtime_dir),
            reload: Reload::new(reader, opened, result),
            slots,
            by_name,
            by_pid: HashMap::new(),
            closing: Closing::default(),
            store,
            tickets: Tickets::default(),
            listeners: Vec::new(),
            waiters: Vec::new(),
            own_hand: OwnHand::default(),
            queued: Vec::new(),
            leaving: Vec::new(),
            journal,
            starts: Starts::open(&state_dir),
            wishes: Wishes::default(),
            orders: Orders::default(),
            senders: Vec::new(),
            reach: Reach::default(),
            token_key: clock::random()
                .map_err(|source| Error::Os { what: "draw random numbers", source })?,
            files: config.files,
            commands: config.commands,
            repeats: Repeats::new(REPEATS),
            manager,
            stop: config.stop,
            come_back: false,
            purge_at: now + steward::PURGE_FIRST,
            upgrade,
            fatal: None,
        })
    }

    /// Begins to serve, or goes on with what another program has begun in this process.
    fn start(&mut self, former: Option<State>) -> std::io::Result<()> {
        tracing::info!(
            pid = std::process::id(),
            version = env!("CARGO_PKG_VERSION"),
            state_dir = %self.paths.state_dir.display(),
            instances = self.slots.len(),
            cgroup = self.ways.cgroups.as_ref().map(|own| own.path().display().to_string()),
            "serving"
        );
        let begins = former.is_none();
        let start = if let Some(state) = former {
            self.take_over(state)?
        } else {
            let version = concat!("version ", env!("CARGO_PKG_VERSION"));
            self.announce_supervisor("started", Some(version.into()), None);
            (0..self.slots.len()).collect()
        };
        for index in start {
            self.live(index, lifecycle::Input::Start);
        }
        if begins {
            self.hook_gateway("gateway:startup");
        }
        self.tick();
        self.manager.ready();
        Ok(())
    }

    /// Goes on with links that were paused.
    fn resume_links(&mut self, links: &mut JoinSet<()>, tell: &mpsc::Sender<Input>) {
        for Adopted { index, who, connection, rest } in self.adoptions() {
            match link::resume(connection, &rest, who.clone(), tell.clone()) {
                Ok((handle, serve)) => {
                    links.spawn(serve);
                    self.link_resumed(index, &who, handle);
                }
                Err(e) => tracing::error!(instance = %who.instance, error = %e, "a link is lost"),
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

    /// When something is due.
    fn deadline(&self) -> Instant {
        let slots = self.slots.iter().filter_map(Slot::deadline);
        let waiters = self.waiters.iter().map(|waiter| waiter.until);
        let waiters = waiters.chain(self.queued.iter().map(Queued::deadline));
        let waiters = waiters.chain(self.senders.iter().map(|sender| sender.until));
        let rest = [
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
        slots.chain(waiters).chain(rest).chain([self.purge_at]).min().unwrap_or(self.purge_at)
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
        if self.purge_at <= now {
            self.purge_at = now + steward::PURGE_EVERY;
            self.ask(Pending::Purge);
            exchange::clean(self.paths.exchange(), self.files);
        }
        self.expire_waiters(now);
        self.tick_reload(now);
        self.tick_queued(now);
        self.tick_wishes(now);
        self.tick_orders(now);
        self.tick_senders(now);
        let counted = self.repeats.due(now);
        self.note_repeated(counted);
        let workers = self.slots.iter().filter(|slot| slot.is_alive()).count();
        let idle = self.slots.iter().all(Slot::is_idle) && self.tickets.is_empty();
        if let Some(action) = self.closing.on(idle, workers, now) {
            self.close(action);
        }
        self.report_to_manager(now);
    }

    fn overslept(&mut self, pause: Duration) {
        tracing::warn!(pause_ms = pause.as_millis(), "this process did not run for a while");
        let now = clock::now();
        for slot in &mut self.slots {
            slot.slept(pause, now);
        }
    }

    /// A signal tells the supervisor to leave.
    fn told_to_leave(&mut self, asked: Asked) {
        // A service manager takes a clean end for the wish to stay down. Only it may wish so.
        if self.closing.stage() == Stage::Serving {
            self.come_back = notify::is_systemd() && !asked.is_from_above();
        }
        let command = identity::command(asked.pid);
        let by = Asker { uid: asked.uid, pid: Some(asked.pid), command };
        self.ask_to_leave(asked.name, Some(by));
    }

    /// Somebody asks the supervisor to leave; the second time it is forced.
    fn ask_to_leave(&mut self, why: &str, by: Option<Asker>) {
        let was = self.closing.stage();
        if let Some(action) = self.closing.ask(self.stop_budget(), clock::now()) {
            let now = if was == Stage::Serving { "stopping" } else { "forced" };
            self.announce_supervisor(now, Some(why.into()), by);
            if was == Stage::Serving {
                self.hook_gateway("gateway:shutdown");
            }
            self.close(action);
        }
    }

    /// How long a stop may take: as configured, and within what the service manager grants.
    fn stop_budget(&self) -> Duration {
        let granted = self.manager.stop_limit();
        granted.map_or(self.stop, |limit| self.stop.min(limit.saturating_sub(STOP_MARGIN)))
    }

    /// What the service manager shows of us, and whether we are alive: the loop turns, and the store
    /// answers.
    fn report_to_manager(&mut self, now: Instant) {
        let configured = self.slots.iter().filter(|slot| !slot.removed);
        let well = configured.clone().filter(|slot| slot.is_connected()).count();
        let all = configured.count();
        let mut text = format!("{}: {well} of {all} instances connected", self.state());
        let since = self.tickets.oldest();
        if since.is_some_and(|since| since + STUCK < now) {
            text = "the store does not answer".into();
        } else {
            self.manager.alive(now);
        }
        self.manager.status(&text);
    }

    fn close(&mut self, action: closing::Action) {
        match action {
            closing::Action::Drain => self.manager.stopping(),
            closing::Action::End | closing::Action::Kill => {
                let force = match action {
                    closing::Action::Kill => lifecycle::Force::Yes,
                    _ => lifecycle::Force::No,
                };
                for index in 0..self.slots.len() {
                    self.live(index, lifecycle::Input::Kill(force));
                }
                return;
            }
            closing::Action::Leave => return,
        }
        for index in 0..self.slots.len() {
            self.drain(index);
        }
    }

    /// The last steps: what was handed out is taken back, the store is closed, the lock released.
    async fn leave(
        mut self,
        socket: Socket,
        mut answers: mpsc::Receiver<Vec<Done>>,
        mut lock: Lock,
    ) -> Result<(), Error> {
        for index in 0..self.slots.len() {
            self.take_back(index);
        }
        let fatal = self.fatal.take();
        self.announce_supervisor("left", fatal.as_ref().map(ToString::to_string), None);
        let counted = self.repeats.rest();
        self.note_repeated(counted);
        // Whoever waits for our end waits for the end of the connection, after the lock is free.
        let leaving = std::mem::take(&mut self.leaving);
        let closing = self.store.finish();
        while answers.recv().await.is_some() {}
        let closed = closing.join();
        self.journal.finish();
        drop(socket);
        let error = fatal.as_ref().map(ToString::to_string);
        let left = Left { at_ms: clock::unix_ms(), error };
        // For people: who finds no last word says that it crashed.
        let _ = lock.sign_off(&self.paths.lock(), left);
        drop(lock);
        drop(leaving);
        match fatal {
            Some(e) => Err(e),
            None if self.come_back => closed.map_err(Error::from).and(Err(Error::ToldByStranger)),
            None => Ok(closed?),
        }
    }

    fn desk(&mut self, index: usize) -> Option<&mut Desk> {
        self.slots.get_mut(index).map(|slot| &mut slot.desk)
    }
}

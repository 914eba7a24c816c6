//! What a gateway is made of, and how it begins to serve.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::hello::BuildId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::asking::PURGE_FIRST;
use super::beside::Wishes;
use super::exchanging::Exchanging;
use super::orders::Orders;
use super::pace::Pace;
use super::reload::{Reader, Reload};
use super::slot::{self, Slot};
use super::tickets::Tickets;
use super::upgrade::Upgrade;
use super::{GIVE_BACK_EVERY, Gateway};
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::notify::Manager;
use crate::owed::Owed;
use crate::paths::Paths;
use crate::policy::closing::Closing;
use crate::policy::drafts::Shown;
use crate::policy::lifecycle;
use crate::policy::own_hand::OwnHand;
use crate::policy::reach::Reach;
use crate::policy::recent::Recent;
use crate::policy::repeats::Repeats;
use crate::policy::wall::Wall;
use crate::process::cgroup::Delegated;
use crate::process::limits::Limits;
use crate::process::signals::Signals;
use crate::process::spawn::{UsersMask, Ways};
use crate::starts::Starts;
use crate::store::{Done, Opened, Store};
use crate::upgrade::State;

/// How long what repeats itself is counted before its number is noted.
const REPEATS: Duration = Duration::from_secs(60);

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
    /// When this process started, in Unix milliseconds as it was noted then.
    pub started_ms: i64,
    /// The same by the clock that nobody sets.
    pub started: Instant,
    /// Cancelled when whoever started us lets go.
    pub released: CancellationToken,
    /// What the program left that we were before, if this process was one.
    pub former: Option<State>,
}

impl Gateway {
    /// Everything as it is before the first child.
    pub(super) fn new(
        paths: Paths,
        config: Config,
        (store, opened): (Store, Opened),
        (reader, result): (Reader, mpsc::Sender<Result<Config, Error>>),
        (journal, manager): (Journal, Manager),
        (ways, upgrade): (Ways, Upgrade),
        (started_ms, started): (i64, Instant),
    ) -> Result<Self, Error> {
        let now = clock::now();
        let exchanging = Exchanging::new(&paths.exchange());
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
                parked = damage.parked,
                keys = damage.keys,
                replies = damage.replies,
                unreadable = damage.unreadable,
                "the store was damaged: it was set aside and what could be read of it was saved"
            );
        }
        if opened.log_is_missing {
            tracing::error!(
                "store.db-wal was missing: unless the gateway had ended by itself before, what was accepted last is lost"
            );
        }
        let mut shown = Shown::default();
        for (key, message_id) in &opened.drafts {
            shown.made(key, message_id);
        }
        let state_dir = paths.state_dir.clone();
        Ok(Self {
            paths,
            config_source: config.source.map(|path| path.display().to_string()),
            log: config.log,
            ways,
            memory: config.memory,
            started,
            dirs: (config.state_dir, config.runtime_dir),
            former_events: opened.last_event,
            reload: Reload::new(reader, opened, result),
            slots,
            by_name,
            by_pid: HashMap::new(),
            closing: Closing::default(),
            store,
            tickets: Tickets::default(),
            listeners: Vec::new(),
            recent: Recent::new(started_ms),
            counts: Default::default(),
            pace: Pace::default(),
            waiters: Vec::new(),
            own_hand: OwnHand::default(),
            queued: Vec::new(),
            owed: Owed::open(&state_dir),
            leaving: Vec::new(),
            journal,
            starts: Starts::open(&state_dir),
            wishes: Wishes::default(),
            shown,
            orders: Orders::default(),
            senders: Vec::new(),
            reach: Reach::default(),
            token_key: clock::random()
                .map_err(|source| Error::Os { what: "draw random numbers", source })?,
            files: config.files,
            commands: config.commands.into(),
            repeats: Repeats::new(REPEATS),
            manager,
            stop: config.stop,
            come_back: false,
            interrupted: false,
            purge_at: now + PURGE_FIRST,
            give_back_at: now + GIVE_BACK_EVERY,
            wall: Wall::new(started_ms, clock::unix_ms(), clock::boot_ms()),
            awake: now,
            files_at: now,
            exchanging,
            upgrade,
            crowded: false,
            fatal: None,
        })
    }

    /// Begins to serve, or goes on with what another program has begun in this process.
    pub(super) fn start(&mut self, former: Option<State>) -> std::io::Result<()> {
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
        for index in 0..self.slots.len() {
            self.pace(index);
            self.say_who_hears(index);
        }
        for index in start {
            self.live(index, lifecycle::Input::Start);
        }
        self.report_leftovers(begins);
        if begins {
            self.hook_gateway("gateway:startup");
        }
        self.tick();
        self.manager.ready();
        Ok(())
    }
}

/// What children are given. The control groups of those that go on are no leftovers.
pub(super) fn ways(mask: UsersMask, limits: Limits, former: Option<&State>) -> Ways {
    let workers = former.into_iter().flat_map(|state| &state.workers);
    let ours: Vec<_> = workers.filter_map(|worker| worker.cgroup.clone()).collect();
    Ways { mask, limits, cgroups: Delegated::find(&ours) }
}

//! What is known of one instance: its life, its process, its link, its desk.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::control::ExitStatus;
use protocol::id::{Generation, Instance, Nonce};
use protocol::worker::{Cursor, Heartbeat, Network, Outside};

use super::desk::Desk;
use crate::clock;
use crate::config::{Kind, Spec};
use crate::credential::Credential;
use crate::exit::{self, Ended};
use crate::link::Handle;
use crate::policy::lifecycle::{self, Lifecycle, Phase, Verdict, Wait};
use crate::policy::liveness::{Liveness, Progress};
use crate::policy::pairing::{Code, Pairing};
use crate::process::kin::Remains;
use crate::process::reap::Dead;
use crate::process::spawn::Child;
use crate::store::Opened;

/// Exits that `ctl status` shows.
const EXITS: usize = 5;

/// One instance.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Instance,
    pub(super) kind: Kind,
    pub(super) spec: Spec,
    /// It is not configured any more. Its place is kept, since others are known by theirs.
    pub(super) removed: bool,
    pub(super) life: Lifecycle,
    pub(super) desk: Desk,
    pub(super) child: Option<Running>,
    /// A child that is gone and not yet judged.
    pub(super) departed: Option<Departed>,
    /// What a child that has ended left behind.
    pub(super) fallen: Option<Fallen>,
    /// What does not end although it was killed.
    pub(super) stuck: Option<String>,
    /// Why the system makes no process for it.
    pub(super) unmade: Option<String>,
    /// The account is ours while the instance is wanted.
    pub(super) credential: Option<Credential>,
    /// Somebody else uses the account: when to look again.
    pub(super) contested: Option<Instant>,
    /// A worker of a supervisor before us still has it: how long that may last.
    pub(super) follows: Option<Instant>,
    pub(super) link: Option<Link>,
    pub(super) liveness: Option<Liveness>,
    pub(super) progress: Option<Progress>,
    pub(super) cursor: Option<Cursor>,
    pub(super) account: Option<String>,
    pub(super) outside: Option<Outside>,
    pub(super) heartbeat: Option<(Heartbeat, i64)>,
    pub(super) last_words: Option<String>,
    /// The exit code of what holds it, while it is held.
    pub(super) fault: exit::Code,
    pub(super) confined: Option<String>,
    pub(super) memory: Option<u64>,
    /// Why we replace it, if that is no crash.
    pub(super) replaced: Option<String>,
    pub(super) exits: VecDeque<ExitStatus>,
    pub(super) starts: u64,
    /// Whether handlers of hooks were told last that its connection works.
    pub(super) told_up: bool,
    /// What was last announced, so that a change is told once.
    pub(super) announced: Option<(&'static str, Generation, Option<Wait>)>,
}

/// A child and what it must show to be let in.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) generation: Generation,
    pub(super) nonce: Option<Nonce>,
    pub(super) killed: bool,
}

/// A child that is gone. Its last words may still be on the way.
#[derive(Debug)]
pub(super) struct Departed {
    pub(super) dead: Dead,
    pub(super) generation: Generation,
    pub(super) remains: Remains,
    /// The words are waited for until then.
    pub(super) until: Instant,
}

/// A child that has ended before everything that it started.
#[derive(Debug)]
pub(super) struct Fallen {
    pub(super) generation: Generation,
    pub(super) verdict: Verdict,
    pub(super) remains: Remains,
    /// When to look again; then after twice that time.
    pub(super) look_at: Instant,
    pub(super) after: Duration,
}

/// A worker's link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) generation: Generation,
    pub(super) handle: Handle,
    /// Events (or replies) that came over it and have no verdict yet.
    pub(super) unanswered: u32,
}

impl Slot {
    pub(super) fn new(spec: Spec, opened: &Opened, seed: u64, now: Instant) -> Self {
        let own = opened.exits.iter().filter(|exit| exit.instance == spec.name);
        let last = own.clone().map(|exit| exit.generation.0).max().unwrap_or(0);
        let exits = own.rev().take(EXITS).map(|exit| ExitStatus {
            generation: exit.generation.0,
            at_ms: exit.at_ms,
            cause: exit.cause.clone(),
        });
        let cursor = opened.cursors.iter().find(|(name, _)| *name == spec.name);
        let settings = lifecycle::Settings::default();
        Self {
            kind: spec.kind,
            removed: false,
            life: Lifecycle::new(settings, Generation(last), seed, now),
            desk: Desk::new(&spec),
            child: None,
            departed: None,
            fallen: None,
            stuck: None,
            unmade: None,
            credential: None,
            contested: None,
            follows: None,
            link: None,
            liveness: None,
            progress: None,
            cursor: cursor.map(|(_, cursor)| cursor.clone()),
            account: None,
            outside: None,
            heartbeat: None,
            last_words: None,
            fault: exit::Code::Config,
            confined: None,
            memory: None,
            replaced: None,
            exits: exits.collect(),
            starts: 0,
            told_up: false,
            announced: None,
            name: spec.name.clone(),
            spec,
        }
    }

    /// Takes over who was let in or told a code before.
    pub(super) fn recall(&mut self, opened: &Opened) {
        let Desk::Platform(desk) = &mut self.desk else { return };
        let own = opened.pairs.iter().filter(|pair| pair.instance == self.name);
        desk.pairing = Pairing::new(own.map(|pair| {
            let (code, chat_id, until_ms) =
                (pair.code.clone(), pair.chat_id.clone(), pair.until_ms);
            (pair.user.clone(), Code { code, chat_id, until_ms })
        }));
        for grant in opened.grants.iter().filter(|grant| grant.instance == self.name) {
            desk.remember(grant);
        }
    }

    /// What it is from now on. It is down and idle. About what was no platform so far nothing was decided since the start.
    pub(super) fn become_another(&mut self, spec: Spec, opened: &Opened) {
        let mut desk = Desk::new(&spec);
        let was_platform = matches!(self.desk, Desk::Platform(_));
        match (&mut desk, &mut self.desk) {
            (Desk::Platform(new), Desk::Platform(old)) => {
                new.last_inbound_ms = old.last_inbound_ms;
                (new.accepted, new.duplicates) = (old.accepted, old.duplicates);
                (new.denied, new.unaddressed) = (old.denied, old.unaddressed);
                (new.refused, new.refusing) = (old.refused, old.refusing);
                (new.grants, new.pairing) = (old.grants.clone(), old.pairing.clone());
                (new.sent, new.failed, new.unknown) = (old.sent, old.failed, old.unknown);
            }
            (Desk::Agent(new), Desk::Agent(old)) => {
                (new.acknowledged, new.refused) = (old.acknowledged, old.refused);
            }
            (Desk::Hooks(new), Desk::Hooks(old)) => {
                new.backlog.take_over(&mut old.backlog);
                (new.told, new.failed, new.announced) = (old.told, old.failed, old.announced);
                new.last_failure = old.last_failure.take();
            }
            _ => {}
        }
        self.desk = desk;
        self.kind = spec.kind;
        self.account = None;
        self.removed = false;
        self.spec = spec;
        if !was_platform {
            self.recall(opened);
        }
    }

    /// The account that it logs in with, if it does.
    pub(super) fn account_wanted(&self) -> Option<String> {
        match &self.desk {
            Desk::Platform(desk) => desk.settings.account(),
            Desk::Agent(_) | Desk::Hooks(_) | Desk::Broken(_) => None,
        }
    }

    /// What its next start waits for, if it waits.
    pub(super) fn waits(&self) -> Option<Wait> {
        match self.life.phase() {
            Phase::Backoff { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// Nothing of it is between two durable states.
    pub(super) fn is_settled(&self) -> bool {
        match &self.desk {
            Desk::Platform(desk) => desk.outbox.in_flight() == 0,
            Desk::Agent(desk) => desk.delivery.is_idle(),
            Desk::Hooks(_) | Desk::Broken(_) => true,
        }
    }

    /// Whether there is a process, or one that is not yet judged.
    pub(super) fn is_alive(&self) -> bool {
        self.child.is_some() || self.departed.is_some() || self.fallen.is_some()
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let desk = match &self.desk {
            Desk::Platform(desk) => desk.outbox.deadline(),
            Desk::Agent(desk) => {
                desk.delivery.deadline().into_iter().chain(desk.absence.deadline()).min()
            }
            Desk::Hooks(_) | Desk::Broken(_) => None,
        };
        let liveness = self.liveness.as_ref().map(Liveness::deadline);
        let departed = self.departed.as_ref().map(|departed| departed.until);
        let fallen = self.fallen.as_ref().map(|fallen| fallen.look_at);
        let own = [self.life.deadline(), liveness, departed, fallen, self.contested, desk];
        own.into_iter().flatten().min()
    }

    /// Nothing is between two durable states, and nothing that could leave waits.
    pub(super) fn is_idle(&self) -> bool {
        match &self.desk {
            Desk::Platform(desk) => self.link.is_none() || desk.outbox.in_flight() == 0,
            Desk::Agent(desk) => desk.delivery.is_idle(),
            Desk::Hooks(desk) => self.link.is_none() || desk.backlog.is_idle(),
            Desk::Broken(_) => true,
        }
    }

    /// The supervisor itself did not run.
    pub(super) fn slept(&mut self, pause: Duration, now: Instant) {
        self.life.on(lifecycle::Input::Slept(pause), now);
        if let Some(liveness) = &mut self.liveness {
            liveness.discount(pause);
        }
    }

    /// The link of the newest generation, if it is up.
    pub(super) fn current_link(&mut self) -> Option<&mut Link> {
        let newest = self.life.generation();
        self.link.as_mut().filter(|link| link.generation == newest)
    }

    /// Remembers how a child ended.
    pub(super) fn bury(&mut self, generation: Generation, cause: String, at_ms: i64) {
        self.exits.push_front(ExitStatus { generation: generation.0, at_ms, cause });
        self.exits.truncate(EXITS);
    }

    /// How a child ended, with its last words.
    pub(super) fn cause(&self, ended: Ended) -> String {
        match self.replaced.as_ref().or(self.last_words.as_ref()) {
            Some(words) => format!("{ended}: {words}"),
            None => ended.to_string(),
        }
    }

    /// Whether it works as its receiving side proves.
    pub(super) fn is_connected(&self) -> bool {
        let up = matches!(self.outside, Some(Outside::Up | Outside::Limited { .. }));
        matches!(self.life.phase(), Phase::Ready { .. }) && up
    }

    /// How its outside is reached.
    pub(super) fn network(&self) -> Network {
        match &self.desk {
            Desk::Platform(desk) => desk.network.clone(),
            Desk::Agent(desk) => desk.network.clone(),
            Desk::Hooks(_) | Desk::Broken(_) => Network::default(),
        }
    }

    /// An instant as Unix milliseconds.
    pub(super) fn unix_ms(instant: Instant) -> i64 {
        let now = clock::now();
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(now) {
            Some(ahead) => clock::unix_ms().saturating_add(ms(ahead)),
            None => clock::unix_ms().saturating_sub(ms(now.duration_since(instant))),
        }
    }
}

/// Tells every platform its agent's slot and every agent its platforms.
pub(super) fn connect(slots: &mut [Slot], by_name: &HashMap<Instance, usize>) {
    for slot in slots.iter_mut() {
        if let Desk::Agent(desk) = &mut slot.desk {
            desk.hears.clear();
        }
    }
    let mut heard: Vec<(usize, Instance)> = Vec::new();
    for slot in slots.iter_mut().filter(|slot| !slot.removed) {
        let Desk::Platform(desk) = &mut slot.desk else { continue };
        let find = |name: &Instance| by_name.get(name).copied();
        desk.agent = desk.agent_name.as_ref().and_then(find);
        desk.routed = desk.manners.routes.iter().map(|route| find(&route.agent)).collect();
        let agents: BTreeSet<_> = desk.routed.iter().flatten().chain(&desk.agent).collect();
        heard.extend(agents.into_iter().map(|agent| (*agent, slot.name.clone())));
    }
    for (agent, platform) in heard {
        if let Some(Desk::Agent(desk)) = slots.get_mut(agent).map(|slot| &mut slot.desk) {
            desk.hears.push(platform);
        }
    }
}

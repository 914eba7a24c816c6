//! What is known of one instance: its life, its process, its link, its desk.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use protocol::content::Busy;
use protocol::control::{BusyCounts, ExitStatus};
use protocol::event::{Abilities, Inbound};
use protocol::hook::HookEvent;
use protocol::id::{EventId, Generation, Instance, Lane, Nonce};
use protocol::worker::{Cursor, Heartbeat, HooksSettings, Network, Outside};

use crate::clock;
use crate::config::{AgentSettings, Body, Inbox, Kind, Manners, PlatformSettings, Spec, Trouble};
use crate::credential::Credential;
use crate::exit::Ended;
use crate::link::Handle;
use crate::policy::absence::Absence;
use crate::policy::access::{Access, Denial, Grants};
use crate::policy::delivery::Delivery;
use crate::policy::drafts::{Drafts, Unfinished};
use crate::policy::hooks::Backlog;
use crate::policy::lifecycle::{self, Lifecycle, Phase, Verdict, Wait};
use crate::policy::liveness::{Liveness, Progress};
use crate::policy::loops::Loops;
use crate::policy::outbox::{self, Outbox};
use crate::policy::pairing::{Code, Pairing};
use crate::policy::steering::Steering;
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

/// What an instance does for the others.
#[derive(Debug)]
pub(super) enum Desk {
    /// Brings events, carries replies.
    Platform(Box<PlatformDesk>),
    /// Takes events, replies.
    Agent(Box<AgentDesk>),
    /// Tells handlers.
    Hooks(Box<HooksDesk>),
    /// Cannot be had.
    Broken(Trouble),
}

/// Why events are refused for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusing {
    /// As many wait as may wait.
    Full,
    /// They cannot be stored.
    Unstored,
}

/// A platform's side.
#[derive(Debug)]
pub(super) struct PlatformDesk {
    pub(super) settings: PlatformSettings,
    pub(super) network: Network,
    pub(super) access: Access,
    pub(super) grants: Grants,
    pub(super) pairing: Pairing,
    pub(super) loops: Loops,
    pub(super) inbox: Inbox,
    pub(super) agent_name: Option<Instance>,
    /// The slot of its agent.
    pub(super) agent: Option<usize>,
    pub(super) manners: Manners,
    /// Where each of its routes leads.
    pub(super) routed: Vec<Option<usize>>,
    pub(super) outbox: Outbox,
    pub(super) drafts: Drafts,
    pub(super) last_inbound_ms: Option<i64>,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) denied: u64,
    pub(super) refused: u64,
    /// Why the latest one was refused, until one is accepted.
    pub(super) refusing: Option<Refusing>,
    pub(super) strangers: VecDeque<(String, Denial)>,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
}

/// An agent's side.
#[derive(Debug)]
pub(super) struct AgentDesk {
    pub(super) settings: AgentSettings,
    pub(super) network: Network,
    pub(super) delivery: Delivery,
    /// The platforms whose events it hears.
    pub(super) hears: Vec<Instance>,
    /// The events that it works on.
    pub(super) at_work: HashMap<u64, Turn>,
    /// What goes with events that were handed out.
    pub(super) joined: HashMap<u64, Vec<EventId>>,
    /// Events behind which others waited in their lane when they were handed out.
    pub(super) followed: HashSet<u64>,
    /// What it has shown of answers that are not there yet.
    pub(super) unfinished: Unfinished,
    /// Events that it was told of while it worked on the ones before them.
    pub(super) steered: HashSet<u64>,
    pub(super) abilities: Abilities,
    pub(super) absence: Absence,
    pub(super) acknowledged: u64,
    /// What came while it worked: what was done.
    pub(super) busy: BusyCounts,
    pub(super) was_open: bool,
}

/// An event that an agent works on.
#[derive(Debug)]
pub(super) struct Turn {
    /// The slot of the platform that heard it, and what that shows meanwhile.
    pub(super) busy: Option<(usize, Busy)>,
    pub(super) lane: Lane,
    /// Of the conversation.
    pub(super) epoch: u64,
    pub(super) since: Instant,
    /// The agent was told to end it.
    pub(super) interrupted: bool,
    /// The agent asks the chat something: what is said there may be the answer.
    pub(super) asking: bool,
    /// The chat was told that it waits for this.
    pub(super) told_busy: bool,
    /// What is said meanwhile and goes into it.
    pub(super) steering: Steering,
    /// What handlers were told when it began, if there are any.
    pub(super) told: Option<HookEvent>,
    /// What the agent has replied in this conversation since, by the keys of the replies.
    pub(super) replies: Vec<(String, String)>,
    /// The event itself, without what it says: what a command from within leads to is told in its place.
    pub(super) event: Option<Box<Inbound>>,
}

/// The side of the handlers of hooks.
#[derive(Debug)]
pub(super) struct HooksDesk {
    pub(super) settings: HooksSettings,
    pub(super) backlog: Backlog,
    pub(super) told: u64,
    pub(super) failed: u64,
    pub(super) last_failure: Option<String>,
    /// How many failures were announced.
    pub(super) announced: u64,
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

    /// What it is from now on. It is down and idle.
    pub(super) fn become_another(&mut self, spec: Spec) {
        let mut desk = Desk::new(&spec);
        match (&mut desk, &self.desk) {
            (Desk::Platform(new), Desk::Platform(old)) => {
                new.last_inbound_ms = old.last_inbound_ms;
                (new.accepted, new.duplicates, new.denied) =
                    (old.accepted, old.duplicates, old.denied);
                (new.refused, new.refusing) = (old.refused, old.refusing);
                (new.grants, new.pairing) = (old.grants.clone(), old.pairing.clone());
                (new.sent, new.failed, new.unknown) = (old.sent, old.failed, old.unknown);
            }
            (Desk::Agent(new), Desk::Agent(old)) => new.acknowledged = old.acknowledged,
            _ => {}
        }
        self.desk = desk;
        self.kind = spec.kind;
        self.account = None;
        self.removed = false;
        self.spec = spec;
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

impl Desk {
    fn new(spec: &Spec) -> Self {
        match &spec.body {
            Ok(Body::Platform { settings, access, inbox, agent, manners, network }) => {
                Self::Platform(Box::new(PlatformDesk {
                    settings: settings.clone(),
                    network: network.as_ref().clone(),
                    access: access.clone(),
                    grants: Grants::default(),
                    pairing: Pairing::default(),
                    loops: Loops::default(),
                    inbox: inbox.clone(),
                    agent_name: agent.clone(),
                    agent: None,
                    manners: manners.clone(),
                    routed: Vec::new(),
                    outbox: Outbox::new(outbox::Settings::default()),
                    drafts: Drafts::default(),
                    last_inbound_ms: None,
                    accepted: 0,
                    duplicates: 0,
                    denied: 0,
                    refused: 0,
                    refusing: None,
                    strangers: VecDeque::new(),
                    sent: 0,
                    failed: 0,
                    unknown: 0,
                }))
            }
            Ok(Body::Agent { settings, delivery, away, network }) => {
                Self::Agent(Box::new(AgentDesk {
                    settings: settings.clone(),
                    network: network.as_ref().clone(),
                    delivery: Delivery::new(*delivery),
                    hears: Vec::new(),
                    at_work: HashMap::new(),
                    joined: HashMap::new(),
                    followed: HashSet::new(),
                    unfinished: Unfinished::default(),
                    steered: HashSet::new(),
                    abilities: Abilities::default(),
                    absence: Absence::new(away.clone()),
                    busy: BusyCounts::default(),
                    acknowledged: 0,
                    was_open: false,
                }))
            }
            Ok(Body::Hooks(hooks)) => Self::Hooks(Box::new(HooksDesk {
                settings: hooks.settings.clone(),
                backlog: Backlog::new(usize::try_from(hooks.backlog).unwrap_or(usize::MAX)),
                told: 0,
                failed: 0,
                last_failure: None,
                announced: 0,
            })),
            Err(trouble) => Self::Broken(trouble.clone()),
        }
    }
}

impl PlatformDesk {
    /// The slot of the agent that hears a conversation; `user` is at the other end of it, if it is a
    /// direct chat.
    pub(super) fn agent_of(&self, lane: &Lane, user: Option<&str>) -> Option<usize> {
        let routes = self.manners.routes.iter().zip(&self.routed);
        let mut fitting = routes.filter(|(route, _)| route.fits(lane, user));
        fitting.next().map_or(self.agent, |(_, agent)| *agent)
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

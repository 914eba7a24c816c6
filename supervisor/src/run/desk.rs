//! The desk of an instance: what it does for the others, and what is known of that.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use protocol::content::Busy;
use protocol::control::BusyCounts;
use protocol::event::{Abilities, Inbound};
use protocol::hook::HookEvent;
use protocol::id::{EventId, Instance, Lane};
use protocol::worker::{HooksSettings, Network};

use crate::config::{AgentSettings, Body, Inbox, Manners, PlatformSettings, Spec, Trouble};
use crate::policy::absence::Absence;
use crate::policy::access::{Access, Grants};
use crate::policy::delivery::Delivery;
use crate::policy::drafts::{Drafts, Unfinished};
use crate::policy::hooks::Backlog;
use crate::policy::loops::Loops;
use crate::policy::outbox::{self, Outbox};
use crate::policy::pairing::Pairing;
use crate::policy::signs::Signs;
use crate::policy::steering::Steering;
use crate::policy::told::Told;

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
    /// The accounts that heard for it before, and up to which event.
    pub(super) heard: Vec<(String, EventId)>,
    pub(super) drafts: Drafts,
    pub(super) signs: Signs,
    pub(super) last_inbound_ms: Option<i64>,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) denied: u64,
    pub(super) unaddressed: u64,
    pub(super) refused: u64,
    /// Why the latest one was refused, until one is accepted.
    pub(super) refusing: Option<Refusing>,
    /// Who was turned away, and who only spoke to others.
    pub(super) strangers: Told,
    pub(super) bystanders: Told,
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
    /// Events behind which others waited in their lane when they were handed out.
    pub(super) followed: HashSet<u64>,
    /// What it has shown of answers that are not there yet.
    pub(super) unfinished: Unfinished,
    pub(super) abilities: Abilities,
    pub(super) absence: Absence,
    pub(super) acknowledged: u64,
    /// Replies that could not be stored.
    pub(super) refused: u64,
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

impl Desk {
    pub(super) fn new(spec: &Spec) -> Self {
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
                    heard: Vec::new(),
                    drafts: Drafts::default(),
                    signs: Signs::default(),
                    last_inbound_ms: None,
                    accepted: 0,
                    duplicates: 0,
                    denied: 0,
                    unaddressed: 0,
                    refused: 0,
                    refusing: None,
                    strangers: Told::default(),
                    bystanders: Told::default(),
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
                    followed: HashSet::new(),
                    unfinished: Unfinished::default(),
                    abilities: Abilities::default(),
                    absence: Absence::new(away.clone()),
                    busy: BusyCounts::default(),
                    acknowledged: 0,
                    refused: 0,
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

//! The block of an agent: what kind it is, what its adapter needs and how it is delivered to.

use std::path::PathBuf;
use std::time::Duration;

use protocol::id::Instance;
use protocol::worker::Secret;

use super::Surroundings;
use super::block::{Block, Place};
use super::instance::{Body, Kind, Spec, Trouble, finish, kind};
use crate::policy::delivery;

/// The agent endpoints there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentKind {
    /// Says what it hears.
    Echo,
    /// A program that connects to a local socket.
    Socket,
    /// A program that we start.
    Exec,
}

/// The words for them.
const KINDS: [(&str, AgentKind); 3] =
    [("echo", AgentKind::Echo), ("socket", AgentKind::Socket), ("exec", AgentKind::Exec)];

impl AgentKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("unknown", |(word, _)| word)
    }
}

/// What an agent's adapter needs.
#[derive(Debug)]
pub enum AgentSettings {
    /// Nothing.
    Echo,
    /// A socket.
    Socket {
        /// Where; `None`: in the runtime directory.
        listen: Option<PathBuf>,
        /// Events that the agent may hold at once.
        concurrency: u32,
    },
    /// A program.
    Exec {
        /// It and its arguments.
        command: Vec<String>,
        /// Where it runs.
        dir: PathBuf,
        /// What its environment has beyond a worker's own.
        variables: Vec<(String, Secret)>,
        /// Events that it may hold at once.
        concurrency: u32,
    },
}

/// Reads an agent's block.
pub(super) fn agent(
    name: Instance,
    mut block: Block,
    place: &Place,
    secrets: &dyn Surroundings,
) -> Spec {
    let kind = kind(&name, &mut block, &KINDS);
    let mut missing = None;
    let settings = kind.and_then(|kind| match kind {
        AgentKind::Echo => Some(AgentSettings::Echo),
        AgentKind::Socket => {
            let listen = block.path("listen", place);
            Some(AgentSettings::Socket { listen, concurrency: concurrency(&mut block) })
        }
        AgentKind::Exec => exec(&mut block, place, secrets, &mut missing),
    });
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    let mut rules = delivery::Settings::default();
    if kind.is_some() {
        rules.lease = block.number("lease_s", 1..=86_400).map_or(rules.lease, seconds);
        rules.max_attempts = block.number("max_attempts", 1..=100).unwrap_or(rules.max_attempts);
    }
    let trouble = finish(block, kind.is_none(), missing);
    let body = match (trouble, settings) {
        (None, Some(settings)) => Ok(Body::Agent { settings, delivery: rules }),
        (trouble, _) => Err(trouble.unwrap_or_else(|| Trouble::wrong("incomplete".into()))),
    };
    Spec { name, kind: Kind::Agent(kind), body }
}

fn concurrency(block: &mut Block) -> u32 {
    block.number("concurrency", 1..=1024).unwrap_or(16)
}

fn exec(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<String>,
) -> Option<AgentSettings> {
    let command = block.strings("command").unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        block.problem("command must be set: the program and its arguments, a list of texts");
    }
    let dir = block.path("dir", place).unwrap_or_else(|| place.dir.clone());
    let mut variables = Vec::new();
    for name in block.strings("variables").unwrap_or_default() {
        match secrets.variable(&name) {
            Ok(value) => variables.push((name, value)),
            Err(reason) => *missing = Some(reason),
        }
    }
    let concurrency = concurrency(block);
    Some(AgentSettings::Exec { command, dir, variables, concurrency })
}

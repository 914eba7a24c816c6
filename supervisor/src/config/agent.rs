//! The block of an agent: what kind it is, what its adapter needs and how it is delivered to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use protocol::id::Instance;
use protocol::worker::{
    AcpSettings, Broken, Memory, Network, OpenAiSettings, Permission, Secret, WebhookSettings,
};

use super::Surroundings;
use super::block::{Block, Place};
use super::instance::{Body, Kind, Spec, Trouble};
use super::keys::{Missing, Program, finish, kind, optional_secret, program, required, secret};
use super::manners;
use crate::paths::SOCKET_PATH_MAX;
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
    /// A Hermes Agent that dials in.
    Relay,
    /// A server of chat completions.
    OpenAi,
    /// A URL.
    Webhook,
    /// A program that we start and that speaks the Agent Client Protocol.
    Acp,
}

/// The words for them.
const KINDS: [(&str, AgentKind); 7] = [
    ("echo", AgentKind::Echo),
    ("socket", AgentKind::Socket),
    ("exec", AgentKind::Exec),
    ("relay", AgentKind::Relay),
    ("openai", AgentKind::OpenAi),
    ("webhook", AgentKind::Webhook),
    ("acp", AgentKind::Acp),
];

impl AgentKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("unknown", |(word, _)| word)
    }
}

/// What an agent's adapter needs.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// A Hermes Agent.
    Relay {
        /// Where it dials.
        listen: SocketAddr,
        /// What it calls itself.
        id: String,
        /// What proves it.
        secret: Secret,
        /// Its own directory.
        home: Option<PathBuf>,
        /// Events that it may hold at once.
        concurrency: u32,
        /// The longest turn.
        turn_limit_s: u32,
    },
    /// A server.
    OpenAi(OpenAiSettings),
    /// A URL.
    Webhook(WebhookSettings),
    /// A program that speaks the Agent Client Protocol.
    Acp(AcpSettings),
}

impl AgentSettings {
    /// Whether the agent sees what is offered to its work, also if it does not take it in. The protocol of `acp` knows
    /// only answers to what the agent asks: all else waits with us.
    pub(crate) fn sees_all(&self) -> bool {
        !matches!(self, Self::Acp(_))
    }
}

/// Reads an agent's block.
pub(super) fn agent(
    name: Instance,
    mut block: Block,
    place: &Place,
    secrets: &dyn Surroundings,
    network: &Network,
) -> Spec {
    let kind = kind(&name, &mut block, &KINDS);
    let mut missing = None;
    let settings = kind.and_then(|kind| match kind {
        AgentKind::Echo => Some(AgentSettings::Echo),
        AgentKind::Socket => {
            let listen = block.path("listen", place);
            if listen.as_ref().is_some_and(|path| path.as_os_str().len() >= SOCKET_PATH_MAX) {
                block.problem(&format!(
                    "listen is too long for a socket: at most {} bytes",
                    SOCKET_PATH_MAX - 1
                ));
            }
            Some(AgentSettings::Socket { listen, concurrency: concurrency(&mut block) })
        }
        AgentKind::Exec => Some(exec(&mut block, place, secrets, &mut missing)),
        AgentKind::OpenAi => openai(&mut block, place, secrets, &mut missing),
        AgentKind::Webhook => webhook(&mut block, place, secrets, &mut missing),
        AgentKind::Acp => Some(acp(&mut block, place, secrets, &mut missing)),
        AgentKind::Relay => relay(&name, &mut block, place, secrets, &mut missing),
    });
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    let mut rules = delivery::Settings::default();
    if kind == Some(AgentKind::Webhook) {
        // As many as its schedule has.
        rules.max_attempts = 10;
    }
    if kind.is_some() {
        rules.lease = block.number("lease_s", 1..=86_400).map_or(rules.lease, seconds);
        rules.max_attempts = block.number("max_attempts", 1..=100).unwrap_or(rules.max_attempts);
    }
    let away = manners::away(&mut block);
    let trouble = finish(block, kind.is_none(), missing);
    let body = match (trouble, settings) {
        (None, Some(settings)) => {
            let network = Box::new(reached(&settings, network));
            Ok(Body::Agent { settings, delivery: rules, away, network })
        }
        (trouble, _) => Err(trouble.unwrap_or_else(|| Trouble::wrong("incomplete".into()))),
    };
    Spec { name, kind: Kind::Agent(kind), body }
}

/// How it is reached: never through a proxy, since most agents are on this machine, and only those that need
/// certificates depend on which are trusted.
fn reached(settings: &AgentSettings, network: &Network) -> Network {
    let url = match settings {
        AgentSettings::OpenAi(settings) => &settings.base_url,
        AgentSettings::Webhook(settings) => &settings.url,
        AgentSettings::Echo
        | AgentSettings::Socket { .. }
        | AgentSettings::Exec { .. }
        | AgentSettings::Relay { .. }
        | AgentSettings::Acp(_) => return Network::default(),
    };
    let ca = if url.starts_with("https:") { network.ca.clone() } else { String::new() };
    Network { proxy: None, ca }
}

fn concurrency(block: &mut Block) -> u32 {
    block.number("concurrency", 1..=1024).unwrap_or(16)
}

fn exec(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> AgentSettings {
    let Program { command, dir, variables } = program(block, place, secrets, missing);
    let concurrency = concurrency(block);
    AgentSettings::Exec { command, dir, variables, concurrency }
}

fn acp(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> AgentSettings {
    let Program { command, dir, variables } = program(block, place, secrets, missing);
    let permission =
        [("ask", Permission::Ask), ("allow", Permission::Allow), ("reject", Permission::Reject)];
    AgentSettings::Acp(AcpSettings {
        command,
        dir: std::path::absolute(&dir).unwrap_or(dir),
        variables,
        processes: block.number("processes", 1..=64).unwrap_or(1),
        turns: block.number("turns", 1..=64).unwrap_or(4),
        permission: block.choice("permission", &permission).unwrap_or(Permission::Ask),
        permission_s: block.number("permission_s", 1..=3600).unwrap_or(50),
        silent_s: block.number("silent_s", 1..=86_400).unwrap_or(120),
        turn_limit_s: block.number("turn_limit_s", 1..=86_400).unwrap_or(1800),
        own_commands: block.boolean("own_commands").unwrap_or(false),
    })
}

fn relay(
    name: &Instance,
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Option<AgentSettings> {
    let listen = listen(block, "127.0.0.1:8765");
    let id = block.string("id").unwrap_or_else(|| name.to_string());
    let secret = match secret(block, place, secrets, "secret_file", "secret_env") {
        Ok(secret) => secret,
        Err(reason) => {
            *missing = Some(reason);
            None
        }
    };
    let home = block.path("home", place);
    let concurrency = block.number("concurrency", 1..=64).unwrap_or(8);
    let turn_limit_s = block.number("turn_limit_s", 1..=86_400).unwrap_or(1800);
    let (listen, secret) = (listen?, secret?);
    Some(AgentSettings::Relay { listen, id, secret, home, concurrency, turn_limit_s })
}

fn openai(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Option<AgentSettings> {
    let base_url = required(block, "base_url");
    web_address(block, "base_url", base_url.as_deref());
    let key = match optional_secret(block, place, secrets, "key_file", "key_env") {
        Ok(key) => key,
        Err(reason) => {
            *missing = Some(reason);
            None
        }
    };
    let model = required(block, "model");
    let system = block.string("system");
    let memory = [("gateway", Memory::Ours), ("hermes", Memory::Hermes)];
    let memory = block.choice("memory", &memory).unwrap_or(Memory::Ours);
    let concurrency = block.number("concurrency", 1..=1024).unwrap_or(4);
    let first_s = block.number("first_s", 1..=86_400).unwrap_or(120);
    // An agent's tools may work for minutes without a word.
    let pause = if memory == Memory::Hermes { 600 } else { 60 };
    let pause_s = block.number("pause_s", 1..=86_400).unwrap_or(pause);
    let turn_limit_s = block.number("turn_limit_s", 1..=86_400).unwrap_or(1800);
    let broken = [("again", Broken::Again), ("report", Broken::Report)];
    let broken = block.choice("broken", &broken).unwrap_or(Broken::Again);
    let images = block.boolean("images").unwrap_or(false);
    Some(AgentSettings::OpenAi(OpenAiSettings {
        base_url: base_url?.trim_end_matches('/').to_owned(),
        key,
        model: model?,
        system,
        memory,
        concurrency,
        first_s,
        pause_s,
        turn_limit_s,
        images,
        broken,
    }))
}

fn webhook(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Option<AgentSettings> {
    let url = required(block, "url");
    web_address(block, "url", url.as_deref());
    let secret = match secret(block, place, secrets, "secret_file", "secret_env") {
        Ok(secret) => secret,
        Err(reason) => {
            *missing = Some(reason);
            None
        }
    };
    let concurrency = concurrency(block);
    let timeout_s = block.number("timeout_s", 1..=600).unwrap_or(30);
    let listen = block.string("listen").and_then(|text| {
        let address = text.parse().ok();
        if address.is_none() {
            block.problem(&format!("listen must be an address with a port, not {text:?}"));
        }
        address
    });
    let (url, secret) = (url?, secret?);
    let settings = WebhookSettings { url, secret, concurrency, timeout_s, listen };
    Some(AgentSettings::Webhook(settings))
}

fn web_address(block: &mut Block, key: &str, url: Option<&str>) {
    if url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        block.problem(&format!("{key} must start with https:// or http://"));
    }
}

/// An address of this machine alone: what is spoken there is not encrypted.
fn listen(block: &mut Block, default: &str) -> Option<SocketAddr> {
    let text = block.string("listen").unwrap_or_else(|| default.to_owned());
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    if address.is_none() {
        block.problem(&format!(
            "listen must be a loopback address with a port, like {default:?}, not {text:?}"
        ));
    }
    address
}

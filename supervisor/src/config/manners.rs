//! How a platform's conversations are handled before an agent hears them: what comes while it works, what is
//! said in one go, which agent hears which; and the words that command the gateway.

use std::time::Duration;

use protocol::id::Instance;

use super::block::Block;
use crate::policy::absence::Away;
use crate::policy::bursts;
use crate::policy::busy::{Busy, Mode};
use crate::policy::commands::Commands;
use crate::policy::routes::Route;

/// What an absent agent's chats are told, unless it says otherwise.
const AWAY: &str =
    "I am not here just now. What you said is kept, and I will answer when I am back.";

/// How a platform's conversations are handled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manners {
    /// What comes while the agent works.
    pub busy: Busy,
    /// How long to wait for what is said in one go; `None`: not at all.
    pub burst: Option<bursts::Rule>,
    /// The routes that may fit its conversations.
    pub routes: Vec<Route>,
}

/// Reads `busy` and `burst` of a platform's block.
pub(super) fn manners(block: &mut Block) -> Manners {
    let words = [("queue", Mode::Queue), ("interrupt", Mode::Interrupt), ("steer", Mode::Steer)];
    let mut inner = block.table("busy");
    let mode = inner.choice("mode", &words).unwrap_or_default();
    let tell = inner.boolean("tell").unwrap_or(false);
    let mut busy = Busy { mode, tell, ..Busy::default() };
    for (chat, mut own) in inner.tables("chats") {
        busy.chats.insert(chat, own.choice("mode", &words).unwrap_or(mode));
        inner.absorb(own);
    }
    block.absorb(inner);
    let mut inner = block.table("burst");
    let quiet = inner.number("quiet_ms", 0..=60_000).unwrap_or(0);
    let most = inner.number("most_ms", 1..=600_000).unwrap_or(5_000);
    block.absorb(inner);
    let millis = |n: u32| Duration::from_millis(u64::from(n));
    let rule = bursts::Rule { quiet: millis(quiet), most: millis(most.max(quiet)) };
    Manners { busy, burst: (quiet > 0).then_some(rule), routes: Vec::new() }
}

/// Reads `away` of an agent's block.
pub(super) fn away(block: &mut Block) -> Option<Away> {
    let mut inner = block.table("away");
    let after = inner.number("after_s", 0..=86_400).unwrap_or(0);
    let text = inner.string("text").unwrap_or_else(|| AWAY.to_owned());
    block.absorb(inner);
    (after > 0 && !text.is_empty()).then(|| Away { after: Duration::from_secs(after.into()), text })
}

/// Reads `[commands]`.
pub(super) fn commands(block: &mut Block) -> Commands {
    let default = Commands::default();
    let mut words = |key, otherwise| match block.strings(key) {
        Some(words) => words.iter().map(|word| word.trim().to_owned()).collect(),
        None => otherwise,
    };
    let commands = Commands {
        new: words("new", default.new),
        stop: words("stop", default.stop),
        status: words("status", default.status),
    };
    let all = [&commands.new, &commands.stop, &commands.status];
    let mut all: Vec<_> = all.into_iter().flatten().map(|word| word.to_lowercase()).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    if all.len() < count {
        block.problem("a word may stand for one command only");
    }
    if all.iter().any(String::is_empty) {
        block.problem("a command must not be empty");
    }
    commands
}

/// Reads one `[[route]]`.
pub(super) fn route(block: &mut Block) -> Option<Route> {
    let name = |block: &mut Block, key: &'static str| {
        let text = block.string(key)?;
        Instance::new(text).map_err(|e| block.problem(&format!("{key}: {e}"))).ok()
    };
    let platform = name(block, "platform");
    let chat = block.id("chat");
    let user = block.id("user");
    let agent = name(block, "agent");
    if agent.is_none() {
        block.problem("agent must be set");
    }
    if platform.is_none() && chat.is_none() && user.is_none() {
        block.problem("one of platform, chat and user must be set");
    }
    Some(Route { platform, chat, user, agent: agent? })
}

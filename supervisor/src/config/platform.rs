//! The block of a platform: what its adapter needs, who may speak there, and how much may wait.

mod exec;
mod feishu;
mod telegram;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::id::Instance;
use protocol::worker::Network;

use super::Surroundings;
use super::block::{Block, Place};
use super::instance::{Body, Inbox, Kind, PlatformKind, PlatformSettings, Spec, Trouble};
use super::keys::{finish, kind};
use super::manners;
use super::network;
use crate::policy::access::{Access, Direct, GroupRule, Groups};
use crate::policy::age::{Ages, Late, Rule};

impl PlatformSettings {
    /// Why nobody there can have this id: it is a name where a number is wanted, or a group's.
    pub fn no_user(&self, id: &str) -> Option<String> {
        let (is_one, example) = match self {
            Self::Local | Self::Exec(_) => return None,
            Self::Feishu(_) => (id.starts_with("ou_"), "ou_…"),
            // A channel may speak like a user.
            Self::Telegram(_) => (number(id) != 0, "7654321"),
        };
        (!is_one).then(|| format!("{id:?} is no user there; their ids look like {example}"))
    }

    /// The same of a group.
    pub fn no_group(&self, id: &str) -> Option<String> {
        let (is_one, example) = match self {
            Self::Local | Self::Exec(_) => return None,
            Self::Feishu(_) => (id.starts_with("oc_"), "oc_…"),
            Self::Telegram(_) => (number(id) < 0, "-1001234567"),
        };
        (!is_one).then(|| format!("{id:?} is no group there; their ids look like {example}"))
    }
}

/// A number that is written as numbers are; else 0, which nobody has.
fn number(text: &str) -> i64 {
    text.parse::<i64>().ok().filter(|number| number.to_string() == text).unwrap_or(0)
}

/// Ids in access rules that nobody on that platform can have.
pub(super) fn nobodies(specs: &[Spec]) -> Vec<String> {
    let mut told = Vec::new();
    for spec in specs {
        let Ok(Body::Platform { settings, access, .. }) = &spec.body else { continue };
        let own = access.chat.values().flat_map(|rule| &rule.users);
        let users: BTreeSet<_> = access.users.iter().chain(own).collect();
        let groups: BTreeSet<_> = access.chats.iter().chain(access.chat.keys()).collect();
        let users = users.into_iter().filter_map(|id| settings.no_user(id));
        let groups = groups.into_iter().filter_map(|id| settings.no_group(id));
        told.extend(users.chain(groups).map(|why| format!("{} access: {why}", spec.title())));
    }
    told
}

/// Reads a platform's block.
pub(super) fn platform(
    name: Instance,
    mut block: Block,
    place: &Place,
    secrets: &dyn Surroundings,
    network: &Network,
) -> Spec {
    const KINDS: [(&str, PlatformKind); 4] = [
        ("local", PlatformKind::Local),
        ("feishu", PlatformKind::Feishu),
        ("telegram", PlatformKind::Telegram),
        ("exec", PlatformKind::Exec),
    ];
    let kind = kind(&name, &mut block, &KINDS);
    let agent = block.string("agent");
    let inbox = inbox(&mut block);
    let manners = manners::manners(&mut block);
    let mut missing = None;
    let network = match kind {
        // One reaches nothing outside, the other does it by itself.
        None | Some(PlatformKind::Local | PlatformKind::Exec) => Network::default(),
        Some(_) => network::network(&mut block, place, secrets, network).unwrap_or_else(|reason| {
            missing = Some(reason);
            Network::default()
        }),
    };
    let parts = kind.and_then(|kind| match kind {
        PlatformKind::Local => {
            let open = Access { direct: Direct::Open, ..Access::default() };
            Some((PlatformSettings::Local, open))
        }
        PlatformKind::Feishu => {
            let settings = feishu::settings(&mut block, place, secrets, &mut missing);
            let access = access(&mut block);
            Some((PlatformSettings::Feishu(settings?), access))
        }
        PlatformKind::Telegram => {
            let settings = telegram::settings(&mut block, place, secrets, &mut missing);
            let access = access(&mut block);
            Some((PlatformSettings::Telegram(Box::new(settings?)), access))
        }
        PlatformKind::Exec => {
            let settings = exec::settings(&mut block, place, secrets, &mut missing);
            let access = access(&mut block);
            Some((PlatformSettings::Exec(Box::new(settings)), access))
        }
    });
    let agent = agent.and_then(|text| match Instance::new(text) {
        Ok(agent) => Some(agent),
        Err(e) => {
            block.problem(&format!("agent: {e}"));
            None
        }
    });
    let trouble = finish(block, kind.is_none(), missing);
    let body = match (trouble, parts) {
        (None, Some((settings, access))) => {
            let network = Box::new(network);
            Ok(Body::Platform { settings, access, inbox, agent, manners, network })
        }
        (trouble, _) => Err(trouble.unwrap_or_else(|| Trouble::wrong("incomplete".into()))),
    };
    Spec { name, kind: Kind::Platform(kind), body }
}

fn access(block: &mut Block) -> Access {
    let mut inner = block.table("access");
    let direct = [
        ("list", Direct::List),
        ("pairing", Direct::Pairing),
        ("open", Direct::Open),
        ("off", Direct::Off),
    ];
    let groups = [
        ("mention", Groups::Mention),
        ("all", Groups::All),
        ("list", Groups::List),
        ("off", Groups::Off),
    ];
    let set =
        |list: Option<Vec<String>>| list.unwrap_or_default().into_iter().collect::<BTreeSet<_>>();
    let mut chat = BTreeMap::new();
    for (id, mut own) in inner.tables("chat") {
        let rule = GroupRule {
            groups: own.choice("groups", &groups).unwrap_or_default(),
            users: set(own.strings("users")),
        };
        chat.insert(id, rule);
        inner.absorb(own);
    }
    let access = Access {
        chat,
        bots: inner.boolean("bots").unwrap_or(false),
        at_all: inner.boolean("at_all").unwrap_or(false),
        direct: inner.choice("direct", &direct).unwrap_or_default(),
        groups: inner.choice("groups", &groups).unwrap_or_default(),
        users: set(inner.strings("users")),
        chats: set(inner.strings("chats")),
    };
    block.absorb(inner);
    access
}

fn inbox(block: &mut Block) -> Inbox {
    let mut inner = block.table("inbox");
    let events = inner.number("max_events", 1..=u32::MAX).map_or(2_000_000, u64::from);
    let mib = inner.number("max_mib", 1..=u32::MAX).map_or(4096, u64::from);
    let rule = rule(&mut inner, Rule::default());
    let mut ages = Ages { rule, ..Ages::default() };
    for (chat, mut own) in inner.tables("chats") {
        let chats_rule = self::rule(&mut own, rule);
        ages.chats.insert(chat, chats_rule);
        inner.absorb(own);
    }
    block.absorb(inner);
    Inbox { max_events: events, max_bytes: mib << 20, ages }
}

fn rule(block: &mut Block, otherwise: Rule) -> Rule {
    let words = [("deliver", Late::Deliver), ("mark", Late::Mark), ("keep", Late::Keep)];
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    Rule {
        late: block.choice("late", &words).unwrap_or(otherwise.late),
        after: block.number("late_after_s", 1..=u32::MAX).map_or(otherwise.after, seconds),
    }
}

fn base_url(block: &mut Block, default: &str) -> String {
    let url = block.string("base_url").unwrap_or_else(|| default.to_owned());
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        block.problem(&format!("base_url must start with https:// or http://, not {url:?}"));
    }
    url.trim_end_matches('/').to_owned()
}

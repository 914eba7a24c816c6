//! The block of one instance: what kind it is and, for a platform, what its adapter needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::id::Instance;
use protocol::worker::{
    FeishuSettings, FeishuWebhook, Network, OtherWebhook, Secret, TelegramSettings,
    TelegramWebhook, Unanswered,
};

use super::Surroundings;
use super::agent::{AgentKind, AgentSettings};
use super::block::{Block, Place};
use super::hooks::Hooks;
use super::manners::{self, Manners};
use super::network;
use crate::exit::Code;
use crate::policy::absence::Away;
use crate::policy::access::{Access, Direct, GroupRule, Groups};
use crate::policy::age::{Ages, Late, Rule};
use crate::policy::delivery;
use crate::policy::routes::Route;

const FEISHU: &str = "https://open.feishu.cn";
const TELEGRAM: &str = "https://api.telegram.org";
const WEBHOOK: &str = "127.0.0.1:8443";
const FEISHU_WEBHOOK: &str = "127.0.0.1:8444";

/// One configured account or endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Its name.
    pub name: Instance,
    /// Its kind, as far as it can be told.
    pub kind: Kind,
    /// What it needs, or why it cannot be had.
    pub body: Result<Body, Trouble>,
}

/// The kind of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Brings events, carries replies. `None`: a kind that does not exist.
    Platform(Option<PlatformKind>),
    /// Takes events, replies. `None`: a kind that does not exist.
    Agent(Option<AgentKind>),
    /// Tells handlers what happens.
    Hooks,
}

/// The platforms there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlatformKind {
    /// The terminal of the user who runs us.
    Local,
    /// Feishu and Lark.
    Feishu,
    /// Telegram.
    Telegram,
}

impl Kind {
    /// `platform`, `agent` or `service`.
    pub fn role(self) -> &'static str {
        match self {
            Self::Platform(_) => "platform",
            Self::Agent(_) => "agent",
            Self::Hooks => "service",
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Platform(Some(PlatformKind::Local)) => "local",
            Self::Platform(Some(PlatformKind::Feishu)) => "feishu",
            Self::Platform(Some(PlatformKind::Telegram)) => "telegram",
            Self::Agent(Some(kind)) => kind.word(),
            Self::Hooks => "hooks",
            Self::Platform(None) | Self::Agent(None) => "unknown",
        }
    }
}

/// What an instance needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A platform.
    Platform {
        /// Its settings.
        settings: PlatformSettings,
        /// Who may speak.
        access: Access,
        /// How much may wait, and what is late.
        inbox: Inbox,
        /// Which agent hears its events; `None`: no agent is configured, events wait.
        agent: Option<Instance>,
        /// How its conversations are handled.
        manners: Manners,
        /// How it is reached.
        network: Box<Network>,
    },
    /// An agent.
    Agent {
        /// Its settings.
        settings: AgentSettings,
        /// How it is delivered to.
        delivery: delivery::Settings,
        /// What chats are told while it is away.
        away: Option<Away>,
    },
    /// The handlers of hooks.
    Hooks(Hooks),
}

/// How much of a platform's events may wait, and what is late.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inbox {
    /// More events are refused before the platform is acknowledged, so that they come again.
    pub max_events: u64,
    /// The same for the bytes of their payloads.
    pub max_bytes: u64,
    /// What becomes of late events.
    pub ages: Ages,
}

/// What a platform's adapter needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlatformSettings {
    /// Nothing.
    Local,
    /// An app.
    Feishu(FeishuSettings),
    /// A bot.
    Telegram(TelegramSettings),
}

impl PlatformSettings {
    /// What the platform knows the account by, so that two who use the same one can be told. `None`:
    /// there is no account.
    pub fn account(&self) -> Option<String> {
        match self {
            // Its socket tells.
            Self::Local => None,
            Self::Feishu(settings) => {
                Some(format!("feishu {} {}", settings.base_url, settings.app_id))
            }
            // What stands before the colon is the bot's own number, and no secret.
            Self::Telegram(settings) => {
                let bot = settings.token.expose().split(':').next().unwrap_or_default();
                Some(format!("telegram {} {bot}", settings.base_url))
            }
        }
    }
}

impl PlatformKind {
    /// A connection that is up makes progress within that time, whatever users do. `None`: only users
    /// make progress there.
    pub fn progress_limit(self) -> Option<Duration> {
        match self {
            Self::Local => None,
            // The worker itself gives up after 13 s without a frame.
            Self::Feishu => Some(Duration::from_secs(60)),
            // A poll that brings nothing ends within a minute.
            Self::Telegram => Some(Duration::from_secs(180)),
        }
    }
}

/// Why an instance cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Every reason, one a line.
    pub reason: String,
    /// The exit code of a tool that stops at it.
    pub code: Code,
}

impl Spec {
    /// Its block's name in the file.
    pub fn title(&self) -> String {
        match self.kind {
            Kind::Hooks => "[hooks]".to_owned(),
            Kind::Platform(_) | Kind::Agent(_) => format!("[{}.{}]", self.kind.role(), self.name),
        }
    }
}

pub(super) fn platform(
    name: Instance,
    mut block: Block,
    place: &Place,
    secrets: &dyn Surroundings,
    network: &Network,
) -> Spec {
    const KINDS: [(&str, PlatformKind); 3] = [
        ("local", PlatformKind::Local),
        ("feishu", PlatformKind::Feishu),
        ("telegram", PlatformKind::Telegram),
    ];
    let kind = kind(&name, &mut block, &KINDS);
    let agent = block.string("agent");
    let inbox = inbox(&mut block);
    let manners = manners::manners(&mut block);
    let mut missing = None;
    let network = match kind {
        // It reaches nothing outside.
        None | Some(PlatformKind::Local) => Network::default(),
        Some(_) => network::network(&mut block, place, secrets, network).unwrap_or_else(|reason| {
            missing = Some(reason);
            Network::default()
        }),
    };
    let parts = kind.and_then(|kind| {
        Some(match kind {
            PlatformKind::Local => {
                let open = Access { direct: Direct::Open, ..Access::default() };
                (PlatformSettings::Local, open)
            }
            PlatformKind::Feishu => {
                let app_id = required(&mut block, "app_id");
                let app_secret =
                    secret(&mut block, place, secrets, "app_secret_file", "app_secret_env");
                let app_secret = app_secret.unwrap_or_else(|reason| {
                    missing = Some(reason);
                    None
                });
                let base_url = base_url(&mut block, FEISHU);
                let working = block.string("working").unwrap_or_else(|| "Typing".to_owned());
                let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if working.len() > 40 || !working.bytes().all(word) {
                    block.problem(&format!(
                        "working must be a word of the platform for a reaction, like \"Typing\", or empty, not {working:?}"
                    ));
                }
                let webhook = feishu_webhook(&mut block, place, secrets).unwrap_or_else(|reason| {
                    missing = Some(reason);
                    None
                });
                let access = access(&mut block);
                let (app_id, app_secret) = (app_id?, app_secret?);
                let settings = FeishuSettings { app_id, app_secret, base_url, working, webhook };
                (PlatformSettings::Feishu(settings), access)
            }
            PlatformKind::Telegram => {
                let token = secret(&mut block, place, secrets, "token_file", "token_env");
                let token = token.unwrap_or_else(|reason| {
                    missing = Some(reason);
                    None
                });
                let base_url = base_url(&mut block, TELEGRAM);
                let unanswered = [("report", Unanswered::Report), ("resend", Unanswered::Resend)];
                let unanswered = block.choice("unanswered", &unanswered);
                let other_webhook =
                    [("keep", OtherWebhook::Keep), ("remove", OtherWebhook::Remove)];
                let other_webhook = block.choice("other_webhook", &other_webhook);
                let local_files = block.path("local_files", place);
                let webhook = telegram_webhook(&mut block);
                let access = access(&mut block);
                let settings = TelegramSettings {
                    token: token?,
                    base_url,
                    unanswered: unanswered.unwrap_or(Unanswered::Report),
                    other_webhook: other_webhook.unwrap_or(OtherWebhook::Keep),
                    webhook,
                    local_files,
                };
                (PlatformSettings::Telegram(settings), access)
            }
        })
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

/// Gives every platform its agent: the only one there is, or the one it names; and its routes.
pub(super) fn route(specs: &mut [Spec], routes: &[Route]) {
    let agents: Vec<Instance> = specs
        .iter()
        .filter(|spec| matches!(spec.kind, Kind::Agent(_)))
        .map(|spec| spec.name.clone())
        .collect();
    for spec in specs.iter_mut() {
        let title = spec.title();
        let Ok(Body::Platform { agent, manners, .. }) = &mut spec.body else { continue };
        let may_fit =
            |route: &&Route| route.platform.as_ref().is_none_or(|name| *name == spec.name);
        manners.routes = routes.iter().filter(may_fit).cloned().collect();
        // One that fits every conversation leaves nothing to say.
        let mut all = manners.routes.iter();
        let whole = all.find(|route| route.chat.is_none() && route.user.is_none());
        if agent.is_none() {
            *agent = whole.map(|route| route.agent.clone());
        }
        let trouble = match agent {
            Some(named) if agents.contains(named) => None,
            Some(named) => Some(format!("{title} agent: no [agent.{named}] is configured")),
            None => match agents.as_slice() {
                [] => None,
                [only] => {
                    *agent = Some(only.clone());
                    None
                }
                several => {
                    let names: Vec<_> = several.iter().map(Instance::as_str).collect();
                    let names = names.join(", ");
                    Some(format!("{title} agent must be set, as there are several: {names}"))
                }
            },
        };
        if let Some(reason) = trouble {
            spec.body = Err(Trouble::wrong(reason));
        }
    }
    one_of_a_kind(specs);
}

/// A Hermes Agent names accounts by their platform alone: two of one platform would be mixed up.
fn one_of_a_kind(specs: &mut [Spec]) {
    let relays: Vec<Instance> = specs
        .iter()
        .filter(|spec| spec.kind == Kind::Agent(Some(AgentKind::Relay)))
        .map(|spec| spec.name.clone())
        .collect();
    let mut taken = BTreeSet::new();
    for spec in specs.iter_mut() {
        let title = spec.title();
        let Ok(Body::Platform { agent, manners, .. }) = &spec.body else { continue };
        let routed = manners.routes.iter().map(|route| &route.agent);
        let hearing: BTreeSet<_> = routed.chain(agent).cloned().collect();
        let kind = spec.kind.word();
        let mut twice = hearing.into_iter().filter(|agent| relays.contains(agent));
        if let Some(agent) = twice.find(|agent| !taken.insert((agent.clone(), kind))) {
            spec.body = Err(Trouble::wrong(format!(
                "{title} agent: {agent} hears another {kind} account already, and a Hermes Agent has one of each; give this one an [agent] of its own"
            )));
        }
    }
}

/// The kind that `kind` names, or the name of the block if it is absent.
pub(super) fn kind<T: Copy>(name: &Instance, block: &mut Block, kinds: &[(&str, T)]) -> Option<T> {
    if let Some(kind) = kinds.iter().find(|(word, _)| *word == name.as_str()) {
        return block.choice("kind", kinds).or(Some(kind.1));
    }
    let named = block.has("kind");
    let kind = block.choice("kind", kinds);
    // One that is wrong was told of already.
    if kind.is_none() && !named {
        let words: Vec<_> = kinds.iter().map(|(word, _)| *word).collect();
        block.problem(&format!("kind must be set to one of {}", words.join(", ")));
    }
    kind
}

pub(super) fn required(block: &mut Block, key: &'static str) -> Option<String> {
    let text = block.string(key).filter(|text| !text.is_empty());
    if text.is_none() {
        block.problem(&format!("{key} must be set"));
    }
    text
}

/// A secret that must be there.
pub(super) fn secret(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    file: &'static str,
    variable: &'static str,
) -> Result<Option<Secret>, String> {
    let before = block.problem_count();
    let found = optional_secret(block, place, secrets, file, variable)?;
    if found.is_none() && block.problem_count() == before {
        block.problem(&format!("{file} or {variable} must be set"));
    }
    Ok(found)
}

/// A secret in a file or in the environment.
pub(super) fn optional_secret(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    file: &'static str,
    variable: &'static str,
) -> Result<Option<Secret>, String> {
    match (block.path(file, place), block.string(variable)) {
        (Some(path), None) => secrets.file(&path).map(Some),
        (None, Some(name)) => secrets.variable(&name).map(Some),
        (Some(_), Some(_)) => {
            block.problem(&format!("{file} and {variable} exclude one another"));
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

fn base_url(block: &mut Block, default: &str) -> String {
    let url = block.string("base_url").unwrap_or_else(|| default.to_owned());
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        block.problem(&format!("base_url must start with https:// or http://, not {url:?}"));
    }
    url.trim_end_matches('/').to_owned()
}

/// A table of its own turns it on. The error names a file or a variable that is missing.
fn feishu_webhook(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
) -> Result<Option<Box<FeishuWebhook>>, String> {
    let is_there = block.has("webhook");
    let mut inner = block.table("webhook");
    if !is_there {
        return Ok(None);
    }
    let listen = inner.string("listen").unwrap_or_else(|| FEISHU_WEBHOOK.to_owned());
    let addr = listen.parse().map_err(|_| {
        inner.problem(&format!(
            "listen must be an address and a port like {FEISHU_WEBHOOK}, not {listen:?}"
        ));
    });
    let path = inner.string("path").unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') {
        inner.problem(&format!("path must begin with a slash, not {path:?}"));
    }
    let key = optional_secret(&mut inner, place, secrets, "encrypt_key_file", "encrypt_key_env");
    let token = optional_secret(
        &mut inner,
        place,
        secrets,
        "verification_token_file",
        "verification_token_env",
    );
    if matches!((&key, &token), (Ok(None), Ok(None))) {
        inner.problem(
            "encrypt_key_file or verification_token_file must be set, or anybody could post events",
        );
    }
    block.absorb(inner);
    let (encrypt_key, verification_token) = (key?, token?);
    Ok(addr
        .ok()
        .map(|listen| Box::new(FeishuWebhook { listen, path, encrypt_key, verification_token })))
}

/// A table of its own turns it on.
fn telegram_webhook(block: &mut Block) -> Option<TelegramWebhook> {
    let is_there = block.has("webhook");
    let mut inner = block.table("webhook");
    if !is_there {
        return None;
    }
    let url = required(&mut inner, "url");
    if let Some(url) = &url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        inner.problem(&format!("url must start with https:// or http://, not {url:?}"));
    }
    let listen = inner.string("listen").unwrap_or_else(|| WEBHOOK.to_owned());
    let addr = listen.parse().map_err(|_| {
        inner.problem(&format!(
            "listen must be an address and a port like {WEBHOOK}, not {listen:?}"
        ));
    });
    let connections = inner.number("max_connections", 1..=100).unwrap_or(40);
    block.absorb(inner);
    Some(TelegramWebhook { url: url?, listen: addr.ok()?, connections })
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

/// Every problem of a block. Where the kind is unknown, so are its keys.
pub(super) fn finish(block: Block, kind_unknown: bool, missing: Option<String>) -> Option<Trouble> {
    let missing = missing.map(|reason| format!("{}{reason}", block.prefix()));
    if kind_unknown {
        let problems = block.finish().err().unwrap_or_default();
        let known: Vec<_> = problems.lines().filter(|line| !line.contains("is no key")).collect();
        return Some(Trouble::wrong(known.join("\n")));
    }
    match (block.finish(), missing) {
        (Ok(()), None) => None,
        (Ok(()), Some(reason)) => Some(Trouble { reason, code: Code::NoInput }),
        (Err(problems), None) => Some(Trouble::wrong(problems)),
        (Err(problems), Some(reason)) => Some(Trouble::wrong(format!("{problems}\n{reason}"))),
    }
}

//! What a configured instance is: its kind, and what it needs or why it cannot be had.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use protocol::id::Instance;
use protocol::worker::{FeishuSettings, Network, Secret, TelegramSettings};

use super::agent::{AgentKind, AgentSettings};
use super::hooks::Hooks;
use super::manners::Manners;
use crate::exit::Code;
use crate::policy::absence::Away;
use crate::policy::access::Access;
use crate::policy::age::Ages;
use crate::policy::delivery;

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
    /// A program that we start.
    Exec,
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

    /// What agents are told that an instance of this name is: which platform a program speaks to tells its name
    /// alone.
    pub fn told(self, name: &Instance) -> String {
        match self {
            Self::Platform(Some(PlatformKind::Exec)) => name.to_string(),
            _ => self.word().to_owned(),
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Platform(Some(PlatformKind::Local)) => "local",
            Self::Platform(Some(PlatformKind::Feishu)) => "feishu",
            Self::Platform(Some(PlatformKind::Telegram)) => "telegram",
            Self::Platform(Some(PlatformKind::Exec)) => "exec",
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
        /// How it is reached.
        network: Box<Network>,
    },
    /// The handlers of hooks.
    Hooks(Hooks),
}

impl Body {
    /// Where it listens, as it is configured.
    fn listens(&self) -> Option<PathBuf> {
        let port = match self {
            Self::Agent { settings: AgentSettings::Socket { listen, .. }, .. } => {
                return listen.clone();
            }
            Self::Agent { settings: AgentSettings::Relay { listen, .. }, .. } => Some(*listen),
            Self::Agent { settings: AgentSettings::Webhook(settings), .. } => settings.listen,
            Self::Platform { settings: PlatformSettings::Feishu(settings), .. } => {
                settings.webhook.as_ref().map(|webhook| webhook.listen)
            }
            Self::Platform { settings: PlatformSettings::Telegram(settings), .. } => {
                settings.webhook.as_ref().map(|webhook| webhook.listen)
            }
            Self::Agent { .. } | Self::Platform { .. } | Self::Hooks(_) => None,
        };
        port.map(|port| port.to_string().into())
    }
}

/// Blocks of which only one can have what they share: an account, or where they listen.
pub(super) fn shared(specs: &[Spec]) -> Vec<String> {
    let account = |body: &Body| match body {
        Body::Platform { settings, .. } => settings.account(),
        Body::Agent { .. } | Body::Hooks(_) => None,
    };
    let mut told: Vec<_> = doubled(specs, account)
        .map(|(title, user)| {
            format!("{title} has the account of {user}: only one of them is connected")
        })
        .collect();
    told.extend(
        doubled(specs, Body::listens).map(|(title, user)| {
            format!("{title} listens where {user} does: only one of them can")
        }),
    );
    told
}

/// The titles of those that have the same as one before them, and of that one.
fn doubled<K: Ord>(
    specs: &[Spec],
    of: impl Fn(&Body) -> Option<K>,
) -> impl Iterator<Item = (String, String)> {
    let mut users = BTreeMap::new();
    specs.iter().filter_map(move |spec| {
        let what = of(spec.body.as_ref().ok()?)?;
        let user = users.get(&what).cloned();
        if user.is_none() {
            users.insert(what, spec.title());
        }
        Some((spec.title(), user?))
    })
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
    Telegram(Box<TelegramSettings>),
    /// A program.
    Exec(Box<ExecPlatform>),
}

/// What a program needs that is a platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExecPlatform {
    /// It and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// What its environment has beyond a worker's own.
    pub variables: Vec<(String, Secret)>,
    /// Whose account it is, in the words of whoever configures it.
    pub account: Option<String>,
    /// What it is told: an object of JSON.
    pub settings: String,
    /// What it is told and nobody else may see.
    pub secrets: Vec<(String, Secret)>,
}

impl ExecPlatform {
    /// What the account is known by. Nobody but the program knows what its platform calls it, and that only once it has
    /// logged in: so it is what the configuration says, or who has the same secrets, or else the same program with
    /// the same settings.
    fn account(&self) -> String {
        let secrets: Vec<_> = self.secrets.iter().map(|(_, secret)| secret.expose()).collect();
        let what = match &self.account {
            Some(account) => serde_json::json!(["account", account]),
            None if !secrets.is_empty() => serde_json::json!(["secrets", secrets]),
            None => serde_json::json!(["program", self.command, self.dir, self.settings]),
        };
        format!("exec {what}")
    }
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
            Self::Exec(settings) => Some(settings.account()),
            Self::Telegram(settings) => {
                let bot = settings.token.expose().split(':').next().unwrap_or_default();
                Some(format!("telegram {} {bot}", settings.base_url))
            }
        }
    }

    /// Whom people see in their chats, by whatever way the platform is reached and with whichever secret.
    /// `None`: a token that is none does not tell.
    pub fn identity(&self) -> Option<String> {
        Some(match self {
            Self::Local => "the terminal".to_owned(),
            Self::Feishu(settings) => format!("the Feishu app {}", settings.app_id),
            Self::Exec(settings) => format!("the account {}", settings.account.as_ref()?),
            Self::Telegram(settings) => {
                let (bot, _) = settings.token.expose().split_once(':')?;
                format!("the Telegram bot {bot}")
            }
        })
    }
}

impl PlatformKind {
    /// A connection that is up makes progress within that time, whatever users do. `None`: only users
    /// make progress there.
    pub fn progress_limit(self) -> Option<Duration> {
        match self {
            // What a program says about that has a limit of its own.
            Self::Local | Self::Exec => None,
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
    /// What helps while the supervisor runs.
    pub remedy: &'static str,
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

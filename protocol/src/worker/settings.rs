//! What a worker is told about itself: which adapter it is, and everything that this adapter needs.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::id::Instance;
use crate::secret::Secret;

/// Everything that a worker is told about itself. It reads no file and no environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Configure {
    /// Which adapter, with its settings.
    pub adapter: Adapter,
    /// Where the adapter left off.
    pub cursor: Option<Cursor>,
    /// Events (or replies) that may be on their way at once.
    pub window: u32,
    /// And their bytes.
    pub window_bytes: u32,
    /// How often to say [`FromWorker::Heartbeat`](super::FromWorker::Heartbeat).
    pub heartbeat_ms: u32,
    /// How long a polite end may take after the leash or a signal asks for it.
    pub grace_ms: u32,
    /// The `RUST_LOG`-like filter to log with.
    pub log: String,
    /// Where files are exchanged.
    pub exchange: Exchange,
    /// How a platform is reached.
    pub network: Network,
}

/// An adapter and what it needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Adapter {
    /// Platform `local`: the terminal of the user who runs us.
    Local(LocalSettings),
    /// Platform `feishu`.
    Feishu(FeishuSettings),
    /// Agent `echo`.
    Echo,
    /// Agent `socket`.
    Socket(SocketSettings),
    /// Platform `telegram`.
    Telegram(TelegramSettings),
    /// Agent `exec`.
    Exec(ExecSettings),
    /// Agent `relay`.
    Relay(RelaySettings),
    /// Agent `openai`.
    OpenAi(OpenAiSettings),
    /// Agent `webhook`.
    Webhook(WebhookSettings),
    /// Service `hooks`.
    Hooks(HooksSettings),
    /// Agent `acp`.
    Acp(AcpSettings),
    /// Platform `exec`.
    ExecPlatform(Box<ExecPlatformSettings>),
}

/// How the outside is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    /// `http://…` or `socks5://…`, with the name and the password that it wants. `None`: directly.
    pub proxy: Option<Secret>,
    /// Certificates that are trusted besides the system's, as PEM. Empty: none.
    pub ca: String,
}

/// The directory in which files are exchanged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Where it is. Only its owner may enter it.
    pub dir: PathBuf,
    /// The largest file that may be put there, in bytes.
    pub max_bytes: u64,
}

/// Settings of platform `local`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalSettings {
    /// Where `hermes-gw chat` connects.
    pub socket: PathBuf,
}

/// Settings of platform `feishu`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeishuSettings {
    /// `cli_…`, from the developer console.
    pub app_id: String,
    /// Its secret.
    pub app_secret: Secret,
    /// `https://open.feishu.cn`, `https://open.larksuite.com`, or any other; without a final slash.
    pub base_url: String,
    /// The reaction that says that an agent is at work, as the platform calls it. Empty: none.
    pub working: String,
    /// Events are posted to us. `None`: they come over the long connection.
    pub webhook: Option<Box<FeishuWebhook>>,
    /// After an absence the history of the last so many hours is read. 0: none.
    pub catch_up_h: u32,
}

/// How Feishu is to reach us. At least one of its secrets is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeishuWebhook {
    /// Where we listen, in plain HTTP.
    pub listen: SocketAddr,
    /// The path of what it posts, as it arrives here.
    pub path: String,
    /// What opens and proves what is posted.
    pub encrypt_key: Option<Secret>,
    /// What stands in what is posted.
    pub verification_token: Option<Secret>,
}

/// Settings of platform `telegram`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TelegramSettings {
    /// What `BotFather` gave.
    pub token: Secret,
    /// `https://api.telegram.org` or a server of one's own; without a final slash.
    pub base_url: String,
    /// What becomes of a reply whose answer was lost.
    pub unanswered: Unanswered,
    /// What becomes of a webhook that another program has set.
    pub other_webhook: OtherWebhook,
    /// Hear by a webhook of our own. `None`: by polling.
    pub webhook: Option<TelegramWebhook>,
    /// Where a Bot API server of one's own on this machine keeps files, if it says paths.
    pub local_files: Option<PathBuf>,
    /// What the bot's menu of commands shows: names without a slash, and what each does. Empty: it is left
    /// as it is.
    pub menu: Vec<(String, String)>,
}

/// How Telegram is to reach us.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TelegramWebhook {
    /// Where it posts to.
    pub url: String,
    /// Where we listen, in plain HTTP.
    pub listen: SocketAddr,
    /// Connections at once, 1 to 100.
    pub connections: u32,
}

/// What becomes of a reply that left and was never answered, where no key makes a repetition safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unanswered {
    /// It ends as unknown.
    Report,
    /// It is sent again, and may arrive twice.
    Resend,
}

/// What becomes of a webhook that keeps us from polling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OtherWebhook {
    /// It stays, and a person is told.
    Keep,
    /// It is removed; its updates stay.
    Remove,
}

/// Settings of agent `socket`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SocketSettings {
    /// Where the agent's program connects.
    pub socket: PathBuf,
    /// Deliveries that may be on their way to the agent at once.
    pub concurrency: u32,
}

/// Settings of agent `exec`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// What its environment has beyond a worker's own.
    pub variables: Vec<(String, Secret)>,
    /// Deliveries that may be on their way to it at once.
    pub concurrency: u32,
}

/// Settings of platform `exec`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecPlatformSettings {
    /// What the program is told to be called.
    pub instance: Instance,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// What its environment has beyond a worker's own.
    pub variables: Vec<(String, Secret)>,
    /// What it is told when it introduces itself: an object of JSON.
    pub settings: String,
    /// The same of what nobody else may see.
    pub secrets: Vec<(String, Secret)>,
}

/// Settings of agent `relay`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelaySettings {
    /// Where the agent dials: an address of this machine alone.
    pub listen: SocketAddr,
    /// What the agent calls itself.
    pub id: String,
    /// What proves it.
    pub secret: Secret,
    /// The agent's own directory, where its state file is.
    pub home: Option<PathBuf>,
    /// The platforms that it hears, and their kinds.
    pub platforms: Vec<(Instance, String)>,
    /// Deliveries that may be on their way to it at once.
    pub concurrency: u32,
    /// The longest turn, in seconds.
    pub turn_limit_s: u32,
}

/// Settings of agent `openai`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenAiSettings {
    /// Up to and with `/v1`, without a final slash.
    pub base_url: String,
    /// Where it wants one.
    pub key: Option<Secret>,
    /// Which model.
    pub model: String,
    /// What it is told before everything else.
    pub system: Option<String>,
    /// Who remembers a conversation.
    pub memory: Memory,
    /// Turns at once.
    pub concurrency: u32,
    /// How long the first sign of an answer may take, in seconds.
    pub first_s: u32,
    /// How long a pause within an answer may be.
    pub pause_s: u32,
    /// How long a turn may be.
    pub turn_limit_s: u32,
    /// Whether pictures are sent along.
    pub images: bool,
    /// What becomes of a turn that dies half way.
    pub broken: Broken,
}

/// Who remembers what was said in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Memory {
    /// We do, and send it each time.
    Ours,
    /// A Hermes Agent's API server, by a session's name.
    Hermes,
}

/// What becomes of a turn that dies half way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Broken {
    /// The question is asked again, and set aside after too many attempts.
    Again,
    /// What has come is the answer, with a note that it broke off.
    Report,
}

/// Settings of agent `webhook`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WebhookSettings {
    /// Where events are posted.
    pub url: String,
    /// `whsec_…`.
    pub secret: Secret,
    /// Posts at once.
    pub concurrency: u32,
    /// How long an answer may take, in seconds.
    pub timeout_s: u32,
    /// Where we listen for what the receiver says later.
    pub listen: Option<SocketAddr>,
}

/// Settings of agent `acp`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AcpSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs, and what its sessions are told to be their directory.
    pub dir: PathBuf,
    /// What its environment has beyond a worker's own.
    pub variables: Vec<(String, Secret)>,
    /// Processes of it at once.
    pub processes: u32,
    /// Turns at once in each of them.
    pub turns: u32,
    /// Who decides when it asks for permission.
    pub permission: Permission,
    /// How long an answer to that is waited for, in seconds. Without one nothing is permitted.
    pub permission_s: u32,
    /// How long it may be silent in a turn, in seconds.
    pub silent_s: u32,
    /// How long a turn may be, in seconds.
    pub turn_limit_s: u32,
    /// Whether messages that begin with `/` are commands of the agent.
    pub own_commands: bool,
}

/// Who decides when an agent asks for permission.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Permission {
    /// Whoever the agent works for is asked in the chat.
    Ask,
    /// Everything is permitted once.
    Allow,
    /// Nothing is.
    Reject,
}

/// Settings of service `hooks`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HooksSettings {
    /// Where the directories with a `HOOK.yaml` and a `handler.py` are.
    pub dir: Option<PathBuf>,
    /// Programs.
    pub commands: Vec<HookCommand>,
    /// The Python that runs `handler.py`.
    pub python: String,
    /// How long one handler may take, in seconds.
    pub timeout_s: u32,
    /// Handlers at once.
    pub concurrency: u32,
}

/// A program that wants to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HookCommand {
    /// Of what: see [`HookEvent::matches`](crate::hook::HookEvent::matches).
    pub events: Vec<String>,
    /// It and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
}

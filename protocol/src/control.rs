//! The control conversation: how tools ask the running supervisor, in JSON, one object a line.
//!
//! ```text
//! → {"id":1,"method":"restart","params":{"instances":["feishu"],"force":false,"wait_ms":30000}}
//! ← {"id":1,"result":{"schema":1,"results":[{"instance":"feishu","result":"restarted",…}]}}
//! ← {"id":2,"error":{"code":64,"message":"no instance is called \"feishuu\"","hint":"…"}}
//! ```
//! Additive: members are only ever added, unknown members are ignored, unknown methods are answered
//! with an error. `code` is an exit code of the program. After `events` the connection carries one
//! [`Notice`] a line, without `id`, until it is closed; a reader that falls behind is dropped.
//! A request goes on when its asker hangs up.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Instance, ParkedId};
use crate::worker::Order;

/// The longest line that either side accepts, in bytes, without its end.
pub const LINE_MAX: usize = 1024 * 1024;
/// The version of the shapes in this file: raised never, by promise.
pub const SCHEMA: u32 = 1;

/// A request, before its method is looked at.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// Comes back with the answer.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    /// What to do.
    pub method: String,
    /// With what; every method has defaults for all of it.
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
    /// For whoever wants to be able to look and no more: see [`Request::only_looks`].
    #[serde(default)]
    pub token: Option<String>,
}

/// What a tool can ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// `status`: [`Status`].
    Status,
    /// `start`, `restart`, `kill`: [`Acted`].
    Act(Verb, Act),
    /// `stop`: the supervisor itself drains and leaves; the connection ends when it is gone.
    Stop(Stop),
    /// `events`: [`Notice`]s from now on.
    Events,
    /// `parked.list`: [`ParkedList`].
    ParkedList(Page),
    /// `parked.show`: [`ParkedItem`] with its content.
    ParkedShow(ParkedId),
    /// `backup`: [`BackedUp`].
    Backup(Backup),
    /// `parked.replay` and `parked.drop`: [`Decided`].
    Decide(Decision, Vec<ParkedId>),
    /// `reload`: the configuration is read anew: [`Reloaded`].
    Reload,
    /// `message.send`: [`crate::rpc::Message`], for handlers of hooks.
    Send(Box<SendAsked>),
    /// `access.list`: [`AccessList`].
    AccessList,
    /// `access.approve`, `access.allow`, `access.deny`, `access.revoke`: [`AccessChanged`].
    Access(Decide),
    /// `token`: [`Token`].
    Token,
    /// `telegram.delete_webhook` and `telegram.drop_pending`: [`Ordered`].
    Order(Order, String),
    /// `upgrade`: answered only if it fails. If not, the connection ends, and `status` tells
    /// [`Status::upgraded`].
    Upgrade(Upgrade),
}

/// Parameters of `upgrade`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrade {
    /// The program to become, absolute.
    pub program: std::path::PathBuf,
    /// How long to wait for what is under way, in milliseconds.
    pub wait_ms: u64,
}

/// The last time that the supervisor became another program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upgraded {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// The version before.
    pub from: String,
    /// How long no link was read, in milliseconds.
    pub pause_ms: u64,
}

/// What a request carries that may look and no more. It stays the same as long as the store does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The member `token` of a request's line.
    pub token: String,
}

/// Parameters of `message.send`: those of the agents' own (see [`crate::rpc::Send`]), and these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SendAsked {
    /// The `reply_token` of an occasion in this chat.
    pub token: String,
    /// How long to wait until the message has come to an end, in milliseconds; 0: until it is durable.
    #[serde(default)]
    pub wait_ms: u64,
    /// What to send where.
    #[serde(flatten)]
    pub send: crate::rpc::Send,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Target {
    instance: String,
}

/// A platform's worker has done what a person wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ordered {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which instance.
    pub instance: String,
    /// What was done, for people.
    pub result: String,
}

/// How the telling of handlers goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HooksStatus {
    /// Occasions that wait or are being told.
    pub waiting: u64,
    /// Times that a handler was told, since the start.
    pub told: u64,
    /// Times that one failed.
    pub failed: u64,
    /// Occasions that nobody was told, because there were too many, or because the worker died.
    pub dropped: u64,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// What a person decides about who may speak.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decide {
    /// Whoever was told this code is let in.
    Approve(String),
    /// A user or a chat is let in.
    Allow(Subject),
    /// A user or a chat is denied, whatever the configuration says.
    Deny(Subject),
    /// What was decided before is void: the configuration alone decides.
    Revoke(Subject),
}

/// About whom. Exactly one of `user` and `chat` is there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// The platform instance.
    pub instance: String,
    /// A user, by the platform's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A chat, by the platform's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Code {
    code: String,
}

/// Who may speak, as people have decided; what the configuration says besides stands there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// One for each platform instance.
    pub instances: Vec<AccessRules>,
}

/// Who may speak on one platform.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessRules {
    /// Which.
    pub instance: Instance,
    /// `list`, `pairing`, `open` or `off`.
    pub direct: String,
    /// `mention`, `all`, `list` or `off`.
    pub groups: String,
    /// Users of the configuration.
    pub users: Vec<String>,
    /// Chats of the configuration.
    pub chats: Vec<String>,
    /// What people have decided.
    pub decided: Vec<DecidedAbout>,
    /// Live codes.
    pub codes: Vec<PairingCode>,
}

/// What was decided about somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecidedAbout {
    /// About whom.
    #[serde(flatten)]
    pub subject: Subject,
    /// `allowed` or `denied`.
    pub result: String,
}

/// A code that a stranger was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairingCode {
    /// The code.
    pub code: String,
    /// Whom.
    pub user: String,
    /// In which chat.
    pub chat: String,
    /// Until when it holds, in Unix milliseconds.
    pub until_ms: i64,
}

/// A decision holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessChanged {
    /// [`SCHEMA`].
    pub schema: u32,
    /// About whom.
    #[serde(flatten)]
    pub subject: Subject,
    /// `allowed`, `denied` or `revoked`.
    pub result: String,
}

/// Parameters of `backup`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Backup {
    /// The new file, absolute; it must not exist.
    pub path: std::path::PathBuf,
}

/// A copy of the store is complete and durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackedUp {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The new file.
    pub path: std::path::PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Which part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Start behind this one; none: at the start. Events stand before replies.
    pub after: Option<ParkedId>,
    /// The most entries wanted, up to 1000.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

/// What a person decides about something that was set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Try it again, under its old id; events at their old place.
    Replay,
    /// Remove it for good.
    Drop,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Which {
    id: Option<ParkedId>,
    ids: Vec<ParkedId>,
}

/// What to do with instances.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Have a worker, if there is none.
    Start,
    /// End the worker and have a new one.
    Restart,
    /// End the worker and have none.
    Kill,
}

impl Verb {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Kill => "kill",
        }
    }
}

/// Parameters of `start`, `restart` and `kill`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Act {
    /// Which; none: all.
    pub instances: Vec<String>,
    /// No grace.
    pub force: bool,
    /// How long to wait for the wanted phase, in milliseconds; 0: not at all.
    pub wait_ms: u64,
}

/// Parameters of `stop`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// No drain, no grace.
    pub force: bool,
}

/// A request that cannot be understood: an exit code and a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code of a tool that met this.
    pub code: u8,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Request {
    /// Whether it changes nothing and lets nobody in: what a dashboard may ask. A list of who may speak
    /// tells live codes, and a token is as good as its giver.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::Status | Self::Events | Self::ParkedList(_) | Self::ParkedShow(_) => true,
            Self::Act(..)
            | Self::Stop(_)
            | Self::Backup(_)
            | Self::Decide(..)
            | Self::Reload
            | Self::Send(_)
            | Self::AccessList
            | Self::Access(_)
            | Self::Order(..)
            | Self::Token
            | Self::Upgrade(_) => false,
        }
    }

    /// Its method and parameters on the wire.
    pub fn to_line(&self, id: u64) -> String {
        let (method, params) = match self {
            Self::Status => ("status", serde_json::Value::Null),
            Self::Act(Verb::Start, act) => ("start", json(act)),
            Self::Act(Verb::Restart, act) => ("restart", json(act)),
            Self::Act(Verb::Kill, act) => ("kill", json(act)),
            Self::Stop(stop) => ("stop", json(stop)),
            Self::Events => ("events", serde_json::Value::Null),
            Self::Backup(backup) => ("backup", json(backup)),
            Self::ParkedList(page) => ("parked.list", json(page)),
            Self::ParkedShow(id) => ("parked.show", serde_json::json!({ "id": id })),
            Self::Decide(Decision::Replay, ids) => {
                ("parked.replay", serde_json::json!({ "ids": ids }))
            }
            Self::Decide(Decision::Drop, ids) => ("parked.drop", serde_json::json!({ "ids": ids })),
            Self::Reload => ("reload", serde_json::Value::Null),
            Self::Send(asked) => ("message.send", json(asked)),
            Self::AccessList => ("access.list", serde_json::Value::Null),
            Self::Access(Decide::Approve(code)) => {
                ("access.approve", serde_json::json!({ "code": code }))
            }
            Self::Access(Decide::Allow(subject)) => ("access.allow", json(subject)),
            Self::Access(Decide::Deny(subject)) => ("access.deny", json(subject)),
            Self::Access(Decide::Revoke(subject)) => ("access.revoke", json(subject)),
            Self::Token => ("token", serde_json::Value::Null),
            Self::Order(order, instance) => {
                let method = match order {
                    Order::DeleteWebhook => "telegram.delete_webhook",
                    Order::DropPending => "telegram.drop_pending",
                };
                (method, serde_json::json!({ "instance": instance }))
            }
            Self::Upgrade(upgrade) => ("upgrade", json(upgrade)),
        };
        serde_json::json!({ "id": id, "method": method, "params": params }).to_string()
    }

    /// Reads a method and its parameters.
    pub fn parse(envelope: &Envelope<'_>) -> Result<Self, Refusal> {
        let params = envelope.params.map_or("null", RawValue::get);
        Ok(match envelope.method.as_str() {
            "status" => Self::Status,
            "start" => Self::Act(Verb::Start, read(params)?),
            "restart" => Self::Act(Verb::Restart, read(params)?),
            "kill" => Self::Act(Verb::Kill, read(params)?),
            "stop" => Self::Stop(read(params)?),
            "events" => Self::Events,
            "backup" => {
                let backup: Backup = read(params)?;
                if !backup.path.is_absolute() {
                    return Err(incomplete("path (an absolute one)"));
                }
                Self::Backup(backup)
            }
            "parked.list" => Self::ParkedList(read(params)?),
            "parked.show" => match read::<Which>(params)?.id {
                Some(id) => Self::ParkedShow(id),
                None => return Err(incomplete("id")),
            },
            "parked.replay" => Self::Decide(Decision::Replay, ids(params)?),
            "parked.drop" => Self::Decide(Decision::Drop, ids(params)?),
            "reload" => Self::Reload,
            "message.send" => Self::Send(Box::new(serde_json::from_str(params).map_err(|e| {
                Refusal { code: 64, message: format!("read parameters: {e}"), hint: None }
            })?)),
            "access.list" => Self::AccessList,
            "access.approve" => match read::<Code>(params)?.code {
                code if code.is_empty() => return Err(incomplete("code")),
                code => Self::Access(Decide::Approve(code)),
            },
            "access.allow" => Self::Access(Decide::Allow(subject(params)?)),
            "access.deny" => Self::Access(Decide::Deny(subject(params)?)),
            "access.revoke" => Self::Access(Decide::Revoke(subject(params)?)),
            "token" => Self::Token,
            "telegram.delete_webhook" => Self::Order(Order::DeleteWebhook, target(params)?),
            "telegram.drop_pending" => Self::Order(Order::DropPending, target(params)?),
            "upgrade" => {
                let upgrade: Upgrade = read(params)?;
                if !upgrade.program.is_absolute() {
                    return Err(incomplete("program (an absolute path)"));
                }
                Self::Upgrade(upgrade)
            }
            other => {
                return Err(Refusal {
                    code: 64,
                    message: format!("unknown method {other:?}"),
                    hint: Some("this supervisor may be older than the tool".into()),
                });
            }
        })
    }
}

/// Ids that one request may name.
pub const IDS_MAX: usize = 1000;

fn ids(params: &str) -> Result<Vec<ParkedId>, Refusal> {
    let ids = read::<Which>(params)?.ids;
    match ids.len() {
        0 => Err(incomplete("ids")),
        1..=IDS_MAX => Ok(ids),
        many => Err(Refusal {
            code: 64,
            message: format!("{many} ids; at most {IDS_MAX} are possible at once"),
            hint: None,
        }),
    }
}

fn subject(params: &str) -> Result<Subject, Refusal> {
    let subject: Subject = read(params)?;
    match (&subject.user, &subject.chat) {
        (Some(id), None) | (None, Some(id)) if !id.is_empty() => Ok(subject),
        _ => Err(incomplete("user or chat")),
    }
}

fn target(params: &str) -> Result<String, Refusal> {
    match read::<Target>(params)?.instance {
        name if name.is_empty() => Err(incomplete("instance")),
        name => Ok(name),
    }
}

fn incomplete(member: &str) -> Refusal {
    Refusal { code: 64, message: format!("read parameters: {member} is missing"), hint: None }
}

fn json<T: Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

fn read<'a, T: Deserialize<'a> + Default>(params: &'a str) -> Result<T, Refusal> {
    if params == "null" {
        return Ok(T::default());
    }
    serde_json::from_str(params).map_err(|e| Refusal {
        code: 64,
        message: format!("read parameters: {e}"),
        hint: None,
    })
}

/// One line back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<RawValue>>,
    /// What it led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// Or why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// What `start`, `restart` and `kill` led to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acted {
    /// [`SCHEMA`].
    pub schema: u32,
    /// One for each instance.
    pub results: Vec<Done>,
}

/// What became of one instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub instance: String,
    /// The finished state: `started`, `already_up`, `restarted`, `killed`, `already_down`, `held`,
    /// `timed_out`, `requested` where nobody waited, or `queued` where an agent asked for what would end
    /// its own turn.
    pub result: String,
    /// 0, or the exit code of a tool that asked only for this one.
    pub code: u8,
    /// The phase it is in.
    pub phase: String,
    /// The process, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it is not as wished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What became of `reload`: instances by what happens to them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `reloaded` or `unchanged`.
    pub result: String,
    /// New ones, started.
    pub added: Vec<String>,
    /// Those that are not configured any more, ended.
    pub removed: Vec<String>,
    /// Those whose block has changed, started anew.
    pub changed: Vec<String>,
}

/// How the supervisor is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `starting`, `serving`, `degraded` or `stopping`.
    pub state: String,
    /// The supervisor's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started, in Unix milliseconds.
    pub started_ms: i64,
    /// The last time that it became another program, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgraded: Option<Upgraded>,
    /// Its state directory.
    pub state_dir: String,
    /// Its configuration file; none: the built-in default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The store's file, and the work done on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<FileStatus>,
    /// Its instances, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
}

/// What was set aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParkedList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// In the order of ids, events first.
    pub items: Vec<ParkedItem>,
    /// There may be more behind them.
    pub more: bool,
}

/// Something that was set aside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParkedItem {
    /// Its id.
    pub id: ParkedId,
    /// `parked` (an event), `failed` or `unknown` (a reply).
    pub state: String,
    /// The platform instance.
    pub instance: Instance,
    /// The chat, by the platform's id.
    pub chat_id: String,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was accepted, in Unix milliseconds.
    pub received_ms: i64,
    /// When it was set aside, in Unix milliseconds.
    pub parked_ms: i64,
    /// Why.
    pub reason: String,
    /// What it says; only where one item is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The whole event; only where one event is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<serde_json::Value>>,
    /// What a reply does and has besides its text; only where one such reply is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<serde_json::Value>>,
}

/// What became of decisions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// [`SCHEMA`].
    pub schema: u32,
    /// In the order asked for.
    pub results: Vec<DecidedOne>,
}

/// What became of one decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecidedOne {
    /// About what.
    pub id: ParkedId,
    /// `replayed`, `dropped` or `unknown`: nothing of that id is set aside.
    pub result: String,
    /// The exit code of a tool that asked for this alone.
    pub code: u8,
}

/// The store's file, and the work done on it since the supervisor started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileStatus {
    /// Bytes of the file, without its log.
    pub bytes: u64,
    /// Bytes that are free within it.
    pub free_bytes: u64,
    /// Groups that were written and synced.
    pub commits: u64,
    /// Times the log was copied into the file.
    pub checkpoints: u64,
}

/// How one instance is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// `platform`, `agent` or `service`.
    pub role: String,
    /// `feishu`, `local`, `socket`, `echo`.
    pub kind: String,
    /// `up` or `down`.
    pub wanted: String,
    /// `down`, `starting`, `ready`, `stopping`, `backoff` or `held`.
    pub phase: String,
    /// Since when, in Unix milliseconds.
    pub since_ms: i64,
    /// Why it is not well: held, or its outer connection is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Who it is logged in as, or where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whether its outer connection works, as its receiving side proves.
    pub connected: bool,
    /// `up`, `limited`, `down`, or `conflict`: somebody else uses the same account. None: nothing is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
    /// What of this machine its process has confined itself to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined: Option<String>,
    /// Memory that its process alone uses, in bytes, at its last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Its incarnation.
    pub generation: u64,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Starts after the first, since the supervisor started.
    pub restarts: u64,
    /// When the next start is due, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_ms: Option<i64>,
    /// When its outer connection last made progress, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_ms: Option<i64>,
    /// When it last handed in an event, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_inbound_ms: Option<i64>,
    /// Its last deaths, newest first.
    pub exits: Vec<ExitStatus>,
    /// What is in the store for it: a platform instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStatus>,
    /// Whether it takes events: an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStatus>,
    /// How the telling of handlers goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksStatus>,
}

/// One death.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Which incarnation.
    pub generation: u64,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// How: `exit 69 (unavailable)`, `signal 9 (KILL)`.
    pub cause: String,
}

/// What the store holds for a platform instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Events accepted and not yet settled.
    pub waiting: u64,
    /// Events set aside.
    pub parked: u64,
    /// Replies that failed or whose end is unknown, until somebody decides about them.
    #[serde(default)]
    pub undelivered: u64,
    /// Replies not yet at their end.
    pub replies: u64,
    /// Events accepted since the supervisor started.
    pub accepted: u64,
    /// Repetitions suppressed since then.
    pub duplicates: u64,
    /// Events turned away by the access rules since then.
    pub denied: u64,
    /// Events refused since then, to be repeated by the platform: too many wait, or the disk is full.
    #[serde(default)]
    pub refused: u64,
    /// Replies sent since then.
    pub sent: u64,
    /// Replies that failed since then.
    pub failed: u64,
    /// Replies with unknown outcome since then.
    pub unknown: u64,
    /// Platform events without use here, since the worker started.
    pub ignored: u64,
    /// Platform input that could not be understood, since the worker started.
    pub malformed: u64,
}

/// How an agent stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GateStatus {
    /// It takes events.
    pub open: bool,
    /// Events that it holds.
    pub in_flight: u64,
    /// Events that it acknowledged since the supervisor started.
    pub acknowledged: u64,
    /// What came while it worked in the same conversation, by what was done.
    #[serde(default)]
    pub busy: BusyCounts,
}

/// What was done with events that came while the agent worked in their conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BusyCounts {
    /// They waited.
    pub queued: u64,
    /// They waited, and the work was ended for them.
    pub interrupted: u64,
    /// They went into the work.
    pub steered: u64,
}

/// Something changed. Unknown events are to be ignored. A line of the journal has the same shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// `phase`, `outside`, `gate`, `parked`, `asked`, `config`, `busy`, `supervisor`, `subscribed`; in the
    /// journal also `journal`.
    pub event: String,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// Which instance, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// What it is now: a phase, `up`, `down`, `open`, `shut`; what was asked for.
    pub now: String,
    /// Which incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Which process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Asker>,
    /// In the journal: how often the same happened again before this line was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<u64>,
}

impl Notice {
    /// Without details.
    pub fn new(event: &str, now: &str, at_ms: i64) -> Self {
        Self {
            event: event.to_owned(),
            at_ms,
            instance: None,
            now: now.to_owned(),
            generation: None,
            pid: None,
            reason: None,
            by: None,
            repeated: None,
        }
    }
}

/// Who asked for something, as the system tells it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Asker {
    /// Which user.
    pub uid: u32,
    /// Which process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What it is: the whole command line of a tool of ours, the name of any other program, since the
    /// arguments of a stranger may hold secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{EventId, OutboundId};

    fn parse(line: &str) -> Result<Request, Refusal> {
        Request::parse(&serde_json::from_str::<Envelope<'_>>(line).unwrap())
    }

    #[test]
    fn requests_survive_the_wire_and_tolerate_strangers() {
        let act = Act { instances: vec!["feishu".into()], force: true, wait_ms: 5 };
        for request in [
            Request::Status,
            Request::Act(Verb::Restart, act.clone()),
            Request::Act(Verb::Start, Act::default()),
            Request::Act(Verb::Kill, act),
            Request::Stop(Stop { force: true }),
            Request::Events,
            Request::ParkedList(Page { after: Some(ParkedId::Reply(OutboundId(5))), limit: 7 }),
            Request::Backup(Backup { path: "/b/store.db".into() }),
            Request::ParkedShow(ParkedId::Event(EventId(17))),
            Request::Decide(Decision::Drop, vec![ParkedId::Event(EventId(1))]),
            Request::Reload,
        ] {
            assert_eq!(parse(&request.to_line(7)), Ok(request));
        }
        let newer = r#"{"jsonrpc":"2.0","id":"x","method":"kill","params":{"later":1},"extra":[]}"#;
        assert_eq!(parse(newer), Ok(Request::Act(Verb::Kill, Act::default())));
        let list = r#"{"method":"parked.list"}"#;
        assert_eq!(parse(list), Ok(Request::ParkedList(Page::default())));
        let strange = r#"{"method":"parked.show","params":{"id":"x5"}}"#;
        assert!(parse(strange).unwrap_err().message.contains("no id such as e17"));
        assert_eq!(parse(r#"{"method":"parked.drop"}"#).unwrap_err().code, 64);
        assert_eq!(parse(r#"{"method":"dance"}"#).unwrap_err().code, 64);
        assert_eq!(parse(r#"{"method":"kill","params":{"force":"yes"}}"#).unwrap_err().code, 64);
    }
}

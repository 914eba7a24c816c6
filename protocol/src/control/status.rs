//! How everything is: the answer to `status`, asked from the live process.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::SCHEMA;

/// How the supervisor is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `starting`, `serving`, `degraded` or `stopping`.
    pub state: String,
    /// What keeps the whole of it from its work, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The supervisor's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started, in Unix milliseconds.
    pub started_ms: i64,
    /// How long it runs, in milliseconds, whatever the wall clock was set to meanwhile; none: it is an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_ms: Option<u64>,
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
    /// What waits of platforms that are not in the configuration, and goes on when they are again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfigured: Vec<Unconfigured>,
}

/// What waits of a platform that is not in the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unconfigured {
    /// The name that it had.
    pub name: String,
    /// Events that wait for an agent.
    pub waiting: u64,
    /// Replies that are on their way.
    pub replies: u64,
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
    /// When its event loop last gave a sign of life, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_ms: Option<i64>,
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
    /// When the oldest of them was accepted, in Unix milliseconds; none: none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<i64>,
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
    /// What was said in groups since then and not to the bot, by people who may speak.
    #[serde(default)]
    pub unaddressed: u64,
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
    /// Replies of it that were refused since then, to be handed in again: they could not be stored.
    #[serde(default)]
    pub refused: u64,
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

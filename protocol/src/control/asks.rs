//! What requests carry: the parameters of each method. Every member has a default where one is honest.

use serde::{Deserialize, Serialize};

use crate::id::ParkedId;

/// Parameters of `upgrade`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upgrade {
    /// The program to become, absolute.
    pub program: std::path::PathBuf,
    /// How long to wait for what is under way, in milliseconds.
    pub wait_ms: u64,
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

/// Of methods that have none.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Target {
    pub(super) instance: String,
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
#[serde(default, deny_unknown_fields)]
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
#[serde(default, deny_unknown_fields)]
pub(super) struct Code {
    pub(super) code: String,
}

/// Parameters of `backup`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// The new file, absolute; it must not exist.
    pub path: std::path::PathBuf,
}

/// Parameters of `events`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Follow {
    /// [`Notice::seq`](super::Notice::seq) of the last one that was heard: those behind it come first, as far as
    /// they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// Which part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// Start behind this one; none: at the start. Of what is set aside, events stand before replies.
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
#[serde(default, deny_unknown_fields)]
pub(super) struct Which {
    pub(super) id: Option<ParkedId>,
    pub(super) ids: Vec<ParkedId>,
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
#[serde(default, deny_unknown_fields)]
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
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// No drain, no grace.
    pub force: bool,
}

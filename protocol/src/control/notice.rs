//! What changes, and who wanted it: the lines after `events`, and those of the journal.

use serde::{Deserialize, Serialize};

use crate::id::Instance;

/// Something changed. Unknown events are to be ignored. A line of the journal has the same shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// `phase`, `outside`, `gate`, `parked`, `asked`, `config`, `busy`, `supervisor`, `socket`, `exchange`, `subscribed`; in the
    /// journal also `journal`.
    pub event: String,
    /// Its number, which grows, also from one supervisor to the next. Of `subscribed`: that of the last notice
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
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
            seq: None,
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

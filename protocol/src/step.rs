//! The steps of a message, at each of which a build for developers can be made to die, so that what is
//! promised about each can be tried (F11, F12).
//!
//! `HERMES_GW_DIE_AT=supervisor-says-verdict:7` ends the supervisor when it is about to say its seventh
//! verdict; a worker inherits the variable. A step is one of
//!
//! * `supervisor-hears-…`, `worker-hears-…`: a frame has arrived, and nothing was done about it;
//! * `supervisor-says-…`, `worker-says-…`: everything was done, and the frame has not left;
//! * `store-commit`, `store-committed`: before a group is durable, and after it, when nobody knows.
//!
//! Builds with optimisation have none of this.

use crate::worker::{FromWorker, ToWorker};

/// The variable that names a step, and how often it is survived, from 1.
pub const VARIABLE: &str = "HERMES_GW_DIE_AT";

/// The steps, in the order of a message's life.
pub const ALL: [&str; 22] = [
    "worker-says-inbound",
    "supervisor-hears-inbound",
    "store-commit",
    "store-committed",
    "supervisor-says-verdict",
    "worker-hears-verdict",
    "supervisor-says-deliver",
    "worker-hears-deliver",
    "worker-says-reply",
    "supervisor-hears-reply",
    "supervisor-says-reply-verdict",
    "worker-hears-reply-verdict",
    "worker-says-ack",
    "supervisor-hears-ack",
    "supervisor-says-settled",
    "worker-hears-settled",
    "supervisor-says-send",
    "worker-hears-send",
    "worker-says-outcome",
    "supervisor-hears-outcome",
    "supervisor-says-receipt",
    "worker-hears-receipt",
];

/// What is a step of a message.
pub trait Step {
    /// Its name after `says` or `hears`; none for what belongs to no message.
    fn name(&self) -> Option<&'static str>;
}

impl Step for FromWorker {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Inbound { .. } => Some("inbound"),
            Self::Reply { .. } => Some("reply"),
            Self::Ack { .. } => Some("ack"),
            Self::Outcome { .. } => Some("outcome"),
            _ => None,
        }
    }
}

impl Step for ToWorker {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Verdict { .. } => Some("verdict"),
            Self::Deliver(_) => Some("deliver"),
            Self::ReplyVerdict { .. } => Some("reply-verdict"),
            Self::Settled { .. } => Some("settled"),
            Self::Send(_) => Some("send"),
            Self::Receipt(_) => Some("receipt"),
            _ => None,
        }
    }
}

/// `who` (such as `worker-hears`) has come to this step.
#[inline]
pub fn pass(who: &str, step: &impl Step) {
    if cfg!(debug_assertions)
        && let Some(name) = step.name()
    {
        at(who, name);
    }
}

/// The step `who-name` is reached.
#[inline]
pub fn at(who: &str, name: &str) {
    #[cfg(debug_assertions)]
    plan::at(who, name);
    let _ = (who, name);
}

/// What a child inherits of [`VARIABLE`].
#[must_use]
pub fn inherited() -> Option<std::ffi::OsString> {
    if cfg!(debug_assertions) { std::env::var_os(VARIABLE) } else { None }
}

#[cfg(debug_assertions)]
mod plan {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Plan {
        step: String,
        left: AtomicU32,
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let said = std::env::var(super::VARIABLE).ok()?;
        let (step, left) = said.split_once(':')?;
        Some(Plan { step: step.to_owned(), left: AtomicU32::new(left.parse().ok()?) })
    });

    pub(super) fn at(who: &str, name: &str) {
        let Some(plan) = &*PLAN else { return };
        let is_it =
            plan.step.strip_prefix(who).and_then(|rest| rest.strip_prefix('-')) == Some(name);
        if is_it && plan.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }
}

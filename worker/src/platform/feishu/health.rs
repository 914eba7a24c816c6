//! What the supervisor is told of the connection, and of what works less than it should.
//!
//! A connection that is up may still be of limited use: tokens are refused, the app lacks a scope, somebody else
//! takes a share of the events, or what stands in between answers in the platform's place. That is told beside the
//! connection, and taken back when it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use protocol::worker::Outside;
use tokio::sync::Notify;

use super::discovery::CREDENTIALS;
use crate::clock;
use crate::strangers::Strangers;

const GRANT: &str = "grant it in the developer console under Permissions & Scopes, publish a version \
                     of the app, and have it approved";

const RIVAL: &str = "end it, or give it an app of its own; if it cannot be found, reset the app's secret in the developer console";

const BETWEEN: &str = "check base_url, the platform's status page, and proxies on the way to it";

const SECRETS: &str = "if they are the platform's, encrypt_key and verification_token differ from those in the developer \
                       console under Events & Callbacks; else somebody else posts there";

/// Requests in a row that nobody vouches for, until that is told.
const STRANGE: u32 = 3;

/// Calls in a row without an answer of the platform itself, until that is told.
const SILENT: u32 = 3;

/// A shorter pause is told to nobody.
const PAUSE_TOLD: Duration = Duration::from_secs(10);

/// Parts of the API without which replies or files are not what they should be.
const NEEDED: [&str; 8] = ["send", "reply", "edit", "patch", "recall", "image", "file", "resource"];
/// Parts without which an absence is not made up for, and what is quoted or forwarded is not read.
const ASKED: [&str; 2] = ["history", "message"];

#[derive(Debug, Default)]
struct State {
    /// Since when, in Unix milliseconds.
    up: Option<i64>,
    rival: Option<String>,
    /// Why tokens are refused.
    refused: Option<String>,
    denied: BTreeMap<&'static str, String>,
    /// Calls in a row that the platform itself did not answer, and what came instead.
    silent: BTreeMap<&'static str, (u32, String)>,
    /// What the platform takes no more of for a while.
    paused: BTreeMap<&'static str, String>,
    /// Requests in a row that nobody vouches for, and what is wrong with the last.
    strange: (u32, &'static str),
    strangers: Strangers,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
    /// Something besides the connection changed.
    pub(super) changed: Notify,
}

impl Health {
    /// The connection works, or not.
    pub(super) fn connected(&self, up: bool) {
        let mut state = self.lock();
        state.up = up.then(clock::unix_ms);
        if !up {
            state.rival = None;
            state.silent.clear();
        }
    }

    /// Since when it works, in Unix milliseconds.
    pub(super) fn connected_since(&self) -> Option<i64> {
        self.lock().up
    }

    /// Somebody else hears what this one does not, or not any more.
    pub(super) fn rival(&self, reason: Option<String>) {
        let mut state = self.lock();
        if state.rival.is_some() != reason.is_some() {
            self.changed.notify_one();
        }
        state.rival = reason;
    }

    /// The app may not use this part of the API.
    pub(super) fn denied(&self, api: &'static str, reason: &str) {
        if !NEEDED.contains(&api) && !ASKED.contains(&api) {
            return;
        }
        let known = self.lock().denied.insert(api, reason.to_owned());
        if known.as_deref() != Some(reason) {
            tracing::warn!(reason, "the app lacks a scope");
            self.changed.notify_one();
        }
    }

    /// The platform gives no token, or refuses those that it gave.
    pub(super) fn refused(&self, reason: &str) {
        let known = self.lock().refused.replace(reason.to_owned());
        if known.as_deref() != Some(reason) {
            tracing::warn!(reason, "replies have to wait");
            self.changed.notify_one();
        }
    }

    /// A call had no answer of the platform itself.
    pub(super) fn unanswered(&self, api: &'static str, reason: &str) {
        if !NEEDED.contains(&api) {
            return;
        }
        let mut state = self.lock();
        let (count, why) = state.silent.entry(api).or_default();
        *count = count.saturating_add(1);
        reason.clone_into(why);
        if *count == SILENT {
            tracing::warn!(reason, api, "the platform does not answer");
            self.changed.notify_one();
        }
    }

    /// The platform itself answered, and took the token.
    pub(super) fn answered(&self, api: &'static str) {
        let mut state = self.lock();
        let was_refused = state.refused.take().is_some();
        let was_silent = state.silent.remove(api).is_some_and(|(count, _)| count >= SILENT);
        let was_paused = state.paused.remove(api).is_some();
        if was_refused || was_silent || was_paused {
            self.changed.notify_one();
        }
    }

    /// The platform wants to hear no more of this for a while.
    pub(super) fn paused(&self, api: &'static str, pause: Duration, reason: &str) {
        if !NEEDED.contains(&api) || pause < PAUSE_TOLD {
            return;
        }
        let now = Duration::from_millis(clock::unix_ms().unsigned_abs());
        let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + now + pause);
        let reason = format!("the platform takes no more before {until}: {reason}");
        tracing::warn!(reason, api, "replies have to wait");
        self.lock().paused.insert(api, reason);
        self.changed.notify_one();
    }

    /// A request came that nobody vouches for.
    pub(super) fn strange(&self, reason: &'static str) {
        let mut state = self.lock();
        let in_a_row = state.strange.0.saturating_add(1);
        state.strange = (in_a_row, reason);
        let told = state.strangers.refused(reason);
        if let Some(times) = told {
            tracing::warn!(reason, times, "a request that nobody vouches for is refused");
        }
        if in_a_row == STRANGE || (told.is_some() && in_a_row > STRANGE) {
            self.changed.notify_one();
        }
    }

    /// A request came that the platform vouches for.
    pub(super) fn vouched(&self) {
        let mut state = self.lock();
        state.strangers.vouched();
        if std::mem::take(&mut state.strange).0 >= STRANGE {
            self.changed.notify_one();
        }
    }

    /// It may.
    pub(super) fn granted(&self, api: &'static str) {
        if self.lock().denied.remove(api).is_some() {
            self.changed.notify_one();
        }
    }

    /// What there is to tell of a connection that works.
    pub(super) fn outside(&self) -> Option<Outside> {
        let state = self.lock();
        state.up?;
        let silent = state.silent.values().find(|(count, _)| *count >= SILENT);
        Some(if let Some(reason) = &state.refused {
            Outside::Limited { reason: reason.clone(), remedy: Some(CREDENTIALS.to_owned()) }
        } else if let Some(reason) = &state.rival {
            let reason = format!("conflict: {reason}");
            Outside::Limited { reason, remedy: Some(RIVAL.to_owned()) }
        } else if let Some(reason) = state.denied.values().next() {
            Outside::Limited { reason: reason.clone(), remedy: Some(GRANT.to_owned()) }
        } else if let Some((_, why)) = silent {
            let reason = format!("replies do not get through: {why}");
            Outside::Limited { reason, remedy: Some(BETWEEN.to_owned()) }
        } else if let Some(reason) = state.paused.values().next() {
            Outside::Limited { reason: reason.clone(), remedy: None }
        } else if state.strange.0 >= STRANGE {
            let reason = format!("what is posted to it is refused: {}", state.strange.1);
            Outside::Limited { reason, remedy: Some(SECRETS.to_owned()) }
        } else {
            Outside::Up
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_limited_is_told_until_it_is_over() {
        let health = Health::default();
        assert_eq!(health.outside(), None);
        health.connected(true);
        assert_eq!(health.outside(), Some(Outside::Up));
        health.denied("card", "of no importance");
        assert_eq!(health.outside(), Some(Outside::Up));
        health.denied("send", "lacks im:message");
        let Some(Outside::Limited { reason, .. }) = health.outside() else { panic!() };
        assert_eq!(reason, "lacks im:message");
        health.rival(Some("r".to_owned()));
        let Some(Outside::Limited { reason, .. }) = health.outside() else { panic!() };
        assert_eq!(reason, "conflict: r");
        health.rival(None);
        health.granted("send");
        assert_eq!(health.outside(), Some(Outside::Up));
        for count in 1..=SILENT {
            assert_eq!(health.outside(), Some(Outside::Up), "{count}");
            health.unanswered("send", "HTTP 502");
        }
        health.refused("10015");
        let Some(Outside::Limited { reason, .. }) = health.outside() else { panic!() };
        assert_eq!(reason, "10015");
        health.answered("reply");
        let Some(Outside::Limited { reason, .. }) = health.outside() else { panic!() };
        assert!(reason.contains("HTTP 502"));
        health.answered("send");
        assert_eq!(health.outside(), Some(Outside::Up));
        health.paused("send", Duration::from_secs(1), "99991400 slowly");
        assert_eq!(health.outside(), Some(Outside::Up), "too short to be told");
        health.paused("send", Duration::from_secs(300), "99991400 slowly");
        let Some(Outside::Limited { reason, .. }) = health.outside() else { panic!() };
        assert!(reason.ends_with("Z: 99991400 slowly"), "{reason}");
        health.answered("send");
        assert_eq!(health.outside(), Some(Outside::Up));
        health.connected(false);
        assert_eq!(health.outside(), None);
    }
}

//! What the supervisor is told of the connection, and of what works less than it should.
//!
//! A connection that is up may still be of limited use: the app lacks a scope, or somebody else takes a
//! share of the events. That is told beside the connection, and taken back when it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::worker::Outside;
use tokio::sync::Notify;

use crate::clock;

const GRANT: &str = "grant it in the developer console under Permissions & Scopes, publish a version \
                     of the app, and have it approved";

const RIVAL: &str = "end it, or give it an app of its own; if it cannot be found, reset the app's secret in the developer console";

/// Parts of the API without which replies or files are not what they should be.
const NEEDED: [&str; 8] = ["send", "reply", "edit", "patch", "recall", "image", "file", "resource"];

#[derive(Debug, Default)]
struct State {
    /// Since when, in Unix milliseconds.
    up: Option<i64>,
    rival: Option<String>,
    denied: BTreeMap<&'static str, String>,
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
        if !NEEDED.contains(&api) {
            return;
        }
        let known = self.lock().denied.insert(api, reason.to_owned());
        if known.as_deref() != Some(reason) {
            tracing::warn!(reason, "the app lacks a scope");
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
        Some(if let Some(reason) = &state.rival {
            let reason = format!("conflict: {reason}");
            Outside::Limited { reason, remedy: Some(RIVAL.to_owned()) }
        } else if let Some(reason) = state.denied.values().next() {
            Outside::Limited { reason: reason.clone(), remedy: Some(GRANT.to_owned()) }
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
        health.connected(false);
        assert_eq!(health.outside(), None);
    }
}

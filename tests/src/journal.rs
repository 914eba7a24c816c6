//! What a simulated platform saw and did, in order, and how a test waits for it.
//!
//! A test reads the journal or waits for an entry; it never sleeps.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Entry<W> {
    /// Since the start of the platform; in JSON as milliseconds.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// The app or account it concerns; empty when that is unknown.
    pub app: String,
    #[serde(flatten)]
    pub what: W,
}

/// The list of what happened.
pub(crate) struct Journal<W> {
    started: Instant,
    /// Shared with whoever looks at it: a look holds no lock, so it may ask the platform anything.
    entries: Mutex<Arc<Vec<Entry<W>>>>,
    grown: watch::Sender<usize>,
}

impl<W: Clone + Debug> Journal<W> {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), entries: Mutex::default(), grown: watch::Sender::new(0) }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn note(&self, app: &str, what: W) {
        let length = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = Arc::make_mut(&mut entries);
            entries.push(Entry { at: self.now(), app: app.to_owned(), what });
            entries.len()
        };
        self.grown.send_replace(length);
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&[Entry<W>]) -> T) -> T {
        look(&self.entries())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.grown.subscribe()
    }

    /// Waits until `look` finds what it looks for; none after `limit`.
    pub(crate) async fn find<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&[Entry<W>]) -> Option<T>,
    ) -> Option<T> {
        let mut grown = self.watch();
        let search = async {
            loop {
                grown.mark_unchanged();
                if let Some(found) = self.read(&mut look) {
                    return Some(found);
                }
                grown.changed().await.ok()?;
            }
        };
        timeout(limit, search).await.ok().flatten()
    }

    /// The last entries as text, for the message of a failed wait.
    pub(crate) fn tail(&self) -> String {
        let entries = self.entries();
        let skipped = entries.len().saturating_sub(40);
        let lines = entries.iter().skip(skipped);
        lines.fold(String::new(), |text, entry| {
            format!(
                "{text}
  {:>9.3?} {} {:?}",
                entry.at, entry.app, entry.what
            )
        })
    }

    fn entries(&self) -> Arc<Vec<Entry<W>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn milliseconds<S: Serializer>(
    span: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((span.as_secs_f64() * 1e6).round() / 1e3)
}

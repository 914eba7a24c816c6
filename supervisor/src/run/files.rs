//! The files that our promises rest on: those of the store, and the lock. Somebody may take them away while
//! we serve; then nothing may be promised any more (F102).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Gateway;
use crate::error::Error;
use crate::lock::Lock;
use crate::store::{self, Fate, Removed};

/// How often to look, while the store has nothing to do: it looks for itself with each commit.
const LOOK: Duration = Duration::from_secs(1);

impl Gateway {
    /// Ends if a file is not the one at its path any more.
    pub(super) fn look_at_files(&mut self, lock: &Lock, now: Instant) {
        if now < self.files_at || self.fatal.is_some() {
            return;
        }
        self.files_at = now + LOOK;
        if let Some(path) = self.taken_away(lock) {
            tracing::error!(path = %path.display(), "somebody took a file away that is in use");
            // What became of the store is known when it is closed; without the lock alone, it is all there.
            let removed = Removed { path, fate: Fate::Whole, waiting: None };
            self.fatal = Some(Error::Store(store::Error::Removed(removed)));
        }
    }

    /// The file that somebody has taken away.
    pub(super) fn taken_away(&self, lock: &Lock) -> Option<PathBuf> {
        let lock_path = self.paths.lock();
        let store = self.store.missing().map(Into::into);
        store.or_else(|| (!lock.is_at(&lock_path)).then_some(lock_path))
    }
}

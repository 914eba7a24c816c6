//! How the supervisor leaves: who may tell it to, how long that may take, and what is done last.

use std::path::Path;
use std::time::Duration;

use protocol::control::Asker;
use tokio::sync::mpsc;

use super::Gateway;
use super::listening::Listening;
use crate::clock;
use crate::error::Error;
use crate::identity;
use crate::lock::{Left, Lock};
use crate::notify;
use crate::policy::closing::{self, Stage};
use crate::policy::lifecycle;
use crate::process::signals::Asked;
use crate::store::{self, Done, Fate, Removed};

/// What is left of the service manager's limit when we have left.
const STOP_MARGIN: Duration = Duration::from_secs(2);
/// How long whoever removes the files of the store may take to be done with it.
const SETTLE: Duration = Duration::from_secs(1);
/// What a service manager is asked for while what they held is saved.
const RESCUE: Duration = Duration::from_secs(600);

impl Gateway {
    /// A signal tells the supervisor to leave.
    pub(super) fn told_to_leave(&mut self, asked: Asked) {
        // A service manager takes a clean end for the wish to stay down. Only it may wish so.
        if self.closing.stage() == Stage::Serving {
            self.come_back = notify::is_systemd() && !asked.is_from_above();
        } else {
            // A shell script that somebody interrupts stops at the code that says so.
            self.interrupted = asked.name == "SIGINT";
        }
        let command = identity::command(asked.pid);
        let by = Asker { uid: asked.uid, pid: Some(asked.pid), command };
        self.ask_to_leave(asked.name, Some(by));
    }

    /// Somebody asks the supervisor to leave; the second time it is forced.
    pub(super) fn ask_to_leave(&mut self, why: &str, by: Option<Asker>) {
        let was = self.closing.stage();
        if let Some(action) = self.closing.ask(self.stop_budget(), clock::now()) {
            let now = if was == Stage::Serving { "stopping" } else { "forced" };
            self.announce_supervisor(now, Some(why.into()), by);
            if was == Stage::Serving {
                self.hook_gateway("gateway:shutdown");
            }
            self.close(action);
        }
    }

    /// How long a stop may take: as configured, and within what the service manager grants.
    pub(super) fn stop_budget(&self) -> Duration {
        let granted = self.manager.stop_limit();
        granted.map_or(self.stop, |limit| self.stop.min(limit.saturating_sub(STOP_MARGIN)))
    }

    /// Performs a step of the end.
    pub(super) fn close(&mut self, action: closing::Action) {
        // The workers of now are the last ones, and this program is.
        self.end_reloads();
        self.end_upgrade();
        match action {
            closing::Action::Drain => self.manager.stopping(),
            closing::Action::End | closing::Action::Kill => {
                let force = match action {
                    closing::Action::Kill => lifecycle::Force::Yes,
                    _ => lifecycle::Force::No,
                };
                for index in 0..self.slots.len() {
                    self.live(index, lifecycle::Input::Kill(force));
                }
                return;
            }
            closing::Action::Leave => return,
        }
        for index in 0..self.slots.len() {
            self.drain(index);
        }
    }

    /// The last steps: what was handed out is taken back, the store is closed, the lock released.
    pub(super) async fn leave(
        mut self,
        listening: Listening,
        mut answers: mpsc::Receiver<Vec<Done>>,
        mut lock: Lock,
    ) -> Result<(), Error> {
        for index in 0..self.slots.len() {
            self.take_back(index);
        }
        let fatal = self.fatal.take();
        self.announce_supervisor("left", fatal.as_ref().map(ToString::to_string), None);
        let counted = self.repeats.rest();
        self.note_repeated(counted);
        // Whoever waits for our end waits for the end of the connection, after the lock is free.
        let leaving = std::mem::take(&mut self.leaving);
        if self.store.missing().is_some() {
            // Whoever removes files may be in the middle of it, and a copy should not go with the rest.
            self.manager.stopping();
            self.manager.extend(RESCUE);
            tokio::time::sleep(SETTLE).await;
        }
        let closing = self.store.finish();
        while answers.recv().await.is_some() {}
        let fatal = match (closing.join(), fatal) {
            (Err(store::Error::Removed(removed)), _) => {
                Some(put_back(removed, &mut lock, &self.paths.lock()))
            }
            // How it closed decides what became of it.
            (Err(e), None | Some(Error::Store(_))) => Some(e.into()),
            (_, fatal) => fatal,
        };
        self.journal.finish();
        drop(listening);
        let error = fatal.as_ref().map(ToString::to_string);
        let left = Left { at_ms: clock::unix_ms(), error };
        // For people: who finds no last word says that it crashed.
        let _ = lock.sign_off(left);
        drop(lock);
        drop(leaving);
        match fatal {
            Some(e) => Err(e),
            None if self.come_back => Err(Error::ToldByStranger),
            None if self.interrupted => Err(Error::Interrupted),
            None => Ok(()),
        }
    }
}

/// Puts what was saved of a store in its place, if that is free and ours. Another supervisor may serve from
/// there by now: then it stays a copy.
fn put_back(removed: Removed, lock: &mut Lock, path: &Path) -> Error {
    let back = match &removed.fate {
        Fate::Saved(copy) if lock.is_at(path) || lock.renew(path).is_ok() => store::put_back(copy),
        Fate::Saved(_) | Fate::Whole | Fate::Moved(_) | Fate::PutBack | Fate::Lost(_) => Ok(false),
    };
    let fate = match back {
        Ok(true) => Fate::PutBack,
        Ok(false) => removed.fate,
        Err(e) => {
            tracing::error!(error = %e, "cannot put the store back in its place");
            removed.fate
        }
    };
    Error::Store(store::Error::Removed(Removed { fate, ..removed }))
}

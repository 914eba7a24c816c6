//! What the thread does while nothing is queued: counting, giving pages back, copying and shrinking the
//! log; and backups, of which a slice is copied between any two groups.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use super::Owner;
use super::fault::Fault;
use crate::store::answer::{Answer, Done};
use crate::store::backup::{Backup, Progress};
use crate::store::op::{Op, Ticket};
use crate::store::space::{self, Log};

/// What the thread does while nothing is queued, and how long it waits before that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Small slices of work, as long as there are any.
    Slices,
    /// Copy the log into the file.
    Copy,
    /// Shrink the log.
    Shrink,
    /// Nothing is left to do.
    Sleep,
}

impl Rest {
    fn wait(self) -> Option<Duration> {
        match self {
            Self::Slices => Some(Duration::from_millis(2)),
            Self::Copy => Some(Duration::from_secs(1)),
            Self::Shrink => Some(Duration::from_secs(10)),
            Self::Sleep => None,
        }
    }
}

impl Owner {
    pub(super) fn next(&self, queue: &Receiver<Op>) -> Result<Op, RecvTimeoutError> {
        if self.backup.is_some() {
            return queue.try_recv().map_err(|e| match e {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
        match self.rest.wait() {
            Some(wait) => queue.recv_timeout(wait),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Brings the main file up to date and begins to copy it.
    pub(super) fn start_backup(&mut self, ticket: Ticket, path: &Path) -> Result<(), Fault> {
        let answer = |answer| vec![Done::Answered { ticket, answer }];
        if self.backup.is_some() {
            self.send(answer(Answer::Busy));
            return Ok(());
        }
        self.copy()?;
        let log = Log::look(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
        if log.ahead {
            self.send(answer(Answer::Full));
            return Ok(());
        }
        let start = match &self.room {
            Some(room) => Backup::start(ticket, room.file(), path),
            None => Err(io::Error::other("the store's file cannot be read")),
        };
        match start {
            Ok(backup) => self.backup = Some(backup),
            Err(e) => self.send(answer(Answer::Failed(e.to_string()))),
        }
        Ok(())
    }

    /// One slice of the backup under way, if there is one.
    pub(super) fn back_up(&mut self) {
        let (Some(backup), Some(room)) = (&mut self.backup, &self.room) else { return };
        let answer = match backup.slice(room.file()) {
            Ok(Progress::More) => return,
            Ok(Progress::Done(bytes)) => Answer::BackedUp { bytes },
            Err(e) => Answer::Failed(e.to_string()),
        };
        let Some(backup) = self.backup.take() else { return };
        let ticket = backup.ticket;
        if !matches!(answer, Answer::BackedUp { .. }) {
            backup.give_up();
        }
        self.send(vec![Done::Answered { ticket, answer }]);
    }

    /// One step of what is to be done while nothing else is.
    pub(super) fn tidy(&mut self) -> Result<(), Fault> {
        if self.backup.is_some() {
            self.back_up();
            return Ok(());
        }
        let db = &self.tables.db;
        let fault = |e: rusqlite::Error| Fault::of(&e, None);
        match self.rest {
            Rest::Slices => {
                if self.tables.tally.is_counting() {
                    self.tables.tally.slice(db).map_err(fault)?;
                } else if space::has_slack(db).map_err(fault)? {
                    match space::give_back(db).map_err(fault) {
                        Err(Fault::Full) => self.rest = Rest::Copy,
                        other => {
                            other?;
                            self.gave_back = true;
                        }
                    }
                    self.after_commit()?;
                } else {
                    if std::mem::take(&mut self.gave_back) {
                        self.copy()?;
                    }
                    self.rest = Rest::Copy;
                }
            }
            Rest::Copy => {
                if Log::look(db).map_err(fault)?.ahead {
                    self.copy()?;
                }
                self.rest = Rest::Shrink;
            }
            Rest::Shrink => {
                let pages = space::pages(db).map_err(fault)?;
                if let Some(room) = &mut self.room {
                    room.rest(pages);
                }
                self.shrink()?;
                // What the engine holds is worth nothing until something comes again.
                self.tables.db.flush_prepared_statement_cache();
                self.tables.db.execute_batch("PRAGMA shrink_memory").map_err(fault)?;
                self.rest = Rest::Sleep;
            }
            Rest::Sleep => {}
        }
        Ok(())
    }
}

//! The thread that owns the store: gather what is queued, one transaction, commit, answer, tidy up.
//!
//! Whatever fails in a write or a sync poisons the store, unless the disk is only full. A sync that failed
//! is never repeated: the kernel may have dropped the very pages that it could not write.

mod fault;
mod group;
mod rest;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

use tokio::sync::mpsc;

use self::fault::Fault;
use self::group::size;
use self::rest::Rest;
use super::Error;
use super::answer::{Answer, Done};
use super::backup::Backup;
use super::op::Op;
use super::place::{Fate, Place, Removed};
use super::space::{self, Log, Room};
use super::tables::Tables;

/// The most operations in a group.
const GROUP_OPS: usize = 512;

/// The most bytes of payload in a group.
const GROUP_BYTES: usize = 1 << 20;

pub(super) struct Owner {
    tables: Tables,
    place: Place,
    answers: mpsc::Sender<Vec<Done>>,
    /// Searches that are not over.
    again: Vec<Op>,
    log_length: u64,
    /// Pages were given back, and the file is still as long as before.
    gave_back: bool,
    rest: Rest,
    /// The backup under way.
    backup: Option<Backup>,
    /// The main file. Dropped after the connection.
    room: Option<Room>,
    /// No event is accepted until then, since one has found no room.
    full_until: Option<Instant>,
}

impl Owner {
    pub(super) fn new(tables: Tables, place: Place, answers: mpsc::Sender<Vec<Done>>) -> Self {
        Self {
            tables,
            place,
            answers,
            again: Vec::new(),
            log_length: 0,
            gave_back: false,
            rest: Rest::Slices,
            backup: None,
            room: None,
            full_until: None,
        }
    }

    /// Works until the queue is closed and empty, or the store is poisoned.
    pub(super) fn run(mut self, queue: &Receiver<Op>) -> Result<(), Error> {
        self.log_length = self.log_length_on_disk().unwrap_or(0);
        let file = File::options().read(true).write(true).open(&self.tables.paths.file);
        self.room = file.ok().map(Room::of);
        let end = self.work(queue).and_then(|()| self.finish());
        let Err(fault) = end else { return Ok(()) };
        // Whatever else went wrong: files that were taken away are to be saved.
        let removed = self.place.missing().map(Path::to_owned);
        let reason = self.poison(removed.clone().map_or(fault, Fault::Removed));
        // Whoever still asks learns it too, until the handle is closed.
        while queue.recv().is_ok() {
            self.send(vec![Done::Poisoned { error: reason.clone() }]);
        }
        Err(match removed {
            Some(path) => Error::Removed(self.rescue(path)),
            None => Error::Poisoned { reason },
        })
    }

    /// Saves what files hold that somebody has taken away.
    fn rescue(&mut self, path: PathBuf) -> Removed {
        let db = &self.tables.db;
        let count = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox)";
        let waiting = db.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).ok();
        let saved = match (Log::copy(db), &self.room) {
            (Ok(Log { ahead: false, .. }), Some(room)) => self.place.save(room.file()),
            (Ok(_), Some(_)) => Err(io::Error::other("its log could not be copied")),
            (Err(e), _) => Err(io::Error::other(e)),
            (_, None) => Err(io::Error::other("its file cannot be read")),
        };
        let fate = saved.unwrap_or_else(|e| Fate::Lost(e.to_string()));
        Removed { path, fate, waiting }
    }

    fn work(&mut self, queue: &Receiver<Op>) -> Result<(), Fault> {
        let mut group = Vec::with_capacity(GROUP_OPS);
        loop {
            group.append(&mut self.again);
            if group.is_empty() {
                match self.next(queue) {
                    Ok(op) => group.push(op),
                    Err(RecvTimeoutError::Timeout) => {
                        self.tidy()?;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
            let mut bytes: usize = group.iter().map(size).sum();
            while group.len() < GROUP_OPS && bytes < GROUP_BYTES {
                match queue.try_recv() {
                    Ok(op) => {
                        bytes += size(&op);
                        group.push(op);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            let done = self.group(&group)?;
            self.send(done);
            for op in &group {
                if let Op::Backup { ticket, path } = op {
                    self.start_backup(*ticket, path)?;
                }
            }
            group.clear();
            self.after_commit()?;
            self.back_up();
            self.rest = Rest::Slices;
        }
    }

    fn send(&self, done: Vec<Done>) {
        if !done.is_empty() {
            // Nobody listens any more: the work is done all the same.
            let _ = self.answers.blocking_send(done);
        }
    }

    /// Keeps memory and the log in bounds. The answers are already out.
    fn after_commit(&mut self) -> Result<(), Fault> {
        let Tables { db, lanes, seen, .. } = &mut self.tables;
        for moved in [
            if lanes.is_long() { lanes.settle(db) } else { Ok(()) },
            if seen.is_long() { seen.seal(db) } else { Ok(()) },
        ] {
            match moved.map_err(|e| Fault::of(&e, None)) {
                // It stays in memory until there is room.
                Ok(()) | Err(Fault::Full) => {}
                Err(fault) => return Err(fault),
            }
        }
        let log = Log::look(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
        if log.is_full() && self.backup.is_none() {
            self.copy()?;
        } else if let Some(size) = log.wants(self.log_length) {
            // Growing ahead is a favour: if the disk is full, the commit will tell.
            let _ = space::grow_log(&self.tables.paths.wal, size);
            self.log_length = self.log_length_on_disk().unwrap_or(0);
        }
        Ok(())
    }

    /// The disk is full: the log is to be used anew. A backup would see the file change.
    fn make_room(&mut self) -> Result<(), Fault> {
        if let Some(backup) = self.backup.take() {
            let ticket = backup.ticket;
            backup.give_up();
            self.send(vec![Done::Answered { ticket, answer: Answer::Full }]);
        }
        self.copy()
    }

    fn copy(&mut self) -> Result<(), Fault> {
        self.look()?;
        match Log::copy(&self.tables.db).map_err(|e| Fault::of(&e, None)) {
            Ok(_) => {
                self.tables.tally.files.checkpoints += 1;
                let pages = space::pages(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
                if let Some(room) = &mut self.room {
                    room.renew(pages);
                }
                self.log_length = self.log_length_on_disk().unwrap_or(0);
                Ok(())
            }
            // The log keeps everything until there is room.
            Err(Fault::Full) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Cuts the log to what it has at rest.
    fn shrink(&mut self) -> Result<(), Fault> {
        if self.log_length <= space::LOG_AT_REST {
            return Ok(());
        }
        self.look()?;
        match Log::empty(&self.tables.db).map_err(|e| Fault::of(&e, None)) {
            Err(Fault::Full) => {}
            Err(fault) => return Err(fault),
            Ok(_) => {
                // Else new zeros could reach the disk in front of what was cut off.
                let wal = &self.tables.paths.wal;
                let _ = File::open(wal)
                    .and_then(|log| log.sync_data())
                    .and_then(|()| space::grow_log(wal, space::LOG_AT_REST));
                let pages = space::pages(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
                if let Some(room) = &mut self.room {
                    room.renew(pages);
                }
            }
        }
        self.log_length = self.log_length_on_disk().unwrap_or(0);
        Ok(())
    }

    fn log_length_on_disk(&self) -> Option<u64> {
        Some(std::fs::metadata(&self.tables.paths.wal).ok()?.len())
    }

    /// The polite end: nothing is left in the log that is not in the file.
    fn finish(&mut self) -> Result<(), Fault> {
        if let Some(backup) = self.backup.take() {
            backup.give_up();
        }
        self.look()?;
        let tables = &mut self.tables;
        let mut last = || {
            tables.settle_ids()?;
            Log::copy(&tables.db)
        };
        match last().map_err(|e| Fault::of(&e, None)) {
            Ok(_) | Err(Fault::Full) => self.look(),
            Err(fault) => Err(fault),
        }
    }

    fn poison(&self, fault: Fault) -> String {
        let reason = match fault {
            Fault::Own(_, text) | Fault::Fatal(text) => text,
            Fault::Full => "the disk is full".to_owned(),
            // No mark for the next start: what it finds at this path is another file.
            Fault::Removed(path) => format!("somebody took {} away", path.display()),
            Fault::Damaged(text) => {
                // The next start must not trust the file, whatever it looks like from outside.
                let _ = std::fs::write(&self.tables.paths.suspect, "");
                text
            }
        };
        self.send(vec![Done::Poisoned { error: reason.clone() }]);
        reason
    }
}

//! The thread that owns the store: gather what is queued, one transaction, commit, answer, tidy up.
//!
//! A group in which one operation is impossible is rolled back and performed again without it; so the
//! usual path needs no savepoints. A full disk refuses what makes the store larger and tries the rest
//! again: settlements find room in the log, which was grown before.
//!
//! Whatever else fails in a write or a sync poisons the store. A sync that failed is never repeated:
//! the kernel may have dropped the very pages that it could not write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use rusqlite::ErrorCode;
use tokio::sync::mpsc;

use super::Error;
use super::backup::{Backup, Progress};
use super::op::{Answer, Done, Op, Ticket};
use super::schema::PAGE_SIZE;
use super::space::{self, Log, Room};
use super::tables::{Outcome, Tables};

/// The most operations in a group.
const GROUP_OPS: usize = 512;

/// The most bytes of payload in a group.
const GROUP_BYTES: usize = 1 << 20;

/// What the thread does while nothing is queued, and how long it waits before that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
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

/// Why a group did not come about.
#[derive(Debug)]
enum Fault {
    /// The operation at this place is impossible.
    Own(usize, String),
    /// The disk is full.
    Full,
    /// The file is damaged.
    Damaged(String),
    /// Anything else.
    Fatal(String),
}

impl Fault {
    fn of(error: &rusqlite::Error, place: Option<usize>) -> Self {
        let text = error.to_string();
        match (error.sqlite_error_code(), place) {
            (Some(ErrorCode::DiskFull), _) => Self::Full,
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _) => Self::Damaged(text),
            (
                None
                | Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch),
                Some(place),
            ) => Self::Own(place, text),
            _ => Self::Fatal(text),
        }
    }
}

pub(super) struct Owner {
    tables: Tables,
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
}

impl Owner {
    pub(super) fn new(tables: Tables, answers: mpsc::Sender<Vec<Done>>) -> Self {
        Self {
            tables,
            answers,
            again: Vec::new(),
            log_length: 0,
            gave_back: false,
            rest: Rest::Slices,
            backup: None,
            room: None,
        }
    }

    /// Works until the queue is closed and empty, or the store is poisoned.
    pub(super) fn run(mut self, queue: &Receiver<Op>) -> Result<(), Error> {
        self.log_length = self.log_length_on_disk();
        let file = File::options().read(true).write(true).open(&self.tables.paths.file);
        self.room = file.ok().map(Room::of);
        let end = self.work(queue).and_then(|()| self.finish());
        let Err(fault) = end else { return Ok(()) };
        let reason = self.poison(fault);
        // Whoever still asks learns it too, until the handle is closed.
        while queue.recv().is_ok() {
            self.send(vec![Done::Poisoned { error: reason.clone() }]);
        }
        Err(Error::Poisoned { reason })
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

    fn next(&self, queue: &Receiver<Op>) -> Result<Op, RecvTimeoutError> {
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

    fn send(&self, done: Vec<Done>) {
        if !done.is_empty() {
            // Nobody listens any more: the work is done all the same.
            let _ = self.answers.blocking_send(done);
        }
    }

    /// What there is no room for. Events are refused first: a reply lets an event go.
    fn without_room(&mut self, ops: &[Op]) -> Result<BTreeMap<usize, Answer>, Fault> {
        let mut refused = BTreeMap::new();
        let Some(room) = self.room.as_mut().filter(|_| ops.iter().any(grows)) else {
            return Ok(refused);
        };
        // In its table and in indices, and alone on its last page.
        let need = |op: &Op| (size(op) + size(op) / 4) as u64 + 2 * u64::from(PAGE_SIZE);
        let pages = space::pages(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
        let growing = || ops.iter().enumerate().filter(|(_, op)| grows(op));
        if room.has(pages, growing().map(|(_, op)| need(op)).sum()) {
            return Ok(refused);
        }
        let mut sum = 0;
        for (at, op) in growing() {
            let more = sum + need(op);
            let fits =
                if is_reply(op) { room.has_spare(pages, more) } else { room.has(pages, more) };
            if fits {
                sum = more;
            } else {
                refused.insert(at, Answer::Full);
            }
        }
        Ok(refused)
    }

    /// Performs a group and commits it, without what cannot be. On a full disk the log is copied into the
    /// file, for which there is room, and used anew; what still does not fit together is done one by one.
    fn group(&mut self, ops: &[Op]) -> Result<Vec<Done>, Fault> {
        let mut refused = self.without_room(ops)?;
        let mut full = false;
        loop {
            match self.attempt(ops, &refused) {
                Ok(mut outcomes) => {
                    self.tables.committed();
                    outcomes.extend(refused.into_iter().map(|(at, a)| (at, Outcome::Answer(a))));
                    return Ok(self.tell(ops, outcomes));
                }
                Err(fault) => {
                    self.roll_back()?;
                    match fault {
                        Fault::Own(at, text) => {
                            refused.insert(at, Answer::Failed(text));
                        }
                        Fault::Full if !full => {
                            full = true;
                            self.make_room()?;
                            for (at, op) in ops.iter().enumerate().filter(|(_, op)| grows(op)) {
                                if !refused.contains_key(&at) && ticket(op).is_some() {
                                    refused.insert(at, Answer::Full);
                                }
                            }
                        }
                        Fault::Full if ops.len() > 1 => {
                            let mut done = Vec::new();
                            for op in ops {
                                done.extend(self.group(std::slice::from_ref(op))?);
                            }
                            return Ok(done);
                        }
                        Fault::Full => {
                            let all = ops.iter().enumerate();
                            let none = all.map(|(at, _)| (at, Outcome::Answer(Answer::Full)));
                            return Ok(self.tell(ops, none.collect()));
                        }
                        Fault::Damaged(_) | Fault::Fatal(_) => return Err(fault),
                    }
                }
            }
        }
    }

    fn attempt(
        &mut self,
        ops: &[Op],
        refused: &BTreeMap<usize, Answer>,
    ) -> Result<Vec<(usize, Outcome)>, Fault> {
        let before = self.tables.db.total_changes();
        self.execute("BEGIN")?;
        let mut outcomes = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            if !refused.contains_key(&at) {
                let outcome = self.tables.perform(op).map_err(|e| Fault::of(&e, Some(at)))?;
                outcomes.push((at, outcome));
            }
        }
        self.tables.flush().map_err(|e| Fault::of(&e, None))?;
        self.execute("COMMIT")?;
        let files = &mut self.tables.tally.files;
        files.groups += 1;
        files.commits += u64::from(self.tables.db.total_changes() != before);
        Ok(outcomes)
    }

    fn execute(&self, sql: &str) -> Result<(), Fault> {
        let run = || self.tables.db.prepare_cached(sql)?.execute([]);
        run().map(|_| ()).map_err(|e| Fault::of(&e, None))
    }

    fn roll_back(&mut self) -> Result<(), Fault> {
        if !self.tables.db.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        self.tables.rolled_back().map_err(|e| Fault::of(&e, None))
    }

    /// The answers, in the order of the operations.
    fn tell(&mut self, ops: &[Op], mut outcomes: Vec<(usize, Outcome)>) -> Vec<Done> {
        outcomes.sort_by_key(|(at, _)| *at);
        let mut done = Vec::with_capacity(outcomes.len());
        for (at, outcome) in outcomes {
            match (outcome, ops.get(at).and_then(ticket)) {
                (Outcome::Answer(answer), Some(ticket)) => {
                    done.push(Done::Answered { ticket, answer });
                }
                (Outcome::Continue(op), _) => self.again.push(op),
                (Outcome::Answer(_), None) | (Outcome::Silent, _) => {}
            }
        }
        done
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
            self.log_length = self.log_length_on_disk();
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
        match Log::copy(&self.tables.db).map_err(|e| Fault::of(&e, None)) {
            Ok(_) => {
                self.tables.tally.files.checkpoints += 1;
                let pages = space::pages(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
                if let Some(room) = &mut self.room {
                    room.renew(pages);
                }
                self.log_length = self.log_length_on_disk();
                Ok(())
            }
            // The log keeps everything until there is room.
            Err(Fault::Full) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Brings the main file up to date and begins to copy it.
    fn start_backup(&mut self, ticket: Ticket, path: &Path) -> Result<(), Fault> {
        let answer = |answer| vec![Done::Answered { ticket, answer }];
        if self.backup.is_some() {
            self.send(answer(Answer::Failed("another backup is under way".into())));
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
    fn back_up(&mut self) {
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
    fn tidy(&mut self) -> Result<(), Fault> {
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
                if self.log_length > space::LOG_AT_REST {
                    match Log::empty(db).map_err(fault) {
                        Err(Fault::Full) => {}
                        other => {
                            other?;
                            let _ = space::grow_log(&self.tables.paths.wal, space::LOG_AT_REST);
                            if let Some(room) = &mut self.room {
                                room.renew(pages);
                            }
                        }
                    }
                    self.log_length = self.log_length_on_disk();
                }
                self.rest = Rest::Sleep;
            }
            Rest::Sleep => {}
        }
        Ok(())
    }

    fn log_length_on_disk(&self) -> u64 {
        std::fs::metadata(&self.tables.paths.wal).map_or(0, |m| m.len())
    }

    /// The polite end: nothing is left in the log that is not in the file.
    fn finish(&mut self) -> Result<(), Fault> {
        if let Some(backup) = self.backup.take() {
            backup.give_up();
        }
        let tables = &mut self.tables;
        let mut last = || {
            tables.settle_ids()?;
            Log::copy(&tables.db)
        };
        match last().map_err(|e| Fault::of(&e, None)) {
            Ok(_) | Err(Fault::Full) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    fn poison(&self, fault: Fault) -> String {
        let reason = match fault {
            Fault::Own(_, text) | Fault::Fatal(text) => text,
            Fault::Full => "the disk is full".to_owned(),
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

/// Bytes of payload, roughly.
fn size(op: &Op) -> usize {
    match op {
        Op::Accept { arrival, .. } => arrival.body.len() + 64,
        Op::AcceptReply { reply, note, .. } => {
            let note = note.as_ref().map_or(0, |note| note.bytes.len());
            reply.content.text.len() + note + 256
        }
        Op::Remember { note, .. } => note.bytes.len() + 128,
        _ => 64,
    }
}

/// Whether an operation makes the store larger.
fn grows(op: &Op) -> bool {
    matches!(op, Op::Accept { .. } | Op::AcceptReply { .. } | Op::Replay { .. })
}

/// Whether it is a reply that an agent hands in.
fn is_reply(op: &Op) -> bool {
    matches!(op, Op::AcceptReply { .. })
}

fn ticket(op: &Op) -> Option<Ticket> {
    match op {
        Op::Accept { ticket, .. }
        | Op::Heads { ticket, .. }
        | Op::NextInLane { ticket, .. }
        | Op::Begin { ticket, .. }
        | Op::Settle { ticket, .. }
        | Op::Park { ticket, .. }
        | Op::ListParked { ticket, .. }
        | Op::ShowParked { ticket, .. }
        | Op::Replay { ticket, .. }
        | Op::Discard { ticket, .. }
        | Op::AcceptReply { ticket, .. }
        | Op::ReplyHeads { ticket, .. }
        | Op::NextReply { ticket, .. }
        | Op::BeginSend { ticket, .. }
        | Op::FinishSend { ticket, .. }
        | Op::Untold { ticket, .. }
        | Op::Grant { ticket, .. }
        | Op::Counts { ticket }
        | Op::Backup { ticket, .. }
        | Op::Purge { ticket, .. } => Some(*ticket),
        Op::Refund { .. }
        | Op::Fail { .. }
        | Op::Drafted { .. }
        | Op::Remember { .. }
        | Op::Renew { .. }
        | Op::Told { .. }
        | Op::Pair(_)
        | Op::SaveCursor { .. }
        | Op::RecordExit(_) => None,
    }
}

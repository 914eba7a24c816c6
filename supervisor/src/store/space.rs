//! The two files: when the write-ahead log is copied into the main file, and how both shrink again.
//!
//! A file that grows costs a commit of the file system's own journal with each sync; one that is
//! overwritten in place does not. So the log is grown ahead of use with real zeros, and is then
//! overwritten from its start after each checkpoint. Zeros behind the last valid frame are what the
//! engine meets there anyway after a restart of the log: no checksum fits, reading ends. The engine
//! never asks for the size of the log while it runs.
//!
//! Checkpoints happen by size, after the answers are out; at rest everything is copied, free pages are
//! given back in slices, and the log shrinks to [`LOG_AT_REST`]. A checkpoint is three syncs, which
//! sets the size: see the figures at [`LOG_FULL`].

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, Result};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::schema::PAGE_SIZE;

/// The log is copied into the file when it has come to this size. Syncs per group commit, counted by
/// strace: 1.01 one event at a time, 1.05 with 64 in flight, 1.17 with 256.
const LOG_FULL: u64 = 8 << 20;

/// The log's size while nothing happens: enough for the events of a quiet day.
pub(super) const LOG_AT_REST: u64 = 256 << 10;

/// Free pages that are kept: growing again costs more than they do.
const SPARE_PAGES: u64 = 32;

/// Pages given back in one slice: a few milliseconds.
const SLICE_PAGES: u64 = 128;

const FRAME: u64 = PAGE_SIZE as u64 + 24;

/// The log grows by so much at once: one or two milliseconds.
const LOG_STEP: u64 = 512 << 10;

/// Makes the log at least `size` bytes long with zeros behind its end, and has them on the disk, so that no
/// commit has to wait for them. What is there stays.
pub(super) fn grow_log(log: &Path, size: u64) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(log)?;
    let mut at = file.seek(SeekFrom::End(0))?;
    let zeros = vec![0; 64 << 10];
    if at >= size {
        return Ok(());
    }
    while at < size {
        let part = usize::try_from(size - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(zeros.get(..part).unwrap_or_default())?;
        at += part as u64;
    }
    // A failure is told to the engine as well, at its next sync.
    file.sync_data()
}

/// What the log holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    /// Bytes of valid frames.
    pub(super) used: u64,
    /// Whether some of them are not in the main file.
    pub(super) ahead: bool,
}

impl Log {
    /// Looks, and copies nothing.
    pub(super) fn look(db: &Connection) -> Result<Self> {
        Self::checkpoint(db, "PRAGMA wal_checkpoint(NOOP)")
    }

    /// Copies everything into the main file; the next commit starts the log anew.
    pub(super) fn copy(db: &Connection) -> Result<Self> {
        Self::checkpoint(db, "PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Copies everything and cuts the log to nothing.
    pub(super) fn empty(db: &Connection) -> Result<Self> {
        Self::checkpoint(db, "PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn checkpoint(db: &Connection, sql: &str) -> Result<Self> {
        let (frames, copied): (i64, i64) =
            db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
        Ok(Self { used: u64::try_from(frames).unwrap_or(0) * FRAME, ahead: frames > copied })
    }

    pub(super) fn is_full(self) -> bool {
        self.ahead && self.used >= LOG_FULL
    }

    /// The size that a log of `length` bytes should have before the next commit.
    pub(super) fn wants(self, length: u64) -> Option<u64> {
        // A commit may begin just below the mark and end far behind it.
        let most = LOG_FULL + (1 << 20);
        let near = self.ahead && self.used + self.used / 2 + LOG_AT_REST / 2 > length;
        (near && length < most).then(|| (length + LOG_STEP).min(most))
    }
}

/// Blocks of the main file that are ours although nothing is in them yet: whatever stands in the log can be
/// copied into the file, and the log be used anew, also when the disk is full. Without this a full disk
/// would keep the log full, and nothing could be settled (F72).
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    upto: u64,
}

/// What is kept for replies and settlements when events are refused.
const SPARE: u64 = 256 << 10;

/// Blocks are asked for in pieces of this size.
const PIECE: u64 = 4 << 20;

impl Room {
    /// Of the main file. Closing it would open the engine's lock: it has to be dropped after that.
    pub(super) fn of(file: File) -> Self {
        let upto = file.metadata().map_or(0, |metadata| metadata.len());
        Self { file, upto }
    }

    /// The main file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file, now `pages` long, may grow by `bytes`, and something is left over for what must
    /// not be refused.
    pub(super) fn has(&mut self, pages: u64, bytes: u64) -> bool {
        let wanted = pages * u64::from(PAGE_SIZE) + bytes + SPARE;
        self.upto >= wanted || self.take(wanted + PIECE) || self.take(wanted)
    }

    /// The same for what may use the spare room.
    pub(super) fn has_spare(&mut self, pages: u64, bytes: u64) -> bool {
        let wanted = pages * u64::from(PAGE_SIZE) + bytes;
        self.upto >= wanted || self.take(wanted)
    }

    /// The engine has cut the file to its `pages`, and what was ours behind them is not any more.
    pub(super) fn renew(&mut self, pages: u64) {
        self.upto = pages * u64::from(PAGE_SIZE);
        self.take(pages * u64::from(PAGE_SIZE) + SPARE);
    }

    /// Gives back what is not needed while nothing happens.
    pub(super) fn rest(&mut self, pages: u64) {
        let wanted = pages * u64::from(PAGE_SIZE) + SPARE;
        if self.upto > wanted {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.file, flags, wanted, self.upto - wanted);
            self.upto = wanted;
        }
    }

    fn take(&mut self, wanted: u64) -> bool {
        // Only what is new: a walk over a large file would cost more than what it is for.
        let more = wanted.saturating_sub(self.upto);
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.upto, more) {
            Ok(()) => {
                self.upto = wanted;
                true
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => false,
            // This file system promises nothing.
            Err(_) => true,
        }
    }
}

/// Pages of the main file, with those that are only in the log.
pub(super) fn pages(db: &Connection) -> Result<u64> {
    db.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))
}

/// Whether there are free pages worth giving back.
pub(super) fn has_slack(db: &Connection) -> Result<bool> {
    let free: u64 = db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    Ok(free > SPARE_PAGES)
}

/// Gives a slice of free pages back. The main file becomes shorter with the next checkpoint.
pub(super) fn give_back(db: &Connection) -> Result<()> {
    let free: u64 = db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    let pages = free.saturating_sub(SPARE_PAGES).min(SLICE_PAGES);
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_day_leaves_the_log_as_it_is() {
        let few = Log { used: 16 * FRAME, ahead: true };
        assert_eq!(few.wants(LOG_AT_REST), None);
        let copied = Log { used: LOG_FULL, ahead: false };
        assert_eq!(copied.wants(LOG_AT_REST), None, "what is copied is overwritten");
    }

    #[test]
    fn the_log_grows_ahead_of_use_in_small_steps_and_not_for_ever() {
        let (mut length, mut used) = (LOG_AT_REST, 0);
        while used < LOG_FULL {
            used += FRAME;
            if let Some(size) = (Log { used, ahead: true }).wants(length) {
                assert!(size > length && size <= length + LOG_STEP, "{length} -> {size}");
                length = size;
            }
            assert!(used < length, "a commit would make it grow");
        }
        assert_eq!(length, LOG_FULL + (1 << 20));
        assert_eq!(Log { used: length, ahead: true }.wants(length), None);
    }
}
